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
// While a magazine is loaded its fill is kept in the bin, as two counts:
// entries put since it was armed less entries taken. So the two that the fast
// path has to change are its statistics too, and a free does not wait for what
// the allocation before it stores, nor the other way round. Anything but the
// fast path visits a bin through BinVisit, which hands the fill to the magazine
// and takes it back.
//
// Who writes what: a Bin belongs to the owner of its slot alone. Only the
// counters are read by others (statistics), and the slot's pointer.
//
// Synchronisation edge
//   S1 -> S2  a slot is constructed before a reader of statistics finds it.
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
#include "iova/depot.h"
#include "iova/live_tags.h"
#include "iova/magazine.h"

namespace dmamap::inline v0 {

template <class Tags, unsigned kClasses, std::size_t kEntries = 127,
          template <class> class Atom = std::atomic>
class CpuCache {
 public:
  using Cell = typename Tags::Cell;
  using MagazineType = Magazine<Cell, kEntries, Atom>;
  using Entry = typename MagazineType::Entry;
  using DepotType = Depot<MagazineType, kClasses, Atom>;

  // What a bin counts while it has no loaded magazine.
  static constexpr std::uint64_t kNoMagazine = std::uint64_t{1} << 63;

  // One size class of one slot. The fast path reads the first 32 bytes alone.
  struct alignas(kCacheLine) Bin {
    // The difference is the number of `entries`, or kNoMagazine.
    Atom<std::uint64_t> puts{kNoMagazine};
    Atom<std::uint64_t> takes{0};
    typename MagazineType::Slots* entries = nullptr;  // of `loaded`
    Tag tag;  // of the entries: it names `loaded`

    MagazineType* loaded = nullptr;
    MagazineType* previous = nullptr;
    Counter<Atom> refills;  // of `puts`, modulo 2^64: entries not freed here
    Counter<Atom> visit_allocs;  // entries handed out, and taken back, during a
    Counter<Atom> visit_frees;   // visit
    Counter<Atom> alloc_misses;  // allocations that `loaded` could not serve
    Counter<Atom> free_misses;   // frees that `loaded` could not take
    Counter<Atom> dropped;       // entries of late double frees
    Counter<Atom> depot_takes;   // full magazines from the depot
    Counter<Atom> depot_puts;    // full magazines to the depot

    // Its owner's alone, while nobody visits: the fast path reads the counts
    // once.
    struct Fill {
      std::uint64_t puts;
      std::uint64_t takes;
      std::uint64_t count() const { return puts - takes; }
      // Each is one comparison, and both fail for kNoMagazine.
      bool has_entry() const { return count() - 1 < MagazineType::kCapacity; }
      bool has_room() const { return count() < MagazineType::kCapacity; }
    };
    Fill fill() const { return {Load(puts), Load(takes)}; }
    // REQUIRES: f is current and has_entry(), or has_room().
    Entry Top(const Fill& f) const { return (*entries)[f.count() - 1]; }
    void Pop(const Fill& f) { Store(takes, f.takes + 1); }
    void Push(const Fill& f, const Entry& entry) {
      entries->Set(f.count(), entry);
      Store(puts, f.puts + 1);
    }

    // Any thread, for statistics.
    std::uint64_t allocations() const {
      return Load(takes) + visit_allocs.value();
    }
    std::uint64_t frees() const {
      return Load(puts) - kNoMagazine - refills.value() + visit_frees.value();
    }

   private:
    friend CpuCache;
    // relaxed: one writer; others only read statistics.
    static std::uint64_t Load(const Atom<std::uint64_t>& count) {
      return count.load(std::memory_order_relaxed);
    }
    static void Store(Atom<std::uint64_t>& count, std::uint64_t value) {
      count.store(value, std::memory_order_relaxed);
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

  CpuCache() = default;
  CpuCache(const CpuCache&) = delete;
  CpuCache& operator=(const CpuCache&) = delete;
  ~CpuCache() {
    for (std::size_t i = 0; i < slots_; ++i) {
      // relaxed: nobody else is left.
      Slot* slot = slot_[i].load(std::memory_order_relaxed);
      if (slot != &vacant_) delete slot;
    }
    delete[] slot_;
  }

  // kBusy the second time, kNoMemory, kLimit when so many slots and waiting
  // magazines could need more magazines than there are numbers.
  Result<void> Init(std::size_t slots, std::uint32_t depot_limit) {
    if (slot_ != nullptr) return Error::kBusy;
    if (slots == 0) return Error::kInvalidArgument;
    constexpr std::uint64_t kMax = DepotType::kMaxMagazines;
    if (slots > kMax || depot_limit > kMax ||
        (2 * slots + depot_limit) * kClasses > kMax) {
      return Error::kLimit;
    }
    slot_ = new (std::nothrow) Atom<Slot*>[slots]();
    if (slot_ == nullptr) return Error::kNoMemory;
    for (std::size_t i = 0; i < slots; ++i) {
      // relaxed: nobody else knows the table yet.
      slot_[i].store(&vacant_, std::memory_order_relaxed);
    }
    depot_.set_limit(depot_limit);
    slots_ = slots;
    return Ok();
  }

  // 0 before Init.
  std::size_t slots() const { return slots_; }
  DepotType& depot() { return depot_; }
  const DepotType& depot() const { return depot_; }

  // The slot; before its owner's first Obtain one that has nothing and takes
  // nothing. REQUIRES: n < slots().
  Slot& SlotOf(std::size_t n) const {
    // S2, acquire: pairs with S1. (The owner itself needs no order.)
    return *slot_[n].load(std::memory_order_acquire);
  }
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
    if (slot == nullptr) return nullptr;
    // S1, release: pairs with S2.
    slot_[n].store(slot, std::memory_order_release);
    return slot;
  }

  // Makes `loaded` a magazine with an entry of at most `last` on top, from the
  // bin's own two or, when one of these is empty, the depot's topmost. False
  // when none has one.
  bool LoadFitting(unsigned size_class, Bin& bin, std::uint64_t last) {
    if (bin.loaded != nullptr && bin.loaded->RaiseFitting(last)) return true;
    if (bin.previous != nullptr && bin.previous->RaiseFitting(last)) {
      std::swap(bin.loaded, bin.previous);
      return true;
    }
    // A magazine of the depot has to find a place here: an empty one's.
    MagazineType*& place = bin.loaded == nullptr || bin.loaded->empty()
                               ? bin.loaded
                               : bin.previous;
    if (place != nullptr && !place->empty()) return false;
    MagazineType* full = depot_.TakeFull(size_class);
    if (full == nullptr) return false;
    bin.depot_takes.Add();
    if (place != nullptr) depot_.PutEmpty(place);
    place = full;
    if (!full->RaiseFitting(last)) return false;  // kept for other requests
    if (bin.loaded != full) std::swap(bin.loaded, bin.previous);
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
    for (std::size_t i = 0; i < slots_; ++i) {
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
    for (std::size_t i = 0; i < slots_; ++i) {
      const Slot* slot = Find(i);
      if (slot == nullptr) continue;
      for (const Bin& bin : slot->bin) {
        const std::uint64_t count = bin.fill().count();
        if (bin.loaded == nullptr) {
          if (count != kNoMagazine) return false;
          continue;
        }
        if (bin.loaded == bin.previous) return false;
        if (count > MagazineType::kCapacity) return false;
        if (bin.entries != &bin.loaded->slots()) return false;
        if (bin.tag != Tag::Cached(bin.loaded->number())) return false;
      }
    }
    for (const Bin& bin : vacant_.bin) {
      if (bin.fill().count() != kNoMagazine) return false;
    }
    return depot_.CheckInvariants();
  }

  // Bytes of magazines, slots and tables.
  std::uint64_t bytes() const {
    std::uint64_t total = depot_.bytes() + slots_ * sizeof(Atom<Slot*>);
    for (std::size_t i = 0; i < slots_; ++i) {
      if (Find(i) != nullptr) total += sizeof(Slot);
    }
    return total;
  }

 private:
  // Readies a bin for the fast path.
  static void Arm(Bin& bin) {
    const bool none = bin.loaded == nullptr;
    const std::uint64_t before = Bin::Load(bin.puts);
    const std::uint64_t after =
        Bin::Load(bin.takes) + (none ? kNoMagazine : bin.loaded->count());
    Bin::Store(bin.puts, after);
    bin.refills.Add(after - before);
    bin.entries = none ? nullptr : &bin.loaded->slots();
    bin.tag = none ? Tag() : Tag::Cached(bin.loaded->number());
  }

  Atom<Slot*>* slot_ = nullptr;
  std::size_t slots_ = 0;
  mutable Slot vacant_;
  DepotType depot_;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_CPU_CACHE_H_
