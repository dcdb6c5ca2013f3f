// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "nicring/rx_ring.h"

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "nicring/interrupts.h"
#include "nicring/napi.h"
#include "nicring/page_flip.h"
#include "testing/rx_bench.h"

namespace dmamap {
namespace {

using testing_bench::Bench;
using testing_bench::BenchOptions;
using testing_bench::Bytes;
using testing_bench::CopyingWorld;
using testing_bench::IdentityWorld;
using testing_bench::MakeFrame;

template <class World>
class RxRingTest : public ::testing::Test {};
using Worlds = ::testing::Types<IdentityWorld, CopyingWorld<>>;
TYPED_TEST_SUITE(RxRingTest, Worlds);

TYPED_TEST(RxRingTest, FramesArriveWholeAndInOrder) {
  for (HeaderFetch fetch : {HeaderFetch::kOnFrame, HeaderFetch::kAhead}) {
    BenchOptions options;
    options.entries = 8;
    options.fetch = fetch;
    Bench<TypeParam> bench(options);
    bench.Start();
    for (std::size_t i = 0; i < 500; ++i) {
      bench.Inject(1 + i % 64);
      bench.RunDevice();
      if (i % 3 == 0) bench.Poll(64);
      ASSERT_TRUE(bench.Sound()) << i;
    }
    bench.Settle();
    EXPECT_EQ(bench.sink.frames, bench.stored);
    EXPECT_EQ(bench.stored.size(), 500u);
    const RxStatistics& s = bench.ring.statistics();
    EXPECT_EQ(s.rx_packets, 500u);
    EXPECT_EQ(s.rx_dropped, 0u);
    EXPECT_EQ(s.rx_length_violations, 0u);
  }
}

TYPED_TEST(RxRingTest, RunsDryAndRestarts) {
  BenchOptions options;
  options.entries = 5;
  Bench<TypeParam> bench(options);
  bench.Start();
  EXPECT_EQ(bench.ring.open(), 3u);
  for (int i = 0; i < 10; ++i) bench.Inject(60);
  bench.RunDevice();
  // Three stored; the fourth found the stop and was lost with all behind it.
  EXPECT_EQ(bench.sim->counters().rx_good, 3u);
  EXPECT_EQ(bench.sim->counters().rx_resource_errors, 7u);
  EXPECT_TRUE(bench.sim->Stopped());
  const RxPollResult r = bench.Poll(64);
  EXPECT_EQ(r.done, 3u);
  EXPECT_TRUE(r.restarted);
  EXPECT_FALSE(bench.sim->Stopped());
  EXPECT_EQ(bench.ring.state(), ReceiverState::kRunning);
  bench.Inject(60);
  bench.Settle();
  EXPECT_EQ(bench.sink.frames, bench.stored);
  EXPECT_EQ(bench.sink.frames.size(), 4u);
  EXPECT_TRUE(bench.Sound());
}

TYPED_TEST(RxRingTest, BudgetCutPostponesTheRestart) {
  BenchOptions options;
  options.entries = 6;
  Bench<TypeParam> bench(options);
  bench.Start();
  for (int i = 0; i < 5; ++i) bench.Inject(60);
  bench.RunDevice();
  ASSERT_TRUE(bench.sim->Stopped());
  for (int i = 0; i < 4; ++i) {
    const RxPollResult r = bench.Poll(1);
    EXPECT_EQ(r.done, 1u);
    EXPECT_TRUE(r.cut);
    EXPECT_FALSE(r.restarted);
    EXPECT_EQ(bench.ring.state(), ReceiverState::kStopped);
    EXPECT_TRUE(bench.Sound());
  }
  const RxPollResult last = bench.Poll(1);
  EXPECT_EQ(last.done, 0u);
  EXPECT_TRUE(last.restarted);
  bench.Inject(60);
  bench.Settle();
  EXPECT_EQ(bench.sink.frames, bench.stored);
  EXPECT_EQ(bench.ring.statistics().budget_cuts, 4u);
}

// The bench's own check of a start can fail: the negative control for every
// Sound() in these tests.
TYPED_TEST(RxRingTest, AStartAtACompleteDescriptorIsSeen) {
  Bench<TypeParam> bench;
  bench.Start();
  const Iova first = [&] {
    struct Spy {
      Result<void> Start(Iova at) {
        seen = at;
        return Ok();
      }
      bool Stopped() { return true; }
      void AcknowledgeRnr() {}
      void Abort() {}
      Iova seen;
    } spy;
    bench.ring.Shutdown(bench.registers);
    const Result<void> started = bench.ring.Start(spy);
    EXPECT_TRUE(started.ok());
    return spy.seen;
  }();
  ASSERT_TRUE(bench.registers.Start(first).ok());
  EXPECT_EQ(bench.registers.bad_starts, 0);
  for (int i = 0; i < 4; ++i) bench.Inject(60);
  bench.RunDevice();
  ASSERT_TRUE(bench.sim->Stopped());
  ASSERT_TRUE(bench.registers.Start(first).ok());  // as a wrong driver would
  EXPECT_EQ(bench.registers.bad_starts, 1);
  EXPECT_FALSE(bench.Sound());
}

// A ring that believes in the end of a pass too early: it overlooks, once, what
// is complete after `kSeen` frames of each pass.
template <int kSeen>
struct OverlookingFormat : I8255xFormat {
  static bool IsComplete(Status status) {
    if (!I8255xFormat::IsComplete(status)) return false;
    const bool overlooked = seen == kSeen;
    seen = overlooked ? 0 : seen + 1;
    return !overlooked;
  }
  static inline int seen = 0;
};

// Three frames complete, the receiver stopped, one pass: starts in front of a
// complete descriptor.
template <class World, class Format>
int BadStartsOfOnePass(std::size_t budget, std::size_t done) {
  BenchOptions options;
  options.entries = 5;
  Bench<World, Format> bench(options);
  bench.Start();
  for (int i = 0; i < 4; ++i) bench.Inject(60);
  bench.RunDevice();
  EXPECT_TRUE(bench.sim->Stopped());
  const RxPollResult r = bench.Poll(budget);
  EXPECT_EQ(r.done, done);
  EXPECT_EQ(bench.Sound(), bench.registers.bad_starts == 0);
  return bench.registers.bad_starts;
}

// Negative control: a restart although the head is complete already.
TYPED_TEST(RxRingTest, ARestartAtACompleteHeadIsSeen) {
  EXPECT_EQ((BadStartsOfOnePass<TypeParam, I8255xFormat>(64, 3)), 0);
  EXPECT_EQ((BadStartsOfOnePass<TypeParam, OverlookingFormat<0>>(64, 0)), 1);
}

// Negative control: a restart after a pass that a budget of 1 or 2 has cut, by
// a ring that takes the cut for the end of the frames.
TYPED_TEST(RxRingTest, ARestartAfterACutPassIsSeen) {
  EXPECT_EQ((BadStartsOfOnePass<TypeParam, I8255xFormat>(1, 1)), 0);
  EXPECT_EQ((BadStartsOfOnePass<TypeParam, OverlookingFormat<1>>(64, 1)), 1);
  EXPECT_EQ((BadStartsOfOnePass<TypeParam, I8255xFormat>(2, 2)), 0);
  EXPECT_EQ((BadStartsOfOnePass<TypeParam, OverlookingFormat<2>>(64, 2)), 1);
}

TYPED_TEST(RxRingTest, StaleRnrStartsNothing) {
  Bench<TypeParam> bench;
  bench.Start();
  bench.ring.OnRnr();  // announced, but the receiver is running
  EXPECT_FALSE(bench.Poll(64).restarted);
  EXPECT_EQ(bench.ring.state(), ReceiverState::kRunning);
  EXPECT_EQ(bench.sim->counters().illegal_starts, 0u);
  EXPECT_EQ(bench.ring.statistics().rnr, 0u);
}

// The receiver stops, and its interrupt comes, while a pass is under way.
TYPED_TEST(RxRingTest, AnRnrAnnouncedDuringAPassIsForTheNext) {
  BenchOptions options;
  options.entries = 5;
  Bench<TypeParam> bench(options);
  bench.Start();
  for (int i = 0; i < 3; ++i) bench.Inject(60);
  bench.RunDevice();
  ASSERT_FALSE(bench.sim->Stopped());
  struct InterruptingSink {
    BufferFate Deliver(const RxFrame&) {
      if (b.sim->Stopped()) return BufferFate::kReturn;
      b.Inject(60);
      b.RunDevice();
      EXPECT_NE(b.sim->Acknowledge() & b.sim->kCauseRnr, 0);
      b.ring.OnRnr();
      return BufferFate::kReturn;
    }
    Bench<TypeParam>& b;
  } sink{bench};
  EXPECT_TRUE(bench.ring.Poll(1, sink, bench.registers).cut);
  EXPECT_EQ(bench.ring.state(), ReceiverState::kRunning);
  // Not at the stop, so the announcement alone can tell.
  EXPECT_TRUE(bench.ring.Poll(1, sink, bench.registers).cut);
  EXPECT_EQ(bench.ring.state(), ReceiverState::kStopped);
  EXPECT_EQ(bench.ring.statistics().rnr, 1u);
  EXPECT_TRUE(bench.ring.Poll(64, sink, bench.registers).restarted);
  EXPECT_TRUE(bench.Sound());
}

TYPED_TEST(RxRingTest, AStopIsNoticedWithoutItsInterrupt) {
  Bench<TypeParam> bench;
  bench.Start();
  for (int i = 0; i < 4; ++i) bench.Inject(60);
  bench.RunDevice();
  ASSERT_TRUE(bench.sim->Stopped());
  // No OnRnr: the head is at the stop, so the ring asks the receiver itself.
  EXPECT_TRUE(bench.ring.Poll(64, bench.sink, bench.registers).restarted);
  EXPECT_FALSE(bench.sim->Stopped());
}

TYPED_TEST(RxRingTest, EmptyPoolLeavesAHoleThatIsMended) {
  BenchOptions options;
  options.entries = 6;
  options.buffers = 6;
  Bench<TypeParam> bench(options);
  bench.sink.keep = true;  // nothing comes back
  bench.Start();
  for (int i = 0; i < 5; ++i) bench.Inject(60);
  bench.RunDevice();
  const RxPollResult r = bench.Poll(64);
  EXPECT_EQ(r.done, 4u);
  EXPECT_FALSE(r.restarted);  // nothing is open: it would stop at once
  EXPECT_EQ(bench.ring.open(), 0u);
  EXPECT_EQ(bench.ring.armed(), 2u);
  EXPECT_EQ(bench.ring.statistics().rx_alloc_failed, 1u);
  EXPECT_EQ(bench.ring.state(), ReceiverState::kDrained);
  EXPECT_TRUE(bench.Sound());
  bench.ring.Refill(bench.registers);  // still empty
  EXPECT_TRUE(bench.sim->Stopped());
  // One buffer comes back: the watchdog's refill mends and restarts.
  ASSERT_TRUE(bench.pool.Put(bench.sink.kept.back()).ok());
  bench.sink.kept.pop_back();
  bench.ring.Refill(bench.registers);
  EXPECT_EQ(bench.ring.open(), 1u);
  EXPECT_FALSE(bench.sim->Stopped());
  bench.Inject(60);
  bench.RunDevice();
  EXPECT_EQ(bench.Poll(64).done, 1u);
  for (const Buffer& b : bench.sink.kept) ASSERT_TRUE(bench.pool.Put(b).ok());
  bench.sink.kept.clear();
  bench.sink.keep = false;
  bench.Settle();
  EXPECT_EQ(bench.ring.armed(), 6u);
  EXPECT_EQ(bench.sink.frames, bench.stored);
  EXPECT_TRUE(bench.Sound());
}

TYPED_TEST(RxRingTest, TooFewBuffersAreAnErrorAndNothingIsLost) {
  BenchOptions options;
  options.buffers = 2;
  Bench<TypeParam> bench(options);
  EXPECT_EQ(bench.ring.Start(bench.registers).error(), Error::kPoolEmpty);
  EXPECT_EQ(bench.pool.free_buffers(), 2u);
  EXPECT_TRUE(bench.Sound());
}

TYPED_TEST(RxRingTest, DropsAreCountedByReason) {
  BenchOptions options;
  options.entries = 16;
  options.max_frame = 50;
  Bench<TypeParam> bench(options);
  bench.Start();
  bench.Inject(50);
  bench.Inject(51);                      // over max_frame
  bench.Inject(65);                      // over the room: stored cut, not OK
  bench.Inject(40, i8255x::kStatusCrc);  // damaged
  bench.Inject(40);
  bench.Settle();
  const RxStatistics& s = bench.ring.statistics();
  EXPECT_EQ(s.rx_completions, 5u);
  EXPECT_EQ(s.rx_packets, 2u);
  EXPECT_EQ(s.rx_bytes, 90u);
  EXPECT_EQ(s.rx_dropped, 3u);
  EXPECT_EQ(s.rx_over_length_errors, 1u);
  EXPECT_EQ(s.rx_errors, 2u);
  EXPECT_EQ(bench.sim->counters().rx_truncated, 1u);
  EXPECT_TRUE(bench.Sound());
}

TYPED_TEST(RxRingTest, ShutdownGivesEverythingBackAndStartsAgain) {
  Bench<TypeParam> bench;
  bench.Start();
  EXPECT_EQ(bench.ring.Start(bench.registers).error(), Error::kBusy);
  for (int i = 0; i < 4; ++i) bench.Inject(60);
  bench.RunDevice();
  bench.ring.Shutdown(bench.registers);
  EXPECT_EQ(bench.pool.free_buffers(), 16u);
  EXPECT_EQ(bench.ring.armed(), 0u);
  EXPECT_TRUE(bench.sim->Stopped());
  bench.stored.clear();
  bench.Start();
  bench.Inject(60);
  bench.Settle();
  EXPECT_EQ(bench.sink.frames, bench.stored);
  EXPECT_TRUE(bench.Sound());
}

TEST(RxRingOptions, BadOnesAreRefused) {
  IdentityMapper mapper;
  FixedPool pool;
  const auto init = [&](std::uint32_t entries, std::uint32_t room,
                        LengthPolicy policy) {
    RxRing<I8255xFormat, IdentityMapper, FixedPool> ring;
    RxRingOptions options;
    options.entries = entries;
    options.room = room;
    options.length_policy = policy;
    const Result<void> r = ring.Init(&mapper, &pool, options);
    return r.ok() ? std::string("ok") : ToString(r.error());
  };
  EXPECT_EQ(init(3, 64, LengthPolicy::kClamp), "ok");
  EXPECT_EQ(init(2, 64, LengthPolicy::kClamp), "kInvalidArgument");
  EXPECT_EQ(init(3, 0, LengthPolicy::kClamp), "kInvalidArgument");
  EXPECT_EQ(init(3, 63, LengthPolicy::kClamp), "kInvalidArgument");
  EXPECT_EQ(init(3, 0x3fff, LengthPolicy::kClamp), "kInvalidArgument");
  EXPECT_EQ(init(3, 0x3ffe, LengthPolicy::kClamp), "ok");
  EXPECT_EQ(init(1u << 21, 64, LengthPolicy::kClamp), "kLimit");
  EXPECT_EQ(init(3, 64, static_cast<LengthPolicy>(9)), "kInvalidArgument");
  // Before Init every call is an error or does nothing.
  RxRing<I8255xFormat, IdentityMapper, FixedPool> ring;
  struct Dead {
    Result<void> Start(Iova) { return Ok(); }
    bool Stopped() { return true; }
    void AcknowledgeRnr() {}
    void Abort() {}
  } port;
  testing_bench::CollectingSink sink;
  EXPECT_EQ(ring.Start(port).error(), Error::kShutDown);
  EXPECT_EQ(ring.Poll(8, sink, port).done, 0u);
  EXPECT_FALSE(ring.HasWork());
  ring.Refill(port);
  ring.Shutdown(port);
  EXPECT_TRUE(ring.CheckInvariants());
}

TEST(RxRing, AddressesThatALinkCannotExpressAreRefused) {
  BenchOptions options;
  options.mapper.first = Iova((std::uint64_t{1} << 32) - 0x1000);
  Bench<CopyingWorld<>> bench(options);
  EXPECT_EQ(bench.ring.Start(bench.registers).error(), Error::kOutOfRange);
  EXPECT_EQ(bench.world->mapper.live(), 0u);
  EXPECT_EQ(bench.pool.free_buffers(), 16u);
  EXPECT_EQ(bench.ring.statistics().rx_map_failed, 1u);
}

TEST(RxRing, AMapperThatRefusesIsCountedAndRetried) {
  BenchOptions options;
  options.entries = 8;
  options.mapper.limit = 5;
  Bench<CopyingWorld<>> bench(options);
  bench.Start();
  EXPECT_EQ(bench.ring.armed(), 5u);
  EXPECT_EQ(bench.ring.statistics().rx_map_failed, 1u);
  EXPECT_EQ(bench.pool.free_buffers(), 11u);
  for (int i = 0; i < 20; ++i) {
    bench.Inject(60);
    bench.Settle();
  }
  EXPECT_EQ(bench.sink.frames, bench.stored);
  EXPECT_EQ(bench.sink.frames.size(), 20u);
  EXPECT_TRUE(bench.Sound());
}

// A mapper that fails the n-th sync once, then works.
class FailingMapper : public CopyingMapper {
 public:
  using CopyingMapper::CopyingMapper;
  Result<void> SyncForDevice(const Mapping& m, std::uint64_t offset,
                             std::uint64_t size) {
    if (countdown != 0 && --countdown == 0) return Error::kBusy;
    return CopyingMapper::SyncForDevice(m, offset, size);
  }
  Result<void> SyncForCpu(const Mapping& m, std::uint64_t offset,
                          std::uint64_t size) {
    if (countdown != 0 && --countdown == 0) return Error::kBusy;
    return CopyingMapper::SyncForCpu(m, offset, size);
  }
  int countdown = 0;
};

TEST(RxRing, AFailedSyncIsCountedAndTheNextPassGoesOn) {
  std::uint64_t failures = 0;
  for (int n = 1; n < 60; ++n) {
    BenchOptions options;
    options.entries = 5;
    Bench<CopyingWorld<FailingMapper>> bench(options);
    bench.Start();
    bench.world->mapper.countdown = n;
    for (int i = 0; i < 12; ++i) {
      bench.Inject(60);
      bench.RunDevice();
      bench.Poll(i % 3 == 0 ? 1 : 64);
      ASSERT_TRUE(bench.Sound()) << n;
    }
    bench.Settle();
    bench.Inject(60);
    bench.Settle();
    const RxStatistics& s = bench.ring.statistics();
    failures += s.rx_sync_failed + s.rx_mapper_dropped;
    EXPECT_EQ(s.rx_completions, bench.sim->counters().rx_good) << n;
    EXPECT_EQ(s.rx_packets + s.rx_mapper_dropped, bench.stored.size()) << n;
    EXPECT_EQ(bench.ring.armed(), 5u);
    EXPECT_EQ(bench.pool.free_buffers(), 11u) << n;  // none lost
  }
  EXPECT_GT(failures, 20u);
}

// The driver of README.md: an interrupt handler, and a Napi.
template <class B, class N>
void Serve(B& bench, N& napi, std::size_t budget) {
  if (!bench.sim->InterruptLine()) return;
  if (!napi.Schedule()) return;
  for (int passes = 0; passes < 100; ++passes) {
    const PollOutcome outcome = napi.Poll(
        budget,
        [&](std::size_t n) {
          return bench.ring.Poll(n, bench.sink, bench.registers).done;
        },
        [&] { return bench.ring.HasWork(); });
    if (outcome == PollOutcome::kIdle) return;
  }
  ADD_FAILURE() << "polls for ever";
}

// The receiver stops between a completing pass and its acknowledge, which is
// all that tells.
TEST(RxRing, AnRnrThatACompletingPollAcknowledgesIsServed) {
  BenchOptions options;
  options.entries = 5;
  using B = Bench<CopyingWorld<FailingMapper>>;
  B bench(options);
  bench.Start();
  struct Interrupt : I8255xInterrupts<B::Sim, B::Ring> {
    explicit Interrupt(B* b) : I8255xInterrupts(&*b->sim, &b->ring), bench(b) {}
    void Acknowledge() {
      if (passes == 1) {
        for (int i = 0; i < 8; ++i) bench->Inject(60);
        bench->RunDevice();
        EXPECT_TRUE(bench->sim->Stopped());
      }
      I8255xInterrupts::Acknowledge();
    }
    B* bench;
    int passes = 0;
  } interrupt(&bench);
  Napi napi(&interrupt);
  ASSERT_TRUE(napi.Schedule());
  while (napi.Poll(
             64,
             [&](std::size_t n) {
               ++interrupt.passes;
               return bench.ring.Poll(n, bench.sink, bench.registers).done;
             },
             [&] { return bench.ring.HasWork(); }) == PollOutcome::kAgain) {
    ASSERT_LT(interrupt.passes, 10);
  }
  EXPECT_FALSE(bench.sim->Stopped());
  EXPECT_EQ(bench.sink.frames, bench.stored);
  // Announced alone, it is work.
  EXPECT_FALSE(bench.ring.HasWork());
  bench.ring.OnRnr();
  EXPECT_TRUE(bench.ring.HasWork());
  EXPECT_EQ(bench.ring.Poll(64, bench.sink, bench.registers).done, 0u);
  EXPECT_FALSE(bench.ring.HasWork());
}

// No watchdog helps here, and no interrupt comes from a receiver that stopped.
TEST(RxRing, AFailedSyncUnderNapiStopsNothing) {
  std::uint64_t failures = 0;
  for (std::size_t budget : {std::size_t{1}, std::size_t{64}}) {
    for (int n = 1; n < 60; ++n) {
      Bench<CopyingWorld<FailingMapper>> bench;  // two may be filled
      bench.Start();
      I8255xInterrupts interrupts(&*bench.sim, &bench.ring);
      Napi napi(&interrupts);
      bench.world->mapper.countdown = n;
      for (int i = 0; i < 8; ++i) {
        for (int k = 0; k < 3; ++k) bench.Inject(60);
        bench.RunDevice();
        Serve(bench, napi, budget);
      }
      const RxStatistics& s = bench.ring.statistics();
      failures += s.rx_sync_failed + s.rx_mapper_dropped;
      EXPECT_FALSE(bench.sim->Stopped()) << n;
      EXPECT_EQ(s.rx_packets + s.rx_mapper_dropped, bench.stored.size()) << n;
      EXPECT_GE(bench.stored.size(), 8u) << n;
    }
  }
  EXPECT_GT(failures, 40u);
}

TEST(RxRing, AWatchdogRestartsAReceiverThatNobodyHeardOf) {
  BenchOptions options;
  options.entries = 5;
  Bench<CopyingWorld<FailingMapper>> bench(options);
  bench.interrupts = false;
  bench.Start();
  for (int i = 0; i < 4; ++i) bench.Inject(60);
  bench.RunDevice();
  ASSERT_TRUE(bench.sim->Stopped());
  bench.ring.Refill(bench.registers);
  EXPECT_TRUE(bench.sim->Stopped());  // complete frames wait: a poll's
  EXPECT_TRUE(bench.ring.HasWork());
  EXPECT_EQ(bench.Poll(3).done, 3u);  // cut
  EXPECT_EQ(bench.ring.state(), ReceiverState::kStopped);
  bench.world->mapper.countdown = 1;
  EXPECT_EQ(bench.Poll(64).done, 0u);
  EXPECT_EQ(bench.ring.statistics().rx_sync_failed, 1u);
  EXPECT_TRUE(bench.ring.HasWork());
  bench.ring.Refill(bench.registers);
  EXPECT_FALSE(bench.sim->Stopped());
  EXPECT_EQ(bench.ring.state(), ReceiverState::kRunning);
  bench.Inject(60);
  bench.RunDevice();
  EXPECT_EQ(bench.Poll(64).done, 1u);
  EXPECT_EQ(bench.sink.frames, bench.stored);
  EXPECT_TRUE(bench.Sound());
}

struct FlipPolicies : RxPolicies {
  template <Mapper M, BufferPool P>
  using Refill = PageFlip<M, P>;
};
TEST(RxRing, AnInitThatFailedCanBeRepeated) {
  FixedPool pool;
  ASSERT_TRUE(pool.Init({8, 256, 2}).ok());
  IdentityMapper mapper;
  RxRing<I8255xFormat, IdentityMapper, FixedPool, FlipPolicies> ring;
  RxRingOptions options{.entries = 4, .room = 64};
  options.pages = UINT32_MAX;
  EXPECT_EQ(ring.Init(&mapper, &pool, options).error(), Error::kOverflow);
  EXPECT_TRUE(ring.CheckInvariants());
  options.pages = 0;
  EXPECT_TRUE(ring.Init(&mapper, &pool, options).ok());
  EXPECT_EQ(ring.Init(&mapper, &pool, options).error(), Error::kBusy);
}

// What becomes of one frame of which a device, with room for 64 bytes, reports
// `reported`.
struct Outcome {
  std::uint32_t length = 0;  // bytes delivered; 0: dropped
  RxStatistics statistics;
};
Outcome ReceiveReported(LengthPolicy policy, std::uint32_t max_frame,
                        std::uint16_t reported) {
  BenchOptions options;
  options.policy = policy;
  options.max_frame = max_frame;
  Bench<CopyingWorld<>> bench(options);
  struct Spy : decltype(bench.registers) {
    Result<void> Start(Iova at) {
      first = at;
      return decltype(bench.registers)::Start(at);
    }
    Iova first;
  } spy{bench.registers, Iova()};
  EXPECT_TRUE(bench.ring.Start(spy).ok());
  std::byte count[2];
  StoreLe16(count, static_cast<std::uint16_t>(0xc000 | reported));
  const std::uint8_t status[2] = {0x00, 0xa0};
  EXPECT_TRUE(bench.world->port.Write(spy.first + 12, count, 2).ok());
  EXPECT_TRUE(bench.world->port.Write(spy.first, status, 2).ok());
  struct LengthSink {
    BufferFate Deliver(const RxFrame& frame) {
      length = frame.length;
      return BufferFate::kReturn;
    }
    std::uint32_t length = 0;
  } sink;
  EXPECT_EQ(bench.ring.Poll(4, sink, spy).done, 1u);
  EXPECT_TRUE(bench.ring.CheckInvariants());  // each drop has its one reason
  EXPECT_EQ(bench.world->mapper.counters().refused, 0u);
  return {sink.length, bench.ring.statistics()};
}

TEST(RxRing, LengthViolationsFollowThePolicy) {
  for (const std::uint32_t max_frame : {0u, 64u, 40u}) {
    const Outcome rejected =
        ReceiveReported(LengthPolicy::kReject, max_frame, 0x3fff);
    EXPECT_EQ(rejected.length, 0u);
    EXPECT_EQ(rejected.statistics.rx_length_rejected, 1u);
    EXPECT_EQ(rejected.statistics.rx_length_violations, 1u);

    // Cut to the room, and then as long as any frame of that length.
    const bool too_long = max_frame == 40;
    const Outcome clamped =
        ReceiveReported(LengthPolicy::kClamp, max_frame, 0x3fff);
    EXPECT_EQ(clamped.length, too_long ? 0u : 64u);
    EXPECT_EQ(clamped.statistics.rx_over_length_errors, too_long ? 1u : 0u);
    EXPECT_EQ(clamped.statistics.rx_length_rejected, 0u);
    EXPECT_EQ(clamped.statistics.rx_length_violations, 1u);

    const Outcome trusted =
        ReceiveReported(LengthPolicy::kTrust, max_frame, 0x3fff);
    EXPECT_EQ(trusted.length, 0x3fffu);
    EXPECT_EQ(trusted.statistics.rx_length_violations, 1u);
  }
}

TEST(RxRing, PossibleLengthsAreTheSameUnderEachPolicy) {
  for (LengthPolicy policy :
       {LengthPolicy::kReject, LengthPolicy::kClamp, LengthPolicy::kTrust}) {
    EXPECT_EQ(ReceiveReported(policy, 0, 64).length, 64u);
    EXPECT_EQ(ReceiveReported(policy, 40, 40).length, 40u);
    const Outcome over = ReceiveReported(policy, 40, 41);
    EXPECT_EQ(over.length, 0u);
    EXPECT_EQ(over.statistics.rx_over_length_errors, 1u);
    EXPECT_EQ(over.statistics.rx_length_violations, 0u);
    // No byte is no frame.
    const Outcome none = ReceiveReported(policy, 40, 0);
    EXPECT_EQ(none.length, 0u);
    EXPECT_EQ(none.statistics.rx_length_rejected, 1u);
    EXPECT_EQ(none.statistics.rx_length_violations, 1u);
  }
}

// Counts the loads of each address.
struct CountingAccess {
  static std::uint16_t Load16(const std::byte* p) {
    const std::uint16_t value = DeviceAccess::Load16(p);
    ++loads[p];
    // Status words that say "complete" are counted apart, at their address.
    if ((value & i8255x::kStatusComplete) != 0) ++complete_loads[p];
    return value;
  }
  static void Store16(std::byte* p, std::uint16_t value) {
    DeviceAccess::Store16(p, value);
  }
  static inline std::map<const std::byte*, int> loads;
  static inline std::map<const std::byte*, int> complete_loads;
};

// Negative control: loads the count once more, and looks again at a status
// that it has seen.
struct LoadsTwice : BasicI8255xFormat<CountingAccess> {
  static Completion Snapshot(const std::byte* rfd, Status) {
    (void)Access::Load16(rfd + kCount.offset);
    return BasicI8255xFormat<CountingAccess>::Snapshot(rfd, LoadStatus(rfd));
  }
  using Access = CountingAccess;
};

// Each of 200 completions or more: loads of a status that says so, and of the
// count.
template <class Format>
void LoadsForEachCompletion(int times) {
  BenchOptions options;
  options.entries = 8;
  options.buffers = 300;  // no address is used twice
  Bench<IdentityWorld, Format> bench(options);
  bench.sink.keep = true;
  CountingAccess::loads.clear();
  CountingAccess::complete_loads.clear();
  bench.Start();
  for (int i = 0; i < 250; ++i) {
    bench.Inject(60);
    if (i % 2 == 0) bench.RunDevice();
    bench.ring.HasWork();  // a look before the poll is no second load
    bench.Poll(i % 5 == 0 ? 1 : 64);
  }
  bench.Settle();
  ASSERT_GT(bench.sink.kept.size(), 200u);
  for (const Buffer& buffer : bench.sink.kept) {
    EXPECT_EQ(CountingAccess::complete_loads[buffer.data + 0], times);
    EXPECT_EQ(CountingAccess::loads[buffer.data + 12], times);
    EXPECT_EQ(CountingAccess::loads.count(buffer.data + 2), 0u);   // command
    EXPECT_EQ(CountingAccess::loads.count(buffer.data + 14), 0u);  // size
  }
}

TEST(RxRing, EachFieldOfACompletionIsLoadedOnce) {
  LoadsForEachCompletion<BasicI8255xFormat<CountingAccess>>(1);
  LoadsForEachCompletion<LoadsTwice>(2);  // control
}

// The device scribbles over every header word it can reach, at any time.
TEST(RxRing, AScribblingDeviceCannotBreakTheRing) {
  std::uint32_t random = 12345;
  const auto next = [&] { return random = random * 1664525u + 1013904223u; };
  for (std::uint32_t round = 0; round < 50; ++round) {
    BenchOptions options;
    options.entries = 3 + round % 6;
    options.policy =
        round % 2 == 0 ? LengthPolicy::kReject : LengthPolicy::kClamp;
    Bench<IdentityWorld> bench(options);
    bench.Start();
    const PhysRange memory = *bench.pool.memory();
    for (int i = 0; i < 300; ++i) {
      const std::uint64_t buffer = next() % 16;
      const std::uint64_t at =
          memory.first().value() + buffer * 128 + 2 + next() / 7 % 8 * 2;
      const std::uint16_t word = static_cast<std::uint16_t>(next() >> 8);
      bench.world->port.Write(Iova(at), &word, 2);
      const RxPollResult r = bench.Poll(1 + next() % 8);
      ASSERT_LE(r.done, 8u);
      ASSERT_TRUE(bench.ring.CheckInvariants());
      ASSERT_TRUE(bench.pool.CheckInvariants());
    }
    bench.ring.Shutdown(bench.registers);
    EXPECT_EQ(bench.pool.free_buffers(), 16u);
  }
}

TEST(FixedPool, RefusesWhatIsNotItsOwn) {
  FixedPool pool;
  EXPECT_EQ(pool.Get().error(), Error::kPoolEmpty);
  EXPECT_EQ(pool.memory().error(), Error::kShutDown);
  EXPECT_EQ(pool.Init({0, 64, 0}).error(), Error::kInvalidArgument);
  EXPECT_EQ(pool.Init({4, 64, 64}).error(), Error::kInvalidArgument);
  EXPECT_EQ(pool.Init({1u << 31, 64, 0}).error(), Error::kOverflow);
  ASSERT_TRUE(pool.Init({2, 70, 2}).ok());
  EXPECT_EQ(pool.Init({2, 70, 2}).error(), Error::kBusy);
  const Buffer a = *pool.Get();
  const Buffer b = *pool.Get();
  EXPECT_EQ(pool.Get().error(), Error::kPoolEmpty);
  EXPECT_EQ(a.address.value() % 64, 2u);
  EXPECT_EQ(b.data - a.data, 128);
  Buffer wrong = a;
  wrong.size = 71;
  EXPECT_EQ(pool.Put(wrong).error(), Error::kForeign);
  wrong = a;
  wrong.token = 9;
  EXPECT_EQ(pool.Put(wrong).error(), Error::kForeign);
  EXPECT_TRUE(pool.Put(a).ok());
  EXPECT_EQ(pool.Put(a).error(), Error::kDoubleFree);
  EXPECT_EQ(pool.free_buffers(), 1u);
  EXPECT_TRUE(pool.CheckInvariants());
}

}  // namespace
}  // namespace dmamap
