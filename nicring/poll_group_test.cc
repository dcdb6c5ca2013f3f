// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "nicring/poll_group.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "nicring/i8255x.h"
#include "nicring/interrupts.h"
#include "nicring/napi.h"
#include "testing/rx_bench.h"

namespace dmamap {
namespace {

struct Ring {
  std::size_t Poll(std::size_t most) {
    const std::size_t n = std::min(most, work);
    work -= n;
    done += n;
    longest = std::max(longest, n);
    return n;
  }
  bool HasWork() { return work != 0; }
  std::size_t work = 0;
  std::size_t done = 0;
  std::size_t longest = 0;
};

TEST(PollGroup, SharesByWeight) {
  std::array<Ring, 3> rings;
  for (Ring& r : rings) r.work = 100000;
  const std::array members = {PollMember(&rings[0], 10),
                              PollMember(&rings[1], 20),
                              PollMember(&rings[2], 70)};
  PollGroup group(members);
  // Budgets that cut turns anywhere: the proportion stays.
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(group.Poll(37), 37u);
  EXPECT_EQ(rings[0].done, 3700u);
  EXPECT_EQ(rings[1].done, 7400u);
  EXPECT_EQ(rings[2].done, 25900u);
  EXPECT_TRUE(group.CheckInvariants());
}

TEST(PollGroup, NobodyIsTheGroupOfNothing) {
  PollGroup group({});
  EXPECT_EQ(group.Poll(64), 0u);
  EXPECT_FALSE(group.HasWork());
  EXPECT_TRUE(group.CheckInvariants());
  Ring ring;
  ring.work = 5;
  const std::array members = {PollMember(&ring, 0)};  // counts as 1
  PollGroup one(members);
  EXPECT_EQ(one.Poll(0), 0u);
  EXPECT_EQ(one.Poll(3), 3u);
  EXPECT_EQ(ring.longest, 1u);
  EXPECT_TRUE(one.HasWork());
}

// Against the work put in: nothing is lost; below the budget all are drained;
// nobody who has work waits for more than the others' weights.
RC_GTEST_PROP(PollGroupProperty, DrainsOrSpendsTheBudget, ()) {
  const auto n = *rc::gen::inRange<std::size_t>(1, 6);
  std::vector<Ring> rings(n);
  std::vector<PollMember> members;
  for (Ring& r : rings) {
    members.emplace_back(&r, *rc::gen::inRange<std::uint32_t>(0, 9));
  }
  PollGroup group(members);
  std::size_t put = 0;
  for (int i = 0; i < 30; ++i) {
    for (Ring& r : rings) {
      const auto more = *rc::gen::inRange<std::size_t>(0, 12);
      r.work += more;
      put += more;
      r.longest = 0;
    }
    const auto budget = *rc::gen::inRange<std::size_t>(0, 40);
    std::vector<std::size_t> before;
    for (const Ring& r : rings) before.push_back(r.done);
    const std::size_t done = group.Poll(budget);
    RC_ASSERT(group.CheckInvariants());
    RC_ASSERT(done <= budget);
    RC_ASSERT(done == budget || !group.HasWork());
    std::size_t total = 0;
    std::size_t weights = 0;
    for (std::size_t k = 0; k < n; ++k) {
      RC_ASSERT(rings[k].longest <= members[k].weight());
      total += rings[k].done + rings[k].work;
      weights += members[k].weight();
    }
    RC_ASSERT(total == put);
    for (std::size_t k = 0; k < n; ++k) {
      const bool starved = rings[k].done == before[k] && rings[k].work != 0;
      RC_ASSERT(!starved || done <= weights - members[k].weight());
    }
  }
}

// Two i8255x behind one interrupt, one Napi and one poller.
TEST(PollGroup, TwoRingsBehindOneNapi) {
  using testing_bench::Bench;
  using B = Bench<testing_bench::IdentityWorld>;
  B a;
  B b;
  a.Start();
  b.Start();
  // Each has causes of its own to acknowledge.
  struct Line {
    void Mask() { masked = true; }
    void Unmask() { masked = false; }
    void Acknowledge() {
      for (B* bench : benches) {
        I8255xInterrupts(&*bench->sim, &bench->ring).Acknowledge();
      }
    }
    std::array<B*, 2> benches;
    bool masked = false;
  } line{{&a, &b}};
  Napi<Line> napi(&line);
  RingPoller pa{&a.ring, &a.sink, &a.registers};
  RingPoller pb{&b.ring, &b.sink, &b.registers};
  const std::array members = {PollMember(&pa, 1), PollMember(&pb, 2)};
  PollGroup group(members);
  for (int i = 0; i < 200; ++i) {
    a.Inject(20);
    b.Inject(20);
    if (i % 2 != 0) b.Inject(30);
    a.RunDevice();
    b.RunDevice();
    if (!napi.Schedule()) continue;
    while (napi.Poll(
               2, [&](std::size_t n) { return group.Poll(n); },
               [&] { return group.HasWork(); }) == PollOutcome::kAgain) {
      a.RunDevice();
      b.RunDevice();
    }
    EXPECT_FALSE(line.masked);
  }
  EXPECT_TRUE(a.Sound() && b.Sound());
  EXPECT_EQ(a.sink.frames, a.stored);
  EXPECT_EQ(b.sink.frames, b.stored);
  EXPECT_GE(a.stored.size(), 190u);
  EXPECT_GE(b.stored.size(), 250u);
}

}  // namespace
}  // namespace dmamap
