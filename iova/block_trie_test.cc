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
  EXPECT_EQ(trie.Init(3).error(), Error::kInvalidArgument);
  EXPECT_EQ(trie.Init(10).error(), Error::kInvalidArgument);
  EXPECT_TRUE(trie.Init(9).ok());
  EXPECT_EQ(trie.Init(9).error(), Error::kBusy);
  EXPECT_EQ(trie.max_order(), 53u);
}

using Blocks = std::set<std::pair<unsigned, std::uint64_t>>;

std::uint64_t Last(const Blocks& blocks, unsigned order, std::uint64_t page) {
  auto it = blocks.upper_bound({order, page});
  if (it == blocks.begin() || (--it)->first != order) return BlockTrie::kNone;
  return it->second;
}
std::uint64_t First(const Blocks& blocks, unsigned order, std::uint64_t page) {
  const auto it = blocks.lower_bound({order, page >> order << order});
  if (it == blocks.end() || it->first != order) return BlockTrie::kNone;
  return it->second;
}

// Both searches against std::set, for every order, at every height.
TEST(BlockTrie, FindsWhatASetFinds) {
  for (unsigned levels : {4u, 5u, 6u, 9u}) {
    BlockTrie trie;
    ASSERT_TRUE(trie.Init(levels).ok());
    std::mt19937_64 random(levels);
    Blocks blocks;
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
      if (i % 8 == 0) {
        ASSERT_TRUE(trie.CheckInvariants());
      }
      for (unsigned o = 0; o <= trie.max_order(); ++o) {
        const std::uint64_t at =
            (random() % 2 == 0 ? random() : page + o) % span;
        const BlockTrie::Path from = trie.Walk(at);
        ASSERT_EQ(trie.FindLast(from, o), Last(blocks, o, at))
            << o << " " << at;
        ASSERT_EQ(trie.FindFirst(from, o), First(blocks, o, at))
            << o << " " << at;
      }
    }
    std::uint64_t seen = 0;
    trie.ForEach([&](unsigned order, std::uint64_t page) {
      seen += blocks.count({order, page});
    });
    EXPECT_EQ(seen, blocks.size());
  }
}

// Negative control: a block behind the summaries' back is found.
TEST(BlockTrie, CheckInvariantsFindsAnOverlap) {
  BlockTrie trie;
  ASSERT_TRUE(trie.Init(4).ok());
  ASSERT_TRUE(trie.ReserveAll(0, 8191, 0).ok());
  trie.Set(trie.Walk(0), 3, 0);
  EXPECT_TRUE(trie.CheckInvariants());
  trie.Set(trie.Walk(0), 12, 0);  // around it
  EXPECT_FALSE(trie.CheckInvariants());
}

TEST(SparePool, KeepsAFewAndCountsAll) {
  SparePool<BlockWords, 1> pool;
  BlockWords* a = pool.New();
  BlockWords* b = pool.New();
  EXPECT_EQ(pool.bytes(), 2 * sizeof(BlockWords));
  pool.Recycle(a);
  pool.Recycle(b);  // one too many
  EXPECT_EQ(pool.bytes(), sizeof(BlockWords));
  EXPECT_EQ(pool.New(), a);
  pool.Delete(a);
  EXPECT_EQ(pool.bytes(), 0u);
}

}  // namespace
}  // namespace dmamap
