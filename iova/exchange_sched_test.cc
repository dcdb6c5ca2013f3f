// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Magazine exchange under the deterministic scheduler: two threads on the
// shipped allocator, with magazines of one entry and a depot of one magazine,
// so that a few calls pass through the bin, the depot and the store.

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "dma/address.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "iova/sched_model_for_test.h"
#include "testing/sched/explore.h"

namespace dmamap {
namespace {

// Negative control: the store without its lock.
struct UnlockedPolicy : SchedPolicy<> {
  using Lock = NullLock;
};
// Tags have nothing to do with the exchange, and most of the accesses.
using UncheckedPolicy = SchedPolicy<FreeCheck::kOff>;

constexpr std::size_t kPages = 8;

// What the executions of a body did in all, so that a test can say that they
// went where they should.
struct Traffic {
  std::uint64_t depot_puts = 0;
  std::uint64_t depot_takes = 0;
  std::uint64_t to_store = 0;

  template <class World>
  void Add(World& world) {
    const ClassStats stats = world.iova().stats().size_class[0];
    depot_puts += stats.depot_puts;
    depot_takes += stats.depot_takes;
    to_store += stats.to_store;
  }
};

// One thread frees `times` pages, so that its magazines go to the depot and
// then to the store; the other allocates as many from there.
template <class Policy = SchedPolicy<>>
sched::Body GiveAgainstTake(std::size_t times, Traffic* traffic = nullptr) {
  return [times, traffic] {
    SchedWorld<Policy, kPages> world(1);
    world.iova().cpu().Play(0);
    const std::vector<Iova> live = {world.Take(), world.Take()};
    FillBin(world, 0);
    std::vector<Iova> end;
    for (std::size_t i = times; i < live.size(); ++i) end.push_back(live[i]);
    sched::RunThreads({[&] {
                         for (std::size_t i = 0; i < times; ++i) {
                           world.Give(live[i]);
                         }
                       },
                       [&] {
                         for (std::size_t i = 0; i < times; ++i) {
                           end.push_back(world.Take());
                         }
                       }},
                      [&] {
                        if (traffic != nullptr) traffic->Add(world);
                        world.CheckAllThere(end);
                      });
  };
}

// Both free a page of their own into full bins and allocate three: what the
// bins held, then each other's.
template <class Policy = SchedPolicy<>>
sched::Body BothWays() {
  return [] {
    SchedWorld<Policy, kPages> world(1);
    std::array<Iova, 2> mine;
    for (std::size_t slot : {0u, 1u}) {
      world.iova().cpu().Play(slot);
      mine[slot] = world.Take();
      FillBin(world, slot);
    }
    std::array<std::vector<Iova>, 2> taken;
    const auto work = [&] {
      const std::size_t self = sched::ThreadIndex();
      world.Give(mine[self]);
      for (int i = 0; i < 3; ++i) taken[self].push_back(world.Take());
    };
    sched::RunThreads({work, work}, [&] {
      taken[0].insert(taken[0].end(), taken[1].begin(), taken[1].end());
      world.CheckAllThere(taken[0]);
    });
  };
}

// Each miss looks for a surplus in the depot.
struct TrimmingPolicy : SchedPolicy<FreeCheck::kOff> {
  static constexpr std::uint32_t kTrimPeriod = 1;
};
// Negative control: the trim goes on though the store is in use.
struct EagerTrimPolicy : TrimmingPolicy {
  struct Lock : SchedLock {
    bool try_lock() {
      (void)SchedLock::try_lock();
      return true;
    }
  };
};

// A magazine has waited in the depot for a while. A free that misses empties
// it, against allocations that could have used it.
template <class Policy = TrimmingPolicy>
sched::Body TrimAgainstTake(Traffic* traffic = nullptr) {
  return [traffic] {
    SchedWorld<Policy, kPages> world(4);
    world.iova().cpu().Play(0);
    const std::vector<Iova> live = {world.Take(), world.Take(), world.Take()};
    FillBin(world, 0);
    world.iova().cpu().Play(0);
    world.Give(live[0]);  // reaches the depot
    world.Give(live[1]);  // as well, and begins the period
    std::vector<Iova> taken;
    sched::RunThreads(
        {[&] { world.Give(live[2]); }, [&] { taken.push_back(world.Take()); }},
        [&] {
          if (traffic != nullptr) traffic->Add(world);
          world.CheckAllThere(taken);
        });
  };
}

// Three threads: one frees into a full bin, so that a magazine goes to the
// depot; one allocates what is there; one leaves, with a magazine for which the
// depot may have no room.
template <class Policy = UncheckedPolicy>
sched::Body GiveTakeAndExit(Traffic* traffic = nullptr) {
  return [traffic] {
    SchedWorld<Policy, kPages> world(1, 3);
    world.iova().cpu().Play(0);
    const Iova live = world.Take();
    FillBin(world, 0);
    FillBin(world, 2);
    std::vector<Iova> taken;
    sched::RunThreads(
        {[&] { world.Give(live); }, [&] { taken.push_back(world.Take()); },
         [&] { world.iova().cpu().Retire(2); }},
        [&] {
          if (traffic != nullptr) traffic->Add(world);
          world.CheckAllThere(taken);
        });
  };
}

// A window of what is live and what one bin holds. An allocation of the other
// slot may be refused, and what it flushes on its way is not lost.
sched::Body GiveAgainstRefusal() {
  return [] {
    SchedWorld<SchedPolicy<>, 3> world(1);
    world.iova().cpu().Play(0);
    const Iova live = world.Take();
    FillBin(world, 0);
    std::vector<Iova> taken;
    sched::RunThreads(
        {[&] { world.Give(live); }, [&] { taken = world.TryTake(); }},
        [&] { world.CheckAllThere(taken); });
  };
}

// A slot is made while somebody reads the statistics, which are those of no one
// moment then. Here for the edge alone.
sched::Body StatsAgainstFirstUse() {
  return [] {
    SchedWorld<SchedPolicy<>, kPages> world(1);
    sched::RunThreads({[&] { world.Give(world.Take()); },
                       [&] { (void)world.iova().stats(); }},
                      [&] { world.CheckAllThere(); });
  };
}

TEST(ExchangeSched, GiveAgainstTake) {
  ExploreAll("give_take", 1, GiveAgainstTake(1));
  ExploreAll("give_take_off", 2, GiveAgainstTake<UncheckedPolicy>(1));
  Traffic traffic;
  ExploreAll("give_take_twice", 1,
             GiveAgainstTake<UncheckedPolicy>(2, &traffic));
  EXPECT_GT(traffic.depot_puts, 0u);
  EXPECT_GT(traffic.depot_takes, 0u);
  EXPECT_GT(traffic.to_store, 0u);
}

// The depot has room for all that is given: what goes to the store was trimmed.
// At random, as the trim has many accesses; DepotSched goes through all orders
// of its first step.
TEST(ExchangeSched, TheDepotTrimsItselfAgainstTake) {
  Traffic traffic;
  const sched::Report report = sched::Explore({.name = "trim_take",
                                               .search = sched::Search::kRandom,
                                               .max_executions = 5000},
                                              TrimAgainstTake(&traffic));
  EXPECT_TRUE(report.ok) << report;
  EXPECT_GT(traffic.to_store, 0u);
  EXPECT_GT(traffic.depot_takes, 0u);
}

// At random: DepotSched goes through all orders of three threads at the depot.
TEST(ExchangeSched, ThreeThreads) {
  Traffic traffic;
  const sched::Report report = sched::Explore({.name = "three",
                                               .search = sched::Search::kRandom,
                                               .max_executions = 1500},
                                              GiveTakeAndExit(&traffic));
  EXPECT_TRUE(report.ok) << report;
  EXPECT_GT(traffic.depot_puts, 0u);
  EXPECT_GT(traffic.depot_takes, 0u);
  EXPECT_GT(traffic.to_store, 0u);
}

// The random search goes beyond the bound of one preemption.
TEST(ExchangeSched, BothWays) {
  ExploreAll("both_ways", 1, BothWays<UncheckedPolicy>());
  const sched::Report report = sched::Explore({.name = "both_ways_random",
                                               .search = sched::Search::kRandom,
                                               .max_executions = 1000},
                                              BothWays());
  EXPECT_TRUE(report.ok) << report;
}

TEST(ExchangeSched, GiveAgainstRefusal) {
  ExploreAll("give_refusal", 1, GiveAgainstRefusal());
}

TEST(ExchangeSched, StatsAgainstFirstUse) {
  ExploreAll("stats", 1, StatsAgainstFirstUse());
}

// Negative controls: a lock that is missing, and each edge that a magazine and
// a slot cross on their way.
TEST(ExchangeSched, AStoreWithoutItsLockIsFound) {
  const sched::Report report =
      sched::Explore({.name = "unlocked"}, GiveAgainstTake<UnlockedPolicy>(2));
  EXPECT_NE(report.failure.find("data race"), std::string::npos) << report;
}

TEST(ExchangeSched, ATrimThatDoesNotWaitItsTurnIsFound) {
  const sched::Report report =
      sched::Explore({.name = "eager",
                      .search = sched::Search::kRandom,
                      .max_executions = 5000},
                     TrimAgainstTake<EagerTrimPolicy>());
  EXPECT_NE(report.failure.find("data race"), std::string::npos) << report;
}

TEST(ExchangeSched, EachEdgeIsNeeded) {
  for (const char* function : {"Put", "Take", "try_lock", "unlock"}) {
    for (const sched::Body& body : {TrimAgainstTake(), GiveTakeAndExit()}) {
      const sched::Report report = sched::Explore(
          {.name = "weak", .preemptions = 1, .weaken = {.function = function}},
          body);
      EXPECT_FALSE(report.ok) << function << ": " << report;
    }
  }
  for (const char* function : {"Put", "Take", "try_lock", "unlock"}) {
    const sched::Report report = sched::Explore(
        {.name = "weak", .preemptions = 1, .weaken = {.function = function}},
        GiveAgainstTake<UncheckedPolicy>(2));
    EXPECT_NE(report.failure.find("data race"), std::string::npos)
        << function << ": " << report;
  }
  const sched::Report slot = sched::Explore(
      {.name = "weak", .preemptions = 1, .weaken = {.function = "Set"}},
      StatsAgainstFirstUse());
  EXPECT_FALSE(slot.ok) << slot;
}

}  // namespace
}  // namespace dmamap
