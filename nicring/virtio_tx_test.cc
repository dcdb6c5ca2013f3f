// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// TxRing over a split and a packed virtqueue: with an honest device, frame by
// frame and as a random walk, and with one that lies.

#include "nicring/virtio_tx.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "nicring/doorbell_bench_for_test.h"
#include "nicring/napi.h"
#include "nicring/tx_ring.h"
#include "testing/hostile_virtio.h"
#include "testing/sim_virtio_tx.h"

namespace dmamap {
namespace {

using testing_bench::Bytes;
using testing_bench::CoherentWorld;
using testing_bench::CopyWorld;
using testing_bench::NumberedFrame;
using testing_bench::SharedWorld;

// Keeps what came back, and that nothing comes back twice or unposted.
struct CollectingSink {
  void Done(const TxDone& done) {
    wrong += out.erase(done.token) == 0;
    ++fates[done.fate];
    ++total;
  }
  std::set<std::uint64_t> out;
  std::map<TxFate, std::size_t> fates;
  std::size_t total = 0;
  int wrong = 0;
};

TxRingOptions Options(bool event_index = false, std::uint32_t entries = 8) {
  TxRingOptions options;
  options.entries = entries;
  options.max_segments = 3;
  options.wake = 4;
  options.features =
      virtio::kVersion1 | (event_index ? virtio::kEventIndex : 0);
  return options;
}

template <class Format>
constexpr std::uint64_t kLayout = Format::kPackedTx ? virtio::kRingPacked : 0;
template <class Format>
constexpr VirtioLayout kSimLayout =
    Format::kPackedTx ? VirtioLayout::kPacked : VirtioLayout::kSplit;

template <class World, class Format = VirtioSplitTxFormat>
struct Bench {
  explicit Bench(TxRingOptions options = Options(), std::size_t hold = 1)
      : sim(&world.port, {(options.features & virtio::kEventIndex) != 0, hold,
                          kSimLayout<Format>}) {
    options.features |= kLayout<Format>;
    made = ring.Init(&world.mapper, options).ok();
  }
  ~Bench() {
    world.SetHook(nullptr);
    ring.Shutdown(sink, sim);
  }
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
    if (posted.ok()) {
      sink.out.insert(number);
      posts.push_back(memory);
    } else {
      frames.erase(number);
    }
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
  SimVirtioTx<typename World::Port> sim;
  std::map<std::uint32_t, Bytes> frames;
  TxRing<Format, typename World::MapperType> ring;
  CollectingSink sink;
  std::vector<Bytes> posts;
  std::vector<Bytes> sent;
  std::uint32_t next = 1;
  bool made = false;
};

template <class WorldType, class FormatType>
struct Side {
  using World = WorldType;
  using Format = FormatType;
};
template <class S>
class VirtioTxTest : public ::testing::Test {};
using Sides = ::testing::Types<Side<SharedWorld, VirtioSplitTxFormat>,
                               Side<CopyWorld<>, VirtioSplitTxFormat>,
                               Side<CoherentWorld, VirtioSplitTxFormat>,
                               Side<SharedWorld, VirtioPackedTxFormat>,
                               Side<CopyWorld<>, VirtioPackedTxFormat>>;
TYPED_TEST_SUITE(VirtioTxTest, Sides);
template <class S>
using SideBench = Bench<typename S::World, typename S::Format>;

TYPED_TEST(VirtioTxTest, FramesGoOutWholeAndComeBackOnce) {
  for (const bool event_index : {false, true}) {
    for (const std::size_t hold : {std::size_t{1}, std::size_t{3}}) {
      SideBench<TypeParam> bench(Options(event_index), hold);
      ASSERT_TRUE(bench.ring.Start(bench.sim).ok());
      for (std::size_t i = 0; i < 300; ++i) {
        ASSERT_TRUE(bench.Post(60 + i * 7 % 900, 1 + i % 3).ok()) << i;
        bench.ring.Kick(bench.sim);
        if (i % 3 != 0) bench.RunDevice();
        bench.Poll();
        if (bench.ring.stopped()) {
          bench.RunDevice();
          bench.Poll();
        }
        ASSERT_TRUE(bench.Sound()) << i;
      }
      bench.RunDevice();
      bench.Poll();
      EXPECT_EQ(bench.sent, bench.posts);
      EXPECT_EQ(bench.sink.fates[TxFate::kSent], 300u);
      EXPECT_EQ(bench.ring.free(), 7u);
      EXPECT_TRUE(bench.Sound());
    }
  }
}

TYPED_TEST(VirtioTxTest, StopsWakesAndCancels) {
  SideBench<TypeParam> bench;
  ASSERT_TRUE(bench.ring.Start(bench.sim).ok());
  ASSERT_TRUE(bench.Post(60).ok());
  ASSERT_TRUE(bench.Post(60).ok());
  EXPECT_FALSE(bench.ring.stopped());  // 3 segments and a header fit
  ASSERT_TRUE(bench.Post(60).ok());
  EXPECT_TRUE(bench.ring.stopped());
  EXPECT_EQ(bench.Post(60, 2).error(), Error::kNoSpace);
  EXPECT_TRUE(bench.Post(60).ok());
  EXPECT_EQ(bench.Post(60).error(), Error::kNoSpace);
  bench.ring.Kick(bench.sim);
  bench.RunDevice();
  EXPECT_FALSE(bench.Poll(2).woken);
  EXPECT_TRUE(bench.Poll(1).woken);
  ASSERT_TRUE(bench.Post(60, 3).ok());
  bench.ring.Shutdown(bench.sink, bench.sim);
  EXPECT_EQ(bench.sink.fates[TxFate::kCancelled], 2u);
  EXPECT_EQ(bench.ring.frames(), 0u);
  EXPECT_TRUE(bench.Sound());
  ASSERT_TRUE(bench.ring.Start(bench.sim).ok());
  ASSERT_TRUE(bench.Post(60, 3).ok());
  bench.ring.Kick(bench.sim);
  bench.RunDevice();
  EXPECT_EQ(bench.Poll().done, 1u);
}

TYPED_TEST(VirtioTxTest, RefusesWhatCannotBeSent) {
  SideBench<TypeParam> bench;
  std::array<std::byte, 4> memory{};
  const TxSegment good{PhysAddrOf(memory.data()), 4};
  const TxSegment empty{PhysAddrOf(memory.data()), 0};
  const auto post = [&](std::vector<TxSegment> segments) {
    const Result<void> posted = bench.ring.Post({segments, 1});
    return posted.ok() ? Error{} : posted.error();
  };
  EXPECT_EQ(post({good}), Error::kShutDown);
  ASSERT_TRUE(bench.ring.Start(bench.sim).ok());
  EXPECT_EQ(post({}), Error::kInvalidArgument);
  EXPECT_EQ(post({good, empty}), Error::kInvalidArgument);
  EXPECT_EQ(post({good, good, good, good}), Error::kLimit);
  EXPECT_TRUE(bench.Sound());
  const auto init = [](std::uint32_t entries, std::uint64_t features) {
    typename TypeParam::World world;
    TxRing<typename TypeParam::Format, typename TypeParam::World::MapperType>
        ring;
    TxRingOptions options = Options(false, entries);
    options.features = features;
    const Result<void> made = ring.Init(&world.mapper, options);
    EXPECT_TRUE(ring.CheckInvariants());
    return made.ok() ? Error{} : made.error();
  };
  constexpr bool packed = TypeParam::Format::kPackedTx;
  const std::uint64_t layout = kLayout<typename TypeParam::Format>;
  const std::uint64_t right = virtio::kVersion1 | layout;
  EXPECT_EQ(init(8, right), Error{});
  EXPECT_EQ(init(12, right), packed ? Error{} : Error::kInvalidArgument);
  EXPECT_EQ(init(65536, right), Error::kLimit);
  EXPECT_EQ(init(8, layout), Error::kUnsupported);
  EXPECT_EQ(init(8, right ^ virtio::kRingPacked), Error::kUnsupported);
  EXPECT_EQ(init(8, right | 1ull << 35), Error::kUnsupported);
}

// Completions by interrupt alone, the ring itself the Interrupts of a Napi.
TYPED_TEST(VirtioTxTest, NapiMissesNoEvent) {
  for (const bool event_index : {false, true}) {
    SideBench<TypeParam> bench(Options(event_index, 16));
    ASSERT_TRUE(bench.ring.Start(bench.sim).ok());
    Napi napi(&bench.ring);
    std::uint32_t random = 1;
    const auto burst = [&] {
      random = random * 1664525u + 1013904223u;
      for (std::uint32_t i = random >> 28; i != 0 && bench.Step(); --i) {
      }
    };
    for (int i = 0; i < 1000; ++i) {
      if (!bench.ring.stopped()) {
        ASSERT_TRUE(bench.Post(60, 2).ok());
      }
      bench.ring.Kick(bench.sim);
      burst();
      if (i >= 990) bench.RunDevice();
      if (!bench.sim.Acknowledge() || !napi.Schedule()) continue;
      while (napi.Poll(
                 2,
                 [&](std::size_t n) {
                   burst();
                   return bench.Poll(n).done;
                 },
                 [&] {
                   burst();  // between unmask and look
                   return bench.ring.HasWork();
                 }) == PollOutcome::kAgain) {
      }
    }
    for (int i = 0; i < 8 && bench.ring.frames() != 0; ++i) {
      bench.RunDevice();
      if (!bench.sim.Acknowledge() || !napi.Schedule()) continue;
      while (napi.Poll(
                 2, [&](std::size_t n) { return bench.Poll(n).done; },
                 [&] { return bench.ring.HasWork(); }) == PollOutcome::kAgain) {
      }
    }
    EXPECT_EQ(bench.ring.frames(), 0u);
    EXPECT_EQ(bench.sent, bench.posts);
    EXPECT_GT(bench.posts.size(), 300u);
    EXPECT_GT(bench.sim.counters().suppressed, 0u);
    EXPECT_TRUE(bench.Sound());
  }
}

// --- Lies.

template <class Format>
struct ByHand {
  ByHand() {
    TxRingOptions options = Options();
    options.features |= kLayout<Format>;
    EXPECT_TRUE(ring.Init(&world.mapper, options).ok());
    EXPECT_TRUE(ring.Start(port).ok());
    for (std::uint64_t i = 0; i < 3; ++i) {
      const TxSegment segment{PhysAddrOf(memory.data()), 60};
      EXPECT_TRUE(ring.Post({{&segment, 1}, i}).ok());
      sink.out.insert(i);
      if (i == 1) ring.Kick(port);  // the third is not shown
    }
  }
  ~ByHand() { ring.Shutdown(sink, port); }
  struct Port {
    Result<void> Start(const RingAddresses& r) {
      ring = r;
      return Ok();
    }
    void Doorbell(std::uint32_t) {}
    void Abort() {}
    RingAddresses ring;
  };
  void Use(std::uint32_t id, std::uint32_t index) {
    std::byte bytes[4];
    StoreLe32(bytes, id);
    const std::uint32_t at = 4 + 8 * used++;
    EXPECT_TRUE(world.port.Write(port.ring.device + at, bytes, 4).ok());
    StoreLe32(bytes, index);
    EXPECT_TRUE(world.port.Write(port.ring.device + 2, bytes, 2).ok());
  }
  // Packed, in the first round: the id, at a place that is then used.
  void UsePlace(std::uint32_t id, std::uint32_t place) {
    std::byte bytes[4];
    StoreLe32(bytes, id | std::uint32_t{virtio::kAvail | virtio::kUsed} << 16);
    const std::uint32_t at = 16 * place + 12;
    EXPECT_TRUE(world.port.Write(port.ring.descriptors + at, bytes, 4).ok());
  }
  CopyWorld<> world;
  Port port;
  TxRing<Format, CopyingMapper> ring;
  CollectingSink sink;
  std::array<std::byte, 64> memory{};
  std::uint32_t used = 0;
};

template <class Driver>
void ExpectBroken(Driver& driver, std::uint32_t id) {
  EXPECT_TRUE(driver.ring.HasWork());
  const TxPollResult r = driver.ring.Poll(8, driver.sink, driver.port);
  EXPECT_TRUE(r.broken) << id;
  EXPECT_EQ(r.done, 0u);
  EXPECT_EQ(driver.ring.statistics().tx_broken, 1u);
  EXPECT_FALSE(driver.ring.HasWork());
  EXPECT_TRUE(driver.ring.CheckInvariants());
  driver.ring.Shutdown(driver.sink, driver.port);
  EXPECT_TRUE(driver.sink.out.empty());
  EXPECT_EQ(driver.sink.fates[TxFate::kCancelled], 3u);
  EXPECT_TRUE(driver.ring.Start(driver.port).ok());
}

TEST(VirtioTxLies, IdsAndIndicesAreChecked) {
  using Driver = ByHand<VirtioSplitTxFormat>;
  // Heads are 0 and 2, and 4 is posted but was not shown.
  for (const std::uint32_t id : {1u, 4u, 7u, 8u, 0x10000u, UINT32_MAX}) {
    Driver driver;
    driver.Use(id, 1);
    ExpectBroken(driver, id);
  }
  Driver twice;
  twice.Use(0, 1);
  EXPECT_EQ(twice.ring.Poll(8, twice.sink, twice.port).done, 1u);
  twice.Use(0, 2);
  EXPECT_TRUE(twice.ring.Poll(8, twice.sink, twice.port).broken);
  Driver far;
  far.Use(0, 3);  // two are out
  EXPECT_TRUE(far.ring.HasWork());
  EXPECT_TRUE(far.ring.Poll(8, far.sink, far.port).broken);
}
TEST(VirtioTxLies, PackedIdsAreChecked) {
  using Driver = ByHand<VirtioPackedTxFormat>;
  for (const std::uint32_t id : {1u, 4u, 7u, 8u, 0x7fffu, 0xffffu}) {
    Driver driver;
    driver.UsePlace(id, 0);
    ExpectBroken(driver, id);
  }
  Driver twice;
  twice.UsePlace(2, 0);  // out of order
  EXPECT_EQ(twice.ring.Poll(8, twice.sink, twice.port).done, 1u);
  EXPECT_EQ(twice.sink.out.count(1), 0u);
  twice.UsePlace(2, 2);
  EXPECT_TRUE(twice.ring.Poll(8, twice.sink, twice.port).broken);
  Driver early;  // not where the next used descriptor has to be
  early.UsePlace(0, 1);
  EXPECT_EQ(early.ring.Poll(8, early.sink, early.port).done, 0u);
}

class FailingMapper : public CopyingMapper {
 public:
  Result<Mapping> Map(PhysAddr buffer, std::uint64_t size, Direction direction,
                      MapAttributes attributes) {
    if (Fails()) return Error::kNoSpace;
    return CopyingMapper::Map(buffer, size, direction, attributes);
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
};

template <class Format>
void FailPosts() {
  std::size_t refused = 0;
  for (int n = 1; n < 60; ++n) {
    Bench<CopyWorld<FailingMapper>, Format> bench;
    ASSERT_TRUE(bench.ring.Start(bench.sim).ok());
    bench.world.mapper.countdown = n;
    for (int i = 0; i < 10; ++i) {
      refused += !bench.Post(90, 3 - i % 3).ok();
      ASSERT_TRUE(bench.Sound()) << n;
      bench.ring.Kick(bench.sim);
      bench.RunDevice();
      bench.Poll();
      bench.RunDevice();
      bench.Poll();
    }
    EXPECT_EQ(bench.world.mapper.live(), 1u);  // the ring itself
    EXPECT_EQ(bench.ring.frames(), 0u);
    EXPECT_EQ(bench.sent, bench.posts);
  }
  EXPECT_GT(refused, 20u);
}
TEST(VirtioTx, AFailedPostLeavesNothingBehind) {
  FailPosts<VirtioSplitTxFormat>();
  FailPosts<VirtioPackedTxFormat>();
}

struct CountingAccess {
  static std::uint16_t Load16(const std::byte* p) {
    ++words;
    return DeviceAccess::Load16(p);
  }
  static std::uint32_t Load32(const std::byte* p) {
    ++ids;
    return DeviceAccess::Load32(p);
  }
  static void Store16(std::byte* p, std::uint16_t value) {
    DeviceAccess::Store16(p, value);
  }
  static inline std::uint64_t ids = 0;  // split
  static inline std::uint64_t words = 0;
};
TEST(VirtioTx, EachIdIsLoadedOnce) {
  CountingAccess::ids = 0;
  Bench<SharedWorld, BasicVirtioSplitTxFormat<CountingAccess>> bench;
  ASSERT_TRUE(bench.ring.Start(bench.sim).ok());
  for (std::size_t i = 0; i < 100; ++i) {
    ASSERT_TRUE(bench.Post(60, 1 + i % 3).ok());
    bench.ring.Kick(bench.sim);
    bench.RunDevice();
    bench.ring.HasWork();
    bench.ring.HasWork();
    bench.Poll(1);
  }
  EXPECT_EQ(CountingAccess::ids, 100u);
}
// Packed: the flags once and the id once. (Load32 is the event suppression.)
TEST(VirtioTx, PackedFlagsAndIdsAreLoadedOnce) {
  Bench<SharedWorld, BasicVirtioPackedTxFormat<CountingAccess>> bench;
  ASSERT_TRUE(bench.ring.Start(bench.sim).ok());
  CountingAccess::words = 0;
  for (std::size_t i = 0; i < 100; ++i) {
    ASSERT_TRUE(bench.Post(60, 1 + i % 3).ok());
    bench.ring.Kick(bench.sim);
    bench.RunDevice();
    bench.ring.HasWork();
    bench.ring.HasWork();
    bench.Poll(1);
  }
  EXPECT_EQ(CountingAccess::words, 200u);
}

// --- The random walks.

template <class World, class Format>
void Walk() {
  TxRingOptions options =
      Options(*rc::gen::arbitrary<bool>(), *rc::gen::element(8u, 16u));
  const auto hold = *rc::gen::inRange<std::size_t>(1, 4);
  if (Format::kPackedTx && options.entries == 8) options.entries = 11;
  Bench<World, Format> bench(options, hold);
  RC_ASSERT(bench.ring.Start(bench.sim).ok());
  auto random = *rc::gen::arbitrary<std::uint32_t>();
  bench.world.SetHook([&] {
    random = random * 1664525u + 1013904223u;
    for (std::uint32_t i = random >> 29; i != 0 && bench.Step(); --i) {
    }
  });
  const int moves = *rc::gen::inRange(1, 400);
  for (int i = 0; i < moves; ++i) {
    switch (*rc::gen::inRange(0, 6)) {
      case 0:
      case 1: {
        const auto parts = *rc::gen::inRange<std::size_t>(1, 4);
        const std::uint32_t free = bench.ring.free();
        const bool stopped = bench.ring.stopped();
        const Result<void> r =
            bench.Post(*rc::gen::inRange<std::size_t>(parts, 300), parts);
        RC_ASSERT(r.ok() == (parts <= free));
        RC_ASSERT(r.ok() || stopped);
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
        RC_ASSERT(r.done <= budget && !r.broken);
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
  RC_ASSERT(!bench.ring.stopped());
  RC_ASSERT(bench.Sound());
}
RC_GTEST_PROP(VirtioTxProperty, SharedSplit, ()) {
  Walk<SharedWorld, VirtioSplitTxFormat>();
}
RC_GTEST_PROP(VirtioTxProperty, CopiedSplit, ()) {
  Walk<CopyWorld<>, VirtioSplitTxFormat>();
}
RC_GTEST_PROP(VirtioTxProperty, SharedPacked, ()) {
  Walk<SharedWorld, VirtioPackedTxFormat>();
}
RC_GTEST_PROP(VirtioTxProperty, CopiedPacked, ()) {
  Walk<CopyWorld<>, VirtioPackedTxFormat>();
}

struct Tally {
  std::size_t done = 0;
  std::size_t broken = 0;
};
template <class World, class Format>
void HostileWalk(Tally& tally) {
  World world;
  HostileVirtio device(&world.port, kSimLayout<Format>);
  TxRing<Format, typename World::MapperType> ring;
  CollectingSink sink;
  TxRingOptions options = Options(*rc::gen::arbitrary<bool>(), 16);
  options.features |= kLayout<Format>;
  RC_ASSERT(ring.Init(&world.mapper, options).ok());
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
    std::vector<TxSegment> segments(1 + random() % 3,
                                    TxSegment{PhysAddrOf(memory.data()), 64});
    if (ring.Post({segments, i}).ok()) sink.out.insert(i);
    if (random() % 2 == 0) ring.Kick(device);
    for (std::uint32_t n = random() % 4; n != 0; --n) device.Act(random);
    const std::size_t budget = random() % 6;
    const std::uint32_t before = ring.frames();
    const TxPollResult r = ring.Poll(budget, sink, device);
    RC_ASSERT(r.done <= budget && r.done <= before);
    RC_ASSERT(ring.CheckInvariants());
    RC_ASSERT(sink.wrong == 0);
    RC_ASSERT(sink.out.size() == ring.frames());
    tally.done += r.done;
    tally.broken += r.broken ? 1 : 0;
    if (r.broken || random() % 32 == 0) {
      ring.Shutdown(sink, device);
      RC_ASSERT(sink.out.empty());
      RC_ASSERT(ring.Start(device).ok());
    }
  }
  world.SetHook(nullptr);
  ring.Shutdown(sink, device);
  RC_ASSERT(sink.out.empty() && sink.wrong == 0);
}
template <class Format>
void HostileWalks() {
  Tally tally;
  EXPECT_TRUE(rc::check([&] { HostileWalk<CopyWorld<>, Format>(tally); }));
  EXPECT_TRUE(rc::check([&] { HostileWalk<SharedWorld, Format>(tally); }));
  EXPECT_GT(tally.done, 300u);
  EXPECT_GT(tally.broken, 30u);
}
TEST(VirtioTxHostile, EveryFrameComesBackOnce) {
  HostileWalks<VirtioSplitTxFormat>();
}
TEST(VirtioTxHostile, EveryPackedFrameComesBackOnce) {
  HostileWalks<VirtioPackedTxFormat>();
}

// --- Negative controls.

class ForgetsDescriptors : public CopyingMapper {
 public:
  Result<void> SyncForDevice(const Mapping& m, std::uint64_t offset,
                             std::uint64_t size) {
    if (size == 16 || size == 14) return Ok();  // split, packed
    return CopyingMapper::SyncForDevice(m, offset, size);
  }
};
template <class Format>
void MissASync() {
  Bench<CopyWorld<ForgetsDescriptors>, Format> bench;
  ASSERT_TRUE(bench.ring.Start(bench.sim).ok());
  ASSERT_TRUE(bench.Post(60).ok());
  bench.ring.Kick(bench.sim);
  bench.RunDevice();
  EXPECT_FALSE(bench.Sound());
}
TEST(VirtioTxControl, AMissingSyncIsSeen) {
  MissASync<VirtioSplitTxFormat>();
  MissASync<VirtioPackedTxFormat>();
}
TEST(VirtioTxControl, AFrameThatComesBackTwiceIsSeen) {
  Bench<SharedWorld> bench;
  EXPECT_TRUE(bench.Sound());
  bench.sink.Done({1, 60, TxFate::kSent});
  EXPECT_FALSE(bench.Sound());
}

}  // namespace
}  // namespace dmamap
