// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "testing/copying_mapper.h"

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "testing/device_port.h"

namespace dmamap {
namespace {

using Small = std::array<std::uint8_t, 8>;

class CopyingMapperTest : public ::testing::Test {
 protected:
  Mapping Map(Direction direction,
              MapAttributes attributes = MapAttributes::kNone) {
    return *mapper_.Map(PhysAddrOf(memory_.data()), memory_.size(), direction,
                        attributes);
  }
  Small DeviceSees(const Mapping& m) {
    Small bytes{};
    EXPECT_TRUE(port_.Read(m.iova, bytes.data(), bytes.size()).ok());
    return bytes;
  }

  CopyingMapper mapper_;
  CopyingMapper::Port port_ = mapper_.port();
  Small memory_ = {1, 2, 3, 4, 5, 6, 7, 8};
};

TEST_F(CopyingMapperTest, NothingCrossesWithoutASync) {
  const Mapping m = Map(Direction::kBidirectional);
  EXPECT_EQ(DeviceSees(m), (Small{1, 2, 3, 4, 5, 6, 7, 8}));
  memory_[0] = 11;
  memory_[7] = 18;
  EXPECT_EQ(DeviceSees(m)[0], 1);
  ASSERT_TRUE(mapper_.SyncForDevice(m, 7, 1).ok());
  EXPECT_EQ(DeviceSees(m), (Small{1, 2, 3, 4, 5, 6, 7, 18}));
  const std::uint8_t written[2] = {0x33, 0x44};
  ASSERT_TRUE(port_.Write(m.iova + 2, written, 2).ok());
  EXPECT_EQ(memory_[2], 3);
  ASSERT_TRUE(mapper_.SyncForCpu(m, 3, 1).ok());
  EXPECT_EQ(memory_, (Small{11, 2, 3, 0x44, 5, 6, 7, 18}));
  ASSERT_TRUE(mapper_.Unmap(m).ok());
  EXPECT_EQ(memory_, (Small{1, 2, 0x33, 0x44, 5, 6, 7, 18}));
  EXPECT_TRUE(mapper_.CheckInvariants());
}

TEST_F(CopyingMapperTest, WrongDirectionsAreRefused) {
  const Mapping to = Map(Direction::kToDevice);
  const Mapping from = Map(Direction::kFromDevice);
  std::uint8_t byte = 9;
  EXPECT_EQ(port_.Write(to.iova, &byte, 1).error(), Error::kPermission);
  EXPECT_EQ(port_.Read(from.iova, &byte, 1).error(), Error::kPermission);
  EXPECT_EQ(mapper_.SyncForCpu(to, 0, 1).error(), Error::kPermission);
  EXPECT_TRUE(mapper_.SyncForDevice(from, 0, 1).ok());  // hands it back
  EXPECT_EQ(mapper_.counters().device_permission, 2u);
  EXPECT_EQ(mapper_.counters().refused, 1u);
}

// A short write into a mapping of kFromDevice leaves the rest as it was; only
// the named exception shows poison.
TEST_F(CopyingMapperTest, TheRestOfAShortWriteIsTheOriginal) {
  const std::uint8_t byte = 99;
  const Mapping m = Map(Direction::kFromDevice);
  ASSERT_TRUE(port_.Write(m.iova, &byte, 1).ok());
  ASSERT_TRUE(mapper_.Unmap(m).ok());
  EXPECT_EQ(memory_, (Small{99, 2, 3, 4, 5, 6, 7, 8}));
  const Mapping lied =
      Map(Direction::kFromDevice, MapAttributes::kDeviceOverwritesAll);
  ASSERT_TRUE(port_.Write(lied.iova, &byte, 1).ok());
  ASSERT_TRUE(mapper_.Unmap(lied).ok());
  EXPECT_EQ(memory_[1], std::to_integer<int>(CopyingMapper::kPoison));
}

TEST_F(CopyingMapperTest, AddressesAreNotUsedTwiceAndHolesAreSeen) {
  const Mapping a = Map(Direction::kBidirectional);
  const Mapping b = Map(Direction::kBidirectional);
  std::uint8_t bytes[16] = {};
  const Transfer over = port_.Read(a.iova + 4, bytes, 8);
  EXPECT_EQ(over.error(), Error::kNotMapped);
  EXPECT_EQ(over.bytes, 4u);
  EXPECT_EQ(bytes[3], 8);
  ASSERT_TRUE(mapper_.Unmap(a).ok());
  EXPECT_EQ(port_.Read(a.iova, bytes, 1).error(), Error::kNotMapped);
  const Mapping c = Map(Direction::kBidirectional);
  EXPECT_NE(c.iova, a.iova);
  EXPECT_NE(c.iova, b.iova);
  EXPECT_EQ(mapper_.counters().device_not_mapped, 2u);
}

TEST_F(CopyingMapperTest, BadCallsAreErrorsAndChangeNothing) {
  const Mapping m = Map(Direction::kBidirectional);
  Mapping wrong = m;
  wrong.size = 7;
  EXPECT_EQ(mapper_.Unmap(wrong).error(), Error::kMismatch);
  wrong = m;
  wrong.iova = Iova(1);
  EXPECT_EQ(mapper_.Unmap(wrong).error(), Error::kForeign);
  EXPECT_EQ(mapper_.SyncForCpu(m, 8, 1).error(), Error::kOutOfRange);
  EXPECT_EQ(mapper_.SyncForCpu(m, 1, UINT64_MAX).error(), Error::kOutOfRange);
  EXPECT_EQ(mapper_.SyncForDevice(m, 0, 0).error(), Error::kInvalidArgument);
  EXPECT_EQ(
      mapper_.Map(PhysAddrOf(memory_.data()), 0, Direction::kToDevice).error(),
      Error::kInvalidArgument);
  EXPECT_EQ(mapper_.live(), 1u);
  ASSERT_TRUE(mapper_.Unmap(m).ok());
  EXPECT_EQ(mapper_.Unmap(m).error(), Error::kDoubleFree);
  EXPECT_EQ(mapper_.counters().refused, 7u);
  EXPECT_TRUE(mapper_.CheckInvariants());
}

// A sync is not atomic: the hook runs between its words, from either end.
TEST_F(CopyingMapperTest, TheDeviceMayRunInsideASync) {
  for (const bool descending : {false, true}) {
    CopyingMapperOptions options;
    options.descending = descending;
    CopyingMapper mapper(options);
    auto port = mapper.port();
    memory_ = {};
    const Mapping m = *mapper.Map(PhysAddrOf(memory_.data()), memory_.size(),
                                  Direction::kBidirectional);
    int calls = 0;
    mapper.set_hook([&] {
      if (++calls != 2) return;
      const Small all = {1, 1, 1, 1, 1, 1, 1, 1};
      port.Write(m.iova, all.data(), all.size());
    });
    ASSERT_TRUE(mapper.SyncForCpu(m, 0, 8).ok());
    EXPECT_EQ(calls, 4);
    EXPECT_EQ(memory_, descending ? (Small{1, 1, 1, 1, 1, 1, 0, 0})
                                  : (Small{0, 0, 1, 1, 1, 1, 1, 1}));
  }
}

TEST(IdentityPort, ReachesItsWindowOnly) {
  alignas(8) std::array<std::byte, 32> memory{};
  const Iova first(PhysAddrOf(memory.data()).value());
  IdentityPort port(*Range::FromSize(first, 16));
  std::array<std::uint8_t, 16> in;
  in.fill(7);
  const Transfer cut = port.Write(first + 10, in.data(), 16);
  EXPECT_EQ(cut.bytes, 6u);
  EXPECT_EQ(cut.error(), Error::kNotMapped);
  EXPECT_EQ(memory[15], std::byte{7});
  EXPECT_EQ(memory[16], std::byte{0});
  EXPECT_EQ(port.Write(first + 16, in.data(), 1).bytes, 0u);
  EXPECT_EQ(port.Read(first - 1, in.data(), 1).bytes, 0u);
  EXPECT_TRUE(port.Read(first, in.data(), 0).ok());
  for (std::size_t n : {1u, 2u, 3u, 4u, 8u}) {
    for (std::size_t at = 0; at + n <= 16; ++at) {
      std::array<std::uint8_t, 8> out{};
      for (std::size_t i = 0; i < n; ++i) {
        in[i] = static_cast<std::uint8_t>(at * 8 + i);
      }
      ASSERT_TRUE(port.Write(first + at, in.data(), n).ok());
      ASSERT_TRUE(port.Read(first + at, out.data(), n).ok());
      EXPECT_EQ(std::memcmp(in.data(), out.data(), n), 0);
    }
  }
}

// What the CPU may not look at yet does not look like data.
TEST(CopyingMapper, ABufferOfTheDeviceIsPoisonForTheCpu) {
  CopyingMapper mapper;
  CopyingMapper::Port port = mapper.port();
  std::array<std::byte, 8> buffer{};
  const Mapping m =
      *mapper.Map(PhysAddrOf(buffer.data()), 8, Direction::kFromDevice);
  const std::byte seven{7};
  ASSERT_TRUE(port.Write(m.iova, &seven, 1).ok());
  EXPECT_EQ(buffer[0], CopyingMapper::kPoison);
  EXPECT_EQ(buffer[1], CopyingMapper::kPoison);
  ASSERT_TRUE(mapper.SyncForCpu(m, 0, 1).ok());
  EXPECT_EQ(buffer[0], seven);
  EXPECT_EQ(buffer[1], CopyingMapper::kPoison);
  ASSERT_TRUE(mapper.Unmap(m).ok());
  EXPECT_EQ(buffer[1], std::byte{0});  // what the device did not write
}

// A mapper that remembers what it was told of.
struct Strict {
  Strict() {
    CopyingMapperOptions options;
    options.strict = true;
    options.on_violation = [this](CopyingViolation v) { seen.push_back(v); };
    mapper.emplace(options);
    port.emplace(&*mapper);
  }
  std::vector<CopyingViolation> Take() { return std::exchange(seen, {}); }

  std::vector<CopyingViolation> seen;
  std::optional<CopyingMapper> mapper;
  std::optional<CopyingMapper::Port> port;
  std::array<std::byte, 8> buffer{};
};
using Violations = std::vector<CopyingViolation>;

TEST(CopyingMapper, AMissingSyncToTheDeviceIsToldWhenItReads) {
  Strict s;
  const Mapping m =
      *s.mapper->Map(PhysAddrOf(s.buffer.data()), 8, Direction::kBidirectional);
  std::byte byte{};
  s.buffer[3] = std::byte{9};
  ASSERT_TRUE(s.port->Read(m.iova + 2, &byte, 1).ok());
  EXPECT_EQ(s.Take(), Violations{});  // it does not look at that byte
  ASSERT_TRUE(s.port->Read(m.iova + 3, &byte, 1).ok());
  EXPECT_EQ(s.Take(), Violations{CopyingViolation::kStaleRead});
  ASSERT_TRUE(s.mapper->SyncForDevice(m, 3, 1).ok());
  ASSERT_TRUE(s.port->Read(m.iova + 3, &byte, 1).ok());
  EXPECT_EQ(byte, std::byte{9});
  EXPECT_EQ(s.Take(), Violations{});
  EXPECT_EQ(s.mapper->counters().stale_reads, 1u);
}

TEST(CopyingMapper, AWriteIntoTheDevicesBufferIsToldWhenItIsLost) {
  Strict s;
  const Mapping m =
      *s.mapper->Map(PhysAddrOf(s.buffer.data()), 8, Direction::kBidirectional);
  const std::byte seven{7};
  ASSERT_TRUE(s.port->Write(m.iova, &seven, 1).ok());
  ASSERT_TRUE(s.mapper->SyncForCpu(m, 0, 1).ok());
  EXPECT_EQ(s.Take(), Violations{});  // what the device wrote is no write
  s.buffer[5] = std::byte{1};
  ASSERT_TRUE(s.mapper->SyncForCpu(m, 4, 1).ok());
  EXPECT_EQ(s.Take(), Violations{});
  ASSERT_TRUE(s.mapper->SyncForCpu(m, 5, 1).ok());
  EXPECT_EQ(s.Take(), Violations{CopyingViolation::kLostWrite});
  s.buffer[6] = std::byte{1};
  ASSERT_TRUE(s.mapper->Unmap(m).ok());
  EXPECT_EQ(s.Take(), Violations{CopyingViolation::kLostWrite});
}

TEST(CopyingMapper, AWrongDirectionIsToldOnBothSides) {
  Strict s;
  const PhysAddr at = PhysAddrOf(s.buffer.data());
  const Mapping to = *s.mapper->Map(at, 8, Direction::kToDevice);
  std::byte byte{};
  EXPECT_FALSE(s.port->Write(to.iova, &byte, 1).ok());
  EXPECT_EQ(s.Take(), Violations{CopyingViolation::kDevicePermission});
  EXPECT_FALSE(s.mapper->SyncForCpu(to, 0, 1).ok());
  EXPECT_EQ(s.Take(), Violations{CopyingViolation::kRefused});
  ASSERT_TRUE(s.mapper->Unmap(to).ok());
  EXPECT_FALSE(s.port->Read(to.iova, &byte, 1).ok());
  EXPECT_EQ(s.Take(), Violations{CopyingViolation::kDeviceNotMapped});
  EXPECT_FALSE(s.mapper->Unmap(to).ok());
  EXPECT_EQ(s.Take(), Violations{CopyingViolation::kRefused});
}

}  // namespace
}  // namespace dmamap
