// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Threads that map and unmap neighbours, while others free the tables that were
// taken out; threads that invalidate while the queue is made anew.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <random>
#include <thread>
#include <vector>

#include "bounce/page_source.h"
#include "dma/address.h"
#include "dma/direction.h"
#include "iommu/bus_memory.h"
#include "iommu/second_level.h"
#include "iommu/vtd.h"

namespace dmamap {
namespace {

struct SmallTables : SecondLevelPolicies {
  static constexpr unsigned kIndexBits = 4;
  static constexpr std::size_t kLocks = 4;
};
using Tables = SecondLevel<LinearMemory<HeapPages>, SmallTables>;

// Each thread has every fourth page, or every fourth region, of 512 pages.
void RunThreads(bool regions) {
  constexpr std::size_t kThreads = 3;
  constexpr std::uint64_t kPages = 512;
  LinearMemory<HeapPages> memory;
  Tables tables;
  ASSERT_TRUE(tables.Init(&memory, {.levels = 4}).ok());
  std::atomic<bool> failed{false};
  const auto one = [&](std::size_t thread) {
    std::minstd_rand random(static_cast<unsigned>(thread) + 1);
    std::array<bool, kPages> mapped{};
    for (int i = 0; i < 4000; ++i) {
      std::uint64_t n = random() % kPages;
      n = regions ? (n & ~std::uint64_t{0x30}) | thread << 4
                  : (n & ~std::uint64_t{3}) | thread;
      const Range page = *Range::FromSize(Iova(n << 12), 4096);
      bool good = true;
      if (mapped[n]) {
        const auto found = tables.Lookup(page.first());
        good = found.ok() && found->bus.value() == (n + 0x400) << 12 &&
               tables.Unmap(page).ok();
        Tables::Batch batch;
        if (i % 3 == 0 && tables.TakeRetired(page, &batch)) {
          if (i % 2 == 0) {
            tables.FreeRetired(&batch);
          } else {
            tables.PutBackRetired(&batch);
          }
        }
      } else {
        std::uint64_t bytes = 0;
        good = tables
                   .Map(page, PhysAddr((n + 0x400) << 12), Permission::kRead,
                        &bytes)
                   .ok();
        (void)tables.MayRemember(page);
      }
      mapped[n] = !mapped[n];
      if (!good) failed = true;
    }
    for (std::uint64_t n = 0; n < kPages; ++n) {
      if (!mapped[n]) continue;
      if (!tables.Unmap(*Range::FromSize(Iova(n << 12), 4096)).ok()) {
        failed = true;
      }
    }
  };
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < kThreads; ++t) threads.emplace_back(one, t);
  for (std::thread& t : threads) t.join();
  EXPECT_FALSE(failed);
  EXPECT_TRUE(tables.CheckInvariants());
  Tables::Batch batch;
  if (tables.TakeRetired(Range::Whole(), &batch)) tables.FreeRetired(&batch);
  const SecondLevelStats s = tables.stats();
  EXPECT_EQ(s.tables_made - s.tables_freed, 1u);
  EXPECT_EQ(s.tables_retired, 0u);
  EXPECT_EQ(s.spares, 0u);
}

// Threads that own every fourth page, or every fourth region, of two leaves of
// level 3: these are split and made again all the time.
void MergeAndSplit(bool regions) {
  constexpr std::size_t kThreads = 4;
  constexpr std::uint64_t kRegion = 16;
  constexpr std::uint64_t kPages = 512;
  LinearMemory<HeapPages> memory;
  Tables tables;
  ASSERT_TRUE(tables.Init(&memory, {.levels = 4}).ok());
  std::atomic<bool> failed{false};
  const auto at = [](std::uint64_t n, std::uint64_t pages) {
    return *Range::FromSize(Iova(n << 12), pages << 12);
  };
  const auto map = [&](std::uint64_t n, std::uint64_t pages) {
    std::uint64_t bytes = 0;
    return tables
        .Map(at(n, pages), PhysAddr((n + 0x400) << 12), Permission::kRead,
             &bytes)
        .ok();
  };
  const auto one = [&](std::size_t thread, unsigned round) {
    std::minstd_rand random(static_cast<unsigned>(thread) + 1 + 4 * round);
    for (int i = 0; i < 60; ++i) {
      const std::uint64_t region = random() % (kPages / kRegion);
      bool good = true;
      std::uint64_t last = 0;
      for (const bool back : {false, true}) {
        for (std::uint64_t k = 0; k < kRegion; ++k) {
          const std::uint64_t n = region * kRegion + k;
          if ((regions ? region : n) % kThreads != thread) continue;
          last = n;
          good = good && (back ? map(n, 1) : tables.Unmap(at(n, 1)).ok());
        }
        Tables::Batch batch;
        if (tables.TakeRetired(at(last, 1), &batch)) {
          (void)tables.Widen(at(last, 1));
          if (i % 4 == 0) {
            tables.PutBackRetired(&batch);
          } else {
            tables.FreeRetired(&batch);
          }
        }
      }
      const auto found = tables.Lookup(Iova(last << 12));
      const std::uint64_t want = (last + 0x400) << 12;
      if (last != 0 && !(found.ok() && found->bus.value() == want))
        good = false;
      if (!good) failed = true;
    }
  };
  for (unsigned round = 0; round < 20; ++round) {
    ASSERT_TRUE(map(0, kPages));
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t < kThreads; ++t)
      threads.emplace_back(one, t, round);
    for (std::thread& t : threads) t.join();
    EXPECT_TRUE(tables.CheckInvariants());
    ASSERT_TRUE(tables.Unmap(at(0, kPages)).ok());
    Tables::Batch batch;
    if (tables.TakeRetired(Range::Whole(), &batch)) tables.FreeRetired(&batch);
  }
  EXPECT_FALSE(failed);
  const SecondLevelStats s = tables.stats();
  EXPECT_EQ(s.tables_made - s.tables_freed, 1u);
  EXPECT_EQ(s.tables_retired + s.spares + s.tables_empty, 0u);
  EXPECT_GT(s.merges, 100u);
  EXPECT_GT(s.splits, 100u);
}

// Registers of a unit that answers waits in the write of the tail, unless it is
// mute; thread-safe.
class TinyUnit {
 public:
  std::atomic<bool> mute{false};

  std::uint32_t Read32(std::uint32_t at) {
    return at == 0x1c ? status_.load() : 0;
  }
  std::uint64_t Read64(std::uint32_t at) {
    if (at == 0x10) return 3;  // coherent, and has a queue
    if (at != 0x08) return 0;
    return 6 | 6u << 8 | std::uint64_t{47} << 16 | std::uint64_t{0x22} << 24 |
           std::uint64_t{1} << 39 | std::uint64_t{18} << 48;
  }
  void Write32(std::uint32_t at, std::uint32_t value) {
    if (at != 0x18) return;
    status_ = (status_ & 0x4000'0000u) | (value & 0xc400'0000u);
    if ((value & 0x0400'0000u) == 0) head_ = 0;
  }
  void Write64(std::uint32_t at, std::uint64_t value) {
    if (at == 0x90) queue_ = value;
    if (at != 0x88 || (status_ & 0x0400'0000u) == 0) return;
    for (; head_ != (value >> 4 & 255); head_ = (head_ + 1) & 255) {
      const auto* const d = reinterpret_cast<const std::uint64_t*>(
          PointerTo(PhysAddr(queue_ + head_ * 16)));
      if ((d[0] & 15) != 5 || mute) continue;
      // release: what came before the wait is done.
      std::atomic_ref<std::uint32_t>(
          *reinterpret_cast<std::uint32_t*>(PointerTo(PhysAddr(d[1]))))
          .store(static_cast<std::uint32_t>(d[0] >> 32),
                 std::memory_order_release);
    }
  }

 private:
  std::atomic<std::uint64_t> queue_{0};
  std::atomic<std::uint64_t> head_{0};
  std::atomic<std::uint32_t> status_{0};
};

TEST(VtdConcurrent, RecoverBesideInvalidations) {
  using Unit = VtdUnit<TinyUnit, LinearMemory<HeapPages>>;
  TinyUnit registers;
  LinearMemory<HeapPages> memory;
  Unit unit;
  ASSERT_TRUE(unit.Init(&registers, &memory, {.polls = 2000}).ok());
  VtdSpace<Unit> space;
  ASSERT_TRUE(space.Init(&unit, {.address_bits = 48}).ok());
  const Range page = *Range::FromSize(Iova(0x1000), 4096);
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> good{0};
  std::atomic<std::uint64_t> bad{0};
  const auto invalidate = [&] {
    while (!stop) ++(space.Invalidate(page).ok() ? good : bad);
  };
  std::thread first(invalidate);
  std::thread second(invalidate);
  for (int i = 0; i < 100; ++i) {
    registers.mute = true;
    std::this_thread::sleep_for(std::chrono::microseconds(200));
    registers.mute = false;
    EXPECT_TRUE(unit.Recover().ok());
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  stop = true;
  first.join();
  second.join();
  EXPECT_TRUE(unit.Recover().ok());
  EXPECT_TRUE(space.Invalidate(page).ok());
  EXPECT_TRUE(unit.CheckInvariants());
  EXPECT_GT(good, 0u);
  EXPECT_GT(bad, 0u);
}

TEST(SecondLevelConcurrent, MergeAndSplitByPage) { MergeAndSplit(false); }
TEST(SecondLevelConcurrent, MergeAndSplitByRegion) { MergeAndSplit(true); }
TEST(SecondLevelConcurrent, NeighboursInOneTable) { RunThreads(false); }
TEST(SecondLevelConcurrent, NeighboursInOneTableAbove) { RunThreads(true); }

}  // namespace
}  // namespace dmamap
