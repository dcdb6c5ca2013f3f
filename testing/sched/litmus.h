// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_SCHED_LITMUS_H_
#define DMAMAP_TESTING_SCHED_LITMUS_H_

// All outcomes of a litmus test: a few threads, a few accesses each.
//
//   const auto outcomes = litmus::Outcomes(
//       {[](litmus::World& w) { w.x.store(1); w.r[0] = w.y.load(); },
//        [](litmus::World& w) { w.y.store(1); w.r[1] = w.x.load(); }});
//   EXPECT_FALSE(litmus::Has(outcomes, {0, 0}));

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <set>
#include <vector>

#include "dma/version.h"
#include "testing/sched/explore.h"

namespace dmamap::inline v0 {
namespace sched::litmus {

inline constexpr auto kRelaxed = std::memory_order_relaxed;
inline constexpr auto kAcquire = std::memory_order_acquire;
inline constexpr auto kRelease = std::memory_order_release;
inline constexpr auto kAcqRel = std::memory_order_acq_rel;
inline constexpr auto kSeqCst = std::memory_order_seq_cst;

// relaxed: no fence.
inline void Fence(std::memory_order order) { AtomFence<Atomic>(order); }

struct World {
  Atomic<int> x{0}, y{0}, z{0};
  std::array<int, 4> r = {};  // registers: what the threads read
};
using Thread = std::function<void(World&)>;
using Outcome = std::array<int, 4>;  // the registers in the end

// Every execution is explored; the program ends if a bound of `options` cuts
// one off, since an outcome that is not found would then mean nothing.
inline std::set<Outcome> Outcomes(const std::vector<Thread>& threads,
                                  Options options = {}) {
  options.preemptions = kUnlimited;
  options.spurious = 0;
  std::set<Outcome> outcomes;
  const Report report = Explore(options, [&] {
    World w;
    std::vector<Body> bodies;
    for (const Thread& thread : threads) {
      bodies.push_back([&w, &thread] { thread(w); });
    }
    RunThreads(bodies, [&] { outcomes.insert(w.r); });
  });
  if (!report.exhaustive()) {
    std::cerr << report;
    std::abort();
  }
  return outcomes;
}

// Missing registers are 0.
inline bool Has(const std::set<Outcome>& outcomes,
                const std::vector<int>& wanted) {
  Outcome outcome = {};
  std::copy(wanted.begin(), wanted.end(), outcome.begin());
  return outcomes.contains(outcome);
}

}  // namespace sched::litmus
}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_SCHED_LITMUS_H_
