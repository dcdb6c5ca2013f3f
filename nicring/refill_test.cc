// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// The refill policies: what goes up stays as it is until it comes back, what
// stays mapped is mapped once, and every buffer is somewhere.

#include "nicring/refill.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <optional>
#include <random>
#include <type_traits>
#include <utility>
#include <vector>

#include "dma/mapper.h"
#include "nicring/buffer_pool.h"
#include "nicring/cpu_pool.h"
#include "nicring/doorbell_bench_for_test.h"
#include "nicring/e1000.h"
#include "nicring/i8255x.h"
#include "nicring/page_flip.h"
#include "nicring/recycle.h"
#include "nicring/rx_ring.h"
#include "nicring/virtio.h"
#include "testing/batched_sink.h"
#include "testing/copying_mapper.h"
#include "testing/sim_e1000.h"
#include "testing/sim_i8255x.h"
#include "testing/sim_virtio.h"

namespace dmamap::inline v0 {
namespace {

using testing_bench::Bytes;
using testing_bench::CopyWorld;
using testing_bench::FlipPolicies;
using testing_bench::NumberedFrame;
using testing_bench::RecyclePolicies;
using testing_bench::SharedWorld;

struct EachPolicies : RxPolicies {};
// Counts the calls of a world's mapper.
template <class World>
struct CountingWorld : World {
  class MapperType : public World::MapperType {
   public:
    using World::MapperType::MapperType;
    Result<Mapping> Map(PhysAddr buffer, std::uint64_t size,
                        Direction direction,
                        MapAttributes attributes = MapAttributes::kNone) {
      ++maps;
      return World::MapperType::Map(buffer, size, direction, attributes);
    }
    std::uint64_t maps = 0;
  };
};
struct CountingShared {
  using Port = testing_bench::OpenPort;
  using MapperType = CountingWorld<SharedWorld>::MapperType;
  Port port;
  MapperType mapper{&port};
};
struct CountingCopy {
  using MapperType = CountingWorld<CopyWorld<>>::MapperType;
  using Port = CopyingMapper::Port;
  MapperType mapper;
  Port port = mapper.port();
};

struct E1000Kind {
  using Format = E1000Format;
  template <class Port>
  using Device = SimE1000<Port>;
  static SimE1000Options Options() { return {}; }
  static constexpr std::uint64_t kFeatures = 0;
};
struct ListKind {
  using Format = I8255xFormat;
  template <class Port>
  using Device = SimI8255x<Port>;
  static SimI8255xOptions Options() {
    SimI8255xOptions options;
    options.min_frame = 1;
    return options;
  }
  static constexpr std::uint64_t kFeatures = 0;
};
struct SplitKind {
  using Format = VirtioSplitFormat;
  template <class Port>
  using Device = SimVirtio<Port>;
  static SimVirtioOptions Options() { return {}; }
  static constexpr std::uint64_t kFeatures = virtio::kVersion1;
};
struct PackedKind {
  using Format = VirtioPackedFormat;
  template <class Port>
  using Device = SimVirtio<Port>;
  static SimVirtioOptions Options() {
    return {.layout = VirtioLayout::kPacked};
  }
  static constexpr std::uint64_t kFeatures =
      virtio::kVersion1 | virtio::kRingPacked;
};

struct TrustingPolicies : RecyclePolicies {
  static constexpr RxChecks kChecks = RxChecks::kNone;
};

template <class W, class K, class P, class L = FixedPool>
struct Case {
  using World = W;
  using Kind = K;
  using Policies = P;
  using Pool = L;
};

// Keeps every `keep_each`-th frame, and a copy of it.
struct KeepingSink {
  struct Kept {
    Bytes bytes;
    const std::byte* data;
    Buffer buffer;
  };
  BufferFate Deliver(const RxFrame& frame) {
    const Bytes bytes(frame.data, frame.data + frame.length);
    frames.push_back(bytes);
    if (keep_each == 0 || frames.size() % keep_each != 0) {
      return BufferFate::kReturn;
    }
    kept.push_back({bytes, frame.data, frame.buffer});
    return BufferFate::kKeep;
  }
  std::vector<Bytes> frames;
  std::deque<Kept> kept;
  std::size_t keep_each = 0;
};

constexpr std::uint32_t kEntries = 16;
constexpr std::uint32_t kPages = 64;
constexpr BufferSlabOptions kSlab = {
    .buffers = kPages, .buffer_bytes = 4352, .headroom = 64};

Result<void> InitPool(FixedPool& pool) { return pool.Init(kSlab); }
Result<void> InitPool(CpuPool<>& pool) {
  return pool.Init({.slab = kSlab, .cache = 8});
}

template <class C>
class RefillBench {
 public:
  using World = typename C::World;
  using Kind = typename C::Kind;
  using Pool = typename C::Pool;
  using Ring = RxRing<typename Kind::Format, typename World::MapperType, Pool,
                      typename C::Policies>;

  explicit RefillBench(RxRingOptions options = {}) {
    options.entries = kEntries;
    options.room = 2048;
    options.features = Kind::kFeatures;
    EXPECT_TRUE(InitPool(pool).ok());
    if (std::is_same_v<Kind, ListKind> &&
        std::is_same_v<World, CountingShared>) {
      options.base = Iova(pool.memory()->first().value());
    }
    if constexpr (std::is_same_v<Kind, ListKind>) {
      SimI8255xOptions sim = Kind::Options();
      sim.ru_base = options.base;
      device.emplace(&world.port, sim);
    } else {
      device.emplace(&world.port, Kind::Options());
    }
    EXPECT_TRUE(ring.Init(&world.mapper, &pool, options).ok());
    EXPECT_TRUE(ring.Start(*device).ok());
  }
  ~RefillBench() { ring.Shutdown(*device); }

  void Send(std::size_t size) {
    Bytes frame = NumberedFrame(next_++, size);
    if (device->Inject(frame)) sent.push_back(std::move(frame));
  }
  void Settle() {
    for (int i = 0; i < 64; ++i) {
      device->RunAll();
      const std::size_t done = in_batches ? ring.Poll(40, batched, *device).done
                                          : ring.Poll(8, sink, *device).done;
      if (done == 0 && device->waiting() == 0) return;
    }
  }
  void Receive(std::size_t size) {
    Send(size);
    Settle();
  }
  // Gives the n-th kept frame back: it must be what it was.
  void Return(std::size_t n) {
    const auto at = sink.kept.begin() + static_cast<std::ptrdiff_t>(n);
    EXPECT_EQ(0, std::memcmp(at->bytes.data(), at->data, at->bytes.size()));
    EXPECT_TRUE(ring.Return(at->buffer).ok());
    sink.kept.erase(at);
  }
  // Everything given back and shut down: no buffer is missing.
  void ExpectNothingLost() {
    EXPECT_TRUE(ring.CheckInvariants());
    while (!sink.kept.empty()) Return(0);
    EXPECT_EQ(sink.frames, sent);
    ring.Shutdown(*device);
    EXPECT_TRUE(ring.CheckInvariants());
    EXPECT_EQ(pool.free_buffers(), kPages);
    EXPECT_EQ(ring.refill().kept(), 0u);
    EXPECT_EQ(ring.statistics().rx_put_failed, 0u);
  }

  World world;
  Pool pool;
  std::optional<typename Kind::template Device<typename World::Port>> device;
  Ring ring;
  KeepingSink sink;
  testing_bench::BatchedSink<KeepingSink> batched{&sink};
  bool in_batches = false;
  std::vector<Bytes> sent;

 private:
  std::uint32_t next_ = 1;
};

template <class C>
class RefillTest : public testing::Test {};
using Cases =
    testing::Types<Case<CountingShared, E1000Kind, EachPolicies>,
                   Case<CountingCopy, E1000Kind, EachPolicies>,
                   Case<CountingShared, E1000Kind, RecyclePolicies>,
                   Case<CountingCopy, E1000Kind, RecyclePolicies>,
                   Case<CountingShared, ListKind, RecyclePolicies>,
                   Case<CountingCopy, ListKind, RecyclePolicies>,
                   Case<CountingShared, SplitKind, RecyclePolicies>,
                   Case<CountingCopy, PackedKind, RecyclePolicies>,
                   Case<CountingShared, E1000Kind, FlipPolicies>,
                   Case<CountingCopy, E1000Kind, FlipPolicies>,
                   Case<CountingShared, ListKind, FlipPolicies>,
                   Case<CountingCopy, ListKind, FlipPolicies>,
                   Case<CountingCopy, SplitKind, FlipPolicies>,
                   Case<CountingShared, PackedKind, FlipPolicies>,
                   Case<CountingCopy, ListKind, EachPolicies, CpuPool<>>,
                   Case<CountingCopy, SplitKind, RecyclePolicies, CpuPool<>>,
                   Case<CountingShared, E1000Kind, FlipPolicies, CpuPool<>>,
                   Case<CountingShared, SplitKind, TrustingPolicies>,
                   Case<CountingCopy, PackedKind, TrustingPolicies>>;
TYPED_TEST_SUITE(RefillTest, Cases);

// Keeps every second frame, and gives it back later.
template <class B>
void SendAndKeep(B& bench) {
  bench.sink.keep_each = 2;
  std::mt19937 random(7);
  for (int i = 0; i < 600; ++i) {
    const std::size_t size =
        random() % 2 == 0 ? 60 + random() % 200 : 257 + random() % 1700;
    bench.Send(size);
    if (random() % 3 == 0) bench.Settle();
    while (bench.sink.kept.size() > 12) {
      bench.Return(random() % bench.sink.kept.size());
    }
  }
  bench.Settle();
  EXPECT_GT(bench.sink.frames.size(), 500u);
  bench.ExpectNothingLost();
}

TYPED_TEST(RefillTest, FramesStayAsTheyAreUntilTheyComeBack) {
  RefillBench<TypeParam> bench;
  SendAndKeep(bench);
}

TYPED_TEST(RefillTest, ABatchIsPartlyKept) {
  RefillBench<TypeParam> bench;
  bench.in_batches = true;
  SendAndKeep(bench);
  EXPECT_EQ(bench.batched.stale, 0u);
  EXPECT_GT(bench.batched.largest, 4u);
  EXPECT_LE(bench.batched.largest, RxPolicies::kBatch);
  EXPECT_LT(bench.batched.batches, bench.sink.frames.size());
}

TYPED_TEST(RefillTest, AShutdownRecyclesNothing) {
  RefillBench<TypeParam> bench;
  for (int i = 0; i < 10; ++i) bench.Receive(100);
  const std::uint64_t recycled = bench.ring.statistics().rx_recycled;
  bench.ring.Shutdown(*bench.device);
  EXPECT_EQ(bench.ring.statistics().rx_recycled, recycled);
}

TYPED_TEST(RefillTest, TheHeadroomIsTheUsersAndABatchComesBack) {
  RefillBench<TypeParam> bench;
  bench.sink.keep_each = 1;
  for (std::size_t i = 0; i < 12; ++i) bench.Receive(64 + i % 3 * 200);
  ASSERT_EQ(bench.sink.kept.size(), 12u);
  const std::uint32_t headroom = bench.ring.headroom();
  EXPECT_EQ(
      headroom,
      (std::is_same_v<typename TypeParam::Policies, FlipPolicies>) ? 0u : 64u);
  std::vector<Buffer> batch;
  for (const auto& kept : bench.sink.kept) {
    std::memset(kept.buffer.data - headroom, 0xee, headroom);
    batch.push_back(kept.buffer);
  }
  for (const auto& kept : bench.sink.kept) {
    EXPECT_EQ(Bytes(kept.data, kept.data + kept.bytes.size()), kept.bytes);
  }
  EXPECT_TRUE(bench.ring.ReturnBatch(batch).ok());
  EXPECT_FALSE(bench.ring.ReturnBatch(batch).ok());
  bench.sink.kept.clear();
  bench.ExpectNothingLost();
}

TYPED_TEST(RefillTest, ARingThatIsStartedAgainHasAllItsBuffers) {
  RefillBench<TypeParam> bench;
  bench.sink.keep_each = 3;
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 20; ++i) bench.Receive(100);
    bench.ring.Shutdown(*bench.device);
    ASSERT_TRUE(bench.ring.Start(*bench.device).ok());
    EXPECT_TRUE(bench.ring.CheckInvariants());
  }
  bench.ExpectNothingLost();
}

TYPED_TEST(RefillTest, WhatIsGivenBackTwiceOrIsForeignIsRefused) {
  RefillBench<TypeParam> bench;
  bench.sink.keep_each = 1;
  bench.Receive(100);
  bench.Receive(1000);
  ASSERT_EQ(bench.sink.kept.size(), 2u);
  for (const auto& kept : bench.sink.kept) {
    Buffer foreign = kept.buffer;
    foreign.token += 1000;
    EXPECT_EQ(bench.ring.Return(foreign).error(), Error::kForeign);
    EXPECT_TRUE(bench.ring.Return(kept.buffer).ok());
    EXPECT_FALSE(bench.ring.Return(kept.buffer).ok());
  }
  bench.sink.kept.clear();
  bench.ExpectNothingLost();
}

template <class C>
class StaysMappedTest : public testing::Test {};
TYPED_TEST_SUITE(StaysMappedTest, Cases);

// One map for each frame, or none at all once the ring is full.
TYPED_TEST(StaysMappedTest, MapsWhatItMust) {
  RefillBench<TypeParam> bench;
  const std::uint64_t before = bench.world.mapper.maps;
  for (int i = 0; i < 100; ++i) bench.Receive(64);
  const std::uint64_t maps = bench.world.mapper.maps - before;
  const bool each = std::is_same_v<typename TypeParam::Policies, EachPolicies>;
  EXPECT_EQ(maps, each ? 100u : 0u);
  EXPECT_EQ(bench.ring.statistics().rx_recycled, each ? 0u : 100u);
  bench.ExpectNothingLost();
}

using RecycleCase = Case<CountingCopy, E1000Kind, RecyclePolicies>;
using FlipCase = Case<CountingCopy, E1000Kind, FlipPolicies>;

TEST(Recycle, CopiesUpToTheCopybreakAndUnmapsAbove) {
  RefillBench<RecycleCase> bench({.copybreak = 200});
  const std::uint64_t before = bench.world.mapper.maps;
  bench.Receive(200);
  EXPECT_EQ(bench.ring.statistics().rx_copied, 1u);
  EXPECT_EQ(bench.world.mapper.maps, before);
  bench.Receive(201);
  EXPECT_EQ(bench.ring.statistics().rx_copied, 1u);
  EXPECT_EQ(bench.world.mapper.maps, before + 1);
  bench.ExpectNothingLost();
}

TEST(Recycle, WithoutSmallBuffersTheBigOneGoesUp) {
  RefillBench<RecycleCase> bench({.copies = 2});
  bench.sink.keep_each = 1;
  for (int i = 0; i < 5; ++i) bench.Receive(64);
  EXPECT_EQ(bench.ring.statistics().rx_copied, 2u);
  EXPECT_EQ(bench.ring.refill().copies_out(), 2u);
  EXPECT_EQ(bench.pool.free_buffers(), kPages - (kEntries - 1) - 3);
  bench.ExpectNothingLost();
}

// Counts the syncs back of buffers; `kNothing`: says that they do nothing.
template <bool kNothing>
struct SyncCounting {
  class MapperType : public CopyingMapper {
   public:
    static constexpr bool kOverwrittenSyncsNothing = kNothing;
    Result<void> SyncForDevice(const Mapping& mapping, std::uint64_t offset,
                               std::uint64_t size) {
      syncs += mapping.direction == Direction::kFromDevice ? 1u : 0u;
      return CopyingMapper::SyncForDevice(mapping, offset, size);
    }
    std::uint64_t syncs = 0;
  };
  using Port = CopyingMapper::Port;
  MapperType mapper;
  Port port = mapper.port();
};
template <bool kNothing, class Policies>
std::uint64_t SyncsBack() {
  RefillBench<Case<SyncCounting<kNothing>, E1000Kind, Policies>> bench;
  for (int i = 0; i < 40; ++i) bench.Receive(100);
  EXPECT_EQ(bench.ring.statistics().rx_recycled, 40u);
  bench.ExpectNothingLost();
  return bench.world.mapper.syncs;
}
TEST(RefillSource, LeavesOutSyncsThatDoNothing) {
  EXPECT_EQ((SyncsBack<false, RecyclePolicies>()), 40u);
  EXPECT_EQ((SyncsBack<true, RecyclePolicies>()), 0u);
  EXPECT_EQ((SyncsBack<false, FlipPolicies>()), 40u);
  EXPECT_EQ((SyncsBack<true, FlipPolicies>()), 0u);
}

TEST(PageFlip, AHalfThatIsAwayRetiresItsPage) {
  RefillBench<FlipCase> bench;
  bench.sink.keep_each = 1;
  const std::uint64_t before = bench.world.mapper.maps;
  for (std::uint32_t i = 0; i < 15; ++i) bench.Receive(64);  // first halves
  EXPECT_EQ(bench.world.mapper.maps, before);
  for (std::uint32_t i = 0; i < 15; ++i) bench.Receive(64);
  EXPECT_GT(bench.world.mapper.maps, before);
  EXPECT_GT(bench.ring.refill().retired(), 0u);
  bench.ExpectNothingLost();
}

// A half that cannot be handed back to the device is not armed again, and not
// lost either.
TEST(PageFlip, AHalfThatCannotBeSyncedRetiresItsPage) {
  struct FailingWorld : CopyWorld<> {
    class MapperType : public CopyingMapper {
     public:
      Result<void> SyncForDevice(const Mapping& m, std::uint64_t offset,
                                 std::uint64_t size) {
        if (fails && size == 2048) return Error::kBusy;
        return CopyingMapper::SyncForDevice(m, offset, size);
      }
      bool fails = false;
    };
    MapperType mapper;
    Port port = mapper.port();
  };
  testing_bench::DriverOptions options;
  options.ring.entries = 8;
  options.ring.room = 2048;
  options.buffers = 12;
  testing_bench::HonestBench<FailingWorld, E1000Format,
                             SimE1000<CopyingMapper::Port>,
                             testing_bench::PlainSink, FlipPolicies>
      bench(options, SimE1000Options{});
  ASSERT_TRUE(bench.Start());
  for (int i = 0; i < 60; ++i) {
    bench.world.mapper.fails = i % 3 == 0;
    bench.Inject(60);
    bench.RunDevice();
    EXPECT_EQ(bench.Poll(64).done, 1u);
    EXPECT_TRUE(bench.Sound()) << i;
    EXPECT_EQ(bench.ring.refill().retired(), 0u);  // the sink keeps none
  }
  EXPECT_EQ(bench.sink.frames, bench.stored);
  EXPECT_EQ(bench.ring.statistics().rx_put_failed, 0u);
  bench.ring.Shutdown(bench.sim);
  EXPECT_EQ(bench.pool.free_buffers(), 12u);
  EXPECT_EQ(bench.world.mapper.live(), 1u);  // the descriptors
}

TEST(PageFlip, ABufferOfLessThanTwoHalvesIsRefused) {
  CountingCopy world;
  FixedPool pool;
  ASSERT_TRUE(pool.Init({.buffers = 16, .buffer_bytes = 4095}).ok());
  SimE1000<CountingCopy::Port> device(&world.port, {});
  RxRing<E1000Format, CountingCopy::MapperType, FixedPool, FlipPolicies> ring;
  ASSERT_TRUE(
      ring.Init(&world.mapper, &pool, {.entries = 8, .room = 2048}).ok());
  EXPECT_EQ(ring.Start(device).error(), Error::kInvalidArgument);
  EXPECT_EQ(pool.free_buffers(), 16u);
}

// --- Negative controls: policies that give away what is still in use.

template <Mapper MapperType, BufferPool Pool>
class FlipsTooSoon : public PageFlip<MapperType, Pool> {
 public:
  using Base = PageFlip<MapperType, Pool>;
  RxTaken Take(RxArmed* armed, std::uint32_t at, std::uint32_t length,
               RxExtent extent, RxStatistics& s) {
    const RxTaken taken = Base::Take(armed, at, length, extent, s);
    (void)Base::Return(taken.buffer).ok();
    return taken;
  }
  void TakeBack(const RxTaken&, RxStatistics&) {}
  Result<void> Return(const Buffer&) { return Ok(); }
};
template <Mapper MapperType, BufferPool Pool>
class RecyclesWithoutACopy : public Recycle<MapperType, Pool> {
 public:
  RxTaken Take(RxArmed* armed, std::uint32_t at, std::uint32_t, RxExtent,
               RxStatistics& s) {
    const RxTaken taken{armed->buffer.data + at, armed->buffer};
    this->Drop(armed, s);
    return taken;
  }
  void TakeBack(const RxTaken&, RxStatistics&) {}
  Result<void> Return(const Buffer&) { return Ok(); }
};
struct FlipsTooSoonPolicies : RxPolicies {
  template <Mapper MapperType, BufferPool Pool>
  using Refill = FlipsTooSoon<MapperType, Pool>;
};
struct WithoutACopyPolicies : RxPolicies {
  template <Mapper MapperType, BufferPool Pool>
  using Refill = RecyclesWithoutACopy<MapperType, Pool>;
};

// Frames that were not what they had been when they came back.
template <class Policies>
std::size_t ChangedFrames() {
  RefillBench<Case<CountingShared, E1000Kind, Policies>> bench;
  bench.sink.keep_each = 1;
  for (int i = 0; i < 80; ++i) bench.Receive(100);
  std::size_t changed = 0;
  for (const auto& kept : bench.sink.kept) {
    changed +=
        std::memcmp(kept.bytes.data(), kept.data, kept.bytes.size()) != 0;
  }
  return changed;
}

TEST(RefillControl, AHalfArmedBeforeItIsBackIsFound) {
  EXPECT_GT(ChangedFrames<FlipsTooSoonPolicies>(), 0u);
}
TEST(RefillControl, ABufferArmedWithoutACopyIsFound) {
  EXPECT_GT(ChangedFrames<WithoutACopyPolicies>(), 0u);
}

// --- A refill takes from the pool by the batch.

struct BatchPool : FixedPool {
  Result<Buffer> Get() {
    ++gets;
    return FixedPool::Get();
  }
  std::size_t GetBatch(std::span<Buffer> out) {
    asked.push_back(out.size());
    return FixedPool::GetBatch(out);
  }
  int gets = 0;
  std::vector<std::size_t> asked;
};
// Refuses the n-th mapping of a buffer, once.
struct FailingMap : CopyingMapper {
  Result<Mapping> Map(PhysAddr buffer, std::uint64_t size, Direction direction,
                      MapAttributes attributes = MapAttributes::kNone) {
    if (size <= 1024 && --countdown == 0) return Error::kNoSpace;
    return CopyingMapper::Map(buffer, size, direction, attributes);
  }
  int countdown = 0;
};
struct Silent {
  Result<void> Start(const RingAddresses& ring) {
    addresses = ring;
    return Ok();
  }
  void Doorbell(std::uint32_t) {}
  void Abort() {}
  RingAddresses addresses;
};
template <class P>
struct BatchRefill : testing::Test {};
using AllPolicies = testing::Types<EachPolicies, RecyclePolicies, FlipPolicies>;
TYPED_TEST_SUITE(BatchRefill, AllPolicies);

TYPED_TEST(BatchRefill, AsksForWhatIsMissing) {
  for (const std::uint32_t buffers : {40u, 20u, 0u}) {
    FailingMap mapper;
    BatchPool pool;
    ASSERT_TRUE(pool.Init({.buffers = 41, .buffer_bytes = 1024}).ok());
    std::vector<Buffer> away(41 - buffers);
    ASSERT_EQ(pool.FixedPool::GetBatch(away), away.size());
    RxRing<E1000Format, FailingMap, BatchPool, TypeParam> ring;
    ASSERT_TRUE(ring.Init(&mapper, &pool, {.entries = 40, .room = 512}).ok());
    Silent nic;
    ASSERT_EQ(ring.Start(nic).ok(), buffers != 0);
    EXPECT_EQ(pool.gets, 0);
    EXPECT_EQ(ring.armed(), std::min(buffers, 39u));
    EXPECT_EQ(pool.free_buffers(), buffers - ring.armed());
    if (buffers == 40) {
      EXPECT_EQ(pool.asked, (std::vector<std::size_t>{16, 16, 7}));
      EXPECT_EQ(ring.statistics().rx_alloc_failed, 0u);
    } else {  // a partial batch is none too few; an empty one is
      EXPECT_EQ(ring.statistics().rx_alloc_failed, 1u);
      ASSERT_TRUE(pool.PutBatch(away).ok());
      ring.Refill(nic);
      EXPECT_EQ(ring.armed(), buffers == 0 ? 0u : 39u);
    }
    ring.Shutdown(nic);
  }
}

TYPED_TEST(BatchRefill, PutsBackWhatItCannotUse) {
  for (int n = 1; n < 40; ++n) {
    FailingMap mapper;
    BatchPool pool;
    ASSERT_TRUE(pool.Init({.buffers = 64, .buffer_bytes = 1024}).ok());
    RxRing<E1000Format, FailingMap, BatchPool, TypeParam> ring;
    ASSERT_TRUE(ring.Init(&mapper, &pool, {.entries = 40, .room = 512}).ok());
    mapper.countdown = n;
    Silent nic;
    ASSERT_EQ(ring.Start(nic).ok(), n != 1);
    if (n == 1) {
      EXPECT_EQ(pool.free_buffers(), 64u);
      ASSERT_TRUE(ring.Start(nic).ok());
    } else {
      EXPECT_EQ(ring.armed(), static_cast<std::uint32_t>(n) - 1);
      EXPECT_EQ(pool.free_buffers(), 64 - ring.armed());
      EXPECT_TRUE(ring.CheckInvariants() && pool.CheckInvariants());
      ring.Refill(nic);
    }
    EXPECT_EQ(ring.statistics().rx_map_failed, 1u);
    EXPECT_EQ(ring.armed(), 39u);
    EXPECT_EQ(pool.free_buffers(), 25u);
    ring.Shutdown(nic);
    EXPECT_EQ(pool.free_buffers(), 64u);
  }
}

// --- A ring without checks: there are none.

struct LengthSink {
  BufferFate Deliver(const RxFrame& frame) {
    lengths.push_back(frame.length);
    return BufferFate::kReturn;
  }
  std::vector<std::uint32_t> lengths;
};
struct UncheckedPolicies : RxPolicies {
  static constexpr RxChecks kChecks = RxChecks::kNone;
};
template <class Policies>
std::vector<std::uint32_t> LengthsOfALie() {
  IdentityMapper mapper;
  FixedPool pool;
  EXPECT_TRUE(pool.Init({.buffers = 16, .buffer_bytes = 1024}).ok());
  RxRing<E1000Format, IdentityMapper, FixedPool, Policies> ring;
  EXPECT_TRUE(ring.Init(&mapper, &pool, {.entries = 8, .room = 256}).ok());
  Silent nic;
  EXPECT_TRUE(ring.Start(nic).ok());
  auto* const descriptor = reinterpret_cast<std::byte*>(
      static_cast<std::uintptr_t>(nic.addresses.descriptors.value()));
  StoreLe16(descriptor + 8, 300);  // of 256
  StoreLe32(descriptor + 12, 3);   // DD, EOP
  LengthSink sink;
  EXPECT_EQ(ring.Poll(8, sink, nic).done, 1u);
  EXPECT_TRUE(ring.CheckInvariants());
  ring.Shutdown(nic);
  return sink.lengths;
}
TEST(RxChecks, ALieIsBelievedOnlyWithoutThem) {
  EXPECT_EQ(LengthsOfALie<RxPolicies>(), std::vector<std::uint32_t>{});
  EXPECT_EQ(LengthsOfALie<UncheckedPolicies>(),
            std::vector<std::uint32_t>{300});
}

}  // namespace
}  // namespace dmamap::inline v0
