// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// CarvedPages under the deterministic scheduler: every order of a block that
// comes back, of one that goes out, and of memory that is withdrawn.

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "bounce/carved_pages.h"
#include "bounce/page_runs.h"
#include "bounce/user_pages.h"
#include "dma/address.h"
#include "dma/sync.h"
#include "testing/sched/explore.h"

namespace dmamap {
namespace {

struct SchedPolicy {
  using LockType = BasicSpinLock<sched::Atomic>;
  template <class T>
  using Atom = sched::Atomic<T>;
};
// Negative control: nobody holds anybody off.
struct UnlockedPolicy : SchedPolicy {
  using LockType = NullLock;
};

const PageSize kPage;
alignas(4096) std::byte memory[2 * 4096];
constexpr std::array kRegions = {UserRegion{memory, 2 * 4096}};

using Place = internal::ArenaPlace;
template <class Policy>
using Carved = internal::CarvedPages<Place, Policy>;

template <class Policy>
void Open(Carved<Policy>& carved, UnitContents contents) {
  auto runs = std::make_unique<PageRuns>();
  sched::Check(runs->Init(2, contents).ok(), "init");
  sched::Check(carved.Open({{memory, kPage, 2}, kPage, std::move(runs)}).ok(),
               "open");
}

// Memory that is on its way back to the system is not refused to anybody.
template <class Policy>
sched::Body TrimAgainstTake() {
  return [] {
    Carved<Policy> carved;
    Open(carved, UnitContents::kOld);
    bool got = false;
    sched::RunThreads({[&] {
                         const auto block = carved.BeginTrim(0, 2, 0);
                         if (block.ok())
                           carved.EndGive(*block, UnitContents::kZero);
                       },
                       [&] { got = carved.Take(kPage, 2).ok(); }},
                      [&] {
                        sched::Check(got, "refused what was under way");
                        sched::Check(carved.budget().in_use() == 2 * 4096,
                                     "in use");
                        sched::Check(carved.CheckInvariants(), "invariants");
                      });
  };
}

// One of two who give the same block back does; a third gets it or not.
template <class Policy>
sched::Body TwiceBack() {
  return [] {
    Carved<Policy> carved;
    Open(carved, UnitContents::kZero);
    sched::Check(carved.Take(kPage, 2).ok(), "first");
    int gave = 0;
    const auto give = [&] {
      const auto block = carved.BeginGive(memory, kPage, 2);
      if (!block.ok()) return;
      ++gave;
      carved.EndGive(*block, UnitContents::kOld);
    };
    sched::RunThreads({give, give}, [&] {
      sched::Check(gave == 1, "came back twice");
      sched::Check(carved.budget().stats().bad_frees == 1, "not counted");
      sched::Check(carved.CheckInvariants(), "invariants");
    });
  };
}

// Either the page is out and the memory stays, or the memory is gone.
template <class Policy>
sched::Body WithdrawAgainstAllocate() {
  return [] {
    BasicUserPages<Policy> pages;
    sched::Check(pages.Register({.regions = kRegions}).ok(), "register");
    bool got = false;
    bool withdrawn = false;
    sched::RunThreads({[&] { got = pages.Allocate(kPage, 1).ok(); },
                       [&] { withdrawn = pages.Withdraw().ok(); }},
                      [&] {
                        sched::Check(got != withdrawn, "both or neither");
                        sched::Check(pages.CheckInvariants(), "invariants");
                      });
  };
}

void Holds(const char* name, const sched::Body& body) {
  const auto report = sched::Explore({.name = name}, body);
  EXPECT_TRUE(report.ok && report.complete) << report;
}

TEST(CarvedPagesSched, TrimAgainstTake) {
  Holds("trim", TrimAgainstTake<SchedPolicy>());
}
TEST(CarvedPagesSched, TwiceBack) { Holds("twice", TwiceBack<SchedPolicy>()); }
TEST(CarvedPagesSched, WithdrawAgainstAllocate) {
  Holds("withdraw", WithdrawAgainstAllocate<SchedPolicy>());
}

// It finds memory gone under its hands.
TEST(CarvedPagesSched, WithoutTheLockItIsFound) {
  EXPECT_DEATH((void)sched::Explore({.name = "unlocked"},
                                    WithdrawAgainstAllocate<UnlockedPolicy>()),
               "sched: crash");
}

}  // namespace
}  // namespace dmamap
