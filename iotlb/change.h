// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_CHANGE_H_
#define DMAMAP_IOTLB_CHANGE_H_

// What changes an IOTLB: Add, the ways of removing, and what the policies make
// of them. Included by iotlb/iotlb.h alone.
//
// Splitting and merging replace mappings by others of the same bytes. The new
// ones go live before the old ones die, and both say the same of each byte, so
// that a reader never misses a byte that stays mapped; only how far the mapping
// goes (bytes_minus_one) may be told by the one or the other meanwhile.

#include <cstddef>
#include <cstdint>

#include "dma/address.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "iotlb/iotlb.h"
#include "iotlb/mapping.h"

namespace dmamap::inline v0 {

template <class P>
Result<void> BasicIotlb<P>::Init(const IotlbOptions &options) {
  Guard guard(lock_);
  if (ready_) return Error::kBusy;
  if (options.limit_policy > LimitPolicy::kRetireOldest ||
      options.overlap_policy > OverlapPolicy::kRefuse ||
      options.remove_policy > RemovePolicy::kSplit ||
      options.merge_policy > MergePolicy::kMerge ||
      options.front_policy > FrontPolicy::kOff) {
    return Error::kInvalidArgument;
  }
  const Result<void> dirty =
      dirty_.Init(options.dirty_window, options.dirty_page);
  if (!dirty.ok() && dirty.error() != Error::kBusy) return dirty;
  if (!misses_.Init(options.pending_misses)) return Error::kNoMemory;
  if (options.front_policy == FrontPolicy::kOff) core_.SwitchFrontOff();
  options_ = options;
  ready_ = true;
  return Ok();
}

// --- Add

template <class P>
Result<void> BasicIotlb<P>::Add(const IotlbEntry &entry) {
  {
    Guard guard(lock_);
    const Result<void> added = AddLocked(entry);
    if (!added.ok()) return added;
  }
  (void)misses_.Answer(entry.range, kPage, entry.permission);
  return Ok();
}

template <class P>
Result<void> BasicIotlb<P>::AddLocked(const IotlbEntry &entry) {
  if (!ready_) return Error::kShutDown;
  const Result<void> valid = Validate(entry);
  if (!valid.ok()) return valid;
  const bool asks =
      merges() || options_.overlap_policy == OverlapPolicy::kRefuse;
  const bool free = asks && core_.IsFree(entry.range);
  if (options_.overlap_policy == OverlapPolicy::kRefuse && !free) {
    ++stats_.refused_overlap;
    return Error::kOverlap;
  }
  const Neighbours joined = NeighboursOf(entry, free);
  const bool at_limit =
      options_.limit != 0 && size() + 1 - joined.count() > options_.limit;
  if (at_limit && !retires()) {
    ++stats_.refused_limit;
    return Error::kLimit;
  }
  if (!core_.Reserve(1)) return Error::kNoMemory;
  if (at_limit) {
    Withdraw(oldest_);
    ++stats_.retired;
  }
  if (joined.count() != 0) {
    Join(entry, joined);
  } else {
    Enter(entry);
  }
  ++stats_.added;
  if (size() > stats_.peak_entries) stats_.peak_entries = size();
  return Ok();
}

// REQUIRES: reserved.
template <class P>
void BasicIotlb<P>::Enter(const IotlbEntry &entry) {
  Record *const record = core_.Prepare(entry);
  const bool alone = !core_.EnterFront(record);
  if (!alone && options_.overlap_policy == OverlapPolicy::kAllow) {
    core_.MarkOverlaps(record);
  }
  core_.GoLive(record);
  LinkNewest(record);
}

template <class P>
typename BasicIotlb<P>::Neighbours BasicIotlb<P>::NeighboursOf(
    const IotlbEntry &entry, bool free) const {
  Neighbours found;
  if (!merges() || !free) return found;
  found.before = Continuing(entry, true);
  found.behind = Continuing(entry, false);
  return found;
}

// The mapping right before (or behind) `entry` that may be joined with it.
template <class P>
typename BasicIotlb<P>::Record *BasicIotlb<P>::Continuing(
    const IotlbEntry &entry, bool before) const {
  const Iova edge = before ? entry.range.first() : entry.range.last();
  if (edge == (before ? Iova::Min() : Iova::Max())) return nullptr;
  const std::uint64_t at = before ? edge.value() - 1 : edge.value() + 1;
  Walk walk(core_.tree(), at, at);
  Record *const other = walk.NextRecord();
  // What overlaps another mapping is not joined, so that the first will do.
  if (other == nullptr || other->overlapped()) return nullptr;
  const IotlbEntry value = other->entry();
  const bool fits = before ? Continues(value, entry) : Continues(entry, value);
  return fits ? other : nullptr;
}

template <class P>
void BasicIotlb<P>::Join(const IotlbEntry &entry, const Neighbours &joined) {
  IotlbEntry whole = entry;
  const IotlbEntry first =
      joined.before != nullptr ? joined.before->entry() : entry;
  const Iova last = joined.behind != nullptr ? Iova(joined.behind->last())
                                             : entry.range.last();
  whole.address = first.address;
  whole.range =
      Range::FromFirstLast(first.range.first(), last).value_or(entry.range);
  Record *const record = core_.Prepare(whole);
  // No hint on the old ones outlives this.
  if (joined.before != nullptr) joined.before->MarkOverlapped();
  if (joined.behind != nullptr) joined.behind->MarkOverlapped();
  core_.EnterFront(record, joined.before, joined.behind);
  core_.GoLive(record);
  LinkNewest(record);
  if (joined.before != nullptr) Withdraw(joined.before);
  if (joined.behind != nullptr) Withdraw(joined.behind);
  stats_.merges += joined.count();
}

// --- Remove

template <class P>
Result<std::size_t> BasicIotlb<P>::Remove(Range range, RemoveMode mode) {
  Result<std::size_t> count = std::size_t{0};
  {
    Guard guard(lock_);
    count = RemoveLocked(range);
  }
  if (count.ok()) Settled(*count, mode);
  return count;
}

template <class P>
Result<std::size_t> BasicIotlb<P>::RemoveLocked(Range range) {
  if (options_.remove_policy == RemovePolicy::kSplit) {
    return RemoveCutting(range);
  }
  return RemoveWhole(range);
}

template <class P>
std::size_t BasicIotlb<P>::RemoveWhole(Range range) {
  if (Record *const only = core_.OnlyOverlapping(range)) {
    Withdraw(only);
    ++stats_.removed;
    return 1;
  }
  std::size_t count = 0;
  Walk walk(core_.tree(), range.first().value(), range.last().value());
  Record *record = walk.NextRecord();
  while (record != nullptr) {
    ++count;
    // The walk finds its place again after the change.
    Record *const next = walk.NextRecord();
    Withdraw(record);
    record = next;
  }
  stats_.removed += count;
  return count;
}

template <class P>
Result<std::size_t> BasicIotlb<P>::RemoveCutting(Range range) {
  const std::uint64_t first = range.first().value();
  const std::uint64_t last = range.last().value();
  std::size_t count = 0, pieces = 0;
  Walk look(core_.tree(), first, last);
  while (const Record *const record = look.NextRecord()) {
    ++count;
    pieces +=
        (record->first() < first ? 1u : 0u) + (record->last() > last ? 1u : 0u);
  }
  if (options_.limit != 0 && !retires() &&
      size() + pieces - count > options_.limit) {
    return Error::kLimit;
  }
  if (pieces != 0 && !core_.Reserve(pieces)) return Error::kNoMemory;
  // Pieces lie outside of the range: the walk does not meet them.
  Walk walk(core_.tree(), first, last);
  Record *record = walk.NextRecord();
  while (record != nullptr) {
    Record *const next = walk.NextRecord();
    Cut(record, range);
    record = next;
  }
  stats_.removed += count;
  while (options_.limit != 0 && size() > options_.limit) {
    Withdraw(oldest_);
    ++stats_.retired;
  }
  return count;
}

// Takes `range` out of a mapping that overlaps it. REQUIRES: reserved.
template <class P>
void BasicIotlb<P>::Cut(Record *record, Range range) {
  Record *left = nullptr;
  Record *right = nullptr;
  if (record->first() < range.first().value()) {
    left = Piece(*record, Iova(record->first()), range.first() - 1);
  }
  if (record->last() > range.last().value()) {
    right = Piece(*record, range.last() + 1, Iova(record->last()));
  }
  if (left == nullptr && right == nullptr) {
    Withdraw(record);
    return;
  }
  ++stats_.splits;
  Unlink(record);
  core_.Kill(record);
  core_.LeaveTree(record);
  if (left != nullptr) (void)core_.EnterFront(left, record, nullptr, right);
  if (right != nullptr) (void)core_.EnterFront(right, record, nullptr, left);
  core_.LeaveFront(record);
  core_.Free(record);
}

// A live mapping of a part of `record`; the front does not know it yet, but it
// leads to the tree once `record` is dead.
template <class P>
typename BasicIotlb<P>::Record *BasicIotlb<P>::Piece(const Record &record,
                                                     Iova first, Iova last) {
  IotlbEntry entry = record.entry();
  entry.address = entry.address + (first - entry.range.first());
  entry.range = Range::FromFirstLast(first, last).value_or(entry.range);
  Record *const piece = core_.Prepare(entry);
  if (record.overlapped()) piece->MarkOverlapped();
  core_.GoLive(piece);
  LinkNewest(piece);
  return piece;
}

template <class P>
Result<IotlbEntry> BasicIotlb<P>::RemoveExact(Range range, std::uint64_t token,
                                              RemoveMode mode) {
  Record *found = nullptr;
  IotlbEntry value;
  {
    Guard guard(lock_);
    if (!ready_) return Error::kShutDown;
    found = FindExact(range, token);
    if (found == nullptr) return Error::kNotMapped;
    value = found->entry();
    Withdraw(found);
    ++stats_.removed;
  }
  Settled(1, mode);
  return value;
}

template <class P>
typename BasicIotlb<P>::Record *BasicIotlb<P>::FindExact(
    Range range, std::uint64_t token) const {
  const auto is_it = [&](const Record &record) {
    return !record.dead() && record.first() == range.first().value() &&
           record.last() == range.last().value() && record.token() == token;
  };
  if (Record *const only = core_.OnlyOverlapping(range)) {
    return is_it(*only) ? only : nullptr;
  }
  typename Core::Tree::Path path;
  const std::uint64_t first = range.first().value();
  if (path.Before(core_.tree().root(), first) != internal::Reached::kSlot) {
    return nullptr;
  }
  while (path.NextReaching(0) == internal::Reached::kSlot &&
         path.leaf()->first_at(path.index(0)) == first) {
    auto *const record =
        static_cast<Record *>(path.leaf()->slot_at(path.index(0)));
    if (is_it(*record)) return record;
  }
  return nullptr;
}

template <class P>
IotlbEntry BasicIotlb<P>::RemoveEntry(const EntryRef &entry, RemoveMode mode) {
  const IotlbEntry value = *entry;
  {
    Guard guard(lock_);
    Withdraw(entry.record());
    ++stats_.removed;
  }
  Settled(1, mode);
  return value;
}

template <class P>
void BasicIotlb<P>::Clear(RemoveMode mode) {
  const std::size_t count = size();
  {
    Guard guard(lock_);
    oldest_ = newest_ = nullptr;
    stats_.removed += count;
    core_.Clear();
  }
  Settled(count, mode);
}

template <class P>
void BasicIotlb<P>::Withdraw(Record *record) {
  Unlink(record);
  core_.Kill(record);
  core_.Bury(record);
}

// The end of a removal, without the lock.
template <class P>
void BasicIotlb<P>::Settled(std::size_t removed, RemoveMode mode) {
  if (removed == 0 || mode == RemoveMode::kDeferred) return;
  if (!registry_.IsUnused()) Synchronize();
}

// --- The list in order of Add, where the limit retires.

template <class P>
void BasicIotlb<P>::LinkNewest(Record *record) {
  if (!retires()) return;
  record->older = newest_;
  record->newer = nullptr;
  (newest_ == nullptr ? oldest_ : newest_->newer) = record;
  newest_ = record;
}
template <class P>
void BasicIotlb<P>::Unlink(Record *record) {
  if (!retires()) return;
  (record->older == nullptr ? oldest_ : record->older->newer) = record->newer;
  (record->newer == nullptr ? newest_ : record->newer->older) = record->older;
}

// --- Invariants

template <class P>
bool BasicIotlb<P>::CheckInvariants() const {
  if (!ready_ && size() != 0) return false;
  if (!core_.CheckInvariants()) return false;
  if (options_.limit != 0 && size() > options_.limit) return false;
  return CheckAgeOrder() && CheckOverlapPolicy();
}

template <class P>
bool BasicIotlb<P>::CheckAgeOrder() const {
  std::size_t count = 0;
  const Record *older = nullptr;
  for (const Record *r = oldest_; r != nullptr; r = r->newer) {
    // The count ends the loop if the list has a ring.
    if (r->dead() || r->older != older || ++count > size()) return false;
    if (older != nullptr && older->id() >= r->id()) return false;
    older = r;
  }
  return older == newest_ && count == (retires() ? size() : 0);
}

template <class P>
bool BasicIotlb<P>::CheckOverlapPolicy() const {
  if (options_.overlap_policy == OverlapPolicy::kAllow) return true;
  bool any = false, disjoint = true;
  Iova last;
  ForEach([&](const IotlbEntry &entry) {
    disjoint = disjoint && !(any && last >= entry.range.first());
    last = entry.range.last();
    any = true;
  });
  return disjoint;
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_CHANGE_H_
