// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_SCHED_ENGINE_H_
#define DMAMAP_TESTING_SCHED_ENGINE_H_

// Engine: one execution at a time, of fibers over the memory model.
//
// Atomic and Plain call it at each access. In a thread, the access is
// announced, the scheduler chooses who goes on, and when the turn comes one
// alternative of the access is carried out. The caller of RunThreads has no
// rival: before the threads start its accesses go straight to the value (what
// happens before all threads needs no history), and after them it knows of
// every store.
//
// A failure ends the execution at once: the threads are left where they are, so
// the objects on their stacks are not destroyed. The test's own state is: it
// must stand being destroyed in any state.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "dma/version.h"
#include "testing/sched/access.h"
#include "testing/sched/choices.h"
#include "testing/sched/fiber.h"
#include "testing/sched/memory_model.h"
#include "testing/sched/op.h"
#include "testing/sched/options.h"
#include "testing/sched/pct.h"
#include "testing/sched/plain_state.h"
#include "testing/sched/progress.h"
#include "testing/sched/scheduler.h"
#include "testing/sched/trace.h"
#include "testing/sched/view.h"

namespace dmamap::inline v0 {
namespace sched {

class Engine {
 public:
  using Threads = std::span<const std::function<void()>>;

  explicit Engine(const Options& options)
      : options_(options), outer_(current_) {
    current_ = this;
  }
  ~Engine() {
    current_ = outer_;
    for (auto& fiber : fibers_) {
      if (fiber != nullptr) IdleFibers::Give(std::move(fiber));
    }
  }
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Whose accesses are tested; null outside of Explore and Replay.
  static Engine* Current() { return current_; }

  // A new execution along choices(). `random` draws where the path ends; null:
  // the first choice. `trace` writes down each step.
  void Begin(Pct* random, bool trace) {
    execution_ = ++executions_;
    choices_.Rewind();
    budget_.Refill(options_);
    scheduler_.Begin(random);
    memory_.Clear();
    races_.Begin(execution_);
    trace_.Begin(trace);
    failure_.clear();
    failed_ = false;
    steps_ = 0;
    for (std::size_t t = 0; t <= kMaxThreads; ++t) {
      views_[t].Clear();
      progress_[t].Clear(options_.rereads);
    }
    running_ = kMain;
    MainClock() = 1;
  }

  // Runs the threads to their ends, then `check` in the caller. False, and no
  // check, when the execution has failed.
  bool Run(Threads threads, const std::function<void()>& check) {
    if (failed_) return false;
    if (running_ != kMain || threads.size() > kMaxThreads) {
      Fail("Run: called in a thread, or with more than kMaxThreads threads");
      return false;
    }
    scheduler_.BeginRun();
    StartAll(threads);
    const ThreadId first = failed_ ? kMain : Pick();
    if (first != kMain) Resume(first);
    running_ = kMain;
    if (failed_) {
      // Abandons what is in the middle of a function.
      for (auto& fiber : fibers_) {
        if (fiber != nullptr && !fiber->finished()) fiber.reset();
      }
      return false;
    }
    for (ThreadId t = 1; t <= threads.size(); ++t) {
      views_[kMain].now.Join(views_[t].now);
    }
    if (check) check();
    return !failed_;
  }

  // Ends the execution. Does not return in a thread.
  void Fail(std::string what) {
    if (!failed_) {
      failed_ = true;
      failure_ = ThreadText(running_) + ": " + std::move(what);
    }
    if (running_ == kMain) return;
    SwitchFrom(running_, kMain);
    std::abort();  // nobody resumes a thread of a failed execution
  }

  // Whether an access to `cell` has no rival, now or before: the caller of
  // RunThreads makes it, of what no thread has accessed.
  bool IsBare(const Cell& cell) const {
    return running_ == kMain && (failed_ || !HasHistory(cell));
  }

  OpResult Perform(Op op) {
    if (op.cell == nullptr ? running_ == kMain && failed_ : IsBare(*op.cell)) {
      return Bare(op);
    }
    if (options_.sites != nullptr) NoteSite(*options_.sites, op);
    if (options_.weaken.Matches(op.site, op.name)) {
      (options_.weaken.failure ? op.failure : op.order) = options_.weaken.to;
    }
    if (running_ != kMain) Arrive(op);
    if (op.cell != nullptr) return AccessCell(op);
    if (op.kind == OpKind::kFence) memory_.Fence(views_[running_], op.order);
    trace_.Add(steps_, running_, op);
    Tick();
    return {};
  }

  void Created(Cell& cell) {
    cell.execution = execution_;
    cell.location = Cell::kNone;
    cell.created = Now();
  }
  void Destroyed(Cell& cell) {
    if (failed_ || cell.execution != execution_) return;
    if (running_ != kMain && !MayDestroy(cell)) {
      Fail("data race: destroys " + trace_.Name(cell) +
           " while another thread may access it");
    }
    // Volatile: nobody may read it after this, says the compiler. An access
    // after the end finds it, unless the memory is in use again.
    *const_cast<volatile LocationId*>(&cell.location) = Cell::kEnded;
  }

  void ReadPlain(PlainState& state) { NotePlain(state, false); }
  void WritePlain(PlainState& state) { NotePlain(state, true); }

  ThreadId running() const { return running_; }
  Choices& choices() { return choices_; }
  const Budget& budget() const { return budget_; }
  const Scheduler& scheduler() const { return scheduler_; }
  const std::string& trace() const { return trace_.text(); }
  const std::string& failure() const { return failure_; }
  bool failed() const { return failed_; }
  std::uint32_t steps() const { return steps_; }

 private:
  std::uint32_t& MainClock() { return views_[kMain].now.clock.at[kMain]; }
  Epoch Now() const {
    return {running_, views_[running_].now.clock.at[running_]};
  }
  void Tick() { ++views_[running_].now.clock.at[running_]; }

  // The caller of RunThreads always may: all threads have ended.
  bool MayDestroy(const Cell& cell) const {
    const Clock& now = views_[running_].now.clock;
    bool ordered = now.Covers(cell.created) && !scheduler_.Announces(cell);
    if (cell.location < Cell::kEnded) {
      const Clock& accesses = memory_.accesses(cell.location);
      for (ThreadId t = 0; t <= kMaxThreads; ++t) {
        ordered = ordered && now.Covers({t, accesses.at[t]});
      }
    }
    return ordered;
  }

  // Brings each thread to its first access.
  void StartAll(Threads threads) {
    starting_ = true;
    for (ThreadId t = 1; t <= threads.size() && !failed_; ++t) {
      views_[t].Clear();
      views_[t].now = views_[kMain].now;
      ++views_[t].now.clock.at[t];
      progress_[t].Clear(options_.rereads);
      scheduler_.Start(t);
      if (fibers_[t] == nullptr) {
        fibers_[t] = IdleFibers::Take(options_.stack_bytes);
      }
      fibers_[t]->Start([this, t, &run = threads[t - 1]] {
        run();
        return &Leave(t);
      });
      Resume(t);
    }
    starting_ = false;
    ++MainClock();
  }

  Fiber& FiberOf(ThreadId t) { return t == kMain ? main_ : *fibers_[t]; }
  void Resume(ThreadId t) { SwitchFrom(kMain, t); }
  void SwitchFrom(ThreadId from, ThreadId to) {
    running_ = to;
    if (from != to) FiberOf(from).SwitchTo(FiberOf(to));
  }

  // Thread `t` has returned; whom to switch to.
  Fiber& Leave(ThreadId t) {
    scheduler_.Finish(t);
    running_ = starting_ ? kMain : Pick();
    return FiberOf(running_);
  }

  // The running thread is about to do `op`; returns when it may.
  void Arrive(const Op& op) {
    const ThreadId self = running_;
    scheduler_.Announce(self, op, OnlySpins(op));
    SwitchFrom(self, starting_ ? kMain : Pick());
  }

  // kMain when all have finished, or when the execution has failed.
  ThreadId Pick() {
    ThreadId chosen = kMain;
    const auto verdict = scheduler_.Pick(chosen);
    if (verdict == Scheduler::Verdict::kRun && ++steps_ <= options_.max_steps) {
      return chosen;
    }
    if (verdict == Scheduler::Verdict::kAllFinished) return kMain;
    failed_ = true;
    failure_ = verdict == Scheduler::Verdict::kLivelock
                   ? "livelock: each thread waits for another to write"
                   : "more than " + std::to_string(options_.max_steps) +
                         " steps (Options::max_steps)";
    return kMain;
  }

  bool OnlySpins(const Op& op) {
    Progress& progress = progress_[running_];
    if (op.kind == OpKind::kRelax) return progress.Relax();
    if (op.cell == nullptr || !HasHistory(*op.cell)) return false;
    return access_.OnlySpins(op, op.cell->location, views_[running_], progress);
  }

  bool HasHistory(const Cell& cell) const {
    return cell.execution == execution_ && cell.location < Cell::kEnded;
  }

  // The location of a cell that a thread accesses.
  LocationId Locate(Cell& cell) {
    if (cell.execution != execution_) {  // older than this execution
      cell.execution = execution_;
      cell.location = Cell::kNone;
      cell.created = Epoch{};
    }
    if (cell.location == Cell::kEnded) Fail("accesses an atomic after its end");
    if (cell.location == Cell::kNone) {
      cell.location = memory_.AddLocation(cell.value, cell.created);
    }
    const LocationId l = cell.location;
    if (!views_[running_].now.clock.Covers(memory_.created(l))) {
      Fail("data race: accesses " + trace_.Name(cell) +
           ", whose initialisation does not happen before");
    }
    memory_.NoteAccess(l, Now());
    return l;
  }

  OpResult AccessCell(const Op& op) {
    const LocationId l = Locate(*op.cell);
    ThreadView& view = views_[running_];
    Progress& progress = progress_[running_];
    const auto& alternatives = access_.Collect(op, l, view, progress);
    const std::size_t index =
        running_ == kMain ? 0
                          : scheduler_.ChooseAlternative(alternatives.size());
    const Alternative chosen = alternatives[index];
    const std::size_t age = memory_.stores(l) - 1 - chosen.index;
    const Value before = memory_.newest(l).value;
    const OpResult result = access_.Apply(op, l, chosen, view);
    const Value after = memory_.newest(l).value;
    op.cell->value = after;

    const bool writes =
        chosen.effect == Effect::kWrite || chosen.effect == Effect::kUpdate;
    if (op.kind == OpKind::kStore) {
      progress.NoteWrite(l, op.operand);
    } else if (writes && ValueAfter(op, result.old) != result.old) {
      progress.NoteWrite(l, ValueAfter(op, result.old));
    } else {
      progress.NoteRead(l, result.old);
    }
    if (writes && (age != 0 || before != after)) {
      scheduler_.Wake(running_, [&](ThreadId t) { progress_[t].Wake(); });
    }
    trace_.Add(steps_, running_, op, result, chosen.effect, age);
    Tick();
    return result;
  }

  void NotePlain(PlainState& state, bool write) {
    if (failed_) return;
    const Clock& now = views_[running_].now.clock;
    const std::string race = write ? races_.Write(state, running_, now)
                                   : races_.Read(state, running_, now);
    if (!race.empty()) Fail(race);
  }

  static inline thread_local Engine* current_ = nullptr;
  // Over all engines, so that a cell knows whose it is.
  static inline thread_local std::uint32_t executions_ = 0;

  const Options options_;
  Engine* const outer_;
  Choices choices_;
  Budget budget_;
  Scheduler scheduler_{options_, choices_, budget_};
  Memory memory_;
  Access access_{memory_, options_, budget_};
  Races races_;
  Trace trace_;
  std::array<ThreadView, kMaxThreads + 1> views_;
  std::array<Progress, kMaxThreads + 1> progress_;
  Fiber main_;
  std::array<std::unique_ptr<Fiber>, kMaxThreads + 1> fibers_;
  ThreadId running_ = kMain;
  bool starting_ = false;
  std::uint32_t execution_ = 0;
  std::uint32_t steps_ = 0;
  bool failed_ = false;
  std::string failure_;
};

}  // namespace sched
}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_SCHED_ENGINE_H_
