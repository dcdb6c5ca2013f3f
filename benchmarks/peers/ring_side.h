// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_PEERS_RING_SIDE_H_
#define DMAMAP_BENCHMARKS_PEERS_RING_SIDE_H_

// One driver with its device, set up and running, for the workloads of rings:
//
//   rx64_FORMAT, rx1500_FORMAT   frames of that many bytes are received
//   tx64_FORMAT                  frames of 64 bytes are sent
//
// The reporter times the driver's part alone, a burst at a time:
//
//   side->Device(n);             // receive: stores n frames; not timed
//   side->Driver(n);             // consumes, refills, tells the device; timed
//
// and the other way round for sending, where Driver posts n frames, tells the
// device, and takes back those of the burst before.

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace dmamap::peers {

class RingSide {
 public:
  virtual ~RingSide() = default;
  // What the device does for the next `n` frames; false when it cannot.
  virtual bool Device(std::size_t n) = 0;
  // The driver's part of a burst of `n` frames; how many frames were done.
  virtual std::size_t Driver(std::size_t n) = 0;
  // Frames that were lost, wrong or unaccounted, since the side was made.
  virtual std::uint64_t failures() { return 0; }
};

struct RingImplementation {
  const char* name;  // "dpdk-null"
  // Workloads with this prefix, and no others.
  const char* prefix;
  absl::StatusOr<std::unique_ptr<RingSide>> (*make)(absl::string_view workload);
};

}  // namespace dmamap::peers

#endif  // DMAMAP_BENCHMARKS_PEERS_RING_SIDE_H_
