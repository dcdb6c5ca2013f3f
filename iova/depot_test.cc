// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "iova/depot.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <set>
#include <thread>
#include <vector>

namespace dmamap {
namespace {

using Small = Magazine<int, 2>;
using TestDepot = Depot<Small, 2>;

TEST(Depot, KeepsClassesApartAndItsLimit) {
  auto depot = std::make_unique<TestDepot>();
  depot->set_limit(2);
  EXPECT_EQ(depot->TakeFull(0), nullptr);
  std::vector<Small*> made;
  for (int i = 0; i < 4; ++i) {
    made.push_back(depot->TakeEmpty());
    ASSERT_NE(made.back(), nullptr);
    EXPECT_EQ(made.back()->number(), i);
    made.back()->Push({static_cast<std::uint64_t>(i)});
  }
  EXPECT_TRUE(depot->PutFull(0, made[0]));
  EXPECT_TRUE(depot->PutFull(0, made[1]));
  EXPECT_FALSE(depot->PutFull(0, made[2]));
  EXPECT_TRUE(depot->PutFull(1, made[2]));
  EXPECT_TRUE(depot->CheckInvariants());
  EXPECT_EQ(depot->waiting(0), 2u);
  EXPECT_EQ(depot->TakeFull(0), made[1]);
  EXPECT_EQ(depot->TakeFull(0), made[0]);
  EXPECT_EQ(depot->TakeFull(0), nullptr);
  EXPECT_EQ(depot->TakeFull(1), made[2]);
  made[3]->Pop();
  depot->PutEmpty(made[3]);
  EXPECT_EQ(depot->TakeEmpty(), made[3]);
  EXPECT_TRUE(depot->CheckInvariants());
}

TEST(Depot, SurplusIsWhatNobodyTookForAPeriod) {
  auto depot = std::make_unique<TestDepot>();
  depot->set_limit(8);
  const auto put = [&](unsigned c) {
    Small* m = depot->TakeEmpty();
    m->Push({1});
    ASSERT_TRUE(depot->PutFull(c, m));
  };
  const auto surplus = [&](unsigned c) {
    Small* m = depot->TakeSurplus(c);
    if (m == nullptr) return false;
    while (!m->empty()) m->Pop();
    depot->PutEmpty(m);
    return true;
  };
  EXPECT_FALSE(surplus(0));
  for (int i = 0; i < 4; ++i) put(0);
  EXPECT_FALSE(surplus(0)) << "came a moment ago";
  EXPECT_TRUE(surplus(0)) << "four all the time";
  EXPECT_EQ(depot->waiting(0), 3u);
  // Two are taken and come back: one was of no use.
  std::vector<Small*> taken = {depot->TakeFull(0), depot->TakeFull(0)};
  for (Small* m : taken) EXPECT_TRUE(depot->PutFull(0, m));
  EXPECT_TRUE(surplus(0));
  EXPECT_EQ(depot->waiting(0), 2u);
  // Both are: none is.
  taken = {depot->TakeFull(0), depot->TakeFull(0)};
  for (Small* m : taken) EXPECT_TRUE(depot->PutFull(0, m));
  EXPECT_FALSE(surplus(0));
  EXPECT_EQ(depot->waiting(0), 2u);
  EXPECT_FALSE(surplus(1)) << "classes are apart";
  EXPECT_TRUE(depot->CheckInvariants());
}

TEST(Depot, MakesNoMoreThanItsNumbers) {
  auto depot = std::make_unique<TestDepot>();
  std::set<Small*> made;
  for (std::uint32_t i = 0; i < TestDepot::kMaxMagazines; ++i) {
    made.insert(depot->TakeEmpty());
  }
  EXPECT_EQ(made.size(), TestDepot::kMaxMagazines);
  EXPECT_EQ(made.count(nullptr), 0u);
  EXPECT_EQ(depot->TakeEmpty(), nullptr);
}

// An owner writes to its magazine without atomics: that no two threads ever
// hold the same one shows as no torn sum here and no race under TSan.
TEST(DepotConcurrent, OneOwnerAtATime) {
  auto depot = std::make_unique<TestDepot>();
  depot->set_limit(8);
  constexpr int kThreads = 4;
  constexpr int kTurns = 20000;
  std::atomic<bool> bad{false};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kTurns; ++i) {
        const auto limit = static_cast<std::uint64_t>(i % 16);
        Small* m = i % 4 != 0 ? depot->TakeFull(t % 2)
                              : depot->TakeFitting(t % 2, limit, nullptr);
        if (m != nullptr && i % 4 == 0 && m->Top().first > limit) bad = true;
        if (m == nullptr) m = depot->TakeEmpty();
        if (m == nullptr) continue;
        while (!m->empty()) {
          if (m->Pop().first != m->number()) bad = true;
        }
        m->Push({m->number()});
        m->Push({m->number()});
        if (!depot->PutFull(t / 2, m)) {
          while (!m->empty()) m->Pop();
          depot->PutEmpty(m);
        }
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_FALSE(bad);
  EXPECT_TRUE(depot->CheckInvariants());
  constexpr std::uint64_t kTable = 256 * sizeof(Small*);
  EXPECT_LE(depot->bytes(), (16u + 2 * kThreads) * sizeof(Small) + kTable);
}

}  // namespace
}  // namespace dmamap
