// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_ENGINE_H_
#define DMAMAP_BENCHMARKS_ENGINE_H_

// Runs the rows of a report with Google Benchmark: repetitions, their order
// (all rows' repetitions shuffled together, so that a slow minute of the
// machine hits all of them), statistics and the JSON form.

#include <iosfwd>
#include <string>

#include "benchmarks/report.h"

namespace dmamap::bench {

struct EngineOptions {
  int repetitions = 1;
  bool quick = false;  // for the context of the JSON form
};

// Runs each row and records what it gives. One line of progress to `progress`
// for each run. Returns the JSON text: Google Benchmark's, the rows under their
// bare names, cpu_time and real_time both the CPU time of one operation, and
// with a list `verdicts`. Call it once in a program.
std::string RunAll(Report& report, const EngineOptions& options,
                   std::ostream& progress);

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_ENGINE_H_
