// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_MAPPING_H_
#define DMAMAP_IOTLB_MAPPING_H_

// The words of the IOTLB: what goes in, what comes out, and its policies.
//
//   IotlbEntry   one mapping: an inclusive range of I/O addresses, the memory
//                it means, what the device may do there, and a token that the
//                IOTLB keeps and never reads (a file, a buffer's number).
//   Translation  the answer to a lookup of one byte.
//   Segment      one piece of the answer to a lookup of a range.
//
// Plain values without a thread of their own; everything here is constexpr.

#include <cstddef>
#include <cstdint>

#include "dma/address.h"
#include "dma/direction.h"
#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

// One mapping. Permission::kNone is legal: an access there is refused with
// kPermission instead of kNotMapped (a guard).
struct IotlbEntry {
  Range range;       // I/O addresses in bytes, both ends inclusive
  PhysAddr address;  // what range.first() means; later bytes follow it
  Permission permission = Permission::kNone;
  std::uint64_t token = 0;  // opaque to the IOTLB

  friend constexpr bool operator==(const IotlbEntry&,
                                   const IotlbEntry&) = default;
};

// kInvalidArgument for a value that is no Permission, kOverflow when the memory
// would pass 2^64-1.
constexpr Result<void> Validate(const IotlbEntry& entry) {
  if (!IsValid(entry.permission)) return Error::kInvalidArgument;
  if (!entry.address.CheckedAdd(entry.range.size_minus_one()).ok()) {
    return Error::kOverflow;
  }
  return Ok();
}

// The memory behind `at`. REQUIRES: entry.range.Contains(at).
constexpr PhysAddr AddressOf(const IotlbEntry& entry, Iova at) {
  DMAMAP_ASSERT(entry.range.Contains(at));
  return entry.address + (at - entry.range.first());
}

// What one I/O address means.
struct Translation {
  PhysAddr address;
  // Bytes that follow `address` in the same mapping; each of them translates to
  // the byte of memory as far behind `address`, by the same mapping.
  std::uint64_t bytes_minus_one = 0;
  Permission permission = Permission::kNone;  // all that the mapping grants
  std::uint64_t token = 0;

  friend constexpr bool operator==(const Translation&,
                                   const Translation&) = default;
};

constexpr Translation TranslationOf(const IotlbEntry& entry, Iova at) {
  return Translation{AddressOf(entry, at), entry.range.last() - at,
                     entry.permission, entry.token};
}

// How a run of I/O addresses translates.
enum class SegmentKind : std::uint8_t {
  kMapped = 0,  // memory of one mapping
  kMiss = 1,    // no mapping covers any byte of it
  kFault = 2,   // each byte is covered, but no mapping grants the access
};

struct Segment {
  Range range;  // I/O addresses, both ends inclusive
  SegmentKind kind = SegmentKind::kMiss;
  // The rest is zero unless kind is kMapped.
  PhysAddr address;  // what range.first() means
  Permission permission = Permission::kNone;
  std::uint64_t token = 0;

  friend constexpr bool operator==(const Segment&, const Segment&) = default;
};

// What Add does when the limit of entries is reached.
enum class LimitPolicy : std::uint8_t {
  kRefuse = 0,        // kLimit, nothing changes
  kRetireOldest = 1,  // the mapping that was added first leaves
};

// What Add does when the range overlaps a mapping that is there.
enum class OverlapPolicy : std::uint8_t {
  kAllow = 0,
  kRefuse = 1,  // kOverlap, nothing changes
};

struct IotlbOptions {
  std::size_t limit = 0;  // entries; 0: none
  LimitPolicy limit_policy = LimitPolicy::kRefuse;
  OverlapPolicy overlap_policy = OverlapPolicy::kAllow;
};

// Counted by the writer alone: a lookup writes nothing.
struct IotlbStats {
  std::uint64_t added = 0;            // mappings that ever entered
  std::uint64_t removed = 0;          // by Remove, RemoveExact and Clear
  std::uint64_t retired = 0;          // by LimitPolicy::kRetireOldest
  std::uint64_t refused_limit = 0;    // Add that ended in kLimit
  std::uint64_t refused_overlap = 0;  // Add that ended in kOverlap
  std::size_t entries = 0;            // now
  std::size_t peak_entries = 0;       // most at one time
  std::size_t height = 0;             // levels of the tree, 0 when empty
  std::size_t memory_bytes = 0;       // taken from the memory source
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_MAPPING_H_
