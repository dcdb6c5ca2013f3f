// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_IOMMU_ROWS_H_
#define DMAMAP_BENCHMARKS_IOMMU_ROWS_H_

// The rows iommu/<workload>/<implementation>: VT-d page tables in memory, no
// unit behind them, beside a plain radix of four levels; and what dmamap must
// reach.

#include "benchmarks/report.h"

namespace dmamap::bench {

struct IommuRowOptions {
  bool quick = false;  // a sixteenth of the pages
};

void AddIommuRows(Report& report, const IommuRowOptions& options);

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_IOMMU_ROWS_H_
