// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// The front: what it costs where, and that it says what the tree says (that is
// what CheckInvariants compares, slot by slot).

#include "iotlb/page_front.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "iotlb/iotlb.h"
#include "iotlb/oracle_for_test.h"

namespace dmamap::inline v0 {

// Reaches into an IOTLB, to break its front.
struct IotlbTestPeer {
  template <class I>
  static auto &Front(I &iotlb) {
    return iotlb.core_.front_;
  }
};
struct PageFrontTestPeer {
  template <class F>
  static auto &Above(F &front) {
    return front.above_;
  }
  template <class F>
  static auto *Root(F &front) {
    return internal::FrontPointer<typename F::Table>(front.root_.Own());
  }
};

namespace {

IotlbEntry Page(std::uint64_t page, std::uint64_t pages = 1) {
  return {RangeOf(page << 12, ((page + pages) << 12) - 1), PhysAddr(page << 13),
          Permission::kReadWrite, page};
}

std::size_t BytesPerMapping(const Iotlb &iotlb) {
  return iotlb.stats().memory_bytes / iotlb.size();
}

// Room in reserve is up to one chunk too many: measured in a size where that
// is little, and beyond the slack.
constexpr std::uint64_t kMany = 200000;

TEST(PageFront, ScatteredPagesCostAtMost256BytesEach) {
  Iotlb iotlb;
  ASSERT_TRUE(iotlb.Init().ok());
  std::mt19937_64 random(48);
  std::vector<std::uint64_t> pages;
  while (pages.size() < kMany) {
    const std::uint64_t page = random() >> 28;
    if (iotlb.Lookup(Iova(page << 12), Permission::kNone).ok()) continue;
    ASSERT_TRUE(iotlb.Add(Page(page)).ok());
    pages.push_back(page);
  }
  EXPECT_LE(BytesPerMapping(iotlb), 256u);
  for (const std::uint64_t page : pages) {
    const auto t = iotlb.Lookup(Iova((page << 12) + 5), Permission::kRead);
    ASSERT_TRUE(t.ok());
    ASSERT_EQ(t->token, page);
  }
}

TEST(PageFront, DensePagesAreAllInTheFront) {
  Iotlb iotlb;
  ASSERT_TRUE(iotlb.Init().ok());
  for (std::uint64_t i = 0; i < 20000; ++i) {
    ASSERT_TRUE(iotlb.Add(Page(1 + 10 * i, 1 + i % 8)).ok());
  }
  EXPECT_GE(iotlb.stats().front_tables, 20000u * 10 / 512);
  EXPECT_LE(BytesPerMapping(iotlb), 512u);
  EXPECT_TRUE(iotlb.CheckInvariants());
}

TEST(PageFront, IdentityMappingNeedsNoTable) {
  Iotlb iotlb;
  ASSERT_TRUE(iotlb.Init().ok());
  ASSERT_TRUE(
      iotlb.Add({Range::Whole(), PhysAddr(0), Permission::kRead, 1}).ok());
  EXPECT_EQ(iotlb.stats().front_tables, 0u);
  EXPECT_LT(sizeof(iotlb) + iotlb.stats().memory_bytes, 4096u);
  EXPECT_EQ(iotlb.Lookup(Iova::Max(), Permission::kRead)->address,
            PhysAddr(~std::uint64_t{0}));
  EXPECT_TRUE(iotlb.CheckInvariants());
}

// A huge aligned mapping is one slot of an upper table.
TEST(PageFront, HugeRangeCostsAFewSlots) {
  Iotlb iotlb;
  ASSERT_TRUE(iotlb.Init().ok());
  ASSERT_TRUE(iotlb.Add(Page(std::uint64_t{1} << 27, 1ull << 27)).ok());
  ASSERT_TRUE(iotlb.Add(Page(5)).ok());
  EXPECT_LE(iotlb.stats().front_tables, 4u);
  EXPECT_TRUE(iotlb.CheckInvariants());
}

// Tables of the slack stay when they empty; beyond it they go, and come again.
TEST(PageFront, EmptyTablesAreReused) {
  Iotlb iotlb;
  ASSERT_TRUE(iotlb.Init().ok());
  std::size_t bytes = 0;
  for (std::uint64_t round = 0; round < 4; ++round) {
    const std::uint64_t base = 1 + round * 1000000;
    for (std::uint64_t i = 0; i < 20000; ++i) {
      ASSERT_TRUE(iotlb.Add(Page(base + i)).ok());
    }
    if (round == 1) bytes = iotlb.stats().memory_bytes;
    ASSERT_TRUE(iotlb.CheckInvariants());
    for (std::uint64_t i = 0; i < 20000; ++i) {
      ASSERT_EQ(*iotlb.Remove(Page(base + i).range), 1u);
    }
    EXPECT_LE(iotlb.stats().front_tables, 20u);  // the slack, and its roots
  }
  EXPECT_LE(iotlb.stats().memory_bytes, bytes);
}

// Negative controls: a slot that says something else than the tree is found.
TEST(PageFront, BrokenSlotsAreFound) {
  Iotlb iotlb;
  ASSERT_TRUE(iotlb.Init().ok());
  for (std::uint64_t i = 1; i < 9; ++i) {
    ASSERT_TRUE(iotlb.Add(Page(3 * i)).ok());
  }
  ASSERT_TRUE(iotlb.CheckInvariants());
  auto &front = IotlbTestPeer::Front(iotlb);
  auto *const root = PageFrontTestPeer::Root(front);
  ASSERT_NE(root, nullptr);
  for (unsigned i = 0; i < 30; ++i) {
    const auto good = root->slot[i].Own(), brief = root->brief[i].Own();
    const auto broken = good == internal::kFrontNone ? internal::kFrontAsk
                                                     : internal::kFrontNone;
    root->Put(i, broken);
    EXPECT_FALSE(iotlb.CheckInvariants()) << i;
    root->Put(i, good);
    EXPECT_EQ(iotlb.CheckInvariants(),
              brief == internal::BriefWithoutMemory(good))
        << i;
    root->brief[i].Store(brief ^ 4);
    EXPECT_FALSE(iotlb.CheckInvariants()) << i;
    root->brief[i].Store(brief);
    ASSERT_TRUE(iotlb.CheckInvariants());
  }
  ++root->used;
  EXPECT_FALSE(iotlb.CheckInvariants());
  --root->used;
  PageFrontTestPeer::Above(front).Store(internal::kFrontAsk);
  EXPECT_FALSE(iotlb.CheckInvariants());
  PageFrontTestPeer::Above(front).Store(internal::kFrontNone);
}

}  // namespace
}  // namespace dmamap::inline v0
