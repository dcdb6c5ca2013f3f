// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/op_timer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <thread>

namespace dmamap::bench {
namespace {

void Spin(std::chrono::microseconds time) {
  const auto end = std::chrono::steady_clock::now() + time;
  while (std::chrono::steady_clock::now() < end) {
  }
}

TEST(OpTimer, NothingTimed) {
  const OpTimer timer;
  EXPECT_EQ(timer.NsPerOp(0), 0);
  EXPECT_EQ(timer.NsPerOpOfAll(OpTimer::kMaxKinds), 0);
  EXPECT_EQ(timer.excluded_share(), 0);
}

TEST(OpTimer, KnownTime) {
  OpTimer timer;
  for (int i = 0; i < 20; ++i) {
    timer.BeginChunk();
    timer.Start();
    Spin(std::chrono::microseconds(500));
    timer.Stop(1, 100);                    // 5 us each
    Spin(std::chrono::microseconds(500));  // not timed
    timer.EndChunk();
  }
  EXPECT_EQ(timer.ops(1), 2000u);
  EXPECT_EQ(timer.OpsOfAll(2), 2000u);
  EXPECT_EQ(timer.ops(0), 0u);
  EXPECT_GT(timer.NsPerOp(1), 4900);
  EXPECT_LT(timer.NsPerOp(1), 9900);  // the other half is not in it
  EXPECT_EQ(timer.NsPerOpOfAll(2), timer.NsPerOp(1));
}

TEST(OpTimer, MeanOverKindsIsWeighted) {
  OpTimer timer;
  timer.BeginChunk();
  timer.Start();
  Spin(std::chrono::microseconds(100));
  timer.Stop(0, 1);
  timer.Start();
  timer.Stop(1, 99);
  timer.EndChunk();
  EXPECT_NEAR(timer.NsPerOpOfAll(2),
              (timer.NsPerOp(0) + 99 * timer.NsPerOp(1)) / 100, 1e-6);
}

TEST(OpTimer, EmptyBracketsCostNothing) {
  OpTimer timer;
  timer.BeginChunk();
  for (int i = 0; i < 10'000; ++i) {
    timer.Start();
    timer.Stop(0, 1);
  }
  timer.EndChunk();
  EXPECT_LT(timer.NsPerOp(0), 30);
}

#if defined(__linux__)
// A chunk in which the thread slept does not count.
TEST(OpTimer, ChunksOffTheCpuAreLeftOut) {
  OpTimer timer;
  timer.BeginChunk();
  timer.Start();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  timer.Stop(0, 1);
  timer.EndChunk();
  // The only one there is: better than nothing.
  EXPECT_GT(timer.NsPerOp(0), 1e7);
  EXPECT_EQ(timer.excluded_share(), 1);
  // Short chunks: one of them at least is not interrupted.
  for (int i = 0; i < 1000; ++i) {
    timer.BeginChunk();
    timer.Start();
    timer.Stop(0, 1);
    timer.EndChunk();
  }
  EXPECT_LT(timer.NsPerOp(0), 1e4);
  EXPECT_EQ(timer.ops(0), 1001u);
  EXPECT_GT(timer.excluded_share(), 0);
}
#endif

}  // namespace
}  // namespace dmamap::bench
