// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "iova/sparse_array.h"

#include <gtest/gtest.h>

#include <atomic>
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
    const auto want = [](std::uint16_t cell) { return cell == 42; };
    std::uint64_t at = 0;
    EXPECT_EQ(a.FindFrom(at, want), a.Find(top));
    EXPECT_EQ(at, top);
    EXPECT_EQ(a.FindFrom(++at, want), nullptr);
  }
}

// Ascending, across leaves, nodes and gaps.
TEST(SparseArray, FindFromVisitsInOrder) {
  SparseArray<std::uint16_t, std::atomic, 4, 3> a;
  ASSERT_TRUE(a.Init(20).ok());
  const std::vector<std::uint64_t> indexes = {0,   1,    15,    16,     127,
                                              128, 1023, 65536, 1048575};
  for (std::uint64_t i : indexes) {
    ASSERT_TRUE(a.Ensure(i, i).ok());
    *a.Find(i) = 1;
  }
  std::vector<std::uint64_t> seen;
  const auto set = [](std::uint16_t cell) { return cell != 0; };
  for (std::uint64_t i = 0; a.FindFrom(i, set) != nullptr; ++i) {
    seen.push_back(i);
  }
  EXPECT_EQ(seen, indexes);
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
