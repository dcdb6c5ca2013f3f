// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "tools/address_map/layout.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace dmamap::address_map {
namespace {

// Steps 0 to 4 at 100, 110, 120, 160 and 200 us:
//   0  a 512 pages, all of region 3
//   1  b 256 pages, the upper half of region 5 and the lower half of region 6,
//      128 each
//   2  a goes
//   3  c 1 page, the last of region 3
//   4  b goes
History Small() {
  History history;
  history.us = {100, 110, 120, 160, 200};
  history.ranges = {{.first = 3 * 512,
                     .pages = 512,
                     .begin = 0,
                     .end = 2,
                     .begin_us = 100,
                     .end_us = 120,
                     .holder = 0,
                     .freed = true},
                    {.first = 6 * 512 - 128,
                     .pages = 256,
                     .begin = 1,
                     .end = 4,
                     .begin_us = 110,
                     .end_us = 200,
                     .holder = 1,
                     .freed = true},
                    {.first = 4 * 512 - 1,
                     .pages = 1,
                     .begin = 3,
                     .end = 5,
                     .begin_us = 160,
                     .end_us = 200,
                     .holder = 2,
                     .freed = false}};
  return history;
}

LayoutOptions Sized(double width, double height,
                    TimeAxis axis = TimeAxis::kSteps) {
  LayoutOptions options;
  options.width = width;
  options.height = height;
  options.axis = axis;
  return options;
}

void ExpectBox(const Box& box, double x, double y, double width,
               double height) {
  EXPECT_DOUBLE_EQ(box.x, x);
  EXPECT_DOUBLE_EQ(box.y, y);
  EXPECT_DOUBLE_EQ(box.width, width);
  EXPECT_DOUBLE_EQ(box.height, height);
}

TEST(Counters, AfterEachStep) {
  EXPECT_EQ(
      CountersAfterEachStep(Small()),
      (std::vector<Counters>{{512, 1}, {768, 3}, {256, 2}, {257, 3}, {1, 1}}));
}

TEST(Counters, Fragmentation) {
  EXPECT_EQ((Counters{0, 0}).fragmentation(), 0);
  EXPECT_EQ((Counters{512, 1}).fragmentation(), 0);
  EXPECT_EQ((Counters{256, 2}).fragmentation(), 0.75);
  EXPECT_EQ((Counters{0, 0}).fewest_regions(), 0u);
  EXPECT_EQ((Counters{512, 3}).fewest_regions(), 1u);
  EXPECT_EQ((Counters{513, 3}).fewest_regions(), 2u);
}

TEST(Counters, RegionSharedByTwoRanges) {
  History history = Small();
  history.ranges[2].first = 6 * 512 + 300;
  // b alone, then b and c in region 6, then c alone.
  EXPECT_EQ(CountersAfterEachStep(history)[2], (Counters{256, 2}));
  EXPECT_EQ(CountersAfterEachStep(history)[3], (Counters{257, 2}));
  EXPECT_EQ(CountersAfterEachStep(history)[4], (Counters{1, 1}));
}

TEST(LayOut, RowsAreTheTouchedRegions) {
  const Layout layout = LayOut(Small(), Sized(100, 96));
  ASSERT_EQ(layout.regions.size(), 3u);
  EXPECT_DOUBLE_EQ(layout.row_height, 32);
  EXPECT_DOUBLE_EQ(layout.height, 96);
  EXPECT_EQ(layout.regions[0].region, 6u);
  EXPECT_EQ(layout.regions[1].region, 5u);
  EXPECT_EQ(layout.regions[2].region, 3u);
  EXPECT_DOUBLE_EQ(layout.regions[1].top, 32);
  EXPECT_FALSE(layout.regions[0].gap_below);
  EXPECT_TRUE(layout.regions[1].gap_below);   // region 4 is left out
  EXPECT_FALSE(layout.regions[2].gap_below);  // nothing is below
}

TEST(LayOut, RowsHaveAMostHeight) {
  EXPECT_DOUBLE_EQ(LayOut(Small(), Sized(100, 4000)).row_height, 512);
}

TEST(LayOut, BoxesBySteps) {
  const Layout layout = LayOut(Small(), Sized(100, 96));
  EXPECT_DOUBLE_EQ(layout.span, 5);
  ASSERT_EQ(layout.boxes.size(), 3u);
  ExpectBox(layout.boxes[0], 0, 64, 40, 32);
  // Over the boundary of two rows.
  ExpectBox(layout.boxes[1], 20, 24, 60, 16);
  ExpectBox(layout.boxes[2], 60, 64, 40, 32.0 / 512);
  EXPECT_EQ(layout.raster.ranges, 0u);
  EXPECT_TRUE(layout.raster.runs.empty());
}

TEST(LayOut, BoxesByTime) {
  const Layout layout =
      LayOut(Small(), Sized(100, 96, TimeAxis::kMicroseconds));
  EXPECT_DOUBLE_EQ(layout.span, 100);
  EXPECT_DOUBLE_EQ(layout.origin, 100);
  ExpectBox(layout.boxes[0], 0, 64, 20, 32);
  ExpectBox(layout.boxes[1], 10, 24, 90, 16);
  ExpectBox(layout.boxes[2], 60, 64, 40, 32.0 / 512);
}

TEST(LayOut, NoTimeAtAll) {
  History history = Small();
  for (auto& us : history.us) us = 7;
  const Layout layout =
      LayOut(history, Sized(100, 96, TimeAxis::kMicroseconds));
  EXPECT_DOUBLE_EQ(layout.span, 1);
  for (const Box& box : layout.boxes) {
    EXPECT_DOUBLE_EQ(box.x, 0);
    EXPECT_GT(box.width, 0);
  }
  for (const Sample& sample : layout.live_bytes) {
    EXPECT_FALSE(std::isnan(sample.mean));
  }
}

TEST(LayOut, CurvesColumnByColumn) {
  // One column for each step.
  const Layout wide = LayOut(Small(), Sized(5, 96));
  ASSERT_EQ(wide.regions_in_use.size(), 5u);
  const double regions[] = {1, 3, 2, 3, 1};
  const double pages[] = {512, 768, 256, 257, 1};
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(wide.regions_in_use[i],
              (Sample{regions[i], regions[i], regions[i], true}));
    EXPECT_DOUBLE_EQ(wide.live_bytes[i].mean, pages[i] * 4096);
  }
  EXPECT_DOUBLE_EQ(wide.fragmentation[2].mean, 0.75);
  EXPECT_DOUBLE_EQ(wide.fewest_regions[1].mean, 2);
  // All in one column.
  const Layout narrow = LayOut(Small(), Sized(1, 96));
  ASSERT_EQ(narrow.regions_in_use.size(), 1u);
  EXPECT_DOUBLE_EQ(narrow.regions_in_use[0].least, 1);
  EXPECT_DOUBLE_EQ(narrow.regions_in_use[0].mean, 2);
  EXPECT_DOUBLE_EQ(narrow.regions_in_use[0].most, 3);
}

TEST(LayOut, CurvesAreWeighedByTime) {
  // 10, 10, 40 and 40 us with 1, 3, 2 and 3 regions.
  const Layout layout = LayOut(Small(), Sized(1, 96, TimeAxis::kMicroseconds));
  EXPECT_NEAR(layout.regions_in_use[0].mean, 2.4, 1e-9);
  EXPECT_NEAR(layout.totals.mean_regions, 2.4, 1e-9);
}

TEST(LayOut, FragmentationIsUnknownWhereNothingIsLive) {
  History history;
  history.us = {0, 1, 2, 3};
  history.ranges = {{.first = 512,
                     .pages = 128,
                     .begin = 0,
                     .end = 1,
                     .begin_us = 0,
                     .end_us = 1,
                     .holder = 0,
                     .freed = true},
                    {.first = 512,
                     .pages = 256,
                     .begin = 3,
                     .end = 4,
                     .begin_us = 3,
                     .end_us = 3,
                     .holder = 0,
                     .freed = false}};
  const Layout layout = LayOut(history, Sized(4, 96));
  EXPECT_TRUE(layout.fragmentation[0].known);
  EXPECT_FALSE(layout.fragmentation[1].known);
  EXPECT_FALSE(layout.fragmentation[2].known);
  EXPECT_DOUBLE_EQ(layout.fragmentation[3].mean, 0.5);
  EXPECT_DOUBLE_EQ(layout.totals.mean_fragmentation, 0.625);
}

TEST(LayOut, Totals) {
  const Totals totals = LayOut(Small(), Sized(100, 96)).totals;
  EXPECT_EQ(totals.peak_live_pages, 768u);
  EXPECT_EQ(totals.peak_regions, 3u);
  EXPECT_DOUBLE_EQ(totals.mean_regions, 2);
  EXPECT_EQ(totals.live_at_end, 1u);
}

TEST(LayOut, SmallRangesAreMerged) {
  LayoutOptions options = Sized(5, 96);
  options.max_boxes = 1;
  const Layout layout = LayOut(Small(), options);
  // a has the largest area: 2 x 32; b 3 x 16.
  ASSERT_EQ(layout.boxes.size(), 1u);
  EXPECT_EQ(layout.boxes[0].range, 0u);
  EXPECT_EQ(layout.raster.ranges, 2u);
  EXPECT_DOUBLE_EQ(layout.raster.cell, 1);
  // b fills 3 columns of the rows 24 to 39; c a sixteenth of 2 cells.
  ASSERT_EQ(layout.raster.runs.size(), 17u);
  for (std::uint32_t i = 0; i < 16; ++i) {
    EXPECT_EQ(layout.raster.runs[i],
              (CellRun{1, 24 + i, 3, 1, CellRun::kShades}));
  }
  EXPECT_EQ(layout.raster.runs[16], (CellRun{3, 64, 2, 2, 1}));
}

TEST(LayOut, ACellIsOfWhoHeldMostOfIt) {
  History history;
  history.us = {0, 1, 2, 3};
  // Of one row of 8 pixels, a pixel is 64 pages: 32 for holder 1, 16 for 4.
  history.ranges = {{.first = 512 + 448,
                     .pages = 32,
                     .begin = 0,
                     .end = 4,
                     .begin_us = 0,
                     .end_us = 3,
                     .holder = 1,
                     .freed = false},
                    {.first = 512 + 480,
                     .pages = 16,
                     .begin = 1,
                     .end = 4,
                     .begin_us = 0,
                     .end_us = 3,
                     .holder = 4,
                     .freed = false}};
  LayoutOptions options = Sized(4, 8);
  options.max_boxes = 0;
  const Layout layout = LayOut(history, options);
  EXPECT_TRUE(layout.boxes.empty());
  EXPECT_EQ(layout.raster.runs,
            (std::vector<CellRun>{{0, 0, 1, 1, 2}, {1, 0, 3, 1, 3}}));
}

TEST(LayOut, CellsGrowUntilTheyAreFew) {
  // A chequered pattern: no two neighbours look the same.
  History history;
  for (std::uint32_t i = 0; i < 20'000; ++i) {
    history.us.push_back(i);
    history.ranges.push_back({.first = 512 + (i * 37) % 512,
                              .pages = 1,
                              .begin = i,
                              .end = i + 1,
                              .begin_us = i,
                              .end_us = i + 1,
                              .holder = static_cast<std::uint8_t>(i % 5),
                              .freed = i + 1 < 20'000});
  }
  LayoutOptions options = Sized(1000, 500);
  options.max_boxes = 10;
  const std::size_t at_will = LayOut(history, options).raster.runs.size();
  options.max_runs = at_will / 4;
  const Layout bounded = LayOut(history, options);
  EXPECT_EQ(bounded.boxes.size(), 10u);
  EXPECT_EQ(bounded.raster.ranges, 19'990u);
  EXPECT_LE(bounded.raster.runs.size(), options.max_runs);
  EXPECT_FALSE(bounded.raster.runs.empty());
  EXPECT_GT(bounded.raster.cell, 1);
  options.max_runs = 0;  // cannot be: one cell is left
  EXPECT_EQ(LayOut(history, options).raster.runs.size(), 1u);
}

TEST(LayOut, NothingWasHeld) {
  History history;
  history.us = {1, 2};
  const Layout layout = LayOut(history, Sized(10, 10));
  EXPECT_TRUE(layout.regions.empty());
  EXPECT_DOUBLE_EQ(layout.height, 0);
  EXPECT_EQ(layout.totals.peak_regions, 0u);
}

}  // namespace
}  // namespace dmamap::address_map
