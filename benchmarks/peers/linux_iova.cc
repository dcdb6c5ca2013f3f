// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/peers/linux_iova.h"

#include "benchmarks/peers/iova_workloads.h"
#include "benchmarks/peers/peer_sessions.h"

namespace dmamap::peers {

MadeSession MakeLinuxIova(absl::string_view workload,
                          const SessionOptions& options) {
  return MakeIovaSession<LinuxIova>(workload, options);
}

}  // namespace dmamap::peers
