// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/peers/linux_vduse.h"

#include "benchmarks/peers/domain_workloads.h"
#include "benchmarks/peers/peer_sessions.h"

namespace dmamap::peers {

MadeSession MakeLinuxVduse(absl::string_view workload,
                           const SessionOptions& options) {
  return MakeDomainSession<LinuxVduse>(workload, options);
}

}  // namespace dmamap::peers
