// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "dma/asymmetric_fence.h"

#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>

#include "dma/membarrier.h"
#include "dma/sync.h"
#include "testing/sched/atomic.h"
#include "testing/sched/explore.h"

namespace dmamap {
namespace {

// Each side writes and looks then.
template <class Light, class Heavy>
sched::Body StoreBuffer(Light light, Heavy heavy) {
  return [=] {
    sched::Atomic<int> x{0};
    sched::Atomic<int> y{0};
    int seen_y = 0;
    int seen_x = 0;
    sched::RunThreads(
        {[&] {
           x.store(1, std::memory_order_relaxed);
           light();
           seen_y = y.load(std::memory_order_relaxed);
         },
         [&] {
           y.store(1, std::memory_order_relaxed);
           heavy();
           seen_x = x.load(std::memory_order_relaxed);
         }},
        [&] { sched::Check(seen_x + seen_y != 0, "each missed the other"); });
  };
}

TEST(SymmetricFence, OneSideSeesTheOther) {
  using Fence = SymmetricFence<sched::Atomic>;
  const sched::Report report = sched::Explore(
      {.name = "fence"},
      StoreBuffer([] { Fence::Light(); }, [] { Fence::Heavy(); }));
  EXPECT_TRUE(report.ok && report.complete) << report;
}

TEST(SymmetricFence, BothAreNeeded) {
  using Fence = SymmetricFence<sched::Atomic>;
  const auto nothing = [] {};
  EXPECT_FALSE(sched::Explore({.name = "light"},
                              StoreBuffer([] { Fence::Light(); }, nothing))
                   .ok);
  EXPECT_FALSE(sched::Explore({.name = "heavy"},
                              StoreBuffer(nothing, [] { Fence::Heavy(); }))
                   .ok);
}

// Two threads that meet before each turn: how often each missed the other.
template <class Light, class Heavy>
int Misses(Light light, Heavy heavy) {
  constexpr int kTurns = 20000;
  struct Line {
    alignas(kCacheLine) std::atomic<int> value{0};
  };
  Line x;
  Line y;
  Line arrived;
  const auto meet = [&](int times) {
    arrived.value.fetch_add(1);
    for (int i = 1; arrived.value.load(std::memory_order_acquire) < 2 * times;
         ++i) {
      if (i % 1000 == 0) std::this_thread::yield();
    }
  };
  int seen_x = 0;
  int misses = 0;
  std::thread other([&] {
    for (int i = 1; i <= kTurns; ++i) {
      meet(2 * i - 1);
      y.value.store(i, std::memory_order_relaxed);
      heavy();
      seen_x = x.value.load(std::memory_order_relaxed);
      meet(2 * i);
    }
  });
  for (int i = 1; i <= kTurns; ++i) {
    meet(2 * i - 1);
    x.value.store(i, std::memory_order_relaxed);
    light();
    const int seen_y = y.value.load(std::memory_order_relaxed);
    meet(2 * i);
    misses += seen_x != i && seen_y != i ? 1 : 0;
  }
  other.join();
  return misses;
}

TEST(MembarrierFence, OneSideSeesTheOther) {
  EXPECT_FALSE(MembarrierFence::is_asymmetric()) << "nobody asked for it";
  EXPECT_EQ(Misses([] { MembarrierFence::Light(); },
                   [] { MembarrierFence::Heavy(); }),
            0)
      << "as plain fences";
  MembarrierFence::Prepare();
  MembarrierFence::Prepare();
  EXPECT_EQ(Misses([] { MembarrierFence::Light(); },
                   [] { MembarrierFence::Heavy(); }),
            0);
  // What the two prevent: seldom on a machine of few CPUs, so only written
  // down.
  const auto compiler = [] {
    std::atomic_signal_fence(std::memory_order_seq_cst);
  };
  RecordProperty("asymmetric", MembarrierFence::is_asymmetric() ? "yes" : "no");
  RecordProperty("misses_without", std::to_string(Misses(compiler, compiler)));
}

}  // namespace
}  // namespace dmamap
