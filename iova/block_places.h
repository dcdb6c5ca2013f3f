// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_BLOCK_PLACES_H_
#define DMAMAP_IOVA_BLOCK_PLACES_H_

// BlockPlaces: where a request may begin, and the search for the best such
// place among the free blocks of a BlockTrie. Single-threaded; one walk, and
// one more for each order that has a free block.

#include <algorithm>
#include <bit>
#include <cstdint>

#include "dma/version.h"
#include "iova/block_trie.h"
#include "iova/constraints.h"

namespace dmamap::inline v0 {

// Page `at` in the free block of `order` that begins at `block`.
struct BlockPlace {
  std::uint64_t block = BlockTrie::kNone;  // when there is none
  unsigned order = 0;
  std::uint64_t at = 0;
};

// The multiples of 2^want from `low` to `high`, both multiples, low <= high.
struct BlockPlaces {
  unsigned want;
  std::uint64_t low;
  std::uint64_t high;

  // In the smallest block of the half of the places that is the better one for
  // this placement, else in the smallest of all; of these in the block, and in
  // the block at the place, that lies furthest to that side.
  BlockPlace Find(const BlockTrie& trie, Placement placement) const {
    return placement == Placement::kTopDown ? FindHigh(trie) : FindLow(trie);
  }

 private:
  BlockPlace FindHigh(const BlockTrie& trie) const {
    const BlockTrie::Path from = trie.Walk(high);
    const std::uint64_t middle = low + (high - low + 1) / 2;
    BlockPlace second;
    std::uint64_t orders = trie.orders() >> want << want;
    for (; orders != 0; orders &= orders - 1) {
      const auto order = static_cast<unsigned>(std::countr_zero(orders));
      const std::uint64_t block = trie.FindLast(from, order);
      if (block == BlockTrie::kNone) continue;
      const std::uint64_t end = block + (std::uint64_t{1} << order);
      const std::uint64_t at = std::min(end - (std::uint64_t{1} << want), high);
      if (at >= middle) return {block, order, at};
      if (at < low || second.block != BlockTrie::kNone) continue;
      second = {block, order, at};
    }
    return second;
  }
  BlockPlace FindLow(const BlockTrie& trie) const {
    const BlockTrie::Path from = trie.Walk(low);
    const std::uint64_t middle = low + (high - low) / 2;
    BlockPlace second;
    std::uint64_t orders = trie.orders() >> want << want;
    for (; orders != 0; orders &= orders - 1) {
      const auto order = static_cast<unsigned>(std::countr_zero(orders));
      const std::uint64_t block = trie.FindFirst(from, order);
      if (block == BlockTrie::kNone) continue;
      const std::uint64_t at = std::max(block, low);
      if (at <= middle) return {block, order, at};
      if (at > high || second.block != BlockTrie::kNone) continue;
      second = {block, order, at};
    }
    return second;
  }
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_BLOCK_PLACES_H_
