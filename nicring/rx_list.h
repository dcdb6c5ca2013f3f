// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_RX_LIST_H_
#define DMAMAP_NICRING_RX_LIST_H_

// RxList: the armed descriptors of a receiver that follows a linked list.
//
//   head ...... stop last | tail      positions, counted from 0, never reused
//   may complete  ^closed
//
// Invariant: head <= stop, stop + 2 == published <= tail, tail - head <=
// entries. [head, stop) is open to the device. `stop` has the end bit and size
// 0 (why: i8255x.h); the device never completes it nor sees the last.
// [published, tail) is mapped, but not linked yet.
//
// Everything the ring decides on is private: positions, mappings and what each
// header says. The device's link, command and size are never read back.
//
// Sync discipline, so that all of it works when the device sees a copy (a
// bounce buffer) or a stale cache line:
//   * each field that the driver changes is synced to the device alone, byte
//     exact: a sync of the whole header would carry an old status over one that
//     the device has just written;
//   * the status is synced to the CPU alone, and the count again after a status
//     that says complete. One sync of the header is a copy like any other: it
//     may take the count before, and the status after the device wrote both;
//   * a look that found nothing hands nothing back: the CPU wrote nothing.
//
// A skipped entry. While the stop moves, the device may see the old stop with
// neither end bit nor size, and pass over it. A `suspect` is a former stop for
// which that cannot be excluded; if an entry behind an incomplete suspect is
// complete, and the suspect is incomplete when looked at *again* (it may have
// completed between the two looks), it was skipped.
//
// Not thread-safe; the device may do anything at any time. Every loop is
// bounded by the number of entries.

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
#include "nicring/buffer_pool.h"
#include "nicring/format.h"
#include "nicring/rx_queue.h"

namespace dmamap::inline v0 {

template <ListFormat Format, Mapper MapperType>
class RxList {
 public:
  // One that the device fills, the stop, and the last.
  static constexpr std::uint32_t kMinEntries = 3;
  static constexpr std::uint32_t kMaxEntries = 1u << 20;

  // What the ring asks (nicring/rx_queue.h).
  static constexpr bool kStops = true;
  static constexpr bool kScatters = false;
  static constexpr Direction kDirection = Direction::kBidirectional;
  static constexpr std::uint32_t kHeaderBytes = Format::kHeaderBytes;

  // The two rules of a restart, for a pass that ended with `look`. Tests break
  // each by a list of their own, and find the frames that are lost then.
  //
  // True when it consumed all that the device had completed before the pass.
  static constexpr bool Drains(bool cut, RxLook look) {
    return !cut && (look == RxLook::kNothing || look == RxLook::kAtStop);
  }
  // True when the receiver may be asked now, too, whether it has stopped: with
  // the head at the stop nothing can be complete, whenever that was. Saves an
  // interrupt. After any other look it may have completed entries since.
  static constexpr bool AsksAfter(bool cut, RxLook look) {
    return !cut && look == RxLook::kAtStop;
  }
  // True when the receiver may have stopped before the head without our having
  // been told: it met a former stop there as it was, or, with its end bit still
  // and its size again, filled the last one that was taken out.
  bool MayHaveStopped() const {
    return open() != 0 && (Suspect(head_) || took_stop_);
  }

  RxList() = default;
  RxList(const RxList&) = delete;
  RxList& operator=(const RxList&) = delete;

  // The mapper must outlive the list. kBusy the second time, kInvalidArgument,
  // kLimit for more than kMaxEntries, kNoMemory.
  Result<void> Init(MapperType* mapper, const RxQueueOptions& options) {
    if (entries_) return Error::kBusy;
    if (mapper == nullptr || options.entries < kMinEntries ||
        options.room == 0 || options.room % 2 != 0 ||
        options.room > Format::kMaxFrameBytes) {
      return Error::kInvalidArgument;
    }
    if (options.entries > kMaxEntries) return Error::kLimit;
    // A power of two, so that the slot of a position is a mask away.
    std::uint32_t slots = 4;
    while (slots < options.entries) slots *= 2;
    entries_.reset(new (std::nothrow) Entry[slots]);
    if (!entries_) return Error::kNoMemory;
    mask_ = slots - 1;
    mapper_ = mapper;
    options_ = options;
    return Ok();
  }

  std::uint32_t armed() const { return Narrow(tail_ - head_); }
  bool full() const { return armed() == options_.entries; }
  std::uint32_t vacant() const { return options_.entries - armed(); }
  bool empty() const { return armed() == 0; }
  // Entries that the device may fill.
  std::uint32_t open() const {
    return published_ == 0 ? 0 : Narrow(stop() - head_);
  }
  // Where a receiver is to start. REQUIRES: !empty().
  Iova head_iova() const { return At(head_).armed->iova(); }

  std::uint32_t buffer_bytes() const {
    return Format::kHeaderBytes + options_.room;
  }
  // Writes a blank descriptor. kShutDown, kInvalidArgument for a buffer that is
  // too small or misaligned. This, Push and Publish: rx_list_publish.h
  Result<void> Prepare(const Buffer& buffer) const;

  // Puts a prepared buffer behind the tail; the device learns of it by Publish.
  // kOutOfRange when a link cannot express its I/O address. REQUIRES: !full().
  Result<void> Push(RxArmed* armed);

  // Links what was pushed, and moves the stop. With fewer than kMinEntries in
  // all it does nothing and returns kNoSpace. On a mapper's error the device
  // still sees the old stop, and the next Publish does it all again.
  Result<void> Publish();

  // Looks at the head, and past it if it is a suspect.
  RxFound Look() {
    if (open() == 0) return {RxLook::kAtStop, 0};
    const Result<bool> complete = IsComplete(head_);
    if (!complete.ok()) return {RxLook::kFailed, 0};
    if (*complete) return {RxLook::kComplete, 0};
    if (Suspect(head_)) return LookPast();
    // A head that is no suspect and not complete: the device has not passed
    // it. Every former stop behind it is open by now and will not be skipped.
    safe_ = stop();
    return {RxLook::kNothing, 0};
  }

  // Loads what the device wrote about the head. REQUIRES: Look said kComplete
  // with nothing skipped.
  Result<Completion> Snapshot();

  // Takes the head out of the list. REQUIRES: !empty().
  RxArmed* Pop() {
    DMAMAP_ASSERT(!empty());
    Entry& entry = At(head_);
    took_stop_ = entry.was_stop;
    ++head_;
    return std::exchange(entry, Entry{}).armed;
  }

  // The headers of the next ones, and the frame behind the head's.
  void Prefetch() const {
    const RxArmed* const second = At(head_ + 2).armed;
    if (second != nullptr) __builtin_prefetch(second->buffer.data);
  }

  // After a restart at the head nothing ahead of the device was skipped: saves
  // looks, no more.
  void ForgetSuspects() {
    safe_ = stop();
    took_stop_ = false;
  }

  // Pops everything and hands each to give_back(RxArmed*). The list is
  // empty then and can be built anew. REQUIRES: the device is stopped.
  template <class GiveBack>
  void Clear(GiveBack&& give_back) {
    while (!empty()) give_back(Pop());
    head_ = tail_ = published_ = target_ = safe_ = 0;
    took_stop_ = false;
  }

  // Where in its buffer the data of the head lie, and the bytes offered there.
  std::uint32_t data_offset() const { return Format::kHeaderBytes; }
  std::uint32_t room() const { return options_.room; }

  bool CheckInvariants() const;

 private:
  using Position = std::uint64_t;
  using Status = typename Format::Status;

  struct Entry {
    RxArmed* armed = nullptr;
    Status status{};        // the snapshot, once `complete`
    bool complete = false;  // the device was seen to be done
    bool was_stop = false;  // the device may have met it half open
  };

  static std::uint32_t Narrow(Position n) {
    return static_cast<std::uint32_t>(n);
  }
  Entry& At(Position p) { return entries_[p & mask_]; }
  const Entry& At(Position p) const { return entries_[p & mask_]; }
  Position stop() const { return published_ - 2; }
  bool Suspect(Position p) const { return At(p).was_stop && p >= safe_; }

  Result<void> SyncToDevice(const Entry& entry, Field field) {
    if constexpr (kSyncsNothing<MapperType>) return Ok();
    return mapper_->SyncForDevice(
        entry.armed->mapping, entry.armed->offset + field.offset, field.size);
  }
  Result<void> SyncToCpu(const Entry& entry, Field field) {
    if constexpr (kSyncsNothing<MapperType>) return Ok();
    return mapper_->SyncForCpu(entry.armed->mapping,
                               entry.armed->offset + field.offset, field.size);
  }
  Result<void> RunStep(ListStep step);
  Result<void> Link();
  Result<void> SetEnd(Position p, ListEnd end);
  Result<void> SetSize(Position p, std::uint32_t size);
  Result<bool> IsComplete(Position p);
  [[gnu::noinline]] RxFound LookPast();

  std::unique_ptr<Entry[]> entries_;
  MapperType* mapper_ = nullptr;
  RxQueueOptions options_;
  Position mask_ = 0;       // slots of entries_, less one
  Position head_ = 0;       // the next to complete
  Position tail_ = 0;       // the next to be armed
  Position published_ = 0;  // tail as the device knows it; 0: no list yet
  Position target_ = 0;     // where a failed Publish was going; 0: none
  Position safe_ = 0;       // former stops below it were not skipped
  bool took_stop_ = false;  // what was popped last was a former stop
};

template <ListFormat Format, Mapper MapperType, RxChecks kChecks>
struct RxQueueOf<Format, MapperType, kChecks> {
  using Type = RxList<Format, MapperType>;
};

// Loads the status until it says complete, and never after that.
template <ListFormat Format, Mapper MapperType>
[[gnu::always_inline]] inline Result<bool>
RxList<Format, MapperType>::IsComplete(Position p) {
  Entry& entry = At(p);
  if (entry.complete) return true;
  const Result<void> synced = SyncToCpu(entry, Format::kStatus);
  if (!synced.ok()) return synced.error();
  entry.status = Format::LoadStatus(entry.armed->buffer.data);
  entry.complete = Format::IsComplete(entry.status);
  return entry.complete;
}

// REQUIRES: the head is a suspect, and was not complete.
template <ListFormat Format, Mapper MapperType>
RxFound RxList<Format, MapperType>::LookPast() {
  // First the nearest complete entry; between it and head only suspects.
  Position done = head_ + 1;
  for (; done < stop(); ++done) {
    const Result<bool> complete = IsComplete(done);
    if (!complete.ok()) return {RxLook::kFailed, 0};
    if (*complete) break;
    if (!Suspect(done)) return {RxLook::kNothing, 0};
  }
  if (done == stop()) return {RxLook::kNothing, 0};
  DmaReadBarrier();  // the second looks are younger than the first
  // Frames complete in order: what is not complete *now* was skipped.
  for (Position p = head_; p < done; ++p) {
    const Result<bool> complete = IsComplete(p);
    if (!complete.ok()) return {RxLook::kFailed, 0};
    if (*complete) done = p;
  }
  return {RxLook::kComplete, Narrow(done - head_)};
}

template <ListFormat Format, Mapper MapperType>
Result<Completion> RxList<Format, MapperType>::Snapshot() {
  const Entry& entry = At(head_);
  DmaReadBarrier();  // the count is younger than the status
  const Result<void> synced = SyncToCpu(entry, Format::kCount);
  if (!synced.ok()) return synced.error();
  return Format::Snapshot(entry.armed->buffer.data, entry.status);
}

template <ListFormat Format, Mapper MapperType>
bool RxList<Format, MapperType>::CheckInvariants() const {
  if (!entries_) return head_ == 0 && tail_ == 0 && published_ == 0;
  if (tail_ < head_ || tail_ - head_ > options_.entries) return false;
  if (published_ > tail_) return false;
  if (published_ != 0 && !empty() &&
      (published_ < 2 || head_ > stop() || safe_ > stop())) {
    return false;
  }
  for (Position p = head_; p <= head_ + mask_; ++p) {
    const Entry& entry = At(p);
    const bool armed_here = p < tail_;
    if (armed_here != (entry.armed != nullptr)) return false;
    if (armed_here && entry.armed->mapping.size == 0) return false;
    if (entry.complete && p >= stop()) return false;
  }
  return true;
}

}  // namespace dmamap::inline v0

#include "nicring/rx_list_publish.h"  // IWYU pragma: export

#endif  // DMAMAP_NICRING_RX_LIST_H_
