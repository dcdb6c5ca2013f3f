// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_BLOCK_TRIE_H_
#define DMAMAP_IOVA_BLOCK_TRIE_H_

// BlockTrie: for each order o a sparse bitmap of blocks (2^o pages at a
// multiple of 2^o), with find-last under a bound in one step a level.
//
// One radix-64 trie over page numbers serves all orders. A node of level j
// stands for 64 children of 64^j pages each, and
//   own    holds the blocks of orders 6j .. 6j+5, which do not cross the node
//          (BlockHeap);
//   below  says for each order under 6j which children hold such a block.
//
//   level 2   own: orders 12..17   below: orders 0..11   child[64] -> level 1
//   level 1   own: orders  6..11   below: orders 0..5    words[64] (level 0)
//   level 0   own: orders  0..5    two words for 64 pages
//
// Invariant: bit c of below[o] is set exactly when a block of order o lies
// under child c. So a search never enters a subtree in vain: it walks down the
// bound's path once, and once more down the best subtree beside it.
//
// Memory: 2.1 bits a page where blocks smaller than a node live, nothing where
// they do not. A node is made by Reserve and goes back by Drop; a few spare
// ones are kept. Single-threaded; nothing throws.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <new>

#include "dma/assert.h"
#include "dma/result.h"
#include "dma/version.h"
#include "iova/block_heap.h"

namespace dmamap::inline v0 {

class BlockTrie {
  struct Head {  // what every node has
    BlockHeap own;
    std::array<std::uint64_t, 6> below_low = {};  // orders 0..5
    Head* next_spare = nullptr;
  };
  struct Leaf : Head {  // level 1
    std::array<BlockHeap, 64> words = {};
  };
  struct Node : Head {                              // levels 2 and up
    std::array<std::uint64_t, 42> below_high = {};  // orders 6..47
    std::array<Head*, 64> child = {};
    unsigned children = 0;
  };

 public:
  static constexpr unsigned kMaxLevels = 9;  // 2^54 pages
  static constexpr std::uint64_t kNone = ~std::uint64_t{0};

  // The nodes on the way to a page, by level; null from where none exists.
  // Valid until the next Reserve or Drop on the way.
  struct Path {
    std::uint64_t page = 0;
    std::array<Head*, kMaxLevels> node = {};
  };

  BlockTrie() = default;
  BlockTrie(const BlockTrie&) = delete;
  BlockTrie& operator=(const BlockTrie&) = delete;
  ~BlockTrie() {
    if (root_ != nullptr) Recycle(root_, top_);
    while (spare_leaves_ != nullptr) Delete(Pop(spare_leaves_), 1);
    while (spare_nodes_ != nullptr) Delete(Pop(spare_nodes_), 2);
  }

  // For `levels` levels, 2 .. kMaxLevels: page numbers below 64^levels, orders
  // below 6 * levels. kNoMemory, kInvalidArgument, kBusy the second time.
  Result<void> Init(unsigned levels) {
    if (root_ != nullptr) return Error::kBusy;
    if (levels < 2 || levels > kMaxLevels) return Error::kInvalidArgument;
    root_ = New(levels - 1);
    if (root_ == nullptr) return Error::kNoMemory;
    top_ = levels - 1;
    return Ok();
  }

  unsigned max_order() const { return top_ * 6 + 5; }
  // Bit o: a block of order o is set somewhere.
  std::uint64_t orders() const { return orders_; }
  std::uint64_t bytes() const { return bytes_; }

  static constexpr unsigned LevelOf(unsigned order) { return order / 6; }

  Path Walk(std::uint64_t page) const {
    Path path;
    path.page = page;
    Head* node = root_;
    for (unsigned level = top_; node != nullptr; --level) {
      path.node[level] = node;
      if (level == 1) break;
      node = static_cast<Node*>(node)->child[Child(page, level)];
    }
    return path;
  }

  // Makes the nodes that hold blocks of `order` around `page`. kNoMemory: no
  // block changed.
  Result<void> Reserve(std::uint64_t page, unsigned order) {
    const unsigned bottom = LevelOf(order) == 0 ? 1 : LevelOf(order);
    Head* node = root_;
    for (unsigned level = top_; level > bottom; --level) {
      Node* parent = static_cast<Node*>(node);
      Head*& child = parent->child[Child(page, level)];
      if (child == nullptr) {
        child = New(level - 1);
        if (child == nullptr) return Error::kNoMemory;
        ++parent->children;
      }
      node = child;
    }
    return Ok();
  }

  // True when the path has the node that holds blocks of `order`.
  bool Has(const Path& path, unsigned order) const {
    return path.node[LevelOf(order) == 0 ? 1 : LevelOf(order)] != nullptr;
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
      std::uint64_t& below = Below(path.node[up], order);
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
      std::uint64_t& below = Below(path.node[up], order);
      below &= ~(std::uint64_t{1} << Child(page, up));
      last = below == 0;
    }
    if (last) orders_ &= ~(std::uint64_t{1} << order);
  }

  // The highest block of `order` whose first page is at most `bound`, or
  // kNone. At most two walks down the trie.
  std::uint64_t FindLast(unsigned order, std::uint64_t bound) const {
    const unsigned level = LevelOf(order);
    if ((bound >> (6 * (top_ + 1))) != 0) {  // at most 54: behind the last page
      bound = (std::uint64_t{1} << (6 * (top_ + 1))) - 1;
    }
    const Head* node = root_;
    const Head* beside = nullptr;  // lowest node on the way with a set child
    unsigned beside_level = 0;     // left of the way
    unsigned up = top_;
    for (; up > level; --up) {
      const std::uint64_t below = Below(node, order);
      const unsigned child = Child(bound, up);
      if ((below & MaskBelow(child)) != 0) {
        beside = node;
        beside_level = up;
      }
      if (((below >> child) & 1) == 0) break;
      if (up == 1) return Pick(node, order, bound, beside, beside_level);
      node = static_cast<const Node*>(node)->child[child];
    }
    if (up == level) return Pick(node, order, bound, beside, beside_level);
    return FromBeside(order, bound, beside, beside_level);
  }

  // True when a page of the block is in any set block. REQUIRES: Has(path,
  // order) for this page.
  bool AnySet(const Path& path, unsigned order, std::uint64_t page) const {
    const unsigned level = LevelOf(order);
    const unsigned index = Index(page, order);
    for (unsigned up = level + 1; up <= top_; ++up) {
      if (path.node[up]->own.TestAround(0, Child(page, up))) return true;
    }
    const BlockHeap& heap = Heap(path, level);
    if (heap.TestAround(order % 6, index)) return true;
    if (heap.TestInside(order % 6, index)) return true;
    if (level == 0) return false;
    const unsigned width = 1u << (order % 6);
    const std::uint64_t mask = ((std::uint64_t{1} << width) - 1)
                               << (index * width);
    for (unsigned o = 0; o < level * 6; ++o) {
      if ((Below(path.node[level], o) & mask) != 0) return true;
    }
    return false;
  }

  // The child of the path's node of `level` that holds `page` has no blocks
  // any more: gives its memory back.
  void Drop(Path& path, unsigned level) {
    if (level < 2) return;
    Node* node = static_cast<Node*>(path.node[level]);
    Head*& child = node->child[Child(path.page, level)];
    if (child == nullptr) return;
    Recycle(child, level - 1);
    child = nullptr;
    --node->children;
    path.node[level - 1] = nullptr;
  }

  // Every summary says what lies below it. Walks everything.
  bool CheckInvariants() const {
    if (root_ == nullptr) return orders_ == 0;
    std::uint64_t found = 0;
    if (!Check(root_, top_, found)) return false;
    return found == orders_;
  }

  // Calls fn(order, first page) for each set block, in no particular order.
  template <class Fn>
  void ForEach(Fn&& fn) const {
    if (root_ != nullptr) Visit(root_, top_, 0, fn);
  }

 private:
  static constexpr unsigned kMaxSpares = 64;

  static constexpr unsigned Child(std::uint64_t page, unsigned level) {
    return static_cast<unsigned>(page >> (6 * level)) & 63;
  }
  static constexpr unsigned Index(std::uint64_t page, unsigned order) {
    return static_cast<unsigned>(page >> order) & ((64u >> (order % 6)) - 1);
  }
  // Bits strictly below bit n, n <= 63.
  static constexpr std::uint64_t MaskBelow(unsigned n) {
    return (std::uint64_t{1} << n) - 1;
  }
  static unsigned HighestBit(std::uint64_t word) {
    return static_cast<unsigned>(std::bit_width(word)) - 1;
  }

  static std::uint64_t& Below(Head* node, unsigned order) {
    if (order < 6) return node->below_low[order];
    return static_cast<Node*>(node)->below_high[order - 6];
  }
  static std::uint64_t Below(const Head* node, unsigned order) {
    if (order < 6) return node->below_low[order];
    return static_cast<const Node*>(node)->below_high[order - 6];
  }
  static BlockHeap& Heap(const Path& path, unsigned level) {
    if (level > 0) return path.node[level]->own;
    return static_cast<Leaf*>(path.node[1])->words[Child(path.page, 1)];
  }

  // The last block of `order` in `heap` that begins at or below `bound`, whose
  // higher bits name this heap.
  static std::uint64_t LastIn(const BlockHeap& heap, unsigned order,
                              std::uint64_t bound) {
    const unsigned i = Index(bound, order);
    const std::uint64_t row =
        heap.Row(order % 6) & (MaskBelow(i) | (std::uint64_t{1} << i));
    if (row == 0) return kNone;
    const std::uint64_t base = bound >> (6 * (LevelOf(order) + 1))
                                            << (6 * (LevelOf(order) + 1));
    return base | (std::uint64_t{HighestBit(row)} << order);
  }

  // Ends the walk along the bound at the node that owns `order` (or at its
  // leaf, for level 0), with `beside` to fall back on.
  std::uint64_t Pick(const Head* node, unsigned order, std::uint64_t bound,
                     const Head* beside, unsigned beside_level) const {
    const std::uint64_t found =
        LastIn(LevelOf(order) > 0
                   ? node->own
                   : static_cast<const Leaf*>(node)->words[Child(bound, 1)],
               order, bound);
    if (found != kNone) return found;
    return FromBeside(order, bound, beside, beside_level);
  }

  // The last block under the best child of `beside` left of the bound's way.
  std::uint64_t FromBeside(unsigned order, std::uint64_t bound,
                           const Head* beside, unsigned level) const {
    if (beside == nullptr) return kNone;
    std::uint64_t page = bound >> (6 * (level + 1)) << (6 * (level + 1));
    std::uint64_t below = Below(beside, order) & MaskBelow(Child(bound, level));
    const Head* node = beside;
    for (;; --level, below = Below(node, order)) {
      const unsigned child = HighestBit(below);
      page |= std::uint64_t{child} << (6 * level);
      if (level == 1) {  // the child is a level 0 heap in this leaf
        const BlockHeap& heap = static_cast<const Leaf*>(node)->words[child];
        return page | (std::uint64_t{HighestBit(heap.Row(order))} << order);
      }
      node = static_cast<const Node*>(node)->child[child];
      if (level - 1 == LevelOf(order)) break;
    }
    return page |
           (std::uint64_t{HighestBit(node->own.Row(order % 6))} << order);
  }

  static Head* Pop(Head*& list) {
    Head* node = list;
    list = node->next_spare;
    node->next_spare = nullptr;
    return node;
  }
  // A zeroed node of `level`, or null.
  Head* New(unsigned level) {
    Head*& spares = level == 1 ? spare_leaves_ : spare_nodes_;
    unsigned& count = level == 1 ? spare_leaf_count_ : spare_node_count_;
    if (spares != nullptr) {
      --count;
      return Pop(spares);
    }
    Head* node = level == 1 ? static_cast<Head*>(new (std::nothrow) Leaf)
                            : static_cast<Head*>(new (std::nothrow) Node);
    if (node != nullptr) bytes_ += level == 1 ? sizeof(Leaf) : sizeof(Node);
    return node;
  }
  void Delete(Head* node, unsigned level) {
    bytes_ -= level == 1 ? sizeof(Leaf) : sizeof(Node);
    if (level == 1) {
      delete static_cast<Leaf*>(node);
    } else {
      delete static_cast<Node*>(node);
    }
  }
  // Takes a whole subtree back. One without blocks may serve again as it is.
  void Recycle(Head* node, unsigned level) {
    bool zero = node->own.empty();
    if (level > 1) {
      Node* inner = static_cast<Node*>(node);
      if (inner->children != 0) {
        for (Head*& child : inner->child) {
          if (child != nullptr) Recycle(child, level - 1);
        }
        zero = false;
      }
    }
    for (std::uint64_t below : node->below_low) zero = zero && below == 0;
    Head*& spares = level == 1 ? spare_leaves_ : spare_nodes_;
    unsigned& count = level == 1 ? spare_leaf_count_ : spare_node_count_;
    if (!zero || count == kMaxSpares) return Delete(node, level);
    node->next_spare = spares;
    spares = node;
    ++count;
  }

  static std::uint64_t RowsSet(const BlockHeap& heap, unsigned level) {
    std::uint64_t set = 0;
    for (unsigned r = 0; r < 6; ++r) {
      if (heap.Row(r) != 0) set |= std::uint64_t{1} << (level * 6 + r);
    }
    return set;
  }
  // Adds to `found` the orders that are set at or under `node`.
  bool Check(const Head* node, unsigned level, std::uint64_t& found) const {
    unsigned children = 0;
    for (unsigned c = 0; c < 64; ++c) {
      std::uint64_t in_child = 0;
      if (level == 1) {
        in_child = RowsSet(static_cast<const Leaf*>(node)->words[c], 0);
      } else if (const Head* h = static_cast<const Node*>(node)->child[c]) {
        ++children;
        if (!Check(h, level - 1, in_child)) return false;
      }
      for (unsigned o = 0; o < level * 6; ++o) {
        const bool said = ((Below(node, o) >> c) & 1) != 0;
        if (said != (((in_child >> o) & 1) != 0)) return false;
      }
      // A block that covers a child leaves nothing to be set inside it.
      if (in_child != 0 && node->own.TestAround(0, c)) return false;
      found |= in_child;
    }
    if (level > 1 && children != static_cast<const Node*>(node)->children) {
      return false;
    }
    found |= RowsSet(node->own, level);
    return true;
  }
  template <class Fn>
  static void VisitHeap(const BlockHeap& heap, unsigned level,
                        std::uint64_t base, Fn& fn) {
    for (unsigned r = 0; r < 6; ++r) {
      for (std::uint64_t row = heap.Row(r); row != 0; row &= row - 1) {
        const auto i = static_cast<std::uint64_t>(std::countr_zero(row));
        fn(level * 6 + r, base | (i << (level * 6 + r)));
      }
    }
  }
  template <class Fn>
  void Visit(const Head* node, unsigned level, std::uint64_t base,
             Fn& fn) const {
    VisitHeap(node->own, level, base, fn);
    for (unsigned c = 0; c < 64; ++c) {
      const std::uint64_t at = base | (std::uint64_t{c} << (6 * level));
      if (level == 1) {
        VisitHeap(static_cast<const Leaf*>(node)->words[c], 0, at, fn);
      } else if (const Head* h = static_cast<const Node*>(node)->child[c]) {
        Visit(h, level - 1, at, fn);
      }
    }
  }

  Head* root_ = nullptr;
  unsigned top_ = 0;  // level of the root
  unsigned spare_leaf_count_ = 0;
  unsigned spare_node_count_ = 0;
  std::uint64_t orders_ = 0;
  std::uint64_t bytes_ = 0;
  Head* spare_leaves_ = nullptr;
  Head* spare_nodes_ = nullptr;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_BLOCK_TRIE_H_
