// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_RX_PACKED_QUEUE_H_
#define DMAMAP_NICRING_RX_PACKED_QUEUE_H_

// RxPackedQueue: the receive side of a packed virtqueue (virtio 1.2, 2.8).
//
//   descriptor ring                    (both write)
//   driver event suppression           (the driver writes)
//   device event suppression           (the device writes; a line of its own)
//
// A chain takes the next `chain` places of the ring and carries its number as
// id. Its first flags word, written last, makes all of it available. The device
// writes one used descriptor for a chain, at the place behind the last used
// one: so used and available places go round at the same pace, with a wrap
// counter each (one number holds both: virtio_layout.h).
//
// What the device says: the flags at the used place, loaded until they say
// used; then length and id, once each. The id must name a chain that is out, or
// the queue is broken (see rx_split_queue.h). A used descriptor without the
// WRITE flag has no length (2.8.4): that is taken for 0 bytes.
//
// The interrupt (2.8.10): disabled, enabled, or with VIRTIO_F_EVENT_IDX "at the
// place behind what was consumed". The place is written before the flags that
// make it count.

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "dma/address.h"
#include "dma/assert.h"
#include "dma/barrier.h"
#include "dma/direction.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"
#include "nicring/buffer_pool.h"
#include "nicring/format.h"
#include "nicring/receiver.h"
#include "nicring/ring_memory.h"
#include "nicring/rx_chains.h"
#include "nicring/rx_queue.h"
#include "nicring/rx_split_queue.h"
#include "nicring/virtio_layout.h"

namespace dmamap::inline v0 {

template <VirtqueueFormat Format, Mapper MapperType>
class RxPackedQueue {
 public:
  static constexpr bool kStops = false;
  static constexpr bool kScatters = true;
  static constexpr Direction kDirection = Direction::kFromDevice;
  static constexpr std::uint32_t kHeaderBytes = 0;
  using Access = typename Format::Access;

  // kBusy the second time; kInvalidArgument, kLimit for more than 32768
  // entries, kUnsupported, kNoMemory, the mapper's errors.
  Result<void> Init(MapperType* mapper, const RxQueueOptions& options) {
    if (memory_.cpu() != nullptr) return Error::kBusy;
    if (options.entries == 0) return Error::kInvalidArgument;
    if (options.entries > virtio::kMaxEntries) return Error::kLimit;
    if ((options.features & virtio::kRingPacked) == 0) {
      return Error::kUnsupported;
    }
    const Result<void> made = chains_.Init(mapper, options);
    if (!made.ok()) return made;
    size_ = options.entries;
    driver_at_ = (16 * size_ + kLine - 1) / kLine * kLine;
    return memory_.Init(mapper, DeviceAt() + 4);
  }

  std::uint32_t armed() const { return chains_.armed(); }
  std::uint32_t open() const { return chains_.live() * options().chain; }
  bool full() const { return chains_.full(); }
  bool empty() const { return armed() == 0; }
  std::uint32_t data_offset() const { return chains_.data_offset(); }
  std::uint32_t room() const { return chains_.room(); }

  RingAddresses addresses() const {
    const Iova base = memory_.iova();
    return {base, base + driver_at_, base + DeviceAt(), size_,
            options().room + virtio::kNetHeaderBytes};
  }
  // Next place and wrap counter: what VIRTIO_F_NOTIFICATION_DATA sends along.
  std::uint32_t doorbell() const { return virtio::OffWrap(published_, size_); }

  std::uint32_t buffer_bytes() const { return chains_.buffer_bytes(); }
  Result<void> Prepare(const Buffer& buffer) const {
    return chains_.Check(buffer);
  }
  // The mapper's errors for the ring's memory. REQUIRES: !full().
  Result<void> Push(RxArmed* armed);
  Result<void> Publish();
  bool TakeDoorbell();
  RxFound Look();
  Result<Completion> Snapshot() { return chains_.Snapshot(); }
  void Prefetch() const { chains_.Prefetch(); }
  RxArmed* Pop() { return chains_.Pop(); }

  // Hints. False when the device could not be shown it.
  bool Mask() { return Show(driver_at_ + 2, virtio::kEventDisable); }
  bool Unmask() {
    if (!event_index()) return Show(driver_at_ + 2, virtio::kEventEnable);
    if (!Show(driver_at_, virtio::OffWrap(used_, size_))) return false;
    DmaWriteBarrier();  // the place before the flags that make it count
    return Show(driver_at_ + 2, virtio::kEventAt);
  }

  template <class GiveBack>
  void Clear(GiveBack&& give_back) {
    chains_.Clear(give_back);
    filled_ = published_ = notified_ = used_ = 0;
    broken_ = done_ = false;
    // Where that fails the device finds old flags, and breaks the queue.
    if (memory_.cpu() != nullptr) (void)memory_.Clear();
  }

  bool CheckInvariants() const {
    if (!chains_.CheckInvariants()) return false;
    if (!chains_.made()) return true;
    const std::uint32_t chain = options().chain;
    return filled_ < 2 * size_ && published_ < 2 * size_ && used_ < 2 * size_ &&
           virtio::Ahead(used_, published_, size_) == chains_.live() * chain &&
           virtio::Ahead(published_, filled_, size_) / chain == chains_.ready();
  }

 private:
  static constexpr std::uint32_t kLine = 64;

  const RxQueueOptions& options() const { return chains_.options(); }
  bool event_index() const {
    return (options().features & virtio::kEventIndex) != 0;
  }
  std::uint32_t DeviceAt() const { return driver_at_ + kLine; }
  std::uint32_t At(std::uint32_t cycle) const {
    return 16 * virtio::PlaceOf(cycle, size_);
  }
  bool Show(std::uint32_t at, std::uint16_t word) {
    if (memory_.cpu() == nullptr) return true;
    Access::Store16(memory_.cpu() + at, word);
    return memory_.SyncForDevice(at, 2).ok();
  }
  bool WantsNotification(std::uint32_t owed);

  RxChains<Access, MapperType> chains_;
  RingMemory<MapperType> memory_;
  std::uint32_t size_ = 0;
  std::uint32_t driver_at_ = 0;
  // Places with their wrap counters (virtio_layout.h).
  std::uint32_t filled_ = 0;     // behind the last written descriptor
  std::uint32_t published_ = 0;  // behind the last available one
  std::uint32_t notified_ = 0;   // published_ at the last doorbell
  std::uint32_t used_ = 0;       // behind the last used chain
  std::uint16_t flags_ = 0;      // at used_, once done_
  bool done_ = false;            // the device has used a chain there
  bool broken_ = false;
};

template <VirtqueueFormat Format, Mapper MapperType>
struct RxQueueOf<Format, MapperType> {
  using Type =
      std::conditional_t<Format::kPacked, RxPackedQueue<Format, MapperType>,
                         RxSplitQueue<Format, MapperType>>;
};

// Everything but the flags that make the chain available.
template <VirtqueueFormat Format, Mapper MapperType>
inline Result<void> RxPackedQueue<Format, MapperType>::Push(RxArmed* armed) {
  DMAMAP_ASSERT(!full());
  const auto place = chains_.Next();
  const std::uint32_t at = At(filled_);
  std::byte* descriptor = memory_.cpu() + at;
  virtio::WritePackedDescriptor(descriptor, armed->iova(), buffer_bytes(),
                                static_cast<std::uint16_t>(place.chain));
  std::uint32_t size = 14;
  if (place.part != 0) {
    const std::uint32_t more = place.ends ? 0u : virtio::kNext;
    StoreLe16(descriptor + 14,
              static_cast<std::uint16_t>(
                  virtio::kWrite | more |
                  virtio::AvailableFlags(virtio::WrapOf(filled_, size_))));
    size = 16;
  }
  const Result<void> synced = memory_.SyncForDevice(at, size);
  if (!synced.ok()) return synced;
  chains_.Commit(place, armed);
  filled_ = virtio::Advance(filled_, 1, size_);
  return Ok();
}

// One flags word for each chain, in order. What was shown stays so after a
// failure; the rest is ready still, and the next call goes on.
template <VirtqueueFormat Format, Mapper MapperType>
inline Result<void> RxPackedQueue<Format, MapperType>::Publish() {
  if (memory_.cpu() == nullptr) return Error::kShutDown;
  const std::uint32_t chain = options().chain;
  const std::uint32_t more = chain == 1 ? 0u : virtio::kNext;
  DmaWriteBarrier();  // the descriptors before the flags
  while (chains_.ready() != 0) {
    const std::uint32_t flags =
        virtio::kWrite | more |
        virtio::AvailableFlags(virtio::WrapOf(published_, size_));
    if (!Show(At(published_) + 14, static_cast<std::uint16_t>(flags))) {
      return Error::kBusy;
    }
    published_ = virtio::Advance(published_, chain, size_);
    chains_.PublishOne();
  }
  return Ok();
}

template <VirtqueueFormat Format, Mapper MapperType>
inline bool RxPackedQueue<Format, MapperType>::TakeDoorbell() {
  const std::uint32_t owed = virtio::Ahead(notified_, published_, size_);
  if (owed == 0 || chains_.MayOwe(owed / options().chain)) return false;
  const bool wanted = WantsNotification(owed);
  notified_ = published_;
  return wanted;
}

// When in doubt, yes. Place and flags are one word, loaded once.
template <VirtqueueFormat Format, Mapper MapperType>
inline bool RxPackedQueue<Format, MapperType>::WantsNotification(
    std::uint32_t owed) {
  DmaFullBarrier();  // as V3 of split_ring.h
  if (!memory_.SyncForCpu(DeviceAt(), 4).ok()) return true;
  const std::uint32_t word = Access::Load32(memory_.cpu() + DeviceAt());
  const std::uint32_t flags = word >> 16 & 3;
  if (flags == virtio::kEventDisable) return false;
  if (flags != virtio::kEventAt || !event_index()) return true;
  return virtio::NeedsEventAt(static_cast<std::uint16_t>(word & 0xffff),
                              published_, owed, size_);
}

template <VirtqueueFormat Format, Mapper MapperType>
inline RxFound RxPackedQueue<Format, MapperType>::Look() {
  if (broken_) return {RxLook::kBroken, 0};
  if (memory_.cpu() == nullptr) return {RxLook::kAtStop, 0};
  if (chains_.taken()) return chains_.Look();
  const std::uint32_t at = At(used_);
  const std::byte* descriptor = memory_.cpu() + at;
  if (!done_) {
    if (chains_.live() == 0) return {RxLook::kAtStop, 0};
    if (!memory_.SyncForCpu(at + 14, 2).ok()) return {RxLook::kFailed, 0};
    flags_ = Access::Load16(descriptor + 14);
    done_ = virtio::IsUsed(flags_, virtio::WrapOf(used_, size_));
    if (!done_) return {RxLook::kNothing, 0};
  }
  DmaReadBarrier();  // length and id are younger than the flags
  if (!memory_.SyncForCpu(at + 8, 6).ok()) return {RxLook::kFailed, 0};
  const std::uint32_t length = Access::Load32(descriptor + 8);
  const std::uint32_t id = Access::Load16(descriptor + 12);
  done_ = false;
  const bool written = (flags_ & virtio::kWrite) != 0;
  if (!chains_.Take(id, written ? length : 0).ok()) {
    broken_ = true;
    return {RxLook::kBroken, 0};
  }
  used_ = virtio::Advance(used_, options().chain, size_);
  return chains_.Look();
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_RX_PACKED_QUEUE_H_
