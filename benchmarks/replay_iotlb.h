// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_REPLAY_IOTLB_H_
#define DMAMAP_BENCHMARKS_REPLAY_IOTLB_H_

// Replays an .iotlb trace through an IOTLB: device accesses as lookups, what
// missed as fills, invalidations as removals, in the recorded order on one
// thread. Each answer is compared with the one that the recording implies
// (iotlb_trace.h). Runs of lookups and of page invalidations are timed
// together, the calls alone.

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "benchmarks/iotlb_trace.h"
#include "benchmarks/op_timer.h"
#include "dma/address.h"
#include "dma/direction.h"

namespace dmamap::bench {

struct ReplayLookup {
  bool hit;
  PhysAddr address;  // when hit
};

// What the replay asks of an IOTLB; a peer joins by meeting this.
template <class T>
concept ReplayIotlbTable = std::default_initializable<T> &&
    requires(T& t, Iova iova, PhysAddr address, Permission permission,
             Range range) {
  { t.Init() } -> std::same_as<bool>;
  // Enters one 4 KiB page. False: refused.
  { t.Fill(iova, address, permission) } -> std::same_as<bool>;
  { t.Lookup(iova, permission) } -> std::same_as<ReplayLookup>;
  t.Invalidate(range);
  t.InvalidateAll();
  { t.size() } -> std::convertible_to<std::size_t>;
  { t.CheckInvariants() } -> std::same_as<bool>;
};

struct IotlbReplay {
  enum Kind : std::size_t {
    kLookup,
    kFill,
    kInvalidate,
    kInvalidateAll,
    kKinds
  };

  OpTimer timer;
  std::uint64_t hits = 0;
  std::uint64_t misses = 0;
  std::uint64_t hint_hits = 0;      // lookups that a hint answered, if there is
  std::uint64_t lost = 0;           // missed what the recording has as present
  std::uint64_t stale = 0;          // hit what was never filled or invalidated
  std::uint64_t wrong_address = 0;  // hit, but translated to another address
  std::uint64_t refused_fills = 0;
  std::uint64_t peak_entries = 0;
  bool sound = true;  // Init and CheckInvariants held
};

namespace internal {

template <ReplayIotlbTable T>
class IotlbReplayer {
 public:
  IotlbReplayer(const IotlbTrace& trace, std::size_t events)
      : events_(std::span(trace.events)
                    .first(std::min(events, trace.events.size()))) {
    // A source each: the same page means different memory to two devices.
    for (std::uint32_t i = 0; i < std::max(trace.sources, 1u); ++i) {
      tables_.push_back(std::make_unique<T>());
      if (!tables_[i]->Init()) replay_.sound = false;
    }
  }

  IotlbReplay Run() {
    if (!replay_.sound) return replay_;
    for (std::size_t at = 0; at < events_.size();) {
      const std::size_t chunk_end = std::min(at + kChunk, events_.size());
      replay_.timer.BeginChunk();
      while (at < chunk_end) at = RunSame(at, chunk_end);
      replay_.timer.EndChunk();
    }
    for (const auto& table : tables_) {
      if (!table->CheckInvariants()) replay_.sound = false;
      if constexpr (requires { table->hint_hits(); }) {
        replay_.hint_hits += table->hint_hits();
      }
    }
    return replay_;
  }

 private:
  using Op = IotlbEvent::Op;
  static constexpr std::size_t kRun = 64;     // calls timed together at most
  static constexpr std::size_t kChunk = 512;  // events

  // Does the run of like events from `at`; returns where it ends.
  std::size_t RunSame(std::size_t at, std::size_t limit) {
    const IotlbEvent& first = events_[at];
    std::size_t end = at + 1;
    while (end < limit && end - at < kRun && events_[end].op == first.op &&
           events_[end].source == first.source) {
      ++end;
    }
    const std::span<const IotlbEvent> run = events_.subspan(at, end - at);
    switch (first.op) {
      case Op::kAccess:
        LookupAll(run);
        break;
      case Op::kFill:
        FillAll(run);
        break;
      case Op::kInvalidate:
        InvalidateAll(run);
        break;
      case Op::kInvalidateAll:
        ClearAll(run);
        break;
    }
    return end;
  }

  void LookupAll(std::span<const IotlbEvent> run) {
    std::array<ReplayLookup, kRun> got;
    T& table = *tables_[run[0].source];
    replay_.timer.Start();
    for (std::size_t i = 0; i < run.size(); ++i) {
      got[i] = table.Lookup(run[i].iova, run[i].permission);
    }
    replay_.timer.Stop(IotlbReplay::kLookup, run.size());
    for (std::size_t i = 0; i < run.size(); ++i) Check(run[i], got[i]);
  }

  void Check(const IotlbEvent& event, const ReplayLookup& got) {
    ++(got.hit ? replay_.hits : replay_.misses);
    const bool present = event.expect == IotlbEvent::Expect::kHit;
    if (present && !got.hit) ++replay_.lost;
    if (!present && got.hit) ++replay_.stale;
    if (present && got.hit && got.address != event.address) {
      ++replay_.wrong_address;
    }
  }

  void FillAll(std::span<const IotlbEvent> run) {
    T& table = *tables_[run[0].source];
    std::uint64_t refused = 0;
    replay_.timer.Start();
    for (const IotlbEvent& event : run) {
      if (!table.Fill(event.iova, event.address, event.permission)) ++refused;
    }
    replay_.timer.Stop(IotlbReplay::kFill, run.size());
    replay_.refused_fills += refused;
    replay_.peak_entries =
        std::max<std::uint64_t>(replay_.peak_entries, table.size());
  }

  void InvalidateAll(std::span<const IotlbEvent> run) {
    replay_.timer.Start();
    for (const IotlbEvent& event : run) {
      // The reader keeps invalidations below 2^52 pages and aligned.
      const Range range =
          Range::FromSize(event.iova, event.pages << kTracePageShift)
              .value_or(Range::Whole());
      for (const auto& table : tables_) table->Invalidate(range);
    }
    replay_.timer.Stop(IotlbReplay::kInvalidate, run.size());
  }

  void ClearAll(std::span<const IotlbEvent> run) {
    replay_.timer.Start();
    for (std::size_t i = 0; i < run.size(); ++i) {
      for (const auto& table : tables_) table->InvalidateAll();
    }
    replay_.timer.Stop(IotlbReplay::kInvalidateAll, run.size());
  }

  std::span<const IotlbEvent> events_;
  std::vector<std::unique_ptr<T>> tables_;  // by source
  IotlbReplay replay_;
};

}  // namespace internal

// The first `events` events of the trace, or all.
template <ReplayIotlbTable T>
IotlbReplay ReplayIotlb(const IotlbTrace& trace, std::size_t events) {
  return internal::IotlbReplayer<T>(trace, events).Run();
}

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_REPLAY_IOTLB_H_
