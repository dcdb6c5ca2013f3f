// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_SPLIT_RING_H_
#define DMAMAP_NICRING_SPLIT_RING_H_

// SplitRing: the memory of a split virtqueue (virtio 1.2, 2.7), and each access
// to it. Receive and transmit queue have it in common; they add what the
// descriptors mean.
//
//   descriptor table | available ring  (the driver writes)
//   extra bytes                        (the driver writes; what it likes)
//   used ring                          (the device writes; lines of its own)
//
// What the device says is loaded where a function's name says Load, once for
// each call.
//
// The interrupt (2.7.7): without VIRTIO_F_EVENT_IDX Mask and Unmask set a flag.
// With it Unmask writes used_event, the place behind what was consumed, so that
// the device tells of the very next buffer; a device that used it before it saw
// that is what Napi's second look is for. Either way a masked interrupt may
// come: a hint is all that there is.
//
// Synchronisation edges (each side names its partner)
//   V1 -> the device  descriptors and ring entries before the index.
//   V2 <- the device  the used element after the index.
//   V3: the index is visible before avail_event and the flags are loaded, else
//       both sides could think that the other will look.
//
// Not thread-safe.

#include <cstddef>
#include <cstdint>

#include "dma/address.h"
#include "dma/barrier.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"
#include "nicring/little_endian.h"
#include "nicring/receiver.h"
#include "nicring/ring_memory.h"
#include "nicring/virtio_layout.h"

namespace dmamap::inline v0 {

template <class Access, Mapper MapperType>
class SplitRing {
 public:
  // For virtio::CheckLayout.
  static constexpr std::uint64_t kLayout = 0;
  static constexpr bool IsSize(std::uint32_t size) {
    return IsPowerOfTwo(size);
  }

  struct Used {
    std::uint32_t id = 0;
    std::uint32_t bytes = 0;
  };

  // kBusy the second time, kInvalidArgument unless the size is a power of two
  // (2.7), kLimit above 32768, kUnsupported, the mapper's errors, kNoMemory.
  Result<void> Init(MapperType* mapper, std::uint32_t size,
                    std::uint64_t features, std::uint32_t extra_bytes) {
    const Result<void> fits = virtio::CheckLayout(*this, size, features);
    if (!fits.ok()) return fits;
    size_ = size;
    event_index_ = (features & virtio::kEventIndex) != 0;
    extra_at_ = RoundUp(AvailableAt() + 6 + 2 * size_);
    used_at_ = RoundUp(extra_at_ + extra_bytes);
    return memory_.Init(mapper, used_at_ + 6 + 8 * size_);
  }

  bool made() const { return memory_.cpu() != nullptr; }
  std::uint32_t size() const { return size_; }
  RingAddresses addresses(std::uint32_t room) const {
    const Iova base = memory_.iova();
    return {base, base + AvailableAt(), base + used_at_, size_, room};
  }
  // Where the extra bytes lie for the device. They are zero.
  Iova extra() const { return memory_.iova() + extra_at_; }

  Result<void> WriteDescriptor(std::uint32_t index, Iova at,
                               std::uint32_t bytes, std::uint32_t flags,
                               std::uint32_t next) {
    virtio::WriteSplitDescriptor(memory_.cpu() + 16 * index, at, bytes,
                                 Narrow(flags), Narrow(next));
    return memory_.SyncForDevice(16 * index, 16);
  }
  // Entry `i`, free-running, of the available ring.
  Result<void> WriteAvailable(std::uint32_t i, std::uint32_t head) {
    const std::uint32_t at = AvailableAt() + 4 + 2 * (i & (size_ - 1));
    StoreLe16(memory_.cpu() + at, Narrow(head));
    return memory_.SyncForDevice(at, 2);
  }
  // Shows the device all entries before `index`. False when it could not.
  bool Publish(std::uint16_t index) {
    DmaWriteBarrier();  // V1
    return Show(AvailableAt() + 2, index);
  }

  // The device wants to be told that the available index moved. When in doubt,
  // yes.
  bool LoadWantsNotification(std::uint16_t after, std::uint16_t before) {
    DmaFullBarrier();  // V3
    const std::uint32_t at = event_index_ ? used_at_ + 4 + 8 * size_ : used_at_;
    if (!memory_.SyncForCpu(at, 2).ok()) return true;
    const std::uint16_t word = Access::Load16(memory_.cpu() + at);
    if (!event_index_) return (word & virtio::kNoNotify) == 0;
    return virtio::NeedsEvent(word, after, before);
  }
  Result<std::uint16_t> LoadUsedIndex() {
    const Result<void> synced = memory_.SyncForCpu(used_at_ + 2, 2);
    if (!synced.ok()) return synced.error();
    return Access::Load16(memory_.cpu() + used_at_ + 2);
  }
  // Element `i`, free-running, of the used ring. REQUIRES: the used index was
  // seen to be behind it.
  [[gnu::always_inline]] Result<Used> LoadUsed(std::uint32_t i) {
    const Result<std::uint32_t> at = SyncUsed(i);
    if (!at.ok()) return at.error();
    const std::uint32_t id = Access::Load32(memory_.cpu() + *at);
    return Used{id, Access::Load32(memory_.cpu() + *at + 4)};
  }
  // Its id alone.
  Result<std::uint32_t> LoadUsedId(std::uint32_t i) {
    const Result<std::uint32_t> at = SyncUsed(i);
    if (!at.ok()) return at.error();
    return Access::Load32(memory_.cpu() + *at);
  }

  // Hints (see above); `used` elements were consumed. False when the device
  // could not be shown it.
  bool Mask(std::uint16_t used) {
    if (event_index_) return Show(UsedEventAt(), Narrow(used - 1u));
    return Show(AvailableAt(), virtio::kNoInterrupt);
  }
  bool Unmask(std::uint16_t used) {
    if (event_index_) return Show(UsedEventAt(), used);
    return Show(AvailableAt(), 0);
  }

  // Zeroes it all. Where that fails the device finds old indices, and breaks
  // the queue. REQUIRES: the device is stopped.
  void Clear() {
    if (made()) (void)memory_.Clear();
  }

  static std::uint16_t Narrow(std::uint32_t n) {
    return static_cast<std::uint16_t>(n & 0xffff);
  }

 private:
  static constexpr std::uint32_t kLine = 64;
  static std::uint32_t RoundUp(std::uint32_t n) {
    return (n + kLine - 1) / kLine * kLine;
  }
  std::uint32_t AvailableAt() const { return 16 * size_; }
  std::uint32_t UsedEventAt() const { return AvailableAt() + 4 + 2 * size_; }
  Result<std::uint32_t> SyncUsed(std::uint32_t i) {
    DmaReadBarrier();  // V2
    const std::uint32_t at = used_at_ + 4 + 8 * (i & (size_ - 1));
    const Result<void> synced = memory_.SyncForCpu(at, 8);
    if (!synced.ok()) return synced.error();
    return at;
  }
  bool Show(std::uint32_t at, std::uint16_t word) {
    if (!made()) return true;
    Access::Store16(memory_.cpu() + at, word);
    return memory_.SyncForDevice(at, 2).ok();
  }

  RingMemory<MapperType> memory_;
  std::uint32_t size_ = 0;
  std::uint32_t extra_at_ = 0;
  std::uint32_t used_at_ = 0;
  bool event_index_ = false;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_SPLIT_RING_H_
