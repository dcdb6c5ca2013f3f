// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include <vector>

#include "benchmarks/peers/floor_tls_stack.h"
#include "benchmarks/peers/iova_workloads.h"
#include "benchmarks/peers/peer_sessions.h"
#include "benchmarks/peers/peers.h"

namespace dmamap::peers {

std::vector<Implementation> IovaPeers() {
  return {
#ifdef DMAMAP_PEER_LINUX
      {"linux-6.12", MakeLinuxIova},
#endif
#ifdef DMAMAP_PEER_DPDK
      {"dpdk-mempool", MakeDpdkMempool},
#endif
#ifdef DMAMAP_PEER_MIMALLOC
      {"mimalloc", MakeMimalloc},
      {"mimalloc-64", MakeMimalloc64},
#endif
      {"floor-tls-stack", MakeIovaSession<FloorTlsStack>},
  };
}

}  // namespace dmamap::peers
