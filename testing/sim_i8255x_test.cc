// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "testing/sim_i8255x.h"

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace dmamap {
namespace {

// Four RFDs of 32 bytes at 0x100 * (1 + n) of a flat memory.
class SimI8255xTest : public ::testing::Test {
 protected:
  struct FlatPort {
    Transfer Read(Iova at, void* to, std::size_t n) {
      if (at.value() + n > memory->size()) return {0, Error::kNotMapped};
      std::memcpy(to, memory->data() + at.value(), n);
      log += 'r' + std::to_string(at.value() & 0xff) + ' ';
      return {n, Ok()};
    }
    Transfer Write(Iova at, const void* from, std::size_t n) {
      if (at.value() + n > memory->size()) return {0, Error::kNotMapped};
      if (at.value() < write_protected_below) return {0, Error::kPermission};
      std::memcpy(memory->data() + at.value(), from, n);
      log += 'w' + std::to_string(at.value() & 0xff) + ' ';
      return {n, Ok()};
    }
    std::vector<std::uint8_t>* memory;
    std::uint64_t write_protected_below = 0;
    std::string log;
  };
  using Sim = SimI8255x<FlatPort>;

  SimI8255xTest() : memory_(0x600) {
    for (std::uint32_t i = 1; i <= 4; ++i) Rfd(i, 0, 0x100 * (i + 1), 32);
    options_.min_frame = 1;
  }
  void Rfd(std::uint32_t n, std::uint16_t command, std::uint32_t link,
           std::uint16_t size) {
    std::uint8_t* r = &memory_[0x100 * n];
    const std::uint8_t bytes[16] = {0,
                                    0,
                                    static_cast<std::uint8_t>(command),
                                    static_cast<std::uint8_t>(command >> 8),
                                    static_cast<std::uint8_t>(link),
                                    static_cast<std::uint8_t>(link >> 8),
                                    0,
                                    0,
                                    0,
                                    0,
                                    0,
                                    0,
                                    0,
                                    0,
                                    static_cast<std::uint8_t>(size),
                                    static_cast<std::uint8_t>(size >> 8)};
    std::memcpy(r, bytes, sizeof bytes);
  }
  unsigned Status(std::size_t n) {
    return memory_[0x100 * n] | unsigned{memory_[0x100 * n + 1]} << 8;
  }
  unsigned Count(std::size_t n) {
    return memory_[0x100 * n + 12] | unsigned{memory_[0x100 * n + 13]} << 8;
  }
  static std::vector<std::byte> Frame(std::size_t n, int fill = 0x5a) {
    return std::vector<std::byte>(n, static_cast<std::byte>(fill));
  }

  std::vector<std::uint8_t> memory_;
  FlatPort port_{&memory_, 0, {}};
  SimI8255xOptions options_;
};

TEST_F(SimI8255xTest, AccessesInTheDevicesOrder) {
  Sim sim(&port_, options_);
  ASSERT_TRUE(sim.Start(Iova(0x100)).ok());
  EXPECT_FALSE(sim.Step());  // no frame
  EXPECT_TRUE(sim.Receive(Frame(20)));
  EXPECT_EQ(port_.log, "r2 r14 r4 w16 w12 w0 ");
  EXPECT_EQ(Status(1), 0xa000u);
  EXPECT_EQ(Count(1), 0xc000u | 20u);
  EXPECT_EQ(memory_[0x110], 0x5a);
  EXPECT_EQ(memory_[0x110 + 19], 0x5a);
  EXPECT_EQ(memory_[0x110 + 20], 0);
  EXPECT_EQ(sim.Acknowledge(), Sim::kCauseFr);
  EXPECT_TRUE(sim.CheckInvariants());
}

TEST_F(SimI8255xTest, DataInChunksComesBeforeCountAndStatus) {
  options_.data_chunk = 8;
  Sim sim(&port_, options_);
  ASSERT_TRUE(sim.Start(Iova(0x100)).ok());
  EXPECT_TRUE(sim.Receive(Frame(20)));
  EXPECT_EQ(port_.log, "r2 r14 r4 w16 w24 w32 w12 w0 ");
}

TEST_F(SimI8255xTest, EndBitWithSizeZeroStopsWithoutAWrite) {
  Rfd(1, 0x8000, 0x200, 0);
  const std::vector<std::uint8_t> before = memory_;
  Sim sim(&port_, options_);
  ASSERT_TRUE(sim.Start(Iova(0x100)).ok());
  EXPECT_FALSE(sim.Receive(Frame(20)));
  EXPECT_EQ(memory_, before);
  EXPECT_EQ(sim.state(), RuState::kNoResources);
  EXPECT_EQ(sim.Acknowledge(), Sim::kCauseRnr);
  EXPECT_EQ(sim.counters().rx_resource_errors, 1u);
  EXPECT_FALSE(sim.Receive(Frame(20)));  // lost too
  EXPECT_EQ(sim.counters().rx_resource_errors, 2u);
  EXPECT_TRUE(sim.CheckInvariants());
}

TEST_F(SimI8255xTest, SizeZeroWithoutEndBitIsSkipped) {
  Rfd(1, 0, 0x200, 0);
  Sim sim(&port_, options_);
  ASSERT_TRUE(sim.Start(Iova(0x100)).ok());
  EXPECT_TRUE(sim.Receive(Frame(20)));
  EXPECT_EQ(Status(1), 0u);
  EXPECT_EQ(Status(2), 0xa000u);
  EXPECT_EQ(sim.counters().skipped, 1u);
}

TEST_F(SimI8255xTest, EndBitWithRoomFillsAndThenStops) {
  Rfd(1, 0x8000, 0x200, 32);
  Sim sim(&port_, options_);
  ASSERT_TRUE(sim.Start(Iova(0x100)).ok());
  EXPECT_TRUE(sim.Receive(Frame(20)));
  EXPECT_EQ(Status(1), 0xa000u);
  EXPECT_EQ(sim.state(), RuState::kNoResources);
  EXPECT_EQ(sim.Acknowledge(), Sim::kCauseFr | Sim::kCauseRnr);
}

// Size and end bit change between the two reads: it fills, then stops.
TEST_F(SimI8255xTest, HeaderIsReadInTwoAccesses) {
  Rfd(1, 0x8000, 0x200, 0);
  Sim sim(&port_, options_);
  ASSERT_TRUE(sim.Start(Iova(0x100)).ok());
  sim.Inject(Frame(20));
  EXPECT_TRUE(sim.Step());  // command
  Rfd(1, 0, 0x200, 32);
  sim.RunAll();
  EXPECT_EQ(Status(1), 0xa000u);
  EXPECT_EQ(sim.state(), RuState::kNoResources);
}

TEST_F(SimI8255xTest, SuspendBitSuspends) {
  Rfd(1, 0x4000, 0x200, 32);
  Sim sim(&port_, options_);
  ASSERT_TRUE(sim.Start(Iova(0x100)).ok());
  EXPECT_TRUE(sim.Receive(Frame(20)));
  EXPECT_EQ(sim.state(), RuState::kSuspended);
  EXPECT_TRUE(sim.Stopped());
}

TEST_F(SimI8255xTest, HeaderReadAheadStopsBeforeTheNextFrame) {
  Rfd(2, 0x8000, 0x300, 0);
  for (HeaderFetch fetch : {HeaderFetch::kOnFrame, HeaderFetch::kAhead}) {
    Rfd(1, 0, 0x200, 32);
    options_.header_fetch = fetch;
    Sim sim(&port_, options_);
    ASSERT_TRUE(sim.Start(Iova(0x100)).ok());
    EXPECT_TRUE(sim.Receive(Frame(20)));
    EXPECT_EQ(sim.Stopped(), fetch == HeaderFetch::kAhead);
    EXPECT_EQ(sim.counters().rx_resource_errors, 0u);
  }
}

TEST_F(SimI8255xTest, LongShortAndDamagedFrames) {
  options_.min_frame = 10;
  Sim sim(&port_, options_);
  ASSERT_TRUE(sim.Start(Iova(0x100)).ok());
  EXPECT_FALSE(sim.Receive(Frame(9)));
  EXPECT_EQ(sim.counters().rx_short_errors, 1u);
  EXPECT_FALSE(sim.Receive(Frame(33)));  // 32 bytes of room
  EXPECT_EQ(Status(1), 0x8200u);
  EXPECT_EQ(Count(1), 0xc000u | 32u);
  EXPECT_EQ(memory_[0x110 + 32], 0);
  EXPECT_FALSE(sim.Receive(Frame(20), 0x0800));
  EXPECT_EQ(Status(2), 0x8800u);
  EXPECT_EQ(sim.counters().rx_bad, 2u);
  EXPECT_EQ(sim.counters().rx_truncated, 1u);
  EXPECT_TRUE(sim.CheckInvariants());
}

TEST_F(SimI8255xTest, AFailedAccessStopsTheReceiver) {
  for (std::uint64_t reach : {0x102u, 0x10eu, 0x110u, 0x600u}) {
    memory_.assign(0x600, 0);
    Rfd(1, 0, 0x200, 32);
    memory_.resize(reach);
    port_.write_protected_below = reach == 0x600 ? 0x1000 : 0;
    Sim sim(&port_, options_);
    ASSERT_TRUE(sim.Start(Iova(0x100)).ok());
    EXPECT_FALSE(sim.Receive(Frame(20)));
    EXPECT_EQ(sim.state(), RuState::kIdle);
    EXPECT_EQ(sim.counters().bus_errors, 1u);
    EXPECT_TRUE((sim.Acknowledge() & Sim::kCauseRnr) != 0);
    EXPECT_EQ(sim.waiting(), 0u);
    EXPECT_TRUE(sim.CheckInvariants());
  }
}

TEST_F(SimI8255xTest, EndlessSkipsAreBounded) {
  Rfd(1, 0, 0x200, 0);
  Rfd(2, 0, 0x100, 0);
  Sim sim(&port_, options_);
  ASSERT_TRUE(sim.Start(Iova(0x100)).ok());
  EXPECT_FALSE(sim.Receive(Frame(20)));
  EXPECT_EQ(sim.counters().skipped, options_.max_skips);
  EXPECT_TRUE(sim.Stopped());
}

TEST_F(SimI8255xTest, RegistersAndFifo) {
  options_.fifo_frames = 2;
  Sim sim(&port_, options_);
  EXPECT_TRUE(sim.Stopped());
  ASSERT_TRUE(sim.Start(Iova(0x100)).ok());
  EXPECT_EQ(sim.Start(Iova(0x100)).error(), Error::kBusy);
  EXPECT_EQ(sim.counters().illegal_starts, 1u);
  EXPECT_TRUE(sim.Inject(Frame(20)));
  EXPECT_TRUE(sim.Inject(Frame(20)));
  EXPECT_FALSE(sim.Inject(Frame(20)));
  EXPECT_EQ(sim.counters().rx_overrun_errors, 1u);
  sim.Mask();
  sim.RunAll();
  EXPECT_FALSE(sim.InterruptLine());
  sim.Unmask();
  EXPECT_TRUE(sim.InterruptLine());
  sim.Acknowledge();
  EXPECT_FALSE(sim.InterruptLine());
  sim.Inject(Frame(20));
  for (int i = 0; i < 5; ++i) sim.Step();  // under way
  sim.Abort();
  EXPECT_TRUE(sim.Stopped());
  sim.RunAll();
  EXPECT_TRUE(sim.CheckInvariants());
  EXPECT_EQ(Status(3), 0u);
}

}  // namespace
}  // namespace dmamap
