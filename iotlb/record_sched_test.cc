// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// One record, one reader's sections, and the dirty bitmap, under the scheduler:
// every execution there is, and each order made weaker.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "iotlb/dirty.h"
#include "iotlb/oracle_for_test.h"
#include "iotlb/reclaim.h"
#include "iotlb/record.h"
#include "testing/sched/explore.h"
#include "testing/sched/needed_orders.h"

namespace dmamap {
namespace {

// No bound cuts anything off.
sched::Options Everything(const char* name) {
  return {.name = name, .preemptions = sched::kUnlimited, .rereads = 12};
}

void ExploreAll(const char* name, const sched::Body& body) {
  const sched::Report report = sched::Explore(Everything(name), body);
  EXPECT_TRUE(report.exhaustive()) << report;
  testing::Test::RecordProperty(name, std::to_string(report.executions));
}

// --- One record, which dies and serves another mapping.

IotlbEntry Entry(std::uint64_t first, std::uint64_t last, std::uint64_t token) {
  return {RangeOf(first, last), PhysAddr(token * 1000 + first),
          Permission::kRead, token};
}

// `overlap`: another mapping overlaps it before it dies.
sched::Body ReuseAgainstRead(bool overlap) {
  return [overlap] {
    MappingRecord<sched::Atomic> record;
    // The memory that the mappings lead to, and what is counted before Kill.
    std::array<sched::Plain<int>, 3> memory;
    sched::Plain<int> count(0);
    record.Fill(Entry(0, 9, 1), 1);
    record.GoLive();
    memory[1] = 1;
    sched::RunThreads(
        {[&] {
           if (overlap) record.MarkOverlapped();
           count = 1;
           record.Kill();
           record.Fill(Entry(20, 29, 2), 2);
           memory[2] = 2;
           record.GoLive();
         },
         [&] {
           if ((record.meta() & MappingRecord<>::kDead) != 0) {
             sched::Check(count == 1, "what was counted before Kill");
             return;
           }
           RecordCopy copy;
           if (!record.Read(copy)) return;
           sched::Check(copy.entry() == Entry(0, 9, 1) ||
                            copy.entry() == Entry(20, 29, 2),
                        "a torn record");
           sched::Check(memory[copy.token] == static_cast<int>(copy.token),
                        "what was written before GoLive");
         }});
  };
}

TEST(RecordSched, IsNeverTorn) {
  ExploreAll("record", ReuseAgainstRead(false));
  ExploreAll("overlapped", ReuseAgainstRead(true));
}

TEST(RecordSched, EachOrderIsNeeded) {
  EXPECT_EQ(
      sched::UnneededOrders(Everything("record"), ReuseAgainstRead(false)),
      std::vector<std::string>{});
}

// --- Sections, and a writer that frees the memory behind them.

using Registry = ReaderRegistry<HeapMemory, sched::Atomic>;

// `attached`: the reader is known before the threads start. Each of `removals`
// mappings has its memory.
sched::Body FreeAgainstSections(bool attached, int sections,
                                std::size_t removals = 1) {
  return [=] {
    Registry registry;
    auto* slot = attached ? registry.Attach() : nullptr;
    std::array<sched::Atomic<int>, 2> mapped;
    std::array<sched::Plain<int>, 2> memory;
    for (std::size_t m = 0; m < removals; ++m) {
      mapped[m].store(1, std::memory_order_relaxed);
      memory[m] = 7;
    }
    sched::RunThreads(
        {[&] {
           for (std::size_t m = 0; m < removals; ++m) {
             // relaxed: the registry has to see to the order.
             mapped[m].store(0, std::memory_order_relaxed);
             const GraceTicket ticket = registry.Retire();
             // A look, not a loop: who has not ended is left alone.
             if (registry.IsOver(ticket)) memory[m] = 0;
           }
         },
         [&] {
           if (!attached) slot = registry.Attach();
           for (int i = 0; i < sections; ++i) {
             registry.Enter(*slot);
             for (std::size_t m = 0; m < removals; ++m) {
               if (mapped[m].load(std::memory_order_relaxed) == 1) {
                 sched::Check(memory[m] == 7, "freed memory is read");
               }
             }
             registry.Leave(*slot);
           }
         }});
  };
}

TEST(SectionSched, MemoryIsFreedBehindTheSections) {
  ExploreAll("section", FreeAgainstSections(true, 1));
  ExploreAll("sections", FreeAgainstSections(true, 2));
  ExploreAll("removals", FreeAgainstSections(true, 2, 2));
  ExploreAll("attach", FreeAgainstSections(false, 1));
}

TEST(SectionSched, EachOrderIsNeeded) {
  std::vector<std::string> unneeded = sched::UnneededOrders(
      Everything("section"),
      {FreeAgainstSections(true, 2), FreeAgainstSections(false, 1)});
  // Of the lock that Attach takes, and here nobody else.
  std::erase_if(unneeded, [](const std::string& order) {
    return order.starts_with("sync.h");
  });
  EXPECT_EQ(unneeded, std::vector<std::string>{});
}

// --- The dirty bitmap, against a harvest.

// A device writes a page twice, and marks it each time; a migration harvests
// and copies what is dirty, in the end once more: then it has the last write.
// Another device marks the next page, whose bit lies in the same word.
sched::Body SetAgainstHarvest() {
  return [] {
    DirtyMap<HeapMemory, sched::Atomic> dirty;
    sched::Check(dirty.Init(RangeOf(0, 0x1fff), PageSize()).ok(), "Init");
    sched::Atomic<int> page(0);
    sched::Plain<int> other(0);
    int copy = 0;
    bool other_dirty = false;
    const auto harvest = [&] {
      std::array<std::uint64_t, 1> bits{};
      const Result<std::uint64_t> count =
          dirty.Harvest(RangeOf(0, 0x1fff), PageSize(), bits);
      sched::Check(count.ok() && *count <= 2, "Harvest");
      if ((bits[0] & 1) != 0) copy = page.load(std::memory_order_relaxed);
      if ((bits[0] & 2) == 0) return;
      sched::Check(!other_dirty, "dirty twice");
      sched::Check(other == 1, "marked before the write");
      other_dirty = true;
    };
    sched::RunThreads({[&] {
                         for (const int value : {1, 2}) {
                           // relaxed: the bitmap has to see to the order.
                           page.store(value, std::memory_order_relaxed);
                           dirty.Set(RangeOf(8, 9));
                         }
                       },
                       [&] {
                         other = 1;
                         dirty.Set(RangeOf(0x1000, 0x1000));
                       },
                       harvest},
                      [&] {
                        harvest();
                        sched::Check(copy == 2, "a write is lost");
                        sched::Check(other_dirty, "a mark is lost");
                      });
  };
}

TEST(DirtySched, NoWriteIsLost) { ExploreAll("dirty", SetAgainstHarvest()); }

TEST(DirtySched, EachOrderIsNeeded) {
  EXPECT_EQ(sched::UnneededOrders(Everything("dirty"), SetAgainstHarvest()),
            std::vector<std::string>{});
}

}  // namespace
}  // namespace dmamap
