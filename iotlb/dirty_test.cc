// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "iotlb/dirty.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <set>
#include <utility>
#include <vector>

#include "iotlb/iotlb.h"
#include "iotlb/memory_for_test.h"
#include "iotlb/oracle_for_test.h"

namespace dmamap {
namespace {

constexpr PageSize Shift(unsigned shift) { return *PageSize::FromShift(shift); }

std::vector<std::uint64_t> BitsOf(const std::vector<std::uint64_t> &words) {
  std::vector<std::uint64_t> bits;
  for (std::size_t i = 0; i < words.size() * 64; ++i) {
    if ((words[i / 64] >> (i % 64)) & 1) bits.push_back(i);
  }
  return bits;
}

TEST(DirtyMap, ErrorsChangeNothing) {
  DirtyMap<> dirty;
  std::array<std::uint64_t, 4> bits;
  dirty.Set(RangeOf(0, 5));
  EXPECT_EQ(dirty.Harvest(RangeOf(0, 4095), PageSize(), bits).error(),
            Error::kInvalidArgument);
  ASSERT_TRUE(dirty.Init(RangeOf(0x10000, 0x1ffff), PageSize()).ok());
  EXPECT_EQ(dirty.Init(RangeOf(0, 1), PageSize()).error(), Error::kBusy);
  dirty.Set(RangeOf(0x10fff, 0x11000));
  dirty.Set(RangeOf(0, 5));  // outside
  EXPECT_EQ(dirty.Harvest(RangeOf(0xf000, 0x1ffff), PageSize(), bits).error(),
            Error::kOutOfRange);
  EXPECT_EQ(dirty.Harvest(RangeOf(0x10000, 0x10800), PageSize(), bits).error(),
            Error::kInvalidArgument);
  EXPECT_EQ(dirty.Harvest(dirty.window(), PageSize(), {}).error(),
            Error::kNoSpace);
  EXPECT_EQ(*dirty.Harvest(dirty.window(), PageSize(), bits), 2u);
  EXPECT_EQ(bits[0], 3u);
  EXPECT_EQ(*dirty.Harvest(dirty.window(), PageSize(), bits), 0u);
}

TEST(DirtyMap, NoMemoryAndNoLeak) {
  FailingMemory::State state;
  state.fail_at = 0;
  {
    DirtyMap<FailingMemory> dirty{FailingMemory(&state)};
    EXPECT_EQ(dirty.Init(RangeOf(0, 4095), PageSize()).error(),
              Error::kNoMemory);
  }
  EXPECT_EQ(state.bytes_held, 0u);
}

// libvfio-user (peers_record_test.cc has its model): the index of a bit was a
// uint8_t. With 1024 pages on one side and 4096 on the other, no bit may come
// out at its index mod 256.
TEST(DirtyMap, MoreThan256BitsOnBothSides) {
  constexpr std::uint64_t kPages = 1024;
  const Range window = RangeOf(0, kPages * 4096 - 1);
  for (const std::uint64_t page : {0u, 255u, 256u, 511u, 700u, 1023u}) {
    for (const unsigned shift : {10u, 12u, 13u}) {
      DirtyMap<> dirty;
      ASSERT_TRUE(dirty.Init(window, PageSize()).ok());
      dirty.Set(Range::Byte(Iova(page * 4096 + 7)));
      std::vector<std::uint64_t> words(64);
      std::vector<std::uint64_t> want;
      if (shift == 10) {
        for (std::uint64_t i = 0; i < 4; ++i) want.push_back(page * 4 + i);
      } else {
        want.push_back(page >> (shift - 12));
      }
      EXPECT_EQ(*dirty.Harvest(window, Shift(shift), words), want.size());
      EXPECT_EQ(BitsOf(words), want) << "page " << page << " shift " << shift;
    }
  }
}

// Sets and harvests against a set of page numbers, at any two page sizes.
RC_GTEST_PROP(DirtyMapModel, HarvestAtAnotherPageSize, ()) {
  const unsigned recorded = *rc::gen::inRange(0u, 7u);
  const std::uint64_t base = *rc::gen::inRange<std::uint64_t>(0, 4) << 10;
  const Range window = RangeOf(base, base + 4095);
  DirtyMap<> dirty;
  RC_ASSERT(dirty.Init(window, Shift(recorded)).ok());
  std::set<std::uint64_t> pages;
  for (int step = 0; step < 12; ++step) {
    const std::uint64_t first = *rc::gen::inRange<std::uint64_t>(0, 9000);
    const std::uint64_t last = first + *rc::gen::inRange<std::uint64_t>(0, 300);
    dirty.Set(RangeOf(first, last));
    for (std::uint64_t at = first; at <= last; ++at) {
      if (window.Contains(Iova(at))) pages.insert((at - base) >> recorded);
    }
    if (*rc::gen::inRange(0, 3) != 0) continue;
    const unsigned wanted = *rc::gen::inRange(0u, 9u);
    const unsigned coarse = std::max(wanted, recorded);
    const std::uint64_t chunks = 4096u >> coarse;
    const std::uint64_t a = *rc::gen::inRange<std::uint64_t>(0, chunks);
    const std::uint64_t b = *rc::gen::inRange<std::uint64_t>(a, chunks);
    const Range part =
        RangeOf(base + (a << coarse), base + (((b + 1) << coarse) - 1));
    std::set<std::uint64_t> want;
    for (std::uint64_t at = part.first().value(); at <= part.last().value();
         ++at) {
      if (pages.count((at - base) >> recorded) == 0) continue;
      want.insert((at - part.first().value()) >> wanted);
    }
    std::vector<std::uint64_t> words(64, ~std::uint64_t{0});
    const auto got = dirty.Harvest(part, Shift(wanted), words);
    RC_ASSERT(got.ok());
    RC_ASSERT(*got == want.size());
    words.resize(static_cast<std::size_t>(
        part.PagesTouchedMinusOne(Shift(wanted)) / 64 + 1));
    RC_ASSERT(BitsOf(words) ==
              std::vector<std::uint64_t>(want.begin(), want.end()));
    for (std::uint64_t at = part.first().value(); at <= part.last().value();
         ++at) {
      pages.erase((at - base) >> recorded);
    }
  }
}

struct WithDirty : IotlbPolicies {
  using Memory = FailingMemory;
  static constexpr bool kDirty = true;
};

TEST(DirtyMap, IsAStageOfTheIotlb) {
  FailingMemory::State state;
  BasicIotlb<WithDirty> iotlb{FailingMemory(&state)};
  ASSERT_TRUE(iotlb.Init({.dirty_window = RangeOf(0, 0xffff)}).ok());
  iotlb.dirty().Set(RangeOf(0x1000, 0x2000));
  std::array<std::uint64_t, 1> bits;
  EXPECT_EQ(*iotlb.dirty().Harvest(RangeOf(0, 0xffff), PageSize(), bits), 2u);
}

// Whatever memory fails, the next Init has what it asks for, and nothing leaks.
TEST(DirtyMap, InitAgainTakesTheNewOptions) {
  for (const std::size_t fail_at : {std::size_t{0}, std::size_t{1}}) {
    FailingMemory::State state;
    {
      BasicIotlb<WithDirty> iotlb{FailingMemory(&state)};
      state.fail_at = state.calls + fail_at;
      EXPECT_EQ(iotlb
                    .Init({.pending_misses = 1,
                           .dirty_window = RangeOf(0, 0xffff),
                           .dirty_page = Shift(12)})
                    .error(),
                Error::kNoMemory);
      EXPECT_EQ(
          iotlb.Add({RangeOf(0, 9), PhysAddr(0), Permission::kRead}).error(),
          Error::kShutDown);
      ASSERT_TRUE(iotlb
                      .Init({.pending_misses = 2,
                             .dirty_window = RangeOf(0x100000, 0x1fffff),
                             .dirty_page = Shift(16)})
                      .ok());
      EXPECT_EQ(iotlb.dirty().window(), RangeOf(0x100000, 0x1fffff));
      EXPECT_EQ(iotlb.dirty().page(), Shift(16));
      EXPECT_EQ(iotlb.ReportMiss(Iova(0), Permission::kRead), MissReport::kNew);
      EXPECT_EQ(iotlb.ReportMiss(Iova(0x1000), Permission::kRead),
                MissReport::kNew);
    }
    EXPECT_EQ(state.bytes_held, 0u);
  }
}

// A bitmap that was started by itself is not taken for the one asked for.
TEST(DirtyMap, InitRefusesABitmapOfAnotherWindow) {
  FailingMemory::State state;
  BasicIotlb<WithDirty> iotlb{FailingMemory(&state)};
  ASSERT_TRUE(iotlb.dirty().Init(RangeOf(0, 0xffff), Shift(12)).ok());
  EXPECT_EQ(iotlb.Init({.dirty_window = RangeOf(0, 0xfffff)}).error(),
            Error::kBusy);
}

}  // namespace
}  // namespace dmamap
