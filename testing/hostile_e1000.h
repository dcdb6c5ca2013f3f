// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_HOSTILE_E1000_H_
#define DMAMAP_TESTING_HOSTILE_E1000_H_

// HostileE1000: an Intel NIC that means harm. It has the registers of SimE1000
// (or of a legacy transmitter, whose DD lies where the receiver's does) and
// keeps to no rule: it completes descriptors out of turn and that it does
// not own, with random lengths, errors and ends; takes completions back;
// replays old ones; writes to buffers long after it completed them.
//
// It reaches memory through a DevicePort, as every device: what the mapper does
// not map it cannot touch. Each call of Act is one misdeed, chosen by the
// caller's random numbers, so that a fuzzer or RapidCheck drives it and a
// failure can be replayed. Not thread-safe; no unbounded loop.

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "dma/address.h"
#include "dma/result.h"
#include "dma/version.h"
#include "nicring/receiver.h"
#include "testing/device_port.h"
#include "testing/sim_e1000.h"

namespace dmamap::inline v0 {

template <DevicePort Port>
class HostileE1000 {
 public:
  HostileE1000(Port* port, E1000Layout layout) : port_(port), layout_(layout) {}
  HostileE1000(const HostileE1000&) = delete;
  HostileE1000& operator=(const HostileE1000&) = delete;

  // A DoorbellPort.
  Result<void> Start(const RingAddresses& ring) {
    ring_ = ring;
    if (ring_.room == 0) ring_.room = 256;  // a transmitter's ring has none
    head_ = tail_ = 0;
    running_ = true;
    return Ok();
  }
  void Doorbell(std::uint32_t tail) { tail_ = tail; }
  void Abort() { running_ = false; }

  // One misdeed. `random` is a function that returns 32 random bits.
  template <class Random>
  void Act(Random&& random) {
    if (!running_) return;
    switch (random() % 10) {
      case 0:
      case 1:
      case 2:
        return CompleteNext(random);
      case 3:  // any descriptor, any bytes
        return Scribble(random);
      case 4:  // one byte of one
        return WriteByte(random);
      case 5:  // done, with a length that is no length
        return Complete(random() % ring_.entries, random(), random);
      case 6:  // not done after all
        return Write(random() % ring_.entries, StatusAt(), 0);
      case 7:
        return Replay(random);
      case 8:
        return WriteLate(random);
      default:
        return Learn(random() % ring_.entries);
    }
  }

 private:
  std::uint64_t StatusAt() const {
    return layout_ != E1000Layout::kLegacy ? 8 : 12;
  }
  std::uint64_t LengthAt() const {
    return layout_ != E1000Layout::kLegacy ? 12 : 8;
  }
  Iova At(std::uint32_t index) const {
    return ring_.descriptors + std::uint64_t{index} * 16;
  }
  void Write(std::uint32_t index, std::uint64_t offset, std::uint32_t word) {
    std::array<std::uint8_t, 4> b{};
    for (std::size_t i = 0; i < 4; ++i) {
      b[i] = static_cast<std::uint8_t>(word >> (8 * i) & 0xff);
    }
    (void)port_->Write(At(index) + offset, b.data(), b.size());
  }

  // In turn, and nearly as it should be: so that the driver gets on.
  template <class Random>
  void CompleteNext(Random& random) {
    if (head_ == tail_) return;
    Learn(head_);
    const std::uint32_t length =
        random() % 4 == 0 ? ring_.room : random() % (ring_.room + 1);
    Complete(head_, length, random);
    head_ = (head_ + 1) % ring_.entries;
  }
  template <class Random>
  void Complete(std::uint32_t index, std::uint32_t length, Random& random) {
    const std::uint32_t end = random() % 4 == 0 ? 0 : 2;
    const std::uint32_t errors = random() % 4 == 0 ? random() & ~3u : 0;
    Write(index, LengthAt(), length);
    Write(index, StatusAt(), 1 | end | errors);
  }
  template <class Random>
  void Scribble(Random& random) {
    const std::uint32_t index = random() % ring_.entries;
    for (std::uint64_t i = 0; i < 4; ++i) Write(index, i * 4, random());
  }
  template <class Random>
  void WriteByte(Random& random) {
    const auto byte = static_cast<std::uint8_t>(random() & 0xff);
    (void)port_->Write(At(random() % ring_.entries) + random() % 16, &byte, 1);
  }
  // Keeps a descriptor, and where its buffer was.
  void Learn(std::uint32_t index) {
    Image image{index, {}};
    if (!port_->Read(At(index), image.bytes.data(), 16).ok()) return;
    if (images_.size() >= kMost) images_.erase(images_.begin());
    images_.push_back(image);
  }
  template <class Random>
  void Replay(Random& random) {
    if (images_.empty()) return;
    Image image = images_[random() % images_.size()];
    image.bytes[static_cast<std::size_t>(StatusAt())] |= 1;
    (void)port_->Write(At(image.index), image.bytes.data(), 16);
  }
  template <class Random>
  void WriteLate(Random& random) {
    if (images_.empty()) return;
    const Image& image = images_[random() % images_.size()];
    std::uint64_t address = 0;
    for (std::size_t i = 8; i-- != 0;) address = address << 8 | image.bytes[i];
    const std::uint32_t junk = random();
    (void)port_->Write(Iova(address) + random() % ring_.room, &junk,
                       sizeof junk);
  }

  static constexpr std::size_t kMost = 32;
  struct Image {
    std::uint32_t index = 0;
    std::array<std::uint8_t, 16> bytes{};
  };

  Port* port_;
  E1000Layout layout_;
  RingAddresses ring_;
  std::uint32_t head_ = 0;
  std::uint32_t tail_ = 0;
  bool running_ = false;
  std::vector<Image> images_;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_HOSTILE_E1000_H_
