// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// The i8255x ring with a device that means harm, as a random walk. (The walk
// with an honest one: rx_ring_property_test.cc.)

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <cstddef>
#include <cstdint>

#include "nicring/doorbell_bench_for_test.h"
#include "nicring/i8255x.h"
#include "testing/hostile_i8255x.h"

namespace dmamap {
namespace {

using testing_bench::CopyWorld;
using testing_bench::DriverOptions;
using testing_bench::DriverSide;
using testing_bench::PlainSink;
using testing_bench::SharedWorld;

constexpr std::uint32_t kRoom = 512;

DriverOptions AnyOptions() {
  DriverOptions options;
  options.ring.entries = *rc::gen::inRange<std::uint32_t>(3, 12);
  options.buffers =
      options.ring.entries + *rc::gen::inRange<std::uint32_t>(0, 6);
  options.buffer_bytes = 16 + kRoom;
  options.ring.room = kRoom;
  options.ring.max_frame = *rc::gen::element(400u, kRoom);
  options.ring.length_policy =
      *rc::gen::element(LengthPolicy::kReject, LengthPolicy::kClamp);
  return options;
}

// What happened in all the walks of a test.
struct Tally {
  std::uint64_t packets = 0;
  std::uint64_t errors = 0;
  std::uint64_t too_long = 0;
  std::uint64_t rejected = 0;
  std::uint64_t restarts = 0;
  std::uint64_t refused = 0;
};

// Whatever the device does: every poll ends, within its budget; every buffer
// and every frame is accounted for; nothing longer than allowed is delivered;
// after a reset the ring starts again.
template <class World>
void HostileWalk(Tally& tally) {
  const DriverOptions options = AnyOptions();
  DriverSide<World, I8255xFormat> driver(options);
  HostileI8255x device(&driver.world.port, driver.base);
  PlainSink sink;
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
    if (device.ClaimsRnr()) driver.ring.OnRnr();
    const std::size_t budget = random() % 10;
    const std::uint64_t before = driver.ring.statistics().rx_skipped;
    const RxPollResult r = driver.ring.Poll(budget, sink, device);
    RC_ASSERT(r.done <= budget);
    RC_ASSERT(r.done + driver.ring.statistics().rx_skipped - before <=
              options.ring.entries);
    RC_ASSERT(driver.Conserved(sink));
    if (random() % 16 == 0) driver.ring.Refill(device);
    if (random() % 64 == 0) {
      driver.ring.Shutdown(device);
      RC_ASSERT(driver.pool.free_buffers() == options.buffers);
      // The device may refuse once, and then takes it.
      RC_ASSERT(driver.ring.Start(device).ok() ||
                driver.ring.Start(device).ok());
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
  tally.errors += s.rx_errors;
  tally.too_long += s.rx_over_length_errors;
  tally.rejected += s.rx_length_rejected;
  tally.restarts += s.restarts;
  tally.refused += s.restart_failed;
}

template <class World>
void Hostile() {
  Tally tally;
  EXPECT_TRUE(rc::check([&] { HostileWalk<World>(tally); }));
  EXPECT_GT(tally.packets, 500u);
  EXPECT_GT(tally.errors, 20u);
  EXPECT_GT(tally.too_long, 20u);
  EXPECT_GT(tally.rejected, 20u);
  EXPECT_GT(tally.restarts, 20u);
  EXPECT_GT(tally.refused, 5u);
}

TEST(RxListHostile, Shared) { Hostile<SharedWorld>(); }
TEST(RxListHostile, Copied) { Hostile<CopyWorld<>>(); }

// Negative control: under kTrust the device's lies do get through.
TEST(RxListHostileControl, ATrustingRingHandsOnWhatTheDeviceClaims) {
  DriverOptions options;
  options.ring.entries = 8;
  options.ring.room = kRoom;
  options.buffer_bytes = 16 + kRoom;
  options.ring.length_policy = LengthPolicy::kTrust;
  DriverSide<SharedWorld, I8255xFormat> driver(options);
  HostileI8255x device(&driver.world.port, driver.base);
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
    if (device.ClaimsRnr()) driver.ring.OnRnr();
    driver.ring.Poll(8, sink, device);
  }
  EXPECT_GT(sink.longest, kRoom);
  EXPECT_GT(driver.ring.statistics().rx_length_violations, 0u);
  driver.ring.Shutdown(device);
}

}  // namespace
}  // namespace dmamap
