// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_LOAD_ROWS_H_
#define DMAMAP_BENCHMARKS_LOAD_ROWS_H_

// The rows nicring/load_<mode>_<share>: a table that is the curve of
// load_curve.h.

#include "benchmarks/load_curve.h"
#include "benchmarks/report.h"

namespace dmamap::bench {

// The percent by which `ours` is behind the better of two others, in CPU time
// for a delivered frame or in time between delivered frames, whichever is
// worse; 0 if it is behind in neither.
double PercentBehind(const LoadResult& ours, const LoadResult& one,
                     const LoadResult& other);

// A row for each mode and share; mode and share of `options` do not count.
void AddLoadRows(Report& report, const LoadOptions& options);

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_LOAD_ROWS_H_
