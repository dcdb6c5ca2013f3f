// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_DOMAIN_ROWS_H_
#define DMAMAP_BENCHMARKS_DOMAIN_ROWS_H_

// The rows domain/<workload>/<implementation>: the workloads of
// peers/domain_workloads.h on dmamap, on VDUSE where this build has it, and on
// bare memcpy; and what dmamap must reach.

#include "benchmarks/report.h"
#include "benchmarks/session_rows.h"

namespace dmamap::bench {

void AddDomainWorkloadRows(Report& report, const SessionRowOptions& options);

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_DOMAIN_ROWS_H_
