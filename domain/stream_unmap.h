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

// One of any slots, or that is to be refused.
template <class Policies>
Result<void> StreamSpace<Policies>::UnmapOther(const Mapping& mapping,
                                               MapAttributes attributes) {
  const auto taken = checker_.Take(mapping, SlotState::kEnding);
  if (!taken.ok()) return Refuse(taken.error());
  return Finish(**taken, mapping, attributes);
}

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
  const std::uint64_t pages = slots.size() >> page_.shift();
  const Result<void> freed =
      EndOrPark(slot, slots, pages, gone, bytes, TagOf(slot, mapping.tag));
  return freed.ok() ? copied : freed;
}

// The same for a mapping of one slot on a page of its own, `head` behind the
// slot's first byte, which is kept by the owner of `line`.
template <class Policies>
Result<void> StreamSpace<Policies>::FinishSlot(Slot& slot,
                                               const Mapping& mapping,
                                               std::uint64_t head,
                                               MapAttributes attributes,
                                               Line& line) {
  const Iova first(mapping.iova.value() - head);
  Result<void> copied;
  const Result<void> gone = DrainSlot(
      slot, mapping, attributes, &copied,
      [&](std::uint64_t bytes) { line.bytes_from_device.Add(bytes); });
  const std::uint32_t tag = TagOf(slot, mapping.tag);
  if (!line.parked.has_room() || !gone.ok()) [[unlikely]] {
    const auto freed = End(slot, SlotOf(first), 1, gone, 0);
    return freed.ok() ? copied : freed;
  }
  Park({&slot, first, tag}, 1, 0, line);
  return copied;
}
// The same for whoever has none.
template <class Policies>
Result<void> StreamSpace<Policies>::FinishOtherSlot(Slot& slot,
                                                    const Mapping& mapping,
                                                    MapAttributes attributes) {
  const Range slots = SlotOf(mapping.iova);
  std::uint64_t bytes = 0;
  Result<void> copied;
  const Result<void> gone = DrainSlot(slot, mapping, attributes, &copied,
                                      [&](std::uint64_t n) { bytes = n; });
  const Result<void> freed =
      EndOrPark(slot, slots, 1, gone, bytes, TagOf(slot, mapping.tag));
  return freed.ok() ? copied : freed;
}
// Its page settled, invalidated and drained; what the invalidation returned.
// count(bytes) is told what was to be copied back, if anything.
template <class Policies>
template <class Count>
Result<void> StreamSpace<Policies>::DrainSlot(Slot& slot,
                                              const Mapping& mapping,
                                              MapAttributes attributes,
                                              Result<void>* copied,
                                              Count&& count) {
  const std::byte* const page = bounce_.SettleSlot(slot);
  const Result<void> gone = Invalidate(SlotOf(mapping.iova));
  if (page != nullptr && DrainsFor(mapping.direction, attributes) &&
      BounceType::WasFilled(slot)) {
    *copied =
        bounce_.CopyPartOut(page, mapping.iova, BufferOf(slot), mapping.size);
    count(mapping.size);
  }
  return gone;
}

// The last steps of a mapping whose slots are kept for the caller's next one.
// REQUIRES: there is room for them.
template <class Policies>
void StreamSpace<Policies>::Park(Parked at, std::uint64_t pages,
                                 std::uint64_t bytes, Line& line) {
  line.CountUnmap(bytes);
  // Before anybody finds it parked.
  bounce_.Vacate(*at.slot, SlotWord(at.tag, SlotState::kFree));
  if (pages == 1) {
    line.parked.Put(at);
  } else {
    line.runs.Put(at, pages);
  }
}
// The same if there is, and else End.
template <class Policies>
Result<void> StreamSpace<Policies>::EndOrPark(Slot& slot, Range slots,
                                              std::uint64_t pages,
                                              Result<void> gone,
                                              std::uint64_t bytes,
                                              std::uint32_t tag) {
  if (gone.ok()) {
    const Held line(core_.counters);
    if (pages == 1 ? line->parked.has_room()
                   : line->runs.HasRoom(pages, most_in_runs_)) {
      core_.GiveQuota();
      Park({&slot, slots.first(), tag}, pages, bytes, *line.operator->());
      return gone;
    }
  }
  return End(slot, slots, pages, gone, bytes);
}
// What did not fit may fit the next time.
template <class Policies>
void StreamSpace<Policies>::MakeRoom(std::uint64_t pages) {
  if (pages != 1 && (pages > most_in_runs_ || !Counters::Runs::IsKept(pages))) {
    return;
  }
  core_.counters.ReserveParked(pages != 1);
  if (pages == 1) return;
  const bool crowded =
      Held(core_.counters)->runs.IsCrowded(pages, most_in_runs_);
  if (crowded) UnparkRuns();
}
// The tag of a mapping that this thread has taken: the checker has seen it in
// the slot's word, or was told not to look.
template <class Policies>
std::uint32_t StreamSpace<Policies>::TagOf(const Slot& slot,
                                           std::uint32_t tag) {
  return Policies::kCheckMappings
             ? tag
             : SlotWord(slot.word.load(std::memory_order_relaxed)).tag();
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
  if (parks_) MakeRoom(pages);
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
    if (at.slot == nullptr) return UnparkRuns() || any;
    (void)iova_.Free(at.first, 1).ok();
  }
}
template <class Policies>
bool StreamSpace<Policies>::UnparkRuns() {
  for (bool any = false;; any = true) {
    std::uint64_t pages = 0;
    const Parked at = Held(core_.counters)->runs.TakeAny(&pages);
    if (at.slot == nullptr) return any;
    (void)iova_.Free(at.first, pages).ok();
  }
}

// A slot of the counters has lost its owner.
template <class Policies>
void StreamSpace<Policies>::OnRetired(void* self, std::size_t n) {
  StreamSpace& me = *static_cast<StreamSpace*>(self);
  auto& counters = me.core_.counters;
  if (n >= counters.cpu().slots()) return;
  Line& line = counters.LineOf(n);
  for (Parked at = line.parked.Take(); at.slot != nullptr;
       at = line.parked.Take()) {
    (void)me.iova_.Free(at.first, 1).ok();
  }
  std::uint64_t pages = 0;
  for (Parked at = line.runs.TakeAny(&pages); at.slot != nullptr;
       at = line.runs.TakeAny(&pages)) {
    (void)me.iova_.Free(at.first, pages).ok();
  }
}

// What is parked is free, and parked once; a run's slots name its first.
template <class Policies>
bool StreamSpace<Policies>::CheckParked() const {
  bool good = true;
  const auto for_each = [this](auto&& f) {
    core_.counters.ForEachLine([&](const Line& line) {
      line.parked.ForEach([&](const Parked& p) { f(p, std::uint64_t{1}); });
      line.runs.ForEach(f);
    });
  };
  for_each([&](const Parked& p, std::uint64_t pages) {
    // relaxed: no call is under way.
    const SlotWord word(p.slot->word.load(std::memory_order_relaxed));
    const Range slots = *Range::FromSize(p.first, pages << page_.shift());
    good = good && word.tag() == p.tag && bounce_.SlotAt(p.first) == p.slot &&
           bounce_.AreOwned(slots);
    std::size_t times = 0;
    for_each([&](const Parked& q, std::uint64_t of_q) {
      const Range others = *Range::FromSize(q.first, of_q << page_.shift());
      times += slots.Overlaps(others) ? 1 : 0;
    });
    good = good && times == 1;
  });
  core_.counters.ForEachLine([&](const Line& line) {
    std::uint64_t held = 0;
    line.runs.ForEach([&](const Parked&, std::uint64_t n) { held += n; });
    good = good && held == line.runs.slots() && held <= most_in_runs_;
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
