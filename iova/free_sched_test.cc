// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Wrong frees under the deterministic scheduler: two threads end one range at
// the same instant, and free what nobody gave them while the tags' memory is
// made. What FreeCheck::kOrdered does not promise is shown as well.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "dma/address.h"
#include "dma/result.h"
#include "iova/sched_model_for_test.h"
#include "testing/sched/explore.h"

namespace dmamap {
namespace {

using Exact = SchedPolicy<FreeCheck::kExact>;
using Ordered = SchedPolicy<FreeCheck::kOrdered>;
using Off = SchedPolicy<FreeCheck::kOff>;

constexpr std::size_t kPages = 4;

template <class Policy>
using World = SchedWorld<Policy, kPages>;

// How a range ends, or comes back.
enum class Call : std::uint8_t { kFree, kRetire, kRelease, kRestore };

template <class Allocator>
Result<void> Make(Call call, Allocator& iova, Iova a) {
  switch (call) {
    case Call::kFree:
      return iova.Free(a, 1);
    case Call::kRetire:
      return iova.Retire(a, 1);
    case Call::kRelease:
      return iova.Release(a, 1);
    default:
      return iova.Restore(a, 1);
  }
}

// Where an entry goes that is freed.
enum class Way : std::uint8_t {
  kRoom,    // into a bin that has room
  kFull,    // into a full bin: a magazine goes to the depot
  kShared,  // into the bin of callers without a slot
};

// After the race each slot allocates, the other one first, whose entry could be
// the surplus one; nobody gets what the other has.
template <class Policy>
void TakeFromBoth(World<Policy>& world) {
  std::array<Iova, 2> taken;
  for (const std::size_t slot : {1u, 0u}) {
    world.iova().cpu().Play(slot);
    taken[slot] = world.Take();
  }
  world.CheckAllThere(taken);
}

// Two threads make these calls for one range at the same instant. Exactly one
// succeeds, the other gets one of `errors`; the range is nobody's twice
// afterwards.
template <class Policy>
sched::Body OneOf(std::array<Call, 2> calls, std::vector<Error> errors,
                  Way way = Way::kRoom) {
  return [=] {
    World<Policy> world(1);
    auto& iova = world.iova();
    iova.cpu().Play(0);
    const Iova p = world.Take();
    world.users().End(p);
    if (way == Way::kFull) FillBin(world, 0);
    if (way == Way::kShared) iova.cpu().TakeSlotsAway();
    if (calls[0] >= Call::kRelease) {
      sched::Check(iova.Retire(p, 1).ok(), "retire");
    }
    std::array<Result<void>, 2> outcome;
    const auto call = [&] {
      const std::size_t self = sched::ThreadIndex();
      outcome[self] = Make(calls[self], iova, p);
    };
    if (!sched::RunThreads({call, call})) return;
    sched::Check(outcome[0].ok() || outcome[1].ok(), "none succeeds");
    sched::Check(!outcome[0].ok() || !outcome[1].ok(), "both succeed");
    if (SchedFailed()) return;
    const std::size_t winner = outcome[0].ok() ? 0 : 1;
    sched::Check(std::count(errors.begin(), errors.end(),
                            outcome[1 - winner].error()) == 1,
                 "another error");
    sched::Check(iova.CheckInvariants(), "invariants after the race");
    // To its end, whoever won.
    if (calls[winner] == Call::kRetire) {
      sched::Check(iova.Release(p, 1).ok(), "release");
    } else if (calls[winner] == Call::kRestore) {
      sched::Check(iova.Free(p, 1).ok(), "free");
    }
    const Result<void> again = iova.Free(p, 1);
    sched::Check(!again.ok() && again.error() == Error::kDoubleFree, "again");
    TakeFromBoth(world);
  };
}

// A range of two pages, which no magazine takes: always exact.
template <class Policy>
sched::Body BothFreeLong() {
  return [] {
    World<Policy> world(1);
    const Iova p = world.Take(2);
    world.users().End(p, 2);
    std::array<Result<void>, 2> outcome;
    const auto free = [&] {
      outcome[sched::ThreadIndex()] = world.iova().Free(p, 2);
    };
    sched::RunThreads({free, free}, [&] {
      sched::Check(outcome[0].ok() != outcome[1].ok(), "exactly one");
      if (SchedFailed()) return;
      const Result<void>& other = outcome[outcome[0].ok() ? 1 : 0];
      sched::Check(other.error() == Error::kDoubleFree, "another error");
      world.CheckAllThere();
    });
  };
}

// One thread frees what it was never given, and the other's page with a wrong
// size, while the other makes the first tags there are.
template <class Policy>
sched::Body WrongFreesAgainstFirstUse() {
  return [] {
    World<Policy> world(1);
    std::vector<Iova> taken;
    sched::RunThreads(
        {[&] { taken.push_back(world.Take()); },
         [&] {
           const Iova last((kPages - 1) << 12);
           const Result<void> foreign = world.iova().Free(Iova(0), 1);
           sched::Check(foreign.error() == Error::kForeign, "foreign");
           const Result<void> size = world.iova().Free(last, 2);
           sched::Check(size.error() == Error::kForeign ||
                            size.error() == Error::kMismatch,
                        "a wrong size");
         }},
        [&] {
          sched::Check(taken[0] == Iova((kPages - 1) << 12), "the last page");
          world.CheckAllThere(taken);
        });
  };
}

// Both may succeed, if `Policy` allows it; then the surplus entry is dropped.
// `trim`: what the first has freed goes on to the store meanwhile.
template <class Policy>
sched::Body SurplusEntry(bool trim) {
  return [trim] {
    World<Policy> world(1);
    world.iova().cpu().Play(0);
    const Iova p = world.Take();
    world.users().End(p);
    const auto free = [&] {
      const Result<void> r = world.iova().Free(p, 1);
      sched::Check(r.ok() || r.error() == Error::kDoubleFree, "another error");
    };
    const auto free_and_trim = [&] {
      free();
      if (trim) world.iova().Trim();
    };
    if (sched::RunThreads({free_and_trim, free})) TakeFromBoth(world);
  };
}

const std::vector<Error> kTwice = {Error::kDoubleFree};
// What was restored is live again.
const std::vector<Error> kRestored = {Error::kBusy};
const std::vector<Error> kEnded = {Error::kBusy, Error::kDoubleFree};
constexpr std::array<Call, 2> kFreeFree = {Call::kFree, Call::kFree};

TEST(FreeSched, OfTwoFreesOneSucceeds) {
  ExploreAll("room", 2, OneOf<Exact>(kFreeFree, kTwice));
  ExploreAll("full", 1, OneOf<Exact>(kFreeFree, kTwice, Way::kFull));
  ExploreAll("shared", 1, OneOf<Exact>(kFreeFree, kTwice, Way::kShared));
}

TEST(FreeSched, OfAFreeAndARetireOneSucceeds) {
  ExploreAll("free_retire", 1,
             OneOf<Exact>({Call::kFree, Call::kRetire}, kTwice));
  ExploreAll("retires", 1,
             OneOf<Exact>({Call::kRetire, Call::kRetire}, kTwice));
}

TEST(FreeSched, ARetiredRangeEndsOnce) {
  ExploreAll("releases", 1,
             OneOf<Exact>({Call::kRelease, Call::kRelease}, kTwice));
  ExploreAll("restores", 1,
             OneOf<Exact>({Call::kRestore, Call::kRestore}, kRestored));
  ExploreAll("release_restore", 1,
             OneOf<Exact>({Call::kRelease, Call::kRestore}, kEnded));
}

TEST(FreeSched, LongRangesAreAlwaysExact) {
  ExploreAll("long", 1, BothFreeLong<Ordered>());
}

TEST(FreeSched, WrongFreesChangeNothing) {
  ExploreAll("wrong", 1, WrongFreesAgainstFirstUse<Exact>());
  ExploreAll("wrong_ordered", 1, WrongFreesAgainstFirstUse<Ordered>());
}

TEST(FreeSched, OrderedDropsTheSurplusEntry) {
  ExploreAll("surplus", 2, SurplusEntry<Ordered>(false));
}

// Unless that has reached the store meanwhile, as live_tags.h says. Exact holds
// there too.
TEST(FreeSched, ExactHoldsWhenTheAddressReachesTheStore) {
  ExploreAll("store_exact", 1, SurplusEntry<Exact>(true));
  const sched::Report ordered =
      sched::Explore({.name = "store_ordered"}, SurplusEntry<Ordered>(true));
  EXPECT_FALSE(ordered.ok) << ordered;
}

// Negative controls: a weaker check, none, and an entry that nobody drops.
TEST(FreeSched, AWeakerCheckIsFound) {
  const sched::Report ordered =
      sched::Explore({.name = "ordered"}, OneOf<Ordered>(kFreeFree, kTwice));
  EXPECT_NE(ordered.failure.find("both succeed"), std::string::npos) << ordered;
  const sched::Report off =
      sched::Explore({.name = "off"}, OneOf<Off>(kFreeFree, kTwice));
  EXPECT_FALSE(off.ok) << off;
  const sched::Report surplus =
      sched::Explore({.name = "surplus_off"}, SurplusEntry<Off>(false));
  EXPECT_FALSE(surplus.ok) << surplus;
}

TEST(FreeSched, EachEdgeOfTheTagsIsNeeded) {
  for (const char* function : {"Child", "Publish"}) {
    const sched::Report report = sched::Explore(
        {.name = "weak", .preemptions = 1, .weaken = {.function = function}},
        WrongFreesAgainstFirstUse<Exact>());
    EXPECT_FALSE(report.ok) << function;
  }
}

}  // namespace
}  // namespace dmamap
