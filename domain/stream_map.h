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

// A mapping of one slot on a page of its own. It is counted where its slot is
// taken, and its bytes, if any, apart.
template <class Policies>
auto StreamSpace<Policies>::MapSlot(PhysAddr buffer, std::uint64_t size,
                                    Direction direction, SlotShape shape,
                                    BufferOwner owner) -> Result<Made> {
  if (!core_.TakeQuota()) return Error::kLimit;
  Parked at;
  bool due = false;  // a sample of the counters
  {
    const Held line(core_.counters);
    at = line->parked.Take();
    due = line->CountMap(direction);
  }
  if (at.slot == nullptr) [[unlikely]] {
    const Result<Parked> taken = TakeSlot(owner);
    if (!taken.ok()) {
      core_.counters.UncountMap(direction);
      return taken.error();
    }
    at = *taken;
  }
  const SlotWord word = bounce_.WordAfter(at.word);
  std::uint64_t bytes = 0;
  const Result<void> shown =
      bounce_.ShowSlot(*at.slot, word, size, buffer, shape, &bytes);
  // seq_cst: after the record, for a Shutdown that looks at it.
  if (!shown.ok() || !core_.IsOpen(std::memory_order_seq_cst)) [[unlikely]] {
    core_.counters.UncountMap(direction);
    return TakeBack(SlotOf(at.first), *at.slot, shown);
  }
  const Made made = {at.first, bounce_.Admit(*at.slot, word)};
  if (bytes != 0) Held(core_.counters)->bytes_to_device.Add(bytes);
  if (due) [[unlikely]]
    core_.counters.Sample();
  return made;
}

// A slot that was not parked. What fails has given the quota back.
template <class Policies>
auto StreamSpace<Policies>::TakeSlot(BufferOwner owner) -> Result<Parked> {
  const Result<Iova> first = TakeAddress(owner, 1);
  if (!first.ok()) return first.error();
  const Result<Slot*> slot = bounce_.PrepareSlot(*first);
  if (!slot.ok()) return GiveBack(SlotOf(*first), nullptr, slot.error());
  return Parked{*slot, *first, bounce_.AwaitFree(**slot)};
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

// The same for any.
template <class Policies>
auto StreamSpace<Policies>::MapPages(PhysAddr buffer, std::uint64_t size,
                                     SlotShape shape, BufferOwner owner)
    -> Result<Made> {
  // Cannot wrap: a size this close to 2^64 has too many pages to be found.
  if (size > Iova::Max() - Iova(shape.head())) return Error::kNoSpace;
  if (!core_.TakeQuota()) return Error::kLimit;
  const std::uint64_t pages = page_.PagesFor(shape.head() + size);
  const Result<Iova> first = TakeAddress(owner, pages);
  if (!first.ok()) return first.error();
  const Range slots = *Range::FromSize(*first, pages << page_.shift());
  const Range body = *Range::FromSize(*first + shape.head(), size);
  const Result<Slot*> slot = bounce_.Prepare(slots);
  if (!slot.ok()) return GiveBack(slots, nullptr, slot.error());
  const BounceBuffer b = {slots,
                          body,
                          buffer,
                          shape.fill(),
                          shape.direction(),
                          shape.overwritten()};
  std::uint64_t bytes = 0;
  const Result<void> shown = bounce_.Show(**slot, b, &bytes);
  // seq_cst: as above.
  if (!shown.ok() || !core_.IsOpen(std::memory_order_seq_cst)) {
    return TakeBack(slots, **slot, shown);
  }
  const Made made = {*first, bounce_.Admit(**slot)};
  core_.counters.CountMap(shape.direction(), bytes);
  return made;
}

template <class Policies>
Error StreamSpace<Policies>::TakeBack(Range slots, Slot& slot,
                                      Result<void> shown) {
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
