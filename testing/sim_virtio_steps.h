// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_SIM_VIRTIO_STEPS_H_
#define DMAMAP_TESTING_SIM_VIRTIO_STEPS_H_

// What a SimVirtio does at each step: takes chains, stores a frame in them,
// uses them, and tells the driver or asks to be told. Included by
// testing/sim_virtio.h alone.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "dma/sync.h"
#include "dma/version.h"
#include "testing/device_port.h"
#include "testing/sim_virtio.h"

namespace dmamap::inline v0 {

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
      if (Check(events_.Ask(available_))) phase_ = Phase::kLookAgain;
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
  const std::optional<bool> wanted = events_.WantsInterrupt(used_);
  if (!Check(wanted.has_value())) return;
  phase_ = Phase::kTake;
  ++(*wanted ? counters_.interrupts : counters_.suppressed);
  interrupt_ = interrupt_ || *wanted;
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_SIM_VIRTIO_STEPS_H_
