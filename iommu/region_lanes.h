// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOMMU_REGION_LANES_H_
#define DMAMAP_IOMMU_REGION_LANES_H_

// RegionLanes: the locks of a SecondLevel's regions, and with each where the
// table of pages is that was last used under it, so that most calls need no
// walk from the root. An inner header.
//
// A table of pages stays where it is, and so do all above it, until it is taken
// out of its slot, under this lock: whoever does so calls Forget.

#include <array>
#include <cstddef>
#include <cstdint>

#include "dma/version.h"

namespace dmamap::inline v0 {

template <class LockType, class Table, class Slot, std::size_t kLocks>
class RegionLanes {
 public:
  struct Lane {
    LockType lock;                  // guards the rest
    std::uint64_t next_region = 0;  // its number and one more; 0: none
    Table* pages = nullptr;
    Slot* above = nullptr;  // points to it

    bool Knows(std::uint64_t region) const { return next_region == region + 1; }
    void Remember(std::uint64_t region, Table* table, Slot* slot) {
      next_region = region + 1;
      pages = table;
      above = slot;
    }
    void Forget(std::uint64_t region) {
      if (Knows(region)) next_region = 0;
    }
  };

  Lane& Of(std::uint64_t region) {
    // Neighbouring regions have different locks.
    return lanes_[static_cast<std::size_t>(region ^ (region >> 6)) &
                  (kLocks - 1)];
  }
  auto begin() { return lanes_.begin(); }
  auto end() { return lanes_.end(); }

 private:
  static_assert((kLocks & (kLocks - 1)) == 0);
  std::array<Lane, kLocks> lanes_;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOMMU_REGION_LANES_H_
