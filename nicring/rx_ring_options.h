// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_RX_RING_OPTIONS_H_
#define DMAMAP_NICRING_RX_RING_OPTIONS_H_

// What an RxRing is told, and what it tells of itself; rx_ring.h explains the
// states.

#include <cstddef>
#include <cstdint>

#include "dma/address.h"
#include "dma/version.h"
#include "nicring/length_policy.h"

namespace dmamap::inline v0 {

struct RxRingOptions {
  std::uint32_t entries = 256;
  std::uint32_t room = 1536;  // data bytes offered for each frame, even
  // Longest frame delivered, bytes; 0: room. Holds for what kClamp has cut to
  // the room, not for a length beyond the room that kTrust hands on.
  std::uint32_t max_frame = 0;
  LengthPolicy length_policy = LengthPolicy::kReject;
  Iova base = {};  // lists: descriptor links are offsets from here
  // Doorbells: new entries for each, about; at most half the ring.
  std::uint32_t doorbell_batch = 16;
  // Buffers that a frame may lie in; 0: as many as max_frame needs.
  std::uint32_t max_parts = 0;
  std::uint64_t features = 0;     // virtio: the feature bits negotiated
  std::uint32_t chain = 1;        // virtio: buffers in each chain offered
  std::uint32_t copybreak = 256;  // these three: RxRefillOptions (refill.h)
  std::uint32_t copies = 0;
  std::uint32_t pages = 0;
};

enum class ReceiverState : std::uint8_t {
  kIdle,
  kRunning,
  kStopped,
  kDrained,
  kBroken,
};

struct RxPollResult {
  std::size_t done = 0;    // frames consumed (delivered or dropped)
  bool cut = false;        // the budget ended the pass: poll again
  bool restarted = false;  // the receiver was started again
  bool broken = false;     // the state is kBroken
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_RX_RING_OPTIONS_H_
