// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/replay_iotlb.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <memory>

#include "benchmarks/rows.h"
#include "benchmarks/test_traces.h"

namespace dmamap::bench {
namespace {

// The plainest table there is. Its faults are switched on by the controls.
class PlainTable {
 public:
  bool Init() { return true; }
  bool Fill(Iova page, PhysAddr address, Permission permission) {
    return pages_.try_emplace(page, Entry{address, permission}).second;
  }
  ReplayLookup Lookup(Iova at, Permission wanted) const {
    const std::uint64_t offset = at.value() & (kTracePage - 1);
    const auto found = pages_.find(at - offset);
    if (found == pages_.end() || !Allows(found->second.permission, wanted)) {
      return {false, PhysAddr()};
    }
    return {true, found->second.address + offset};
  }
  void Invalidate(Range range) {
    pages_.erase(pages_.lower_bound(range.first()),
                 pages_.upper_bound(range.last()));
  }
  void InvalidateAll() { pages_.clear(); }
  std::size_t size() const { return pages_.size(); }
  bool CheckInvariants() const { return true; }

 private:
  struct Entry {
    PhysAddr address;
    Permission permission;
  };
  std::map<Iova, Entry> pages_;
};

constexpr const char* kRows =
    "0,g,,,\n"
    "1,u,20,1008,5003\n"  // fill
    "2,h,20,1010,5003\n"
    "2,h,20,1ff8,5003\n"
    "3,u,20,2000,6001\n"  // fill
    "4,p,3,1000,0\n"      // page 1 goes
    "5,u,20,1000,7003\n"  // fill again, elsewhere
    "6,h,20,1000,7003\n"
    "7,d,3,,\n"  // all go
    "8,u,20,2000,6001\n";

TEST(ReplayIotlb, AgreesWithTheRecording) {
  const IotlbReplay replay =
      ReplayIotlb<PlainTable>(TestTrace<IotlbTrace>(kRows), kAllEvents);
  EXPECT_TRUE(replay.sound);
  EXPECT_EQ(replay.hits, 3u);
  EXPECT_EQ(replay.misses, 4u);
  EXPECT_EQ(replay.lost + replay.stale + replay.wrong_address, 0u);
  EXPECT_EQ(replay.refused_fills, 0u);
  EXPECT_EQ(replay.peak_entries, 2u);
  EXPECT_EQ(replay.timer.ops(IotlbReplay::kLookup), 7u);
  EXPECT_EQ(replay.timer.ops(IotlbReplay::kFill), 4u);
  EXPECT_EQ(replay.timer.ops(IotlbReplay::kInvalidate), 1u);
  EXPECT_EQ(replay.timer.ops(IotlbReplay::kInvalidateAll), 2u);
}

TEST(ReplayIotlb, SourcesAreApart) {
  const IotlbReplay replay =
      ReplayIotlb<PlainTable>(TestTrace<IotlbTrace>("1,u,20,1000,5003\n"
                                                    "1,u,28,1000,6003\n"
                                                    "2,h,20,1000,5003\n"
                                                    "2,h,28,1000,6003\n"),
                              kAllEvents);
  EXPECT_EQ(replay.lost + replay.stale + replay.wrong_address, 0u);
}

// An invalidation of 2^52 pages is one of everything.
TEST(ReplayIotlb, InvalidationOfTheWholeSpace) {
  const IotlbReplay replay = ReplayIotlb<PlainTable>(
      TestTrace<IotlbTrace>("1,u,20,fffffffffffff000,5003\n"
                            "1,p,3,0,34\n"
                            "2,u,20,fffffffffffff000,5003\n"),
      kAllEvents);
  EXPECT_EQ(replay.lost + replay.stale, 0u);
}

// --- Negative controls: each fault must be counted.

class KeepsInvalidated : public PlainTable {
 public:
  void Invalidate(Range) {}
};

TEST(ReplayIotlbControl, Stale) {
  const IotlbReplay replay =
      ReplayIotlb<KeepsInvalidated>(TestTrace<IotlbTrace>(kRows), kAllEvents);
  EXPECT_EQ(replay.stale, 1u);
  // The old entry is in the way of the new one, and answers in its place.
  EXPECT_EQ(replay.refused_fills, 1u);
  EXPECT_EQ(replay.wrong_address, 1u);
}

class ForgetsFills : public PlainTable {
 public:
  bool Fill(Iova page, PhysAddr address, Permission permission) {
    return page == Iova(0x1000) || PlainTable::Fill(page, address, permission);
  }
};

TEST(ReplayIotlbControl, Lost) {
  const IotlbReplay replay =
      ReplayIotlb<ForgetsFills>(TestTrace<IotlbTrace>(kRows), kAllEvents);
  EXPECT_EQ(replay.lost, 3u);
}

class WrongOffset : public PlainTable {
 public:
  ReplayLookup Lookup(Iova at, Permission wanted) const {
    ReplayLookup found = PlainTable::Lookup(at, wanted);
    if (at == Iova(0x1ff8)) found.address = found.address - 1;
    return found;
  }
};

TEST(ReplayIotlbControl, WrongAddress) {
  const IotlbReplay replay =
      ReplayIotlb<WrongOffset>(TestTrace<IotlbTrace>(kRows), kAllEvents);
  EXPECT_EQ(replay.wrong_address, 1u);
}

class Broken : public PlainTable {
 public:
  bool CheckInvariants() const { return false; }
};

TEST(ReplayIotlbControl, BrokenInvariants) {
  EXPECT_FALSE(
      ReplayIotlb<Broken>(TestTrace<IotlbTrace>(kRows), kAllEvents).sound);
}

// --- The recorded traces through the IOTLB of the library.

TEST(ReplayIotlbRows, RecordedTracesHold) {
  for (IotlbTrace& content : RecordedTraces<IotlbTrace>()) {
    Report report;
    AddTraceRows(report,
                 std::make_shared<const Trace>(Trace{"x", std::move(content)}),
                 /*events=*/20'000);
    ASSERT_FALSE(report.rows().empty());
    for (const Row& row : report.rows()) report.Record(row.Name(), row.run());
    EXPECT_TRUE(report.Failures().empty()) << report.Failures()[0];
    EXPECT_EQ(report.Verdicts().size(), 4 * report.rows().size());
  }
}

}  // namespace
}  // namespace dmamap::bench
