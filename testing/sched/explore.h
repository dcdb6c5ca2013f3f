// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_SCHED_EXPLORE_H_
#define DMAMAP_TESTING_SCHED_EXPLORE_H_

// The deterministic scheduler: runs threads of the shipped source in every
// order, and lets each load return every store that the memory model allows.
//
//   const auto report = sched::Explore({.name = "mailbox"}, [] {
//     Mailbox<sched::Atomic> box;                      // fresh each time
//     sched::RunThreads({[&] { box.Put(7); },                 // thread 0
//                 [&] { int letter = 0;                // thread 1
//                       if (box.Take(letter)) {
//                         sched::Check(letter == 7, "half a letter");
//                       } }},
//                [&] { sched::Check(box.CheckInvariants(), "invariants"); });
//   });
//   EXPECT_TRUE(report.ok) << report;
//
// A failing report carries the schedule and a replay string. Give the string to
// Replay(), or run the test with DMAMAP_SCHED_REPLAY=<string>: then the Explore
// of that name makes this one execution and prints it, while a debugger looks.
//
// The body must do the same each time but for what the scheduler chooses: no
// clock, no random numbers, no state from one execution to the next. Threads
// share only Atomic, Plain, and what those protect. All of it runs on the one
// thread that calls Explore.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <iostream>
#include <string>
#include <vector>

#include "dma/version.h"
#include "testing/sched/atomic.h"
#include "testing/sched/crash.h"
#include "testing/sched/engine.h"
#include "testing/sched/options.h"
#include "testing/sched/pct.h"
#include "testing/sched/plain.h"

namespace dmamap::inline v0 {
namespace sched {

using Body = std::function<void()>;

// In a body: runs the threads (at most kMaxThreads) to their ends, then `check`
// as the caller, who then knows of all that they did. False when the execution
// has failed; the body should then return. A body may call it several times.
inline bool RunThreads(const std::vector<Body>& threads,
                       const Body& check = nullptr) {
  Engine* engine = Engine::Current();
  return engine != nullptr && engine->Run(threads, check);
}
inline bool RunThreads(std::initializer_list<Body> threads,
                       const Body& check = nullptr) {
  return RunThreads(std::vector<Body>(threads), check);
}

// Fails the execution unless `condition`; in a thread it then does not return.
inline void Check(bool condition, const char* text) {
  if (condition) return;
  if (Engine* engine = Engine::Current()) engine->Fail(text);
}

// The caller's index in the list given to Run; kNoThread outside of a thread.
inline constexpr std::size_t kNoThread = static_cast<std::size_t>(-1);
inline std::size_t ThreadIndex() {
  const Engine* engine = Engine::Current();
  if (engine == nullptr || engine->running() == kMain) return kNoThread;
  return engine->running() - 1;
}

namespace internal {

inline void OneExecution(Engine& engine, const Body& body, Pct* random,
                         bool trace, Report& report) {
  engine.Begin(random, trace);
  body();
  ++report.executions;
  report.redundant += engine.scheduler().redundant() ? 1 : 0;
  report.steps += engine.steps();
  report.longest = std::max(report.longest, engine.steps());
  if (engine.choices().diverged()) {
    engine.Fail("not deterministic: another run of the same choices differed");
  }
}

// Once more along the path of the last execution, which is written down.
inline void Describe(Engine& engine, const Body& body, Report& report) {
  const std::string path = engine.choices().ToText();
  const std::string failure = engine.failure();
  report.ok = report.ok && failure.empty();
  report.failure = failure;
  report.replay = report.name + "@" + path;
  engine.choices().FromText(path);
  Report again;
  OneExecution(engine, body, nullptr, true, again);
  report.schedule = engine.trace();
  if (engine.failure() != failure) {
    report.ok = false;
    report.failure +=
        "; not deterministic: run again, it " +
        (engine.failure().empty() ? "passed" : "said: " + engine.failure());
  }
}

inline void TakeCuts(const Budget& budget, Report& report) {
  report.cut_preemptions = budget.cut_preemptions;
  report.cut_stale = budget.cut_stale;
  report.cut_spurious = budget.cut_spurious;
  report.cut_history = budget.cut_history;
}

// The path of a replay string for `name`; null when it is for another.
inline const char* PathFor(const std::string& name, const char* replay) {
  if (replay == nullptr) return nullptr;
  const std::size_t n = name.size();
  if (name.compare(0, n, replay, 0, std::min(n, std::strlen(replay))) != 0) {
    return nullptr;
  }
  return replay[n] == '@' ? replay + n + 1 : nullptr;
}

}  // namespace internal

// Makes the one execution that `replay` (a Report's, for the same options and
// body) describes. The report's schedule is set also when it passes.
inline Report Replay(const Options& options, const std::string& replay,
                     const Body& body) {
  Report report;
  report.name = options.name;
  Engine engine(options);
  const char* path = internal::PathFor(options.name, replay.c_str());
  if (path == nullptr || !engine.choices().FromText(path)) {
    report.ok = false;
    report.failure = "not a replay string of this test: " + replay;
    return report;
  }
  CrashReport crash(options.name.c_str(), engine.choices());
  internal::OneExecution(engine, body, nullptr, false, report);
  internal::Describe(engine, body, report);
  return report;
}

// Explores the executions of `body` within the bounds of `options`; stops at
// the first that fails.
inline Report Explore(const Options& options, const Body& body) {
  const char* replay = std::getenv("DMAMAP_SCHED_REPLAY");
  if (internal::PathFor(options.name, replay) != nullptr) {
    const Report report = Replay(options, replay, body);
    std::cerr << report.schedule;
    return report;
  }
  Report report;
  report.name = options.name;
  Engine engine(options);
  CrashReport crash(options.name.c_str(), engine.choices());
  const bool random = options.search == Search::kRandom;
  Pct pct;
  while (report.executions < options.max_executions) {
    if (random) {
      engine.choices().Clear();
      pct.Begin(options.seed, report.executions, options.preemptions,
                report.longest);
    }
    internal::OneExecution(engine, body, random ? &pct : nullptr, false,
                           report);
    internal::TakeCuts(engine.budget(), report);
    if (engine.failed()) {
      internal::Describe(engine, body, report);
      return report;
    }
    if (!random && !engine.choices().Advance()) {
      report.complete = true;
      return report;
    }
  }
  return report;
}

}  // namespace sched
}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_SCHED_EXPLORE_H_
