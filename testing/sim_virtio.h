// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_SIM_VIRTIO_H_
#define DMAMAP_TESTING_SIM_VIRTIO_H_

// SimVirtio: the device side of a virtio 1.x network receive queue, split or
// packed, as a driver meets it.
//
// Reaches memory through a DevicePort only, a step at a time:
//   take a chain | header | data, a segment each | used elements | used index,
//   or the flags of the first used descriptor | interrupt or not
// Written from VIRTIO 1.2 (2.7, 2.8, 5.1.6); independent of nicring/virtio.h,
// so that a wrong layout there does not agree with itself.
//
//   * It sleeps until it is notified, and goes back to sleep when it finds no
//     buffer: it first asks to be notified (used ring flags, avail_event, or
//     device event suppression), then looks once more. A driver that forgets a
//     doorbell hangs.
//   * It honours the driver's interrupt suppression to the letter: a driver
//     that unmasks wrongly hangs too.
//   * With VIRTIO_NET_F_MRG_RXBUF a frame takes as many buffers as it needs,
//     else one chain; a frame that does not fit is lost (rx_too_long).
//   * What a driver must not do is counted (driver_errors) and stops it: a
//     descriptor that is not writable, a chain that does not end, a head
//     outside the table, a buffer offered twice, an index that ran too far.
//
// Thread-safe if LockType is a real lock. Every loop is bounded.

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <set>
#include <span>
#include <vector>

#include "dma/address.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "nicring/receiver.h"
#include "testing/device_port.h"
#include "testing/sim_virtio_events.h"

namespace dmamap::inline v0 {

struct SimVirtioOptions {
  VirtioLayout layout = VirtioLayout::kSplit;
  bool mergeable = false;    // VIRTIO_NET_F_MRG_RXBUF
  bool event_index = false;  // VIRTIO_F_EVENT_IDX
  std::size_t fifo_frames = 64;
};

struct SimVirtioCounters {
  std::uint64_t injected = 0;     // frames that reached the device
  std::uint64_t rx_good = 0;      // stored
  std::uint64_t rx_bad = 0;       // none: virtio has no such thing
  std::uint64_t rx_missed = 0;    // lost: the FIFO was full
  std::uint64_t rx_too_long = 0;  // lost: larger than a chain
  std::uint64_t rx_bus_lost = 0;  // lost: the device stopped under way
  std::uint64_t buffers = 0;      // chains used
  std::uint64_t doorbells = 0;
  std::uint64_t interrupts = 0;     // sent
  std::uint64_t suppressed = 0;     // not sent: the driver asked for none
  std::uint64_t driver_errors = 0;  // what a driver must not do
  std::uint64_t bus_errors = 0;     // failed accesses
};

template <DevicePort Port, Lock LockType = NullLock>
class SimVirtio {
 public:
  SimVirtio(Port* port, const SimVirtioOptions& options)
      : port_(port),
        options_(options),
        events_(port, options.layout, options.event_index) {}
  SimVirtio(const SimVirtio&) = delete;
  SimVirtio& operator=(const SimVirtio&) = delete;

  // --- Registers: a DoorbellPort.

  Result<void> Start(const RingAddresses& ring) {
    const Guard guard(lock_);
    if (running_) return Error::kBusy;
    ring_ = ring;
    events_.Start(ring);
    available_ = used_ = 0;
    running_ = true;
    awake_ = false;
    held_.clear();
    out_.clear();
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
    if (phase_ > Phase::kTake && phase_ <= Phase::kPublish) {
      LoseFrame(&counters_.rx_bus_lost);
    }
    running_ = false;
  }
  // An interrupt was sent since the last call. As a message: it is over with
  // that.
  bool Acknowledge() { return ReadIsr() != 0; }
  // As a line: up until the ISR status is read.
  bool InterruptLine() {
    const Guard guard(lock_);
    return interrupt_;
  }
  std::uint8_t ReadIsr() {
    const Guard guard(lock_);
    const std::uint8_t isr = interrupt_ ? 1 : 0;
    interrupt_ = false;
    return isr;
  }
  void OnConfigurationChange() {}  // it never does

  // --- The wire.

  // A frame arrives. False when it is lost at once. There are no errors.
  bool Inject(std::span<const std::byte> frame, std::uint32_t = 0) {
    const Guard guard(lock_);
    ++counters_.injected;
    if (frame.empty() || fifo_.size() >= options_.fifo_frames) {
      ++counters_.rx_missed;
      return false;
    }
    fifo_.emplace_back(frame.begin(), frame.end());
    return true;
  }
  // One step. False when there is nothing to do.
  bool Step() {
    const Guard guard(lock_);
    return StepLocked();
  }
  void RunAll() {
    const Guard guard(lock_);
    while (StepLocked()) {
    }
  }

  SimVirtioCounters counters() {
    const Guard guard(lock_);
    return counters_;
  }
  std::size_t waiting() {
    const Guard guard(lock_);
    return fifo_.size();
  }
  bool CheckInvariants() {
    const Guard guard(lock_);
    const SimVirtioCounters& c = counters_;
    return c.driver_errors == 0 &&
           c.injected == c.rx_good + c.rx_missed + c.rx_too_long +
                             c.rx_bus_lost + fifo_.size();
  }

 private:
  enum class Phase : std::uint8_t {
    kTake,       // a chain, if there is one
    kHeader,     //
    kData,       //
    kUsed,       // the elements, not yet to be seen
    kPublish,    // now they are
    kInterrupt,  // or not
    kAsk,        // to be notified
    kLookAgain   // and only then sleep
  };
  struct Segment {
    Iova at;
    std::uint32_t bytes = 0;
  };
  struct Chain {
    std::uint32_t id = 0;
    std::uint32_t places = 0;  // descriptors
    std::vector<Segment> segments;
    std::uint32_t bytes = 0;    // of all segments
    std::uint32_t written = 0;  // what the used element says
  };

  static constexpr std::uint32_t kHeaderBytes = 12;
  static constexpr std::uint16_t kNext = 1;
  static constexpr std::uint16_t kWrite = 2;
  static constexpr std::uint16_t kIndirect = 4;

  bool packed() const { return options_.layout == VirtioLayout::kPacked; }
  // Packed: a free-running place; its index, and its wrap counter.
  std::uint32_t IndexOf(std::uint32_t place) const {
    return place % ring_.entries;
  }
  bool WrapOf(std::uint32_t place) const {
    return place / ring_.entries % 2 == 0;
  }
  std::uint32_t Capacity() const {
    std::uint32_t sum = 0;
    for (const Chain& chain : held_) sum += chain.bytes;
    return sum;
  }

  bool StepLocked();
  void Take();
  bool TakeSplit(Chain* chain, bool* none);
  bool TakePacked(Chain* chain, bool* none);
  bool AddSegment(Chain* chain, const std::array<std::uint8_t, 16>& d);
  void NextPhaseAfterTake();
  void WriteHeader();
  void WriteData();
  void WriteUsed();
  void Publish();
  void Interrupt();

  template <std::size_t n>
  bool Read(Iova at, std::array<std::uint8_t, n>* to) {
    return Check(port_->Read(at, to->data(), n).ok());
  }
  bool Read16(Iova at, std::uint16_t* word) {
    std::array<std::uint8_t, 2> b{};
    if (!Read(at, &b)) return false;
    *word = static_cast<std::uint16_t>(b[0] | b[1] << 8);
    return true;
  }
  bool Write16(Iova at, std::uint32_t word) {
    const std::array<std::uint8_t, 2> b = {
        static_cast<std::uint8_t>(word & 0xff),
        static_cast<std::uint8_t>(word >> 8 & 0xff)};
    return Check(port_->Write(at, b.data(), 2).ok());
  }
  bool Write32(Iova at, std::uint32_t word) {
    return Write16(at, word & 0xffff) && Write16(at + 2, word >> 16);
  }
  bool Check(bool ok) {
    if (!ok) {
      ++counters_.bus_errors;
      Stop();
    }
    return ok;
  }
  void Wrong() {
    ++counters_.driver_errors;
    Stop();
  }
  void Stop() {
    if (phase_ > Phase::kTake && phase_ <= Phase::kPublish) {
      LoseFrame(&counters_.rx_bus_lost);
    }
    running_ = false;
  }
  void LoseFrame(std::uint64_t* counter) {
    if (!fifo_.empty()) {
      ++*counter;
      fifo_.pop_front();
    }
    phase_ = Phase::kTake;
  }
  static std::uint32_t Le32(const std::uint8_t* b) {
    return std::uint32_t{b[0]} | std::uint32_t{b[1]} << 8 |
           std::uint32_t{b[2]} << 16 | std::uint32_t{b[3]} << 24;
  }

  Port* port_;
  SimVirtioOptions options_;
  SimVirtioEvents<Port> events_;
  LockType lock_;
  SimVirtioCounters counters_;
  RingAddresses ring_;
  bool running_ = false;
  bool awake_ = false;
  bool interrupt_ = false;
  std::deque<std::vector<std::byte>> fifo_;
  Phase phase_ = Phase::kTake;
  std::uint32_t available_ = 0;       // chains (split) or places taken
  std::uint32_t used_ = 0;            // chains (split) or places used
  std::deque<Chain> held_;            // taken and not used
  std::multiset<std::uint32_t> out_;  // their numbers
  std::size_t frame_chains_ = 0;      // of held_, what the frame takes
  std::size_t chain_ = 0;             // where its data go on
  std::size_t segment_ = 0;
  std::uint32_t offset_ = 0;  // in the segment
  std::size_t stored_ = 0;    // bytes of the frame
};

}  // namespace dmamap::inline v0

#include "testing/sim_virtio_steps.h"  // IWYU pragma: export

#endif  // DMAMAP_TESTING_SIM_VIRTIO_H_
