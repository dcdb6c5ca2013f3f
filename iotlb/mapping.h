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

  friend constexpr bool operator==(const IotlbEntry &,
                                   const IotlbEntry &) = default;
};

// kInvalidArgument for a value that is no Permission, kOverflow when the memory
// would pass 2^64-1.
constexpr Result<void> Validate(const IotlbEntry &entry) {
  if (!IsValid(entry.permission)) return Error::kInvalidArgument;
  if (!entry.address.CheckedAdd(entry.range.size_minus_one()).ok()) {
    return Error::kOverflow;
  }
  return Ok();
}

// The memory behind `at`. REQUIRES: entry.range.Contains(at).
constexpr PhysAddr AddressOf(const IotlbEntry &entry, Iova at) {
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

  friend constexpr bool operator==(const Translation &,
                                   const Translation &) = default;
};

// What one I/O address means, as far as a page table tells: without the token,
// and sure of the rest of its page alone.
struct PageTranslation {
  PhysAddr address;
  // Bytes that follow `address` in the same mapping, at least up to the end of
  // the page or of the mapping; there may be more of them.
  std::uint64_t bytes_minus_one = 0;
  Permission permission = Permission::kNone;  // all that the mapping grants

  friend constexpr bool operator==(const PageTranslation &,
                                   const PageTranslation &) = default;
};

constexpr PageTranslation PageTranslationOf(const Translation &t) {
  return PageTranslation{t.address, t.bytes_minus_one, t.permission};
}

constexpr Translation TranslationOf(const IotlbEntry &entry, Iova at) {
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

  friend constexpr bool operator==(const Segment &, const Segment &) = default;
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

// What Remove does with a mapping that overlaps its range in part.
enum class RemovePolicy : std::uint8_t {
  kWhole = 0,  // it goes, all of it (as Linux's vhost IOTLB does)
  kSplit = 1,  // the bytes outside of the range stay mapped
};

// What Add does when the new mapping continues one that is there: the bytes
// and the memory follow each other, permission and token are equal.
enum class MergePolicy : std::uint8_t {
  kKeep = 0,   // two mappings
  kMerge = 1,  // one mapping
};

// Whether lookups go through the page-indexed front (page_front.h).
enum class FrontPolicy : std::uint8_t {
  kOn = 0,
  kOff = 1,  // the tree alone: least memory, cheapest Add and Remove
};

struct IotlbOptions {
  std::size_t limit = 0;  // entries; 0: none
  LimitPolicy limit_policy = LimitPolicy::kRefuse;
  OverlapPolicy overlap_policy = OverlapPolicy::kAllow;
  RemovePolicy remove_policy = RemovePolicy::kWhole;
  MergePolicy merge_policy = MergePolicy::kKeep;
  FrontPolicy front_policy = FrontPolicy::kOn;
  // Misses that can wait for an answer at a time; 0: no list is kept.
  std::size_t pending_misses = 0;
  // With the dirty stage: what is recorded, and in which pages.
  Range dirty_window = {};
  PageSize dirty_page = {};
};

// True when `next` continues `entry` (MergePolicy::kMerge).
constexpr bool Continues(const IotlbEntry &entry, const IotlbEntry &next) {
  return entry.range.IsFollowedBy(next.range) &&
         entry.permission == next.permission && entry.token == next.token &&
         entry.address.value() <=
             ~std::uint64_t{0} - entry.range.size_minus_one() &&
         next.address - entry.address ==
             next.range.first() - entry.range.first();
}

// What a Reader found. Counted by the reader, each on a cache line of its own.
struct ReaderStats {
  std::uint64_t hits = 0;
  std::uint64_t misses = 0;     // kNotMapped
  std::uint64_t faults = 0;     // kPermission
  std::uint64_t hint_hits = 0;  // hits that the last-hit hint answered
};

// Counted by the writer, but for `readers`: what a Reader counted.
struct IotlbStats {
  ReaderStats readers;                // of all Readers, also those that ended
  std::uint64_t splits = 0;           // mappings that Remove cut
  std::uint64_t merges = 0;           // mappings that Add joined to another
  std::size_t front_tables = 0;       // tables of the front
  std::uint64_t added = 0;            // mappings that ever entered by Add
  std::uint64_t removed = 0;          // by a Remove call or Clear, whole or cut
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
