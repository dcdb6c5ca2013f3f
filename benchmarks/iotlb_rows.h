// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_IOTLB_ROWS_H_
#define DMAMAP_BENCHMARKS_IOTLB_ROWS_H_

// The rows iotlb/<workload>/<implementation>: the workloads of
// peers/iotlb_workloads.h on dmamap with and without its front, on every peer
// that this build has and on the floors; memory; and what dmamap must reach.

#include "benchmarks/report.h"
#include "benchmarks/session_rows.h"

namespace dmamap::bench {

void AddIotlbWorkloadRows(Report& report, const SessionRowOptions& options);

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_IOTLB_ROWS_H_
