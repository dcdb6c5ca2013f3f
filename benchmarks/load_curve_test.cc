// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/load_curve.h"

#include <gtest/gtest.h>

#include <vector>

#include "benchmarks/load_rows.h"

namespace dmamap::bench {
namespace {

constexpr LoadMode kModes[] = {LoadMode::kInterrupt, LoadMode::kNapi,
                               LoadMode::kAdaptive, LoadMode::kBusy};

LoadResult RunAt(LoadMode mode, double share,
                 Arrivals arrivals = Arrivals::kPoisson) {
  LoadOptions options;
  options.mode = mode;
  options.share = share;
  options.arrivals = arrivals;
  options.frames = 4000;
  return RunLoad(options);
}

TEST(LoadCurve, EveryFrameIsAccountedFor) {
  for (const LoadMode mode : kModes) {
    for (const double share : {0.02, 0.3, 1.0, 3.0}) {
      for (const Arrivals arrivals :
           {Arrivals::kPoisson, Arrivals::kEven, Arrivals::kBursts}) {
        const LoadResult r = RunAt(mode, share, arrivals);
        EXPECT_TRUE(r.sound) << static_cast<int>(mode) << ' ' << share;
        EXPECT_EQ(r.offered, 4000u);
        EXPECT_LE(r.busy, r.elapsed);
      }
    }
  }
}

TEST(LoadCurve, TheSameEachTime) {
  const LoadResult a = RunAt(LoadMode::kAdaptive, 0.4);
  const LoadResult b = RunAt(LoadMode::kAdaptive, 0.4);
  EXPECT_EQ(a.elapsed, b.elapsed);
  EXPECT_EQ(a.busy, b.busy);
  EXPECT_EQ(a.delivered, b.delivered);
  EXPECT_EQ(a.p99_latency, b.p99_latency);
}

// One frame at a time, by hand: interrupt, one pass that finds it and one that
// looks again after it.
TEST(LoadCurve, CostsAreThoseOfTheOptions) {
  LoadOptions options;
  options.mode = LoadMode::kNapi;
  options.arrivals = Arrivals::kEven;
  options.share = 0.01;  // one frame in 50 us
  options.frames = 101;  // the last one is not served
  const LoadCosts& c = options.costs;
  const LoadResult r = RunLoad(options);
  EXPECT_EQ(r.delivered, 100u);
  EXPECT_EQ(r.interrupts, 100u);
  EXPECT_EQ(r.busy, 100 * (c.interrupt + 2 * c.mask + c.acknowledge +
                           c.pass * r.passes / 100 + c.driver + c.stack));
  EXPECT_EQ(r.mean_latency, static_cast<double>(c.interrupt + c.mask + c.pass +
                                                c.driver + c.stack));
}

TEST(LoadCurve, EachLosesWhereTheOtherWins) {
  // Slow: polling burns the CPU, interrupts come late.
  const LoadResult slow_interrupt = RunAt(LoadMode::kInterrupt, 0.05);
  const LoadResult slow_busy = RunAt(LoadMode::kBusy, 0.05);
  EXPECT_LT(3 * slow_interrupt.CpuNsPerFrame(), slow_busy.CpuNsPerFrame());
  EXPECT_GT(slow_interrupt.mean_latency, 3 * slow_busy.mean_latency);
  // Fast: interrupts starve the stack.
  const LoadResult fast_interrupt = RunAt(LoadMode::kInterrupt, 1.0);
  const LoadResult fast_busy = RunAt(LoadMode::kBusy, 1.0);
  EXPECT_LT(3 * fast_interrupt.delivered, fast_busy.delivered);
}

TEST(LoadCurve, NapiIsNearTheBetterEverywhere) {
  for (const double share : {0.05, 0.25, 0.5, 0.75, 1.0, 1.5}) {
    const LoadResult interrupt = RunAt(LoadMode::kInterrupt, share);
    const LoadResult busy = RunAt(LoadMode::kBusy, share);
    EXPECT_LE(PercentBehind(RunAt(LoadMode::kNapi, share), interrupt, busy), 5)
        << share;
    // Control: each end is far behind somewhere.
    const double worst =
        PercentBehind(share < 0.5 ? busy : interrupt, interrupt, busy);
    EXPECT_GT(worst, 20) << share;
  }
}

TEST(LoadCurve, TheAdaptiveOneTradesCpuForLatency) {
  const LoadResult napi = RunAt(LoadMode::kNapi, 0.5);
  const LoadResult adaptive = RunAt(LoadMode::kAdaptive, 0.5);
  EXPECT_LT(2 * adaptive.interrupts, napi.interrupts);
  EXPECT_LT(1.2 * adaptive.mean_latency, napi.mean_latency);
  EXPECT_LT(adaptive.CpuNsPerFrame(), 1.2 * napi.CpuNsPerFrame());
}

}  // namespace
}  // namespace dmamap::bench
