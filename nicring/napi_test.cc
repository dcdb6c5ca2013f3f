// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "nicring/napi.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <functional>

namespace dmamap {
namespace {

// A device whose interrupt is an edge: an event while it is masked is silent
// for ever. Events come at chosen points of the driver's code.
struct EdgeDevice {
  void Mask() {
    Point();
    masked = true;
    Point();
  }
  void Unmask() {
    Point();
    masked = false;
    Point();
  }
  // An event: work, and an interrupt if it is not masked.
  void Event() {
    ++work;
    if (!masked) interrupt();
  }
  // Where an event may happen.
  void Point() {
    if (points++ == event_at) Event();
    if (points - 1 == second_at) Event();
  }

  int event_at = -1;
  int second_at = -1;
  int points = 0;
  int work = 0;
  bool masked = false;
  std::function<void()> interrupt;
};

struct Outcome {
  int left = 0;      // work that nobody will ever look at
  int overlaps = 0;  // polls scheduled while one was owned
  int points = 0;
};

// One event starts a poll; further ones come at the given points.
Outcome Run(int event_at, int second_at, std::size_t budget, bool look_again) {
  EdgeDevice device;
  Napi<EdgeDevice> napi(&device);
  int owners = 0;
  Outcome outcome;
  device.interrupt = [&] {
    if (!napi.Schedule()) return;
    if (++owners > 1) ++outcome.overlaps;
  };
  const auto poll = [&](std::size_t n) {
    std::size_t done = 0;
    for (; done < n; ++done) {
      device.Point();
      if (device.work == 0) break;
      --device.work;
    }
    device.Point();
    return done;
  };
  const auto look = [&] {
    device.Point();
    const bool found = look_again && device.work != 0;
    device.Point();
    return found;
  };
  device.Event();
  device.event_at = event_at;
  device.second_at = second_at;
  // The embedder's loop: polls as long as somebody owns the poll.
  for (int i = 0; i < 100 && owners != 0; ++i) {
    if (napi.Poll(budget, poll, look) == PollOutcome::kIdle) --owners;
    device.Point();
  }
  EXPECT_EQ(owners, 0);
  EXPECT_FALSE(napi.scheduled() && device.work == 0);
  outcome.left = device.work;
  outcome.points = device.points;
  return outcome;
}

// Events at all pairs of points.
int LostEvents(std::size_t budget, bool look_again) {
  const int points = Run(-1, -1, budget, look_again).points + 20;
  int lost = 0;
  for (int a = -1; a < points; ++a) {
    for (int b = a; b < points; ++b) {
      const Outcome o = Run(a, b, budget, look_again);
      lost += o.left;
      EXPECT_EQ(o.overlaps, 0) << a << ' ' << b;
    }
  }
  return lost;
}

TEST(Napi, NoEventIsLost) {
  for (std::size_t budget : {1u, 2u, 64u}) {
    EXPECT_EQ(LostEvents(budget, true), 0) << budget;
  }
}

// Negative control: only the look before the unmask.
TEST(Napi, LookingOnlyBeforeTheUnmaskLosesEvents) {
  EXPECT_GT(LostEvents(64, false), 0);
}

TEST(Napi, BudgetSpentKeepsThePollAndTheMask) {
  EdgeDevice device;
  device.interrupt = [] {};
  Napi<EdgeDevice> napi(&device);
  ASSERT_TRUE(napi.Schedule());
  EXPECT_TRUE(device.masked);
  EXPECT_FALSE(napi.Schedule());
  const auto all = [](std::size_t n) { return n; };
  const auto none = [](std::size_t) { return std::size_t{0}; };
  const auto no = [] { return false; };
  EXPECT_EQ(napi.Poll(4, all, no), PollOutcome::kAgain);
  EXPECT_TRUE(device.masked);
  EXPECT_EQ(napi.Poll(4, none, no), PollOutcome::kIdle);
  EXPECT_FALSE(device.masked);
  EXPECT_FALSE(napi.scheduled());
  EXPECT_TRUE(napi.CheckInvariants());
}

}  // namespace
}  // namespace dmamap
