// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "dma/cpu.h"
#include "dma/rseq.h"
#include "iova/allocator.h"
#include "iova/buddy_store.h"
#include "iova/standard.h"

namespace dmamap {
namespace {

struct ExactPolicy : AllocatorPolicy {
  static constexpr FreeCheck kFreeCheck = FreeCheck::kExact;
};
struct SmallPolicy : AllocatorPolicy {  // often in the depot
  static constexpr std::size_t kMagazineEntries = 4;
  static constexpr std::uint32_t kTrimPeriod = 2;
};

constexpr std::uint64_t kPages = 1u << 14;

Range Window() {
  return *Range::FromFirstLast(Iova(0), Iova((kPages << 12) - 1));
}

// Who holds which page: a second owner is a fault of the allocator.
class Owners {
 public:
  bool Take(Iova first, std::uint64_t pages) {
    return Move(first, pages, 0, 1);
  }
  bool Give(Iova first, std::uint64_t pages) {
    return Move(first, pages, 1, 0);
  }

 private:
  bool Move(Iova first, std::uint64_t pages, std::uint8_t from,
            std::uint8_t to) {
    bool good = true;
    for (std::uint64_t i = 0; i < pages; ++i) {
      // relaxed: the test must not order what the allocator should.
      good &= held_[(first.value() >> 12) + i].exchange(
                  to, std::memory_order_relaxed) == from;
    }
    return good;
  }
  std::array<std::atomic<std::uint8_t>, kPages> held_ = {};
};

struct Held {
  Iova first;
  std::uint64_t pages;
};

// Ranges on their way from the thread that allocated to the one that frees.
class Belt {
 public:
  void Put(Held h) {
    const std::lock_guard<std::mutex> guard(mutex_);
    held_.push_back(h);
  }
  std::optional<Held> Get() {
    const std::lock_guard<std::mutex> guard(mutex_);
    if (held_.empty()) return std::nullopt;
    const Held h = held_.back();
    held_.pop_back();
    return h;
  }

 private:
  std::mutex mutex_;
  std::vector<Held> held_;
};

// One thread's life: allocates, frees its own and others' ranges, exits.
template <class Allocator>
void Live(Allocator& allocator, Owners& owners, Belt& belt, std::uint64_t seed,
          int turns, std::atomic<int>& faults) {
  std::uint64_t x = seed * 2654435761u + 88172645463325252ull;
  const auto next = [&x] {
    x ^= x << 13;
    x ^= x >> 7;
    return x ^= x << 17;
  };
  std::vector<Held> mine;
  const auto free = [&](Held h) {
    if (!owners.Give(h.first, h.pages)) ++faults;
    if (!allocator.Free(h.first, h.pages).ok()) ++faults;
  };
  for (int i = 0; i < turns; ++i) {
    const std::uint64_t dice = next();
    if (dice % 8 < 4 && mine.size() < 48) {
      const std::uint64_t pages =
          (dice >> 8) % 4 != 0 ? 1 : 1 + (dice >> 16) % 40;
      Constraints c;
      if ((dice >> 24) % 4 == 0) c.limit = Iova((kPages << 11) - 1);
      const Result<Iova> r = allocator.Allocate(pages, c);
      if (!r.ok()) {  // other threads may cache what is left
        if (r.error() != Error::kNoSpace) ++faults;
        continue;
      }
      if (*r + (pages << 12) - 1 > c.limit) ++faults;
      if (!owners.Take(*r, pages)) ++faults;
      mine.push_back({*r, pages});
    } else if (!mine.empty()) {
      const Held h = mine.back();
      mine.pop_back();
      if ((dice >> 8) % 2 == 0) {
        belt.Put(h);
      } else {
        free(h);
      }
    }
    if ((dice >> 40) % 4 == 0) {
      if (const std::optional<Held> h = belt.Get()) free(*h);
    }
    if ((dice >> 48) % 512 == 0) allocator.Trim();
  }
  for (Held h : mine) belt.Put(h);
}

// What may be cached when all threads have gone.
enum class Left : std::uint8_t { kNothing, kMagazines };

template <class Allocator>
void Stress(Allocator& allocator, int threads, int lives, int turns,
            Left left = Left::kNothing) {
  ASSERT_TRUE(allocator.Init({.window = Window(), .depot_limit = 4}).ok());
  auto owners = std::make_unique<Owners>();
  Belt belt;
  std::atomic<int> faults{0};
  std::vector<std::thread> running;
  for (int t = 0; t < threads; ++t) {
    running.emplace_back([&, t] {
      // Each life is a thread of its own: slots change owners all the time.
      for (int life = 0; life < lives; ++life) {
        std::thread([&] {
          Live(allocator, *owners, belt,
               static_cast<std::uint64_t>(t * 1000 + life + 1), turns, faults);
        }).join();
      }
    });
  }
  for (std::thread& t : running) t.join();
  while (const std::optional<Held> h = belt.Get()) {
    if (!owners->Give(h->first, h->pages)) ++faults;
    if (!allocator.Free(h->first, h->pages).ok()) ++faults;
  }
  EXPECT_EQ(faults, 0);
  EXPECT_TRUE(allocator.CheckInvariants());
  EXPECT_EQ(allocator.stats().live, 0u);
  EXPECT_EQ(allocator.stats().late_double_frees, 0u);
  allocator.Trim();
  const auto stats = allocator.stats();
  std::uint64_t pages = stats.free_pages;
  for (std::size_t c = 0; c < stats.size_class.size(); ++c) {
    pages += stats.size_class[c].cached << c;
  }
  EXPECT_EQ(pages, kPages);
  // A thread that ends leaves nothing behind; a CPU keeps its magazines.
  if (left == Left::kNothing) {
    EXPECT_EQ(stats.cached, 0u);
  }
}

TEST(AllocatorConcurrent, Standard) {
  auto a = std::make_unique<StandardAllocator>();
  Stress(*a, 4, 8, 2000);
}
TEST(AllocatorConcurrent, Exact) {
  auto a =
      std::make_unique<IovaAllocator<BuddyStore, ThreadSlots, ExactPolicy>>();
  Stress(*a, 4, 4, 2000);
}
TEST(AllocatorConcurrent, SmallMagazines) {
  auto a =
      std::make_unique<IovaAllocator<BuddyStore, ThreadSlots, SmallPolicy>>();
  Stress(*a, 4, 8, 2000);
}
TEST(AllocatorConcurrent, MoreThreadsThanSlots) {
  auto a =
      std::make_unique<IovaAllocator<BuddyStore, ThreadSlots, SmallPolicy>>(
          std::size_t{2});
  Stress(*a, 5, 4, 2000);
}

// Slots of CPUs: threads move between them, and are preempted with one in hand.
TEST(AllocatorConcurrent, SlotsOfCpus) {
  auto a = std::make_unique<IovaAllocator<BuddyStore, RseqSlots>>();
  Stress(*a, 4, 4, 2000, Left::kMagazines);
}
TEST(AllocatorConcurrent, SlotsOfCpusWithSmallMagazines) {
  auto a = std::make_unique<IovaAllocator<BuddyStore, RseqSlots, SmallPolicy>>(
      RseqOptions{.mode = RseqMode::kCpuId, .slots_per_cpu = 1});
  Stress(*a, 5, 4, 2000, Left::kMagazines);
}

// Waits until all of `n` threads are here. Yields: there may be fewer CPUs.
class Gate {
 public:
  explicit Gate(int n) : n_(n) {}
  void Wait() {
    const int turn = turn_.load();
    if (waiting_.fetch_add(1) + 1 == n_) {
      waiting_ = 0;
      turn_ = turn + 1;
      return;
    }
    while (turn_.load() == turn) std::this_thread::yield();
  }

 private:
  const int n_;
  std::atomic<int> waiting_{0};
  std::atomic<int> turn_{0};
};

struct Race {
  int both = 0;     // rounds in which both frees were told Ok
  int neither = 0;  // and in which none was
  int faults = 0;   // addresses handed out twice, wrong errors
};

// Two threads free the same address at the same instant, over and over, and
// then draw from both caches, where it may lie twice.
template <class Allocator>
Race RaceToFree(Allocator& allocator, int rounds) {
  EXPECT_TRUE(allocator.Init({.window = Window()}).ok());
  auto owners = std::make_unique<Owners>();
  Gate gate(2);
  Iova target;
  std::array<bool, 2> won = {};
  std::atomic<int> faults{0};
  Race race;
  const auto body = [&](std::size_t t) {
    for (int i = 0; i < rounds; ++i) {
      if (t == 0) target = *allocator.Allocate(1);
      gate.Wait();
      const Result<void> r = allocator.Free(target, 1);
      won[t] = r.ok();
      if (!r.ok() && r.error() != Error::kDoubleFree) ++faults;
      gate.Wait();
      if (t == 0 && won[0] && won[1]) ++race.both;
      if (t == 0 && !won[0] && !won[1]) ++race.neither;
      std::array<Iova, 3> drawn;
      for (Iova& p : drawn) {
        p = *allocator.Allocate(1);
        if (!owners->Take(p, 1)) ++faults;
      }
      gate.Wait();  // both hold theirs now
      for (Iova p : drawn) {
        if (!owners->Give(p, 1)) ++faults;
        if (!allocator.Free(p, 1).ok()) ++faults;
      }
    }
  };
  std::thread other(body, std::size_t{1});
  body(0);
  other.join();
  race.faults = faults;
  return race;
}

TEST(AllocatorConcurrent, OfExactRacingFreesOneSucceeds) {
  auto a =
      std::make_unique<IovaAllocator<BuddyStore, ThreadSlots, ExactPolicy>>();
  const Race race = RaceToFree(*a, 2000);
  EXPECT_EQ(race.both, 0);
  EXPECT_EQ(race.neither, 0);
  EXPECT_EQ(race.faults, 0);
  EXPECT_EQ(a->stats().late_double_frees, 0u);
  EXPECT_TRUE(a->CheckInvariants());
}

TEST(AllocatorConcurrent, ARaceThatWasMissedHandsNothingOutTwice) {
  auto a = std::make_unique<StandardAllocator>();
  const Race race = RaceToFree(*a, 2000);
  EXPECT_EQ(race.neither, 0);
  EXPECT_EQ(race.faults, 0);
  EXPECT_TRUE(a->CheckInvariants());
  a->Trim();
  // Each surplus entry was found when it came to the top, and dropped.
  EXPECT_EQ(a->stats().late_double_frees,
            static_cast<std::uint64_t>(race.both));
  EXPECT_EQ(a->stats().live, 0u);
  EXPECT_EQ(a->stats().free_pages, kPages);
  EXPECT_TRUE(a->CheckInvariants());
}

}  // namespace
}  // namespace dmamap
