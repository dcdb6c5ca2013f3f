// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_PEERS_PEER_SESSIONS_H_
#define DMAMAP_BENCHMARKS_PEERS_PEER_SESSIONS_H_

// Inside peers/: the session makers of the peers that need a package, each
// compiled with its peer's flags. Which of them are linked, BUILD.bazel
// decides.

#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "benchmarks/peers/ring_side.h"
#include "benchmarks/peers/session.h"

namespace dmamap::peers {

using MadeSession = absl::StatusOr<std::unique_ptr<Session>>;

MadeSession MakeLinuxIova(absl::string_view, const SessionOptions&);
MadeSession MakeLinuxIotlb(absl::string_view, const SessionOptions&);
MadeSession MakeLinuxVduse(absl::string_view, const SessionOptions&);
MadeSession MakeDpdkMempool(absl::string_view, const SessionOptions&);
MadeSession MakeMimalloc(absl::string_view, const SessionOptions&);
MadeSession MakeMimalloc64(absl::string_view, const SessionOptions&);
MadeSession MakeBoostIcl(absl::string_view, const SessionOptions&);
absl::StatusOr<std::unique_ptr<RingSide>> MakeDpdkNullRing(absl::string_view);
absl::StatusOr<std::unique_ptr<RingSide>> MakeDpdkVirtioRing(absl::string_view);

}  // namespace dmamap::peers

#endif  // DMAMAP_BENCHMARKS_PEERS_PEER_SESSIONS_H_
