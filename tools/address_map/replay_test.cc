// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "tools/address_map/replay.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "tools/address_map/recording.h"

namespace dmamap::address_map {
namespace {

constexpr std::uint64_t kLimit = 0xfffff;

Step Allocate(std::uint32_t range, std::uint64_t us, std::uint64_t pages,
              std::uint64_t page, std::uint16_t lane = 0) {
  return {.allocates = true,
          .holder = static_cast<std::uint8_t>(range % 3),
          .lane = lane,
          .range = range,
          .us = us,
          .pages = pages,
          .limit = kLimit,
          .page = page};
}
Step Free(std::uint32_t range, std::uint64_t us, std::uint16_t lane = 0) {
  Step step = {};
  step.range = range;
  step.us = us;
  step.lane = lane;
  return step;
}
Recording Of(std::vector<Step> steps) {
  Recording recording;
  recording.holders = {"a", "b", "c"};
  recording.steps = std::move(steps);
  recording.cpus = {0, 1};
  recording.last_limit = kLimit;
  for (const Step& step : recording.steps) {
    recording.ranges = std::max<std::size_t>(recording.ranges, step.range + 1u);
  }
  return recording;
}

TEST(TakeAsRecorded, ExactRanges) {
  const auto history =
      TakeAsRecorded(Of({Allocate(0, 10, 2, 0x200), Allocate(1, 20, 1, 0x500),
                         Free(0, 30), Allocate(2, 45, 1, 0x201), Free(2, 50)}));
  ASSERT_TRUE(history.ok()) << history.status();
  EXPECT_EQ(history->us, (std::vector<std::uint64_t>{10, 20, 30, 45, 50}));
  EXPECT_TRUE(history->notes.empty());
  ASSERT_EQ(history->ranges.size(), 3u);
  const HeldRange& first = history->ranges[0];
  EXPECT_EQ(first.first, 0x200u);
  EXPECT_EQ(first.last(), 0x201u);
  EXPECT_EQ(first.begin, 0u);
  EXPECT_EQ(first.end, 2u);
  EXPECT_EQ(first.begin_us, 10u);
  EXPECT_EQ(first.end_us, 30u);
  EXPECT_TRUE(first.freed);
  const HeldRange& second = history->ranges[1];
  EXPECT_FALSE(second.freed);
  EXPECT_EQ(second.end, 5u);
  EXPECT_EQ(second.end_us, 50u);
  EXPECT_EQ(second.holder, 1u);
  EXPECT_EQ(history->ranges[2].begin, 3u);
}

TEST(TakeAsRecorded, CountsWhatItCannotDraw) {
  const auto history = TakeAsRecorded(
      Of({Allocate(0, 1, 2, 0x200), Allocate(1, 2, 1, 0),
          Allocate(2, 3, 4, 0x201), Free(1, 4), Free(2, 5), Free(0, 6)}));
  ASSERT_TRUE(history.ok()) << history.status();
  ASSERT_EQ(history->ranges.size(), 1u);
  EXPECT_EQ(history->ranges[0].end, 5u);
  ASSERT_EQ(history->notes.size(), 2u);
  EXPECT_EQ(history->notes[0],
            "1 ranges have no address in the trace, not drawn");
  EXPECT_EQ(history->notes[1], "1 ranges overlap a live one, not drawn");
}

TEST(TakeAsRecorded, NothingToDraw) {
  const auto history = TakeAsRecorded(Of({Allocate(0, 1, 2, 0)}));
  EXPECT_EQ(history.status().code(), absl::StatusCode::kNotFound);
}

// Lets lane 0 allocate and lane 1 free, so that addresses travel.
Recording Crossing() {
  std::vector<Step> steps;
  std::uint64_t us = 0;
  for (std::uint32_t i = 0; i < 2000; ++i) {
    steps.push_back(Allocate(i, ++us, 1 + i % 40, 0, 0));
    if (i >= 50) steps.push_back(Free(i - 50, ++us, 1));
  }
  return Of(std::move(steps));
}

TEST(ReplayThroughDmamap, HoldsWhatWasAskedFor) {
  const Recording recording = Crossing();
  const auto history = ReplayThroughDmamap(recording);
  ASSERT_TRUE(history.ok()) << history.status();
  EXPECT_TRUE(history->notes.empty());
  ASSERT_EQ(history->ranges.size(), 2000u);
  for (std::size_t i = 0; i < 2000; ++i) {
    const HeldRange& range = history->ranges[i];
    EXPECT_EQ(range.pages, 1 + i % 40);
    EXPECT_EQ(range.freed, i < 1950);
    EXPECT_GE(range.first, 1u);
    EXPECT_LE(range.last(), kLimit);
    EXPECT_EQ(history->us[range.begin], range.begin_us);
  }
}

TEST(ReplayThroughDmamap, TwoRunsAreOne) {
  const Recording recording = Crossing();
  const auto one = ReplayThroughDmamap(recording);
  const auto two = ReplayThroughDmamap(recording);
  ASSERT_TRUE(one.ok() && two.ok());
  for (std::size_t i = 0; i < one->ranges.size(); ++i) {
    ASSERT_EQ(one->ranges[i].first, two->ranges[i].first) << i;
  }
}

TEST(ReplayThroughDmamap, CachesAreThoseOfTheRecordedCpu) {
  // What CPU 1 frees, CPU 1 gets back, and not CPU 0.
  const auto history = ReplayThroughDmamap(
      Of({Allocate(0, 1, 1, 0, 0), Allocate(1, 2, 1, 0, 1), Free(1, 3, 1),
          Allocate(2, 4, 1, 0, 0), Allocate(3, 5, 1, 0, 1)}));
  ASSERT_TRUE(history.ok()) << history.status();
  EXPECT_NE(history->ranges[2].first, history->ranges[1].first);
  EXPECT_EQ(history->ranges[3].first, history->ranges[1].first);
}

TEST(ReplayThroughDmamap, CountsWhatFoundNoSpace) {
  Recording recording =
      Of({Allocate(0, 1, 4, 0), Allocate(1, 2, 4, 0), Allocate(2, 3, 4, 0),
          Free(1, 4), Free(2, 5), Free(0, 6)});
  recording.last_limit = 7;  // pages 1 to 7: one aligned block of 4
  for (Step& step : recording.steps) step.limit = 7;
  const auto history = ReplayThroughDmamap(recording);
  ASSERT_TRUE(history.ok()) << history.status();
  ASSERT_EQ(history->ranges.size(), 1u);
  EXPECT_EQ(history->ranges[0].first, 4u);
  EXPECT_EQ(history->ranges[0].end, 5u);
  ASSERT_EQ(history->notes.size(), 1u);
  EXPECT_EQ(history->notes[0], "2 allocations found no space");
}

}  // namespace
}  // namespace dmamap::address_map
