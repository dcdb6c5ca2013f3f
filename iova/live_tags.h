// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_LIVE_TAGS_H_
#define DMAMAP_IOVA_LIVE_TAGS_H_

// LiveTags: a tag for each place where a range may begin, which says what
// became of the range that did. It makes the check of a free one load and one
// compare.
//
// Short ranges, which magazines hold, come in size classes of 1, 2, 4 ... pages
// and begin at multiples of that. Each class has tags of its own, so that those
// of many ranges share few cache lines: a leaf of 2^13 pages is the complete
// binary tree over them, node 1 on top and the pages from node 2^13 on, and the
// tag of a range is the node above its pages. Longer ranges, of more than half
// a granule, begin at multiples of it (64 pages by default) and have tags by
// granule: 18 MB for a million ranges of 64 to 256 pages, where a tag for each
// page would make 600 MB and each free a miss of all caches. iova/tag.h lists
// what a tag can say.
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
// Each size class has its own tags: when the overlap of two frees goes on until
// the address was handed out again in another size, the late one is not seen at
// the next free of that range either; the second return to the store is refused
// and counted there.
//
// Memory: 8 bytes a page where short ranges are, 4 a granule where long ones
// are, in leaves of 2^13 pages and 2^11 granules (SparseArray) that stay. (A
// tag needs 16 bits; stores of 32 measured a tenth faster than stores of 16.)
// Every access to a tag is relaxed: whoever frees an address learnt it from
// its allocator through an edge of the caller's own, and magazines change
// owners through the depot's edges. Thread-safe; Ensure under one lock.

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "dma/result.h"
#include "dma/version.h"
#include "iova/sparse_array.h"
#include "iova/tag.h"

namespace dmamap::inline v0 {

template <template <class> class Atom = std::atomic>
class LiveTags {
 public:
  // What the tags of short ranges cost for each page of a leaf.
  static constexpr std::uint64_t kPageBytes = 8;

  using Cell = TagCell<Atom>;

  // For pages below 2^page_bits. Ranges of up to 2^(classes - 1) pages are
  // short. REQUIRES: 1 <= classes <= 13; longer ranges begin at multiples of
  // 2^classes pages.
  Result<void> Init(unsigned page_bits, unsigned classes) {
    classes_ = classes;
    // At most 2^10, so that a range whose length needs a payload has five.
    granule_order_ = std::min(classes, 10u);
    // One bit more: a leaf has two nodes for each page.
    const Result<void> made = short_.Init(page_bits + 1);
    if (!made.ok()) return made;
    return long_.Init(page_bits > granule_order_ ? page_bits - granule_order_
                                                 : 1);
  }

  // The cell of a short range of this class, or null when none ever was near
  // it, or can begin there.
  Cell* Find(std::uint64_t first, unsigned size_class) const {
    // The highest bit of a page number is no part of its index.
    const std::uint64_t own = (std::uint64_t{1} << size_class) - 1;
    if ((first & (own | std::uint64_t{1} << 63)) != 0) return nullptr;
    return short_.Find(IndexOf(first, size_class));
  }

  // Where one caller found cells: leaves by the low bits of their number, so
  // that callers who go back and forth between neighbours find them all. Leaves
  // stay: it never goes stale.
  class Hint {
    friend LiveTags;
    static constexpr std::size_t kPlaces = 16;
    struct alignas(32) Place {
      std::uint64_t first = 0;  // byte, of the leaf
      Cell* cells = nullptr;
      std::uint64_t pages = 0;  // that the leaf has; 0: no leaf
    };
    std::array<Place, kPlaces> place;
  };
  // The same by the range's first byte, for pages of 2^shift bytes, and sooner
  // for a caller that frees what lies near its last ones. An address that is
  // not aligned to its class's size ends up with its low bits on top, behind
  // the end of every leaf.
  Cell* Find(std::uint64_t byte, unsigned shift, unsigned size_class,
             Hint& hint) const {
    typename Hint::Place& place =
        hint.place[(byte >> shift >> kLeafBits) % Hint::kPlaces];
    const std::uint64_t n =
        std::rotr(byte - place.first, static_cast<int>(shift + size_class));
    if (n >= place.pages >> size_class) [[unlikely]]
      return FindAndNote(byte, shift, size_class, place);
    return place.cells + (kLeafPages >> size_class) + n;
  }

  // Makes room for short ranges that begin at any page of [first, last]. Under
  // the owner's lock. kNoMemory: nothing is lost.
  Result<void> Ensure(std::uint64_t first, std::uint64_t last) {
    return short_.Ensure(IndexOf(first, 0), IndexOf(last, 0));
  }
  // As Ensure, for one range: only what MarkLive writes.
  Result<void> EnsureRange(std::uint64_t first, std::uint64_t pages) {
    if (!IsLong(pages)) return Ensure(first, first);
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
    const Found found = FindAll(first);
    if (found.live) return Error::kMismatch;
    return found.held ? Error::kDoubleFree : Error::kForeign;
  }

  // The same for the release of a retired range.
  Result<void> CheckRetired(std::uint64_t first, std::uint64_t pages) const {
    const Tag own = TagOf(FindRange(first, pages));
    if (own.is_retired() && LengthOf(first, own) == pages) return Ok();
    const Found found = FindAll(first);
    if (found.retired) return Error::kMismatch;
    if (found.live) return Error::kBusy;
    return found.held ? Error::kDoubleFree : Error::kForeign;
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
  static constexpr unsigned kLeafBits = 13;  // pages
  static constexpr std::uint64_t kLeafPages = std::uint64_t{1} << kLeafBits;

  // Of the tag of a short range: its leaf's tree, and the node there.
  static std::uint64_t IndexOf(std::uint64_t first, unsigned size_class) {
    const std::uint64_t page = first & (kLeafPages - 1);
    return (first >> kLeafBits << (kLeafBits + 1)) |
           ((kLeafPages | page) >> size_class);
  }
  [[gnu::noinline]] Cell* FindAndNote(std::uint64_t byte, unsigned shift,
                                      unsigned size_class,
                                      typename Hint::Place& place) const {
    const std::uint64_t page = byte >> shift;
    if (page << shift != byte) return nullptr;
    Cell* cell = Find(page, size_class);
    if (cell == nullptr) return nullptr;
    const std::uint64_t first = page & ~(kLeafPages - 1);
    place = {first << shift,
             cell - ((kLeafPages | (page - first)) >> size_class), kLeafPages};
    return cell;
  }

  bool IsLong(std::uint64_t pages) const {
    return pages > std::uint64_t{1} << (classes_ - 1);
  }
  Cell* FindLong(std::uint64_t first) const {
    const std::uint64_t granule = first >> granule_order_;
    return granule << granule_order_ == first ? long_.Find(granule) : nullptr;
  }
  // The cell of a range of this length; null as Find's.
  Cell* FindRange(std::uint64_t first, std::uint64_t pages) const {
    return IsLong(pages)
               ? FindLong(first)
               : Find(first, static_cast<unsigned>(std::bit_width(pages - 1)));
  }
  // What ranges of any length that begin at this page are and were.
  struct Found {
    bool live = false;
    bool retired = false;
    bool held = false;
  };
  Found FindAll(std::uint64_t first) const {
    Found found;
    const auto add = [&found](Tag tag) {
      found.live = found.live || tag.is_live();
      found.retired = found.retired || tag.is_retired();
      found.held = found.held || WasHeld(tag);
    };
    for (unsigned c = 0; c < classes_; ++c) add(TagOf(Find(first, c)));
    add(TagOf(FindLong(first)));
    return found;
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
  // The wanted cell of a short range that begins at `page` or first behind it;
  // `page` becomes its own. Null when there is none.
  template <class Want>
  const Cell* NextShort(std::uint64_t& page, const Want& want) const {
    for (;;) {
      std::uint64_t index = IndexOf(page & ~(kLeafPages - 1), kLeafBits) - 1;
      const Cell* leaf =
          short_.FindFrom(index, [](const Cell&) { return true; });
      if (leaf == nullptr) return nullptr;
      const std::uint64_t first = index >> (kLeafBits + 1) << kLeafBits;
      page = std::max(page, first);
      for (; page < first + kLeafPages; ++page) {
        const std::uint64_t node = kLeafPages | (page - first);
        for (unsigned c = 0; c < classes_; ++c) {
          const Cell* cell = leaf + (node >> c);
          if (want(*cell)) return cell;
          if ((node >> c & 1) != 0) break;  // no longer one begins here
        }
      }
    }
  }
  // Merges short and long ranges by their first pages.
  template <class Want, class Fn>
  void ForEach(const Want& want, Fn& fn) const {
    std::uint64_t page = 0;
    std::uint64_t granule = 0;
    const Cell* brief = NextShort(page, want);
    const Cell* wide = long_.FindFrom(granule, want);
    while (brief != nullptr || wide != nullptr) {
      const std::uint64_t first = granule << granule_order_;
      if (wide == nullptr || (brief != nullptr && page < first)) {
        fn(page, LengthOf(page, brief->Load()));
        brief = NextShort(++page, want);
      } else {
        fn(first, LengthOf(first, wide->Load()));
        wide = long_.FindFrom(++granule, want);
      }
    }
  }

  unsigned classes_ = 1;
  unsigned granule_order_ = 0;
  SparseArray<Cell, Atom, kLeafBits + 1, 8> short_;  // by IndexOf
  SparseArray<Cell, Atom, 11, 10> long_;             // by granule
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_LIVE_TAGS_H_
