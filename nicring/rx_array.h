// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_RX_ARRAY_H_
#define DMAMAP_NICRING_RX_ARRAY_H_

// RxArray: the armed descriptors of a receiver with head and tail registers.
//
//   head ........ tail ........ armed end        indices, modulo the entries
//   may complete       | written, doorbell owed
//
// The device owns [head, tail). Head equal to tail means that it owns nothing,
// so one descriptor is always kept back: at most entries - 1 are armed, and the
// tail never catches the head (8254x manual, RDH and RDT).
//
// The tail register is written once for about doorbell_batch descriptors: a
// write to it is a posted write over the bus, which costs the device more than
// the descriptor. It is written earlier when the device has less than that
// left, or less than the longest frame takes: one that stores a frame only if
// all of it fits would wait for descriptors, and the driver for the frame.
//
// Completion is in order and told by the status alone; the head register is
// never read. The status of the head is loaded until it says complete and never
// after that; the other fields once, when it does. A descriptor that the device
// completes, changes or completes again while it does not own it is not looked
// at before it has been armed anew, which rewrites it.
//
// Not thread-safe; the device may do anything at any time. No loop.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

#include "dma/address.h"
#include "dma/assert.h"
#include "dma/barrier.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"
#include "nicring/buffer_pool.h"
#include "nicring/format.h"
#include "nicring/ring_memory.h"
#include "nicring/rx_queue.h"

namespace dmamap::inline v0 {

template <ArrayFormat Format, Mapper MapperType>
class RxArray {
 public:
  static constexpr bool kStops = false;
  static constexpr bool kScatters = true;
  static constexpr Direction kDirection = Direction::kFromDevice;
  static constexpr std::uint32_t kHeaderBytes = 0;

  RxArray() = default;
  RxArray(const RxArray&) = delete;
  RxArray& operator=(const RxArray&) = delete;

  // The mapper must outlive the array. kBusy the second time, kInvalidArgument
  // for a number of entries or a room that the device cannot be told of or a
  // batch of more than half the ring, kLimit for too many entries, kNoMemory,
  // the mapper's errors.
  Result<void> Init(MapperType* mapper, const RxQueueOptions& options) {
    if (entries_) return Error::kBusy;
    if (mapper == nullptr || options.entries == 0 ||
        options.entries % Format::kEntriesMultiple != 0 ||
        !Format::IsRoom(options.room) || options.chain != 1 ||
        options.doorbell_batch > options.entries / 2) {
      return Error::kInvalidArgument;
    }
    if (options.entries > Format::kMaxEntries) return Error::kLimit;
    std::unique_ptr<RxArmed*[]> entries(new (std::nothrow)
                                            RxArmed*[options.entries]());
    if (!entries) return Error::kNoMemory;
    const Result<void> made = memory_.Init(
        mapper, std::uint64_t{options.entries} * Format::kDescriptorBytes);
    if (!made.ok()) return made;
    entries_ = std::move(entries);
    options_ = options;
    if (options_.doorbell_batch == 0) options_.doorbell_batch = 1;
    return Ok();
  }

  std::uint32_t armed() const { return armed_; }
  std::uint32_t open() const { return open_; }
  bool full() const { return vacant() == 0; }
  std::uint32_t vacant() const { return options_.entries - 1 - armed_; }
  bool empty() const { return armed_ == 0; }
  std::uint32_t data_offset() const { return 0; }
  std::uint32_t room() const { return options_.room; }

  RingAddresses addresses() const {
    return {memory_.iova(), Iova(), Iova(), options_.entries, options_.room};
  }
  std::uint32_t doorbell() const { return Wrapped(head_ + open_); }

  std::uint32_t buffer_bytes() const { return options_.room; }
  Result<void> Prepare(const Buffer& buffer) const {
    if (!entries_) return Error::kShutDown;
    if (buffer.data == nullptr || buffer.size < options_.room ||
        buffer.address.value() % Format::kAlignment != 0) {
      return Error::kInvalidArgument;
    }
    return Ok();
  }
  // kOutOfRange for an I/O address that a descriptor cannot name, the mapper's
  // errors for the ring's memory. REQUIRES: !full().
  Result<void> Push(RxArmed* armed);

  // The doorbell publishes.
  Result<void> Publish() { return entries_ ? Ok() : Error::kShutDown; }

  bool TakeDoorbell() {
    const std::uint32_t owed = armed_ - open_;
    const std::uint32_t batch = options_.doorbell_batch;
    const std::uint32_t frame = options_.max_parts;
    const std::uint32_t needed = batch < frame ? frame : batch;
    if (owed == 0 || (owed < batch && open_ >= needed)) return false;
    DmaWriteBarrier();  // the descriptors before the tail
    open_ = armed_;
    return true;
  }

  RxFound Look() {
    if (complete_) return {RxLook::kComplete, 0};
    if (open_ == 0) return {RxLook::kAtStop, 0};
    if (!done_) {
      if (!SyncField(Format::kStatus).ok()) return {RxLook::kFailed, 0};
      status_ = Format::LoadStatus(Descriptor(head_));
      done_ = Format::IsComplete(status_);
      if (!done_) return {RxLook::kNothing, 0};
    }
    DmaReadBarrier();  // the count is younger than the status
    // A failed sync here must not become a frame without an end.
    if (!SyncField(Format::kCount).ok()) return {RxLook::kFailed, 0};
    complete_ = true;
    return {RxLook::kComplete, 0};
  }

  Result<Completion> Snapshot() {
    return Format::Snapshot(Descriptor(head_), status_);
  }

  // REQUIRES: open() != 0.
  RxArmed* Pop() {
    DMAMAP_ASSERT(open_ != 0);
    RxArmed* const popped = std::exchange(entries_[head_], nullptr);
    done_ = complete_ = false;
    head_ = Wrapped(head_ + 1);
    --armed_;
    --open_;
    return popped;
  }

  // The descriptors some lines ahead, and the frame behind the head's: the
  // first bytes of a frame are what the sink looks at.
  void Prefetch() const {
    constexpr std::uint32_t kLine = kCacheLine / Format::kDescriptorBytes;
    if (head_ % kLine == 0)
      __builtin_prefetch(Descriptor(Wrapped(head_ + kLine)));
    const RxArmed* const next = entries_[Wrapped(head_ + 1)];
    if (next != nullptr) __builtin_prefetch(next->buffer.data);
  }

  // Pops everything and hands each to give_back(RxArmed*).
  template <class GiveBack>
  void Clear(GiveBack&& give_back) {
    open_ = armed_;  // what it was not told of is popped like the rest
    while (!empty()) give_back(Pop());
    head_ = open_ = 0;  // Start puts the device there too
  }

  bool CheckInvariants() const {
    if (!entries_) return armed_ == 0 && open_ == 0;
    if (head_ >= options_.entries || armed_ > options_.entries - 1 ||
        open_ > armed_ || ((done_ || complete_) && open_ == 0)) {
      return false;
    }
    for (std::uint32_t i = 0; i < options_.entries; ++i) {
      const RxArmed* const entry = entries_[Wrapped(head_ + i)];
      if ((i < armed_) != (entry != nullptr)) return false;
      if (i < armed_ && entry->mapping.size == 0) return false;
    }
    return true;
  }

 private:
  // REQUIRES: index < 2 * entries.
  std::uint32_t Wrapped(std::uint32_t index) const {
    return index < options_.entries ? index : index - options_.entries;
  }
  std::byte* Descriptor(std::uint32_t index) const {
    return memory_.cpu() + std::size_t{index} * Format::kDescriptorBytes;
  }
  Result<void> SyncField(Field field) {
    return memory_.SyncForCpu(
        std::uint64_t{head_} * Format::kDescriptorBytes + field.offset,
        field.size);
  }

  RingMemory<MapperType> memory_;
  std::unique_ptr<RxArmed*[]> entries_;
  RxQueueOptions options_;
  std::uint32_t head_ = 0;   // index of the next to complete
  std::uint32_t armed_ = 0;  // entries from head on that hold a buffer
  std::uint32_t open_ = 0;   // of these, what the device was told of
  bool done_ = false;        // the head, and status_ is its snapshot
  bool complete_ = false;    // and its other fields are here too
  typename Format::Status status_{};
};

template <ArrayFormat Format, Mapper MapperType, RxChecks kChecks>
struct RxQueueOf<Format, MapperType, kChecks> {
  using Type = RxArray<Format, MapperType>;
};

template <ArrayFormat Format, Mapper MapperType>
Result<void> RxArray<Format, MapperType>::Push(RxArmed* armed) {
  DMAMAP_ASSERT(!full());
  const std::uint32_t index = Wrapped(head_ + armed_);
  if (armed->iova().value() % Format::kAlignment != 0)
    return Error::kOutOfRange;
  Format::WriteArmed(Descriptor(index), armed->iova());
  const Result<void> synced =
      memory_.SyncForDevice(std::uint64_t{index} * Format::kDescriptorBytes,
                            Format::kDescriptorBytes);
  if (!synced.ok()) return synced;
  entries_[index] = armed;
  ++armed_;
  return Ok();
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_RX_ARRAY_H_
