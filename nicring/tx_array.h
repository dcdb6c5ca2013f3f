// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_TX_ARRAY_H_
#define DMAMAP_NICRING_TX_ARRAY_H_

// TxArray: the posted descriptors of a transmitter with head and tail
// registers; and TxArrayFormat, what one looks like.
//
//   head ........ tail ........ posted end       indices, modulo the entries
//   with the device    | written, doorbell owed
//
// One descriptor is kept back, as in RxArray. A frame takes one descriptor for
// each segment; the device is asked to report the last one only, and frames are
// done in order. How many descriptors a frame has, and how they are mapped, is
// private memory: nothing but the report is ever loaded.
//
// Not thread-safe; the device may do anything at any time. Loops run over the
// segments of one frame, or over the ring.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

#include "dma/address.h"
#include "dma/assert.h"
#include "dma/barrier.h"
#include "dma/direction.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"
#include "nicring/format.h"
#include "nicring/ring_memory.h"
#include "nicring/tx_queue.h"

namespace dmamap::inline v0 {

// Which descriptor of its frame it is.
enum class TxPlace : std::uint8_t { kMiddle, kLast };

template <class F>
concept TxArrayFormat = requires(const std::byte* descriptor,
                                 std::byte* writable, typename F::Status status,
                                 Iova at, std::uint32_t bytes, TxPlace place) {
  { F::kDescriptorBytes } -> std::convertible_to<std::uint32_t>;
  { F::kEntriesMultiple } -> std::convertible_to<std::uint32_t>;
  { F::kMaxEntries } -> std::convertible_to<std::uint32_t>;
  // Most bytes that one descriptor can name.
  { F::kMaxSegmentBytes } -> std::convertible_to<std::uint32_t>;
  // The field that the device writes when it is done with the last descriptor.
  { F::kStatus } -> std::convertible_to<Field>;
  { F::LoadStatus(descriptor) } -> std::same_as<typename F::Status>;
  { F::IsComplete(status) } -> std::same_as<bool>;
  // False when the device says that the frame did not get out.
  { F::IsGood(status) } -> std::same_as<bool>;
  // Writes a whole descriptor, not complete. REQUIRES: the device has not been
  // told of it.
  F::WritePosted(writable, at, bytes, place);
};

template <TxArrayFormat Format, Mapper MapperType>
class TxArray {
 public:
  TxArray() = default;
  TxArray(const TxArray&) = delete;
  TxArray& operator=(const TxArray&) = delete;

  // The mapper must outlive the array. kBusy the second time, kInvalidArgument,
  // kLimit, kNoMemory, the mapper's errors.
  Result<void> Init(MapperType* mapper, const TxQueueOptions& options) {
    const std::uint32_t entries = options.entries;
    if (slots_) return Error::kBusy;
    if (mapper == nullptr || entries == 0 ||
        entries % Format::kEntriesMultiple != 0) {
      return Error::kInvalidArgument;
    }
    if (entries > Format::kMaxEntries) return Error::kLimit;
    std::unique_ptr<Mapping[]> slots(new (std::nothrow) Mapping[entries]);
    std::unique_ptr<Posted[]> frames(new (std::nothrow) Posted[entries]);
    if (!slots || !frames) return Error::kNoMemory;
    const Result<void> made =
        memory_.Init(mapper, std::uint64_t{entries} * Format::kDescriptorBytes);
    if (!made.ok()) return made;
    slots_ = std::move(slots);
    frames_ = std::move(frames);
    mapper_ = mapper;
    entries_ = entries;
    return Ok();
  }

  std::uint32_t capacity() const { return entries_ == 0 ? 0 : entries_ - 1; }
  std::uint32_t free() const { return capacity() - posted_; }
  std::uint32_t frames() const { return frame_count_; }
  RingAddresses addresses() const {
    return {memory_.iova(), Iova(), Iova(), entries_, 0};
  }
  std::uint32_t doorbell() const { return Wrapped(head_ + open_); }

  // kShutDown before Init; kInvalidArgument for no segment, an empty one or one
  // that a descriptor cannot name; kNoSpace; the mapper's errors; kBusy.
  Result<void> Post(const TxFrame& frame);

  bool TakeDoorbell() {
    if (open_ == posted_) return false;
    DmaWriteBarrier();  // the descriptors, and the data, before the tail
    open_ = posted_;
    return true;
  }

  TxLook Look() {
    if (done_) return TxLook::kComplete;
    if (frame_count_ == 0) return TxLook::kNothing;
    const std::uint32_t count = frames_[frame_head_].descriptors;
    // A frame that the device was not told of cannot be done.
    if (count > open_) return TxLook::kNothing;
    const std::uint32_t last = Wrapped(head_ + count - 1);
    const Field field = Format::kStatus;
    if (!memory_.SyncForCpu(At(last) + field.offset, field.size).ok()) {
      return TxLook::kFailed;
    }
    status_ = Format::LoadStatus(memory_.cpu() + At(last));
    done_ = Format::IsComplete(status_);
    return done_ ? TxLook::kComplete : TxLook::kNothing;
  }

  TxDone Pop() {
    DMAMAP_ASSERT(done_);
    done_ = false;
    return TakeFrame(Format::IsGood(status_) ? TxFate::kSent : TxFate::kError);
  }

  template <class GiveBack>
  void Clear(GiveBack&& give_back) {
    done_ = false;
    while (frame_count_ != 0) give_back(TakeFrame(TxFate::kCancelled));
    head_ = open_ = frame_head_ = 0;  // Start puts the device there too
  }

  bool CheckInvariants() const {
    if (!slots_) return posted_ == 0 && frame_count_ == 0;
    if (head_ >= entries_ || posted_ > capacity() || open_ > posted_ ||
        frame_count_ > posted_ || (done_ && frame_count_ == 0)) {
      return false;
    }
    std::uint32_t sum = 0;
    for (std::uint32_t i = 0; i < frame_count_; ++i) {
      sum += frames_[Wrapped(frame_head_ + i)].descriptors;
    }
    for (std::uint32_t i = 0; i < entries_; ++i) {
      if ((i < posted_) != (slots_[Wrapped(head_ + i)].size != 0)) return false;
    }
    return sum == posted_;
  }

 private:
  struct Posted {
    std::uint64_t token = 0;
    std::uint64_t bytes = 0;
    std::uint32_t descriptors = 0;
  };

  // REQUIRES: index < 2 * entries.
  std::uint32_t Wrapped(std::uint32_t index) const {
    return index < entries_ ? index : index - entries_;
  }
  std::uint64_t At(std::uint32_t index) const {
    return std::uint64_t{index} * Format::kDescriptorBytes;
  }
  Result<void> PostSegment(const TxSegment& segment, std::uint32_t index,
                           TxPlace place);
  // Unmaps `count` descriptors from `index` on. False if one stays mapped.
  bool Unmap(std::uint32_t index, std::uint32_t count) {
    bool all = true;
    for (std::uint32_t i = 0; i < count; ++i) {
      Mapping& slot = slots_[Wrapped(index + i)];
      all &= mapper_->Unmap(std::exchange(slot, Mapping{})).ok();
    }
    return all;
  }
  TxDone TakeFrame(TxFate fate) {
    const Posted frame = frames_[frame_head_];
    if (!Unmap(head_, frame.descriptors)) fate = TxFate::kQuarantined;
    frame_head_ = Wrapped(frame_head_ + 1);
    --frame_count_;
    head_ = Wrapped(head_ + frame.descriptors);
    posted_ -= frame.descriptors;
    open_ -= open_ < frame.descriptors ? open_ : frame.descriptors;
    return {frame.token, frame.bytes, fate};
  }

  RingMemory<MapperType> memory_;
  MapperType* mapper_ = nullptr;
  std::uint32_t entries_ = 0;
  std::unique_ptr<Mapping[]> slots_;  // of each descriptor; size 0: none
  std::unique_ptr<Posted[]> frames_;  // from frame_head_, in order
  std::uint32_t head_ = 0;            // index of the oldest descriptor
  std::uint32_t posted_ = 0;          // descriptors from there on
  std::uint32_t open_ = 0;            // of these, what the device was told of
  std::uint32_t frame_head_ = 0;
  std::uint32_t frame_count_ = 0;
  bool done_ = false;  // the oldest frame, and status_ is its snapshot
  typename Format::Status status_{};
};

template <TxArrayFormat Format, Mapper MapperType>
struct TxQueueOf<Format, MapperType> {
  using Type = TxArray<Format, MapperType>;
};

template <TxArrayFormat Format, Mapper MapperType>
Result<void> TxArray<Format, MapperType>::PostSegment(const TxSegment& segment,
                                                      std::uint32_t index,
                                                      TxPlace place) {
  const Result<Mapping> mapping =
      mapper_->Map(segment.address, segment.length, Direction::kToDevice,
                   MapAttributes::kNone);
  if (!mapping.ok()) return mapping.error();
  slots_[index] = *mapping;
  Format::WritePosted(memory_.cpu() + At(index), mapping->iova, segment.length,
                      place);
  return memory_.SyncForDevice(At(index), Format::kDescriptorBytes);
}

template <TxArrayFormat Format, Mapper MapperType>
Result<void> TxArray<Format, MapperType>::Post(const TxFrame& frame) {
  if (!slots_) return Error::kShutDown;
  std::uint64_t bytes = 0;
  for (const TxSegment& segment : frame.segments) {
    if (segment.length == 0 || segment.length > Format::kMaxSegmentBytes) {
      return Error::kInvalidArgument;
    }
    bytes += segment.length;
  }
  if (frame.segments.empty()) return Error::kInvalidArgument;
  if (frame.segments.size() > free()) return Error::kNoSpace;
  const auto count = static_cast<std::uint32_t>(frame.segments.size());
  const std::uint32_t first = Wrapped(head_ + posted_);
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint32_t index = Wrapped(first + i);
    const Result<void> posted =
        PostSegment(frame.segments[i], index,
                    i + 1 == count ? TxPlace::kLast : TxPlace::kMiddle);
    if (posted.ok()) continue;
    const bool mapped = slots_[index].size != 0;
    if (!Unmap(first, mapped ? i + 1 : i)) return Error::kBusy;
    return posted;
  }
  frames_[Wrapped(frame_head_ + frame_count_)] = {frame.token, bytes, count};
  ++frame_count_;
  posted_ += count;
  return Ok();
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_TX_ARRAY_H_
