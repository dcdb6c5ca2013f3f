// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// The missed-event rule under the deterministic scheduler: the shipped Napi, a
// device whose interrupt is an edge, and a poll on another CPU, in every order.

#include <gtest/gtest.h>

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "nicring/adaptive_napi.h"
#include "nicring/napi.h"
#include "testing/sched/explore.h"
#include "testing/sched/needed_orders.h"

namespace dmamap {
namespace {

// An event while the interrupt is masked is silent for ever. The registers are
// one word whose accesses all stand in one order, as on a bus: each is a
// read-modify-write.
struct EdgeDevice {
  static constexpr int kMasked = 1;
  static constexpr int kCause = 2;

  void Mask() { registers.fetch_or(kMasked, std::memory_order_acq_rel); }
  void Unmask() {
    if (unmasks) UnmaskNow();
  }
  void UnmaskNow() { registers.fetch_and(~kMasked, std::memory_order_acq_rel); }
  void Acknowledge() {
    if (acknowledges) AcknowledgeNow();
  }
  void AcknowledgeNow() {
    registers.fetch_and(~kCause, std::memory_order_acq_rel);
  }
  // A frame is in memory before its interrupt is sent. True: it interrupts.
  bool Event() {
    work.fetch_add(1, std::memory_order_relaxed);
    const int before = registers.fetch_or(kCause, std::memory_order_acq_rel);
    return (before & kMasked) == 0;
  }
  int Read() { return registers.fetch_or(0, std::memory_order_acq_rel); }

  sched::Atomic<int> work{0};  // frames that wait
  sched::Atomic<int> registers{0};
  bool unmasks = true;       // false: a control does it at the wrong time
  bool acknowledges = true;  // so here
};

// Its interrupt is a line instead, which is up while a cause is pending and not
// masked. A CPU takes the interrupt at some time while the line is up, or sees
// that it has gone down.
struct LineDevice : EdgeDevice {
  void Event() { (void)EdgeDevice::Event(); }
  bool IsUp() { return Read() == kCause; }
};

// Which order a completing poll and a handler keep.
enum class Rule {
  kUnmaskThenLook,
  kLookThenUnmask,
  kNoLook,
  kLookThenAcknowledge,
  kScheduleThenAcknowledge,  // the handler
};

// The driver: whoever Schedule told so polls until it is told to stop.
template <class NapiType, class Device = EdgeDevice>
struct Driver {
  explicit Driver(Device* d, NapiType* n, Rule r)
      : device(d), napi(n), rule(r) {
    device->unmasks = rule != Rule::kLookThenUnmask;
    device->acknowledges = rule != Rule::kLookThenAcknowledge &&
                           rule != Rule::kScheduleThenAcknowledge;
  }

  void Interrupt() {
    const bool owner = napi->Schedule();
    if (rule == Rule::kScheduleThenAcknowledge) device->AcknowledgeNow();
    if (!owner) return;
    while (napi->Poll(
               2, [&](std::size_t budget) { return Consume(budget); },
               [&] { return Look(); }) == PollOutcome::kAgain) {
    }
  }
  std::size_t Consume(std::size_t budget) {
    // Plain: two polls that nothing orders are a race, and found.
    polls = polls + 1;
    std::size_t done = 0;
    for (; done < budget; ++done) {
      if (device->work.load(std::memory_order_relaxed) == 0) break;
      device->work.fetch_sub(1, std::memory_order_relaxed);
    }
    return done;
  }
  bool Look() {
    if (rule == Rule::kNoLook) return false;
    const bool found = device->work.load(std::memory_order_relaxed) != 0;
    if (rule == Rule::kLookThenUnmask) device->UnmaskNow();
    if (rule == Rule::kLookThenAcknowledge) device->AcknowledgeNow();
    return found;
  }

  Device* device;
  NapiType* napi;
  Rule rule;
  sched::Plain<int> polls{0};
};

using TestNapi = Napi<EdgeDevice, sched::Atomic>;

// `events` frames, each on its own CPU; the first thread also polls by hand, as
// a driver that has just started does.
sched::Body MissedEvent(int threads, int events, Rule rule) {
  return [=] {
    EdgeDevice device;
    TestNapi napi(&device);
    Driver<TestNapi> driver(&device, &napi, rule);
    const auto receive = [&] {
      for (int i = 0; i < events; ++i) {
        if (device.Event()) driver.Interrupt();
      }
    };
    std::vector<sched::Body> all(static_cast<std::size_t>(threads - 1),
                                 receive);
    all.push_back([&] { driver.Interrupt(); });
    sched::RunThreads(all, [&] {
      sched::Check(device.work.load(std::memory_order_relaxed) == 0,
                   "a frame that nobody will ever look at");
      sched::Check(!napi.scheduled(), "nobody polls, and nobody can schedule");
      sched::Check((device.Read() & EdgeDevice::kMasked) == 0,
                   "masked for ever");
    });
  };
}

// A device and CPUs that take its interrupt `times` times each, if it is up.
sched::Body Line(int cpus, int events, int times, Rule rule) {
  return [=] {
    LineDevice device;
    using LineNapi = Napi<LineDevice, sched::Atomic>;
    LineNapi napi(&device);
    Driver<LineNapi, LineDevice> driver(&device, &napi, rule);
    const auto serve = [&] {
      for (int i = 0; i < times; ++i) {
        if (device.IsUp()) driver.Interrupt();
      }
    };
    std::vector<sched::Body> all(static_cast<std::size_t>(cpus), serve);
    all.push_back([&] {
      for (int i = 0; i < events; ++i) device.Event();
    });
    sched::RunThreads(all, [&] {
      // No CPU was left to take it, perhaps; then it is still up.
      sched::Check(
          device.work.load(std::memory_order_relaxed) == 0 || device.IsUp(),
          "a frame that nobody will ever look at");
      sched::Check(!napi.scheduled(), "nobody polls, and nobody can schedule");
      sched::Check((device.Read() & EdgeDevice::kMasked) == 0,
                   "masked for ever");
    });
  };
}

// What a handler wrote before it was told that somebody else polls is seen by a
// pass of that poll, whatever its look says.
sched::Body Served() {
  return [] {
    EdgeDevice device;
    TestNapi napi(&device);
    sched::Atomic<int> cause{0};
    sched::Plain<int> served{0};
    const auto run = [&] {
      if (!napi.Schedule()) return;
      while (napi.Poll(
                 2,
                 [&](std::size_t) {
                   served = cause.load(std::memory_order_relaxed);
                   return std::size_t{0};
                 },
                 [] { return false; }) == PollOutcome::kAgain) {
      }
    };
    sched::RunThreads({[&] {
                         cause.store(1, std::memory_order_relaxed);
                         run();
                       },
                       run},
                      [&] {
                        const int last = served;
                        sched::Check(last == 1, "a cause that no pass served");
                      });
  };
}

// Polls are ordered by Napi alone: here no register orders them.
sched::Body OneOwner() {
  return [] {
    struct Silent {
      void Mask() {}
      void Unmask() {}
      void Acknowledge() {}
    } silent;
    Napi<Silent, sched::Atomic> napi(&silent);
    sched::Plain<int> polls{0};
    const auto run = [&] {
      if (!napi.Schedule()) return;
      while (napi.Poll(
                 2,
                 [&](std::size_t) {
                   polls = polls + 1;
                   return std::size_t{0};
                 },
                 [] { return false; }) == PollOutcome::kAgain) {
      }
    };
    sched::RunThreads({run, run});
  };
}

// As a virtqueue, whose Mask reads what the last poll wrote.
sched::Body MasksInMemory() {
  return [] {
    struct Queue {
      void Mask() {
        const int read = used;
        (void)read;
      }
      void Unmask() {}
      void Acknowledge() {}
      sched::Plain<int> used{0};
    } queue;
    Napi<Queue, sched::Atomic> napi(&queue);
    const auto run = [&] {
      if (!napi.Schedule()) return;
      while (napi.Poll(
                 2,
                 [&](std::size_t) {
                   queue.used = queue.used + 1;
                   return std::size_t{0};
                 },
                 [] { return false; }) == PollOutcome::kAgain) {
      }
    };
    sched::RunThreads({run, run});
  };
}

TEST(NapiSched, AMaskComesAfterTheLastPoll) {
  const auto report = sched::Explore(
      {.name = "masks", .preemptions = sched::kUnlimited}, MasksInMemory());
  EXPECT_TRUE(report.exhaustive()) << report;
}

TEST(NapiSched, PollsAreOrdered) {
  const auto report = sched::Explore(
      {.name = "owner", .preemptions = sched::kUnlimited}, OneOwner());
  EXPECT_TRUE(report.exhaustive()) << report;
}

TEST(NapiSched, NoEventIsLost) {
  const auto two =
      sched::Explore({.name = "two", .preemptions = sched::kUnlimited},
                     MissedEvent(2, 2, Rule::kUnmaskThenLook));
  EXPECT_TRUE(two.exhaustive()) << two;
  EXPECT_GT(two.executions, 500u);
  const auto three = sched::Explore({.name = "three", .preemptions = 2},
                                    MissedEvent(3, 1, Rule::kUnmaskThenLook));
  EXPECT_TRUE(three.ok && three.complete) << three;
  EXPECT_GT(three.executions, 1000u);
}

TEST(NapiSched, NoCauseOfALineIsLost) {
  const auto one =
      sched::Explore({.name = "line", .preemptions = sched::kUnlimited},
                     Line(1, 2, 2, Rule::kUnmaskThenLook));
  EXPECT_TRUE(one.exhaustive()) << one;
  EXPECT_GT(one.executions, 100u);
  const auto two = sched::Explore({.name = "line2", .preemptions = 3},
                                  Line(2, 2, 1, Rule::kUnmaskThenLook));
  EXPECT_TRUE(two.ok && two.complete) << two;
  EXPECT_GT(two.executions, 1000u);
}

TEST(NapiSched, WhatAHandlerWroteIsServed) {
  const auto report = sched::Explore(
      {.name = "served", .preemptions = sched::kUnlimited}, Served());
  EXPECT_TRUE(report.exhaustive()) << report;
}

// The same source with the two steps swapped, or one left out.
TEST(NapiSchedControl, LookThenUnmaskLosesAnEvent) {
  const auto report =
      sched::Explore({}, MissedEvent(2, 1, Rule::kLookThenUnmask));
  EXPECT_NE(report.failure.find("nobody will ever look at"), std::string::npos)
      << report;
}
TEST(NapiSchedControl, UnmaskWithoutALookLosesAnEvent) {
  const auto report = sched::Explore({}, MissedEvent(2, 1, Rule::kNoLook));
  EXPECT_NE(report.failure.find("nobody will ever look at"), std::string::npos)
      << report;
}

// An acknowledge that no look follows: by the poll, by a handler beside it.
TEST(NapiSchedControl, LookThenAcknowledgeLosesACause) {
  const auto report =
      sched::Explore({}, Line(1, 2, 2, Rule::kLookThenAcknowledge));
  EXPECT_NE(report.failure.find("nobody will ever look at"), std::string::npos)
      << report;
}
TEST(NapiSchedControl, ScheduleThenAcknowledgeLosesACause) {
  const auto report =
      sched::Explore({.name = "late", .preemptions = 4},
                     Line(2, 2, 1, Rule::kScheduleThenAcknowledge));
  EXPECT_NE(report.failure.find("nobody will ever look at"), std::string::npos)
      << report;
}

// Every explicit order of napi.h is needed, and a weaker one is found.
TEST(NapiSchedControl, EachOrderIsNeeded) {
  std::vector<std::string> unneeded;
  for (const std::string& order :
       sched::UnneededOrders({}, {MissedEvent(2, 1, Rule::kUnmaskThenLook),
                                  Served(), OneOwner(), MasksInMemory()})) {
    if (order.find("napi.h") == 0) unneeded.push_back(order);
  }
  EXPECT_EQ(unneeded, std::vector<std::string>{});
}

// A clock of the model: time passes when it is read.
struct CountingClock {
  std::uint64_t Now() { return ++now; }
  std::uint64_t now = 0;
};

// The adaptive one keeps the rule, and its private state is the owner's.
TEST(NapiSched, TheAdaptiveOneLosesNothingEither) {
  using Adaptive = AdaptiveNapi<EdgeDevice, CountingClock, sched::Atomic>;
  const auto report = sched::Explore({.name = "adaptive"}, [] {
    EdgeDevice device;
    CountingClock clock;
    Adaptive napi(&device, &clock, {.interrupt_ns = 2});
    Driver<Adaptive> driver(&device, &napi, Rule::kUnmaskThenLook);
    sched::RunThreads({[&] {
                         for (int i = 0; i < 2; ++i) {
                           if (device.Event()) driver.Interrupt();
                         }
                       },
                       [&] { driver.Interrupt(); }},
                      [&] {
                        sched::Check(
                            device.work.load(std::memory_order_relaxed) == 0,
                            "a frame that nobody will ever look at");
                        sched::Check(!napi.scheduled(), "still scheduled");
                      });
  });
  EXPECT_TRUE(report.ok && report.complete) << report;
}

}  // namespace
}  // namespace dmamap
