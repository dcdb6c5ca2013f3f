// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// One stress body for every PageSource: threads allocate, mark, check and free
// pages while the source gives memory back. Nobody ever sees another's mark,
// and everything comes back.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#include "bounce/huge_pages.h"
#include "bounce/memfd_pages.h"
#include "bounce/page_calls_for_test.h"
#include "bounce/page_source.h"
#include "bounce/user_pages.h"
#include "dma/address.h"
#include "dma/sync.h"

namespace dmamap {
namespace {

using testing_parts::AllAre;
using testing_parts::AllZero;

constexpr std::uint64_t kUnit = 4096;
constexpr int kThreads = 4;
constexpr int kRounds = 1000;

// Runs the threads, all at once, and reports what went wrong in them.
void Stress(const std::function<bool(int)>& body) {
  std::atomic<int> wrong{0};
  std::atomic<int> ready{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      ++ready;
      while (ready != kThreads) std::this_thread::yield();
      if (!body(t)) ++wrong;
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
}

// A few blocks at a time, of 1 to 5 pages. `may_fail`: the errors that are no
// mistake. False at the first thing that is wrong.
template <class Source>
bool Use(
    Source& source, int thread, Error may_fail,
    const std::function<void()>& after_failure = [] {}) {
  struct Block {
    std::byte* data = nullptr;
    std::uint64_t pages = 0;
  };
  std::array<Block, 4> live;
  const auto mark = static_cast<std::byte>(thread + 1);
  const PageSize page;
  const auto end = [&](Block& b) {
    const bool mine = AllAre(b.data, b.pages * kUnit, mark);
    source.Free(b.data, page, b.pages);
    b = Block();
    return mine;
  };
  bool good = true;
  for (int i = 0; i < kRounds && good; ++i) {
    Block& b = live[static_cast<std::size_t>(i * 7 + thread) % live.size()];
    if (b.data != nullptr) {
      good = end(b);
      continue;
    }
    const auto pages = static_cast<std::uint64_t>(1 + (i + thread) % 5);
    const auto got = source.Allocate(page, pages);
    if (!got.ok()) {
      good = got.error() == may_fail;
      after_failure();
      continue;
    }
    good = AllZero(*got, pages * kUnit);
    std::memset(*got, static_cast<int>(mark),
                static_cast<std::size_t>(pages * kUnit));
    b = {*got, pages};
  }
  for (Block& b : live) {
    if (b.data != nullptr) good = end(b) && good;
  }
  return good;
}

TEST(PagesStress, Heap) {
  HeapPages pages(40 * kUnit);
  Stress([&](int t) { return Use(pages, t, kOverBudget); });
  EXPECT_EQ(pages.in_use(), 0u);
  EXPECT_LE(pages.high_water(), 40 * kUnit);
  EXPECT_TRUE(pages.CheckInvariants());
}

TEST(PagesStress, Huge) {
  HugePages pages;
  HugePagesOptions options;
  options.capacity = 1;  // rounded up to one piece
  options.budget = 40 * kUnit;
  options.keep = 0;
  ASSERT_TRUE(pages.Init(options).ok());
  Stress([&](int t) {
    const bool good = Use(pages, t, kOverBudget);
    (void)pages.Trim();
    return good;
  });
  EXPECT_EQ(pages.in_use(), 0u);
  EXPECT_LE(pages.high_water(), 40 * kUnit);
  EXPECT_TRUE(pages.CheckInvariants());
}

// Each thread wants half of the memory and there are enough for all but one or
// two: nobody may be told that the pool is empty while a piece is on its way
// back to the system. (Without waiting for it, this fails.)
TEST(PagesStress, NobodyIsRefusedWhatIsUnderWay) {
  HugePages pages;
  HugePagesOptions options;
  options.capacity = std::uint64_t{kThreads} << kHugePageShift;
  options.keep = 0;
  ASSERT_TRUE(pages.Init(options).ok());
  Stress([&](int) {
    for (int i = 0; i < 50; ++i) {
      const auto got = pages.Allocate(PageSize(), 512);
      if (!got.ok()) return false;
      (*got)[0] = std::byte{1};
      pages.Free(*got, PageSize(), 512);
    }
    return true;
  });
  EXPECT_EQ(pages.stats().kept, 0u);
  EXPECT_TRUE(pages.CheckInvariants());
}

TEST(PagesStress, Memfd) {
  for (const std::uint64_t keep : {std::uint64_t{0}, 8 * kUnit}) {
    MemfdPages pages;
    MemfdPagesOptions options;
    options.capacity = 1;
    options.budget = 40 * kUnit;
    options.keep = keep;
    ASSERT_TRUE(pages.Init(options).ok());
    Stress([&](int t) {
      const bool good = Use(pages, t, kOverBudget);
      (void)pages.Trim();
      return good;
    });
    EXPECT_EQ(pages.in_use(), 0u);
    EXPECT_TRUE(pages.CheckInvariants());
  }
}

// Half of the threads withdraw the memory whenever they can; the others bring
// it back when they miss it.
TEST(PagesStress, User) {
  constexpr std::align_val_t kAlign{4096};
  auto* const memory =
      static_cast<std::byte*>(::operator new(80 * kUnit, kAlign));
  const std::array regions = {UserRegion{memory, 40 * kUnit},
                              UserRegion{memory + 40 * kUnit, 40 * kUnit}};
  // At most 40 pages in 8 blocks are out, so that 5 in a row are always there.
  UserPages pages;
  std::atomic<int> withdrawn{0};
  Stress([&](int t) {
    if (t % 2 == 0) {
      return Use(pages, t, Error::kShutDown, [&] {
        (void)pages.Register({.regions = regions, .pages = 80}).ok();
      });
    }
    for (int i = 0; i < 10 * kRounds; ++i) {
      const auto out = pages.Withdraw();
      if (out.ok()) {
        ++withdrawn;
      } else if (out.error() != Error::kBusy &&
                 out.error() != Error::kShutDown) {
        return false;
      }
    }
    return true;
  });
  if (pages.registered()) {
    EXPECT_TRUE(pages.Withdraw().ok());
    ++withdrawn;
  }
  EXPECT_GT(withdrawn, 0);
  EXPECT_GT(pages.high_water(), 0u);
  EXPECT_EQ(pages.in_use(), 0u);
  EXPECT_TRUE(pages.CheckInvariants());
  ::operator delete(memory, kAlign);
}

// All threads free the same block: one of them did.
TEST(PagesStress, ABlockComesBackOnce) {
  MemfdPages pages;
  ASSERT_TRUE(pages.Init({}).ok());
  for (int round = 0; round < 50; ++round) {
    const auto got = pages.Allocate(PageSize(), 2);
    ASSERT_TRUE(got.ok());
    Stress([&](int) {
      pages.Free(*got, PageSize(), 2);
      return true;
    });
    ASSERT_EQ(pages.in_use(), 0u);
  }
  EXPECT_EQ(pages.stats().bad_frees, 50u * (kThreads - 1));
  EXPECT_TRUE(pages.CheckInvariants());
}

}  // namespace
}  // namespace dmamap
