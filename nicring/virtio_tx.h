// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_VIRTIO_TX_H_
#define DMAMAP_NICRING_VIRTIO_TX_H_

// TxSplitQueue: the transmit side of a split virtqueue of a virtio 1.x network
// device (virtio 1.2, 2.7 and 5.1.6.2).
//
//   TxRing<VirtioSplitTxFormat, IdentityMapper> ring;
//   ring.Init(&mapper, {.entries = 256, .features = negotiated});
//
// A frame is a chain: a descriptor for its virtio_net_hdr, then one for each
// segment. No offload is asked for, so all headers are the same twelve zero
// bytes, and every frame names the same ones, in the ring's memory.
//
// What the device says is checked as in rx_split_queue.h: an index that runs
// further than frames are out, or an id that is not the head of one of them,
// breaks the queue until Shutdown and Start. Frames may be done in any order.
// Which descriptors a frame has is private memory; a used length is not loaded
// into anything, since the device writes nothing to a frame that is sent.
//
// Not thread-safe; the device may do anything at any time. Loops run over the
// descriptors of one frame, or over what was posted since the last doorbell.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

#include "dma/address.h"
#include "dma/assert.h"
#include "dma/direction.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"
#include "nicring/format.h"
#include "nicring/receiver.h"
#include "nicring/split_ring.h"
#include "nicring/tx_queue.h"
#include "nicring/virtio_layout.h"

namespace dmamap::inline v0 {

template <class Accessor>
struct BasicVirtioSplitTxFormat {
  using Access = Accessor;
  static constexpr bool kSplitTx = true;
};
using VirtioSplitTxFormat = BasicVirtioSplitTxFormat<DeviceAccess>;

template <class F>
concept VirtioTxFormat = requires {
  typename F::Access;
  { F::kSplitTx } -> std::convertible_to<bool>;
};

template <VirtioTxFormat Format, Mapper MapperType>
class TxSplitQueue {
 public:
  using Ring = SplitRing<typename Format::Access, MapperType>;

  TxSplitQueue() = default;
  TxSplitQueue(const TxSplitQueue&) = delete;
  TxSplitQueue& operator=(const TxSplitQueue&) = delete;

  // kBusy the second time; kInvalidArgument unless the entries are a power of
  // two, kLimit, kUnsupported, kNoMemory, the mapper's errors.
  Result<void> Init(MapperType* mapper, const TxQueueOptions& options);

  // Segments that one more frame may have: its header takes a descriptor.
  std::uint32_t capacity() const {
    return ring_.size() == 0 ? 0 : ring_.size() - 1;
  }
  std::uint32_t free() const { return free_count_ == 0 ? 0 : free_count_ - 1; }
  std::uint32_t frames() const { return frame_count_; }
  RingAddresses addresses() const { return ring_.addresses(0); }
  // The available index: what VIRTIO_F_NOTIFICATION_DATA sends along.
  std::uint32_t doorbell() const { return published_; }

  // kShutDown before Init; kInvalidArgument for no segment or an empty one;
  // kNoSpace; the mapper's errors; kBusy.
  Result<void> Post(const TxFrame& frame);

  // Publishes too. When the device could not be shown all, the next call does.
  bool TakeDoorbell();

  TxLook Look();
  TxDone Pop() {
    DMAMAP_ASSERT(taken_ != kNone);
    const TxDone done = TakeFrame(taken_, TxFate::kSent);
    taken_ = kNone;
    return done;
  }

  bool Mask() { return ring_.Mask(used_); }
  bool Unmask() { return ring_.Unmask(used_); }

  template <class GiveBack>
  void Clear(GiveBack&& give_back) {
    for (std::uint32_t i = 0; i < ring_.size(); ++i) {
      if (frames_[i].descriptors != 0) {
        give_back(TakeFrame(i, TxFate::kCancelled));
      }
    }
    posted_ = published_ = notified_ = used_ = seen_ = 0;
    taken_ = kNone;
    broken_ = false;
    ring_.Clear();
  }

  bool CheckInvariants() const;

 private:
  static constexpr std::uint32_t kNone = UINT32_MAX;
  enum class State : std::uint8_t { kFree, kPosted, kOut, kDone };
  // Of a head; of another descriptor only `mapping` and `next` count.
  struct Slot {
    Mapping mapping;  // size 0: none
    std::uint32_t next = kNone;
    std::uint64_t token = 0;
    std::uint64_t bytes = 0;
    std::uint32_t descriptors = 0;  // of the frame; 0: no head
    State state = State::kFree;
  };

  std::uint32_t out() const {  // frames that the device was shown
    return Ring::Narrow(static_cast<std::uint32_t>(published_ - used_));
  }
  Result<void> PostSegment(const TxSegment& segment, std::uint32_t index,
                           std::uint32_t flags, std::uint32_t next);
  // Unmaps the chain and frees its descriptors. False if one stays mapped.
  bool Release(std::uint32_t head);
  TxDone TakeFrame(std::uint32_t head, TxFate fate) {
    const Slot slot = frames_[head];
    if (!Release(head)) fate = TxFate::kQuarantined;
    --frame_count_;
    return {slot.token, slot.bytes, fate};
  }

  Ring ring_;
  MapperType* mapper_ = nullptr;
  std::unique_ptr<Slot[]> frames_;          // of each descriptor
  std::unique_ptr<std::uint32_t[]> free_;   // [0, free_count_)
  std::unique_ptr<std::uint32_t[]> order_;  // heads as posted, modulo the size
  std::uint32_t free_count_ = 0;
  std::uint32_t frame_count_ = 0;
  // Free-running, as the device counts.
  std::uint16_t posted_ = 0;
  std::uint16_t published_ = 0;
  std::uint16_t notified_ = 0;
  std::uint16_t used_ = 0;
  std::uint16_t seen_ = 0;
  std::uint32_t taken_ = kNone;  // a head that is done, and not popped
  bool broken_ = false;
};

template <VirtioTxFormat Format, Mapper MapperType>
struct TxQueueOf<Format, MapperType> {
  using Type = TxSplitQueue<Format, MapperType>;
};

template <VirtioTxFormat Format, Mapper MapperType>
Result<void> TxSplitQueue<Format, MapperType>::Init(
    MapperType* mapper, const TxQueueOptions& options) {
  if (ring_.made()) return Error::kBusy;
  const std::uint32_t entries = options.entries;
  if (mapper == nullptr || !IsPowerOfTwo(entries)) {
    return Error::kInvalidArgument;
  }
  if (entries > virtio::kMaxEntries) return Error::kLimit;
  if ((options.features & ~virtio::kKnownFeatures) != 0 ||
      (options.features & virtio::kVersion1) == 0 ||
      (options.features & virtio::kRingPacked) != 0) {
    return Error::kUnsupported;
  }
  frames_.reset(new (std::nothrow) Slot[entries]);
  free_.reset(new (std::nothrow) std::uint32_t[entries]);
  order_.reset(new (std::nothrow) std::uint32_t[entries]);
  if (!frames_ || !free_ || !order_) return Error::kNoMemory;
  const Result<void> made =
      ring_.Init(mapper, entries, options.features, virtio::kNetHeaderBytes);
  if (!made.ok()) return made;
  for (std::uint32_t i = 0; i < entries; ++i) free_[i] = entries - 1 - i;
  free_count_ = entries;
  mapper_ = mapper;
  return Ok();
}

template <VirtioTxFormat Format, Mapper MapperType>
Result<void> TxSplitQueue<Format, MapperType>::PostSegment(
    const TxSegment& segment, std::uint32_t index, std::uint32_t flags,
    std::uint32_t next) {
  const Result<Mapping> mapping =
      mapper_->Map(segment.address, segment.length, Direction::kToDevice,
                   MapAttributes::kNone);
  if (!mapping.ok()) return mapping.error();
  frames_[index].mapping = *mapping;
  return ring_.WriteDescriptor(index, mapping->iova, segment.length, flags,
                               next);
}

template <VirtioTxFormat Format, Mapper MapperType>
Result<void> TxSplitQueue<Format, MapperType>::Post(const TxFrame& frame) {
  if (!ring_.made()) return Error::kShutDown;
  std::uint64_t bytes = 0;
  for (const TxSegment& segment : frame.segments) {
    if (segment.length == 0) return Error::kInvalidArgument;
    bytes += segment.length;
  }
  const std::size_t count = frame.segments.size();
  if (count == 0) return Error::kInvalidArgument;
  if (count > free()) return Error::kNoSpace;
  const std::uint32_t head = free_[--free_count_];
  std::uint32_t last = head;
  Result<void> written = Ok();
  // Links first, so that Release undoes whatever is there.
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t index = free_[--free_count_];
    frames_[last].next = index;
    last = index;
  }
  frames_[head].descriptors = static_cast<std::uint32_t>(count) + 1;
  written = ring_.WriteDescriptor(head, ring_.extra(), virtio::kNetHeaderBytes,
                                  virtio::kNext, frames_[head].next);
  std::uint32_t index = frames_[head].next;
  for (std::size_t i = 0; i < count && written.ok(); ++i) {
    const bool ends = i + 1 == count;
    const std::uint32_t next = frames_[index].next;
    written = PostSegment(frame.segments[i], index, ends ? 0u : virtio::kNext,
                          ends ? 0 : next);
    index = next;
  }
  if (!written.ok()) {
    return Release(head) ? written : Result<void>(Error::kBusy);
  }
  Slot& slot = frames_[head];
  slot.token = frame.token;
  slot.bytes = bytes;
  slot.state = State::kPosted;
  order_[posted_ & (ring_.size() - 1)] = head;
  ++posted_;
  ++frame_count_;
  return Ok();
}

template <VirtioTxFormat Format, Mapper MapperType>
bool TxSplitQueue<Format, MapperType>::Release(std::uint32_t head) {
  bool all = true;
  std::uint32_t index = head;
  for (std::uint32_t n = frames_[head].descriptors; n != 0; --n) {
    const Slot slot = std::exchange(frames_[index], Slot{});
    if (slot.mapping.size != 0) all &= mapper_->Unmap(slot.mapping).ok();
    free_[free_count_++] = index;
    index = slot.next;
  }
  return all;
}

template <VirtioTxFormat Format, Mapper MapperType>
bool TxSplitQueue<Format, MapperType>::TakeDoorbell() {
  const std::uint32_t mask = ring_.size() - 1;
  if (published_ != posted_ && !broken_) {
    for (std::uint16_t i = published_; i != posted_; ++i) {
      if (!ring_.WriteAvailable(i, order_[i & mask]).ok()) return false;
    }
    if (!ring_.Publish(posted_)) return false;
    for (; published_ != posted_; ++published_) {
      frames_[order_[published_ & mask]].state = State::kOut;
    }
  }
  if (published_ == notified_) return false;
  const bool wanted = ring_.LoadWantsNotification(published_, notified_);
  notified_ = published_;
  return wanted;
}

template <VirtioTxFormat Format, Mapper MapperType>
TxLook TxSplitQueue<Format, MapperType>::Look() {
  if (broken_) return TxLook::kBroken;
  if (taken_ != kNone) return TxLook::kComplete;
  if (seen_ == used_) {
    if (out() == 0) return TxLook::kNothing;
    const Result<std::uint16_t> index = ring_.LoadUsedIndex();
    if (!index.ok()) return TxLook::kFailed;
    if (*index == used_) return TxLook::kNothing;
    const auto ahead = static_cast<std::uint32_t>(*index - used_);
    broken_ = Ring::Narrow(ahead) > out();
    if (broken_) return TxLook::kBroken;
    seen_ = *index;
  }
  const auto used = ring_.LoadUsedId(used_);
  if (!used.ok()) return TxLook::kFailed;
  const std::uint32_t id = *used;
  broken_ = id >= ring_.size() || frames_[id].state != State::kOut;
  if (broken_) {
    seen_ = used_;
    return TxLook::kBroken;
  }
  ++used_;
  frames_[id].state = State::kDone;
  taken_ = id;
  return TxLook::kComplete;
}

template <VirtioTxFormat Format, Mapper MapperType>
bool TxSplitQueue<Format, MapperType>::CheckInvariants() const {
  if (!ring_.made()) return frame_count_ == 0;
  std::uint32_t descriptors = 0;
  std::uint32_t frames = 0;
  std::uint32_t out_now = 0;
  for (std::uint32_t i = 0; i < ring_.size(); ++i) {
    const Slot& slot = frames_[i];
    if ((slot.descriptors != 0) != (slot.state != State::kFree)) return false;
    descriptors += slot.descriptors;
    frames += slot.descriptors != 0 ? 1 : 0;
    out_now += slot.state == State::kOut ? 1 : 0;
  }
  return descriptors + free_count_ == ring_.size() && frames == frame_count_ &&
         out_now == out() &&
         Ring::Narrow(static_cast<std::uint32_t>(seen_ - used_)) <= out();
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_VIRTIO_TX_H_
