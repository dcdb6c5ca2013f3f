// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_SIM_VIRTIO_EVENTS_H_
#define DMAMAP_TESTING_SIM_VIRTIO_EVENTS_H_

// SimVirtioEvents: how the device side of one virtqueue, split or packed, knows
// whether the driver wants an interrupt, and asks for a notification (VIRTIO
// 1.2, 2.7.7 to 2.7.10, 2.8.10). For SimVirtio and SimVirtioTx, which lock.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "dma/address.h"
#include "dma/version.h"
#include "nicring/receiver.h"
#include "testing/device_port.h"

namespace dmamap::inline v0 {

enum class VirtioLayout : std::uint8_t { kSplit, kPacked };

template <DevicePort Port>
class SimVirtioEvents {
 public:
  SimVirtioEvents(Port* port, VirtioLayout layout, bool event_index)
      : port_(port),
        packed_(layout == VirtioLayout::kPacked),
        event_index_(event_index) {}

  void Start(const RingAddresses& ring) {
    ring_ = ring;
    signalled_ = 0;
  }

  // The device has used up to `used`, free-running: entries, or places of a
  // packed ring. Nothing when an access failed.
  std::optional<bool> WantsInterrupt(std::uint32_t used) {
    const std::optional<bool> wanted = packed_ ? Packed(used) : Split(used);
    if (wanted) signalled_ = used;
    return wanted;
  }

  // Asks to be told of what comes behind `available`. False when an access
  // failed.
  bool Ask(std::uint32_t available) {
    if (packed_) {
      const std::uint32_t wrap = WrapOf(available) ? 1u << 15 : 0;
      return Write16(ring_.device, available % ring_.entries | wrap) &&
             Write16(ring_.device + 2, event_index_ ? 2 : 0);
    }
    if (!event_index_) return Write16(ring_.device, 0);
    return Write16(ring_.device + 4 + std::uint64_t{8} * ring_.entries,
                   available);
  }

 private:
  std::optional<bool> Split(std::uint32_t used) {
    const std::uint32_t at = event_index_ ? 4 + 2 * ring_.entries : 0;
    const std::optional<std::uint16_t> word = Read16(ring_.driver + at);
    if (!word) return {};
    if (!event_index_) return (*word & 1) == 0;
    // Some index from signalled_ to used - 1 is the one asked for.
    return static_cast<std::uint16_t>(*word - signalled_) < used - signalled_;
  }
  std::optional<bool> Packed(std::uint32_t used) {
    const std::optional<std::uint16_t> flags = Read16(ring_.driver + 2);
    const std::optional<std::uint16_t> event = Read16(ring_.driver);
    if (!flags || !event) return {};
    if ((*flags & 3) != 2 || !event_index_) return (*flags & 3) != 1;
    const std::uint32_t moved = used - signalled_;
    for (std::uint32_t i = 0; i < moved && i < 2 * ring_.entries; ++i) {
      const std::uint32_t place = signalled_ + i;
      if (place % ring_.entries == (*event & 0x7fffu) &&
          WrapOf(place) == ((*event >> 15) != 0)) {
        return true;
      }
    }
    return false;
  }
  bool WrapOf(std::uint32_t place) const {
    return place / ring_.entries % 2 == 0;
  }
  std::optional<std::uint16_t> Read16(Iova at) {
    std::array<std::uint8_t, 2> b{};
    if (!port_->Read(at, b.data(), 2).ok()) return {};
    return static_cast<std::uint16_t>(b[0] | b[1] << 8);
  }
  bool Write16(Iova at, std::uint32_t word) {
    const std::array<std::uint8_t, 2> b = {
        static_cast<std::uint8_t>(word & 0xff),
        static_cast<std::uint8_t>(word >> 8 & 0xff)};
    return port_->Write(at, b.data(), 2).ok();
  }

  Port* port_;
  bool packed_;
  bool event_index_;
  RingAddresses ring_;
  std::uint32_t signalled_ = 0;  // `used` when it was last asked
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_SIM_VIRTIO_EVENTS_H_
