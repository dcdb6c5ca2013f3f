// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "bounce/huge_pages.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bounce/page_calls_for_test.h"
#include "dma/address.h"

namespace dmamap {
namespace {

using testing_parts::AllZero;
using testing_parts::CallPlan;
using testing_parts::PlannedCalls;
using testing_parts::PlannedPolicy;
using testing_parts::Scribble;

using PlannedHuge = BasicHugePages<PlannedPolicy>;

constexpr std::uint64_t kPiece = std::uint64_t{2} << 20;
constexpr std::uint64_t kUnit = 4096;
const PageSize kPage;

HugePagesOptions Options(std::uint64_t pieces, std::uint64_t keep) {
  HugePagesOptions o;
  o.capacity = pieces * kPiece;
  o.keep = keep;
  return o;
}

TEST(HugePages, BeforeInitAndBadOptions) {
  HugePages pages;
  EXPECT_EQ(pages.Allocate(kPage, 1).error(), Error::kShutDown);
  EXPECT_EQ(pages.Trim(), 0u);
  std::byte b[8];
  pages.Free(b, kPage, 1);
  EXPECT_EQ(pages.stats().bad_frees, 1u);
  EXPECT_EQ(pages.Init(Options(0, 0)).error(), Error::kInvalidArgument);
  EXPECT_EQ(pages.Init(Options(std::uint64_t{1} << 26, 0)).error(),
            Error::kInvalidArgument);
  EXPECT_TRUE(pages.CheckInvariants());
  ASSERT_TRUE(pages.Init(Options(1, 0)).ok());
  EXPECT_EQ(pages.Init().error(), Error::kBusy);
}

TEST(HugePages, ImpossibleSizesAreErrors) {
  HugePages pages;
  ASSERT_TRUE(pages.Init(Options(2, 0)).ok());
  EXPECT_EQ(pages.Allocate(kPage, 0).error(), Error::kInvalidArgument);
  EXPECT_EQ(pages.Allocate(kPage, ~std::uint64_t{0}).error(), Error::kOverflow);
  EXPECT_EQ(pages.Allocate(*PageSize::FromShift(63), 1).error(),
            Error::kOverflow);
  EXPECT_EQ(pages.Allocate(*PageSize::FromShift(62), 1).error(),
            Error::kPoolEmpty);
  EXPECT_EQ(pages.Allocate(kPage, 1025).error(), Error::kPoolEmpty);
  EXPECT_EQ(pages.stats().refused_by_memory, 2u);
  EXPECT_EQ(pages.in_use(), 0u);
  // All of it in one block, across the pieces.
  const auto all = pages.Allocate(kPage, 1024);
  ASSERT_TRUE(all.ok());
  EXPECT_TRUE(AllZero(*all, 2 * kPiece));
  pages.Free(*all, kPage, 1024);
  EXPECT_TRUE(pages.CheckInvariants());
}

TEST(HugePages, TheErrorTellsTheBudgetFromThePool) {
  HugePages pages;
  ASSERT_TRUE(pages.Init(Options(1, kPiece)).ok());
  pages.set_budget(kUnit);
  EXPECT_EQ(pages.Allocate(kPage, 2).error(), kOverBudget);
  pages.set_budget(PageBudget::kNoBudget);
  EXPECT_EQ(pages.Allocate(kPage, 513).error(), Error::kPoolEmpty);
  EXPECT_EQ(pages.stats().refused_by_budget, 1u);
  EXPECT_EQ(pages.stats().refused_by_memory, 1u);
}

TEST(HugePages, FreshMemoryIsNotZeroedAndUsedMemoryIs) {
  HugePages pages;
  ASSERT_TRUE(pages.Init(Options(1, kPiece)).ok());
  const auto a = pages.Allocate(kPage, 1);
  const auto b = pages.Allocate(kPage, 1);
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ(*b, *a + kUnit);  // side by side
  Scribble(*a, kUnit);
  EXPECT_EQ(pages.stats().kept, 0u);
  pages.Free(*a, kPage, 1);
  EXPECT_EQ(pages.stats().kept, kUnit);
  EXPECT_EQ((*a)[0], std::byte{0x5a});  // not now
  const auto c = pages.Allocate(kPage, 1);
  ASSERT_TRUE(c.ok());
  EXPECT_EQ(*c, *a);
  EXPECT_TRUE(AllZero(*c, kUnit));  // but then
  pages.Free(*b, kPage, 1);
  pages.Free(*c, kPage, 1);
}

TEST(HugePages, APieceGoesBackWhenNobodyUsesItAndEnoughIsKept) {
  CallPlan plan;
  {
    PlannedHuge pages{PlannedCalls(&plan)};
    ASSERT_TRUE(pages.Init(Options(3, kPiece)).ok());
    std::vector<std::byte*> blocks;
    for (int i = 0; i < 3; ++i) {
      const auto got = pages.Allocate(kPage, 512);
      ASSERT_TRUE(got.ok());
      Scribble(*got, kPiece);
      blocks.push_back(*got);
    }
    pages.Free(blocks[0], kPage, 512);
    EXPECT_EQ(plan.discarded, 0u);  // kept
    pages.Free(blocks[1], kPage, 512);
    EXPECT_EQ(plan.discarded, kPiece);
    EXPECT_EQ(pages.stats().kept, kPiece);
    EXPECT_TRUE(AllZero(blocks[1], kPiece));
    EXPECT_EQ(pages.Trim(), kPiece);
    EXPECT_EQ(pages.Trim(), 0u);
    EXPECT_EQ(pages.stats().kept, 0u);
    // One page of a piece keeps all of it.
    const auto page = pages.Allocate(kPage, 1);
    const auto other = pages.Allocate(kPage, 1);
    ASSERT_TRUE(page.ok() && other.ok());
    pages.Free(*page, kPage, 1);
    EXPECT_EQ(pages.Trim(), 0u);
    pages.Free(*other, kPage, 1);
    EXPECT_EQ(pages.Trim(), 2 * kUnit);
    pages.Free(blocks[2], kPage, 512);
    EXPECT_TRUE(pages.CheckInvariants());
    EXPECT_EQ(plan.mapped, static_cast<std::int64_t>(3 * kPiece));
  }
  EXPECT_EQ(plan.mapped, 0);
}

TEST(HugePages, WhatTheSystemDoesNotTakeBackIsZeroedLater) {
  CallPlan plan;
  PlannedHuge pages{PlannedCalls(&plan)};
  ASSERT_TRUE(pages.Init(Options(1, 0)).ok());
  plan.no_discard = true;
  const auto a = pages.Allocate(kPage, 512);
  ASSERT_TRUE(a.ok());
  Scribble(*a, kPiece);
  pages.Free(*a, kPage, 512);
  EXPECT_EQ(pages.stats().kept, kPiece);
  EXPECT_EQ(pages.Trim(), 0u);
  const auto b = pages.Allocate(kPage, 512);
  ASSERT_TRUE(b.ok());
  EXPECT_TRUE(AllZero(*b, kPiece));
  pages.Free(*b, kPage, 512);
  EXPECT_TRUE(pages.CheckInvariants());
}

TEST(HugePages, ThePoolOrElseOrdinaryMemory) {
  CallPlan plan;
  HugePagesOptions options = Options(2, 0);
  options.backing = HugeBacking::kHugetlb;
  {
    PlannedHuge pages{PlannedCalls(&plan)};
    ASSERT_TRUE(pages.Init(options).ok());
    EXPECT_NE(pages.backing(), HugeBacking::kHugetlb);
  }
  plan.no_hugetlb = false;
  PlannedHuge pages{PlannedCalls(&plan)};
  ASSERT_TRUE(pages.Init(options).ok());
  EXPECT_EQ(pages.backing(), HugeBacking::kHugetlb);
  const auto a = pages.Allocate(kPage, 512);
  ASSERT_TRUE(a.ok());
  Scribble(*a, kPiece);
  pages.Free(*a, kPage, 512);
  EXPECT_EQ(pages.Trim(), 0u);
  EXPECT_EQ(plan.discarded, 0u);  // never: it might not be there again
  const auto b = pages.Allocate(kPage, 512);
  ASSERT_TRUE(b.ok());
  EXPECT_TRUE(AllZero(*b, kPiece));
  pages.Free(*b, kPage, 512);
}

TEST(HugePages, TheSystemsOwnPoolOrNot) {
  HugePages pages;
  HugePagesOptions options = Options(1, 0);
  options.backing = HugeBacking::kHugetlb;
  ASSERT_TRUE(pages.Init(options).ok());  // whether there is a pool or not
  const auto a = pages.Allocate(*PageSize::FromShift(21), 1);
  ASSERT_TRUE(a.ok());
  EXPECT_TRUE(AllZero(*a, kPiece));
  Scribble(*a, kPiece);
  pages.Free(*a, *PageSize::FromShift(21), 1);
}

TEST(HugePages, NoAddressSpaceLeavesNothingBehind) {
  CallPlan plan;
  plan.no_map = true;
  PlannedHuge pages{PlannedCalls(&plan)};
  EXPECT_EQ(pages.Init(Options(1, 0)).error(), Error::kNoMemory);
  EXPECT_EQ(pages.Allocate(kPage, 1).error(), Error::kShutDown);
  plan.no_map = false;
  ASSERT_TRUE(pages.Init(Options(1, 0)).ok());  // may be tried again
  EXPECT_EQ(plan.mapped, static_cast<std::int64_t>(kPiece));
}

}  // namespace
}  // namespace dmamap
