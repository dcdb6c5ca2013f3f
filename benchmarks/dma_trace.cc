// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/dma_trace.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "benchmarks/live_ranges.h"

namespace dmamap::bench {
namespace {

enum Column { kTime, kCpu, kOp, kAddress, kSize, kDirection, kOffset };

constexpr std::uint64_t kMaxEntries = kTraceMaxBytes >> kTracePageShift;

using Op = DmaEvent::Op;

struct Row {
  std::uint64_t time;  // us
  std::uint64_t cpu;
  char op;
  std::optional<std::uint64_t> address;
  std::uint64_t size;
  Direction direction;
  std::uint64_t offset;
};

struct Live {
  std::uint32_t slot;
  std::uint64_t address;
  std::uint64_t size;
  Direction direction;
  std::size_t line;
};

// A scatter list or a coherent block: found by what its rows carry.
struct Loose {
  std::uint32_t slot;
  std::optional<std::uint64_t> address;
  std::uint64_t size;
  Direction direction;

  bool IsFreedBy(const Row& row) const {
    const bool same_place =
        !address || !row.address || *address == *row.address;
    return same_place && size == row.size && direction == row.direction;
  }
};

std::uint64_t PageOf(std::uint64_t address) {
  return address >> kTracePageShift;
}
std::uint64_t LastByte(std::uint64_t address, std::uint64_t size) {
  return address + size - 1;
}
// Bytes of the whole pages under [address, address + size).
std::uint64_t PageBytes(std::uint64_t address, std::uint64_t size) {
  return (PageOf(LastByte(address, size)) - PageOf(address) + 1)
         << kTracePageShift;
}

class Reader {
 public:
  explicit Reader(RowReader& rows) : rows_(rows) {}

  absl::StatusOr<DmaTrace> Read() {
    while (rows_.Next()) {
      const Row row = Parse();
      if (rows_.ok() && row.time < time_) rows_.Fail("time runs backwards");
      if (rows_.ok()) Take(row);
      if (!rows_.ok()) break;
      time_ = row.time;
    }
    if (rows_.ok() && trace_.events.empty()) {
      rows_.Fail("no events behind the header");
    }
    if (!rows_.ok()) return rows_.status();
    trace_.cpus = cpus_.names();
    trace_.mapping_slots = mapping_slots_.size();
    trace_.list_slots = list_slots_.size();
    trace_.block_slots = block_slots_.size();
    trace_.live_at_end = live_.size() + lists_.size();
    return std::move(trace_);
  }

 private:
  Row Parse() {
    Row row = {};
    row.time = rows_.Decimal(kTime);
    row.cpu = rows_.Decimal(kCpu, kTraceMaxCpu);
    row.op = rows_.Letter(kOp, "MUCDGgAF");
    const bool coherent = row.op == 'A' || row.op == 'F';
    const bool list = row.op == 'G' || row.op == 'g';
    if (!(coherent || list) || !rows_.IsEmpty(kAddress)) {
      row.address = rows_.Hex(kAddress);
    }
    row.size = rows_.Decimal(kSize, list ? kMaxEntries : kTraceMaxBytes);
    if (rows_.ok() && row.size == 0) rows_.Fail("impossible: size 0");
    if (row.address && !list && row.size != 0 &&
        LastByte(*row.address, row.size) < *row.address) {
      rows_.Fail("impossible: the range passes the end of 64 bits");
    }
    if (coherent) {
      rows_.ExpectEmpty(kDirection);
    } else {
      row.direction = static_cast<Direction>(rows_.Decimal(kDirection, 2));
    }
    if (row.op != 'M') {
      rows_.ExpectEmpty(kOffset);
      return row;
    }
    row.offset = rows_.Hex(kOffset, kTracePage - 1);
    if (row.offset != (*row.address & (kTracePage - 1))) {
      rows_.Fail(
          absl::StrFormat("impossible: offset %x in the page of address %x",
                          row.offset, *row.address));
    }
    return row;
  }

  void Take(const Row& row) {
    switch (row.op) {
      case 'M':
        return TakeMap(row);
      case 'U':
        return TakeUnmap(row);
      case 'C':
        return TakeSync(row, Op::kSyncForCpu);
      case 'D':
        return TakeSync(row, Op::kSyncForDevice);
      case 'G':
        return TakeNew(row, Op::kMapList, list_slots_, lists_);
      case 'g':
        return TakeEnd(row, Op::kUnmapList, list_slots_, lists_, "map_sg");
      case 'A':
        return TakeNew(row, Op::kAllocate, block_slots_, blocks_);
      case 'F':
        return TakeEnd(row, Op::kFree, block_slots_, blocks_,
                       "coherent allocation");
    }
  }

  void TakeMap(const Row& row) {
    const std::uint64_t first = PageOf(*row.address);
    const std::uint64_t last = PageOf(LastByte(*row.address, row.size));
    while (const auto* old = live_.FindOverlap(first, last)) {
      CountGap(trace_.gaps, "unmaps missing (their page is mapped again)");
      End(row, old->value, /*implied=*/true);
    }
    const Live live = {mapping_slots_.Take(), *row.address, row.size,
                       row.direction, rows_.line()};
    live_.Add(first, last, live);
    Grow(PageBytes(live.address, live.size), stream_bytes_,
         trace_.peak_stream_bytes);
    Emit(row, Op::kMap, live.slot, row.direction, row.offset);
  }

  void TakeUnmap(const Row& row) {
    const auto* found = live_.FindFirst(PageOf(*row.address));
    if (found == nullptr || found->value.address != *row.address) {
      return rows_.Fail(absl::StrFormat(
          "impossible: unmap of %x, where no live mapping begins",
          *row.address));
    }
    const Live& live = found->value;
    if (live.size != row.size || live.direction != row.direction) {
      return rows_.Fail(absl::StrFormat(
          "impossible: unmap of %d bytes, direction %d, mapped as %d bytes, "
          "direction %d, on line %d",
          row.size, static_cast<int>(row.direction), live.size,
          static_cast<int>(live.direction), live.line));
    }
    End(row, live, /*implied=*/false);
  }

  // Ends a mapping. `live` lies in live_ and is gone afterwards.
  void End(const Row& row, Live live, bool implied) {
    live_.Remove(PageOf(live.address));
    mapping_slots_.Return(live.slot);
    stream_bytes_ -= PageBytes(live.address, live.size);
    Emit(row, Op::kUnmap, live.slot, live.direction, 0);
    trace_.events.back().size = live.size;
    trace_.events.back().implied = implied;
  }

  void TakeSync(const Row& row, Op op) {
    const std::uint64_t page = PageOf(*row.address);
    const auto* found = live_.FindOverlap(page, page);
    if (found == nullptr || found->value.address > *row.address) {
      return rows_.Fail(absl::StrFormat(
          "impossible: sync at %x, which is not mapped", *row.address));
    }
    const Live& live = found->value;
    const std::uint64_t offset = *row.address - live.address;
    if (offset >= live.size || row.size > live.size - offset) {
      return rows_.Fail(absl::StrFormat(
          "impossible: sync of %d bytes at offset %d leaves the %d bytes "
          "mapped on line %d",
          row.size, offset, live.size, live.line));
    }
    if (live.direction != Direction::kBidirectional &&
        live.direction != row.direction) {
      return rows_.Fail(absl::StrFormat(
          "impossible: sync for direction %d of a mapping made for direction "
          "%d on line %d",
          static_cast<int>(row.direction), static_cast<int>(live.direction),
          live.line));
    }
    Emit(row, op, live.slot, live.direction, offset);
  }

  void TakeNew(const Row& row, Op op, SlotPool& slots,
               std::vector<Loose>& live) {
    live.push_back({slots.Take(), row.address, row.size, row.direction});
    Grow(BytesOf(op, row.size), BytesIn(op), PeakOf(op));
    Emit(row, op, live.back().slot, row.direction, 0);
  }

  void TakeEnd(const Row& row, Op op, SlotPool& slots, std::vector<Loose>& live,
               const char* what) {
    const auto found =
        std::find_if(live.begin(), live.end(),
                     [&](const Loose& l) { return l.IsFreedBy(row); });
    if (found == live.end()) {
      return rows_.Fail(absl::StrFormat(
          "impossible: no live %s of size %d matches", what, row.size));
    }
    slots.Return(found->slot);
    BytesIn(op) -= BytesOf(op, row.size);
    Emit(row, op, found->slot, row.direction, 0);
    live.erase(found);
  }

  static bool IsList(Op op) {
    return op == Op::kMapList || op == Op::kUnmapList;
  }
  static std::uint64_t BytesOf(Op op, std::uint64_t size) {
    return IsList(op) ? ListBytes(size) : PageBytes(0, size);
  }
  std::uint64_t& BytesIn(Op op) {
    return IsList(op) ? stream_bytes_ : coherent_bytes_;
  }
  std::uint64_t& PeakOf(Op op) {
    return IsList(op) ? trace_.peak_stream_bytes : trace_.peak_coherent_bytes;
  }

  void Grow(std::uint64_t bytes, std::uint64_t& sum, std::uint64_t& peak) {
    sum += bytes;
    peak = std::max(peak, sum);
    if (sum > kTraceMaxBytes) rows_.Fail("more than 256 MiB is mapped at once");
  }

  void Emit(const Row& row, Op op, std::uint32_t slot, Direction direction,
            std::uint64_t offset) {
    DmaEvent event = {};
    event.op = op;
    event.direction = direction;
    event.lane = static_cast<std::uint16_t>(cpus_.NumberOf(row.cpu));
    event.slot = slot;
    event.size = row.size;
    event.offset = offset;
    trace_.events.push_back(event);
  }

  RowReader& rows_;
  DmaTrace trace_;
  std::uint64_t time_ = 0;
  Numbering cpus_;
  SlotPool mapping_slots_;
  SlotPool list_slots_;
  SlotPool block_slots_;
  LiveRanges<Live> live_;  // by page of the DMA address
  std::vector<Loose> lists_;
  std::vector<Loose> blocks_;
  std::uint64_t stream_bytes_ = 0;
  std::uint64_t coherent_bytes_ = 0;
};

}  // namespace

std::uint64_t ListBytes(std::uint64_t entries) {
  return std::bit_ceil(entries) << kTracePageShift;
}

std::uint64_t ListEntryBytes(std::uint64_t entries, std::uint64_t index) {
  const std::uint64_t doubled = std::bit_ceil(entries) - entries;
  return index < doubled ? 2 * kTracePage : kTracePage;
}

absl::StatusOr<DmaTrace> ReadDmaTrace(RowReader& rows) {
  return Reader(rows).Read();
}

}  // namespace dmamap::bench
