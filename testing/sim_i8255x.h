// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_SIM_I8255X_H_
#define DMAMAP_TESTING_SIM_I8255X_H_

// SimI8255x: the receive unit (RU) of an Intel 8255x, as a driver meets it.
//
// Reaches memory through a DevicePort only: every header word is read and every
// byte written at its I/O address, one access at a time, in the device's order:
//   command, size, link (unless EL) | data, count, status
// The status is its last access to an RFD: the driver may reuse the memory as
// soon as it sees C, so the link is taken with the header.
// A test may let the driver run between any two accesses (Step), or have a
// frame through at once (Receive). Written from the Intel 8255x Open Source
// Software Developer Manual (6.4.3) and from what drivers found; independent of
// nicring/, so that a wrong layout there does not agree with itself.
//
// What it does with the RFD it is at, when a frame is there:
//   EL and size 0   no write; the frame is lost; No Resources, RNR
//   no EL, size 0   skips the RFD: goes to the link, the frame waits
//   size > 0        data, count (EOF, F), status (C, and OK unless it was cut);
//                   then EL: No Resources, RNR; S: Suspended, RNR; else link
// EL and size are read one after the other: a driver that changes both may be
// seen half-way. Outside Ready every frame is lost (rx_resource_errors). An
// access that fails makes the RU Idle and raises RNR ("the RU left Ready").
//
// Thread-safe if LockType is a real lock: registers are called by the driver's
// thread, Step and Inject by the device's. Every loop is bounded.

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "dma/address.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "testing/device_port.h"

namespace dmamap::inline v0 {

enum class RuState : std::uint8_t { kIdle, kSuspended, kNoResources, kReady };

// When the header of the next RFD is read.
enum class HeaderFetch : std::uint8_t {
  kOnFrame,  // when a frame is there for it
  kAhead,    // at once, when the RU gets to the RFD
};

struct SimI8255xOptions {
  Iova ru_base;  // added to links
  HeaderFetch header_fetch = HeaderFetch::kOnFrame;
  std::size_t fifo_frames = 64;  // frames that wait inside the device
  std::size_t min_frame = 60;    // shorter ones are discarded (no CRC here)
  std::size_t max_skips = 4096;  // RFDs skipped in a row before it gives up
  std::size_t data_chunk = 0;    // bytes in one data write; 0: all in one
};

struct SimI8255xCounters {
  std::uint64_t injected = 0;            // frames that reached the device
  std::uint64_t rx_good = 0;             // stored with OK
  std::uint64_t rx_bad = 0;              // stored without OK
  std::uint64_t rx_resource_errors = 0;  // lost: the RU was not Ready, or RNR
  std::uint64_t rx_overrun_errors = 0;   // lost: the FIFO was full
  std::uint64_t rx_short_errors = 0;     // lost: below min_frame
  std::uint64_t rx_bus_lost = 0;         // lost: an access failed under way
  std::uint64_t rx_truncated = 0;        // of rx_bad: larger than the RFD
  std::uint64_t skipped = 0;             // RFDs passed over
  std::uint64_t rnr = 0;                 // times the RU left Ready
  std::uint64_t starts = 0;              // RU Start accepted
  std::uint64_t illegal_starts = 0;      // RU Start while Ready: ignored
  std::uint64_t bus_errors = 0;          // failed accesses
};

template <DevicePort Port, Lock LockType = NullLock>
class SimI8255x {
 public:
  // Interrupt causes (SCB status word).
  static constexpr std::uint16_t kCauseFr = 1u << 14;   // frame received
  static constexpr std::uint16_t kCauseRnr = 1u << 12;  // RU left Ready

  SimI8255x(Port* port, const SimI8255xOptions& options)
      : port_(port), options_(options) {}
  SimI8255x(const SimI8255x&) = delete;
  SimI8255x& operator=(const SimI8255x&) = delete;

  // --- Registers, for the driver. Start, Stopped, AcknowledgeRnr and Abort
  // make it a ReceiverPort; Mask, Unmask, ReadCauses and ClearCauses the
  // ScbRegisters of I8255xInterrupts.

  // RU Start. kBusy while Ready (the manual forbids it; counted).
  Result<void> Start(Iova first) {
    const Guard guard(lock_);
    if (state_ == RuState::kReady) {
      ++counters_.illegal_starts;
      return Error::kBusy;
    }
    ++counters_.starts;
    state_ = RuState::kReady;
    Goto(first);
    return Ok();
  }
  bool Stopped() {
    const Guard guard(lock_);
    return state_ != RuState::kReady;
  }
  RuState state() {
    const Guard guard(lock_);
    return state_;
  }
  void Abort() {
    const Guard guard(lock_);
    if (frame_started_) LoseFrame(&counters_.rx_resource_errors);
    state_ = RuState::kIdle;
  }
  // STAT/ACK, the causes in bits 15:8 of the status word; a 1 clears.
  std::uint8_t ReadCauses() {
    const Guard guard(lock_);
    return static_cast<std::uint8_t>(causes_ >> 8);
  }
  void ClearCauses(std::uint8_t bits) {
    const Guard guard(lock_);
    causes_ = static_cast<std::uint16_t>(causes_ & ~(unsigned{bits} << 8));
  }
  // Reads and clears the causes at once.
  std::uint16_t Acknowledge() {
    const Guard guard(lock_);
    const std::uint16_t causes = causes_;
    causes_ = 0;
    return causes;
  }
  void AcknowledgeRnr() {
    const Guard guard(lock_);
    causes_ = static_cast<std::uint16_t>(causes_ & ~kCauseRnr);
  }
  void Mask() {
    const Guard guard(lock_);
    masked_ = true;
  }
  void Unmask() {
    const Guard guard(lock_);
    masked_ = false;
  }
  // Level-triggered: a cause is pending and not masked.
  bool InterruptLine() {
    const Guard guard(lock_);
    return causes_ != 0 && !masked_;
  }

  // --- The wire.

  // A frame (without CRC) arrives. False when it is lost at once; otherwise
  // Step moves it on. `errors` are status bits (11:0) of a damaged frame.
  bool Inject(std::span<const std::byte> frame, std::uint32_t errors = 0) {
    const Guard guard(lock_);
    ++counters_.injected;
    if (frame.size() < options_.min_frame || frame.empty()) {
      ++counters_.rx_short_errors;
      return false;
    }
    if (fifo_.size() >= options_.fifo_frames) {
      ++counters_.rx_overrun_errors;
      return false;
    }
    fifo_.push_back({{frame.begin(), frame.end()},
                     static_cast<std::uint16_t>(errors & 0xffff)});
    return true;
  }

  // One access to memory, or one change of state. False when there is nothing
  // to do.
  bool Step() {
    const Guard guard(lock_);
    return StepLocked();
  }
  // Steps until there is nothing to do.
  void RunAll() {
    const Guard guard(lock_);
    while (StepLocked()) {
    }
  }
  // Inject and RunAll. True when the frame was stored with OK.
  bool Receive(std::span<const std::byte> frame, std::uint16_t errors = 0) {
    const std::uint64_t before = counters().rx_good;
    Inject(frame, errors);
    RunAll();
    return counters().rx_good != before;
  }

  SimI8255xCounters counters() {
    const Guard guard(lock_);
    return counters_;
  }
  std::size_t waiting() {  // frames in the FIFO, the one under way included
    const Guard guard(lock_);
    return fifo_.size();
  }
  // Every frame is somewhere.
  bool CheckInvariants() {
    const Guard guard(lock_);
    const SimI8255xCounters& c = counters_;
    return c.injected == c.rx_good + c.rx_bad + c.rx_resource_errors +
                             c.rx_overrun_errors + c.rx_short_errors +
                             c.rx_bus_lost + fifo_.size() &&
           (!frame_started_ || !fifo_.empty());
  }

 private:
  struct Frame {
    std::vector<std::byte> bytes;
    std::uint16_t errors = 0;
  };
  // What the RU does next with the RFD at rfd_.
  enum class Phase : std::uint8_t {
    kCommand,
    kSize,
    kLink,
    kDecide,
    kData,
    kCount,
    kStatus,
    kAfter
  };

  static constexpr std::uint16_t kEl = 0x8000;
  static constexpr std::uint16_t kSuspendBit = 0x4000;
  static constexpr std::uint16_t kComplete = 0x8000;
  static constexpr std::uint16_t kOk = 0x2000;
  static constexpr std::uint16_t kNoRoom = 0x0200;

  bool StepLocked();
  void Decide();
  void WriteData();
  void WriteStatus();
  void After();
  bool ReadLink();
  bool ReadWord(std::uint64_t offset, std::uint16_t* word);
  bool WriteWord(std::uint64_t offset, std::uint16_t word);
  bool Check(const Transfer& transfer);

  void Goto(Iova rfd) {
    rfd_ = rfd;
    phase_ = Phase::kCommand;
    frame_started_ = false;
  }
  void LeaveReady(RuState to) {
    state_ = to;
    frame_started_ = false;
    causes_ |= kCauseRnr;
    ++counters_.rnr;
  }
  void LoseFrame(std::uint64_t* counter) {
    ++*counter;
    fifo_.pop_front();
    frame_started_ = false;
  }

  Port* port_;
  SimI8255xOptions options_;
  LockType lock_;
  SimI8255xCounters counters_;
  std::deque<Frame> fifo_;
  RuState state_ = RuState::kIdle;
  std::uint16_t causes_ = 0;
  bool masked_ = false;
  Iova rfd_;
  Phase phase_ = Phase::kCommand;
  bool frame_started_ = false;  // fifo_.front() is being stored
  std::uint16_t command_ = 0;   // as read from the RFD
  std::uint16_t size_ = 0;
  Iova next_;               // where its link leads
  std::size_t stored_ = 0;  // data bytes written so far
  std::size_t skips_ = 0;   // RFDs skipped since the last frame or start
};

}  // namespace dmamap::inline v0

#include "testing/sim_i8255x_steps.h"  // IWYU pragma: export

#endif  // DMAMAP_TESTING_SIM_I8255X_H_
