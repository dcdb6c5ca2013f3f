// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TOOLS_ADDRESS_MAP_REPLAY_H_
#define DMAMAP_TOOLS_ADDRESS_MAP_REPLAY_H_

// Where each range of a recording lay, from when to when: in the addresses that
// were recorded, or in those that dmamap's allocator hands out for the same
// requests.
//
// The allocator is the shipped one (iova/standard.h) but for one policy: its
// CPU number is that of the recorded event, so that one thread replays what
// several did and two runs give one picture.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/address_map/recording.h"

namespace dmamap::address_map {

inline constexpr unsigned kPageShift = 12;
inline constexpr unsigned kRegionShift = 21 - kPageShift;  // 2 MiB in pages
inline constexpr std::uint64_t kRegionPages = std::uint64_t{1} << kRegionShift;

// A range of pages from its allocation to its free.
struct HeldRange {
  std::uint64_t first;  // page
  std::uint64_t pages;
  std::size_t begin;  // steps before it was there
  std::size_t end;    // steps before it was gone; all, when it was never freed
  std::uint64_t begin_us;
  std::uint64_t end_us;
  std::uint8_t holder;
  bool freed;

  std::uint64_t last() const { return first + pages - 1; }
};

struct History {
  std::vector<HeldRange> ranges;  // by begin; no page is in two at one time
  std::vector<std::uint64_t> us;  // time of each step
  std::vector<std::string> notes;
};

// InternalError when the allocator breaks its word: hands out a live page, a
// page outside the limit, refuses a free, or its invariants do not hold. What
// it refuses for want of space is counted in the notes and not drawn.
absl::StatusOr<History> ReplayThroughDmamap(const Recording& recording);

// NotFound when no step has a recorded address. Ranges without one, and those
// that overlap a live one, are counted in the notes and not drawn.
absl::StatusOr<History> TakeAsRecorded(const Recording& recording);

}  // namespace dmamap::address_map

#endif  // DMAMAP_TOOLS_ADDRESS_MAP_REPLAY_H_
