// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "testing/sched/explore.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace dmamap::inline v0 {
namespace sched {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

Body Stores(Atomic<int>& at, int times) {
  return [&at, times] {
    for (int i = 0; i < times; ++i) at.store(i, kRelaxed);
  };
}

// Threads that share nothing: as many executions as there are interleavings.
std::uint64_t Interleavings(std::vector<int> steps, Options options) {
  const Report report = Explore(options, [&] {
    std::vector<std::unique_ptr<Atomic<int>>> at;
    std::vector<Body> threads;
    for (const int n : steps) {
      at.push_back(std::make_unique<Atomic<int>>(0));
      threads.push_back(Stores(*at.back(), n));
    }
    RunThreads(threads);
  });
  EXPECT_TRUE(report.ok && report.complete) << report;
  return report.executions - report.redundant;
}

TEST(Explore, CountsAllInterleavings) {
  const Options all = {.reduction = Reduction::kNone,
                       .preemptions = kUnlimited};
  EXPECT_EQ(Interleavings({1, 1}, all), 2u);
  EXPECT_EQ(Interleavings({2, 2}, all), 6u);      // 4! / (2! 2!)
  EXPECT_EQ(Interleavings({4, 3}, all), 35u);     // 7! / (4! 3!)
  EXPECT_EQ(Interleavings({2, 2, 2}, all), 90u);  // 6! / (2! 2! 2!)
  EXPECT_EQ(Interleavings({1, 1, 1, 1}, all), 24u);
  EXPECT_EQ(Interleavings({}, all), 1u);
}

TEST(Explore, CountsInterleavingsWithinABoundOfPreemptions) {
  const auto bounded = [](std::uint32_t n) {
    return Interleavings({3, 3}, {.preemptions = n});
  };
  EXPECT_EQ(bounded(0), 2u);  // either thread first, to its end
  // Two segments of one thread around the other: 2 places each, 2 threads.
  EXPECT_EQ(bounded(1), 6u);
  EXPECT_EQ(bounded(5), 20u);  // all 6! / (3! 3!)
}

TEST(Explore, TheReductionKeepsOneOfEachClass) {
  EXPECT_EQ(Interleavings({4, 4, 4}, {.preemptions = kUnlimited}), 1u);
}

TEST(Explore, ReportsWhatABoundCutOff) {
  const auto run = [](const Options& options) {
    return Explore(options, [] {
      Atomic<int> x{0};
      RunThreads({[&] { x.store(1); },
                  [&] {
                    x.load(kRelaxed);
                    x.load(kRelaxed);
                  }});
    });
  };
  EXPECT_TRUE(run({.preemptions = kUnlimited}).exhaustive());
  EXPECT_TRUE(run({.preemptions = 0}).cut_preemptions);
  EXPECT_TRUE(run({.preemptions = 0}).complete);
  EXPECT_FALSE(run({.preemptions = 0}).exhaustive());
  EXPECT_TRUE(run({.stale = 0}).cut_stale);
  EXPECT_TRUE(run({.history = 1}).cut_history);
  const Report few = run({.max_executions = 2});
  EXPECT_TRUE(few.ok);
  EXPECT_FALSE(few.complete);
  EXPECT_EQ(few.executions, 2u);
}

TEST(Explore, ReportsARunThatDoesNotEnd) {
  const Report report = Explore({.max_steps = 100}, [] {
    Atomic<int> x{0};
    RunThreads({[&] {
      while (true) x.fetch_add(1);
    }});
  });
  EXPECT_FALSE(report.ok);
  EXPECT_NE(report.failure.find("100 steps"), std::string::npos) << report;
}

TEST(Explore, ASpinLoopEnds) {
  const Report report = Explore({.preemptions = kUnlimited}, [] {
    Atomic<int> flag{0};
    Plain<int> data{0};
    RunThreads({[&] {
                  data = 1;
                  flag.store(1, std::memory_order_release);
                },
                [&] {
                  while (flag.load(std::memory_order_acquire) == 0) {
                  }
                  Check(data == 1, "data");
                }});
  });
  EXPECT_TRUE(report.exhaustive()) << report;
  EXPECT_LT(report.executions, 20u);
}

TEST(Explore, ASpinLoopOverSeveralLocationsEnds) {
  const Report report = Explore({}, [] {
    Atomic<int> a{0}, b{0}, c{0};
    RunThreads({[&] { b.store(1); }, [&] { c.store(1); },
                [&] {
                  while (a.load() + b.load() + c.load() < 2)
                    AtomRelax<Atomic>();
                }});
  });
  EXPECT_TRUE(report.ok && report.complete) << report;
}

TEST(Explore, ALivelockIsFound) {
  // Each waits for the other's flag.
  const Report report = Explore({.name = "cross"}, [] {
    Atomic<int> x{0}, y{0};
    RunThreads({[&] {
                  while (x.load() == 0) {
                  }
                  y.store(1);
                },
                [&] {
                  while (y.load() == 0) AtomRelax<Atomic>();
                  x.store(1);
                }});
  });
  EXPECT_FALSE(report.ok);
  EXPECT_NE(report.failure.find("livelock"), std::string::npos) << report;
}

TEST(Explore, ALoopThatGivesUpIsNoLivelock) {
  int gave_up = 0;
  const Report report = Explore({}, [&] {
    Atomic<int> x{0}, y{0};
    const auto wait = [&](Atomic<int>& in, Atomic<int>& out) {
      for (int i = 0; i < 10; ++i) {
        if (in.load() != 0) return;
      }
      ++gave_up;
      out.store(1);
    };
    RunThreads({[&] { wait(x, y); }, [&] { wait(y, x); }});
  });
  EXPECT_TRUE(report.ok && report.complete) << report;
  EXPECT_GT(gave_up, 0);
}

TEST(Explore, ARelaxThatWaitsForNobodyGoesOn) {
  const Report report = Explore({}, [] {
    RunThreads({[] {
      for (int i = 0; i < 5; ++i) AtomRelax<Atomic>();
    }});
  });
  EXPECT_TRUE(report.ok && report.complete) << report;
}

// A lost update: two increments that are a load and a store.
void LostUpdate() {
  Atomic<int> x{0};
  x.SetLabel("counter");
  const auto increment = [&] { x.store(x.load() + 1); };
  RunThreads({increment, increment},
             [&] { Check(x.load() == 2, "an increment was lost"); });
}

TEST(Explore, AFailureTellsItsSchedule) {
  const Report report = Explore({.name = "lost"}, &LostUpdate);
  ASSERT_FALSE(report.ok);
  EXPECT_EQ(report.failure, "main: an increment was lost");
  EXPECT_NE(report.schedule.find("counter"), std::string::npos);
  EXPECT_NE(report.schedule.find("explore_test.cc:"), std::string::npos);
  std::ostringstream text;
  text << report;
  EXPECT_NE(text.str().find("DMAMAP_SCHED_REPLAY='lost@"), std::string::npos);
}

TEST(Explore, AReplayFailsTheSameWay) {
  const Report report = Explore({.name = "lost"}, &LostUpdate);
  ASSERT_FALSE(report.ok);
  const Report again = Replay({.name = "lost"}, report.replay, &LostUpdate);
  EXPECT_FALSE(again.ok);
  EXPECT_EQ(again.executions, 1u);
  EXPECT_EQ(again.failure, report.failure);
  EXPECT_EQ(again.schedule, report.schedule);
  EXPECT_EQ(again.replay, report.replay);
}

TEST(Explore, AReplayOfAnotherPathPasses) {
  const Report passing = Replay({.name = "lost"}, "lost@", &LostUpdate);
  EXPECT_TRUE(passing.ok) << passing;
  EXPECT_NE(passing.schedule.find("counter"), std::string::npos);
}

TEST(Explore, AReplayThatIsNoneIsRefused) {
  for (const char* text : {"lost", "other@z3", "lost@x", "lost@1.", ""}) {
    EXPECT_FALSE(Replay({.name = "lost"}, text, &LostUpdate).ok) << text;
  }
  // A choice that the program does not have.
  const Report report = Replay({.name = "lost"}, "lost@7", &LostUpdate);
  EXPECT_NE(report.failure.find("not deterministic"), std::string::npos);
}

TEST(Explore, TheEnvironmentReplays) {
  const Report report = Explore({.name = "lost"}, &LostUpdate);
  setenv("DMAMAP_SCHED_REPLAY", report.replay.c_str(), 1);
  const Report replayed = Explore({.name = "lost"}, &LostUpdate);
  const Report other = Explore({.name = "other"}, &LostUpdate);
  unsetenv("DMAMAP_SCHED_REPLAY");
  EXPECT_EQ(replayed.executions, 1u);
  EXPECT_EQ(replayed.failure, report.failure);
  EXPECT_GT(other.executions, 1u);
}

TEST(Explore, ABodyThatIsNotDeterministicIsFound) {
  int executions = 0;
  const Report report = Explore({}, [&] {
    Atomic<int> x{0};
    const int steps = ++executions % 2 == 0 ? 1 : 3;
    RunThreads({Stores(x, steps), Stores(x, 2)});
  });
  EXPECT_FALSE(report.ok);
  EXPECT_NE(report.failure.find("not deterministic"), std::string::npos);
}

TEST(Explore, RandomSearchFindsAndReplays) {
  const Options options = {.name = "random",
                           .search = Search::kRandom,
                           .seed = 7,
                           .max_executions = 2000};
  const Report report = Explore(options, &LostUpdate);
  ASSERT_FALSE(report.ok);
  EXPECT_FALSE(report.complete);
  const Report again = Replay(options, report.replay, &LostUpdate);
  EXPECT_EQ(again.failure, report.failure);
  EXPECT_EQ(again.schedule, report.schedule);
  // The same seed makes the same search.
  EXPECT_EQ(Explore(options, &LostUpdate).replay, report.replay);
}

TEST(Explore, ThreadsKnowTheirIndex) {
  EXPECT_EQ(ThreadIndex(), kNoThread);
  std::set<std::size_t> seen;
  Explore({}, [&] {
    Atomic<int> x{0};
    const auto note = [&] {
      x.fetch_add(1);
      seen.insert(ThreadIndex());
    };
    EXPECT_EQ(ThreadIndex(), kNoThread);
    RunThreads({note, note, note, note});
    EXPECT_EQ(ThreadIndex(), kNoThread);
  });
  EXPECT_EQ(seen, (std::set<std::size_t>{0, 1, 2, 3}));
}

TEST(Explore, ABodyMayRunSeveralTimes) {
  const Report report = Explore({.preemptions = kUnlimited}, [] {
    Atomic<int> x{0};
    Plain<int> p{0};
    RunThreads(
        {[&] { x.fetch_add(1, kRelaxed); }, [&] { x.fetch_add(1, kRelaxed); }});
    p = x.load(kRelaxed);  // all that they did is known
    Check(p == 2, "first");
    RunThreads({[&] { Check(x.load(kRelaxed) == p, "second"); }, [&] { ++p; }});
  });
  EXPECT_FALSE(report.ok);  // p is read and written in the second
  EXPECT_NE(report.failure.find("data race"), std::string::npos) << report;
}

TEST(Explore, MisuseIsAFailure) {
  const auto fails = [](const Body& body) { return !Explore({}, body).ok; };
  Atomic<int> x{0};
  EXPECT_TRUE(fails([&] { RunThreads({[&] { RunThreads({}); }}); }));
  EXPECT_TRUE(fails([&] { RunThreads(std::vector<Body>(5, [] {})); }));
  EXPECT_TRUE(fails([&] { x.load(std::memory_order_release); }));
  EXPECT_TRUE(fails([&] { x.store(1, std::memory_order_acquire); }));
  int expected = 0;
  EXPECT_TRUE(fails([&] {
    x.compare_exchange_strong(expected, 1, std::memory_order_seq_cst,
                              std::memory_order_release);
  }));
  EXPECT_FALSE(fails([&] { RunThreads({[&] { x.load(); }}); }));
}

TEST(Explore, AFailedExecutionLeavesNothingBehind) {
  for (int i = 0; i < 3; ++i) {
    const Report report = Explore({}, [] {
      Atomic<int> x{0};
      RunThreads({[&] {
                    x.store(1);
                    Check(false, "always");
                  },
                  [&] { x.store(2); }});
      EXPECT_FALSE(RunThreads({[] {}}));  // the body should have returned
    });
    EXPECT_EQ(report.failure, "T1: always");
    EXPECT_EQ(Engine::Current(), nullptr);
  }
}

TEST(ExploreDeathTest, ACrashTellsHowToReplayIt) {
  const auto crash = [] {
    Explore({.name = "crash"}, [] {
      Atomic<int> x{0};
      RunThreads({[&] { x.store(1); },
                  [&] {
                    if (x.load() == 1) std::abort();
                  }});
    });
  };
  EXPECT_DEATH(crash(), "DMAMAP_SCHED_REPLAY='crash@");
}

}  // namespace
}  // namespace sched
}  // namespace dmamap::inline v0
