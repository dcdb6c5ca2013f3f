// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "tools/address_map/recording.h"

#include <algorithm>
#include <bit>
#include <filesystem>
#include <map>
#include <utility>
#include <variant>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "benchmarks/row_reader.h"
#include "benchmarks/trace_reader.h"
#include "dma/direction.h"

namespace dmamap::address_map {
namespace {

using bench::DmaEvent;
using bench::DmaTrace;
using bench::IovaEvent;
using bench::IovaTrace;
using bench::kTracePageShift;
using bench::RowReader;

// The position of a column of a header line that a reader has accepted.
std::size_t ColumnOf(absl::string_view header, absl::string_view name) {
  const std::vector<absl::string_view> names = absl::StrSplit(header, ',');
  return static_cast<std::size_t>(std::find(names.begin(), names.end(), name) -
                                  names.begin());
}

// Numbers ranges in the order of their allocation, given the slots that the
// reader has them in.
class RangeNumbers {
 public:
  std::uint32_t Begin(std::uint64_t slot) { return slots_[slot] = next_++; }
  std::uint32_t End(std::uint64_t slot) { return slots_[slot]; }
  std::uint32_t size() const { return next_; }

 private:
  std::map<std::uint64_t, std::uint32_t> slots_;
  std::uint32_t next_ = 0;
};

absl::Status Changed(const std::string& path) {
  return absl::AbortedError(
      absl::StrCat(path, ": the file changed while it was read"));
}

void NoteGaps(const std::vector<bench::Gap>& gaps, Recording& recording) {
  for (const bench::Gap& gap : gaps) {
    recording.notes.push_back(absl::StrCat(gap.count, " ", gap.name));
  }
}

// --- .iova

const std::vector<std::string>& SizeClasses() {
  static const auto& names = *new std::vector<std::string>{
      "1 page",     "2 pages",     "3-4 pages",         "5-8 pages",
      "9-16 pages", "17-32 pages", "more than 32 pages"};
  return names;
}

std::uint8_t SizeClassOf(std::uint64_t pages) {
  return static_cast<std::uint8_t>(
      std::min<std::size_t>(static_cast<std::size_t>(std::bit_width(pages - 1)),
                            SizeClasses().size() - 1));
}

// Which of the trace's domains (counted from 0) to draw, and what there is.
class Domains {
 public:
  void Count(std::uint32_t index, std::uint64_t recorded) {
    if (index >= recorded_.size()) {
      recorded_.resize(index + 1);
      steps_.resize(index + 1);
    }
    recorded_[index] = recorded;
    ++steps_[index];
  }

  absl::StatusOr<std::uint32_t> Choose(
      const std::string& path, std::optional<std::uint64_t> wanted) const {
    const auto chosen =
        wanted
            ? std::find(recorded_.begin(), recorded_.end(), *wanted) -
                  recorded_.begin()
            : std::max_element(steps_.begin(), steps_.end()) - steps_.begin();
    const auto index = static_cast<std::uint32_t>(chosen);
    if (index < recorded_.size()) return index;
    return absl::NotFoundError(absl::StrCat(path, ": no domain ", *wanted,
                                            " in it; it has ",
                                            absl::StrJoin(recorded_, ", ")));
  }

  std::string NoteOn(std::uint32_t index) const {
    return absl::StrCat("domain ", recorded_[index], " of ",
                        absl::StrJoin(recorded_, ", "));
  }
  std::size_t size() const { return recorded_.size(); }

 private:
  std::vector<std::uint64_t> recorded_;  // number in the file
  std::vector<std::size_t> steps_;
};

// All steps of all domains; step.range is the reader's slot still.
absl::StatusOr<std::vector<Step>> StepsOf(const std::string& path,
                                          const IovaTrace& trace,
                                          Domains& domains) {
  RowReader rows(path);
  const std::size_t us = ColumnOf(IovaTrace::kHeader, "us");
  const std::size_t op = ColumnOf(IovaTrace::kHeader, "op");
  const std::size_t dom = ColumnOf(IovaTrace::kHeader, "dom");
  const std::size_t pfn = ColumnOf(IovaTrace::kHeader, "pfn");
  if (rows.ok() && rows.header() != IovaTrace::kHeader) return Changed(path);
  std::vector<Step> steps;
  steps.reserve(trace.events.size());
  while (rows.Next()) {
    const std::uint64_t page = rows.Hex(pfn);
    if (page == 0) continue;  // failed when recorded: no event
    if (steps.size() == trace.events.size()) return Changed(path);
    const IovaEvent& event = trace.events[steps.size()];
    const bool allocates = event.op == IovaEvent::Op::kAllocate;
    if ((rows.Letter(op, "af") == 'a') != allocates) return Changed(path);
    domains.Count(event.domain, rows.Decimal(dom));
    steps.push_back({.allocates = allocates,
                     .holder = SizeClassOf(event.pages),
                     .lane = event.lane,
                     .range = event.slot,
                     .us = rows.Decimal(us),
                     .pages = event.pages,
                     .limit = event.limit_pfn,
                     .page = page});
  }
  if (!rows.ok()) return rows.status();
  if (steps.size() != trace.events.size()) return Changed(path);
  return steps;
}

absl::StatusOr<Recording> FromIova(const std::string& path,
                                   const IovaTrace& trace,
                                   std::optional<std::uint64_t> domain) {
  Domains domains;
  const auto steps = StepsOf(path, trace, domains);
  if (!steps.ok()) return steps.status();
  const auto chosen = domains.Choose(path, domain);
  if (!chosen.ok()) return chosen.status();
  Recording recording;
  recording.holders = SizeClasses();
  recording.cpus = trace.cpus;
  recording.last_limit = trace.max_limit_pfn;
  RangeNumbers numbers;
  for (std::size_t i = 0; i < steps->size(); ++i) {
    Step step = (*steps)[i];
    if (trace.events[i].domain != *chosen) continue;
    step.range =
        step.allocates ? numbers.Begin(step.range) : numbers.End(step.range);
    recording.steps.push_back(step);
  }
  recording.ranges = numbers.size();
  if (domains.size() > 1) {
    recording.notes.push_back(domains.NoteOn(*chosen));
  }
  NoteGaps(trace.gaps, recording);
  return recording;
}

// --- .dma

const std::vector<std::string>& Kinds() {
  static const auto& names = *new std::vector<std::string>{
      "map, both ways",  "map, to device",  "map, from device",
      "list, both ways", "list, to device", "list, from device",
      "coherent"};
  return names;
}

std::uint8_t KindOf(const DmaEvent& event) {
  const auto direction = static_cast<std::uint8_t>(event.direction);
  switch (event.op) {
    case DmaEvent::Op::kMapList:
    case DmaEvent::Op::kUnmapList:
      return static_cast<std::uint8_t>(3 + direction);
    case DmaEvent::Op::kAllocate:
    case DmaEvent::Op::kFree:
      return 6;
    default:
      return direction;
  }
}
static_assert(static_cast<int>(Direction::kBidirectional) == 0 &&
              static_cast<int>(Direction::kToDevice) == 1 &&
              static_cast<int>(Direction::kFromDevice) == 2);

bool IsSync(const DmaEvent& event) {
  return event.op == DmaEvent::Op::kSyncForCpu ||
         event.op == DmaEvent::Op::kSyncForDevice;
}
bool Allocates(const DmaEvent& event) {
  return event.op == DmaEvent::Op::kMap || event.op == DmaEvent::Op::kMapList ||
         event.op == DmaEvent::Op::kAllocate;
}
// Mappings, lists and blocks have slots of their own.
std::uint64_t SlotOf(const DmaEvent& event) {
  const std::uint8_t kind = KindOf(event);
  const std::uint64_t space = kind == 6 ? 2 : kind >= 3 ? 1 : 0;
  return space << 32 | event.slot;
}
std::uint64_t PagesOf(const DmaEvent& event) {
  const std::uint64_t bytes = event.op == DmaEvent::Op::kMapList
                                  ? bench::ListBytes(event.size)
                                  : event.offset + event.size;
  return (bytes + bench::kTracePage - 1) >> kTracePageShift;
}

class DmaSteps {
 public:
  DmaSteps(const std::string& path, const DmaTrace& trace)
      : path_(path), trace_(trace), rows_(path) {}

  absl::StatusOr<Recording> Read() {
    if (rows_.ok() && rows_.header() != DmaTrace::kHeader) {
      return Changed(path_);
    }
    for (const DmaEvent& event : trace_.events) {
      // The unmap that a recording lacks comes right before the next row's map.
      if (!fresh_ && !rows_.Next()) {
        return rows_.ok() ? Changed(path_) : rows_.status();
      }
      fresh_ = event.implied;
      if (!IsSync(event)) Add(event);
      if (!rows_.ok()) return rows_.status();
    }
    if (rows_.Next()) return Changed(path_);
    if (!rows_.ok()) return rows_.status();
    Finish();
    return std::move(recording_);
  }

 private:
  void Add(const DmaEvent& event) {
    const std::uint64_t us = rows_.Decimal(kTime);
    const bool allocates = Allocates(event);
    Step step = {};
    step.allocates = allocates;
    step.holder = KindOf(event);
    step.lane = event.lane;
    step.us = us;
    if (allocates) {
      step.range = numbers_.Begin(SlotOf(event));
      step.pages = PagesOf(event);
      if (!rows_.IsEmpty(kAddress)) {
        step.page = rows_.Hex(kAddress) >> kTracePageShift;
      }
      recording_.last_limit =
          std::max(recording_.last_limit, step.page + step.pages - 1);
    } else {
      step.range = numbers_.End(SlotOf(event));
    }
    recording_.steps.push_back(step);
  }

  // A .dma trace does not say what the device can address: 32 bits, or as many
  // as its highest address needs.
  void Finish() {
    recording_.holders = Kinds();
    recording_.cpus = trace_.cpus;
    recording_.kind = Recording::Kind::kDma;
    recording_.ranges = numbers_.size();
    const std::uint64_t mask = (std::uint64_t{1} << 20) - 1;
    recording_.last_limit =
        std::max(mask, std::bit_ceil(recording_.last_limit + 1) - 1);
    for (Step& step : recording_.steps) step.limit = recording_.last_limit;
    NoteGaps(trace_.gaps, recording_);
  }

  const std::size_t kTime = ColumnOf(DmaTrace::kHeader, "us");
  const std::size_t kAddress = ColumnOf(DmaTrace::kHeader, "addr");

  const std::string& path_;
  const DmaTrace& trace_;
  RowReader rows_;
  bool fresh_ = false;  // the row at hand belongs to the next event
  Recording recording_;
  RangeNumbers numbers_;
};

}  // namespace

absl::StatusOr<Recording> ReadRecording(const std::string& path,
                                        std::optional<std::uint64_t> domain) {
  const absl::StatusOr<bench::Trace> trace = bench::ReadTrace(path);
  if (!trace.ok()) return trace.status();
  absl::StatusOr<Recording> recording;
  if (const auto* iova = std::get_if<IovaTrace>(&trace->content)) {
    recording = FromIova(path, *iova, domain);
  } else if (const auto* dma = std::get_if<DmaTrace>(&trace->content)) {
    if (domain) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": a .dma trace has no domains to choose from"));
    }
    recording = DmaSteps(path, *dma).Read();
  } else {
    return absl::InvalidArgumentError(absl::StrCat(
        path,
        ": an .iotlb trace has no allocations; give an .iova or .dma "
        "trace"));
  }
  if (recording.ok()) {
    recording->name = std::filesystem::path(path).filename().string();
  }
  return recording;
}

}  // namespace dmamap::address_map
