// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Rings with head and tail registers as a random walk: with an honest device
// against the list of what it stored, and with a hostile one.

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "nicring/doorbell_bench_for_test.h"
#include "nicring/e1000.h"
#include "nicring/intel_advanced.h"
#include "testing/hostile_e1000.h"
#include "testing/sim_e1000.h"

namespace dmamap {
namespace {

using testing_bench::CopyWorld;
using testing_bench::DoorbellOptions;
using testing_bench::DriverSide;
using testing_bench::GatheringSink;
using testing_bench::HonestBench;
using testing_bench::SharedWorld;

constexpr std::uint32_t kRoom = 1024;

DoorbellOptions AnyOptions() {
  DoorbellOptions options;
  options.ring.entries = *rc::gen::element(8u, 16u, 24u);
  options.buffers =
      options.ring.entries + *rc::gen::inRange<std::uint32_t>(0, 8);
  options.buffer_bytes = kRoom;
  options.ring.room = kRoom;
  options.ring.max_frame = *rc::gen::element(900u, kRoom, 2500u, 4000u);
  options.ring.doorbell_batch =
      *rc::gen::inRange<std::uint32_t>(0, options.ring.entries / 2 + 1);
  return options;
}

template <class World, class Format, class Policies = RxPolicies>
void HonestWalk(E1000Layout layout) {
  using Sim = SimE1000<typename World::Port>;
  DoorbellOptions options = AnyOptions();
  options.ring.copies = 3;
  const auto chunk = *rc::gen::element<std::size_t>(0, 100);
  HonestBench<World, Format, Sim, GatheringSink, Policies> bench(
      options, SimE1000Options{layout, 64, chunk});
  testing_bench::RandomWalk(bench, 4500, options.ring.max_frame,
                            bench.sim.CrcError());
  RC_ASSERT(bench.sim.counters().stale_descriptors == 0u);
  RC_ASSERT(bench.sim.counters().bad_tails == 0u);
}

RC_GTEST_PROP(RxArrayProperty, LegacyShared, ()) {
  HonestWalk<SharedWorld, E1000Format>(E1000Layout::kLegacy);
}
RC_GTEST_PROP(RxArrayProperty, LegacyCopied, ()) {
  testing_bench::WithAnyPolicies([]<class Policies>() {
    HonestWalk<CopyWorld<>, E1000Format, Policies>(E1000Layout::kLegacy);
  });
}
RC_GTEST_PROP(RxArrayProperty, AdvancedShared, ()) {
  HonestWalk<SharedWorld, IxgbeFormat>(E1000Layout::kIxgbe);
}
RC_GTEST_PROP(RxArrayProperty, AdvancedCopied, ()) {
  testing_bench::WithAnyPolicies([]<class Policies>() {
    HonestWalk<CopyWorld<>, IxgbeFormat, Policies>(E1000Layout::kIxgbe);
  });
}

// What happened in all the walks of a test: a walk is worth little if nothing
// gets through, or nothing goes wrong.
struct Tally {
  std::uint64_t packets = 0;
  std::uint64_t scattered = 0;
  std::uint64_t errors = 0;
  std::uint64_t too_long = 0;
  std::uint64_t rejected = 0;
};

// Whatever the device does: every poll ends, within its budget; every buffer
// and every frame is accounted for; nothing longer than allowed is delivered.
template <class World, class Format>
void HostileWalk(E1000Layout layout, Tally& tally) {
  DoorbellOptions options = AnyOptions();
  options.ring.length_policy =
      *rc::gen::element(LengthPolicy::kReject, LengthPolicy::kClamp);
  DriverSide<World, Format> driver(options);
  HostileE1000 device(&driver.world.port, layout);
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
  for (int i = 0; i < 120; ++i) {
    for (std::uint32_t n = random() % 6; n != 0; --n) device.Act(random);
    const std::size_t budget = random() % 10;
    const std::uint64_t before = driver.ring.statistics().rx_fragments;
    const RxPollResult r = driver.ring.Poll(budget, sink, device);
    RC_ASSERT(r.done <= budget);
    RC_ASSERT(driver.ring.statistics().rx_fragments - before <
              options.ring.entries);
    RC_ASSERT(driver.Conserved(sink));
    if (random() % 64 == 0) {
      driver.ring.Shutdown(device);
      RC_ASSERT(driver.pool.free_buffers() == options.buffers);
      RC_ASSERT(driver.ring.Start(device).ok());
    }
  }
  for (const auto& frame : sink.frames) {
    RC_ASSERT(frame.size() <= options.ring.max_frame);
  }
  driver.world.SetHook(nullptr);
  driver.ring.Shutdown(device);
  RC_ASSERT(driver.pool.free_buffers() == options.buffers);
  const RxStatistics& s = driver.ring.statistics();
  tally.packets += s.rx_packets;
  tally.scattered += sink.scattered;
  tally.errors += s.rx_errors;
  tally.too_long += s.rx_over_length_errors;
  tally.rejected += s.rx_length_rejected;
}

template <class World, class Format>
void Hostile(E1000Layout layout) {
  Tally tally;
  EXPECT_TRUE(rc::check([&] { HostileWalk<World, Format>(layout, tally); }));
  EXPECT_GT(tally.packets, 300u);
  EXPECT_GT(tally.scattered, 20u);
  EXPECT_GT(tally.errors, 20u);
  EXPECT_GT(tally.too_long, 20u);
  EXPECT_GT(tally.rejected, 20u);
}

TEST(RxArrayHostile, LegacyShared) {
  Hostile<SharedWorld, E1000Format>(E1000Layout::kLegacy);
}
TEST(RxArrayHostile, LegacyCopied) {
  Hostile<CopyWorld<>, E1000Format>(E1000Layout::kLegacy);
}
TEST(RxArrayHostile, AdvancedShared) {
  Hostile<SharedWorld, IxgbeFormat>(E1000Layout::kIxgbe);
}
TEST(RxArrayHostile, AdvancedCopied) {
  Hostile<CopyWorld<>, IxgbeFormat>(E1000Layout::kIxgbe);
}

// Negative control: under kTrust the device's lies do get through.
TEST(RxArrayHostileControl, ATrustingRingHandsOnWhatTheDeviceClaims) {
  DoorbellOptions options;
  options.ring.entries = 8;
  options.ring.room = options.buffer_bytes = kRoom;
  options.ring.length_policy = LengthPolicy::kTrust;
  DriverSide<SharedWorld, E1000Format> driver(options);
  HostileE1000 device(&driver.world.port, E1000Layout::kLegacy);
  struct LengthSink {
    BufferFate Deliver(const RxFrame& frame) {
      if (frame.length > longest) longest = frame.length;
      return BufferFate::kReturn;
    }
    std::uint32_t longest = 0;
  } sink;
  ASSERT_TRUE(driver.ring.Start(device).ok());
  std::uint32_t state = 1;
  for (int i = 0; i < 20000; ++i) {
    device.Act([&state] {
      state = state * 1664525u + 1013904223u;
      return state >> 16 | state << 16;
    });
    driver.ring.Poll(8, sink, device);
  }
  EXPECT_GT(sink.longest, kRoom);
  EXPECT_GT(driver.ring.statistics().rx_length_violations, 0u);
  driver.ring.Shutdown(device);
}

}  // namespace
}  // namespace dmamap
