// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// The simulated device alone: rings are written and read here byte by byte, as
// VIRTIO 1.2 lays them out, without a driver.

#include "testing/sim_virtio.h"

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "dma/address.h"
#include "testing/device_port.h"
#include "testing/hostile_virtio.h"

namespace dmamap {
namespace {

constexpr std::uint64_t kBase = 0x10000;
constexpr std::uint64_t kDriver = 0x400;  // offsets from kBase
constexpr std::uint64_t kDevice = 0x800;
constexpr std::uint64_t kBuffers = 0x1000;  // 64 bytes each

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
  void Put(std::uint64_t at, std::uint64_t value, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) {
      bytes[at + i] = static_cast<std::uint8_t>(value >> (8 * i) & 0xff);
    }
  }
  std::uint64_t Get(std::uint64_t at, std::size_t n) const {
    std::uint64_t value = 0;
    for (std::size_t i = n; i-- != 0;) value = value << 8 | bytes[at + i];
    return value;
  }
  // A descriptor with buffer i of 64 bytes.
  void Split(std::uint32_t i, std::uint32_t flags, std::uint32_t next = 0) {
    Put(16 * i, kBase + kBuffers + 64 * i, 8);
    Put(16 * i + 8, 64, 4);
    Put(16 * i + 12, flags, 2);
    Put(16 * i + 14, next, 2);
  }
  void Packed(std::uint32_t i, std::uint32_t id, std::uint32_t flags) {
    Split(i, id, flags);
  }
  std::array<std::uint8_t, 0x2000> bytes{};
  std::uint64_t writes = 0;
};

using Sim = SimVirtio<Memory>;
static_assert(DoorbellPort<Sim>);
static_assert(DoorbellPort<HostileVirtio<Memory>>);

const RingAddresses kRing{Iova(kBase), Iova(kBase + kDriver),
                          Iova(kBase + kDevice), 4, 64};

std::vector<std::byte> Frame(std::size_t size) {
  std::vector<std::byte> frame(size);
  for (std::size_t i = 0; i < size; ++i) frame[i] = static_cast<std::byte>(i);
  return frame;
}

TEST(SimVirtio, SplitChain) {
  Memory memory;
  Sim sim(&memory, {});
  memory.Split(2, 3, 0);  // NEXT and WRITE
  memory.Split(0, 2);
  memory.Put(kDriver + 4, 2, 2);  // the head
  memory.Put(kDriver + 2, 1, 2);  // the index
  ASSERT_TRUE(sim.Start(kRing).ok());
  sim.Inject(Frame(60));
  EXPECT_FALSE(sim.Step());  // asleep: it was not notified
  sim.Doorbell(1);
  sim.RunAll();
  EXPECT_EQ(memory.Get(kDevice + 2, 2), 1u);
  EXPECT_EQ(memory.Get(kDevice + 4, 4), 2u);          // id
  EXPECT_EQ(memory.Get(kDevice + 8, 4), 72u);         // header and frame
  EXPECT_EQ(memory.Get(kBuffers + 128 + 10, 2), 1u);  // num_buffers
  EXPECT_EQ(memory.bytes[kBuffers + 128 + 12 + 51], 51);
  EXPECT_EQ(memory.bytes[kBuffers], 52);  // goes on in the second buffer
  EXPECT_TRUE(sim.Acknowledge());
  EXPECT_TRUE(sim.CheckInvariants());
  // No buffer is left: it asks to be told (flags 0), and sleeps.
  sim.Inject(Frame(60));
  sim.RunAll();
  EXPECT_EQ(sim.waiting(), 1u);
  EXPECT_FALSE(sim.Step());
}

TEST(SimVirtio, SplitSuppression) {
  Memory memory;
  Sim sim(&memory, {VirtioLayout::kSplit, false, true, 64});
  for (std::uint32_t i = 0; i < 4; ++i) {
    memory.Split(i, 2);
    memory.Put(kDriver + 4 + 2 * i, i, 2);
  }
  memory.Put(kDriver + 2, 3, 2);
  memory.Put(kDriver + 4 + 2 * 4, 1, 2);  // used_event: the second buffer
  ASSERT_TRUE(sim.Start(kRing).ok());
  sim.Doorbell(3);
  sim.Inject(Frame(10));
  sim.RunAll();
  EXPECT_FALSE(sim.Acknowledge());
  sim.Inject(Frame(10));
  sim.RunAll();
  EXPECT_TRUE(sim.Acknowledge());
  sim.Inject(Frame(10));
  sim.Inject(Frame(10));
  sim.RunAll();
  EXPECT_FALSE(sim.Acknowledge());
  EXPECT_EQ(memory.Get(kDevice + 4 + 8 * 4, 2), 3u);  // avail_event
  EXPECT_EQ(sim.counters().suppressed, 2u);
}

TEST(SimVirtio, PackedMergeableFrame) {
  Memory memory;
  Sim sim(&memory, {VirtioLayout::kPacked, true, false, 64});
  for (std::uint32_t i = 0; i < 4; ++i) memory.Packed(i, 7 + i, 0x0082);
  ASSERT_TRUE(sim.Start(kRing).ok());
  sim.Doorbell(0);
  sim.Inject(Frame(100));  // 52 and 48 bytes
  sim.RunAll();
  EXPECT_EQ(memory.Get(8, 4), 64u);
  EXPECT_EQ(memory.Get(12, 2), 7u);
  EXPECT_EQ(memory.Get(14, 2), 0x8082u);
  EXPECT_EQ(memory.Get(16 + 8, 4), 48u);
  EXPECT_EQ(memory.Get(16 + 12, 2), 8u);
  EXPECT_EQ(memory.Get(16 + 14, 2), 0x8082u);
  EXPECT_EQ(memory.Get(kBuffers + 10, 2), 2u);
  EXPECT_EQ(memory.Get(32 + 14, 2), 0x0082u);  // still available
  // The wrap: places 0 and 1 again, with the flags turned round.
  sim.Inject(Frame(100));
  sim.RunAll();
  memory.Packed(0, 9, 0x8002);
  sim.Doorbell(0);
  sim.Inject(Frame(10));
  sim.RunAll();
  EXPECT_EQ(memory.Get(14, 2), 0x0002u);
  EXPECT_EQ(memory.Get(8, 4), 22u);
  EXPECT_EQ(sim.counters().rx_good, 3u);
  EXPECT_TRUE(sim.CheckInvariants());
}

// The controls of the driver tests: each mistake of a driver is seen.
TEST(SimVirtio, DriversMistakesAreCounted) {
  const auto errors = [](void (*spoil)(Memory&)) {
    Memory memory;
    Sim sim(&memory, {});
    for (std::uint32_t i = 0; i < 4; ++i) memory.Split(i, 2);
    memory.Put(kDriver + 2, 2, 2);
    memory.Put(kDriver + 4, 0x00010000, 4);  // heads 0 and 1
    spoil(memory);
    EXPECT_TRUE(sim.Start(kRing).ok());
    sim.Doorbell(0);
    sim.Inject(Frame(10));
    sim.Inject(Frame(10));
    sim.RunAll();
    EXPECT_EQ(sim.CheckInvariants(), sim.counters().driver_errors == 0);
    return sim.counters().driver_errors + sim.counters().bus_errors;
  };
  EXPECT_EQ(errors([](Memory&) {}), 0u);
  EXPECT_EQ(errors([](Memory& m) { m.Split(0, 0); }), 1u);     // not writable
  EXPECT_EQ(errors([](Memory& m) { m.Split(0, 3, 0); }), 1u);  // endless
  EXPECT_EQ(errors([](Memory& m) { m.Split(0, 3, 4); }), 1u);  // outside
  EXPECT_EQ(errors([](Memory& m) { m.Put(kDriver + 4, 4, 2); }), 1u);
  EXPECT_EQ(errors([](Memory& m) { m.Put(kDriver + 2, 5, 2); }), 1u);
  EXPECT_EQ(errors([](Memory& m) { m.Put(0, 5, 8); }), 1u);  // not mapped
}

TEST(HostileVirtio, DoesHarmAndStaysInItsMemory) {
  for (const VirtioLayout layout :
       {VirtioLayout::kSplit, VirtioLayout::kPacked}) {
    Memory memory;
    HostileVirtio device(&memory, layout);
    for (std::uint32_t i = 0; i < 4; ++i) {
      if (layout == VirtioLayout::kPacked) memory.Packed(i, i, 0x0082);
      if (layout == VirtioLayout::kSplit) memory.Split(i, 2);
    }
    memory.Put(kDriver + 2, 4, 2);
    std::uint32_t state = 7;
    const auto random = [&state] {
      state = state * 1664525u + 1013904223u;
      return state >> 16 | state << 16;
    };
    device.Act(random);  // not started: nothing
    EXPECT_EQ(memory.writes, 0u);
    ASSERT_TRUE(device.Start(kRing).ok());
    for (int i = 0; i < 2000; ++i) device.Act(random);
    EXPECT_GT(memory.writes, 500u);
    device.Abort();
    const std::uint64_t before = memory.writes;
    device.Act(random);
    EXPECT_EQ(memory.writes, before);
  }
}

}  // namespace
}  // namespace dmamap
