// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "bounce/page_table.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstring>
#include <thread>
#include <vector>

#include "bounce/page_source.h"

namespace dmamap {
namespace {

using Table = BouncePageTable<HeapPages>;

struct PageTable : testing::Test {
  PageTable() { EXPECT_TRUE(table.Init(PageSize(), 5000).ok()); }
  // Claims, makes and publishes.
  std::byte* Make(std::uint64_t i) {
    EXPECT_TRUE(table.Prepare(i, i).ok());
    table.Claim(i);
    return table.Publish(i, *table.NewPage());
  }
  HeapPages source;
  Table table{source};
};

TEST_F(PageTable, InitChecks) {
  Table other(source);
  EXPECT_EQ(other.Init(*PageSize::FromShift(5), 1).error(),
            Error::kInvalidArgument);
  EXPECT_EQ(other.Init(*PageSize::FromShift(31), 1).error(),
            Error::kInvalidArgument);
  EXPECT_EQ(other.Init(PageSize(), 0).error(), Error::kInvalidArgument);
  EXPECT_TRUE(other.Init(PageSize(), 1).ok());
  EXPECT_EQ(other.Init(PageSize(), 1).error(), Error::kBusy);
}

TEST_F(PageTable, PrepareChecksItsBounds) {
  EXPECT_EQ(table.Prepare(4999, 5000).error(), Error::kOutOfRange);
  EXPECT_EQ(table.Prepare(7, 6).error(), Error::kOutOfRange);
  EXPECT_TRUE(table.Prepare(0, 4999).ok());
  for (std::uint64_t i = 0; i < 5000; ++i) EXPECT_EQ(table.Claim(i), nullptr);
}

TEST_F(PageTable, ClaimsAndPageShareAWord) {
  std::byte* const page = Make(700);
  EXPECT_EQ(table.Find(700), page);
  EXPECT_EQ(table.claims(700), 1u);
  EXPECT_EQ(table.Claim(700), page);
  EXPECT_EQ(table.claims(700), 2u);
  table.Release(700);
  table.Release(700);
  EXPECT_EQ(table.Find(700), page) << "an idle page stays";
  EXPECT_EQ(table.Find(701), nullptr);
  EXPECT_EQ(table.Find(99'999), nullptr);
}

TEST_F(PageTable, TheFirstPublishWins) {
  std::byte* const first = Make(3);
  std::byte* const second = *table.NewPage();
  EXPECT_EQ(table.Publish(3, second), first);
  table.Discard(second);
  EXPECT_EQ(source.in_use(), 4096u);
}

TEST_F(PageTable, ReclaimRefusesWhileClaimed) {
  Make(10);
  Make(11);
  table.Release(10);
  const auto busy = table.Reclaim(10, 11);
  ASSERT_FALSE(busy.ok());
  EXPECT_EQ(busy.error(), Error::kBusy);
  EXPECT_NE(table.Find(10), nullptr) << "nothing was given back";
  table.Release(11);
  EXPECT_EQ(*table.Reclaim(10, 11), 2u);
  EXPECT_EQ(table.Find(10), nullptr);
  EXPECT_EQ(source.in_use(), 0u);
  EXPECT_EQ(*table.Reclaim(0, 4999), 0u);
  EXPECT_EQ(table.Reclaim(0, 5000).error(), Error::kOutOfRange);
}

TEST_F(PageTable, ReclaimRefusesAClaimWithoutAPage) {
  ASSERT_TRUE(table.Prepare(5, 5).ok());
  table.Claim(5);
  EXPECT_EQ(table.Reclaim(5, 5).error(), Error::kBusy);
  EXPECT_EQ(table.ReclaimIdle(), 0u);
  table.Release(5);
  EXPECT_EQ(*table.Reclaim(5, 5), 0u);
}

TEST_F(PageTable, DestructorGivesAllBack) {
  {
    Table other(source);
    ASSERT_TRUE(other.Init(PageSize(), 100'000'000).ok());
    for (std::uint64_t i : {0ull, 77'777'777ull, 99'999'999ull}) {
      ASSERT_TRUE(other.Prepare(i, i).ok());
      other.Claim(i);
      other.Publish(i, *other.NewPage());
    }
    EXPECT_EQ(source.in_use(), 3u * 4096);
  }
  EXPECT_EQ(source.in_use(), 0u);
}

// Many threads make the same pages while one reclaims what is idle: a claimed
// page is never taken away, all claimants see the same one, and its contents
// are those that were written before it was published.
TEST_F(PageTable, ExactlyOnePageWinsAndReclaimTakesNoneInUse) {
  constexpr std::uint64_t kPages = 4;
  ASSERT_TRUE(table.Prepare(0, kPages - 1).ok());
  std::atomic<bool> stop{false};
  std::thread reclaimer([&] {
    while (!stop.load()) table.ReclaimIdle();
  });
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      for (std::uint64_t round = 0; round < 4000; ++round) {
        const std::uint64_t i = round % kPages;
        std::byte* page = table.Claim(i);
        if (page == nullptr) {
          std::byte* const fresh = *table.NewPage();
          std::memset(fresh, static_cast<int>(i) + 1, 4096);
          page = table.Publish(i, fresh);
          if (page != fresh) table.Discard(fresh);
        }
        EXPECT_EQ(table.Find(i), page);
        EXPECT_EQ(page[0], static_cast<std::byte>(i + 1));
        EXPECT_EQ(page[4095], static_cast<std::byte>(i + 1));
        table.Release(i);
      }
    });
  }
  for (std::thread& t : threads) t.join();
  stop.store(true);
  reclaimer.join();
  EXPECT_LE(source.in_use(), kPages * 4096);
  table.ReclaimIdle();
  EXPECT_EQ(source.in_use(), 0u);
}

}  // namespace
}  // namespace dmamap
