// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOMMU_TABLE_PAGES_H_
#define DMAMAP_IOMMU_TABLE_PAGES_H_

// Where the tables of a SecondLevel come from and go to: memory, counts, and
// what must hold between calls. Included by second_level.h alone.

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <new>

#include "iommu/second_level.h"

namespace dmamap::inline v0 {

template <BusMemory M, class P>
Result<void> SecondLevel<M, P>::Init(M* memory,
                                     const SecondLevelOptions& options) {
  static_assert(kIndexBits >= 4 && kIndexBits <= 9);  // RetiredList's notes
  if (memory_ != nullptr) return Error::kBusy;
  if (memory == nullptr || options.levels < 3 || options.levels > kMaxLevels ||
      options.bus_bits > 52 || options.bus_bits <= kPage.shift() ||
      options.input_bits <= kPage.shift()) {
    return Error::kInvalidArgument;
  }
  if (!options.snoops && !WritesBack<M>) return Error::kUnsupported;
  memory_ = memory;
  options_ = options;
  Stash stash;
  const Result<void> made = Grow(&stash);
  if (!made.ok()) {
    memory_ = nullptr;
    return made;
  }
  root_ = Pop(&stash);
  root_bus_ = BusOf(root_);
  WriteBack(root_, sizeof *root_);
  const unsigned bits =
      std::min(Shift(options.levels) + kIndexBits, options.input_bits);
  limit_ = (std::uint64_t{1} << bits) - 1;  // at most 48 bits
  return Ok();
}

template <BusMemory M, class P>
SecondLevel<M, P>::~SecondLevel() {
  if (root_ == nullptr) return;
  Batch batch;
  if (TakeRetired(Range::Whole(), &batch)) FreeRetired(&batch);
  FreeAll(root_, options_.levels);
  Release(&spares_);
}

template <BusMemory M, class P>
void SecondLevel<M, P>::FreeAll(Table* table, unsigned level) {
  for (std::size_t i = 0; i < kEntries && level > 1; ++i) {
    const TableEntry entry = Load(table->slots[i]);
    if (entry.IsTable(level)) FreeAll(TableOf(entry), level - 1);
  }
  FreeTable(table);
}

template <BusMemory M, class P>
PhysAddr SecondLevel<M, P>::BusOf(const Table* table) const {
  // It is the memory's own page, and was looked at when it came (Grow).
  return *memory_->ToBus(
      *PhysRange::FromSize(PhysAddrOf(table), sizeof *table));
}

template <BusMemory M, class P>
Result<void> SecondLevel<M, P>::Grow(Stash* stash) {
  constexpr PageSize page = *PageSize::FromBytes(
      std::bit_ceil(std::max<std::uint64_t>(sizeof(Table), kPage.bytes())));
  const Result<std::byte*> made = memory_->Allocate(page, 1);
  if (!made.ok()) return made.error();
  const auto bus =
      memory_->ToBus(*PhysRange::FromSize(PhysAddrOf(*made), sizeof(Table)));
  // 0 stands for no table.
  if (!bus.ok() || bus->value() == 0 ||
      (bus->value() + sizeof(Table) - 1) >> options_.bus_bits != 0) {
    memory_->Free(*made, page, 1);
    return Error::kOutOfRange;
  }
  Push(stash, new (*made) Table);
  Add(made_, 1);
  return Ok();
}

// relaxed, all three: hardware does not know the page, and the stash, or the
// lock around it, is the caller's.
template <BusMemory M, class P>
void SecondLevel<M, P>::Push(Stash* stash, Table* table) {
  table->slots[0].store(PhysAddrOf(stash->first).value(),
                        std::memory_order_relaxed);
  stash->first = table;
  ++stash->count;
}
template <BusMemory M, class P>
auto SecondLevel<M, P>::Pop(Stash* stash) -> Table* {
  Table* const table = stash->first;
  stash->first = std::launder(reinterpret_cast<Table*>(
      PointerTo(PhysAddr(table->slots[0].load(std::memory_order_relaxed)))));
  table->slots[0].store(0, std::memory_order_relaxed);
  --stash->count;
  return table;
}

template <BusMemory M, class P>
void SecondLevel<M, P>::Release(Stash* stash) {
  while (stash->count != 0) FreeTable(Pop(stash));
}

template <BusMemory M, class P>
void SecondLevel<M, P>::FreeTable(Table* table) {
  constexpr PageSize page = *PageSize::FromBytes(
      std::bit_ceil(std::max<std::uint64_t>(sizeof(Table), kPage.bytes())));
  table->~Table();
  memory_->Free(reinterpret_cast<std::byte*>(table), page, 1);
  Add(freed_, 1);
}

template <BusMemory M, class P>
auto SecondLevel<M, P>::TakeSpare() -> Table* {
  const Guard<LockType> guard(spare_lock_);
  DMAMAP_ASSERT(spares_.count != 0);
  return Pop(&spares_);
}
template <BusMemory M, class P>
void SecondLevel<M, P>::KeepSpare(Table* table) {
  const Guard<LockType> guard(spare_lock_);
  Push(&spares_, table);
}

// Counts the slot of path.level up before it is filled. False: the table that
// holds it was taken out, or is of another walk's making by now.
template <BusMemory M, class P>
bool SecondLevel<M, P>::Pin(Path& path) {
  if (path.level == options_.levels) return true;
  Slot& above = *path.slots[path.level + 1];
  for (;;) {
    const TableEntry entry = Load(above);
    if (!entry.IsTable(path.level + 1) || TableOf(entry) != path.table) {
      return false;
    }
    if (Exchange(above, entry, entry.Plus(1))) return true;
  }
}

// `n` fewer entries in the table that slots[level] points to. With the last of
// them it is empty, and stays; or it goes, and the table that held it has one
// fewer itself.
template <BusMemory M, class P>
void SecondLevel<M, P>::Drop(Path& path, unsigned level, std::uint64_t n,
                             Iova at, WhenEmpty when) {
  for (; level <= options_.levels; ++level, n = 1) {
    Slot& slot = *path.slots[level];
    bool done = false;
    while (!done) {
      const TableEntry entry = Load(slot);
      DMAMAP_ASSERT(entry.count() >= n);
      const bool empty = entry.count() == n;
      if (!empty ||
          (when == WhenEmpty::kStays && StaysEmpty(entry, level, at))) {
        const TableEntry left = empty ? entry.Minus(n).Noted() : entry.Minus(n);
        if (level == 2) {
          // relaxed: as in FillSlots.
          slot.store(left.bits(), std::memory_order_relaxed);
          return;
        }
        if (Exchange(slot, entry, left)) return;
      } else {
        RetireSlot(slot, level, entry, TableEntry(), at, &done);
      }
    }
  }
}

template <BusMemory M, class P>
bool SecondLevel<M, P>::StaysEmpty(TableEntry entry, unsigned level, Iova at) {
  return entry.noted() || empty_.Add({CoveredBy(level, at), level});
}

// An invalidation of `range` begins.
template <BusMemory M, class P>
void SecondLevel<M, P>::TakeOutEmpty(Range range) {
  typename Empty::Place place;
  while (empty_.Take(range, &place))
    TakeOut(place.level, place.covered.first());
}

// Where a large leaf is to be: no empty table is left.
template <BusMemory M, class P>
void SecondLevel<M, P>::ClearSlot(unsigned level, Iova at) {
  if (level == 3) {
    for (std::uint64_t i = 0; i < kEntries; ++i) TakeOut(2, at + i * Size(2));
  }
  TakeOut(level, at);
}

template <BusMemory M, class P>
void SecondLevel<M, P>::TakeOut(unsigned level, Iova at) {
  const Guard<LockType> guard(LockOf(at));
  Path path;
  path.table = root_;
  for (path.level = options_.levels;; --path.level) {
    Slot& slot = path.table->slots[Index(at, path.level)];
    path.slots[path.level] = &slot;
    const TableEntry entry = Load(slot);
    if (!entry.IsTable(path.level)) return;  // it went another way
    if (path.level == level) break;
    path.table = TableOf(entry);
  }
  Slot& slot = *path.slots[level];
  for (bool done = false; !done;) {
    const TableEntry entry = Load(slot);
    if (!entry.IsTable(level)) return;
    if (entry.count() != 0) {
      done = Exchange(slot, entry, entry.Plain());  // in use again
      continue;
    }
    RetireSlot(slot, level, entry, TableEntry(), at, &done);
    if (done) Drop(path, level + 1, 1, at, WhenEmpty::kGoes);
  }
}

// Takes the table out of its slot. The list's lock is held meanwhile, so that
// whoever sees it gone finds it in the list.
template <BusMemory M, class P>
void SecondLevel<M, P>::RetireSlot(Slot& slot, unsigned level, TableEntry from,
                                   TableEntry to, Iova at, bool* done) {
  const Guard<LockType> guard(retired_.lock());
  // relaxed: before E3, and who reads from that looks here (MayRemember).
  retired_count_.fetch_add(1, std::memory_order_relaxed);
  *done = Exchange(slot, from, to);
  if (*done) {
    const std::uint64_t first = at.value() & ~(Size(level) - 1);
    retired_.Push(TableOf(from), level, Iova(first));
    if (level == 2) LaneOf(at).Forget(RegionOf(at));
  } else {
    retired_count_.fetch_sub(1, std::memory_order_relaxed);  // as before
  }
}

template <BusMemory M, class P>
void SecondLevel<M, P>::FreeRetired(Batch* batch) {
  if (batch->upper) {
    // A walk that found such a table before it was taken out is under a lock.
    for (auto& lane : lanes_) {
      const Guard<LockType> guard(lane.lock);
    }
  }
  const std::size_t count = batch->count;
  const bool splits = batch->splits;
  retired_.Finish(batch, [this](Table* table) { FreeTable(table); });
  // relaxed: who still sees it counted looks for nothing.
  if (splits) split_notes_.fetch_sub(1, std::memory_order_relaxed);
  // A2, release: pairs with A1. The invalidation is over.
  retired_count_.fetch_sub(count, std::memory_order_release);
}

template <BusMemory M, class P>
SecondLevelStats SecondLevel<M, P>::stats() const {
  // relaxed: statistics.
  SecondLevelStats s;
  s.tables_made = made_.load(std::memory_order_relaxed);
  s.tables_freed = freed_.load(std::memory_order_relaxed);
  s.tables_empty = empty_.count();
  s.tables_retired = retired_count_.load(std::memory_order_relaxed);
  s.splits = splits_.load(std::memory_order_relaxed);
  s.merges = merges_.load(std::memory_order_relaxed);
  const Guard<LockType> guard(spare_lock_);
  s.spares = spares_.count;
  return s;
}

template <BusMemory M, class P>
bool SecondLevel<M, P>::CheckTable(const Table& table, unsigned level,
                                   std::uint64_t* count,
                                   std::uint64_t* spares) const {
  for (std::size_t i = 0; i < kEntries; ++i) {
    const TableEntry entry = Load(table.slots[i]);
    if (!entry.present()) {
      if (entry.bits() != 0) return false;
      continue;
    }
    ++*count;
    if (entry.IsLeaf(level)) {
      const bool fits = level == 1 || (level == 2 && options_.two_mib) ||
                        (level == 3 && options_.one_gib);
      if (!fits || (entry.address().value() & (Size(level) - 1)) != 0 ||
          (entry.has_spare() && level == 1) ||
          (entry.has_spare_below() && (level != 3 || !entry.has_spare()))) {
        return false;
      }
      *spares += SparesOf(entry);
      continue;
    }
    std::uint64_t below = 0;
    if (!CheckTable(*TableOf(entry), level - 1, &below, spares) ||
        below != entry.count() || (below == 0 && !entry.noted())) {
      return false;
    }
  }
  return true;
}

template <BusMemory M, class P>
bool SecondLevel<M, P>::CheckInvariants() const {
  if (root_ == nullptr) return true;
  std::uint64_t count = 0;
  std::uint64_t spares = 0;
  return CheckTable(*root_, options_.levels, &count, &spares) &&
         spares == spares_.count;
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOMMU_TABLE_PAGES_H_
