// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/iova_trace.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "benchmarks/live_ranges.h"

namespace dmamap::bench {
namespace {

enum Column { kTime, kCpu, kOp, kDomain, kPfn, kPages, kLimit };

constexpr std::uint64_t kMaxPages = std::uint64_t{1} << 20;  // 4 GiB
constexpr unsigned kRegionShift = 21 - kTracePageShift;      // 2 MiB in pages

struct Row {
  std::uint64_t time;  // us
  std::uint64_t cpu;
  char op;
  std::uint64_t domain;
  std::uint64_t pfn;
  std::uint64_t pages;
  std::uint64_t limit;
};

struct Live {
  std::uint32_t slot;
  std::uint64_t pages;
  std::size_t line;
};

class Reader {
 public:
  explicit Reader(RowReader& rows) : rows_(rows) {}

  absl::StatusOr<IovaTrace> Read() {
    while (rows_.Next()) {
      const Row row = Parse();
      if (rows_.ok()) Check(row);
      if (!rows_.ok()) break;
      Take(row);
    }
    if (rows_.ok() && trace_.events.empty()) {
      rows_.Fail("no events behind the header");
    }
    if (!rows_.ok()) return rows_.status();
    trace_.cpus = cpus_.names();
    trace_.domains = static_cast<std::uint32_t>(domains_.size());
    trace_.slots = slots_.size();
    trace_.recorded_regions = regions_.size();
    for (const auto& [domain, live] : live_) trace_.live_at_end += live.size();
    return std::move(trace_);
  }

 private:
  Row Parse() {
    Row row = {};
    row.time = rows_.Decimal(kTime);
    row.cpu = rows_.Decimal(kCpu, kTraceMaxCpu);
    row.op = rows_.Letter(kOp, "af");
    row.domain = rows_.Decimal(kDomain);
    row.pfn = rows_.Hex(kPfn, kTraceMaxPfn);
    row.pages = rows_.Decimal(kPages, kMaxPages);
    if (row.op == 'a') {
      row.limit = rows_.Hex(kLimit, kTraceMaxPfn);
    } else {
      rows_.ExpectEmpty(kLimit);
    }
    return row;
  }

  void Check(const Row& row) {
    if (row.time < time_) return rows_.Fail("time runs backwards");
    if (row.pages == 0) return rows_.Fail("impossible: 0 pages");
    if (domains_.NumberOf(row.domain) >= kTraceMaxDomains) {
      return rows_.Fail(
          absl::StrCat("more than ", kTraceMaxDomains, " domains"));
    }
    if (row.op == 'f') return CheckFree(row);
    if (row.pfn == 0) return;
    if (row.limit < row.pfn || row.limit - row.pfn < row.pages - 1) {
      return rows_.Fail(absl::StrFormat(
          "impossible: page %x and %d pages reach above the limit %x", row.pfn,
          row.pages, row.limit));
    }
    auto* other = LiveIn(row.domain).FindOverlap(row.pfn, Last(row));
    if (other == nullptr) return;
    rows_.Fail(absl::StrFormat(
        "impossible: page %x is handed out, but live since line %d",
        std::max(row.pfn, other->first), other->value.line));
  }

  void CheckFree(const Row& row) {
    const auto* live = LiveIn(row.domain).FindFirst(row.pfn);
    if (live == nullptr) {
      return rows_.Fail(absl::StrFormat(
          "impossible: free at page %x, where no live allocation begins",
          row.pfn));
    }
    if (live->value.pages == row.pages) return;
    rows_.Fail(absl::StrFormat(
        "impossible: free of %d pages at %x, allocated as %d on line %d",
        row.pages, row.pfn, live->value.pages, live->value.line));
  }

  void Take(const Row& row) {
    time_ = row.time;
    if (row.op == 'a' && row.pfn == 0) {
      return CountGap(trace_.gaps,
                      "allocations that failed when recorded, left out");
    }
    IovaEvent event = {};
    event.lane = static_cast<std::uint16_t>(cpus_.NumberOf(row.cpu));
    event.domain = domains_.NumberOf(row.domain);
    event.pages = row.pages;
    auto& live = live_[event.domain];
    if (row.op == 'a') {
      event.op = IovaEvent::Op::kAllocate;
      event.slot = slots_.Take();
      event.limit_pfn = row.limit;
      live.Add(row.pfn, Last(row), {event.slot, row.pages, rows_.line()});
      trace_.max_limit_pfn = std::max(trace_.max_limit_pfn, row.limit);
      for (std::uint64_t r = row.pfn >> kRegionShift;
           r <= Last(row) >> kRegionShift; ++r) {
        regions_.insert({event.domain, r});
      }
    } else {
      event.op = IovaEvent::Op::kFree;
      event.slot = live.FindFirst(row.pfn)->value.slot;
      slots_.Return(event.slot);
      live.Remove(row.pfn);
    }
    trace_.events.push_back(event);
  }

  static std::uint64_t Last(const Row& row) { return row.pfn + row.pages - 1; }
  LiveRanges<Live>& LiveIn(std::uint64_t domain) {
    return live_[domains_.NumberOf(domain)];
  }

  RowReader& rows_;
  IovaTrace trace_;
  std::uint64_t time_ = 0;
  Numbering cpus_;
  Numbering domains_;
  SlotPool slots_;
  absl::flat_hash_map<std::uint32_t, LiveRanges<Live>> live_;  // by domain
  absl::flat_hash_set<std::pair<std::uint32_t, std::uint64_t>> regions_;
};

}  // namespace

absl::StatusOr<IovaTrace> ReadIovaTrace(RowReader& rows) {
  return Reader(rows).Read();
}

}  // namespace dmamap::bench
