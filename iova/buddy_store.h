// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_BUDDY_STORE_H_
#define DMAMAP_IOVA_BUDDY_STORE_H_

// BuddyStore: a binary buddy over the bitmaps of BlockTrie; a RangeStore.
//
// Free pages are kept as blocks of 2^o pages at a multiple of 2^o, always
// merged as far as they go (Knuth, TAOCP vol. 1, 2.5). Top-down, a request
// takes the smallest free block that holds it in the upper half of the space
// that its limits leave, else the smallest anywhere; of equal ones the highest;
// and in that block the highest aligned place. So low addresses, which narrow
// devices need, go last, and large blocks stay whole. Bottom-up is the mirror
// image. Everything that the request does not need, on both sides, stays free:
// 33 pages take 33.
//
// When it refuses. A request of n pages and p of padding, aligned to 2^a, is
// placed at a multiple of 2^w, w = max(a, ceil(log2(n + p))). kNoSpace says
// exactly that no free 2^w pages begin at such a multiple between `first` and
// `last` - n + 1; for a power of two aligned to its size that is no restriction
// at all. n free pages that straddle a block boundary do not serve a request
// for n that is not a power of two. A boundary costs nothing: a block of 2^w
// pages crosses no multiple of 2^b, b >= ceil(log2 n).
//
// The range freed last is kept apart, whole and unmerged, for a request of that
// length if it is a power of two, until the next free or until nothing else
// serves: to free and allocate one size in turn would otherwise merge a block
// of up to the whole window each time, and split it again. It counts as free.
//
// Cost: one walk, at most nine steps, and one more for each order that has a
// free block, then one bit for each split or merge; independent of how many
// ranges are live. A refusal looks at nothing smaller than the request.
//
// Memory: see BlockTrie. Free needs none: the nodes that a range's blocks live
// in are made when the range is cut out and stay while any of it is in use
// (for its pieces too, when the request names their size).
//
// Single-threaded: the owner holds a lock.

#include <algorithm>
#include <bit>
#include <cstdint>
#include <utility>

#include "dma/assert.h"
#include "dma/result.h"
#include "dma/version.h"
#include "iova/block_places.h"
#include "iova/block_trie.h"
#include "iova/constraints.h"
#include "iova/range_store.h"

namespace dmamap::inline v0 {

class BuddyStore {
 public:
  BuddyStore() = default;

  // Pages [first, last] of which none is free yet. kInvalidArgument when last
  // < first, kUnsupported when last is not below 2^kMaxPageBits.
  Result<void> Init(std::uint64_t first, std::uint64_t last) {
    if (initialised_) return Error::kBusy;
    if (last < first) return Error::kInvalidArgument;
    if ((last >> kMaxPageBits) != 0) return Error::kUnsupported;
    // Enough levels for the last page, and for a block of the whole window.
    const auto bits = static_cast<unsigned>(std::bit_width(last));
    const unsigned order = FloorLog2(last - first + 1);
    unsigned levels = BlockTrie::kMinLevels;
    while (6 * levels < bits || 6 * levels - 1 < order) ++levels;
    const Result<void> made = trie_.Init(levels);
    if (!made.ok()) return made;
    first_ = first;
    last_ = last;
    initialised_ = true;
    return Ok();
  }

  // See RangeStore.
  Result<void> Insert(std::uint64_t first, std::uint64_t last) {
    if (!initialised_) return Error::kShutDown;
    if (last < first) return Error::kInvalidArgument;
    if (first < first_ || last > last_) return Error::kOutOfRange;
    MergeRecent();
    const std::uint64_t count = last - first + 1;
    Result<void> outcome = EachBlock(first, count, [&](auto page, auto order) {
      const Result<void> made = trie_.Reserve(page, order);
      if (!made.ok()) return made;
      return trie_.AnySet(trie_.Walk(page), order, page)
                 ? Result<void>(Error::kOverlap)
                 : Ok();
    });
    if (!outcome.ok()) return outcome;
    ReleaseAll(first, count);
    free_pages_ += count;
    return Ok();
  }

  // See RangeStore.
  Result<std::uint64_t> Allocate(const PageRequest& request) {
    if (!initialised_) return Error::kShutDown;
    const std::uint64_t count = request.count;
    if (count == 0) return Error::kInvalidArgument;
    if (request.boundary_order < 64 &&
        (count - 1) >> request.boundary_order != 0) {
      return Error::kInvalidArgument;
    }
    if (count > free_pages_ || request.padding > free_pages_ - count) {
      return Error::kNoSpace;
    }
    const BlockPlaces places = PlacesFor(request);
    if (places.low > places.high) return Error::kNoSpace;
    if (RecentSuits(request, places)) return TakeRecent();
    BlockPlace place = places.Find(trie_, request.placement);
    if (place.block == BlockTrie::kNone && recent_.count != 0) {
      MergeRecent();
      place = places.Find(trie_, request.placement);
    }
    if (place.block == BlockTrie::kNone) return Error::kNoSpace;
    return Cut(place, request);
  }

  // See RangeStore.
  bool HasPlaceFor(const PageRequest& request) const {
    if (!initialised_) return false;
    const BlockPlaces places = PlacesFor(request);
    return places.low <= places.high;
  }

  // See RangeStore. Also takes back a part of a range.
  Result<void> Free(std::uint64_t first, std::uint64_t count) {
    if (!initialised_) return Error::kShutDown;
    if (count == 0) return Error::kInvalidArgument;
    if (first < first_ || first > last_ || count - 1 > last_ - first) {
      return Error::kForeign;
    }
    if (recent_.Overlaps(first, count)) return Error::kDoubleFree;
    const Result<void> outcome = EachBlock(
        first, count,
        [&](auto page, auto order) { return CheckInUse(page, order); });
    if (!outcome.ok()) return outcome;
    MergeRecent();
    recent_ = {first, count};
    free_pages_ += count;
    return Ok();
  }

  // See RangeStore. Its leaf is what a free waits for among many live ranges.
  void Prefetch(std::uint64_t page) const {
    if (initialised_ && first_ <= page && page <= last_) trie_.Prefetch(page);
  }

  std::uint64_t free_pages() const { return free_pages_; }
  std::uint64_t bytes() const { return trie_.bytes(); }

  // Calls fn(first page, pages) for each free block, and for what was freed
  // last, in no particular order.
  template <class Fn>
  void ForEachFree(Fn&& fn) const {
    if (recent_.count != 0) fn(recent_.first, recent_.count);
    trie_.ForEach([&](unsigned order, std::uint64_t page) {
      fn(page, std::uint64_t{1} << order);
    });
  }

  // The bitmaps agree, free blocks are disjoint and lie in the window, no two
  // buddies are both free, and the count is right. Walks everything.
  bool CheckInvariants() const;

 private:
  static constexpr unsigned FloorLog2(std::uint64_t n) {
    return static_cast<unsigned>(std::bit_width(n)) - 1;
  }
  static constexpr unsigned CeilLog2(std::uint64_t n) {
    return static_cast<unsigned>(std::bit_width(n - 1));
  }

  // The lowest and the highest place for the request; the first above the other
  // when there is none. REQUIRES: as HasPlaceFor.
  BlockPlaces PlacesFor(const PageRequest& request) const {
    const BlockPlaces none = {.want = 0, .low = 1, .high = 0};
    const std::uint64_t count = request.count;
    const std::uint64_t first = std::max(request.first, first_);
    const std::uint64_t last = std::min(request.last, last_);
    if (first > last || count - 1 > last - first) return none;
    const unsigned want =
        std::max(CeilLog2(count + request.padding), request.align_order);
    if (want > trie_.max_order()) return none;
    // No overflow: pages are below 2^52.
    const std::uint64_t step = std::uint64_t{1} << want;
    return {.want = want,
            .low = (first + step - 1) & ~(step - 1),
            .high = (last - (count - 1)) & ~(step - 1)};
  }

  // Calls fn(page, order) for the largest aligned blocks that make up the
  // range, ascending, until one fails. At most two for each order.
  template <class Fn>
  Result<void> EachBlock(std::uint64_t page, std::uint64_t count, Fn&& fn) {
    while (count != 0) {
      unsigned order = FloorLog2(count);
      const auto aligned = static_cast<unsigned>(std::countr_zero(page));
      if (order > aligned) order = aligned;
      if (order > trie_.max_order()) order = trie_.max_order();
      const Result<void> outcome = fn(page, order);
      if (!outcome.ok()) return outcome;
      page += std::uint64_t{1} << order;
      count -= std::uint64_t{1} << order;
    }
    return Ok();
  }

  // Takes the request's pages out of a free block.
  Result<std::uint64_t> Cut(const BlockPlace& place,
                            const PageRequest& request) {
    const std::uint64_t block = place.block;
    const std::uint64_t end = block + (std::uint64_t{1} << place.order);
    const std::uint64_t s = place.at;
    const std::uint64_t behind = s + request.count + request.padding;
    // The blocks left in front lie on the way to s - 1 and are no smaller than
    // the lowest set bit of s; likewise behind.
    Result<void> made = Ok();
    if (s != block) made = trie_.Reserve(s - 1, LowestOrder(s));
    if (made.ok() && behind != end) {
      made = trie_.Reserve(behind, LowestOrder(behind));
    }
    if (made.ok() && request.piece_order <= trie_.max_order()) {
      made = trie_.ReserveAll(s, behind - 1, request.piece_order);
    }
    if (!made.ok()) return made.error();
    trie_.Clear(trie_.Walk(block), place.order, block);
    SetBlocks(block, s - block, s - 1);
    SetBlocks(behind, end - behind, behind);
    free_pages_ -= behind - s;
    return s;
  }
  static unsigned LowestOrder(std::uint64_t page) {
    return static_cast<unsigned>(std::countr_zero(page));
  }

  // Marks the blocks of a range that cannot merge, all on the way to `through`.
  void SetBlocks(std::uint64_t page, std::uint64_t count,
                 std::uint64_t through) {
    if (count == 0) return;
    BlockTrie::Path path = trie_.Walk(through);
    (void)EachBlock(page, count, [&](auto block, auto order) {
      // A level 0 heap is found by the path's page.
      path.page = block;
      trie_.Set(path, order, block);
      return Ok();
    });
  }

  Result<void> CheckInUse(std::uint64_t page, unsigned order) const {
    const BlockTrie::Path path = trie_.Walk(page);
    if (trie_.Has(path, order)) {
      return trie_.AnySet(path, order, page) ? Result<void>(Error::kDoubleFree)
                                             : Ok();
    }
    // No node, so this is inside one block of a higher level: free, or part of
    // a live range that is to be freed as it was handed out.
    for (unsigned o = order + 1; o <= trie_.max_order(); ++o) {
      if (trie_.Has(path, o) && trie_.AnySet(path, o, page)) {
        return Error::kDoubleFree;
      }
    }
    return Error::kForeign;
  }

  void ReleaseAll(std::uint64_t first, std::uint64_t count) {
    (void)EachBlock(first, count, [&](auto page, auto order) {
      Release(page, order);
      return Ok();
    });
  }

  // The range freed last: no part of the trie.
  struct Recent {
    std::uint64_t first = 0;
    std::uint64_t count = 0;  // pages; 0: there is none

    bool Overlaps(std::uint64_t page, std::uint64_t pages) const {
      return count != 0 && page < first + count && first < page + pages;
    }
  };
  // True when it is where and as long as the request asks, on the better side.
  bool RecentSuits(const PageRequest& request, const BlockPlaces& p) const {
    const std::uint64_t at = recent_.first;
    if (request.count + request.padding != recent_.count) return false;
    // A whole block, or it would serve where the rule at the top says no.
    if (recent_.count != std::uint64_t{1} << p.want) return false;
    if (request.piece_order != PageRequest::kWhole) return false;
    if (at < p.low || at > p.high || at >> p.want << p.want != at) return false;
    return request.placement == Placement::kTopDown ? p.high - at <= at - p.low
                                                    : at - p.low <= p.high - at;
  }
  std::uint64_t TakeRecent() {
    free_pages_ -= std::exchange(recent_.count, 0);
    return recent_.first;
  }
  void MergeRecent() {
    ReleaseAll(recent_.first, std::exchange(recent_.count, 0));
  }

  // Frees one block and merges it with its free buddies.
  void Release(std::uint64_t page, unsigned order) {
    BlockTrie::Path path = trie_.Walk(page);
    while (order < trie_.max_order()) {
      const std::uint64_t buddy = page ^ (std::uint64_t{1} << order);
      if (!trie_.Test(path, order, buddy)) break;
      trie_.Clear(path, order, buddy);
      page &= ~(std::uint64_t{1} << order);
      ++order;
      // The merged block is a whole child of a node of the next level.
      if (order % 6 == 0) trie_.Drop(path, BlockTrie::LevelOf(order));
    }
    trie_.Set(path, order, page);
  }

  BlockTrie trie_;
  std::uint64_t first_ = 0;
  std::uint64_t last_ = 0;
  std::uint64_t free_pages_ = 0;
  Recent recent_;
  bool initialised_ = false;
};
static_assert(RangeStore<BuddyStore>);

}  // namespace dmamap::inline v0

#include "iova/buddy_store_check.h"  // IWYU pragma: export

#endif  // DMAMAP_IOVA_BUDDY_STORE_H_
