// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_STREAM_LOOK_H_
#define DMAMAP_DOMAIN_STREAM_LOOK_H_

// How a stream space begins, what a device finds in it, and what is left when
// it ends. A part of stream.h.

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "bounce/bounce.h"
#include "bounce/slot.h"
#include "dma/address.h"
#include "dma/direction.h"
#include "dma/result.h"
#include "dma/version.h"
#include "domain/options.h"
#include "domain/stream.h"

namespace dmamap::inline v0 {
namespace internal {

template <class Policies>
Result<void> StreamSpace<Policies>::Init(const DomainOptions& o) {
  page_ = GranuleOf(o);
  min_align_mask_ = o.min_align_mask;
  const auto bounce =
      bounce_.Init({o.bounce_size, o.bounce_page, page_, Checker::FirstTag()});
  if (!bounce.ok()) return bounce;
  const auto window =
      Range::FromFirstLast(Iova(page_.bytes()), Iova(o.bounce_size - 1));
  if (!window.ok()) return window.error();
  const auto iova = iova_.Init(*window, page_, o.owners, PartOf(o));
  if (!iova.ok()) return iova;
  const auto flush = quarantine_.Init(o.flush);
  if (!flush.ok()) return flush;
  alone_ = bounce_.shares_pages() ? 0 : page_.bytes();
  parks_ = alone_ != 0 && o.owners == 1 && !quarantine_.deferred();
  most_in_runs_ = (window->size() >> page_.shift()) / 32;
  if (parks_) core_.counters.cpu().Subscribe(listener_);
  return Ok();
}

template <class Policies>
auto StreamSpace<Policies>::LookUp(Iova at) const -> Result<Shown> {
  const Result<Shown> m = bounce_.Look(at);
  if (!m.ok()) return m;
  if (!m->word.is_live() || !m->b.body.Contains(at)) return Error::kNotMapped;
  return m;
}

template <class Policies>
bool StreamSpace<Policies>::IsStill(const Shown& m) const {
  // relaxed: behind the look at the page, which was an acquire.
  const SlotWord now(m.slot->word.load(std::memory_order_relaxed));
  return now.is_live() && now.tag() == m.word.tag();
}

template <class Policies>
template <class Allowed>
Result<std::byte*> StreamSpace<Policies>::Touch(Iova at, Allowed&& allowed) {
  bool made = false;
  std::uint64_t bytes = 0;
  const Result<std::byte*> page = bounce_.Touch(at, allowed, &made, &bytes);
  if (made) {
    core_.counters.Count([&](auto& line) {
      line.faults.Add();
      line.bytes_to_device.Add(bytes);
    });
  }
  return page;
}

template <class Policies>
Result<Permission> StreamSpace<Policies>::PagePermission(Iova at) const {
  Permission all = Permission::kNone;
  bounce_.ForEachShown(at, [&](const Shown& m) {
    const bool here = m.b.body.Overlaps(bounce_.PageRange(at));
    if (m.word.is_live() && here) all = all | PermissionFor(m.b.direction);
  });
  if (all == Permission::kNone) return Error::kNotMapped;
  return all;
}

template <class Policies>
bool StreamSpace<Policies>::IsInUse() const {
  bool used = false;
  std::uint64_t retired = 0;
  ForEachMapping([&](const Shown& m) {
    used = used || IsBusy(m.word);
    retired += m.word.state() == SlotState::kRetired ? 1 : 0;
  });
  // One that is not in the queue yet: its Unmap is under way.
  return used || retired > waiting();
}

template <class Policies>
void StreamSpace<Policies>::Abandon() {
  ForEachMapping([this](const Shown& m) {
    if (!IsBusy(m.word)) return;
    core_.CountQuarantined();
    core_.counters.CountUnmap(0);
    bounce_.Vacate(*m.slot, SlotState::kQuarantined);
  });
}

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_STREAM_LOOK_H_
