// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DMA_DIRECTION_H_
#define DMAMAP_DMA_DIRECTION_H_

// Which way data moves, and what a device may do: two views of one thing.
//
// A driver thinks in directions ("this buffer goes to the device"); an IOTLB
// and a page table think in permissions ("the device may read"). The two
// conversions live here once, so that no driver writes its own switch.
//
//   kToDevice       the device reads          Permission::kRead
//   kFromDevice     the device writes         Permission::kWrite
//   kBidirectional  both                      Permission::kReadWrite

#include <cstdint>

#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

// The numbers are those of Linux's enum dma_data_direction.
enum class Direction : std::uint8_t {
  kBidirectional = 0,
  kToDevice = 1,
  kFromDevice = 2,
};

// Bits: 1 the device may read, 2 the device may write. The numbers are those of
// the vhost IOTLB message (VHOST_ACCESS_RO, _WO, _RW).
enum class Permission : std::uint8_t {
  kNone = 0,
  kRead = 1,
  kWrite = 2,
  kReadWrite = 3,
};

// False for a value that came from outside and is none of the enumerators.
constexpr bool IsValid(Direction d) {
  return static_cast<std::uint8_t>(d) <= 2;
}
constexpr bool IsValid(Permission p) {
  return static_cast<std::uint8_t>(p) <= 3;
}

constexpr bool DeviceReads(Direction d) {
  return d == Direction::kToDevice || d == Direction::kBidirectional;
}
constexpr bool DeviceWrites(Direction d) {
  return d == Direction::kFromDevice || d == Direction::kBidirectional;
}

constexpr Permission operator|(Permission a, Permission b) {
  return static_cast<Permission>(static_cast<std::uint8_t>(a) |
                                 static_cast<std::uint8_t>(b));
}
constexpr Permission operator&(Permission a, Permission b) {
  return static_cast<Permission>(static_cast<std::uint8_t>(a) &
                                 static_cast<std::uint8_t>(b));
}

// True when `granted` covers all of `wanted`.
constexpr bool Allows(Permission granted, Permission wanted) {
  return (granted & wanted) == wanted;
}

// What the device must be allowed for a transfer in this direction. An invalid
// direction is allowed nothing.
constexpr Permission PermissionFor(Direction d) {
  switch (d) {
    case Direction::kBidirectional:
      return Permission::kReadWrite;
    case Direction::kToDevice:
      return Permission::kRead;
    case Direction::kFromDevice:
      return Permission::kWrite;
  }
  return Permission::kNone;
}

// The direction of a transfer that uses all of `p`. kInvalidArgument for kNone
// and for a value that is no Permission.
constexpr Result<Direction> DirectionFor(Permission p) {
  switch (p) {
    case Permission::kRead:
      return Direction::kToDevice;
    case Permission::kWrite:
      return Direction::kFromDevice;
    case Permission::kReadWrite:
      return Direction::kBidirectional;
    case Permission::kNone:
      break;
  }
  return Error::kInvalidArgument;
}

constexpr const char* ToString(Direction d) {
  switch (d) {
    case Direction::kBidirectional:
      return "bidirectional";
    case Direction::kToDevice:
      return "to device";
    case Direction::kFromDevice:
      return "from device";
  }
  return "invalid direction";
}

constexpr const char* ToString(Permission p) {
  switch (p) {
    case Permission::kNone:
      return "none";
    case Permission::kRead:
      return "read";
    case Permission::kWrite:
      return "write";
    case Permission::kReadWrite:
      return "read-write";
  }
  return "invalid permission";
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_DMA_DIRECTION_H_
