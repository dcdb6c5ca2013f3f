// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/peers/boost_icl_iotlb.h"

#include "benchmarks/peers/iotlb_workloads.h"
#include "benchmarks/peers/peer_sessions.h"

namespace dmamap::peers {

MadeSession MakeBoostIcl(absl::string_view workload,
                         const SessionOptions& options) {
  return MakeIotlbSession<BoostIclIotlb>(workload, options);
}

}  // namespace dmamap::peers
