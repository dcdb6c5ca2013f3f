// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// FlushQueue under the deterministic scheduler: the shipped source, every order
// of two threads, every value that the memory model lets a load return. The
// allocator behind it is a small one that notes what it is given; the device
// holds on to old translations.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "dma/address.h"
#include "dma/cpu.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "iova/flush_queue.h"
#include "testing/sched/explore.h"

namespace dmamap {
namespace {

constexpr std::uint64_t kPages = 3;

// A failed execution leaves its threads where they are, with the locks that
// they hold; the queue's destructor still has to come to an end.
class SchedLock : public BasicSpinLock<sched::Atomic> {
 public:
  void lock() {
    const sched::Engine* engine = sched::Engine::Current();
    if (engine == nullptr || !engine->failed()) BasicSpinLock::lock();
  }
};

struct SchedPolicy : FlushQueuePolicy {
  template <class T>
  using Atom = sched::Atomic<T>;
  using Lock = SchedLock;
  using FlushLock = SchedLock;
};

// Negative controls, as in flush_queue_property_test.cc.
template <template <class> class Atom, class LockType>
class LateRing : public FlushRing<Atom, LockType> {
  using Base = FlushRing<Atom, LockType>;

 public:
  static std::unique_ptr<LateRing> Make(std::uint64_t capacity) {
    return std::unique_ptr<LateRing>(new LateRing(capacity));
  }
  void Publish() {
    Base::Snapshot();
    Base::Publish();
  }

 private:
  using Base::Base;
};
struct LatePolicy : SchedPolicy {
  template <template <class> class Atom, class LockType>
  using Ring = LateRing<Atom, LockType>;
};

struct ThreadNumber {
  std::size_t operator()() const { return sched::ThreadIndex(); }
};

// Page tables, what the device remembers of them, and the allocator.
class World {
 public:
  void Unmap(std::uint64_t page) {
    mapped_[page].store(0, std::memory_order_relaxed);
  }
  Result<void> Invalidate(Range) { return InvalidateAll(); }
  Result<void> InvalidateAll() {
    for (std::uint64_t page = 0; page < kPages; ++page) {
      remembered_[page].store(mapped_[page].load(std::memory_order_relaxed),
                              std::memory_order_relaxed);
    }
    return Ok();
  }

  // The allocator.
  Result<void> Retire(Iova first, std::uint64_t) {
    return At(first).exchange(1, std::memory_order_relaxed) == 0
               ? Ok()
               : Result<void>(Error::kDoubleFree);
  }
  Result<void> Release(Iova first, std::uint64_t pages) {
    const int remembered =
        remembered_[first.value()].load(std::memory_order_relaxed);
    sched::Check(remembered == 0, "released while the device remembers it");
    sched::Check(pages == first.value() + 1, "an entry is torn");
    const int before = At(first).exchange(2, std::memory_order_relaxed);
    sched::Check(before == 1, "released twice");
    return Ok();
  }
  Result<void> Restore(Iova, std::uint64_t) { return Ok(); }
  PageSize page_size() const { return PageSize(); }
  CallerCpu<ThreadNumber>& cpu() { return cpu_; }

  bool released(std::uint64_t page) {
    return At(Iova(page)).load(std::memory_order_relaxed) == 2;
  }

 private:
  // 0 live, 1 retired, 2 released.
  sched::Atomic<int>& At(Iova page) { return state_[page.value()]; }

  CallerCpu<ThreadNumber> cpu_{2, ThreadNumber()};
  std::array<sched::Atomic<int>, kPages> state_ = {0, 0, 0};
  std::array<sched::Atomic<int>, kPages> mapped_ = {1, 1, 1};
  std::array<sched::Atomic<int>, kPages> remembered_ = {1, 1, 1};
};

template <class Policy>
using Queue = FlushQueue<World, World, Policy>;

template <class Policy>
void UnmapAndFree(World& world, Queue<Policy>& queue, std::uint64_t page) {
  world.Unmap(page);
  sched::Check(queue.Free(Iova(page), page + 1).ok(), "a free is refused");
}

// One thread frees two ranges, the other drains. `entries` 1: the second free
// has to drain too.
template <class Policy = SchedPolicy>
sched::Body FreeAgainstDrain(std::uint32_t entries) {
  return [entries] {
    World world;
    Queue<Policy> queue(world, world);
    (void)queue.Init({.entries = entries, .max_age = 0});
    sched::RunThreads({[&] {
                         UnmapAndFree<Policy>(world, queue, 0);
                         UnmapAndFree<Policy>(world, queue, 1);
                       },
                       [&] { sched::Check(queue.Drain().ok(), "drain"); }},
                      [&] {
                        sched::Check(queue.CheckInvariants(), "invariants");
                        sched::Check(queue.Drain().ok(), "the last drain");
                        sched::Check(world.released(0) && world.released(1),
                                     "an entry is lost");
                      });
  };
}

// Both free and both drain: what a thread has freed is released when its own
// Drain returns, whoever invalidated for it.
template <class Policy = SchedPolicy>
sched::Body BothDrain() {
  return [] {
    World world;
    Queue<Policy> queue(world, world);
    (void)queue.Init({.entries = 2, .max_age = 0});
    const auto work = [&] {
      const std::uint64_t mine = sched::ThreadIndex();
      UnmapAndFree<Policy>(world, queue, mine);
      sched::Check(queue.Drain().ok(), "drain");
      sched::Check(world.released(mine), "queued after its own drain");
    };
    sched::RunThreads({work, work}, [&] {
      sched::Check(queue.CheckInvariants(), "invariants");
    });
  };
}

// A slot loses its owner while the other thread has to invalidate.
sched::Body ExitAgainstFlush() {
  return [] {
    World world;
    Queue<SchedPolicy> queue(world, world);
    (void)queue.Init({.entries = 1, .max_age = 0});
    sched::RunThreads({[&] {
                         UnmapAndFree<SchedPolicy>(world, queue, 0);
                         world.cpu().Retire(0);
                       },
                       [&] {
                         UnmapAndFree<SchedPolicy>(world, queue, 1);
                         UnmapAndFree<SchedPolicy>(world, queue, 2);
                       }},
                      [&] {
                        sched::Check(queue.CheckInvariants(), "invariants");
                        sched::Check(world.released(1),
                                     "a full ring was not drained");
                        sched::Check(queue.Drain().ok(), "the last drain");
                        sched::Check(world.released(0) && world.released(2),
                                     "an entry is lost");
                      });
  };
}

// Two threads free the same range at the same instant.
sched::Body DoubleFree() {
  return [] {
    World world;
    Queue<SchedPolicy> queue(world, world);
    (void)queue.Init({.entries = 2, .max_age = 0});
    world.Unmap(0);
    std::array<sched::Plain<int>, 2> taken = {0, 0};
    const auto work = [&] {
      taken[sched::ThreadIndex()] = queue.Free(Iova(0), 1).ok() ? 1 : 0;
    };
    sched::RunThreads({work, work}, [&] {
      sched::Check(taken[0] + taken[1] == 1, "exactly one succeeds");
      sched::Check(queue.Drain().ok(), "drain");
    });
  };
}

TEST(FlushQueueSched, FreeAgainstDrain) {
  for (const std::uint32_t entries : {1u, 2u}) {
    const sched::Report report = sched::Explore(
        {.name = "free_drain", .preemptions = 2}, FreeAgainstDrain<>(entries));
    EXPECT_TRUE(report.ok && report.complete) << report;
    RecordProperty("executions", std::to_string(report.executions));
  }
}

// Too many executions to make them all.
TEST(FlushQueueSched, BothDrain) {
  const sched::Report report = sched::Explore({.name = "both_drain",
                                               .search = sched::Search::kRandom,
                                               .max_executions = 50000},
                                              BothDrain<>());
  EXPECT_TRUE(report.ok) << report;
}

TEST(FlushQueueSched, ExitAgainstFlush) {
  const sched::Report report =
      sched::Explore({.name = "exit", .preemptions = 2}, ExitAgainstFlush());
  EXPECT_TRUE(report.ok && report.complete) << report;
}

TEST(FlushQueueSched, DoubleFree) {
  const sched::Report report =
      sched::Explore({.name = "double_free", .preemptions = 2}, DoubleFree());
  EXPECT_TRUE(report.ok && report.complete) << report;
}

// Negative controls: the snapshot taken after the invalidation, and each order
// of the ring.
TEST(FlushQueueSched, ASnapshotTakenTooLateIsFound) {
  const sched::Report report =
      sched::Explore({}, FreeAgainstDrain<LatePolicy>(2));
  EXPECT_NE(report.failure.find("released while the device remembers it"),
            std::string::npos)
      << report;
}

TEST(FlushQueueSched, EachOrderOfTheRingIsNeeded) {
  for (const char* function : {"Push", "Snapshot", "Publish", "LoadFlushed",
                               "StoreHead", "LoadHead"}) {
    const sched::Options options = {.weaken = {.function = function}};
    const bool found = !sched::Explore(options, FreeAgainstDrain<>(1)).ok ||
                       !sched::Explore(options, BothDrain<>()).ok;
    EXPECT_TRUE(found) << function;
  }
}

}  // namespace
}  // namespace dmamap
