// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_SIM_I8255X_TX_H_
#define DMAMAP_TESTING_SIM_I8255X_TX_H_

// SimI8255xTx: the command unit (CU) of an Intel 8255x, for transmit commands
// in simplified mode and NOPs (8255x Open Source Software Developer Manual).
// Reaches memory through a DevicePort only, one access at a time:
//   the header | its data | C and OK
// S and EL count as they were when the header was read: a driver that clears S
// later finds the CU suspended. A Resume goes on at the link of the block at
// which the CU is suspended; one for a CU that is not is counted, and lost.
//
// A block that a driver must not hand over is counted (driver_errors): one that
// is complete already, an unknown command, no data, no EOF, no threshold,
// flexible mode. What was sent is kept, for a test to compare. Thread-safe if
// LockType is a real lock. Every loop is bounded.

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

enum class CuState : std::uint8_t { kIdle, kSuspended, kActive };

struct SimI8255xTxCounters {
  std::uint64_t sent = 0;         // frames
  std::uint64_t nops = 0;         // blocks with nothing to do
  std::uint64_t interrupts = 0;   // CX, and CNA: the CU left Active
  std::uint64_t resumes = 0;      // taken
  std::uint64_t bad_resumes = 0;  // for a CU that was not suspended
  std::uint64_t driver_errors = 0;
  std::uint64_t bus_errors = 0;
};

template <DevicePort Port, Lock LockType = NullLock>
class SimI8255xTx {
 public:
  explicit SimI8255xTx(Port* port) : port_(port) {}
  SimI8255xTx(const SimI8255xTx&) = delete;
  SimI8255xTx& operator=(const SimI8255xTx&) = delete;

  // --- Registers: a CommandPort.

  // Load CU Base, and CU Start at offset 0.
  Result<void> Start(const RingAddresses& ring) {
    const Guard guard(lock_);
    if (state_ == CuState::kActive) return Error::kBusy;
    base_ = ring.descriptors;
    Goto(0);
    return Ok();
  }
  bool Suspended() {
    const Guard guard(lock_);
    return state_ == CuState::kSuspended;
  }
  void Resume() {
    const Guard guard(lock_);
    if (state_ != CuState::kSuspended) {
      ++counters_.bad_resumes;
      return;
    }
    ++counters_.resumes;
    Goto(link_);
  }
  void Abort() {
    const Guard guard(lock_);
    state_ = CuState::kIdle;
  }
  // An interrupt was sent since the last call.
  bool Acknowledge() {
    const Guard guard(lock_);
    return std::exchange(interrupt_, false);
  }
  // The next frames do not get out: no OK.
  void set_failing(bool failing) {
    const Guard guard(lock_);
    failing_ = failing;
  }

  // One access to memory. False when there is nothing to do.
  bool Step() {
    const Guard guard(lock_);
    if (state_ != CuState::kActive) return false;
    switch (phase_) {
      case Phase::kHeader:
        ReadHeader();
        break;
      case Phase::kData:
        ReadData();
        break;
      case Phase::kStatus:
        WriteStatus();
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
  SimI8255xTxCounters counters() {
    const Guard guard(lock_);
    return counters_;
  }
  bool CheckInvariants() {
    const Guard guard(lock_);
    return counters_.driver_errors == 0 && counters_.bus_errors == 0 &&
           counters_.bad_resumes == 0;
  }

 private:
  enum class Phase : std::uint8_t { kHeader, kData, kStatus };
  static constexpr unsigned kEl = 1u << 15, kSuspend = 1u << 14,
                            kInterrupt = 1u << 13, kFlexible = 1u << 3;

  void Goto(std::uint32_t offset) {
    block_ = base_ + offset;
    state_ = CuState::kActive;
    phase_ = Phase::kHeader;
  }
  void ReadHeader() {
    std::array<std::uint8_t, 16> h{};
    if (!Check(port_->Read(block_, h.data(), h.size()))) return;
    command_ = static_cast<unsigned>(h[2] | h[3] << 8);
    link_ = 0;
    for (std::size_t i = 4; i-- != 0;) link_ = link_ << 8 | h[4 + i];
    bytes_ = static_cast<std::size_t>(h[12] | (h[13] & 0x3f) << 8);
    const unsigned what = command_ & 7;
    if ((h[1] & 0x80) != 0 || (command_ & kFlexible) != 0 ||
        (what != 0 && what != 4)) {
      return Wrong();
    }
    if (what == 0) {
      ++counters_.nops;
      phase_ = Phase::kStatus;
      return;
    }
    const bool no_array =
        h[8] == 255 && h[9] == 255 && h[10] == 255 && h[11] == 255;
    if (!no_array || bytes_ == 0 || (h[13] & 0x80) == 0 || h[14] == 0 ||
        h[15] != 0) {
      return Wrong();
    }
    phase_ = Phase::kData;
  }
  void ReadData() {
    std::vector<std::byte> frame(bytes_);
    if (!Check(port_->Read(block_ + 16, frame.data(), bytes_))) return;
    if (!failing_) {
      ++counters_.sent;
      sent_.push_back(std::move(frame));
    }
    phase_ = Phase::kStatus;
  }
  void WriteStatus() {
    const bool ok = !failing_ || (command_ & 7) == 0;
    const std::array<std::uint8_t, 2> status = {
        0, static_cast<std::uint8_t>(ok ? 0xa0 : 0x80)};
    if (!Check(port_->Write(block_, status.data(), status.size()))) return;
    if ((command_ & kInterrupt) != 0) Interrupt();
    if ((command_ & (kEl | kSuspend)) == 0) return Goto(link_);
    state_ = (command_ & kEl) != 0 ? CuState::kIdle : CuState::kSuspended;
    Interrupt();
  }
  void Interrupt() {
    ++counters_.interrupts;
    interrupt_ = true;
  }
  void Wrong() {
    ++counters_.driver_errors;
    state_ = CuState::kIdle;
  }
  bool Check(const Transfer& transfer) {
    if (transfer.ok()) return true;
    ++counters_.bus_errors;
    state_ = CuState::kIdle;
    return false;
  }

  Port* port_;
  LockType lock_;
  SimI8255xTxCounters counters_;
  Iova base_;   // CU base
  Iova block_;  // where it is
  CuState state_ = CuState::kIdle;
  Phase phase_ = Phase::kHeader;
  bool interrupt_ = false;
  bool failing_ = false;
  unsigned command_ = 0;    // of the block, as read
  std::uint32_t link_ = 0;  // offset of the next block
  std::size_t bytes_ = 0;   // of its data
  std::vector<std::vector<std::byte>> sent_;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_SIM_I8255X_TX_H_
