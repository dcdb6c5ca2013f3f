// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_RING_MEMORY_H_
#define DMAMAP_NICRING_RING_MEMORY_H_

// RingMemory: whole pages for descriptors that driver and device share, zeroed,
// with nothing private in them.
//
// From a CoherentMapper it is coherent memory, and a sync costs nothing. From
// any other Mapper it is memory of its own in a streaming mapping, and each
// sync goes to the mapper: right where the device sees the same memory, or a
// copy that a sync moves byte for byte. On a machine whose DMA is not cache
// coherent, descriptors of both owners share a cache line, and only a
// CoherentMapper will do.
//
// Not thread-safe.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>

#include "dma/address.h"
#include "dma/direction.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

template <Mapper MapperType>
class RingMemory {
 public:
  RingMemory() = default;
  RingMemory(const RingMemory&) = delete;
  RingMemory& operator=(const RingMemory&) = delete;
  ~RingMemory() { Free(); }

  // `bytes` is rounded up to pages. kBusy the second time, kInvalidArgument for
  // 0, kOverflow, kNoMemory, the mapper's errors.
  Result<void> Init(MapperType* mapper, std::uint64_t bytes) {
    if (cpu_ != nullptr) return Error::kBusy;
    if (mapper == nullptr || bytes == 0) return Error::kInvalidArgument;
    const Result<std::uint64_t> rounded = PageSize().RoundUp(bytes);
    if (!rounded.ok() || *rounded > SIZE_MAX) return Error::kOverflow;
    mapper_ = mapper;
    bytes_ = *rounded;
    return Allocate();
  }

  std::byte* cpu() const { return cpu_; }
  Iova iova() const { return mapping_.iova; }

  Result<void> SyncForCpu(std::uint64_t offset, std::uint64_t size) {
    if constexpr (kCoherent || kSyncsNothing<MapperType>) {
      return Ok();
    } else {
      return mapper_->SyncForCpu(mapping_, offset, size);
    }
  }
  Result<void> SyncForDevice(std::uint64_t offset, std::uint64_t size) {
    if constexpr (kCoherent || kSyncsNothing<MapperType>) {
      return Ok();
    } else {
      return mapper_->SyncForDevice(mapping_, offset, size);
    }
  }
  // Zeroes it all. REQUIRES: the device is stopped.
  Result<void> Clear() {
    if (cpu_ == nullptr) return Error::kShutDown;
    std::memset(cpu_, 0, static_cast<std::size_t>(bytes_));
    return SyncForDevice(0, bytes_);
  }

 private:
  static constexpr bool kCoherent = CoherentMapper<MapperType>;
  static constexpr std::align_val_t kAlignment{4096};

  Result<void> Allocate() {
    if constexpr (kCoherent) {
      const Result<CoherentBlock> block = mapper_->AllocateCoherent(bytes_);
      if (!block.ok()) return block.error();
      mapping_ = {block->iova, block->size, Direction::kBidirectional, 0};
      cpu_ = block->cpu;
      return Ok();
    } else {
      const auto size = static_cast<std::size_t>(bytes_);
      auto* memory = static_cast<std::byte*>(
          ::operator new(size, kAlignment, std::nothrow));
      if (memory == nullptr) return Error::kNoMemory;
      std::memset(memory, 0, size);
      const Result<Mapping> mapping =
          mapper_->Map(PhysAddrOf(memory), bytes_, Direction::kBidirectional,
                       MapAttributes::kNone);
      if (!mapping.ok()) {
        ::operator delete(memory, kAlignment);
        return mapping.error();
      }
      mapping_ = *mapping;
      cpu_ = memory;
      return Ok();
    }
  }

  // Memory that the mapper does not let go is not given back: the device may
  // still reach it.
  void Free() {
    if (cpu_ == nullptr) return;
    if constexpr (kCoherent) {
      (void)mapper_->FreeCoherent({mapping_.iova, cpu_, mapping_.size});
    } else if (mapper_->Unmap(mapping_, MapAttributes::kSkipSync).ok()) {
      ::operator delete(cpu_, kAlignment);
    }
    cpu_ = nullptr;
  }

  MapperType* mapper_ = nullptr;
  std::byte* cpu_ = nullptr;
  std::uint64_t bytes_ = 0;
  Mapping mapping_;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_RING_MEMORY_H_
