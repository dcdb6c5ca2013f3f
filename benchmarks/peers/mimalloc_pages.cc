// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/peers/mimalloc_pages.h"

#include "benchmarks/peers/iova_workloads.h"
#include "benchmarks/peers/peer_sessions.h"

namespace dmamap::peers {

MadeSession MakeMimalloc(absl::string_view workload,
                         const SessionOptions& options) {
  return MakeIovaSession<MimallocPages<4096>>(workload, options);
}

MadeSession MakeMimalloc64(absl::string_view workload,
                           const SessionOptions& options) {
  return MakeIovaSession<MimallocPages<64>>(workload, options);
}

}  // namespace dmamap::peers
