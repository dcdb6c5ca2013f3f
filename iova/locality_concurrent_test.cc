// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// One owner allocates, other threads free. The sanitizers watch the pages
// themselves: each has a plain variable that its user writes.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <random>
#include <thread>
#include <vector>

#include "iova/locality.h"
#include "iova/standard.h"
#include "testing/sched/explore.h"

namespace dmamap {
namespace {

constexpr std::uint64_t kPages = 1 << 16;

TEST(LocalityConcurrent, OthersFree) {
  StandardAllocator iova;
  ASSERT_TRUE(
      iova.Init({.window = *Range::FromSize(Iova(0), kPages << 12)}).ok());
  LocalityPool<StandardAllocator> pool(iova);
  ASSERT_TRUE(pool.Init({.chunk_pages = 64, .run_pages = 16}).ok());
  std::vector<std::uint32_t> contents(kPages);
  std::array<std::atomic<std::uint64_t>, 64> mailbox = {};
  std::atomic<bool> done{false};
  std::atomic<std::uint64_t> refused{0};

  const auto consumer = [&](unsigned seed) {
    std::mt19937 random(seed);
    for (;;) {
      const bool last = done.load(std::memory_order_acquire);
      for (std::size_t i = 0; i < mailbox.size(); ++i) {
        // acquire: pairs with the owner's release.
        const std::uint64_t packed =
            mailbox[random() % 64].exchange(0, std::memory_order_acquire);
        if (packed == 0) continue;
        const std::uint64_t page = packed >> 8;
        ++contents[page];
        if (!pool.FreeRemotely(Iova(page << 12), packed & 0xff).ok()) {
          ++refused;
        }
        // Wrong ones at the same time change nothing.
        if (pool.FreeRemotely(Iova((page << 12) + 1)).ok()) ++refused;
      }
      if (last) return;
    }
  };
  std::thread one(consumer, 1);
  std::thread two(consumer, 2);

  std::mt19937 random(3);
  for (int i = 0; i < 100'000; ++i) {
    const std::uint64_t pages = random() % 8 != 0 ? 1 : 1 + random() % 5;
    const Result<Iova> a = pool.Allocate(pages);
    ASSERT_TRUE(a.ok());
    const std::uint64_t page = a->value() >> 12;
    contents[page] = 1;
    // release: pairs with the consumers' acquire.
    const std::uint64_t back = mailbox[random() % 64].exchange(
        page << 8 | pages, std::memory_order_acq_rel);
    if (back != 0) {
      ASSERT_TRUE(pool.Free(Iova(back >> 8 << 12), back & 0xff).ok());
    }
    if (i % 64 == 0) pool.Collect();
  }
  done.store(true, std::memory_order_release);
  one.join();
  two.join();
  for (auto& box : mailbox) {
    const std::uint64_t left = box.load();
    if (left == 0) continue;
    EXPECT_TRUE(pool.Free(Iova(left >> 8 << 12), left & 0xff).ok());
  }
  pool.Collect();
  EXPECT_EQ(refused.load(), 0u);
  EXPECT_EQ(pool.stats().live_pages, 0u);
  EXPECT_EQ(pool.stats().late_frees, 0u);
  EXPECT_TRUE(pool.CheckInvariants());
  pool.Trim();
  EXPECT_EQ(iova.stats().live, 0u);
}

// Two chunks of one allocator, for the deterministic scheduler.
class TwoChunks {
 public:
  Result<Iova> Allocate(std::uint64_t pages, const Constraints&) {
    if (given_ == 2) return Error::kNoSpace;
    return Iova(given_++ * (pages << 12));
  }
  Result<void> Free(Iova, std::uint64_t) { return Ok(); }
  PageSize page_size() const { return PageSize(); }

 private:
  std::uint64_t given_ = 0;
};

// The other thread frees two pages, of two words and chunks or of one; the
// owner collects meanwhile and hands out what it got.
sched::Body FreeAgainstCollect(std::size_t second) {
  return [second] {
    TwoChunks chunks;
    LocalityPool<TwoChunks, sched::Atomic> pool(chunks);
    (void)pool.Init({.chunk_pages = 64, .max_chunks = 2});
    std::array<Iova, 128> page;
    for (Iova& p : page) p = *pool.Allocate();
    std::array<sched::Plain<int>, 128> contents;
    sched::Plain<std::uint64_t> taken{0};
    const auto free = [&](std::size_t i) {
      contents[i] = 1;
      sched::Check(pool.FreeRemotely(page[i]).ok(), "a free is refused");
    };
    sched::RunThreads(
        {[&] {
           free(0);
           free(second);
         },
         [&] {
           for (int i = 0; i < 2; ++i) {
             const Result<Iova> a = pool.Allocate();
             if (!a.ok()) continue;
             contents[a->value() >> 12] = 2;
             ++taken;
             sched::Check(*a == page[0] || *a == page[second], "a live page");
           }
         }},
        [&] {
          pool.Collect();
          sched::Check(pool.CheckInvariants(), "invariants");
          const LocalityStats s = pool.stats();
          sched::Check(s.late_frees == 0, "late");
          sched::Check(s.live_pages == 126 + taken.Get(), "a free is lost");
        });
  };
}

TEST(LocalitySched, FreeAgainstCollect) {
  for (const std::size_t second : {std::size_t{1}, std::size_t{70}}) {
    const sched::Report report = sched::Explore(
        {.name = "free_collect", .preemptions = 2}, FreeAgainstCollect(second));
    EXPECT_TRUE(report.ok && report.complete) << report;
  }
}

// Two threads free one page at the same instant, the owner looks on.
TEST(LocalitySched, OneOfTwoFreesSucceeds) {
  const sched::Report report = sched::Explore({.name = "double_free"}, [] {
    TwoChunks chunks;
    LocalityPool<TwoChunks, sched::Atomic> pool(chunks);
    (void)pool.Init({.chunk_pages = 64, .max_chunks = 2});
    const Iova page = *pool.Allocate();
    std::array<sched::Plain<int>, 2> taken = {0, 0};
    const auto work = [&] {
      taken[sched::ThreadIndex()] = pool.FreeRemotely(page).ok() ? 1 : 0;
    };
    sched::RunThreads({work, work}, [&] {
      sched::Check(taken[0] + taken[1] == 1, "exactly one");
      pool.Collect();
      sched::Check(pool.stats().live_pages == 0, "lost");
      sched::Check(!pool.FreeRemotely(page).ok(), "a third free");
    });
  });
  EXPECT_TRUE(report.ok && report.complete) << report;
}

// Negative control: each order of the way back is needed.
TEST(LocalitySched, EachOrderIsNeeded) {
  struct Weak {
    const char* function;
    const char* access;
  };
  for (const Weak& weak :
       {Weak{"FreeRemotely", "fetch_or"}, Weak{"Collect", "load"},
        Weak{"NotePending", "exchange"}, Weak{"TakeAll", "exchange"},
        Weak{"TakeMarkOff", "exchange"}}) {
    bool found = false;
    for (const std::size_t second : {std::size_t{1}, std::size_t{70}}) {
      found = found || !sched::Explore({.weaken = {.function = weak.function,
                                                   .access = weak.access}},
                                       FreeAgainstCollect(second))
                            .ok;
    }
    EXPECT_TRUE(found) << weak.function;
  }
}

}  // namespace
}  // namespace dmamap
