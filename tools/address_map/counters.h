// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TOOLS_ADDRESS_MAP_COUNTERS_H_
#define DMAMAP_TOOLS_ADDRESS_MAP_COUNTERS_H_

// What is live after each step, counted in pages and in 2 MiB regions.

#include <cstdint>
#include <vector>

#include "tools/address_map/replay.h"

namespace dmamap::address_map {

struct Counters {
  std::uint64_t live_pages = 0;
  std::uint64_t regions = 0;  // 2 MiB regions with a live page in them

  // The fewest regions that could hold the live pages.
  std::uint64_t fewest_regions() const {
    return (live_pages + kRegionPages - 1) / kRegionPages;
  }
  // The share of the bytes of those regions that is not live: 0 when all of it
  // is, or when nothing is.
  double fragmentation() const {
    if (regions == 0) return 0;
    return 1 - static_cast<double>(live_pages) /
                   static_cast<double>(regions * kRegionPages);
  }

  friend bool operator==(const Counters&, const Counters&) = default;
};

// One for each step.
std::vector<Counters> CountersAfterEachStep(const History& history);

}  // namespace dmamap::address_map

#endif  // DMAMAP_TOOLS_ADDRESS_MAP_COUNTERS_H_
