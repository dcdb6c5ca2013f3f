// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// The sweep by itself, fed with hand-written mappings in order.

#include "iotlb/translate.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "iotlb/oracle_for_test.h"

namespace dmamap {
namespace {

constexpr std::uint64_t kMax = ~std::uint64_t{0};
constexpr auto kRead = Permission::kRead;
constexpr auto kWrite = Permission::kWrite;
constexpr auto kReadWrite = Permission::kReadWrite;

IotlbEntry Entry(std::uint64_t first, std::uint64_t last, Permission permission,
                 std::uint64_t token = 0) {
  return {RangeOf(first, last), PhysAddr(0x1000 + first), permission, token};
}
Segment Mapped(std::uint64_t first, std::uint64_t last, Permission permission,
               std::uint64_t token = 0) {
  return {RangeOf(first, last), SegmentKind::kMapped, PhysAddr(0x1000 + first),
          permission, token};
}
Segment Plain(SegmentKind kind, std::uint64_t first, std::uint64_t last) {
  return {RangeOf(first, last), kind, PhysAddr(), Permission::kNone, 0};
}
Segment Miss(std::uint64_t first, std::uint64_t last) {
  return Plain(SegmentKind::kMiss, first, last);
}
Segment Fault(std::uint64_t first, std::uint64_t last) {
  return Plain(SegmentKind::kFault, first, last);
}

std::vector<Segment> Sweep(Range query, Permission wanted,
                           const std::vector<IotlbEntry> &entries,
                           std::size_t most = 100) {
  std::vector<Segment> segments;
  auto emit = [&](const Segment &s) {
    segments.push_back(s);
    return segments.size() < most;
  };
  SegmentSweep sweep(query, wanted, emit);
  for (const IotlbEntry &e : entries) {
    if (!e.range.Overlaps(query)) continue;
    if (!sweep.Feed(e)) break;
  }
  sweep.Finish();
  return segments;
}

using Segments = std::vector<Segment>;

TEST(SegmentSweep, NothingMappedIsOneMiss) {
  EXPECT_EQ(Sweep(RangeOf(5, 9), kRead, {}), Segments{Miss(5, 9)});
  EXPECT_EQ(Sweep(Range::Whole(), kRead, {}), Segments{Miss(0, kMax)});
}

TEST(SegmentSweep, CutsMappingsAtTheQuery) {
  EXPECT_EQ(Sweep(RangeOf(5, 9), kRead, {Entry(0, 20, kReadWrite, 3)}),
            Segments{Mapped(5, 9, kReadWrite, 3)});
}

TEST(SegmentSweep, AllMissesAndAllFaults) {
  const Segments want = {
      Miss(0, 3),    Mapped(4, 7, kRead),        Fault(8, 11), Miss(12, 15),
      Fault(16, 17), Mapped(18, 19, kReadWrite), Miss(20, 30)};
  EXPECT_EQ(
      Sweep(RangeOf(0, 30), kRead,
            {Entry(4, 7, kRead), Entry(8, 11, kWrite),
             Entry(16, 17, Permission::kNone), Entry(18, 19, kReadWrite)}),
      want);
}

TEST(SegmentSweep, AdjacentFaultsAreOne) {
  EXPECT_EQ(Sweep(RangeOf(0, 9), kRead,
                  {Entry(0, 4, kWrite), Entry(2, 6, kWrite),
                   Entry(7, 9, Permission::kNone)}),
            Segments{Fault(0, 9)});
}

TEST(SegmentSweep, GrantInsideAFaultCutsIt) {
  const Segments want = {Fault(0, 3), Mapped(4, 5, kRead), Fault(6, 9)};
  EXPECT_EQ(
      Sweep(RangeOf(0, 9), kRead, {Entry(0, 9, kWrite), Entry(4, 5, kRead)}),
      want);
}

TEST(SegmentSweep, FirstInOrderWinsToItsEnd) {
  const Segments want = {Mapped(0, 5, kRead, 1), Mapped(6, 8, kRead, 2),
                         Mapped(9, 9, kRead, 4)};
  EXPECT_EQ(Sweep(RangeOf(0, 9), kRead,
                  {Entry(0, 5, kRead, 1), Entry(2, 8, kRead, 2),
                   Entry(3, 4, kRead, 3), Entry(4, 12, kRead, 4)}),
            want);
}

TEST(SegmentSweep, EndsOfTheSpace) {
  const Segments want = {Mapped(0, 0, kRead), Miss(1, kMax - 1),
                         Fault(kMax, kMax)};
  EXPECT_EQ(Sweep(Range::Whole(), kRead,
                  {Entry(0, 0, kRead), Entry(kMax, kMax, kWrite)}),
            want);
}

TEST(SegmentSweep, StopsWhenAsked) {
  const std::vector<IotlbEntry> entries = {Entry(2, 3, kRead),
                                           Entry(6, 7, kWrite)};
  const Segments all = Sweep(RangeOf(0, 9), kRead, entries);
  ASSERT_EQ(all.size(), 5u);
  for (std::size_t most = 1; most <= all.size(); ++most) {
    const auto end = all.begin() + static_cast<std::ptrdiff_t>(most);
    EXPECT_EQ(Sweep(RangeOf(0, 9), kRead, entries, most),
              Segments(all.begin(), end));
  }
}

}  // namespace
}  // namespace dmamap
