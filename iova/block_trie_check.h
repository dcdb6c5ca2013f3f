// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_BLOCK_TRIE_CHECK_H_
#define DMAMAP_IOVA_BLOCK_TRIE_CHECK_H_

// The parts of BlockTrie that walk everything: CheckInvariants and ForEach.
// Included by iova/block_trie.h alone.

#include <bit>
#include <cstdint>

#include "iova/block_trie.h"

namespace dmamap::inline v0 {

// One node of any level, by its level.
struct BlockTrie::Walker {
  const BlockNode* node = nullptr;      // levels 3 and up
  const BlockRegion* region = nullptr;  // levels 0 to 2
  unsigned level = 0;
  std::uint64_t page = 0;  // its first

  const BlockHeap& own() const {
    return OwnHeap(const_cast<BlockNode*>(node),
                   const_cast<BlockRegion*>(region), level, page);
  }
  std::uint64_t below(unsigned order) const {
    return BelowOf(const_cast<BlockNode*>(node),
                   const_cast<BlockRegion*>(region), level, order, page);
  }
  // REQUIRES: level > 0. False when there is no such child.
  bool Enter(unsigned c, Walker& child) const {
    child = *this;
    child.level = level - 1;
    child.page = page | (std::uint64_t{c} << (6 * level));
    if (level == 3) {
      child.region = static_cast<const BlockRegion*>(node->child[c]);
      return child.region != nullptr;
    }
    if (level > 3) {
      child.node = static_cast<const BlockNode*>(node->child[c]);
      return child.node != nullptr;
    }
    return level == 2 || region->words[Child(child.page, 2)] != nullptr;
  }

  // Adds to `found` the orders that are set at or under this node.
  bool Check(std::uint64_t& found) const {
    for (unsigned r = 0; r < 6; ++r) {
      if (own().Row(r) != 0) found |= std::uint64_t{1} << (level * 6 + r);
    }
    if (level == 0) return true;
    for (unsigned c = 0; c < 64; ++c) {
      std::uint64_t in_child = 0;
      Walker child;
      if (Enter(c, child) && !child.Check(in_child)) return false;
      for (unsigned o = 0; o < level * 6; ++o) {
        const bool said = ((below(o) >> c) & 1) != 0;
        if (said != (((in_child >> o) & 1) != 0)) return false;
      }
      // A block that covers a child leaves nothing to be set inside it.
      if (in_child != 0 && own().TestAround(0, c)) return false;
      found |= in_child;
    }
    return true;
  }

  template <class Fn>
  void Visit(Fn& fn) const {
    for (unsigned r = 0; r < 6; ++r) {
      for (std::uint64_t row = own().Row(r); row != 0; row &= row - 1) {
        const auto i = static_cast<std::uint64_t>(std::countr_zero(row));
        fn(level * 6 + r, page | (i << (level * 6 + r)));
      }
    }
    if (level == 0) return;
    for (unsigned c = 0; c < 64; ++c) {
      Walker child;
      if (Enter(c, child)) child.Visit(fn);
    }
  }
};

inline bool BlockTrie::CheckInvariants() const {
  if (root_ == nullptr) return orders_ == 0;
  std::uint64_t found = 0;
  const Walker root{.node = root_, .level = top_};
  return root.Check(found) && found == orders_;
}

template <class Fn>
void BlockTrie::ForEach(Fn&& fn) const {
  if (root_ == nullptr) return;
  const Walker root{.node = root_, .level = top_};
  root.Visit(fn);
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_BLOCK_TRIE_CHECK_H_
