// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_MODE_ROWS_H_
#define DMAMAP_BENCHMARKS_MODE_ROWS_H_

// Copy against map, in a domain whose device takes so long for an invalidation:
// domain/pooled_1500B with what it must reach, and the curve,
// domain/copy_or_map_SIZE from 64 bytes to 256 KiB.

#include <cstdint>

#include "benchmarks/report.h"
#include "benchmarks/session_rows.h"

namespace dmamap::bench {

void AddModeRows(Report& report, const SessionRowOptions& options,
                 std::uint64_t invalidation_ns);

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_MODE_ROWS_H_
