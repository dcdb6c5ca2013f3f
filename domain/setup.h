// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_SETUP_H_
#define DMAMAP_DOMAIN_SETUP_H_

// How a domain begins: what its options must be, and Init. Part of domain.h,
// which says what they promise.

#include <atomic>
#include <cstdint>
#include <new>

#include "dma/address.h"
#include "dma/result.h"
#include "dma/version.h"
#include "domain/core.h"
#include "domain/domain.h"
#include "domain/mode.h"
#include "domain/options.h"

namespace dmamap::inline v0 {

template <class Policies>
Result<void> Domain<Policies>::Validate(const DomainOptions& o) {
  if (!IsValid(o.sharing) || o.owners == 0) return Error::kInvalidArgument;
  const std::uint64_t first =
      kHasTables ? o.page.bytes() : internal::GranuleOf(o).bytes();
  const bool pages_fit = o.page.shift() >= 6 && o.bounce_page.shift() <= 30 &&
                         o.page.shift() <= o.bounce_page.shift();
  const bool sizes_fit = o.bounce_page.IsAligned(o.bounce_size) &&
                         internal::PartOf(o) / first >= 2 &&
                         o.limit.value() >= o.bounce_size &&
                         o.page.Offset(o.limit.value()) == o.page.mask();
  const bool mask_fits = (o.min_align_mask & (o.min_align_mask + 1)) == 0 &&
                         o.min_align_mask <= o.page.mask();
  const bool mode_fits = IsValid(o.mode) && IsValid(o.automatic.map_with) &&
                         o.automatic.map_with != DomainMode::kPooled &&
                         o.automatic.map_with != DomainMode::kAutomatic;
  if (!pages_fit || !sizes_fit || !mask_fits || !mode_fits) {
    return Error::kInvalidArgument;
  }
  const std::uint64_t boundary = o.segments.boundary;
  if (boundary != 0 && !IsPowerOfTwo(boundary)) return Error::kInvalidArgument;
  return kHasTables || o.mode == DomainMode::kBounce
             ? Ok()
             : Result<void>(Error::kUnsupported);
}

template <class Policies>
Result<void> Domain<Policies>::Init(const DomainOptions& options) {
  if (open()) return Error::kBusy;
  if (const auto r = Validate(options); !r.ok()) return r;
  spaces_ = ::new (static_cast<void*>(room_)) Spaces(core_);
  Result<void> result = core_.counters.Init();
  if (result.ok()) result = spaces_->stream.Init(options);
  if (result.ok()) result = spaces_->coherent.Init(options);
  if (result.ok()) result = core_.iotlb.Init({});
  if (!result.ok()) {
    DestroySpaces();
    return result;
  }
  options_ = options;
  core_.bounded = options.max_mappings != 0;
  // Who goes by his own line alone counts nothing else.
  if (!core_.bounded) core_.counters.AllowOwnLines();
  // relaxed: published by O1.
  core_.quota.store(options.max_mappings, std::memory_order_relaxed);
  // O1, release: pairs with O2. Publishes spaces_ and options_.
  core_.phase.store(internal::DomainPhase::kOpen, std::memory_order_release);
  return Ok();
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_SETUP_H_
