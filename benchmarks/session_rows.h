// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_SESSION_ROWS_H_
#define DMAMAP_BENCHMARKS_SESSION_ROWS_H_

// Rows of the report whose runs are repetitions of a session (peers/session.h):
// one workload on one implementation. The session is made at the first run and
// ends after the last.

#include <string>

#include "benchmarks/peers/peers.h"
#include "benchmarks/peers/session.h"
#include "benchmarks/report.h"

namespace dmamap::bench {

struct SessionRow {
  std::string part;
  std::string workload;
  peers::Implementation implementation;
  std::string operation;  // what the time is for
  bool single = false;    // single operations are timed, not batches
  bool ours = false;      // it must not fail
  std::string note = "";
  int repetitions = 0;     // at most; 0: as many as the program
  std::string group = "";  // of the row (report.h)
  std::string floor = "";  // of the row
};

struct SessionRowOptions {
  int repetitions = 1;  // of the whole program
  bool quick = false;   // one short repetition of everything
};

void AddSessionRow(Report& report, const SessionRow& row,
                   const SessionRowOptions& options);

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_SESSION_ROWS_H_
