// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/peers/session.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "benchmarks/peers/measure.h"

namespace dmamap::peers {
namespace {

double ValueOf(const Repetition& repetition, const std::string& name) {
  for (const Metric& metric : repetition.metrics) {
    if (metric.name == name) return metric.value;
  }
  ADD_FAILURE() << "no metric " << name;
  return -1;
}

TEST(RandomTest, BelowStaysBelowAndReachesAll) {
  Random random(1);
  std::vector<int> hits(10);
  for (int i = 0; i < 10'000; ++i) {
    const std::uint64_t n = random.Below(10);
    ASSERT_LT(n, 10u);
    ++hits[n];
  }
  for (const int count : hits) EXPECT_GT(count, 700);
}

TEST(RandomTest, ShuffleKeepsEveryItem) {
  std::vector<int> items(100);
  for (int i = 0; i < 100; ++i) items[static_cast<std::size_t>(i)] = i;
  std::vector<int> shuffled = items;
  Random(2).Shuffle(shuffled);
  EXPECT_NE(shuffled, items);
  std::sort(shuffled.begin(), shuffled.end());
  EXPECT_EQ(shuffled, items);
}

TEST(ThreadTeamTest, EveryThreadRunsEveryJobOnce) {
  ThreadTeam team(3);
  std::vector<int> runs(3);
  for (int job = 1; job <= 50; ++job) {
    team.Run([&](unsigned t) { ++runs[t]; });
    EXPECT_EQ(runs, std::vector<int>(3, job));
  }
}

TEST(ThreadTeamTest, NobodyPassesABarrierAlone) {
  ThreadTeam team(2);
  std::atomic<int> arrived{0};
  std::atomic<int> early{0};
  team.Run([&](unsigned) {
    for (int round = 1; round <= 200; ++round) {
      ++arrived;
      team.Barrier();
      if (arrived.load() < 2 * round) ++early;
      team.Barrier();
    }
  });
  EXPECT_EQ(early.load(), 0);
}

TEST(PageQueueTest, CarriesAllInOrder) {
  constexpr std::uint64_t kPages = 100'003;  // not a multiple of a batch
  PageQueue queue;
  ThreadTeam team(2);
  std::uint64_t wrong = 0;
  team.Run([&](unsigned t) {
    if (t == 0) {
      for (std::uint64_t i = 1; i <= kPages; ++i) queue.Push(i);
      queue.Flush();
    } else {
      for (std::uint64_t i = 1; i <= kPages; ++i) wrong += queue.Pop() != i;
    }
  });
  EXPECT_EQ(wrong, 0u);
}

TEST(ClockTest, AReadingCostsSomethingAndNotMuch) {
  const double ns = ClockReadNs();
  EXPECT_GT(ns, 0.5);
  EXPECT_LT(ns, 20'000);
}

TEST(UndisturbedTest, WantsNoPreemptionAndACommonStart) {
  const BatchReading good{1000, 100, false};
  EXPECT_TRUE(Undisturbed({good}));
  EXPECT_TRUE(Undisturbed({good, {1005, 100, false}}));
  EXPECT_FALSE(Undisturbed({good, {1006, 100, false}}));
  EXPECT_FALSE(Undisturbed({good, {994, 100, false}}));
  EXPECT_FALSE(Undisturbed({good, {1000, 100, true}}));
  EXPECT_FALSE(Undisturbed({{1000, 100, true}}));
}

// --- Batches ---

// Each step spins for a thousand nanoseconds of CPU time.
struct SpinBody {
  unsigned thread_count = 1;
  double operations = 1;
  std::uint64_t limit = 0;
  absl::Status ready = absl::OkStatus();
  std::vector<std::string>* log = nullptr;

  unsigned threads() const { return thread_count; }
  double operations_per_step() const { return operations; }
  std::uint64_t max_steps() const { return limit; }
  std::uint64_t failures() const { return 5; }
  absl::Status SetUp(unsigned tid) {
    if (log != nullptr) log->push_back("setup" + std::to_string(tid));
    return ready;
  }
  void Run(unsigned, std::uint64_t n) {
    const std::uint64_t end = ThreadCpuNs() + 1000 * n;
    while (ThreadCpuNs() < end) continue;
  }
  void TearDown(unsigned tid) {
    if (log != nullptr) log->push_back("teardown" + std::to_string(tid));
  }
};

TEST(BatchSessionTest, GivesTheCostOfOneOperation) {
  for (const unsigned threads : {1u, 2u}) {
    auto body = std::make_unique<SpinBody>();
    body->thread_count = threads;
    body->operations = 4;
    auto session = BatchSession<SpinBody>::Create(
        std::move(body), {.repetition_ns = 4e5, .max_discarded = 2});
    ASSERT_TRUE(session.ok());
    const Repetition repetition = (*session)->Run();
    // 1000 ns a step of four operations; the clock reads come on top.
    EXPECT_GE(ValueOf(repetition, "ns_per_op"), 250);
    EXPECT_LT(ValueOf(repetition, "ns_per_op"), 900);
    EXPECT_EQ(repetition.failures, 5u);
  }
}

TEST(BatchSessionTest, SetsUpAndTearsDownEachThreadOnce) {
  std::vector<std::string> log;
  {
    auto body = std::make_unique<SpinBody>();
    body->thread_count = 2;
    body->log = &log;
    auto session = BatchSession<SpinBody>::Create(
        std::move(body), {.repetition_ns = 1e5, .max_discarded = 0});
    ASSERT_TRUE(session.ok());
    EXPECT_EQ(log, (std::vector<std::string>{"setup0", "setup1"}));
  }
  EXPECT_EQ(log, (std::vector<std::string>{"setup0", "setup1", "teardown0",
                                           "teardown1"}));
}

TEST(BatchSessionTest, AFailedSetUpIsTheResult) {
  auto body = std::make_unique<SpinBody>();
  body->ready = absl::ResourceExhaustedError("none left");
  const auto session = BatchSession<SpinBody>::Create(std::move(body), {});
  EXPECT_EQ(session.status(), absl::ResourceExhaustedError("none left"));
}

// --- Single operations ---

TEST(LatencyRecorderTest, PercentilesAreExact) {
  LatencyRecorder recorder(1);
  std::vector<Metric> metrics;
  recorder.Report(0, "op", metrics);
  EXPECT_TRUE(metrics.empty());
  for (int i = 0; i < 1000; ++i) recorder.Time(0, [] {});
  recorder.KeepChunk();
  recorder.Report(0, "op", metrics);
  const Repetition repetition{.metrics = metrics};
  EXPECT_EQ(ValueOf(repetition, "op_samples"), 1000);
  EXPECT_LE(ValueOf(repetition, "op_p50"), ValueOf(repetition, "op_p99"));
  EXPECT_LE(ValueOf(repetition, "op_p99"), ValueOf(repetition, "op_p999"));
  EXPECT_LE(ValueOf(repetition, "op_p999"), ValueOf(repetition, "op_max"));
}

TEST(LatencyRecorderTest, PercentilesOfKnownSamples) {
  EXPECT_EQ(PercentileOfSorted({1, 2, 3, 4}, 0.5), 2);
  EXPECT_EQ(PercentileOfSorted({1, 2, 3, 4}, 0.51), 3);
  EXPECT_EQ(PercentileOfSorted({1, 2, 3, 4}, 0.999), 4);
  EXPECT_EQ(PercentileOfSorted({7}, 0.01), 7);
  std::vector<double> thousand(1000);
  for (std::size_t i = 0; i < 1000; ++i) thousand[i] = static_cast<double>(i);
  EXPECT_EQ(PercentileOfSorted(thousand, 0.99), 989);
  EXPECT_EQ(PercentileOfSorted(thousand, 0.999), 998);
}

TEST(LatencyRecorderTest, ADroppedChunkLeavesNothing) {
  LatencyRecorder recorder(1);
  recorder.Time(0, [] {});
  recorder.DropChunk();
  std::vector<Metric> metrics;
  recorder.Report(0, "op", metrics);
  EXPECT_TRUE(metrics.empty());
}

TEST(LatencyRecorderTest, LostTimeComesOffTheLongest) {
  LatencyRecorder recorder(2);
  recorder.Time(0, [] {});
  recorder.Time(1, [] {
    const std::uint64_t end = WallNs() + 2'000'000;
    while (WallNs() < end) continue;
  });
  recorder.TakeOffLongest(1e12);
  recorder.KeepChunk();
  std::vector<Metric> metrics;
  recorder.Report(1, "long", metrics);
  EXPECT_EQ(ValueOf({.metrics = metrics}, "long_mean"), 0);
}

struct StepBody {
  static constexpr const char* kSeries[] = {"spin", "nothing"};
  std::uint64_t steps = 0;

  std::uint64_t max_steps() const { return 100; }
  std::uint64_t failures() const { return 0; }
  absl::Status SetUp() { return absl::OkStatus(); }
  void Step(LatencyRecorder& recorder) {
    ++steps;
    recorder.Time(0, [] {
      const std::uint64_t end = WallNs() + 5'000;
      while (WallNs() < end) continue;
    });
    recorder.Time(1, [] {});
  }
  void TearDown() {}
};

TEST(LatencySessionTest, TimesEachSeriesOnItsOwn) {
  auto session = LatencySession<StepBody>::Create(std::make_unique<StepBody>(),
                                                  {.latency_limit_ns = 2e9});
  ASSERT_TRUE(session.ok());
  const Repetition repetition = (*session)->Run();
  EXPECT_TRUE(repetition.clean);
  EXPECT_GE(ValueOf(repetition, "spin_p50"), 5'000);
  EXPECT_LT(ValueOf(repetition, "nothing_p50"), 5'000);
  EXPECT_GT(ValueOf(repetition, "clock_read"), 0);
  EXPECT_GE(ValueOf(repetition, "spin_samples"), 1);
}

}  // namespace
}  // namespace dmamap::peers
