// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_STATS_H_
#define DMAMAP_IOVA_STATS_H_

// What an allocator counts. Exact when nobody allocates or frees. Otherwise
// each is a figure of some moment of the call, not all of the same one: `live`
// and `cached`, which are differences, can be off by what happened meanwhile, a
// magazine's refill included, and even lie below zero (modulo 2^64).

#include <array>
#include <cstdint>

#include "dma/version.h"

namespace dmamap::inline v0 {

// One size class (ranges of up to 2^class pages), summed over all slots.
struct ClassStats {
  std::uint64_t allocations = 0;   // through the cache, since Init
  std::uint64_t frees = 0;         // likewise
  std::uint64_t alloc_misses = 0;  // allocations the loaded magazine missed
  std::uint64_t free_misses = 0;   // frees it had no room for
  std::uint64_t depot_takes = 0;   // full magazines taken from the depot
  std::uint64_t depot_puts = 0;    // and given to it
  std::uint64_t depot_trims = 0;   // and emptied, as nobody took them
  std::uint64_t from_store = 0;    // ranges that came from the store
  std::uint64_t to_store = 0;      // and went back to it
  std::uint64_t live = 0;          // ranges handed out now
  std::uint64_t cached = 0;        // ranges in magazines now

  std::uint64_t alloc_hits() const { return allocations - alloc_misses; }
  std::uint64_t free_hits() const { return frees - free_misses; }
};

template <unsigned kClasses>
struct BasicAllocatorStats {
  std::array<ClassStats, kClasses> size_class = {};
  std::uint64_t uncached_allocations = 0;  // straight from the store
  std::uint64_t uncached_frees = 0;
  std::uint64_t refusals = 0;           // kNoSpace answers
  std::uint64_t flushes = 0;            // caches emptied before a refusal
  std::uint64_t late_double_frees = 0;  // see FreeCheck::kOrdered
  std::uint64_t live = 0;               // ranges handed out now
  std::uint64_t cached = 0;             // ranges in magazines now
  std::uint64_t free_pages = 0;         // pages in the store
  // Bookkeeping, of all classes together: the store knows no classes, tags of
  // a leaf lie side by side, and an empty magazine serves any class next.
  std::uint64_t store_bytes = 0;  // of the store
  std::uint64_t tag_bytes = 0;    // of LiveTags
  std::uint64_t cache_bytes = 0;  // of magazines, slots and depot
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_STATS_H_
