// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "dma/cpu.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <set>
#include <thread>
#include <vector>

namespace dmamap {
namespace {

TEST(SlotNumbers, LowestFreeNumberFirst) {
  SlotNumbers<> numbers;
  EXPECT_EQ(numbers.Take(), 0u);
  EXPECT_EQ(numbers.Take(), 1u);
  EXPECT_EQ(numbers.Take(), 2u);
  numbers.Return(1);
  EXPECT_EQ(numbers.Take(), 1u);
  EXPECT_EQ(numbers.Take(), 3u);
}

TEST(SlotNumbers, SaysWhenAllAreTaken) {
  SlotNumbers<> numbers;
  std::set<std::size_t> seen;
  for (std::size_t i = 0; i < SlotNumbers<>::kCapacity; ++i) {
    EXPECT_TRUE(seen.insert(numbers.Take()).second);
  }
  EXPECT_EQ(*seen.rbegin(), SlotNumbers<>::kCapacity - 1);
  EXPECT_EQ(numbers.Take(), kNoSlot);
  numbers.Return(777);
  EXPECT_EQ(numbers.Take(), 777u);
}

TEST(SlotNumbers, NoNumberIsHeldTwice) {
  SlotNumbers<> numbers;
  std::vector<std::atomic<int>> held(SlotNumbers<>::kCapacity);
  std::vector<long> plain(SlotNumbers<>::kCapacity);  // guarded by ownership
  std::atomic<int> clashes{0};
  std::vector<std::thread> pool;
  for (int t = 0; t < 4; ++t) {
    pool.emplace_back([&] {
      for (int i = 0; i < 5000; ++i) {
        const std::size_t n = numbers.Take();
        if (held[n].exchange(1, std::memory_order_relaxed) != 0) ++clashes;
        plain[n] += 1;  // a race here is what TSan looks for
        held[n].store(0, std::memory_order_relaxed);
        numbers.Return(n);
      }
    });
  }
  for (std::thread& t : pool) t.join();
  EXPECT_EQ(clashes.load(), 0);
  long total = 0;
  for (long n : plain) total += n;
  EXPECT_EQ(total, 20000);
}

TEST(ThreadSlots, AThreadKeepsItsSlotAndSharesItWithNobody) {
  ThreadSlots cpu;
  const std::size_t mine = cpu.Acquire();
  ASSERT_NE(mine, kNoSlot);
  EXPECT_EQ(cpu.Acquire(), mine);
  std::size_t theirs = kNoSlot;
  std::thread([&] { theirs = cpu.Acquire(); }).join();
  EXPECT_NE(theirs, mine);
}

TEST(ThreadSlots, ASlotIsReusedAfterItsThreadExits) {
  ThreadSlots cpu;
  (void)cpu.Acquire();
  std::size_t first = kNoSlot, second = kNoSlot;
  std::thread([&] { first = cpu.Acquire(); }).join();
  std::thread([&] { second = cpu.Acquire(); }).join();
  EXPECT_EQ(first, second);
}

TEST(ThreadSlots, MoreThreadsThanSlotsGetNoSlot) {
  ThreadSlots cpu(1);
  EXPECT_EQ(cpu.slots(), 1u);
  (void)ThreadSlots().Acquire();  // this thread holds some number
  std::atomic<int> with_slot{0};
  std::atomic<int> arrived{0};
  std::vector<std::thread> pool;
  for (int t = 0; t < 3; ++t) {
    pool.emplace_back([&] {
      if (cpu.Acquire() != kNoSlot) ++with_slot;
      ++arrived;
      while (arrived.load() < 3) std::this_thread::yield();
    });
  }
  for (std::thread& t : pool) t.join();
  EXPECT_LE(with_slot.load(), 1);
}

struct RetireLog {
  std::vector<std::size_t> slots;
  SlotListener listener{&RetireLog::OnRetire, this};
  static void OnRetire(void* self, std::size_t slot) {
    static_cast<RetireLog*>(self)->slots.push_back(slot);
  }
};

TEST(ThreadSlots, ListenersHearOfAThreadsExit) {
  ThreadSlots cpu;
  RetireLog log;
  cpu.Subscribe(log.listener);
  std::size_t theirs = kNoSlot;
  std::thread([&] { theirs = cpu.Acquire(); }).join();
  cpu.Unsubscribe(log.listener);
  EXPECT_EQ(log.slots, std::vector<std::size_t>{theirs});
  std::thread([&] { (void)cpu.Acquire(); }).join();
  EXPECT_EQ(log.slots.size(), 1u);  // no more after Unsubscribe
}

// While listeners still deal with what a thread left in its slot, no other
// thread gets that slot.
TEST(ThreadSlots, ASlotIsNobodysUntilItsListenersAreDone) {
  struct Meanwhile {
    ThreadSlots cpu;
    std::atomic<std::size_t> theirs{kNoSlot};
    std::thread other;
  } meanwhile;
  SlotListener listener(
      [](void* self, std::size_t) {
        auto& m = *static_cast<Meanwhile*>(self);
        if (m.other.joinable()) return;  // this is that thread's own exit
        m.other = std::thread([&m] { m.theirs = m.cpu.Acquire(); });
        while (m.theirs == kNoSlot) std::this_thread::yield();
      },
      &meanwhile);
  meanwhile.cpu.Subscribe(listener);
  std::size_t exited = kNoSlot;
  std::thread([&] { exited = meanwhile.cpu.Acquire(); }).join();
  meanwhile.other.join();
  meanwhile.cpu.Unsubscribe(listener);
  EXPECT_NE(exited, kNoSlot);
  EXPECT_NE(meanwhile.theirs, exited);
}

// A thread-local object whose destructor runs after the slot has gone.
struct LateUser {
  ThreadSlots* cpu = nullptr;
  std::size_t* seen = nullptr;
  ~LateUser() {
    if (seen != nullptr) *seen = cpu->Acquire();
  }
};

TEST(ThreadSlots, AfterTheSlotHasGoneThereIsNone) {
  ThreadSlots cpu;
  std::size_t seen = 0;
  std::thread([&] {
    static thread_local LateUser late;  // made first, so destroyed last
    late.cpu = &cpu;
    late.seen = &seen;
    (void)cpu.Acquire();
  }).join();
  EXPECT_EQ(seen, kNoSlot);
}

TEST(CallerCpu, TakesTheEmbeddersNumber) {
  std::size_t number = 3;
  CallerCpu cpu(4, [&number] { return number; });
  static_assert(CpuLocal<decltype(cpu)>);
  EXPECT_EQ(cpu.Acquire(), 3u);
  number = 4;
  EXPECT_EQ(cpu.Acquire(), kNoSlot);
  RetireLog log;
  cpu.Subscribe(log.listener);
  cpu.Retire(2);
  cpu.Unsubscribe(log.listener);
  EXPECT_EQ(log.slots, std::vector<std::size_t>{2});
}

TEST(FakeCpu, PlaysAnyCpuAndBalancesReleases) {
  FakeCpu cpu(2);
  cpu.set_current(1);
  {
    SlotGuard slot(cpu);
    EXPECT_EQ(slot.slot(), 1u);
    EXPECT_TRUE(cpu.held());
  }
  EXPECT_FALSE(cpu.held());
  cpu.set_current(kNoSlot);
  SlotGuard none(cpu);
  EXPECT_EQ(none.slot(), kNoSlot);
  EXPECT_FALSE(cpu.held());
}

}  // namespace
}  // namespace dmamap
