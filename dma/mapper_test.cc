// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "dma/mapper.h"

#include <gtest/gtest.h>

#include <cstdint>

#include "dma/invalidate.h"

namespace dmamap {
namespace {

TEST(IdentityMapper, TheDeviceSeesTheSameAddress) {
  IdentityMapper mapper;
  int x = 0;
  const auto m = mapper.Map(PhysAddrOf(&x), sizeof x, Direction::kToDevice);
  ASSERT_TRUE(m.ok());
  EXPECT_EQ(m->iova.value(), PhysAddrOf(&x).value());
  EXPECT_EQ(m->size, sizeof x);
  EXPECT_EQ(m->direction, Direction::kToDevice);
  EXPECT_TRUE(mapper.Unmap(*m).ok());
}

TEST(IdentityMapper, BadInputIsAnError) {
  IdentityMapper mapper;
  EXPECT_EQ(mapper.Map(PhysAddr(1), 0, Direction::kToDevice).error(),
            Error::kInvalidArgument);
  EXPECT_EQ(mapper.Map(PhysAddr(1), 1, static_cast<Direction>(9)).error(),
            Error::kInvalidArgument);
  EXPECT_EQ(
      mapper.Map(PhysAddr(2), ~std::uint64_t{0}, Direction::kToDevice).error(),
      Error::kOverflow);
  EXPECT_EQ(mapper.Unmap(Mapping{}).error(), Error::kInvalidArgument);
}

TEST(IdentityMapper, SyncStaysInsideTheMapping) {
  IdentityMapper mapper;
  const Mapping m = *mapper.Map(PhysAddr(100), 10, Direction::kBidirectional);
  EXPECT_TRUE(mapper.SyncForCpu(m, 0, 10).ok());
  EXPECT_TRUE(mapper.SyncForDevice(m, 9, 1).ok());
  EXPECT_EQ(mapper.SyncForCpu(m, 9, 2).error(), Error::kOutOfRange);
  EXPECT_EQ(mapper.SyncForCpu(m, 10, 1).error(), Error::kOutOfRange);
  EXPECT_EQ(mapper.SyncForDevice(m, ~std::uint64_t{0}, 2).error(),
            Error::kOutOfRange);
  EXPECT_EQ(mapper.SyncForDevice(m, 0, 0).error(), Error::kInvalidArgument);
}

TEST(MapAttributes, AreASet) {
  constexpr MapAttributes both =
      MapAttributes::kSkipSync | MapAttributes::kDeviceOverwritesAll;
  EXPECT_TRUE(Has(both, MapAttributes::kSkipSync));
  EXPECT_TRUE(Has(both, MapAttributes::kDeviceOverwritesAll));
  EXPECT_FALSE(Has(MapAttributes::kNone, MapAttributes::kSkipSync));
}

TEST(NoInvalidation, AlwaysDone) {
  NoInvalidation none;
  EXPECT_TRUE(none.Invalidate(Range::Whole()).ok());
  EXPECT_TRUE(none.InvalidateAll().ok());
}

}  // namespace
}  // namespace dmamap
