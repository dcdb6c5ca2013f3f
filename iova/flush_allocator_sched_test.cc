// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// FlushQueue over the shipped allocator, under the deterministic scheduler:
// drains against allocations. The device holds on to old translations, and no
// page is handed out while it does.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "dma/address.h"
#include "dma/result.h"
#include "iova/flush_queue.h"
#include "iova/sched_model_for_test.h"
#include "testing/sched/explore.h"

namespace dmamap {
namespace {

constexpr const char* kEarly = "handed out while the device remembers it";

using UncheckedPolicy = SchedPolicy<FreeCheck::kOff>;

struct QueuePolicy : FlushQueuePolicy {
  template <class T>
  using Atom = sched::Atomic<T>;
  using Lock = SchedLock;
  using FlushLock = SchedLock;
};

// Negative control: the snapshot taken after the invalidation.
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
struct LateQueuePolicy : QueuePolicy {
  template <template <class> class Atom, class LockType>
  using Ring = LateRing<Atom, LockType>;
};

// Page tables of `kPages` pages, and what the device remembers of them.
template <std::size_t kPages>
class Device {
 public:
  void Map(Iova a) {
    Set(mapped_, a, 1);
    Set(remembered_, a, 1);
  }
  void Unmap(Iova a) { Set(mapped_, a, 0); }
  bool Remembers(Iova a) const { return Get(remembered_, a) != 0; }

  Result<void> Invalidate(Range range) {
    Forget(range.first());
    return Ok();
  }
  Result<void> InvalidateAll() {
    for (std::uint64_t page = 0; page < kPages; ++page)
      Forget(Iova(page << 12));
    return Ok();
  }

 private:
  using Bits = std::array<sched::Atomic<int>, kPages>;

  // relaxed: what orders them is the queue's task.
  static void Set(Bits& bits, Iova a, int value) {
    bits[a.value() >> 12].store(value, std::memory_order_relaxed);
  }
  static int Get(const Bits& bits, Iova a) {
    return bits[a.value() >> 12].load(std::memory_order_relaxed);
  }
  void Forget(Iova a) { Set(remembered_, a, Get(mapped_, a)); }

  Bits mapped_;
  Bits remembered_;
};

// What the queue sees of the allocator.
template <class Iovas>
class Whole {
 public:
  explicit Whole(Iovas& iova) : iova_(iova) {}
  Result<void> Retire(Iova a, std::uint64_t n) { return iova_.Retire(a, n); }
  Result<void> Release(Iova a, std::uint64_t n) { return iova_.Release(a, n); }
  Result<void> Restore(Iova a, std::uint64_t n) { return iova_.Restore(a, n); }
  PageSize page_size() const { return iova_.page_size(); }
  auto& cpu() { return iova_.cpu(); }

 protected:
  Iovas& iova_;
};
// Negative control: takes a range back at once instead of retiring it.
template <class Iovas>
class Eager : public Whole<Iovas> {
 public:
  using Whole<Iovas>::Whole;
  Result<void> Retire(Iova a, std::uint64_t n) {
    return this->iova_.Free(a, n);
  }
  Result<void> Release(Iova, std::uint64_t) { return Ok(); }
};

// Allocator, queue, device.
template <std::size_t kPages, class Policy, class Queue,
          template <class> class View>
class FlushWorld : public SchedWorld<Policy, kPages> {
  using Base = SchedWorld<Policy, kPages>;
  using Retiring = View<typename Base::Allocator>;

 public:
  explicit FlushWorld(const FlushQueueOptions& options) : Base(1) {
    sched::Check(queue_.Init(options).ok(), "the queue's Init");
  }

  auto& queue() { return queue_; }

  // Nothing when all pages are live, queued, or in another slot.
  std::vector<Iova> TakeAndMap() {
    const std::vector<Iova> taken = Base::TryTake();
    for (const Iova a : taken) {
      sched::Check(!device_.Remembers(a), kEarly);
      device_.Map(a);
    }
    return taken;
  }
  void UnmapAndGive(Iova a) {
    this->users().End(a);
    device_.Unmap(a);
    sched::Check(queue_.Free(a, 1).ok(), "a free is refused");
  }
  void Drain() { sched::Check(queue_.Drain().ok(), "drain"); }

  void CheckAllThere(const std::vector<Iova>& live) {
    sched::Check(queue_.CheckInvariants(), "the queue's invariants");
    Drain();
    sched::Check(queue_.stats().disowned == 0, "disowned");
    Base::CheckAllThere(live);
  }

 private:
  Device<kPages> device_;
  Retiring retiring_{this->iova()};
  FlushQueue<Retiring, Device<kPages>, Queue> queue_{retiring_, device_};
};

constexpr FlushQueueOptions kDeferred = {.entries = 1, .max_age = 0};
constexpr FlushQueueOptions kStrict = {.mode = FlushMode::kStrict};

// The only page: one thread frees it, the other drains and tries to get it.
template <class Policy = SchedPolicy<>, class Queue = QueuePolicy,
          template <class> class View = Whole>
sched::Body FreeAgainstDrain() {
  return [] {
    FlushWorld<1, Policy, Queue, View> world(kDeferred);
    world.iova().cpu().Play(0);
    const Iova mine = world.TakeAndMap().at(0);
    std::vector<Iova> taken;
    sched::RunThreads({[&] { world.UnmapAndGive(mine); },
                       [&] {
                         world.Drain();
                         taken = world.TakeAndMap();
                       }},
                      [&] { world.CheckAllThere(taken); });
  };
}

// The only page: one thread frees it, releases what the other's invalidation
// has made clean, and tries to get it.
template <class Policy = SchedPolicy<>>
sched::Body ReleaseAgainstDrain() {
  return [] {
    FlushWorld<1, Policy, QueuePolicy, Whole> world(kDeferred);
    world.iova().cpu().Play(0);
    const Iova mine = world.TakeAndMap().at(0);
    std::vector<Iova> taken;
    sched::RunThreads({[&] {
                         world.UnmapAndGive(mine);
                         sched::Check(world.queue().Poll().ok(), "poll");
                         taken = world.TakeAndMap();
                       },
                       [&] { world.Drain(); }},
                      [&] { world.CheckAllThere(taken); });
  };
}

// Two pages. With one entry the first thread's second free finds its ring full
// and invalidates, unless the other has; both allocate.
template <class Policy = SchedPolicy<>, class Queue = QueuePolicy,
          template <class> class View = Whole>
sched::Body TwoFreesAgainstDrain(std::uint32_t entries) {
  return [entries] {
    FlushWorld<2, Policy, Queue, View> world(
        {.entries = entries, .max_age = 0});
    world.iova().cpu().Play(0);
    const std::array<Iova, 2> mine = {world.TakeAndMap().at(0),
                                      world.TakeAndMap().at(0)};
    std::array<std::vector<Iova>, 2> taken;
    sched::RunThreads({[&] {
                         for (const Iova a : mine) world.UnmapAndGive(a);
                         taken[0] = world.TakeAndMap();
                       },
                       [&] {
                         world.Drain();
                         taken[1] = world.TakeAndMap();
                       }},
                      [&] {
                        taken[0].insert(taken[0].end(), taken[1].begin(),
                                        taken[1].end());
                        world.CheckAllThere(taken[0]);
                      });
  };
}

// The only page, and no slots, so that what the one thread frees is at once in
// the other's reach.
template <class Policy = SchedPolicy<>, class Queue = QueuePolicy,
          template <class> class View = Whole>
sched::Body FreeAgainstTake(const FlushQueueOptions& options) {
  return [options] {
    FlushWorld<1, Policy, Queue, View> world(options);
    const Iova mine = world.TakeAndMap().at(0);
    world.iova().cpu().TakeSlotsAway();
    std::vector<Iova> taken;
    sched::RunThreads({[&] {
                         world.UnmapAndGive(mine);
                         world.Drain();
                       },
                       [&] { taken = world.TakeAndMap(); }},
                      [&] { world.CheckAllThere(taken); });
  };
}

TEST(FlushAllocatorSched, FreeAgainstDrain) {
  ExploreAll("free_drain", 1, FreeAgainstDrain());
  ExploreAll("free_drain_off", 2, FreeAgainstDrain<UncheckedPolicy>());
}

TEST(FlushAllocatorSched, ReleaseAgainstDrain) {
  ExploreAll("release_drain", 2, ReleaseAgainstDrain<UncheckedPolicy>());
  ExploreAll("release_drain_tags", 1, ReleaseAgainstDrain());
}

TEST(FlushAllocatorSched, TwoFreesAgainstDrain) {
  ExploreAll("full_ring", 1, TwoFreesAgainstDrain<UncheckedPolicy>(1));
  for (const std::uint32_t entries : {1u, 2u}) {
    const sched::Report report =
        sched::Explore({.name = "two_frees_random",
                        .search = sched::Search::kRandom,
                        .max_executions = 1000},
                       TwoFreesAgainstDrain(entries));
    EXPECT_TRUE(report.ok) << report;
  }
}

TEST(FlushAllocatorSched, FreeAgainstTake) {
  ExploreAll("free_take_deferred", 1, FreeAgainstTake(kDeferred));
  ExploreAll("free_take_strict", 1, FreeAgainstTake(kStrict));
}

// Negative controls.
TEST(FlushAllocatorSched, ARangeTakenBackAtOnceIsFound) {
  for (const FlushQueueOptions& options : {kDeferred, kStrict}) {
    const sched::Report report = sched::Explore(
        {.name = "eager"},
        FreeAgainstTake<SchedPolicy<>, QueuePolicy, Eager>(options));
    EXPECT_NE(report.failure.find(kEarly), std::string::npos) << report;
  }
}

TEST(FlushAllocatorSched, ASnapshotTakenTooLateIsFound) {
  const sched::Report report =
      sched::Explore({.name = "late", .preemptions = 1},
                     TwoFreesAgainstDrain<UncheckedPolicy, LateQueuePolicy>(2));
  EXPECT_NE(report.failure.find(kEarly), std::string::npos) << report;
}

TEST(FlushAllocatorSched, EachEdgeOfTheRingIsNeeded) {
  for (const char* function : {"Push", "Snapshot", "Publish", "LoadFlushed"}) {
    const sched::Report report =
        sched::Explore({.name = "weak", .weaken = {.function = function}},
                       ReleaseAgainstDrain<UncheckedPolicy>());
    EXPECT_FALSE(report.ok) << function;
  }
}

}  // namespace
}  // namespace dmamap
