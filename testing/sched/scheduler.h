// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_SCHED_SCHEDULER_H_
#define DMAMAP_TESTING_SCHED_SCHEDULER_H_

// Scheduler: which thread makes the next step?
//
// A step is one atomic access and what its thread does up to the next one. Each
// thread has announced its next access before the choice is made, so that the
// choice can tell which threads would only spin, and which accesses are
// independent.
//
//   ready    may be chosen.
//   waiting  would only spin; ready again when another thread writes.
//   nudged   all were waiting: it goes on for Options::spin_steps, in case its
//            loop gives up by itself.
//   stuck    it did not. When all are stuck, it is a livelock.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "dma/version.h"
#include "testing/sched/access.h"
#include "testing/sched/choices.h"
#include "testing/sched/op.h"
#include "testing/sched/options.h"
#include "testing/sched/pct.h"
#include "testing/sched/view.h"

namespace dmamap::inline v0 {
namespace sched {

class Scheduler {
 public:
  Scheduler(const Options& options, Choices& choices, Budget& budget)
      : options_(options), choices_(choices), budget_(budget) {}

  // For a new execution. `random` draws what the path does not say; null: the
  // first choice.
  void Begin(Pct* random) {
    random_ = random;
    redundant_ = false;
    BeginRun();
  }
  void BeginRun() {
    threads_ = {};
    asleep_ = 0;
    running_ = kMain;
  }

  void Start(ThreadId t) { threads_[t].live = true; }
  void Finish(ThreadId t) { threads_[t].live = false; }

  // Thread `t` is about to do `op`, which outlives the step.
  void Announce(ThreadId t, const Op& op, bool only_spins) {
    Thread& thread = threads_[t];
    thread.next = &op;
    if (thread.nudged == 0) {
      thread.waiting = only_spins;
    } else if (--thread.nudged == 0) {
      thread.waiting = thread.stuck = true;
    }
  }
  // The access that `t` announced last.
  const Op& Announced(ThreadId t) const { return *threads_[t].next; }

  // Whether another thread than the running one will access `cell` next.
  bool Announces(const Cell& cell) const {
    for (ThreadId t = 1; t <= kMaxThreads; ++t) {
      const Thread& thread = threads_[t];
      if (t != running_ && thread.live && thread.next != nullptr &&
          thread.next->cell == &cell) {
        return true;
      }
    }
    return false;
  }

  // Thread `t` has changed a value. Calls woken(thread) for each that waited.
  template <class Woken>
  void Wake(ThreadId t, Woken woken) {
    for (ThreadId other = 1; other <= kMaxThreads; ++other) {
      Thread& thread = threads_[other];
      thread.stuck = false;
      thread.nudged = 0;
      if (other == t || !thread.waiting) continue;
      thread.waiting = false;
      woken(other);
    }
  }

  enum class Verdict { kRun, kAllFinished, kLivelock };

  // Chooses the thread for the next step.
  Verdict Pick(ThreadId& chosen) {
    List list = Collect([](const Thread& t) { return t.live && !t.waiting; });
    if (list.size == 0) return Nudge(chosen);
    const bool can_stay = list.at[0] == running_;
    if (can_stay && list.size > 1 && options_.search == Search::kExhaustive &&
        budget_.preemptions == 0) {
      budget_.cut_preemptions = true;
      list.size = 1;
    }
    const bool reduce = Reduces();
    if (reduce) RemoveSleeping(list);
    const std::uint32_t index = ChooseThread(list);
    chosen = list.at[index];
    if (reduce) Sleep(list, index);
    if (can_stay && chosen != running_ && budget_.preemptions > 0) {
      Budget::Spend(budget_.preemptions);
    }
    running_ = chosen;
    return Verdict::kRun;
  }

  // One of `count` alternatives of the running thread's access.
  std::uint32_t ChooseAlternative(std::size_t count) {
    if (redundant_) return 0;
    const std::uint32_t fresh =
        random_ == nullptr ? 0 : random_->PickAlternative(count);
    return choices_.Choose(static_cast<std::uint32_t>(count), fresh);
  }

  // All that is left of this execution was explored in another order.
  bool redundant() const { return redundant_; }

 private:
  struct Thread {
    bool live = false;
    bool waiting = false;
    bool stuck = false;
    std::uint32_t nudged = 0;  // steps left
    const Op* next = nullptr;
  };
  struct List {
    std::array<ThreadId, kMaxThreads> at = {};
    std::uint32_t size = 0;
  };

  // The running thread first, so that to go on is the first choice.
  template <class Wanted>
  List Collect(Wanted wanted) const {
    List list;
    if (running_ != kMain && wanted(threads_[running_])) {
      list.at[list.size++] = running_;
    }
    for (ThreadId t = 1; t <= kMaxThreads; ++t) {
      if (t != running_ && wanted(threads_[t])) list.at[list.size++] = t;
    }
    return list;
  }

  std::uint32_t ChooseThread(const List& list) {
    if (redundant_) return 0;
    const std::uint32_t fresh =
        random_ == nullptr ? 0
                           : random_->PickThread(
                                 std::span(list.at).first(list.size), running_);
    return choices_.Choose(list.size, fresh);
  }

  Verdict Nudge(ThreadId& chosen) {
    bool live = false;
    for (const Thread& thread : threads_) live = live || thread.live;
    if (!live) return Verdict::kAllFinished;
    const List list =
        Collect([](const Thread& t) { return t.live && !t.stuck; });
    if (list.size == 0) return Verdict::kLivelock;
    chosen = list.at[ChooseThread(list)];
    threads_[chosen].waiting = false;
    threads_[chosen].nudged = options_.spin_steps + 1;
    asleep_ = 0;
    running_ = chosen;
    return Verdict::kRun;
  }

  // Sleep sets. A thread sleeps while its next access was already explored
  // from a state that differs from this one by independent accesses alone. A
  // bound on preemptions counts by order, hence makes the reduction unsound.
  bool Reduces() const {
    return options_.reduction == Reduction::kSleepSets &&
           options_.search == Search::kExhaustive &&
           options_.preemptions == kUnlimited;
  }
  void RemoveSleeping(List& list) {
    List awake;
    for (std::uint32_t i = 0; i < list.size; ++i) {
      if ((asleep_ >> list.at[i] & 1) == 0) awake.at[awake.size++] = list.at[i];
    }
    if (awake.size == 0) {
      redundant_ = true;  // goes on to its end, but makes no more choices
    } else {
      list = awake;
    }
  }
  void Sleep(const List& list, std::uint32_t index) {
    for (std::uint32_t i = 0; i < index; ++i) asleep_ |= 1u << list.at[i];
    const ThreadId chosen = list.at[index];
    asleep_ &= ~(1u << chosen);
    for (ThreadId t = 1; t <= kMaxThreads; ++t) {
      if ((asleep_ >> t & 1) != 0 &&
          !Independent(*threads_[t].next, *threads_[chosen].next)) {
        asleep_ &= ~(1u << t);
      }
    }
  }

  const Options& options_;
  Choices& choices_;
  Budget& budget_;
  Pct* random_ = nullptr;
  std::array<Thread, kMaxThreads + 1> threads_ = {};
  std::uint32_t asleep_ = 0;  // a bit for each thread
  ThreadId running_ = kMain;
  bool redundant_ = false;
};

}  // namespace sched
}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_SCHED_SCHEDULER_H_
