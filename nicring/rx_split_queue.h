// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_RX_SPLIT_QUEUE_H_
#define DMAMAP_NICRING_RX_SPLIT_QUEUE_H_

// RxSplitQueue: the receive side of a split virtqueue (virtio 1.2, 2.7).
//
// Chain c has the descriptors c*chain to c*chain+chain-1 for ever: links are
// written by rule, and none is read back.
//
// What the device says: the used index, loaded until it moves; then id and
// length of each used element, once. The index may not run further ahead than
// chains are out, and an id must name a chain that is out: anything else cannot
// be, and the queue is broken until it is cleared (RxLook::kBroken), since what
// the device meant is anybody's guess.
//
// What it asks: a notification or none, loaded once for each doorbell that is
// due. A lie there costs the device its doorbell and nobody else anything.
//
// Not thread-safe; the device may do anything at any time. Loops run over what
// was pushed since the last Publish.

#include <cstddef>
#include <cstdint>

#include "dma/assert.h"
#include "dma/direction.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"
#include "nicring/buffer_pool.h"
#include "nicring/format.h"
#include "nicring/receiver.h"
#include "nicring/rx_chains.h"
#include "nicring/rx_queue.h"
#include "nicring/split_ring.h"
#include "nicring/virtio_layout.h"

namespace dmamap::inline v0 {

template <VirtqueueFormat Format, Mapper MapperType,
          RxChecks kChecks = RxChecks::kAll>
class RxSplitQueue {
 public:
  static constexpr bool kStops = false;
  static constexpr bool kScatters = true;
  static constexpr Direction kDirection = Direction::kFromDevice;
  static constexpr std::uint32_t kHeaderBytes = 0;
  using Access = typename Format::Access;
  using Ring = SplitRing<Access, MapperType>;

  // kBusy the second time; kInvalidArgument unless the entries are a power of
  // two (2.7), kLimit for more than 32768, kUnsupported, kNoMemory, the
  // mapper's errors.
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
  // The available index: what VIRTIO_F_NOTIFICATION_DATA sends along.
  std::uint32_t doorbell() const { return published_; }

  std::uint32_t buffer_bytes() const { return chains_.buffer_bytes(); }
  Result<void> Prepare(const Buffer& buffer) const {
    return chains_.Check(buffer);
  }
  // The mapper's errors for the ring's memory. REQUIRES: !full().
  Result<void> Push(RxArmed* armed);
  Result<void> Publish();
  bool TakeDoorbell() {
    const std::uint32_t owed =
        Ring::Narrow(static_cast<std::uint32_t>(published_ - notified_));
    if (owed == 0 || chains_.MayOwe(owed)) return false;
    const bool wanted = ring_.LoadWantsNotification(published_, notified_);
    notified_ = published_;
    return wanted;
  }
  RxFound Look();
  Result<Completion> Snapshot() { return chains_.Snapshot(); }
  void Prefetch() const { chains_.Prefetch(); }
  [[gnu::always_inline]] RxArmed* Pop() { return chains_.Pop(); }

  bool Mask() { return ring_.Mask(used_); }
  bool Unmask() { return ring_.Unmask(used_); }

  template <class GiveBack>
  void Clear(GiveBack&& give_back) {
    chains_.Clear(give_back);
    published_ = notified_ = used_ = seen_ = 0;
    broken_ = false;
    ring_.Clear();
  }

  bool CheckInvariants() const {
    return chains_.CheckInvariants() &&
           Ring::Narrow(static_cast<std::uint32_t>(seen_ - used_)) <=
               chains_.live() &&
           Ring::Narrow(static_cast<std::uint32_t>(published_ - notified_)) <=
               ring_.size();
  }

 private:
  const RxQueueOptions& options() const { return chains_.options(); }
  RxFound TakeUsed();

  RxChains<Access, MapperType, kChecks> chains_;
  Ring ring_;
  // Free-running, as the device counts.
  std::uint16_t published_ = 0;  // the available index that it was shown
  std::uint16_t notified_ = 0;   // at the last doorbell
  std::uint16_t used_ = 0;       // used elements taken
  std::uint16_t seen_ = 0;       // the used index it last said
  bool broken_ = false;
};

template <VirtqueueFormat Format, Mapper MapperType, RxChecks kChecks>
[[gnu::always_inline]] inline Result<void>
RxSplitQueue<Format, MapperType, kChecks>::Push(RxArmed* armed) {
  DMAMAP_ASSERT(!full());
  const auto place = chains_.Next();
  const std::uint32_t index = place.chain * options().chain + place.part;
  const std::uint32_t more = place.ends ? 0u : virtio::kNext;
  const Result<void> written =
      ring_.WriteDescriptor(index, armed->iova(), buffer_bytes(),
                            virtio::kWrite | more, place.ends ? 0 : index + 1);
  if (written.ok()) chains_.Commit(place, armed);
  return written;
}

// A failure leaves the chains ready, and the next call writes them again.
template <VirtqueueFormat Format, Mapper MapperType, RxChecks kChecks>
inline Result<void> RxSplitQueue<Format, MapperType, kChecks>::Publish() {
  if (!ring_.made()) return Error::kShutDown;
  const std::uint32_t ready = chains_.ready();
  if (ready == 0) return Ok();
  for (std::uint32_t i = 0; i < ready; ++i) {
    const Result<void> written = ring_.WriteAvailable(
        published_ + i, chains_.ReadyChain(i) * options().chain);
    if (!written.ok()) return written;
  }
  const std::uint16_t index = Ring::Narrow(published_ + ready);
  if (!ring_.Publish(index)) return Error::kBusy;
  published_ = index;
  chains_.Publish();
  return Ok();
}

template <VirtqueueFormat Format, Mapper MapperType, RxChecks kChecks>
[[gnu::always_inline]] inline RxFound
RxSplitQueue<Format, MapperType, kChecks>::Look() {
  if (broken_) return {RxLook::kBroken, 0};
  if (!ring_.made()) return {RxLook::kAtStop, 0};
  if (chains_.taken()) return chains_.Look();
  if (seen_ == used_) {
    if (chains_.live() == 0) return {RxLook::kAtStop, 0};
    const Result<std::uint16_t> index = ring_.LoadUsedIndex();
    if (!index.ok()) return {RxLook::kFailed, 0};
    if (*index == used_) return {RxLook::kNothing, 0};
    if (kChecks == RxChecks::kAll && Ring::Narrow(static_cast<std::uint32_t>(
                                         *index - used_)) > chains_.live()) {
      broken_ = true;
      return {RxLook::kBroken, 0};
    }
    seen_ = *index;
  }
  return TakeUsed();
}

template <VirtqueueFormat Format, Mapper MapperType, RxChecks kChecks>
[[gnu::always_inline]] inline RxFound
RxSplitQueue<Format, MapperType, kChecks>::TakeUsed() {
  const auto used = ring_.LoadUsed(used_);
  if (!used.ok()) return {RxLook::kFailed, 0};
  ++used_;
  const std::uint32_t chain = options().chain;
  // Nearly always 1; a division costs as much as the rest of this.
  const bool head =
      kChecks == RxChecks::kNone || chain == 1 || used->id % chain == 0;
  const std::uint32_t number = chain == 1 ? used->id : used->id / chain;
  if (!head || !chains_.Take(number, used->bytes).ok()) {
    broken_ = true;
    seen_ = used_;
    return {RxLook::kBroken, 0};
  }
  return chains_.Look();
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_RX_SPLIT_QUEUE_H_
