// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_ROWS_H_
#define DMAMAP_BENCHMARKS_ROWS_H_

// The rows of the report, and what each must give. One function for each
// workload; the .cc file of the same name as the workload's header has it.
//
// To add a row for another implementation of a replay, meet the concept of the
// replay and add one line to the function; to add a bound, call Report::Must.

#include <cstddef>
#include <cstdint>
#include <memory>

#include "benchmarks/report.h"
#include "benchmarks/trace_reader.h"

namespace dmamap::bench {

// A row or rows for a trace of any kind, over its first `events` events.
void AddTraceRows(Report& report, std::shared_ptr<const Trace> trace,
                  std::size_t events);

// Called by AddTraceRows: the trace's content is of the named kind.
void AddIovaRows(Report& report, std::shared_ptr<const Trace> trace,
                 std::size_t events);  // replay_iova.cc
void AddDmaRows(Report& report, std::shared_ptr<const Trace> trace,
                std::size_t events);  // replay_dma.cc
void AddIotlbRows(Report& report, std::shared_ptr<const Trace> trace,
                  std::size_t events);  // replay_iotlb.cc

// `frames` frames of an Internet mix through the e100 ring.
void AddE100Rows(Report& report, std::uint64_t frames);  // e100_imix.cc

// A note below the table: what is odd in a trace ("no gaps" otherwise), and how
// many things were live when the recording ended.
std::string TraceNote(const std::vector<Gap>& gaps, std::uint64_t live_at_end);

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_ROWS_H_
