// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOMMU_SECOND_LEVEL_MAP_H_
#define DMAMAP_IOMMU_SECOND_LEVEL_MAP_H_

// How a range is entered into the tables, piece by piece: a piece lies in one
// region, or is one leaf of 1 GiB. Included by second_level.h alone.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "iommu/second_level.h"

namespace dmamap::inline v0 {

template <BusMemory M, class P>
Result<void> SecondLevel<M, P>::CheckRange(Range range) const {
  if (memory_ == nullptr) return Error::kShutDown;
  if (!range.IsPageAligned(kPage)) return Error::kInvalidArgument;
  return range.last().value() <= limit_ ? Ok()
                                        : Result<void>(Error::kOutOfRange);
}

template <BusMemory M, class P>
Result<void> SecondLevel<M, P>::Map(Range range, PhysAddr bus,
                                    Permission permission,
                                    std::uint64_t* mapped) {
  *mapped = 0;
  if (permission == Permission::kNone || !IsValid(permission) ||
      !kPage.IsAligned(bus.value())) {
    return Error::kInvalidArgument;
  }
  if (const auto checked = CheckRange(range); !checked.ok()) return checked;
  const Result<PhysAddr> last = bus.CheckedAdd(range.size_minus_one());
  if (!last.ok() || (last->value() >> options_.bus_bits) != 0) {
    return Error::kOutOfRange;
  }
  const std::uint64_t size = range.size();  // not 2^64: limit() is below
  Result<void> done;
  Piece quick{range.first(), size};
  if (MapInPlace(&quick, bus, permission, &done)) {
    *mapped = quick.done;
    if (quick.level != 0 && options_.merges) Merge(quick.at, quick.level + 1);
    if (!done.ok() || *mapped == size) return done;
  }
  Stash stash;
  bool cleared = false;
  while (done.ok() && *mapped < size) {
    Piece piece{range.first() + *mapped, size - *mapped};
    Step step;
    {
      const Guard<LockType> guard(LockOf(piece.at));
      step = MapPiece(&piece, bus + *mapped, permission, &stash, &done);
    }
    *mapped += piece.done;
    if (step == Step::kNeedsPage) done = Grow(&stash);
    if (step == Step::kNeedsSlot) {
      // A table where a leaf could be: of what is mapped there, or empty.
      if (cleared) done = Error::kOverlap;
      if (!cleared) ClearSlot(piece.level, piece.at);
      cleared = true;
    } else if (piece.done != 0) {
      cleared = false;
      if (piece.level != 0 && options_.merges) Merge(piece.at, piece.level + 1);
    }
  }
  Release(&stash);
  return done;
}

// MapPiece where all tables are there: most calls. False: they are not, or it
// is not so simple; nothing was done.
template <BusMemory M, class P>
bool SecondLevel<M, P>::MapInPlace(Piece* piece, PhysAddr bus,
                                   Permission permission, Result<void>* error) {
  const bool large = piece->bytes >= Size(2);
  if (large && LeafFits(3, piece->at, bus, piece->bytes)) return false;
  const unsigned leaf =
      large && LeafFits(2, piece->at, bus, piece->bytes) ? 2 : 1;
  auto& lane = LaneOf(piece->at);
  const Guard<LockType> guard(lane.lock);
  if (leaf == 1 && lane.Knows(RegionOf(piece->at))) {
    FillPages(*lane.pages, *lane.above, piece, bus, permission, error);
    return true;
  }
  Path path;
  path.table = root_;
  for (path.level = options_.levels;; --path.level) {
    Slot& slot = path.table->slots[Index(piece->at, path.level)];
    path.slots[path.level] = &slot;
    if (path.level == leaf) break;
    const TableEntry entry = Load(slot);
    if (!entry.IsTable(path.level)) return false;
    path.table = TableOf(entry);
  }
  if (leaf == 1) {
    lane.Remember(RegionOf(piece->at), path.table, path.slots[2]);
  }
  return FillSlots(path, false, piece, bus, permission, error) == Step::kDone;
}

template <BusMemory M, class P>
auto SecondLevel<M, P>::MapPiece(Piece* piece, PhysAddr bus,
                                 Permission permission, Stash* stash,
                                 Result<void>* error) -> Step {
  Path path;
  path.table = root_;
  bool pinned = true;  // the first table is never taken out
  for (path.level = options_.levels;; --path.level) {
    Slot& slot = path.table->slots[Index(piece->at, path.level)];
    path.slots[path.level] = &slot;
    const TableEntry entry = Load(slot);
    if (LeafFits(path.level, piece->at, bus, piece->bytes)) {
      return FillSlots(path, pinned, piece, bus, permission, error);
    }
    if (!entry.present()) {
      // One for each level from here to the leaf, before the first is placed:
      // one that is placed and left empty would be taken out again.
      if (stash->count < path.level - LeafLevel(path.level, *piece, bus)) {
        if (pinned) Drop(path, path.level + 1, 1, piece->at);
        return Step::kNeedsPage;
      }
      const Step step =
          PlaceTable(path, pinned, entry, piece, bus, permission, stash);
      if (step != Step::kDone || path.level == 2) return step;
      pinned = true;
      path.table = TableOf(Load(slot));
      continue;
    }
    // Whoever placed this one has counted it.
    if (pinned) Drop(path, path.level + 1, 1, piece->at);
    if (entry.IsLeaf(path.level)) {
      *error = Error::kOverlap;
      return Step::kDone;
    }
    pinned = false;
    path.table = TableOf(entry);
  }
}

// An empty slot gets a table: of pages, filled, or of tables, counted for the
// one that will be placed there next.
template <BusMemory M, class P>
auto SecondLevel<M, P>::PlaceTable(Path& path, bool pinned, TableEntry seen,
                                   Piece* piece, PhysAddr bus,
                                   Permission permission, Stash* stash)
    -> Step {
  if (!pinned && !Pin(path)) return Step::kRetry;
  Slot& slot = *path.slots[path.level];
  Table* const table = Pop(stash);
  if (path.level > 2) {
    WriteBack(table, sizeof *table);
    if (Exchange(slot, seen, TableEntry::Table(BusOf(table), 1))) {
      return Step::kDone;
    }
    Push(stash, table);
    Drop(path, path.level + 1, 1, piece->at);
    return Step::kRetry;
  }
  const std::size_t first = Index(piece->at, 1);
  const std::uint64_t n =
      std::min(kEntries - first, piece->bytes >> kPage.shift());
  for (std::uint64_t i = 0; i < n; ++i) {
    // relaxed: nobody can find the table before Store.
    table->slots[first + i].store(
        TableEntry::Leaf(bus + (i << kPage.shift()), permission, 1).bits(),
        std::memory_order_relaxed);
  }
  WriteBack(table, sizeof *table);
  Store(slot, TableEntry::Table(BusOf(table), n));
  piece->done = n << kPage.shift();
  piece->level = n == kEntries ? 1 : 0;
  return Step::kDone;
}

// Leaves for the slot, or, of a table of pages, for as many as there are.
template <BusMemory M, class P>
auto SecondLevel<M, P>::FillSlots(Path& path, bool pinned, Piece* piece,
                                  PhysAddr bus, Permission permission,
                                  Result<void>* error) -> Step {
  Slot& slot = *path.slots[path.level];
  if (path.level > 1) {
    const TableEntry entry = Load(slot);
    if (entry.present()) {
      if (pinned) Drop(path, path.level + 1, 1, piece->at);
      if (entry.IsTable(path.level)) {
        piece->level = path.level;
        return Step::kNeedsSlot;
      }
      *error = Error::kOverlap;
      return Step::kDone;
    }
    if (!pinned && !Pin(path)) return Step::kRetry;
    const TableEntry leaf = TableEntry::Leaf(bus, permission, path.level);
    if (!Replace(slot, path.level, entry, leaf)) {
      Drop(path, path.level + 1, 1, piece->at);
      return Step::kRetry;
    }
    piece->done = Size(path.level);
    if (path.level < options_.levels &&
        Load(*path.slots[path.level + 1]).count() == kEntries) {
      piece->level = path.level;
    }
    return Step::kDone;
  }
  FillPages(*path.table, *path.slots[2], piece, bus, permission, error);
  return Step::kDone;
}

// An existing table, which is this region's alone.
template <BusMemory M, class P>
void SecondLevel<M, P>::FillPages(Table& table, Slot& above, Piece* piece,
                                  PhysAddr bus, Permission permission,
                                  Result<void>* error) {
  const std::size_t first = Index(piece->at, 1);
  const std::uint64_t n =
      std::min(kEntries - first, piece->bytes >> kPage.shift());
  for (std::uint64_t i = 0; i < n; ++i) {
    // relaxed: slots of a region change under its lock only.
    if (TableEntry(table.slots[first + i].load(std::memory_order_relaxed))
            .present()) {
      *error = Error::kOverlap;
      return;
    }
  }
  for (std::uint64_t i = 0; i < n; ++i) {
    // relaxed: a page is no pointer that hardware follows to more of ours; what
    // the device finds there is ordered by IommuMap::SyncMap.
    table.slots[first + i].store(
        TableEntry::Leaf(bus + (i << kPage.shift()), permission, 1).bits(),
        std::memory_order_relaxed);
  }
  WriteBack(&table.slots[first], n * sizeof(Slot));
  const TableEntry counted =
      TableEntry(above.load(std::memory_order_relaxed)).Plus(n);
  // relaxed: hardware does not look at the count, and the table is as before.
  above.store(counted.bits(), std::memory_order_relaxed);
  piece->done = n << kPage.shift();
  piece->level = counted.count() == kEntries ? 1 : 0;
}

// Whether a full table below a slot of `level` says what one leaf there can
// say.
template <BusMemory M, class P>
bool SecondLevel<M, P>::IsOneLeaf(const Table& table, unsigned level,
                                  TableEntry* leaf) const {
  // relaxed: under the lock of the region, or all; or a guess.
  const TableEntry head(table.slots[0].load(std::memory_order_relaxed));
  if (!head.IsLeaf(level - 1) ||
      (head.address().value() & (Size(level) - 1)) != 0) {
    return false;
  }
  for (std::size_t i = 0; i < kEntries; ++i) {
    // Alike in permission and spares.
    const std::uint64_t want = head.bits() + std::uint64_t{i} * Size(level - 1);
    if (table.slots[i].load(std::memory_order_relaxed) != want) return false;
  }
  *leaf = TableEntry(
      TableEntry::Leaf(head.address(), head.permission(), level).bits() |
      TableEntry::kSpare | (head.has_spare() ? TableEntry::kSpareBelow : 0));
  return true;
}

// The full table below the slot of `level` that `at` is in becomes one leaf if
// it says no more than that; then perhaps the one above. Without memory it
// stays.
template <BusMemory M, class P>
void SecondLevel<M, P>::Merge(Iova at, unsigned level) {
  Stash stash;
  for (bool merged = true; merged; ++level) {
    const bool fits =
        (level == 2 && options_.two_mib) || (level == 3 && options_.one_gib);
    merged = false;
    if (!fits) break;
    {
      const Guard<LockType> guard(LockOf(at));
      if (!MergeSlot(at, level, nullptr)) break;
    }
    if (stash.count == 0 && !Grow(&stash).ok()) break;
    if (level == 2) {
      const Guard<LockType> guard(LockOf(at));
      merged = MergeSlot(at, level, &stash);
    } else {
      // Each slot of the table is another region's. In this order, and nobody
      // who holds one waits for another.
      for (auto& lane : lanes_) lane.lock.lock();
      merged = MergeSlot(at, level, &stash);
      for (auto& lane : lanes_) lane.lock.unlock();
    }
  }
  Release(&stash);
}

// True: it is as Merge wants it, and, if there is a stash, has been done.
// REQUIRES: the region's lock; for level 3 all of them, or no stash.
template <BusMemory M, class P>
bool SecondLevel<M, P>::MergeSlot(Iova at, unsigned level, Stash* stash) {
  Path path;
  path.table = root_;
  TableEntry entry;
  for (path.level = options_.levels;; --path.level) {
    path.slots[path.level] = &path.table->slots[Index(at, path.level)];
    entry = Load(*path.slots[path.level]);
    if (!entry.IsTable(path.level)) return false;
    if (path.level == level) break;
    path.table = TableOf(entry);
  }
  TableEntry leaf;
  if (entry.count() != kEntries || !IsOneLeaf(*TableOf(entry), level, &leaf)) {
    return false;
  }
  if (stash == nullptr) return true;
  KeepSpare(Pop(stash));
  bool done = false;
  RetireSlot(*path.slots[level], level, entry, leaf, at, &done);
  DMAMAP_ASSERT(done);  // nobody else can have changed the slot
  Add(merges_, 1);
  return true;
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOMMU_SECOND_LEVEL_MAP_H_
