// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_REPLAY_IOVA_H_
#define DMAMAP_BENCHMARKS_REPLAY_IOVA_H_

// Replays an .iova trace through an allocator: each recorded allocation and
// free in the recorded order, on the thread of its recorded CPU (lanes.h).
//
// Runs of one kind of call on one CPU are timed together, the calls alone
// (op_timer.h). Everything that an allocator hands out is checked against what
// is live: a page that is handed out twice, or lies above its limit, is
// counted. What could not be allocated is skipped when its free comes.

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "benchmarks/iova_trace.h"
#include "benchmarks/lanes.h"
#include "benchmarks/live_ranges.h"
#include "benchmarks/op_timer.h"

namespace dmamap::bench {

// What the replay asks of an allocator; a peer joins by meeting this. Page
// numbers are those of 4 KiB pages.
template <class A>
concept ReplayIovaAllocator = std::default_initializable<A> &&
    requires(A& a, std::uint64_t number) {
  // Addresses up to `last_pfn`, inclusive; page 0 is never handed out.
  { a.Init(/*last_pfn=*/number) } -> std::same_as<bool>;
  // The first of `pages` pages that end at `limit_pfn` at the latest, or 0.
  {
    a.Allocate(/*pages=*/number, /*limit_pfn=*/number)
    } -> std::same_as<std::uint64_t>;
  // False: the allocator refused.
  { a.Free(/*pfn=*/number, /*pages=*/number) } -> std::same_as<bool>;
  // Ranges that lie free in caches now.
  { a.CachedRanges() } -> std::same_as<std::uint64_t>;
  { a.CheckInvariants() } -> std::same_as<bool>;
};

struct IovaReplay {
  enum Kind : std::size_t { kAllocate, kFree, kKinds };

  OpTimer timer;
  std::uint64_t failures = 0;         // allocations refused
  std::uint64_t refused_frees = 0;    // frees refused
  std::uint64_t double_handouts = 0;  // a live page handed out again
  std::uint64_t outside = 0;          // page 0, or above the limit
  std::uint64_t peak_live = 0;        // allocations
  std::uint64_t regions = 0;          // distinct 2 MiB regions handed out
  std::uint64_t cached = 0;           // ranges in caches at the end
  bool sound = true;                  // Init and CheckInvariants held
};

namespace internal {

template <ReplayIovaAllocator A>
class IovaReplayer {
 public:
  IovaReplayer(const IovaTrace& trace, std::size_t events)
      : events_(std::span(trace.events)
                    .first(std::min(events, trace.events.size()))),
        lanes_(trace.cpus.size()),
        held_(trace.slots) {
    for (std::uint32_t i = 0; i < trace.domains; ++i) {
      domains_.push_back(std::make_unique<Domain>());
      if (!domains_[i]->allocator.Init(trace.max_limit_pfn)) {
        replay_.sound = false;
      }
    }
  }

  IovaReplay Run() {
    if (!replay_.sound) return replay_;
    const std::vector<Turn> turns = TurnsOf(events_);
    RunOnLanes(
        lanes_, turns, [this](const Turn& turn) { RunTurn(turn); },
        [this] { Finish(); });
    return replay_;
  }

 private:
  // Calls timed together at most, and calls between two looks at the number
  // of context switches.
  static constexpr std::size_t kRun = 64;
  static constexpr std::size_t kChunk = 512;
  static constexpr unsigned kRegionShift = 21 - kTracePageShift;

  struct Domain {
    A allocator;
    LiveRanges<std::uint32_t> live;  // the slot of each
    absl::flat_hash_set<std::uint64_t> regions;
  };

  void RunTurn(const Turn& turn) {
    for (std::size_t at = turn.first; at < turn.end;) {
      const std::size_t chunk_end = std::min(at + kChunk, turn.end);
      replay_.timer.BeginChunk();
      while (at < chunk_end) at = RunSame(at, chunk_end);
      replay_.timer.EndChunk();
    }
  }

  // Does the run of like events from `at`; returns where it ends.
  std::size_t RunSame(std::size_t at, std::size_t limit) {
    const IovaEvent& first = events_[at];
    std::size_t end = at + 1;
    while (end < limit && end - at < kRun && events_[end].op == first.op &&
           events_[end].domain == first.domain) {
      ++end;
    }
    const std::span<const IovaEvent> run = events_.subspan(at, end - at);
    Domain& domain = *domains_[first.domain];
    if (first.op == IovaEvent::Op::kAllocate) {
      AllocateAll(run, domain);
    } else {
      FreeAll(run, domain);
    }
    return end;
  }

  void AllocateAll(std::span<const IovaEvent> run, Domain& domain) {
    std::array<std::uint64_t, kRun> got;
    replay_.timer.Start();
    for (std::size_t i = 0; i < run.size(); ++i) {
      got[i] = domain.allocator.Allocate(run[i].pages, run[i].limit_pfn);
    }
    replay_.timer.Stop(IovaReplay::kAllocate, run.size());
    for (std::size_t i = 0; i < run.size(); ++i) {
      held_[run[i].slot] = got[i];
      if (got[i] == 0) {
        ++replay_.failures;
      } else {
        Check(run[i], got[i], domain);
      }
    }
  }

  void Check(const IovaEvent& event, std::uint64_t pfn, Domain& domain) {
    const std::uint64_t last = pfn + event.pages - 1;
    if (last < pfn || last > event.limit_pfn) ++replay_.outside;
    if (domain.live.FindOverlap(pfn, last) != nullptr) {
      // It stays with its first owner alone in `live`.
      ++replay_.double_handouts;
    } else {
      domain.live.Add(pfn, last, event.slot);
    }
    for (std::uint64_t r = pfn >> kRegionShift; r <= last >> kRegionShift;
         ++r) {
      domain.regions.insert(r);
    }
    replay_.peak_live = std::max(replay_.peak_live, ++live_);
  }

  void FreeAll(std::span<const IovaEvent> run, Domain& domain) {
    struct Free {
      std::uint64_t pfn;
      std::uint64_t pages;
    };
    std::array<Free, kRun> frees;
    std::size_t count = 0;
    for (const IovaEvent& event : run) {
      const std::uint64_t pfn = held_[event.slot];
      if (pfn == 0) continue;  // its allocation failed
      frees[count++] = {pfn, event.pages};
      const auto* live = domain.live.FindFirst(pfn);
      if (live != nullptr && live->value == event.slot) {
        domain.live.Remove(pfn);
      }
    }
    bool refused[kRun];
    replay_.timer.Start();
    for (std::size_t i = 0; i < count; ++i) {
      refused[i] = !domain.allocator.Free(frees[i].pfn, frees[i].pages);
    }
    replay_.timer.Stop(IovaReplay::kFree, count);
    live_ -= count;
    replay_.refused_frees +=
        static_cast<std::uint64_t>(std::count(refused, refused + count, true));
  }

  void Finish() {
    for (const auto& domain : domains_) {
      replay_.regions += domain->regions.size();
      replay_.cached += domain->allocator.CachedRanges();
      if (!domain->allocator.CheckInvariants()) replay_.sound = false;
    }
  }

  std::span<const IovaEvent> events_;
  std::size_t lanes_;
  std::vector<std::uint64_t> held_;  // first page, by slot; 0: none
  std::vector<std::unique_ptr<Domain>> domains_;
  std::uint64_t live_ = 0;  // allocations
  IovaReplay replay_;
};

}  // namespace internal

// The first `events` events of the trace, or all.
template <ReplayIovaAllocator A>
IovaReplay ReplayIova(const IovaTrace& trace, std::size_t events) {
  return internal::IovaReplayer<A>(trace, events).Run();
}

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_REPLAY_IOVA_H_
