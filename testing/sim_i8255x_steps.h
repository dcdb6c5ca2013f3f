// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_SIM_I8255X_STEPS_H_
#define DMAMAP_TESTING_SIM_I8255X_STEPS_H_

// What the receive unit of a SimI8255x does at each step: reads a descriptor,
// decides what to do with it, stores a frame, goes on or stops. Included by
// testing/sim_i8255x.h alone.

#include <array>
#include <cstddef>
#include <cstdint>

#include "dma/address.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "testing/device_port.h"
#include "testing/sim_i8255x.h"

namespace dmamap::inline v0 {

template <DevicePort Port, Lock LockType>
bool SimI8255x<Port, LockType>::StepLocked() {
  if (state_ != RuState::kReady) {
    if (fifo_.empty()) return false;
    LoseFrame(&counters_.rx_resource_errors);
    return true;
  }
  const bool header = phase_ < Phase::kDecide;
  const bool needs_frame =
      phase_ == Phase::kDecide ||
      (header && options_.header_fetch == HeaderFetch::kOnFrame);
  // A closed RFD that was read ahead stops the RU without a frame.
  const bool stops_now = phase_ == Phase::kDecide && size_ == 0;
  if (needs_frame && fifo_.empty() && !stops_now) return false;
  switch (phase_) {
    case Phase::kCommand:
      if (ReadWord(2, &command_)) phase_ = Phase::kSize;
      break;
    case Phase::kSize:
      if (ReadWord(14, &size_)) {
        size_ &= 0x3fff;
        phase_ = (command_ & kEl) != 0 ? Phase::kDecide : Phase::kLink;
      }
      break;
    case Phase::kLink:
      if (ReadLink()) phase_ = Phase::kDecide;
      break;
    case Phase::kDecide:
      Decide();
      break;
    case Phase::kData:
      WriteData();
      break;
    case Phase::kCount:
      if (WriteWord(12, static_cast<std::uint16_t>(0xc000 | stored_))) {
        phase_ = Phase::kStatus;
      }
      break;
    case Phase::kStatus:
      WriteStatus();
      break;
    case Phase::kAfter:
      After();
      break;
  }
  return true;
}

template <DevicePort Port, Lock LockType>
void SimI8255x<Port, LockType>::Decide() {
  if (size_ != 0) {
    stored_ = 0;
    skips_ = 0;
    frame_started_ = true;
    phase_ = Phase::kData;
  } else if ((command_ & kEl) != 0 || skips_ >= options_.max_skips) {
    if (!fifo_.empty() && options_.header_fetch == HeaderFetch::kOnFrame) {
      LoseFrame(&counters_.rx_resource_errors);
    }
    skips_ = 0;
    LeaveReady(RuState::kNoResources);
  } else {
    ++counters_.skipped;
    ++skips_;
    Goto(next_);
  }
}

template <DevicePort Port, Lock LockType>
void SimI8255x<Port, LockType>::WriteData() {
  const std::vector<std::byte>& bytes = fifo_.front().bytes;
  const std::size_t room = size_;
  const std::size_t total = bytes.size() < room ? bytes.size() : room;
  std::size_t n = total - stored_;
  if (options_.data_chunk != 0 && n > options_.data_chunk) {
    n = options_.data_chunk;
  }
  if (!Check(port_->Write(rfd_ + 16 + stored_, bytes.data() + stored_, n))) {
    return;
  }
  stored_ += n;
  if (stored_ == total) phase_ = Phase::kCount;
}

template <DevicePort Port, Lock LockType>
void SimI8255x<Port, LockType>::WriteStatus() {
  const Frame& frame = fifo_.front();
  const bool cut = frame.bytes.size() > stored_;
  std::uint16_t status = static_cast<std::uint16_t>(frame.errors & 0x0fff);
  if (cut) status |= kNoRoom;
  const bool good = status == 0;
  status |= good ? kComplete | kOk : kComplete;
  if (!WriteWord(0, status)) return;
  ++(good ? counters_.rx_good : counters_.rx_bad);
  counters_.rx_truncated += cut ? 1 : 0;
  fifo_.pop_front();
  frame_started_ = false;
  phase_ = Phase::kAfter;
}

template <DevicePort Port, Lock LockType>
void SimI8255x<Port, LockType>::After() {
  causes_ |= kCauseFr;
  if ((command_ & kEl) != 0) {
    LeaveReady(RuState::kNoResources);
  } else if ((command_ & kSuspendBit) != 0) {
    LeaveReady(RuState::kSuspended);
  } else {
    Goto(next_);
  }
}

template <DevicePort Port, Lock LockType>
bool SimI8255x<Port, LockType>::ReadLink() {
  std::array<std::uint8_t, 4> b{};
  if (!Check(port_->Read(rfd_ + 4, b.data(), b.size()))) return false;
  const std::uint32_t link = std::uint32_t{b[0]} | std::uint32_t{b[1]} << 8 |
                             std::uint32_t{b[2]} << 16 |
                             std::uint32_t{b[3]} << 24;
  next_ = options_.ru_base + link;
  return true;
}

template <DevicePort Port, Lock LockType>
bool SimI8255x<Port, LockType>::ReadWord(std::uint64_t offset,
                                         std::uint16_t* word) {
  std::array<std::uint8_t, 2> b{};
  if (!Check(port_->Read(rfd_ + offset, b.data(), b.size()))) return false;
  *word = static_cast<std::uint16_t>(b[0] | b[1] << 8);
  return true;
}

template <DevicePort Port, Lock LockType>
bool SimI8255x<Port, LockType>::WriteWord(std::uint64_t offset,
                                          std::uint16_t word) {
  const std::array<std::uint8_t, 2> b = {static_cast<std::uint8_t>(word & 0xff),
                                         static_cast<std::uint8_t>(word >> 8)};
  return Check(port_->Write(rfd_ + offset, b.data(), b.size()));
}

// False, and the RU Idle, when the access failed.
template <DevicePort Port, Lock LockType>
bool SimI8255x<Port, LockType>::Check(const Transfer& transfer) {
  if (transfer.ok()) return true;
  ++counters_.bus_errors;
  if (frame_started_) LoseFrame(&counters_.rx_bus_lost);
  LeaveReady(RuState::kIdle);
  return false;
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_SIM_I8255X_STEPS_H_
