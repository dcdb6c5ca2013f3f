// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_IOMMU_LINKS_H_
#define DMAMAP_DOMAIN_IOMMU_LINKS_H_

// The two-step form: addresses first, buffers behind them later (Linux's
// dma_iova_try_alloc, _link, _sync, _unlink, _free; kernel/dma, 6.16). Included
// by iommu_space.h alone.
//
// A link holds the slot of each of its pages, as kFilling without a size behind
// its first. A reservation's word lies in its first page's slot, beside that of
// a mapping that may begin there. Each link pins it, so that it cannot be
// released under one; whoever makes or syncs links pins it meanwhile.
//
// Synchronisation edges
//   R1 -> R2  the reservation's fields are seen by whoever sees its word.
//   R3 -> R4  all that its links did has happened when it is released.

#include <atomic>
#include <cstdint>

#include "domain/iommu_space.h"

namespace dmamap::inline v0 {
namespace internal {

template <class Policies>
Result<Reservation> IommuSpace<Policies>::Reserve(std::uint64_t size,
                                                  PhysAddr like) {
  if (size == 0) return Error::kInvalidArgument;
  const std::uint64_t head = page_.Offset(like.value());
  if (size > Iova::Max() - Iova(head)) return Error::kNoSpace;
  const std::uint64_t pages = page_.PagesFor(head + size);
  if (!core_.TakeQuota()) return Error::kLimit;
  const Result<Iova> first = iova_.Allocate(pages);
  if (!first.ok()) {
    core_.GiveQuota();
    return first.error();
  }
  const Result<Slot*> slot = table_.Ensure(*first);
  Result<void> made = slot.ok() ? Ok() : Result<void>(slot.error());
  if (made.ok()) {
    Slot& s = **slot;
    // relaxed: the address is this thread's; published by R1.
    const SlotWord before(s.held.load(std::memory_order_relaxed));
    const SlotWord now(table_.TagAfter(before), SlotState::kLive);
    s.held_size.store(size, std::memory_order_relaxed);
    s.held_head.store(head, std::memory_order_relaxed);
    // R1, release: pairs with R2.
    s.held.store(now.bits(), std::memory_order_release);
    Core::Fence::Light();  // as in Show
    if (core_.IsOpen(std::memory_order_seq_cst)) {
      return Reservation{*first + head, size, now.tag()};
    }
    s.held.store(now.To(SlotState::kFree).bits(), std::memory_order_release);
    made = Error::kShutDown;
  }
  (void)iova_.Free(*first, pages).ok();
  core_.GiveQuota();
  return made.error();
}

template <class Policies>
Result<void> IommuSpace<Policies>::Matches(const Reservation& reservation,
                                           const Slot& slot,
                                           SlotWord now) const {
  if (!now.is_live()) return Error::kNotMapped;
  // relaxed: read behind the word, which the caller looks at once more.
  const bool same =
      now.tag() == reservation.tag &&
      slot.held_size.load(std::memory_order_relaxed) == reservation.size &&
      slot.held_head.load(std::memory_order_relaxed) ==
          page_.Offset(reservation.iova.value());
  return same ? Ok() : Result<void>(Error::kMismatch);
}

template <class Policies>
auto IommuSpace<Policies>::PinReservation(const Reservation& reservation)
    -> Result<Slot*> {
  Slot* const slot = table_.SlotAt(reservation.iova);
  if (slot == nullptr) return Error::kNotMapped;
  // R2, acquire: pairs with R1.
  std::uint64_t bits = slot->held.load(std::memory_order_acquire);
  for (;;) {
    const SlotWord now(bits);
    const auto same = Matches(reservation, *slot, now);
    if (!same.ok()) return same.error();
    if (now.pins() == SlotWord::kMostPins) return Error::kLimit;
    // acquire on both: R2.
    if (slot->held.compare_exchange_weak(bits, bits + SlotWord::kPin,
                                         std::memory_order_acquire,
                                         std::memory_order_acquire)) {
      return slot;
    }
  }
}

template <class Policies>
Result<void> IommuSpace<Policies>::EndReservation(
    const Reservation& reservation, Slot** slot) {
  *slot = table_.SlotAt(reservation.iova);
  if (*slot == nullptr) return Error::kNotMapped;
  std::uint64_t bits = (*slot)->held.load(std::memory_order_acquire);  // R2
  for (;;) {
    const SlotWord now(bits);
    const auto same = Matches(reservation, **slot, now);
    if (!same.ok()) return same;
    if (now.pins() != 0) return Error::kBusy;
    // R4, acquire: pairs with R3. acquire on failure: R2.
    if ((*slot)->held.compare_exchange_weak(
            bits, now.To(SlotState::kEnding).bits(), std::memory_order_acquire,
            std::memory_order_acquire)) {
      return Ok();
    }
  }
}

template <class Policies>
Result<void> IommuSpace<Policies>::Release(const Reservation& reservation) {
  Slot* slot = nullptr;
  const auto ended = EndReservation(reservation, &slot);
  if (!ended.ok()) return Refuse(ended.error());
  const SlotWord now(slot->held.load(std::memory_order_relaxed));  // our own
  // R1, release: pairs with R2.
  slot->held.store(now.To(SlotState::kFree).bits(), std::memory_order_release);
  core_.GiveQuota();
  // Nothing is linked, and the end of each link was invalidated.
  const std::uint64_t head = page_.Offset(reservation.iova.value());
  return iova_.Free(reservation.iova - head,
                    page_.PagesFor(head + reservation.size));
}

template <class Policies>
Result<Mapping> IommuSpace<Policies>::Link(const Reservation& reservation,
                                           std::uint64_t offset,
                                           PhysAddr buffer, std::uint64_t size,
                                           Direction direction,
                                           MapAttributes attributes) {
  const auto valid = ValidateMap(buffer, size, direction, attributes);
  if (!valid.ok()) return valid.error();
  const Result<Slot*> held = PinReservation(reservation);
  if (!held.ok()) return Refuse(held.error());
  // A page has one offset for the buffer and for its address.
  const Iova at = reservation.iova + offset;
  const std::uint64_t head = page_.Offset(at.value());
  const SlotShape shape(head, FillFor(direction, attributes), direction,
                        Has(attributes, MapAttributes::kDeviceOverwritesAll));
  bool kept = false;
  Result<Mapping> link = Error::kOutOfRange;
  if (offset < reservation.size && size <= reservation.size - offset) {
    link = head != page_.Offset(buffer.value())
               ? Error::kInvalidArgument
               : LinkAt(at, reservation, buffer, size, shape, &kept);
  }
  // In quarantine it keeps its pin, and with it the reservation's addresses.
  if (!link.ok() && !kept) UnpinReservation(**held);
  return link;
}

template <class Policies>
Result<Mapping> IommuSpace<Policies>::LinkAt(Iova at,
                                             const Reservation& reservation,
                                             PhysAddr buffer,
                                             std::uint64_t size,
                                             SlotShape shape, bool* kept) {
  if (!core_.TakeQuota()) return Error::kLimit;
  const Range body = *Range::FromSize(at, size);
  const Result<Slot*> slot = HoldPages(body, buffer, shape);
  Result<void> shown = slot.ok() ? Ok() : Result<void>(slot.error());
  std::uint64_t bytes = 0;
  if (shown.ok()) {
    const std::uint64_t behind =
        page_.Number(at) - page_.Number(reservation.iova);
    // relaxed: before the word (Become).
    (*slot)->linked.store(behind + 1, std::memory_order_relaxed);
    shown = Show(**slot, body, buffer, shape, &bytes, kept);
    if (!shown.ok() && !*kept) LetPagesGo(body, 1);
  }
  if (!shown.ok()) {
    core_.GiveQuota();
    return shown.error();
  }
  core_.counters.CountMap(shape.direction(), bytes);
  return Mapping{at, size, shape.direction(),
                 table_.Become(**slot, SlotState::kLive)};
}

// The slot of every page of `body`: until its end is invalidated, also in
// quarantine, no other link can have one. kOverlap: one is taken.
template <class Policies>
auto IommuSpace<Policies>::HoldPages(Range body, PhysAddr buffer,
                                     SlotShape shape) -> Result<Slot*> {
  const std::uint64_t pages = body.PagesTouchedMinusOne(page_) + 1;
  const Iova first = body.RoundOutToPages(page_).first();
  for (std::uint64_t i = 0; i < pages; ++i) {
    const Result<Slot*> slot = table_.Ensure(first + (i << page_.shift()));
    Result<void> held = slot.ok() ? Ok() : Result<void>(slot.error());
    const std::uint64_t size = i == 0 ? body.size() : 0;
    if (held.ok() && !table_.Begin(**slot, size, buffer, shape)) {
      held = Error::kOverlap;
    }
    if (held.ok()) continue;
    while (i-- > 0) {
      table_.Become(*table_.SlotAt(first + (i << page_.shift())),
                    SlotState::kFree);
    }
    return held.error();
  }
  return table_.SlotAt(first);
}

// From the page with number `from` of `body` on.
template <class Policies>
void IommuSpace<Policies>::LetPagesGo(Range body, std::uint64_t from) {
  const std::uint64_t pages = body.PagesTouchedMinusOne(page_) + 1;
  const Iova first = body.RoundOutToPages(page_).first();
  for (std::uint64_t i = from; i < pages; ++i) {
    table_.Become(*table_.SlotAt(first + (i << page_.shift())),
                  SlotState::kFree);
  }
}

template <class Policies>
Result<void> IommuSpace<Policies>::SyncLinks(const Reservation& reservation) {
  const Result<Slot*> held = PinReservation(reservation);
  if (!held.ok()) return Refuse(held.error());
  const Range all = *Range::FromSize(reservation.iova, reservation.size);
  const auto done = core_.invalidation.SyncMap(all.RoundOutToPages(page_));
  UnpinReservation(**held);
  return done;
}

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_IOMMU_LINKS_H_
