// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_SIM_VIRTIO_TX_H_
#define DMAMAP_TESTING_SIM_VIRTIO_TX_H_

// SimVirtioTx: the device side of a virtio 1.x network transmit queue, split,
// as a driver meets it (VIRTIO 1.2, 2.7 and 5.1.6.2). Reaches memory through a
// DevicePort only. Sleeps until it is notified, and asks to be before it does;
// honours the driver's interrupt suppression. What it sent is kept, for a test
// to compare. It may hold several frames and use them last first, as a device
// without VIRTIO_F_IN_ORDER may.
//
// What a driver must not do is counted (driver_errors) and stops it: a
// descriptor that is writable, a chain that does not end or has no header, a
// header that asks for something, a frame offered twice, an index that ran too
// far. Thread-safe if LockType is a real lock. Every loop is bounded.

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "dma/address.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "nicring/receiver.h"
#include "testing/device_port.h"

namespace dmamap::inline v0 {

struct SimVirtioTxOptions {
  bool event_index = false;  // VIRTIO_F_EVENT_IDX
  std::size_t hold = 1;      // frames it takes before it uses them
};

struct SimVirtioTxCounters {
  std::uint64_t sent = 0;  // frames
  std::uint64_t doorbells = 0;
  std::uint64_t interrupts = 0;     // sent
  std::uint64_t suppressed = 0;     // not sent: the driver asked for none
  std::uint64_t driver_errors = 0;  // what a driver must not do
  std::uint64_t bus_errors = 0;     // failed accesses
};

template <DevicePort Port, Lock LockType = NullLock>
class SimVirtioTx {
 public:
  SimVirtioTx(Port* port, const SimVirtioTxOptions& options)
      : port_(port), options_(options) {}
  SimVirtioTx(const SimVirtioTx&) = delete;
  SimVirtioTx& operator=(const SimVirtioTx&) = delete;

  // --- Registers: a DoorbellPort.

  Result<void> Start(const RingAddresses& ring) {
    const Guard guard(lock_);
    if (running_) return Error::kBusy;
    ring_ = ring;
    available_ = used_ = signalled_ = 0;
    held_.clear();
    running_ = true;
    awake_ = false;
    phase_ = Phase::kTake;
    return Ok();
  }
  void Doorbell(std::uint32_t) {
    const Guard guard(lock_);
    ++counters_.doorbells;
    awake_ = true;
  }
  void Abort() {
    const Guard guard(lock_);
    running_ = false;
  }
  // An interrupt was sent since the last call.
  bool Acknowledge() {
    const Guard guard(lock_);
    return std::exchange(interrupt_, false);
  }

  // One step. False when there is nothing to do.
  bool Step() {
    const Guard guard(lock_);
    if (!running_ || !awake_) return false;
    switch (phase_) {
      case Phase::kTake:
        Take();
        break;
      case Phase::kUse:
        Use();
        break;
      case Phase::kPublish:
        if (Write16(ring_.device + 2, used_)) phase_ = Phase::kInterrupt;
        break;
      case Phase::kInterrupt:
        Interrupt();
        break;
      case Phase::kAsk:
        if (Ask()) phase_ = Phase::kLookAgain;
        break;
      case Phase::kLookAgain: {
        std::uint16_t index = 0;
        if (!Read16(ring_.driver + 2, &index)) break;
        awake_ = index != available_;
        phase_ = Phase::kTake;
        break;
      }
    }
    return true;
  }
  void RunAll() {
    while (Step()) {
    }
  }

  // Takes what was sent since the last call.
  std::vector<std::vector<std::byte>> TakeSent() {
    const Guard guard(lock_);
    return std::exchange(sent_, {});
  }
  SimVirtioTxCounters counters() {
    const Guard guard(lock_);
    return counters_;
  }
  bool CheckInvariants() {
    const Guard guard(lock_);
    return counters_.driver_errors == 0 && counters_.bus_errors == 0;
  }

 private:
  enum class Phase : std::uint8_t {
    kTake,
    kUse,
    kPublish,
    kInterrupt,
    kAsk,
    kLookAgain
  };
  static constexpr std::size_t kHeaderBytes = 12;

  void Take() {
    std::uint16_t index = 0;
    if (!Read16(ring_.driver + 2, &index)) return;
    const auto ahead = static_cast<std::uint16_t>(index - available_);
    if (ahead == 0) {
      phase_ = held_.empty() ? Phase::kAsk : Phase::kUse;
      return;
    }
    std::uint16_t head = 0;
    const std::uint32_t at = 4 + 2 * (available_ % ring_.entries);
    if (ahead > ring_.entries) return Wrong();
    if (!Read16(ring_.driver + at, &head)) return;
    for (const std::uint16_t other : held_) {
      if (other == head) return Wrong();
    }
    std::vector<std::byte> frame;
    if (!Gather(head, &frame)) return;
    bool blank = frame.size() > kHeaderBytes;
    for (std::size_t i = 0; blank && i < kHeaderBytes; ++i) {
      blank = frame[i] == std::byte{0};
    }
    if (!blank) return Wrong();
    frame.erase(frame.begin(), frame.begin() + kHeaderBytes);
    sent_.push_back(std::move(frame));
    ++counters_.sent;
    ++available_;
    held_.push_back(head);
    if (held_.size() >= options_.hold) phase_ = Phase::kUse;
  }
  bool Gather(std::uint32_t next, std::vector<std::byte>* frame) {
    bool more = true;
    for (std::uint32_t n = 0; more; ++n) {
      std::array<std::uint8_t, 16> d{};
      if (n == ring_.entries || next >= ring_.entries) {
        Wrong();
        return false;
      }
      const Iova at = ring_.descriptors + std::uint64_t{next} * 16;
      if (!Check(port_->Read(at, d.data(), 16))) return false;
      std::uint64_t address = 0;
      for (std::size_t i = 8; i-- != 0;) address = address << 8 | d[i];
      const std::size_t bytes = static_cast<std::size_t>(d[8]) |
                                static_cast<std::size_t>(d[9]) << 8 |
                                static_cast<std::size_t>(d[10]) << 16;
      if (bytes == 0 || d[11] != 0 || (d[12] & 6) != 0) {
        Wrong();  // no length, an absurd one, writable or indirect
        return false;
      }
      const std::size_t before = frame->size();
      frame->resize(before + bytes);
      if (!Check(port_->Read(Iova(address), frame->data() + before, bytes))) {
        return false;
      }
      more = (d[12] & 1) != 0;
      next = static_cast<std::uint32_t>(d[14] | d[15] << 8);
    }
    return true;
  }
  // The youngest first.
  void Use() {
    const std::uint16_t head = held_.back();
    const std::array<std::uint8_t, 8> element = {
        static_cast<std::uint8_t>(head & 0xff),
        static_cast<std::uint8_t>(head >> 8)};
    const Iova at =
        ring_.device + 4 + std::uint64_t{8} * (used_ % ring_.entries);
    if (!Check(port_->Write(at, element.data(), element.size()))) return;
    ++used_;
    held_.pop_back();
    if (held_.empty()) phase_ = Phase::kPublish;
  }
  void Interrupt() {
    std::uint16_t word = 0;
    const std::uint32_t at = options_.event_index ? 4 + 2 * ring_.entries : 0;
    if (!Read16(ring_.driver + at, &word)) return;
    const auto moved = static_cast<std::uint16_t>(used_ - signalled_);
    const bool wanted =
        options_.event_index
            ? static_cast<std::uint16_t>(word - signalled_) < moved
            : (word & 1) == 0;
    ++(wanted ? counters_.interrupts : counters_.suppressed);
    interrupt_ = interrupt_ || wanted;
    signalled_ = used_;
    phase_ = Phase::kTake;
  }
  bool Ask() {
    if (!options_.event_index) return Write16(ring_.device, 0);
    return Write16(ring_.device + 4 + std::uint64_t{8} * ring_.entries,
                   available_);
  }

  bool Read16(Iova at, std::uint16_t* word) {
    std::array<std::uint8_t, 2> b{};
    if (!Check(port_->Read(at, b.data(), 2))) return false;
    *word = static_cast<std::uint16_t>(b[0] | b[1] << 8);
    return true;
  }
  bool Write16(Iova at, std::uint16_t word) {
    const std::array<std::uint8_t, 2> b = {
        static_cast<std::uint8_t>(word & 0xff),
        static_cast<std::uint8_t>(word >> 8)};
    return Check(port_->Write(at, b.data(), 2));
  }
  bool Check(const Transfer& transfer) {
    if (transfer.ok()) return true;
    ++counters_.bus_errors;
    running_ = false;
    return false;
  }
  void Wrong() {
    ++counters_.driver_errors;
    running_ = false;
  }

  Port* port_;
  SimVirtioTxOptions options_;
  LockType lock_;
  RingAddresses ring_;
  SimVirtioTxCounters counters_;
  bool running_ = false;
  bool awake_ = false;
  bool interrupt_ = false;
  Phase phase_ = Phase::kTake;
  std::uint16_t available_ = 0;
  std::uint16_t used_ = 0;
  std::uint16_t signalled_ = 0;
  std::vector<std::uint16_t> held_;  // heads taken and not used
  std::vector<std::vector<std::byte>> sent_;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_SIM_VIRTIO_TX_H_
