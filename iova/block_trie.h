// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_BLOCK_TRIE_H_
#define DMAMAP_IOVA_BLOCK_TRIE_H_

// BlockTrie: for each order o a sparse bitmap of blocks (2^o pages at a
// multiple of 2^o), with find-last and find-first from a page in one step a
// level.
//
// One radix-64 trie over page numbers serves all orders. A node of level j
// stands for 64 children of 64^j pages each, and
//   own    holds the blocks of orders 6j .. 6j+5, which do not cross the node
//          (BlockHeap);
//   below  says for each order under 6j which children hold such a block.
//
//   level 3+  BlockNode    own: orders 18..23   child[64]
//   level 2   BlockRegion  own: orders 12..17   leaf[64] inside, words[64]
//   level 1   BlockLeaf    own: orders  6..11
//   level 0   BlockWords   own: orders  0..5    two words for 64 pages
//
// Invariant: bit c of below[o] is set exactly when a block of order o lies
// under child c. So a search never enters a subtree in vain: it climbs the way
// of the page it starts from and goes once down the subtree beside it.
//
// Memory: 2.1 bits a page where blocks under 64 pages live, 0.14 where larger
// ones do, nothing elsewhere. Single-threaded; nothing throws.

#include <array>
#include <bit>
#include <cstdint>

#include "dma/assert.h"
#include "dma/result.h"
#include "dma/version.h"
#include "iova/block_heap.h"
#include "iova/block_node.h"

namespace dmamap::inline v0 {

class BlockTrie {
 public:
  static constexpr unsigned kMinLevels = 4;  // 2^24 pages
  static constexpr unsigned kMaxLevels = 9;  // 2^54 pages
  static constexpr std::uint64_t kNone = ~std::uint64_t{0};

  // The nodes on the way to a page, by level; null from where none exists.
  // Valid until the next Reserve or Drop on the way.
  struct Path {
    std::uint64_t page = 0;
    BlockRegion* region = nullptr;                 // level 2; holds level 1
    std::array<BlockNode*, kMaxLevels> node = {};  // levels 3 and up
  };

  BlockTrie() = default;
  BlockTrie(const BlockTrie&) = delete;
  BlockTrie& operator=(const BlockTrie&) = delete;
  ~BlockTrie() {
    if (root_ != nullptr) memory_.Destroy(root_, top_);
  }

  // For `levels` levels, kMinLevels .. kMaxLevels: page numbers below
  // 64^levels, orders below 6 * levels. kNoMemory, kInvalidArgument, kBusy the
  // second time.
  Result<void> Init(unsigned levels) {
    if (root_ != nullptr) return Error::kBusy;
    if (levels < kMinLevels || levels > kMaxLevels) {
      return Error::kInvalidArgument;
    }
    root_ = memory_.nodes.New();
    if (root_ == nullptr) return Error::kNoMemory;
    top_ = levels - 1;
    return Ok();
  }

  unsigned max_order() const { return top_ * 6 + 5; }
  // Bit o: a block of order o is set somewhere.
  std::uint64_t orders() const { return orders_; }
  std::uint64_t bytes() const { return memory_.bytes(); }

  static constexpr unsigned LevelOf(unsigned order) { return order / 6; }

  // REQUIRES: page < 64^levels.
  Path Walk(std::uint64_t page) const {
    Path path;
    path.page = page;
    BlockNode* node = root_;
    for (unsigned level = top_; level > 3; --level) {
      path.node[level] = node;
      node = static_cast<BlockNode*>(node->child[Child(page, level)]);
      if (node == nullptr) return path;
    }
    path.node[3] = node;
    path.region = static_cast<BlockRegion*>(node->child[Child(page, 3)]);
    return path;
  }

  // A hint that large blocks around `page` are looked at next.
  void Prefetch(std::uint64_t page) const {
    const Path path = Walk(page);
    if (path.region != nullptr) {
      __builtin_prefetch(&path.region->leaf[Child(page, 2)], 1);
    }
  }

  // Makes the nodes that hold blocks of `order` around `page`. kNoMemory: no
  // block changed.
  Result<void> Reserve(std::uint64_t page, unsigned order) {
    BlockNode* node = root_;
    for (unsigned level = top_; level > 3; --level) {
      if (LevelOf(order) >= level) return Ok();
      void*& child = node->child[Child(page, level)];
      if (child == nullptr) child = memory_.nodes.New();
      if (child == nullptr) return Error::kNoMemory;
      node = static_cast<BlockNode*>(child);
    }
    if (LevelOf(order) >= 3) return Ok();
    void*& child = node->child[Child(page, 3)];
    if (child == nullptr) child = memory_.regions.New();
    if (child == nullptr) return Error::kNoMemory;
    if (LevelOf(order) >= 1) return Ok();
    BlockWords*& words =
        static_cast<BlockRegion*>(child)->words[Child(page, 2)];
    if (words == nullptr) words = memory_.words.New();
    return words != nullptr ? Ok() : Result<void>(Error::kNoMemory);
  }
  // The same for all blocks of `order` in [first, last].
  Result<void> ReserveAll(std::uint64_t first, std::uint64_t last,
                          unsigned order) {
    const unsigned level = LevelOf(order);
    // 2^span pages share a node, region or words.
    const unsigned span = 6 * (level == 0 ? 2 : level < 3 ? 3 : level + 1);
    for (std::uint64_t i = first >> span; i <= last >> span; ++i) {
      const Result<void> made = Reserve(i << span, order);
      if (!made.ok()) return made;
    }
    return Ok();
  }

  // True when the path has the node that holds blocks of `order`.
  bool Has(const Path& path, unsigned order) const {
    return HasLevel(path, LevelOf(order));
  }

  // The block of `order` around `page`, which lies in the path's node of that
  // order's level. REQUIRES: Has(path, order).
  bool Test(const Path& path, unsigned order, std::uint64_t page) const {
    return Heap(path, LevelOf(order)).Test(order % 6, Index(page, order));
  }
  // REQUIRES: not set.
  void Set(const Path& path, unsigned order, std::uint64_t page) {
    DMAMAP_ASSERT(!Test(path, order, page));
    const unsigned level = LevelOf(order);
    BlockHeap& heap = Heap(path, level);
    bool first = heap.Row(order % 6) == 0;
    heap.Flip(order % 6, Index(page, order));
    for (unsigned up = level + 1; first && up <= top_; ++up) {
      std::uint64_t& below = Below(path, up, order);
      first = below == 0;
      below |= std::uint64_t{1} << Child(page, up);
    }
    if (first) orders_ |= std::uint64_t{1} << order;
  }
  // REQUIRES: set.
  void Clear(const Path& path, unsigned order, std::uint64_t page) {
    DMAMAP_ASSERT(Test(path, order, page));
    const unsigned level = LevelOf(order);
    BlockHeap& heap = Heap(path, level);
    heap.Flip(order % 6, Index(page, order));
    bool last = heap.Row(order % 6) == 0;
    for (unsigned up = level + 1; last && up <= top_; ++up) {
      std::uint64_t& below = Below(path, up, order);
      below &= ~(std::uint64_t{1} << Child(page, up));
      last = below == 0;
    }
    if (last) orders_ &= ~(std::uint64_t{1} << order);
  }

  // The highest block of `order` whose first page is at most the path's page,
  // or kNone.
  std::uint64_t FindLast(const Path& from, unsigned order) const {
    return Find<Downwards>(from, order);
  }
  // The lowest block of `order` whose last page is at least the path's page,
  // or kNone.
  std::uint64_t FindFirst(const Path& from, unsigned order) const {
    return Find<Upwards>(from, order);
  }

  // True when a page of the block is in any set block. REQUIRES: Has(path,
  // order) for this page.
  bool AnySet(const Path& path, unsigned order, std::uint64_t page) const {
    const unsigned level = LevelOf(order);
    const unsigned index = Index(page, order);
    for (unsigned up = level + 1; up <= top_; ++up) {
      if (Heap(path, up).TestAround(0, Child(page, up))) return true;
    }
    const BlockHeap& heap = Heap(path, level);
    if (heap.TestAround(order % 6, index)) return true;
    if (heap.TestInside(order % 6, index)) return true;
    if (level == 0) return false;
    const unsigned width = 1u << (order % 6);
    const std::uint64_t mask = ((std::uint64_t{1} << width) - 1)
                               << (index * width);
    for (unsigned o = 0; o < level * 6; ++o) {
      if ((Below(path, level, o) & mask) != 0) return true;
    }
    return false;
  }

  // The child of the path's node of `level` that holds the path's page has no
  // blocks any more: gives its memory back.
  void Drop(Path& path, unsigned level) {
    if (level < 2) return;
    if (level == 2) return memory_.DropWords(*path.region, Child(path.page, 2));
    void*& child = path.node[level]->child[Child(path.page, level)];
    if (child == nullptr) return;
    memory_.Recycle(child, level - 1);
    child = nullptr;
    if (level == 3) {
      path.region = nullptr;
    } else {
      path.node[level - 1] = nullptr;
    }
  }

  // Every summary says what lies below it. Walks everything.
  bool CheckInvariants() const;

  // Calls fn(order, first page) for each set block, in no particular order.
  template <class Fn>
  void ForEach(Fn&& fn) const;

 private:
  static constexpr unsigned Child(std::uint64_t page, unsigned level) {
    return static_cast<unsigned>(page >> (6 * level)) & 63;
  }
  static constexpr unsigned Index(std::uint64_t page, unsigned order) {
    return static_cast<unsigned>(page >> order) & ((64u >> (order % 6)) - 1);
  }
  // The first page of the node of `level` around `page`.
  static constexpr std::uint64_t Base(std::uint64_t page, unsigned level) {
    return page >> (6 * (level + 1)) << (6 * (level + 1));
  }

  // The two directions of a search: which bits of a word lie beyond bit n,
  // n <= 63, and which one of several comes first.
  struct Downwards {
    static constexpr std::uint64_t Beyond(unsigned n) {
      return (std::uint64_t{1} << n) - 1;
    }
    static unsigned First(std::uint64_t word) {
      return static_cast<unsigned>(std::bit_width(word)) - 1;
    }
  };
  struct Upwards {
    static constexpr std::uint64_t Beyond(unsigned n) {
      return ~std::uint64_t{1} << n;
    }
    static unsigned First(std::uint64_t word) {
      return static_cast<unsigned>(std::countr_zero(word));
    }
  };

  bool HasLevel(const Path& path, unsigned level) const {
    if (level >= 3) return path.node[level] != nullptr;
    if (path.region == nullptr) return false;
    return level != 0 || path.region->words[Child(path.page, 2)] != nullptr;
  }
  // REQUIRES: HasLevel(path, level).
  static BlockHeap& Heap(const Path& path, unsigned level) {
    return OwnHeap(path.node[level], path.region, level, path.page);
  }
  static std::uint64_t& Below(const Path& path, unsigned level,
                              unsigned order) {
    return BelowOf(path.node[level], path.region, level, order, path.page);
  }
  // Of the node of `level` around `page`: `node` if that is above 2, else in
  // `region`.
  static BlockHeap& OwnHeap(BlockNode* node, BlockRegion* region,
                            unsigned level, std::uint64_t page) {
    if (level == 1) return region->leaf[Child(page, 2)].own;
    if (level == 0) return region->words[Child(page, 2)]->heap[Child(page, 1)];
    return level == 2 ? region->own : node->own;
  }
  static std::uint64_t& BelowOf(BlockNode* node, BlockRegion* region,
                                unsigned level, unsigned order,
                                std::uint64_t page) {
    if (level == 1) return region->leaf[Child(page, 2)].below[order];
    return level == 2 ? region->below[order] : node->below[order];
  }

  template <class Way>
  std::uint64_t Find(const Path& from, unsigned order) const {
    const unsigned level = LevelOf(order);
    if (HasLevel(from, level)) {
      const unsigned index = Index(from.page, order);
      const std::uint64_t row =
          Heap(from, level).Row(order % 6) &
          (Way::Beyond(index) | (std::uint64_t{1} << index));
      if (row != 0) {
        return Base(from.page, level) |
               (std::uint64_t{Way::First(row)} << order);
      }
    }
    for (unsigned up = level + 1; up <= top_; ++up) {
      if (!HasLevel(from, up)) continue;
      const std::uint64_t beside =
          Below(from, up, order) & Way::Beyond(Child(from.page, up));
      if (beside != 0) return Descend<Way>(from, up, beside, order);
    }
    return kNone;
  }
  // The first block of `order` under the children `below` of the path's node
  // of `level`.
  template <class Way>
  std::uint64_t Descend(const Path& from, unsigned level, std::uint64_t below,
                        unsigned order) const {
    BlockNode* node = from.node[level];
    BlockRegion* region = from.region;
    std::uint64_t page = Base(from.page, level);
    for (;;) {
      const unsigned child = Way::First(below);
      page |= std::uint64_t{child} << (6 * level);
      if (level > 3) {
        node = static_cast<BlockNode*>(node->child[child]);
      } else if (level == 3) {
        region = static_cast<BlockRegion*>(node->child[child]);
      }
      if (--level == LevelOf(order)) break;
      below = BelowOf(node, region, level, order, page);
    }
    const std::uint64_t row = OwnHeap(node, region, level, page).Row(order % 6);
    return page | (std::uint64_t{Way::First(row)} << order);
  }

  // In block_trie_check.h.
  struct Walker;

  BlockNode* root_ = nullptr;
  unsigned top_ = 0;  // level of the root
  std::uint64_t orders_ = 0;
  BlockMemory memory_;
};

}  // namespace dmamap::inline v0

#include "iova/block_trie_check.h"  // IWYU pragma: export

#endif  // DMAMAP_IOVA_BLOCK_TRIE_H_
