// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_BOUNCE_ROWS_H_
#define DMAMAP_BENCHMARKS_BOUNCE_ROWS_H_

// The rows bounce/<workload>/<implementation>, which bounce/README.md's choices
// rest on: what a page of each PageSource costs, and streaming stores beside
// memcpy. They have no bounds.

#include "benchmarks/report.h"

namespace dmamap::bench {

struct BounceRowOptions {
  bool quick = false;  // a 16th of the work
};

void AddBounceRows(Report& report, const BounceRowOptions& options);

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_BOUNCE_ROWS_H_
