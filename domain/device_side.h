// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_DEVICE_SIDE_H_
#define DMAMAP_DOMAIN_DEVICE_SIDE_H_

// What a device asks of a domain: Translate, for one access by one mapping's
// permission, and Fault, for a whole page. Part of domain.h, which says what
// they promise.

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "dma/address.h"
#include "dma/direction.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "domain/domain.h"
#include "domain/options.h"
#include "iotlb/iotlb.h"

namespace dmamap::inline v0 {

template <class Policies>
Result<DeviceView> Domain<Policies>::Translate(Iova at, std::uint64_t length,
                                               Permission wanted) {
  if (!open()) return Error::kShutDown;
  if (length == 0 || !IsValid(wanted) || wanted == Permission::kNone) {
    return Error::kInvalidArgument;
  }
  if (at.value() >= options_.bounce_size) {
    Guard guard(core_.lock);
    const Result<Translation> t = core_.iotlb.Lookup(at, wanted);
    if (!t.ok()) return t.error();
    const std::uint64_t behind = std::min(length - 1, t->bytes_minus_one);
    return DeviceView{PointerTo(t->address), behind + 1};
  }
  const auto& stream = spaces_->stream;
  if constexpr (kHasTables)
    return stream.Translate(at, length, wanted);
  else
    return TranslateBounced(at, length, wanted);
}

template <class Policies>
Result<DeviceView> Domain<Policies>::TranslateBounced(Iova at,
                                                      std::uint64_t length,
                                                      Permission wanted) {
  auto& stream = spaces_->stream;
  typename Spaces::Stream::Shown found;
  const auto page = stream.Touch(at, [&]() -> Result<void> {
    const auto m = stream.LookUp(at);
    if (!m.ok()) return m.error();
    if (!Allows(PermissionFor(m->b.direction), wanted)) {
      return Error::kPermission;
    }
    found = *m;
    return Ok();
  });
  if (!page.ok()) return page.error();
  // The page was found after the mapping, and is its page only if that lives.
  if (!stream.IsStill(found)) return Error::kNotMapped;
  const Range range = stream.PageRange(at);
  const std::uint64_t there =
      std::min(range.last() - at, found.b.body.last() - at);
  return DeviceView{*page + (at - range.first()),
                    std::min(length - 1, there) + 1};
}

template <class Policies>
Result<FaultPage> Domain<Policies>::Fault(Iova at) {
  if (!open()) return Error::kShutDown;
  if (at.value() >= options_.bounce_size) {
    Guard guard(core_.lock);
    return spaces_->coherent.PageAt(at);
  }
  if constexpr (kHasTables)
    return spaces_->stream.Fault(at);
  else
    return FaultBounced(at);
}

template <class Policies>
Result<FaultPage> Domain<Policies>::FaultBounced(Iova at) {
  Permission permission = Permission::kNone;
  const auto page = spaces_->stream.Touch(at, [&]() -> Result<void> {
    const Result<Permission> all = spaces_->stream.PagePermission(at);
    if (!all.ok()) return all.error();
    permission = *all;
    return Ok();
  });
  if (!page.ok()) return page.error();
  return FaultPage{*page, spaces_->stream.PageRange(at), permission};
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_DEVICE_SIDE_H_
