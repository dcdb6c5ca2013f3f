// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_ADD_H_
#define DMAMAP_IOTLB_ADD_H_

// What starts and fills an IOTLB: Init, Add and what the policies make of it;
// and its invariants. Included by iotlb/iotlb.h alone.
//
// Merging replaces mappings by another of the same bytes. The new one goes live
// before the old ones leave the tree, these die behind that, and both say the
// same of each byte, so that a reader never misses a byte that stays mapped
// (tree_walk.h); only how far the mapping goes (bytes_minus_one) may be told by
// the one or the other meanwhile.

#include <algorithm>
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
  Guard guard(core_.lock());
  if (ready_) return Error::kBusy;
  if (options.limit_policy > LimitPolicy::kRetireOldest ||
      options.overlap_policy > OverlapPolicy::kRefuse ||
      options.remove_policy > RemovePolicy::kSplit ||
      options.merge_policy > MergePolicy::kMerge ||
      options.front_policy > FrontPolicy::kOff) {
    return Error::kInvalidArgument;
  }
  if (!misses_.Init(options.pending_misses)) return Error::kNoMemory;
  const Result<void> dirty =
      dirty_.Init(options.dirty_window, options.dirty_page);
  if (!dirty.ok()) {
    misses_.Release();
    return dirty;
  }
  if (options.front_policy == FrontPolicy::kOff) core_.SwitchFrontOff();
  options_ = options;
  ready_ = true;
  return Ok();
}

// --- Add

template <class P>
Result<void> BasicIotlb<P>::Add(const IotlbEntry &entry) {
  Guard guard(core_.lock());
  const Result<void> added = AddLocked(entry);
  // Under the lock: a miss that is reported once the mapping has gone again is
  // another one, which this mapping does not answer.
  if (added.ok()) {
    (void)misses_.Answer(entry.range, kPage, entry.permission);
  }
  return added;
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
      options_.limit != 0 && core_.size() + 1 - joined.count() > options_.limit;
  if (at_limit && !retires()) {
    ++stats_.refused_limit;
    return Error::kLimit;
  }
  const bool simple = !at_limit && joined.count() == 0;
  if (!(simple ? core_.ReserveFor(entry.range) : core_.Reserve(1))) {
    return Error::kNoMemory;
  }
  if (at_limit) {
    Withdraw(oldest_);
    ++stats_.retired;
  }
  if (joined.count() != 0) {
    Join(entry, joined);
  } else {
    Enter(entry);
  }
  ++core_.added();
  stats_.peak_entries = std::max(stats_.peak_entries, core_.size());
  return Ok();
}

// REQUIRES: reserved.
template <class P>
void BasicIotlb<P>::Enter(const IotlbEntry &entry) {
  bool in_place = false;
  Record *const record = core_.Prepare(entry, in_place);
  const bool alone = in_place || !core_.EnterFront(record);
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
  bool in_place = false;
  Record *const record = core_.Prepare(whole, in_place);
  // No hint on the old ones outlives this.
  if (joined.before != nullptr) joined.before->MarkOverlapped();
  if (joined.behind != nullptr) joined.behind->MarkOverlapped();
  (void)core_.EnterFront(record, joined.before, joined.behind);
  core_.GoLive(record);
  LinkNewest(record);
  core_.CountJoin(*record);
  for (Record *const old : {joined.before, joined.behind}) {
    if (old == nullptr) continue;
    Unlink(old);
    core_.Replace(old);
  }
  stats_.merges += joined.count();
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
  Guard guard(core_.lock());
  if (!ready_ && core_.size() != 0) return false;
  if (!core_.CheckInvariants()) return false;
  if (options_.limit != 0 && core_.size() > options_.limit) return false;
  return CheckAgeOrder() && CheckOverlapPolicy();
}

template <class P>
bool BasicIotlb<P>::CheckAgeOrder() const {
  std::size_t count = 0;
  const Record *older = nullptr;
  for (const Record *r = oldest_; r != nullptr; r = r->newer) {
    // The count ends the loop if the list has a ring.
    if (r->dead() || r->older != older || ++count > core_.size()) {
      return false;
    }
    if (older != nullptr && older->id() >= r->id()) return false;
    older = r;
  }
  return older == newest_ && count == (retires() ? core_.size() : 0);
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

#endif  // DMAMAP_IOTLB_ADD_H_
