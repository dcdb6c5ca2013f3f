// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "tools/address_map/replay.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "benchmarks/live_ranges.h"
#include "dma/address.h"
#include "dma/cpu.h"
#include "iova/allocator.h"
#include "iova/buddy_store.h"

namespace dmamap::address_map {
namespace {

struct LaneOf {
  const std::size_t* lane;
  std::size_t operator()() const { return *lane; }
};
using Allocator = IovaAllocator<BuddyStore, CallerCpu<LaneOf>>;

Iova FirstByte(std::uint64_t page) { return Iova(page << kPageShift); }
Iova LastByte(std::uint64_t page) {
  return Iova(page << kPageShift | ((std::uint64_t{1} << kPageShift) - 1));
}

// Collects ranges as they come and go.
class Collector {
 public:
  explicit Collector(const Recording& recording)
      : steps_(recording.steps.size()),
        live_index_(recording.ranges, kNothing) {
    history_.us.reserve(steps_);
    for (const Step& step : recording.steps) history_.us.push_back(step.us);
  }

  // False, and nothing has changed, when a page of it is live.
  bool Begin(std::size_t at, const Step& step, std::uint64_t first) {
    const std::uint64_t last = first + step.pages - 1;
    if (live_.FindOverlap(first, last) != nullptr) return false;
    live_.Add(first, last, step.range);
    live_index_[step.range] = history_.ranges.size();
    history_.ranges.push_back({.first = first,
                               .pages = step.pages,
                               .begin = at,
                               .end = steps_,
                               .begin_us = step.us,
                               .end_us = history_.us.back(),
                               .holder = step.holder,
                               .freed = false});
    return true;
  }

  // The range that the step ends; null when it was never drawn.
  const HeldRange* End(std::size_t at, const Step& step) {
    const std::size_t index = live_index_[step.range];
    if (index == kNothing) return nullptr;
    HeldRange& range = history_.ranges[index];
    range.end = at;
    range.end_us = step.us;
    range.freed = true;
    live_.Remove(range.first);
    return &range;
  }

  History Take(std::vector<std::string> notes) {
    history_.notes = std::move(notes);
    return std::move(history_);
  }
  bool empty() const { return history_.ranges.empty(); }

 private:
  static constexpr std::size_t kNothing = static_cast<std::size_t>(-1);

  std::size_t steps_;
  std::vector<std::size_t> live_index_;  // in ranges, by number of the range
  bench::LiveRanges<std::uint32_t> live_;
  History history_;
};

absl::Status Broken(std::size_t step, absl::string_view what) {
  return absl::InternalError(
      absl::StrCat("the allocator ", what, " at step ", step));
}

}  // namespace

absl::StatusOr<History> ReplayThroughDmamap(const Recording& recording) {
  std::size_t lane = 0;
  Allocator allocator(std::max<std::size_t>(recording.cpus.size(), 1),
                      LaneOf{&lane});
  AllocatorOptions options;
  const auto window =
      Range::FromFirstLast(FirstByte(1), LastByte(recording.last_limit));
  if (!window.ok()) return absl::InternalError("bad limit");
  options.window = *window;
  if (!allocator.Init(options).ok()) {
    return absl::ResourceExhaustedError("the allocator did not start");
  }
  Collector collector(recording);
  std::size_t refused = 0;
  for (std::size_t i = 0; i < recording.steps.size(); ++i) {
    const Step& step = recording.steps[i];
    lane = step.lane;
    if (!step.allocates) {
      const HeldRange* const range = collector.End(i, step);
      if (range != nullptr &&
          !allocator.Free(FirstByte(range->first), range->pages).ok()) {
        return Broken(i, "refused a free");
      }
      continue;
    }
    const Result<Iova> first =
        allocator.Allocate(step.pages, {.limit = LastByte(step.limit)});
    if (!first.ok()) {
      ++refused;
      continue;
    }
    const std::uint64_t page = first->value() >> kPageShift;
    if (page == 0 || page > step.limit || step.limit - page < step.pages - 1) {
      return Broken(i, "left the limit");
    }
    if (!collector.Begin(i, step, page)) return Broken(i, "gave a live page");
  }
  if (!allocator.CheckInvariants()) {
    return Broken(recording.steps.size(), "broke an invariant");
  }
  std::vector<std::string> notes;
  if (refused != 0) {
    notes.push_back(absl::StrCat(refused, " allocations found no space"));
  }
  return collector.Take(std::move(notes));
}

absl::StatusOr<History> TakeAsRecorded(const Recording& recording) {
  Collector collector(recording);
  std::size_t without = 0;
  std::size_t overlapping = 0;
  for (std::size_t i = 0; i < recording.steps.size(); ++i) {
    const Step& step = recording.steps[i];
    if (!step.allocates) {
      collector.End(i, step);
    } else if (step.page == 0) {
      ++without;
    } else if (!collector.Begin(i, step, step.page)) {
      ++overlapping;
    }
  }
  if (collector.empty()) {
    return absl::NotFoundError(absl::StrCat(
        recording.name, ": no recorded address; try --allocator=dmamap"));
  }
  std::vector<std::string> notes;
  if (without != 0) {
    notes.push_back(absl::StrCat(
        without, " ranges have no address in the trace, not drawn"));
  }
  if (overlapping != 0) {
    notes.push_back(
        absl::StrCat(overlapping, " ranges overlap a live one, not drawn"));
  }
  return collector.Take(std::move(notes));
}

}  // namespace dmamap::address_map
