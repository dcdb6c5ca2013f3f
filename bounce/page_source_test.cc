// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "bounce/page_source.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#include "dma/address.h"

namespace dmamap {
namespace {

TEST(HeapPages, ZeroAlignedAndCounted) {
  for (unsigned shift : {6u, 12u, 16u, 21u}) {
    HeapPages pages;
    const PageSize page = *PageSize::FromShift(shift);
    for (int round = 0; round < 3; ++round) {
      const auto p = pages.Allocate(page, 2);
      ASSERT_TRUE(p.ok());
      const auto bytes = static_cast<std::size_t>(page.bytes()) * 2;
      EXPECT_TRUE(page.IsAligned(PhysAddrOf(*p).value()));
      EXPECT_TRUE(std::all_of(*p, *p + bytes,
                              [](std::byte b) { return b == std::byte{0}; }));
      std::memset(*p, 0x5a, bytes);  // the next round must not see it
      EXPECT_EQ(pages.in_use(), bytes);
      pages.Free(*p, page, 2);
      EXPECT_EQ(pages.in_use(), 0u);
      EXPECT_EQ(pages.high_water(), bytes);
    }
  }
}

TEST(HeapPages, BudgetIsABoundAndFreeGivesItBack) {
  HeapPages pages(3 * 4096);
  const auto a = pages.Allocate(PageSize(), 2);
  ASSERT_TRUE(a.ok());
  const auto b = pages.Allocate(PageSize(), 2);
  ASSERT_FALSE(b.ok());
  EXPECT_EQ(b.error(), Error::kBudget);
  EXPECT_EQ(pages.in_use(), 2u * 4096);
  const auto c = pages.Allocate(PageSize(), 1);
  ASSERT_TRUE(c.ok());
  pages.set_budget(0);
  EXPECT_EQ(pages.Allocate(PageSize(), 1).error(), Error::kBudget);
  pages.Free(*a, PageSize(), 2);
  pages.Free(*c, PageSize(), 1);
  EXPECT_EQ(pages.in_use(), 0u);
}

TEST(HeapPages, WhyItRefusedIsCounted) {
  HeapPages pages(4096);
  EXPECT_EQ(pages.Allocate(PageSize(), 2).error(), kOverBudget);
  const auto p = pages.Allocate(PageSize(), 1);
  ASSERT_TRUE(p.ok());
  PageSourceStats stats = pages.stats();
  EXPECT_EQ(stats.budget, 4096u);
  EXPECT_EQ(stats.in_use, 4096u);
  EXPECT_EQ(stats.pages_out, 1u);
  EXPECT_EQ(stats.refused_by_budget, 1u);
  EXPECT_EQ(stats.refused_by_memory, 0u);
  EXPECT_TRUE(pages.CheckInvariants());
  pages.Free(*p, PageSize(), 1);
  EXPECT_EQ(pages.stats().pages_out, 0u);
}

TEST(PageBudget, TheWholeSpaceIsABudget) {
  PageBudget budget;
  ASSERT_TRUE(budget.Take(PageBudget::kNoBudget - 1, 1).ok());
  budget.Commit();
  EXPECT_TRUE(budget.Take(1, 1).ok());
  EXPECT_EQ(budget.Take(1, 1).error(), kOverBudget);
  budget.Refuse(1, 1);
  EXPECT_EQ(budget.high_water(), PageBudget::kNoBudget - 1);
  EXPECT_EQ(budget.stats().refused_by_memory, 1u);
  EXPECT_TRUE(budget.CheckInvariants());
  // Negative control: bytes without pages.
  budget.Give(0, 1);
  EXPECT_FALSE(budget.CheckInvariants());
}

TEST(HeapPages, ImpossibleSizesAreErrors) {
  HeapPages pages;
  EXPECT_EQ(pages.Allocate(PageSize(), 0).error(), Error::kInvalidArgument);
  EXPECT_EQ(pages.Allocate(PageSize(), ~std::uint64_t{0}).error(),
            Error::kOverflow);
  EXPECT_EQ(pages.Allocate(PageSize(), std::uint64_t{1} << 51).error(),
            Error::kOverflow);
  EXPECT_EQ(pages.in_use(), 0u);
}

TEST(HeapPages, BudgetHoldsAmongThreads) {
  HeapPages pages(8 * 4096);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&pages] {
      for (std::uint64_t i = 0; i < 2000; ++i) {
        const auto p = pages.Allocate(PageSize(), 1 + i % 5);
        if (p.ok()) pages.Free(*p, PageSize(), 1 + i % 5);
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(pages.in_use(), 0u);
  EXPECT_LE(pages.high_water(), 8u * 4096);
}

}  // namespace
}  // namespace dmamap
