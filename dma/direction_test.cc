// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "dma/direction.h"

#include <gtest/gtest.h>

namespace dmamap {
namespace {

constexpr Direction kAll[] = {Direction::kBidirectional, Direction::kToDevice,
                              Direction::kFromDevice};

TEST(Direction, ConvertsToPermissionAndBack) {
  for (Direction d : kAll) {
    EXPECT_EQ(*DirectionFor(PermissionFor(d)), d) << ToString(d);
  }
  EXPECT_EQ(DirectionFor(Permission::kNone).error(), Error::kInvalidArgument);
  EXPECT_EQ(DirectionFor(static_cast<Permission>(4)).error(),
            Error::kInvalidArgument);
}

TEST(Direction, DeviceMayDoWhatTheDirectionSays) {
  for (Direction d : kAll) {
    EXPECT_EQ(Allows(PermissionFor(d), Permission::kRead), DeviceReads(d));
    EXPECT_EQ(Allows(PermissionFor(d), Permission::kWrite), DeviceWrites(d));
  }
}

TEST(Direction, AValueFromOutsideIsAllowedNothing) {
  const auto bad = static_cast<Direction>(3);
  EXPECT_FALSE(IsValid(bad));
  EXPECT_EQ(PermissionFor(bad), Permission::kNone);
  EXPECT_FALSE(DeviceReads(bad));
  EXPECT_FALSE(DeviceWrites(bad));
  EXPECT_STREQ(ToString(bad), "invalid direction");
}

TEST(Direction, NumbersAreThoseOfLinuxAndVhost) {
  EXPECT_EQ(static_cast<int>(Direction::kBidirectional), 0);
  EXPECT_EQ(static_cast<int>(Direction::kToDevice), 1);
  EXPECT_EQ(static_cast<int>(Direction::kFromDevice), 2);
  EXPECT_EQ(static_cast<int>(Permission::kRead), 1);
  EXPECT_EQ(static_cast<int>(Permission::kWrite), 2);
}

TEST(Permission, AllowsIsCoverage) {
  EXPECT_TRUE(Allows(Permission::kReadWrite, Permission::kWrite));
  EXPECT_FALSE(Allows(Permission::kRead, Permission::kReadWrite));
  EXPECT_TRUE(Allows(Permission::kNone, Permission::kNone));
  EXPECT_EQ(Permission::kRead | Permission::kWrite, Permission::kReadWrite);
}

}  // namespace
}  // namespace dmamap
