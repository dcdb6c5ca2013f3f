// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_TX_SPLIT_QUEUE_H_
#define DMAMAP_NICRING_TX_SPLIT_QUEUE_H_

// TxSplitQueue: the transmit side of a split virtqueue (virtio 1.2, 2.7).
//
// What the device says is checked as in rx_split_queue.h: an index that runs
// further than frames are out, or an id that is not the head of one of them,
// breaks the queue until Shutdown and Start. Frames may be done in any order. A
// used length is not loaded into anything, since the device writes nothing to
// a frame that is sent.
//
// Not thread-safe; the device may do anything at any time. Loops run over the
// descriptors of one frame, or over what was posted since the last doorbell.

#include <cstdint>

#include "dma/address.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"
#include "nicring/receiver.h"
#include "nicring/split_ring.h"
#include "nicring/tx_chains.h"
#include "nicring/tx_queue.h"
#include "nicring/virtio_layout.h"

namespace dmamap::inline v0 {

template <class Access, Mapper MapperType>
class TxSplitQueue {
 public:
  using Ring = SplitRing<Access, MapperType>;

  TxSplitQueue() = default;
  TxSplitQueue(const TxSplitQueue&) = delete;
  TxSplitQueue& operator=(const TxSplitQueue&) = delete;

  // kBusy the second time; kInvalidArgument unless the entries are a power of
  // two, kLimit, kUnsupported, kNoMemory, the mapper's errors.
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
  // The available index: what VIRTIO_F_NOTIFICATION_DATA sends along.
  std::uint32_t doorbell() const { return published_; }

  // kShutDown before Init; kInvalidArgument for no segment or an empty one;
  // kNoSpace; the mapper's errors; kBusy.
  Result<void> Post(const TxFrame& frame) {
    if (!ring_.made()) return Error::kShutDown;
    const auto posted = chains_.Post(
        frame, ring_.extra(),
        [this](std::uint32_t, std::uint32_t index, std::uint32_t next, Iova at,
               std::uint32_t bytes) {
          const bool ends = next == Chains::kNone;
          return ring_.WriteDescriptor(
              index, at, bytes, ends ? 0u : virtio::kNext, ends ? 0u : next);
        });
    return posted.ok() ? Ok() : Result<void>(posted.error());
  }

  // Publishes too. When the device could not be shown all, the next call does.
  bool TakeDoorbell();

  TxLook Look();
  TxDone Pop() { return chains_.Pop(); }

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
           Ring::Narrow(static_cast<std::uint32_t>(published_ - used_)) ==
               chains_.out() &&
           Ring::Narrow(static_cast<std::uint32_t>(seen_ - used_)) <=
               chains_.out();
  }

 private:
  using Chains = TxChains<MapperType>;

  Ring ring_;
  Chains chains_;
  // Free-running, as the device counts.
  std::uint16_t published_ = 0;
  std::uint16_t notified_ = 0;
  std::uint16_t used_ = 0;
  std::uint16_t seen_ = 0;
  bool broken_ = false;
};

template <class Access, Mapper MapperType>
bool TxSplitQueue<Access, MapperType>::TakeDoorbell() {
  const std::uint32_t waiting = chains_.waiting();
  if (waiting != 0 && !broken_) {
    for (std::uint32_t i = 0; i < waiting; ++i) {
      if (!ring_.WriteAvailable(published_ + i, chains_.Waiting(i)).ok()) {
        return false;
      }
    }
    const std::uint16_t posted = Ring::Narrow(published_ + waiting);
    if (!ring_.Publish(posted)) return false;
    published_ = posted;
    while (chains_.waiting() != 0) chains_.ShowOne();
  }
  if (published_ == notified_) return false;
  const bool wanted = ring_.LoadWantsNotification(published_, notified_);
  notified_ = published_;
  return wanted;
}

template <class Access, Mapper MapperType>
TxLook TxSplitQueue<Access, MapperType>::Look() {
  if (broken_) return TxLook::kBroken;
  if (chains_.taken()) return TxLook::kComplete;
  if (seen_ == used_) {
    if (chains_.out() == 0) return TxLook::kNothing;
    const Result<std::uint16_t> index = ring_.LoadUsedIndex();
    if (!index.ok()) return TxLook::kFailed;
    if (*index == used_) return TxLook::kNothing;
    const auto ahead = static_cast<std::uint32_t>(*index - used_);
    broken_ = Ring::Narrow(ahead) > chains_.out();
    if (broken_) return TxLook::kBroken;
    seen_ = *index;
  }
  const auto id = ring_.LoadUsedId(used_);
  if (!id.ok()) return TxLook::kFailed;
  broken_ = !chains_.Take(*id);
  if (broken_) {
    seen_ = used_;
    return TxLook::kBroken;
  }
  ++used_;
  return TxLook::kComplete;
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_TX_SPLIT_QUEUE_H_
