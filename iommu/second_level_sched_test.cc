// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Map against unmap of neighbours, the shipped source under the deterministic
// scheduler: in one table of pages, and in two that hang in one table above.

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "bounce/page_source.h"
#include "dma/address.h"
#include "dma/direction.h"
#include "dma/sync.h"
#include "iommu/bus_memory.h"
#include "iommu/second_level.h"
#include "testing/sched/explore.h"

namespace dmamap {
namespace {

// Threads of an execution that failed are left where they were, with their
// locks; destructors still have to come to an end.
class SchedLock : public BasicSpinLock<sched::Atomic> {
 public:
  void lock() {
    const sched::Engine* const engine = sched::Engine::Current();
    if (engine == nullptr || !engine->failed()) BasicSpinLock::lock();
  }
};

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

constexpr std::uint64_t kRegion = 16;  // pages

template <class Policies = SchedPolicies>
struct World {
  using Tables = SecondLevel<LinearMemory<HeapPages>, Policies>;

  World() {
    sched::Check(tables.Init(&memory, {.levels = 3, .merges = false}).ok(),
                 "Init");
  }
  static Range Page(std::uint64_t n) {
    return *Range::FromSize(Iova(n << 12), 4096);
  }
  void Map(std::uint64_t n) {
    std::uint64_t mapped = 0;
    sched::Check(tables
                     .Map(Page(n), PhysAddr((n + 0x100) << 12),
                          Permission::kReadWrite, &mapped)
                     .ok(),
                 "Map");
  }
  void Unmap(std::uint64_t n) {
    sched::Check(tables.Unmap(Page(n)).ok(), "Unmap");
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

// Two pages of one table: the last is unmapped, and its neighbour mapped.
template <class Policies = SchedPolicies>
sched::Body OneTable() {
  return [] {
    World<Policies> w;
    w.Map(3);
    sched::RunThreads({[&] { w.Unmap(3); }, [&] { w.Map(4); }},
                      [&] { w.Expect({4}, {3}); });
  };
}
// The same in two tables, with the invalidation that frees what is taken out:
// the first unmap empties the table above too.
template <class Policies = SchedPolicies>
sched::Body TwoTables() {
  return [] {
    World<Policies> w;
    w.Map(0);
    sched::RunThreads({[&] {
                         w.Unmap(0);
                         w.Invalidate(0);
                       },
                       [&] { w.Map(kRegion); }},
                      [&] { w.Expect({kRegion}, {0}); });
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
// Who finds a table gone knows that hardware may remember it.
sched::Body NewMappingIsSynced() {
  return [] {
    World<> w;
    w.Map(0);
    bool told = false;
    bool before = false;
    sched::RunThreads({[&] { w.Unmap(0); },
                       [&] {
                         w.Map(1);
                         told = w.tables.MayRemember(World<>::Page(1));
                       }},
                      [&] {
                        // Mapped in the old table, which then stayed, or not.
                        before = w.tables.stats().tables_retired == 0;
                        sched::Check(told || before, "nobody would tell");
                      });
  };
}

sched::Report Explore(const char* name, const sched::Body& body,
                      const sched::Weaken& weaken = {},
                      std::uint32_t preemptions = 2) {
  sched::Options options;
  options.name = name;
  options.preemptions = preemptions;
  options.weaken = weaken;
  return sched::Explore(options, body);
}

TEST(SecondLevelSched, Neighbours) {
  for (const auto& [name, body, preemptions] :
       {std::tuple("one table", OneTable(), 2u),
        // With 2 it passes as well, in 824,947 executions.
        std::tuple("two tables", TwoTables(), 1u),
        std::tuple("first maps", TwoFirstMaps(), 2u),
        std::tuple("synced", NewMappingIsSynced(), 2u)}) {
    const auto report = Explore(name, body, {}, preemptions);
    EXPECT_TRUE(report.ok && report.complete) << report;
    EXPECT_GT(report.executions, 1000u) << name;
    RecordProperty(name, std::to_string(report.executions));
  }
}

TEST(SecondLevelSchedControl, TheLocksAreNeeded) {
  EXPECT_FALSE(Explore("one", OneTable<NoLockPolicies>()).ok);
  EXPECT_FALSE(Explore("two", TwoTables<NoLockPolicies>()).ok);
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
}

}  // namespace
}  // namespace dmamap
