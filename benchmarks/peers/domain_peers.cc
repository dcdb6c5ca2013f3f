// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include <vector>

#include "benchmarks/peers/domain_workloads.h"
#include "benchmarks/peers/floor_memcpy.h"
#include "benchmarks/peers/peer_sessions.h"
#include "benchmarks/peers/peers.h"

namespace dmamap::peers {

std::vector<Implementation> DomainPeers() {
  return {
#ifdef DMAMAP_PEER_LINUX
      {"vduse-6.12", MakeLinuxVduse},
#endif
      {"floor-memcpy", MakeDomainSession<FloorMemcpy>},
  };
}

}  // namespace dmamap::peers
