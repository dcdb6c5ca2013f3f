// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOMMU_SECOND_LEVEL_UNMAP_H_
#define DMAMAP_IOMMU_SECOND_LEVEL_UNMAP_H_

// How what is mapped is looked up, taken out, or given another permission.
// Included by second_level.h alone.
//
// A range in one region is changed under its lock, all or nothing. A longer one
// takes two passes: the first finds every page mapped and splits the leaves of
// which a part stays, which changes no translation; the second cannot fail.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "iommu/second_level.h"

namespace dmamap::inline v0 {

template <BusMemory M, class P>
TableEntry SecondLevel<M, P>::Descend(Iova at, Path* path) {
  path->table = root_;
  for (path->level = options_.levels;; --path->level) {
    Slot& slot = path->table->slots[Index(at, path->level)];
    path->slots[path->level] = &slot;
    const TableEntry entry = Load(slot);
    if (!entry.IsTable(path->level)) return entry;
    path->table = TableOf(entry);
  }
}

template <BusMemory M, class P>
Result<IommuTranslation> SecondLevel<M, P>::Lookup(Iova at) {
  if (memory_ == nullptr) return Error::kShutDown;
  if (at.value() > limit_) return Error::kNotMapped;
  const Guard<LockType> guard(LockOf(at));
  Path path;
  const TableEntry entry = Descend(at, &path);
  if (!entry.present()) return Error::kNotMapped;
  const std::uint64_t offset = at.value() & (Size(path.level) - 1);
  return IommuTranslation{entry.address() + offset, entry.permission(),
                          path.level};
}

template <BusMemory M, class P>
Result<void> SecondLevel<M, P>::Unmap(Range range) {
  if (const auto checked = CheckRange(range); !checked.ok()) return checked;
  Result<void> done;
  const bool one = RegionOf(range.first()) == RegionOf(range.last());
  if (one && UnmapInPlace(range, &done)) return done;
  Stash stash;
  if (!one) {
    done = ForEachPiece(range, Change::kCheck, Permission::kNone, &stash);
  }
  if (done.ok()) {
    done = ForEachPiece(range, Change::kClear, Permission::kNone, &stash);
  }
  Release(&stash);
  return done;
}

// A part of the table that was last used under the lock. False: it is not, or
// would be empty, which takes the whole path (Drop); nothing was done.
template <BusMemory M, class P>
bool SecondLevel<M, P>::UnmapInPlace(Range range, Result<void>* error) {
  auto& lane = LaneOf(range.first());
  const Guard<LockType> guard(lane.lock);
  Piece piece{range.first(), range.size()};
  if (!lane.Knows(RegionOf(piece.at)) ||
      Load(*lane.above).count() <= piece.bytes >> kPage.shift()) {
    return false;
  }
  Path path;
  path.table = lane.pages;
  path.slots[2] = lane.above;
  (void)ChangePages(path, &piece, Change::kClear, Permission::kNone, error);
  return true;
}

template <BusMemory M, class P>
Result<void> SecondLevel<M, P>::Protect(Range range, Permission permission) {
  if (permission == Permission::kNone || !IsValid(permission)) {
    return Error::kInvalidArgument;
  }
  if (const auto checked = CheckRange(range); !checked.ok()) return checked;
  Stash stash;
  Result<void> done = ForEachPiece(range, Change::kCheck, permission, &stash);
  if (done.ok()) {
    done = ForEachPiece(range, Change::kProtect, permission, &stash);
  }
  Release(&stash);
  return done;
}

template <BusMemory M, class P>
Result<void> SecondLevel<M, P>::ForEachPiece(Range range, Change change,
                                             Permission permission,
                                             Stash* stash) {
  const std::uint64_t size = range.size();
  Result<void> done;
  for (std::uint64_t over = 0; done.ok() && over < size;) {
    Piece piece{range.first() + over, size - over};
    Step step;
    {
      const Guard<LockType> guard(LockOf(piece.at));
      step = ChangePiece(&piece, change, permission, stash, &done);
    }
    over += piece.done;
    if (step == Step::kNeedsPage) done = Grow(stash);
  }
  return done;
}

template <BusMemory M, class P>
auto SecondLevel<M, P>::ChangePiece(Piece* piece, Change change,
                                    Permission permission, Stash* stash,
                                    Result<void>* error) -> Step {
  Path path;
  const TableEntry entry = Descend(piece->at, &path);
  if (path.level == 1) {
    LaneOf(piece->at).Remember(RegionOf(piece->at), path.table, path.slots[2]);
  }
  if (!entry.present()) {
    *error = Error::kNotMapped;
    return Step::kDone;
  }
  if (path.level == 1) {
    return ChangePages(path, piece, change, permission, error);
  }
  if (!IsWhole(path.level, piece->at.value(), piece->bytes)) {
    return Split(path, entry, piece->at, stash);
  }
  return ChangeLeaf(path, entry, piece, change, permission, stash);
}

template <BusMemory M, class P>
auto SecondLevel<M, P>::ChangePages(Path& path, Piece* piece, Change change,
                                    Permission permission, Result<void>* error)
    -> Step {
  const std::size_t first = Index(piece->at, 1);
  const std::uint64_t n =
      std::min(kEntries - first, piece->bytes >> kPage.shift());
  Slot* const slots = &path.table->slots[first];
  // relaxed, all: slots of a region change under its lock only; an invalidation
  // orders what the device sees.
  for (std::uint64_t i = 0; i < n; ++i) {
    if (!TableEntry(slots[i].load(std::memory_order_relaxed)).present()) {
      *error = Error::kNotMapped;
      return Step::kDone;
    }
  }
  piece->done = n << kPage.shift();
  if (change == Change::kCheck) return Step::kDone;
  for (std::uint64_t i = 0; i < n; ++i) {
    const TableEntry old(slots[i].load(std::memory_order_relaxed));
    const TableEntry now =
        change == Change::kClear ? TableEntry() : old.With(permission);
    slots[i].store(now.bits(), std::memory_order_relaxed);
  }
  WriteBack(slots, n * sizeof(Slot));
  if (change == Change::kClear) Drop(path, 2, n, piece->at);
  return Step::kDone;
}

// A large leaf, all of it.
template <BusMemory M, class P>
auto SecondLevel<M, P>::ChangeLeaf(Path& path, TableEntry leaf, Piece* piece,
                                   Change change, Permission permission,
                                   Stash* stash) -> Step {
  if (change != Change::kCheck) {
    const TableEntry now =
        change == Change::kClear ? TableEntry() : leaf.With(permission);
    if (!Replace(*path.slots[path.level], path.level, leaf, now)) {
      return Step::kRetry;
    }
  }
  piece->done = Size(path.level);
  if (change == Change::kClear) {
    if (leaf.has_spare()) {
      // A Split that came too late gives back what it took first.
      const Guard<LockType> guard(retired_.lock());
      for (std::uint64_t n = SparesOf(leaf); n != 0; --n) {
        Push(stash, TakeSpare());
      }
    }
    Drop(path, path.level + 1, 1, piece->at);
  }
  return Step::kDone;
}

// A leaf becomes a table of the next smaller ones, which say the same. Under
// the lock of the retired, as in RetireSlot: hardware may remember the leaf
// from now on; and nobody else splits the same leaf of level 3 meanwhile.
template <BusMemory M, class P>
auto SecondLevel<M, P>::Split(Path& path, TableEntry leaf, Iova at,
                              Stash* stash) -> Step {
  if (!leaf.has_spare() && stash->count == 0) return Step::kNeedsPage;
  const unsigned below = path.level - 1;
  const std::uint64_t spare = leaf.has_spare_below() ? TableEntry::kSpare : 0;
  const Guard<LockType> guard(retired_.lock());
  if (!(Load(*path.slots[path.level]) == leaf)) return Step::kRetry;
  Table* const table = leaf.has_spare() ? TakeSpare() : Pop(stash);
  for (std::size_t i = 0; i < kEntries; ++i) {
    const TableEntry part =
        TableEntry::Leaf(leaf.address() + std::uint64_t{i} * Size(below),
                         leaf.permission(), below);
    // relaxed: nobody can find the table before Exchange.
    table->slots[i].store(part.bits() | spare, std::memory_order_relaxed);
  }
  WriteBack(table, sizeof *table);
  if (retired_.NoteSplit(CoveredBy(path.level, at))) {
    // relaxed: before E3; see TakeRetired.
    split_notes_.fetch_add(1, std::memory_order_relaxed);
  }
  if (Exchange(*path.slots[path.level], leaf,
               TableEntry::Table(BusOf(table), kEntries))) {
    Add(splits_, 1);
    return Step::kRetry;
  }
  // Another's by now, whose range is not disjoint.
  for (Slot& slot : table->slots) slot.store(0, std::memory_order_relaxed);
  if (leaf.has_spare()) {
    KeepSpare(table);
  } else {
    Push(stash, table);
  }
  return Step::kRetry;
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOMMU_SECOND_LEVEL_UNMAP_H_
