// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// What happens when host memory runs out: an error value, and nothing changed.
// This program replaces the global nothrow operator new.

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <set>
#include <vector>

#include "dma/cpu.h"
#include "dma/invalidate.h"
#include "iova/allocator.h"
#include "iova/buddy_store.h"
#include "iova/flush_queue.h"
#include "iova/locality.h"
#include "iova/region_meter.h"

namespace {

// Allocations that still succeed; negative: no limit.
long allowed = -1;
long seen = 0;

void* Take(std::size_t size, std::size_t alignment) noexcept {
  ++seen;
  if (allowed == 0) return nullptr;
  if (allowed > 0) --allowed;
  return std::aligned_alloc(alignment,
                            (size + alignment - 1) / alignment * alignment);
}

}  // namespace

void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return Take(size, 16);
}
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept {
  return Take(size, 16);
}
void* operator new(std::size_t size, std::align_val_t alignment,
                   const std::nothrow_t&) noexcept {
  return Take(size, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t size) {
  void* p = std::malloc(size);
  if (p == nullptr) std::abort();
  return p;
}
void* operator new[](std::size_t size) { return operator new(size); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept {
  std::free(p);
}

namespace dmamap {
namespace {

// Restores plenty when it goes.
class Only {
 public:
  explicit Only(long n) { allowed = n; }
  ~Only() { allowed = -1; }
};

TEST(AllocationFailure, StoreInitAndInsert) {
  for (long n = 0;; ++n) {
    BuddyStore store;
    const Only only(n);
    const Result<void> made = store.Init(1, (1ull << 36) - 1);
    if (!made.ok()) {
      EXPECT_EQ(made.error(), Error::kNoMemory);
      continue;
    }
    const Result<void> inserted = store.Insert(1, (1ull << 36) - 1);
    EXPECT_TRUE(store.CheckInvariants());
    if (inserted.ok()) {
      EXPECT_GT(n, 3);
      break;
    }
    EXPECT_EQ(inserted.error(), Error::kNoMemory);
    EXPECT_EQ(store.free_pages(), 0u);
  }
}

TEST(AllocationFailure, StoreAllocateChangesNothing) {
  BuddyStore store;
  ASSERT_TRUE(store.Init(0, (1ull << 36) - 1).ok());
  ASSERT_TRUE(store.Insert(0, (1ull << 36) - 1).ok());
  const std::uint64_t all = store.free_pages();
  long failures = 0;
  for (std::uint64_t count : {1u, 33u, 5000u, 1u << 20}) {
    for (std::uint64_t last : {1ull << 35, 12345ull << 20, ~0ull}) {
      for (long n = 0;; ++n) {
        Result<std::uint64_t> r = Error::kNoSpace;
        {
          const Only only(n);
          r = store.Allocate({.count = count, .last = last});
          if (r.ok()) {  // and the free needs none
            allowed = 0;
            ASSERT_TRUE(store.Free(*r, count).ok());
          }
        }
        ASSERT_TRUE(store.CheckInvariants());
        ASSERT_EQ(store.free_pages(), all);
        if (r.ok()) break;
        ++failures;
        ASSERT_EQ(r.error(), Error::kNoMemory);
      }
    }
  }
  EXPECT_GT(failures, 0);
}

using FakeAllocator = IovaAllocator<BuddyStore, FakeCpu>;

TEST(AllocationFailure, AllocatorInit) {
  for (long n = 0;; ++n) {
    FakeAllocator a;
    const Only only(n);
    const Result<void> made = a.Init({});
    if (made.ok()) {
      EXPECT_GE(n, 3);
      break;
    }
    EXPECT_EQ(made.error(), Error::kNoMemory);
    EXPECT_EQ(a.Allocate(1).error(), Error::kShutDown);
  }
}

// Tries Init with ever more memory on one object, until it says Ok.
template <class Object, class Options>
void InitAgainAndAgain(Object& object, const Options& options) {
  for (long n = 0;; ++n) {
    const Only only(n);
    const Result<void> made = object.Init(options);
    if (made.ok()) {
      EXPECT_GE(n, 2);
      break;
    }
    ASSERT_EQ(made.error(), Error::kNoMemory);
  }
}

TEST(AllocationFailure, InitOfAPoolMayBeTriedAgain) {
  FakeAllocator a;
  ASSERT_TRUE(a.Init({}).ok());
  LocalityPool<FakeAllocator> pool(a);
  constexpr std::uint32_t kChunks = 3;
  InitAgainAndAgain(pool,
                    LocalityOptions{.chunk_pages = 64, .max_chunks = kChunks});
  std::set<Iova> pages;
  for (unsigned i = 0; i < kChunks * 64; ++i) {
    EXPECT_TRUE(pages.insert(*pool.Allocate()).second);
  }
  EXPECT_EQ(pool.Allocate().error(), Error::kLimit);
  EXPECT_TRUE(pool.CheckInvariants());
  for (const Iova page : pages) EXPECT_TRUE(pool.Free(page).ok());
  pool.Trim();
  EXPECT_EQ(a.stats().live, 0u);
}

TEST(AllocationFailure, InitOfAFlushQueueMayBeTriedAgain) {
  FakeAllocator a;
  ASSERT_TRUE(a.Init({}).ok());
  NoInvalidation device;
  FlushQueue<FakeAllocator, NoInvalidation> queue(a, device);
  ASSERT_NO_FATAL_FAILURE(
      InitAgainAndAgain(queue, FlushQueueOptions{.entries = 8}));
  for (int i = 0; i < 100; ++i) {
    EXPECT_TRUE(queue.Free(*a.Allocate(1), 1).ok());
  }
  EXPECT_TRUE(queue.Drain().ok());
  EXPECT_TRUE(queue.CheckInvariants());
  EXPECT_EQ(a.stats().live, 0u);
}

TEST(AllocationFailure, InitOfAMeterMayBeTriedAgain) {
  RegionMeter meter;
  InitAgainAndAgain(meter, RegionMeterOptions{.window = 4, .regions = 8});
  for (std::uint64_t i = 0; i < 8; ++i) {
    EXPECT_TRUE(meter.Access(Iova(i << 21)).ok());
  }
  EXPECT_EQ(meter.stats().max_distinct, 4u);
}

TEST(AllocationFailure, AllocateFailsWholeAndFreeNeverDoes) {
  for (std::uint64_t pages : {1u, 3u, 32u, 33u, 20000u}) {
    bool served = false;
    for (long n = 0; !served; ++n) {
      FakeAllocator a(std::size_t{1});
      ASSERT_TRUE(a.Init({}).ok());
      const std::uint64_t all = a.stats().free_pages;
      {
        const Only only(n);
        const Result<Iova> r = a.Allocate(pages);
        served = r.ok();
        if (!served) {
          EXPECT_EQ(r.error(), Error::kNoMemory);
          EXPECT_EQ(a.stats().live, 0u);
        } else {
          allowed = 0;
          EXPECT_TRUE(a.Free(*r, pages).ok());
          EXPECT_EQ(a.Free(*r, pages).error(), Error::kDoubleFree);
        }
      }
      EXPECT_TRUE(a.CheckInvariants());
      a.Trim();
      EXPECT_EQ(a.stats().free_pages, all);
    }
  }
}

// Thousands of calls, each allocation of memory failing in its turn.
TEST(AllocationFailure, ASequenceSurvivesFailuresAnywhere) {
  for (long period : {1, 2, 3, 5, 8}) {
    FakeAllocator a(std::size_t{2});
    ASSERT_TRUE(a.Init({}).ok());
    const std::uint64_t all = a.stats().free_pages;
    struct Live {
      Iova first;
      std::uint64_t pages;
    };
    std::vector<Live> live;
    std::uint64_t x = 88172645463325252ull;
    for (int i = 0; i < 4000; ++i) {
      x ^= x << 13;
      x ^= x >> 7;
      x ^= x << 17;
      allowed = static_cast<long>(x >> 32) % period;
      a.cpu().set_current((x >> 8) % 3);  // 2 is no slot
      if (x % 8 < 5) {
        const std::uint64_t pages = 1 + (x >> 16) % 40;
        const Iova limit = (x >> 24) % 2 == 0 ? Iova::Max() : Iova(x >> 8);
        const Result<Iova> r = a.Allocate(pages, {.limit = limit});
        if (r.ok()) {
          allowed = -1;
          live.push_back({*r, pages});
        } else {
          ASSERT_TRUE(r.error() == Error::kNoMemory ||
                      r.error() == Error::kNoSpace);
        }
      } else if (!live.empty()) {
        const std::size_t pick = (x >> 16) % live.size();
        ASSERT_TRUE(a.Free(live[pick].first, live[pick].pages).ok());
        live[pick] = live.back();
        live.pop_back();
      }
    }
    allowed = -1;
    EXPECT_TRUE(a.CheckInvariants());
    EXPECT_EQ(a.stats().live, live.size());
    for (const Live& l : live) EXPECT_TRUE(a.Free(l.first, l.pages).ok());
    for (std::size_t s : {0u, 1u}) a.cpu().Retire(s);
    a.Trim();
    EXPECT_EQ(a.stats().free_pages, all);
  }
}

// The control: the replaced operator is the one that the headers call.
TEST(AllocationFailure, TheHeadersUseTheNothrowOperator) {
  const long before = seen;
  BuddyStore store;
  ASSERT_TRUE(store.Init(0, 100).ok());
  EXPECT_GT(seen, before);
}

}  // namespace
}  // namespace dmamap
