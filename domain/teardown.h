// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_TEARDOWN_H_
#define DMAMAP_DOMAIN_TEARDOWN_H_

// The end of a domain: the list of what leaked, Shutdown and the destructor.
// Part of domain.h, which says what they promise.

#include <atomic>
#include <cstdint>

#include "dma/address.h"
#include "dma/atom.h"
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
  spaces_->stream.ForEachMapping([&](const auto& m) {
    if (!m.word.is_live()) return;
    ++count;
    report(Leak{Leak::Kind::kStream, m.b.body, m.b.buffer, m.b.direction,
                m.word.tag()});
  });
  if constexpr (kHasTables) {
    spaces_->stream.ForEachReservation([&](Range range, std::uint32_t tag) {
      ++count;
      report(Leak{Leak::Kind::kReservation, range, PhysAddr(),
                  Direction::kBidirectional, tag});
    });
  }
  Iova next = Iova::Min();
  for (bool more = true; more; ++count) {
    Leak leak;
    leak.kind = Leak::Kind::kCoherent;
    {
      Guard guard(core_.lock);
      auto e = core_.iotlb.First(*Range::FromFirstLast(next, Iova::Max()));
      if (e == nullptr) return count;
      leak.range = e->range;
      leak.memory = e->address;
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
    // relaxed: written under the lock.
    if (core_.phase.load(std::memory_order_relaxed) ==
        internal::DomainPhase::kClosed) {
      return Error::kShutDown;
    }
    // The phase before the records. Whoever makes a mapping writes its record
    // first and looks at the phase behind the light fence. relaxed: the fence
    // orders it.
    core_.phase.store(internal::DomainPhase::kClosing,
                      std::memory_order_relaxed);
    Core::Fence::Heavy();
    const bool live =
        core_.coherent != 0 || core_.IsEnding() || spaces_->stream.IsInUse();
    refused = live && teardown != Teardown::kForce;
    // What is not live and comes to be seen yet is a Map's that will look at
    // the phase, and takes it back itself.
    if (live && !refused) {
      core_.iotlb.Clear();
      spaces_->stream.Abandon();
      spaces_->coherent.Abandon();
    }
    // release: pairs with the acquire of IsOpen.
    core_.phase.store(
        refused ? internal::DomainPhase::kOpen : internal::DomainPhase::kClosed,
        std::memory_order_release);
  }
  // First the verdict, then the list: a success has left nothing unreported,
  // whatever other threads map meanwhile.
  if (refused) {
    ReportLeaks(report);
    return Error::kBusy;
  }
  Result<void> gone = core_.invalidation.InvalidateAll();
  if (gone.ok()) gone = spaces_->stream.Flush();
  if (gone.ok()) spaces_->stream.ReclaimIdle();
  return gone;
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_TEARDOWN_H_
