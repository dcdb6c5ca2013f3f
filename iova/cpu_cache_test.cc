// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "iova/cpu_cache.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>

#include "iova/live_tags.h"

namespace dmamap {
namespace {

using Cache = CpuCache<LiveTags<>, 2, 4>;
using Visit = Cache::BinVisit;
constexpr std::uint64_t kAny = ~std::uint64_t{0};
LiveTags<>::Cell cell;  // of all entries: what it says is not looked at

TEST(CpuCache, ChecksItsSizes) {
  auto cache = std::make_unique<Cache>();
  EXPECT_EQ(cache->slots(), 0u);
  EXPECT_EQ(cache->Init(0, 1).error(), Error::kInvalidArgument);
  EXPECT_EQ(cache->Init(5000, 1).error(), Error::kLimit);
  ASSERT_TRUE(cache->Init(4, 1).ok());
  EXPECT_EQ(cache->Init(4, 1).error(), Error::kBusy);
  EXPECT_EQ(cache->Find(3), nullptr);
  Cache::Slot* slot = cache->Obtain(3);
  ASSERT_NE(slot, nullptr);
  EXPECT_EQ(cache->Obtain(3), slot);
  EXPECT_EQ(cache->Find(3), slot);
  EXPECT_EQ(cache->shared_slot(), 4u);
  EXPECT_EQ(cache->Find(4), nullptr);
}

// A policy's numbers may exceed the slots in use; none is the shared one's.
TEST(CpuCache, EveryNumberOfAPolicyHasABin) {
  auto cache =
      std::make_unique<CpuCache<LiveTags<>, 2, 4, std::atomic, /*kReach=*/8>>();
  EXPECT_EQ(cache->Init(9, 1).error(), Error::kLimit);
  EXPECT_FALSE(cache->SlotOf(kNoSlot).bin[0].fill().has_room());
  ASSERT_TRUE(cache->Init(2, 1).ok());
  EXPECT_EQ(cache->shared_slot(), 8u);
  ASSERT_NE(cache->Obtain(cache->shared_slot()), nullptr);
  for (std::size_t n : {std::size_t{0}, std::size_t{7}, kNoSlot, kNoSlot - 1}) {
    EXPECT_FALSE(cache->SlotOf(n).bin[1].fill().has_entry());
    EXPECT_FALSE(cache->SlotOf(n).bin[1].fill().has_room());
  }
}

TEST(CpuCache, MovesMagazinesAsBonwickDoes) {
  auto cache = std::make_unique<Cache>();
  ASSERT_TRUE(cache->Init(2, 1).ok());
  Cache::Bin& bin = cache->Obtain(0)->bin[0];
  EXPECT_FALSE(cache->LoadFitting(0, bin, kAny));
  // 4 entries fill loaded, 8 both, 12 the depot's one place; then it spills.
  for (std::uint64_t i = 0; i < 12; ++i) {
    {
      const Visit visit(bin);
      ASSERT_EQ(cache->MakeRoom(0, bin), Cache::Room::kReady);
      bin.loaded->Push({i, &cell});
    }
    ASSERT_TRUE(cache->CheckInvariants());
  }
  EXPECT_EQ(cache->depot().waiting(0), 1u);
  {
    const Visit visit(bin);
    EXPECT_EQ(cache->MakeRoom(0, bin), Cache::Room::kSpill);
  }
  // Another slot takes the depot's.
  Cache::Bin& other = cache->Obtain(1)->bin[0];
  const Visit elsewhere(other);
  ASSERT_TRUE(cache->LoadFitting(0, other, kAny));
  EXPECT_EQ(other.loaded->Pop().first, 3u);
  EXPECT_EQ(other.depot_takes.value(), 1u);
  EXPECT_EQ(bin.depot_puts.value(), 1u);
  for (std::uint64_t i = 12; i-- > 4;) {
    const Visit visit(bin);
    ASSERT_TRUE(cache->LoadFitting(0, bin, kAny));
    EXPECT_EQ(bin.loaded->Pop().first, i);
  }
  EXPECT_FALSE(cache->LoadFitting(0, bin, kAny));
  EXPECT_FALSE(cache->LoadFitting(1, bin, kAny));
}

// What the fast path counts in the bin, a visit finds in the magazine.
TEST(CpuCache, AVisitHandsTheFillToTheMagazineAndBack) {
  auto cache = std::make_unique<Cache>();
  ASSERT_TRUE(cache->Init(1, 1).ok());
  Cache::Bin& bin = cache->Obtain(0)->bin[0];
  EXPECT_FALSE(bin.fill().has_entry());  // no magazine: neither
  EXPECT_FALSE(bin.fill().has_room());
  {
    const Visit visit(bin);
    ASSERT_EQ(cache->MakeRoom(0, bin), Cache::Room::kReady);
    for (std::uint64_t i = 1; i <= 3; ++i) bin.loaded->Push({i, &cell});
  }
  EXPECT_EQ(bin.tag, Tag::Cached(bin.loaded->number()));
  EXPECT_EQ(bin.fill().count(), 3u);
  EXPECT_TRUE(bin.fill().has_room());
  bin.Push(bin.fill(), {4, &cell});
  EXPECT_FALSE(bin.fill().has_room());
  EXPECT_TRUE(bin.fill().has_entry());
  EXPECT_EQ(bin.Top(bin.fill()).first, 4u);
  EXPECT_EQ(bin.allocations(), 0u);
  EXPECT_EQ(bin.frees(), 1u);  // the three did not come from frees
  EXPECT_TRUE(cache->CheckInvariants());
  std::size_t entries = 0;
  cache->ForEachEntry([&](unsigned, std::uint32_t number, const Cache::Entry&) {
    EXPECT_EQ(number, bin.loaded->number());
    ++entries;
  });
  EXPECT_EQ(entries, 4u);
  {
    const Visit visit(bin);
    EXPECT_TRUE(bin.loaded->full());
    EXPECT_EQ(bin.loaded->Pop().first, 4u);
    EXPECT_EQ(bin.loaded->Top().cell, &cell);
    bin.visit_allocs.Add();
  }
  while (bin.fill().has_entry()) bin.Pop(bin.fill());
  EXPECT_EQ(bin.fill().count(), 0u);
  EXPECT_TRUE(bin.fill().has_room());
  EXPECT_EQ(bin.allocations(), 4u);
  EXPECT_EQ(bin.frees(), 1u);
  EXPECT_TRUE(cache->CheckInvariants());
}

// Linux e8b198402745: a limited search must not miss an entry that fits.
TEST(CpuCache, FindsAnEntryUnderTheLimitWhereverItLies) {
  auto cache = std::make_unique<Cache>();
  ASSERT_TRUE(cache->Init(2, 2).ok());
  Cache::Bin& bin = cache->Obtain(0)->bin[0];
  for (std::uint64_t page : {900u, 10u, 901u, 902u, 903u, 904u, 11u, 905u}) {
    ASSERT_EQ(cache->MakeRoom(0, bin), Cache::Room::kReady);
    bin.loaded->Push({page, &cell});
  }
  ASSERT_TRUE(cache->LoadFitting(0, bin, 100));  // in loaded
  EXPECT_EQ(bin.loaded->Pop().first, 11u);
  ASSERT_TRUE(cache->LoadFitting(0, bin, 100));  // in previous
  EXPECT_EQ(bin.loaded->Pop().first, 10u);
  EXPECT_FALSE(cache->LoadFitting(0, bin, 100));
  // In the depot, below another one there.
  for (std::uint64_t first : {12u, 906u}) {
    auto* m = cache->depot().TakeEmpty();
    m->Push({first, &cell});
    m->Push({first + 1, &cell});
    ASSERT_TRUE(cache->depot().PutFull(0, m));
  }
  // For a bin without magazines, and one that has none to spare.
  Cache::Bin& other = cache->Obtain(1)->bin[0];
  ASSERT_TRUE(cache->LoadFitting(0, other, 100));
  EXPECT_EQ(other.loaded->Pop().first, 13u);
  ASSERT_TRUE(cache->depot().PutFull(0, other.loaded));
  other.loaded = nullptr;
  while (bin.loaded->count() < 2) bin.loaded->Push({907, &cell});
  ASSERT_TRUE(cache->LoadFitting(0, bin, 100));
  EXPECT_EQ(bin.loaded->Pop().first, 12u);
  // In vain, and again when somebody brings one.
  EXPECT_FALSE(cache->LoadFitting(0, bin, 100));
  EXPECT_FALSE(cache->LoadFitting(0, bin, 100));
  EXPECT_EQ(cache->depot().waiting(0), 2u);
  EXPECT_TRUE(cache->depot().CheckInvariants());
  auto* taken = cache->depot().TakeFull(0);
  taken->Push({14, &cell});
  ASSERT_TRUE(cache->depot().PutFull(0, taken));
  ASSERT_TRUE(cache->LoadFitting(0, bin, 100));
  EXPECT_EQ(bin.loaded->Pop().first, 14u);
  EXPECT_TRUE(cache->depot().CheckInvariants());
}

}  // namespace
}  // namespace dmamap
