// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "nicring/napi.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>

#include "nicring/interrupts.h"

namespace dmamap {
namespace {

// How a device tells.
enum class Kind {
  kEdge,  // once, as it happens; an event while it is masked is silent for ever
  kLatch,  // when a cause is pending and not masked, and was not so before
};

// Events come at chosen points of the driver's code.
struct TestDevice {
  void Mask() {
    Point();
    masked = true;
    Point();
  }
  void Unmask() {
    Point();
    masked = false;
    if (kind == Kind::kLatch && pending) interrupt();
    Point();
  }
  void Acknowledge() {
    Point();
    pending = pending && !acknowledges;
    Point();
  }
  void Event() {
    ++work;
    const bool tells = !masked && !(kind == Kind::kLatch && pending);
    pending = true;
    if (tells) interrupt();
  }
  // Where an event may happen.
  void Point() {
    if (points++ == event_at) Event();
    if (points - 1 == second_at) Event();
  }

  Kind kind = Kind::kEdge;
  int event_at = -1;
  int second_at = -1;
  int points = 0;
  int work = 0;
  bool masked = false;
  bool pending = false;
  bool acknowledges = true;
  std::function<void()> interrupt;
};

// What the driver does wrong, if anything.
enum class Mistake {
  kNone,
  kLooksOnlyBefore,  // the unmask
  kOnlyScheduleAcknowledges,
};

struct Outcome {
  int left = 0;      // work that nobody will ever look at
  int overlaps = 0;  // polls scheduled while one was owned
  int points = 0;
  int interrupts = 0;
};

// One event starts a poll; further ones come at the given points.
Outcome Run(Kind kind, int event_at, int second_at, std::size_t budget,
            Mistake mistake) {
  TestDevice device;
  device.kind = kind;
  Napi<TestDevice> napi(&device);
  int owners = 0;
  Outcome outcome;
  const bool acknowledges = mistake != Mistake::kOnlyScheduleAcknowledges;
  device.interrupt = [&] {
    ++outcome.interrupts;
    device.acknowledges = true;
    const bool owner = napi.Schedule();
    device.acknowledges = acknowledges;
    if (owner && ++owners > 1) ++outcome.overlaps;
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
    const bool found = mistake != Mistake::kLooksOnlyBefore && device.work != 0;
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

// Events at all pairs of points: what is left, and interrupts, of all.
Outcome RunAll(Kind kind, std::size_t budget, Mistake mistake) {
  const int points = Run(kind, -1, -1, budget, mistake).points + 20;
  Outcome all;
  for (int a = -1; a < points; ++a) {
    for (int b = a; b < points; ++b) {
      const Outcome o = Run(kind, a, b, budget, mistake);
      all.left += o.left;
      all.interrupts += o.interrupts;
      EXPECT_EQ(o.overlaps, 0) << a << ' ' << b;
    }
  }
  return all;
}

TEST(Napi, NoEventIsLost) {
  for (std::size_t budget : {1u, 2u, 64u}) {
    EXPECT_EQ(RunAll(Kind::kEdge, budget, Mistake::kNone).left, 0) << budget;
    EXPECT_EQ(RunAll(Kind::kLatch, budget, Mistake::kNone).left, 0) << budget;
  }
}

// Negative control: only the look before the unmask.
TEST(Napi, LookingOnlyBeforeTheUnmaskLosesEvents) {
  EXPECT_GT(RunAll(Kind::kEdge, 64, Mistake::kLooksOnlyBefore).left, 0);
}

// What the acknowledge of a completing poll is for.
TEST(Napi, CausesOfConsumedFramesDoNotInterrupt) {
  const Outcome all = RunAll(Kind::kLatch, 64, Mistake::kNone);
  const Outcome without =
      RunAll(Kind::kLatch, 64, Mistake::kOnlyScheduleAcknowledges);
  EXPECT_EQ(without.left, 0);
  EXPECT_LT(all.interrupts * 10, without.interrupts * 9);
}

TEST(Napi, BudgetSpentKeepsThePollAndTheMask) {
  TestDevice device;
  device.interrupt = [] {};
  Napi<TestDevice> napi(&device);
  device.pending = true;
  ASSERT_TRUE(napi.Schedule());
  EXPECT_TRUE(device.masked);
  EXPECT_FALSE(device.pending);
  device.pending = true;
  EXPECT_FALSE(napi.Schedule());
  EXPECT_FALSE(device.pending);  // or its line would interrupt for ever
  device.pending = true;
  const auto all = [](std::size_t n) { return n; };
  const auto none = [](std::size_t) { return std::size_t{0}; };
  const auto no = [] { return false; };
  EXPECT_EQ(napi.Poll(4, all, no), PollOutcome::kAgain);
  EXPECT_TRUE(device.masked);
  EXPECT_TRUE(device.pending);  // costs a register access: not in each pass
  EXPECT_EQ(napi.Poll(4, none, no), PollOutcome::kIdle);
  EXPECT_FALSE(device.masked);
  EXPECT_FALSE(device.pending);
  EXPECT_FALSE(napi.scheduled());
  EXPECT_TRUE(napi.CheckInvariants());
}

// --- The interrupts of the NICs.

struct Registers {
  void Mask() { masked = true; }
  void Unmask() { masked = false; }
  std::uint8_t ReadCauses() {
    const std::uint8_t read = causes;
    causes = static_cast<std::uint8_t>(causes | comes);  // in between
    return read;
  }
  void ClearCauses(std::uint8_t bits) {
    ++writes;
    causes = static_cast<std::uint8_t>(causes & ~bits);
  }
  void OnCauses(std::uint8_t bits) { told = bits; }
  std::uint8_t causes = 0;
  std::uint8_t comes = 0;
  std::uint8_t told = 0;
  int writes = 0;
  bool masked = false;
};
struct RingOfRnr {
  void OnRnr() { ++rnr; }
  int rnr = 0;
};

TEST(Interrupts, I8255xClearsWhatItHasRead) {
  Registers registers;
  RingOfRnr ring;
  I8255xInterrupts interrupts(&registers, &ring);
  static_assert(Interrupts<decltype(interrupts)>);
  interrupts.Acknowledge();
  EXPECT_EQ(registers.writes, 0);  // nothing was pending
  registers.causes = 0x40;         // FR
  registers.comes = 0x10;          // RNR
  interrupts.Acknowledge();
  EXPECT_EQ(registers.causes, 0x10);
  EXPECT_EQ(registers.told, 0x40);
  EXPECT_EQ(ring.rnr, 0);
  registers.comes = 0;
  interrupts.Acknowledge();
  EXPECT_EQ(registers.causes, 0);
  EXPECT_EQ(ring.rnr, 1);
  interrupts.Mask();
  EXPECT_TRUE(registers.masked);
  interrupts.Unmask();
  EXPECT_FALSE(registers.masked);
}

TEST(Interrupts, IntelLeavesOtherCausesAlone) {
  struct Causes {
    void EnableCauses(std::uint32_t bits) { enabled |= bits; }
    void DisableCauses(std::uint32_t bits) { enabled &= ~bits; }
    void ClearCauses(std::uint32_t bits) { causes &= ~bits; }
    std::uint32_t enabled = 0x104;
    std::uint32_t causes = 0x184;
  } registers;
  IntelInterrupts interrupts(&registers, 0x80);
  static_assert(Interrupts<decltype(interrupts)>);
  interrupts.Unmask();
  EXPECT_EQ(registers.enabled, 0x184u);
  interrupts.Mask();
  EXPECT_EQ(registers.enabled, 0x104u);
  IntelInterrupts(&registers, 0x80, CauseClearing::kByItself).Acknowledge();
  EXPECT_EQ(registers.causes, 0x184u);
  interrupts.Acknowledge();
  EXPECT_EQ(registers.causes, 0x104u);
}

TEST(Interrupts, AVirtioLineTellsOfTheConfiguration) {
  struct Isr {
    std::uint8_t ReadIsr() { return std::exchange(isr, std::uint8_t{0}); }
    void OnConfigurationChange() { ++changes; }
    std::uint8_t isr = 0;
    int changes = 0;
  } isr;
  Registers queues;
  VirtioLine line(&queues, &isr);
  static_assert(Interrupts<decltype(line)>);
  isr.isr = 1;
  line.Acknowledge();
  EXPECT_EQ(isr.changes, 0);
  isr.isr = 3;
  line.Acknowledge();
  EXPECT_EQ(isr.changes, 1);
  EXPECT_EQ(isr.isr, 0);
  line.Mask();
  EXPECT_TRUE(queues.masked);
  line.Unmask();
  EXPECT_FALSE(queues.masked);
}

}  // namespace
}  // namespace dmamap
