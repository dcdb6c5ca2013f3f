// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_DEVICE_SIDE_H_
#define DMAMAP_DOMAIN_DEVICE_SIDE_H_

// What a device asks of a domain: Translate, for one access by one mapping's
// permission, and Fault, for a whole page. Part of domain.h, which says what
// they promise.

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
  Translation found;
  const auto look_up = [&]() -> Result<void> {
    const Result<Translation> t = core_.iotlb.Lookup(at, wanted);
    if (!t.ok()) return t.error();
    found = *t;
    return Ok();
  };
  // Bytes behind `at` that are asked for, and that are there.
  std::uint64_t behind = length - 1;
  std::byte* data = nullptr;
  if (at.value() < options_.bounce_size) {
    const auto page = spaces_->stream.Touch(at, look_up);
    if (!page.ok()) return page.error();
    const Range range = spaces_->stream.PageRange(at);
    data = *page + (at - range.first());
    if (behind > range.last() - at) behind = range.last() - at;
  } else {
    Guard guard(core_.lock);
    if (const Result<void> r = look_up(); !r.ok()) return r.error();
    data = PointerTo(found.address);
  }
  if (behind > found.bytes_minus_one) behind = found.bytes_minus_one;
  return DeviceView{data, behind + 1};
}

template <class Policies>
Result<FaultPage> Domain<Policies>::Fault(Iova at) {
  if (!open()) return Error::kShutDown;
  if (at.value() >= options_.bounce_size) {
    Guard guard(core_.lock);
    return spaces_->coherent.PageAt(at);
  }
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
