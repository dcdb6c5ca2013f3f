// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include <vector>

#include "benchmarks/peers/peer_sessions.h"
#include "benchmarks/peers/peers.h"

namespace dmamap::peers {

std::vector<RingImplementation> RingPeers() {
  return {
#ifdef DMAMAP_PEER_DPDK
      {"dpdk-null", "rx64_e1000", MakeDpdkNullRing},
      {"dpdk-null", "rx1500_e1000", MakeDpdkNullRing},
      {"dpdk-virtio-user", "rx64_split", MakeDpdkVirtioRing},
      {"dpdk-virtio-user", "rx1500_split", MakeDpdkVirtioRing},
      {"dpdk-virtio-user", "rx64_packed", MakeDpdkVirtioRing},
      {"dpdk-virtio-user", "rx1500_packed", MakeDpdkVirtioRing},
#endif
  };
}

}  // namespace dmamap::peers
