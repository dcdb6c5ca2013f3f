// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_LIVE_RANGES_H_
#define DMAMAP_BENCHMARKS_LIVE_RANGES_H_

// Disjoint ranges of page numbers with a value each: what is live at one point
// of a trace. Used by the readers to check the recording and by the replays to
// check the allocator, so deliberately unlike any structure under test.

#include <cstdint>
#include <iterator>
#include <utility>

#include "absl/container/btree_map.h"

namespace dmamap::bench {

template <class Value>
class LiveRanges {
 public:
  struct Item {
    std::uint64_t first;  // page numbers, both inclusive
    std::uint64_t last;
    Value value;
  };

  // The lowest item that shares a page with [first, last]; null when none does.
  Item* FindOverlap(std::uint64_t first, std::uint64_t last) {
    auto at = items_.upper_bound(last);
    Item* lowest = nullptr;
    while (at != items_.begin()) {
      at = std::prev(at);
      if (at->second.last < first) break;
      lowest = &at->second;
    }
    return lowest;
  }

  // The item that begins at `first`; null when there is none.
  Item* FindFirst(std::uint64_t first) {
    const auto at = items_.find(first);
    return at == items_.end() ? nullptr : &at->second;
  }

  // REQUIRES: nothing overlaps [first, last].
  void Add(std::uint64_t first, std::uint64_t last, Value value) {
    items_.emplace(first, Item{first, last, std::move(value)});
  }

  // Removes the item that begins at `first`, if there is one.
  void Remove(std::uint64_t first) { items_.erase(first); }

  std::size_t size() const { return items_.size(); }
  bool empty() const { return items_.empty(); }

 private:
  absl::btree_map<std::uint64_t, Item> items_;  // by first page
};

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_LIVE_RANGES_H_
