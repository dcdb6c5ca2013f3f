// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_SIM_E1000_TX_H_
#define DMAMAP_TESTING_SIM_E1000_TX_H_

// SimE1000Tx: the transmitter of an Intel 8254x with legacy descriptors, as a
// driver meets it (8254x Software Developer's Manual: transmit). Reaches
// memory through a DevicePort only, one access at a time:
//   the descriptor | its data | DD, if a report was asked for
// What it sent is kept, for a test to compare. A descriptor that a driver must
// not write is counted (driver_errors): DD set, no length, DEXT set, no FCS.
//
// Thread-safe if LockType is a real lock. Every loop is bounded.

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

struct SimE1000TxCounters {
  std::uint64_t sent = 0;         // frames
  std::uint64_t descriptors = 0;  // fetched
  std::uint64_t reports = 0;      // DD written
  std::uint64_t doorbells = 0;
  std::uint64_t driver_errors = 0;
  std::uint64_t bus_errors = 0;
};

template <DevicePort Port, Lock LockType = NullLock>
class SimE1000Tx {
 public:
  explicit SimE1000Tx(Port* port) : port_(port) {}
  SimE1000Tx(const SimE1000Tx&) = delete;
  SimE1000Tx& operator=(const SimE1000Tx&) = delete;

  // --- Registers: a DoorbellPort.

  Result<void> Start(const RingAddresses& ring) {
    const Guard guard(lock_);
    if (running_) return Error::kBusy;
    if (ring.entries == 0 || ring.entries % 8 != 0) {
      return Error::kInvalidArgument;
    }
    ring_ = ring;
    head_ = tail_ = 0;
    frame_.clear();
    phase_ = Phase::kFetch;
    running_ = true;
    return Ok();
  }
  void Doorbell(std::uint32_t tail) {
    const Guard guard(lock_);
    ++counters_.doorbells;
    if (tail >= ring_.entries) {
      ++counters_.driver_errors;
      return;
    }
    tail_ = tail;
  }
  void Abort() {
    const Guard guard(lock_);
    running_ = false;
  }

  // The status bits (EC, LC) that the next reports carry beside DD.
  void set_errors(std::uint8_t errors) {
    const Guard guard(lock_);
    errors_ = errors;
  }

  // One access to memory. False when there is nothing to do.
  bool Step() {
    const Guard guard(lock_);
    if (!running_ || (phase_ == Phase::kFetch && head_ == tail_)) return false;
    switch (phase_) {
      case Phase::kFetch:
        Fetch();
        break;
      case Phase::kData:
        ReadData();
        break;
      case Phase::kReport:
        Report();
        break;
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
  SimE1000TxCounters counters() {
    const Guard guard(lock_);
    return counters_;
  }
  bool CheckInvariants() {
    const Guard guard(lock_);
    return counters_.driver_errors == 0 && counters_.bus_errors == 0;
  }

 private:
  enum class Phase : std::uint8_t { kFetch, kData, kReport };
  static constexpr std::uint8_t kEop = 1, kIfcs = 2, kRs = 8, kDext = 32;

  Iova Descriptor() const {
    return ring_.descriptors + std::uint64_t{head_} * 16;
  }
  void Fetch() {
    if (!Check(port_->Read(Descriptor(), now_.data(), now_.size()))) return;
    ++counters_.descriptors;
    if (Length() == 0 || (now_[12] & 1) != 0 || (now_[11] & kDext) != 0 ||
        (now_[11] & kIfcs) == 0) {
      ++counters_.driver_errors;
    }
    phase_ = Phase::kData;
  }
  std::size_t Length() const {
    return static_cast<std::size_t>(now_[8] | now_[9] << 8);
  }
  void ReadData() {
    std::uint64_t at = 0;
    for (std::size_t i = 8; i-- != 0;) at = at << 8 | now_[i];
    const std::size_t before = frame_.size();
    frame_.resize(before + Length());
    if (!Check(port_->Read(Iova(at), frame_.data() + before, Length()))) return;
    if ((now_[11] & kEop) != 0) {
      ++counters_.sent;
      sent_.push_back(std::exchange(frame_, {}));
    }
    if ((now_[11] & kRs) != 0) {
      phase_ = Phase::kReport;
    } else {
      Next();
    }
  }
  void Report() {
    const auto status = static_cast<std::uint8_t>(1 | errors_);
    if (!Check(port_->Write(Descriptor() + 12, &status, 1))) return;
    ++counters_.reports;
    Next();
  }
  void Next() {
    head_ = head_ + 1 == ring_.entries ? 0 : head_ + 1;
    phase_ = Phase::kFetch;
  }
  bool Check(const Transfer& transfer) {
    if (transfer.ok()) return true;
    ++counters_.bus_errors;
    running_ = false;
    return false;
  }

  Port* port_;
  LockType lock_;
  RingAddresses ring_;
  SimE1000TxCounters counters_;
  std::uint32_t head_ = 0;  // TDH
  std::uint32_t tail_ = 0;  // TDT
  bool running_ = false;
  std::uint8_t errors_ = 0;
  Phase phase_ = Phase::kFetch;
  std::array<std::uint8_t, 16> now_{};  // the descriptor at head
  std::vector<std::byte> frame_;        // gathered so far
  std::vector<std::vector<std::byte>> sent_;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_SIM_E1000_TX_H_
