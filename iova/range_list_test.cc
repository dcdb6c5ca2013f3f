// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "iova/range_list.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <vector>

namespace dmamap {
namespace {

Range Bytes(std::uint64_t first, std::uint64_t last) {
  return *Range::FromFirstLast(Iova(first), Iova(last));
}

TEST(RangeList, RoundsSortsAndJoins) {
  RangeList list;
  const std::array<Range, 6> in = {Bytes(0x9001, 0x9002), Bytes(0x5000, 0x5fff),
                                   Bytes(0x0, 0x1fff),    Bytes(0x6000, 0x60ff),
                                   Bytes(0x5800, 0x6fff), Bytes(0xf000, ~0ull)};
  ASSERT_TRUE(list.Init(in, Bytes(0x1000, 0xbfff), PageSize()).ok());
  const std::vector<Range> out(list.ranges().begin(), list.ranges().end());
  EXPECT_EQ(out,
            (std::vector<Range>{Bytes(0x1000, 0x1fff), Bytes(0x5000, 0x6fff),
                                Bytes(0x9000, 0x9fff)}));
  EXPECT_EQ(list.bytes(), 6 * sizeof(Range));
  EXPECT_EQ(list.Init(in, Bytes(0x1000, 0xbfff), PageSize()).error(),
            Error::kBusy);
}

TEST(RangeList, KnowsTheEndOfTheSpace) {
  RangeList list;
  const std::array<Range, 2> in = {Bytes(~0xfffull, ~0ull), Range::Whole()};
  ASSERT_TRUE(list.Init(in, Range::Whole(), PageSize()).ok());
  ASSERT_EQ(list.ranges().size(), 1u);
  EXPECT_EQ(list.ranges()[0], Range::Whole());
}

TEST(RangeList, EmptyNeedsNoMemory) {
  RangeList list;
  ASSERT_TRUE(list.Init({}, Range::Whole(), PageSize()).ok());
  EXPECT_TRUE(list.ranges().empty());
  EXPECT_EQ(list.bytes(), 0u);
}

}  // namespace
}  // namespace dmamap
