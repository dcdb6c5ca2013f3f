// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "iova/locality.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <iterator>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "dma/cpu.h"
#include "iova/allocator.h"
#include "iova/buddy_store.h"

namespace dmamap {
namespace {

using Allocator = IovaAllocator<BuddyStore, FakeCpu>;
using Pool = LocalityPool<Allocator>;

class LocalityTest : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kWindow = std::uint64_t{1} << 40;

  LocalityTest() {
    EXPECT_TRUE(
        iova.Init({.window = *Range::FromSize(Iova(kWindow), kWindow)}).ok());
  }
  Iova Take(std::uint64_t pages = 1) {
    const Result<Iova> a = pool.Allocate(pages);
    EXPECT_TRUE(a.ok());
    return a.value_or(Iova());
  }

  Allocator iova;
  Pool pool{iova};
};

TEST_F(LocalityTest, BadArguments) {
  EXPECT_EQ(pool.Allocate().error(), Error::kShutDown);
  EXPECT_EQ(pool.Free(Iova(0)).error(), Error::kShutDown);
  EXPECT_EQ(pool.FreeRemotely(Iova(0)).error(), Error::kShutDown);
  pool.Collect();
  pool.Trim();
  for (const LocalityOptions& bad :
       std::vector<LocalityOptions>{{.chunk_pages = 32},
                                    {.chunk_pages = 96},
                                    {.chunk_pages = 1024},
                                    {.run_pages = 0},
                                    {.chunk_pages = 64, .run_pages = 65},
                                    {.max_chunks = 0},
                                    {.max_chunks = (1u << 16) + 1}}) {
    EXPECT_EQ(pool.Init(bad).error(), Error::kInvalidArgument);
  }
  EXPECT_TRUE(pool.Init({.chunk_pages = 64}).ok());
  EXPECT_EQ(pool.Init({.chunk_pages = 64}).error(), Error::kBusy);
  EXPECT_EQ(pool.Allocate(0).error(), Error::kInvalidArgument);
  EXPECT_EQ(pool.Allocate(65).error(), Error::kInvalidArgument);
  EXPECT_TRUE(pool.CheckInvariants());
}

TEST_F(LocalityTest, AChunkIsDrawnInOrder) {
  ASSERT_TRUE(pool.Init({.chunk_pages = 64}).ok());
  const Iova first = Take();
  EXPECT_EQ(first.value() % (64 << 12), 0u);
  for (unsigned i = 1; i < 64; ++i) EXPECT_EQ(Take(), first + (i << 12));
  EXPECT_EQ(pool.stats().chunks, 1u);
  Take();
  EXPECT_EQ(pool.stats().chunks, 2u);
  EXPECT_EQ(pool.stats().live_pages, 65u);
  EXPECT_TRUE(pool.CheckInvariants());
}

TEST_F(LocalityTest, EachFreeIsChecked) {
  ASSERT_TRUE(pool.Init({.chunk_pages = 64}).ok());
  using Free = Result<void> (Pool::*)(Iova, std::uint64_t);
  for (const Free free : {Free(&Pool::Free), Free(&Pool::FreeRemotely)}) {
    const Iova a = Take(3);
    const Iova b = Take(2);
    ASSERT_EQ(b, a + (3 << 12));
    EXPECT_EQ((pool.*free)(a, 2).error(), Error::kMismatch);
    EXPECT_EQ((pool.*free)(a, 4).error(), Error::kMismatch);
    EXPECT_EQ((pool.*free)(a, 5).error(), Error::kMismatch);
    EXPECT_EQ((pool.*free)(a, 1000).error(), Error::kMismatch);
    EXPECT_EQ((pool.*free)(a, 0).error(), Error::kInvalidArgument);
    EXPECT_EQ((pool.*free)(a + 1, 3).error(), Error::kForeign);
    EXPECT_EQ((pool.*free)(a + 4096, 2).error(), Error::kForeign);
    EXPECT_EQ((pool.*free)(Iova(0), 1).error(), Error::kForeign);
    EXPECT_EQ((pool.*free)(a + (60 << 12), 1).error(), Error::kDoubleFree);
    EXPECT_TRUE((pool.*free)(a, 3).ok());
    EXPECT_EQ((pool.*free)(a, 3).error(), Error::kDoubleFree);
    EXPECT_EQ(pool.Free(a, 3).error(), Error::kDoubleFree);
    EXPECT_EQ(pool.FreeRemotely(a, 3).error(), Error::kDoubleFree);
    EXPECT_TRUE((pool.*free)(b, 2).ok());
    pool.Collect();
    EXPECT_EQ(pool.FreeRemotely(b, 2).error(), Error::kDoubleFree);
    EXPECT_EQ(pool.stats().live_pages, 0u);
    EXPECT_EQ(pool.stats().late_frees, 0u);
    EXPECT_TRUE(pool.CheckInvariants());
  }
}

// Also where page numbers have more bits than a 64-bit space of 4 KiB pages.
TEST(LocalityPages, NoForeignAddressPassesForAPageOfAnySize) {
  for (const unsigned shift : {0u, 4u, 9u, 10u, 11u, 12u, 16u, 21u}) {
    Allocator iova;
    const auto window =
        Range::FromSize(Iova(0), std::uint64_t{1} << (shift + 20));
    ASSERT_TRUE(
        iova.Init({.window = *window, .page = *PageSize::FromShift(shift)})
            .ok());
    for (const std::uint32_t chunks : {1u, 2u, 4u}) {
      Pool pool(iova);
      ASSERT_TRUE(pool.Init({.chunk_pages = 64, .max_chunks = chunks}).ok());
      const Iova own = *pool.Allocate();
      for (unsigned bit = shift + 20; bit < 64; ++bit) {
        for (unsigned other = bit; other < 64; ++other) {
          const Iova foreign(own.value() ^ (1ull << bit) ^
                             (other == bit ? 0 : 1ull << other));
          ASSERT_EQ(pool.Free(foreign).error(), Error::kForeign);
          ASSERT_EQ(pool.FreeRemotely(foreign).error(), Error::kForeign);
        }
      }
      ASSERT_TRUE(pool.Free(own).ok());
      ASSERT_TRUE(pool.CheckInvariants());
    }
  }
}

TEST_F(LocalityTest, EmptyChunksGoBack) {
  ASSERT_TRUE(pool.Init({.chunk_pages = 64, .max_idle = 2}).ok());
  std::vector<Iova> live;
  for (int i = 0; i < 64 * 6; ++i) live.push_back(Take());
  EXPECT_EQ(iova.stats().live, 6u);
  for (Iova a : live) EXPECT_TRUE(pool.Free(a).ok());
  EXPECT_EQ(pool.stats().chunks, 3u) << "the current one and two idle ones";
  EXPECT_EQ(iova.stats().live, 3u);
  EXPECT_EQ(pool.Free(live[200]).error(), Error::kForeign) << "it went back";
  EXPECT_TRUE(pool.CheckInvariants());
  pool.Trim();
  EXPECT_EQ(iova.stats().live, 0u);
  EXPECT_TRUE(pool.CheckInvariants());
  Take();
  EXPECT_EQ(iova.stats().live, 1u);
}

TEST_F(LocalityTest, WhatIsLiveOutlivesThePool) {
  {
    Pool other(iova);
    ASSERT_TRUE(other.Init({.chunk_pages = 64}).ok());
    std::vector<Iova> a;
    for (int i = 0; i < 128; ++i) a.push_back(*other.Allocate());
    for (int i = 0; i < 64; ++i) {
      EXPECT_TRUE(other.FreeRemotely(a[static_cast<std::size_t>(i)]).ok());
    }
  }
  EXPECT_EQ(iova.stats().live, 1u);
  EXPECT_TRUE(iova.CheckInvariants());
}

TEST_F(LocalityTest, WithoutChunksItUsesWhatRoomThereIs) {
  ASSERT_TRUE(pool.Init({.chunk_pages = 64, .max_chunks = 2}).ok());
  std::vector<Iova> live;
  for (int i = 0; i < 128; ++i) live.push_back(Take());
  EXPECT_EQ(pool.Allocate().error(), Error::kLimit);
  EXPECT_TRUE(pool.Free(live[3]).ok());
  EXPECT_TRUE(pool.FreeRemotely(live[100]).ok());
  EXPECT_EQ(pool.stats().short_runs, 0u);
  std::set<Iova> got = {Take(), Take()};
  EXPECT_EQ(got, (std::set<Iova>{live[3], live[100]}));
  EXPECT_GE(pool.stats().short_runs, 1u);
  EXPECT_EQ(pool.Allocate().error(), Error::kLimit);
  EXPECT_TRUE(pool.CheckInvariants());
}

TEST_F(LocalityTest, KeepsTheLimit) {
  Allocator low;
  ASSERT_TRUE(low.Init({.window = Range::Whole()}).ok());
  Pool under(low);
  ASSERT_TRUE(under.Init({.limit = Iova(0xffff'ffff)}).ok());
  for (int i = 0; i < 1000; ++i) {
    const Result<Iova> a = under.Allocate();
    ASSERT_TRUE(a.ok());
    EXPECT_LE(a->value(), 0xffff'f000u);
  }
}

// Random sizes and frees against a map, for all shapes of chunk.
TEST_F(LocalityTest, AgreesWithAMap) {
  for (const std::uint32_t chunk : {64u, 128u, 512u}) {
    for (const std::uint32_t run : {1u, 16u, 64u}) {
      Pool p(iova);
      ASSERT_TRUE(
          p.Init({.chunk_pages = chunk, .run_pages = run, .max_chunks = 40})
              .ok());
      std::mt19937_64 random(chunk + run);
      std::map<Iova, std::uint64_t> live;
      for (int i = 0; i < 20000; ++i) {
        const std::uint64_t pages = random() % 4 != 0 ? 1 : 1 + random() % 64;
        if (random() % 100 < (i / 2000 % 2 != 0 ? 40 : 60)) {
          const Result<Iova> a = p.Allocate(pages);
          if (!a.ok()) {
            ASSERT_EQ(a.error(), Error::kLimit);
            continue;
          }
          const auto next = live.lower_bound(*a);
          ASSERT_TRUE(next == live.end() || *a + (pages << 12) <= next->first);
          if (next != live.begin()) {
            const auto before = std::prev(next);
            ASSERT_LE(before->first + (before->second << 12), *a);
          }
          live.emplace(*a, pages);
        } else if (!live.empty()) {
          auto at = live.lower_bound(Iova(kWindow + random() % kWindow));
          if (at == live.end()) at = live.begin();
          const std::uint64_t wrong = at->second % 64 + 1;
          ASSERT_EQ(p.Free(at->first, wrong).error(), Error::kMismatch);
          ASSERT_TRUE((random() % 2 != 0
                           ? p.Free(at->first, at->second)
                           : p.FreeRemotely(at->first, at->second))
                          .ok());
          live.erase(at);
        }
        if (i % 128 == 0) {
          ASSERT_TRUE(p.CheckInvariants());
        }
      }
      p.Collect();
      std::uint64_t pages = 0;
      for (const auto& [a, n] : live) pages += n;
      EXPECT_EQ(p.stats().live_pages, pages);
      EXPECT_EQ(p.stats().late_frees, 0u);
      for (const auto& [a, n] : live) ASSERT_TRUE(p.Free(a, n).ok());
      p.Trim();
      EXPECT_EQ(iova.stats().live, 0u);
    }
  }
}

// Ages `source` by a million allocations and frees in random order at `live`
// pages, then draws runs of 64 pages and counts their regions.
struct Aged {
  std::uint64_t worst = 0;
  double mean = 0;
};
template <class Take, class Give>
Aged Age(Take take, Give give, std::size_t live) {
  std::mt19937_64 random(3);
  std::vector<Iova> pages(live);
  for (Iova& page : pages) page = take();
  std::shuffle(pages.begin(), pages.end(), random);
  Aged aged;
  std::uint64_t runs = 0;
  std::uint64_t sum = 0;
  // Each turn frees 64 random pages and draws a run of 64.
  for (int turn = 0; turn < 1'000'000 / 64; ++turn) {
    std::array<std::size_t, 64> places = {};
    for (std::size_t& place : places) {
      do {
        place = random() % live;
      } while (pages[place] == Iova::Max());
      give(pages[place]);
      pages[place] = Iova::Max();
    }
    std::set<std::uint64_t> regions;
    for (const std::size_t place : places) {
      pages[place] = take();
      regions.insert(pages[place].value() >> 21);
    }
    aged.worst = std::max<std::uint64_t>(aged.worst, regions.size());
    sum += regions.size();
    ++runs;
  }
  aged.mean = static_cast<double>(sum) / static_cast<double>(runs);
  for (const Iova page : pages) give(page);
  return aged;
}

TEST_F(LocalityTest, ARunTouchesTwoRegionsHoweverOldThePool) {
  const Aged plain =
      Age([&] { return *iova.Allocate(1); },
          [&](Iova a) { EXPECT_TRUE(iova.Free(a, 1).ok()); }, 16384);
  EXPECT_GT(plain.mean, 8) << "the control: the plain allocator does age";
  std::printf("plain allocator: mean %.2f, worst %d regions\n", plain.mean,
              static_cast<int>(plain.worst));
  for (const LocalityOptions& options : std::vector<LocalityOptions>{
           {.chunk_pages = 64, .run_pages = 64, .max_chunks = 16384},
           {.chunk_pages = 256, .run_pages = 64, .max_chunks = 16384},
           {.chunk_pages = 512, .run_pages = 64, .max_chunks = 16384},
           {.chunk_pages = 512, .run_pages = 128, .max_chunks = 16384},
           {.chunk_pages = 64, .run_pages = 1, .max_chunks = 16384}}) {
    Pool p(iova);
    ASSERT_TRUE(p.Init(options).ok());
    std::uint64_t most = 0;
    const Aged aged = Age(
        [&] {
          most = std::max(most, p.chunks());
          return *p.Allocate();
        },
        [&](Iova a) { EXPECT_TRUE(p.Free(a).ok()); }, 16384);
    std::printf(
        "chunk %u, run %u: mean %.2f, worst %d regions; %.2f of the "
        "live pages in chunks\n",
        options.chunk_pages, options.run_pages, aged.mean,
        static_cast<int>(aged.worst),
        static_cast<double>(most * options.chunk_pages) / 16384);
    EXPECT_EQ(p.stats().short_runs, 0u);
    if (options.run_pages >= 64) {
      EXPECT_LE(aged.worst, 2u);
    } else {
      EXPECT_GT(aged.worst, 2u) << "the control: any room is taken";
    }
  }
}

}  // namespace
}  // namespace dmamap
