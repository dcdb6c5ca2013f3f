// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOMMU_TABLE_RETIRE_H_
#define DMAMAP_IOMMU_TABLE_RETIRE_H_

// RetiredList: tables that were taken out of a SecondLevel and that hardware
// may still walk, from its cache of tables, until an invalidation of what they
// covered is over. An inner header.
//
// The list lies in the tables themselves, and yet changes nothing that hardware
// reads there: ten bits in each of a few slots are ignored by it whether the
// slot is present or not (a table that a merge replaced is full of leaves that
// must go on working). A note is forty bits in four slots.
//
//   note 0   the page number of the next table on the bus
//   note 1   the page number of the first address it covered
//   note 2   the level that its entry was in
//
// An invalidation takes what it covers (Take), and keeps it in a batch that
// Touches still sees until it is over.
//
// Beside them, leaves that were split: hardware may remember one as a whole,
// and an invalidation of less than that need not make it forget (VT-d
// 6.5.3.3: address mask 9 for 2 MiB, 18 for 1 GiB). They are one range, the
// hull of all: who invalidates a part of it invalidates all of it (Take,
// Widen).

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "dma/address.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "iommu/table_entry.h"

namespace dmamap::inline v0 {

// Tables whose invalidation is under way. On the stack of who invalidates.
struct RetiredTables {
  Range covered;          // of all of them: whole slots
  std::size_t count = 0;  // tables
  bool upper = false;     // one of them had tables below it
  bool splits = false;    // split leaves, too
  Range split = {};       // these
  PhysAddr first = {};    // the rest is RetiredList's
  RetiredTables* next = nullptr;
};

template <class Tables>
class RetiredList {
  using Table = typename Tables::Table;
  using LockType = typename Tables::LockType;

 public:
  explicit RetiredList(Tables& tables) : tables_(tables) {}

  // For who takes a table out: the slot changes under it.
  LockType& lock() { return lock_; }
  // REQUIRES: lock().
  void Push(Table* table, unsigned level, Iova first) {
    SetNote(*table, 0, PageSize().Number(first_));
    SetNote(*table, 1, PageSize().Number(first));
    SetNote(*table, 2, level);
    first_ = tables_.BusOf(table);
  }

  // `leaf` is split. True: it is the first since Take. REQUIRES: lock().
  bool NoteSplit(Range leaf) {
    const bool first = !splits_;
    split_ = first ? leaf : Hull(split_, leaf);
    splits_ = true;
    return first;
  }
  // All that an invalidation of `range` has to cover for leaves whose own is
  // under way.
  Range Widen(Range range) {
    const Guard<LockType> guard(lock_);
    for (const RetiredTables* b = taken_; b != nullptr;) {
      const bool more =
          b->splits && b->split.Overlaps(range) && !range.Contains(b->split);
      if (more) range = Hull(range, b->split);
      b = more ? taken_ : b->next;  // the wider one may touch others
    }
    return range;
  }

  bool Touches(Range range) {
    const Guard<LockType> guard(lock_);
    for (const RetiredTables* b = taken_; b != nullptr; b = b->next) {
      if (b->covered.Overlaps(range)) return true;
    }
    for (PhysAddr at = first_; at != PhysAddr(); at = NextOf(at)) {
      if (CoveredBy(at).Overlaps(range)) return true;
    }
    return false;
  }

  bool Take(Range range, RetiredTables* batch) {
    const Guard<LockType> guard(lock_);
    PhysAddr left;
    for (PhysAddr at = first_, next; at != PhysAddr(); at = next) {
      next = NextOf(at);
      const Range covered = CoveredBy(at);
      const bool take = covered.Overlaps(range);
      PhysAddr& list = take ? batch->first : left;
      SetNote(*At(at), 0, PageSize().Number(list));
      list = at;
      if (!take) continue;
      batch->covered =
          batch->count == 0 ? covered : Hull(batch->covered, covered);
      batch->upper = batch->upper || LevelOf(at) > 2;
      ++batch->count;
    }
    first_ = left;
    if (splits_ && split_.Overlaps(range)) {
      batch->covered =
          batch->count == 0 ? split_ : Hull(batch->covered, split_);
      batch->split = split_;
      batch->splits = true;
      splits_ = false;
    }
    if (batch->count == 0 && !batch->splits) return false;
    batch->next = taken_;
    taken_ = batch;
    return true;
  }

  // Ends a batch: f(table) for each, which is the caller's then.
  template <class F>
  void Finish(RetiredTables* batch, F&& f) {
    Forget(batch);
    for (PhysAddr at = batch->first, next; at != PhysAddr(); at = next) {
      next = NextOf(at);
      f(At(at));
    }
    *batch = {};
  }
  // True: its split leaves are part of those noted since.
  bool PutBack(RetiredTables* batch) {
    const Guard<LockType> guard(lock_);
    Unlink(batch);
    const bool joined = batch->splits && !NoteSplit(batch->split);
    for (PhysAddr at = batch->first, next; at != PhysAddr(); at = next) {
      next = NextOf(at);
      SetNote(*At(at), 0, PageSize().Number(first_));
      first_ = at;
    }
    *batch = {};
    return joined;
  }

  static Range Hull(Range a, Range b) {
    return *Range::FromFirstLast(std::min(a.first(), b.first()),
                                 std::max(a.last(), b.last()));
  }

 private:
  static constexpr unsigned kBits = 10;  // of a slot
  // Small tables (of tests) have small addresses.
  static constexpr unsigned kSlots = 4;

  Table* At(PhysAddr bus) const {
    return tables_.TableOf(TableEntry::Table(bus, 0));
  }
  static void SetNote(Table& table, unsigned note, std::uint64_t value) {
    for (unsigned i = 0; i < kSlots; ++i) {
      auto& slot = table.slots[note * kSlots + i];
      // relaxed, and no read-modify-write: nobody else writes to a table that
      // is retired, and hardware does not look at these bits.
      const std::uint64_t old = slot.load(std::memory_order_relaxed);
      const std::uint64_t bits = (value >> (i * kBits))
                                 << TableEntry::kCountShift;
      slot.store((old & ~TableEntry::kCount) | (bits & TableEntry::kCount),
                 std::memory_order_relaxed);
    }
  }
  static std::uint64_t Note(const Table& table, unsigned note) {
    std::uint64_t value = 0;
    for (unsigned i = 0; i < kSlots; ++i) {
      const TableEntry entry(
          table.slots[note * kSlots + i].load(std::memory_order_relaxed));
      value |= entry.count() << (i * kBits);
    }
    return value;
  }
  PhysAddr NextOf(PhysAddr at) const {
    return PhysAddr(Note(*At(at), 0) << PageSize().shift());
  }
  unsigned LevelOf(PhysAddr at) const {
    return static_cast<unsigned>(Note(*At(at), 2));
  }
  Range CoveredBy(PhysAddr at) const {
    const Iova first(Note(*At(at), 1) << PageSize().shift());
    return *Range::FromSize(first, Tables::Size(LevelOf(at)));
  }
  void Forget(RetiredTables* batch) {
    const Guard<LockType> guard(lock_);
    Unlink(batch);
  }
  void Unlink(RetiredTables* batch) {
    RetiredTables** at = &taken_;
    while (*at != batch) at = &(*at)->next;
    *at = batch->next;
  }

  Tables& tables_;
  LockType lock_;
  PhysAddr first_;  // waiting; 0: none
  Range split_;     // the same, of leaves
  bool splits_ = false;
  RetiredTables* taken_ = nullptr;  // under way
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOMMU_TABLE_RETIRE_H_
