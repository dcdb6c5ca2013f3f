// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOMMU_TABLE_EMPTY_H_
#define DMAMAP_IOMMU_TABLE_EMPTY_H_

// EmptyTables: where the tables of a SecondLevel are that became empty and are
// still in their place, for the next invalidation to take out. Until then a new
// mapping finds its table there: who maps and unmaps one page again and again
// makes no table each time, and no invalidation for it. An inner header.
//
// A table's entry says that it is here (TableEntry::noted), so that it is here
// once; a place whose table has filled again is found out by who takes it.
// There is room for kMost: a table that finds none is taken out at once.

#include <array>
#include <atomic>
#include <cstddef>

#include "dma/address.h"
#include "dma/sync.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

template <class LockType, template <class> class Atom>
class EmptyTables {
 public:
  static constexpr std::size_t kMost = 32;
  struct Place {
    Range covered;       // by the table
    unsigned level = 0;  // of the slot that points to it
  };

  // False: there is no room.
  bool Add(const Place& place) {
    const Guard<LockType> guard(lock_);
    const std::size_t n = count();
    if (n == kMost) return false;
    places_[n] = place;
    Set(n + 1);
    return true;
  }
  // One that covers a part of `range`, which is here no longer.
  bool Take(Range range, Place* place) {
    if (count() == 0) return false;
    const Guard<LockType> guard(lock_);
    const std::size_t n = count();
    for (std::size_t i = 0; i < n; ++i) {
      if (!places_[i].covered.Overlaps(range)) continue;
      *place = places_[i];
      places_[i] = places_[n - 1];
      Set(n - 1);
      return true;
    }
    return false;
  }
  // relaxed: written under the lock; who does not hold it asks for what was
  // added before in its own order, or misses one that somebody else will take.
  std::size_t count() const { return count_.load(std::memory_order_relaxed); }

 private:
  void Set(std::size_t n) { count_.store(n, std::memory_order_relaxed); }

  LockType lock_;
  std::array<Place, kMost> places_;
  Atom<std::size_t> count_{0};
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOMMU_TABLE_EMPTY_H_
