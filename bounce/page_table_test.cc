// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "bounce/page_table.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#include "bounce/page_source.h"
#include "bounce/slot.h"

namespace dmamap {
namespace {

using Table = BouncePageTable<HeapPages>;

const PageSize kPage;
const PageSize kQuarter = *PageSize::FromBytes(1024);

struct PageTable : testing::Test {
  PageTable() { EXPECT_TRUE(table.Init(kPage, kPage, 5000).ok()); }
  // Makes the page.
  static std::byte* Make(Table& t, std::uint64_t i) {
    EXPECT_TRUE(t.Prepare(i << Order(t), i << Order(t)).ok());
    EXPECT_EQ(t.Lock(i), nullptr);
    t.Unlock(i, *t.NewPage());
    return t.Find(i);
  }
  static unsigned Order(const Table& t) {
    return t.page().shift() - t.slot().shift();
  }
  HeapPages source;
  Table table{source};
};

TEST_F(PageTable, InitChecks) {
  Table other(source);
  const PageSize small = *PageSize::FromShift(5);
  const PageSize least = *PageSize::FromBytes(Table::kMinSlot);
  EXPECT_EQ(other.Init(small, small, 1).error(), Error::kInvalidArgument);
  EXPECT_EQ(other.Init(kPage, small, 1).error(), Error::kInvalidArgument);
  EXPECT_EQ(other.Init(kQuarter, kPage, 1).error(), Error::kInvalidArgument)
      << "a slot larger than a page";
  EXPECT_EQ(other.Init(*PageSize::FromShift(31), kPage, 1).error(),
            Error::kInvalidArgument);
  EXPECT_EQ(other.Init(kPage, kPage, 0).error(), Error::kInvalidArgument);
  EXPECT_EQ(other.Init(kPage, kPage, std::uint64_t{1} << 53).error(),
            Error::kInvalidArgument)
      << "beyond 2^64 bytes";
  EXPECT_TRUE(other.Init(kPage, least, 3).ok());
  EXPECT_EQ(other.count(), 3u);
  EXPECT_EQ(other.Init(kPage, kPage, 1).error(), Error::kBusy);
}

TEST_F(PageTable, PrepareChecksItsBounds) {
  EXPECT_EQ(table.Prepare(4999, 5000).error(), Error::kOutOfRange);
  EXPECT_EQ(table.Prepare(5000, 5000).error(), Error::kOutOfRange);
  EXPECT_EQ(table.Prepare(7, 6).error(), Error::kOutOfRange);
  EXPECT_EQ(table.FindSlot(0), nullptr) << "nothing was made";
  const auto slot = table.Prepare(1000, 3999);
  ASSERT_TRUE(slot.ok());
  EXPECT_EQ(*slot, table.FindSlot(1000));
  for (std::uint64_t i = 1000; i < 4000; ++i) {
    ASSERT_NE(table.FindSlot(i), nullptr);
    ASSERT_EQ(table.Settle(i), nullptr);
  }
  EXPECT_EQ(*table.Prepare(2000, 2000), table.FindSlot(2000));
}

// A slot in the middle of a large page: the page's address lies in its first
// slot, which may be in another leaf of the table.
TEST_F(PageTable, PrepareMakesThePagesFirstSlots) {
  Table large(source);
  ASSERT_TRUE(
      large.Init(*PageSize::FromShift(17), *PageSize::FromBytes(64), 4).ok());
  constexpr std::uint64_t kSlots = 2048;  // of a page
  ASSERT_TRUE(large.Prepare(kSlots + 1900, kSlots + 1901).ok());
  ASSERT_NE(large.FindSlot(kSlots), nullptr);
  EXPECT_EQ(large.Lock(1), nullptr);
  large.Unlock(1, nullptr);
  EXPECT_EQ(large.Find(0), nullptr);
  EXPECT_EQ(large.Find(3), nullptr);
}

TEST_F(PageTable, APageIsWhatUnlockSays) {
  std::byte* const page = Make(table, 700);
  ASSERT_NE(page, nullptr);
  EXPECT_EQ(table.Settle(700), page);
  EXPECT_EQ(table.SettleAt(*table.FindSlot(700)), page);
  EXPECT_EQ(table.Find(701), nullptr);
  EXPECT_EQ(table.Find(99'999), nullptr);
  EXPECT_EQ(table.Lock(700), page);
  EXPECT_EQ(table.Find(700), page) << "Find does not wait";
  table.Unlock(700, page);
  EXPECT_EQ(table.Lock(700), page);
  table.Unlock(700, nullptr);
  table.Discard(page);
  EXPECT_EQ(table.Settle(700), nullptr);
  EXPECT_EQ(source.in_use(), 0u);
}

// Who has a page keeps out whoever settles it or wants it too.
TEST_F(PageTable, SettleAndLockWait) {
  ASSERT_TRUE(table.Prepare(3, 3).ok());
  EXPECT_EQ(table.Lock(3), nullptr);
  std::atomic<bool> unlocked{false};
  std::byte* settled = nullptr;
  std::byte* locked = nullptr;
  std::thread settler([&] {
    settled = table.Settle(3);
    EXPECT_TRUE(unlocked.load());
  });
  std::thread locker([&] {
    locked = table.Lock(3);
    EXPECT_TRUE(unlocked.load());
    table.Unlock(3, locked);
  });
  std::byte* const page = *table.NewPage();
  for (int i = 0; i < 100; ++i) std::this_thread::yield();
  unlocked.store(true);
  table.Unlock(3, page);
  settler.join();
  locker.join();
  EXPECT_EQ(settled, page);
  EXPECT_EQ(locked, page);
}

TEST_F(PageTable, Visits) {
  Table quarters(source);
  ASSERT_TRUE(quarters.Init(kPage, kQuarter, 1000).ok());
  ASSERT_TRUE(quarters.Prepare(40, 47).ok());
  Make(quarters, 10);
  Make(quarters, 900);
  std::vector<std::uint64_t> seen;
  quarters.ForEachPage([&](std::uint64_t index, std::byte* page) {
    EXPECT_EQ(page, quarters.Find(index));
    seen.push_back(index);
  });
  EXPECT_EQ(seen, (std::vector<std::uint64_t>{10, 900}));
  seen.clear();
  quarters.ForEachPageIn(9, 12,
                         [&](std::uint64_t index) { seen.push_back(index); });
  EXPECT_EQ(seen, (std::vector<std::uint64_t>{9, 10, 11, 12}));
  seen.clear();
  quarters.ForEachSlot(41, 44, [&](std::uint64_t n, Table::Slot& slot) {
    EXPECT_EQ(&slot, quarters.FindSlot(n));
    seen.push_back(n);
  });
  EXPECT_EQ(seen, (std::vector<std::uint64_t>{41, 42, 43, 44}));
  quarters.ForEachSlot(2000, 2003, [](std::uint64_t, Table::Slot&) {
    ADD_FAILURE() << "never asked for";
  });
}

TEST_F(PageTable, NewPageFailsAsTheSourceDoes) {
  HeapPages small(4096);
  Table t(small);
  ASSERT_TRUE(t.Init(kPage, kPage, 4).ok());
  std::byte* const page = *t.NewPage();
  EXPECT_FALSE(t.NewPage().ok());
  t.Discard(page);
  EXPECT_EQ(small.in_use(), 0u);
}

TEST_F(PageTable, DestructorGivesAllBack) {
  {
    Table other(source);
    ASSERT_TRUE(other.Init(kPage, kQuarter, 100'000'000).ok());
    for (std::uint64_t i : {0ull, 77'777'777ull, 99'999'999ull}) {
      Make(other, i);
    }
    EXPECT_EQ(source.in_use(), 3u * 4096);
  }
  EXPECT_EQ(source.in_use(), 0u);
}

// Many threads make the same pages while one reclaims what is idle: a page in
// use is never taken away, all users see the same one, and its contents are
// those that were written before it was there.
TEST_F(PageTable, ExactlyOnePageWinsAndReclaimTakesNoneInUse) {
  constexpr std::uint64_t kPages = 4;
  ASSERT_TRUE(table.Prepare(0, kPages - 1).ok());
  const auto reclaim = [&] {
    for (std::uint64_t i = 0; i < kPages; ++i) {
      std::byte* const page = table.Lock(i);
      const bool used = table.FindSlot(i)->word.load() != 0;
      table.Unlock(i, used ? page : nullptr);
      if (!used && page != nullptr) table.Discard(page);
    }
  };
  std::atomic<bool> stop{false};
  std::thread reclaimer([&] {
    while (!stop.load()) reclaim();
  });
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      for (std::uint64_t round = 0; round < 4000; ++round) {
        const std::uint64_t i = round % kPages;
        table.FindSlot(i)->word.fetch_add(1);
        std::byte* page = table.Settle(i);
        if (page == nullptr) {
          std::byte* const fresh = *table.NewPage();
          page = table.Lock(i);
          const bool mine = page == nullptr;
          if (mine) {
            std::memset(fresh, static_cast<int>(i) + 1, 4096);
            page = fresh;
          }
          table.Unlock(i, page);
          if (!mine) table.Discard(fresh);
        }
        EXPECT_EQ(table.Find(i), page);
        EXPECT_EQ(page[0], static_cast<std::byte>(i + 1));
        EXPECT_EQ(page[4095], static_cast<std::byte>(i + 1));
        table.FindSlot(i)->word.fetch_sub(1);
      }
    });
  }
  for (std::thread& t : threads) t.join();
  stop.store(true);
  reclaimer.join();
  EXPECT_LE(source.in_use(), kPages * 4096);
  reclaim();
  EXPECT_EQ(source.in_use(), 0u);
}

}  // namespace
}  // namespace dmamap
