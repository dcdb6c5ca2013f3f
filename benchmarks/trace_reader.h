// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_TRACE_READER_H_
#define DMAMAP_BENCHMARKS_TRACE_READER_H_

// Reads a trace of any kind; the kind is told by the header line.
//
// An error message begins with "path:line: " (or "path: " where the file
// cannot be opened).

#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "benchmarks/dma_trace.h"
#include "benchmarks/iotlb_trace.h"
#include "benchmarks/iova_trace.h"

namespace dmamap::bench {

struct Trace {
  std::string name;  // of the file, without folder and suffixes
  std::variant<IovaTrace, DmaTrace, IotlbTrace> content;
};

absl::StatusOr<Trace> ReadTrace(const std::string& path);

// The traces in a folder (files named *.csv and *.csv.zst), sorted by name.
absl::StatusOr<std::vector<std::string>> FindTraces(const std::string& folder);

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_TRACE_READER_H_
