// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_TEARDOWN_H_
#define DMAMAP_DOMAIN_TEARDOWN_H_

// The end of a domain: the list of what leaked, Shutdown and the destructor.
// Part of domain.h, which says what they promise.

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
Domain<Policies>::~Domain() {
  if (options_.on_leak != nullptr) {
    ReportLeaks([this](const Leak& leak) {
      options_.on_leak(options_.leak_context, leak);
    });
  }
  DestroySpaces();
}

template <class Policies>
template <class Report>
std::uint64_t Domain<Policies>::ReportLeaks(Report&& report) const {
  if (!open()) return 0;
  std::uint64_t count = 0;
  Iova next = Iova::Min();
  for (bool more = true; more; ++count) {
    Leak leak;
    {
      Guard guard(core_.lock);
      auto e = core_.iotlb.First(*Range::FromFirstLast(next, Iova::Max()));
      if (e == nullptr) return count;
      const bool stream = e->range.first().value() < options_.bounce_size;
      leak.kind = stream ? Leak::Kind::kStream : Leak::Kind::kCoherent;
      leak.range = e->range;
      leak.memory = e->address;
      const Result<Direction> direction = DirectionFor(e->permission);
      if (direction.ok()) leak.direction = *direction;
      if (stream) leak.tag = static_cast<std::uint32_t>(e->token);
    }
    report(static_cast<const Leak&>(leak));
    more = leak.range.last() < Iova::Max();
    if (more) next = leak.range.last() + 1;
  }
  return count;
}

template <class Policies>
template <class Report>
Result<void> Domain<Policies>::Shutdown(Report&& report, Teardown teardown) {
  if (!open()) return Error::kShutDown;
  if (teardown == Teardown::kForce) ReportLeaks(report);  // nobody else calls
  bool refused = false;
  {
    Guard guard(core_.lock);
    if (core_.closed) return Error::kShutDown;
    const bool live =
        core_.stats.live != 0 || core_.stats.coherent != 0 || core_.IsEnding();
    refused = live && teardown != Teardown::kForce;
    if (!refused) {
      core_.closed = true;
      core_.iotlb.Clear();
      spaces_->stream.Abandon();
      spaces_->coherent.Abandon();
    }
  }
  // First the verdict, then the list: a success has left nothing unreported,
  // whatever other threads map meanwhile.
  if (refused) {
    ReportLeaks(report);
    return Error::kBusy;
  }
  const Result<void> gone = core_.invalidation.InvalidateAll();
  if (gone.ok()) spaces_->stream.ReclaimIdle();
  return gone;
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_TEARDOWN_H_
