// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// TxRing over the command blocks of the i8255x: frame by frame, as a random
// walk, and with a command unit that lies.

#include "nicring/i8255x_tx.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "nicring/choices_for_test.h"
#include "nicring/doorbell_bench_for_test.h"
#include "nicring/tx_ring.h"
#include "testing/hostile_i8255x_tx.h"
#include "testing/sim_i8255x_tx.h"

namespace dmamap {
namespace {

using testing_bench::Bytes;
using testing_bench::Choices;
using testing_bench::CoherentWorld;
using testing_bench::CopyWorld;
using testing_bench::NumberedFrame;
using testing_bench::SharedWorld;

constexpr bool PostedIsAsInTheManual() {
  std::array<std::byte, 16> d{};
  for (std::byte& b : d) b = std::byte{0x77};
  I8255xTxFormat::WritePosted(d.data(), 0x01234567, 0x1234);
  constexpr unsigned kWant[16] = {0,    0,    0x77, 0x77, 0x67, 0x45, 0x23, 1,
                                  0xff, 0xff, 0xff, 0xff, 0x34, 0x92, 0xe0, 0};
  for (std::size_t i = 0; i < 16; ++i) {
    if (d[i] != static_cast<std::byte>(kWant[i])) return false;
  }
  return true;
}
static_assert(PostedIsAsInTheManual());

// Keeps what came back, and that nothing comes back twice.
struct CollectingSink {
  void Done(const TxDone& done) {
    wrong += out.erase(done.token) == 0;
    ++fates[done.fate];
  }
  std::set<std::uint64_t> out;
  std::map<TxFate, std::size_t> fates;
  int wrong = 0;
};

constexpr TxRingOptions kOptions{5, 3, 3, 0, 1000};

template <class World, class Sim = SimI8255xTx<typename World::Port>,
          class Format = I8255xTxFormat>
struct Bench {
  explicit Bench(const TxRingOptions& options = kOptions) {
    made = ring.Init(&world.mapper, options).ok();
  }
  ~Bench() {
    world.SetHook(nullptr);
    ring.Shutdown(sink, sim);
  }
  // A numbered frame of `size` bytes, cut into `parts` segments.
  Result<void> Post(std::size_t size, std::size_t parts = 1) {
    const Bytes memory = NumberedFrame(next, size);
    std::vector<TxSegment> segments;
    for (std::size_t i = 0, at = 0; i < parts; ++i) {
      const std::size_t end = size * (i + 1) / parts;
      segments.push_back({PhysAddrOf(memory.data() + at),
                          static_cast<std::uint32_t>(end - at),
                          memory.data() + at});
      at = end;
    }
    const Result<void> posted = ring.Post({segments, next});
    if (posted.ok()) {
      sink.out.insert(next);
      posts.push_back(memory);
    }
    ++next;
    return posted;
  }
  bool Step() {
    const bool moved = sim.Step();
    for (Bytes& frame : sim.TakeSent()) sent.push_back(std::move(frame));
    return moved;
  }
  void RunDevice() {
    while (Step()) {
    }
  }
  TxPollResult Poll(std::size_t budget = 64) {
    return ring.Poll(budget, sink, sim);
  }
  bool Sound() {
    return made && ring.CheckInvariants() && sim.CheckInvariants() &&
           sink.wrong == 0 && sink.out.size() == ring.frames();
  }

  World world;
  Sim sim{&world.port};
  TxRing<Format, typename World::MapperType> ring;
  CollectingSink sink;
  std::vector<Bytes> posts;
  std::vector<Bytes> sent;
  std::uint32_t next = 1;
  bool made = false;
};

template <class World>
class I8255xTxTest : public ::testing::Test {};
using Worlds = ::testing::Types<SharedWorld, CopyWorld<>, CoherentWorld>;
TYPED_TEST_SUITE(I8255xTxTest, Worlds);

TYPED_TEST(I8255xTxTest, FramesGoOutWholeAndComeBackOnce) {
  Bench<TypeParam> bench;
  ASSERT_TRUE(bench.ring.Start(bench.sim).ok());
  for (std::size_t i = 0; i < 200; ++i) {
    if (!bench.ring.stopped()) {
      ASSERT_TRUE(bench.Post(60 + i * 7 % 900, 1 + i % 3).ok()) << i;
    }
    bench.ring.Kick(bench.sim);
    if (i % 3 != 0) bench.RunDevice();
    bench.Poll(2);
    ASSERT_TRUE(bench.Sound()) << i;
  }
  for (int i = 0; i < 3; ++i) {
    bench.RunDevice();
    bench.Poll();
  }
  EXPECT_EQ(bench.sent, bench.posts);
  EXPECT_GT(bench.sent.size(), 150u);
  EXPECT_EQ(bench.ring.frames(), 0u);
  EXPECT_EQ(bench.sim.counters().nops, 1u);  // the first block, once
  EXPECT_TRUE(bench.sim.Suspended());
}

TYPED_TEST(I8255xTxTest, ResumesOnlyASuspendedUnit) {
  Bench<TypeParam> bench;
  ASSERT_TRUE(bench.ring.Start(bench.sim).ok());
  ASSERT_TRUE(bench.Post(60).ok());
  bench.ring.Kick(bench.sim);  // the CU is at the NOP, and has not read it
  EXPECT_EQ(bench.sim.counters().resumes, 0u);
  bench.RunDevice();  // S was cleared in time: it goes on
  EXPECT_EQ(bench.sent.size(), 1u);
  EXPECT_TRUE(bench.sim.Suspended());
  bench.ring.Kick(bench.sim);
  EXPECT_EQ(bench.sim.counters().resumes, 0u);  // all is complete
  ASSERT_TRUE(bench.Post(60).ok());
  bench.ring.Kick(bench.sim);
  EXPECT_EQ(bench.sim.counters().resumes, 1u);
  ASSERT_TRUE(bench.Step());  // it has read S of the second frame ...
  ASSERT_TRUE(bench.Post(60).ok());
  bench.ring.Kick(bench.sim);  // ... and will suspend
  EXPECT_EQ(bench.sim.counters().resumes, 1u);
  bench.RunDevice();
  EXPECT_EQ(bench.sent.size(), 2u);
  EXPECT_TRUE(bench.sim.Acknowledge());  // CNA
  EXPECT_EQ(bench.Poll().done, 2u);      // resumes
  bench.RunDevice();
  EXPECT_EQ(bench.Poll().done, 1u);
  EXPECT_EQ(bench.sent, bench.posts);
  EXPECT_TRUE(bench.Sound());
}

// Five blocks, one kept back; the ring wakes with three free.
TYPED_TEST(I8255xTxTest, StopsWakesReportsAndCancels) {
  Bench<TypeParam> bench;
  ASSERT_TRUE(bench.ring.Start(bench.sim).ok());
  bench.sim.set_failing(true);
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(bench.Post(60).ok());
  EXPECT_TRUE(bench.ring.stopped());
  EXPECT_EQ(bench.Post(60).error(), Error::kNoSpace);
  bench.ring.Kick(bench.sim);
  bench.RunDevice();
  EXPECT_FALSE(bench.Poll(2).woken);
  const TxPollResult r = bench.Poll(1);
  EXPECT_TRUE(r.woken && r.cut);
  EXPECT_EQ(bench.sink.fates[TxFate::kError], 3u);
  ASSERT_TRUE(bench.Post(60).ok());
  bench.ring.Shutdown(bench.sink, bench.sim);
  EXPECT_EQ(bench.sink.fates[TxFate::kCancelled], 2u);
  EXPECT_TRUE(bench.Sound());
  bench.sim.set_failing(false);
  ASSERT_TRUE(bench.ring.Start(bench.sim).ok());
  ASSERT_TRUE(bench.Post(60).ok());
  bench.ring.Kick(bench.sim);
  bench.RunDevice();
  EXPECT_EQ(bench.Poll().done, 1u);
  EXPECT_EQ(bench.sent.size(), 1u);
  EXPECT_EQ(bench.sent.back(), bench.posts.back());
  EXPECT_TRUE(bench.Sound());
}

TEST(I8255xTx, RefusesWhatCannotBeSent) {
  Bench<SharedWorld> bench;
  std::array<std::byte, 4> memory{};
  const TxSegment good{PhysAddrOf(memory.data()), 4, memory.data()};
  const auto post = [&](std::vector<TxSegment> segments) {
    const Result<void> posted = bench.ring.Post({segments, 1});
    return posted.ok() ? Error{} : posted.error();
  };
  EXPECT_EQ(post({good}), Error::kShutDown);
  ASSERT_TRUE(bench.ring.Start(bench.sim).ok());
  EXPECT_EQ(post({}), Error::kInvalidArgument);
  EXPECT_EQ(post({good, {good.address, 0, good.data}}),
            Error::kInvalidArgument);
  EXPECT_EQ(post({good, {good.address, 4}}), Error::kInvalidArgument);
  EXPECT_EQ(post({good, {good.address, 997, good.data}}),
            Error::kInvalidArgument);
  EXPECT_EQ(post({good, good, good, good}), Error::kLimit);
  EXPECT_TRUE(bench.Sound());
  EXPECT_FALSE(Bench<SharedWorld>({5, 3, 3, 0, 0}).made);
  EXPECT_FALSE(Bench<SharedWorld>({5, 3, 3, 0, 0x4000}).made);
  EXPECT_TRUE(Bench<SharedWorld>({5, 3, 3, 0, 0x3fff}).made);
}

struct CountingAccess {
  static std::uint16_t Load16(const std::byte* p) {
    const std::uint16_t value = DeviceAccess::Load16(p);
    complete += (value & i8255x::kCbComplete) != 0;
    return value;
  }
  static void Store16(std::byte* p, std::uint16_t value) {
    DeviceAccess::Store16(p, value);
  }
  static inline std::uint64_t complete = 0;
};

// The doorbell looks at the last block, which may be the first, or become it.
TEST(I8255xTx, AStatusThatSaysCompleteIsLoadedOnce) {
  CountingAccess::complete = 0;
  Bench<SharedWorld, SimI8255xTx<SharedWorld::Port>,
        BasicI8255xTxFormat<CountingAccess>>
      bench;
  ASSERT_TRUE(bench.ring.Start(bench.sim).ok());
  for (int i = 0; i < 100; ++i) {
    for (int n = 1 + i % 3; n != 0; --n) ASSERT_TRUE(bench.Post(60).ok());
    bench.ring.Kick(bench.sim);
    bench.RunDevice();
    bench.ring.Kick(bench.sim);
    (void)bench.ring.HasWork();
    bench.Poll(1);
    while (bench.ring.frames() > 1) bench.Poll(1);
  }
  bench.RunDevice();
  bench.Poll();
  EXPECT_EQ(bench.ring.statistics().tx_packets, 199u);
  EXPECT_EQ(CountingAccess::complete, 199u);
}

TEST(I8255xTx, AnInitThatFailedCanBeRepeated) {
  class FailsFirst : public CopyingMapper {
   public:
    Result<void> SyncForDevice(const Mapping& m, std::uint64_t offset,
                               std::uint64_t size) {
      if (std::exchange(fails, false)) return Error::kBusy;
      return CopyingMapper::SyncForDevice(m, offset, size);
    }
    bool fails = true;
  } mapper;
  TxRing<I8255xTxFormat, FailsFirst> ring;
  EXPECT_EQ(ring.Init(&mapper, kOptions).error(), Error::kBusy);
  EXPECT_EQ(mapper.live(), 0u);
  EXPECT_TRUE(ring.CheckInvariants());
  EXPECT_TRUE(ring.Init(&mapper, kOptions).ok());
}

template <class World>
void Walk() {
  Bench<World> bench({*rc::gen::inRange(4u, 9u), 3, 3, 0, 300});
  RC_ASSERT(bench.ring.Start(bench.sim).ok());
  auto random = *rc::gen::arbitrary<std::uint32_t>();
  bench.world.SetHook([&] {
    random = random * 1664525u + 1013904223u;
    for (std::uint32_t i = random >> 29; i != 0 && bench.Step(); --i) {
    }
  });
  const int moves = *rc::gen::inRange(1, 300);
  for (int i = 0; i < moves; ++i) {
    switch (*rc::gen::inRange(0, 5)) {
      case 0:
      case 1: {
        const bool room = bench.ring.free() != 0;
        const auto parts = *rc::gen::inRange<std::size_t>(1, 4);
        RC_ASSERT(bench.Post(*rc::gen::inRange<std::size_t>(parts, 300), parts)
                      .ok() == room);
        break;
      }
      case 2:
        bench.ring.Kick(bench.sim);
        break;
      case 3:
        for (int n = *rc::gen::inRange(1, 9); n != 0 && bench.Step(); --n) {
        }
        break;
      default: {
        const auto budget = *rc::gen::inRange<std::size_t>(0, 5);
        RC_ASSERT(bench.Poll(budget).done <= budget);
        break;
      }
    }
    RC_ASSERT(bench.Sound());
  }
  for (int i = 0; i < 3; ++i) {
    bench.Poll();
    bench.RunDevice();
  }
  bench.Poll();
  RC_ASSERT(bench.sent == bench.posts);
  RC_ASSERT(bench.ring.frames() == 0u);
  RC_ASSERT(bench.Sound());
}
RC_GTEST_PROP(I8255xTxProperty, Shared, ()) { Walk<SharedWorld>(); }
RC_GTEST_PROP(I8255xTxProperty, Copied, ()) { Walk<CopyWorld<>>(); }

// A device that writes anything anywhere in the blocks, at any time.
RC_GTEST_PROP(I8255xTxHostile, EveryFrameComesBackOnce, ()) {
  CopyWorld<> world;
  HostileI8255xTx device(&world.port, 64);
  TxRing<I8255xTxFormat, CopyingMapper> ring;
  CollectingSink sink;
  RC_ASSERT(ring.Init(&world.mapper, {8, 2, 3, 0, 48}).ok());
  RC_ASSERT(ring.Start(device).ok());
  const Bytes memory(48);
  auto state = *rc::gen::arbitrary<std::uint32_t>();
  const auto random = [&state] {
    state = state * 1664525u + 1013904223u;
    return state >> 16 | state << 16;
  };
  world.SetHook([&] { device.Act(random); });
  for (std::uint64_t i = 0; i < 100; ++i) {
    const TxSegment segment{PhysAddrOf(memory.data()), 48, memory.data()};
    if (ring.Post({{&segment, 1}, i}).ok()) sink.out.insert(i);
    const std::size_t budget = random() % 4;
    const std::uint32_t before = ring.frames();
    const TxPollResult r = ring.Poll(budget, sink, device);
    RC_ASSERT(r.done <= budget && r.done <= before);
    RC_ASSERT(ring.CheckInvariants() && sink.wrong == 0);
    RC_ASSERT(sink.out.size() == ring.frames());
  }
  world.SetHook(nullptr);
  ring.Shutdown(sink, device);
  RC_ASSERT(sink.out.empty());
}

// --- Every interleaving, within a bound, of driver and device: before each of
// the driver's accesses to memory or a register the device may make any number
// of steps, at most kBursts times in one run.

constexpr int kBursts = 2;

template <class Port>
struct HookedSim : SimI8255xTx<Port> {
  using Base = SimI8255xTx<Port>;
  using Base::Base;
  bool Suspended() {
    if (hook) hook();
    return Base::Suspended();
  }
  void Resume() {
    if (hook) hook();
    Base::Resume();
  }
  void Abort() {
    if (hook) hook();
    Base::Abort();
  }
  std::function<void()> hook;
};

enum class Script { kAppend, kReset };

// Posts, kicks and polls; with kReset the device is stopped and started again
// in the middle. True when every frame went out once and in order, or came back
// as cancelled, and the ring still works.
template <class World, class Format>
bool RunOnce(std::uint32_t entries, Script script, Choices& choices) {
  using Sim = HookedSim<typename World::Port>;
  Bench<World, Sim, Format> bench({entries, 1, 1, 0, 16});
  int bursts = kBursts;
  const auto burst = [&] {
    if (bursts == 0 || !choices.Next()) return;
    --bursts;
    while (bench.Step() && choices.Next()) {
    }
  };
  const auto hook = [&](const std::function<void()>& f) {
    bench.world.SetHook(f);
    bench.sim.hook = f;
  };
  bool ok = bench.ring.Start(bench.sim).ok();
  hook(burst);
  std::size_t before = 0;  // frames posted before the reset
  for (int i = 0; i < 2; ++i) {
    (void)bench.Post(4).ok();  // the ring may be full
    bench.ring.Kick(bench.sim);
    (void)bench.Post(5).ok();
    bench.Poll(1);
    ok = ok && bench.Sound();
    if (script == Script::kReset && i == 0) {
      bench.ring.Shutdown(bench.sink, bench.sim);
      ok = ok && bench.sink.out.empty();
      before = bench.posts.size();
      ok = ok && bench.sent.size() <= before &&
           std::equal(bench.sent.begin(), bench.sent.end(),
                      bench.posts.begin()) &&
           bench.sink.fates[TxFate::kSent] <= bench.sent.size();
      bench.sent.clear();
      ok = ok && bench.ring.Start(bench.sim).ok();
    }
  }
  hook(nullptr);
  for (int i = 0; i < 4; ++i) {
    bench.RunDevice();
    bench.Poll();
  }
  ok = ok && bench.Post(6).ok();  // not stuck
  bench.ring.Kick(bench.sim);
  bench.RunDevice();
  bench.Poll();
  bench.posts.erase(bench.posts.begin(),
                    bench.posts.begin() + static_cast<std::ptrdiff_t>(before));
  return ok && bench.Sound() && bench.ring.frames() == 0 &&
         bench.sent == bench.posts;
}

struct Found {
  std::uint64_t runs = 0;
  std::string wrong;  // the choices of the first run that was
};
template <class World, class Format = I8255xTxFormat>
Found Explore(std::uint32_t entries, Script script) {
  Found found;
  Choices choices;
  do {
    ++found.runs;
    if (RunOnce<World, Format>(entries, script, choices)) continue;
    found.wrong = "choices " + choices.ToString();
    return found;
  } while (found.runs < 1'000'000 && choices.Advance());
  EXPECT_LT(found.runs, 1'000'000u) << "not exhausted";
  return found;
}

TEST(I8255xTxInterleaving, EachFrameGoesOutOnceAndInOrder) {
  for (const std::uint32_t entries : {2u, 3u, 4u}) {
    const Found found = Explore<CopyWorld<>>(entries, Script::kAppend);
    EXPECT_EQ(found.wrong, "") << entries;
    EXPECT_GT(found.runs, 2000u);
  }
}
TEST(I8255xTxInterleaving, AResetLosesNoFrameSilently) {
  const Found found = Explore<CopyWorld<>>(2, Script::kReset);
  EXPECT_EQ(found.wrong, "");
  EXPECT_GT(found.runs, 5000u);
}

// --- Negative controls of the search, each a rule of appending broken.

// S of the block before is cleared before the new one is written.
class SwapsCommandsMapper : public CopyingMapper {
 public:
  Result<void> SyncForDevice(const Mapping& m, std::uint64_t offset,
                             std::uint64_t size) {
    if (size != 2) return CopyingMapper::SyncForDevice(m, offset, size);
    if (waits_ == 0) {
      waits_ = offset;
      return Ok();
    }
    const std::uint64_t first = std::exchange(waits_, 0);
    const Result<void> synced = CopyingMapper::SyncForDevice(m, offset, size);
    if (!synced.ok()) return synced;
    return CopyingMapper::SyncForDevice(m, first, size);
  }

 private:
  std::uint64_t waits_ = 0;  // offset of a command that was not shown yet
};
TEST(I8255xTxInterleavingControl, SuspendClearedBeforeTheBlockIsWritten) {
  using World = CopyWorld<SwapsCommandsMapper>;
  EXPECT_NE(Explore<World>(4, Script::kAppend).wrong, "");
}

// Resumes a unit that was seen suspended, whether or not it is behind.
struct BlindFormat : I8255xTxFormat {};
template <class M>
struct BlindList : TxCommandList<BlindFormat, M> {
  bool TakeDoorbell() {
    (void)TxCommandList<BlindFormat, M>::TakeDoorbell();
    return this->frames() != 0;
  }
};
// Forgets that a unit may suspend at an S that is not there any more.
struct TrustingFormat : I8255xTxFormat {};
template <class M>
struct TrustingList : TxCommandList<TrustingFormat, M> {
  bool TakeDoorbell() {
    const bool first = this->frames() == 1;
    return TxCommandList<TrustingFormat, M>::TakeDoorbell() && first;
  }
};
}  // namespace

template <class M>
struct TxQueueOf<BlindFormat, M> {
  using Type = BlindList<M>;
};
template <class M>
struct TxQueueOf<TrustingFormat, M> {
  using Type = TrustingList<M>;
};

namespace {

TEST(I8255xTxInterleavingControl, AResumeWithoutALookAtTheLastBlock) {
  EXPECT_NE((Explore<CopyWorld<>, BlindFormat>(3, Script::kAppend).wrong), "");
}
TEST(I8255xTxInterleavingControl, NoResumeForASuspendThatWasReadInTime) {
  EXPECT_NE((Explore<CopyWorld<>, TrustingFormat>(4, Script::kAppend).wrong),
            "");
}

// --- Negative control: a driver that resumes without a look at the CU.

template <class Port>
struct AlwaysSuspended : SimI8255xTx<Port> {
  using SimI8255xTx<Port>::SimI8255xTx;
  bool Suspended() { return true; }
};
TEST(I8255xTxControl, AResumeOfARunningUnitIsSeen) {
  Bench<SharedWorld, AlwaysSuspended<SharedWorld::Port>> bench;
  ASSERT_TRUE(bench.ring.Start(bench.sim).ok());
  ASSERT_TRUE(bench.Post(60).ok());
  EXPECT_TRUE(bench.Sound());
  bench.ring.Kick(bench.sim);
  EXPECT_FALSE(bench.Sound());
}
// And one that looks too early: it was suspended, but has gone on since.
TEST(I8255xTxControl, AResumeBehindTheEndIsSeen) {
  Bench<SharedWorld> bench;
  ASSERT_TRUE(bench.ring.Start(bench.sim).ok());
  ASSERT_TRUE(bench.Post(60).ok());
  bench.ring.Kick(bench.sim);
  bench.RunDevice();
  EXPECT_TRUE(bench.Sound());
  bench.sim.Resume();  // the block behind was never posted
  bench.RunDevice();
  EXPECT_FALSE(bench.Sound());
}

}  // namespace
}  // namespace dmamap
