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
  if (gone.ok() && Park(slot, mapping, bytes)) [[likely]]
    return copied;
  const Result<void> freed = End(slot, slots, 1, gone, bytes);
  return freed.ok() ? copied : freed;
}

// The last steps of a mapping of one slot, which is kept for the caller's next
// one. False: nothing has changed.
template <class Policies>
bool StreamSpace<Policies>::Park(Slot& slot, const Mapping& mapping,
                                 std::uint64_t bytes) {
  const Iova first(page_.RoundDown(mapping.iova.value()));
  const SlotWord free = WordOf(slot, mapping).To(SlotState::kFree);
  const Held line(core_.counters);
  if (!line->parked.has_room()) [[unlikely]]
    return false;
  line->CountUnmap(bytes);
  core_.GiveQuota();
  bounce_.Vacate(slot, free);  // before anybody finds it parked
  line->parked.Put({&slot, first, free});
  return true;
}
// The word of a slot that this thread has taken: the checker has seen the
// mapping's tag in it, or was told not to look.
template <class Policies>
SlotWord StreamSpace<Policies>::WordOf(const Slot& slot,
                                       const Mapping& mapping) {
  return Policies::kCheckMappings
             ? SlotWord(mapping.tag, SlotState::kEnding)
             : SlotWord(slot.word.load(std::memory_order_relaxed));
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
  // From now on there is room, if there was none yet.
  if (parks_) core_.counters.ReserveParked();
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

// Frees what the caller has parked; false when that was nothing.
template <class Policies>
bool StreamSpace<Policies>::Unpark() {
  for (bool any = false;; any = true) {
    const Parked at = Held(core_.counters)->parked.Take();
    if (at.slot == nullptr) return any;
    (void)iova_.Free(at.first, 1).ok();
  }
}

// A slot of the counters has lost its owner.
template <class Policies>
void StreamSpace<Policies>::OnRetired(void* self, std::size_t n) {
  StreamSpace& me = *static_cast<StreamSpace*>(self);
  auto& counters = me.core_.counters;
  if (n >= counters.cpu().slots()) return;
  auto& parked = counters.LineOf(n).parked;
  for (Parked at = parked.Take(); at.slot != nullptr; at = parked.Take()) {
    (void)me.iova_.Free(at.first, 1).ok();
  }
}

// Each parked slot is free, and parked once.
template <class Policies>
bool StreamSpace<Policies>::CheckParked() const {
  bool good = true;
  const auto for_each = [this](auto&& f) {
    core_.counters.ForEachLine(
        [&](const Line& line) { line.parked.ForEach(f); });
  };
  for_each([&](const Parked& p) {
    // relaxed: no call is under way.
    const SlotWord word(p.slot->word.load(std::memory_order_relaxed));
    good = good && word.is_free() && word.bits() == p.word.bits() &&
           bounce_.SlotAt(p.first) == p.slot;
    std::size_t times = 0;
    for_each([&](const Parked& q) { times += q.slot == p.slot ? 1 : 0; });
    good = good && times == 1;
  });
  return good;
}

template <class Policies>
bool StreamSpace<Policies>::CheckInvariants() const {
  bool good = bounce_.CheckInvariants() && quarantine_.CheckInvariants() &&
              CheckParked();
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
