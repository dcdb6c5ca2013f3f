// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "dma/address.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <type_traits>

namespace dmamap {
namespace {

constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();

TEST(Address, TypesDoNotMix) {
  static_assert(!std::is_convertible_v<Iova, PhysAddr>);
  static_assert(!std::is_constructible_v<Iova, PhysAddr>);
  static_assert(!std::is_convertible_v<std::uint64_t, Iova>);
  static_assert(!std::is_convertible_v<Iova, std::uint64_t>);
  static_assert(std::is_trivially_copyable_v<Iova>);
}

TEST(Address, CheckedAddStopsAtTheTop) {
  EXPECT_EQ(*Iova(kMax - 1).CheckedAdd(1), Iova::Max());
  EXPECT_EQ(Iova(kMax).CheckedAdd(1).error(), Error::kOverflow);
  EXPECT_EQ(*Iova(kMax).CheckedAdd(0), Iova::Max());
}

TEST(Address, PointersRoundTrip) {
  int x = 0;
  EXPECT_EQ(static_cast<void*>(PointerTo(PhysAddrOf(&x))), &x);
}

TEST(PageSize, OnlyPowersOfTwo) {
  EXPECT_EQ(PageSize::FromBytes(0).error(), Error::kInvalidArgument);
  EXPECT_EQ(PageSize::FromBytes(4095).error(), Error::kInvalidArgument);
  EXPECT_EQ(PageSize::FromBytes(2u << 20)->shift(), 21u);
  EXPECT_EQ(PageSize::FromBytes(1)->shift(), 0u);
  EXPECT_EQ(PageSize::FromShift(63)->bytes(), std::uint64_t{1} << 63);
  EXPECT_EQ(PageSize::FromShift(64).error(), Error::kInvalidArgument);
}

TEST(PageSize, RoundingAtTheTop) {
  const PageSize page;
  EXPECT_EQ(*page.RoundUp(kMax - 0xfff), kMax - 0xfff);
  EXPECT_EQ(page.RoundUp(kMax - 0xffe).error(), Error::kOverflow);
  EXPECT_EQ(page.RoundUp(kMax).error(), Error::kOverflow);
  EXPECT_EQ(*page.RoundUp(0), 0u);
  EXPECT_EQ(*page.RoundUp(1), 0x1000u);
  EXPECT_EQ(page.RoundDown(kMax), kMax - 0xfff);
  EXPECT_EQ(page.PagesFor(kMax), std::uint64_t{1} << 52);
  EXPECT_EQ(page.PagesFor(0), 0u);
  EXPECT_EQ(page.PagesFor(1), 1u);
  EXPECT_EQ(page.PagesFor(0x1000), 1u);
}

TEST(Range, ZeroLengthAndWrapAreErrors) {
  EXPECT_EQ(Range::FromSize(Iova(5), 0).error(), Error::kInvalidArgument);
  EXPECT_EQ(Range::FromSize(Iova(kMax), 2).error(), Error::kOverflow);
  EXPECT_EQ(Range::FromSize(Iova(1), kMax)->last(), Iova::Max());
  EXPECT_EQ(Range::FromSize(Iova(2), kMax).error(), Error::kOverflow);
  EXPECT_EQ(Range::FromFirstLast(Iova(2), Iova(1)).error(),
            Error::kInvalidArgument);
}

TEST(Range, TheWholeSpaceIsARange) {
  const Range whole = Range::Whole();
  EXPECT_EQ(whole.size_minus_one(), kMax);
  EXPECT_EQ(whole.size(), 0u);  // 2^64 modulo 2^64, as documented
  EXPECT_TRUE(whole.Contains(Iova::Max()));
  EXPECT_TRUE(whole.Contains(whole));
  EXPECT_EQ(whole.PagesTouchedMinusOne(PageSize()),
            (std::uint64_t{1} << 52) - 1);
  EXPECT_EQ(whole.RoundOutToPages(PageSize()), whole);
  EXPECT_EQ(*whole.RoundInToPages(PageSize()), whole);
}

TEST(Range, TheTopIsNotFollowedByTheBottom) {
  const Range top = *Range::FromSize(Iova(kMax), 1);
  EXPECT_FALSE(top.IsFollowedBy(Range::Byte(Iova(0))));
  EXPECT_TRUE(Range::Byte(Iova(6)).IsFollowedBy(Range::Byte(Iova(7))));
}

TEST(Range, SplitKeepsBothSides) {
  const Range r = *Range::FromFirstLast(Iova(10), Iova(20));
  const auto [low, high] = *r.SplitAt(Iova(15));
  EXPECT_EQ(low, *Range::FromFirstLast(Iova(10), Iova(14)));
  EXPECT_EQ(high, *Range::FromFirstLast(Iova(15), Iova(20)));
  EXPECT_EQ(r.SplitAt(Iova(10)).error(), Error::kOutOfRange);
  EXPECT_EQ(r.SplitAt(Iova(21)).error(), Error::kOutOfRange);
  EXPECT_TRUE(r.SplitAt(Iova(20)).ok());
}

TEST(Range, RoundInFindsNoPageInASliver) {
  const PageSize page;
  EXPECT_FALSE(
      Range::FromFirstLast(Iova(1), Iova(0xfff))->RoundInToPages(page).ok());
  EXPECT_FALSE(Range::FromFirstLast(Iova(0xfff), Iova(0x1ffe))
                   ->RoundInToPages(page)
                   .ok());
  EXPECT_EQ(*Range::FromFirstLast(Iova(1), Iova(0x2345))->RoundInToPages(page),
            *Range::FromFirstLast(Iova(0x1000), Iova(0x1fff)));
  EXPECT_FALSE(Range::FromFirstLast(Iova(kMax - 5), Iova(kMax))
                   ->RoundInToPages(page)
                   .ok());
}

}  // namespace
}  // namespace dmamap
