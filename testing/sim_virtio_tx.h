// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_SIM_VIRTIO_TX_H_
#define DMAMAP_TESTING_SIM_VIRTIO_TX_H_

// SimVirtioTx: the device side of a virtio 1.x network transmit queue, split or
// packed, as a driver meets it (VIRTIO 1.2, 2.7, 2.8 and 5.1.6.2). Reaches
// memory through a DevicePort only. Sleeps until it is notified, and asks to be
// before it does; honours the driver's interrupt suppression. What it sent is
// kept, for a test to compare. It may hold several frames and use them last
// first, as a device without VIRTIO_F_IN_ORDER may.
//
// What a driver must not do is counted (driver_errors) and stops it: a
// descriptor that is writable, a chain that does not end or has no header, a
// header that asks for something, a frame offered twice, an index that ran too
// far, a packed chain that is not available as a whole. Thread-safe if LockType
// is a real lock. Every loop is bounded.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "dma/address.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "nicring/receiver.h"
#include "testing/device_port.h"
#include "testing/sim_virtio_events.h"

namespace dmamap::inline v0 {

struct SimVirtioTxOptions {
  bool event_index = false;  // VIRTIO_F_EVENT_IDX
  std::size_t hold = 1;      // frames it takes before it uses them
  VirtioLayout layout = VirtioLayout::kSplit;
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
      : port_(port),
        options_(options),
        events_(port, options.layout, options.event_index) {}
  SimVirtioTx(const SimVirtioTx&) = delete;
  SimVirtioTx& operator=(const SimVirtioTx&) = delete;

  // --- Registers: a DoorbellPort.

  Result<void> Start(const RingAddresses& ring) {
    const Guard guard(lock_);
    if (running_) return Error::kBusy;
    ring_ = ring;
    events_.Start(ring);
    available_ = used_ = 0;
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
        Publish();
        break;
      case Phase::kInterrupt:
        Interrupt();
        break;
      case Phase::kAsk:
        if (Check(events_.Ask(available_))) phase_ = Phase::kLookAgain;
        break;
      case Phase::kLookAgain: {
        bool more = false;
        if (!LookForMore(&more)) break;
        awake_ = more;
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

  struct Held {
    std::uint16_t id = 0;
    std::uint32_t places = 0;  // descriptors
  };

  bool packed() const { return options_.layout == VirtioLayout::kPacked; }
  // Packed: a free-running place; where it lies, and its wrap counter.
  Iova At(std::uint32_t place) const {
    return ring_.descriptors + std::uint64_t{place % ring_.entries} * 16;
  }
  bool WrapOf(std::uint32_t place) const {
    return place / ring_.entries % 2 == 0;
  }
  static std::uint16_t Narrow(std::uint32_t n) {
    return static_cast<std::uint16_t>(n & 0xffff);
  }

  // True unless an access failed or the driver was wrong.
  bool LookForMore(bool* more) {
    std::uint16_t word = 0;
    if (packed()) {
      if (!Read16(At(available_) + 14, &word)) return false;
      *more = IsAvailable(word, available_);
      return true;
    }
    if (!Read16(ring_.driver + 2, &word)) return false;
    const std::uint16_t ahead = Narrow(word - available_);
    *more = ahead != 0;
    if (ahead > ring_.entries) Wrong();
    return ahead <= ring_.entries;
  }
  bool IsAvailable(std::uint32_t flags, std::uint32_t place) const {
    return ((flags & 1u << 7) != 0) == WrapOf(place) &&
           ((flags & 1u << 15) != 0) != WrapOf(place);
  }
  void Take() {
    bool more = false;
    if (!LookForMore(&more)) return;
    if (!more) {
      phase_ = held_.empty() ? Phase::kAsk : Phase::kUse;
      return;
    }
    Held now;
    std::vector<std::byte> frame;
    if (packed() ? !GatherPacked(&now, &frame) : !GatherSplit(&now, &frame)) {
      return;
    }
    for (const Held& other : held_) {
      if (other.id == now.id) return Wrong();
    }
    bool blank = frame.size() > kHeaderBytes;
    for (std::size_t i = 0; blank && i < kHeaderBytes; ++i) {
      blank = frame[i] == std::byte{0};
    }
    if (!blank) return Wrong();
    frame.erase(frame.begin(), frame.begin() + kHeaderBytes);
    sent_.push_back(std::move(frame));
    ++counters_.sent;
    available_ += packed() ? now.places : 1;
    held_.push_back(now);
    if (held_.size() >= options_.hold) phase_ = Phase::kUse;
  }
  bool GatherSplit(Held* now, std::vector<std::byte>* frame) {
    const std::uint32_t at = 4 + 2 * (available_ % ring_.entries);
    if (!Read16(ring_.driver + at, &now->id)) return false;
    std::uint32_t next = now->id;
    for (bool more = true; more; ++now->places) {
      std::array<std::uint8_t, 16> d{};
      if (now->places == ring_.entries || next >= ring_.entries) {
        Wrong();
        return false;
      }
      if (!Append(next, 12, &d, frame)) return false;
      more = (d[12] & 1) != 0;
      next = static_cast<std::uint32_t>(d[14] | d[15] << 8);
    }
    return true;
  }
  // The id of a chain is that of its last descriptor (2.8.6).
  bool GatherPacked(Held* now, std::vector<std::byte>* frame) {
    for (bool more = true; more; ++now->places) {
      const std::uint32_t place = available_ + now->places;
      std::array<std::uint8_t, 16> d{};
      if (!Append(place, 14, &d, frame)) return false;
      const auto flags = static_cast<std::uint32_t>(d[14] | d[15] << 8);
      if (now->places == ring_.entries || !IsAvailable(flags, place)) {
        Wrong();
        return false;
      }
      more = (flags & 1) != 0;
      now->id = static_cast<std::uint16_t>(d[12] | d[13] << 8);
    }
    return true;
  }
  // Reads descriptor and data; `flags_at` is where its flags lie.
  bool Append(std::uint32_t place, std::size_t flags_at,
              std::array<std::uint8_t, 16>* d, std::vector<std::byte>* frame) {
    if (!Check(port_->Read(At(place), d->data(), 16))) return false;
    std::uint64_t address = 0;
    for (std::size_t i = 8; i-- != 0;) address = address << 8 | (*d)[i];
    const std::size_t bytes = static_cast<std::size_t>((*d)[8]) |
                              static_cast<std::size_t>((*d)[9]) << 8 |
                              static_cast<std::size_t>((*d)[10]) << 16;
    if (bytes == 0 || (*d)[11] != 0 || ((*d)[flags_at] & 6) != 0) {
      Wrong();  // no length, an absurd one, writable or indirect
      return false;
    }
    const std::size_t before = frame->size();
    frame->resize(before + bytes);
    return Check(port_->Read(Iova(address), frame->data() + before, bytes));
  }
  // The youngest first.
  void Use() {
    const Held& now = held_.back();
    const auto low = static_cast<std::uint8_t>(now.id & 0xff);
    const auto high = static_cast<std::uint8_t>(now.id >> 8);
    if (packed()) {
      // Length and id; the flags come last.
      const std::array<std::uint8_t, 6> element = {0, 0, 0, 0, low, high};
      if (Check(port_->Write(At(used_) + 8, element.data(), element.size()))) {
        phase_ = Phase::kPublish;
      }
      return;
    }
    const std::array<std::uint8_t, 8> element = {low, high};
    const Iova at =
        ring_.device + 4 + std::uint64_t{8} * (used_ % ring_.entries);
    if (!Check(port_->Write(at, element.data(), element.size()))) return;
    ++used_;
    held_.pop_back();
    if (held_.empty()) phase_ = Phase::kPublish;
  }
  void Publish() {
    if (!packed()) {
      if (!Write16(ring_.device + 2, Narrow(used_))) return;
    } else {
      if (!Write16(At(used_) + 14, WrapOf(used_) ? 0x8080 : 0)) return;
      used_ += held_.back().places;
      held_.pop_back();
    }
    phase_ = held_.empty() ? Phase::kInterrupt : Phase::kUse;
  }
  void Interrupt() {
    const std::optional<bool> wanted = events_.WantsInterrupt(used_);
    if (!Check(wanted.has_value())) return;
    ++(*wanted ? counters_.interrupts : counters_.suppressed);
    interrupt_ = interrupt_ || *wanted;
    phase_ = Phase::kTake;
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
  bool Check(const Transfer& transfer) { return Check(transfer.ok()); }
  bool Check(bool ok) {
    if (ok) return true;
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
  SimVirtioEvents<Port> events_;
  LockType lock_;
  RingAddresses ring_;
  SimVirtioTxCounters counters_;
  bool running_ = false;
  bool awake_ = false;
  bool interrupt_ = false;
  Phase phase_ = Phase::kTake;
  // Free-running; frames, or places of a packed ring.
  std::uint32_t available_ = 0;
  std::uint32_t used_ = 0;
  std::vector<Held> held_;  // taken and not used
  std::vector<std::vector<std::byte>> sent_;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_SIM_VIRTIO_TX_H_
