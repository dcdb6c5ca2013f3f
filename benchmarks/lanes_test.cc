// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/lanes.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <thread>
#include <vector>

namespace dmamap::bench {
namespace {

struct Event {
  std::uint16_t lane;
};

std::vector<Event> RandomEvents(std::size_t lanes, std::size_t count) {
  std::mt19937 random(1);
  std::vector<Event> events(count);
  for (Event& event : events) {
    event.lane = static_cast<std::uint16_t>(random() % lanes);
  }
  return events;
}

TEST(TurnsOf, RunsOfOneLane) {
  const std::vector<Event> events = {{0}, {0}, {2}, {0}, {1}, {1}, {1}};
  const std::vector<Turn> turns = TurnsOf(std::span<const Event>(events));
  ASSERT_EQ(turns.size(), 4u);
  EXPECT_EQ(turns[0].lane, 0);
  EXPECT_EQ(turns[0].end, 2u);
  EXPECT_EQ(turns[1].lane, 2);
  EXPECT_EQ(turns[3].first, 4u);
  EXPECT_EQ(turns[3].end, 7u);
  EXPECT_TRUE(TurnsOf(std::span<const Event>()).empty());
}

// Every event once, in order, on its lane's thread; nothing in between. The
// plain variables make a missing synchronisation a data race (ThreadSanitizer).
void CheckLanes(std::size_t lanes, std::size_t count) {
  const std::vector<Event> events = RandomEvents(lanes, count);
  const std::vector<Turn> turns = TurnsOf(std::span<const Event>(events));
  std::size_t next = 0;
  std::map<std::size_t, std::set<std::thread::id>> threads;
  int finished = 0;
  RunOnLanes(
      lanes, turns,
      [&](const Turn& turn) {
        EXPECT_EQ(turn.first, next);
        next = turn.end;
        threads[turn.lane].insert(std::this_thread::get_id());
      },
      [&] {
        EXPECT_EQ(next, count);
        ++finished;
      });
  EXPECT_EQ(finished, 1);
  std::set<std::thread::id> all;
  for (const auto& [lane, ids] : threads) {
    EXPECT_EQ(ids.size(), 1u);
    all.insert(ids.begin(), ids.end());
  }
  EXPECT_EQ(all.size(), threads.size());  // a thread of its own for each
}

TEST(RunOnLanes, InOrderOnTheirThreads) {
  CheckLanes(1, 1000);
  CheckLanes(2, 20'000);
  CheckLanes(7, 5000);  // more than there may be CPUs
}

TEST(RunOnLanes, LanesWithoutEvents) {
  CheckLanes(5, 1);
  CheckLanes(3, 0);
}

}  // namespace
}  // namespace dmamap::bench
