// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_CPU_CACHE_H_
#define DMAMAP_IOVA_CPU_CACHE_H_

// CpuCache: for each slot of the CpuLocal policy and each size class a loaded
// and a previous magazine, over one Depot.
//
// The two magazines of a class are each anything from empty to full; both may
// be null before first use. Allocation takes from `loaded`, a free puts into
// it; when that cannot serve, the two change places or one goes to the depot
// (Bonwick and Adams, section 3.1). So at least a magazine's worth of
// operations lies between two visits to the depot.
//
// While a magazine is loaded its fill is kept in the bin, in one word with the
// number of entries ever taken: the one store that the fast path makes to a bin
// is its statistic too. Anything but the fast path visits a bin through
// BinVisit, which hands the fill to the magazine and takes it back.
//
// Who writes what: a Bin belongs to the owner of its slot alone. Only the
// counters are read by others (statistics), and the slot's pointer.
//
// Progress: as the depot: lock-free. Bin's own calls are wait-free.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

#include "dma/counter.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "iova/bin_fill.h"
#include "iova/depot.h"
#include "iova/magazine.h"
#include "iova/slot_table.h"
#include "iova/tag.h"

namespace dmamap::inline v0 {

// kReach: see SlotTable.
template <class Tags, unsigned kClasses, std::size_t kEntries = 127,
          template <class> class Atom = std::atomic, std::size_t kReach = 0>
class CpuCache {
 public:
  using Cell = typename Tags::Cell;
  using MagazineType = Magazine<Cell, kEntries, Atom>;
  using Entry = typename MagazineType::Entry;
  using DepotType = Depot<MagazineType, kClasses, Atom>;

  // One size class of one slot. The fast path reads the first 24 bytes alone.
  struct alignas(kCacheLine) Bin {
    using Fill = BinFill<kEntries>;
    Atom<std::uint64_t> fill_word{Fill().word()};
    typename MagazineType::Slots* entries = nullptr;  // of `loaded`
    Tag tag;  // of the entries: it names `loaded`

    MagazineType* loaded = nullptr;
    MagazineType* previous = nullptr;
    Counter<Atom> refills;  // modulo 2^64: entries that were not freed here
    Counter<Atom> visit_allocs;  // entries handed out, and taken back, during a
    Counter<Atom> visit_frees;   // visit
    Counter<Atom> alloc_misses;  // allocations that `loaded` could not serve
    Counter<Atom> free_misses;   // frees that `loaded` could not take
    Counter<Atom> dropped;       // entries of late double frees
    Counter<Atom> depot_takes;   // full magazines from the depot
    Counter<Atom> depot_puts;    // full magazines to the depot

    // Its owner's alone, while nobody visits.
    // relaxed: one writer; others only read statistics.
    Fill fill() const {
      return Fill(fill_word.load(std::memory_order_relaxed));
    }
    // REQUIRES: f is current and has_entry(), or has_room().
    Entry Top(const Fill& f) const { return (*entries)[f.top()]; }
    void Pop(const Fill& f) { SetFill(f.Popped()); }
    void Push(const Fill& f, const Entry& entry) {
      entries->Set(f.count(), entry);
      SetFill(f.Pushed());
    }

    // Any thread, for statistics: modulo 2^64, of which a bin counts the last
    // 64 - Fill::kCountBits.
    std::uint64_t allocations() const {
      return fill().taken() + visit_allocs.value();
    }
    std::uint64_t frees() const {
      return PutsOf(fill()) - refills.value() + visit_frees.value();
    }

   private:
    friend CpuCache;
    // relaxed: as fill().
    void SetFill(Fill f) {
      fill_word.store(f.word(), std::memory_order_relaxed);
    }
    // Entries ever put, whether freed or refilled.
    static std::uint64_t PutsOf(Fill f) {
      return f.taken() + (f.count() != Fill::kNoMagazine ? f.count() : 0);
    }
  };
  struct alignas(kCacheLine) Slot {
    typename Tags::Hint hint;  // of the last free
    std::array<Bin, kClasses> bin;
    std::uint32_t misses = 0;  // of both kinds and all classes, modulo 2^32
  };

  // Everything but the fast path holds one while it uses a bin. REQUIRES: the
  // caller owns the bin's slot.
  class BinVisit {
   public:
    explicit BinVisit(Bin& bin) : bin_(bin) {
      if (bin.loaded != nullptr) bin.loaded->Resize(bin.fill().count());
    }
    ~BinVisit() { Arm(bin_); }
    BinVisit(const BinVisit&) = delete;
    BinVisit& operator=(const BinVisit&) = delete;

   private:
    Bin& bin_;
  };

  // What MakeRoom found.
  enum class Room : std::uint8_t {
    kReady,     // `loaded` is not full
    kSpill,     // both are full and so is the depot: empty `previous` first
    kNoMemory,  // no magazine to be had
  };

  CpuCache() : table_(vacant_) {}
  CpuCache(const CpuCache&) = delete;
  CpuCache& operator=(const CpuCache&) = delete;

  // For the numbers below `slots` and one more, shared_slot(). kBusy the second
  // time, kNoMemory, kLimit when so many slots and waiting magazines could need
  // more magazines than there are numbers.
  Result<void> Init(std::size_t slots, std::uint32_t depot_limit) {
    if (table_.size() != 0) return Error::kBusy;
    if (slots == 0) return Error::kInvalidArgument;
    constexpr std::uint64_t kMax = DepotType::kMaxMagazines;
    if (slots >= kMax || depot_limit > kMax ||
        (2 * (slots + 1) + depot_limit) * kClasses > kMax) {
      return Error::kLimit;
    }
    if (kReach != 0 && slots > kReach) return Error::kLimit;
    const Result<void> made = table_.Init(slots + 1);
    if (!made.ok()) return made;
    depot_.set_limit(depot_limit);
    return Ok();
  }

  // The slots are numbered below it, not each in use; 0 before Init.
  std::size_t slots() const { return table_.size(); }
  // The last of them, which is no caller's own. REQUIRES: Init.
  std::size_t shared_slot() const { return table_.size() - 1; }
  DepotType& depot() { return depot_; }
  const DepotType& depot() const { return depot_; }

  // The slot; before its owner's first Obtain one that has nothing and takes
  // nothing. REQUIRES: as SlotTable's.
  Slot& SlotOf(std::size_t n) const { return table_[n]; }
  // The slot, or null before its owner's first Obtain. REQUIRES: n < slots().
  Slot* Find(std::size_t n) const {
    Slot& slot = SlotOf(n);
    return &slot != &vacant_ ? &slot : nullptr;
  }
  // The slot, made if need be; null when there is no memory. REQUIRES: the
  // caller owns slot n.
  Slot* Obtain(std::size_t n) {
    Slot* slot = Find(n);
    if (slot != nullptr) return slot;
    slot = new (std::nothrow) Slot();
    if (slot != nullptr) table_.Set(n, *slot);
    return slot;
  }

  // Makes `loaded` a magazine with an entry of at most `last` on top, from the
  // bin's own two or the depot's. False when none has one.
  bool LoadFitting(unsigned size_class, Bin& bin, std::uint64_t last) {
    if (bin.loaded != nullptr && bin.loaded->RaiseFitting(last)) return true;
    if (bin.previous != nullptr && bin.previous->RaiseFitting(last)) {
      std::swap(bin.loaded, bin.previous);
      return true;
    }
    // One of the depot finds a place here: an empty one's, or in exchange.
    MagazineType*& place = bin.loaded == nullptr || bin.loaded->empty()
                               ? bin.loaded
                               : bin.previous;
    const bool vacant = place == nullptr || place->empty();
    MagazineType* const fitting =
        depot_.TakeFitting(size_class, last, vacant ? nullptr : place);
    if (fitting == nullptr) return false;
    bin.depot_takes.Add();
    if (!vacant) {
      bin.depot_puts.Add();
    } else if (place != nullptr) {
      depot_.PutEmpty(place);
    }
    place = fitting;
    if (bin.loaded != fitting) std::swap(bin.loaded, bin.previous);
    return true;
  }

  // To be called at each miss of a slot: each `period`-th call names a class of
  // the depot, each class in turn, the others none (kClasses). REQUIRES: the
  // caller owns the slot; period > 0.
  static unsigned NextTrim(Slot& slot, std::uint32_t period) {
    const std::uint32_t misses = ++slot.misses;
    return misses % period == 0 ? misses / period % kClasses : kClasses;
  }

  // Makes `loaded` a magazine that is not full. See Room.
  Room MakeRoom(unsigned size_class, Bin& bin) {
    if (bin.loaded != nullptr && !bin.loaded->full()) return Room::kReady;
    if (bin.previous != nullptr && !bin.previous->full()) {
      std::swap(bin.loaded, bin.previous);
      return Room::kReady;
    }
    MagazineType* empty = depot_.TakeEmpty();
    if (empty == nullptr) {
      return bin.previous == nullptr ? Room::kNoMemory : Room::kSpill;
    }
    if (bin.previous != nullptr) {
      if (!depot_.PutFull(size_class, bin.previous)) {
        depot_.PutEmpty(empty);
        return Room::kSpill;
      }
      bin.depot_puts.Add();
    }
    bin.previous = bin.loaded;
    bin.loaded = empty;
    return Room::kReady;
  }

  // Calls fn(class, number of the magazine, entry) for each entry. REQUIRES:
  // nobody else uses the cache.
  template <class Fn>
  void ForEachEntry(Fn&& fn) const {
    const auto first_of = [&](unsigned c, const MagazineType& magazine,
                              std::size_t n) {
      for (std::size_t i = 0; i < n; ++i) {
        fn(c, magazine.number(), magazine.at(i));
      }
    };
    for (std::size_t i = 0; i < slots(); ++i) {
      const Slot* slot = Find(i);
      if (slot == nullptr) continue;
      for (unsigned c = 0; c < kClasses; ++c) {
        const Bin& bin = slot->bin[c];
        if (bin.loaded != nullptr) first_of(c, *bin.loaded, bin.fill().count());
        if (bin.previous != nullptr) {
          first_of(c, *bin.previous, bin.previous->count());
        }
      }
    }
    depot_.ForEachFull([&](unsigned c, const MagazineType& magazine) {
      first_of(c, magazine, magazine.count());
    });
  }

  // REQUIRES: nobody else uses the cache, and no visit is under way.
  bool CheckInvariants() const {
    for (std::size_t i = 0; i < slots(); ++i) {
      const Slot* slot = Find(i);
      if (slot == nullptr) continue;
      for (const Bin& bin : slot->bin) {
        const std::uint64_t count = bin.fill().count();
        if (bin.loaded == nullptr) {
          if (count != Bin::Fill::kNoMagazine) return false;
          continue;
        }
        if (bin.loaded == bin.previous) return false;
        if (count > MagazineType::kCapacity) return false;
        if (bin.entries != &bin.loaded->slots()) return false;
        if (bin.tag != Tag::Cached(bin.loaded->number())) return false;
      }
    }
    for (const Bin& bin : vacant_.bin) {
      if (bin.fill().count() != Bin::Fill::kNoMagazine) return false;
    }
    return depot_.CheckInvariants();
  }

  // Bytes of magazines, slots and tables.
  std::uint64_t bytes() const {
    std::uint64_t total = depot_.bytes() + table_.bytes();
    for (std::size_t i = 0; i < slots(); ++i) {
      if (Find(i) != nullptr) total += sizeof(Slot);
    }
    return total;
  }

 private:
  // Readies a bin for the fast path.
  static void Arm(Bin& bin) {
    const bool none = bin.loaded == nullptr;
    const typename Bin::Fill before = bin.fill();
    const typename Bin::Fill after(
        before.taken(), none ? Bin::Fill::kNoMagazine : bin.loaded->count());
    bin.refills.Add(Bin::PutsOf(after) - Bin::PutsOf(before));
    bin.SetFill(after);
    bin.entries = none ? nullptr : &bin.loaded->slots();
    bin.tag = none ? Tag() : Tag::Cached(bin.loaded->number());
  }

  mutable Slot vacant_;
  SlotTable<Slot, kReach, Atom> table_;
  DepotType depot_;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_CPU_CACHE_H_
