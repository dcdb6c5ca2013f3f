// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "iova/region_meter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <iterator>
#include <list>
#include <random>
#include <set>

namespace dmamap {
namespace {

Iova InRegion(std::uint64_t region) { return Iova((region << 21) + 0x1234); }

TEST(RegionMeter, BadOptions) {
  for (const RegionMeterOptions& bad :
       {RegionMeterOptions{.region_shift = 64},
        RegionMeterOptions{.region_shift = 0}, RegionMeterOptions{.window = 0},
        RegionMeterOptions{.regions = 0}}) {
    EXPECT_EQ(RegionMeter().Init(bad).error(), Error::kInvalidArgument);
  }
  RegionMeter meter;
  EXPECT_EQ(meter.Access(Iova(0)).error(), Error::kShutDown);
  EXPECT_TRUE(meter.Init({}).ok());
  EXPECT_EQ(meter.Init({}).error(), Error::kBusy);
}

TEST(RegionMeter, CountsByHand) {
  RegionMeter meter;
  ASSERT_TRUE(meter.Init({.window = 3, .regions = 4}).ok());
  for (const std::uint64_t r : {1, 1, 2, 3, 1, 2}) {
    ASSERT_TRUE(meter.Access(InRegion(r)).ok());
  }
  const RegionMeter::Stats& s = meter.stats();
  EXPECT_EQ(s.accesses, 6u);
  EXPECT_EQ(s.first, 3u);
  EXPECT_EQ(s.distance[0], 1u);  // 1 1
  EXPECT_EQ(s.distance[2], 2u);  // 1 (2 3) 1, then 2 (3 1) 2
  EXPECT_EQ(s.max_distinct, 3u);
  EXPECT_EQ(s.sum_distinct, 1u + 1 + 2 + 3 + 3 + 3);
  EXPECT_EQ(meter.Misses(1), 5u);
  EXPECT_EQ(meter.Misses(4), 3u);
  EXPECT_TRUE(meter.Access(InRegion(~std::uint64_t{0} >> 21)).ok());
  EXPECT_EQ(meter.Access(InRegion(9)).error(), Error::kLimit);
  EXPECT_EQ(s.accesses, 7u);
}

// Against a list of regions in the order of their last use.
TEST(RegionMeter, AgreesWithAList) {
  std::mt19937_64 random(7);
  for (const std::uint32_t regions : {1u, 2u, 7u, 50u}) {
    RegionMeter meter;
    ASSERT_TRUE(meter.Init({.window = 16, .regions = regions}).ok());
    std::list<std::uint64_t> recent;
    std::deque<std::uint64_t> window;
    RegionMeter::Stats want;
    for (int i = 0; i < 3000; ++i) {
      const std::uint64_t r = random() % regions * 0x10001;
      ASSERT_TRUE(meter.Access(InRegion(r)).ok());
      const auto at = std::find(recent.begin(), recent.end(), r);
      if (at == recent.end()) {
        ++want.first;
      } else {
        const auto distance =
            static_cast<std::uint64_t>(std::distance(recent.begin(), at));
        ++want.distance[static_cast<std::size_t>(std::bit_width(distance))];
        recent.erase(at);
      }
      recent.push_front(r);
      window.push_back(r);
      if (window.size() > 16) window.pop_front();
      const std::uint64_t distinct =
          std::set<std::uint64_t>(window.begin(), window.end()).size();
      want.max_distinct = std::max(want.max_distinct, distinct);
      want.sum_distinct += distinct;
      if (i % 64 == 0) {
        ASSERT_TRUE(meter.CheckInvariants());
      }
    }
    EXPECT_EQ(meter.stats().first, want.first);
    EXPECT_EQ(meter.stats().distance, want.distance);
    EXPECT_EQ(meter.stats().max_distinct, want.max_distinct);
    EXPECT_EQ(meter.stats().sum_distinct, want.sum_distinct);
  }
}

}  // namespace
}  // namespace dmamap
