// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include <vector>

#include "benchmarks/peers/dpdk_list_iotlb.h"
#include "benchmarks/peers/floor_iotlb.h"
#include "benchmarks/peers/iotlb_workloads.h"
#include "benchmarks/peers/map_iotlb.h"
#include "benchmarks/peers/peer_sessions.h"
#include "benchmarks/peers/peers.h"

namespace dmamap::peers {

std::vector<Implementation> IotlbPeers() {
  return {
#ifdef DMAMAP_PEER_LINUX
      {"linux-6.12", MakeLinuxIotlb},
#endif
      {"absl-btree", MakeIotlbSession<AbslBtreeIotlb>},
      {"std-map", MakeIotlbSession<StdMapIotlb>},
#ifdef DMAMAP_PEER_BOOST
      {"boost-icl", MakeBoostIcl},
#endif
      {"dpdk-list", MakeIotlbSession<DpdkList>},
      {"floor-radix", MakeIotlbSession<FloorRadix>},
      {"floor-flat", MakeIotlbSession<FloorFlat>},
  };
}

}  // namespace dmamap::peers
