// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Virtqueues as a random walk: with an honest device against the list of what
// it stored, and with a hostile one. The layout of the words, byte for byte.

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "nicring/doorbell_bench_for_test.h"
#include "nicring/virtio.h"
#include "testing/hostile_virtio.h"
#include "testing/sim_virtio.h"

namespace dmamap {
namespace {

using testing_bench::CopyWorld;
using testing_bench::DoorbellOptions;
using testing_bench::DriverSide;
using testing_bench::GatheringSink;
using testing_bench::HonestBench;
using testing_bench::SharedWorld;

template <class F>
constexpr VirtioLayout kLayout =
    F::kPacked ? VirtioLayout::kPacked : VirtioLayout::kSplit;

// Options of a driver, and of the device that goes with them.
struct Setup {
  DoorbellOptions driver;
  SimVirtioOptions device;
  std::uint32_t longest = 0;  // frames that it is sent
};
template <class F>
Setup AnySetup() {
  Setup s;
  s.device.layout = kLayout<F>;
  s.device.mergeable = *rc::gen::arbitrary<bool>();
  s.device.event_index = *rc::gen::arbitrary<bool>();
  const std::uint32_t room = *rc::gen::element(20u, 100u, 256u);
  RxRingOptions& ring = s.driver.ring;
  ring.entries = F::kPacked ? *rc::gen::inRange<std::uint32_t>(4, 18)
                            : *rc::gen::element(4u, 8u, 16u);
  ring.room = room;
  ring.chain = s.device.mergeable ? 1 : *rc::gen::inRange<std::uint32_t>(1, 4);
  const std::uint32_t chain = ring.chain * (room + 12) - 12;
  // What a frame can take at most, in the ring as it is.
  const std::uint32_t reach =
      s.device.mergeable ? ring.entries * (room + 12) - 12 : chain;
  ring.max_frame = *rc::gen::inRange<std::uint32_t>(room, reach + 1);
  ring.max_parts = ring.entries;
  ring.doorbell_batch = *rc::gen::inRange<std::uint32_t>(0, 9);
  ring.features = virtio::kVersion1 | (F::kPacked ? virtio::kRingPacked : 0) |
                  (s.device.mergeable ? virtio::kMergeableBuffers : 0) |
                  (s.device.event_index ? virtio::kEventIndex : 0);
  s.driver.buffer_bytes = room + 12;
  s.driver.buffers = ring.entries + *rc::gen::inRange<std::uint32_t>(0, 8);
  s.longest = reach;
  return s;
}

template <class World, class F, class Policies = RxPolicies>
void HonestWalk() {
  using Sim = SimVirtio<typename World::Port>;
  Setup s = AnySetup<F>();
  s.driver.ring.copybreak = 60;
  s.driver.ring.copies = 3;
  HonestBench<World, F, Sim, GatheringSink, Policies> bench(s.driver, s.device);
  testing_bench::RandomWalk(bench, s.longest, s.driver.ring.max_frame, 0);
  RC_ASSERT(bench.sim.counters().driver_errors == 0u);
}
RC_GTEST_PROP(VirtioProperty, SplitShared, ()) {
  HonestWalk<SharedWorld, VirtioSplitFormat>();
}
RC_GTEST_PROP(VirtioProperty, SplitCopied, ()) {
  testing_bench::WithAnyPolicies([]<class Policies>() {
    HonestWalk<CopyWorld<>, VirtioSplitFormat, Policies>();
  });
}
RC_GTEST_PROP(VirtioProperty, PackedShared, ()) {
  HonestWalk<SharedWorld, VirtioPackedFormat>();
}
RC_GTEST_PROP(VirtioProperty, PackedCopied, ()) {
  testing_bench::WithAnyPolicies([]<class Policies>() {
    HonestWalk<CopyWorld<>, VirtioPackedFormat, Policies>();
  });
}

// What happened in all the walks of a test.
struct Tally {
  std::uint64_t packets = 0;
  std::uint64_t scattered = 0;
  std::uint64_t too_long = 0;
  std::uint64_t rejected = 0;
  std::uint64_t broken = 0;
};

// Whatever the device does: every poll ends, within its budget; every buffer
// and every frame is accounted for; nothing longer than allowed is delivered;
// a broken queue comes back after a restart.
template <class World, class F>
void HostileWalk(Tally& tally) {
  Setup s = AnySetup<F>();
  s.driver.ring.length_policy =
      *rc::gen::element(LengthPolicy::kReject, LengthPolicy::kClamp);
  DriverSide<World, F> driver(s.driver);
  HostileVirtio device(&driver.world.port, kLayout<F>);
  GatheringSink sink;
  RC_ASSERT(driver.ring.Start(device).ok());
  auto state = *rc::gen::arbitrary<std::uint32_t>();
  const auto random = [&state] {
    state = state * 1664525u + 1013904223u;
    return state >> 16 | state << 16;
  };
  driver.world.SetHook([&] {
    if (random() % 8 == 0) device.Act(random);
  });
  for (int i = 0; i < 160; ++i) {
    for (std::uint32_t n = random() % 6; n != 0; --n) device.Act(random);
    const std::size_t budget = random() % 10;
    const RxStatistics before = driver.ring.statistics();
    if (random() % 8 == 0) driver.ring.Mask();
    if (random() % 8 == 0) driver.ring.Unmask();
    (void)driver.ring.HasWork();
    const RxPollResult r = driver.ring.Poll(budget, sink, device);
    const RxStatistics& after = driver.ring.statistics();
    RC_ASSERT(r.done <= budget);
    RC_ASSERT(after.rx_fragments + after.rx_skipped - before.rx_fragments -
                  before.rx_skipped <=
              s.driver.ring.entries);
    RC_ASSERT(r.broken == (driver.ring.state() == ReceiverState::kBroken));
    RC_ASSERT(driver.Conserved(sink));
    if (r.broken || random() % 64 == 0) {
      driver.ring.Shutdown(device);
      RC_ASSERT(driver.pool.free_buffers() == s.driver.buffers);
      RC_ASSERT(driver.ring.Start(device).ok());
    }
  }
  for (const auto& frame : sink.frames) {
    RC_ASSERT(frame.size() <= s.driver.ring.max_frame);
  }
  driver.world.SetHook(nullptr);
  driver.ring.Shutdown(device);
  RC_ASSERT(driver.pool.free_buffers() == s.driver.buffers);
  const RxStatistics& statistics = driver.ring.statistics();
  tally.packets += statistics.rx_packets;
  tally.scattered += sink.scattered;
  tally.too_long += statistics.rx_over_length_errors;
  tally.rejected += statistics.rx_length_rejected;
  tally.broken += statistics.rx_broken;
}

template <class World, class F>
void Hostile() {
  Tally tally;
  EXPECT_TRUE(rc::check([&] { HostileWalk<World, F>(tally); }));
  EXPECT_GT(tally.packets, 300u);
  EXPECT_GT(tally.scattered, 20u);
  EXPECT_GT(tally.too_long, 20u);
  EXPECT_GT(tally.rejected, 50u);
  EXPECT_GT(tally.broken, 50u);
}
TEST(VirtioHostile, SplitShared) { Hostile<SharedWorld, VirtioSplitFormat>(); }
TEST(VirtioHostile, SplitCopied) { Hostile<CopyWorld<>, VirtioSplitFormat>(); }
TEST(VirtioHostile, PackedShared) {
  Hostile<SharedWorld, VirtioPackedFormat>();
}
TEST(VirtioHostile, PackedCopied) {
  Hostile<CopyWorld<>, VirtioPackedFormat>();
}

// --- The layout.

template <class... B>
constexpr std::array<std::byte, sizeof...(B)> ByteArray(B... b) {
  return {static_cast<std::byte>(b)...};
}
static_assert([] {
  std::array<std::byte, 16> d{};
  virtio::WriteSplitDescriptor(d.data(), Iova(0x0123456789abcdef), 0x11223344,
                               virtio::kWrite | virtio::kNext, 0x5566);
  return d == ByteArray(0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01, 0x44,
                        0x33, 0x22, 0x11, 0x03, 0x00, 0x66, 0x55);
}());
static_assert([] {
  std::array<std::byte, 16> d{};
  for (std::byte& b : d) b = std::byte{0xee};
  virtio::WritePackedDescriptor(d.data(), Iova(0x0123456789abcdef), 0x11223344,
                                0x5566);
  return d == ByteArray(0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01, 0x44,
                        0x33, 0x22, 0x11, 0x66, 0x55, 0xee, 0xee);
}());
static_assert(virtio::AvailableFlags(true) == 0x0080);
static_assert(virtio::AvailableFlags(false) == 0x8000);
static_assert(virtio::IsUsed(0x8080, true) && virtio::IsUsed(0, false));
static_assert(!virtio::IsUsed(0x0080, true) && !virtio::IsUsed(0x8000, false));
static_assert(!virtio::IsUsed(0x8080, false) && !virtio::IsUsed(0, true));
static_assert(virtio::OffWrap(3, 8) == 0x8003 && virtio::OffWrap(11, 8) == 3);

// Against the definition: an index from `before` on, up to but not `after`, is
// the one that was asked for.
RC_GTEST_PROP(VirtioLayout, NeedsEventAsDefined, ()) {
  const auto before = *rc::gen::arbitrary<std::uint16_t>();
  const auto moved = *rc::gen::inRange<std::uint32_t>(0, 40);
  const auto near = *rc::gen::inRange(-60, 60);
  const auto event = static_cast<std::uint16_t>(before + near);
  bool passed = false;
  for (std::uint32_t i = 0; i < moved; ++i) {
    passed |= static_cast<std::uint16_t>(before + i) == event;
  }
  RC_ASSERT(virtio::NeedsEvent(event,
                               static_cast<std::uint16_t>(before + moved),
                               before) == passed);
}
RC_GTEST_PROP(VirtioLayout, NeedsEventAtAsDefined, ()) {
  const auto size = *rc::gen::inRange<std::uint32_t>(1, 20);
  const auto before = *rc::gen::inRange<std::uint32_t>(0, 2 * size);
  const auto added = *rc::gen::inRange<std::uint32_t>(0, size + 1);
  const auto event = *rc::gen::inRange<std::uint32_t>(0, 2 * size);
  bool passed = false;
  for (std::uint32_t i = 0; i < added; ++i) {
    passed |= virtio::Advance(before, i, size) == event;
  }
  RC_ASSERT(virtio::NeedsEventAt(virtio::OffWrap(event, size),
                                 virtio::Advance(before, added, size), added,
                                 size) == passed);
}

}  // namespace
}  // namespace dmamap
