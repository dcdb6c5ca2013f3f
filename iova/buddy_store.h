// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_BUDDY_STORE_H_
#define DMAMAP_IOVA_BUDDY_STORE_H_

// BuddyStore: a binary buddy over the bitmaps of BlockTrie; a RangeStore.
//
// Free pages are kept as blocks of 2^o pages at a multiple of 2^o, always
// merged as far as they go (Knuth, TAOCP vol. 1, 2.5). A request takes the
// smallest free block that holds it in the upper half of the space that its
// limit leaves, else the smallest anywhere; of equal ones the highest; and in
// that block the highest aligned place under the limit. So low addresses, which
// narrow devices need, go last, and large blocks stay whole. Everything that
// the request does not need, on both sides, stays free: 33 pages take 33.
//
// When it refuses. A request of n pages aligned to 2^a needs an aligned free
// block of 2^max(a, ceil(log2 n)) pages, of which the first n lie under the
// limit. kNoSpace says exactly that there is none; for a power of two aligned
// to its size that is no restriction at all. n free pages that straddle a
// block boundary do not serve a request for n that is not a power of two.
//
// Cost: at most one FindLast (two walks of at most nine steps) for each order
// that has a free block, then one bit for each split or merge; independent of
// how many ranges are live. A refusal looks at nothing smaller than the
// request.
//
// Memory: see BlockTrie. Free needs none: the nodes that a range's blocks live
// in are made when the range is cut out and stay while any of it is in use.
//
// Single-threaded: the owner holds a lock.

#include <algorithm>
#include <bit>
#include <cstdint>

#include "dma/assert.h"
#include "dma/result.h"
#include "dma/version.h"
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
    unsigned levels = 2;
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
    const std::uint64_t count = last - first + 1;
    Result<void> outcome = EachBlock(first, count, [&](auto page, auto order) {
      const Result<void> made = trie_.Reserve(page, order);
      if (!made.ok()) return made;
      return trie_.AnySet(trie_.Walk(page), order, page)
                 ? Result<void>(Error::kOverlap)
                 : Ok();
    });
    if (outcome.ok()) ReleaseAll(first, count);
    return outcome;
  }

  // See RangeStore.
  Result<std::uint64_t> Allocate(const PageRequest& request) {
    if (!initialised_) return Error::kShutDown;
    const std::uint64_t count = request.count;
    if (count == 0) return Error::kInvalidArgument;
    if (count > free_pages_ || count - 1 > request.last) return Error::kNoSpace;
    unsigned want = CeilLog2(count);
    if (want < request.align_order) want = request.align_order;
    if (want > trie_.max_order()) return Error::kNoSpace;
    const std::uint64_t bound = request.last - (count - 1);
    // The middle of what the request may use.
    const std::uint64_t low = std::min(first_, bound);
    const std::uint64_t middle = low + (std::min(last_, bound) - low) / 2;
    std::uint64_t lower_half = BlockTrie::kNone;
    unsigned lower_order = 0;
    std::uint64_t orders = trie_.orders() >> want << want;
    for (; orders != 0; orders &= orders - 1) {
      const auto order = static_cast<unsigned>(std::countr_zero(orders));
      const std::uint64_t block = trie_.FindLast(order, bound);
      if (block == BlockTrie::kNone) continue;
      if (block + ((std::uint64_t{1} << order) - 1) >= middle) {
        return Cut(block, order, want, bound, count);
      }
      if (lower_half != BlockTrie::kNone) continue;
      lower_half = block;
      lower_order = order;
    }
    if (lower_half == BlockTrie::kNone) return Error::kNoSpace;
    return Cut(lower_half, lower_order, want, bound, count);
  }

  // See RangeStore. Also takes back a part of a range.
  Result<void> Free(std::uint64_t first, std::uint64_t count) {
    if (!initialised_) return Error::kShutDown;
    if (count == 0) return Error::kInvalidArgument;
    if (first < first_ || first > last_ || count - 1 > last_ - first) {
      return Error::kForeign;
    }
    const Result<void> outcome = EachBlock(
        first, count,
        [&](auto page, auto order) { return CheckInUse(page, order); });
    if (outcome.ok()) ReleaseAll(first, count);
    return outcome;
  }

  std::uint64_t free_pages() const { return free_pages_; }
  std::uint64_t bytes() const { return trie_.bytes(); }

  // Calls fn(first page, pages) for each free block, in no particular order.
  template <class Fn>
  void ForEachFree(Fn&& fn) const {
    trie_.ForEach([&](unsigned order, std::uint64_t page) {
      fn(page, std::uint64_t{1} << order);
    });
  }

  // The bitmaps agree, blocks lie in the window, no two buddies are both free,
  // and the count is right. Walks everything.
  bool CheckInvariants() const {
    if (!initialised_) return true;
    if (!trie_.CheckInvariants()) return false;
    std::uint64_t pages = 0;
    bool good = true;
    trie_.ForEach([&](unsigned order, std::uint64_t page) {
      pages += std::uint64_t{1} << order;
      const std::uint64_t last = page + (std::uint64_t{1} << order) - 1;
      if (page < first_ || last > last_) good = false;
      const std::uint64_t buddy = page ^ (std::uint64_t{1} << order);
      if (order == trie_.max_order()) return;
      const BlockTrie::Path path = trie_.Walk(page);
      if (!trie_.Has(path, order) || trie_.Test(path, order, buddy)) {
        good = false;
      }
    });
    return good && pages == free_pages_;
  }

 private:
  static constexpr unsigned FloorLog2(std::uint64_t n) {
    return static_cast<unsigned>(std::bit_width(n)) - 1;
  }
  static constexpr unsigned CeilLog2(std::uint64_t n) {
    return static_cast<unsigned>(std::bit_width(n - 1));
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

  // Takes [s, s + count) out of a free block, s the highest multiple of
  // 2^want in it that is at most `bound`.
  Result<std::uint64_t> Cut(std::uint64_t block, unsigned order, unsigned want,
                            std::uint64_t bound, std::uint64_t count) {
    const std::uint64_t end = block + (std::uint64_t{1} << order);
    std::uint64_t s = end - (std::uint64_t{1} << want);
    if (s > bound) s = bound >> want << want;
    const std::uint64_t behind = s + count;
    // The blocks left in front lie on the way to s - 1 and are no smaller than
    // the lowest set bit of s; likewise behind.
    if (s != block) {
      const Result<void> made = trie_.Reserve(s - 1, LowestOrder(s));
      if (!made.ok()) return made.error();
    }
    if (behind != end) {
      const Result<void> made = trie_.Reserve(behind, LowestOrder(behind));
      if (!made.ok()) return made.error();
    }
    trie_.Clear(trie_.Walk(block), order, block);
    SetBlocks(block, s - block, s - 1);
    SetBlocks(behind, end - behind, behind);
    free_pages_ -= count;
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
    free_pages_ += count;
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
  bool initialised_ = false;
};
static_assert(RangeStore<BuddyStore>);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_BUDDY_STORE_H_
