// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/peers/linux_iotlb.h"

#include "benchmarks/peers/iotlb_workloads.h"
#include "benchmarks/peers/peer_sessions.h"

namespace dmamap::peers {

MadeSession MakeLinuxIotlb(absl::string_view workload,
                           const SessionOptions& options) {
  return MakeIotlbSession<LinuxIotlb>(workload, options);
}

}  // namespace dmamap::peers
