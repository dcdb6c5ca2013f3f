// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_TRACE_H_
#define DMAMAP_BENCHMARKS_TRACE_H_

// What the three kinds of trace have in common.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace dmamap::bench {

inline constexpr unsigned kTracePageShift = 12;  // the recorder's pages
inline constexpr std::uint64_t kTracePage = std::uint64_t{1} << kTracePageShift;
// Pages of the largest address space that a trace may speak of (64 bits).
inline constexpr std::uint64_t kTraceMaxPfn =
    (std::uint64_t{1} << (64 - kTracePageShift)) - 1;

// The largest CPU number that a trace may speak of: each becomes a thread.
inline constexpr std::uint64_t kTraceMaxCpu = 1023;
// More bytes mapped or allocated at once than this are a mistake in the file: a
// replay needs a few times as much memory.
inline constexpr std::uint64_t kTraceMaxBytes = std::uint64_t{1} << 28;
// The most address spaces in one trace: each becomes an allocator.
inline constexpr std::size_t kTraceMaxDomains = 256;

// Something that the recording lacks or that is odd in it, and how often. It
// is replayed all the same, and named in the report.
struct Gap {
  std::string name;
  std::uint64_t count = 0;
};

inline void CountGap(std::vector<Gap>& gaps, const std::string& name) {
  const auto found = std::find_if(gaps.begin(), gaps.end(),
                                  [&](const Gap& g) { return g.name == name; });
  if (found != gaps.end()) {
    ++found->count;
  } else {
    gaps.push_back({name, 1});
  }
}

// Numbers things 0, 1, 2 ... in the order in which their names appear.
class Numbering {
 public:
  std::uint32_t NumberOf(std::uint64_t name) {
    const auto [found, fresh] =
        numbers_.try_emplace(name, static_cast<std::uint32_t>(names_.size()));
    if (fresh) names_.push_back(name);
    return found->second;
  }
  std::size_t size() const { return names_.size(); }
  const std::vector<std::uint64_t>& names() const { return names_; }

 private:
  absl::flat_hash_map<std::uint64_t, std::uint32_t> numbers_;
  std::vector<std::uint64_t> names_;
};

// Small numbers for live things: the one freed last is taken first. size() is
// the largest number of things that were live at once.
class SlotPool {
 public:
  std::uint32_t Take() {
    if (free_.empty()) return size_++;
    const std::uint32_t slot = free_.back();
    free_.pop_back();
    return slot;
  }
  void Return(std::uint32_t slot) { free_.push_back(slot); }
  std::uint32_t size() const { return size_; }

 private:
  std::vector<std::uint32_t> free_;
  std::uint32_t size_ = 0;
};

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_TRACE_H_
