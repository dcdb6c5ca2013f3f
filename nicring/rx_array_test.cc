// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// RxRing over head and tail registers: both Intel formats, several worlds.

#include "nicring/rx_array.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "nicring/doorbell_bench_for_test.h"
#include "nicring/e1000.h"
#include "nicring/intel_advanced.h"
#include "nicring/interrupts.h"
#include "nicring/napi.h"
#include "testing/sim_e1000.h"

namespace dmamap {
namespace {

using testing_bench::Bytes;
using testing_bench::CoherentWorld;
using testing_bench::CopyWorld;
using testing_bench::DoorbellOptions;
using testing_bench::GatheringSink;
using testing_bench::HonestBench;
using testing_bench::PlainSink;
using testing_bench::SharedWorld;

template <class F>
constexpr E1000Layout kLayout = E1000Layout::kLegacy;
template <class A>
constexpr E1000Layout
    kLayout<BasicIntelAdvancedFormat<A, intel_advanced::IxgbeErrors>> =
        E1000Layout::kIxgbe;
template <class A>
constexpr E1000Layout
    kLayout<BasicIntelAdvancedFormat<A, intel_advanced::IgbErrors>> =
        E1000Layout::kIgb;

template <class World, class F, class SinkType = GatheringSink>
class Bench
    : public HonestBench<World, F, SimE1000<typename World::Port>, SinkType> {
 public:
  explicit Bench(const DoorbellOptions& options)
      : HonestBench<World, F, SimE1000<typename World::Port>, SinkType>(
            options, SimE1000Options{kLayout<F>, 64, 0}) {}
};

DoorbellOptions Options(std::uint32_t entries = 8,
                        std::uint32_t max_frame = 0) {
  DoorbellOptions options;
  options.buffer_bytes = 1024;
  options.buffers = 2 * entries;
  options.ring.entries = entries;
  options.ring.room = 1024;
  options.ring.max_frame = max_frame;
  options.ring.doorbell_batch = 1;
  return options;
}

template <class W, class F>
struct Case {
  using World = W;
  using Format = F;
};
template <class C>
class RxArrayTest : public ::testing::Test {};
using Cases = ::testing::Types<
    Case<SharedWorld, E1000Format>, Case<CopyWorld<>, E1000Format>,
    Case<CoherentWorld, E1000Format>, Case<SharedWorld, IxgbeFormat>,
    Case<CopyWorld<>, IxgbeFormat>, Case<CoherentWorld, IxgbeFormat>,
    Case<CopyWorld<>, IgbFormat>>;
TYPED_TEST_SUITE(RxArrayTest, Cases);
#define DMAMAP_BENCH \
  Bench<typename TypeParam::World, typename TypeParam::Format>

TYPED_TEST(RxArrayTest, FramesArriveWholeAndInOrder) {
  DMAMAP_BENCH bench(Options(8, 3000));
  ASSERT_TRUE(bench.Start());
  for (std::size_t i = 0; i < 300; ++i) {
    bench.Inject(1 + i * 37 % 3000);  // one to three descriptors
    bench.RunDevice();
    if (i % 2 == 0) bench.Poll(64);
    ASSERT_TRUE(bench.Sound()) << i;
  }
  bench.Settle();
  EXPECT_EQ(bench.stored.size(), 300u);
  EXPECT_EQ(bench.sink.frames, bench.stored);
  EXPECT_GT(bench.sink.scattered, 100u);
  const RxStatistics& s = bench.ring.statistics();
  EXPECT_EQ(s.rx_dropped, 0u);
  EXPECT_EQ(s.rx_completions + s.rx_fragments,
            bench.sim.counters().descriptors);
  EXPECT_EQ(bench.sim.counters().stale_descriptors, 0u);
}

// One descriptor is kept back: with every other one armed, the tail stands
// right behind the head, and not on it.
TYPED_TEST(RxArrayTest, TheTailNeverCatchesTheHead) {
  DMAMAP_BENCH bench(Options());
  ASSERT_TRUE(bench.Start());
  EXPECT_EQ(bench.ring.armed(), 7u);
  EXPECT_EQ(bench.ring.open(), 7u);
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 9; ++i) bench.Inject(60);
    bench.RunDevice();
    EXPECT_EQ(bench.sim.waiting(), 2u);  // seven fit
    EXPECT_EQ(bench.Poll(64).done, 7u);
    bench.Settle();
  }
  EXPECT_EQ(bench.sink.frames, bench.stored);
  EXPECT_EQ(bench.stored.size(), 180u);
  EXPECT_TRUE(bench.Sound());
}

TYPED_TEST(RxArrayTest, DoorbellsAreBatchedAndNeverStarveTheDevice) {
  DoorbellOptions options = Options(32);
  options.ring.doorbell_batch = 8;
  DMAMAP_BENCH bench(options);
  ASSERT_TRUE(bench.Start());
  EXPECT_EQ(bench.sim.counters().doorbells, 1u);
  for (int i = 0; i < 80; ++i) {
    bench.Inject(60);
    bench.RunDevice();
    EXPECT_EQ(bench.Poll(64).done, 1u);
  }
  EXPECT_EQ(bench.sim.counters().doorbells, 11u);  // 80 / 8 and the first
  EXPECT_EQ(bench.ring.statistics().doorbells, 11u);
  // A pool that gives less than a batch: told as soon as it is needed.
  std::vector<Buffer> away;
  while (bench.pool.free_buffers() != 0) away.push_back(*bench.pool.Get());
  bench.sink.keep = true;
  for (int i = 0; i < 31; ++i) bench.Inject(60);
  bench.Settle();
  EXPECT_EQ(bench.ring.armed(), 0u);
  bench.Inject(60);
  bench.RunDevice();
  EXPECT_EQ(bench.sim.waiting(), 1u);
  ASSERT_TRUE(bench.pool.Put(away.back()).ok());
  away.pop_back();
  bench.ring.Refill(bench.sim);  // the watchdog
  bench.RunDevice();
  EXPECT_EQ(bench.sim.waiting(), 0u);
  EXPECT_EQ(bench.Poll(64).done, 1u);
  EXPECT_TRUE(bench.Conserved(bench.sink, away.size()));
  EXPECT_EQ(bench.sink.frames, bench.stored);
}

// A device that stores a frame only if all of it fits is told of enough for the
// longest, whatever the batch.
TYPED_TEST(RxArrayTest, ABatchDoesNotStarveALargeFrame) {
  DoorbellOptions options = Options(8, 5 * 1024);  // five of at most seven
  options.ring.doorbell_batch = 4;
  HonestBench<typename TypeParam::World, typename TypeParam::Format,
              SimE1000<typename TypeParam::World::Port>>
      bench(options,
            SimE1000Options{kLayout<typename TypeParam::Format>, 64, 0, true});
  ASSERT_TRUE(bench.Start());
  for (int i = 0; i < 3; ++i) {
    bench.Inject(60);
    bench.RunDevice();
    EXPECT_EQ(bench.Poll(64).done, 1u);
  }
  for (int i = 0; i < 20; ++i) {
    bench.Inject(5 * 1024);
    bench.RunDevice();
    EXPECT_EQ(bench.Poll(64).done, 1u) << i;
  }
  EXPECT_EQ(bench.sink.frames, bench.stored);
  EXPECT_EQ(bench.sim.counters().rx_missed, 0u);
  EXPECT_TRUE(bench.Sound());
}

TYPED_TEST(RxArrayTest, ErrorsCountOnlyAtTheEnd) {
  DMAMAP_BENCH bench(Options(8, 3000));
  ASSERT_TRUE(bench.Start());
  bench.Inject(2500, bench.sim.CrcError());
  bench.Inject(100, bench.sim.CrcError());
  bench.Inject(2500);
  bench.Settle();
  EXPECT_EQ(bench.sink.frames, bench.stored);
  EXPECT_EQ(bench.sink.frames.size(), 1u);
  const RxStatistics& s = bench.ring.statistics();
  EXPECT_EQ(s.rx_errors, 2u);
  EXPECT_EQ(s.rx_fragments, 4u);
  bench.Inject(60, bench.sim.TcpChecksumError());  // no error of the frame
  bench.Settle();
  EXPECT_EQ(bench.sink.frames.size(), 2u);
  EXPECT_EQ(s.rx_errors, 2u);
  EXPECT_TRUE(bench.Sound());
}

TYPED_TEST(RxArrayTest, AFrameThatIsTooLongIsDroppedWhole) {
  DMAMAP_BENCH bench(Options(16, 2048));  // two parts at most
  ASSERT_TRUE(bench.Start());
  bench.Inject(2049);
  bench.Inject(9000);
  bench.Inject(2048);
  bench.Settle();
  EXPECT_EQ(bench.sink.frames, (std::vector<Bytes>{bench.stored[2]}));
  EXPECT_EQ(bench.ring.statistics().rx_over_length_errors, 2u);
  EXPECT_TRUE(bench.Sound());
}

// The parts wait across polls, and a shutdown gives them back.
TYPED_TEST(RxArrayTest, AFrameThatHasNotEndedWaits) {
  DMAMAP_BENCH bench(Options(8, 3000));
  ASSERT_TRUE(bench.Start());
  bench.Inject(3000);
  while (bench.sim.counters().descriptors < 2) ASSERT_TRUE(bench.Step());
  EXPECT_EQ(bench.Poll(64).done, 0u);
  EXPECT_EQ(bench.ring.held(), 2u);
  EXPECT_TRUE(bench.Sound());
  bench.ring.Shutdown(bench.sim);
  EXPECT_EQ(bench.pool.free_buffers(), 16u);
  EXPECT_TRUE(bench.ring.CheckInvariants());
  while (!bench.fifo.empty()) bench.fifo.pop_front();
  ASSERT_TRUE(bench.Start());  // and all over again
  bench.Inject(2500);
  bench.Settle();
  EXPECT_EQ(bench.sink.frames, bench.stored);
  EXPECT_EQ(bench.stored.size(), 1u);
}

TYPED_TEST(RxArrayTest, APlainSinkGetsNoScatteredFrame) {
  Bench<typename TypeParam::World, typename TypeParam::Format, PlainSink> bench(
      Options(8, 3000));
  ASSERT_TRUE(bench.Start());
  bench.Inject(1025);
  bench.Inject(1024);
  bench.Settle();
  EXPECT_EQ(bench.sink.frames, (std::vector<Bytes>{bench.stored[1]}));
  EXPECT_EQ(bench.ring.statistics().rx_scatter_dropped, 1u);
  EXPECT_TRUE(bench.Sound());
}

TYPED_TEST(RxArrayTest, PollsUnderNapi) {
  DMAMAP_BENCH bench(Options(16));
  ASSERT_TRUE(bench.Start());
  IntelInterrupts interrupts(&bench.sim, bench.sim.kCauseRx);
  Napi napi(&interrupts);
  for (int i = 0; i < 200; ++i) {
    bench.Inject(60 + static_cast<std::size_t>(i) % 900);
    bench.RunDevice();
    if (!bench.sim.InterruptLine()) continue;
    if (!napi.Schedule()) continue;
    while (napi.Poll(
               4, [&](std::size_t n) { return bench.Poll(n).done; },
               [&] { return bench.ring.HasWork(); }) == PollOutcome::kAgain) {
    }
  }
  EXPECT_EQ(bench.sink.frames, bench.stored);
  EXPECT_EQ(bench.stored.size(), 200u);
}

TYPED_TEST(RxArrayTest, RefusesWhatTheDeviceCannotBeTold) {
  using W = typename TypeParam::World;
  const auto init = [](std::uint32_t entries, std::uint32_t room) {
    W world;
    FixedPool pool;
    EXPECT_TRUE(pool.Init({8, 64, 0}).ok());
    RxRing<typename TypeParam::Format, typename W::MapperType, FixedPool> ring;
    RxRingOptions options;
    options.entries = entries;
    options.room = room;
    const Result<void> made = ring.Init(&world.mapper, &pool, options);
    EXPECT_TRUE(ring.CheckInvariants());
    return made.ok() ? Error{} : made.error();
  };
  EXPECT_EQ(init(0, 1024), Error::kInvalidArgument);
  EXPECT_EQ(init(12, 1024), Error::kInvalidArgument);
  EXPECT_EQ(init(16, 1000), Error::kInvalidArgument);
  EXPECT_EQ(init(16, 0), Error::kInvalidArgument);
  EXPECT_EQ(init(65536, 1024), Error::kLimit);
  EXPECT_EQ(init(16, 1024), Error{});
  // Buffers that are too small for the room.
  DoorbellOptions small = Options();
  small.buffer_bytes = 512;
  DMAMAP_BENCH bench(small);
  EXPECT_EQ(bench.ring.Start(bench.sim).error(), Error::kInvalidArgument);
  EXPECT_EQ(bench.ring.statistics().rx_map_failed, 1u);
  EXPECT_TRUE(bench.Sound());
}

// What becomes of one descriptor that reports `length`.
template <class F>
struct Reported {
  Reported(LengthPolicy policy, std::uint32_t length) {
    DoorbellOptions options = Options();
    options.ring.length_policy = policy;
    Bench<CopyWorld<>, F> bench(options);
    struct Spy {
      Result<void> Start(const RingAddresses& r) {
        ring = r;
        return Ok();
      }
      void Doorbell(std::uint32_t) {}
      void Abort() {}
      RingAddresses ring;
    } spy;
    EXPECT_TRUE(bench.ring.Start(spy).ok());
    std::byte words[8] = {};
    const bool legacy = kLayout<F> == E1000Layout::kLegacy;
    StoreLe32(words + (legacy ? 0 : 4), length);
    StoreLe32(words + (legacy ? 4 : 0), 3);  // DD, EOP
    EXPECT_TRUE(
        bench.world.port.Write(spy.ring.descriptors + 8, words, 8).ok());
    struct LengthSink {
      BufferFate Deliver(const RxFrame& frame) {
        length = frame.length;
        return BufferFate::kReturn;
      }
      std::uint32_t length = 0;
    } sink;
    EXPECT_EQ(bench.ring.Poll(4, sink, spy).done, 1u);
    EXPECT_TRUE(bench.ring.CheckInvariants());
    delivered = sink.length;
    violations = bench.ring.statistics().rx_length_violations;
    rejected = bench.ring.statistics().rx_length_rejected;
    bench.ring.Shutdown(spy);
  }
  std::uint32_t delivered = 0;
  std::uint64_t violations = 0;
  std::uint64_t rejected = 0;
};

TYPED_TEST(RxArrayTest, LengthViolationsFollowThePolicy) {
  using R = Reported<typename TypeParam::Format>;
  for (const LengthPolicy policy :
       {LengthPolicy::kReject, LengthPolicy::kClamp, LengthPolicy::kTrust}) {
    EXPECT_EQ(R(policy, 1024).delivered, 1024u);
    EXPECT_EQ(R(policy, 1024).violations, 0u);
    EXPECT_EQ(R(policy, 0).delivered, 0u);
    EXPECT_EQ(R(policy, 0).rejected, 1u);
    EXPECT_EQ(R(policy, 0xffff).violations, 1u);
  }
  EXPECT_EQ(R(LengthPolicy::kReject, 1025).delivered, 0u);
  EXPECT_EQ(R(LengthPolicy::kReject, 1025).rejected, 1u);
  EXPECT_EQ(R(LengthPolicy::kClamp, 0xffff).delivered, 1024u);
  EXPECT_EQ(R(LengthPolicy::kTrust, 0xffff).delivered, 0xffffu);
}

// --- One load for each field of a completion.

struct CountingAccess {
  static std::uint32_t Load32(const std::byte* p) {
    const std::uint32_t value = DeviceAccess::Load32(p);
    ++loads[p];
    complete_loads[p] += value & 1;  // as a status: done
    return value;
  }
  static inline std::map<const std::byte*, std::uint64_t> loads;
  static inline std::map<const std::byte*, std::uint64_t> complete_loads;
};
// Negative control: loads the count once more, "to be sure".
struct LoadsTwice : BasicE1000Format<CountingAccess> {
  static Completion Snapshot(const std::byte* descriptor, Status status) {
    (void)BasicE1000Format<CountingAccess>::Snapshot(descriptor, status);
    return BasicE1000Format<CountingAccess>::Snapshot(descriptor, status);
  }
};

// Loads of the count field, and of a status that says complete, for each
// descriptor that was completed.
template <class F>
std::pair<double, double> LoadsForEachCompletion() {
  CountingAccess::loads.clear();
  CountingAccess::complete_loads.clear();
  DoorbellOptions options = Options(8, 3000);
  Bench<SharedWorld, F> bench(options);
  EXPECT_TRUE(bench.Start());
  for (std::size_t i = 0; i < 200; ++i) {
    bench.Inject(2 + i * 50 % 3000 / 2 * 2);  // even: no "done" in a length
    if (i % 2 == 0) bench.RunDevice();
    bench.ring.HasWork();  // a look before the poll is no second load
    bench.Poll(i % 5 == 0 ? 1 : 64);
  }
  bench.Settle();
  EXPECT_EQ(bench.sink.frames, bench.stored);
  std::uint64_t counts = 0, statuses = 0;
  for (const auto& [p, n] : CountingAccess::loads) {
    const auto at = reinterpret_cast<std::uintptr_t>(p) % 16;
    EXPECT_TRUE(at == F::kStatus.offset || at == F::kCount.offset);
    if (at == F::kCount.offset) counts += n;
    if (at == F::kStatus.offset) statuses += CountingAccess::complete_loads[p];
  }
  const auto done = static_cast<double>(bench.sim.counters().descriptors);
  EXPECT_GT(done, 200);
  return {static_cast<double>(counts) / done,
          static_cast<double>(statuses) / done};
}

TEST(RxArray, EachFieldOfACompletionIsLoadedOnce) {
  using Once = std::pair<double, double>;
  EXPECT_EQ(LoadsForEachCompletion<BasicE1000Format<CountingAccess>>(),
            (Once{1, 1}));
  using Advanced =
      BasicIntelAdvancedFormat<CountingAccess, intel_advanced::IgbErrors>;
  EXPECT_EQ(LoadsForEachCompletion<Advanced>(), (Once{1, 1}));
  EXPECT_EQ(LoadsForEachCompletion<LoadsTwice>(), (Once{2, 1}));  // control
}

// --- Failures of the mapper.

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

TEST(RxArray, AMapperThatFailsOnceLosesAtMostOneFrame) {
  std::uint64_t failures = 0;
  for (int n = 1; n < 80; ++n) {
    Bench<CopyWorld<FailingMapper>, E1000Format> bench(Options(8, 2000));
    ASSERT_TRUE(bench.Start());
    bench.world.mapper.countdown = n;
    for (std::size_t i = 0; i < 12; ++i) {
      bench.Inject(i % 2 == 0 ? 60 : 1500);
      bench.RunDevice();
      bench.Poll(i % 3 == 0 ? 1 : 64);
      ASSERT_TRUE(bench.Sound()) << n;
    }
    bench.Settle();
    const RxStatistics& s = bench.ring.statistics();
    failures += s.rx_sync_failed + s.rx_mapper_dropped + s.rx_map_failed;
    EXPECT_EQ(s.rx_completions, 12u) << n;
    EXPECT_LE(s.rx_mapper_dropped, 1u) << n;
    EXPECT_EQ(bench.sink.frames.size() + s.rx_mapper_dropped, 12u) << n;
    for (const Bytes& frame : bench.sink.frames) {
      EXPECT_NE(std::find(bench.stored.begin(), bench.stored.end(), frame),
                bench.stored.end());
    }
  }
  EXPECT_GT(failures, 40u);
}

// The interrupt of a device that is silent about what happened while it was
// masked.
struct Edge {
  void Mask() {}
  void Unmask() { event(); }
  void Acknowledge() {}
  std::function<void()> event;
};

// A frame between the last look and the unmask, of which the look that would
// find it fails.
TEST(RxArray, AFailedLookAfterTheUnmaskLosesNoEvent) {
  Bench<CopyWorld<FailingMapper>, E1000Format> bench(Options());
  ASSERT_TRUE(bench.Start());
  int events = 0;
  Edge edge{[&] {
    if (events++ != 0) return;
    bench.Inject(60);
    bench.RunDevice();
    bench.world.mapper.countdown = 1;
  }};
  Napi napi(&edge);
  ASSERT_TRUE(napi.Schedule());
  int passes = 0;
  while (napi.Poll(
             64, [&](std::size_t n) { return bench.Poll(n).done; },
             [&] { return bench.ring.HasWork(); }) == PollOutcome::kAgain) {
    ASSERT_LT(++passes, 10);
  }
  EXPECT_EQ(bench.sink.frames, bench.stored);
  EXPECT_EQ(bench.sink.frames.size(), 1u);
}

// --- Negative controls for what the benches check.

// Does not show the device the armed descriptor.
class ForgetsDescriptors : public CopyingMapper {
 public:
  Result<void> SyncForDevice(const Mapping&, std::uint64_t, std::uint64_t) {
    return Ok();
  }
};
// Does not fetch the data.
class ForgetsData : public CopyingMapper {
 public:
  Result<void> SyncForCpu(const Mapping& m, std::uint64_t offset,
                          std::uint64_t size) {
    if (m.direction == Direction::kFromDevice) return Ok();
    return CopyingMapper::SyncForCpu(m, offset, size);
  }
};
// Leaves DD on when a descriptor is armed again.
struct LeavesDoneOn : E1000Format {
  static void WriteArmed(std::byte* descriptor, Iova buffer) {
    StoreLe64(descriptor, buffer.value());
  }
};

TEST(RxArrayControl, AMissingSyncIsSeen) {
  Bench<CopyWorld<ForgetsDescriptors>, E1000Format> blind(Options());
  ASSERT_TRUE(blind.Start());
  blind.Inject(60);
  blind.Settle();
  EXPECT_FALSE(blind.Sound());
  Bench<CopyWorld<ForgetsData>, E1000Format> stale(Options());
  ASSERT_TRUE(stale.Start());
  stale.Inject(60);
  stale.Settle();
  EXPECT_NE(stale.sink.frames, stale.stored);
}

TEST(RxArrayControl, ADescriptorThatWasNotArmedAnewIsSeen) {
  Bench<SharedWorld, LeavesDoneOn> bench(Options());
  ASSERT_TRUE(bench.Start());
  for (int i = 0; i < 20; ++i) {
    bench.Inject(60);
    bench.RunDevice();
    bench.Poll(1);
  }
  EXPECT_GT(bench.sim.counters().stale_descriptors, 0u);
}

TEST(RxArrayControl, ALostBufferIsSeen) {
  Bench<SharedWorld, E1000Format> bench(Options());
  ASSERT_TRUE(bench.Start());
  EXPECT_TRUE(bench.Sound());
  (void)bench.pool.Get();
  EXPECT_FALSE(bench.Sound());
}

}  // namespace
}  // namespace dmamap
