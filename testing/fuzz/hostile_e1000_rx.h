// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_FUZZ_HOSTILE_E1000_RX_H_
#define DMAMAP_TESTING_FUZZ_HOSTILE_E1000_RX_H_

// The part that the two formats with head and tail registers share.

#include <cstddef>
#include <cstdint>

#include "dma/version.h"
#include "testing/fuzz/fuzz_target.h"
#include "testing/fuzz/hostile_rx.h"
#include "testing/hostile_e1000.h"

namespace dmamap::inline v0 {
namespace fuzz {

template <class Format>
void FuzzE1000(const std::uint8_t* data, std::size_t size, E1000Layout layout) {
  constexpr std::uint32_t kRoom = 1024;
  constexpr std::uint32_t kFrames[] = {900, kRoom, 2500, 4000};
  ByteSource in(data, size);
  testing_bench::DriverOptions options;
  RxRingOptions& ring = options.ring;
  ring.entries = 8 * (1 + in.Below(3));
  ring.room = kRoom;
  ring.max_frame = kFrames[in.Below(4)];
  ring.doorbell_batch = in.Below(ring.entries / 2 + 1);
  ring.length_policy = in.Coin() ? LengthPolicy::kClamp : LengthPolicy::kReject;
  options.buffers = ring.entries - 4 + in.Below(12);
  options.buffer_bytes = kRoom;
  FuzzRx<Format>(in, options, [layout](auto& driver) {
    return HostileE1000(&driver.world.port, layout);
  });
}

}  // namespace fuzz
}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_FUZZ_HOSTILE_E1000_RX_H_
