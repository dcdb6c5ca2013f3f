// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_IOMMU_SPACE_H_
#define DMAMAP_DOMAIN_IOMMU_SPACE_H_

// IommuSpace: buffers that a device reaches through page tables (IommuMap), all
// of them directly, or with bounce pages at their unaligned ends, or with
// bounce pages alone. An inner header; domain.h says what each call promises.
//
// Map      address; record (kFilling); bounce pages, zero, then filled; tables;
//          kLive. A hostile device may be at it as soon as the tables are: by
//          then everything in its reach is as it shall be.
// Unmap    kEnding, by one thread; tables; then, as the policy has it,
//   strict     Invalidate; copy back; bounce pages, word and address are free.
//              If it fails, all three stay taken for ever, and so must what the
//              device reaches of the buffer: the caller is told by the error.
//   deferred   copy back at once, whatever the device writes later stays on the
//              bounce page; kRetired; all else waits in the Quarantine. What it
//              reaches of the buffer itself is safe when that is over: Ticket,
//              or the callback `on_safe`.
//
// The two-step form takes addresses first (Reserve) and puts buffers behind
// them later (iommu_links.h). A link is a mapping that does not own its
// address, and its end is always strict.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "bounce/bounce.h"
#include "bounce/copy.h"
#include "bounce/slot.h"
#include "dma/address.h"
#include "dma/direction.h"
#include "dma/iommu_map.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"
#include "domain/checker.h"
#include "domain/claim.h"
#include "domain/core.h"
#include "domain/iommu_slot.h"
#include "domain/mode.h"
#include "domain/options.h"
#include "domain/quarantine.h"
#include "domain/slot_table.h"
#include "domain/validate.h"

namespace dmamap::inline v0 {
namespace internal {

template <class Policies>
class IommuSpace {
  using Core = DomainCore<Policies>;
  using Backend = typename Policies::Invalidation;
  using Table =
      SlotTable<IommuSlot<Policies::template Atom>, Policies::template Atom>;
  using Checker = StreamChecker<Table, Policies::kCheckMappings>;
  using Slot = typename Table::Slot;
  static_assert(IommuMap<Backend>);

 public:
  using Shown = typename Table::Shown;

  explicit IommuSpace(Core& core)
      : core_(core), checker_(table_), quarantine_(iova_, *this) {}
  // REQUIRES: no device can reach it any more. What waits is drained, or kept
  // until here.
  ~IommuSpace() {
    (void)quarantine_.Drain().ok();
    table_.ForEachSlot([this](Iova, Slot& slot) { FreePages(slot); });
  }

  // REQUIRES: Domain::Init checked the options; `window` is whole pages.
  Result<void> Init(const DomainOptions& o, Range window, Cover cover) {
    page_ = o.page;
    cover_ = cover;
    on_safe_ = o.on_safe;
    safe_context_ = o.safe_context;
    Core::Fence::Prepare();
    const auto made = table_.Init(window, page_, Checker::FirstTag());
    if (!made.ok()) return made;
    const auto iova = iova_.Init({.window = window,
                                  .page = page_,
                                  .reserved = ReservedBy(core_.invalidation)});
    return iova.ok() ? quarantine_.Init(o.flush) : iova;
  }
  Range window() const { return table_.window(); }

  Result<Mapping> Map(PhysAddr buffer, std::uint64_t size, Direction direction,
                      MapAttributes attributes);
  // The steps of Unmap, for a list of which this space owns some: all of these
  // are taken (StreamChecker::Take), then kEnding, then finished.
  bool Owns(const Mapping& m) const { return table_.window().Contains(m.iova); }
  Result<void> Take(const Mapping& mapping, SlotState to, bool link = false);
  void Become(const Mapping& mapping, SlotState to) {
    table_.Become(*table_.SlotAt(mapping.iova), to);
  }
  Result<void> Finish(std::span<const Mapping> mappings,
                      MapAttributes attributes, bool links = false);
  // All or nothing. REQUIRES: `mappings` is not empty.
  Result<void> Unmap(std::span<const Mapping> mappings,
                     MapAttributes attributes) {
    return End(mappings, attributes, false);
  }
  Result<void> SyncForCpu(const Mapping& mapping, std::uint64_t offset,
                          std::uint64_t size);
  Result<void> SyncForDevice(const Mapping& mapping, std::uint64_t offset,
                             std::uint64_t size);

  // iommu_links.h
  Result<Reservation> Reserve(std::uint64_t size, PhysAddr like);
  Result<Mapping> Link(const Reservation& reservation, std::uint64_t offset,
                       PhysAddr buffer, std::uint64_t size, Direction direction,
                       MapAttributes attributes);
  Result<void> SyncLinks(const Reservation& reservation);
  Result<void> Unlink(std::span<const Mapping> links,
                      MapAttributes attributes) {
    return End(links, attributes, true);
  }
  Result<void> Release(const Reservation& reservation);

  // Invalidates for all that was unmapped before.
  Result<void> Flush() { return quarantine_.Drain(); }
  Result<void> Poll() { return quarantine_.Poll(); }
  SafetyTicket Ticket() { return quarantine_.Ticket(); }
  bool IsOver(SafetyTicket t) const { return quarantine_.IsOver(t); }
  std::uint64_t waiting() const { return quarantine_.size(); }
  void AddTo(RefusedCalls& calls) const { checker_.AddTo(calls); }

  // f(const Shown&) for each mapping of any state, in order of addresses.
  template <class F>
  void ForEachMapping(F&& f) const {
    table_.ForEachMapping(f);
  }
  // f(range, tag) for each reservation.
  template <class F>
  void ForEachReservation(F&& f) const {
    table_.ForEachSlot([&](Iova first, Slot& slot) {
      // R2, acquire: pairs with R1.
      const SlotWord held(slot.held.load(std::memory_order_acquire));
      // relaxed: written before the word, or worth little.
      const auto range = Range::FromSize(
          first + slot.held_head.load(std::memory_order_relaxed),
          slot.held_size.load(std::memory_order_relaxed));
      if (held.is_live() && range.ok()) f(*range, held.tag());
    });
  }
  bool IsInUse() const {
    bool used = false;
    std::uint64_t retired = 0;
    ForEachMapping([&](const Shown& m) {
      const SlotState state = m.word.state();
      retired += state == SlotState::kRetired ? 1 : 0;
      used = used ||
             (state != SlotState::kQuarantined && state != SlotState::kRetired);
    });
    ForEachReservation([&](Range, std::uint32_t) { used = true; });
    // One that is not in the queue yet: its Unmap is under way.
    return used || retired > waiting();
  }
  // Gives up every live mapping: all it has stays taken. REQUIRES: no other
  // call is under way.
  void Abandon() {
    ForEachMapping([this](const Shown& m) {
      if (!m.word.is_live()) return;
      (void)core_.invalidation.Unmap(m.b.slots).ok();
      core_.CountQuarantined();
      core_.counters.CountUnmap(0);
      table_.Become(*m.slot, SlotState::kQuarantined);
    });
    table_.ForEachSlot([](Iova, Slot& slot) {
      slot.held.store(0, std::memory_order_relaxed);  // nobody else calls
    });
  }

  // The quarantine's.
  Result<void> InvalidateAll() { return core_.invalidation.InvalidateAll(); }
  // What lies behind a retired address. Under a ring's lock.
  void Released(Iova first) {
    Slot& slot = *table_.SlotAt(first);
    if (on_safe_ != nullptr) TellSafe(slot, BodyOf(slot, first));
    FreePages(slot);
    table_.Become(slot, SlotState::kFree);
  }

  // REQUIRES: no call is under way.
  bool CheckInvariants() const;

 private:
  IommuLayout LayoutOf(Range body) const {
    return IommuLayout(cover_, page_, body);
  }
  // By the record. REQUIRES: the caller has the slot's word, or a pin on it.
  Range BodyOf(const Slot& slot, Iova at) const {
    // relaxed: read behind the word.
    return *Range::FromSize(
        Iova(page_.RoundDown(at.value())) + ShapeOf(slot).head(),
        slot.size.load(std::memory_order_relaxed));
  }

  // Making: record, bounce pages, tables. Ends kFilling; or it has undone all,
  // and `slot` is kFree, or, *kept, in quarantine with the error of that.
  Result<void> Show(Slot& slot, Range body, PhysAddr buffer, SlotShape shape,
                    std::uint64_t* bytes, bool* kept);
  Result<void> MakePages(Slot& slot, const IommuLayout& layout);
  Result<void> FillPages(Slot& slot, Range body, PhysAddr buffer,
                         SlotShape shape, std::uint64_t* bytes);
  Result<void> MapParts(const Slot& slot, const IommuLayout& layout, Range body,
                        PhysAddr buffer, SlotShape shape, std::size_t* mapped);
  // Undoes the first `mapped` parts, and the record; else quarantine.
  Result<void> Undo(Slot& slot, const IommuLayout& layout, std::size_t mapped);

  std::byte* MemoryOf(const Slot& slot, const IommuPart& part) const {
    return part.at_tail ? slot.tail : slot.head;
  }
  // f(device's bytes, the buffer's address, how many) -> Result<void> for each
  // piece of `part`, a part of `body`, that the device sees on a bounce page.
  template <class F>
  Result<void> ForEachBounced(const Slot& slot, Range body, Range part,
                              PhysAddr buffer, F&& f) const;
  Result<void> CopyOut(const Slot& slot, Range body, Range part,
                       std::uint64_t* bytes);
  Result<void> CopyIn(const Slot& slot, Range body, Range part,
                      std::uint64_t* bytes);
  void FreePages(Slot& slot);

  // Ending.
  Result<void> End(std::span<const Mapping> mappings, MapAttributes attributes,
                   bool links);
  Result<void> EndOne(const Mapping& mapping, MapAttributes attributes,
                      Result<void> gone, bool link);
  Result<void> GiveBack(Slot& slot, Range pages, bool link);
  Result<void> Keep(Slot& slot, Error error);
  void TellSafe(const Slot& slot, Range body) const;

  // iommu_links.h
  Result<Slot*> PinReservation(const Reservation& reservation);
  Result<void> EndReservation(const Reservation& reservation, Slot** slot);
  Result<void> Matches(const Reservation& reservation, const Slot& slot,
                       SlotWord now) const;
  Result<Mapping> LinkAt(Iova at, const Reservation& reservation,
                         PhysAddr buffer, std::uint64_t size, SlotShape shape,
                         bool* kept);
  Result<Slot*> HoldPages(Range body, PhysAddr buffer, SlotShape shape);
  void LetPagesGo(Range body, std::uint64_t from);
  void UnpinReservation(Slot& reservation) {
    // R3, release: pairs with R4. The link is over before the reservation is.
    reservation.held.fetch_sub(SlotWord::kPin, std::memory_order_release);
  }

  Error Refuse(Error error) { return core_.RefuseStream(error); }

  Core& core_;
  Table table_;
  Checker checker_;
  typename Policies::Allocator iova_;
  PageSize page_;
  Cover cover_ = Cover::kAll;
  void (*on_safe_)(void* context, PhysRange memory) = nullptr;
  void* safe_context_ = nullptr;
  // Last: it is drained first.
  Quarantine<Policies, IommuSpace> quarantine_;
};

}  // namespace internal
}  // namespace dmamap::inline v0

#include "domain/iommu_end.h"    // IWYU pragma: export
#include "domain/iommu_links.h"  // IWYU pragma: export
#include "domain/iommu_show.h"   // IWYU pragma: export

#endif  // DMAMAP_DOMAIN_IOMMU_SPACE_H_
