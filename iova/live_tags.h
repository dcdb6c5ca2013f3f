// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_LIVE_TAGS_H_
#define DMAMAP_IOVA_LIVE_TAGS_H_

// LiveTags: 16 bits for each place where a range may begin, which say what
// became of the range that did. They make the check of a free one load and one
// compare.
//
// Short ranges, which magazines hold, may begin at any page. Longer ones, of
// more than half a granule, begin at multiples of it (64 pages by default) and
// have tags of their own, one for each granule: 9 MB of tags for a million
// ranges of 64 to 256 pages, where a tag for each page would make 300 MB and
// each free a miss of all caches.
//
//   never        no range ever began here (also: interior pages)
//   released     one did; its pages are back in the store
//   live(n)      a range of n pages begins here and is handed out
//   cached(m)    the page is an entry of magazine number m
//   retired(n)   a range of n pages begins here that its owner has given up;
//                somebody has to release it before it can be handed out again
//                (a flush queue, once no device knows the address any more)
//   payload      16 bits less two of the length of a live or retired range of
//                more than Tag::kMaxInline pages, in the four granules behind
//                its first
//
// Why the magazine is named. A free on the fast path reads live(n), then
// writes cached(m): two steps, so that no atomic read-modify-write is needed
// (it would cost more than everything else together). Two frees of one address
// that overlap in time can therefore both pass the check, and the address lies
// in two magazines. The tag names the one that wrote last, and only a
// magazine's owner turns its cached(m) into live(n): whoever pops the other
// entry sees that the tag does not name its magazine, drops it and counts it.
// That mends the overlap as long as neither magazine goes back to the store
// between the two steps of the other free; if one does, the address can be
// handed out twice. (Overlap: neither free happens before the other. On a
// machine with weakly ordered memory the second may even begin after the first
// has ended, as long as nothing the two threads did orders them.) Threads that
// do not trust each other to free an address once take FreeCheck::kExact, in
// which the later of the two gets kDoubleFree.
//
// Memory: 2 bytes a page where short ranges are, 2 a granule where long ones
// are, in leaves of 2^14 pages and 2^11 granules (SparseArray) that stay.
// Every access to a tag is relaxed: whoever frees an address learnt it from
// its allocator through an edge of the caller's own, and magazines change
// owners through the depot's edges. Thread-safe; Ensure under one lock.

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "dma/result.h"
#include "dma/version.h"
#include "iova/sparse_array.h"

namespace dmamap::inline v0 {

// How a free is checked before it enters a cache.
enum class FreeCheck : std::uint8_t {
  // One load, one compare, one store. Always finds a double free on one
  // thread, or on two when the one free happens before the other; a wrong size
  // and a foreign address always. Two frees of one address of which neither
  // happens before the other (a race in the caller) may both report success.
  // The surplus entry is then
  // dropped and counted (AllocatorStats::late_double_frees), unless the
  // address went back to the store before the second wrote its tag: then it can
  // be handed out twice.
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
  constexpr explicit Tag(std::uint16_t bits) : bits_(bits) {}
  static constexpr Tag Never() { return Tag(0); }
  static constexpr Tag Released() { return Tag(1); }
  // REQUIRES: 1 <= pages <= kMaxInline.
  static constexpr Tag Live(std::uint64_t pages) {
    return Tag(static_cast<std::uint16_t>(kLive | pages));
  }
  // A range longer than kMaxInline: its length is in four payload tags.
  static constexpr Tag LiveLong() { return Tag(kLive); }
  // REQUIRES: magazine < kMaxMagazines.
  static constexpr Tag Cached(std::uint32_t magazine) {
    return Tag(static_cast<std::uint16_t>(kCached | magazine));
  }
  // Of a range of any length.
  static constexpr Tag Retired(std::uint64_t pages) {
    return Tag(static_cast<std::uint16_t>(
        pages <= kMaxInline ? kRetiredLong + pages : kRetiredLong));
  }
  static constexpr Tag Payload(std::uint64_t bits) {
    return Tag(static_cast<std::uint16_t>(kPayload | (bits & kValue)));
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
  constexpr std::uint16_t bits() const { return bits_; }
  friend constexpr bool operator==(Tag, Tag) = default;

 private:
  static constexpr std::uint16_t kKind = 3u << 14;
  static constexpr std::uint16_t kLive = 1u << 14;
  static constexpr std::uint16_t kCached = 2u << 14;
  static constexpr std::uint16_t kPayload = 3u << 14;
  static constexpr std::uint16_t kValue = (1u << 14) - 1;
  static constexpr std::uint16_t kRetiredLong = 2;  // after never, released
  std::uint16_t bits_ = 0;
};

template <template <class> class Atom = std::atomic>
class LiveTags {
 public:
  // The tag of one page; see the orders at the top.
  class Cell {
   public:
    Tag Load() const { return Tag(bits_.load(std::memory_order_relaxed)); }
    bool Is(Tag tag) const { return Load() == tag; }
    void Store(Tag tag) { bits_.store(tag.bits(), std::memory_order_relaxed); }
    // Stores `to` if the tag is `from`; of several callers one succeeds.
    bool Exchange(Tag from, Tag to) {
      std::uint16_t expected = from.bits();
      return bits_.compare_exchange_strong(expected, to.bits(),
                                           std::memory_order_relaxed,
                                           std::memory_order_relaxed);
    }

   private:
    Atom<std::uint16_t> bits_{0};
  };

  // For pages below 2^page_bits. Ranges of up to 2^(classes - 1) pages are
  // short. REQUIRES: 1 <= classes <= 13; longer ranges begin at multiples of
  // 2^classes pages.
  Result<void> Init(unsigned page_bits, unsigned classes) {
    longest_short_ = std::uint64_t{1} << (classes - 1);
    // At most 2^10, so that a range whose length needs a payload has five.
    granule_order_ = std::min(classes, 10u);
    const Result<void> made = short_.Init(page_bits);
    if (!made.ok()) return made;
    return long_.Init(page_bits > granule_order_ ? page_bits - granule_order_
                                                 : 1);
  }

  // The cell of a page for short ranges, or null when none ever was near it.
  Cell* Find(std::uint64_t page) const { return short_.Find(page); }

  // The same, sooner for a caller that frees what lies near its last one.
  using Hint = typename SparseArray<Cell, Atom>::Hint;
  Cell* Find(std::uint64_t page, Hint& hint) const {
    return short_.Find(page, hint);
  }

  // Makes room for a short range that begins at any page of [first, last].
  // Under the owner's lock. kNoMemory: nothing is lost.
  Result<void> Ensure(std::uint64_t first, std::uint64_t last) {
    return short_.Ensure(first, last);
  }
  // As Ensure, for one range: only what MarkLive writes.
  Result<void> EnsureRange(std::uint64_t first, std::uint64_t pages) {
    if (!IsLong(pages)) return short_.Ensure(first, first);
    const std::uint64_t granule = first >> granule_order_;
    return long_.Ensure(granule,
                        pages > Tag::kMaxInline ? granule + 4 : granule);
  }

  // Records a range that leaves the store for a caller. REQUIRES: EnsureRange.
  void MarkLive(std::uint64_t first, std::uint64_t pages) {
    if (pages > Tag::kMaxInline) {
      for (unsigned i = 0; i < 4; ++i) {
        PayloadCell(first, i)->Store(Tag::Payload(pages >> (14 * i)));
      }
    }
    FindRange(first, pages)->Store(LiveTag(pages));
  }

  // A hint that this range is retired next.
  void Prefetch(std::uint64_t first, std::uint64_t pages) const {
    const Cell* cell = FindRange(first, pages);
    if (cell != nullptr) __builtin_prefetch(cell, 1);
  }

  // Why a range of `pages` pages from `first` cannot be freed, or Ok.
  Result<void> Check(std::uint64_t first, std::uint64_t pages) const {
    const Tag own = TagOf(FindRange(first, pages));
    if (own.is_live() && LengthOf(first, own) == pages) return Ok();
    const Tag other = TagOf(FindOther(first, pages));
    if (own.is_live() || other.is_live()) return Error::kMismatch;
    return WasHeld(own) || WasHeld(other) ? Error::kDoubleFree
                                          : Error::kForeign;
  }

  // The same for the release of a retired range.
  Result<void> CheckRetired(std::uint64_t first, std::uint64_t pages) const {
    const Tag own = TagOf(FindRange(first, pages));
    if (own.is_retired() && LengthOf(first, own) == pages) return Ok();
    const Tag other = TagOf(FindOther(first, pages));
    if (own.is_retired() || other.is_retired()) return Error::kMismatch;
    if (own.is_live() || other.is_live()) return Error::kBusy;
    return WasHeld(own) || WasHeld(other) ? Error::kDoubleFree
                                          : Error::kForeign;
  }

  // Takes a live range out of use: of several callers exactly one succeeds,
  // the others get the error that Check gives.
  Result<void> Retire(std::uint64_t first, std::uint64_t pages, Tag to) {
    const Result<void> checked = Check(first, pages);
    if (!checked.ok()) return checked;
    if (!FindRange(first, pages)->Exchange(LiveTag(pages), to)) {
      return Overtaken(Check(first, pages));
    }
    if (!to.is_retired()) ForgetLength(first, pages);
    return Ok();
  }

  // What becomes of a retired range: `to` is released or cached, or live
  // again. Of several callers exactly one succeeds, the others get the error
  // that CheckRetired gives.
  Result<void> EndRetired(std::uint64_t first, std::uint64_t pages, Tag to) {
    const Result<void> checked = CheckRetired(first, pages);
    if (!checked.ok()) return checked;
    if (!FindRange(first, pages)->Exchange(Tag::Retired(pages), to)) {
      return Overtaken(CheckRetired(first, pages));
    }
    if (!to.is_live()) ForgetLength(first, pages);
    return Ok();
  }
  static constexpr Tag LiveTag(std::uint64_t pages) {
    return pages <= Tag::kMaxInline ? Tag::Live(pages) : Tag::LiveLong();
  }

  // Calls fn(first page, pages) for each live range, ascending. Exact only
  // while nobody allocates or frees.
  template <class Fn>
  void ForEachLive(Fn&& fn) const {
    ForEach([](const Cell& cell) { return cell.Load().is_live(); }, fn);
  }
  // The same for each live or retired range.
  template <class Fn>
  void ForEachHeld(Fn&& fn) const {
    ForEach(
        [](const Cell& cell) {
          const Tag tag = cell.Load();
          return tag.is_live() || tag.is_retired();
        },
        fn);
  }

  std::uint64_t bytes() const { return short_.bytes() + long_.bytes(); }

 private:
  // The error of a call that found the tag changed by another one. When the tag
  // is back by now, that one has ended the range in between.
  static Error Overtaken(const Result<void>& checked) {
    return checked.ok() ? Error::kDoubleFree : checked.error();
  }
  bool IsLong(std::uint64_t pages) const { return pages > longest_short_; }
  Cell* FindLong(std::uint64_t first) const {
    const std::uint64_t granule = first >> granule_order_;
    return granule << granule_order_ == first ? long_.Find(granule) : nullptr;
  }
  // The cell of a range of this length, and the one that a range of the other
  // kind would have; null as Find's.
  Cell* FindRange(std::uint64_t first, std::uint64_t pages) const {
    return IsLong(pages) ? FindLong(first) : Find(first);
  }
  Cell* FindOther(std::uint64_t first, std::uint64_t pages) const {
    return IsLong(pages) ? Find(first) : FindLong(first);
  }
  // i < 4, of a long range.
  Cell* PayloadCell(std::uint64_t first, unsigned i) const {
    return long_.Find((first >> granule_order_) + 1 + i);
  }
  static Tag TagOf(const Cell* cell) {
    return cell != nullptr ? cell->Load() : Tag::Never();
  }
  static bool WasHeld(Tag tag) {
    return tag.is_cached() || tag.is_retired() || tag == Tag::Released();
  }
  // Pages of the live or retired range that begins at `first`, whose tag is
  // `tag`.
  std::uint64_t LengthOf(std::uint64_t first, Tag tag) const {
    const std::uint64_t inlined =
        tag.is_retired() ? tag.retired_pages() : tag.value();
    if (inlined != 0) return inlined;
    std::uint64_t pages = 0;
    for (unsigned i = 0; i < 4; ++i) {
      pages |= PayloadCell(first, i)->Load().value() << (14 * i);
    }
    return pages;
  }
  void ForgetLength(std::uint64_t first, std::uint64_t pages) {
    if (pages <= Tag::kMaxInline) return;
    for (unsigned i = 0; i < 4; ++i) {
      PayloadCell(first, i)->Store(Tag::Never());
    }
  }
  // Merges short and long ranges by their first pages.
  template <class Want, class Fn>
  void ForEach(const Want& want, Fn& fn) const {
    std::uint64_t page = 0;
    std::uint64_t granule = 0;
    const Cell* brief = short_.FindFrom(page, want);
    const Cell* wide = long_.FindFrom(granule, want);
    while (brief != nullptr || wide != nullptr) {
      const std::uint64_t first = granule << granule_order_;
      if (wide == nullptr || (brief != nullptr && page < first)) {
        fn(page, LengthOf(page, brief->Load()));
        brief = short_.FindFrom(++page, want);
      } else {
        fn(first, LengthOf(first, wide->Load()));
        wide = long_.FindFrom(++granule, want);
      }
    }
  }

  std::uint64_t longest_short_ = 0;  // pages
  unsigned granule_order_ = 0;
  SparseArray<Cell, Atom> short_;         // by page
  SparseArray<Cell, Atom, 11, 10> long_;  // by granule
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_LIVE_TAGS_H_
