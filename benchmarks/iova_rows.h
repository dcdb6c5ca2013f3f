// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_IOVA_ROWS_H_
#define DMAMAP_BENCHMARKS_IOVA_ROWS_H_

// The rows iova/<workload>/<implementation>: the workloads of
// peers/iova_workloads.h on dmamap, on every peer that this build has and on
// the floor, memory, and what age does; and what dmamap must reach.

#include <cstdint>

#include "benchmarks/report.h"

namespace dmamap::bench {

struct IovaRowOptions {
  int repetitions = 1;  // of the whole program
  bool quick = false;   // one short repetition of everything
  // Allocations and frees of iova/ageing.
  std::uint64_t ageing_ops = 1'000'000'000;
};

void AddIovaWorkloadRows(Report& report, const IovaRowOptions& options);

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_IOVA_ROWS_H_
