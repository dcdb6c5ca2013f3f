// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "iommu/vtd.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "dma/address.h"
#include "dma/direction.h"
#include "dma/iommu_map.h"
#include "domain/domain.h"
#include "testing/sim_vtd.h"

namespace dmamap {
namespace {

using Unit = VtdUnit<SimVtd<>, SimTableMemory>;
using Space = VtdSpace<Unit>;
static_assert(IommuMap<Space>);

constexpr PciSource kNic(0, 4, 0);
constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

Range RangeOf(std::uint64_t first, std::uint64_t bytes) {
  return *Range::FromSize(Iova(first), bytes);
}

struct Bench {
  explicit Bench(const SimVtdOptions& options = {},
                 const VtdSpaceOptions& wanted = {.address_bits = 48})
      : memory(options.snoops), sim(&memory, options) {
    EXPECT_TRUE(unit.Init(&sim, &memory, {.polls = 5000}).ok());
    EXPECT_TRUE(space.Init(&unit, wanted).ok());
    EXPECT_TRUE(space.Attach(kNic).ok());
    EXPECT_TRUE(unit.Enable().ok());
  }
  std::optional<PhysAddr> Touch(std::uint64_t at,
                                Permission wanted = Permission::kRead) {
    return sim.Translate(kNic, Iova(at), wanted);
  }
  bool Map(std::uint64_t at, std::uint64_t bytes, std::uint64_t bus,
           Permission permission = Permission::kReadWrite) {
    const Range range = RangeOf(at, bytes);
    return space.Map(range, PhysAddr(bus), permission).ok() &&
           space.SyncMap(range).ok();
  }
  unsigned LevelOf(std::uint64_t at) {
    const auto found = space.Lookup(Iova(at));
    return found.ok() ? found->level : 0;
  }
  bool Sound() {
    return space.CheckInvariants() && unit.CheckInvariants() &&
           memory.reads_of_freed == 0 && sim.bad_descriptors == 0;
  }

  SimTableMemory memory;
  SimVtd<> sim;
  Unit unit;
  Space space;
};

TEST(Vtd, LeavesAreAsLargeAsAlignmentAllows) {
  Bench b;
  // From 4 KiB below 1 GiB to 4 KiB behind 2 GiB and 2 MiB.
  ASSERT_TRUE(
      b.Map(kGiB - 4096, 4096 + kGiB + 2 * kMiB + 4096, 5 * kGiB - 4096));
  EXPECT_EQ(b.LevelOf(kGiB - 4096), 1u);
  EXPECT_EQ(b.LevelOf(kGiB + 12345), 3u);
  EXPECT_EQ(b.LevelOf(2 * kGiB + 5), 2u);
  EXPECT_EQ(b.LevelOf(2 * kGiB + 2 * kMiB), 1u);
  EXPECT_EQ(b.LevelOf(2 * kGiB + 2 * kMiB + 4096), 0u);
  EXPECT_EQ(b.Touch(kGiB + 12345)->value(), 5 * kGiB + 12345);
  EXPECT_EQ(b.Touch(2 * kGiB + 7)->value(), 6 * kGiB + 7);
  // Memory that is not aligned as the address is: pages.
  ASSERT_TRUE(b.Map(4 * kGiB, 4 * kMiB, 4096));
  EXPECT_EQ(b.LevelOf(4 * kGiB), 1u);
  EXPECT_TRUE(b.Sound());
}

TEST(Vtd, ObeysWhatTheUnitCannotDo) {
  Bench b({.levels = 3, .large = false}, {.address_bits = 39});
  ASSERT_TRUE(b.Map(0, 4 * kMiB, 0));
  EXPECT_EQ(b.LevelOf(2 * kMiB), 1u);
  EXPECT_EQ(b.space.limit().value(), (std::uint64_t{1} << 39) - 1);
  EXPECT_EQ(b.space
                .Map(RangeOf(std::uint64_t{1} << 39, 4096), PhysAddr(),
                     Permission::kRead)
                .error(),
            Error::kOutOfRange);
  Space wide;
  EXPECT_EQ(wide.Init(&b.unit, {.address_bits = 48}).error(),
            Error::kUnsupported);
  // Four levels and no fewer.
  SimTableMemory memory;
  SimVtd<> sim(&memory, {.only_most = true});
  Unit unit;
  ASSERT_TRUE(unit.Init(&sim, &memory).ok());
  Space space;
  ASSERT_TRUE(space.Init(&unit, {.address_bits = 32}).ok());
  EXPECT_EQ(space.limit().value(), (std::uint64_t{1} << 48) - 1);
}

// What several Maps made, each may end without memory, merged or not.
TEST(Vtd, AMergedLeafIsSplitWithoutMemory) {
  Bench b;
  for (std::uint64_t p = 0; p < 512; ++p) {
    ASSERT_TRUE(b.Map(8 * kMiB + p * 4096, 4096, kGiB + p * 4096));
    ASSERT_TRUE(b.Touch(8 * kMiB + p * 4096).has_value());
  }
  EXPECT_EQ(b.LevelOf(8 * kMiB), 2u);
  EXPECT_EQ(b.space.stats().merges, 1u);
  EXPECT_EQ(b.space.stats().spares, 1u);
  EXPECT_TRUE(b.Sound());
  b.memory.fail_in = 0;
  const Range page = RangeOf(8 * kMiB + 77 * 4096, 4096);
  ASSERT_TRUE(b.space.Unmap(page).ok());
  ASSERT_TRUE(b.space.Invalidate(page).ok());
  // The table that the merge took out still says that the page is mapped.
  EXPECT_FALSE(b.Touch(page.first().value()).has_value());
  EXPECT_EQ(b.Touch(8 * kMiB + 78 * 4096)->value(), kGiB + 78 * 4096);
  EXPECT_EQ(b.space.stats().spares, 0u);
  EXPECT_TRUE(b.Sound());
}

TEST(Vtd, APartOfALargeMapMayNeedMemory) {
  Bench b;
  ASSERT_TRUE(b.Map(0, 2 * kGiB, 4 * kGiB));
  b.memory.fail_in = 1;  // 1 GiB into 2 MiB, but not these into pages
  EXPECT_EQ(b.space.Unmap(RangeOf(4096, 4096)).error(), Error::kNoMemory);
  EXPECT_EQ(b.Touch(4096)->value(), 4 * kGiB + 4096);
  b.memory.fail_in = 10;
  EXPECT_TRUE(b.space.Unmap(RangeOf(4096, 4096)).ok());
  EXPECT_TRUE(b.space.Invalidate(RangeOf(4096, 4096)).ok());
  EXPECT_FALSE(b.Touch(4096).has_value());
  EXPECT_EQ(b.Touch(8192)->value(), 4 * kGiB + 8192);
  EXPECT_TRUE(b.Sound());
}

TEST(Vtd, OneInvalidationForAChunkKeepsTheCachesOfTables) {
  Bench b;
  ASSERT_TRUE(b.Map(0x200000, 4096, 0));  // the table stays in use
  const auto before = b.unit.counts();
  ASSERT_TRUE(b.Map(0x240000, 64 * 4096, 0x100000));
  EXPECT_EQ(b.unit.counts().iotlb(), before.iotlb());  // a map costs none
  ASSERT_TRUE(b.space.Unmap(RangeOf(0x240000, 64 * 4096)).ok());
  ASSERT_TRUE(b.space.Invalidate(RangeOf(0x240000, 64 * 4096)).ok());
  const auto after = b.unit.counts();
  EXPECT_EQ(after.iotlb() - before.iotlb(), 1u);
  EXPECT_EQ(after.pages_only - before.pages_only, 1u);
  EXPECT_EQ(b.space.stats().tables_retired, 0u);
}

TEST(Vtd, ATableIsFreedAfterItsInvalidation) {
  Bench b;
  ASSERT_TRUE(b.Map(0x200000, 4096, 0x5000));
  ASSERT_TRUE(b.Touch(0x200000).has_value());
  const auto before = b.space.stats();
  ASSERT_TRUE(b.space.Unmap(RangeOf(0x200000, 4096)).ok());
  EXPECT_EQ(b.space.stats().tables_freed, before.tables_freed);
  EXPECT_EQ(b.space.stats().tables_empty, 1u);
  // Elsewhere: no reason to free it.
  ASSERT_TRUE(b.space.Invalidate(RangeOf(std::uint64_t{1} << 40, 4096)).ok());
  EXPECT_EQ(b.space.stats().tables_empty, 1u);
  // Nor while the unit may walk it.
  b.sim.mute = true;
  EXPECT_FALSE(b.space.Invalidate(RangeOf(0x200000, 4096)).ok());
  EXPECT_EQ(b.space.stats().tables_freed, before.tables_freed);
  EXPECT_EQ(b.space.stats().tables_retired, 3u);  // of levels 1 to 3
  b.sim.mute = false;
  ASSERT_TRUE(b.unit.Recover().ok());
  ASSERT_TRUE(b.space.Invalidate(RangeOf(0x200000, 4096)).ok());
  EXPECT_EQ(b.space.stats().tables_freed, before.tables_freed + 3);
  EXPECT_FALSE(b.Touch(0x200000).has_value());
  EXPECT_TRUE(b.Sound());
}

// A new mapping beside a table that is gone, and that the unit remembers: of
// very many that are empty some go at once.
TEST(Vtd, AMappingIsFoundWhereATableWasTakenOut) {
  Bench b;
  const auto at = [](std::uint64_t region, std::uint64_t page) {
    return region * 2 * kMiB + page * 4096;
  };
  constexpr std::uint64_t kRegions = 40;
  for (std::uint64_t r = 0; r < kRegions; ++r) {
    ASSERT_TRUE(b.Map(at(r, 0), 4096, 0x5000));
    ASSERT_TRUE(b.Touch(at(r, 0)).has_value());
  }
  for (std::uint64_t r = 0; r < kRegions; ++r) {
    ASSERT_TRUE(b.space.Unmap(RangeOf(at(r, 0), 4096)).ok());
  }
  EXPECT_EQ(b.space.stats().tables_empty, 32u);
  EXPECT_EQ(b.space.stats().tables_retired, 8u);
  const Range page = RangeOf(at(kRegions - 1, 1), 4096);
  ASSERT_TRUE(b.space.Map(page, PhysAddr(0x6000), Permission::kRead).ok());
  // The control: it does miss.
  EXPECT_FALSE(b.Touch(page.first().value()).has_value());
  const std::uint64_t before = b.space.requests();
  ASSERT_TRUE(b.space.SyncMap(page).ok());
  EXPECT_EQ(b.Touch(page.first().value())->value(), 0x6000u);
  EXPECT_EQ(b.space.requests() - before, 1u);
  ASSERT_TRUE(b.space.SyncMap(page).ok());
  EXPECT_EQ(b.space.requests() - before, 1u);  // once
  ASSERT_TRUE(b.space.InvalidateAll().ok());
  EXPECT_EQ(b.space.stats().tables_empty, 0u);
  EXPECT_EQ(b.space.stats().tables_retired, 0u);
  EXPECT_TRUE(b.Sound());
}

// Where only empty tables are, a large leaf finds room.
TEST(Vtd, ALargeLeafReplacesEmptyTables) {
  Bench b;
  for (const std::uint64_t at : {4 * kGiB, 4 * kGiB + 6 * kMiB}) {
    ASSERT_TRUE(b.Map(at, 4096, 0x5000));
    ASSERT_TRUE(b.Touch(at).has_value());
    ASSERT_TRUE(b.space.Unmap(RangeOf(at, 4096)).ok());
  }
  ASSERT_TRUE(b.Map(4 * kGiB + 2 * kMiB, 4096, 0x5000));
  EXPECT_EQ(b.space.Map(RangeOf(4 * kGiB, kGiB), PhysAddr(), Permission::kRead)
                .error(),
            Error::kOverlap);
  ASSERT_TRUE(b.space.Unmap(RangeOf(4 * kGiB + 2 * kMiB, 4096)).ok());
  ASSERT_TRUE(b.Map(4 * kGiB, kGiB, 2 * kGiB));
  EXPECT_EQ(b.LevelOf(4 * kGiB), 3u);
  EXPECT_EQ(b.Touch(4 * kGiB + 6 * kMiB)->value(), 2 * kGiB + 6 * kMiB);
  EXPECT_TRUE(b.Sound());
}

// 512 leaves of 2 MiB, each made of pages or not, become one; and each of the
// Maps that made them may be ended without memory.
TEST(Vtd, LeavesMergeUpToOneGibibyte) {
  for (const std::uint64_t piece : {2 * kMiB, kMiB}) {
    Bench b;
    for (std::uint64_t at = 0; at < kGiB; at += piece) {
      ASSERT_TRUE(b.Map(7 * kGiB + at, piece, 5 * kGiB + at));
      if (at % (64 * kMiB) == 0) {
        ASSERT_TRUE(b.Touch(7 * kGiB + at).has_value());
      }
    }
    EXPECT_EQ(b.LevelOf(7 * kGiB), 3u);
    EXPECT_EQ(b.space.stats().merges, piece == kMiB ? 513u : 1u);
    EXPECT_EQ(b.space.stats().spares, piece == kMiB ? 513u : 1u);
    EXPECT_TRUE(b.Sound());
    ASSERT_TRUE(b.space.InvalidateAll().ok());
    ASSERT_TRUE(b.Touch(7 * kGiB + 7 * kMiB).has_value());  // as one leaf
    b.memory.fail_in = 0;
    for (std::uint64_t at = 6 * kMiB; at < 10 * kMiB; at += piece) {
      const Range part = RangeOf(7 * kGiB + at, piece);
      ASSERT_TRUE(b.space.Unmap(part).ok());
      ASSERT_TRUE(b.space.Invalidate(part).ok());
      EXPECT_FALSE(b.Touch(part.first().value()).has_value());
      EXPECT_FALSE(b.Touch(part.last().value()).has_value());
    }
    EXPECT_EQ(b.Touch(7 * kGiB + 10 * kMiB)->value(), 5 * kGiB + 10 * kMiB);
    EXPECT_TRUE(b.Sound());
    for (std::uint64_t at = 10 * kMiB; at < kGiB; at += piece) {
      ASSERT_TRUE(b.space.Unmap(RangeOf(7 * kGiB + at, piece)).ok());
    }
    ASSERT_TRUE(b.space.Unmap(RangeOf(7 * kGiB, 6 * kMiB)).ok());
    ASSERT_TRUE(b.space.InvalidateAll().ok());
    EXPECT_EQ(b.space.stats().spares, 0u);
    EXPECT_EQ(b.space.stats().tables_made - b.space.stats().tables_freed, 1u);
    EXPECT_TRUE(b.Sound());
  }
}

// Leaves of both kinds: some could be split without memory, some not.
TEST(Vtd, LeavesOfDifferentOriginStayApart) {
  Bench b;
  ASSERT_TRUE(b.Map(0, kGiB - kMiB, 0));
  ASSERT_TRUE(b.Map(kGiB - kMiB, kMiB, kGiB - kMiB));
  EXPECT_EQ(b.LevelOf(kGiB - kMiB), 2u);
  EXPECT_EQ(b.LevelOf(0), 2u);
  EXPECT_TRUE(b.Sound());
}

// The unit may hold a large page whole, and then forgets it for an invalidation
// of that size alone.
TEST(Vtd, APartOfALeafIsForgottenWithTheLeaf) {
  for (const bool merged : {false, true}) {
    for (const bool gib : {false, true}) {
      for (const unsigned most_mask : {18u, 17u, 9u, 8u, 4u}) {
        Bench b({.most_mask = most_mask});
        const std::uint64_t size = gib ? kGiB : 2 * kMiB;
        const std::uint64_t step = merged ? size / 2 : size;
        for (std::uint64_t at = 0; at < size; at += step) {
          ASSERT_TRUE(b.Map(2 * kGiB + at, step, kGiB + at));
        }
        ASSERT_TRUE(b.space.InvalidateAll().ok());
        ASSERT_EQ(b.LevelOf(2 * kGiB), gib ? 3u : 2u);
        const Range page = RangeOf(2 * kGiB + 77 * 4096, 4096);
        const Range other = RangeOf(2 * kGiB + 79 * 4096, 4096);
        ASSERT_TRUE(b.Touch(page.first().value()).has_value());
        ASSERT_TRUE(
            b.Touch(other.first().value(), Permission::kWrite).has_value());
        ASSERT_TRUE(b.space.Unmap(page).ok());
        ASSERT_TRUE(b.Touch(page.first().value()).has_value());  // control
        ASSERT_TRUE(b.space.Invalidate(page).ok());
        EXPECT_FALSE(b.Touch(page.first().value()).has_value());
        ASSERT_TRUE(b.space.Protect(other, Permission::kRead).ok());
        EXPECT_FALSE(
            b.Touch(other.first().value(), Permission::kWrite).has_value());
        EXPECT_TRUE(b.Touch(other.first().value()).has_value());
        // Once is enough.
        const auto before = b.unit.counts();
        ASSERT_TRUE(b.space.Invalidate(page).ok());
        EXPECT_EQ(b.unit.counts().pages_only - before.pages_only, 1u);
        EXPECT_TRUE(b.Sound());
      }
    }
  }
}

// The control of all tests here: the unit does use what it remembers.
TEST(Vtd, WithoutInvalidationTheOldPageIsReached) {
  Bench b;
  ASSERT_TRUE(b.Map(0x200000, 4096, 0x5000));
  ASSERT_TRUE(b.Touch(0x200000).has_value());
  ASSERT_TRUE(b.space.Unmap(RangeOf(0x200000, 4096)).ok());
  EXPECT_EQ(b.Touch(0x200000)->value(), 0x5000u);
  ASSERT_TRUE(b.space.Invalidate(RangeOf(0x200000, 4096)).ok());
  EXPECT_FALSE(b.Touch(0x200000).has_value());
}

TEST(Vtd, InvalidationsCoverWhatTheyMustAndLittleMore) {
  Bench b({}, {.address_bits = 48, .merges = false});
  ASSERT_TRUE(b.Map(0x400000, 4 * kMiB, 0x400000));
  const auto count = [&](std::uint64_t page, std::uint64_t pages) {
    const auto before = b.unit.counts();
    EXPECT_TRUE(b.space.Invalidate(RangeOf(page << 12, pages << 12)).ok());
    const auto after = b.unit.counts();
    EXPECT_EQ(after.waits - before.waits, 1u);
    return std::pair(after.pages_only - before.pages_only,
                     after.domain - before.domain);
  };
  using P = std::pair<std::uint64_t, std::uint64_t>;
  EXPECT_EQ(count(0x400, 1), P(1, 0));
  EXPECT_EQ(count(0x403, 3), P(1, 0));  // a block of 8
  EXPECT_EQ(count(0x5ff, 2), P(2, 0));  // across an end: two blocks
  EXPECT_EQ(count(0, std::uint64_t{1} << 20), P(0, 1));  // 4 GiB
  EXPECT_TRUE(b.Sound());
}

TEST(Vtd, FaultsNameAddressSourceAndAccess) {
  Bench b({.fault_records = 2});
  ASSERT_TRUE(b.Map(0x1000, 4096, 0x9000, Permission::kRead));
  EXPECT_FALSE(b.Touch(0x1234, Permission::kWrite).has_value());
  EXPECT_FALSE(b.Touch(0x777123).has_value());
  EXPECT_FALSE(
      b.sim.Translate(PciSource(0, 9, 3), Iova(0x5000),
                      Permission::kRead)
          .has_value());  // lost
  std::vector<IommuFault> faults;
  const auto note = [&](const IommuFault& f) { faults.push_back(f); };
  auto summary = b.unit.ReadFaults(note);
  ASSERT_TRUE(summary.ok());
  EXPECT_EQ(summary->faults, 2u);
  EXPECT_TRUE(summary->overflow);
  ASSERT_EQ(faults.size(), 2u);
  EXPECT_EQ(faults[0].page.value(), 0x1000u);
  EXPECT_EQ(faults[0].source, kNic);
  EXPECT_EQ(faults[0].access, Permission::kWrite);
  EXPECT_EQ(faults[0].reason, 5);
  EXPECT_EQ(faults[1].page.value(), 0x777000u);
  EXPECT_EQ(faults[1].access, Permission::kRead);
  summary = b.unit.ReadFaults(note);
  ASSERT_TRUE(summary.ok());
  EXPECT_EQ(summary->faults, 0u);
  EXPECT_FALSE(summary->overflow);
}

TEST(Vtd, SpacesAreApart) {
  Bench b;
  Space other;
  ASSERT_TRUE(other.Init(&b.unit).ok());
  EXPECT_NE(other.id(), b.space.id());
  EXPECT_EQ(other.Attach(kNic).error(), Error::kBusy);
  const PciSource second(7, 1, 0);
  ASSERT_TRUE(other.Attach(second).ok());
  ASSERT_TRUE(b.Map(0x1000, 4096, 0x9000));
  EXPECT_FALSE(
      b.sim.Translate(second, Iova(0x1000), Permission::kRead).has_value());
  EXPECT_TRUE(b.Touch(0x1000).has_value());
  EXPECT_EQ(other.Detach(kNic).error(), Error::kNotMapped);
  ASSERT_TRUE(b.space.Detach(kNic).ok());
  EXPECT_FALSE(b.Touch(0x1000).has_value());
  ASSERT_TRUE(other.Attach(kNic).ok());
  EXPECT_FALSE(b.Touch(0x1000).has_value());
}

TEST(Vtd, GivesBackAllMemory) {
  SimTableMemory memory;
  SimVtd<> sim(&memory, {});
  {
    Unit unit;
    ASSERT_TRUE(unit.Init(&sim, &memory).ok());
    Space space;
    ASSERT_TRUE(space.Init(&unit).ok());
    ASSERT_TRUE(space.Attach(kNic).ok());
    std::uint64_t at = 0;
    for (int i = 0; i < 20; ++i, at += 777 * 4096) {
      ASSERT_TRUE(
          space.Map(RangeOf(at, 5 * 4096), PhysAddr(0), Permission::kRead)
              .ok());
    }
    ASSERT_TRUE(space.Unmap(RangeOf(0, 5 * 4096)).ok());
  }
  EXPECT_EQ(memory.pages_out(), 0u);
  EXPECT_EQ(memory.reads_of_freed, 0u);
}

// Every failing allocation of the setup is an error value and leaves nothing.
TEST(Vtd, SetupWithoutMemory) {
  for (std::uint64_t n = 0; n < 8; ++n) {
    SimTableMemory memory;
    SimVtd<> sim(&memory, {});
    {
      Unit unit;
      Space space;
      memory.fail_in = n;
      Result<void> done = unit.Init(&sim, &memory);
      if (done.ok()) done = space.Init(&unit);
      if (done.ok()) done = space.Attach(kNic);
      if (done.ok()) {
        done = space.Map(RangeOf(0, 4096), PhysAddr(0), Permission::kRead);
      }
      EXPECT_EQ(done.ok(), n >= 6) << n;
      if (!done.ok()) {
        EXPECT_EQ(done.error(), Error::kNoMemory);
      }
      EXPECT_TRUE(space.CheckInvariants());
    }
    EXPECT_EQ(memory.pages_out(), 0u) << n;
  }
}

// Each of these is a page of the same unit, which reaches less than memory
// does.
TEST(Vtd, PagesThatTheUnitCannotReachAreRefused) {
  SimTableMemory memory;
  SimVtd<> sim(&memory, {});
  {
    Unit unit;
    EXPECT_EQ(unit.Init(&sim, &memory, {.bus_bits = 13}).error(),
              Error::kOutOfRange);
  }
  EXPECT_EQ(memory.pages_out(), 0u);
}

// --- Units that lie ---

// A status word of long ago is not taken for an answer.
TEST(VtdQueue, AWordOfLongAgoIsNoAnswer) {
  constexpr std::uint32_t kHalf = std::uint32_t{1} << 31;
  for (const std::uint32_t number : {0u, kHalf + 100, UINT32_MAX - 3}) {
    SimTableMemory memory;
    SimVtd<> sim(&memory, {});
    InvalidationQueue<SimVtd<>, SimTableMemory, SecondLevelPolicies> queue;
    ASSERT_TRUE(queue.Init(&sim, &memory, false, 100).ok());
    ASSERT_TRUE(queue.Start().ok());
    queue.SkipNumbersForTest(number);
    // Words of numbers 2^31 before, in slots of one parity, of which these
    // here are the others.
    for (std::uint32_t i = 0; i < 300; ++i) {
      const InvalidationDescriptor work[] = {vtd::ForgetAll(),
                                             vtd::ForgetContexts()};
      ASSERT_TRUE(queue.Submit(std::span(work).first(1 + i % 2)).ok()) << i;
      ASSERT_TRUE(queue.CheckInvariants());
    }
    queue.SkipNumbersForTest(kHalf);
    sim.mute = true;
    for (int i = 0; i < 2; ++i) {
      const InvalidationDescriptor work[] = {vtd::ForgetAll()};
      EXPECT_FALSE(queue.Submit(work).ok());
    }
    ASSERT_TRUE(queue.Stop().ok());
    queue.Free();
  }
}

TEST(VtdLiar, ADetachThatFailedIsNotForgotten) {
  Bench b;
  Space other;
  ASSERT_TRUE(other.Init(&b.unit).ok());
  ASSERT_TRUE(b.Map(0x1000, 4096, 0x9000));
  ASSERT_TRUE(b.Touch(0x1000).has_value());
  b.sim.queue_error = true;
  EXPECT_EQ(b.space.Detach(kNic).error(), Error::kDevice);
  EXPECT_TRUE(b.Touch(0x1000).has_value());  // it still reaches
  EXPECT_EQ(b.space.Detach(kNic).error(), Error::kDevice);
  EXPECT_EQ(other.Attach(kNic).error(), Error::kDevice);
  b.sim.queue_error = false;
  EXPECT_EQ(other.Attach(kNic).error(), Error::kDevice);  // broken
  ASSERT_TRUE(b.unit.Recover().ok());
  ASSERT_TRUE(other.Attach(kNic).ok());
  EXPECT_FALSE(b.Touch(0x1000).has_value());
  EXPECT_TRUE(b.Sound());
}

// All ones have the bit of a fault.
TEST(VtdLiar, AUnitThatGoesAwayHasNoFaults) {
  Bench b({.fault_records = 2});
  EXPECT_FALSE(b.Touch(0x777123).has_value());
  struct Gone {
    SimVtd<>& sim;
    std::uint32_t Read32(std::uint32_t at) { return sim.Read32(at); }
    std::uint64_t Read64(std::uint32_t) { return UINT64_MAX; }
    void Write32(std::uint32_t, std::uint32_t) {}
    void Write64(std::uint32_t, std::uint64_t) {}
  } gone{b.sim};
  int faults = 0;
  EXPECT_EQ(ReadFaults(gone, b.unit.capabilities(),
                       [&](const IommuFault&) { ++faults; })
                .error(),
            Error::kDevice);
  EXPECT_EQ(faults, 0);
}

TEST(VtdLiar, AWaitThatIsNotAnsweredIsAnError) {
  Bench b;
  ASSERT_TRUE(b.Map(0x1000, 4096, 0x9000));
  ASSERT_TRUE(b.space.Unmap(RangeOf(0x1000, 4096)).ok());
  b.sim.mute = true;
  EXPECT_EQ(b.space.Invalidate(RangeOf(0x1000, 4096)).error(), Error::kDevice);
  EXPECT_EQ(b.space.stats().tables_freed, 0u);  // it may still walk there
  EXPECT_EQ(b.space.InvalidateAll().error(), Error::kDevice);
  b.sim.mute = false;
  EXPECT_EQ(b.space.InvalidateAll().error(), Error::kDevice);  // broken
  ASSERT_TRUE(b.unit.Recover().ok());
  ASSERT_TRUE(b.space.InvalidateAll().ok());
  EXPECT_EQ(b.space.stats().tables_freed, 3u);
  EXPECT_EQ(b.unit.counts().failures, 3u);
  EXPECT_TRUE(b.Sound());
}

TEST(VtdLiar, AQueueErrorIsSeenAtOnce) {
  Bench b;
  b.sim.queue_error = true;
  EXPECT_EQ(b.space.InvalidateAll().error(), Error::kDevice);
  b.sim.queue_error = false;
  ASSERT_TRUE(b.unit.Recover().ok());
  EXPECT_TRUE(b.space.InvalidateAll().ok());
}

TEST(VtdLiar, AUnitThatDoesNotObeyKeepsItsMemory) {
  SimTableMemory memory;
  SimVtd<> sim(&memory, {});
  {
    Unit unit;
    ASSERT_TRUE(unit.Init(&sim, &memory, {.polls = 100}).ok());
    ASSERT_TRUE(unit.Enable().ok());
    sim.stuck_status = true;
    EXPECT_EQ(unit.Disable().error(), Error::kDevice);
  }
  EXPECT_NE(memory.pages_out(), 0u);
  EXPECT_EQ(memory.reads_of_freed, 0u);
}

// A unit whose registers say anything, and whose answers to waits are right,
// late, wrong, another's or none. Counts what it was asked.
class LyingUnit {
 public:
  explicit LyingUnit(SimTableMemory* memory) : memory_(memory) {}

  std::uint64_t seed = 1;
  std::uint64_t accesses = 0;
  bool sane_capabilities = false;
  std::uint64_t honest_in_16 = 0;
  // The last wait has its own number in its own word.
  bool confirmed = false;

  std::uint32_t Read32(std::uint32_t) {
    const auto said = static_cast<std::uint32_t>(Next());
    AnswerLate();
    return said;
  }
  std::uint64_t Read64(std::uint32_t offset) {
    if (sane_capabilities && offset == vtd::kCapability) {
      return (Next() & 0x00ff'ffff'0000'0097) | 0x3fu << 16 | 6u << 8;
    }
    if (sane_capabilities && offset == vtd::kExtendedCapability) return 2;
    return Next();
  }
  void Write32(std::uint32_t, std::uint32_t) { ++accesses; }
  void Write64(std::uint32_t offset, std::uint64_t value) {
    ++accesses;
    if (offset == vtd::kQueueAddress) queue_ = value;
    if (offset == vtd::kQueueTail && queue_ != 0) Answer(value);
  }

 private:
  struct Wait {
    std::uint64_t word = 0;
    std::uint32_t number = 0;
  };

  std::uint64_t Next() {
    ++accesses;
    // Often what means "gone", "nothing", "all at once".
    switch (Random(16)) {
      case 0:
        return 0;
      case 1:
        return UINT64_MAX;
      default:
        return seed * 0x9e37'79b9'7f4a'7c15;
    }
  }
  std::uint64_t Random(std::uint64_t n) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (seed >> 20) % n;
  }
  void Write(std::uint64_t word, std::uint32_t value) {
    memory_->Store(word, value);
    if (word == last_.word) confirmed = value == last_.number;
  }
  // The descriptor before the tail is the wait.
  void Answer(std::uint64_t tail) {
    const std::uint64_t at = queue_ + ((tail - 16) & 0xff0);
    const std::uint64_t low = memory_->Load(at);
    const Wait before = last_;
    last_ = {memory_->Load(at + 8), static_cast<std::uint32_t>(low >> 32)};
    confirmed = false;
    if (Random(16) < honest_in_16) return Write(last_.word, last_.number);
    switch (Random(7)) {
      case 0:  // another's number, in this word
        return Write(last_.word, before.number);
      case 1:  // this number, in another's word
        if (before.word != 0) Write(before.word, last_.number);
        return;
      case 2:  // one that nobody has
        return Write(last_.word, last_.number + 1);
      case 3:
        return Write(last_.word, static_cast<std::uint32_t>(Next()));
      case 4:
        return Write(last_.word, 0);
      case 5:
        late_ = true;
        return;
      default:
        return;  // nothing
    }
  }
  void AnswerLate() {
    if (late_) Write(last_.word, last_.number);
    late_ = false;
  }

  SimTableMemory* memory_;
  std::uint64_t queue_ = 0;
  Wait last_;
  bool late_ = false;
};

RC_GTEST_PROP(VtdLiar, EveryCallEndsInAValue, ()) {
  using Lied = VtdUnit<LyingUnit, SimTableMemory>;
  SimTableMemory memory;
  LyingUnit liar(&memory);
  liar.seed = *rc::gen::inRange<std::uint64_t>(1, UINT64_MAX);
  liar.sane_capabilities = *rc::gen::inRange(0, 4) != 0;
  const auto honest = *rc::gen::element<std::uint64_t>(0, 8, 14, 16);
  // Most come past Init.
  liar.honest_in_16 = *rc::gen::inRange(0, 8) != 0 ? 16 : honest;
  // So that errors are looked for while a wait is under way.
  constexpr std::uint32_t kPolls = 3000;
  // A call waits for a few commands and one place in the queue, and asks for
  // at most 256 faults.
  const auto bounded = [&](auto&& call) {
    const std::uint64_t before = liar.accesses;
    const Result<void> done = call();
    RC_ASSERT(liar.accesses - before < 4 * kPolls);
    return done.ok();
  };
  std::uint64_t over = 0;
  {
    Lied unit;
    VtdSpace<Lied> space;
    (void)bounded([&] {
      return unit.Init(&liar, &memory, {.polls = kPolls, .take_over = true});
    });
    (void)bounded([&] { return space.Init(&unit); });
    (void)bounded([&] { return space.Attach(kNic); });
    liar.honest_in_16 = honest;
    // Success is the unit's own word for it, and only then a table is freed.
    const auto confirmed = [&](auto&& call) {
      const std::uint64_t freed = space.stats().tables_freed;
      const bool done = bounded(call);
      RC_ASSERT(!done || liar.confirmed);
      RC_ASSERT(done || space.stats().tables_freed == freed);
      over += done ? 1 : 0;
      return done;
    };
    const int steps = *rc::gen::inRange(1, 30);
    for (int i = 0; i < steps; ++i) {
      const Range range = RangeOf(0x1000u * static_cast<unsigned>(i), 4096);
      (void)bounded([&] {
        const auto mapped = space.Map(range, PhysAddr(), Permission::kRead);
        return mapped.ok() ? space.SyncMap(range) : mapped;
      });
      (void)bounded([&] { return space.Unmap(range); });
      const bool one = confirmed([&] { return space.Invalidate(range); });
      const bool all = confirmed([&] { return space.InvalidateAll(); });
      (void)bounded([&] {
        std::uint32_t faults = 0;
        const auto read = unit.ReadFaults([&](const IommuFault&) { ++faults; });
        RC_ASSERT(faults <= 256u);
        return read.ok() ? Ok() : Result<void>(read.error());
      });
      if (!one || !all) (void)confirmed([&] { return unit.Recover(); });
      RC_ASSERT(space.CheckInvariants() && unit.CheckInvariants());
    }
  }
  RC_CLASSIFY(over > 0, "some invalidation confirmed");
  RC_CLASSIFY(over > 20, "many confirmed");
}

// --- Behind a Domain ---

struct OverVtd : DomainPolicies {
  using Invalidation = Space;
};

// Random maps, accesses, unmaps and reuse, in every mode that has tables: what
// the device reaches is the mapping that lives there now, or nothing.
RC_GTEST_PROP(VtdDomain, NoStaleHits, ()) {
  SimVtdOptions options;
  options.caches_absent = *rc::gen::inRange(0, 3) == 0;
  options.levels = *rc::gen::element(3u, 4u);
  SimTableMemory memory;
  SimVtd<> sim(&memory, options);
  Unit unit;
  RC_ASSERT(unit.Init(&sim, &memory).ok());
  Domain<OverVtd> domain;
  RC_ASSERT(domain.invalidation().Init(&unit).ok());
  RC_ASSERT(domain.invalidation().Attach(kNic).ok());
  RC_ASSERT(unit.Enable().ok());
  const auto mode =
      *rc::gen::element(DomainMode::kDirect, DomainMode::kUnalignedEnds,
                        DomainMode::kBounce, DomainMode::kPooled);
  const bool deferred = *rc::gen::inRange(0, 2) == 0;
  FlushQueueOptions flush;
  flush.mode = deferred ? FlushMode::kDeferred : FlushMode::kStrict;
  flush.entries = 16;
  flush.max_age = 0;
  // A small space: addresses are used again soon.
  RC_ASSERT(
      domain.Init({.bounce_size = 96 * 4096, .mode = mode, .flush = flush})
          .ok());

  constexpr std::size_t kSlot = 4 * 4096;
  constexpr std::size_t kSlots = 8;
  HeapPages heap;
  std::byte* const arena =
      *heap.Allocate(PageSize(), kSlots * kSlot / 4096 + 1);
  std::optional<Mapping> live[kSlots];
  std::byte* of[kSlots] = {};  // the buffer of each
  const int steps = *rc::gen::inRange(1, 150);
  for (int i = 0; i < steps; ++i) {
    const auto k = *rc::gen::inRange<std::size_t>(0, kSlots);
    std::byte* const buffer =
        arena + k * kSlot + *rc::gen::element(0u, 64u, 4000u);
    if (!live[k]) {
      const auto size = *rc::gen::inRange<std::uint64_t>(1, 9000);
      const auto m =
          domain.Map(PhysAddrOf(buffer), size, Direction::kFromDevice);
      if (m.ok()) live[k] = *m;
      of[k] = buffer;
      if (!m.ok()) RC_ASSERT(m.error() == Error::kNoSpace);
      continue;
    }
    const Mapping m = *live[k];
    // The device writes a byte at each end; the CPU finds them.
    const auto mark = static_cast<std::byte>(i + 1);
    for (const std::uint64_t at : {std::uint64_t{0}, m.size - 1}) {
      const auto bus = sim.Translate(kNic, m.iova + at, Permission::kWrite);
      RC_ASSERT(bus.has_value());
      *PointerTo(*bus) = mark;
    }
    RC_ASSERT(domain.Unmap(m).ok());
    RC_ASSERT(of[k][0] == mark);
    RC_ASSERT(of[k][m.size - 1] == mark);
    live[k].reset();
    if (!deferred && mode != DomainMode::kPooled) {
      RC_ASSERT(!sim.Translate(kNic, m.iova, Permission::kWrite).has_value());
    }
  }
  for (auto& m : live) {
    if (m) RC_ASSERT(domain.Unmap(*m).ok());
  }
  RC_ASSERT(domain.Flush().ok());
  RC_ASSERT(domain.CheckInvariants());
  RC_ASSERT(domain.invalidation().CheckInvariants());
  RC_ASSERT(memory.reads_of_freed == 0u);
  RC_ASSERT(sim.bad_descriptors == 0u);
  RC_ASSERT(domain.Shutdown([](const Leak&) {}).ok());
  heap.Free(arena, PageSize(), kSlots * kSlot / 4096 + 1);
}

// Where a device's writes are interrupts no memory is, nor is it handed out.
TEST(VtdDomain, TheInterruptsAddressesAreNobodys) {
  Bench b;
  for (const auto& [at, bytes] :
       {std::pair(0xfee0'0000u, 4096u), std::pair(0xfeef'f000u, 4096u),
        std::pair(0xfedf'f000u, 8192u), std::pair(0xfec0'0000u, 0x40'0000u)}) {
    EXPECT_FALSE(b.Map(at, bytes, at));
    EXPECT_EQ(b.space.Map(RangeOf(at, bytes), PhysAddr(at), Permission::kRead)
                  .error(),
              Error::kOutOfRange);
  }
  EXPECT_TRUE(b.Map(0xfedf'f000, 4096, 0) && b.Map(0xfef0'0000, 4096, 0));

  SimTableMemory memory;
  SimVtd<> sim(&memory, {});
  Unit unit;
  ASSERT_TRUE(unit.Init(&sim, &memory).ok());
  Domain<OverVtd> domain;
  ASSERT_TRUE(domain.invalidation().Init(&unit).ok());
  // 2 MiB of coherent space, of which 1 MiB is left.
  ASSERT_TRUE(domain
                  .Init({.limit = Iova(0xfeff'ffff),
                         .bounce_size = 0xfee0'0000,
                         .mode = DomainMode::kDirect})
                  .ok());
  std::vector<CoherentBlock> blocks;
  for (;;) {
    const auto block = domain.AllocateCoherent(4096);
    if (!block.ok()) break;
    EXPECT_GE(block->iova.value(), 0xfef0'0000u);
    blocks.push_back(*block);
  }
  EXPECT_EQ(blocks.size(), 256u);
  for (const CoherentBlock& block : blocks) {
    EXPECT_TRUE(domain.FreeCoherent(block).ok());
  }
  EXPECT_TRUE(domain.Shutdown([](const Leak&) {}).ok());
}

// What an Unmap costs: strict one invalidation, deferred one for many.
TEST(VtdDomain, InvalidationsForEachUnmap) {
  for (const auto& [deferred, alone] :
       {std::pair(false, false), std::pair(false, true), std::pair(true, false),
        std::pair(true, true)}) {
    SimTableMemory memory;
    SimVtd<> sim(&memory, {});
    Unit unit;
    ASSERT_TRUE(unit.Init(&sim, &memory).ok());
    Domain<OverVtd> domain;
    ASSERT_TRUE(domain.invalidation().Init(&unit).ok());
    ASSERT_TRUE(domain.invalidation().Attach(kNic).ok());
    FlushQueueOptions flush;
    flush.mode = deferred ? FlushMode::kDeferred : FlushMode::kStrict;
    flush.max_age = 0;
    ASSERT_TRUE(
        domain.Init({.mode = DomainMode::kDirect, .flush = flush}).ok());
    HeapPages heap;
    std::byte* const buffer = *heap.Allocate(PageSize(), 1);
    // With a neighbour that stays, as in a ring, or alone.
    const auto stays =
        domain.Map(PhysAddrOf(buffer), 4096, Direction::kToDevice);
    ASSERT_TRUE(stays.ok());
    if (alone) {
      ASSERT_TRUE(domain.Unmap(*stays).ok());
    }
    const std::uint64_t before = domain.invalidation().requests();
    constexpr std::uint64_t kUnmaps = 4096;
    for (std::uint64_t i = 0; i < kUnmaps; ++i) {
      const auto m = domain.Map(PhysAddrOf(buffer), 4096, Direction::kToDevice);
      ASSERT_TRUE(m.ok() && domain.Unmap(*m).ok());
    }
    const std::uint64_t used = domain.invalidation().requests() - before;
    if (deferred) {
      EXPECT_LT(used * 64, kUnmaps);
      EXPECT_GT(used, 0u);
    } else {
      EXPECT_EQ(used, kUnmaps);
    }
    if (!alone) {
      ASSERT_TRUE(domain.Unmap(*stays).ok());
    }
    ASSERT_TRUE(domain.Shutdown([](const Leak&) {}).ok());
    EXPECT_EQ(domain.invalidation().stats().tables_empty, 0u);
    EXPECT_EQ(domain.invalidation().stats().tables_retired, 0u);
    heap.Free(buffer, PageSize(), 1);
  }
}

}  // namespace
}  // namespace dmamap
