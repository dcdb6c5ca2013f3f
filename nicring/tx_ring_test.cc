// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// TxRing over the e1000's legacy descriptors: with an honest device, frame by
// frame and as a random walk, and with a hostile one.

#include "nicring/tx_ring.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "nicring/doorbell_bench_for_test.h"
#include "nicring/e1000_tx.h"
#include "nicring/napi.h"
#include "testing/hostile_e1000.h"
#include "testing/sim_e1000_tx.h"

namespace dmamap {
namespace {

using testing_bench::Bytes;
using testing_bench::CoherentWorld;
using testing_bench::CopyWorld;
using testing_bench::NumberedFrame;
using testing_bench::SharedWorld;

template <class... B>
constexpr std::array<std::byte, sizeof...(B)> ByteArray(B... b) {
  return {static_cast<std::byte>(b)...};
}
constexpr bool PostedIsAsInTheManual(TxPlace place, unsigned command) {
  std::array<std::byte, 16> d{};
  for (std::byte& b : d) b = std::byte{0xff};
  E1000TxFormat::WritePosted(d.data(), Iova(0x0123456789abcdef), 0x1234, place);
  return d == ByteArray(0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01, 0x34,
                        0x12, 0, command, 0, 0, 0, 0);
}
static_assert(PostedIsAsInTheManual(TxPlace::kMiddle, 0x02));  // IFCS
static_assert(PostedIsAsInTheManual(TxPlace::kLast, 0x0b));    // RS, EOP too
static_assert(E1000TxFormat::IsComplete(1) && !E1000TxFormat::IsComplete(0xfe));
static_assert(E1000TxFormat::IsGood(1) && !E1000TxFormat::IsGood(3) &&
              !E1000TxFormat::IsGood(5) && !E1000TxFormat::IsGood(9));

// Keeps what came back, and that nothing comes back twice or unposted.
struct CollectingSink {
  void Done(const TxDone& done) {
    wrong += out.erase(done.token) == 0;
    ++fates[done.fate];
    order.push_back(done.token);
  }
  std::set<std::uint64_t> out;
  std::map<TxFate, std::size_t> fates;
  std::vector<std::uint64_t> order;
  int wrong = 0;
};

template <class World, class Format = E1000TxFormat>
struct Bench {
  explicit Bench(const TxRingOptions& options = {8, 3, 4, 0}) {
    made = ring.Init(&world.mapper, options).ok();
  }
  ~Bench() {
    world.SetHook(nullptr);
    ring.Shutdown(sink, sim);
  }
  // A numbered frame of `size` bytes, cut into `parts` segments.
  Result<void> Post(std::size_t size, std::size_t parts = 1) {
    const std::uint32_t number = next++;
    Bytes& memory = frames[number] = NumberedFrame(number, size);
    std::vector<TxSegment> segments;
    std::size_t at = 0;
    for (std::size_t i = 0; i < parts; ++i) {
      const std::size_t end = size * (i + 1) / parts;
      segments.push_back({PhysAddrOf(memory.data() + at),
                          static_cast<std::uint32_t>(end - at)});
      at = end;
    }
    const Result<void> posted = ring.Post({segments, number});
    if (posted.ok()) sink.out.insert(number);
    if (!posted.ok()) frames.erase(number);
    return posted;
  }
  void RunDevice() {
    sim.RunAll();
    Collect();
  }
  bool Step() {
    const bool moved = sim.Step();
    Collect();
    return moved;
  }
  void Collect() {
    for (Bytes& frame : sim.TakeSent()) sent.push_back(std::move(frame));
  }
  TxPollResult Poll(std::size_t budget = 64) {
    return ring.Poll(budget, sink, sim);
  }
  bool Sound() {
    return made && ring.CheckInvariants() && sim.CheckInvariants() &&
           sink.wrong == 0 && sink.out.size() == ring.frames();
  }
  // What was sent is what was posted, in that order.
  bool SentAsPosted() const {
    if (sent.size() > sink.order.size()) return false;
    for (std::size_t i = 0; i < sent.size(); ++i) {
      const auto it = frames.find(static_cast<std::uint32_t>(sink.order[i]));
      if (it == frames.end() || it->second != sent[i]) return false;
    }
    return true;
  }

  World world;
  SimE1000Tx<typename World::Port> sim{&world.port};
  std::map<std::uint32_t, Bytes> frames;
  TxRing<Format, typename World::MapperType> ring;
  CollectingSink sink;
  std::vector<Bytes> sent;
  std::uint32_t next = 1;
  bool made = false;
};

template <class World>
class TxRingTest : public ::testing::Test {};
using Worlds = ::testing::Types<SharedWorld, CopyWorld<>, CoherentWorld>;
TYPED_TEST_SUITE(TxRingTest, Worlds);

TYPED_TEST(TxRingTest, FramesGoOutWholeAndComeBackOnce) {
  Bench<TypeParam> bench;
  ASSERT_TRUE(bench.ring.Start(bench.sim).ok());
  for (std::size_t i = 0; i < 300; ++i) {
    ASSERT_TRUE(bench.Post(60 + i * 7 % 900, 1 + i % 3).ok()) << i;
    bench.ring.Kick(bench.sim);
    bench.RunDevice();
    if (i % 2 == 1) bench.Poll();
    ASSERT_TRUE(bench.Sound()) << i;
  }
  bench.Poll();
  EXPECT_EQ(bench.sent.size(), 300u);
  EXPECT_TRUE(bench.SentAsPosted());
  EXPECT_EQ(bench.sink.fates[TxFate::kSent], 300u);
  EXPECT_EQ(bench.ring.frames(), 0u);
  EXPECT_EQ(bench.ring.free(), 7u);
  EXPECT_EQ(bench.sim.counters().descriptors, 600u);
  EXPECT_EQ(bench.sim.counters().reports, 300u);  // one for each frame
}

TYPED_TEST(TxRingTest, OneDoorbellForABatch) {
  Bench<TypeParam> bench;
  ASSERT_TRUE(bench.ring.Start(bench.sim).ok());
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(bench.Post(60).ok());
  bench.RunDevice();
  EXPECT_EQ(bench.sent.size(), 0u);  // not told yet
  EXPECT_FALSE(bench.ring.HasWork());
  bench.ring.Kick(bench.sim);
  bench.ring.Kick(bench.sim);  // nothing new
  EXPECT_EQ(bench.sim.counters().doorbells, 1u);
  bench.RunDevice();
  EXPECT_TRUE(bench.ring.HasWork());
  ASSERT_TRUE(bench.Post(60).ok());
  EXPECT_EQ(bench.Poll().done, 4u);  // and a poll kicks what was forgotten
  bench.RunDevice();
  EXPECT_EQ(bench.Poll().done, 1u);
  EXPECT_TRUE(bench.SentAsPosted());
}

// Eight descriptors, one kept back; frames of up to three; wakes at four.
TYPED_TEST(TxRingTest, StopsAndWakes) {
  Bench<TypeParam> bench;
  ASSERT_TRUE(bench.ring.Start(bench.sim).ok());
  for (int i = 0; i < 4; ++i) {
    EXPECT_FALSE(bench.ring.stopped());
    ASSERT_TRUE(bench.Post(60).ok());
  }
  EXPECT_FALSE(bench.ring.stopped());  // three are free
  ASSERT_TRUE(bench.Post(60).ok());
  EXPECT_TRUE(bench.ring.stopped());
  EXPECT_EQ(bench.Post(60, 3).error(), Error::kNoSpace);
  EXPECT_TRUE(bench.Post(60, 2).ok());  // what fits is taken
  EXPECT_EQ(bench.Post(60).error(), Error::kNoSpace);
  EXPECT_EQ(bench.ring.statistics().tx_busy, 2u);
  EXPECT_TRUE(bench.Sound());
  bench.ring.Kick(bench.sim);
  bench.RunDevice();
  for (int i = 0; i < 3; ++i) {
    const TxPollResult r = bench.Poll(1);
    EXPECT_EQ(r.done, 1u);
    EXPECT_TRUE(r.cut);
    EXPECT_FALSE(r.woken);
  }
  EXPECT_TRUE(bench.Poll(1).woken);
  EXPECT_FALSE(bench.ring.stopped());
  EXPECT_FALSE(bench.Poll(64).woken);  // once
  EXPECT_EQ(bench.ring.statistics().tx_stops, 1u);
  EXPECT_EQ(bench.ring.statistics().tx_wakes, 1u);
  EXPECT_TRUE(bench.Sound());
}

TYPED_TEST(TxRingTest, ShutdownCancelsAndGivesEverythingBack) {
  Bench<TypeParam> bench;
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(bench.ring.Start(bench.sim).ok());
    EXPECT_EQ(bench.ring.Start(bench.sim).error(), Error::kBusy);
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(bench.Post(60, 2).ok());
    bench.ring.Kick(bench.sim);
    bench.Step();
    bench.ring.Shutdown(bench.sink, bench.sim);
    EXPECT_EQ(bench.ring.frames(), 0u);
    EXPECT_FALSE(bench.ring.stopped());
    EXPECT_TRUE(bench.Sound());
    EXPECT_EQ(bench.Post(60).error(), Error::kShutDown);
  }
  EXPECT_EQ(bench.sink.fates[TxFate::kCancelled], 9u);
  ASSERT_TRUE(bench.ring.Start(bench.sim).ok());
  ASSERT_TRUE(bench.Post(60, 2).ok());
  bench.Poll();
  bench.RunDevice();
  EXPECT_EQ(bench.Poll().done, 1u);
  EXPECT_EQ(bench.sent.size(), 1u);
}

TYPED_TEST(TxRingTest, ErrorsOfTheDeviceAreTold) {
  Bench<TypeParam> bench;
  ASSERT_TRUE(bench.ring.Start(bench.sim).ok());
  ASSERT_TRUE(bench.Post(60).ok());
  bench.ring.Kick(bench.sim);
  bench.sim.set_errors(2);  // excess collisions
  bench.RunDevice();
  bench.Poll();
  EXPECT_EQ(bench.sink.fates[TxFate::kError], 1u);
  EXPECT_EQ(bench.ring.statistics().tx_errors, 1u);
  EXPECT_TRUE(bench.Sound());
}

TYPED_TEST(TxRingTest, RefusesWhatCannotBeSent) {
  Bench<TypeParam> bench;
  std::array<std::byte, 4> memory{};
  const TxSegment good{PhysAddrOf(memory.data()), 4};
  const TxSegment empty{PhysAddrOf(memory.data()), 0};
  const TxSegment huge{PhysAddrOf(memory.data()), 16289};
  const auto post = [&](std::vector<TxSegment> segments) {
    const Result<void> posted = bench.ring.Post({segments, 1});
    return posted.ok() ? Error{} : posted.error();
  };
  EXPECT_EQ(post({good}), Error::kShutDown);
  ASSERT_TRUE(bench.ring.Start(bench.sim).ok());
  EXPECT_EQ(post({}), Error::kInvalidArgument);
  EXPECT_EQ(post({good, empty}), Error::kInvalidArgument);
  EXPECT_EQ(post({huge}), Error::kInvalidArgument);
  EXPECT_EQ(post({good, good, good, good}), Error::kLimit);
  EXPECT_TRUE(bench.Sound());
  const auto init = [](TxRingOptions options) {
    TypeParam world;
    TxRing<E1000TxFormat, typename TypeParam::MapperType> ring;
    const Result<void> made = ring.Init(&world.mapper, options);
    EXPECT_TRUE(ring.CheckInvariants());
    return made.ok() ? Error{} : made.error();
  };
  EXPECT_EQ(init({8, 7, 7, 0}), Error{});
  EXPECT_EQ(init({0, 1, 0, 0}), Error::kInvalidArgument);
  EXPECT_EQ(init({12, 1, 0, 0}), Error::kInvalidArgument);
  EXPECT_EQ(init({8, 8, 0, 0}), Error::kInvalidArgument);
  EXPECT_EQ(init({8, 0, 0, 0}), Error::kInvalidArgument);
  EXPECT_EQ(init({8, 1, 8, 0}), Error::kInvalidArgument);
  EXPECT_EQ(init({65536, 1, 0, 0}), Error::kLimit);
}

// --- A mapper that fails.

class FailingMapper : public CopyingMapper {
 public:
  Result<Mapping> Map(PhysAddr buffer, std::uint64_t size, Direction direction,
                      MapAttributes attributes) {
    if (Fails()) return Error::kNoSpace;
    return CopyingMapper::Map(buffer, size, direction, attributes);
  }
  Result<void> Unmap(const Mapping& m,
                     MapAttributes attributes = MapAttributes::kNone) {
    if (fail_unmap) return Error::kBusy;
    return CopyingMapper::Unmap(m, attributes);
  }
  Result<void> SyncForDevice(const Mapping& m, std::uint64_t offset,
                             std::uint64_t size) {
    if (Fails()) return Error::kBusy;
    return CopyingMapper::SyncForDevice(m, offset, size);
  }
  Result<void> SyncForCpu(const Mapping& m, std::uint64_t offset,
                          std::uint64_t size) {
    if (Fails()) return Error::kBusy;
    return CopyingMapper::SyncForCpu(m, offset, size);
  }
  bool Fails() { return countdown != 0 && --countdown == 0; }
  int countdown = 0;
  bool fail_unmap = false;
};

TEST(TxRing, AFailedPostLeavesNothingBehind) {
  std::size_t refused = 0;
  for (int n = 1; n < 40; ++n) {
    Bench<CopyWorld<FailingMapper>> bench;
    ASSERT_TRUE(bench.ring.Start(bench.sim).ok());
    bench.world.mapper.countdown = n;
    for (int i = 0; i < 10; ++i) {
      const Result<void> posted = bench.Post(90, 3);
      refused += !posted.ok();
      ASSERT_TRUE(bench.Sound()) << n;
      bench.ring.Kick(bench.sim);
      bench.RunDevice();
      bench.Poll();
    }
    bench.Poll();
    EXPECT_EQ(bench.world.mapper.live(), 1u);  // the ring itself
    EXPECT_EQ(bench.ring.frames(), 0u);
    EXPECT_TRUE(bench.SentAsPosted());
  }
  EXPECT_GT(refused, 20u);
}

TEST(TxRing, AFrameThatStaysMappedIsQuarantined) {
  Bench<CopyWorld<FailingMapper>> bench;
  ASSERT_TRUE(bench.ring.Start(bench.sim).ok());
  ASSERT_TRUE(bench.Post(60, 2).ok());
  bench.ring.Kick(bench.sim);
  bench.RunDevice();
  bench.world.mapper.fail_unmap = true;
  EXPECT_EQ(bench.Poll().done, 1u);
  EXPECT_EQ(bench.sink.fates[TxFate::kQuarantined], 1u);
  EXPECT_TRUE(bench.Sound());
  bench.world.mapper.fail_unmap = false;
}

TEST(TxRing, ARingThatIsDestroyedLeavesNothingMapped) {
  CopyingMapper mapper;
  CopyingMapper::Port port = mapper.port();
  SimE1000Tx<CopyingMapper::Port> sim(&port);
  const Bytes memory(60);
  {
    TxRing<E1000TxFormat, CopyingMapper> ring;
    ASSERT_TRUE(ring.Init(&mapper, {8, 3, 4, 0}).ok());
    ASSERT_TRUE(ring.Start(sim).ok());
    const TxSegment segment{PhysAddrOf(memory.data()), 60};
    for (int i = 0; i < 3; ++i) {
      ASSERT_TRUE(ring.Post({{&segment, 1}, 1}).ok());
    }
    sim.Abort();
  }
  EXPECT_EQ(mapper.live(), 0u);
}

// A frame that is done between the last look and the unmask, of which the look
// that would find it fails.
TEST(TxRing, AFailedLookAfterTheUnmaskLosesNoEvent) {
  class FailsNext : public CopyingMapper {
   public:
    Result<void> SyncForCpu(const Mapping& m, std::uint64_t offset,
                            std::uint64_t size) {
      if (std::exchange(fails, false)) return Error::kBusy;
      return CopyingMapper::SyncForCpu(m, offset, size);
    }
    bool fails = false;
  };
  Bench<CopyWorld<FailsNext>> bench;
  ASSERT_TRUE(bench.ring.Start(bench.sim).ok());
  ASSERT_TRUE(bench.Post(60).ok());
  bench.ring.Kick(bench.sim);
  struct Edge {
    void Mask() {}
    void Acknowledge() {}
    void Unmask() {
      bench->RunDevice();
      bench->world.mapper.fails = !std::exchange(failed, true);
    }
    Bench<CopyWorld<FailsNext>>* bench;
    bool failed = false;
  } edge{&bench};
  Napi napi(&edge);
  ASSERT_TRUE(napi.Schedule());
  int passes = 0;
  while (napi.Poll(
             64, [&](std::size_t n) { return bench.Poll(n).done; },
             [&] { return bench.ring.HasWork(); }) == PollOutcome::kAgain) {
    ASSERT_LT(++passes, 10);
  }
  EXPECT_EQ(bench.ring.frames(), 0u);
}

// --- One load for each report.

struct CountingAccess {
  static std::uint32_t Load32(const std::byte* p) {
    const std::uint32_t value = DeviceAccess::Load32(p);
    reports += value & 1;
    return value;
  }
  static inline std::uint64_t reports = 0;
};

TEST(TxRing, EachReportIsLoadedOnce) {
  CountingAccess::reports = 0;
  Bench<SharedWorld, BasicE1000TxFormat<CountingAccess>> bench;
  ASSERT_TRUE(bench.ring.Start(bench.sim).ok());
  for (std::size_t i = 0; i < 100; ++i) {
    ASSERT_TRUE(bench.Post(60, 1 + i % 3).ok());
    bench.ring.Kick(bench.sim);
    bench.ring.HasWork();
    bench.RunDevice();
    bench.ring.HasWork();
    bench.ring.HasWork();
    bench.Poll(1);
  }
  EXPECT_EQ(bench.sim.counters().reports, 100u);
  EXPECT_EQ(CountingAccess::reports, 100u);
}

// --- The random walk.

template <class World>
void Walk() {
  TxRingOptions options;
  options.entries = *rc::gen::element(8u, 16u);
  options.max_segments = *rc::gen::inRange<std::uint32_t>(1, 6);
  options.wake = *rc::gen::inRange<std::uint32_t>(0, 8);
  Bench<World> bench(options);
  RC_ASSERT(bench.ring.Start(bench.sim).ok());
  auto random = *rc::gen::arbitrary<std::uint32_t>();
  bench.world.SetHook([&] {
    random = random * 1664525u + 1013904223u;
    for (std::uint32_t i = random >> 29; i != 0 && bench.Step(); --i) {
    }
  });
  std::size_t posted = 0;
  const int moves = *rc::gen::inRange(1, 400);
  for (int i = 0; i < moves; ++i) {
    switch (*rc::gen::inRange(0, 6)) {
      case 0:
      case 1: {
        const auto parts =
            *rc::gen::inRange<std::size_t>(1, options.max_segments + 1);
        const std::uint32_t free = bench.ring.free();
        const bool stopped = bench.ring.stopped();
        const Result<void> r =
            bench.Post(*rc::gen::inRange<std::size_t>(parts, 300), parts);
        RC_ASSERT(r.ok() == (parts <= free));
        RC_ASSERT(r.ok() || stopped);  // who heeds it is never refused
        posted += r.ok() ? 1 : 0;
        break;
      }
      case 2:
        bench.ring.Kick(bench.sim);
        break;
      case 3:
        for (int n = *rc::gen::inRange(1, 20); n != 0 && bench.Step(); --n) {
        }
        break;
      default: {
        const auto budget = *rc::gen::inRange<std::size_t>(0, 5);
        const TxPollResult r = bench.Poll(budget);
        RC_ASSERT(r.done <= budget);
        RC_ASSERT(r.cut == (r.done == budget));
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
  RC_ASSERT(bench.sent.size() == posted);
  RC_ASSERT(bench.sink.order.size() == posted);
  RC_ASSERT(bench.SentAsPosted());
  RC_ASSERT(!bench.ring.stopped());
  RC_ASSERT(bench.Sound());
}
RC_GTEST_PROP(TxRingProperty, Shared, ()) { Walk<SharedWorld>(); }
RC_GTEST_PROP(TxRingProperty, Copied, ()) { Walk<CopyWorld<>>(); }

// --- A hostile device: every frame comes back once, whatever it reports.

template <class World>
void HostileWalk(std::size_t& early) {
  World world;
  HostileE1000 device(&world.port, E1000Layout::kLegacy);
  TxRing<E1000TxFormat, typename World::MapperType> ring;
  CollectingSink sink;
  RC_ASSERT(ring.Init(&world.mapper, {16, 4, 8, 0}).ok());
  Bytes memory(256);
  auto state = *rc::gen::arbitrary<std::uint32_t>();
  const auto random = [&state] {
    state = state * 1664525u + 1013904223u;
    return state >> 16 | state << 16;
  };
  world.SetHook([&] {
    if (random() % 8 == 0) device.Act(random);
  });
  RC_ASSERT(ring.Start(device).ok());
  for (std::uint64_t i = 0; i < 150; ++i) {
    std::vector<TxSegment> segments(1 + random() % 4,
                                    TxSegment{PhysAddrOf(memory.data()), 64});
    if (ring.Post({segments, i}).ok()) sink.out.insert(i);
    if (random() % 2 == 0) ring.Kick(device);
    for (std::uint32_t n = random() % 4; n != 0; --n) device.Act(random);
    const std::size_t budget = random() % 6;
    const std::uint32_t before = ring.frames();
    const TxPollResult r = ring.Poll(budget, sink, device);
    RC_ASSERT(r.done <= budget && r.done <= before);
    early += r.done;
    RC_ASSERT(ring.CheckInvariants());
    RC_ASSERT(sink.wrong == 0);
    RC_ASSERT(sink.out.size() == ring.frames());
    if (random() % 32 == 0) {
      ring.Shutdown(sink, device);
      RC_ASSERT(sink.out.empty());
      RC_ASSERT(ring.Start(device).ok());
    }
  }
  world.SetHook(nullptr);
  ring.Shutdown(sink, device);
  RC_ASSERT(sink.out.empty() && sink.wrong == 0);
}
TEST(TxRingHostile, EveryFrameComesBackOnce) {
  std::size_t done = 0;
  EXPECT_TRUE(rc::check([&] { HostileWalk<CopyWorld<>>(done); }));
  EXPECT_GT(done, 300u);
  // The device rewrites descriptors: only a mapper keeps it from the rest.
  EXPECT_TRUE(rc::check([&] { HostileWalk<SharedWorld>(done); }));
}

// --- Negative controls.

// Leaves DD on when a descriptor is used again: frames come back unsent.
struct LeavesDoneOn : E1000TxFormat {
  static void WritePosted(std::byte* descriptor, Iova at, std::uint32_t bytes,
                          TxPlace place) {
    const std::uint32_t status = LoadLe32(descriptor + 12);
    E1000TxFormat::WritePosted(descriptor, at, bytes, place);
    StoreLe32(descriptor + 12, status);
  }
};
TEST(TxRingControl, AStaleReportIsSeen) {
  Bench<SharedWorld, LeavesDoneOn> bench;
  ASSERT_TRUE(bench.ring.Start(bench.sim).ok());
  for (int i = 0; i < 12; ++i) {
    (void)bench.Post(60);
    bench.Poll();
    bench.RunDevice();
    bench.Poll();
  }
  EXPECT_FALSE(bench.Sound());
}

class ForgetsDescriptors : public CopyingMapper {
 public:
  Result<void> SyncForDevice(const Mapping&, std::uint64_t, std::uint64_t) {
    return Ok();
  }
};
TEST(TxRingControl, AMissingSyncIsSeen) {
  Bench<CopyWorld<ForgetsDescriptors>> bench;
  ASSERT_TRUE(bench.ring.Start(bench.sim).ok());
  ASSERT_TRUE(bench.Post(60).ok());
  bench.ring.Kick(bench.sim);
  bench.RunDevice();
  EXPECT_FALSE(bench.Sound());
}

TEST(TxRingControl, AFrameThatComesBackTwiceIsSeen) {
  Bench<SharedWorld> bench;
  EXPECT_TRUE(bench.Sound());
  bench.sink.Done({1, 60, TxFate::kSent});
  EXPECT_FALSE(bench.Sound());
}

}  // namespace
}  // namespace dmamap
