// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_RX_PACKED_QUEUE_H_
#define DMAMAP_NICRING_RX_PACKED_QUEUE_H_

// RxPackedQueue: the receive side of a packed virtqueue (virtio 1.2, 2.8). The
// ring itself is packed_ring.h: a chain takes the next `chain` places of it and
// carries its number as id.
//
// What the device says: the flags at the used place, loaded until they say
// used; then length and id, once each. The id must name a chain that is out, or
// the queue is broken (see rx_split_queue.h). The length counts without the
// WRITE flag too: by 2.8.4 it has no meaning then, but QEMU never sets the
// flag.

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
#include "nicring/packed_ring.h"
#include "nicring/receiver.h"
#include "nicring/rx_chains.h"
#include "nicring/rx_queue.h"
#include "nicring/rx_split_queue.h"
#include "nicring/virtio_layout.h"

namespace dmamap::inline v0 {

template <VirtqueueFormat Format, Mapper MapperType,
          RxChecks kChecks = RxChecks::kAll>
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
    Result<void> made =
        virtio::CheckLayout(ring_, options.entries, options.features);
    if (made.ok()) made = chains_.Init(mapper, options);
    if (!made.ok()) return made;
    return ring_.Init(mapper, options.entries, options.features, 0);
  }

  std::uint32_t armed() const { return chains_.armed(); }
  std::uint32_t open() const { return chains_.live() * options().chain; }
  bool full() const { return chains_.full(); }
  std::uint32_t vacant() const { return chains_.vacant(); }
  bool empty() const { return armed() == 0; }
  std::uint32_t data_offset() const { return chains_.data_offset(); }
  std::uint32_t room() const { return chains_.room(); }

  RingAddresses addresses() const {
    return ring_.addresses(options().room + virtio::kNetHeaderBytes);
  }
  // Next place and wrap counter: what VIRTIO_F_NOTIFICATION_DATA sends along.
  std::uint32_t doorbell() const {
    return virtio::OffWrap(published_, ring_.size());
  }

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
  [[gnu::always_inline]] RxArmed* Pop() { return chains_.Pop(); }

  // Hints. False when the device could not be shown it.
  bool Mask() { return ring_.Mask(); }
  bool Unmask() { return ring_.Unmask(used_); }

  template <class GiveBack>
  void Clear(GiveBack&& give_back) {
    chains_.Clear(give_back);
    filled_ = published_ = notified_ = used_ = 0;
    broken_ = done_ = false;
    ring_.Clear();
  }

  bool CheckInvariants() const {
    if (!chains_.CheckInvariants()) return false;
    if (!chains_.made()) return true;
    const std::uint32_t chain = options().chain;
    const std::uint32_t size = ring_.size();
    return filled_ < 2 * size && published_ < 2 * size && used_ < 2 * size &&
           virtio::Ahead(used_, published_, size) == chains_.live() * chain &&
           virtio::Ahead(published_, filled_, size) / chain == chains_.ready();
  }

 private:
  const RxQueueOptions& options() const { return chains_.options(); }

  RxChains<Access, MapperType, kChecks> chains_;
  PackedRing<Access, MapperType> ring_;
  // Places with their wrap counters (virtio_layout.h).
  std::uint32_t filled_ = 0;     // behind the last written descriptor
  std::uint32_t published_ = 0;  // behind the last available one
  std::uint32_t notified_ = 0;   // published_ at the last doorbell
  std::uint32_t used_ = 0;       // behind the last used chain
  bool done_ = false;            // the device has used a chain there
  bool broken_ = false;
};

template <VirtqueueFormat Format, Mapper MapperType, RxChecks kChecks>
struct RxQueueOf<Format, MapperType, kChecks> {
  using Type = std::conditional_t<Format::kPacked,
                                  RxPackedQueue<Format, MapperType, kChecks>,
                                  RxSplitQueue<Format, MapperType, kChecks>>;
};

// Everything but the flags that make the chain available.
template <VirtqueueFormat Format, Mapper MapperType, RxChecks kChecks>
[[gnu::always_inline]] inline Result<void>
RxPackedQueue<Format, MapperType, kChecks>::Push(RxArmed* armed) {
  DMAMAP_ASSERT(!full());
  const auto place = chains_.Next();
  ring_.Write(filled_, armed->iova(), buffer_bytes(), place.chain);
  const std::uint32_t flags =
      virtio::kWrite | (place.ends ? 0u : virtio::kNext);
  const Result<void> synced = place.part == 0
                                  ? ring_.SyncWithoutFlags(filled_)
                                  : ring_.SyncWithFlags(filled_, flags);
  if (!synced.ok()) return synced;
  chains_.Commit(place, armed);
  filled_ = virtio::Advance(filled_, 1, ring_.size());
  return Ok();
}

// One flags word for each chain, in order. What was shown stays so after a
// failure; the rest is ready still, and the next call goes on.
template <VirtqueueFormat Format, Mapper MapperType, RxChecks kChecks>
inline Result<void> RxPackedQueue<Format, MapperType, kChecks>::Publish() {
  if (!ring_.made()) return Error::kShutDown;
  const std::uint32_t chain = options().chain;
  const std::uint32_t more = chain == 1 ? 0u : virtio::kNext;
  DmaWriteBarrier();  // the descriptors before the flags
  while (chains_.ready() != 0) {
    if (!ring_.ShowFlags(published_, virtio::kWrite | more)) {
      return Error::kBusy;
    }
    published_ = virtio::Advance(published_, chain, ring_.size());
    chains_.PublishOne();
  }
  return Ok();
}

template <VirtqueueFormat Format, Mapper MapperType, RxChecks kChecks>
inline bool RxPackedQueue<Format, MapperType, kChecks>::TakeDoorbell() {
  const std::uint32_t owed = virtio::Ahead(notified_, published_, ring_.size());
  if (owed == 0 || chains_.MayOwe(owed / options().chain)) return false;
  notified_ = published_;
  return ring_.LoadWantsNotification(published_, owed);
}

template <VirtqueueFormat Format, Mapper MapperType, RxChecks kChecks>
[[gnu::always_inline]] inline RxFound
RxPackedQueue<Format, MapperType, kChecks>::Look() {
  if (broken_) return {RxLook::kBroken, 0};
  if (!ring_.made()) return {RxLook::kAtStop, 0};
  if (chains_.taken()) return chains_.Look();
  if (!done_) {
    if (chains_.live() == 0) return {RxLook::kAtStop, 0};
    const Result<std::uint16_t> flags = ring_.LoadFlags(used_);
    if (!flags.ok()) return {RxLook::kFailed, 0};
    done_ = virtio::IsUsed(*flags, virtio::WrapOf(used_, ring_.size()));
    if (!done_) return {RxLook::kNothing, 0};
  }
  const auto used = ring_.LoadUsed(used_);
  if (!used.ok()) return {RxLook::kFailed, 0};
  done_ = false;
  // Whether the flags say WRITE or not: QEMU never does (virtio_test.cc).
  if (!chains_.Take(used->id, used->bytes).ok()) {
    broken_ = true;
    return {RxLook::kBroken, 0};
  }
  used_ = virtio::Advance(used_, options().chain, ring_.size());
  return chains_.Look();
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_RX_PACKED_QUEUE_H_
