// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOMMU_SECOND_LEVEL_H_
#define DMAMAP_IOMMU_SECOND_LEVEL_H_

// SecondLevel: the second-level page tables of one address space of a VT-d
// unit. Changes memory and no register; iommu/vtd.h adds the invalidations.
//
//   level 4   slot: 512 GiB   level 2   slot: 2 MiB, a region
//   level 3   slot: 1 GiB     level 1   slot: 4 KiB
//
// Each table's entry counts the entries in use of the table it points to
// (TableEntry). A table without any stays (table_empty.h) until an invalidation
// of what it covers begins: that takes it out, in one store, and when it is
// over frees it. Until then hardware may still walk it ("retired",
// table_retire.h).
//
// Threads. All calls but Init and the destructor at any time; calls for
// disjoint ranges do not wait for each other but where their regions share one
// of 64 locks. All of a walk is under the lock of its region, which owns the
// level 2 slot, and all below it. What regions share, the slots above, changes
// by compare-and-swap: to fill an empty slot, first the table it is in is
// counted up, in *its* slot above, which fails if that has been taken out. A
// taken-out table of level 2 or above may still be read by walks under other
// locks: it is freed after each lock was free once.
//
// Memory is never allocated under a lock: a call that finds too little of it
// lets go, allocates, and begins again.
//
// Large leaves are chosen where alignment, size and hardware allow, split when
// a part is unmapped or protected, and made again out of 512 smaller ones that
// turn out to be one (options). Such a leaf keeps a page ("spare") with which
// it can be split: what several Maps made, each of them may end without memory.
// 512 leaves of 2 MiB are of as many regions: to make one of them, all locks
// are held.

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <new>

#include "dma/address.h"
#include "dma/assert.h"
#include "dma/barrier.h"
#include "dma/direction.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "iommu/bus_memory.h"
#include "iommu/region_lanes.h"
#include "iommu/second_level_options.h"
#include "iommu/table_empty.h"
#include "iommu/table_entry.h"
#include "iommu/table_retire.h"

namespace dmamap::inline v0 {

template <BusMemory Memory, class Policies = SecondLevelPolicies>
class SecondLevel {
  template <class T>
  using Atom = typename Policies::template Atom<T>;
  using Slot = Atom<std::uint64_t>;
  using LockType = typename Policies::LockType;

 public:
  static constexpr unsigned kIndexBits = Policies::kIndexBits;
  static constexpr std::uint64_t kEntries = std::uint64_t{1} << kIndexBits;
  static constexpr unsigned kMaxLevels = 4;
  static constexpr PageSize kPage = PageSize();

  SecondLevel() = default;
  SecondLevel(const SecondLevel&) = delete;
  SecondLevel& operator=(const SecondLevel&) = delete;
  // REQUIRES: hardware reaches no table any more.
  ~SecondLevel();

  // The memory must outlive this. kBusy the second time, kInvalidArgument,
  // kUnsupported where tables must be written back and Memory cannot; as the
  // memory fails.
  Result<void> Init(Memory* memory, const SecondLevelOptions& options);

  // Leaves all tables to whoever may still walk them: the destructor frees
  // nothing. REQUIRES: no other call from now on.
  void Abandon() { root_ = nullptr; }

  // The bus address of the first table. REQUIRES: Init has succeeded.
  PhysAddr root() const { return root_bus_; }
  unsigned levels() const { return options_.levels; }
  // The last address that the tables can translate.
  Iova limit() const { return Iova(limit_); }

  // As IommuMap::Map, but `bus` is a bus address, and after an error *mapped
  // bytes from the range's beginning on are left mapped: the caller unmaps and
  // invalidates them. kShutDown before Init.
  Result<void> Map(Range range, PhysAddr bus, Permission permission,
                   std::uint64_t* mapped);
  // As IommuMap::Unmap.
  Result<void> Unmap(Range range);
  // Gives every page of `range` another permission (not kNone). kNotMapped,
  // kNoMemory (a leaf would have to be split): nothing has changed. Takes
  // effect for the device with the next invalidation of the range.
  Result<void> Protect(Range range, Permission permission);
  // kNotMapped.
  Result<IommuTranslation> Lookup(Iova at);

  // --- Tables that wait for their invalidation (table_retire.h) ---
  using Batch = RetiredTables;
  // True when hardware may remember a table that was taken out and covered a
  // part of `range`: a mapping made there is found after an invalidation only.
  bool MayRemember(Range range) {
    // A1, acquire: pairs with A2. Who has seen a table gone sees it counted.
    return retired_count_.load(std::memory_order_acquire) != 0 &&
           retired_.Touches(range);
  }
  // Takes all that cover a part of `range`, and leaves there that were split,
  // widened to whole slots in batch->covered. False: none. Free or PutBack
  // follows.
  bool TakeRetired(Range range, Batch* batch) {
    TakeOutEmpty(range);
    // relaxed: who unmaps a part of a leaf has seen it split, or split it.
    return (retired_count_.load(std::memory_order_acquire) != 0 ||  // A1
            split_notes_.load(std::memory_order_relaxed) != 0) &&
           retired_.Take(range, batch);
  }
  // What an invalidation of `range` has to cover besides, for leaves that were
  // split and that somebody else is invalidating.
  Range Widen(Range range) {
    return split_notes_.load(std::memory_order_relaxed) != 0  // as above
               ? retired_.Widen(range)
               : range;
  }
  // The invalidation of batch->covered, tables included, is over.
  void FreeRetired(Batch* batch);
  // It failed.
  void PutBackRetired(Batch* batch) {
    if (retired_.PutBack(batch)) {
      split_notes_.fetch_sub(1, std::memory_order_relaxed);  // of two, one
    }
  }

  SecondLevelStats stats() const;
  // REQUIRES: no other call is under way.
  bool CheckInvariants() const;

 private:
  struct Table {
    Slot slots[kEntries];
  };
  static_assert(std::is_same_v<Slot, std::atomic<std::uint64_t>> == false ||
                sizeof(Table) == kEntries * 8);
  friend class RetiredList<SecondLevel>;

  using Empty = EmptyTables<LockType, Policies::template Atom>;

  // A list of pages that hardware does not see, linked by their first slots.
  struct Stash {
    Table* first = nullptr;
    std::size_t count = 0;
  };
  // How a walk came to a slot: slots[l] is of level l.
  struct Path {
    std::array<Slot*, kMaxLevels + 1> slots{};
    Table* table = nullptr;  // holds the slot of `level`
    unsigned level = 0;
  };
  enum class Step : std::uint8_t { kDone, kNeedsPage, kNeedsSlot, kRetry };
  enum class WhenEmpty : std::uint8_t { kStays, kGoes };
  struct Piece {
    Iova at;
    std::uint64_t bytes = 0;  // left of the range, whole pages, not 0
    std::uint64_t done = 0;   // of these, by this step
    // After kNeedsSlot, that slot's; after kDone, of the table that has no free
    // entry now; 0: none.
    unsigned level = 0;
  };

  static constexpr unsigned Shift(unsigned level) {
    return kPage.shift() + kIndexBits * (level - 1);
  }
  static constexpr std::uint64_t Size(unsigned level) {
    return std::uint64_t{1} << Shift(level);
  }
  static constexpr std::size_t Index(Iova at, unsigned level) {
    return static_cast<std::size_t>((at.value() >> Shift(level)) &
                                    (kEntries - 1));
  }
  static TableEntry Load(const Slot& slot) {
    // E2, acquire: pairs with E1, and of slots above level 2 with E3. What is
    // in the table, and who took one out, is seen.
    return TableEntry(slot.load(std::memory_order_acquire));
  }
  static std::uint64_t RegionOf(Iova at) { return at.value() >> Shift(2); }
  auto& LaneOf(Iova at) { return lanes_.Of(RegionOf(at)); }
  LockType& LockOf(Iova at) { return LaneOf(at).lock; }
  Table* TableOf(TableEntry entry) const {
    return std::launder(
        reinterpret_cast<Table*>(memory_->FromBus(entry.address())));
  }
  PhysAddr BusOf(const Table* table) const;
  bool LeafFits(unsigned level, Iova at, PhysAddr bus,
                std::uint64_t bytes) const {
    return level == 1 ||
           (level == 2 && options_.two_mib &&
            IsWhole(2, at.value() | bus.value(), bytes)) ||
           (level == 3 && options_.one_gib &&
            IsWhole(3, at.value() | bus.value(), bytes));
  }
  // Of the first leaf of `piece`, below `level`.
  unsigned LeafLevel(unsigned level, const Piece& piece, PhysAddr bus) const {
    while (!LeafFits(--level, piece.at, bus, piece.bytes)) {
    }
    return level;
  }
  static bool IsWhole(unsigned level, std::uint64_t bits, std::uint64_t bytes) {
    return (bits & (Size(level) - 1)) == 0 && bytes >= Size(level);
  }
  // What the slot of `level` that `at` is in stands for.
  static Range CoveredBy(unsigned level, Iova at) {
    return *Range::FromSize(Iova(at.value() & ~(Size(level) - 1)), Size(level));
  }
  static std::uint64_t SparesOf(TableEntry leaf) {
    return (leaf.has_spare() ? 1 : 0) + (leaf.has_spare_below() ? kEntries : 0);
  }
  Result<void> CheckRange(Range range) const;

  // Stores, and writes back where hardware does not snoop.
  void Store(Slot& slot, TableEntry entry) {
    // E1, release: pairs with E2, and with hardware, which follows a pointer
    // that it has read. A table is filled before it can be found.
    slot.store(entry.bits(), std::memory_order_release);
    WriteBack(&slot, sizeof slot);
  }
  bool Exchange(Slot& slot, TableEntry from, TableEntry to) {
    std::uint64_t expected = from.bits();
    // E3, acq_rel: release as E1; acquire: what was done to the table by those
    // who counted it before happened before it is taken out. relaxed on
    // failure: the slot is loaded again.
    const bool done = slot.compare_exchange_strong(expected, to.bits(),
                                                   std::memory_order_acq_rel,
                                                   std::memory_order_relaxed);
    if (done) WriteBack(&slot, sizeof slot);
    return done;
  }
  // A slot of level 2 is its region's alone. REQUIRES: the region's lock.
  bool Replace(Slot& slot, unsigned level, TableEntry from, TableEntry to) {
    if (level > 2) return Exchange(slot, from, to);
    Store(slot, to);
    return true;
  }
  void WriteBack(const void* at, std::size_t bytes) {
    if constexpr (WritesBack<Memory>) {
      if (!options_.snoops) {
        memory_->WriteBack(static_cast<const std::byte*>(at), bytes);
      }
    }
  }

  // Pages (table_pages.h).
  Result<void> Grow(Stash* stash);
  void Push(Stash* stash, Table* table);
  Table* Pop(Stash* stash);
  void Release(Stash* stash);
  void FreeTable(Table* table);
  void FreeAll(Table* table, unsigned level);
  // What a leaf needs to be split, or has left over when it is gone.
  Table* TakeSpare();
  void KeepSpare(Table* table);

  // Counting (table_pages.h). REQUIRES: the region's lock.
  bool Pin(Path& path);
  void Drop(Path& path, unsigned level, std::uint64_t n, Iova at,
            WhenEmpty when = WhenEmpty::kStays);
  bool StaysEmpty(TableEntry entry, unsigned level, Iova at);
  void TakeOutEmpty(Range range);
  void TakeOut(unsigned level, Iova at);
  void ClearSlot(unsigned level, Iova at);
  void RetireSlot(Slot& slot, unsigned level, TableEntry from, TableEntry to,
                  Iova at, bool* done);

  // Mapping (second_level_map.h). One piece each; REQUIRES: its lock.
  Step MapPiece(Piece* piece, PhysAddr bus, Permission permission, Stash* stash,
                Result<void>* error);
  // The same of the pages of one table, whose slot is `above`.
  void FillPages(Table& table, Slot& above, Piece* piece, PhysAddr bus,
                 Permission permission, Result<void>* error);
  bool MapInPlace(Piece* piece, PhysAddr bus, Permission permission,
                  Result<void>* error);
  Step FillSlots(Path& path, bool pinned, Piece* piece, PhysAddr bus,
                 Permission permission, Result<void>* error);
  Step PlaceTable(Path& path, bool pinned, TableEntry seen, Piece* piece,
                  PhysAddr bus, Permission permission, Stash* stash);
  void Merge(Iova at, unsigned level);
  bool MergeSlot(Iova at, unsigned level, Stash* stash);
  bool IsOneLeaf(const Table& table, unsigned level, TableEntry* leaf) const;

  // Changing what is mapped (second_level_unmap.h).
  enum class Change : std::uint8_t { kCheck, kClear, kProtect };
  bool UnmapInPlace(Range range, Result<void>* error);
  Result<void> ForEachPiece(Range range, Change change, Permission permission,
                            Stash* stash);
  Step ChangePiece(Piece* piece, Change change, Permission permission,
                   Stash* stash, Result<void>* error);
  Step ChangePages(Path& path, Piece* piece, Change change,
                   Permission permission, Result<void>* error);
  Step ChangeLeaf(Path& path, TableEntry leaf, Piece* piece, Change change,
                  Permission permission, Stash* stash);
  Step Split(Path& path, TableEntry leaf, Iova at, Stash* stash);
  // Follows tables to the slot that says what `at` is.
  TableEntry Descend(Iova at, Path* path);

  bool CheckTable(const Table& table, unsigned level, std::uint64_t* count,
                  std::uint64_t* spares) const;
  static void Add(Atom<std::uint64_t>& counter, std::uint64_t n) {
    counter.fetch_add(n, std::memory_order_relaxed);  // a statistic
  }

  Memory* memory_ = nullptr;
  SecondLevelOptions options_;
  Table* root_ = nullptr;
  PhysAddr root_bus_;
  std::uint64_t limit_ = 0;
  RegionLanes<LockType, Table, Slot, Policies::kLocks> lanes_;
  RetiredList<SecondLevel> retired_{*this};
  // Tables that are retired, or about to be.
  Atom<std::uint64_t> retired_count_{0};
  // Hulls of split leaves that hardware may remember, waiting or under way.
  Atom<std::uint64_t> split_notes_{0};
  Empty empty_;
  mutable LockType spare_lock_;
  Stash spares_;  // under spare_lock_
  Atom<std::uint64_t> made_{0};
  Atom<std::uint64_t> freed_{0};
  Atom<std::uint64_t> splits_{0};
  Atom<std::uint64_t> merges_{0};
};

}  // namespace dmamap::inline v0

#include "iommu/second_level_map.h"    // IWYU pragma: export
#include "iommu/second_level_unmap.h"  // IWYU pragma: export
#include "iommu/table_pages.h"         // IWYU pragma: export

#endif  // DMAMAP_IOMMU_SECOND_LEVEL_H_
