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

namespace dmamap::inline v0 {

enum class VirtioLayout : std::uint8_t { kSplit, kPacked };

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
      : port_(port), options_(options) {}
  SimVirtio(const SimVirtio&) = delete;
  SimVirtio& operator=(const SimVirtio&) = delete;

  // --- Registers: a DoorbellPort.

  Result<void> Start(const RingAddresses& ring) {
    const Guard guard(lock_);
    if (running_) return Error::kBusy;
    ring_ = ring;
    available_ = used_ = 0;
    signalled_ = 0;
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
  // An interrupt was sent since the last call.
  bool Acknowledge() {
    const Guard guard(lock_);
    const bool pending = interrupt_;
    interrupt_ = false;
    return pending;
  }

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
  bool WantsInterrupt(bool* ok);
  void Ask();

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
  LockType lock_;
  SimVirtioCounters counters_;
  RingAddresses ring_;
  bool running_ = false;
  bool awake_ = false;
  bool interrupt_ = false;
  std::deque<std::vector<std::byte>> fifo_;
  Phase phase_ = Phase::kTake;
  std::uint32_t available_ = 0;  // chains (split) or places taken
  std::uint32_t used_ = 0;       // chains (split) or places used
  std::uint32_t signalled_ = 0;  // used_ when it last thought of interrupts
  std::deque<Chain> held_;       // taken and not used
  std::multiset<std::uint32_t> out_;  // their numbers
  std::size_t frame_chains_ = 0;      // of held_, what the frame takes
  std::size_t chain_ = 0;             // where its data go on
  std::size_t segment_ = 0;
  std::uint32_t offset_ = 0;  // in the segment
  std::size_t stored_ = 0;    // bytes of the frame
};

template <DevicePort Port, Lock LockType>
bool SimVirtio<Port, LockType>::StepLocked() {
  if (!running_ || !awake_) return false;
  switch (phase_) {
    case Phase::kTake:
      if (fifo_.empty()) return false;
      Take();
      break;
    case Phase::kHeader:
      WriteHeader();
      break;
    case Phase::kData:
      WriteData();
      break;
    case Phase::kUsed:
      WriteUsed();
      break;
    case Phase::kPublish:
      Publish();
      break;
    case Phase::kInterrupt:
      Interrupt();
      break;
    case Phase::kAsk:
      Ask();
      break;
    case Phase::kLookAgain: {
      Chain chain;
      bool none = false;
      const bool taken =
          packed() ? TakePacked(&chain, &none) : TakeSplit(&chain, &none);
      phase_ = Phase::kTake;
      if (taken) {
        held_.push_back(chain);
      } else if (none) {
        awake_ = false;
      }
      break;
    }
  }
  return true;
}

template <DevicePort Port, Lock LockType>
void SimVirtio<Port, LockType>::Take() {
  const std::size_t wanted = fifo_.front().size() + kHeaderBytes;
  const bool enough =
      Capacity() >= wanted || (!options_.mergeable && !held_.empty());
  if (enough) return NextPhaseAfterTake();
  Chain chain;
  bool none = false;
  if (packed() ? TakePacked(&chain, &none) : TakeSplit(&chain, &none)) {
    held_.push_back(chain);
  } else if (none) {
    phase_ = Phase::kAsk;
  }
}

// Enough is held for the frame, or never will be.
template <DevicePort Port, Lock LockType>
void SimVirtio<Port, LockType>::NextPhaseAfterTake() {
  const std::size_t wanted = fifo_.front().size() + kHeaderBytes;
  std::uint32_t sum = 0;
  frame_chains_ = 0;
  while (sum < wanted && frame_chains_ < held_.size()) {
    sum += held_[frame_chains_++].bytes;
    if (!options_.mergeable) break;
  }
  if (sum < wanted) return LoseFrame(&counters_.rx_too_long);
  chain_ = segment_ = 0;
  offset_ = 0;
  stored_ = 0;
  for (Chain& chain : held_) chain.written = 0;
  phase_ = Phase::kHeader;
}

template <DevicePort Port, Lock LockType>
bool SimVirtio<Port, LockType>::AddSegment(
    Chain* chain, const std::array<std::uint8_t, 16>& d) {
  const std::uint32_t flags = Le32(d.data() + 12) >> (packed() ? 16 : 0);
  const std::uint32_t bytes = Le32(d.data() + 8);
  const std::uint64_t at =
      std::uint64_t{Le32(d.data() + 4)} << 32 | Le32(d.data());
  if ((flags & kWrite) == 0 || (flags & kIndirect) != 0 || bytes == 0 ||
      ++chain->places > ring_.entries) {
    Wrong();
    return false;
  }
  chain->segments.push_back({Iova(at), bytes});
  chain->bytes += bytes;
  return true;
}

template <DevicePort Port, Lock LockType>
bool SimVirtio<Port, LockType>::TakeSplit(Chain* chain, bool* none) {
  std::uint16_t index = 0;
  if (!Read16(ring_.driver + 2, &index)) return false;
  const auto ahead = static_cast<std::uint16_t>(index - available_);
  *none = ahead == 0;
  if (ahead == 0) return false;
  std::uint16_t head = 0;
  const std::uint32_t at = 4 + 2 * (available_ % ring_.entries);
  if (ahead > ring_.entries || !Read16(ring_.driver + at, &head) ||
      head >= ring_.entries || out_.count(head) != 0) {
    Wrong();
    return false;
  }
  std::uint16_t next = head;
  for (bool more = true; more;) {
    std::array<std::uint8_t, 16> d{};
    if (next >= ring_.entries) {
      Wrong();
      return false;
    }
    if (!Read(ring_.descriptors + std::uint64_t{next} * 16, &d) ||
        !AddSegment(chain, d)) {
      return false;
    }
    more = (d[12] & kNext) != 0;
    next = static_cast<std::uint16_t>(d[14] | d[15] << 8);
  }
  chain->id = head;
  out_.insert(head);
  ++available_;
  return true;
}

template <DevicePort Port, Lock LockType>
bool SimVirtio<Port, LockType>::TakePacked(Chain* chain, bool* none) {
  std::uint32_t place = available_;
  for (bool more = true; more; ++place) {
    const Iova at = ring_.descriptors + std::uint64_t{IndexOf(place)} * 16;
    std::uint16_t flags = 0;
    if (!Read16(at + 14, &flags)) return false;
    const bool avail = (flags & 1u << 7) != 0;
    const bool used = (flags & 1u << 15) != 0;
    if (avail != WrapOf(place) || used == WrapOf(place)) {
      *none = place == available_;
      if (!*none) Wrong();  // a chain that is not there as a whole
      return false;
    }
    std::array<std::uint8_t, 16> d{};
    if (!Read(at, &d) || !AddSegment(chain, d)) return false;
    more = (flags & kNext) != 0;
    chain->id = static_cast<std::uint32_t>(d[12] | d[13] << 8);
  }
  if (out_.count(chain->id) != 0) {
    Wrong();
    return false;
  }
  out_.insert(chain->id);
  available_ = place;
  return true;
}

template <DevicePort Port, Lock LockType>
void SimVirtio<Port, LockType>::WriteHeader() {
  std::array<std::uint8_t, kHeaderBytes> header{};
  header[10] = static_cast<std::uint8_t>(frame_chains_ & 0xff);
  header[11] = static_cast<std::uint8_t>(frame_chains_ >> 8 & 0xff);
  const Segment& first = held_.front().segments.front();
  if (first.bytes < kHeaderBytes) return Wrong();
  if (!Check(port_->Write(first.at, header.data(), kHeaderBytes).ok())) return;
  held_.front().written = kHeaderBytes;
  offset_ = kHeaderBytes;
  phase_ = Phase::kData;
}

template <DevicePort Port, Lock LockType>
void SimVirtio<Port, LockType>::WriteData() {
  const std::vector<std::byte>& frame = fifo_.front();
  Chain& chain = held_[chain_];
  const Segment& segment = chain.segments[segment_];
  const std::size_t left = frame.size() - stored_;
  const std::size_t space = segment.bytes - offset_;
  const std::size_t n = left < space ? left : space;
  if (n != 0 &&
      !Check(
          port_->Write(segment.at + offset_, frame.data() + stored_, n).ok())) {
    return;
  }
  stored_ += n;
  chain.written += static_cast<std::uint32_t>(n);
  offset_ = 0;
  if (++segment_ == chain.segments.size()) {
    segment_ = 0;
    ++chain_;
  }
  if (stored_ == frame.size()) phase_ = Phase::kUsed;
}

// All that is used, but for what makes it seen.
template <DevicePort Port, Lock LockType>
void SimVirtio<Port, LockType>::WriteUsed() {
  std::uint32_t place = used_;
  for (std::size_t i = 0; i < frame_chains_; ++i) {
    const Chain& chain = held_[i];
    if (packed()) {
      const Iova at = ring_.descriptors + std::uint64_t{IndexOf(place)} * 16;
      if (!Write32(at + 8, chain.written) || !Write16(at + 12, chain.id)) {
        return;
      }
      const std::uint32_t flags = WrapOf(place) ? 0x8080u | kWrite : kWrite;
      if (i != 0 && !Write16(at + 14, flags)) return;
      place += chain.places;
    } else {
      const Iova at =
          ring_.device + 4 + std::uint64_t{place % ring_.entries} * 8;
      if (!Write32(at, chain.id) || !Write32(at + 4, chain.written)) return;
      ++place;
    }
  }
  phase_ = Phase::kPublish;
}

template <DevicePort Port, Lock LockType>
void SimVirtio<Port, LockType>::Publish() {
  if (packed()) {
    const Iova at = ring_.descriptors + std::uint64_t{IndexOf(used_)} * 16;
    if (!Write16(at + 14, WrapOf(used_) ? 0x8080u | kWrite : kWrite)) return;
  } else if (!Write16(ring_.device + 2,
                      used_ + static_cast<std::uint32_t>(frame_chains_))) {
    return;
  }
  for (; frame_chains_ != 0; --frame_chains_) {
    used_ += packed() ? held_.front().places : 1;
    out_.erase(held_.front().id);
    held_.pop_front();
    ++counters_.buffers;
  }
  ++counters_.rx_good;
  fifo_.pop_front();
  phase_ = Phase::kInterrupt;
}

template <DevicePort Port, Lock LockType>
void SimVirtio<Port, LockType>::Interrupt() {
  bool ok = true;
  const bool wanted = WantsInterrupt(&ok);
  if (!ok) return;
  signalled_ = used_;
  phase_ = Phase::kTake;
  ++(wanted ? counters_.interrupts : counters_.suppressed);
  interrupt_ = interrupt_ || wanted;
}

template <DevicePort Port, Lock LockType>
bool SimVirtio<Port, LockType>::WantsInterrupt(bool* ok) {
  const std::uint32_t moved = used_ - signalled_;
  std::uint16_t event = 0;
  std::uint16_t flags = 0;
  if (!packed()) {
    const std::uint32_t at = options_.event_index ? 4 + 2 * ring_.entries : 0;
    *ok = Read16(ring_.driver + at, &event);
    if (!options_.event_index) return (event & 1) == 0;
    // Some index from signalled_ to used_ - 1 is the one asked for.
    return static_cast<std::uint16_t>(event - signalled_) < moved;
  }
  *ok = Read16(ring_.driver + 2, &flags) && Read16(ring_.driver, &event);
  if ((flags & 3) != 2 || !options_.event_index) return (flags & 3) != 1;
  for (std::uint32_t i = 0; i < moved && i < 2 * ring_.entries; ++i) {
    const std::uint32_t place = signalled_ + i;
    if (IndexOf(place) == (event & 0x7fffu) &&
        WrapOf(place) == ((event >> 15) != 0)) {
      return true;
    }
  }
  return false;
}

template <DevicePort Port, Lock LockType>
void SimVirtio<Port, LockType>::Ask() {
  bool asked = true;
  if (packed()) {
    const std::uint32_t wrap = WrapOf(available_) ? 1u << 15 : 0;
    asked = Write16(ring_.device, IndexOf(available_) | wrap) &&
            Write16(ring_.device + 2, options_.event_index ? 2 : 0);
  } else if (options_.event_index) {
    asked = Write16(ring_.device + 4 + std::uint64_t{ring_.entries} * 8,
                    available_);
  } else {
    asked = Write16(ring_.device, 0);
  }
  if (asked) phase_ = Phase::kLookAgain;
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_SIM_VIRTIO_H_
