// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_REGION_METER_H_
#define DMAMAP_IOVA_REGION_METER_H_

// RegionMeter: what a stream of I/O addresses asks of an IOMMU's page-table
// cache, counted in software.
//
// One leaf page table maps 2 MiB of 4 KiB pages, so a walk misses that cache
// when it comes to a region that was not used for long (Fast & Safe IO Memory
// Protection, SOSP 2024). Counted for each access:
//
//   distinct   regions in the last `window` accesses, this one included
//   distance   different regions since the last access to this one: a cache of
//              c regions that evicts the least recently used misses exactly the
//              accesses of distance >= c, and first ones
//
// Each region's last access is a 1 in a Fenwick tree over time; a distance is a
// sum of ones. When time runs out of the tree, the last accesses move together.
// Cost: O(log regions) amortised. Single-threaded; all memory comes in Init.

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include "dma/address.h"
#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

struct RegionMeterOptions {
  unsigned region_shift = 21;     // 2 MiB
  std::uint32_t window = 64;      // accesses
  std::uint32_t regions = 16384;  // different ones at most, to 2^24
};

class RegionMeter {
 public:
  // Bucket 0: distance 0; bucket b: distances [2^(b-1), 2^b).
  static constexpr std::size_t kBuckets = 26;
  struct Stats {
    std::uint64_t accesses = 0;
    std::uint64_t first = 0;         // to a region not seen before
    std::uint64_t max_distinct = 0;  // in any window
    std::uint64_t sum_distinct = 0;  // over all accesses: for the mean
    std::array<std::uint64_t, kBuckets> distance = {};
  };

  // Once: then kBusy. kInvalidArgument, kNoMemory.
  Result<void> Init(const RegionMeterOptions& options) {
    if (last_ != nullptr) return Error::kBusy;
    if (options.region_shift == 0 || options.region_shift > 63 ||
        options.window == 0 || options.regions == 0 ||
        options.regions > (1u << 24)) {
      return Error::kInvalidArgument;
    }
    shift_ = options.region_shift;
    max_regions_ = options.regions;
    window_size_ = options.window;
    // Half of the table is empty, and half of all time is.
    table_size_ = std::bit_ceil(2 * options.regions);
    times_ = 2 * options.regions;
    key_.reset(new (std::nothrow) std::uint64_t[table_size_]());
    in_window_.reset(new (std::nothrow) std::uint32_t[table_size_]());
    window_.reset(new (std::nothrow) std::uint32_t[window_size_]());
    owner_.reset(new (std::nothrow) std::uint32_t[times_ + 1]());
    tree_.reset(new (std::nothrow) std::uint32_t[times_ + 1]());
    last_.reset(new (std::nothrow) std::uint32_t[table_size_]());
    if (key_ == nullptr || in_window_ == nullptr || window_ == nullptr ||
        owner_ == nullptr || tree_ == nullptr || last_ == nullptr) {
      last_.reset();
      return Error::kNoMemory;
    }
    return Ok();
  }

  // Counts one access. kLimit: one region too many, nothing was counted;
  // kShutDown before Init.
  Result<void> Access(Iova address) {
    if (last_ == nullptr) return Error::kShutDown;
    const std::uint32_t region = Find(address.value() >> shift_);
    if (key_[region] == 0) {
      if (stats_.first == max_regions_) return Error::kLimit;
      key_[region] = (address.value() >> shift_) + 1;
      ++stats_.first;
    } else {
      const std::uint64_t since = SumTo(now_) - SumTo(last_[region]);
      ++stats_.distance[static_cast<std::size_t>(std::bit_width(since))];
      Add(last_[region], -1);
      owner_[last_[region]] = 0;
    }
    if (now_ == times_) Compact();
    last_[region] = ++now_;
    owner_[now_] = region + 1;
    Add(now_, 1);
    NoteInWindow(region);
    return Ok();
  }

  const Stats& stats() const { return stats_; }

  // Accesses that a cache of `regions` regions, a power of two, misses.
  std::uint64_t Misses(std::uint64_t regions) const {
    std::uint64_t misses = stats_.first;
    for (std::size_t b = static_cast<std::size_t>(std::bit_width(regions));
         b < kBuckets; ++b) {
      misses += stats_.distance[b];
    }
    return misses;
  }

  // The tree has a 1 for each region's last access and nothing else.
  bool CheckInvariants() const {
    if (last_ == nullptr) return true;
    std::uint64_t ones = 0;
    for (std::uint32_t t = 1; t <= times_; ++t) {
      const bool owned = owner_[t] != 0;
      if (owned && last_[owner_[t] - 1] != t) return false;
      ones += owned ? 1 : 0;
      if (SumTo(t) != ones) return false;
    }
    return ones == stats_.first;
  }

 private:
  // The region's place in the table, or the empty one for it. Linear probing;
  // regions are never taken out.
  std::uint32_t Find(std::uint64_t number) const {
    // 2^64 divided by the golden ratio spreads neighbours (Knuth 6.4).
    std::uint64_t at = (number * 0x9e3779b97f4a7c15u) >> 32;
    for (;; ++at) {
      at &= table_size_ - 1;
      if (key_[at] == 0 || key_[at] == number + 1) {
        return static_cast<std::uint32_t>(at);
      }
    }
  }

  void Add(std::uint32_t time, int by) {
    for (; time <= times_; time += time & (~time + 1)) {
      tree_[time] += static_cast<std::uint32_t>(by);
    }
  }
  std::uint64_t SumTo(std::uint32_t time) const {
    std::uint64_t sum = 0;
    for (; time != 0; time &= time - 1) sum += tree_[time];
    return sum;
  }

  // Moves the last accesses to times 1, 2, ... in their order. At least half
  // of all times become free.
  void Compact() {
    now_ = 0;
    for (std::uint32_t t = 1; t <= times_; ++t) {
      const std::uint32_t owner = owner_[t];
      owner_[t] = 0;
      if (owner == 0) continue;
      owner_[++now_] = owner;
      last_[owner - 1] = now_;
    }
    // A Fenwick tree of ones up to now_, in linear time.
    for (std::uint32_t t = 1; t <= times_; ++t) tree_[t] = t <= now_ ? 1 : 0;
    for (std::uint32_t t = 1; t <= times_; ++t) {
      const std::uint32_t parent = t + (t & (~t + 1));
      if (parent <= times_) tree_[parent] += tree_[t];
    }
  }

  void NoteInWindow(std::uint32_t region) {
    std::uint32_t& place = window_[stats_.accesses % window_size_];
    if (stats_.accesses >= window_size_ && --in_window_[place] == 0) {
      --distinct_;
    }
    place = region;
    if (++in_window_[region] == 1) ++distinct_;
    ++stats_.accesses;
    stats_.sum_distinct += distinct_;
    stats_.max_distinct = std::max(stats_.max_distinct, distinct_);
  }

  unsigned shift_ = 21;
  std::uint32_t max_regions_ = 0;
  std::uint32_t window_size_ = 0;
  std::uint32_t table_size_ = 0;
  std::uint32_t times_ = 0;
  std::uint32_t now_ = 0;  // the last time that was given out
  std::uint64_t distinct_ = 0;
  Stats stats_;
  std::unique_ptr<std::uint64_t[]> key_;        // region number + 1
  std::unique_ptr<std::uint32_t[]> last_;       // time of the last access
  std::unique_ptr<std::uint32_t[]> in_window_;  // accesses in the window
  std::unique_ptr<std::uint32_t[]> window_;     // the last ones' regions
  std::unique_ptr<std::uint32_t[]> owner_;      // region + 1 of a time, or 0
  std::unique_ptr<std::uint32_t[]> tree_;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_REGION_METER_H_
