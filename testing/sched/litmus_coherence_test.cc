// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Litmus tests of one location, of read-modify-writes, and of stores that are
// overtaken. Names as in Alglave, Maranget, Tautschnig, "Herding cats", TOPLAS
// 2014.

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <set>
#include <vector>

#include "testing/sched/explore.h"
#include "testing/sched/litmus.h"

namespace dmamap::inline v0 {
namespace sched::litmus {
namespace {

// Coherence holds for relaxed accesses too.
TEST(LitmusCoherence, CoherenceOfReads) {  // CoRR
  const auto outcomes = Outcomes({[](World& w) {
                                    w.x.store(1, kRelaxed);
                                    w.x.store(2, kRelaxed);
                                  },
                                  [](World& w) {
                                    w.r[0] = w.x.load(kRelaxed);
                                    w.r[1] = w.x.load(kRelaxed);
                                  }});
  const std::set<Outcome> expected = {{0, 0}, {0, 1}, {0, 2},
                                      {1, 1}, {1, 2}, {2, 2}};
  EXPECT_EQ(outcomes, expected);
}

TEST(LitmusCoherence, ReadersAgreeOnTheOrderOfWrites) {  // CoRR2
  const auto outcomes = Outcomes({[](World& w) { w.x.store(1, kRelaxed); },
                                  [](World& w) { w.x.store(2, kRelaxed); },
                                  [](World& w) {
                                    w.r[0] = w.x.load(kRelaxed);
                                    w.r[1] = w.x.load(kRelaxed);
                                  },
                                  [](World& w) {
                                    w.r[2] = w.x.load(kRelaxed);
                                    w.r[3] = w.x.load(kRelaxed);
                                  }});
  EXPECT_TRUE(Has(outcomes, {1, 2, 1, 2}));
  EXPECT_TRUE(Has(outcomes, {2, 1, 2, 1}));
  EXPECT_FALSE(Has(outcomes, {1, 2, 2, 1}));
  EXPECT_FALSE(Has(outcomes, {2, 1, 1, 2}));
}

TEST(LitmusCoherence, AThreadSeesItsOwnWrites) {  // CoWR, CoRW
  const auto outcomes = Outcomes({[](World& w) {
                                    w.x.store(1, kRelaxed);
                                    w.r[0] = w.x.load(kRelaxed);
                                  },
                                  [](World& w) {
                                    w.r[1] = w.x.load(kRelaxed);
                                    w.x.store(2, kRelaxed);
                                  }});
  EXPECT_FALSE(Has(outcomes, {0, 0}));
  EXPECT_FALSE(Has(outcomes, {0, 1}));
  EXPECT_FALSE(Has(outcomes, {1, 2}));
  EXPECT_TRUE(Has(outcomes, {2, 0}));
}

TEST(LitmusCoherence, ReleaseSequenceGoesThroughUpdates) {
  const auto through = [](const Thread& middle) {
    return Outcomes({[](World& w) {
                       w.x.store(1, kRelaxed);
                       w.y.store(1, kRelease);
                     },
                     middle,
                     [](World& w) {
                       w.r[0] = w.y.load(kAcquire);
                       w.r[1] = w.x.load(kRelaxed);
                     }});
  };
  // 11: the update read 1.
  EXPECT_FALSE(
      Has(through([](World& w) { w.y.fetch_add(10, kRelaxed); }), {11, 0}));
  // A store does not continue it.
  EXPECT_TRUE(Has(through([](World& w) {
                    if (w.y.load(kRelaxed) == 1) w.y.store(11, kRelaxed);
                  }),
                  {11, 0}));
}

// Since C++20 (P0982) not even a store of the same thread continues it.
TEST(LitmusCoherence, ReleaseSequenceEndsAtAStoreOfTheSameThread) {
  EXPECT_TRUE(Has(Outcomes({[](World& w) {
                              w.x.store(1, kRelaxed);
                              w.y.store(1, kRelease);
                              w.y.store(2, kRelaxed);
                            },
                            [](World& w) {
                              w.r[0] = w.y.load(kAcquire);
                              w.r[1] = w.x.load(kRelaxed);
                            }}),
                  {2, 0}));
}

std::set<Outcome> WriteToReadCausality(std::memory_order store,
                                       std::memory_order load) {
  return Outcomes({[=](World& w) { w.x.store(1, store); },
                   [=](World& w) {
                     w.r[0] = w.x.load(load);
                     w.y.store(1, store);
                   },
                   [=](World& w) {
                     w.r[1] = w.y.load(load);
                     w.r[2] = w.x.load(kRelaxed);
                   }});
}

TEST(LitmusCoherence, WriteToReadCausality) {  // WRC
  EXPECT_TRUE(Has(WriteToReadCausality(kRelaxed, kRelaxed), {1, 1, 0}));
  EXPECT_FALSE(Has(WriteToReadCausality(kRelease, kAcquire), {1, 1, 0}));
}

// Stores overtaken in modification order. r: the values in the end.
std::set<Outcome> TwoPlusTwo(std::memory_order order, StoreOrder stores) {
  return Outcomes({[=](World& w) {
                     w.x.store(1, order);
                     w.y.store(2, order);
                     w.r[0] = w.y.load(kRelaxed);
                   },
                   [=](World& w) {
                     w.y.store(1, order);
                     w.x.store(2, order);
                     w.r[1] = w.x.load(kRelaxed);
                   }},
                  {.store_order = stores});
}

TEST(LitmusCoherence, StoresMayBeOvertaken) {  // 2+2W, seen through later loads
  EXPECT_TRUE(Has(TwoPlusTwo(kRelaxed, StoreOrder::kAny), {1, 1}));
  EXPECT_TRUE(Has(TwoPlusTwo(kRelease, StoreOrder::kAny), {1, 1}));
  EXPECT_FALSE(Has(TwoPlusTwo(kSeqCst, StoreOrder::kAny), {1, 1}));
  EXPECT_FALSE(Has(TwoPlusTwo(kRelaxed, StoreOrder::kExecution), {1, 1}));
}

// S: a flag that is published too early lets another thread's store go first.
TEST(LitmusCoherence, AStoreBehindAFlagNeedsRelease) {
  // The last value of x, when the flag was seen.
  const auto last = [](std::memory_order store, std::memory_order load,
                       StoreOrder stores = StoreOrder::kAny) {
    std::set<int> values;
    const Options options = {.preemptions = kUnlimited, .store_order = stores};
    const Report report = Explore(options, [&] {
      World w;
      RunThreads({[&] {
                    w.x.store(2, kRelaxed);
                    w.y.store(1, store);
                  },
                  [&] {
                    w.r[0] = w.y.load(load);
                    if (w.r[0] == 1) w.x.store(1, kRelaxed);
                  }},
                 [&] {
                   if (w.r[0] == 1) values.insert(w.x.load());
                 });
    });
    EXPECT_TRUE(report.exhaustive()) << report;
    return values;
  };
  EXPECT_EQ(last(kRelease, kAcquire), (std::set<int>{1}));
  EXPECT_EQ(last(kRelaxed, kAcquire), (std::set<int>{1, 2}));
  EXPECT_EQ(last(kRelease, kRelaxed), (std::set<int>{1, 2}));
  EXPECT_EQ(last(kRelaxed, kRelaxed, StoreOrder::kExecution),
            (std::set<int>{1}));
}

TEST(LitmusCoherence, UpdatesAreAtomic) {
  const auto outcomes = Outcomes({
      [](World& w) { w.r[0] = w.x.fetch_add(1, kRelaxed); },
      [](World& w) { w.r[1] = w.x.fetch_add(1, kRelaxed); },
      [](World& w) { w.r[2] = w.x.fetch_add(1, kRelaxed); },
  });
  EXPECT_EQ(outcomes.size(), 6u);  // the permutations of 0, 1, 2
  for (const Outcome& o : outcomes) EXPECT_EQ(o[0] + o[1] + o[2], 3);
}

TEST(LitmusCoherence, AFailedCompareMayReadAnOldValue) {
  EXPECT_TRUE(Has(Outcomes({[](World& w) {
                              w.x.store(1, kRelaxed);
                              w.y.store(1, kRelaxed);
                            },
                            [](World& w) {
                              w.r[0] = w.y.load(kRelaxed);
                              int expected = 1;
                              w.x.compare_exchange_strong(expected, 2);
                              w.r[1] = expected;
                            }}),
                  {1, 0}));
}

TEST(LitmusCoherence, AWeakCompareMayFailForNoReason) {
  const auto failed = [](std::uint32_t spurious) {
    bool seen = false;
    const Report report = Explore({.spurious = spurious}, [&] {
      World w;
      RunThreads({[&] {
        int expected = 0;
        if (!w.x.compare_exchange_weak(expected, 1)) {
          seen = true;
          Check(expected == 0, "a spurious failure reads the expected value");
        }
      }});
    });
    EXPECT_TRUE(report.ok) << report;
    EXPECT_EQ(report.cut_spurious, spurious == 0);
    return seen;
  };
  EXPECT_TRUE(failed(1));
  EXPECT_FALSE(failed(0));
}

// Two seq_cst loads agree on an order although neither thread writes: of use
// to a reduction that took them for independent.
TEST(LitmusCoherence, SeqCstLoadsAreOrdered) {
  const std::vector<Thread> threads = {
      [](World& w) {
        w.x.store(1, kRelaxed);
        w.y.store(1, kRelaxed);
      },
      [](World& w) {
        w.r[0] = w.y.load(kRelaxed);
        w.r[1] = w.x.load(kSeqCst);
      },
      [](World& w) { w.r[2] = w.x.load(kSeqCst); }};
  const auto outcomes = Outcomes(threads);
  EXPECT_TRUE(Has(outcomes, {1, 0, 1}));
  EXPECT_EQ(outcomes, Outcomes(threads, {.reduction = Reduction::kNone}));
}

}  // namespace
}  // namespace sched::litmus
}  // namespace dmamap::inline v0
