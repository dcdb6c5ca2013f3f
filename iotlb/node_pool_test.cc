// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "iotlb/node_pool.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <set>
#include <vector>

#include "iotlb/memory_for_test.h"

namespace dmamap {
namespace {

struct Thing {
  Thing *link = nullptr;
  std::uint64_t value = 7;
  static Thing *&PoolLink(Thing &t) { return t.link; }
};

struct alignas(256) Wide {
  Wide *link = nullptr;
  static Wide *&PoolLink(Wide &w) { return w.link; }
};

TEST(NodePool, HandsOutDistinctNewObjects) {
  NodePool<Thing> pool;
  std::set<Thing *> seen;
  for (int i = 0; i < 10000; ++i) {
    ASSERT_TRUE(pool.Reserve(1));
    Thing *const t = pool.Take();
    EXPECT_EQ(t->value, 7u);
    EXPECT_TRUE(seen.insert(t).second);
  }
  EXPECT_EQ(pool.live(), 10000u);
}

TEST(NodePool, KeepsAnObjectsStateAndReusesIt) {
  NodePool<Thing> pool;
  ASSERT_TRUE(pool.Reserve(1));
  Thing *const t = pool.Take();
  t->value = 42;
  pool.Put(t);
  EXPECT_EQ(pool.live(), 0u);
  // A late reader still finds a Thing.
  EXPECT_EQ(t->value, 42u);
  ASSERT_TRUE(pool.Reserve(1));
  EXPECT_EQ(pool.Take(), t);
}

TEST(NodePool, ReserveCountsWhatIsIdle) {
  FailingMemory::State state;
  NodePool<Thing, FailingMemory> pool{FailingMemory(&state)};
  ASSERT_TRUE(pool.Reserve(1000));
  const std::size_t calls = state.calls;
  std::vector<Thing *> things;
  for (int i = 0; i < 500; ++i) things.push_back(pool.Take());
  for (Thing *t : things) pool.Put(t);
  EXPECT_TRUE(pool.Reserve(1000));
  for (int i = 0; i < 1000; ++i) pool.Take();
  EXPECT_EQ(state.calls, calls);
}

TEST(NodePool, UsesTheRestOfAChunkAfterItGrows) {
  FailingMemory::State state;
  NodePool<Thing, FailingMemory> pool{FailingMemory(&state)};
  ASSERT_TRUE(pool.Reserve(3));
  ASSERT_TRUE(pool.Reserve(5000));
  std::set<Thing *> seen;
  for (int i = 0; i < 5000; ++i) seen.insert(pool.Take());
  EXPECT_EQ(seen.size(), 5000u);
}

TEST(NodePool, RefusedMemoryChangesNothing) {
  FailingMemory::State state;
  {
    NodePool<Thing, FailingMemory> pool{FailingMemory(&state)};
    ASSERT_TRUE(pool.Reserve(1));
    const std::size_t bytes = pool.memory_bytes();
    state.fail_at = state.calls;
    EXPECT_FALSE(pool.Reserve(100000));
    EXPECT_EQ(pool.memory_bytes(), bytes);
    EXPECT_EQ(pool.live(), 0u);
    EXPECT_TRUE(pool.Reserve(1));
    EXPECT_TRUE(pool.Reserve(100000));
  }
  EXPECT_EQ(state.bytes_held, 0u);
}

TEST(NodePool, RefusesACountThatOverflows) {
  NodePool<Thing> pool;
  EXPECT_FALSE(pool.Reserve(~std::size_t{0}));
  EXPECT_FALSE(pool.Reserve(~std::size_t{0} / sizeof(Thing)));
  EXPECT_TRUE(pool.Reserve(1));
}

// What a pool asked for.
class NotedMemory {
 public:
  explicit NotedMemory(std::vector<std::size_t> *asked) : asked_(asked) {}

  void *Allocate(std::size_t bytes, std::size_t alignment) {
    asked_->push_back(bytes);
    return HeapMemory().Allocate(bytes, alignment);
  }
  void Free(void *block, std::size_t bytes, std::size_t alignment) {
    HeapMemory().Free(block, bytes, alignment);
  }

 private:
  std::vector<std::size_t> *asked_;
};

TEST(NodePool, LargeChunksAreWholeHugePages) {
  std::vector<std::size_t> asked;
  NodePool<Thing, NotedMemory> pool{NotedMemory(&asked)};
  std::size_t large = 0;
  for (int i = 0; i < 300'000; ++i) {
    ASSERT_TRUE(pool.Reserve(1));
    pool.Take();
  }
  for (const std::size_t bytes : asked) {
    if (bytes <= HeapMemory::kHugeBytes / 2) continue;
    EXPECT_EQ(bytes, HeapMemory::kHugeBytes);
    ++large;
  }
  EXPECT_GT(large, 1u);
}

TEST(HeapMemory, GivesWholeHugePagesAlignedAndZeroed) {
  HeapMemory memory;
  for (const std::size_t huge : {1u, 3u}) {
    const std::size_t bytes = huge * HeapMemory::kHugeBytes;
    void *const block = memory.Allocate(bytes, 64);
    ASSERT_NE(block, nullptr);
    auto *const at = static_cast<unsigned char *>(block);
#if DMAMAP_HAS_HUGE_MEMORY
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % HeapMemory::kHugeBytes,
              0u);
    EXPECT_EQ(at[0] + at[bytes - 1], 0);
#endif
    at[0] = at[bytes - 1] = 1;
    memory.Free(block, bytes, 64);
  }
  const std::size_t most = ~std::size_t{0} / HeapMemory::kHugeBytes;
  EXPECT_EQ(memory.Allocate(most * HeapMemory::kHugeBytes, 64), nullptr);
}

TEST(NodePool, KeepsAlignment) {
  NodePool<Wide> pool;
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(pool.Reserve(1));
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(pool.Take()) % 256, 0u);
  }
}

}  // namespace
}  // namespace dmamap
