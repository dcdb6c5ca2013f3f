// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_TEST_TRACES_H_
#define DMAMAP_BENCHMARKS_TEST_TRACES_H_

// Hand-made and recorded traces for the tests of the replays.

#include <gtest/gtest.h>

#include <cstddef>
#include <limits>
#include <string>
#include <variant>
#include <vector>

#include "benchmarks/options.h"
#include "benchmarks/row_reader.h"
#include "benchmarks/test_files.h"
#include "benchmarks/trace_reader.h"

namespace dmamap::bench {

inline constexpr std::size_t kAllEvents =
    std::numeric_limits<std::size_t>::max();

// The trace of these rows; the header comes from the type.
template <class Content>
Content TestTrace(const std::string& rows) {
  const absl::StatusOr<Trace> trace = ReadTrace(
      WriteTestFile("t.csv", std::string(Content::kHeader) + "\n" + rows));
  EXPECT_TRUE(trace.ok()) << trace.status();
  return trace.ok() ? std::get<Content>(trace->content) : Content();
}

// All recorded traces of this kind.
template <class Content>
std::vector<Content> RecordedTraces() {
  std::vector<Content> traces;
  const absl::StatusOr<std::string> folder = FindTraceFolder("benchmarks");
  EXPECT_TRUE(folder.ok()) << folder.status();
  if (!folder.ok()) return traces;
  const auto files = FindTraces(*folder);
  EXPECT_TRUE(files.ok()) << files.status();
  if (!files.ok()) return traces;
  for (const std::string& file : *files) {
    if (RowReader(file).header() != Content::kHeader) continue;
    absl::StatusOr<Trace> trace = ReadTrace(file);
    EXPECT_TRUE(trace.ok()) << trace.status();
    if (!trace.ok()) continue;
    if (auto* content = std::get_if<Content>(&trace->content)) {
      traces.push_back(std::move(*content));
    }
  }
  EXPECT_FALSE(traces.empty());
  return traces;
}

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_TEST_TRACES_H_
