// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_STREAM_H_
#define DMAMAP_DOMAIN_STREAM_H_

// The stream space of a domain: buffers seen through bounce pages. An inner
// header; domain.h says what each call promises.
//
// No lock: the word of a mapping's first slot says whose it is (bounce/slot.h).
//   Map      from the allocator's answer until kLive: this thread's. From
//            kFilling on, faults fill pages from it.
//   live     the device's; a sync pins the word while it copies.
//   Unmap    from kEnding until the address is freed: this thread's. Slots
//            alone on their pages are parked then, for its next mapping.
// A page that several mappings share may appear at any moment. Map and faults
// find each other as bounce/page_table.h says. Unmap settles its pages and
// notes which of the two outer ones (only those can be shared) are there: from
// one that comes later it copies nothing back, as it was never filled from this
// mapping, and no device wrote to it.
//
// Order of Unmap: word kEnding, so that no new access begins; Invalidate, so
// that none goes on; only then copy back, from memory that nobody changes; then
// the address; and last the word, which a Map that gets the address waits for.
// If the invalidation fails, address and pages stay taken for ever. Deferred
// (FlushMode), nobody waits for it: the bytes are copied back at once, and the
// slots, with what a device may write there meanwhile, wait in the Quarantine.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "bounce/bounce.h"
#include "bounce/slot.h"
#include "dma/address.h"
#include "dma/cpu.h"
#include "dma/direction.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"
#include "domain/checker.h"
#include "domain/core.h"
#include "domain/options.h"
#include "domain/owner.h"
#include "domain/owner_addresses.h"
#include "domain/parked_slots.h"
#include "domain/quarantine.h"
#include "domain/validate.h"

namespace dmamap::inline v0 {
namespace internal {

template <class Policies>
class StreamSpace {
  using Core = DomainCore<Policies>;
  using BounceType = Bounce<typename Policies::Pages, typename Policies::Memory,
                            Policies::template Atom, typename Core::Fence>;
  using Checker = StreamChecker<BounceType, Policies::kCheckMappings>;
  using Slot = typename BounceType::Slot;
  using Addresses = OwnerAddresses<typename Policies::Allocator>;
  using Counters = decltype(Core::counters);
  using Parked = typename Counters::Parked::Entry;
  using Held = typename Counters::Held;
  using Line = typename Counters::Line;

 public:
  using Shown = typename BounceType::Shown;

  explicit StreamSpace(Core& core)
      : core_(core),
        bounce_(core.pages, core.memory),
        checker_(bounce_),
        listener_(&OnRetired, this),
        quarantine_(iova_, *this) {}
  ~StreamSpace() {
    if (parks_) core_.counters.cpu().Unsubscribe(listener_);
  }

  // REQUIRES: Domain::Init checked the options; the counters are ready.
  Result<void> Init(const DomainOptions& o);

  [[gnu::always_inline]] Result<Mapping> Map(PhysAddr buffer,
                                             std::uint64_t size,
                                             Direction direction,
                                             MapAttributes attributes,
                                             BufferOwner owner) {
    const Result<void> valid = ValidateMap(buffer, size, direction, attributes);
    if (!valid.ok()) [[unlikely]]
      return valid.error();
    if (owner != BufferOwner{} && !iova_.Knows(owner)) [[unlikely]]
      return Error::kInvalidArgument;
    const std::uint64_t head = buffer.value() & min_align_mask_;
    // FillFor: a valid kDeviceOverwritesAll goes with kFromDevice.
    const BounceFill fill = attributes == MapAttributes::kNone
                                ? BounceFill::kOriginal
                                : BounceFill::kZero;
    const SlotShape shape(head, fill, direction,
                          Has(attributes, MapAttributes::kDeviceOverwritesAll));
    const Result<Made> made =
        IsAlone(head, size) ? MapSlot(buffer, size, direction, shape, owner)
                            : MapPages(buffer, size, shape, owner);
    if (!made.ok()) [[unlikely]]
      return made.error();
    return Mapping{made->first + head, size, direction, made->tag};
  }

  // All or nothing. REQUIRES: `mappings` is not empty.
  [[gnu::always_inline]] Result<void> Unmap(std::span<const Mapping> mappings,
                                            MapAttributes attributes) {
    if (!AreKnown(attributes)) return Error::kInvalidArgument;
    if (mappings.size() != 1) return UnmapAll(mappings, attributes);
    // One by one, and once: behind the exchange they would be read again.
    const Mapping& m = mappings[0];
    const Mapping mapping = {m.iova, m.size, m.direction, m.tag};
    const std::uint64_t head = page_.Offset(mapping.iova.value());
    const auto [has_own, line] = core_.counters.OwnLine();
    if (has_own && IsAlone(head, mapping.size)) [[likely]] {
      Slot* const slot = bounce_.SlotAt(mapping.iova);
      if (Checker::TryTake(slot, head, mapping, SlotState::kEnding)) [[likely]]
        return FinishSlot(*slot, mapping, head, attributes, *line);
    }
    return UnmapOther(m, attributes);
  }

  Result<void> SyncForCpu(const Mapping& mapping, std::uint64_t offset,
                          std::uint64_t size);
  Result<void> SyncForDevice(const Mapping& mapping, std::uint64_t offset,
                             std::uint64_t size);

  // The mapping that `at` is a byte of, if a device may use it; kNotMapped.
  Result<Shown> LookUp(Iova at) const;
  // False when it has ended since it was found.
  bool IsStill(const Shown& m) const;

  // The page of `at`, made if need be. `allowed()` -> Result<void> is asked
  // before, and again when the page is made.
  template <class Allowed>
  Result<std::byte*> Touch(Iova at, Allowed&& allowed);

  // What the mappings on the page of `at` allow, together; kNotMapped if there
  // is none.
  Result<Permission> PagePermission(Iova at) const;

  Range PageRange(Iova at) const { return bounce_.PageRange(at); }
  Result<std::uint64_t> Reclaim(Range pages) { return bounce_.Reclaim(pages); }
  std::uint64_t ReclaimIdle() { return bounce_.ReclaimIdle(); }
  Result<std::uint64_t> SwapPages(PageHome to) {
    if (const auto r = Flush(); !r.ok()) return r.error();
    return bounce_.SwapPages(to, [this](Range range) {
      return core_.invalidation.Invalidate(range);
    });
  }

  // f(const Shown&) for each mapping of any state, in order of addresses.
  template <class F>
  void ForEachMapping(F&& f) const {
    bounce_.ForEachMapping(f);
  }
  // True while a mapping is live, or made or ended by a call. REQUIRES: no new
  // one can come to be live (DomainPhase).
  bool IsInUse() const;
  // Gives up every live mapping: pages and address stay taken. REQUIRES: no
  // other call is under way.
  void Abandon();

  // Invalidates for all that was unmapped before.
  Result<void> Flush() { return quarantine_.Drain(); }
  Result<void> Poll() { return quarantine_.Poll(); }
  SafetyTicket Ticket() { return quarantine_.Ticket(); }
  bool IsOver(SafetyTicket ticket) const { return quarantine_.IsOver(ticket); }
  std::uint64_t waiting() const { return quarantine_.size(); }
  void AddTo(RefusedCalls& calls) const { checker_.AddTo(calls); }
  // The quarantine's. Under a ring's lock.
  Result<void> InvalidateAll() { return core_.invalidation.InvalidateAll(); }
  void Released(Iova first) {
    bounce_.Vacate(*bounce_.SlotAt(first), SlotState::kFree);
  }

  // REQUIRES: no call is under way.
  bool CheckInvariants() const;

 private:
  static Range Part(const Mapping& mapping, std::uint64_t offset,
                    std::uint64_t size) {
    return *Range::FromSize(mapping.iova + offset, size);
  }
  // REQUIRES: the slot is a mapping's that stays.
  static PhysAddr BufferOf(const Slot& slot) {
    // relaxed: read behind the word.
    return PhysAddr(slot.buffer.load(std::memory_order_relaxed));
  }
  static SlotShape ShapeOf(const Slot& slot) {
    return SlotShape(slot.shape.load(std::memory_order_relaxed));  // likewise
  }

  Range SlotOf(Iova at) const { return Range::Byte(at).RoundOutToPages(page_); }
  // Whether a mapping is one slot, on a page of its own.
  bool IsAlone(std::uint64_t head, std::uint64_t size) const {
    return size <= alone_ && head <= alone_ - size;
  }

  // Where a mapping's slots begin, and its tag.
  struct Made {
    Iova first;
    std::uint32_t tag;
  };
  // Slots taken, and whether a sample of the counters is due.
  struct Counted {
    Parked at;
    bool due = false;
  };
  // The parts of Map: stream_map.h.
  [[gnu::always_inline]] inline Result<Made> MapSlot(PhysAddr buffer,
                                                     std::uint64_t size,
                                                     Direction direction,
                                                     SlotShape shape,
                                                     BufferOwner owner);
  [[gnu::noinline]] Result<Made> MapOtherSlot(PhysAddr buffer,
                                              std::uint64_t size,
                                              SlotShape shape,
                                              BufferOwner owner);
  [[gnu::always_inline]] inline Result<Made> MakeSlot(
      Slot& slot, Iova first, SlotWord word, std::uint64_t size,
      PhysAddr buffer, SlotShape shape, std::uint64_t* bytes);
  [[gnu::noinline]] Result<Made> MapPages(PhysAddr buffer, std::uint64_t size,
                                          SlotShape shape, BufferOwner owner);
  [[gnu::always_inline]] inline Result<Counted> Take(std::uint64_t pages,
                                                     Direction direction,
                                                     BufferOwner owner);
  [[gnu::always_inline]] inline void CountMade(const Counted& taken,
                                               std::uint64_t bytes);
  [[gnu::noinline]] Result<Parked> TakeSlots(BufferOwner owner,
                                             std::uint64_t pages);
  Result<Iova> TakeAddress(BufferOwner owner, std::uint64_t pages);
  [[gnu::noinline]] Error TakeBack(Range slots, Slot& slot, Direction direction,
                                   Result<void> shown);
  [[gnu::noinline]] Error GiveBack(Range slots, Slot* slot, Error error);

  Error Refuse(Error error) { return core_.RefuseStream(error); }

  // The parts of Unmap: stream_unmap.h.
  struct Drain {
    bool any = false;
    Range range;  // of the body
  };
  [[gnu::noinline]] Result<void> UnmapOther(const Mapping& mapping,
                                            MapAttributes attributes);
  [[gnu::noinline]] Result<void> UnmapAll(std::span<const Mapping> mappings,
                                          MapAttributes attributes);
  Drain PlanDrain(const Mapping& mapping, MapAttributes attributes) const;
  [[gnu::noinline]] Result<void> FinishUnmap(Slot& slot, const Mapping& mapping,
                                             MapAttributes attributes);
  [[gnu::always_inline]] inline Result<void> FinishSlot(
      Slot& slot, const Mapping& mapping, std::uint64_t head,
      MapAttributes attributes, Line& line);
  [[gnu::noinline]] Result<void> FinishOtherSlot(Slot& slot,
                                                 const Mapping& mapping,
                                                 MapAttributes attributes);
  template <class Count>
  [[gnu::always_inline]] inline Result<void> DrainSlot(Slot& slot,
                                                       const Mapping& mapping,
                                                       MapAttributes attributes,
                                                       Result<void>* copied,
                                                       Count&& count);
  Result<void> Finish(Slot& slot, const Mapping& mapping,
                      MapAttributes attributes) {
    return IsAlone(page_.Offset(mapping.iova.value()), mapping.size)
               ? FinishOtherSlot(slot, mapping, attributes)
               : FinishUnmap(slot, mapping, attributes);
  }
  [[gnu::noinline]] Result<void> End(Slot& slot, Range slots,
                                     std::uint64_t pages, Result<void> gone,
                                     std::uint64_t bytes);
  [[gnu::always_inline]] inline void Park(Parked at, std::uint64_t pages,
                                          std::uint64_t bytes, Line& line);
  Result<void> EndOrPark(Slot& slot, Range slots, std::uint64_t pages,
                         Result<void> gone, std::uint64_t bytes,
                         std::uint32_t tag);
  void MakeRoom(std::uint64_t pages);
  static std::uint32_t TagOf(const Slot& slot, std::uint32_t tag);
  bool Unpark();
  bool UnparkRuns();
  static void OnRetired(void* self, std::size_t n);
  bool CheckParked() const;

  // Has every page of `part` made. REQUIRES: its mapping is live and pinned.
  Result<void> MakePages(Range part);

  static bool IsBusy(SlotWord word) {
    return word.state() != SlotState::kQuarantined &&
           word.state() != SlotState::kRetired;
  }
  // The invalidation of an Unmap, or what stands for it.
  Result<void> Invalidate(Range slots) {
    return quarantine_.deferred() ? Ok() : core_.invalidation.Invalidate(slots);
  }
  [[gnu::noinline]] Result<void> Retire(Slot& slot, Range slots,
                                        std::uint64_t pages);

  Core& core_;
  BounceType bounce_;
  Checker checker_;
  Addresses iova_;
  PageSize page_;  // what a mapping is rounded out to
  std::uint64_t min_align_mask_ = 0;
  std::uint64_t alone_ = 0;  // bytes of a slot that is a page; 0: none is
  // Whether slots are kept by who ended their mapping (parked_slots.h), and
  // how many each may keep in runs.
  bool parks_ = false;
  std::uint64_t most_in_runs_ = 0;
  SlotListener listener_;
  // Last: it is drained first.
  Quarantine<Policies, StreamSpace, Addresses> quarantine_;
};

}  // namespace internal
}  // namespace dmamap::inline v0

#include "domain/stream_look.h"   // IWYU pragma: export
#include "domain/stream_map.h"    // IWYU pragma: export
#include "domain/stream_sync.h"   // IWYU pragma: export
#include "domain/stream_unmap.h"  // IWYU pragma: export

#endif  // DMAMAP_DOMAIN_STREAM_H_
