// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "bounce/sparse_table.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <set>
#include <thread>
#include <vector>

namespace dmamap {
namespace {

constexpr std::uint64_t kAll = ~std::uint64_t{0};

TEST(SparseTable, InitChecksAndWorksOnce) {
  SparseTable<int> t;
  EXPECT_EQ(t.Find(0), nullptr);
  EXPECT_EQ(t.Ensure(0).error(), Error::kOutOfRange);
  t.ForEach(0, kAll, [](std::uint64_t, int&) { FAIL(); });
  EXPECT_EQ(t.Init(0).error(), Error::kInvalidArgument);
  EXPECT_EQ(t.Init((std::uint64_t{1} << 63) + 1).error(),
            Error::kInvalidArgument);
  EXPECT_TRUE(t.Init(10).ok());
  EXPECT_EQ(t.Init(10).error(), Error::kBusy);
}

// Every height, and in it the first, the last and both sides of each digit.
TEST(SparseTable, EveryHeightReachesItsEnds) {
  for (unsigned bits = 0; bits <= 63; ++bits) {
    for (std::uint64_t count :
         {std::uint64_t{1} << bits, (std::uint64_t{1} << bits) - 1,
          (std::uint64_t{1} << bits) + 1}) {
      if (count == 0 || count > std::uint64_t{1} << 63) continue;
      SparseTable<std::uint64_t> t;
      ASSERT_TRUE(t.Init(count).ok());
      std::set<std::uint64_t> indices = {0, count - 1, count / 2, count / 3};
      for (std::uint64_t i : indices) {
        ASSERT_TRUE(t.Ensure(i).ok());
        *t.Find(i) = i + 1;
      }
      EXPECT_EQ(t.Find(count), nullptr);
      EXPECT_EQ(t.Ensure(count).error(), Error::kOutOfRange);
      std::set<std::uint64_t> seen;
      t.ForEach(0, kAll, [&](std::uint64_t i, std::uint64_t& v) {
        if (v != 0) {
          EXPECT_EQ(v, i + 1);
          seen.insert(i);
        }
      });
      EXPECT_EQ(seen, indices);
    }
  }
}

RC_GTEST_PROP(SparseTable, AgreesWithAMap, ()) {
  const auto bits = *rc::gen::inRange(1u, 63u);
  const std::uint64_t count = std::uint64_t{1} << bits;
  SparseTable<int> table;
  RC_ASSERT(table.Init(count).ok());
  std::map<std::uint64_t, int> model;
  const auto raw = *rc::gen::container<std::vector<std::uint64_t>>(
      rc::gen::arbitrary<std::uint64_t>());
  int value = 0;
  for (std::uint64_t r : raw) {
    const std::uint64_t index = r % count;
    RC_ASSERT(table.Ensure(index).ok());
    *table.Find(index) = model[index] = ++value;
  }
  const std::uint64_t first = *rc::gen::arbitrary<std::uint64_t>() % count;
  const std::uint64_t last = *rc::gen::arbitrary<std::uint64_t>() % count;
  std::map<std::uint64_t, int> walked;
  std::uint64_t before = 0;
  table.ForEach(first, last, [&](std::uint64_t i, int& v) {
    RC_ASSERT(i >= first && i <= last && (walked.empty() || i > before));
    if (v != 0) {
      walked[i] = v;
      before = i;
    }
  });
  std::map<std::uint64_t, int> expected;
  for (const auto& [i, v] : model) {
    if (i >= first && i <= last) expected[i] = v;
  }
  RC_ASSERT(walked == expected);
}

TEST(SparseTable, RacingEnsuresAgree) {
  for (int round = 0; round < 50; ++round) {
    SparseTable<std::atomic<int>> table;
    ASSERT_TRUE(table.Init(std::uint64_t{1} << 30).ok());
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&table] {
        for (std::uint64_t i = 0; i < 40; ++i) {
          (*table.Ensure(i * 100'000))->fetch_add(1);
        }
      });
    }
    for (std::thread& t : threads) t.join();
    for (std::uint64_t i = 0; i < 40; ++i) {
      EXPECT_EQ(table.Find(i * 100'000)->load(), 4);
    }
  }
}

}  // namespace
}  // namespace dmamap
