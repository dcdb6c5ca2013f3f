// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_STREAM_MAP_H_
#define DMAMAP_DOMAIN_STREAM_MAP_H_

// How a mapping comes to be: address, record, contents, and what becomes of
// them when one of the three fails. A part of stream.h.

#include <atomic>
#include <cstdint>

#include "bounce/bounce.h"
#include "bounce/slot.h"
#include "dma/address.h"
#include "dma/result.h"
#include "dma/version.h"
#include "domain/owner.h"
#include "domain/stream.h"

namespace dmamap::inline v0 {
namespace internal {

// A mapping of one slot on a page of its own: with one that the caller has
// parked, and nothing else to do.
template <class Policies>
auto StreamSpace<Policies>::MapSlot(PhysAddr buffer, std::uint64_t size,
                                    Direction direction, SlotShape shape,
                                    BufferOwner owner) -> Result<Made> {
  const auto [has_own, line] = core_.counters.OwnLine();
  if (!has_own || !line->parked.any() || line->IsSampleDue()) [[unlikely]] {
    return MapOtherSlot(buffer, size, shape, owner);
  }
  const Parked at = line->parked.TakeTop();
  line->CountMap(direction);
  std::uint64_t bytes = 0;
  const Result<Made> made =
      MakeSlot(*at.slot, at.first, bounce_.WordAfter(at.tag), size, buffer,
               shape, &bytes);
  if (bytes != 0) line->bytes_to_device.Add(bytes);
  return made;
}
// The same with any.
template <class Policies>
auto StreamSpace<Policies>::MapOtherSlot(PhysAddr buffer, std::uint64_t size,
                                         SlotShape shape, BufferOwner owner)
    -> Result<Made> {
  const Result<Counted> taken = Take(1, shape.direction(), owner);
  if (!taken.ok()) return taken.error();
  std::uint64_t bytes = 0;
  const Parked& at = taken->at;
  const Result<Made> made =
      MakeSlot(*at.slot, at.first, bounce_.WordAfter(at.tag), size, buffer,
               shape, &bytes);
  if (made.ok()) CountMade(*taken, bytes);
  return made;
}
// What follows when its slot is taken and it is counted.
template <class Policies>
auto StreamSpace<Policies>::MakeSlot(Slot& slot, Iova first, SlotWord word,
                                     std::uint64_t size, PhysAddr buffer,
                                     SlotShape shape, std::uint64_t* bytes)
    -> Result<Made> {
  const Result<void> shown =
      bounce_.ShowSlot(slot, word, size, buffer, shape, bytes);
  // seq_cst: after the record, for a Shutdown that looks at it.
  if (!shown.ok() || !core_.IsOpen(std::memory_order_seq_cst)) [[unlikely]] {
    *bytes = 0;
    return TakeBack(SlotOf(first), slot, shape.direction(), shown);
  }
  return Made{first, bounce_.Admit(slot, word)};
}

// Slots for a mapping, which is counted. What fails has changed nothing.
template <class Policies>
auto StreamSpace<Policies>::Take(std::uint64_t pages, Direction direction,
                                 BufferOwner owner) -> Result<Counted> {
  if (!core_.TakeQuota()) return Error::kLimit;
  Counted taken;
  {
    const Held line(core_.counters);
    taken.at = pages == 1 ? line->parked.Take() : line->runs.Take(pages);
    taken.due = line->CountMap(direction);
  }
  if (taken.at.slot != nullptr) return taken;
  const Result<Parked> fresh = TakeSlots(owner, pages);
  if (!fresh.ok()) {
    core_.counters.UncountMap(direction);
    return fresh.error();
  }
  taken.at = *fresh;
  return taken;
}
template <class Policies>
void StreamSpace<Policies>::CountMade(const Counted& taken,
                                      std::uint64_t bytes) {
  if (bytes != 0) Held(core_.counters)->bytes_to_device.Add(bytes);
  if (taken.due) [[unlikely]]
    core_.counters.Sample();
}

// Slots that were not parked. What fails has given the quota back.
template <class Policies>
auto StreamSpace<Policies>::TakeSlots(BufferOwner owner, std::uint64_t pages)
    -> Result<Parked> {
  const Result<Iova> first = TakeAddress(owner, pages);
  if (!first.ok()) return first.error();
  const Range slots = *Range::FromSize(*first, pages << page_.shift());
  const Result<Slot*> slot = bounce_.Prepare(slots);
  if (!slot.ok()) return GiveBack(slots, nullptr, slot.error());
  return Parked{*slot, *first, bounce_.Own(**slot, slots).tag()};
}

template <class Policies>
Result<Iova> StreamSpace<Policies>::TakeAddress(BufferOwner owner,
                                                std::uint64_t pages) {
  Result<Iova> first = iova_.Allocate(owner, pages);
  // What this thread has parked is in nobody's way.
  if (!first.ok() && Unpark()) first = iova_.Allocate(owner, pages);
  if (!first.ok()) core_.GiveQuota();
  return first;
}

// A mapping of any slots.
template <class Policies>
auto StreamSpace<Policies>::MapPages(PhysAddr buffer, std::uint64_t size,
                                     SlotShape shape, BufferOwner owner)
    -> Result<Made> {
  // Cannot wrap: a size this close to 2^64 has too many pages to be found.
  if (size > Iova::Max() - Iova(shape.head())) return Error::kNoSpace;
  const std::uint64_t pages = page_.PagesFor(shape.head() + size);
  const Result<Counted> taken = Take(pages, shape.direction(), owner);
  if (!taken.ok()) return taken.error();
  const Parked& at = taken->at;
  const Range slots = *Range::FromSize(at.first, pages << page_.shift());
  const Range body = *Range::FromSize(at.first + shape.head(), size);
  const BounceBuffer b = {slots,
                          body,
                          buffer,
                          shape.fill(),
                          shape.direction(),
                          shape.overwritten()};
  const SlotWord word = bounce_.WordAfter(at.tag);
  std::uint64_t bytes = 0;
  const Result<void> shown = bounce_.Show(*at.slot, word, b, &bytes);
  // seq_cst: as above.
  if (!shown.ok() || !core_.IsOpen(std::memory_order_seq_cst)) {
    return TakeBack(slots, *at.slot, shape.direction(), shown);
  }
  const Made made = {at.first, bounce_.Admit(*at.slot, word)};
  CountMade(*taken, bytes);
  return made;
}

// What was counted and shown does not come to be.
template <class Policies>
Error StreamSpace<Policies>::TakeBack(Range slots, Slot& slot,
                                      Direction direction, Result<void> shown) {
  core_.counters.UncountMap(direction);
  bounce_.Retract(slot, slots);  // what was copied is nobody's now
  return GiveBack(slots, &slot, shown.ok() ? Error::kShutDown : shown.error());
}

template <class Policies>
Error StreamSpace<Policies>::GiveBack(Range slots, Slot* slot, Error error) {
  (void)iova_.Free(slots.first(), slots.size() >> page_.shift()).ok();
  if (slot != nullptr) bounce_.Vacate(*slot, SlotState::kFree);
  core_.GiveQuota();
  return error;
}

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_STREAM_MAP_H_
