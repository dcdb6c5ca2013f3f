// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_BUFFER_POOL_H_
#define DMAMAP_NICRING_BUFFER_POOL_H_

// BufferPool: where a ring's buffers come from; and FixedPool, a simple one.
//
// An empty pool is a value (kPoolEmpty), never an abort: the ring lives on with
// the buffers it has and asks again at the next refill.
//
// FixedPool cuts one allocation into equal buffers and keeps a stack of the
// free ones, the last one returned on top (its lines are the warmest). Not
// thread-safe; Get and Put take constant time. Its bookkeeping lies in an
// allocation of its own, away from what a device is shown.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include "dma/address.h"
#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

// One buffer: `size` bytes at `data`, which the mapper knows as `address`.
struct Buffer {
  std::byte* data = nullptr;
  PhysAddr address;
  std::uint32_t size = 0;   // bytes
  std::uint32_t token = 0;  // opaque: the pool's own

  friend constexpr bool operator==(const Buffer&, const Buffer&) = default;
};

template <class P>
concept BufferPool = requires(P& p, const Buffer& buffer) {
  // A buffer that nobody else uses; kPoolEmpty when there is none now.
  { p.Get() } -> std::same_as<Result<Buffer>>;
  // Takes back a buffer that Get returned.
  { p.Put(buffer) } -> std::same_as<Result<void>>;
};

struct FixedPoolOptions {
  std::uint32_t buffers = 0;       // how many
  std::uint32_t buffer_bytes = 0;  // of each
  // Bytes from a buffer's cache-line boundary to its first byte: 2 puts the IP
  // header of a frame behind a 16-byte descriptor on a word boundary.
  std::uint32_t skew = 0;
};

class FixedPool {
 public:
  FixedPool() = default;
  FixedPool(const FixedPool&) = delete;
  FixedPool& operator=(const FixedPool&) = delete;
  ~FixedPool() { Free(); }

  // kBusy the second time; kInvalidArgument for no buffer, an empty one or a
  // skew of a line or more; kOverflow when the sum passes 2^32; kNoMemory.
  Result<void> Init(const FixedPoolOptions& options) {
    if (memory_ != nullptr) return Error::kBusy;
    if (options.buffers == 0 || options.buffer_bytes == 0 ||
        options.skew >= kLine) {
      return Error::kInvalidArgument;
    }
    const std::uint64_t stride =
        (std::uint64_t{options.buffer_bytes} + options.skew + kLine - 1) /
        kLine * kLine;
    const std::uint64_t bytes = stride * options.buffers;
    if (stride > UINT32_MAX || bytes > UINT32_MAX) return Error::kOverflow;
    // Value-initialised: a device never sees what the heap held before.
    memory_ = static_cast<std::byte*>(
        ::operator new (static_cast<std::size_t>(bytes),
                        std::align_val_t{kPage}, std::nothrow));
    free_.reset(new (std::nothrow) std::uint32_t[options.buffers]);
    used_.reset(new (std::nothrow) bool[options.buffers]());
    if (memory_ == nullptr || !free_ || !used_) {
      Free();
      return Error::kNoMemory;
    }
    for (std::uint64_t i = 0; i < bytes; ++i) memory_[i] = std::byte{0};
    options_ = options;
    stride_ = static_cast<std::uint32_t>(stride);
    for (std::uint32_t i = 0; i < options.buffers; ++i) {
      free_[i] = options.buffers - 1 - i;
    }
    free_count_ = options.buffers;
    return Ok();
  }

  // kPoolEmpty; also before Init.
  Result<Buffer> Get() {
    if (free_count_ == 0) return Error::kPoolEmpty;
    const std::uint32_t index = free_[--free_count_];
    used_[index] = true;
    return At(index);
  }

  // kForeign for a buffer that is not of this pool, kDoubleFree for one that is
  // in it already. Nothing changes then.
  Result<void> Put(const Buffer& buffer) {
    if (buffer.token >= options_.buffers || !(buffer == At(buffer.token))) {
      return Error::kForeign;
    }
    if (!used_[buffer.token]) return Error::kDoubleFree;
    used_[buffer.token] = false;
    free_[free_count_++] = buffer.token;
    return Ok();
  }

  std::uint32_t free_buffers() const { return free_count_; }
  std::uint32_t used_buffers() const { return options_.buffers - free_count_; }
  // True for a buffer whose bytes are this pool's.
  bool Owns(const Buffer& buffer) const {
    const std::uint64_t offset =
        PhysAddrOf(buffer.data).value() - PhysAddrOf(memory_).value();
    return offset < std::uint64_t{stride_} * options_.buffers;
  }

  // All bytes that buffers lie in. kShutDown before Init.
  Result<PhysRange> memory() const {
    if (memory_ == nullptr) return Error::kShutDown;
    return PhysRange::FromSize(PhysAddrOf(memory_),
                               std::uint64_t{stride_} * options_.buffers);
  }

  bool CheckInvariants() const {
    std::uint32_t used = 0;
    for (std::uint32_t i = 0; i < options_.buffers; ++i) used += used_[i];
    for (std::uint32_t i = 0; i < free_count_; ++i) {
      if (free_[i] >= options_.buffers || used_[free_[i]]) return false;
    }
    return used + free_count_ == options_.buffers;
  }

 private:
  static constexpr std::uint32_t kLine = 64;
  static constexpr std::size_t kPage = 4096;  // shares no page with others

  Buffer At(std::uint32_t index) const {
    std::byte* data = memory_ + std::size_t{stride_} * index + options_.skew;
    return Buffer{data, PhysAddrOf(data), options_.buffer_bytes, index};
  }
  void Free() {
    ::operator delete (memory_, std::align_val_t{kPage});
    memory_ = nullptr;
    free_.reset();
    used_.reset();
  }

  FixedPoolOptions options_;
  std::byte* memory_ = nullptr;
  std::uint32_t stride_ = 0;               // bytes from one buffer to the next
  std::unique_ptr<std::uint32_t[]> free_;  // [0, free_count_): free indices
  std::unique_ptr<bool[]> used_;
  std::uint32_t free_count_ = 0;
};
static_assert(BufferPool<FixedPool>);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_BUFFER_POOL_H_
