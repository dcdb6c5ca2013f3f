// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Map against unmap of neighbours, the shipped source under the deterministic
// scheduler: in one table of pages, in two that hang in one table above, and in
// one leaf that is made of many, or split.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bounce/page_source.h"
#include "dma/address.h"
#include "dma/direction.h"
#include "dma/sync.h"
#include "iommu/bus_memory.h"
#include "iommu/sched_for_test.h"
#include "iommu/second_level.h"
#include "testing/sched/explore.h"

namespace dmamap {
namespace {

struct SchedPolicies : SecondLevelPolicies {
  template <class T>
  using Atom = sched::Atomic<T>;
  using LockType = SchedLock;
  static constexpr unsigned kIndexBits = 4;
  static constexpr std::size_t kLocks = 2;  // of even and odd regions
};
// One whose locks keep nobody out, for the control.
struct NoLockPolicies : SchedPolicies {
  using LockType = NullLock;
};

// Locks of which the first so many calls keep nobody out, for the control: no
// thread runs between these and what is counted down.
class SkippingLock : public SchedLock {
 public:
  static inline std::size_t skip = 0;
  void lock() {
    skipped_ = skip != 0;
    if (skipped_) {
      --skip;
    } else {
      SchedLock::lock();
    }
  }
  void unlock() {
    if (!skipped_) SchedLock::unlock();
    skipped_ = false;
  }

 private:
  bool skipped_ = false;
};
struct NoSweepPolicies : SchedPolicies {
  using LockType = SkippingLock;
};

// Atomics that do what the source says in another way, for the controls.
enum class Wrong : std::uint8_t {
  kNothing,
  kCountsLate,  // RetireSlot: after the exchange
  kPinsBlind,   // Pin: whether the table is still there or not
  kPinsLate,    // Pin: after the slot was filled
};
template <class T>
class WrongAtomic : public sched::Atomic<T> {
  using Base = sched::Atomic<T>;
  using Order = std::memory_order;

 public:
  static inline Wrong wrong = Wrong::kNothing;
  using Base::Base;

  T fetch_add(T n, Order order, sched::Site at = sched::Site::Here()) {
    if (wrong != Wrong::kCountsLate ||
        sched::FunctionName(at.function) != "RetireSlot") {
      return Base::fetch_add(n, order, at);
    }
    Later() = {this, n};
    return 0;  // nobody looks
  }
  bool compare_exchange_strong(T& expected, T to, Order done, Order failed,
                               sched::Site at = sched::Site::Here()) {
    const bool pins = to == expected + TableEntry::kCountOne;
    if (pins && wrong == Wrong::kPinsBlind) {
      Base::fetch_add(TableEntry::kCountOne, done, at);
      return true;
    }
    if (pins && wrong == Wrong::kPinsLate) {
      Later() = {this, TableEntry::kCountOne};
      return true;
    }
    const Pending later = std::exchange(Later(), {});
    const bool did =
        Base::compare_exchange_strong(expected, to, done, failed, at);
    later.Do();
    return did;
  }
  void store(T value, Order order, sched::Site at = sched::Site::Here()) {
    Base::store(value, order, at);
    if (sched::FunctionName(at.function) == "Store") {
      std::exchange(Later(), {}).Do();
    }
  }

 private:
  struct Pending {
    Base* at = nullptr;
    T n = 0;
    void Do() const {
      if (at != nullptr) at->fetch_add(n, std::memory_order_acq_rel);
    }
  };
  // Of the thread.
  static Pending& Later() {
    static std::array<Pending, sched::kMaxThreads + 1> all;
    return all[sched::ThreadIndex() + 1];  // kNoThread + 1 is 0
  }
};
struct WrongPolicies : SchedPolicies {
  template <class T>
  using Atom = WrongAtomic<T>;
};

constexpr std::uint64_t kRegion = 16;  // pages

template <class Policies = SchedPolicies>
struct World {
  using Tables = SecondLevel<LinearMemory<HeapPages>, Policies>;

  explicit World(bool merges = false) {
    sched::Check(tables.Init(&memory, {.levels = 3, .merges = merges}).ok(),
                 "Init");
  }
  static Range Page(std::uint64_t n, std::uint64_t pages = 1) {
    return *Range::FromSize(Iova(n << 12), pages << 12);
  }
  void Map(std::uint64_t n, std::uint64_t pages = 1) {
    std::uint64_t mapped = 0;
    sched::Check(tables
                     .Map(Page(n, pages), PhysAddr((n + 0x100) << 12),
                          Permission::kReadWrite, &mapped)
                     .ok(),
                 "Map");
  }
  void Unmap(std::uint64_t n, std::uint64_t pages = 1) {
    sched::Check(tables.Unmap(Page(n, pages)).ok(), "Unmap");
  }
  // The part of an invalidation that is not the unit's.
  void Invalidate(std::uint64_t n) {
    typename Tables::Batch batch;
    if (tables.TakeRetired(Page(n), &batch)) tables.FreeRetired(&batch);
  }
  void Expect(std::vector<std::uint64_t> mapped,
              std::vector<std::uint64_t> absent) {
    for (const std::uint64_t n : mapped) {
      const auto found = tables.Lookup(Iova(n << 12));
      sched::Check(found.ok(), "a page is lost");
      if (found.ok()) {
        sched::Check(found->bus.value() == (n + 0x100) << 12, "another page");
      }
    }
    for (const std::uint64_t n : absent) {
      sched::Check(!tables.Lookup(Iova(n << 12)).ok(), "a page is left");
    }
    sched::Check(tables.CheckInvariants(), "invariants");
  }

  LinearMemory<HeapPages> memory;
  Tables tables;
};

// Two pages of one table: the last is unmapped, and its neighbour mapped, while
// an invalidation takes the table out if it is empty.
template <class Policies = SchedPolicies>
sched::Body OneTable(bool invalidate = true) {
  return [invalidate] {
    World<Policies> w;
    w.Map(3);
    sched::RunThreads({[&] {
                         w.Unmap(3);
                         if (invalidate) w.Invalidate(3);
                       },
                       [&] { w.Map(4); }},
                      [&] { w.Expect({4}, {3}); });
  };
}
// The same in two tables, with the invalidation that frees what is taken out:
// the first unmap empties the table above too.
template <class Policies = SchedPolicies>
sched::Body TwoTables(std::uint64_t other = kRegion) {
  return [other] {
    World<Policies> w;
    w.Map(0);
    sched::RunThreads({[&] {
                         w.Unmap(0);
                         w.Invalidate(0);
                       },
                       [&] { w.Map(other); }},
                      [&] { w.Expect({other}, {0}); });
  };
}
// Two that find no table at all.
template <class Policies = SchedPolicies>
sched::Body TwoFirstMaps() {
  return [] {
    World<Policies> w;
    sched::RunThreads({[&] { w.Map(0); }, [&] { w.Map(kRegion); }}, [&] {
      w.Expect({0, kRegion}, {});
    });
  };
}
// All but the last of a table: the last makes one leaf of them, while a page of
// the first is unmapped, and what was split invalidated.
template <class Policies = SchedPolicies>
sched::Body MergeAndSplit(std::uint64_t piece, bool invalidate = true) {
  return [piece, invalidate] {
    World<Policies> w(true);
    const std::uint64_t all = piece * 16;
    w.Map(0, all - piece);
    sched::RunThreads({[&] { w.Map(all - piece, piece); },
                       [&] {
                         w.Unmap(1);
                         if (invalidate) w.Invalidate(1);
                       }},
                      [&] {
                        w.Expect({0, 2, all - 1}, {1, all});
                      });
  };
}
// One leaf, two pages of which are unmapped: each invalidation is of all of the
// leaf, unless one that was is over.
sched::Body SplitTwice() {
  return [] {
    World<> w;
    w.Map(0, 256);
    bool over = false;
    const auto unmap = [&](std::uint64_t n) {
      w.Unmap(n);
      typename World<>::Tables::Batch batch;
      const bool took = w.tables.TakeRetired(w.Page(n), &batch);
      const Range block =
          w.tables.Widen(took ? batch.covered : World<>::Page(n));
      const bool whole = block.size() == 256 * 4096;
      sched::Check(whole || over, "less than the leaf");
      over = over || whole;
      if (took) w.tables.FreeRetired(&batch);
    };
    sched::RunThreads({[&] { unmap(1); }, [&] { unmap(200); }}, [&] {
      w.Expect({0, 2, 255}, {1, 200});
    });
  };
}
// Who finds a table gone knows that hardware may remember it: a table of pages,
// or, where a leaf of a whole region was, the one above alone.
template <class Policies = SchedPolicies>
sched::Body NewMappingIsSynced(std::uint64_t pages) {
  return [pages] {
    World<Policies> w;
    w.Map(0, pages);
    bool told = false;
    bool before = false;
    sched::RunThreads({[&] {
                         w.Unmap(0, pages);
                         typename World<Policies>::Tables::Batch batch;
                         if (w.tables.TakeRetired(w.Page(0), &batch)) {
                           w.tables.PutBackRetired(&batch);
                         }
                       },
                       [&] {
                         w.Map(pages);
                         told = w.tables.MayRemember(w.Page(pages));
                       }},
                      [&] {
                        // Mapped in the old table, which then stayed, or not.
                        before = w.tables.stats().tables_retired == 0;
                        sched::Check(told || before, "nobody would tell");
                      });
  };
}
// Or that it has forgotten it: what it did before the invalidation was over is
// seen by whoever need not invalidate.
sched::Body ForgottenIsSeen() {
  return [] {
    World<> w;
    w.Map(0);
    w.Unmap(0);
    World<>::Tables::Batch batch;
    sched::Check(w.tables.TakeRetired(w.Page(0), &batch), "taken");
    sched::Plain<int> remembered{1};
    sched::RunThreads({[&] {
                         remembered = 0;
                         w.tables.FreeRetired(&batch);
                       },
                       [&] {
                         w.Map(1);
                         if (w.tables.MayRemember(w.Page(1))) return;
                         const int left = remembered;
                         sched::Check(left == 0, "it is remembered");
                       }},
                      [&] { w.Expect({1}, {0}); });
  };
}
// A walk through a table that is taken out and freed meanwhile, without the
// first `skip` locks of who frees.
sched::Body WalkBesideFree(std::size_t skip) {
  return [skip] {
    World<NoSweepPolicies> w;
    w.Map(0);
    sched::RunThreads({[&] {
                         w.Unmap(0);
                         World<NoSweepPolicies>::Tables::Batch batch;
                         if (!w.tables.TakeRetired(w.Page(0), &batch)) return;
                         SkippingLock::skip = batch.upper ? skip : 0;
                         w.tables.FreeRetired(&batch);
                       },
                       [&] { w.Map(kRegion); }},
                      [&] { w.Expect({kRegion}, {0}); });
  };
}

sched::Report Explore(const char* name, const sched::Body& body,
                      const sched::Weaken& weaken = {},
                      std::uint32_t preemptions = 2,
                      std::uint32_t stale = sched::kUnlimited,
                      std::uint32_t rereads = 1) {
  sched::Options options;
  options.name = name;
  options.preemptions = preemptions;
  options.stale = stale;
  options.rereads = rereads;
  options.weaken = weaken;
  return sched::Explore(options, body);
}

TEST(SecondLevelSched, Neighbours) {
  for (const auto& [name, body, preemptions, stale] :
       {std::tuple("one table", OneTable(), 1u, 1u),
        // With 2 it passes as well, in 824,947 executions.
        std::tuple("two tables", TwoTables(), 1u, sched::kUnlimited),
        std::tuple("first maps", TwoFirstMaps(), 2u, sched::kUnlimited),
        std::tuple("a leaf of pages", MergeAndSplit(1), 1u, sched::kUnlimited),
        std::tuple("a leaf of leaves", MergeAndSplit(kRegion), 1u,
                   sched::kUnlimited),
        std::tuple("split twice", SplitTwice(), 1u, 1u),
        std::tuple("synced", NewMappingIsSynced(1), 1u, 2u),
        std::tuple("synced above", NewMappingIsSynced(kRegion), 1u,
                   sched::kUnlimited),
        std::tuple("forgotten", ForgottenIsSeen(), 1u, sched::kUnlimited)}) {
    const auto report = Explore(name, body, {}, preemptions, stale);
    EXPECT_TRUE(report.ok && report.complete) << report;
    EXPECT_GT(report.executions, 1000u) << name;
    std::printf("%s: %llu executions\n", name,
                static_cast<unsigned long long>(report.executions));
  }
}

// (Without invalidations, where a table that is freed too early would be used.)
TEST(SecondLevelSchedControl, TheLocksAreNeeded) {
  EXPECT_FALSE(Explore("one", OneTable<NoLockPolicies>(false)).ok);
  EXPECT_FALSE(Explore("a leaf", MergeAndSplit<NoLockPolicies>(1, false)).ok);
}

// Store's is for hardware alone: on the CPU the lock orders what it publishes.
TEST(SecondLevelSchedControl, TheOrdersAreNeeded) {
  for (const char* function : {"Load", "Exchange"}) {
    EXPECT_FALSE(
        Explore("orders", TwoFirstMaps(),
                {.function = function, .to = std::memory_order_relaxed})
            .ok)
        << function;
  }
  // A1 and A2.
  for (const char* function : {"MayRemember", "FreeRetired"}) {
    const auto report =
        Explore("forgotten", ForgottenIsSeen(),
                {.function = function, .to = std::memory_order_relaxed}, 1);
    EXPECT_FALSE(report.ok) << function;
    EXPECT_NE(report.failure.find("data race"), std::string::npos) << report;
  }
}

// The locks that FreeRetired takes one after the other.
TEST(SecondLevelSchedControl, TheSweepIsNeeded) {
  constexpr std::size_t kLocks = NoSweepPolicies::kLocks;
  EXPECT_TRUE(Explore("swept", WalkBesideFree(0), {}, 1).ok);
  const auto report = Explore("not swept", WalkBesideFree(kLocks), {}, 1);
  EXPECT_FALSE(report.ok);
  EXPECT_NE(report.failure.find("data race"), std::string::npos) << report;
}

TEST(SecondLevelSchedControl, CountingInTimeIsNeeded) {
  Wrong& wrong = WrongAtomic<std::uint64_t>::wrong;
  const auto explore = [&](Wrong how) {
    wrong = how;
    const auto report =
        how == Wrong::kCountsLate
            ? Explore("counts", NewMappingIsSynced<WrongPolicies>(kRegion), {},
                      1)
            // Pin looks a third time at what the walk has seen. (The slot is
            // none of those in which a retired table has its notes.)
            : Explore("pins", TwoTables<WrongPolicies>(13 * kRegion), {}, 2, 0,
                      3);
    wrong = Wrong::kNothing;
    return report;
  };
  const auto right = explore(Wrong::kNothing);
  EXPECT_TRUE(right.ok && right.complete) << right;
  std::printf("pins: %llu executions\n",
              static_cast<unsigned long long>(right.executions));
  const auto late = explore(Wrong::kCountsLate);
  EXPECT_NE(late.failure.find("nobody would tell"), std::string::npos) << late;
  for (const Wrong how : {Wrong::kPinsBlind, Wrong::kPinsLate}) {
    const auto lost = explore(how);
    EXPECT_NE(lost.failure.find("a page is lost"), std::string::npos) << lost;
  }
}

}  // namespace
}  // namespace dmamap
