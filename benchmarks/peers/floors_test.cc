// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// The floors, and the peers made of containers, do what they are measured at.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <vector>

#include "benchmarks/peers/dpdk_list_iotlb.h"
#include "benchmarks/peers/floor_iotlb.h"
#include "benchmarks/peers/floor_memcpy.h"
#include "benchmarks/peers/floor_tls_stack.h"
#include "benchmarks/peers/iotlb_workloads.h"
#include "benchmarks/peers/map_iotlb.h"
#include "dma/direction.h"
#include "dma/mapper.h"

namespace dmamap::peers {
namespace {

TEST(FloorTlsStackTest, GivesDistinctPagesUntilItIsEmpty) {
  auto stack = *FloorTlsStack::Create({});
  ASSERT_TRUE(stack->EnterThread(1).ok());
  std::set<std::uint64_t> pages;
  while (const std::uint64_t page = stack->Allocate(1, kLastPage48)) {
    EXPECT_TRUE(pages.insert(page).second);
  }
  EXPECT_EQ(pages.size(), 2048u);
  for (const std::uint64_t page : pages) EXPECT_TRUE(stack->Free(page, 1));
  EXPECT_EQ(stack->Allocate(1, kLastPage48), *pages.rbegin());
}

// Adds and removes at random, and compares every page with a plain array.
template <class S>
class PageIotlbTest : public testing::Test {};
using PageIotlbs = testing::Types<StdMapIotlb, AbslBtreeIotlb, DpdkList,
                                  FloorRadix, FloorFlat>;
TYPED_TEST_SUITE(PageIotlbTest, PageIotlbs);

TYPED_TEST(PageIotlbTest, TranslatesAsAnArrayDoes) {
  const std::vector<WorkloadMapping> mappings = DenseMappings(200);
  auto iotlb = *TypeParam::Create(mappings.size());
  auto reader = iotlb->NewReader();
  std::vector<bool> mapped(mappings.size());
  Random random(9);
  for (int step = 0; step < 2000; ++step) {
    const std::size_t i = random.Below(mappings.size());
    const WorkloadMapping& m = mappings[i];
    const bool shared = step % 2 == 0;
    if (mapped[i]) {
      shared ? iotlb->RemoveShared(m.first, m.last)
             : iotlb->Remove(m.first, m.last);
    } else {
      EXPECT_TRUE(shared ? iotlb->AddShared(m.first, m.last, m.address, 3)
                         : iotlb->Add(m.first, m.last, m.address, 3));
    }
    mapped[i] = !mapped[i];
    for (const std::size_t at : {i, random.Below(mappings.size())}) {
      const WorkloadMapping& seen = mappings[at];
      for (const std::uint64_t offset :
           {std::uint64_t{0}, random.Below(seen.size()), seen.size() - 1}) {
        const std::uint64_t want = mapped[at] ? seen.address + offset : 0;
        ASSERT_EQ(reader.Lookup(seen.first + offset), want);
        ASSERT_EQ(reader.LookupShared(seen.first + offset), want);
      }
    }
  }
  EXPECT_EQ(reader.Lookup(0), 0u);
  EXPECT_EQ(reader.Lookup(~std::uint64_t{0}), 0u);
}

template <class S>
class WalkTest : public testing::Test {};
using Walkables = testing::Types<StdMapIotlb, AbslBtreeIotlb, DpdkList>;
TYPED_TEST_SUITE(WalkTest, Walkables);

TYPED_TEST(WalkTest, VisitsWhatOverlaps) {
  const std::vector<WorkloadMapping> mappings = DenseMappings(100);
  auto iotlb = *TypeParam::Create(mappings.size());
  for (const WorkloadMapping& m : mappings) {
    ASSERT_TRUE(iotlb->Add(m.first, m.last, m.address, 3));
  }
  Random random(4);
  for (int i = 0; i < 500; ++i) {
    const std::uint64_t end = mappings.back().last + 10'000;
    std::uint64_t first = mappings[0].first - 5'000;
    first += random.Below(end - first);
    const std::uint64_t last = first + random.Below(end - first + 1);
    WalkResult want;
    for (const WorkloadMapping& m : mappings) {
      if (m.last < first || m.first > last) continue;
      ++want.count;
      want.sum += m.address;
    }
    ASSERT_EQ(iotlb->Walk(first, last), want);
  }
}

TEST(FloorIotlbTest, RefusesWhatItsTableDoesNotReach) {
  auto flat = *FloorFlat::Create(1);
  EXPECT_FALSE(flat->Add(std::uint64_t{1} << 36,
                         (std::uint64_t{1} << 36) + 4095, 0x1000, 3));
  auto radix = *FloorRadix::Create(1);
  EXPECT_TRUE(radix->Add(std::uint64_t{1} << 36,
                         (std::uint64_t{1} << 36) + 4095, 0x1000, 3));
  EXPECT_FALSE(radix->Add(std::uint64_t{1} << 48,
                          (std::uint64_t{1} << 48) + 4095, 0x1000, 3));
}

TEST(DpdkListTest, EvictsOneWhenItIsFull) {
  DpdkListIotlb list;
  for (std::uint64_t i = 1; i <= 2048; ++i) {
    ASSERT_TRUE(list.Add(i << 12, (i << 12) + 4095, i << 20, 3));
    ASSERT_EQ(list.size(), i);
  }
  ASSERT_TRUE(list.Add(5000 << 12, (5000 << 12) + 4095, 1 << 20, 3));
  EXPECT_EQ(list.size(), 2048u);
  EXPECT_NE(list.Lookup(5000 << 12), 0u);
  int missing = 0;
  for (std::uint64_t i = 1; i <= 2048; ++i)
    missing += list.Lookup(i << 12) == 0;
  EXPECT_EQ(missing, 1);
}

TEST(DpdkListTest, RefusesAMappingThatIsThere) {
  DpdkListIotlb list;
  ASSERT_TRUE(list.Add(0x1000, 0x1fff, 0x5000, 3));
  EXPECT_FALSE(list.Add(0x1000, 0x1fff, 0x6000, 3));
  EXPECT_EQ(list.Lookup(0x1000), 0x5000u);
  EXPECT_EQ(list.size(), 1u);
}

TEST(FloorMemcpyTest, CopiesInAndBackWhenTheDeviceWrites) {
  auto floor = *FloorMemcpy::Create({});
  ASSERT_TRUE(floor->EnterThread(0).ok());
  std::vector<std::byte> buffer(1500, std::byte{1});
  FloorMemcpy::Handle handle = nullptr;
  for (const bool back : {false, true}) {
    const Direction direction =
        back ? Direction::kFromDevice : Direction::kToDevice;
    std::fill(buffer.begin(), buffer.end(), std::byte{1});
    ASSERT_TRUE(floor->Map(buffer.data(), buffer.size(), direction,
                           MapAttributes::kNone, handle));
    std::fill(buffer.begin(), buffer.end(), std::byte{2});
    ASSERT_TRUE(
        floor->Unmap(handle, buffer.size(), direction, MapAttributes::kNone));
    // What Map copied comes back, or it does not.
    const std::byte want = back ? std::byte{1} : std::byte{2};
    EXPECT_EQ(std::count(buffer.begin(), buffer.end(), want), 1500);
  }
  EXPECT_FALSE(floor->Map(buffer.data(), 2 << 20, Direction::kToDevice,
                          MapAttributes::kNone, handle));
}

}  // namespace
}  // namespace dmamap::peers
