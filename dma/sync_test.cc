// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "dma/sync.h"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

#include "dma/barrier.h"

namespace dmamap {
namespace {

static_assert(Lock<std::mutex>);

template <Lock L>
long CountUnder(L& lock, int threads, int rounds) {
  long shared = 0;  // plain: only the lock protects it
  std::vector<std::thread> pool;
  for (int t = 0; t < threads; ++t) {
    pool.emplace_back([&] {
      for (int i = 0; i < rounds; ++i) {
        Guard guard(lock);
        shared = shared + 1;
      }
    });
  }
  for (std::thread& t : pool) t.join();
  return shared;
}

TEST(SpinLock, ExcludesOtherThreads) {
  SpinLock lock;
  EXPECT_EQ(CountUnder(lock, 4, 20000), 80000);
}

TEST(SpinLock, TryLockTellsWhetherItIsHeld) {
  SpinLock lock;
  ASSERT_TRUE(lock.try_lock());
  EXPECT_FALSE(lock.try_lock());
  lock.unlock();
  EXPECT_TRUE(lock.try_lock());
  lock.unlock();
}

TEST(Barrier, OrdersAHandOverBetweenThreads) {
  // Message passing with the barriers alone: a relaxed flag and relaxed data.
  for (int round = 0; round < 200; ++round) {
    std::atomic<int> data{0}, flag{0};
    std::thread producer([&] {
      data.store(42, std::memory_order_relaxed);
      DmaWriteBarrier();
      flag.store(1, std::memory_order_relaxed);
    });
    while (flag.load(std::memory_order_relaxed) == 0) std::this_thread::yield();
    DmaReadBarrier();
    EXPECT_EQ(data.load(std::memory_order_relaxed), 42);
    producer.join();
  }
}

TEST(Barrier, FullBarrierForbidsBothSidesMissingEachOther) {
  for (int round = 0; round < 500; ++round) {
    std::atomic<int> x{0}, y{0}, go{0};
    int seen_by_a = -1, seen_by_b = -1;
    auto run = [&](std::atomic<int>& mine, std::atomic<int>& other, int& seen) {
      go.fetch_add(1);
      while (go.load() < 2) std::this_thread::yield();
      mine.store(1, std::memory_order_relaxed);
      DmaFullBarrier();
      seen = other.load(std::memory_order_relaxed);
    };
    std::thread a([&] { run(x, y, seen_by_a); });
    std::thread b([&] { run(y, x, seen_by_b); });
    a.join();
    b.join();
    EXPECT_TRUE(seen_by_a == 1 || seen_by_b == 1);
  }
}

}  // namespace
}  // namespace dmamap
