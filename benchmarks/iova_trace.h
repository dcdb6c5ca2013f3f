// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_IOVA_TRACE_H_
#define DMAMAP_BENCHMARKS_IOVA_TRACE_H_

// An .iova trace: the allocations and frees of I/O addresses that a driver
// caused, ready for a replay. Each allocation has a slot; a free names the slot
// of what it frees, so that a replay keeps its own addresses in an array.
//
// Refused, with file and line, as impossible:
//   * a free of an address that is not live, or of another number of pages;
//   * an allocation that returned pages which are live, or above its limit;
//   * time that runs backwards; a field that is no number or out of bounds.
// Counted as a gap of the recording, and left out of the replay:
//   * an allocation that failed when recorded (pfn 0).

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "benchmarks/row_reader.h"
#include "benchmarks/trace.h"

namespace dmamap::bench {

struct IovaEvent {
  enum class Op : std::uint8_t { kAllocate, kFree };

  Op op;
  std::uint16_t lane;    // index into IovaTrace::cpus
  std::uint32_t domain;  // counted from 0
  std::uint32_t slot;
  std::uint64_t pages;
  std::uint64_t limit_pfn;  // last usable page, inclusive; kAllocate only
};

struct IovaTrace {
  static constexpr const char* kHeader = "us,cpu,op,dom,pfn,pages,limit_pfn";

  std::vector<IovaEvent> events;
  std::vector<std::uint64_t> cpus;  // recorded CPU of each lane
  std::uint32_t domains = 0;
  std::uint32_t slots = 0;             // peak of live allocations, all domains
  std::uint64_t max_limit_pfn = 0;     // the largest limit in the trace
  std::uint64_t recorded_regions = 0;  // distinct 2 MiB regions handed out then
  std::uint64_t live_at_end = 0;       // the recorder stopped, not the driver
  std::vector<Gap> gaps;
};

// Reads the rows of `rows`, whose header is IovaTrace::kHeader.
absl::StatusOr<IovaTrace> ReadIovaTrace(RowReader& rows);

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_IOVA_TRACE_H_
