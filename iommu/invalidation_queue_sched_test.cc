// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// The queue under the deterministic scheduler, with a ring of four slots: two
// who submit, a unit that is a thread of its own and answers as late as it
// likes, and one who makes the queue anew.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <tuple>

#include "bounce/page_source.h"
#include "dma/address.h"
#include "dma/sync.h"
#include "iommu/bus_memory.h"
#include "iommu/invalidation_queue.h"
#include "iommu/sched_for_test.h"
#include "iommu/second_level_options.h"
#include "iommu/vtd_registers.h"
#include "testing/sched/explore.h"

namespace dmamap {
namespace {

constexpr std::uint32_t kSlots = 4;

// What the source checks, left out, for the controls.
enum class Without : std::uint8_t {
  kNothing,
  kRoom,   // a slot is free whether its wait is over or not
  kEpoch,  // Start is not noticed
};
Without without = Without::kNothing;

// Who waits for room looks at words under it, and nobody else does.
class QueueLock : public SchedLock {
 public:
  static inline std::size_t holder = sched::kNoThread;
  void lock() {
    SchedLock::lock();
    holder = sched::ThreadIndex();
  }
  void unlock() {
    holder = sched::kNoThread;
    SchedLock::unlock();
  }
};

// A status word: by its place in its page, one of the scheduler's.
class WordRef {
  using Order = std::memory_order;

 public:
  static inline std::array<sched::Atomic<std::uint32_t>, kSlots>* words;

  explicit WordRef(std::uint32_t& word)
      : word_((*words)[reinterpret_cast<std::uintptr_t>(&word) / 4 % kSlots]) {}
  std::uint32_t load(Order order, sched::Site at = sched::Site::Here()) const {
    const std::uint32_t word = word_.load(order, at);
    const bool for_room = QueueLock::holder != sched::kNoThread &&
                          QueueLock::holder == sched::ThreadIndex();
    return word + (for_room && without == Without::kRoom ? 1 : 0);
  }
  void store(std::uint32_t value, Order order,
             sched::Site at = sched::Site::Here()) {
    word_.store(value, order, at);
  }

 private:
  sched::Atomic<std::uint32_t>& word_;
};

template <class T>
class QueueAtomic : public sched::Atomic<T> {
 public:
  using sched::Atomic<T>::Atomic;
  T fetch_add(T n, std::memory_order order,
              sched::Site at = sched::Site::Here()) {
    const bool epoch = sched::FunctionName(at.function) == "Start";
    return sched::Atomic<T>::fetch_add(
        epoch && without == Without::kEpoch ? 0 : n, order, at);
  }
};

struct QueuePolicies : SecondLevelPolicies {
  template <class T>
  using Atom = QueueAtomic<T>;
  template <class T>
  using AtomRef = WordRef;
  using LockType = QueueLock;
  static constexpr std::uint32_t kQueueSlots = kSlots;
};
struct NoLockPolicies : QueuePolicies {
  using LockType = NullLock;
};

// A unit that does one descriptor in each step.
class Unit {
 public:
  // --- Registers ---
  std::uint32_t Read32(std::uint32_t at) {
    if (at != vtd::kGlobalStatus) return 0;
    // acquire: what it did before it stopped.
    return on_.load(std::memory_order_acquire) != 0 ? vtd::kQueuedInvalidation
                                                    : 0;
  }
  std::uint64_t Read64(std::uint32_t) { return 0; }
  void Write32(std::uint32_t at, std::uint32_t value) {
    if (at != vtd::kGlobalCommand) return;
    const Guard<SchedLock> guard(lock_);
    head_ = 0;
    on_.store((value & vtd::kQueuedInvalidation) != 0 ? 1 : 0,
              std::memory_order_release);
  }
  void Write64(std::uint32_t at, std::uint64_t value) {
    if (at == vtd::kQueueAddress) base_ = PointerTo(PhysAddr(value));
    if (at == vtd::kQueueTail) {
      // release: RegisterFile, all stores before it.
      tail_.store(static_cast<std::uint32_t>(value >> 4),
                  std::memory_order_release);
    }
  }

  // --- The unit's thread: until `callers` have ended ---
  void Run(const sched::Atomic<int>& callers) {
    while (callers.load(std::memory_order_relaxed) != 0) {
      if (HasWork()) Step();
    }
  }

  // Pages that were forgotten: what the unit does that a caller relies on.
  std::array<sched::Plain<int>, 4> forgotten{};

 private:
  bool HasWork() const {
    return on_.load(std::memory_order_relaxed) != 0 &&
           tail_.load(std::memory_order_relaxed) != head_;
  }
  void Step() {
    const Guard<SchedLock> guard(lock_);
    if (on_.load(std::memory_order_relaxed) == 0 ||
        tail_.load(std::memory_order_acquire) == head_) {
      return;
    }
    InvalidationDescriptor d;
    std::memcpy(&d, base_ + head_ * sizeof d, sizeof d);
    head_ = (head_ + 1) % kSlots;
    if ((d.low & 15) == 5) {
      WordRef word(
          *reinterpret_cast<std::uint32_t*>(PointerTo(PhysAddr(d.high))));
      word.store(static_cast<std::uint32_t>(d.low >> 32),
                 std::memory_order_release);
    } else {
      forgotten[(d.high >> 12) % forgotten.size()] = 1;
    }
  }

  SchedLock lock_;
  sched::Atomic<std::uint32_t> on_{0};
  sched::Atomic<std::uint32_t> tail_{0};
  std::uint32_t head_ = 0;
  std::byte* base_ = nullptr;
};

template <class Policies>
struct World {
  using Queue = InvalidationQueue<Unit, LinearMemory<HeapPages>, Policies>;

  explicit World(std::uint32_t polls) {
    WordRef::words = &words;
    sched::Check(queue.Init(&unit, &memory, true, polls).ok(), "Init");
    sched::Check(queue.Start().ok(), "Start");
    queue.SkipNumbersForTest(UINT32_MAX - 2);  // they go past 0
  }
  ~World() { queue.Free(); }

  // Ok: the unit has forgotten the page, and that is seen.
  bool Forget(std::uint64_t page) {
    const InvalidationDescriptor work[] = {
        vtd::ForgetPages(1, Iova(page << 12), 0, TableCaches::kKeep)};
    const auto done = queue.Submit(work);
    if (!done.ok()) return false;
    const int forgotten = unit.forgotten[page];
    sched::Check(forgotten == 1, "Ok, and not forgotten");
    return true;
  }
  template <class F>
  auto Caller(F f) {
    return [this, f] {
      f();
      // relaxed: the unit's thread only ends.
      callers.fetch_sub(1, std::memory_order_relaxed);
    };
  }
  auto TheUnit() {
    return [this] { unit.Run(callers); };
  }

  std::array<sched::Atomic<std::uint32_t>, kSlots> words{};
  LinearMemory<HeapPages> memory;
  Unit unit;
  Queue queue;
  sched::Atomic<int> callers{2};
};

// Three calls of two slots each in a ring of four, of which one is never used:
// each waits for room until the one before is over.
template <class Policies = QueuePolicies>
sched::Body AroundTheRing() {
  return [] {
    World<Policies> w(1000);
    const auto forget = [&](std::uint64_t page) {
      sched::Check(w.Forget(page), "refused");
    };
    sched::RunThreads({w.Caller([&] { forget(0); }), w.Caller([&] {
                         forget(1);
                         forget(2);
                       }),
                       w.TheUnit()},
                      [&] {
                        sched::Check(w.queue.counts().failures == 0, "failed");
                        sched::Check(w.queue.counts().pages_only == 3, "count");
                        sched::Check(w.queue.CheckInvariants(), "invariants");
                      });
  };
}
// Executions of TooLate in which a call was refused.
std::uint64_t refusals = 0;
// The unit may answer when who asked has given up: from then on every call is
// refused.
sched::Body TooLate() {
  return [] {
    World<QueuePolicies> w(2);
    bool refused = false;
    const auto forget = [&](std::uint64_t page) {
      const bool broken = w.queue.broken();
      const bool done = w.Forget(page);
      sched::Check(!broken || !done, "Ok by a broken queue");
      refused = refused || !done;
    };
    sched::RunThreads({w.Caller([&] { forget(0); }),
                       w.Caller([&] { forget(1); }), w.TheUnit()},
                      [&] {
                        sched::Check(w.queue.broken() == refused, "broken");
                        if (refused) ++refusals;
                      });
  };
}
// The queue is made anew: what was in it may be lost, and its callers hear so.
// Who comes after is served.
// With few looks a caller of the old queue may be at its last one as the new
// queue begins.
sched::Body StartBesideSubmit(std::uint32_t polls) {
  return [polls] {
    World<QueuePolicies> w(polls);
    sched::RunThreads({w.Caller([&] { (void)w.Forget(0); }), w.Caller([&] {
                         sched::Check(w.queue.Start().ok(), "Start");
                         const bool done = w.Forget(1);
                         sched::Check(done || polls == 2, "refused");
                       }),
                       w.TheUnit()},
                      [&] {
                        sched::Check(!w.queue.broken() || polls == 2, "broken");
                        sched::Check(w.queue.CheckInvariants(), "invariants");
                      });
  };
}

struct Scene {
  const char* name;
  sched::Body body;
  std::uint32_t stale;
  std::uint32_t rereads;
};
// Races are seen without a stale read; an epoch that is, is one.
template <class Policies = QueuePolicies>
Scene Around() {
  return {"around", AroundTheRing<Policies>(), 0, 1};
}
Scene Late() { return {"too late", TooLate(), 1, 2}; }  // 2: its polls
Scene Anew() { return {"anew", StartBesideSubmit(1000), 1, 1}; }
Scene LastLook() { return {"last look", StartBesideSubmit(2), 1, 2}; }

sched::Report Explore(const Scene& scene, const sched::Weaken& weaken = {}) {
  sched::Options options;
  options.name = scene.name;
  options.preemptions = 1;
  options.stale = scene.stale;
  options.rereads = scene.rereads;
  options.weaken = weaken;
  return sched::Explore(options, scene.body);
}

TEST(InvalidationQueueSched, EveryOkIsTrue) {
  refusals = 0;
  for (const Scene& scene : {Around(), Late(), Anew(), LastLook()}) {
    const auto report = Explore(scene);
    EXPECT_TRUE(report.ok && report.complete) << report;
    EXPECT_GT(report.executions, 1000u) << scene.name;
    std::printf("%s: %llu executions\n", scene.name,
                static_cast<unsigned long long>(report.executions));
  }
  EXPECT_GT(refusals, 1000u);
}

TEST(InvalidationQueueSchedControl, TheLockIsNeeded) {
  EXPECT_FALSE(Explore(Around<NoLockPolicies>()).ok);
}

// IsOver: what the unit did. Place's word is an answer to who still waits for
// an earlier one of its slot.
TEST(InvalidationQueueSchedControl, TheOrdersAreNeeded) {
  for (const auto& [scene, function, access] :
       {std::tuple(Around(), "IsOver", "load"),
        std::tuple(Around(), "Place", "store"),
        std::tuple(Anew(), "Place", "store")}) {
    const auto report =
        Explore(scene, {.function = function, .access = access});
    EXPECT_FALSE(report.ok) << scene.name << " " << function;
    std::printf("%s %s: %s\n", scene.name, function, report.failure.c_str());
  }
}

TEST(InvalidationQueueSchedControl, TheChecksAreNeeded) {
  const auto explore = [](Without what, const Scene& scene) {
    without = what;
    const auto report = Explore(scene);
    without = Without::kNothing;
    return report;
  };
  for (const auto& report :
       {explore(Without::kRoom, Around()), explore(Without::kEpoch, Anew())}) {
    EXPECT_FALSE(report.ok);
    std::printf("%s\n", report.failure.c_str());
  }
}

}  // namespace
}  // namespace dmamap
