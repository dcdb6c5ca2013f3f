// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// The front: what it costs where, and that it says what the tree says (that is
// what CheckInvariants compares, slot by slot).

#include "iotlb/page_front.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <random>
#include <type_traits>
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
  static bool IsWithinBound(F &front) {
    return front.IsWithinBound();
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

// What the header promises of tables, for one that has the worth of a page a
// mapping; the removed ones that are buried count, too.
std::size_t MostTables(const Iotlb &iotlb) {
  using Front = std::remove_reference_t<decltype(IotlbTestPeer::Front(
      const_cast<Iotlb &>(iotlb)))>;
  return (Front::kSlack + (iotlb.size() + 65) * Front::Worth(0)) /
         sizeof(Front::Table);
}

// Dense regions thin out to `left` pages each, evenly, in two rounds, so that
// all of them are sparse at a time. `far` puts each into tables of its own.
void Shrink(std::uint64_t regions, std::uint64_t left, unsigned far) {
  SCOPED_TRACE(testing::Message() << left << " of each, " << far);
  Iotlb iotlb;
  ASSERT_TRUE(iotlb.Init().ok());
  const auto page = [far](std::uint64_t region, std::uint64_t i) {
    return (region << far) + i;
  };
  const auto is_right = [&](std::uint64_t region, std::uint64_t i, bool there) {
    const std::uint64_t p = page(region, i);
    const auto t = iotlb.LookupPage(Iova((p << 12) + 5), Permission::kRead);
    return t.ok() == there && (!there || t->address == PhysAddr((p << 13) + 5));
  };
  for (std::uint64_t r = 0; r < regions; ++r) {
    for (std::uint64_t i = 0; i < 512; ++i) {
      ASSERT_TRUE(iotlb.Add(Page(page(r, i))).ok());
    }
  }
  const std::size_t bytes = iotlb.stats().memory_bytes;
  EXPECT_GE(iotlb.stats().front_tables, regions);
  const std::uint64_t step = 512 / left;
  for (const std::uint64_t part : {1u, 0u}) {
    for (std::uint64_t r = 0; r < regions; ++r) {
      for (std::uint64_t i = 0; i < 512; ++i) {
        if (i % step == 0 || i % 2 != part) continue;
        ASSERT_EQ(*iotlb.Remove(Page(page(r, i)).range), 1u);
      }
      ASSERT_LE(iotlb.stats().front_tables, MostTables(iotlb));
    }
    for (std::uint64_t r = 0; r < regions; ++r) {
      for (std::uint64_t i = 0; i < 512; ++i) {
        const bool gone = i % step != 0 && (part == 0 || i % 2 == 1);
        ASSERT_TRUE(is_right(r, i, !gone)) << r << " " << i;
      }
    }
    ASSERT_TRUE(iotlb.CheckInvariants());
  }
  ASSERT_EQ(iotlb.size(), regions * left);
  // New dense regions are in the front again, each page with a brief word, and
  // what has gone serves them.
  const std::uint64_t again = regions / 4;
  for (std::uint64_t r = 2 * regions; r < 2 * regions + again; ++r) {
    for (std::uint64_t i = 0; i < 512; ++i) {
      ASSERT_TRUE(iotlb.Add(Page(page(r, i))).ok());
    }
    std::size_t told = 0;
    for (std::uint64_t i = 0; i < 512; ++i) {
      auto &front = IotlbTestPeer::Front(iotlb);
      PageTranslation found;
      using Brief = std::remove_reference_t<decltype(front)>::Brief;
      told += front.FindMemory(page(r, i) << 12, Permission::kRead, found) ==
              Brief::kMemory;
    }
    ASSERT_EQ(told, 512u) << r;
  }
  EXPECT_LE(iotlb.stats().memory_bytes, bytes);
  EXPECT_TRUE(iotlb.CheckInvariants());
}

TEST(PageFront, TablesThatPayNoMoreGo) {
  Shrink(100, 1, 9);
  Shrink(40, 16, 9);
  // Worth a table each, but not the one above it as well.
  Shrink(40, 128, 18);
}

// Where more regions would pay than the bound has tables for, mappings that go
// and come again in bursts neither make tables go nor new ones.
TEST(PageFront, TablesDoNotComeAndGoAtTheBound) {
  constexpr std::uint64_t kClusters = 500, kPages = 90, kBurst = 200;
  Iotlb iotlb;
  ASSERT_TRUE(iotlb.Init().ok());
  const auto entry = [](std::uint64_t n) {
    const std::uint64_t cluster = n / kPages + 1;
    return Page((cluster << 18) + n % kPages * 5);
  };
  for (std::uint64_t n = 0; n < kClusters * kPages; ++n) {
    ASSERT_TRUE(iotlb.Add(entry(n)).ok());
  }
  const std::size_t tables = iotlb.stats().front_tables;
  EXPECT_LT(tables, 2 * kClusters) << "not at the bound";
  const std::uint64_t shape = IotlbTestPeer::Front(iotlb).Shape();
  for (std::uint64_t burst = 0; burst < 20; ++burst) {
    // 7919 is prime to their number: each is another one.
    const auto nth = [&](std::uint64_t i) {
      return (burst * kBurst + i) * 7919 % (kClusters * kPages);
    };
    for (std::uint64_t i = 0; i < kBurst; ++i) {
      ASSERT_EQ(*iotlb.Remove(entry(nth(i)).range), 1u);
    }
    for (std::uint64_t i = 0; i < kBurst; ++i) {
      ASSERT_TRUE(iotlb.Add(entry(nth(i))).ok());
    }
  }
  EXPECT_EQ(iotlb.stats().front_tables, tables);
  EXPECT_EQ(IotlbTestPeer::Front(iotlb).Shape(), shape);
}

// Negative control: too many tables for what the mappings are worth.
TEST(PageFront, ABrokenBoundIsFound) {
  Iotlb iotlb;
  ASSERT_TRUE(iotlb.Init().ok());
  for (std::uint64_t i = 0; i < 40 * 512; ++i) {
    ASSERT_TRUE(iotlb.Add(Page(i)).ok());
  }
  auto &front = IotlbTestPeer::Front(iotlb);
  EXPECT_GT(front.tables() * sizeof(decltype(*PageFrontTestPeer::Root(front))),
            front.kSlack);
  ASSERT_TRUE(iotlb.CheckInvariants());
  for (std::uint64_t i = 0; i < 40 * 512; ++i) front.SubtractWorth(i, i);
  EXPECT_FALSE(PageFrontTestPeer::IsWithinBound(front));
  EXPECT_FALSE(iotlb.CheckInvariants());
  for (std::uint64_t i = 0; i < 40 * 512; ++i) front.AddWorth(i, i);
  EXPECT_TRUE(PageFrontTestPeer::IsWithinBound(front));
  EXPECT_TRUE(iotlb.CheckInvariants());
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
