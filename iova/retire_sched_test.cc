// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// A thread's exit under the deterministic scheduler: its slot gives the
// magazines back while another thread allocates and frees, and while another
// thread takes the slot over.

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "dma/address.h"
#include "dma/cpu.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "iova/sched_model_for_test.h"
#include "testing/sched/explore.h"

namespace dmamap {
namespace {

using UncheckedPolicy = SchedPolicy<FreeCheck::kOff>;
struct UnlockedPolicy : SchedPolicy<> {
  using Lock = NullLock;
};

constexpr std::size_t kPages = 8;

// Slot 0 holds two pages and goes; the other thread frees its own page into an
// empty bin and allocates: that one, then what slot 0 held.
template <class Policy = SchedPolicy<>>
sched::Body ExitAgainstUse(int takes) {
  return [takes] {
    SchedWorld<Policy, kPages> world(1);
    world.iova().cpu().Play(1);
    const Iova mine = world.Take();
    FillBin(world, 0);
    std::vector<Iova> taken;
    sched::RunThreads({[&] { world.iova().cpu().Retire(0); },
                       [&] {
                         world.Give(mine);
                         for (int i = 0; i < takes; ++i) {
                           taken.push_back(world.Take());
                         }
                       }},
                      [&] { world.CheckAllThere(taken); });
  };
}

// The leaving thread frees what it still has, then goes.
template <class Policy = SchedPolicy<>>
sched::Body FreeAndExitAgainstTake() {
  return [] {
    SchedWorld<Policy, kPages> world(1);
    world.iova().cpu().Play(0);
    const Iova last = world.Take();
    FillBin(world, 0);
    std::vector<Iova> taken;
    sched::RunThreads({[&] {
                         world.Give(last);
                         world.iova().cpu().Retire(0);
                       },
                       [&] { taken.push_back(world.Take()); }},
                      [&] { world.CheckAllThere(taken); });
  };
}

// Both leave at once: the depot has room for one full magazine.
sched::Body BothExit() {
  return [] {
    SchedWorld<SchedPolicy<>, kPages> world(1);
    FillBin(world, 0);
    FillBin(world, 1);
    const auto work = [&] { world.iova().cpu().Retire(sched::ThreadIndex()); };
    sched::RunThreads({work, work}, [&] { world.CheckAllThere(); });
  };
}

// When a thread gives its slot's number back.
enum class Leave : std::uint8_t {
  kListenersFirst,  // as ThreadSlots does
  kNumberFirst,     // negative control: the next owner comes too soon
};

// Slots by the shipped SlotNumbers: a thread has one from its first call until
// it leaves, as with ThreadSlots.
template <Leave kLeave>
class LeasedSlots : public SchedCpu {
 public:
  using SchedCpu::SchedCpu;

  std::size_t Acquire() {
    const std::size_t thread = sched::ThreadIndex();
    if (thread == sched::kNoThread) return SchedCpu::Acquire();
    if (own_[thread] == kNoSlot) own_[thread] = numbers_.Take();
    return Use(own_[thread]);
  }
  // The same without the Take: kNoSlot for a thread that has made no call yet.
  static constexpr bool kReleasesNothing = true;
  static constexpr std::size_t kMostSlots = sched::kMaxThreads;
  std::size_t Current() {
    const std::size_t thread = sched::ThreadIndex();
    return thread == sched::kNoThread ? SchedCpu::Acquire() : Use(own_[thread]);
  }
  void Exit() {
    const std::size_t number = own_[sched::ThreadIndex()];
    if (number == kNoSlot) return;
    if (kLeave == Leave::kNumberFirst) numbers_.Return(number);
    Retire(number);
    if (kLeave == Leave::kListenersFirst) numbers_.Return(number);
  }

 private:
  SlotNumbers<sched::Atomic> numbers_;
  std::array<std::size_t, sched::kMaxThreads> own_ = {kNoSlot, kNoSlot, kNoSlot,
                                                      kNoSlot};
};

// One slot and two threads: whoever comes second finds the slot in use, and
// shares that of slotless callers, or takes over what the first has left.
template <Leave kLeave = Leave::kListenersFirst, class Policy = SchedPolicy<>>
sched::Body Succession() {
  return [] {
    SchedWorld<Policy, kPages, LeasedSlots<kLeave>> world(1, 1);
    const auto work = [&] {
      world.Give(world.Take());
      world.iova().cpu().Exit();
    };
    sched::RunThreads({work, work}, [&] { world.CheckAllThere(); });
  };
}

TEST(RetireSched, ExitAgainstUse) {
  ExploreAll("exit_use", 1, ExitAgainstUse(3));
  ExploreAll("exit_use_off", 2, ExitAgainstUse<UncheckedPolicy>(1));
  ExploreAll("exit_use_off_3", 1, ExitAgainstUse<UncheckedPolicy>(3));
}

TEST(RetireSched, FreeAndExitAgainstTake) {
  ExploreAll("free_exit", 1, FreeAndExitAgainstTake<UncheckedPolicy>());
  const sched::Report report = sched::Explore({.name = "free_exit_random",
                                               .search = sched::Search::kRandom,
                                               .max_executions = 1000},
                                              FreeAndExitAgainstTake());
  EXPECT_TRUE(report.ok) << report;
}

TEST(RetireSched, BothExit) { ExploreAll("both_exit", 2, BothExit()); }

TEST(RetireSched, Succession) {
  ExploreAll("succession", 1,
             Succession<Leave::kListenersFirst, UncheckedPolicy>());
  const sched::Report report = sched::Explore({.name = "succession_random",
                                               .search = sched::Search::kRandom,
                                               .max_executions = 1000},
                                              Succession());
  EXPECT_TRUE(report.ok) << report;
}

// Negative controls.
TEST(RetireSched, ANumberGivenBackTooSoonIsFound) {
  const sched::Report report = sched::Explore(
      {.name = "number_first"}, Succession<Leave::kNumberFirst>());
  EXPECT_FALSE(report.ok) << report;
}

TEST(RetireSched, AStoreWithoutItsLockIsFound) {
  for (const sched::Body& body : {ExitAgainstUse<UnlockedPolicy>(3),
                                  FreeAndExitAgainstTake<UnlockedPolicy>()}) {
    const sched::Report report = sched::Explore({.name = "unlocked"}, body);
    EXPECT_NE(report.failure.find("data race"), std::string::npos) << report;
  }
}

TEST(RetireSched, EachEdgeIsNeeded) {
  const auto weak = [](const char* function, const sched::Body& body) {
    const sched::Report report = sched::Explore(
        {.name = "weak", .preemptions = 1, .weaken = {.function = function}},
        body);
    EXPECT_FALSE(report.ok) << function << ": " << report;
  };
  // The numbers' own: the next owner finds the bins as the last left them.
  weak("Return", Succession<Leave::kListenersFirst, UncheckedPolicy>());
  // The depot's, with what the leaving thread put there.
  weak("Put", ExitAgainstUse<UncheckedPolicy>(2));
  weak("Take", ExitAgainstUse<UncheckedPolicy>(2));
  weak("Put", FreeAndExitAgainstTake<UncheckedPolicy>());
  weak("Take", FreeAndExitAgainstTake<UncheckedPolicy>());
}

}  // namespace
}  // namespace dmamap
