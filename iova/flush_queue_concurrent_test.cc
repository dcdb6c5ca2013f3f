// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Threads that allocate, map, unmap and free through one queue, in front of a
// device that holds on to old translations. Addresses also go from one thread
// to another before they are freed, threads come and go, invalidations fail.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <random>
#include <thread>
#include <vector>

#include "dma/cpu.h"
#include "dma/rseq.h"
#include "iova/allocator.h"
#include "iova/buddy_store.h"
#include "iova/flush_device_for_test.h"
#include "iova/flush_queue.h"

namespace dmamap {
namespace {

constexpr std::uint64_t kPages = 4096;
constexpr int kThreads = 3;

template <class Allocator>
class Stress {
 public:
  template <class... Args>
  explicit Stress(const FlushQueueOptions& options, Args&&... cpu)
      : iova_(std::forward<Args>(cpu)...) {
    EXPECT_TRUE(
        iova_.Init({.window = *Range::FromSize(Iova(0), kPages << 12)}).ok());
    EXPECT_TRUE(queue_.Init(options).ok());
    device_.works = [this] {
      return ++calls_ % 5 != 0 || !fail_.load(std::memory_order_relaxed);
    };
  }

  void Run(unsigned rounds) {
    for (unsigned generation = 0; generation < 3; ++generation) {
      std::vector<std::thread> threads;
      for (unsigned t = 0; t < kThreads; ++t) {
        threads.emplace_back([this, rounds, seed = generation * kThreads + t] {
          Body(rounds, seed);
        });
      }
      for (std::thread& t : threads) t.join();
      ASSERT_TRUE(queue_.CheckInvariants());
      ASSERT_TRUE(iova_.CheckInvariants());
    }
    fail_ = false;
    for (auto& box : mailbox_) Free(box.exchange(0));
    EXPECT_TRUE(queue_.Drain().ok());
    EXPECT_EQ(queue_.stats().queued, 0u);
    EXPECT_EQ(queue_.stats().disowned, 0u);
    EXPECT_EQ(iova_.stats().live, 0u);
    EXPECT_EQ(stale_.load(), 0u);
    EXPECT_EQ(odd_.load(), 0u);
    EXPECT_TRUE(iova_.CheckInvariants());
  }

  FlushQueueStats stats() const { return queue_.stats(); }

 private:
  struct Mine {
    std::uint64_t first, pages;
  };

  void Body(unsigned rounds, unsigned seed) {
    std::mt19937 random(seed);
    std::vector<Mine> mine;
    for (unsigned i = 0; i < rounds; ++i) {
      if (mine.size() < 64 && random() % 2 == 0) {
        const std::uint64_t pages = 1 + random() % 3;
        const Result<Iova> a = iova_.Allocate(pages);
        if (!a.ok()) continue;
        Map(a->value() >> 12, pages);
        mine.push_back({a->value() >> 12, pages});
      } else if (!mine.empty()) {
        std::swap(mine[random() % mine.size()], mine.back());
        // To whoever comes by, in exchange for what lies there.
        const Mine given = mine.back();
        mine.pop_back();
        // acq_rel: the address, and what was done with it, changes hands.
        Free(mailbox_[random() % mailbox_.size()].exchange(
            given.first << 8 | given.pages, std::memory_order_acq_rel));
      }
      if (random() % 512 == 0) (void)queue_.Drain();
      if (random() % 256 == 0) (void)queue_.Poll();
    }
    for (const Mine& m : mine) Free(m.first << 8 | m.pages);
  }

  void Map(std::uint64_t first, std::uint64_t pages) {
    for (std::uint64_t p = first; p < first + pages; ++p) {
      if (device_.Stale(p)) ++stale_;
      device_.Map(p);
    }
  }
  void Free(std::uint64_t packed) {
    if (packed == 0) return;
    const std::uint64_t first = packed >> 8;
    const std::uint64_t pages = packed & 0xff;
    for (std::uint64_t p = first; p < first + pages; ++p) device_.Unmap(p);
    for (;;) {
      const Result<void> freed = queue_.Free(Iova(first << 12), pages);
      if (freed.ok()) break;
      if (freed.error() != Error::kDevice) {
        ++odd_;
        break;
      }
    }
  }

  Allocator iova_;
  StaleDevice<> device_{kPages};
  FlushQueue<Allocator, StaleDevice<>> queue_{iova_, device_};
  std::array<std::atomic<std::uint64_t>, 32> mailbox_ = {};
  unsigned calls_ = 0;  // under the queue's lock
  std::atomic<bool> fail_{true};
  std::atomic<std::uint64_t> stale_{0};
  std::atomic<std::uint64_t> odd_{0};
};

constexpr unsigned kRounds = 20000;

TEST(FlushQueueConcurrent, SmallRings) {
  Stress<IovaAllocator<BuddyStore, ThreadSlots>> stress(
      {.entries = 32, .max_age = 50'000});
  stress.Run(kRounds);
  EXPECT_GT(stress.stats().invalidations, 10u);
  EXPECT_GT(stress.stats().failures, 1u);
}

TEST(FlushQueueConcurrent, MoreThreadsThanSlots) {
  Stress<IovaAllocator<BuddyStore, ThreadSlots>> stress({.entries = 64},
                                                        std::size_t{1});
  stress.Run(kRounds);
}

TEST(FlushQueueConcurrent, SlotsOfCpus) {
  Stress<IovaAllocator<BuddyStore, RseqSlots>> stress(
      {.entries = 64, .max_age = 0});
  stress.Run(kRounds);
}

}  // namespace
}  // namespace dmamap
