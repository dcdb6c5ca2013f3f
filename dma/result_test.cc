// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "dma/result.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <type_traits>

namespace dmamap {
namespace {

struct NoDefault {
  explicit NoDefault(int v) : value(v) {}
  int value;
};

TEST(Result, SmallResultsTravelInRegisters) {
  static_assert(std::is_trivially_copyable_v<Result<std::uint64_t>>);
  static_assert(std::is_trivially_copyable_v<Result<void>>);
  static_assert(sizeof(Result<std::uint64_t>) <= 16);
  static_assert(sizeof(Result<void>) == 1);
}

TEST(Result, HoldsAValue) {
  Result<int> r = 7;
  ASSERT_TRUE(r.ok());
  EXPECT_TRUE(static_cast<bool>(r));
  EXPECT_EQ(*r, 7);
  EXPECT_EQ(r.value(), 7);
  EXPECT_EQ(r.value_or(9), 7);
}

TEST(Result, HoldsAnError) {
  Result<int> r = Error::kNoSpace;
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error(), Error::kNoSpace);
  EXPECT_EQ(r.value_or(9), 9);
}

TEST(Result, MoveOnlyValue) {
  Result<std::unique_ptr<int>> r = std::make_unique<int>(3);
  ASSERT_TRUE(r.ok());
  std::unique_ptr<int> p = *std::move(r);
  EXPECT_EQ(*p, 3);
  Result<std::unique_ptr<int>> e = Error::kBusy;
  EXPECT_EQ(e.error(), Error::kBusy);
}

TEST(Result, ValueWithoutDefaultConstructor) {
  Result<NoDefault> r = NoDefault(4);
  EXPECT_EQ(r->value, 4);
  Result<NoDefault> e = Error::kLimit;
  EXPECT_FALSE(e.ok());
}

TEST(Result, VoidIsOkOrAnError) {
  EXPECT_TRUE(Ok().ok());
  Result<void> e = Error::kMismatch;
  ASSERT_FALSE(e.ok());
  EXPECT_EQ(e.error(), Error::kMismatch);
}

TEST(Error, EachHasItsOwnStableName) {
  std::set<std::string> names;
  for (unsigned i = 1; i <= static_cast<unsigned>(Error::kBudget); ++i) {
    names.insert(ToString(static_cast<Error>(i)));
  }
  EXPECT_EQ(names.size(), static_cast<std::size_t>(Error::kBudget));
  EXPECT_FALSE(names.contains("unknown error"));
  EXPECT_STREQ(ToString(static_cast<Error>(200)), "unknown error");
}

}  // namespace
}  // namespace dmamap
