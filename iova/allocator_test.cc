// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "iova/allocator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "iova/standard.h"

namespace dmamap {
namespace {

using FakeAllocator = IovaAllocator<BuddyStore, FakeCpu>;

Range Pages(std::uint64_t first, std::uint64_t last) {
  return *Range::FromFirstLast(Iova(first << 12), Iova(last << 12 | 0xfff));
}

TEST(Allocator, RefusesEverythingBeforeInit) {
  StandardAllocator a;
  EXPECT_EQ(a.Allocate(1).error(), Error::kShutDown);
  EXPECT_EQ(a.Allocate(100).error(), Error::kShutDown);
  EXPECT_EQ(a.Free(Iova(0x1000), 1).error(), Error::kShutDown);
  a.Trim();
  EXPECT_TRUE(a.CheckInvariants());
}

TEST(Allocator, ChecksItsOptions) {
  const auto init = [](const AllocatorOptions& options) {
    StandardAllocator a;
    const Result<void> r = a.Init(options);
    return r.ok() ? Error{} : r.error();
  };
  EXPECT_EQ(init({.window = *Range::FromFirstLast(Iova(1), Iova(0xfff))}),
            Error::kInvalidArgument);
  EXPECT_EQ(init({.window = *Range::FromFirstLast(Iova(0), Iova(0xffe))}),
            Error::kInvalidArgument);
  EXPECT_EQ(init({.page = *PageSize::FromShift(11)}), Error::kUnsupported);
  const std::array<Range, 1> all = {Range::Whole()};
  EXPECT_EQ(init({.reserved = all}), Error::kInvalidArgument);
  EXPECT_EQ(init({.depot_limit = 1u << 14}), Error::kLimit);
  EXPECT_EQ(init({}), Error{});
  StandardAllocator a;
  ASSERT_TRUE(a.Init({}).ok());
  EXPECT_EQ(a.Init({}).error(), Error::kBusy);
}

// A burst of `pages` pages each, given back, and then 600,000 requests for one
// page, 300 at a time, so that they miss the magazines.
void BurstAndOthers(StandardAllocator& a, std::uint64_t pages) {
  std::vector<Iova> burst;
  for (int i = 0; i < 6000; ++i) burst.push_back(*a.Allocate(pages));
  for (const Iova first : burst) ASSERT_TRUE(a.Free(first, pages).ok());
  for (int i = 0; i < 2000; ++i) {
    std::vector<Iova> some;
    for (int k = 0; k < 300; ++k) some.push_back(*a.Allocate(1));
    for (const Iova page : some) ASSERT_TRUE(a.Free(page, 1).ok());
  }
}

// After a burst the depot is full of what nobody will ask for. Any traffic that
// misses its magazines now and then gives it back, without Trim(), and the
// magazines are used again.
TEST(Allocator, TheDepotTrimsItselfAfterABurst) {
  auto a = std::make_unique<StandardAllocator>();
  ASSERT_TRUE(a->Init({.window = Pages(1, (1ull << 36) - 1)}).ok());
  std::uint64_t bytes = 0;
  for (int round = 0; round < 4; ++round) {
    for (const unsigned size_class : {5u, 2u, 1u}) {
      BurstAndOthers(*a, std::uint64_t{1} << size_class);
      const auto stats = a->stats();
      // The slot's own two magazines stay.
      EXPECT_LE(stats.size_class[size_class].cached, 2u * 127) << size_class;
      EXPECT_GE(stats.size_class[size_class].depot_trims, 30u) << size_class;
      EXPECT_LE(stats.size_class[0].cached, 5u * 127);
    }
    const std::uint64_t now = a->stats().cache_bytes;
    if (round == 1) bytes = now;
    if (round > 1) {
      EXPECT_EQ(now, bytes) << "a magazine is lost";
    }
  }
  EXPECT_TRUE(a->CheckInvariants());
  a->Trim();
  EXPECT_EQ(a->stats().cached, 0u);
  EXPECT_EQ(a->stats().free_pages, (1ull << 36) - 1);
}

// "32 bits first, then above" with a full low part asks the caches for what
// they do not have in each call: that is no miss, and trims nothing.
TEST(Allocator, RequestsThatNoCacheServesTrimNothing) {
  auto a = std::make_unique<StandardAllocator>();
  ASSERT_TRUE(a->Init({.window = Pages(1, (1ull << 36) - 1)}).ok());
  std::vector<Iova> low;
  while (true) {
    const auto r = a->Allocate(1 << 14, {.limit = Iova(0xffffffff)});
    if (!r.ok()) break;
    low.push_back(*r);
  }
  while (a->Allocate(1, {.limit = Iova(0xffffffff)}).ok()) {
  }
  const auto turn = [&] {
    std::vector<Iova> some;
    for (int k = 0; k < 1000; ++k) {
      some.push_back(*a->Allocate(1, {.preferred_limit = Iova(0xffffffff)}));
    }
    for (const Iova page : some) ASSERT_TRUE(a->Free(page, 1).ok());
  };
  for (int i = 0; i < 5; ++i) turn();
  const auto before = a->stats();
  for (int i = 0; i < 50; ++i) turn();
  EXPECT_LT(
      a->stats().size_class[0].from_store - before.size_class[0].from_store,
      50u * 100)
      << "of 50,000 allocations";
}

struct NoTrimPolicy : AllocatorPolicy {
  static constexpr std::uint32_t kTrimPeriod = 0;
};

// What a burst left in the depot goes, although another thread does `work` than
// the one that left it: one without magazines, or without a slot.
template <class Policy = AllocatorPolicy, class Work>
void ExpectTrimmedByAnother(std::size_t slots, Work&& work) {
  IovaAllocator<BuddyStore, ThreadSlots, Policy> a(slots);
  ASSERT_TRUE(a.Init({.window = Pages(1, (1ull << 36) - 1)}).ok());
  std::vector<Iova> burst;
  for (int i = 0; i < 6000; ++i) burst.push_back(*a.Allocate(32));
  for (const Iova first : burst) ASSERT_TRUE(a.Free(first, 32).ok());
  EXPECT_GE(a.stats().cached, 32u * 127);
  const std::uint64_t flushes = a.stats().flushes;
  std::thread([&] {
    for (int i = 0; i < 20000; ++i) work(a);
  }).join();
  EXPECT_LE(a.stats().cached, 2u * 127);
  EXPECT_EQ(a.stats().size_class[5].depot_trims, 32u);
  EXPECT_EQ(a.stats().flushes, flushes);
  EXPECT_TRUE(a.CheckInvariants());
}

// Ranges past the caches trim too, and so does whoever calls TrimStep now and
// then, where traffic never misses its magazines.
TEST(Allocator, WhoHasNoMagazinesTrimsTheDepotToo) {
  const auto long_pairs = [](auto& a) {
    ASSERT_TRUE(a.Free(*a.Allocate(64), 64).ok());
  };
  const auto steps = [](auto& a) { a.TrimStep(); };
  for (const std::size_t slots : {8u, 1u}) {
    ExpectTrimmedByAnother(slots, long_pairs);
    ExpectTrimmedByAnother(slots, steps);
  }
  // An embedder who wants no trim but his own.
  ExpectTrimmedByAnother<NoTrimPolicy>(8, steps);
}

// 32 bits first: also an address that lies in the depot, below magazines of
// higher ones, while the caller's own magazines are full.
TEST(Allocator, PrefersALowAddressThatTheDepotHolds) {
  StandardAllocator a;
  ASSERT_TRUE(a.Init({.window = Pages(1, (1ull << 36) - 1)}).ok());
  const Iova limit(0xffffffff);
  std::vector<Iova> low;
  for (Result<Iova> r = a.Allocate(1, {.limit = limit}); r.ok();
       r = a.Allocate(1, {.limit = limit})) {
    low.push_back(*r);
  }
  std::vector<Iova> high;
  for (int i = 0; i < 762; ++i) high.push_back(*a.Allocate(1));
  for (int i = 0; i < 508; ++i) ASSERT_TRUE(a.Free(low[i], 1).ok());
  for (const Iova page : high) ASSERT_TRUE(a.Free(page, 1).ok());
  ASSERT_GE(a.stats().size_class[0].depot_puts, 8u);
  for (int i = 0; i < 508; ++i) {
    ASSERT_LE(*a.Allocate(1, {.preferred_limit = limit}), limit) << i;
  }
  EXPECT_GT(*a.Allocate(1, {.preferred_limit = limit}), limit);
  EXPECT_EQ(a.stats().flushes, 1u) << "of the refusal that ended the filling";
  EXPECT_TRUE(a.CheckInvariants());
}

// Pages that are freed and allocated in random order for long, in bursts that
// no cache holds: what they cost to keep does not grow with age.
TEST(Allocator, BookkeepingDoesNotAge) {
  constexpr std::size_t kLive = std::size_t{1} << 19;
  constexpr std::size_t kBurst = kLive / 8;
  StandardAllocator a;
  ASSERT_TRUE(a.Init({.window = Pages(1, (1ull << 36) - 1)}).ok());
  std::vector<Iova> live;
  for (std::size_t i = 0; i < kLive; ++i) live.push_back(*a.Allocate(1));
  std::mt19937_64 random(1);
  std::uint64_t most = 0;
  for (int burst = 0; burst < 30; ++burst) {
    for (std::size_t i = 0; i < kBurst; ++i) {
      std::swap(live[i], live[i + random() % (kLive - i)]);
      ASSERT_TRUE(a.Free(live[i], 1).ok());
    }
    for (std::size_t i = 0; i < kBurst; ++i) live[i] = *a.Allocate(1);
    const AllocatorStats s = a.stats();
    most = std::max(most, s.store_bytes + s.tag_bytes + s.cache_bytes);
  }
  EXPECT_LE(most, 16 * kLive);
  EXPECT_TRUE(a.CheckInvariants());
}

// A free in two steps is a free to the counters as well.
TEST(Allocator, CountsTheMissesOfBothKindsOfFree) {
  std::array<ClassStats, 2> counted;
  for (const bool two_steps : {false, true}) {
    StandardAllocator a;
    ASSERT_TRUE(a.Init({.window = Pages(1, (1ull << 36) - 1)}).ok());
    std::vector<Iova> some;
    for (int i = 0; i < 6000; ++i) some.push_back(*a.Allocate(1));
    for (const Iova page : some) {
      if (two_steps) {
        ASSERT_TRUE(a.Retire(page, 1).ok());
        ASSERT_TRUE(a.Release(page, 1).ok());
      } else {
        ASSERT_TRUE(a.Free(page, 1).ok());
      }
    }
    counted[two_steps] = a.stats().size_class[0];
  }
  for (const ClassStats& s : counted) {
    EXPECT_EQ(s.allocations, 6000u);
    EXPECT_EQ(s.frees, 6000u);
    EXPECT_EQ(s.alloc_misses, 188u);  // 32 come from the store at a time
    EXPECT_EQ(s.free_misses, 47u);    // 127 fill a magazine; 16 are in it
    EXPECT_EQ(s.depot_puts, 32u);
    EXPECT_EQ(s.depot_takes, 0u);
    EXPECT_EQ(s.live, 0u);
    EXPECT_EQ(s.cached, 6016 - s.to_store);
  }
}

TEST(Allocator, TheTrimCanBeTurnedOff) {
  IovaAllocator<BuddyStore, ThreadSlots, NoTrimPolicy> a;
  ASSERT_TRUE(a.Init({.window = Pages(1, (1ull << 36) - 1)}).ok());
  std::vector<Iova> burst;
  for (int i = 0; i < 6000; ++i) burst.push_back(*a.Allocate(1));
  for (const Iova page : burst) ASSERT_TRUE(a.Free(page, 1).ok());
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(a.Free(*a.Allocate(64), 64).ok());
  EXPECT_GE(a.stats().cached, 32u * 127);
  EXPECT_EQ(a.stats().size_class[0].depot_trims, 0u);
}

TEST(Allocator, KeepsLimitAndAlignment) {
  StandardAllocator a;
  ASSERT_TRUE(a.Init({.window = Pages(1, (1ull << 36) - 1)}).ok());
  const Iova low = *a.Allocate(1, {.limit = Iova(0xffffffff)});
  EXPECT_LE(low.value(), 0xfffff000u);
  EXPECT_EQ(a.Allocate(1, {.limit = Iova(0x1ffe)}).error(), Error::kNoSpace);
  EXPECT_EQ(*a.Allocate(1, {.limit = Iova(0x1fff)}), Iova(0x1000));
  // Three pages under a limit that leaves no fourth.
  EXPECT_EQ(*a.Allocate(3, {.limit = Iova(0x6fff)}), Iova(0x4000));
  EXPECT_EQ(a.Allocate(1, {.alignment = 3}).error(), Error::kInvalidArgument);
  EXPECT_EQ(a.Allocate(40, {.alignment = 3}).error(), Error::kInvalidArgument);
  EXPECT_EQ(a.Allocate(0).error(), Error::kInvalidArgument);
  for (std::uint64_t pages : {1u, 3u, 5u, 32u, 33u, 100u}) {
    const Iova wide = *a.Allocate(pages, {.alignment = 1 << 21});
    EXPECT_EQ(wide.value() % (1 << 21), 0u);
    EXPECT_TRUE(a.CheckInvariants());
    const Iova own = *a.Allocate(pages, {.align_to = AlignTo::kSize});
    std::uint64_t size = 0x1000;
    while (size < pages * 0x1000) size *= 2;
    EXPECT_EQ(own.value() % size, 0u);
    EXPECT_TRUE(a.Free(wide, pages).ok());
    EXPECT_TRUE(a.Free(own, pages).ok());
    EXPECT_TRUE(a.CheckInvariants());
  }
}

TEST(Allocator, KeepsBothEndsOfTheAddressSpace) {
  StandardAllocator top;
  ASSERT_TRUE(
      top.Init({.window = Pages((1ull << 52) - 4, (1ull << 52) - 1)}).ok());
  std::set<std::uint64_t> got;
  for (int i = 0; i < 4; ++i) got.insert(top.Allocate(1)->value() >> 12);
  EXPECT_EQ(*got.rbegin(), (1ull << 52) - 1);
  EXPECT_EQ(got.size(), 4u);
  EXPECT_EQ(top.Allocate(1).error(), Error::kNoSpace);
  EXPECT_TRUE(top.Free(Iova(~0xfffull), 1).ok());
  EXPECT_EQ(*top.Allocate(1), Iova(~0xfffull));
  EXPECT_TRUE(top.CheckInvariants());

  StandardAllocator all;  // [0, 2^64-1]
  ASSERT_TRUE(all.Init({}).ok());
  EXPECT_EQ(*all.Allocate(1, {.limit = Iova(0xfff)}), Iova(0));
  EXPECT_EQ(all.Allocate(1, {.limit = Iova(0xfff)}).error(), Error::kNoSpace);
  const std::uint64_t half = 1ull << 51;
  EXPECT_EQ(*all.Allocate(half), Iova(1ull << 63));
  std::uint64_t bytes = 0;
  all.ForEachLive([&](Range r) { bytes = r.size(); });
  EXPECT_EQ(bytes, 1ull << 63);
  EXPECT_TRUE(all.Free(Iova(1ull << 63), half).ok());
  EXPECT_TRUE(all.Free(Iova(0), 1).ok());
  EXPECT_TRUE(all.CheckInvariants());
}

TEST(Allocator, NeverHandsOutReservedPages) {
  // Unsorted, overlapping, ragged, and beyond the window.
  const std::array<Range, 5> reserved = {
      *Range::FromFirstLast(Iova(0x20010), Iova(0x20011)), Pages(10, 20),
      Pages(15, 25), Pages(63, 1000), Pages(0, 3)};
  FakeAllocator a(std::size_t{1});
  ASSERT_TRUE(a.Init({.window = Pages(2, 63), .reserved = reserved}).ok());
  std::set<std::uint64_t> got;
  for (;;) {
    const Result<Iova> r = a.Allocate(1);
    if (!r.ok()) break;
    EXPECT_TRUE(got.insert(r->value() >> 12).second);
  }
  for (std::uint64_t p = 0; p < 70; ++p) {
    bool expected = p >= 4 && p < 63 && p != 0x20 && !(p >= 10 && p <= 25);
    EXPECT_EQ(got.count(p) != 0, expected) << p;
  }
  EXPECT_TRUE(a.CheckInvariants());
  EXPECT_EQ(a.Free(Iova(12 << 12), 1).error(), Error::kForeign);
}

TEST(Allocator, FindsEveryBadFree) {
  StandardAllocator a;
  ASSERT_TRUE(a.Init({.window = Pages(1, (1ull << 36) - 1)}).ok());
  for (std::uint64_t pages : {1u, 2u, 3u, 7u, 32u, 33u, 20000u}) {
    const Iova p = *a.Allocate(pages);
    EXPECT_EQ(a.Free(p, pages + 1).error(), Error::kMismatch);
    EXPECT_EQ(a.Free(p, pages + 50).error(), Error::kMismatch);
    EXPECT_EQ(a.Free(p + 1, pages).error(), Error::kForeign);
    EXPECT_EQ(a.Free(p, 0).error(), Error::kInvalidArgument);
    if (pages > 1) {
      EXPECT_EQ(a.Free(p, pages - 1).error(), Error::kMismatch);
      EXPECT_FALSE(a.Free(p + 4096, pages - 1).ok());
    }
    EXPECT_TRUE(a.Free(p, pages).ok());
    EXPECT_EQ(a.Free(p, pages).error(), Error::kDoubleFree);
    EXPECT_EQ(a.Free(p, 40).error(), Error::kDoubleFree);
    a.Trim();
    EXPECT_EQ(a.Free(p, pages).error(), Error::kDoubleFree);
    EXPECT_TRUE(a.CheckInvariants());
  }
  // Linux's smartpqi case: address 0 was freed and entered the cache.
  EXPECT_EQ(a.Free(Iova(0), 1).error(), Error::kForeign);
  EXPECT_EQ(a.Free(Iova::Max(), 1).error(), Error::kForeign);
  EXPECT_EQ(a.Free(Iova(~0xfffull), 1).error(), Error::kForeign);
  EXPECT_EQ(a.stats().live, 0u);
}

TEST(Allocator, CachesInLifoOrder) {
  StandardAllocator a;
  ASSERT_TRUE(a.Init({}).ok());
  const Iova x = *a.Allocate(1);
  const Iova y = *a.Allocate(1);
  EXPECT_EQ(y + 4096, x);  // a refill lies side by side
  EXPECT_TRUE(a.Free(x, 1).ok());
  EXPECT_EQ(*a.Allocate(1), x);
  EXPECT_TRUE(a.Free(x, 1).ok());
  EXPECT_TRUE(a.Free(y, 1).ok());
  EXPECT_EQ(*a.Allocate(1), y);
  const AllocatorStats s = a.stats();
  EXPECT_EQ(s.size_class[0].allocations, 4u);
  EXPECT_EQ(s.size_class[0].alloc_misses, 1u);
  EXPECT_EQ(s.size_class[0].alloc_hits(), 3u);
  EXPECT_EQ(s.size_class[0].frees, 3u);
  EXPECT_EQ(s.size_class[0].free_misses, 0u);
  EXPECT_EQ(s.live, 1u);
  EXPECT_EQ(s.cached, s.size_class[0].from_store - 1);
}

// All pages that this caller can reach are found before a refusal.
TEST(Allocator, FlushesItsCachesBeforeItRefuses) {
  FakeAllocator a(std::size_t{2});
  ASSERT_TRUE(a.Init({.window = Pages(0, 1023), .depot_limit = 2}).ok());
  std::vector<Iova> got;
  for (int i = 0; i < 1024; ++i) got.push_back(*a.Allocate(1));
  EXPECT_EQ(a.Allocate(1).error(), Error::kNoSpace);
  for (Iova p : got) EXPECT_TRUE(a.Free(p, 1).ok());
  EXPECT_GT(a.stats().cached, 300u);
  EXPECT_EQ(*a.Allocate(1024), Iova(0));
  EXPECT_EQ(a.stats().refusals, 1u);
  EXPECT_GE(a.stats().flushes, 2u);
  EXPECT_TRUE(a.Free(Iova(0), 1024).ok());
  EXPECT_TRUE(a.CheckInvariants());
}

TEST(Allocator, ServesCallersWithoutASlot) {
  FakeAllocator a(std::size_t{1});
  ASSERT_TRUE(a.Init({.window = Pages(0, 255)}).ok());
  a.cpu().set_current(kNoSlot);
  const Iova x = *a.Allocate(2);
  a.cpu().set_current(0);
  EXPECT_TRUE(a.Free(x, 2).ok());
  a.cpu().set_current(kNoSlot);
  EXPECT_EQ(a.Free(x, 2).error(), Error::kDoubleFree);
  EXPECT_FALSE(a.cpu().held());
  EXPECT_TRUE(a.CheckInvariants());
}

TEST(Allocator, ARetiredSlotGivesEverythingBack) {
  FakeAllocator a(std::size_t{2});
  ASSERT_TRUE(a.Init({.window = Pages(0, 1023)}).ok());
  std::vector<Iova> got;
  for (int i = 0; i < 300; ++i) got.push_back(*a.Allocate(1));
  for (Iova p : got) EXPECT_TRUE(a.Free(p, 1).ok());
  a.cpu().Retire(0);
  EXPECT_TRUE(a.CheckInvariants());
  a.cpu().set_current(1);
  EXPECT_EQ(*a.Allocate(1024), Iova(0));
  EXPECT_TRUE(a.CheckInvariants());
}

TEST(Allocator, AThreadsExitGivesItsMagazinesBack) {
  StandardAllocator a;
  ASSERT_TRUE(a.Init({.window = Pages(0, 1023)}).ok());
  std::thread([&] {
    std::vector<Iova> got;
    for (int i = 0; i < 500; ++i) got.push_back(*a.Allocate(1));
    for (Iova p : got) EXPECT_TRUE(a.Free(p, 1).ok());
  }).join();
  EXPECT_EQ(*a.Allocate(1024), Iova(0));
  EXPECT_TRUE(a.CheckInvariants());
}

TEST(Allocator, CountsItsBookkeeping) {
  StandardAllocator a;
  ASSERT_TRUE(a.Init({.window = Pages(1, (1ull << 36) - 1)}).ok());
  const AllocatorStats empty = a.stats();
  EXPECT_LT(sizeof(a) + empty.store_bytes + empty.tag_bytes + empty.cache_bytes,
            64u << 10);
  constexpr std::uint64_t kLive = 1u << 18;
  for (std::uint64_t i = 0; i < kLive; ++i) ASSERT_TRUE(a.Allocate(1).ok());
  const AllocatorStats s = a.stats();
  EXPECT_EQ(s.live, kLive);
  EXPECT_LT(s.store_bytes + s.tag_bytes + s.cache_bytes, 16 * kLive);
}

}  // namespace
}  // namespace dmamap
