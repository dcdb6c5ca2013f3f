// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "tools/address_map/counters.h"

#include <cstddef>

#include "absl/container/flat_hash_map.h"

namespace dmamap::address_map {
namespace {

class Counter {
 public:
  void Add(const HeldRange& range) {
    now_.live_pages += range.pages;
    for (std::uint64_t r = range.first >> kRegionShift;
         r <= range.last() >> kRegionShift; ++r) {
      if (ranges_in_[r]++ == 0) ++now_.regions;
    }
  }
  void Remove(const HeldRange& range) {
    now_.live_pages -= range.pages;
    for (std::uint64_t r = range.first >> kRegionShift;
         r <= range.last() >> kRegionShift; ++r) {
      if (--ranges_in_[r] == 0) --now_.regions;
    }
  }
  const Counters& now() const { return now_; }

 private:
  Counters now_;
  absl::flat_hash_map<std::uint64_t, std::size_t> ranges_in_;  // by region
};

}  // namespace

std::vector<Counters> CountersAfterEachStep(const History& history) {
  const std::size_t steps = history.us.size();
  std::vector<const HeldRange*> begins(steps);
  std::vector<const HeldRange*> ends(steps);
  for (const HeldRange& range : history.ranges) {
    begins[range.begin] = &range;
    if (range.freed) ends[range.end] = &range;
  }
  Counter counter;
  std::vector<Counters> after;
  after.reserve(steps);
  for (std::size_t i = 0; i < steps; ++i) {
    if (begins[i] != nullptr) counter.Add(*begins[i]);
    if (ends[i] != nullptr) counter.Remove(*ends[i]);
    after.push_back(counter.now());
  }
  return after;
}

}  // namespace dmamap::address_map
