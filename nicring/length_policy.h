// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_LENGTH_POLICY_H_
#define DMAMAP_NICRING_LENGTH_POLICY_H_

// What to do with a length that a device reports.
//
// The device was told how many bytes there is room for. A report of more, or of
// no byte at all, is a violation; it is counted whatever the policy makes of
// it. A policy and not a fixed check, because some old devices report wrong
// lengths: a fixed check had to be taken back in Linux's virtio (939779f5152d,
// reverted by f124034faa91).

#include <cstdint>

#include "dma/version.h"

namespace dmamap::inline v0 {

enum class LengthPolicy : std::uint8_t {
  kReject = 0,  // the frame is dropped
  kClamp = 1,   // more than there is room for: cut to the room; 0: dropped
  kTrust = 2,   // handed on as reported; 0, which is no frame: dropped. Only
                // for a device that may do anything: the sink reads past the
                // buffer when the device lies
};

// False for a value that is none of the enumerators.
constexpr bool IsValid(LengthPolicy policy) {
  return static_cast<std::uint8_t>(policy) <= 2;
}

struct LengthVerdict {
  bool deliver = false;
  bool violation = false;
  std::uint32_t length = 0;  // bytes to deliver
};

// Judges `reported` bytes where `room` bytes were offered.
constexpr LengthVerdict Judge(LengthPolicy policy, std::uint32_t reported,
                              std::uint32_t room) {
  if (reported != 0 && reported <= room) return {true, false, reported};
  if (reported == 0) return {false, true, 0};
  switch (policy) {
    case LengthPolicy::kReject:
      break;
    case LengthPolicy::kClamp:
      return {true, true, room};
    case LengthPolicy::kTrust:
      return {true, true, reported};
  }
  return {false, true, 0};
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_LENGTH_POLICY_H_
