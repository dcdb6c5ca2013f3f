// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Depot under the deterministic scheduler: the shipped lists, every order of
// two threads, every value that the memory model lets a load return. What a
// magazine holds is plain memory, so each edge of the lists is needed.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "iova/depot.h"
#include "iova/magazine.h"
#include "testing/sched/explore.h"
#include "testing/sched/needed_orders.h"

namespace dmamap {
namespace {

// Negative control: the shipped source over a head without a tag, which is a
// plain Treiber stack.
class UntaggedHead : public sched::Atomic<std::uint64_t> {
  using Base = sched::Atomic<std::uint64_t>;

 public:
  using Base::Base;
  bool compare_exchange_weak(std::uint64_t& expected, std::uint64_t desired,
                             std::memory_order success,
                             std::memory_order failure) {
    return Base::compare_exchange_weak(expected, desired & 0xffffffff, success,
                                       failure);
  }
};
template <class T>
using Untagged = std::conditional_t<std::is_same_v<T, std::uint64_t>,
                                    UntaggedHead, sched::Atomic<T>>;

template <template <class> class Atom>
using TestMagazine = Magazine<int, 1, Atom>;

// A depot of one class whose magazines each hold their own number.
template <template <class> class Atom = sched::Atomic>
class World {
 public:
  using MagazineType = TestMagazine<Atom>;

  explicit World(std::uint32_t limit) { depot_.set_limit(limit); }

  // Full magazines 0 .. n-1 wait, the last one on top.
  void Fill(std::size_t n) {
    std::array<MagazineType*, 4> made = {};
    for (std::size_t i = 0; i < n; ++i) made[i] = TakeEmpty();
    for (std::size_t i = 0; i < n; ++i) Put(made[i]);
  }

  MagazineType* Take() {
    MagazineType* m = depot_.TakeFull(0);
    if (m == nullptr) return nullptr;
    sched::Check(m->full(), "not a full magazine");
    const auto [contents, cell] = m->Pop();
    sched::Check(contents == m->number() && cell == nullptr, "contents");
    return m;
  }
  MagazineType* TakeEmpty() {
    MagazineType* m = depot_.TakeEmpty();
    sched::Check(m != nullptr && m->empty(), "not an empty magazine");
    return m;
  }
  void Put(MagazineType* m) {
    if (m == nullptr) return;
    m->Push({m->number()});
    if (depot_.PutFull(0, m)) return;
    (void)m->Pop();
    depot_.PutEmpty(m);
  }
  void PutEmpty(MagazineType* m) { depot_.PutEmpty(m); }
  // What the allocator does with a magazine that is of no use.
  bool EmptySurplus() {
    MagazineType* m = depot_.TakeSurplus(0);
    if (m == nullptr) return false;
    sched::Check(m->full(), "not a full magazine");
    (void)m->Pop();
    depot_.PutEmpty(m);
    return true;
  }

  // The one that holds `contents` at most, in exchange for `in`.
  MagazineType* TakeFitting(std::uint64_t contents, MagazineType* in) {
    if (in != nullptr) in->Push({in->number()});
    MagazineType* m = depot_.TakeFitting(0, contents, in);
    if (m == nullptr) {
      if (in != nullptr) (void)in->Pop();
      return nullptr;
    }
    sched::Check(m->full() && m->Pop().first <= contents, "does not fit");
    return m;
  }

  // Each of `made` magazines lies in one list, once.
  void Check(std::size_t made, std::size_t full) {
    sched::Check(depot_.CheckInvariants(), "invariants");
    std::array<int, 4> seen = {};
    for (std::size_t i = 0; i < full; ++i) {
      MagazineType* m = depot_.TakeFull(0);
      sched::Check(m != nullptr, "a full magazine is lost");
      if (m == nullptr) return;
      ++seen[m->number()];
    }
    sched::Check(depot_.TakeFull(0) == nullptr, "one too many");
    for (std::size_t i = full; i < made; ++i) ++seen[TakeEmpty()->number()];
    for (std::size_t i = 0; i < made; ++i) {
      sched::Check(seen[i] == 1, "in two places");
    }
  }

 private:
  Depot<MagazineType, 1, Atom> depot_;
};

// One thread takes the top while the other takes two and puts the first back:
// the top is the same again, and what lies below it is not.
template <template <class> class Atom = sched::Atomic>
sched::Body TakeAgainstReuse() {
  return [] {
    World<Atom> world(4);
    world.Fill(3);
    typename World<Atom>::MagazineType* kept[2] = {};
    sched::RunThreads({[&] { kept[0] = world.Take(); },
                       [&] {
                         auto* first = world.Take();
                         kept[1] = world.Take();
                         world.Put(first);
                       }},
                      [&] {
                        for (auto* m : kept) world.Put(m);
                        world.Check(3, 3);
                      });
  };
}

// Both take a full magazine, look into it and put it back as they found it.
sched::Body BothExchange() {
  return [] {
    World<> world(2);
    world.Fill(2);
    const auto work = [&] { world.Put(world.Take()); };
    sched::RunThreads({work, work}, [&] { world.Check(2, 2); });
  };
}

// Three threads: one exchanges the top magazine, one takes one, one puts one.
sched::Body ExchangeTakeAndPut() {
  return [] {
    World<> world(3);
    auto* const mine = world.TakeEmpty();
    world.Fill(1);
    TestMagazine<sched::Atomic>* kept = nullptr;
    sched::RunThreads({[&] { world.Put(world.Take()); },
                       [&] { kept = world.Take(); }, [&] { world.Put(mine); }},
                      [&] {
                        world.Put(kept);
                        world.Check(2, 2);
                      });
  };
}

// Two puts for one place: one is refused, and its magazine is not lost.
sched::Body BothPut() {
  return [] {
    World<> world(1);
    const std::array<TestMagazine<sched::Atomic>*, 2> mine = {
        world.TakeEmpty(), world.TakeEmpty()};
    const auto work = [&] { world.Put(mine[sched::ThreadIndex()]); };
    sched::RunThreads({work, work}, [&] { world.Check(2, 1); });
  };
}

// Both make magazines where there are none, hence also the table's first
// chunk, and one takes what the other made.
sched::Body BothMake() {
  return [] {
    World<> world(2);
    sched::RunThreads({[&] { world.Put(world.TakeEmpty()); },
                       [&] {
                         auto* mine = world.TakeEmpty();
                         world.Put(world.Take());
                         world.PutEmpty(mine);
                       }},
                      [&] { world.Check(2, 1); });
  };
}

// One thread empties what has waited for long while the other takes magazines
// and puts them back.
sched::Body SurplusAgainstUse() {
  return [] {
    World<> world(2);
    world.Fill(2);
    sched::Check(!world.EmptySurplus(), "a period had not begun");
    bool emptied = false;
    sched::RunThreads({[&] { emptied = world.EmptySurplus(); },
                       [&] {
                         auto* first = world.Take();
                         world.Put(world.Take());
                         world.Put(first);
                       }},
                      [&] { world.Check(2, emptied ? 1 : 2); });
  };
}

// One thread exchanges a magazine of its own for what lies below another, while
// the other takes what comes and puts it back.
sched::Body FittingAgainstUse() {
  return [] {
    World<> world(3);
    world.Fill(2);
    auto* const mine = world.TakeEmpty();
    TestMagazine<sched::Atomic>* kept = nullptr;
    sched::RunThreads({[&] { kept = world.TakeFitting(0, mine); },
                       [&] { world.Put(world.Take()); }},
                      [&] {
                        world.Put(kept != nullptr ? kept : mine);
                        world.Check(3, 3);
                      });
  };
}
// What nobody has is looked for in vain, and found when somebody brought it.
sched::Body NothingFits() {
  return [] {
    World<> world(3);
    auto* const low = world.TakeEmpty();
    auto* const high = world.TakeEmpty();
    world.Put(high);
    TestMagazine<sched::Atomic>* kept = nullptr;
    sched::RunThreads({[&] {
                         kept = world.TakeFitting(0, nullptr);
                         if (kept == nullptr)
                           kept = world.TakeFitting(0, nullptr);
                       },
                       [&] { world.Put(low); }},
                      [&] {
                        if (kept == nullptr)
                          kept = world.TakeFitting(0, nullptr);
                        sched::Check(kept == low, "not found");
                        world.Put(kept);
                        world.Check(2, 2);
                      });
  };
}

const sched::Options kOptions = {.name = "depot", .preemptions = 2};

TEST(DepotSched, EveryOrderKeepsEachMagazine) {
  const std::vector<std::pair<std::string, sched::Body>> bodies = {
      {"reuse", TakeAgainstReuse()},
      {"exchange", BothExchange()},
      {"put", BothPut()},
      {"make", BothMake()},
      {"surplus", SurplusAgainstUse()},
      {"fitting", FittingAgainstUse()},
      {"nothing fits", NothingFits()}};
  for (const auto& [name, body] : bodies) {
    const sched::Report report =
        sched::Explore({.name = name, .preemptions = 2}, body);
    EXPECT_TRUE(report.ok && report.complete) << report;
    EXPECT_FALSE(report.cut_stale || report.cut_history) << report;
    RecordProperty(name, std::to_string(report.executions));
  }
}

TEST(DepotSched, ThreeThreadsKeepEachMagazine) {
  const sched::Report report =
      sched::Explore({.name = "three", .preemptions = 1}, ExchangeTakeAndPut());
  EXPECT_TRUE(report.ok && report.complete) << report;
  EXPECT_FALSE(report.cut_stale || report.cut_history) << report;
  RecordProperty("three", std::to_string(report.executions));
  for (const char* function : {"Put", "Take"}) {
    const sched::Report weak = sched::Explore(
        {.name = "weak", .preemptions = 1, .weaken = {.function = function}},
        ExchangeTakeAndPut());
    EXPECT_FALSE(weak.ok) << function;
  }
}

TEST(DepotSched, WithoutTagsTheAbaProblemIsFound) {
  const sched::Report report =
      sched::Explore(kOptions, TakeAgainstReuse<Untagged>());
  EXPECT_FALSE(report.ok) << report;
}

// Each order is needed, but for those that another edge makes good (see their
// comments): C1 and both loads of C2, for magazines that come off a list, hence
// through D2; D2 on success, which repeats the load before it.
TEST(DepotSched, EachOrderIsNeededOrKnownNotToBe) {
  const std::set<std::string> known = {
      "At: load acquire -> relaxed",
      "Make: store release -> relaxed",
      "Take: compare_exchange_weak acquire -> relaxed",
  };
  for (const std::string& order : sched::UnneededOrders(
           kOptions,
           std::vector<sched::Body>{TakeAgainstReuse(), BothExchange(),
                                    BothPut(), BothMake()})) {
    const std::string what = order.substr(order.find(' ') + 1);
    EXPECT_TRUE(known.contains(what)) << order;
  }
}

// One of each edge, by name.
TEST(DepotSched, AWeakerListIsFound) {
  for (const char* function : {"Put", "Take"}) {
    const sched::Report report = sched::Explore(
        {.name = "weak", .weaken = {.function = function}}, TakeAgainstReuse());
    EXPECT_FALSE(report.ok) << function;
    const sched::Report surplus =
        sched::Explore({.name = "weak", .weaken = {.function = function}},
                       SurplusAgainstUse());
    EXPECT_FALSE(surplus.ok) << function;
    const sched::Report fitting =
        sched::Explore({.name = "weak", .weaken = {.function = function}},
                       FittingAgainstUse());
    EXPECT_FALSE(fitting.ok) << function;
  }
}

}  // namespace
}  // namespace dmamap
