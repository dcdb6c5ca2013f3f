// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_SCHED_MODEL_FOR_TEST_H_
#define DMAMAP_IOVA_SCHED_MODEL_FOR_TEST_H_

// The allocator under the deterministic scheduler: policies that make the
// shipped source small enough to explore, and what must hold whatever order
// the threads run in.
//
// The world is tiny on purpose: one size class, magazines of one entry, a depot
// of one magazine, so that a third free reaches the depot and a fourth the
// store.
//
// A failed sched::Check does not return in a thread; in the body itself it
// does, hence the early ends here.

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "dma/address.h"
#include "dma/cpu.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "iova/allocator.h"
#include "iova/buddy_store.h"
#include "testing/sched/explore.h"

namespace dmamap::inline v0 {

// Whether the execution has failed: its threads were left where they were, with
// the locks that they hold, and destructors still have to come to an end.
inline bool SchedFailed() {
  const sched::Engine* engine = sched::Engine::Current();
  return engine != nullptr && engine->failed();
}

class SchedLock : public BasicSpinLock<sched::Atomic> {
 public:
  void lock() {
    if (!SchedFailed()) BasicSpinLock::lock();
  }
};

// Explores every execution of `body` with so many preemptions and one spurious
// failure; no other bound cuts anything off.
inline void ExploreAll(const char* name, std::uint32_t preemptions,
                       const sched::Body& body) {
  const sched::Report report =
      sched::Explore({.name = name, .preemptions = preemptions}, body);
  EXPECT_TRUE(report.ok && report.complete) << report;
  EXPECT_FALSE(report.cut_stale || report.cut_history) << report;
  testing::Test::RecordProperty(name, std::to_string(report.executions));
}

// Single pages are cached, one in each magazine.
template <FreeCheck kCheck = FreeCheck::kOrdered>
struct SchedPolicy : AllocatorPolicy {
  template <class T>
  using Atom = sched::Atomic<T>;
  using Lock = SchedLock;
  static constexpr unsigned kClasses = 1;
  static constexpr std::size_t kMagazineEntries = 1;
  static constexpr FreeCheck kFreeCheck = kCheck;
};

// Slot n belongs to thread n of RunThreads; outside of threads the body says
// whose part it plays. Retire does what a thread's exit does.
//
// What lies in a slot is plain memory that the scheduler does not see. A plain
// variable for each stands for it: two users whom nothing orders are a data
// race.
class SchedCpu {
 public:
  // At most kMaxThreads.
  explicit SchedCpu(std::size_t slots = 2) : slots_(slots) {}

  void Play(std::size_t slot) { played_ = slot; }
  // From now on no thread has a slot: all take turns with the shared one.
  void TakeSlotsAway() { first_ = slots_; }
  // Under a lock that the scheduler sees, as ThreadSlots' exit is under one.
  void Retire(std::size_t slot) {
    const Guard<SchedLock> guard(lock_);
    Touch(slot);
    listeners_.Notify(slot);
    Touch(slot);
  }

  std::size_t slots() const { return slots_; }
  std::size_t Acquire() {
    const std::size_t thread = sched::ThreadIndex();
    return Use(thread == sched::kNoThread ? played_ : first_ + thread);
  }
  void Release(std::size_t slot) { Touch(slot); }
  void Subscribe(SlotListener& listener) { listeners_.Add(listener); }
  void Unsubscribe(SlotListener& listener) {
    // A thread that was left in a callback holds the listeners' own lock.
    if (!SchedFailed()) listeners_.Remove(listener);
  }

 protected:
  // The slot for its owner, or kNoSlot.
  std::size_t Use(std::size_t slot) {
    if (slot >= slots_) return kNoSlot;
    Touch(slot);
    return slot;
  }

 private:
  void Touch(std::size_t slot) { ++uses_[slot]; }

  std::size_t slots_;
  std::array<sched::Plain<std::uint32_t>, sched::kMaxThreads> uses_;
  std::size_t first_ = 0;  // of the first thread
  std::size_t played_ = kNoSlot;
  SchedLock lock_;
  SlotListeners listeners_;
};
static_assert(CpuLocal<SchedCpu>);

// The shipped store. Each call that needs the store's lock is seen, so that two
// which nothing orders are a data race.
class WatchedStore : public BuddyStore {
 public:
  Result<std::uint64_t> Allocate(const PageRequest& request) {
    ++calls_;
    return BuddyStore::Allocate(request);
  }
  Result<void> Free(std::uint64_t page, std::uint64_t count) {
    ++calls_;
    return BuddyStore::Free(page, count);
  }
  std::uint64_t free_pages() const {
    (void)calls_.Get();
    return BuddyStore::free_pages();
  }

 private:
  sched::Plain<std::uint32_t> calls_{0};
};
static_assert(RangeStore<WatchedStore>);

// Who uses which page: a plain variable for each, so that a page is found that
// has two users, and one whose new user does not know of all that the last one
// did.
template <std::size_t kPages>
class PageUsers {
 public:
  void Begin(Iova a, std::uint64_t pages = 1) {
    for (std::uint64_t i = 0; i < pages; ++i) {
      sched::Plain<int>& used = At(a, i);
      sched::Check(used == 0, "handed out twice");
      used = 1;
    }
  }
  void End(Iova a, std::uint64_t pages = 1) {
    for (std::uint64_t i = 0; i < pages; ++i) At(a, i) = 0;
  }

 private:
  sched::Plain<int>& At(Iova a, std::uint64_t i) {
    const std::uint64_t page = (a.value() >> 12) + i;
    sched::Check(page < kPages, "outside of the window");
    return used_[page < kPages ? static_cast<std::size_t>(page) : 0];
  }
  std::array<sched::Plain<int>, kPages> used_;
};

// An allocator over pages [0, kPages) and the users of these.
template <class Policy, std::size_t kPages, class Cpu = SchedCpu>
class SchedWorld {
 public:
  using Allocator = IovaAllocator<WatchedStore, Cpu, Policy>;

  explicit SchedWorld(std::uint32_t depot_limit, std::size_t slots = 2)
      : iova_(slots) {
    const Result<void> made =
        iova_.Init({.window = *Range::FromSize(Iova(0), kPages << 12),
                    .depot_limit = depot_limit});
    sched::Check(made.ok(), "Init");
  }

  Allocator& iova() { return iova_; }
  PageUsers<kPages>& users() { return users_; }

  Iova Take(std::uint64_t pages = 1) {
    const Result<Iova> a = iova_.Allocate(pages);
    sched::Check(a.ok(), "refused");
    if (!a.ok()) return Iova(0);
    users_.Begin(*a, pages);
    return *a;
  }
  // Nothing when the window is used up, or what is left is another slot's.
  std::vector<Iova> TryTake() {
    const Result<Iova> a = iova_.Allocate(1);
    sched::Check(a.ok() || a.error() == Error::kNoSpace, "another error");
    if (!a.ok()) return {};
    users_.Begin(*a);
    if (SchedFailed()) return {};
    return {*a};
  }
  void Give(Iova a, std::uint64_t pages = 1) {
    users_.End(a, pages);
    sched::Check(iova_.Free(a, pages).ok(), "a free is refused");
  }

  // After the threads: all is in order, and nothing is lost. When the `live`
  // ranges of one page were given back and all slots have gone, every page can
  // be allocated again, once.
  void CheckAllThere(std::span<const Iova> live = {}) {
    if (SchedFailed()) return;
    sched::Check(iova_.CheckInvariants(), "invariants");
    sched::Check(iova_.stats().live == live.size(), "live ranges miscounted");
    for (const Iova a : live) Give(a);
    for (std::size_t slot = 0; slot < iova_.cpu().slots(); ++slot) {
      iova_.cpu().Retire(slot);
    }
    iova_.Trim();
    const auto stats = iova_.stats();
    sched::Check(stats.live == 0 && stats.cached == 0, "left after Trim");
    sched::Check(stats.free_pages == kPages, "pages are lost");
    if (SchedFailed()) return;
    for (std::size_t i = 0; i < kPages; ++i) (void)Take();
    const Result<Iova> more = iova_.Allocate(1);
    sched::Check(!more.ok() && more.error() == Error::kNoSpace, "one too many");
  }

 private:
  Allocator iova_;
  PageUsers<kPages> users_;
};

// Fills the single-page bin of a slot, with magazines of one entry: two pages.
// Before the threads start.
template <class World>
void FillBin(World& world, std::size_t slot) {
  world.iova().cpu().Play(slot);
  const std::array<Iova, 2> taken = {world.Take(), world.Take()};
  for (const Iova a : taken) world.Give(a);
  world.iova().cpu().Play(kNoSlot);
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_SCHED_MODEL_FOR_TEST_H_
