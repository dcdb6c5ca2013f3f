// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "iova/magazine.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace dmamap {
namespace {

TEST(Magazine, IsAStack) {
  Magazine<int, 3> m(7);
  EXPECT_EQ(m.number(), 7);
  EXPECT_TRUE(m.empty());
  m.Push({1});
  m.Push({2});
  m.Push({3});
  EXPECT_TRUE(m.full());
  EXPECT_EQ(m.Pop().first, 3u);
  EXPECT_EQ(m.Top().first, 2u);
  EXPECT_EQ(m.Pop().first, 2u);
  EXPECT_EQ(m.Pop().first, 1u);
  EXPECT_TRUE(m.empty());
}

TEST(Magazine, FindsAnEntryThatFitsBelowTheTop) {
  Magazine<int, 4> m(0);
  EXPECT_FALSE(m.RaiseFitting(~std::uint64_t{0}));
  for (std::uint64_t page : {30u, 10u, 20u, 40u}) m.Push({page});
  EXPECT_FALSE(m.RaiseFitting(9));
  EXPECT_EQ(m.Top().first, 40u);
  EXPECT_TRUE(m.RaiseFitting(20));  // the newest that fits
  EXPECT_EQ(m.Pop().first, 20u);
  EXPECT_EQ(m.Top().first, 40u);
  EXPECT_TRUE(m.RaiseFitting(10));
  EXPECT_EQ(m.Pop().first, 10u);
  EXPECT_TRUE(m.RaiseFitting(40));
  EXPECT_EQ(m.count(), 2u);
}

}  // namespace
}  // namespace dmamap
