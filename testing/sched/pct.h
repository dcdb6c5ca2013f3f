// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_SCHED_PCT_H_
#define DMAMAP_TESTING_SCHED_PCT_H_

// Pct: choices by chance, for programs too big to explore.
//
// Probabilistic concurrency testing (Burckhardt, Kothari, Musuvathi,
// Nagarakatte, ASPLOS 2010): the threads get random priorities, the highest
// that can run runs, and at d random steps the running thread falls behind all
// others. A fault that needs d such switches in a run of k steps and n threads
// is found with a probability of at least 1 / (n k^d), which plain random
// switching does not reach. Which store a load returns is drawn separately: the
// newest half of the time, else any.

#include <array>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "dma/version.h"
#include "testing/sched/options.h"
#include "testing/sched/view.h"

namespace dmamap::inline v0 {
namespace sched {

class Pct {
 public:
  // For one execution. `steps`: how long the longest so far was.
  void Begin(std::uint64_t seed, std::uint64_t execution,
             std::uint32_t switches, std::uint32_t steps) {
    random_.seed(seed * 0x9e3779b97f4a7c15u + execution);
    for (std::uint64_t& p : priority_) p = kTop + random_() % kTop;
    change_at_.clear();
    if (switches == kUnlimited) switches = 3;
    for (std::uint32_t i = 0; i < switches; ++i) {
      change_at_.push_back(1 + random_() % (steps == 0 ? 20 : steps));
    }
    step_ = 0;
    lowest_ = kTop;
  }

  // The index in `threads` of the one to run. `running` made the last step.
  std::uint32_t PickThread(std::span<const ThreadId> threads,
                           ThreadId running) {
    ++step_;
    for (const std::uint64_t at : change_at_) {
      if (at == step_) priority_[running] = --lowest_;
    }
    std::uint32_t best = 0;
    for (std::uint32_t i = 1; i < threads.size(); ++i) {
      if (priority_[threads[i]] > priority_[threads[best]]) best = i;
    }
    return best;
  }

  std::uint32_t PickAlternative(std::size_t count) {
    if (count == 1 || random_() % 2 == 0) return 0;
    return static_cast<std::uint32_t>(random_() % count);
  }

 private:
  static constexpr std::uint64_t kTop = std::uint64_t{1} << 32;

  std::mt19937_64 random_;
  std::array<std::uint64_t, kMaxThreads + 1> priority_ = {};
  std::vector<std::uint64_t> change_at_;
  std::uint64_t step_ = 0;
  std::uint64_t lowest_ = kTop;
};

}  // namespace sched
}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_SCHED_PCT_H_
