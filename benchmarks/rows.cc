// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/rows.h"

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"

namespace dmamap::bench {

void AddTraceRows(Report& report, std::shared_ptr<const Trace> trace,
                  std::size_t events) {
  if (std::holds_alternative<IovaTrace>(trace->content)) {
    AddIovaRows(report, std::move(trace), events);
  } else if (std::holds_alternative<DmaTrace>(trace->content)) {
    AddDmaRows(report, std::move(trace), events);
  } else {
    AddIotlbRows(report, std::move(trace), events);
  }
}

std::string TraceNote(const std::vector<Gap>& gaps, std::uint64_t live_at_end) {
  std::string note = gaps.empty() ? "no gaps in the recording" : "gaps: ";
  for (std::size_t i = 0; i < gaps.size(); ++i) {
    absl::StrAppend(&note, i == 0 ? "" : ", ", gaps[i].count, " ",
                    gaps[i].name);
  }
  if (live_at_end != 0) {
    absl::StrAppend(&note, "; ", live_at_end,
                    " live when the recording stopped");
  }
  return note;
}

}  // namespace dmamap::bench
