// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_IOVA_LOCALITY_H_
#define DMAMAP_BENCHMARKS_IOVA_LOCALITY_H_

// Where the addresses of a ring lie after a long time, from a pool of its own
// (iova/locality.h) or from the allocator: 16,384 pages are live and are
// replaced in random order, a million times before anything is measured. What
// an IOMMU would make of the addresses that are handed out then, the meter of
// iova/region_meter.h says.

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "benchmarks/dmamap_iova.h"
#include "benchmarks/peers/measure.h"
#include "benchmarks/report.h"
#include "iova/locality.h"
#include "iova/region_meter.h"
#include "iova/standard.h"

namespace dmamap::bench {

// The 64 pages of a descriptor, of 4 KiB, are all in one or two of these.
inline constexpr std::uint32_t kRunPages = 64;

class IovaLocality {
 public:
  static Outcome RunPlain() {
    StandardAllocator iova;
    if (!StartAllocator(iova, 1, peers::kLastPage48).ok()) return NotStarted();
    return IovaLocality().Run([&] { return iova.Allocate(1); },
                              [&](Iova page) { return iova.Free(page, 1); });
  }
  static Outcome RunPool() {
    StandardAllocator iova;
    LocalityPool<StandardAllocator> pool(iova);
    if (!StartAllocator(iova, 1, peers::kLastPage48).ok() ||
        !pool.Init({.run_pages = kRunPages, .max_chunks = 1024}).ok()) {
      return NotStarted();
    }
    Outcome outcome =
        IovaLocality().Run([&] { return pool.Allocate(); },
                           [&](Iova page) { return pool.Free(page); });
    outcome.AddHidden("short_runs", pool.stats().short_runs);
    return outcome;
  }

 private:
  static constexpr std::size_t kLive = 16'384;
  static constexpr std::size_t kBatch = 1'024;  // replaced between two readings
  static constexpr std::size_t kAgeing = 1'000'000 / kBatch;
  static constexpr std::size_t kMeasured = 200;
  static constexpr std::uint64_t kCacheRegions = 16;

  static Outcome NotStarted() {
    Outcome outcome;
    outcome.error = "the allocator did not start";
    return outcome;
  }

  template <class Take, class Give>
  Outcome Run(Take take, Give give) {
    if (!meter_.Init({.window = kRunPages}).ok()) return NotStarted();
    for (Iova& page : live_) page = Checked(take());
    for (std::size_t i = 0; i < kAgeing; ++i) Replace(take, give);
    std::vector<double> ns;
    for (std::size_t i = 0; i < kMeasured; ++i) {
      ns.push_back(Replace(take, give));
      for (std::size_t n = 0; n < kBatch; ++n) {
        if (!meter_.Access(live_[n]).ok()) ++failures_;
      }
    }
    for (const Iova page : live_) {
      if (!give(page).ok()) ++failures_;
    }
    const RegionMeter::Stats& seen = meter_.stats();
    const auto accesses = static_cast<double>(seen.accesses);
    Outcome outcome;
    outcome.cpu_ns = Median(std::move(ns));
    outcome.Add("regions_of_64_pages",
                static_cast<double>(seen.sum_distinct) / accesses);
    outcome.Add("at_most", static_cast<double>(seen.max_distinct));
    outcome.Add("misses_per_page",
                static_cast<double>(meter_.Misses(kCacheRegions)) / accesses);
    outcome.AddHidden("failures", failures_);
    return outcome;
  }

  // Frees kBatch pages chosen at random, which come to the front, and allocates
  // as many: ns for one of each.
  template <class Take, class Give>
  double Replace(Take& take, Give& give) {
    for (std::size_t i = 0; i < kBatch; ++i) {
      std::swap(live_[i], live_[i + random_.Below(kLive - i)]);
    }
    const std::uint64_t before = peers::ThreadCpuNs();
    for (std::size_t i = 0; i < kBatch; ++i) {
      if (!give(live_[i]).ok()) ++failures_;
    }
    for (std::size_t i = 0; i < kBatch; ++i) live_[i] = Checked(take());
    return static_cast<double>(peers::ThreadCpuNs() - before) / kBatch;
  }
  Iova Checked(const Result<Iova>& page) {
    if (!page.ok()) ++failures_;
    return page.value_or(Iova(0));
  }

  std::vector<Iova> live_ = std::vector<Iova>(kLive);
  RegionMeter meter_;
  std::uint64_t failures_ = 0;
  peers::Random random_{9};
};

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_IOVA_LOCALITY_H_
