// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// The classic litmus tests: each outcome that C++20 allows is found, and none
// that it forbids. Names as in Alglave, Maranget, Tautschnig, "Herding cats",
// TOPLAS 2014.

#include "testing/sched/litmus.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <set>
#include <vector>

#include "testing/sched/explore.h"

namespace dmamap::inline v0 {
namespace sched::litmus {
namespace {

// Message passing: r0 = flag, r1 = data.
std::set<Outcome> MessagePassing(std::memory_order store,
                                 std::memory_order load) {
  return Outcomes({[=](World& w) {
                     w.x.store(1, kRelaxed);
                     w.y.store(1, store);
                   },
                   [=](World& w) {
                     w.r[0] = w.y.load(load);
                     w.r[1] = w.x.load(kRelaxed);
                   }});
}

TEST(Litmus, MessagePassingNeedsReleaseAndAcquire) {
  EXPECT_TRUE(Has(MessagePassing(kRelaxed, kRelaxed), {1, 0}));
  EXPECT_TRUE(Has(MessagePassing(kRelease, kRelaxed), {1, 0}));
  EXPECT_TRUE(Has(MessagePassing(kRelaxed, kAcquire), {1, 0}));
  EXPECT_FALSE(Has(MessagePassing(kRelease, kAcquire), {1, 0}));
  EXPECT_FALSE(Has(MessagePassing(kSeqCst, kSeqCst), {1, 0}));
  // The other three are there in each.
  EXPECT_EQ(MessagePassing(kRelease, kAcquire).size(), 3u);
  EXPECT_EQ(MessagePassing(kRelaxed, kRelaxed).size(), 4u);
}

std::set<Outcome> FencedMessagePassing(std::memory_order writer,
                                       std::memory_order reader) {
  return Outcomes({[=](World& w) {
                     w.x.store(1, kRelaxed);
                     Fence(writer);
                     w.y.store(1, kRelaxed);
                   },
                   [=](World& w) {
                     w.r[0] = w.y.load(kRelaxed);
                     Fence(reader);
                     w.r[1] = w.x.load(kRelaxed);
                   }});
}

TEST(Litmus, FencesSynchronise) {
  EXPECT_FALSE(Has(FencedMessagePassing(kRelease, kAcquire), {1, 0}));
  EXPECT_FALSE(Has(FencedMessagePassing(kAcqRel, kAcqRel), {1, 0}));
  EXPECT_FALSE(Has(FencedMessagePassing(kSeqCst, kSeqCst), {1, 0}));
  EXPECT_TRUE(Has(FencedMessagePassing(kRelaxed, kAcquire), {1, 0}));
  EXPECT_TRUE(Has(FencedMessagePassing(kRelease, kRelaxed), {1, 0}));
  EXPECT_TRUE(Has(FencedMessagePassing(kAcquire, kAcquire), {1, 0}));
  EXPECT_TRUE(Has(FencedMessagePassing(kRelease, kRelease), {1, 0}));
}

TEST(Litmus, FenceAndAccessSynchronise) {
  EXPECT_FALSE(Has(Outcomes({[](World& w) {
                               w.x.store(1, kRelaxed);
                               Fence(kRelease);
                               w.y.store(1, kRelaxed);
                             },
                             [](World& w) {
                               w.r[0] = w.y.load(kAcquire);
                               w.r[1] = w.x.load(kRelaxed);
                             }}),
                   {1, 0}));
  EXPECT_FALSE(Has(Outcomes({[](World& w) {
                               w.x.store(1, kRelaxed);
                               w.y.store(1, kRelease);
                             },
                             [](World& w) {
                               w.r[0] = w.y.load(kRelaxed);
                               Fence(kAcquire);
                               w.r[1] = w.x.load(kRelaxed);
                             }}),
                   {1, 0}));
}

std::set<Outcome> StoreBuffering(std::memory_order store,
                                 std::memory_order load,
                                 std::memory_order fence = kRelaxed) {
  return Outcomes({[=](World& w) {
                     w.x.store(1, store);
                     Fence(fence);
                     w.r[0] = w.y.load(load);
                   },
                   [=](World& w) {
                     w.y.store(1, store);
                     Fence(fence);
                     w.r[1] = w.x.load(load);
                   }});
}

TEST(Litmus, StoreBufferingNeedsSeqCst) {
  EXPECT_TRUE(Has(StoreBuffering(kRelease, kAcquire), {0, 0}));
  EXPECT_TRUE(Has(StoreBuffering(kSeqCst, kAcquire), {0, 0}));
  EXPECT_TRUE(Has(StoreBuffering(kRelease, kSeqCst), {0, 0}));
  EXPECT_FALSE(Has(StoreBuffering(kSeqCst, kSeqCst), {0, 0}));
  EXPECT_TRUE(Has(StoreBuffering(kRelaxed, kRelaxed, kAcqRel), {0, 0}));
  EXPECT_FALSE(Has(StoreBuffering(kRelaxed, kRelaxed, kSeqCst), {0, 0}));
  EXPECT_EQ(StoreBuffering(kSeqCst, kSeqCst).size(), 3u);
}

// A limit of the model: allowed by C++20, seen on Arm, and never produced.
TEST(Litmus, LoadBufferingIsNotProduced) {
  const auto outcomes = Outcomes({[](World& w) {
                                    w.r[0] = w.x.load(kRelaxed);
                                    w.y.store(1, kRelaxed);
                                  },
                                  [](World& w) {
                                    w.r[1] = w.y.load(kRelaxed);
                                    w.x.store(1, kRelaxed);
                                  }});
  EXPECT_FALSE(Has(outcomes, {1, 1}));
  EXPECT_EQ(outcomes.size(), 3u);
}

std::set<Outcome> IndependentReads(std::memory_order store,
                                   std::memory_order load,
                                   std::memory_order fence = kRelaxed) {
  return Outcomes({[=](World& w) { w.x.store(1, store); },
                   [=](World& w) { w.y.store(1, store); },
                   [=](World& w) {
                     w.r[0] = w.x.load(load);
                     Fence(fence);
                     w.r[1] = w.y.load(load);
                   },
                   [=](World& w) {
                     w.r[2] = w.y.load(load);
                     Fence(fence);
                     w.r[3] = w.x.load(load);
                   }});
}

TEST(Litmus, IndependentReadsOfIndependentWrites) {
  EXPECT_TRUE(Has(IndependentReads(kRelease, kAcquire), {1, 0, 1, 0}));
  EXPECT_FALSE(Has(IndependentReads(kSeqCst, kSeqCst), {1, 0, 1, 0}));
  EXPECT_TRUE(Has(IndependentReads(kRelaxed, kRelaxed, kAcqRel), {1, 0, 1, 0}));
  EXPECT_FALSE(
      Has(IndependentReads(kRelaxed, kRelaxed, kSeqCst), {1, 0, 1, 0}));
}

}  // namespace
}  // namespace sched::litmus
}  // namespace dmamap::inline v0
