// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_HOSTILE_I8255X_TX_H_
#define DMAMAP_TESTING_HOSTILE_I8255X_TX_H_

// HostileI8255xTx: a command unit of an Intel 8255x that means harm. It has the
// registers of SimI8255xTx and keeps to no rule: it completes command blocks
// that were never posted, or before their turn, or takes the completion back;
// writes any byte of any block; says that it is suspended when it is not, and
// the other way round.
//
// It reaches memory through a DevicePort. Each call of Act is one misdeed,
// chosen by the caller's random numbers. Not thread-safe; no loop.

#include <cstdint>

#include "dma/address.h"
#include "dma/result.h"
#include "dma/version.h"
#include "nicring/receiver.h"
#include "testing/device_port.h"

namespace dmamap::inline v0 {

template <DevicePort Port>
class HostileI8255xTx {
 public:
  // `block_bytes` from one command block to the next.
  HostileI8255xTx(Port* port, std::uint32_t block_bytes)
      : port_(port), block_bytes_(block_bytes) {}
  HostileI8255xTx(const HostileI8255xTx&) = delete;
  HostileI8255xTx& operator=(const HostileI8255xTx&) = delete;

  // A CommandPort.
  Result<void> Start(const RingAddresses& ring) {
    ring_ = ring;
    next_ = 0;
    running_ = true;
    return Ok();
  }
  bool Suspended() { return suspended_; }
  void Resume() {}
  void Abort() { running_ = false; }

  // One misdeed. `random` is a function that returns 32 random bits.
  template <class Random>
  void Act(Random&& random) {
    if (!running_) return;
    switch (random() % 8) {
      case 0:
      case 1:
      case 2:
      case 3:  // in turn: so that the driver gets on
        Complete(next_, random);
        next_ = (next_ + 1) % ring_.entries;
        return;
      case 4:
        return Complete(random() % ring_.entries, random);
      case 5:  // not complete after all
        return WriteByte(random() % ring_.entries, 1, 0);
      case 6:
        suspended_ = !suspended_;
        return;
      default:
        return WriteByte(random() % ring_.entries, random() % block_bytes_,
                         random());
    }
  }

 private:
  template <class Random>
  void Complete(std::uint32_t block, Random& random) {
    // C; and OK, mostly. Both lie in the status's high byte.
    WriteByte(block, 1, random() % 4 == 0 ? 0x80 : 0xa0);
  }
  void WriteByte(std::uint32_t block, std::uint32_t at, std::uint32_t value) {
    const auto byte = static_cast<std::uint8_t>(value & 0xff);
    (void)port_->Write(
        ring_.descriptors + std::uint64_t{block} * block_bytes_ + at, &byte, 1);
  }

  Port* port_;
  std::uint32_t block_bytes_;
  RingAddresses ring_;
  std::uint32_t next_ = 0;
  bool running_ = false;
  bool suspended_ = true;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_HOSTILE_I8255X_TX_H_
