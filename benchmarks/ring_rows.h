// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_RING_ROWS_H_
#define DMAMAP_BENCHMARKS_RING_ROWS_H_

// The rows nicring/rx64_*, rx1500_* and tx64_*: dmamap's rings over the
// simulated devices, the naive loop on the same devices, DPDK's drivers where
// they are there; and what dmamap must reach.

#include "benchmarks/report.h"

namespace dmamap::bench {

struct RingRowOptions {
  bool quick = false;  // a few bursts only
};

void AddRingRows(Report& report, const RingRowOptions& options);

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_RING_ROWS_H_
