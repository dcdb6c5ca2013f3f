// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_SCHED_OPTIONS_H_
#define DMAMAP_TESTING_SCHED_OPTIONS_H_

// What to explore, and what came of it.

#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "dma/version.h"
#include "testing/sched/op.h"
#include "testing/sched/site.h"

namespace dmamap::inline v0 {
namespace sched {

inline constexpr std::uint32_t kUnlimited = ~std::uint32_t{0};

enum class Search {
  kExhaustive,  // every execution within the bounds, depth first
  kRandom,      // max_executions of them by chance: probabilistic concurrency
                // testing (Burckhardt and others, ASPLOS 2010)
};

// Where a store may go in the modification order of its location.
enum class StoreOrder {
  kAny,        // wherever the standard allows
  kExecution,  // behind all stores executed before it: fewer executions, but
               // two stores that race are never seen in the other order
};

// Which equivalent executions to leave out.
enum class Reduction {
  // Of executions that differ only in the order of independent accesses, one
  // (sleep sets, Godefroid 1996). Takes effect when `preemptions` is unlimited.
  // REQUIRES: threads share nothing but Atomic, Plain and what those protect.
  // The order in which a shared heap reuses memory is such a thing: a test of
  // ABA takes its nodes from an array of its own.
  kSleepSets,
  kNone,
};

struct Options {
  // Shown in reports; the environment variable DMAMAP_SCHED_REPLAY names it.
  std::string name = "test";

  Search search = Search::kExhaustive;
  std::uint64_t seed = 1;  // for kRandom
  Reduction reduction = Reduction::kSleepSets;

  // Bounds of one execution. Where one cuts a choice off, Report says so.
  //
  // Switches away from a thread that could have gone on. (kRandom: points where
  // the running thread loses its priority; unlimited counts as 3.) Two find
  // most faults (Musuvathi and Qadeer, PLDI 2007).
  std::uint32_t preemptions = 2;
  // Accesses that do not act on the newest store: loads of an overwritten
  // store, stores that go before another in modification order.
  std::uint32_t stale = kUnlimited;
  // compare_exchange_weak that fails although the value is as expected.
  std::uint32_t spurious = 1;
  // Stores of one location that a load may choose from, the newest ones.
  std::uint32_t history = 8;
  StoreOrder store_order = StoreOrder::kAny;

  // A thread that has read the same value from the same location `rereads`
  // times more, and has neither written nor read anything new since, waits
  // until another thread writes. This is what ends a spin loop. A loop that
  // gives up after n tries does so early only with rereads >= n.
  std::uint32_t rereads = 1;
  // When all threads wait so, each may go on for this many steps (a loop that
  // gives up in the end does so); then it is a livelock.
  std::uint32_t spin_steps = 64;
  // Atomic accesses in one execution; one more fails the execution.
  std::uint32_t max_steps = 5000;

  // Executions in all. When it is reached, Report::complete is false.
  std::uint64_t max_executions = 1000000;

  std::size_t stack_bytes = std::size_t{256} << 10;  // of each thread

  // Negative control: runs the shipped source with a weaker order. It must
  // fail.
  Weaken weaken = {};

  // When set, gets one entry for each place in the source that accesses an
  // atomic (UnneededOrders uses it).
  std::vector<Op>* sites = nullptr;
};

struct Report {
  bool ok = true;         // no execution failed
  bool complete = false;  // everything within the bounds was explored
  // Bounds that cut off a choice: what lies behind them was not explored.
  bool cut_preemptions = false;
  bool cut_stale = false;
  bool cut_spurious = false;
  bool cut_history = false;

  std::uint64_t executions = 0;
  std::uint64_t redundant = 0;  // of these: equivalent to an earlier one
  std::uint64_t steps = 0;      // atomic accesses in all
  std::uint32_t longest = 0;    // steps of the longest execution

  // When !ok:
  std::string name;
  std::string failure;   // what is wrong
  std::string schedule;  // the failing execution, one line for each step
  std::string replay;    // give it to Replay() or DMAMAP_SCHED_REPLAY

  // Nothing was left out: a proof for this program and this memory model.
  bool exhaustive() const {
    return ok && complete && !cut_preemptions && !cut_stale && !cut_spurious &&
           !cut_history;
  }

  friend std::ostream& operator<<(std::ostream& out, const Report& r) {
    out << r.name << ": " << r.executions << " executions, " << r.redundant
        << " redundant, " << r.steps << " steps, longest " << r.longest
        << (r.complete ? ", complete" : ", not complete");
    if (r.cut_preemptions) out << ", preemptions cut";
    if (r.cut_stale) out << ", stale accesses cut";
    if (r.cut_spurious) out << ", spurious failures cut";
    if (r.cut_history) out << ", history cut";
    out << '\n';
    if (!r.ok) {
      out << "FAILED: " << r.failure << '\n'
          << r.schedule << "replay with DMAMAP_SCHED_REPLAY='" << r.replay
          << "'\n";
    }
    return out;
  }
};

}  // namespace sched
}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_SCHED_OPTIONS_H_
