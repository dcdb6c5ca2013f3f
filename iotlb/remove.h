// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_REMOVE_H_
#define DMAMAP_IOTLB_REMOVE_H_

// The ways of removing from an IOTLB. Included by iotlb/iotlb.h alone.
//
// Splitting replaces a mapping by its pieces, as merging does (add.h): they go
// live before it dies.

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
Result<std::size_t> BasicIotlb<P>::Remove(Range range, RemoveMode mode) {
  Result<std::size_t> count = std::size_t{0};
  {
    Guard guard(core_.lock());
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
    ++core_.removed();
    return 1;
  }
  return RemoveEach(range);
}

// Out of line: the common removal needs no walk, nor room for one.
template <class P>
std::size_t BasicIotlb<P>::RemoveEach(Range range) {
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
  core_.removed() += count;
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
      core_.size() + pieces - count > options_.limit) {
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
  core_.removed() += count;
  while (options_.limit != 0 && core_.size() > options_.limit) {
    Withdraw(oldest_);
    ++stats_.retired;
  }
  stats_.peak_entries = std::max(stats_.peak_entries, core_.size());  // splits
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
  bool in_place = false;
  Record *const piece = core_.Prepare(entry, in_place);
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
    Guard guard(core_.lock());
    if (!ready_) return Error::kShutDown;
    found = FindExact(range, token);
    if (found == nullptr) return Error::kNotMapped;
    value = found->entry();
    Withdraw(found);
    ++core_.removed();
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
    Guard guard(core_.lock());
    Withdraw(entry.record());
    ++core_.removed();
  }
  Settled(1, mode);
  return value;
}

template <class P>
void BasicIotlb<P>::Clear(RemoveMode mode) {
  std::size_t count = 0;
  {
    Guard guard(core_.lock());
    count = core_.size();
    oldest_ = newest_ = nullptr;
    core_.removed() += count;
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

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_REMOVE_H_
