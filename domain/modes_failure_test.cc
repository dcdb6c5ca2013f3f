// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Every failure undoes what was done before it, in every mode: each allocation
// of each call is made to fail in turn (the C++ heap's, the PageSource's, the
// page tables'), and each SyncMap, until the call succeeds; before that, the
// domain, the tables and the driver's memory are as they were.

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>
#include <vector>

#include "domain/domain.h"
#include "domain/failing_new_for_test.h"
#include "domain/modes_for_test.h"

namespace dmamap {
namespace {

using testing_parts::Arena;
using testing_parts::Bytes;
using testing_parts::fail_in;
using testing_parts::kNever;
using testing_parts::TableDomain;

constexpr std::uint64_t kPage = 256;
constexpr auto kBoth = Direction::kBidirectional;

struct World {
  World(DomainMode mode, FlushMode flush) {
    DomainOptions o;
    o.limit = Iova(512 * kPage - 1);
    o.bounce_size = 256 * kPage;
    o.page = *PageSize::FromBytes(kPage);
    o.bounce_page = o.page;
    o.mode = mode;
    o.flush.mode = flush;
    o.automatic.map_ns = 60;  // 600 bytes are copied
    EXPECT_TRUE(domain.Init(o).ok());
    for (std::size_t i = 0; i < arena.size(); ++i) {
      arena[i] = static_cast<std::byte>(1 + i % 251);
    }
  }
  Arena arena{16 * kPage};
  TableDomain domain;
  Reservation held;
  std::vector<Mapping> maps;
};

// What a failed call must leave alone, but for pages that a pool keeps and
// entries that wait.
struct Snapshot {
  explicit Snapshot(World& w)
      : live(w.domain.stats().live),
        coherent(w.domain.stats().coherent),
        memory(w.domain.pages().inner.in_use()),
        tables(w.domain.invalidation().tables().size()),
        arena(w.arena.data(), w.arena.data() + w.arena.size()) {}
  std::uint64_t live;
  std::uint64_t coherent;
  std::uint64_t memory;
  std::size_t tables;
  Bytes arena;

  void Expect(World& w) const {
    EXPECT_TRUE(w.domain.Flush().ok());
    w.domain.ReclaimIdle();
    EXPECT_EQ(w.domain.stats().live, live);
    EXPECT_EQ(w.domain.stats().coherent, coherent);
    EXPECT_EQ(w.domain.stats().quarantined, 0u);
    EXPECT_EQ(w.domain.pages().inner.in_use(), memory);
    EXPECT_EQ(w.domain.invalidation().tables().size(), tables);
    EXPECT_EQ(w.domain.invalidation().remembered().size(), tables);
    EXPECT_EQ(std::memcmp(w.arena.data(), arena.data(), arena.size()), 0);
    EXPECT_EQ(w.domain.memory().open_windows(), 0);
    EXPECT_TRUE(w.domain.CheckInvariants());
  }
};

using Countdown = std::uint64_t& (*)(World&);
std::uint64_t& Heap(World&) { return fail_in; }
std::uint64_t& Pages(World& w) { return w.domain.pages().fail_in; }
std::uint64_t& TableMemory(World& w) {
  return w.domain.invalidation().map_fails_in;
}
std::uint64_t& Syncs(World& w) { return w.domain.invalidation().sync_fails_in; }
constexpr Countdown kAll[] = {Heap, Pages, TableMemory, Syncs};

class EveryMode
    : public testing::TestWithParam<std::tuple<DomainMode, FlushMode>> {
 protected:
  DomainMode mode() const { return std::get<0>(GetParam()); }
  bool has_tables() const { return mode() != DomainMode::kPooled; }

  // How often `call` failed, with allocation 0, 1, 2 ... of one kind failing.
  int FailEach(const std::function<void(World&)>& prepare,
               const std::function<Result<void>(World&)>& call,
               Countdown countdown) {
    int failures = 0;
    for (std::uint64_t n = 0; n < 200; ++n) {
      World w(mode(), std::get<1>(GetParam()));
      prepare(w);
      const Snapshot before(w);
      countdown(w) = n;
      const Result<void> r = call(w);
      const bool fired = countdown(w) > n;  // it wraps when it fires
      countdown(w) = kNever;
      EXPECT_TRUE(w.domain.CheckInvariants());
      EXPECT_EQ(w.domain.invalidation().reused, 0u);
      if (!fired) {
        EXPECT_TRUE(r.ok());
        return failures;
      }
      if (r.ok()) continue;
      ++failures;
      EXPECT_TRUE(r.error() == Error::kNoMemory || r.error() == Error::kDevice);
      before.Expect(w);
      EXPECT_TRUE(call(w).ok()) << "it works when there is memory again";
      EXPECT_TRUE(w.domain.CheckInvariants());
    }
    ADD_FAILURE() << "never ends";
    return failures;
  }
  int FailAll(const std::function<void(World&)>& prepare,
              const std::function<Result<void>(World&)>& call) {
    int failures = 0;
    for (const Countdown countdown : kAll) {
      failures += FailEach(prepare, call, countdown);
    }
    return failures;
  }
};

void Nothing(World&) {}
void Reserve(World& w) { w.held = *w.domain.Reserve(8 * kPage); }

Result<void> MapOf(World& w, std::size_t offset, std::uint64_t size) {
  const auto m = w.domain.Map(w.arena.at(offset), size, kBoth);
  if (!m.ok()) return m.error();
  w.maps.push_back(*m);
  return Ok();
}

TEST_P(EveryMode, MapOfAnyShape) {
  for (const std::size_t offset : {0u, 100u}) {
    for (const std::uint64_t size : {10u, 256u, 700u, 1024u}) {
      const auto call = [=](World& w) { return MapOf(w, offset, size); };
      // The automatic mode has another way, and may do without the first.
      const int least = mode() == DomainMode::kAutomatic ? 0 : 2;
      EXPECT_GT(FailAll(Nothing, call), least);
    }
  }
}

TEST_P(EveryMode, MapScatterInTheMiddle) {
  const auto call = [](World& w) -> Result<void> {
    const std::vector<ScatterEntry> list = {{w.arena.at(10), 100},
                                            {w.arena.at(2 * kPage), 900},
                                            {w.arena.at(8 * kPage + 3), 700}};
    std::vector<Mapping> out(3);
    return w.domain.MapScatter(list, kBoth, out);
  };
  EXPECT_GT(FailAll(Nothing, call), 2);
}

TEST_P(EveryMode, TwoSteps) {
  if (!has_tables()) return;
  EXPECT_GT(FailAll(Nothing,
                    [](World& w) -> Result<void> {
                      const auto r = w.domain.Reserve(8 * kPage);
                      return r.ok() ? Ok() : Result<void>(r.error());
                    }),
            0);
  EXPECT_GT(FailAll(Reserve,
                    [](World& w) -> Result<void> {
                      const auto r = w.domain.Link(w.held, 100, w.arena.at(100),
                                                   1000, kBoth);
                      return r.ok() ? Ok() : Result<void>(r.error());
                    }),
            0);
  EXPECT_EQ(
      FailEach(
          Reserve, [](World& w) { return w.domain.SyncLinks(w.held); }, Syncs),
      1);
}

TEST_P(EveryMode, AllocateCoherent) {
  const auto call = [](World& w) -> Result<void> {
    const auto b = w.domain.AllocateCoherent(2 * kPage);
    return b.ok() ? Ok() : Result<void>(b.error());
  };
  EXPECT_GT(FailAll(Nothing, call), 4);
}

TEST_P(EveryMode, EndingNeedsNoMemory) {
  World w(mode(), std::get<1>(GetParam()));
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(MapOf(w, 100 + 1000 * i, 900).ok());
  Mapping link;
  if (has_tables()) {
    Reserve(w);
    link = *w.domain.Link(w.held, 100, w.arena.at(3 * kPage + 100), 700, kBoth);
  }
  const auto starve = [&] {
    for (const Countdown countdown : kAll) countdown(w) = 0;
  };
  starve();
  EXPECT_TRUE(w.domain.SyncForCpu(w.maps[0], 0, 900).ok());
  EXPECT_TRUE(w.domain.SyncForDevice(w.maps[0], 0, 900).ok());
  EXPECT_TRUE(w.domain.Unmap(w.maps[0]).ok());
  starve();
  EXPECT_TRUE(w.domain.UnmapScatter(std::span(w.maps).subspan(1)).ok());
  if (has_tables()) {
    starve();
    EXPECT_TRUE(w.domain.Unlink({&link, 1}).ok());
    EXPECT_TRUE(w.domain.Release(w.held).ok());
  }
  starve();
  EXPECT_TRUE(w.domain.Flush().ok());
  fail_in = kNever;
  EXPECT_TRUE(w.domain.CheckInvariants());
  EXPECT_EQ(w.domain.stats().waiting, 0u);
}

// A map that fails behind the tables, and a device that does not forget.
TEST_P(EveryMode, WhatCannotBeUndoneIsKept) {
  World w(mode(), std::get<1>(GetParam()));
  // Of three parts the second; else what comes behind the only one.
  if (mode() == DomainMode::kUnalignedEnds) {
    w.domain.invalidation().map_fails_in = 1;
  } else {
    w.domain.invalidation().sync_fails_in = 0;
  }
  w.domain.invalidation().fail_invalidation = true;
  EXPECT_EQ(MapOf(w, 100, 1000).error(), Error::kDevice);
  w.domain.invalidation().fail_invalidation = false;
  // A pool undoes nothing: its pages stay in the tables. (Automatic begins
  // there.)
  const bool pooled =
      mode() == DomainMode::kPooled || mode() == DomainMode::kAutomatic;
  EXPECT_EQ(w.domain.stats().quarantined, pooled ? 0u : 1u);
  if (mode() == DomainMode::kUnalignedEnds) {
    EXPECT_EQ(w.domain.pages().inner.in_use(), 2 * kPage);
  }
  for (int i = 0; i < 300; ++i) {
    const auto m = w.domain.Map(w.arena.at(0), 100, kBoth);
    if (!m.ok()) break;
  }
  EXPECT_EQ(w.domain.invalidation().reused, 0u);
  EXPECT_TRUE(w.domain.CheckInvariants());
}

INSTANTIATE_TEST_SUITE_P(
    Modes, EveryMode,
    testing::Combine(
        testing::Values(DomainMode::kBounce, DomainMode::kDirect,
                        DomainMode::kUnalignedEnds, DomainMode::kPooled,
                        DomainMode::kAutomatic),
        testing::Values(FlushMode::kStrict, FlushMode::kDeferred)));

TEST(AllocationFailure, Init) {
  for (const FlushMode flush : {FlushMode::kStrict, FlushMode::kDeferred}) {
    int failures = 0;
    for (std::uint64_t n = 0; n < 200; ++n) {
      TableDomain d;
      const DomainOptions o{.mode = DomainMode::kAutomatic,
                            .flush = {.mode = flush}};
      fail_in = n;
      const auto r = d.Init(o);
      const bool fired = fail_in > n;
      fail_in = kNever;
      if (!fired) break;
      if (r.ok()) continue;
      ++failures;
      ASSERT_EQ(r.error(), Error::kNoMemory);
      EXPECT_TRUE(d.Init(o).ok()) << "and may be called again";
    }
    EXPECT_GT(failures, 0);
  }
}

}  // namespace
}  // namespace dmamap
