// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_RX_STATISTICS_H_
#define DMAMAP_NICRING_RX_STATISTICS_H_

// What a receive ring counts, under the names that Linux drivers use where they
// have one.
//
// Conservation: a completion that the ring has consumed was delivered or
// dropped, and a dropped one for exactly one reason:
//   rx_completions = rx_packets + rx_dropped
//   rx_dropped     = rx_errors + rx_over_length_errors + rx_length_rejected
//                    + rx_mapper_dropped + rx_scatter_dropped
// A frame in several descriptors is one completion, counted with its last; the
// others are rx_fragments.

#include <cstdint>

#include "dma/version.h"

namespace dmamap::inline v0 {

struct RxStatistics {
  // Frames.
  std::uint64_t rx_completions = 0;  // complete frames consumed
  std::uint64_t rx_fragments = 0;    // descriptors before the last of a frame
  std::uint64_t rx_packets = 0;      // frames given to the sink
  std::uint64_t rx_bytes = 0;        // bytes of these
  std::uint64_t rx_dropped = 0;      // completions not given to the sink
  // Reasons for a drop.
  std::uint64_t rx_errors = 0;              // the device says: bad frame
  std::uint64_t rx_over_length_errors = 0;  // longer than max_frame
  std::uint64_t rx_length_rejected = 0;     // impossible length, by policy
  std::uint64_t rx_mapper_dropped = 0;      // a sync or an unmap failed
  std::uint64_t rx_scatter_dropped = 0;     // the sink takes no such frames
  // Lengths that the device cannot have stored, whatever the policy did.
  std::uint64_t rx_length_violations = 0;

  // What the NIC's own counters say (RxRing::NoteDeviceLosses); no completion.
  std::uint64_t rx_resource_errors = 0;  // lost: no descriptor was there
  std::uint64_t rx_missed_errors = 0;    // lost before that, in the device

  // Refill policies.
  std::uint64_t rx_copied = 0;    // frames that were copied, their buffer kept
  std::uint64_t rx_recycled = 0;  // buffers armed again without an unmap

  // Buffers and the list.
  std::uint64_t rx_skipped = 0;       // descriptors the device passed over
  std::uint64_t rx_alloc_failed = 0;  // refills cut short: pool empty
  std::uint64_t rx_map_failed = 0;    // refills cut short: no mapping
  std::uint64_t rx_sync_failed = 0;   // syncs that failed; tried again
  std::uint64_t rx_quarantined = 0;   // buffers that could not be unmapped
  std::uint64_t rx_put_failed = 0;    // buffers that the pool refused

  // The receiver.
  std::uint64_t polls = 0;
  std::uint64_t budget_cuts = 0;     // polls that ended with the budget
  std::uint64_t rnr = 0;             // times it was found out of resources
  std::uint64_t restarts = 0;        // times it was started again
  std::uint64_t restart_failed = 0;  // starts that the device did not take
  std::uint64_t doorbells = 0;       // times it was told of new entries
  std::uint64_t rx_broken = 0;       // times it said what cannot be

  // Of the `stored` frames that the device says it has completed, each was
  // delivered, dropped, or is still in the ring, which has at most `armed`.
  bool Conserves(std::uint64_t stored, std::uint64_t armed) const {
    return ConservationHolds() && stored >= rx_completions &&
           stored - rx_completions <= armed;
  }
  bool ConservationHolds() const {
    return rx_completions == rx_packets + rx_dropped &&
           rx_dropped == rx_errors + rx_over_length_errors +
                             rx_length_rejected + rx_mapper_dropped +
                             rx_scatter_dropped;
  }
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_RX_STATISTICS_H_
