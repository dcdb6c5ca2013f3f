// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Every interleaving, within a bound, of a driver's accesses to shared memory
// with a device's, on small rings. The driver is the shipped ring; before each
// of its accesses the device may make any number of steps, at most kBursts
// times in one run. Runs are repeated until every choice has been made.
// Deterministic: a failure prints its choices.

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "nicring/choices_for_test.h"
#include "nicring/rx_ring.h"
#include "testing/rx_bench.h"

namespace dmamap {
namespace {

using testing_bench::Bench;
using testing_bench::BenchOptions;
using testing_bench::Bytes;
using testing_bench::Choices;
using testing_bench::CopyingWorld;
using testing_bench::HookedFormat;
using testing_bench::IdentityWorld;

struct Scenario {
  std::uint32_t entries;
  int frames;
  int polls;
  std::size_t budget;
  int bursts;
  HeaderFetch fetch = HeaderFetch::kOnFrame;
  bool descending = false;
  std::uint32_t buffers = 0;  // 0: one more than entries
  bool interrupts = true;     // false: a busy poller, which is told nothing
};

struct Tally {
  std::uint64_t runs = 0;
  std::uint64_t wrong = 0;
  std::uint64_t skipped = 0;
  std::uint64_t restarts = 0;
  std::uint64_t bad_starts = 0;  // at an RFD that was complete already
  std::string first_wrong;
};

// The frames are all there from the start; the device moves when it is told.
// What must hold: what was stored is delivered, in order and whole; what was
// lost is lost by RNR; and the ring still works afterwards.
template <class World, class Format>
bool RunOnce(const Scenario& scenario, Choices& choices, Tally& tally) {
  BenchOptions options;
  options.entries = scenario.entries;
  options.buffers =
      scenario.buffers != 0 ? scenario.buffers : scenario.entries + 1;
  options.room = 8;
  options.fetch = scenario.fetch;
  options.mapper.descending = scenario.descending;
  Bench<World, Format> bench(options);
  bench.interrupts = scenario.interrupts;
  bench.Start();
  for (int i = 0; i < scenario.frames; ++i) {
    bench.Inject(5 + static_cast<std::size_t>(i) % 4);
  }
  int bursts = scenario.bursts;
  const auto burst = [&] {
    if (bursts == 0 || !choices.Next()) return;
    --bursts;
    while (bench.Step() && choices.Next()) {
    }
  };
  bench.SetHook(burst);
  bool ok = true;
  for (int i = 0; i < scenario.polls; ++i) {
    burst();
    ok &= bench.Poll(scenario.budget).done <= scenario.budget;
    ok &= bench.Sound();
  }
  bench.SetHook(nullptr);
  for (int i = 0; i < 12; ++i) {
    bench.RunDevice();
    bench.Poll(64);
  }
  bench.Inject(7);  // not stuck
  bench.RunDevice();
  bench.Poll(64);
  const SimI8255xCounters c = bench.sim->counters();
  ok &= bench.Sound();
  ok &= bench.sink.frames == bench.stored;
  ok &= c.rx_good + c.rx_resource_errors ==
        static_cast<std::uint64_t>(scenario.frames) + 1;
  ok &=
      !bench.stored.empty() &&
      bench.stored.back() == testing_bench::MakeFrame(bench.next_frame - 1, 7);
  ok &= bench.ring.statistics().rx_dropped == 0;
  // A skipped descriptor is found, and only then one is thought skipped.
  ok &= bench.ring.statistics().rx_skipped <= c.skipped;
  tally.skipped += bench.ring.statistics().rx_skipped;
  tally.restarts += bench.ring.statistics().restarts;
  tally.bad_starts += static_cast<std::uint64_t>(bench.registers.bad_starts);
  return ok;
}

enum class Until { kExhausted, kFirstWrong };

template <class World, class Format>
Tally Explore(const Scenario& scenario, Until until = Until::kExhausted) {
  constexpr std::uint64_t kMostRuns = 3'000'000;
  Tally tally;
  Choices choices;
  do {
    ++tally.runs;
    if (!RunOnce<World, Format>(scenario, choices, tally)) {
      ++tally.wrong;
      if (tally.first_wrong.empty()) tally.first_wrong = choices.ToString();
    }
    if (until == Until::kFirstWrong && tally.wrong != 0) return tally;
  } while (tally.runs < kMostRuns && choices.Advance());
  EXPECT_LT(tally.runs, kMostRuns) << "not exhausted";
  return tally;
}

Tally Sum(const Tally& a, const Tally& b) {
  return {a.runs + b.runs,
          a.wrong + b.wrong,
          a.skipped + b.skipped,
          a.restarts + b.restarts,
          a.bad_starts + b.bad_starts,
          a.first_wrong.empty() ? b.first_wrong : a.first_wrong};
}

// Rings of 3 to 5 descriptors, polls cut by the budget and not.
template <class World, class Format>
Tally ExploreAll(int bursts, int polls, bool descending = false,
                 Until until = Until::kExhausted) {
  Tally sum;
  for (HeaderFetch fetch : {HeaderFetch::kOnFrame, HeaderFetch::kAhead}) {
    for (std::uint32_t entries = 3; entries <= 5; ++entries) {
      for (std::size_t budget : {std::size_t{1}, std::size_t{64}}) {
        const Scenario s{entries, 4, polls, budget, bursts, fetch, descending};
        sum = Sum(sum, Explore<World, Format>(s, until));
        if (until == Until::kFirstWrong && sum.wrong != 0) return sum;
      }
    }
  }
  return sum;
}

// A negative control: the search finds something wrong.
template <class World, class Format>
Tally Find(int bursts, int polls, bool descending = false) {
  return ExploreAll<World, Format>(bursts, polls, descending,
                                   Until::kFirstWrong);
}
template <class World, class Format>
bool Finds(int bursts, int polls, bool descending = false) {
  return Find<World, Format>(bursts, polls, descending).wrong != 0;
}

TEST(RxInterleaving, IdentityMapping) {
  const Tally t = ExploreAll<IdentityWorld, HookedFormat>(2, 4);
  EXPECT_EQ(t.wrong, 0u) << t.first_wrong;
  // Not vacuous: the rare things have happened.
  EXPECT_GT(t.skipped, 100u);
  EXPECT_GT(t.restarts, 1000u);
  RecordProperty("interleavings", std::to_string(t.runs));
}

// More device bursts in one run.
TEST(RxInterleaving, ThreeBursts) {
  for (std::size_t budget : {std::size_t{1}, std::size_t{64}}) {
    const Tally t = Explore<IdentityWorld, HookedFormat>({4, 4, 2, budget, 3});
    EXPECT_EQ(t.wrong, 0u) << budget << ' ' << t.first_wrong;
    EXPECT_GT(t.skipped, 100u);
    RecordProperty("interleavings" + std::to_string(budget),
                   std::to_string(t.runs));
  }
}

// Fewer buffers than entries: each refill leaves a hole, the ring is shorter.
TEST(RxInterleaving, PoolTooSmall) {
  for (std::size_t budget : {std::size_t{1}, std::size_t{64}}) {
    Scenario s{5, 4, 3, budget, 2};
    s.buffers = 4;
    const Tally t = Explore<IdentityWorld, HookedFormat>(s);
    EXPECT_EQ(t.wrong, 0u) << budget << ' ' << t.first_wrong;
    EXPECT_GT(t.restarts, 1000u);
  }
}

// Nobody says that the receiver is not ready: the ring finds out by itself.
TEST(RxInterleaving, PollsWithoutInterrupts) {
  for (HeaderFetch fetch : {HeaderFetch::kOnFrame, HeaderFetch::kAhead}) {
    for (std::uint32_t entries = 3; entries <= 5; ++entries) {
      Scenario s{entries, 4, 3, 64, 2, fetch};
      s.interrupts = false;
      const Tally t = Explore<IdentityWorld, HookedFormat>(s);
      EXPECT_EQ(t.wrong, 0u) << entries << ' ' << t.first_wrong;
      EXPECT_GT(t.restarts, 100u);
    }
  }
}

// One descriptor to fill, the stop and the last: with two there is nothing that
// the device could fill, and such a ring is refused.
TEST(RxInterleaving, ARingOfTwoIsRefused) {
  FixedPool pool;
  ASSERT_TRUE(pool.Init({4, 80, 2}).ok());
  IdentityMapper mapper;
  RxRing<I8255xFormat, IdentityMapper, FixedPool> ring;
  EXPECT_EQ(ring.Init(&mapper, &pool, {.entries = 2, .room = 64}).error(),
            Error::kInvalidArgument);
}

// The device has a copy of its own, and runs also between two words of a sync,
// whichever end of it is copied first.
TEST(RxInterleaving, CopyingMapping) {
  for (const bool descending : {false, true}) {
    const Tally t = ExploreAll<CopyingWorld<>, I8255xFormat>(2, 2, descending);
    EXPECT_EQ(t.wrong, 0u) << descending << ' ' << t.first_wrong;
    EXPECT_GT(t.restarts, 1000u);
  }
}

// --- Negative controls: each breaks one rule, and the same search finds it.

using Order = std::array<ListStep, 4>;

// The end bit is cleared before the link is written.
struct ReopensBeforeLink : HookedFormat {
  static constexpr Order kPublishOrder = {ListStep::kReopen, ListStep::kRestore,
                                          ListStep::kLink, ListStep::kClose};
};
// The old stop is open before the new one is closed.
struct ReopensBeforeClose : HookedFormat {
  static constexpr Order kPublishOrder = {ListStep::kLink, ListStep::kReopen,
                                          ListStep::kRestore, ListStep::kClose};
};
// The end bit alone, without size 0: the device fills the stop.
struct LeavesRoomAtTheStop : HookedFormat {
  static void WriteSize(std::byte* rfd, std::uint32_t size) {
    HookedFormat::WriteSize(rfd, size == 0 ? 8 : size);
  }
};
struct WritesAWrongLink : HookedFormat {
  static void WriteLink(std::byte* rfd, std::uint32_t offset) {
    HookedFormat::WriteLink(rfd, offset + 2);
  }
};

TEST(RxInterleavingControl, EndBitClearedBeforeTheLink) {
  EXPECT_TRUE((Finds<IdentityWorld, ReopensBeforeLink>(2, 3)));
}
TEST(RxInterleavingControl, OldStopOpenBeforeTheNewOneIsClosed) {
  EXPECT_TRUE((Finds<IdentityWorld, ReopensBeforeClose>(2, 3)));
}
TEST(RxInterleavingControl, EndBitWithoutSizeZero) {
  EXPECT_TRUE((Finds<IdentityWorld, LeavesRoomAtTheStop>(2, 3)));
}
TEST(RxInterleavingControl, WrongLink) {
  EXPECT_TRUE((Finds<IdentityWorld, WritesAWrongLink>(1, 3)));
}

// Rules of the restart. Formats of their own, so that the ring takes another
// list; everything else is the shipped source.

// Restarts though the budget has cut the pass: complete frames wait at the
// head.
struct RestartsAfterCut : HookedFormat {};
// Asks the receiver after a look that found nothing instead of before the pass:
// what it completed between the two is at the head when it is restarted.
struct AsksTooLate : HookedFormat {};

template <class Format, class M>
struct CutDrains : RxList<Format, M> {
  static constexpr bool Drains(bool, RxLook) { return true; }
};
template <class Format, class M>
struct AsksAfterAnyLook : RxList<Format, M> {
  static constexpr bool AsksAfter(bool cut, RxLook) { return !cut; }
};

}  // namespace

template <class M>
struct RxQueueOf<RestartsAfterCut, M> {
  using Type = CutDrains<RestartsAfterCut, M>;
};
template <class M>
struct RxQueueOf<AsksTooLate, M> {
  using Type = AsksAfterAnyLook<AsksTooLate, M>;
};

namespace {

TEST(RxInterleavingControl, RestartAfterABudgetCut) {
  EXPECT_NE((Find<IdentityWorld, RestartsAfterCut>(1, 3).bad_starts), 0u);
}
TEST(RxInterleavingControl, RestartAtACompleteRfd) {
  EXPECT_NE((Find<IdentityWorld, AsksTooLate>(2, 3).bad_starts), 0u);
}

// Syncs the whole header to the device after each look, "to hand it back": the
// old status goes over the new one.
class HandsBackMapper : public CopyingMapper {
 public:
  using CopyingMapper::CopyingMapper;
  Result<void> SyncForCpu(const Mapping& m, std::uint64_t offset,
                          std::uint64_t size) {
    const Result<void> synced = CopyingMapper::SyncForCpu(m, offset, size);
    if (!synced.ok() || offset != 0) return synced;
    return CopyingMapper::SyncForDevice(m, 0, 16);
  }
};
// Syncs the header to the CPU once and as a whole, and not the count again.
class SyncsHeaderOnceMapper : public CopyingMapper {
 public:
  using CopyingMapper::CopyingMapper;
  Result<void> SyncForCpu(const Mapping& m, std::uint64_t offset,
                          std::uint64_t size) {
    if (offset == 0) return CopyingMapper::SyncForCpu(m, 0, 16);
    if (offset == 12) return Ok();
    return CopyingMapper::SyncForCpu(m, offset, size);
  }
};
// Forgets to show the device one of the fields.
template <std::uint64_t offset_forgotten>
class ForgetsMapper : public CopyingMapper {
 public:
  using CopyingMapper::CopyingMapper;
  Result<void> SyncForDevice(const Mapping& m, std::uint64_t offset,
                             std::uint64_t size) {
    if (offset == offset_forgotten) return Ok();
    return CopyingMapper::SyncForDevice(m, offset, size);
  }
};

TEST(RxInterleavingControl, HeaderHandedBackAfterALook) {
  EXPECT_TRUE((Finds<CopyingWorld<HandsBackMapper>, I8255xFormat>(2, 2)));
}
TEST(RxInterleavingControl, HeaderSyncedOnce) {
  EXPECT_TRUE(
      (Finds<CopyingWorld<SyncsHeaderOnceMapper>, I8255xFormat>(2, 2, true)));
}
TEST(RxInterleavingControl, MissingSync) {
  EXPECT_TRUE((Finds<CopyingWorld<ForgetsMapper<2>>, I8255xFormat>(1, 2)));
  EXPECT_TRUE((Finds<CopyingWorld<ForgetsMapper<4>>, I8255xFormat>(1, 2)));
  EXPECT_TRUE((Finds<CopyingWorld<ForgetsMapper<14>>, I8255xFormat>(1, 2)));
}

}  // namespace
}  // namespace dmamap
