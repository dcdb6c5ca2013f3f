// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "iova/block_trie.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <set>
#include <utility>

namespace dmamap {
namespace {

TEST(BlockHeap, RowsAndRelatives) {
  BlockHeap heap;
  EXPECT_TRUE(heap.empty());
  heap.Flip(2, 5);  // four pages from 20
  EXPECT_EQ(heap.Row(2), 1u << 5);
  EXPECT_TRUE(heap.TestAround(0, 23));
  EXPECT_FALSE(heap.TestAround(0, 24));
  EXPECT_TRUE(heap.TestInside(3, 2));
  EXPECT_FALSE(heap.TestInside(3, 3));
  EXPECT_TRUE(heap.TestInside(5, 0));
  heap.Flip(2, 5);
  EXPECT_TRUE(heap.empty());
}

TEST(BlockTrie, ChecksItsLevels) {
  BlockTrie trie;
  EXPECT_EQ(trie.Init(1).error(), Error::kInvalidArgument);
  EXPECT_EQ(trie.Init(10).error(), Error::kInvalidArgument);
  EXPECT_TRUE(trie.Init(9).ok());
  EXPECT_EQ(trie.Init(9).error(), Error::kBusy);
  EXPECT_EQ(trie.max_order(), 53u);
}

// FindLast against std::set, for every order, at every height.
TEST(BlockTrie, FindLastAgreesWithASet) {
  for (unsigned levels : {2u, 3u, 6u, 9u}) {
    BlockTrie trie;
    ASSERT_TRUE(trie.Init(levels).ok());
    std::mt19937_64 random(levels);
    std::set<std::pair<unsigned, std::uint64_t>> blocks;
    const std::uint64_t span = std::uint64_t{1} << (6 * levels);
    for (int i = 0; i < 300; ++i) {
      const auto order =
          static_cast<unsigned>(random() % (trie.max_order() + 1));
      const std::uint64_t near = random() % 3 == 0 ? random() : random() % 9999;
      const std::uint64_t page = near % span >> order << order;
      ASSERT_TRUE(trie.Reserve(page, order).ok());
      const BlockTrie::Path path = trie.Walk(page);
      if (blocks.erase({order, page}) != 0) {
        trie.Clear(path, order, page);
      } else if (!trie.AnySet(path, order, page)) {
        trie.Set(path, order, page);
        blocks.insert({order, page});
      }
      ASSERT_TRUE(trie.CheckInvariants());
      for (unsigned o = 0; o <= trie.max_order(); ++o) {
        const std::uint64_t bound = random() % 2 == 0 ? random() : page + o;
        auto it = blocks.upper_bound({o, bound});
        std::uint64_t expected = BlockTrie::kNone;
        if (it != blocks.begin() && (--it)->first == o) expected = it->second;
        ASSERT_EQ(trie.FindLast(o, bound), expected) << o << " " << bound;
      }
    }
  }
}

}  // namespace
}  // namespace dmamap
