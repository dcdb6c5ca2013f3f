// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// The IOTLB under the deterministic scheduler: the shipped source, every order
// of a reader and a writer within the bounds, every value that the memory model
// lets a load return; and negative controls with weaker orders.

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "iotlb/iotlb.h"
#include "iotlb/oracle_for_test.h"
#include "iotlb/reclaim.h"
#include "iotlb/record.h"
#include "testing/sched/explore.h"

namespace dmamap {
namespace {

constexpr auto kRead = Permission::kRead;

IotlbEntry Entry(std::uint64_t first, std::uint64_t last, std::uint64_t token) {
  return {RangeOf(first, last), PhysAddr(token * 1000 + first), kRead, token};
}

// --- One record, which dies and serves another mapping.

void ReuseAgainstRead() {
  MappingRecord<sched::Atomic> record;
  record.Fill(Entry(0, 9, 1), 1);
  record.GoLive();
  const std::uint64_t first_generation = record.Copy().meta >> 4;
  sched::RunThreads({[&] {
                       record.Kill();
                       record.Fill(Entry(20, 29, 2), 2);
                       record.GoLive();
                     },
                     [&] {
                       RecordCopy copy;
                       if (!record.Read(copy)) return;
                       const bool second = (copy.meta >> 4) > first_generation;
                       sched::Check(copy.entry() == (second ? Entry(20, 29, 2)
                                                            : Entry(0, 9, 1)),
                                    "a torn record");
                     }});
}

TEST(IotlbSched, RecordIsNeverTorn) {
  const auto report = sched::Explore({.name = "record"}, ReuseAgainstRead);
  EXPECT_TRUE(report.ok && report.complete) << report;
}

TEST(IotlbSched, WeakerFencesOfARecordAreFound) {
  for (const char* function : {"Fill", "IsStill"}) {
    EXPECT_FALSE(
        sched::Explore({.name = "record", .weaken = {.function = function}},
                       ReuseAgainstRead)
            .ok)
        << function;
  }
}

// --- A section, and a writer that waits before it frees the memory.

void FreeAgainstSection() {
  ReaderRegistry<HeapMemory, sched::Atomic> registry;
  auto *const slot = registry.Attach();
  sched::Atomic<int> mapped(1);
  sched::Plain<int> memory(7);
  sched::RunThreads({[&] {
                       // relaxed: the registry has to see to the order.
                       mapped.store(0, std::memory_order_relaxed);
                       const GraceTicket ticket = registry.Retire();
                       // A look, not a loop: who has not ended is left alone.
                       if (registry.IsOver(ticket)) memory = 0;
                     },
                     [&] {
                       for (int i = 0; i < 2; ++i) {
                         registry.Enter(*slot);
                         if (mapped.load(std::memory_order_relaxed) == 1) {
                           sched::Check(memory == 7, "freed memory is read");
                         }
                         registry.Leave(*slot);
                       }
                     }});
}

TEST(IotlbSched, MemoryIsFreedBehindTheSections) {
  const auto report = sched::Explore({.name = "section"}, FreeAgainstSection);
  EXPECT_TRUE(report.ok && report.complete) << report;
}

TEST(IotlbSched, EachOrderOfASectionIsNeeded) {
  const sched::Weaken weaker[] = {
      {.function = "Enter", .access = "fence"},
      {.function = "Retire", .access = "fence"},
      {.function = "Leave"},
      {.function = "IsOver"},
  };
  for (const sched::Weaken &weaken : weaker) {
    const auto report = sched::Explore({.name = "section", .weaken = weaken},
                                       FreeAgainstSection);
    EXPECT_FALSE(report.ok) << weaken.function << " " << weaken.access;
  }
}

// --- The whole: lookups against add, remove, split and retire.

struct SchedPolicies : IotlbPolicies {
  template <class T>
  using Atom = sched::Atomic<T>;
  static constexpr unsigned kKeys = 8;
  static constexpr unsigned kPageShift = 3;
  static constexpr unsigned kFrontBits = 2;
};
using SchedIotlb = BasicIotlb<SchedPolicies>;

// What one lookup says; anything but the answers that `good` allows fails.
template <class Good>
void LookUp(const SchedIotlb &iotlb, std::uint64_t at, Good good) {
  const Result<Translation> t = iotlb.Lookup(Iova(at), kRead);
  const std::uint64_t token = t.ok() ? t->token : 0;
  sched::Check(good(token), "an answer that was never right");
  sched::Check(!t.ok() || t->address.value() == token * 1000 + at,
               "another mapping's memory");
}

struct Start {
  explicit Start(const IotlbOptions &options) {
    (void)iotlb.Init(options).ok();
    (void)iotlb.Add(Entry(0, 15, 1)).ok();
    (void)iotlb.Add(Entry(24, 39, 2)).ok();
  }
  SchedIotlb iotlb;
};

// A mapping is replaced by another of the same bytes, in the same record: it
// is the one, none, or the other, and never steps back.
sched::Body ReplaceAgainstLookup(FrontPolicy front) {
  return [front] {
    Start start({.front_policy = front});
    sched::RunThreads(
        {[&] {
           (void)start.iotlb.Remove(RangeOf(24, 24)).ok();
           (void)start.iotlb.Add(Entry(24, 39, 3)).ok();
         },
         [&] {
           std::uint64_t last = 2;
           for (int i = 0; i < 2; ++i) {
             LookUp(start.iotlb, 26, [&](std::uint64_t token) {
               const std::uint64_t step = token == 2 ? 2 : token == 0 ? 3 : 4;
               const bool forward = token != 1 && step >= last;
               last = step;
               return forward;
             });
           }
           LookUp(start.iotlb, 5, [](std::uint64_t n) { return n == 1; });
         }},
        [&] { sched::Check(start.iotlb.CheckInvariants(), "invariants"); });
  };
}

// A split takes the middle out: the bytes outside are mapped at each moment.
sched::Body SplitAgainstLookup(FrontPolicy front) {
  return [front] {
    Start start({.remove_policy = RemovePolicy::kSplit, .front_policy = front});
    sched::RunThreads(
        {[&] { (void)start.iotlb.Remove(RangeOf(4, 9)).ok(); },
         [&] {
           LookUp(start.iotlb, 3, [](std::uint64_t n) { return n == 1; });
           LookUp(start.iotlb, 12, [](std::uint64_t n) { return n == 1; });
           LookUp(start.iotlb, 6, [](std::uint64_t n) { return n <= 1; });
         }},
        [&] { sched::Check(start.iotlb.CheckInvariants(), "invariants"); });
  };
}

// The limit retires the oldest for a new one.
sched::Body RetireAgainstLookup(FrontPolicy front) {
  return [front] {
    Start start({.limit = 2,
                 .limit_policy = LimitPolicy::kRetireOldest,
                 .front_policy = front});
    sched::RunThreads(
        {[&] { (void)start.iotlb.Add(Entry(16, 23, 3)).ok(); },
         [&] {
           bool gone = false;
           LookUp(start.iotlb, 5, [&](std::uint64_t n) {
             gone = n == 0;
             return n <= 1;
           });
           LookUp(start.iotlb, 5,
                  [&](std::uint64_t n) { return n == 0 || (n == 1 && !gone); });
           LookUp(start.iotlb, 30, [](std::uint64_t n) { return n == 2; });
         }},
        [&] { sched::Check(start.iotlb.CheckInvariants(), "invariants"); });
  };
}

sched::Options Bounded(const char *name) {
  return {
      .name = name, .search = sched::Search::kRandom, .max_executions = 1500};
}

TEST(IotlbSched, LookupAgainstChanges) {
  for (const FrontPolicy front : {FrontPolicy::kOn, FrontPolicy::kOff}) {
    for (const sched::Body &body :
         {ReplaceAgainstLookup(front), SplitAgainstLookup(front),
          RetireAgainstLookup(front)}) {
      const auto report = sched::Explore(Bounded("iotlb"), body);
      EXPECT_TRUE(report.ok) << report;
    }
  }
}

}  // namespace
}  // namespace dmamap
