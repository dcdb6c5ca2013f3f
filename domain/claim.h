// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_CLAIM_H_
#define DMAMAP_DOMAIN_CLAIM_H_

// A list of mappings that end all, or none. An inner header.

#include <cstddef>
#include <span>

#include "bounce/slot.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {
namespace internal {

// Takes each for the caller alone and then says kEnding; or has changed
// nothing. take(mapping, SlotState) -> Result<void> may refuse; become(mapping,
// SlotState) may not. kNotMapped also for a mapping that is on the list twice.
template <class TakeFn, class BecomeFn>
Result<void> ClaimAll(std::span<const Mapping> mappings, TakeFn&& take,
                      BecomeFn&& become) {
  if (mappings.size() == 1) return take(mappings[0], SlotState::kEnding);
  for (std::size_t i = 0; i < mappings.size(); ++i) {
    const Result<void> taken = take(mappings[i], SlotState::kClaimed);
    if (taken.ok()) continue;
    bool twice = false;
    for (const Mapping& before : mappings.first(i)) {
      become(before, SlotState::kLive);  // again
      twice = twice || before == mappings[i];
    }
    return twice ? Error::kNotMapped : taken.error();
  }
  for (const Mapping& m : mappings) become(m, SlotState::kEnding);
  return Ok();
}

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_CLAIM_H_
