// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "iova/sparse_array.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

namespace dmamap {
namespace {

using Array = SparseArray<std::uint16_t>;

TEST(SparseArray, HoldsWhatWasEnsuredAndNothingElse) {
  for (unsigned bits : {1u, 14u, 20u, 25u, 26u, 36u, 37u, 52u}) {
    Array a;
    ASSERT_TRUE(a.Init(bits).ok());
    EXPECT_EQ(a.Init(bits).error(), Error::kBusy);
    const std::uint64_t top = (std::uint64_t{1} << bits) - 1;
    EXPECT_EQ(a.Find(0), nullptr);
    EXPECT_EQ(a.Find(top), nullptr);
    ASSERT_TRUE(a.Ensure(top, top).ok());
    ASSERT_NE(a.Find(top), nullptr);
    EXPECT_EQ(*a.Find(top), 0);
    *a.Find(top) = 42;
    ASSERT_TRUE(a.Ensure(top, top).ok());  // changes nothing
    EXPECT_EQ(*a.Find(top), 42);
    EXPECT_EQ(a.Find(~std::uint64_t{0}), nullptr) << bits;
    if (bits > 14) {
      EXPECT_EQ(a.Find(0), nullptr);
    }
    std::uint64_t seen = 0;
    a.ForEach([&](std::uint64_t index, std::uint16_t& cell) {
      if (cell == 42) seen = index;
    });
    EXPECT_EQ(seen, top);
  }
}

TEST(SparseArray, EnsuresAllLeavesOfARange) {
  Array a;
  ASSERT_TRUE(a.Init(36).ok());
  const std::uint64_t first = (std::uint64_t{1} << 30) - 5;
  const std::uint64_t last = first + (3u << 14);
  ASSERT_TRUE(a.Ensure(first, last).ok());
  for (std::uint64_t i = first; i <= last; ++i) ASSERT_NE(a.Find(i), nullptr);
  // Four leaves, the root and a node for each side of 2^30.
  EXPECT_LT(a.bytes(), 5u * (32u << 10) + 4u * (16u << 10));
}

}  // namespace
}  // namespace dmamap
