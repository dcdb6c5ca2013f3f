// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/peers/dpdk_mempool.h"

#include "benchmarks/peers/iova_workloads.h"
#include "benchmarks/peers/peer_sessions.h"

namespace dmamap::peers {

MadeSession MakeDpdkMempool(absl::string_view workload,
                            const SessionOptions& options) {
  return MakeIovaSession<DpdkMempool>(workload, options);
}

}  // namespace dmamap::peers
