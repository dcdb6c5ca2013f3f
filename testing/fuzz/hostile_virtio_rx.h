// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_FUZZ_HOSTILE_VIRTIO_RX_H_
#define DMAMAP_TESTING_FUZZ_HOSTILE_VIRTIO_RX_H_

// The part that both kinds of virtqueue share.

#include <cstddef>
#include <cstdint>

#include "dma/version.h"
#include "nicring/virtio.h"
#include "testing/fuzz/fuzz_target.h"
#include "testing/fuzz/hostile_rx.h"
#include "testing/hostile_virtio.h"

namespace dmamap::inline v0 {
namespace fuzz {

template <class Format>
void FuzzVirtio(const std::uint8_t* data, std::size_t size) {
  constexpr bool kPacked = Format::kPacked;
  constexpr std::uint32_t kRooms[] = {20, 100, 256, 1500};
  ByteSource in(data, size);
  const bool mergeable = in.Coin();
  testing_bench::DriverOptions options;
  RxRingOptions& ring = options.ring;
  ring.entries = kPacked ? 4 + in.Below(14) : 4u << in.Below(3);
  ring.room = kRooms[in.Below(4)];
  ring.chain = mergeable ? 1 : 1 + in.Below(3);
  const std::uint32_t most =
      (mergeable ? ring.entries : ring.chain) * (ring.room + 12) - 12;
  ring.max_frame = most - in.Byte() % (most - ring.room + 1);
  ring.max_parts = ring.entries;
  ring.doorbell_batch = in.Below(9);
  ring.features = virtio::kVersion1 | (kPacked ? virtio::kRingPacked : 0) |
                  (mergeable ? virtio::kMergeableBuffers : 0) |
                  (in.Coin() ? virtio::kEventIndex : 0);
  ring.length_policy = in.Coin() ? LengthPolicy::kClamp : LengthPolicy::kReject;
  options.buffers = ring.entries - 1 + in.Below(8);
  options.buffer_bytes = ring.room + 12;
  FuzzRx<Format>(in, options, [](auto& driver) {
    return HostileVirtio(&driver.world.port, kPacked ? VirtioLayout::kPacked
                                                     : VirtioLayout::kSplit);
  });
}

}  // namespace fuzz
}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_FUZZ_HOSTILE_VIRTIO_RX_H_
