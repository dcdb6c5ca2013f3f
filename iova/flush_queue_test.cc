// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "iova/flush_queue.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "dma/cpu.h"
#include "iova/allocator.h"
#include "iova/buddy_store.h"

namespace dmamap {
namespace {

using Allocator = IovaAllocator<BuddyStore, FakeCpu>;

std::uint64_t now = 0;  // nanoseconds

struct HandClock {
  std::uint64_t operator()() const { return now; }
};
struct HandPolicy : FlushQueuePolicy {
  using Clock = HandClock;
};

// Counts, and fails while told to.
struct Counting {
  Result<void> Invalidate(Range range) {
    ranges.push_back(range);
    return broken ? Result<void>(Error::kDevice) : Ok();
  }
  Result<void> InvalidateAll() {
    ++all;
    return broken ? Result<void>(Error::kDevice) : Ok();
  }
  std::vector<Range> ranges;
  int all = 0;
  bool broken = false;
};

using Queue = FlushQueue<Allocator, Counting, HandPolicy>;

// A poll by a timer's own thread, which has no magazines, trims the allocator's
// depot.
TEST(FlushQueuePoll, TrimsTheDepotOfOtherThreads) {
  IovaAllocator<BuddyStore, ThreadSlots> iova;
  const auto window = Range::FromSize(Iova(1 << 12), std::uint64_t{1} << 48);
  ASSERT_TRUE(iova.Init({.window = *window}).ok());
  Counting device;
  FlushQueue<decltype(iova), Counting, HandPolicy> queue(iova, device);
  ASSERT_TRUE(queue.Init({}).ok());
  std::vector<Iova> burst;
  for (int i = 0; i < 6000; ++i) burst.push_back(*iova.Allocate(1));
  for (const Iova page : burst) ASSERT_TRUE(queue.Free(page, 1).ok());
  ASSERT_TRUE(queue.Drain().ok());
  ASSERT_GE(iova.stats().cached, 32u * 127);
  std::thread([&] {
    for (int i = 0; i < 2000; ++i) EXPECT_TRUE(queue.Poll(now).ok());
  }).join();
  EXPECT_LE(iova.stats().cached, 3u * 127);
}

class FlushQueueTest : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kPages = 1 << 16;

  FlushQueueTest() {
    now = 1000;
    const auto window = Range::FromSize(Iova(kPages << 12), kPages << 12);
    EXPECT_TRUE(iova.Init({.window = *window}).ok());
  }
  void Start(const FlushQueueOptions& options) {
    ASSERT_TRUE(queue.Init(options).ok());
  }
  Iova Take(std::uint64_t pages = 1) {
    const Result<Iova> a = iova.Allocate(pages);
    EXPECT_TRUE(a.ok());
    return a.value_or(Iova());
  }
  std::uint64_t live() {
    std::uint64_t n = 0;
    iova.ForEachLive([&](Range) { ++n; });
    return n;
  }
  void ExpectSound() {
    EXPECT_TRUE(queue.CheckInvariants());
    EXPECT_TRUE(iova.CheckInvariants());
  }

  Allocator iova;
  Counting device;
  Queue queue{iova, device};
};

TEST_F(FlushQueueTest, BeforeInitAndTwice) {
  EXPECT_EQ(queue.Free(Iova(0x1000), 1).error(), Error::kShutDown);
  EXPECT_EQ(queue.Drain().error(), Error::kShutDown);
  EXPECT_EQ(queue.Poll().error(), Error::kShutDown);
  EXPECT_TRUE(queue.CheckInvariants());
  for (const FlushQueueOptions& bad :
       std::vector<FlushQueueOptions>{{.entries = 0},
                                      {.entries = 3},
                                      {.entries = 1u << 21},
                                      {.clock_interval = 0},
                                      {.clock_interval = 12}}) {
    EXPECT_EQ(queue.Init(bad).error(), Error::kInvalidArgument);
  }
  Start({});
  EXPECT_EQ(queue.Init({}).error(), Error::kBusy);
}

TEST_F(FlushQueueTest, StrictInvalidatesThenFrees) {
  Start({.mode = FlushMode::kStrict});
  const Iova a = Take(3);
  EXPECT_TRUE(queue.Free(a, 3).ok());
  ASSERT_EQ(device.ranges.size(), 1u);
  EXPECT_EQ(device.ranges[0], *Range::FromSize(a, 3 << 12));
  EXPECT_EQ(Take(3), a);  // the magazine's top
  EXPECT_TRUE(queue.Drain().ok());
  EXPECT_TRUE(queue.Poll().ok());
  EXPECT_EQ(device.all, 0);
  ExpectSound();
}

TEST_F(FlushQueueTest, StrictFailureLeavesTheRangeToTheCaller) {
  Start({.mode = FlushMode::kStrict});
  for (const std::uint64_t pages : {1u, 40u, 20000u}) {
    const Iova a = Take(pages);
    device.broken = true;
    EXPECT_EQ(queue.Free(a, pages).error(), Error::kDevice);
    EXPECT_EQ(live(), 1u);
    ExpectSound();
    device.broken = false;
    EXPECT_TRUE(queue.Free(a, pages).ok());
    EXPECT_EQ(queue.Free(a, pages).error(), Error::kDoubleFree);
    EXPECT_EQ(live(), 0u);
    ExpectSound();
  }
  EXPECT_EQ(queue.stats().failures, 3u);
}

TEST_F(FlushQueueTest, NothingIsReusedBeforeTheInvalidation) {
  Start({.entries = 8});
  std::set<Iova> queued;
  for (int i = 0; i < 8; ++i) {
    const Iova a = Take();
    EXPECT_TRUE(queue.Free(a, 1).ok());
    EXPECT_TRUE(queued.insert(a).second) << "handed out while it is queued";
  }
  EXPECT_EQ(device.all, 0);
  EXPECT_EQ(live(), 0u);
  EXPECT_EQ(queue.stats().queued, 8u);
  const Iova ninth = Take();
  EXPECT_FALSE(queued.contains(ninth));
  EXPECT_TRUE(queue.Free(ninth, 1).ok());  // the ring is full: all are drained
  EXPECT_EQ(device.all, 1);
  EXPECT_EQ(queue.stats().queued, 1u);
  EXPECT_EQ(queue.stats().released, 8u);
  for (int i = 0; i < 8; ++i) EXPECT_TRUE(queued.contains(Take()));
  ExpectSound();
}

TEST_F(FlushQueueTest, AFreeIsCheckedWhenItIsQueued) {
  Start({});
  for (const std::uint64_t pages : {1u, 32u, 33u, 16381u, 16382u, 30000u}) {
    const Iova a = Take(pages);
    EXPECT_EQ(queue.Free(a, pages + 1).error(), Error::kMismatch);
    EXPECT_EQ(queue.Free(a + 4096, 1).error(), Error::kForeign);
    EXPECT_EQ(queue.Free(a + 1, pages).error(), Error::kForeign);
    EXPECT_EQ(queue.Free(a, 0).error(), Error::kInvalidArgument);
    EXPECT_TRUE(queue.Free(a, pages).ok());
    EXPECT_EQ(queue.Free(a, pages).error(), Error::kDoubleFree);
    EXPECT_EQ(iova.Free(a, pages).error(), Error::kDoubleFree);
    EXPECT_EQ(live(), 0u);
    ExpectSound();
    EXPECT_TRUE(queue.Drain().ok());
    EXPECT_EQ(queue.Free(a, pages).error(), Error::kDoubleFree);
    EXPECT_EQ(iova.Release(a, pages).error(), Error::kDoubleFree);
    EXPECT_EQ(iova.Restore(a, pages).error(), Error::kDoubleFree);
    ExpectSound();
  }
  EXPECT_EQ(queue.stats().enqueued, 6u);
  const Iova a = Take();
  EXPECT_EQ(iova.Release(a, 1).error(), Error::kBusy);
  EXPECT_TRUE(iova.Retire(a, 1).ok());
  EXPECT_EQ(iova.Release(a, 2).error(), Error::kMismatch);
  EXPECT_EQ(iova.Release(Iova(1), 1).error(), Error::kForeign);
  EXPECT_TRUE(iova.Release(a, 1).ok());
}

TEST_F(FlushQueueTest, OneInvalidationServesAllSlots) {
  Start({.entries = 4});
  for (std::size_t slot : {std::size_t{0}, std::size_t{1}, kNoSlot}) {
    iova.cpu().set_current(slot);
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(queue.Free(Take(), 1).ok());
  }
  iova.cpu().set_current(0);
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(queue.Free(Take(), 1).ok());
  EXPECT_EQ(device.all, 1);
  EXPECT_EQ(queue.stats().queued, 6u + 1u);  // others release their own
  iova.cpu().set_current(1);
  EXPECT_TRUE(queue.Free(Take(), 1).ok());
  EXPECT_EQ(device.all, 1);
  EXPECT_EQ(queue.stats().queued, 3u + 1u + 1u);
  EXPECT_TRUE(queue.Drain().ok());
  EXPECT_EQ(device.all, 2);
  EXPECT_EQ(queue.stats().queued, 0u);
  EXPECT_TRUE(queue.Drain().ok());
  EXPECT_EQ(device.all, 2) << "nothing was queued";
  ExpectSound();
}

TEST_F(FlushQueueTest, OldEntriesAreDrained) {
  Start({.entries = 64, .max_age = 100});
  EXPECT_TRUE(queue.Free(Take(), 1).ok());
  now += 100;
  EXPECT_TRUE(queue.Free(Take(), 1).ok());
  EXPECT_TRUE(queue.Poll().ok());
  EXPECT_EQ(device.all, 0);
  now += 1;
  EXPECT_TRUE(queue.Free(Take(), 1).ok());
  EXPECT_EQ(device.all, 1);
  EXPECT_EQ(queue.stats().queued, 0u);
  EXPECT_TRUE(queue.Free(Take(), 1).ok());
  iova.cpu().set_current(1);
  now += 101;
  EXPECT_TRUE(queue.Poll().ok());  // another slot's
  EXPECT_EQ(device.all, 2);
  EXPECT_EQ(queue.stats().queued, 0u);
  EXPECT_TRUE(queue.Poll().ok());
  EXPECT_EQ(device.all, 2);
}

TEST_F(FlushQueueTest, TwoBusySlotsShareTheInvalidations) {
  Start({.entries = 1024, .max_age = 100});
  for (int i = 0; i < 1000; ++i) {
    iova.cpu().set_current(static_cast<std::size_t>(i) % 4);
    ++now;
    EXPECT_TRUE(queue.Free(Take(), 1).ok());
  }
  EXPECT_LE(device.all, 10);
  EXPECT_GE(device.all, 9);
}

TEST_F(FlushQueueTest, TheClockIsReadEveryNthTime) {
  Start({.max_age = 100, .clock_interval = 8});
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(queue.Free(Take(), 1).ok());
  now += 1000;
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(queue.Free(Take(), 1).ok());
  EXPECT_EQ(device.all, 0);
  EXPECT_TRUE(queue.Free(Take(), 1).ok());
  EXPECT_EQ(device.all, 1);
}

TEST_F(FlushQueueTest, AClockThatJumps) {
  Start({.entries = 64, .max_age = 100});
  now = 1'000'000;
  EXPECT_TRUE(queue.Free(Take(), 1).ok());
  now = 5;  // back
  EXPECT_TRUE(queue.Free(Take(), 1).ok());
  now += 101;
  EXPECT_TRUE(queue.Free(Take(), 1).ok());
  EXPECT_GE(device.all, 1);
  EXPECT_EQ(queue.stats().queued, 0u);
  const int before = device.all;
  for (int i = 0; i < 50; ++i) EXPECT_TRUE(queue.Free(Take(), 1).ok());
  EXPECT_EQ(device.all, before) << "it has settled";
}

TEST_F(FlushQueueTest, FailureKeepsEverythingInQuarantine) {
  Start({.entries = 4, .max_age = 0});
  device.broken = true;
  std::vector<Iova> queued;
  for (int i = 0; i < 4; ++i) {
    queued.push_back(Take());
    EXPECT_TRUE(queue.Free(queued.back(), 1).ok());
  }
  const Iova kept = Take();
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(queue.Free(kept, 1).error(), Error::kDevice);
    EXPECT_EQ(live(), 1u);
    EXPECT_EQ(queue.stats().queued, 4u);
  }
  EXPECT_EQ(queue.Drain().error(), Error::kDevice);
  EXPECT_EQ(queue.stats().failures, 4u);
  // Nobody gets them, however much is asked for.
  std::set<Iova> handed;
  for (;;) {
    const Result<Iova> a = iova.Allocate(1);
    if (!a.ok()) break;
    handed.insert(*a);
  }
  EXPECT_EQ(handed.size(), kPages - 5);
  for (Iova a : queued) EXPECT_FALSE(handed.contains(a));
  device.broken = false;
  EXPECT_TRUE(queue.Free(kept, 1).ok());
  EXPECT_TRUE(queue.Drain().ok());
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(iova.Allocate(1).ok());
  EXPECT_FALSE(iova.Allocate(1).ok());
  ExpectSound();
}

TEST_F(FlushQueueTest, AFailureBecauseOfAgeIsTriedAgainLater) {
  Start({.entries = 64, .max_age = 100});
  EXPECT_TRUE(queue.Free(Take(), 1).ok());
  now += 101;
  device.broken = true;
  for (int i = 0; i < 10; ++i) {
    EXPECT_TRUE(queue.Free(Take(), 1).ok()) << "the range is taken";
  }
  EXPECT_EQ(device.all, 1) << "not at each free";
  EXPECT_EQ(queue.stats().failures, 1u);
  now += 101;
  EXPECT_EQ(queue.Poll().error(), Error::kDevice);
  device.broken = false;
  now += 101;
  EXPECT_TRUE(queue.Poll().ok());
  EXPECT_EQ(queue.stats().queued, 0u);
}

TEST_F(FlushQueueTest, ARetiredSlotLosesNothing) {
  Start({.entries = 4});
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(queue.Free(Take(), 1).ok());
  iova.cpu().Retire(0);
  EXPECT_EQ(device.all, 0) << "a leaving thread does not wait";
  EXPECT_EQ(queue.stats().queued, 3u);
  iova.cpu().set_current(1);
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(queue.Free(Take(), 1).ok());
  EXPECT_EQ(device.all, 1);
  EXPECT_EQ(queue.stats().queued, 1u) << "the flusher released the orphans";
  iova.cpu().set_current(2);
  EXPECT_TRUE(queue.Free(Take(), 1).ok());
  iova.cpu().set_current(1);
  EXPECT_TRUE(queue.Drain().ok());
  iova.cpu().Retire(2);
  iova.cpu().Retire(3);  // never used
  EXPECT_EQ(queue.stats().queued, 0u);
  ExpectSound();
}

TEST_F(FlushQueueTest, TheDestructorDrains) {
  const Iova a = Take();
  {
    Queue other{iova, device};
    ASSERT_TRUE(other.Init({}).ok());
    EXPECT_TRUE(other.Free(a, 1).ok());
  }
  EXPECT_EQ(device.all, 1);
  EXPECT_EQ(iova.Free(a, 1).error(), Error::kDoubleFree);
  EXPECT_EQ(iova.stats().live, 0u);
  const Iova b = Take();
  {
    Queue other{iova, device};
    ASSERT_TRUE(other.Init({}).ok());
    EXPECT_TRUE(other.Free(b, 1).ok());
    device.broken = true;
  }
  EXPECT_EQ(iova.stats().live, 1u) << "never handed out again";
  iova.cpu().Retire(0);  // its listener is gone
  EXPECT_TRUE(iova.CheckInvariants());
}

TEST(FlushQueue, WithThreadsAndTheDefaultPolicy) {
  IovaAllocator<BuddyStore, ThreadSlots> iova;
  NoInvalidation none;
  FlushQueue<decltype(iova), NoInvalidation> queue(iova, none);
  ASSERT_TRUE(iova.Init({.window = *Range::FromSize(Iova(0), 1 << 30)}).ok());
  ASSERT_TRUE(queue.Init({}).ok());
  for (int i = 0; i < 1000; ++i) {
    const Result<Iova> a = iova.Allocate(2);
    ASSERT_TRUE(a.ok());
    EXPECT_TRUE(queue.Free(*a, 2).ok());
  }
  EXPECT_TRUE(queue.Drain().ok());
  EXPECT_EQ(queue.stats().released, 1000u);
  EXPECT_GT(queue.stats().bytes, 0u);
  EXPECT_EQ(iova.stats().live, 0u);
}

}  // namespace
}  // namespace dmamap
