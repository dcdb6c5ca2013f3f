// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/replay_iova.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <thread>

#include "benchmarks/rows.h"
#include "benchmarks/test_traces.h"

namespace dmamap::bench {
namespace {

// The plainest allocator there is: first fit from page 1. Its faults are
// switched on by the controls below.
class FirstFit {
 public:
  bool Init(std::uint64_t last_pfn) {
    last_pfn_ = last_pfn;
    return true;
  }
  std::uint64_t Allocate(std::uint64_t pages, std::uint64_t limit_pfn) {
    threads_.insert(std::this_thread::get_id());
    std::uint64_t pfn = 1;
    for (const auto& [first, count] : live_) {
      if (first - pfn >= pages) break;
      pfn = first + count;
    }
    if (pfn + pages - 1 > std::min(limit_pfn, last_pfn_)) return 0;
    live_[pfn] = pages;
    return pfn;
  }
  bool Free(std::uint64_t pfn, std::uint64_t pages) {
    const auto found = live_.find(pfn);
    if (found == live_.end() || found->second != pages) return false;
    live_.erase(found);
    return true;
  }
  std::uint64_t CachedRanges() { return 100 + threads_.size(); }
  bool CheckInvariants() { return true; }

 private:
  std::uint64_t last_pfn_ = 0;
  std::map<std::uint64_t, std::uint64_t> live_;
  std::set<std::thread::id> threads_;
};

// Four allocations on two CPUs, two frees, one more allocation.
constexpr const char* kRows =
    "0,0,a,0,fff,1,fff\n"
    "1,0,a,0,ffd,2,fff\n"
    "2,1,a,0,ff0,4,fff\n"
    "3,1,f,0,ffd,2,\n"
    "4,0,f,0,fff,1,\n"
    "5,1,a,0,fff,1,fff\n"
    "6,1,a,0,3ff,1,3ff\n";

TEST(ReplayIova, CountsWhatTheTraceHolds) {
  const IovaReplay replay =
      ReplayIova<FirstFit>(TestTrace<IovaTrace>(kRows), kAllEvents);
  EXPECT_TRUE(replay.sound);
  EXPECT_EQ(replay.timer.ops(IovaReplay::kAllocate), 5u);
  EXPECT_EQ(replay.timer.ops(IovaReplay::kFree), 2u);
  EXPECT_EQ(replay.failures, 0u);
  EXPECT_EQ(replay.double_handouts, 0u);
  EXPECT_EQ(replay.outside, 0u);
  EXPECT_EQ(replay.refused_frees, 0u);
  EXPECT_EQ(replay.peak_live, 3u);
  EXPECT_EQ(replay.regions, 1u);
  EXPECT_EQ(replay.cached, 102u);  // both CPUs' threads have allocated
}

TEST(ReplayIova, StopsAfterTheFirstEvents) {
  const IovaReplay replay =
      ReplayIova<FirstFit>(TestTrace<IovaTrace>(kRows), /*events=*/2);
  EXPECT_EQ(replay.timer.ops(IovaReplay::kAllocate), 2u);
  EXPECT_EQ(replay.timer.ops(IovaReplay::kFree), 0u);
  EXPECT_EQ(replay.peak_live, 2u);
  EXPECT_EQ(replay.cached, 101u);
}

TEST(ReplayIova, DomainsHaveAddressesOfTheirOwn) {
  const IovaReplay replay =
      ReplayIova<FirstFit>(TestTrace<IovaTrace>("0,0,a,0,1,1,fff\n"
                                                "0,0,a,9,1,1,fff\n"),
                           kAllEvents);
  EXPECT_EQ(replay.double_handouts, 0u);
  EXPECT_EQ(replay.regions, 2u);
}

// --- Negative controls: each fault must be counted.

// Forgets the mapping of every third allocation at once.
class HandsOutTwice : public FirstFit {
 public:
  std::uint64_t Allocate(std::uint64_t pages, std::uint64_t limit_pfn) {
    const std::uint64_t pfn = FirstFit::Allocate(pages, limit_pfn);
    if (++calls_ % 3 == 0) (void)FirstFit::Free(pfn, pages);
    return pfn;
  }

 private:
  int calls_ = 0;
};

TEST(ReplayIovaControl, PageHandedOutTwice) {
  // The third allocation (pages 4-7) is forgotten; the fourth, of one page,
  // goes to page 1 and the fifth gets page 2: no overlap yet. One more of four
  // pages lands on it.
  const std::string rows = std::string(kRows) + "7,0,a,0,100,4,fff\n";
  const IovaReplay replay =
      ReplayIova<HandsOutTwice>(TestTrace<IovaTrace>(rows), kAllEvents);
  EXPECT_EQ(replay.double_handouts, 1u);
}

// An address counts as handed out twice also when a part of it is live.
class Overlaps : public FirstFit {
 public:
  std::uint64_t Allocate(std::uint64_t pages, std::uint64_t limit_pfn) {
    const std::uint64_t pfn = FirstFit::Allocate(pages, limit_pfn);
    return pages == 2 ? pfn - 1 : pfn;
  }
};

TEST(ReplayIovaControl, PartlyLive) {
  const IovaReplay replay = ReplayIova<Overlaps>(
      TestTrace<IovaTrace>("0,0,a,0,fff,1,fff\n1,0,a,0,ffd,2,fff\n"),
      kAllEvents);
  EXPECT_EQ(replay.double_handouts, 1u);
}

class IgnoresLimit : public FirstFit {
 public:
  std::uint64_t Allocate(std::uint64_t pages, std::uint64_t limit_pfn) {
    const std::uint64_t pfn = FirstFit::Allocate(pages, limit_pfn);
    return limit_pfn == 0x3ff ? 0x400 : pfn;
  }
};

TEST(ReplayIovaControl, AboveTheLimit) {
  const IovaReplay replay =
      ReplayIova<IgnoresLimit>(TestTrace<IovaTrace>(kRows), kAllEvents);
  EXPECT_EQ(replay.outside, 1u);
}

class Refuses : public FirstFit {
 public:
  std::uint64_t Allocate(std::uint64_t pages, std::uint64_t limit_pfn) {
    return pages == 2 ? 0 : FirstFit::Allocate(pages, limit_pfn);
  }
};

TEST(ReplayIovaControl, Failure) {
  const IovaReplay replay =
      ReplayIova<Refuses>(TestTrace<IovaTrace>(kRows), kAllEvents);
  EXPECT_EQ(replay.failures, 1u);
  // The free of what was never handed out is left out.
  EXPECT_EQ(replay.timer.ops(IovaReplay::kFree), 1u);
  EXPECT_EQ(replay.refused_frees, 0u);
}

class RefusesFrees : public FirstFit {
 public:
  bool Free(std::uint64_t pfn, std::uint64_t pages) {
    return FirstFit::Free(pfn, pages) && pages != 2;
  }
};

TEST(ReplayIovaControl, RefusedFree) {
  const IovaReplay replay =
      ReplayIova<RefusesFrees>(TestTrace<IovaTrace>(kRows), kAllEvents);
  EXPECT_EQ(replay.refused_frees, 1u);
}

class Broken : public FirstFit {
 public:
  bool CheckInvariants() { return false; }
};

TEST(ReplayIovaControl, BrokenInvariants) {
  EXPECT_FALSE(
      ReplayIova<Broken>(TestTrace<IovaTrace>(kRows), kAllEvents).sound);
}

// --- The recorded traces through the allocator of the library.

TEST(ReplayIovaRows, RecordedTracesHold) {
  for (IovaTrace& content : RecordedTraces<IovaTrace>()) {
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
