// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_SIM_E1000_H_
#define DMAMAP_TESTING_SIM_E1000_H_

// SimE1000: the receiver of an Intel NIC with head and tail registers, as a
// driver meets it: legacy descriptors (82540EM) or advanced ones with one
// buffer, with the error bits of the 82599 or of the I210.
//
// Reaches memory through a DevicePort only, one access at a time, in the
// device's order:
//   the descriptor | data | what it says of them, the word with DD last
// A test may let the driver run between any two accesses (Step), or have a
// frame through at once (Receive). Written from the manuals that
// nicring/e1000.h and nicring/intel_advanced.h name; independent of them, so
// that a wrong layout there does not agree with itself.
//
//   * It owns the descriptors from head up to, but not including, tail; with
//     head equal to tail it owns none, and frames wait in its FIFO.
//   * A frame longer than a buffer goes on in the next; EOP marks the last one,
//     and errors are told only there. Every buffer but the last is filled.
//   * A descriptor whose DD is set when it is fetched was not armed anew: the
//     device uses it, and counts the driver's mistake (stale_descriptors).
//   * A failed access loses the frame and stops the receiver.
//   * With whole_frames it stores a frame only if it owns descriptors for all
//   of
//     it, and loses it otherwise: as QEMU's e1000 does.
//
// Thread-safe if LockType is a real lock: registers are called by the driver's
// thread, Step and Inject by the device's. Every loop is bounded.

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "dma/address.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "nicring/receiver.h"
#include "testing/device_port.h"

namespace dmamap::inline v0 {

enum class E1000Layout : std::uint8_t { kLegacy, kIxgbe, kIgb };

struct SimE1000Options {
  E1000Layout layout = E1000Layout::kLegacy;
  std::size_t fifo_frames = 64;  // frames that wait inside the device
  std::size_t data_chunk = 0;    // bytes in one data write; 0: all in one
  bool whole_frames = false;
};

struct SimE1000Counters {
  std::uint64_t injected = 0;     // frames that reached the device
  std::uint64_t rx_good = 0;      // stored, without an error
  std::uint64_t rx_bad = 0;       // stored, with an error
  std::uint64_t rx_missed = 0;    // lost: the FIFO was full, or no receiver
  std::uint64_t rx_bus_lost = 0;  // lost: an access failed under way
  std::uint64_t descriptors = 0;  // written back
  std::uint64_t doorbells = 0;
  std::uint64_t bad_tails = 0;          // a tail outside the ring: ignored
  std::uint64_t illegal_starts = 0;     // started while running: refused
  std::uint64_t stale_descriptors = 0;  // fetched with DD set
  std::uint64_t bus_errors = 0;         // failed accesses
};

template <DevicePort Port, Lock LockType = NullLock>
class SimE1000 {
 public:
  // Interrupt cause (ICR): the receiver's timer.
  static constexpr std::uint32_t kCauseRx = 1u << 7;  // RXT0
  // Error bits for Inject, as in each layout's status word: CE, or RXE; and a
  // wrong TCP checksum, which is no error of the frame: TCPE, or L4E.
  std::uint32_t CrcError() const {
    return advanced() ? (igb() ? 1u << 31 : 1u << 29) : 1u << 8;
  }
  std::uint32_t TcpChecksumError() const {
    return advanced() ? (igb() ? 1u << 29 : 1u << 30) : 1u << 13;
  }

  SimE1000(Port* port, const SimE1000Options& options)
      : port_(port), options_(options) {}
  SimE1000(const SimE1000&) = delete;
  SimE1000& operator=(const SimE1000&) = delete;

  // --- Registers: a DoorbellPort, and the CauseRegisters of IntelInterrupts.

  // RDBA, RDLEN, the buffer size; head and tail 0; receive enable. kBusy while
  // running, kInvalidArgument for a length that is no multiple of 128 bytes.
  Result<void> Start(const RingAddresses& ring) {
    const Guard guard(lock_);
    if (running_) {
      ++counters_.illegal_starts;
      return Error::kBusy;
    }
    if (ring.entries == 0 || ring.entries % 8 != 0 || ring.room == 0) {
      return Error::kInvalidArgument;
    }
    ring_ = ring;
    head_ = tail_ = 0;
    stored_ = 0;
    phase_ = Phase::kFetch;
    running_ = true;
    return Ok();
  }
  void Doorbell(std::uint32_t tail) {
    const Guard guard(lock_);
    ++counters_.doorbells;
    if (tail >= ring_.entries) {
      ++counters_.bad_tails;
      return;
    }
    tail_ = tail;
  }
  void Abort() {
    const Guard guard(lock_);
    running_ = false;
    if (stored_ != 0 || phase_ != Phase::kFetch) {
      LoseFrame(&counters_.rx_missed);
    }
  }
  // ICR: a 1 clears.
  void ClearCauses(std::uint32_t bits) {
    const Guard guard(lock_);
    causes_ &= ~bits;
  }
  // IMS and IMC: a 1 sets or clears a bit of the mask of causes that interrupt,
  // all in the beginning.
  void EnableCauses(std::uint32_t bits) {
    const Guard guard(lock_);
    enabled_ |= bits;
  }
  void DisableCauses(std::uint32_t bits) {
    const Guard guard(lock_);
    enabled_ &= ~bits;
  }
  bool InterruptLine() {
    const Guard guard(lock_);
    return (causes_ & enabled_) != 0;
  }

  // --- The wire.

  // A frame arrives. False when it is lost at once; otherwise Step moves it on.
  // `errors` are bits of the status word of its last descriptor.
  bool Inject(std::span<const std::byte> frame, std::uint32_t errors = 0) {
    const Guard guard(lock_);
    ++counters_.injected;
    if (frame.empty() || fifo_.size() >= options_.fifo_frames) {
      ++counters_.rx_missed;
      return false;
    }
    fifo_.push_back({{frame.begin(), frame.end()}, errors});
    return true;
  }

  // One access to memory. False when there is nothing to do.
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
  // Inject and RunAll. True when the frame was stored without an error.
  bool Receive(std::span<const std::byte> frame, std::uint32_t errors = 0) {
    const std::uint64_t before = counters().rx_good;
    Inject(frame, errors);
    RunAll();
    return counters().rx_good != before;
  }

  SimE1000Counters counters() {
    const Guard guard(lock_);
    return counters_;
  }
  std::size_t waiting() {  // frames in the FIFO, the one under way included
    const Guard guard(lock_);
    return fifo_.size();
  }
  std::uint32_t head() {
    const Guard guard(lock_);
    return head_;
  }
  // Every frame is somewhere, and the registers lie in the ring.
  bool CheckInvariants() {
    const Guard guard(lock_);
    const SimE1000Counters& c = counters_;
    return c.injected == c.rx_good + c.rx_bad + c.rx_missed + c.rx_bus_lost +
                             fifo_.size() &&
           (stored_ == 0 || !fifo_.empty()) &&
           (!running_ || (head_ < ring_.entries && tail_ < ring_.entries));
  }

 private:
  struct Frame {
    std::vector<std::byte> bytes;
    std::uint32_t errors = 0;
  };
  enum class Phase : std::uint8_t { kFetch, kData, kCount, kStatus };

  static constexpr std::uint32_t kDone = 1u << 0;
  static constexpr std::uint32_t kEndOfPacket = 1u << 1;

  bool advanced() const { return options_.layout != E1000Layout::kLegacy; }
  bool igb() const { return options_.layout == E1000Layout::kIgb; }
  Iova Descriptor() const {
    return ring_.descriptors + std::uint64_t{head_} * 16;
  }
  std::uint32_t Owned() const {  // descriptors
    return tail_ >= head_ ? tail_ - head_ : tail_ + ring_.entries - head_;
  }
  // The word with DD, and the one with the length.
  std::uint64_t StatusAt() const { return advanced() ? 8 : 12; }
  std::uint64_t LengthAt() const { return advanced() ? 12 : 8; }

  bool StepLocked() {
    if (!running_ || fifo_.empty()) return false;
    if (phase_ == Phase::kFetch && options_.whole_frames && stored_ == 0 &&
        fifo_.front().bytes.size() > std::uint64_t{Owned()} * ring_.room) {
      LoseFrame(&counters_.rx_missed);
      return true;
    }
    if (phase_ == Phase::kFetch && head_ == tail_) return false;
    switch (phase_) {
      case Phase::kFetch:
        Fetch();
        break;
      case Phase::kData:
        WriteData();
        break;
      case Phase::kCount:
        WriteCount();
        break;
      case Phase::kStatus:
        WriteStatus();
        break;
    }
    return true;
  }
  void Fetch();
  void WriteData();
  void WriteCount();
  void WriteStatus();
  bool WriteWord(std::uint64_t offset, std::uint32_t word);
  bool Check(const Transfer& transfer);

  void LoseFrame(std::uint64_t* counter) {
    if (!fifo_.empty()) {
      ++*counter;
      fifo_.pop_front();
    }
    stored_ = 0;
    phase_ = Phase::kFetch;
  }

  Port* port_;
  SimE1000Options options_;
  LockType lock_;
  SimE1000Counters counters_;
  std::deque<Frame> fifo_;
  RingAddresses ring_;
  std::uint32_t head_ = 0;  // RDH
  std::uint32_t tail_ = 0;  // RDT
  bool running_ = false;
  std::uint32_t causes_ = 0;
  std::uint32_t enabled_ = ~std::uint32_t{0};
  Phase phase_ = Phase::kFetch;
  Iova buffer_;             // of the descriptor at head
  std::size_t stored_ = 0;  // bytes of the frame in earlier descriptors
  std::size_t here_ = 0;    // bytes of it in this one
};

template <DevicePort Port, Lock LockType>
void SimE1000<Port, LockType>::Fetch() {
  std::array<std::uint8_t, 16> b{};
  if (!Check(port_->Read(Descriptor(), b.data(), b.size()))) return;
  std::uint64_t address = 0;
  for (std::size_t i = 8; i-- != 0;) address = address << 8 | b[i];
  if ((b[static_cast<std::size_t>(StatusAt())] & kDone) != 0) {
    ++counters_.stale_descriptors;
  }
  buffer_ = Iova(address);
  here_ = 0;
  phase_ = Phase::kData;
}

template <DevicePort Port, Lock LockType>
void SimE1000<Port, LockType>::WriteData() {
  const std::vector<std::byte>& bytes = fifo_.front().bytes;
  const std::size_t left = bytes.size() - stored_;
  const std::size_t total = left < ring_.room ? left : ring_.room;
  std::size_t n = total - here_;
  if (options_.data_chunk != 0 && n > options_.data_chunk) {
    n = options_.data_chunk;
  }
  if (!Check(
          port_->Write(buffer_ + here_, bytes.data() + stored_ + here_, n))) {
    return;
  }
  here_ += n;
  if (here_ == total) phase_ = Phase::kCount;
}

// The length, and what stands beside it: here nothing.
template <DevicePort Port, Lock LockType>
void SimE1000<Port, LockType>::WriteCount() {
  if (advanced()) {
    const std::array<std::uint8_t, 8> first{};  // types and hash
    if (!Check(port_->Write(Descriptor(), first.data(), first.size()))) return;
  }
  if (WriteWord(LengthAt(), static_cast<std::uint32_t>(here_))) {
    phase_ = Phase::kStatus;
  }
}

template <DevicePort Port, Lock LockType>
void SimE1000<Port, LockType>::WriteStatus() {
  const Frame& frame = fifo_.front();
  const bool last = stored_ + here_ == frame.bytes.size();
  const std::uint32_t status = kDone | (last ? kEndOfPacket | frame.errors : 0);
  if (!WriteWord(StatusAt(), status)) return;
  ++counters_.descriptors;
  head_ = head_ + 1 == ring_.entries ? 0 : head_ + 1;
  phase_ = Phase::kFetch;
  stored_ += here_;
  if (!last) return;
  causes_ |= kCauseRx;
  ++(frame.errors == 0 ? counters_.rx_good : counters_.rx_bad);
  fifo_.pop_front();
  stored_ = 0;
}

template <DevicePort Port, Lock LockType>
bool SimE1000<Port, LockType>::WriteWord(std::uint64_t offset,
                                         std::uint32_t word) {
  std::array<std::uint8_t, 4> b{};
  for (std::size_t i = 0; i < 4; ++i) {
    b[i] = static_cast<std::uint8_t>(word >> (8 * i) & 0xff);
  }
  return Check(port_->Write(Descriptor() + offset, b.data(), b.size()));
}

// False, and the receiver stopped, when the access failed.
template <DevicePort Port, Lock LockType>
bool SimE1000<Port, LockType>::Check(const Transfer& transfer) {
  if (transfer.ok()) return true;
  ++counters_.bus_errors;
  LoseFrame(&counters_.rx_bus_lost);
  running_ = false;
  return false;
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_SIM_E1000_H_
