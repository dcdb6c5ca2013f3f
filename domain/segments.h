// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_SEGMENTS_H_
#define DMAMAP_DOMAIN_SEGMENTS_H_

// Mappings as a device's descriptors take them: pieces that are not too long
// and do not cross a boundary (Linux: max_segment_size and segment_boundary of
// struct device_dma_parameters).
//
//   mappings   |==========||=====|      |===|       one behind the other
//   segments   |=====|====|======|      |===|       joined, then cut
//
// Addresses of a mapping are one run whatever is behind them, so that a cut
// costs nothing and needs no other mapping. Pure arithmetic; values alone.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "dma/address.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

struct SegmentLimits {
  std::uint64_t max_size = 0;  // bytes; 0: no limit
  // Bytes, a power of two: first and last byte of a segment lie in the same
  // block of so many. 0: no limit. (Linux's mask plus one.)
  std::uint64_t boundary = 0;
};

// What one descriptor names.
struct DeviceSegment {
  Iova iova = {};
  std::uint64_t size = 0;  // bytes, not 0

  friend constexpr bool operator==(const DeviceSegment&,
                                   const DeviceSegment&) = default;
};

// emit(DeviceSegment) -> bool for each segment of `mappings`, in order; false
// ends. Each is as long as the limits allow. kInvalidArgument for a boundary
// that is no power of two or a mapping that is none.
template <class Emit>
constexpr Result<void> ForEachSegment(std::span<const Mapping> mappings,
                                      const SegmentLimits& limits,
                                      Emit&& emit) {
  if (limits.boundary != 0 && !IsPowerOfTwo(limits.boundary)) {
    return Error::kInvalidArgument;
  }
  for (const Mapping& m : mappings) {
    if (!Range::FromSize(m.iova, m.size).ok()) return Error::kInvalidArgument;
  }
  for (std::size_t i = 0; i < mappings.size();) {
    const Iova first = mappings[i].iova;
    Iova last = first + (mappings[i].size - 1);
    for (++i; i < mappings.size(); ++i) {
      if (last == Iova::Max() || mappings[i].iova != last + 1) break;
      last = last + mappings[i].size;
    }
    for (Iova at = first;;) {
      std::uint64_t more = last - at;  // bytes behind the first
      if (limits.max_size != 0) more = std::min(more, limits.max_size - 1);
      if (limits.boundary != 0) {
        const std::uint64_t block = limits.boundary - 1;
        more = std::min(more, block - (at.value() & block));
      }
      // The size of the whole space is not a segment's: m.size would be 0.
      if (!emit(DeviceSegment{at, more + 1})) return Ok();
      if (at + more == last) break;
      at = at + more + 1;
    }
  }
  return Ok();
}

// The same into `out`; how many. kLimit when they do not fit: then `out` has
// the first ones.
inline Result<std::size_t> ToSegments(std::span<const Mapping> mappings,
                                      const SegmentLimits& limits,
                                      std::span<DeviceSegment> out) {
  std::size_t count = 0;
  bool fits = true;
  const auto done =
      ForEachSegment(mappings, limits, [&](const DeviceSegment& segment) {
        fits = count < out.size();
        if (fits) out[count++] = segment;
        return fits;
      });
  if (!done.ok()) return done.error();
  if (!fits) return Error::kLimit;
  return count;
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_SEGMENTS_H_
