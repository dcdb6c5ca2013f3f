// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_HOSTILE_VIRTIO_H_
#define DMAMAP_TESTING_HOSTILE_VIRTIO_H_

// HostileVirtio: a virtio network device that means harm. It has the registers
// of SimVirtio and keeps to no rule: it uses buffers that it was not offered,
// or twice, or out of order; reports random lengths and numbers of buffers;
// moves its index as it likes, and back; replays used elements; overwrites
// what only the driver may write; writes to buffers long after it used them.
//
// It reaches memory through a DevicePort, as every device. Each call of Act is
// one misdeed, chosen by the caller's random numbers, so that a fuzzer or
// RapidCheck drives it and a failure can be replayed. Most misdeeds are small:
// a queue that is broken at once proves little. Not thread-safe; no unbounded
// loop.

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "dma/address.h"
#include "dma/result.h"
#include "dma/version.h"
#include "nicring/receiver.h"
#include "testing/device_port.h"
#include "testing/sim_virtio_events.h"

namespace dmamap::inline v0 {

template <DevicePort Port>
class HostileVirtio {
 public:
  HostileVirtio(Port* port, VirtioLayout layout)
      : port_(port), packed_(layout == VirtioLayout::kPacked) {}
  HostileVirtio(const HostileVirtio&) = delete;
  HostileVirtio& operator=(const HostileVirtio&) = delete;

  // A DoorbellPort.
  Result<void> Start(const RingAddresses& ring) {
    ring_ = ring;
    if (ring_.room == 0) ring_.room = 256;  // a transmit queue has none
    available_ = used_ = 0;
    running_ = true;
    return Ok();
  }
  void Doorbell(std::uint32_t) {}
  void Abort() { running_ = false; }

  // One misdeed. `random` is a function that returns 32 random bits.
  template <class Random>
  void Act(Random&& random) {
    if (!running_) return;
    const std::uint32_t deed = random() % 400;
    if (deed < 250) return UseNext(random);
    if (deed < 290) return WriteLate(random);
    if (deed < 330) return Suppress(random);
    if (deed < 370) return Rewrite(random);
    if (deed < 380) return UseAny(random);
    if (deed < 390) return MoveIndex(random);
    Scribble(random);
  }

 private:
  struct Chain {
    std::uint32_t id = 0;
    std::uint32_t places = 0;
    std::uint64_t buffer = 0;  // its first
  };

  std::uint32_t IndexOf(std::uint32_t place) const {
    return place % ring_.entries;
  }
  bool WrapOf(std::uint32_t place) const {
    return place / ring_.entries % 2 == 0;
  }
  std::uint64_t Read(Iova at, std::size_t n) {
    std::array<std::uint8_t, 8> b{};
    (void)port_->Read(at, b.data(), n);
    std::uint64_t value = 0;
    for (std::size_t i = n; i-- != 0;) value = value << 8 | b[i];
    return value;
  }
  void Write(Iova at, std::uint64_t value, std::size_t n) {
    std::array<std::uint8_t, 8> b{};
    for (std::size_t i = 0; i < n; ++i) {
      b[i] = static_cast<std::uint8_t>(value >> (8 * i) & 0xff);
    }
    (void)port_->Write(at, b.data(), n);
  }
  Iova Descriptor(std::uint32_t index) const {
    return ring_.descriptors + std::uint64_t{index} * 16;
  }

  // The next chain that it was offered.
  bool Take(Chain* chain) {
    const std::uint32_t most = ring_.entries;
    if (packed_) {
      const Iova first = Descriptor(IndexOf(available_));
      chain->buffer = Read(first, 8);
      for (bool more = true; more && chain->places < most; ++chain->places) {
        const std::uint32_t place = available_ + chain->places;
        const Iova at = Descriptor(IndexOf(place));
        const std::uint64_t flags = Read(at + 14, 2);
        if (((flags & 0x80) != 0) != WrapOf(place) ||
            ((flags & 0x8000) != 0) == WrapOf(place)) {
          return false;
        }
        chain->id = static_cast<std::uint32_t>(Read(at + 12, 2));
        more = (flags & 1) != 0;
      }
      available_ += chain->places;
      return true;
    }
    if (static_cast<std::uint16_t>(Read(ring_.driver + 2, 2)) ==
        static_cast<std::uint16_t>(available_)) {
      return false;
    }
    chain->id = static_cast<std::uint32_t>(
        Read(ring_.driver + 4 + std::uint64_t{2} * IndexOf(available_), 2));
    chain->buffer = Read(Descriptor(IndexOf(chain->id)), 8);
    chain->places = 1;
    ++available_;
    return true;
  }
  void WriteUsed(std::uint32_t id, std::uint32_t length, std::uint32_t places) {
    if (packed_) {
      const Iova at = Descriptor(IndexOf(used_));
      Write(at + 8, length, 4);
      Write(at + 12, id, 2);
      Write(at + 14, WrapOf(used_) ? 0x8082 : 2, 2);
    } else {
      Write(ring_.device + 4 + std::uint64_t{8} * IndexOf(used_),
            std::uint64_t{length} << 32 | id, 8);
      Write(ring_.device + 2, used_ + places, 2);
    }
    used_ += places;
  }

  // Nearly as it should be: so that the driver gets on.
  template <class Random>
  void UseNext(Random& random) {
    Chain chain;
    if (!Take(&chain)) return;
    const std::uint32_t buffers = random() % 8 == 0   ? random()
                                  : random() % 4 == 0 ? random() % 4
                                                      : 1;
    const Iova buffer(chain.buffer);
    Write(buffer, random(), 4);
    Write(buffer + 8, std::uint64_t{buffers} << 16, 4);
    std::uint32_t length = random() % (ring_.room + 1);
    if (random() % 16 == 0) length = random();
    if (random() % 4 == 0) length = ring_.room;
    chains_.push_back(chain);
    if (chains_.size() > kMost) chains_.erase(chains_.begin());
    WriteUsed(chain.id, length, chain.places);
  }
  template <class Random>
  void WriteLate(Random& random) {
    if (chains_.empty()) return;
    const Chain& chain = chains_[random() % chains_.size()];
    Write(Iova(chain.buffer) + random() % ring_.room, random(), 4);
  }
  // What it asks of doorbells.
  template <class Random>
  void Suppress(Random& random) {
    if (packed_) return Write(ring_.device, random(), 4);
    Write(ring_.device, random(), 2);
    Write(ring_.device + 4 + std::uint64_t{8} * ring_.entries, random(), 2);
  }
  // What only the driver writes.
  template <class Random>
  void Rewrite(Random& random) {
    const Iova at = Descriptor(random() % ring_.entries);
    Write(at + random() % (packed_ ? 14 : 16), random(), 1);
  }
  // A chain that it may not have, or had before.
  template <class Random>
  void UseAny(Random& random) {
    std::uint32_t id = random() % (2 * ring_.entries);
    if (random() % 4 == 0) id = random();
    if (random() % 2 == 0 && !chains_.empty()) {
      id = chains_[random() % chains_.size()].id;
    }
    WriteUsed(id, random() % 2000, 1);
  }
  template <class Random>
  void MoveIndex(Random& random) {
    const std::uint32_t by = random() % 4 == 0 ? random() : random() % 8 - 4;
    if (packed_) {
      Write(Descriptor(random() % ring_.entries) + 14, random(), 2);
    } else {
      Write(ring_.device + 2, used_ + by, 2);
    }
  }
  template <class Random>
  void Scribble(Random& random) {
    const std::uint32_t where = random() % 3;
    const Iova base = where == 0   ? ring_.descriptors
                      : where == 1 ? ring_.driver
                                   : ring_.device;
    Write(base + random() % (8 * ring_.entries), random(), 4);
  }

  static constexpr std::size_t kMost = 32;
  Port* port_;
  bool packed_;
  RingAddresses ring_;
  bool running_ = false;
  std::uint32_t available_ = 0;
  std::uint32_t used_ = 0;
  std::vector<Chain> chains_;  // that it had once
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_HOSTILE_VIRTIO_H_
