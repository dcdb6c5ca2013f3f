// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_STREAM_UNMAP_H_
#define DMAMAP_DOMAIN_STREAM_UNMAP_H_

// A part of stream.h: how mappings end, and what must hold between
// calls. stream.h says why in this order.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "bounce/bounce.h"
#include "bounce/slot.h"
#include "dma/address.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"
#include "domain/checker.h"
#include "domain/claim.h"
#include "domain/stream.h"

namespace dmamap::inline v0 {
namespace internal {

// Takes all, then ends all; or changes nothing.
template <class Policies>
Result<void> StreamSpace<Policies>::UnmapAll(std::span<const Mapping> mappings,
                                             MapAttributes attributes) {
  const auto claimed = ClaimAll(
      mappings,
      [&](const Mapping& m, SlotState to) -> Result<void> {
        const auto taken = checker_.Take(m, to);
        return taken.ok() ? Ok() : Result<void>(taken.error());
      },
      [&](const Mapping& m, SlotState to) {
        // seq_cst: before the pages are looked at (bounce/page_table.h). It is
        // the release of W1 too.
        bounce_.SlotAt(m.iova)->word.exchange(SlotWord(m.tag, to).bits(),
                                              std::memory_order_seq_cst);
      });
  if (!claimed.ok()) return Refuse(claimed.error());
  Result<void> result;
  for (const Mapping& mapping : mappings) {
    const Result<void> r =
        Finish(*bounce_.SlotAt(mapping.iova), mapping, attributes);
    if (!r.ok() && result.ok()) result = r;
  }
  return result;
}

// Decides what will be copied back. REQUIRES: the pages are settled.
template <class Policies>
auto StreamSpace<Policies>::PlanDrain(const Mapping& mapping,
                                      MapAttributes attributes) const -> Drain {
  Drain drain{DrainsFor(mapping.direction, attributes),
              Part(mapping, 0, mapping.size)};
  if (!drain.any || !bounce_.shares_pages()) return drain;
  if (bounce_.PageAt(drain.range.last()) == nullptr) {
    const Iova cut = bounce_.PageRange(drain.range.last()).first();
    const auto halves = drain.range.SplitAt(cut);
    if (!halves.ok()) return {};
    drain.range = halves->first;
  }
  if (bounce_.PageAt(drain.range.first()) == nullptr) {
    const Iova last = bounce_.PageRange(drain.range.first()).last();
    if (last >= drain.range.last()) return {};
    drain.range = drain.range.SplitAt(last + 1)->second;
  }
  return drain;
}

// REQUIRES (both): the slot is `mapping`'s and kEnding, by this thread.
template <class Policies>
Result<void> StreamSpace<Policies>::FinishUnmap(Slot& slot,
                                                const Mapping& mapping,
                                                MapAttributes attributes) {
  const Range slots = Part(mapping, 0, mapping.size).RoundOutToPages(page_);
  bounce_.SettleAll(slots);
  const Drain drain = PlanDrain(mapping, attributes);
  const Result<void> gone = Invalidate(slots);
  std::uint64_t bytes = 0;
  Result<void> copied;
  if (drain.any) {
    copied = bounce_.CopyOut(
        drain.range, BufferOf(slot) + (drain.range.first() - mapping.iova),
        &bytes);
  }
  // A shared page goes on being seen through its other mappings.
  if (bounce_.shares_pages()) bounce_.Scrub(slots);
  const Result<void> freed =
      End(slot, slots, page_.PagesFor(slots.size()), gone, bytes);
  return freed.ok() ? copied : freed;
}

// The same for a mapping of one slot on a page of its own.
template <class Policies>
Result<void> StreamSpace<Policies>::FinishSlot(Slot& slot,
                                               const Mapping& mapping,
                                               MapAttributes attributes) {
  const Range slots = SlotOf(mapping.iova);
  const std::byte* const page = bounce_.SettleSlot(slot);
  const Result<void> gone = Invalidate(slots);
  std::uint64_t bytes = 0;
  Result<void> copied;
  if (page != nullptr && DrainsFor(mapping.direction, attributes) &&
      BounceType::WasFilled(slot)) {
    bytes = mapping.size;
    copied = bounce_.CopyPartOut(page, mapping.iova, BufferOf(slot), bytes);
  }
  const Result<void> freed = End(slot, slots, 1, gone, bytes);
  return freed.ok() ? copied : freed;
}

// The last steps, in their order. `gone`: what the invalidation returned.
template <class Policies>
Result<void> StreamSpace<Policies>::End(Slot& slot, Range slots,
                                        std::uint64_t pages, Result<void> gone,
                                        std::uint64_t bytes) {
  core_.counters.CountUnmap(bytes);
  core_.GiveQuota();
  if (!gone.ok()) [[unlikely]] {
    core_.CountQuarantined();
    bounce_.Vacate(slot, SlotState::kQuarantined);
    return gone;
  }
  if (quarantine_.deferred()) [[unlikely]]
    return Retire(slot, slots, pages);
  const auto freed = iova_.Free(slots.first(), pages);
  bounce_.Vacate(slot, SlotState::kFree);
  return freed;
}

// All that is left to be given up waits for an invalidation.
template <class Policies>
Result<void> StreamSpace<Policies>::Retire(Slot& slot, Range slots,
                                           std::uint64_t pages) {
  bounce_.Vacate(slot, SlotState::kRetired);
  const auto put = quarantine_.Put(slots.first(), pages);
  if (put.ok()) return Ok();
  core_.CountQuarantined();
  bounce_.Vacate(slot, SlotState::kQuarantined);
  return put;
}

template <class Policies>
bool StreamSpace<Policies>::CheckInvariants() const {
  bool good = bounce_.CheckInvariants() && quarantine_.CheckInvariants();
  std::uint64_t live = 0;
  std::uint64_t quarantined = 0;
  ForEachMapping([&](const Shown& m) {
    good = good && m.word.pins() == 0;
    live += m.word.state() == SlotState::kLive ? 1 : 0;
    quarantined += m.word.state() == SlotState::kQuarantined ? 1 : 0;
  });
  DomainStats stats;
  core_.counters.AddTo(stats);
  // relaxed: no call is under way.
  return good && live == stats.live &&
         quarantined <= core_.quarantined.load(std::memory_order_relaxed);
}

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_STREAM_UNMAP_H_
