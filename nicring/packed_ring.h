// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_PACKED_RING_H_
#define DMAMAP_NICRING_PACKED_RING_H_

// PackedRing: the memory of a packed virtqueue (virtio 1.2, 2.8), and each
// access to it. Receive and transmit queue have it in common; they add what the
// descriptors mean.
//
//   descriptor ring                    (both write)
//   driver event suppression           (the driver writes)
//   device event suppression           (the device writes; a line of its own)
//   extra bytes                        (the driver writes; what it likes)
//
// The first flags word of a chain, written last, makes all of it available. The
// device writes one used descriptor for a chain, at the place behind the last
// used one: so used and available places go round at the same pace, with a wrap
// counter each. A `cycle` is a place and its wrap counter (virtio_layout.h).
//
// What the device says is loaded where a function's name says Load, once for
// each call.
//
// The interrupt (2.8.10): disabled, enabled, or with VIRTIO_F_EVENT_IDX "at the
// place behind what was consumed". The place is written before the flags that
// make it count.
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
class PackedRing {
 public:
  // For virtio::CheckLayout.
  static constexpr std::uint64_t kLayout = virtio::kRingPacked;
  static constexpr bool IsSize(std::uint32_t size) { return size != 0; }

  struct Used {
    std::uint32_t id = 0;
    std::uint32_t bytes = 0;
  };

  // kBusy the second time, kInvalidArgument for no entries, kLimit above 32768,
  // kUnsupported, the mapper's errors, kNoMemory.
  Result<void> Init(MapperType* mapper, std::uint32_t size,
                    std::uint64_t features, std::uint32_t extra_bytes) {
    const Result<void> fits = virtio::CheckLayout(*this, size, features);
    if (!fits.ok()) return fits;
    size_ = size;
    event_index_ = (features & virtio::kEventIndex) != 0;
    driver_at_ = (16 * size_ + kLine - 1) / kLine * kLine;
    const std::uint32_t end = extra_bytes == 0 ? DeviceAt() + 4 : ExtraAt();
    return memory_.Init(mapper, end + extra_bytes);
  }

  bool made() const { return memory_.cpu() != nullptr; }
  std::uint32_t size() const { return size_; }
  RingAddresses addresses(std::uint32_t room) const {
    const Iova base = memory_.iova();
    return {base, base + driver_at_, base + DeviceAt(), size_, room};
  }
  // Where the extra bytes lie for the device. They are zero.
  Iova extra() const { return memory_.iova() + ExtraAt(); }

  // All of a descriptor but its flags, not yet to be synced.
  void Write(std::uint32_t cycle, Iova at, std::uint32_t bytes,
             std::uint32_t id) {
    virtio::WritePackedDescriptor(memory_.cpu() + At(cycle), at, bytes,
                                  static_cast<std::uint16_t>(id & 0xffff));
  }
  Result<void> SyncWithoutFlags(std::uint32_t cycle) {
    return memory_.SyncForDevice(At(cycle), 14);
  }
  // The flags too. REQUIRES: the device cannot be there: an earlier descriptor
  // of the chain is not available yet.
  Result<void> SyncWithFlags(std::uint32_t cycle, std::uint32_t flags) {
    StoreLe16(memory_.cpu() + At(cycle) + 14, Flags(cycle, flags));
    return memory_.SyncForDevice(At(cycle), 16);
  }
  // Makes what was written there available. False when the device could not be
  // shown it.
  bool ShowFlags(std::uint32_t cycle, std::uint32_t flags) {
    return Show(At(cycle) + 14, Flags(cycle, flags));
  }

  // The device wants to be told of the `added` places before `after`. When in
  // doubt, yes. Place and flags are one word.
  bool LoadWantsNotification(std::uint32_t after, std::uint32_t added) {
    DmaFullBarrier();  // as V3 of split_ring.h
    if (!memory_.SyncForCpu(DeviceAt(), 4).ok()) return true;
    const std::uint32_t word = Access::Load32(memory_.cpu() + DeviceAt());
    const std::uint32_t flags = word >> 16 & 3;
    if (flags == virtio::kEventDisable) return false;
    if (flags != virtio::kEventAt || !event_index_) return true;
    return virtio::NeedsEventAt(static_cast<std::uint16_t>(word & 0xffff),
                                after, added, size_);
  }
  Result<std::uint16_t> LoadFlags(std::uint32_t cycle) {
    const std::uint32_t at = At(cycle) + 14;
    const Result<void> synced = memory_.SyncForCpu(at, 2);
    if (!synced.ok()) return synced.error();
    return Access::Load16(memory_.cpu() + at);
  }
  // REQUIRES: the flags there say used.
  [[gnu::always_inline]] Result<Used> LoadUsed(std::uint32_t cycle) {
    DmaReadBarrier();  // length and id are younger than the flags
    const std::uint32_t at = At(cycle);
    const Result<void> synced = memory_.SyncForCpu(at + 8, 6);
    if (!synced.ok()) return synced.error();
    const std::uint32_t bytes = Access::Load32(memory_.cpu() + at + 8);
    return Used{Access::Load16(memory_.cpu() + at + 12), bytes};
  }
  // Its id alone.
  Result<std::uint32_t> LoadUsedId(std::uint32_t cycle) {
    DmaReadBarrier();  // the id is younger than the flags
    const std::uint32_t at = At(cycle) + 12;
    const Result<void> synced = memory_.SyncForCpu(at, 2);
    if (!synced.ok()) return synced.error();
    return std::uint32_t{Access::Load16(memory_.cpu() + at)};
  }

  // Hints; what is before `used` was consumed. False when the device could not
  // be shown it.
  bool Mask() { return Show(driver_at_ + 2, virtio::kEventDisable); }
  bool Unmask(std::uint32_t used) {
    if (!event_index_) return Show(driver_at_ + 2, virtio::kEventEnable);
    if (!Show(driver_at_, virtio::OffWrap(used, size_))) return false;
    DmaWriteBarrier();  // the place before the flags that make it count
    return Show(driver_at_ + 2, virtio::kEventAt);
  }

  // Zeroes it all. Where that fails the device finds old flags, and breaks the
  // queue. REQUIRES: the device is stopped.
  void Clear() {
    if (made()) (void)memory_.Clear();
  }

 private:
  static constexpr std::uint32_t kLine = 64;

  std::uint32_t DeviceAt() const { return driver_at_ + kLine; }
  std::uint32_t ExtraAt() const { return driver_at_ + 2 * kLine; }
  std::uint32_t At(std::uint32_t cycle) const {
    return 16 * virtio::PlaceOf(cycle, size_);
  }
  std::uint16_t Flags(std::uint32_t cycle, std::uint32_t flags) const {
    return static_cast<std::uint16_t>(
        flags | virtio::AvailableFlags(virtio::WrapOf(cycle, size_)));
  }
  bool Show(std::uint32_t at, std::uint16_t word) {
    if (!made()) return true;
    Access::Store16(memory_.cpu() + at, word);
    return memory_.SyncForDevice(at, 2).ok();
  }

  RingMemory<MapperType> memory_;
  std::uint32_t size_ = 0;
  std::uint32_t driver_at_ = 0;
  bool event_index_ = false;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_PACKED_RING_H_
