// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_TX_PACKED_QUEUE_H_
#define DMAMAP_NICRING_TX_PACKED_QUEUE_H_

// TxPackedQueue: the transmit side of a packed virtqueue (virtio 1.2, 2.8).
//
// A frame takes the next places of the ring, and each of its descriptors
// carries its number (of tx_chains.h) as id; the device answers with that id at
// the next used place, and jumps over as many places as the frame had (2.8.6).
// The id must name a frame that is out, or the queue is broken until Shutdown
// and Start. Frames may be done in any order. No length is loaded, since the
// device writes nothing to a frame that is sent.
//
// A post writes no flags: they come with the doorbell, those of the first
// descriptor of a frame last. So a post that failed half-way leaves nothing
// that a shorter frame in its place would make available.
//
// Not thread-safe; the device may do anything at any time. Loops run over the
// descriptors of one frame, or over what was posted since the last doorbell.

#include <cstdint>

#include "dma/address.h"
#include "dma/barrier.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"
#include "nicring/packed_ring.h"
#include "nicring/receiver.h"
#include "nicring/tx_chains.h"
#include "nicring/tx_queue.h"
#include "nicring/virtio_layout.h"

namespace dmamap::inline v0 {

template <class Access, Mapper MapperType>
class TxPackedQueue {
 public:
  TxPackedQueue() = default;
  TxPackedQueue(const TxPackedQueue&) = delete;
  TxPackedQueue& operator=(const TxPackedQueue&) = delete;

  // kBusy the second time; kInvalidArgument, kLimit for more than 32768
  // entries, kUnsupported, kNoMemory, the mapper's errors.
  Result<void> Init(MapperType* mapper, const TxQueueOptions& options) {
    Result<void> made =
        virtio::CheckLayout(ring_, options.entries, options.features);
    if (made.ok() && mapper == nullptr) made = Error::kInvalidArgument;
    if (made.ok() && !virtio::CanTransmit(options.features)) {
      made = Error::kUnsupported;
    }
    if (made.ok()) made = chains_.Init(mapper, options.entries);
    if (!made.ok()) return made;
    return ring_.Init(mapper, options.entries, options.features,
                      virtio::kNetHeaderBytes);
  }

  std::uint32_t capacity() const { return chains_.capacity(); }
  std::uint32_t free() const { return chains_.free(); }
  std::uint32_t frames() const { return chains_.frames(); }
  RingAddresses addresses() const { return ring_.addresses(0); }
  // Next place and wrap counter: what VIRTIO_F_NOTIFICATION_DATA sends along.
  std::uint32_t doorbell() const {
    return virtio::OffWrap(published_, ring_.size());
  }

  // kShutDown before Init; kInvalidArgument for no segment or an empty one;
  // kNoSpace; the mapper's errors; kBusy.
  Result<void> Post(const TxFrame& frame);

  // Publishes too. When the device could not be shown all, the next call does.
  bool TakeDoorbell() {
    if (!broken_) Publish();
    const std::uint32_t owed =
        virtio::Ahead(notified_, published_, ring_.size());
    if (owed == 0) return false;
    notified_ = published_;
    return ring_.LoadWantsNotification(published_, owed);
  }

  TxLook Look();
  TxDone Pop() { return chains_.Pop(); }

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
    if (!ring_.made()) return chains_.frames() == 0;
    const std::uint32_t size = ring_.size();
    std::uint32_t waiting = 0;
    for (std::uint32_t i = 0; i < chains_.waiting(); ++i) {
      waiting += chains_.descriptors(chains_.Waiting(i));
    }
    // What is taken has left the ring already, and has its descriptors still.
    return filled_ < 2 * size && published_ < 2 * size && used_ < 2 * size &&
           virtio::Ahead(published_, filled_, size) == waiting &&
           virtio::Ahead(used_, filled_, size) + chains_.free() <= size &&
           (virtio::Ahead(used_, published_, size) == 0) ==
               (chains_.out() == 0);
  }

 private:
  using Chains = TxChains<MapperType>;

  std::uint32_t Next(std::uint32_t cycle, std::uint32_t n) const {
    return virtio::Advance(cycle, n, ring_.size());
  }
  void Publish();

  PackedRing<Access, MapperType> ring_;
  Chains chains_;
  // Places with their wrap counters (virtio_layout.h).
  std::uint32_t filled_ = 0;     // behind the last written descriptor
  std::uint32_t published_ = 0;  // behind the last available one
  std::uint32_t notified_ = 0;   // published_ at the last doorbell
  std::uint32_t used_ = 0;       // behind the last used frame
  bool done_ = false;            // the flags at used_ say used
  bool broken_ = false;
};

template <class Access, Mapper MapperType>
Result<void> TxPackedQueue<Access, MapperType>::Post(const TxFrame& frame) {
  if (!ring_.made()) return Error::kShutDown;
  std::uint32_t head = Chains::kNone;
  const auto posted =
      chains_.Post(frame, ring_.extra(),
                   [&](std::uint32_t number, std::uint32_t index, std::uint32_t,
                       Iova at, std::uint32_t bytes) {
                     if (number == 0) head = index;
                     const std::uint32_t cycle = Next(filled_, number);
                     ring_.Write(cycle, at, bytes, head);
                     return ring_.SyncWithoutFlags(cycle);
                   });
  if (!posted.ok()) return posted.error();
  filled_ = Next(filled_, chains_.descriptors(*posted));
  return Ok();
}

// One frame after the other. What was shown stays so after a failure; the rest
// waits.
template <class Access, Mapper MapperType>
void TxPackedQueue<Access, MapperType>::Publish() {
  while (chains_.waiting() != 0) {
    const std::uint32_t count = chains_.descriptors(chains_.Waiting(0));
    for (std::uint32_t i = count; --i != 0;) {
      const std::uint32_t more = i + 1 == count ? 0u : virtio::kNext;
      if (!ring_.ShowFlags(Next(published_, i), more)) return;
    }
    DmaWriteBarrier();  // all of the frame before the flags of its first
    if (!ring_.ShowFlags(published_, virtio::kNext)) return;
    published_ = Next(published_, count);
    chains_.ShowOne();
  }
}

template <class Access, Mapper MapperType>
TxLook TxPackedQueue<Access, MapperType>::Look() {
  if (broken_) return TxLook::kBroken;
  if (chains_.taken()) return TxLook::kComplete;
  if (!done_) {
    if (chains_.out() == 0) return TxLook::kNothing;
    const Result<std::uint16_t> flags = ring_.LoadFlags(used_);
    if (!flags.ok()) return TxLook::kFailed;
    done_ = virtio::IsUsed(*flags, virtio::WrapOf(used_, ring_.size()));
    if (!done_) return TxLook::kNothing;
  }
  const Result<std::uint32_t> id = ring_.LoadUsedId(used_);
  if (!id.ok()) return TxLook::kFailed;
  done_ = false;
  broken_ = !chains_.Take(*id);
  if (broken_) return TxLook::kBroken;
  used_ = Next(used_, chains_.descriptors(*id));
  return TxLook::kComplete;
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_TX_PACKED_QUEUE_H_
