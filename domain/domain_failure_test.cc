// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Every failure undoes what was done before it: each allocation of each call is
// made to fail in turn, the C++ heap's (operator new) and the PageSource's,
// until the call succeeds; before that the domain is as it was, and afterwards
// nothing is lost.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "bounce/swappable_pages.h"
#include "domain/coherent_pool.h"
#include "domain/domain.h"
#include "domain/failing_new_for_test.h"
#include "domain/ledger_mapper.h"
#include "domain/parts_for_test.h"
#include "testing/domain_port.h"

namespace dmamap {
namespace {

using testing_parts::Bytes;
using testing_parts::fail_in;
using testing_parts::Pattern;
using testing_parts::WatchedDomain;

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kNever = ~std::uint64_t{0};

struct World {
  explicit World(DomainOptions options = {.limit = Iova(0xffffff),
                                          .bounce_size = 64 * kPage}) {
    EXPECT_TRUE(domain.Init(options).ok());
  }
  WatchedDomain domain;
  DomainPort<WatchedDomain> port{domain};
  Bytes buffer = Pattern(8 * kPage, 4);
  PhysAddr at = PhysAddrOf(buffer.data());
};

// What a failed call must leave alone.
struct Snapshot {
  explicit Snapshot(World& w)
      : stats(w.domain.stats()),
        memory(w.domain.pages().inner.in_use()),
        buffer(w.buffer) {}
  DomainStats stats;
  std::uint64_t memory;
  Bytes buffer;

  void Expect(World& w) const {
    EXPECT_EQ(w.domain.stats().live, stats.live);
    EXPECT_EQ(w.domain.stats().coherent, stats.coherent);
    EXPECT_EQ(w.domain.stats().maps - w.domain.stats().unmaps, stats.live);
    EXPECT_EQ(w.domain.pages().inner.in_use(), memory);
    EXPECT_EQ(w.buffer, buffer);
    EXPECT_EQ(w.domain.memory().open_windows(), 0);
    EXPECT_TRUE(w.domain.CheckInvariants());
  }
};

// One of the two countdowns.
using Countdown = std::uint64_t& (*)(World&);
std::uint64_t& Heap(World&) { return fail_in; }
std::uint64_t& Pages(World& w) { return w.domain.pages().fail_in; }

// Runs call(world) with allocation 0, 1, 2 ... failing until it makes no more
// allocations, each time in a fresh world that prepare(world) made. A call may
// do without (a failed magazine sends the allocator to its slow path), but if
// it fails, nothing has changed. Returns how often it failed.
int FailEach(const std::function<void(World&)>& prepare,
             const std::function<Result<void>(World&)>& call,
             Countdown countdown) {
  int failures = 0;
  for (std::uint64_t n = 0; n < 200; ++n) {
    World w;
    prepare(w);
    const Snapshot before(w);
    countdown(w) = n;
    const Result<void> r = call(w);
    const bool fired = countdown(w) > n;  // it wraps when it fires
    countdown(w) = kNever;
    EXPECT_TRUE(w.domain.CheckInvariants());
    if (!fired) {
      EXPECT_TRUE(r.ok());
      return failures;
    }
    if (r.ok()) continue;
    ++failures;
    EXPECT_EQ(r.error(), Error::kNoMemory);
    before.Expect(w);
    EXPECT_TRUE(call(w).ok()) << "it works when there is memory again";
    EXPECT_TRUE(w.domain.CheckInvariants());
  }
  ADD_FAILURE() << "never ends";
  return failures;
}

void Nothing(World&) {}

Result<void> MapOne(World& w) {
  const auto m = w.domain.Map(w.at, 3 * kPage, Direction::kBidirectional);
  return m.ok() ? Ok() : Result<void>(m.error());
}

TEST(AllocationFailure, Init) {
  int failures = 0;
  for (const std::uint32_t owners : {1u, 3u}) {
    const int before = failures;
    for (std::uint64_t n = 0; n < 200; ++n) {
      Domain<> d;
      fail_in = n;
      const auto r = d.Init({.owners = owners});
      const bool fired = fail_in > n;
      fail_in = kNever;
      if (!fired) break;
      if (r.ok()) continue;
      ++failures;
      ASSERT_EQ(r.error(), Error::kNoMemory);
      EXPECT_TRUE(d.Init({.owners = owners}).ok()) << "and may be called again";
    }
    EXPECT_GT(failures, 2 * before);
  }
}

TEST(AllocationFailure, Map) {
  // The nodes of the records, of the page table and of the IOTLB.
  EXPECT_GT(FailEach(Nothing, MapOne, Heap), 2);
  EXPECT_EQ(FailEach(Nothing, MapOne, Pages), 0)
      << "pages come when the device touches them";
}

TEST(AllocationFailure, MapScatterInTheMiddle) {
  const auto call = [](World& w) -> Result<void> {
    const std::vector<ScatterEntry> list = {
        {w.at, 100}, {w.at + kPage, 2 * kPage}, {w.at + 5 * kPage, kPage}};
    std::vector<Mapping> out(3);
    return w.domain.MapScatter(list, Direction::kFromDevice, out);
  };
  EXPECT_GT(FailEach(Nothing, call, Heap), 2);
}

TEST(AllocationFailure, Fault) {
  Mapping m;
  const auto prepare = [&](World& w) {
    m = *w.domain.Map(w.at, 3 * kPage, Direction::kToDevice);
  };
  const auto call = [&](World& w) -> Result<void> {
    Bytes b(3 * kPage);
    const Transfer t = w.port.Read(m.iova, b.data(), b.size());
    w.domain.ReclaimIdle();
    return t.result;
  };
  // The page of the first turn may have been made before the second fails.
  for (Countdown countdown : {Heap, Pages}) {
    World w;
    prepare(w);
    countdown(w) = 0;
    const auto r = w.domain.Fault(m.iova);
    countdown(w) = kNever;
    ASSERT_FALSE(r.ok());
    EXPECT_EQ(r.error(), Error::kNoMemory);
    EXPECT_EQ(w.domain.pages().inner.in_use(), 0u);
    EXPECT_EQ(w.domain.stats().faults, 0u);
    EXPECT_TRUE(call(w).ok());
    EXPECT_TRUE(w.domain.CheckInvariants());
  }
}

TEST(AllocationFailure, AllocateCoherent) {
  const auto call = [](World& w) -> Result<void> {
    const auto b = w.domain.AllocateCoherent(2 * kPage);
    return b.ok() ? Ok() : Result<void>(b.error());
  };
  EXPECT_GT(FailEach(Nothing, call, Heap), 2);
  EXPECT_EQ(FailEach(Nothing, call, Pages), 1);
}

TEST(AllocationFailure, SyncForDeviceOfASkipSyncMapping) {
  Mapping m;
  const auto prepare = [&](World& w) {
    m = *w.domain.Map(w.at, kPage, Direction::kToDevice,
                      MapAttributes::kSkipSync);
  };
  const auto call = [&](World& w) { return w.domain.SyncForDevice(m, 10, 10); };
  EXPECT_EQ(FailEach(prepare, call, Pages), 1);
  EXPECT_EQ(FailEach(prepare, call, Heap), 1);
}

TEST(AllocationFailure, UnmapNeedsNoMemory) {
  World w;
  const auto m = w.domain.Map(w.at, 3 * kPage, Direction::kFromDevice);
  const auto c = w.domain.AllocateCoherent(10);
  ASSERT_TRUE(w.port.Write(m->iova, Pattern(kPage, 8).data(), kPage).ok());
  fail_in = 0;
  w.domain.pages().fail_in = 0;
  EXPECT_TRUE(w.domain.Unmap(*m).ok());
  fail_in = 0;
  EXPECT_TRUE(w.domain.FreeCoherent(*c).ok());
  fail_in = kNever;
}

// Both ways: to lent pages and back. Whatever fails, the pages stay where they
// are, with what is on them.
TEST(AllocationFailure, SwapPages) {
  struct Policies : DomainPolicies {
    using Pages = SwappablePages<HeapPages>;
  };
  struct alignas(4096) Lent {
    std::array<std::byte, 8 * kPage> bytes;
  };
  const auto lent = std::make_unique<Lent>();
  const Bytes buffer = Pattern(3 * kPage, 5);
  int failures = 0;
  for (const PageHome to : {PageHome::kLent, PageHome::kOwn}) {
    for (std::uint64_t n = 0;; ++n) {
      ASSERT_LT(n, 100u);
      Domain<Policies> domain;
      ASSERT_TRUE(
          domain.Init({.limit = Iova(0xffffff), .bounce_size = 16 * kPage})
              .ok());
      const std::array regions = {
          UserRegion{lent->bytes.data(), lent->bytes.size()}};
      ASSERT_TRUE(domain.pages().lent().Register({.regions = regions}).ok());
      if (to == PageHome::kOwn) {
        ASSERT_TRUE(domain.SwapPages(PageHome::kLent).ok());
      }
      const auto m = domain.Map(PhysAddrOf(buffer.data()), buffer.size(),
                                Direction::kToDevice);
      ASSERT_TRUE(m.ok());
      DomainPort<Domain<Policies>> port(domain);
      Bytes seen(buffer.size());
      ASSERT_TRUE(port.Read(m->iova, seen.data(), seen.size()).ok());
      const PageHome before = domain.pages().home();
      fail_in = n;
      const auto swapped = domain.SwapPages(to);
      const bool fired = fail_in > n;
      fail_in = kNever;
      EXPECT_TRUE(domain.CheckInvariants());
      if (!swapped.ok()) {
        ++failures;
        EXPECT_EQ(swapped.error(), Error::kNoMemory);
        EXPECT_EQ(domain.pages().home(), before);
        EXPECT_EQ(domain.pages().out(before), 3u);
      }
      std::fill(seen.begin(), seen.end(), std::byte{0});
      EXPECT_TRUE(port.Read(m->iova, seen.data(), seen.size()).ok());
      EXPECT_EQ(seen, buffer);
      EXPECT_EQ(*domain.SwapPages(to), swapped.ok() ? 0u : 3u);
      EXPECT_EQ(domain.pages().out(to), 3u);
      EXPECT_TRUE(domain.Unmap(*m).ok());
      domain.ReclaimIdle();
      EXPECT_TRUE(domain.CheckInvariants());
      if (!fired) break;
    }
  }
  EXPECT_GE(failures, 5);  // the list, and of one's own pages each
}

TEST(AllocationFailure, CoherentPool) {
  for (const Countdown countdown : {Heap, Pages}) {
    int failures = 0;
    for (std::uint64_t n = 0;; ++n) {
      ASSERT_LT(n, 100u);
      World w;
      CoherentPool pool(w.domain);
      ASSERT_TRUE(pool.Init({.size = 64}).ok());
      const Snapshot before(w);
      countdown(w) = n;
      const auto block = pool.Allocate();
      const bool fired = countdown(w) > n;
      countdown(w) = kNever;
      EXPECT_TRUE(pool.CheckInvariants());
      if (!fired) {
        EXPECT_TRUE(block.ok());
        break;
      }
      if (block.ok()) continue;
      ++failures;
      EXPECT_EQ(block.error(), Error::kNoMemory);
      EXPECT_EQ(pool.stats().out, 0u);
      EXPECT_EQ(pool.stats().chunks, 0u);
      before.Expect(w);
      EXPECT_TRUE(pool.Allocate().ok()) << "when there is memory again";
      EXPECT_TRUE(pool.CheckInvariants());
    }
    EXPECT_GT(failures, 0);
  }
}

TEST(AllocationFailure, LedgerInitMayBeTriedAgain) {
  World w;
  LedgerMapper<WatchedDomain> dma(w.domain);
  int failures = 0;
  for (std::uint64_t n = 0;; ++n) {
    ASSERT_LT(n, 100u);
    fail_in = n;
    const Result<void> made = dma.Init({.entries = 8}, {});
    fail_in = kNever;
    if (made.ok()) break;
    ++failures;
    EXPECT_EQ(made.error(), Error::kNoMemory);
  }
  EXPECT_GT(failures, 0);
  Result<Mapping> m = dma.Map(w.at, 100, Direction::kToDevice);
  ASSERT_TRUE(m.ok());
  EXPECT_TRUE(dma.Unmap(*m).ok());
}

TEST(OtherFailure, AddressesRunOut) {
  World w({.limit = Iova(0xffffff), .bounce_size = 5 * kPage});
  const Snapshot before(w);
  const std::vector<ScatterEntry> list = {{w.at, 2 * kPage}, {w.at, 3 * kPage}};
  std::vector<Mapping> out(2);
  const auto r = w.domain.MapScatter(list, Direction::kToDevice, out);
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error(), Error::kNoSpace);
  before.Expect(w);
}

TEST(OtherFailure, MaxMappingsIsReached) {
  World w(
      {.limit = Iova(0xffffff), .bounce_size = 64 * kPage, .max_mappings = 2});
  const Snapshot before(w);
  const std::vector<ScatterEntry> list = {{w.at, 1}, {w.at, 1}, {w.at, 1}};
  std::vector<Mapping> out(3);
  const auto r = w.domain.MapScatter(list, Direction::kToDevice, out);
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error(), Error::kLimit);
  before.Expect(w);
}

TEST(OtherFailure, MemoryThatCannotBeReached) {
  World w;
  // The pages are there, so that Map copies.
  const auto warm = w.domain.Map(w.at, 3 * kPage, Direction::kToDevice);
  Bytes b(3 * kPage);
  ASSERT_TRUE(w.port.Read(warm->iova, b.data(), b.size()).ok());
  ASSERT_TRUE(w.domain.Unmap(*warm).ok());
  ASSERT_EQ(w.domain.pages().inner.in_use(), 3 * kPage);

  w.domain.memory().hole = *PhysRange::FromSize(w.at + 5000, 1);
  const Snapshot before(w);
  const auto m = w.domain.Map(w.at, 3 * kPage, Direction::kToDevice);
  ASSERT_FALSE(m.ok());
  EXPECT_EQ(m.error(), Error::kUnsupported);
  before.Expect(w);

  // Pages that are not there yet: the fault fails, and goes when it can.
  w.domain.ReclaimIdle();
  const auto lazy = w.domain.Map(w.at, 3 * kPage, Direction::kFromDevice);
  ASSERT_TRUE(lazy.ok());
  const Bytes frame = Pattern(3 * kPage, 9);
  const Transfer t = w.port.Write(lazy->iova, frame.data(), frame.size());
  EXPECT_EQ(t.error(), Error::kUnsupported);
  EXPECT_EQ(t.bytes, kPage);
  EXPECT_TRUE(w.domain.CheckInvariants());
  w.domain.memory().hole.reset();
  ASSERT_TRUE(w.port.Write(lazy->iova, frame.data(), frame.size()).ok());

  // Unmap says so, and has ended the mapping.
  w.domain.memory().hole = *PhysRange::FromSize(w.at + 5000, 1);
  const auto r = w.domain.Unmap(*lazy);
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error(), Error::kUnsupported);
  EXPECT_EQ(w.domain.stats().live, 0u);
  EXPECT_EQ(w.domain.memory().open_windows(), 0);
  EXPECT_TRUE(w.domain.CheckInvariants());
  EXPECT_EQ(std::memcmp(w.buffer.data(), frame.data(), 5000), 0);
}

}  // namespace
}  // namespace dmamap
