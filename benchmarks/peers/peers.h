// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_PEERS_PEERS_H_
#define DMAMAP_BENCHMARKS_PEERS_PEERS_H_

// The implementations that dmamap is measured against: those that this build
// has. A peer's sessions are compiled beside the peer, so that its own flags
// stay with it and its inline functions are inlined into the loops.

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "benchmarks/peers/ring_side.h"
#include "benchmarks/peers/session.h"

namespace dmamap::peers {

struct Implementation {
  const char* name;  // "linux-6.12"
  // For a name of IovaWorkloads(), IotlbWorkloads() or DomainWorkloads().
  // kUnimplemented when this implementation cannot run that workload.
  absl::StatusOr<std::unique_ptr<Session>> (*make)(absl::string_view workload,
                                                   const SessionOptions&);
};

// linux-6.12, dpdk-mempool, mimalloc, mimalloc-64, floor-tls-stack.
std::vector<Implementation> IovaPeers();
// linux-6.12, absl-btree, std-map, boost-icl, dpdk-list, floor-radix,
// floor-flat.
std::vector<Implementation> IotlbPeers();
// vduse-6.12, floor-memcpy.
std::vector<Implementation> DomainPeers();
// dpdk-null, dpdk-virtio-user.
std::vector<RingImplementation> RingPeers();

}  // namespace dmamap::peers

#endif  // DMAMAP_BENCHMARKS_PEERS_PEERS_H_
