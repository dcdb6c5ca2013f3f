// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// The simulated device alone: descriptors are written and read here byte by
// byte, as the manuals lay them out, without a driver.

#include "testing/sim_e1000.h"

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "dma/address.h"
#include "testing/device_port.h"
#include "testing/hostile_e1000.h"

namespace dmamap {
namespace {

constexpr std::uint64_t kBase = 0x10000;
constexpr std::uint32_t kRoom = 256;

// Memory from kBase on: 8 descriptors, then, from byte 0x1000, 8 buffers.
class Memory {
 public:
  Transfer Read(Iova at, void* to, std::size_t n) {
    if (!Inside(at, n)) return {0, Error::kNotMapped};
    std::memcpy(to, bytes.data() + (at.value() - kBase), n);
    return {n, Ok()};
  }
  Transfer Write(Iova at, const void* from, std::size_t n) {
    if (!Inside(at, n)) return {0, Error::kNotMapped};
    ++writes;
    std::memcpy(bytes.data() + (at.value() - kBase), from, n);
    return {n, Ok()};
  }
  bool Inside(Iova at, std::size_t n) const {
    return at.value() >= kBase && at.value() - kBase + n <= bytes.size();
  }
  std::uint8_t* descriptor(std::size_t i) { return bytes.data() + 16 * i; }
  std::uint8_t* buffer(std::size_t i) {
    return bytes.data() + 0x1000 + kRoom * i;
  }
  void Arm(std::size_t i) {
    std::memset(descriptor(i), 0, 16);
    const std::uint64_t at = kBase + 0x1000 + kRoom * i;
    for (std::size_t b = 0; b < 8; ++b) {
      descriptor(i)[b] = static_cast<std::uint8_t>(at >> (8 * b) & 0xff);
    }
  }
  std::array<std::uint8_t, 0x2000> bytes{};
  std::uint64_t writes = 0;
};
static_assert(DevicePort<Memory>);

using Sim = SimE1000<Memory>;
static_assert(DoorbellPort<Sim>);
static_assert(DoorbellPort<HostileE1000<Memory>>);

const RingAddresses kRing{Iova(kBase), Iova(), Iova(), 8, kRoom};

std::vector<std::byte> Frame(std::size_t size) {
  std::vector<std::byte> frame(size);
  for (std::size_t i = 0; i < size; ++i) frame[i] = static_cast<std::byte>(i);
  return frame;
}

TEST(SimE1000, LegacyWriteBack) {
  Memory memory;
  Sim sim(&memory, {});
  memory.Arm(0);
  memory.Arm(1);
  ASSERT_TRUE(sim.Start(kRing).ok());
  sim.Doorbell(2);
  EXPECT_TRUE(sim.Receive(Frame(300)));  // 256 and 44 bytes
  const std::uint8_t first[8] = {0x00, 0x01, 0, 0, 0x01, 0, 0, 0};
  const std::uint8_t last[8] = {44, 0, 0, 0, 0x03, 0, 0, 0};
  EXPECT_EQ(std::memcmp(memory.descriptor(0) + 8, first, 8), 0);
  EXPECT_EQ(std::memcmp(memory.descriptor(1) + 8, last, 8), 0);
  EXPECT_EQ(std::memcmp(memory.buffer(0), Frame(256).data(), 256), 0);
  EXPECT_EQ(memory.buffer(1)[43], 299 & 0xff);
  EXPECT_EQ(memory.buffer(1)[44], 0);  // not a byte more
  EXPECT_EQ(sim.head(), 2u);
  EXPECT_TRUE(sim.InterruptLine());
  sim.DisableCauses(Sim::kCauseRx);
  EXPECT_FALSE(sim.InterruptLine());
  sim.EnableCauses(Sim::kCauseRx);
  EXPECT_TRUE(sim.InterruptLine());
  sim.ClearCauses(~Sim::kCauseRx);
  EXPECT_TRUE(sim.InterruptLine());
  sim.ClearCauses(Sim::kCauseRx);
  EXPECT_FALSE(sim.InterruptLine());
  EXPECT_TRUE(sim.CheckInvariants());
}

TEST(SimE1000, AdvancedWriteBackOverwritesTheAddress) {
  Memory memory;
  Sim sim(&memory, {E1000Layout::kIxgbe, 64, 0});
  memory.Arm(0);
  ASSERT_TRUE(sim.Start(kRing).ok());
  sim.Doorbell(1);
  EXPECT_FALSE(sim.Receive(Frame(60), sim.CrcError()));
  const std::uint8_t all[16] = {0, 0, 0, 0,    0,  0, 0, 0,
                                3, 0, 0, 0x20, 60, 0, 0, 0};
  EXPECT_EQ(std::memcmp(memory.descriptor(0), all, 16), 0);
  EXPECT_EQ(sim.counters().rx_bad, 1u);
}

TEST(SimE1000, HeadEqualToTailIsEmpty) {
  Memory memory;
  Sim sim(&memory, {});
  for (std::size_t i = 0; i < 8; ++i) memory.Arm(i);
  ASSERT_TRUE(sim.Start(kRing).ok());
  // A driver that arms all eight puts the tail on the head.
  sim.Doorbell(0);
  EXPECT_FALSE(sim.Receive(Frame(60)));
  EXPECT_EQ(memory.writes, 0u);
  EXPECT_EQ(sim.waiting(), 1u);
  sim.Doorbell(7);
  sim.RunAll();
  EXPECT_EQ(sim.counters().rx_good, 1u);
  sim.Doorbell(8);  // outside the ring
  EXPECT_EQ(sim.counters().bad_tails, 1u);
  EXPECT_TRUE(sim.CheckInvariants());
}

TEST(SimE1000, AFrameWaitsForDescriptorsInTheMiddle) {
  Memory memory;
  Sim sim(&memory, {});
  memory.Arm(0);
  memory.Arm(1);
  ASSERT_TRUE(sim.Start(kRing).ok());
  EXPECT_EQ(sim.Start(kRing).error(), Error::kBusy);
  sim.Doorbell(1);
  EXPECT_FALSE(sim.Receive(Frame(300)));
  EXPECT_EQ(sim.counters().descriptors, 1u);
  sim.Doorbell(2);
  sim.RunAll();
  EXPECT_EQ(sim.counters().rx_good, 1u);
}

// The controls of the driver tests: each mistake of a driver is seen.
TEST(SimE1000, DriversMistakesAreCounted) {
  Memory memory;
  Sim sim(&memory, {});
  memory.Arm(0);
  memory.descriptor(0)[12] = 1;  // DD left on
  ASSERT_TRUE(sim.Start(kRing).ok());
  sim.Doorbell(2);  // and descriptor 1 was never armed
  EXPECT_TRUE(sim.Receive(Frame(60)));
  EXPECT_EQ(sim.counters().stale_descriptors, 1u);
  EXPECT_FALSE(sim.Receive(Frame(60)));
  EXPECT_EQ(sim.counters().bus_errors, 1u);
  EXPECT_EQ(sim.counters().rx_bus_lost, 1u);
  EXPECT_FALSE(sim.Step());  // stopped
  EXPECT_TRUE(sim.CheckInvariants());
  EXPECT_EQ(sim.Start({Iova(kBase), Iova(), Iova(), 9, kRoom}).error(),
            Error::kInvalidArgument);
}

TEST(HostileE1000, DoesHarmAndStaysInItsMemory) {
  Memory memory;
  HostileE1000 device(&memory, E1000Layout::kLegacy);
  for (std::size_t i = 0; i < 8; ++i) memory.Arm(i);
  std::uint32_t state = 7;
  const auto random = [&state] {
    state = state * 1664525u + 1013904223u;
    return state >> 16 | state << 16;
  };
  device.Act(random);  // not started: nothing
  EXPECT_EQ(memory.writes, 0u);
  ASSERT_TRUE(device.Start(kRing).ok());
  device.Doorbell(4);
  for (int i = 0; i < 1000; ++i) device.Act(random);
  EXPECT_GT(memory.writes, 500u);
  EXPECT_NE(memory.descriptor(6)[12], 0);  // never told of it
  device.Abort();
  const std::uint64_t before = memory.writes;
  device.Act(random);
  EXPECT_EQ(memory.writes, before);
}

}  // namespace
}  // namespace dmamap
