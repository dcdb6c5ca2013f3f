// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "nicring/adaptive_napi.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace dmamap {
namespace {

struct Line {
  void Mask() { masked = true; }
  void Unmask() { masked = false; }
  void Acknowledge() {}
  bool masked = false;
};
struct SimClock {
  std::uint64_t Now() { return now; }
  std::uint64_t now = 1;
};
using TestNapi = AdaptiveNapi<Line, SimClock>;

// Frames that come at times, an interrupt that tells of them, and a driver: all
// on one clock, on which a pass takes 10 ns and an interrupt 1000.
class World {
 public:
  static constexpr std::uint64_t kPass = 10;
  static constexpr std::uint64_t kInterrupt = 1000;

  explicit World(std::uint64_t most)
      : napi_(&line_, &clock_, {.interrupt_ns = most}) {}

  // `count` frames `gap` ns apart, and then a pause.
  void Run(int count, std::uint64_t gap) {
    std::uint64_t at = clock_.now;
    for (int i = 0; i < count; ++i, at += gap) {
      RunUntil(at);
      ++work_;
      ++frames_;
      if (line_.masked) continue;
      ++interrupts_;
      clock_.now += kInterrupt;
      if (napi_.Schedule()) polls_ = true;
    }
    RunUntil(clock_.now + 100 * kInterrupt);
  }
  void RunUntil(std::uint64_t end) {
    while (polls_ && clock_.now < end) {
      const PollOutcome outcome = napi_.Poll(
          64,
          [&](std::size_t n) {
            clock_.now += kPass;
            const std::size_t done = std::min<std::size_t>(n, work_);
            work_ -= done;
            return done;
          },
          [&] { return work_ != 0; });
      polls_ = outcome == PollOutcome::kAgain;
      EXPECT_TRUE(napi_.CheckInvariants());
      busy_ |= napi_.mode() == PollMode::kBusyPoll;
    }
    clock_.now = std::max(clock_.now, end);
  }

  std::uint64_t interrupts() const { return interrupts_; }
  std::uint64_t frames() const { return frames_; }
  std::size_t left() const { return work_; }
  bool polls() const { return polls_; }
  bool was_busy() const { return busy_; }
  const auto& napi() const { return napi_; }

 private:
  Line line_;
  SimClock clock_;
  TestNapi napi_;
  std::uint64_t interrupts_ = 0;
  std::uint64_t frames_ = 0;
  std::size_t work_ = 0;
  bool polls_ = false;
  bool busy_ = false;
};

TEST(AdaptiveNapi, AFastStreamTakesNoInterrupts) {
  World world(World::kInterrupt);
  world.Run(1000, 300);
  EXPECT_EQ(world.left(), 0u);
  EXPECT_LE(world.interrupts(), 2u);
  EXPECT_TRUE(world.was_busy());
  EXPECT_GT(world.napi().statistics().waited_out, 500u);
  EXPECT_FALSE(world.polls());  // and goes back when it is over
  EXPECT_EQ(world.napi().mode(), PollMode::kInterrupt);
}

TEST(AdaptiveNapi, ASlowStreamTakesAnInterruptEachAndDoesNotSpin) {
  World world(World::kInterrupt);
  world.Run(1000, 50000);
  EXPECT_EQ(world.interrupts(), 1000u);
  // A dozen waits until it knows, each of a hundred passes; then one or two
  // passes a frame.
  EXPECT_LT(world.napi().statistics().passes, 1000u * 2 + 15 * 101);
}

TEST(AdaptiveNapi, ChangesItsMindWithTheLoad) {
  World world(World::kInterrupt);
  for (int round = 0; round < 5; ++round) {
    std::uint64_t before = world.interrupts();
    world.Run(200, 50000);
    EXPECT_EQ(world.interrupts() - before, 200u) << round;
    before = world.interrupts();
    world.Run(200, 200);
    EXPECT_LT(world.interrupts() - before, 15u) << round;
  }
  EXPECT_EQ(world.left(), 0u);
}

TEST(AdaptiveNapi, ZeroIsAPlainNapiAndNeverNeverGoesBack) {
  World plain(0);
  plain.Run(100, 300);
  EXPECT_FALSE(plain.was_busy());
  EXPECT_FALSE(plain.polls());
  EXPECT_EQ(plain.left(), 0u);
  World busy(TestNapi::kNever);
  busy.Run(100, 50000);
  EXPECT_EQ(busy.interrupts(), 1u);
  EXPECT_TRUE(busy.polls());
  EXPECT_EQ(busy.napi().mode(), PollMode::kBusyPoll);
  EXPECT_EQ(busy.left(), 0u);
}

// A clock that runs backwards costs accuracy, no more.
TEST(AdaptiveNapi, SurvivesAClockThatRunsBackwards) {
  struct Clock {
    std::uint64_t Now() { return now -= 100; }
    std::uint64_t now = UINT64_MAX;
  } clock;
  Line line;
  AdaptiveNapi napi(&line, &clock, {.interrupt_ns = 50});
  ASSERT_TRUE(napi.Schedule());
  for (std::size_t i = 0; i < 1000; ++i) {
    (void)napi.Poll(
        4, [i](std::size_t) { return i % 2; }, [] { return false; });
    EXPECT_TRUE(napi.CheckInvariants());
    if (napi.scheduled()) continue;
    EXPECT_TRUE(napi.Schedule());
  }
}

// Whatever the stream: no frame is left, and the time polled in vain is at most
// one interrupt's for each time it went back or each frame that ended a wait.
RC_GTEST_PROP(AdaptiveNapiProperty, LosesNothingAndWastesLittle, ()) {
  World world(World::kInterrupt);
  const int bursts = *rc::gen::inRange(1, 20);
  for (int i = 0; i < bursts; ++i) {
    world.Run(*rc::gen::inRange(1, 40),
              *rc::gen::element<std::uint64_t>(1, 50, 700, 1200, 4000, 90000));
  }
  RC_ASSERT(world.left() == 0u);
  RC_ASSERT(!world.polls());
  const AdaptiveStatistics& s = world.napi().statistics();
  RC_ASSERT(s.in_vain * World::kPass <=
            (s.went_back + s.waited_out) * (World::kInterrupt + World::kPass));
  RC_ASSERT(world.interrupts() <= world.frames());
}

}  // namespace
}  // namespace dmamap
