// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// What the policies and optional stages do, case by case: split, merge,
// regions, reverse lookup, pending misses, dump.

#include "iotlb/policies.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "iotlb/dump.h"
#include "iotlb/iotlb.h"
#include "iotlb/oracle_for_test.h"

namespace dmamap {
namespace {

constexpr std::uint64_t kMax = ~std::uint64_t{0};
constexpr auto kRead = Permission::kRead;
constexpr auto kReadWrite = Permission::kReadWrite;

struct WithReverse : IotlbPolicies {
  static constexpr bool kReverse = true;
};
static_assert(sizeof(BasicIotlb<WithReverse>) > sizeof(Iotlb),
              "the absent stage takes no room");
static_assert(std::is_empty_v<Iotlb::DirtyStage>);

template <class I>
std::vector<IotlbEntry> All(const I &iotlb) {
  std::vector<IotlbEntry> all;
  iotlb.ForEach([&](const IotlbEntry &e) { all.push_back(e); });
  return all;
}

TEST(RemoveSplits, TheMiddleOfTheWholeSpace) {
  Iotlb iotlb;
  ASSERT_TRUE(iotlb.Init({.remove_policy = RemovePolicy::kSplit}).ok());
  ASSERT_TRUE(iotlb.Add({Range::Whole(), PhysAddr(0), kRead, 3}).ok());
  EXPECT_EQ(*iotlb.Remove(RangeOf(100, 199)), 1u);
  EXPECT_EQ(All(iotlb), (std::vector<IotlbEntry>{
                            {RangeOf(0, 99), PhysAddr(0), kRead, 3},
                            {RangeOf(200, kMax), PhysAddr(200), kRead, 3}}));
  EXPECT_EQ(*iotlb.Remove(RangeOf(kMax, kMax)), 1u);
  EXPECT_EQ(*iotlb.Remove(RangeOf(0, 0)), 1u);
  EXPECT_EQ(iotlb.Lookup(Iova(150), kRead).error(), Error::kNotMapped);
  EXPECT_EQ(iotlb.Lookup(Iova(kMax - 1), kRead)->bytes_minus_one, 0u);
  EXPECT_EQ(iotlb.stats().splits, 3u);
  EXPECT_TRUE(iotlb.CheckInvariants());
  EXPECT_EQ(iotlb.stats().peak_entries, iotlb.stats().entries);
}

TEST(RemoveSplits, LimitRefusesThePieces) {
  Iotlb iotlb;
  ASSERT_TRUE(
      iotlb.Init({.limit = 1, .remove_policy = RemovePolicy::kSplit}).ok());
  ASSERT_TRUE(iotlb.Add({RangeOf(0, 9), PhysAddr(0), kRead, 3}).ok());
  EXPECT_EQ(iotlb.Remove(RangeOf(4, 5)).error(), Error::kLimit);
  EXPECT_EQ(iotlb.Lookup(Iova(4), kRead)->bytes_minus_one, 5u);
  EXPECT_EQ(*iotlb.Remove(RangeOf(4, 9)), 1u);
  EXPECT_EQ(iotlb.size(), 1u);
}

// VDUSE: bounce pages entered one by one with the same file as token become one
// region that the user maps once.
TEST(Merge, PagesOfOneFileAreOneRegion) {
  for (const MergePolicy policy : {MergePolicy::kKeep, MergePolicy::kMerge}) {
    Iotlb iotlb;
    ASSERT_TRUE(iotlb.Init({.merge_policy = policy}).ok());
    for (const std::uint64_t i : {3u, 1u, 0u, 2u, 9u, 4u}) {
      ASSERT_TRUE(iotlb
                      .Add({RangeOf(i * 4096, i * 4096 + 4095),
                            PhysAddr(0x100000 + i * 4096), kReadWrite, 42})
                      .ok());
      ASSERT_TRUE(iotlb.CheckInvariants());
    }
    const IotlbEntry want{RangeOf(0, 5 * 4096 - 1), PhysAddr(0x100000),
                          kReadWrite, 42};
    for (const std::uint64_t at : {0u, 9000u, 20479u}) {
      EXPECT_EQ(*iotlb.Region(Iova(at)), want);
    }
    EXPECT_EQ(iotlb.Region(Iova(20480)).error(), Error::kNotMapped);
    EXPECT_EQ(iotlb.size(), policy == MergePolicy::kMerge ? 2u : 6u);
    EXPECT_EQ(iotlb.stats().merges, policy == MergePolicy::kMerge ? 4u : 0u);
  }
}

TEST(Merge, OnlyWhatContinuesInEveryRespect) {
  Iotlb iotlb;
  ASSERT_TRUE(iotlb.Init({.merge_policy = MergePolicy::kMerge}).ok());
  ASSERT_TRUE(iotlb.Add({RangeOf(0, 9), PhysAddr(100), kRead, 1}).ok());
  ASSERT_TRUE(iotlb.Add({RangeOf(10, 19), PhysAddr(111), kRead, 1}).ok());
  ASSERT_TRUE(iotlb.Add({RangeOf(20, 29), PhysAddr(121), kReadWrite, 1}).ok());
  ASSERT_TRUE(iotlb.Add({RangeOf(30, 39), PhysAddr(131), kReadWrite, 2}).ok());
  EXPECT_EQ(iotlb.size(), 4u);
  ASSERT_TRUE(iotlb.Add({RangeOf(kMax, kMax), PhysAddr(kMax), kRead, 1}).ok());
  ASSERT_TRUE(iotlb.Add({RangeOf(40, 49), PhysAddr(141), kReadWrite, 2}).ok());
  EXPECT_EQ(iotlb.size(), 5u);
}

// QEMU 05063f55 (peers_record_test.cc has its model): two mappings of one host
// page; the one to remove was searched by address, and the other went.
TEST(ReverseLookup, AliasesAreBothFoundAndTheNamedOneGoes) {
  BasicIotlb<WithReverse> iotlb;
  ASSERT_TRUE(iotlb.Init().ok());
  const IotlbEntry low{RangeOf(0x1000, 0x1fff), PhysAddr(0x8000), kRead, 1};
  const IotlbEntry high{RangeOf(0x5000, 0x5fff), PhysAddr(0x8000), kRead, 2};
  ASSERT_TRUE(iotlb.Add(low).ok());
  ASSERT_TRUE(iotlb.Add(high).ok());
  ASSERT_TRUE(iotlb.Add({RangeOf(0, 9), PhysAddr(0x9000), kRead, 3}).ok());
  const auto mappings_of = [&](std::uint64_t first, std::uint64_t last) {
    std::vector<IotlbEntry> found;
    iotlb.ForEachMappingOf(
        *PhysRange::FromFirstLast(PhysAddr(first), PhysAddr(last)),
        [&](const IotlbEntry &e) { found.push_back(e); });
    return found;
  };
  EXPECT_EQ(mappings_of(0x8fff, 0x8fff), (std::vector{low, high}));
  EXPECT_EQ(*iotlb.RemoveExact(high.range, 2), high);
  EXPECT_EQ(mappings_of(0x8000, 0x9000).size(), 2u);
  EXPECT_EQ(mappings_of(0x8000, 0x8fff), std::vector{low});
  EXPECT_TRUE(mappings_of(0x7000, 0x7fff).empty());
  EXPECT_TRUE(iotlb.CheckInvariants());
}

TEST(PendingMisses, AreReportedOnceUntilAnswered) {
  Iotlb iotlb;
  ASSERT_TRUE(iotlb.Init({.pending_misses = 2}).ok());
  const auto report = [&](std::uint64_t at, Permission wanted = kRead) {
    return iotlb.ReportMiss(Iova(at), wanted);
  };
  EXPECT_EQ(report(0x1010), MissReport::kNew);
  EXPECT_EQ(report(0x1fff), MissReport::kPending);
  EXPECT_EQ(report(0x1000, kReadWrite), MissReport::kNew);
  EXPECT_EQ(report(0x2000), MissReport::kFull);
  // Granted for reading: the other access still waits.
  ASSERT_TRUE(iotlb.Add({RangeOf(0x1000, 0x1fff), PhysAddr(0), kRead, 1}).ok());
  EXPECT_EQ(report(0x1010), MissReport::kAnswered);
  EXPECT_EQ(report(0x1010, kReadWrite), MissReport::kPending);
  std::vector<PendingMiss> waiting;
  iotlb.ForEachPendingMiss(
      [&](const PendingMiss &miss) { waiting.push_back(miss); });
  EXPECT_EQ(waiting, (std::vector{PendingMiss{Iova(0x1000), kReadWrite}}));
  EXPECT_EQ(iotlb.AnswerMisses(Range::Whole(), kReadWrite), 1u);
  EXPECT_EQ(report(0x1010, kReadWrite), MissReport::kNew);
}

TEST(PendingMisses, WithoutAListAllIsFull) {
  Iotlb iotlb;
  ASSERT_TRUE(iotlb.Init().ok());
  EXPECT_EQ(iotlb.ReportMiss(Iova(0), kRead), MissReport::kFull);
  EXPECT_EQ(iotlb.AnswerMisses(Range::Whole(), kRead), 0u);
}

TEST(Dump, TellsMappingsMissesAndCounts) {
  Iotlb iotlb;
  ASSERT_TRUE(iotlb.Init({.pending_misses = 4}).ok());
  ASSERT_TRUE(
      iotlb.Add({RangeOf(0x1000, 0x1fff), PhysAddr(0x7000), kRead, 7}).ok());
  EXPECT_EQ(iotlb.ReportMiss(Iova(0x9008), kReadWrite), MissReport::kNew);
  std::vector<std::string> lines;
  iotlb.Dump([&](std::string_view line) { lines.emplace_back(line); });
  ASSERT_EQ(lines.size(), 5u);
  EXPECT_EQ(lines[0], "mapping  [0x1000, 0x1fff] -> 0x7000 read token 7");
  EXPECT_EQ(lines[1], "pending  0x9000 read-write");
  EXPECT_EQ(lines[2].substr(0, 29), "tree     1 mappings in 1 leve");
  EXPECT_EQ(lines[3],
            "changes  1 added, 0 removed, 0 retired, 0 splits, 0 merges");
  EXPECT_EQ(lines[4], "lookups  0 hits (0 by the hint), 0 misses, 0 faults");
}

}  // namespace
}  // namespace dmamap
