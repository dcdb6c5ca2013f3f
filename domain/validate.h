// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_VALIDATE_H_
#define DMAMAP_DOMAIN_VALIDATE_H_

// What Map may be asked, whatever the mode. An inner header.

#include <cstdint>

#include "dma/address.h"
#include "dma/direction.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {
namespace internal {

constexpr bool AreKnown(MapAttributes attributes) {
  constexpr auto kKnown = static_cast<std::uint32_t>(
      MapAttributes::kSkipSync | MapAttributes::kDeviceOverwritesAll);
  return (static_cast<std::uint32_t>(attributes) & ~kKnown) == 0;
}

// kInvalidArgument, kOverflow.
constexpr Result<void> ValidateMap(PhysAddr buffer, std::uint64_t size,
                                   Direction direction,
                                   MapAttributes attributes) {
  if (!IsValid(direction)) return Error::kInvalidArgument;
  if (attributes > MapAttributes::kSkipSync) [[unlikely]] {
    // With kDeviceOverwritesAll, or unknown.
    if (!AreKnown(attributes) || direction != Direction::kFromDevice) {
      return Error::kInvalidArgument;
    }
  }
  const Result<PhysRange> range = PhysRange::FromSize(buffer, size);
  return range.ok() ? Ok() : Result<void>(range.error());
}

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_VALIDATE_H_
