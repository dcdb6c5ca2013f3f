// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_IOMMU_END_H_
#define DMAMAP_DOMAIN_IOMMU_END_H_

// The second half of iommu_space.h: how mappings end, and what must hold
// between calls. Included by it alone.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "domain/iommu_space.h"

namespace dmamap::inline v0 {
namespace internal {

template <class Policies>
Result<void> IommuSpace<Policies>::End(std::span<const Mapping> mappings,
                                       MapAttributes attributes, bool links) {
  if (!AreKnown(attributes)) return Error::kInvalidArgument;
  const auto claimed = ClaimAll(
      mappings,
      [&](const Mapping& m, SlotState to) { return Take(m, to, links); },
      [&](const Mapping& m, SlotState to) { Become(m, to); });
  return claimed.ok() ? Finish(mappings, attributes, links)
                      : Refuse(claimed.error());
}

// Out of the tables, all; then one invalidation for all.
template <class Policies>
Result<void> IommuSpace<Policies>::Finish(std::span<const Mapping> mappings,
                                          MapAttributes attributes,
                                          bool links) {
  Result<void> gone;
  Range pages;
  std::size_t count = 0;
  for (const Mapping& m : mappings) {
    if (!Owns(m)) continue;
    ++count;
    pages = BodyOf(*table_.SlotAt(m.iova), m.iova).RoundOutToPages(page_);
    const auto r = core_.invalidation.Unmap(pages);
    if (!r.ok() && gone.ok()) gone = r;
  }
  if (count != 0 && gone.ok() && (links || !quarantine_.deferred())) {
    gone = count == 1 ? core_.invalidation.Invalidate(pages)
                      : core_.invalidation.InvalidateAll();
  }
  Result<void> result;
  for (const Mapping& m : mappings) {
    if (!Owns(m)) continue;
    const Result<void> r = EndOne(m, attributes, gone, links);
    if (!r.ok() && result.ok()) result = r;
  }
  return result;
}

template <class Policies>
Result<void> IommuSpace<Policies>::Take(const Mapping& mapping, SlotState to,
                                        bool link) {
  const Slot* const slot = table_.SlotAt(mapping.iova);
  if (slot == nullptr) return checker_.Refuse(Finding::kNotMapped);
  // relaxed: written before the word that this caller was told; if it is of a
  // later mapping, its word is not the caller's, and Take refuses.
  const bool is_link = slot->linked.load(std::memory_order_relaxed) != 0;
  if (is_link != link) {
    const SlotWord now(slot->word.load(std::memory_order_relaxed));
    return checker_.Refuse(now.is_live() ? Finding::kOther
                                         : Finding::kNotMapped);
  }
  const auto taken = checker_.Take(mapping, to);
  return taken.ok() ? Ok() : Result<void>(taken.error());
}

// `gone`: nothing of it can be reached any more, or, deferred, will be found
// from now on. REQUIRES: the mapping is kEnding, by this thread.
template <class Policies>
Result<void> IommuSpace<Policies>::EndOne(const Mapping& mapping,
                                          MapAttributes attributes,
                                          Result<void> gone, bool link) {
  Slot& slot = *table_.SlotAt(mapping.iova);
  const Range body = BodyOf(slot, mapping.iova);
  const Range pages = body.RoundOutToPages(page_);
  std::uint64_t bytes = 0;
  Result<void> copied;
  if (DrainsFor(ShapeOf(slot).direction(), attributes)) {
    copied = CopyOut(slot, body, body, &bytes);
  }
  core_.counters.CountUnmap(bytes);
  core_.GiveQuota();
  if (!gone.ok()) return Keep(slot, gone.error());
  Result<void> ended;
  if (!link && quarantine_.deferred()) {
    table_.Become(slot, SlotState::kRetired);
    ended = quarantine_.Put(pages.first(), pages.size() >> page_.shift());
    if (!ended.ok()) ended = Keep(slot, ended.error());
  } else {
    if (on_safe_ != nullptr) TellSafe(slot, body);
    ended = GiveBack(slot, pages, link);
  }
  return ended.ok() ? copied : ended;
}

template <class Policies>
Result<void> IommuSpace<Policies>::GiveBack(Slot& slot, Range pages,
                                            bool link) {
  FreePages(slot);
  // relaxed: the caller has the word.
  const std::uint64_t linked = slot.linked.load(std::memory_order_relaxed);
  if (link) LetPagesGo(pages, 1);
  table_.Become(slot, SlotState::kFree);
  if (!link) return iova_.Free(pages.first(), pages.size() >> page_.shift());
  UnpinReservation(
      *table_.SlotAt(pages.first() - ((linked - 1) << page_.shift())));
  return Ok();
}

// For ever.
template <class Policies>
Result<void> IommuSpace<Policies>::Keep(Slot& slot, Error error) {
  core_.CountQuarantined();
  table_.Become(slot, SlotState::kQuarantined);
  return error;
}

// What of the buffer the device could reach itself.
template <class Policies>
void IommuSpace<Policies>::TellSafe(const Slot& slot, Range body) const {
  const IommuLayout layout = LayoutOf(body);
  for (const IommuPart& part : layout.parts()) {
    const Result<Range> own = part.pages.Intersect(body);
    if (part.bounced || !own.ok()) continue;
    const auto memory = PhysRange::FromSize(
        BufferOf(slot) + (own->first() - body.first()), own->size());
    if (memory.ok()) on_safe_(safe_context_, *memory);
  }
}

template <class Policies>
bool IommuSpace<Policies>::CheckInvariants() const {
  bool good = quarantine_.CheckInvariants();
  ForEachMapping([&](const Shown& m) {
    good = good && m.word.pins() == 0;
    if (!m.word.is_live()) return;
    // A bounce page where, and only where, its layout has one.
    bool head = false;
    bool tail = false;
    const IommuLayout layout = LayoutOf(m.b.body);
    for (const IommuPart& part : layout.parts()) {
      head = head || (part.bounced && !part.at_tail);
      tail = tail || (part.bounced && part.at_tail);
    }
    const std::byte* const head_page = m.slot->head;
    const std::byte* const tail_page = m.slot->tail;
    good = good && head == (head_page != nullptr) &&
           tail == (tail_page != nullptr);
  });
  return good;
}

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_IOMMU_END_H_
