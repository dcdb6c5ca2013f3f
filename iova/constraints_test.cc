// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "iova/constraints.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <vector>

#include "iova/buddy_store.h"
#include "iova/standard.h"

namespace dmamap {
namespace {

Range Pages(std::uint64_t first, std::uint64_t last) {
  return *Range::FromFirstLast(Iova(first << 12), Iova(last << 12 | 0xfff));
}
constexpr std::uint64_t kLast48 = (1ull << 36) - 1;  // page

TEST(Constraints, RefusesWhatContradictsItself) {
  StandardAllocator a;
  ASSERT_TRUE(a.Init({.window = Pages(1, kLast48)}).ok());
  for (std::uint64_t pages : {1u, 17u, 33u, 100u}) {
    EXPECT_EQ(a.Allocate(pages, {.boundary = 0x11000}).error(),
              Error::kInvalidArgument);
    EXPECT_EQ(a.Allocate(pages, {.boundary = 0x800}).error(),
              Error::kInvalidArgument);  // a page does not fit
    EXPECT_EQ(a.Allocate(pages, {.alignment = 0x3000}).error(),
              Error::kInvalidArgument);
    EXPECT_EQ(
        a.Allocate(pages, {.limit = Iova(0xfffff), .first = Iova(0x100000)})
            .error(),
        Error::kNoSpace);
  }
  EXPECT_EQ(a.Allocate(17, {.boundary = 0x10000}).error(),
            Error::kInvalidArgument);
  EXPECT_EQ(a.Allocate(1, {.first = Iova::Max()}).error(), Error::kNoSpace);
  // Also for a warm cache.
  ASSERT_TRUE(a.Free(*a.Allocate(17), 17).ok());
  EXPECT_EQ(a.Allocate(17, {.boundary = 0x10000}).error(),
            Error::kInvalidArgument);
  EXPECT_EQ(a.Allocate(17, {.boundary = 0x30000}).error(),
            Error::kInvalidArgument);
  ASSERT_TRUE(a.Free(*a.Allocate(1), 1).ok());
  for (std::uint64_t boundary : {1u, 0x800u}) {
    EXPECT_EQ(a.Allocate(1, {.boundary = boundary}).error(),
              Error::kInvalidArgument);
  }
  EXPECT_TRUE(a.Free(*a.Allocate(1, {.boundary = 0x1000}), 1).ok());
  EXPECT_EQ(a.stats().live, 0u);
}

// What no free could make possible is refused without emptying the caches.
TEST(Constraints, TheImpossibleCostsNobodyHisCaches) {
  StandardAllocator a;
  ASSERT_TRUE(a.Init({.window = Pages(0x1000, 0xffffff)}).ok());
  ASSERT_TRUE(a.Free(*a.Allocate(1), 1).ok());
  const std::uint64_t cached = a.stats().cached;
  ASSERT_GT(cached, 0u);
  std::uint64_t refusals = 0;
  for (const Constraints& c :
       {Constraints{.limit = Iova(0xfff)}, Constraints{.limit = Iova(0)},
        Constraints{.first = Iova(0x1000000000)},
        Constraints{.first = Iova::Max()}}) {
    EXPECT_EQ(a.Allocate(1, c).error(), Error::kNoSpace);
    EXPECT_EQ(a.stats().refusals, ++refusals);
  }
  EXPECT_EQ(a.Allocate(0x1000000).error(), Error::kNoSpace);
  EXPECT_EQ(a.Allocate(~std::uint64_t{0}).error(), Error::kNoSpace);
  EXPECT_EQ(a.stats().refusals, refusals + 2);
  // No such multiple in the window, or below the limit, or none with room for
  // the power of two that the size is rounded up to.
  EXPECT_EQ(a.Allocate(1, {.alignment = 1ull << 40}).error(), Error::kNoSpace);
  EXPECT_EQ(
      a.Allocate(1, {.limit = Iova(0x5fff), .alignment = 0x10000}).error(),
      Error::kNoSpace);
  EXPECT_EQ(a.Allocate(0xfff000).error(), Error::kNoSpace);
  EXPECT_EQ(a.stats().refusals, refusals + 5);
  EXPECT_EQ(a.stats().cached, cached);
  EXPECT_EQ(a.stats().flushes, 0u);
  // The control: what a free could serve does empty them.
  EXPECT_TRUE(a.Allocate(0x800000).ok());
  EXPECT_EQ(a.Allocate(0x800000).error(), Error::kNoSpace);
  EXPECT_GT(a.stats().flushes, 0u);
  EXPECT_EQ(a.stats().cached, 0u);
}

// A cached range above the preferred limit does not come before a free one
// below it.
TEST(Constraints, ThePreferredLimitComesBeforeTheCache) {
  StandardAllocator a;
  ASSERT_TRUE(a.Init({.window = Pages(1, kLast48)}).ok());
  const Iova high = *a.Allocate(1);
  ASSERT_GT(high, kLast32Bit);
  ASSERT_TRUE(a.Free(high, 1).ok());
  EXPECT_LE(*a.Allocate(1, {.preferred_limit = kLast32Bit}), kLast32Bit);
}

// Engines that count an address in 16 or 32 bits.
TEST(Constraints, CrossesNoBoundary) {
  StandardAllocator a;
  ASSERT_TRUE(a.Init({.window = Pages(1, kLast48)}).ok());
  for (std::uint64_t boundary : {0x10000ull, 0x100000000ull, 1ull << 63}) {
    for (std::uint64_t pages : {1u, 3u, 9u, 15u, 16u, 48u, 1000u}) {
      if (pages * 4096 > boundary) continue;
      for (int i = 0; i < 20; ++i) {
        const std::uint64_t first =
            a.Allocate(pages, {.boundary = boundary})->value();
        EXPECT_EQ(first / boundary, (first + pages * 4096 - 1) / boundary);
      }
    }
  }
  EXPECT_TRUE(a.CheckInvariants());
}

TEST(Constraints, FirstIsALowerBoundAlsoForCachedRanges) {
  StandardAllocator a;
  ASSERT_TRUE(a.Init({.window = Pages(1, kLast48)}).ok());
  const Iova low = *a.Allocate(1, {.limit = Iova(0xfffff)});
  ASSERT_TRUE(a.Free(low, 1).ok());  // on top of the magazine
  EXPECT_EQ(*a.Allocate(1, {.first = low}), low);
  ASSERT_TRUE(a.Free(low, 1).ok());
  const Iova high = *a.Allocate(1, {.first = Iova(0x200001)});
  EXPECT_GE(high, Iova(0x201000));
  EXPECT_EQ(*a.Allocate(2, {.limit = Iova(0x205fff), .first = Iova(0x202001)}),
            Iova(0x204000));
  EXPECT_TRUE(a.CheckInvariants());
}

TEST(Constraints, PlacesBottomUp) {
  StandardAllocator a;
  ASSERT_TRUE(a.Init({.window = Pages(1, kLast48)}).ok());
  EXPECT_EQ(*a.Allocate(1, {.placement = Placement::kBottomUp}), Iova(0x1000));
  EXPECT_EQ(*a.Allocate(64, {.placement = Placement::kBottomUp}),
            Iova(0x40000));
  EXPECT_EQ(*a.Allocate(64, {.placement = Placement::kBottomUp,
                             .first = Iova(0x10000001)}),
            Iova(0x10040000));
  EXPECT_GE(*a.Allocate(64), Iova(1ull << 47));
}

TEST(Constraints, AllAtOnce) {
  StandardAllocator a;
  const std::array<Range, 1> reserved = {kX86MsiWindow};
  ASSERT_TRUE(a.Init({.window = Pages(1, kLast48), .reserved = reserved}).ok());
  const Constraints c = {.limit = Iova(0xff0f'ffff),
                         .alignment = 0x40000,
                         .align_to = AlignTo::kSize,
                         .first = Iova(0xfe80'0001),
                         .boundary = 0x100000};
  std::vector<Iova> got;
  for (;;) {
    const Result<Iova> r = a.Allocate(50, c);
    if (!r.ok()) break;
    const Range range = *Range::FromSize(*r, 50 * 4096);
    EXPECT_EQ(r->value() % 0x40000, 0u);
    EXPECT_GE(range.first(), c.first);
    EXPECT_LE(range.last(), c.limit);
    EXPECT_EQ(range.first().value() >> 20, range.last().value() >> 20);
    EXPECT_FALSE(range.Overlaps(kX86MsiWindow));
    got.push_back(*r);
  }
  // 0xfe840000 to 0xff0c0000, but for the MSI window's 1 MiB.
  EXPECT_EQ(got.size(), (0xff10'0000 - 0xfe84'0000 - 0x10'0000) / 0x4'0000u);
  EXPECT_TRUE(a.CheckInvariants());
}

TEST(GuardPages, LieBehindEachRangeAndGoWithIt) {
  using Allocator = IovaAllocator<BuddyStore, FakeCpu>;
  for (std::uint64_t guard : {1u, 2u, 5u, 40u}) {
    Allocator a(std::size_t{1});
    ASSERT_TRUE(
        a.Init({.window = Pages(0, (1u << 16) - 1), .guard_pages = guard})
            .ok());
    std::vector<Range> live;
    for (std::uint64_t pages : {1u, 2u, 3u, 32u, 33u, 64u, 100u, 1u, 1u}) {
      const Iova first = *a.Allocate(pages);
      live.push_back(*Range::FromSize(first, pages * 4096));
      EXPECT_TRUE(a.CheckInvariants());
    }
    std::vector<Range> sorted;
    a.ForEachLive([&](const Range& r) { sorted.push_back(r); });
    ASSERT_EQ(sorted.size(), live.size());
    for (std::size_t i = 1; i < sorted.size(); ++i) {
      EXPECT_GE(sorted[i].first() - sorted[i - 1].last() - 1, guard * 4096);
    }
    EXPECT_LE(sorted.back().last().value() + guard * 4096, (1u << 28) - 1);
    // The guard is nobody's to free.
    EXPECT_FALSE(a.Free(live[0].last() + 1, 1).ok());
    EXPECT_FALSE(a.Free(live[4].first(), 33 + guard).ok());
    for (const Range& r : live) {
      EXPECT_TRUE(a.Free(r.first(), r.size() >> 12).ok());
    }
    a.Trim();
    EXPECT_EQ(a.stats().free_pages, 1u << 16);
    EXPECT_TRUE(a.CheckInvariants());
  }
}

// Tags are kept where ranges begin, not in the gaps between them.
TEST(GuardPages, CostNoMemoryForWhatTheyCover) {
  StandardAllocator a;
  ASSERT_TRUE(
      a.Init({.window = Pages(1, kLast48), .guard_pages = 1u << 20}).ok());
  ASSERT_TRUE(a.Allocate(1).ok());
  EXPECT_LT(a.stats().tag_bytes, 200'000u);
  EXPECT_TRUE(a.CheckInvariants());
}

// A window that is nearly used up is not hoarded by one slot.
TEST(Refill, TakesNoRunOfASmallWindow) {
  StandardAllocator a;
  ASSERT_TRUE(a.Init({.window = Pages(1, 64 * 32 - 1)}).ok());
  ASSERT_TRUE(a.Allocate(1).ok());
  EXPECT_EQ(a.stats().cached, 0u);
  StandardAllocator larger;
  ASSERT_TRUE(larger.Init({.window = Pages(1, 64 * 32)}).ok());
  ASSERT_TRUE(larger.Allocate(1).ok());
  EXPECT_EQ(larger.stats().cached, 31u);
}

// Limits and boundaries concern the range, not the guard behind it.
TEST(GuardPages, MayLieAboveTheLimit) {
  StandardAllocator a;
  ASSERT_TRUE(a.Init({.window = Pages(0, 1023), .guard_pages = 1}).ok());
  EXPECT_EQ(*a.Allocate(64, {.limit = Iova(0x3ffff), .boundary = 0x40000}),
            Iova(0));
  EXPECT_EQ(a.Allocate(1024).error(), Error::kNoSpace);  // no room for it
  EXPECT_EQ(a.Allocate(~0ull).error(), Error::kNoSpace);
  StandardAllocator b;
  EXPECT_EQ(b.Init({.guard_pages = 1ull << 52}).error(),
            Error::kInvalidArgument);
}

struct OffPolicy : AllocatorPolicy {
  static constexpr FreeCheck kFreeCheck = FreeCheck::kOff;
};
struct ExactPolicy : AllocatorPolicy {
  static constexpr FreeCheck kFreeCheck = FreeCheck::kExact;
};
struct OneClass : AllocatorPolicy {
  static constexpr unsigned kClasses = 1;
};
struct ManyClasses : AllocatorPolicy {
  static constexpr unsigned kClasses = 13;
  static constexpr std::size_t kMagazineEntries = 31;
};
template <class Policy>
class StandardVariants : public testing::Test {};
using Policies = testing::Types<AllocatorPolicy, OffPolicy, ExactPolicy,
                                OneClass, ManyClasses>;
TYPED_TEST_SUITE(StandardVariants, Policies);

TYPED_TEST(StandardVariants, ServeAndTakeBackEverySize) {
  IovaAllocator<BuddyStore, ThreadSlots, TypeParam> a;
  ASSERT_TRUE(a.Init({.window = Pages(1, kLast48)}).ok());
  const std::uint64_t all = a.stats().free_pages;
  struct Live {
    Iova first;
    std::uint64_t pages;
  };
  std::vector<Live> live;
  for (std::uint64_t pages = 1; pages < 40000; pages += 1 + pages / 3) {
    for (int i = 0; i < 3; ++i) live.push_back({*a.Allocate(pages), pages});
  }
  EXPECT_TRUE(a.CheckInvariants());
  EXPECT_EQ(a.stats().live, live.size());
  for (const Live& l : live) ASSERT_TRUE(a.Free(l.first, l.pages).ok());
  EXPECT_EQ(a.stats().live, 0u);
  EXPECT_TRUE(a.CheckInvariants());
  a.Trim();
  EXPECT_EQ(a.stats().free_pages, all);
  EXPECT_EQ(a.stats().cached, 0u);
}

// What kOff gives up, and what it does not: the store itself still knows.
TEST(FreeCheckOff, RecordsNothing) {
  IovaAllocator<BuddyStore, ThreadSlots, OffPolicy> a;
  ASSERT_TRUE(a.Init({.window = Pages(1, kLast48)}).ok());
  const Iova big = *a.Allocate(100);
  EXPECT_NE(*a.Allocate(1), big);
  EXPECT_EQ(a.stats().tag_bytes, 0u);
  int listed = 0;
  a.ForEachLive([&](const Range&) { ++listed; });
  EXPECT_EQ(listed, 0);
  EXPECT_TRUE(a.Free(big, 100).ok());
  EXPECT_EQ(a.Free(big, 100).error(), Error::kDoubleFree);
  EXPECT_EQ(a.stats().live, 1u);
  EXPECT_EQ(a.Free(Iova(1ull << 50), 100).error(), Error::kForeign);
}

// A length that wraps with the guard's pages is no part of a live range.
TEST(FreeCheckOff, RefusesALengthBeyondTheWindow) {
  IovaAllocator<BuddyStore, ThreadSlots, OffPolicy> a;
  ASSERT_TRUE(a.Init({.window = Pages(1, 0xfffff), .guard_pages = 2}).ok());
  const Iova big = *a.Allocate(100);
  const std::uint64_t left = a.stats().free_pages;
  for (const std::uint64_t pages :
       {~0ull, ~0ull - 1, 1ull << 63, 0x100000ull}) {
    EXPECT_EQ(a.Free(big, pages).error(), Error::kForeign);
    EXPECT_EQ(a.Retire(big, pages).error(), Error::kForeign);
    EXPECT_EQ(a.Release(big, pages).error(), Error::kForeign);
    EXPECT_EQ(a.Restore(big, pages).error(), Error::kForeign);
  }
  EXPECT_EQ(a.stats().free_pages, left);
  EXPECT_TRUE(a.CheckInvariants());
}

}  // namespace
}  // namespace dmamap
