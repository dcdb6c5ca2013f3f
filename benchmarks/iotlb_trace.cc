// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/iotlb_trace.h"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"

namespace dmamap::bench {
namespace {

enum Column { kTime, kOp, kId, kIova, kValue };

using Op = IotlbEvent::Op;
using Expect = IotlbEvent::Expect;

// Bits of a second-level page table entry (VT-d specification, 9.8): 0 the
// device may read, 1 it may write, 12 to 51 the page.
constexpr std::uint64_t kAccessBits = 3;
constexpr std::uint64_t kPageBits = 0x000ffffffffff000;

struct Row {
  std::uint64_t time;  // us
  char op;
  std::uint64_t id;     // of the source or of the domain
  std::uint64_t iova;   // bytes
  std::uint64_t value;  // table entry, or log2 of the pages to invalidate
};

using Key = std::pair<std::uint16_t, std::uint64_t>;  // source, page number

class Reader {
 public:
  explicit Reader(RowReader& rows) : rows_(rows) {}

  absl::StatusOr<IotlbTrace> Read() {
    while (rows_.Next()) {
      const Row row = Parse();
      if (rows_.ok() && row.time < time_) rows_.Fail("time runs backwards");
      if (!rows_.ok()) break;
      time_ = row.time;
      Take(row);
    }
    if (rows_.ok() && trace_.events.empty()) {
      rows_.Fail("no events behind the header");
    }
    if (!rows_.ok()) return rows_.status();
    trace_.sources = static_cast<std::uint32_t>(sources_.size());
    return std::move(trace_);
  }

 private:
  Row Parse() {
    Row row = {};
    row.time = rows_.Decimal(kTime);
    row.op = rows_.Letter(kOp, "hupdgR");
    const bool everything = row.op == 'g' || row.op == 'R';
    const bool access = row.op == 'h' || row.op == 'u';
    if (everything) {
      rows_.ExpectEmpty(kId);
    } else {
      row.id = rows_.Hex(kId, 0xffff);
    }
    if (everything || row.op == 'd') {
      rows_.ExpectEmpty(kIova);
      rows_.ExpectEmpty(kValue);
      return row;
    }
    row.iova = rows_.Hex(kIova);
    row.value = rows_.Hex(kValue, access ? RowReader::kMax64 : 52);
    if (access && rows_.ok() && (row.value & kAccessBits) == 0) {
      rows_.Fail("impossible: a translation that allows no access");
    }
    return row;
  }

  void Take(const Row& row) {
    switch (row.op) {
      case 'h':
      case 'u':
        return TakeAccess(row);
      case 'p':
        return TakePageInvalidation(row);
      case 'R':
        return TakeOverflow();
      default:
        return InvalidateAll();
    }
  }

  void TakeAccess(const Row& row) {
    const bool hit = row.op == 'h';
    ++(hit ? trace_.recorded_hits : trace_.recorded_misses);
    const Key key = {static_cast<std::uint16_t>(sources_.NumberOf(row.id)),
                     row.iova >> kTracePageShift};
    const auto found = cached_.find(key);
    const bool present = found != cached_.end();
    EmitAccess(row, key.first, present ? found->second : row.value,
               present ? Expect::kHit : Expect::kMiss);
    last_fill_.reset();
    if (hit && present && found->second == row.value) return;
    if (hit) {
      CountGap(trace_.gaps,
               present ? "hits with another translation than recorded before"
                       : "hits on a page that nothing recorded had filled");
    } else if (present) {
      CountGap(trace_.gaps, "fills of a page that was still present");
    }
    if (present) EmitInvalidate(key.second, 1);
    cached_[key] = row.value;
    trace_.peak_entries =
        std::max<std::uint64_t>(trace_.peak_entries, cached_.size());
    EmitFill(key, row.value);
    if (!hit) last_fill_ = key;
  }

  void TakePageInvalidation(const Row& row) {
    last_fill_.reset();
    const std::uint64_t pages = std::uint64_t{1} << row.value;
    const std::uint64_t first = (row.iova >> kTracePageShift) & ~(pages - 1);
    EmitInvalidate(first, pages);
    absl::erase_if(cached_, [&](const auto& entry) {
      return entry.first.second - first < pages;
    });
  }

  // See the header: the fill right before an R outlives it.
  void TakeOverflow() {
    if (!last_fill_) {
      return rows_.Fail("impossible: an overflow without a fill before it");
    }
    const Key key = *last_fill_;
    const std::uint64_t value = cached_[key];
    InvalidateAll();
    cached_[key] = value;
    EmitFill(key, value);
  }

  void InvalidateAll() {
    last_fill_.reset();
    cached_.clear();
    IotlbEvent event = {};
    event.op = Op::kInvalidateAll;
    trace_.events.push_back(event);
  }

  void EmitAccess(const Row& row, std::uint16_t source, std::uint64_t value,
                  Expect expect) {
    IotlbEvent event = {};
    event.op = Op::kAccess;
    event.expect = expect;
    event.permission = static_cast<Permission>(value & kAccessBits);
    event.source = source;
    event.iova = Iova(row.iova);
    event.address =
        PhysAddr((value & kPageBits) | (row.iova & (kTracePage - 1)));
    trace_.events.push_back(event);
  }

  void EmitFill(const Key& key, std::uint64_t value) {
    IotlbEvent event = {};
    event.op = Op::kFill;
    event.permission = static_cast<Permission>(value & kAccessBits);
    event.source = key.first;
    event.iova = Iova(key.second << kTracePageShift);
    event.address = PhysAddr(value & kPageBits);
    trace_.events.push_back(event);
  }

  void EmitInvalidate(std::uint64_t first, std::uint64_t pages) {
    IotlbEvent event = {};
    event.op = Op::kInvalidate;
    event.iova = Iova(first << kTracePageShift);
    event.pages = pages;
    trace_.events.push_back(event);
  }

  RowReader& rows_;
  IotlbTrace trace_;
  std::uint64_t time_ = 0;
  Numbering sources_;
  absl::flat_hash_map<Key, std::uint64_t> cached_;
  std::optional<Key> last_fill_;  // set right behind a u row
};

}  // namespace

absl::StatusOr<IotlbTrace> ReadIotlbTrace(RowReader& rows) {
  return Reader(rows).Read();
}

}  // namespace dmamap::bench
