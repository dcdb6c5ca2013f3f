// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_TAG_H_
#define DMAMAP_IOVA_TAG_H_

// What a tag can say of a range, and how a free is checked against it
// (live_tags.h keeps the tags).
//
//   never        no range of this class ever began here
//   released     one did; its pages are back in the store
//   live(n)      a range of n pages begins here and is handed out
//   cached(m)    the page is an entry of magazine number m
//   retired(n)   a range of n pages begins here that its owner has given up;
//                somebody has to release it before it can be handed out again
//                (a flush queue, once no device knows the address any more)
//   payload      16 bits less two of the length of a live or retired range of
//                more than Tag::kMaxInline pages, in the four granules behind
//                its first

#include <atomic>
#include <cstdint>

#include "dma/version.h"

namespace dmamap::inline v0 {

// How a free is checked before it enters a cache.
enum class FreeCheck : std::uint8_t {
  // One load, one compare, one store. Always finds a double free on one
  // thread, or on two when the one free happens before the other; a wrong size
  // and a foreign address always. Two frees of one address of which neither
  // happens before the other (a race in the caller) may both report success.
  // The surplus entry is then dropped and counted
  // (AllocatorStats::late_double_frees), unless the address went back to the
  // store before the second wrote its tag: then it can be handed out twice.
  kOrdered,
  // One compare-exchange: of frees that race, exactly one succeeds.
  kExact,
  // Nothing is recorded and every free is believed: tags cost no memory, a
  // wrong free of a cached size does damage, and ForEachLive and Dump list no
  // range. For embedders who have shown their frees right elsewhere.
  kOff,
};

class Tag {
 public:
  // Pages of the longest range whose tag holds its length: retired(n) shares
  // its kind with never, released and the retired long one.
  static constexpr std::uint64_t kMaxInline = (1u << 14) - 1 - 2;
  static constexpr std::uint32_t kMaxMagazines = 1u << 14;

  constexpr Tag() = default;
  constexpr explicit Tag(std::uint32_t bits) : bits_(bits) {}
  static constexpr Tag Never() { return Tag(0); }
  static constexpr Tag Released() { return Tag(1); }
  // REQUIRES: 1 <= pages <= kMaxInline.
  static constexpr Tag Live(std::uint64_t pages) {
    return Tag(static_cast<std::uint32_t>(kLive | pages));
  }
  // A range longer than kMaxInline: its length is in four payload tags.
  static constexpr Tag LiveLong() { return Tag(kLive); }
  // REQUIRES: magazine < kMaxMagazines.
  static constexpr Tag Cached(std::uint32_t magazine) {
    return Tag(static_cast<std::uint32_t>(kCached | magazine));
  }
  // Of a range of any length.
  static constexpr Tag Retired(std::uint64_t pages) {
    return Tag(static_cast<std::uint32_t>(
        pages <= kMaxInline ? kRetiredLong + pages : kRetiredLong));
  }
  static constexpr Tag Payload(std::uint64_t bits) {
    return Tag(static_cast<std::uint32_t>(kPayload | (bits & kValue)));
  }

  constexpr bool is_live() const { return (bits_ & kKind) == kLive; }
  constexpr bool is_cached() const { return (bits_ & kKind) == kCached; }
  constexpr bool is_retired() const {
    return (bits_ & kKind) == 0 && bits_ >= kRetiredLong;
  }
  // Pages of a live range, 0 for a long one; the payload of a payload.
  constexpr std::uint64_t value() const { return bits_ & kValue; }
  // Pages of a retired range, 0 for a long one. REQUIRES: is_retired().
  constexpr std::uint64_t retired_pages() const { return bits_ - kRetiredLong; }
  constexpr std::uint32_t bits() const { return bits_; }
  friend constexpr bool operator==(Tag, Tag) = default;

 private:
  static constexpr std::uint32_t kKind = std::uint32_t{3} << 14;
  static constexpr std::uint32_t kLive = std::uint32_t{1} << 14;
  static constexpr std::uint32_t kCached = std::uint32_t{2} << 14;
  static constexpr std::uint32_t kPayload = std::uint32_t{3} << 14;
  static constexpr std::uint32_t kValue = (std::uint32_t{1} << 14) - 1;
  static constexpr std::uint32_t kRetiredLong = 2;  // after never, released
  std::uint32_t bits_ = 0;
};

// Where a tag is kept. All accesses are relaxed: see the end of the prose in
// live_tags.h.
template <template <class> class Atom = std::atomic>
class TagCell {
 public:
  Tag Load() const { return Tag(bits_.load(std::memory_order_relaxed)); }
  bool Is(Tag tag) const { return Load() == tag; }
  void Store(Tag tag) { bits_.store(tag.bits(), std::memory_order_relaxed); }
  // Stores `to` if the tag is `from`; of several callers one succeeds.
  bool Exchange(Tag from, Tag to) {
    std::uint32_t expected = from.bits();
    return bits_.compare_exchange_strong(expected, to.bits(),
                                         std::memory_order_relaxed,
                                         std::memory_order_relaxed);
  }

 private:
  Atom<std::uint32_t> bits_{0};
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_TAG_H_
