// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOMMU_VTD_H_
#define DMAMAP_IOMMU_VTD_H_

// VtdSpace: an address space of an Intel VT-d unit (the specification calls it
// a domain), as an IommuMap: the mapping backend of a Domain in every mode.
//
//   struct Policies : DomainPolicies {
//     using Pages = MyPages;                       // the device can reach them
//     using Invalidation = VtdSpace<VtdUnit<MyRegisters, MyMemory>>;
//   };
//   Domain<Policies> domain;
//   domain.invalidation().Init(&unit, {});
//   domain.invalidation().Attach(PciSource(0, 4, 0));
//   domain.Init({.mode = DomainMode::kUnalignedEnds});
//
// One Invalidate is one request to the unit, however many pages it covers: the
// aligned block around the range, or two where one would be far too large; for
// what no block covers, the whole space. The unit's caches of *tables* are kept
// (Agarwal et al., "Fast and Safe I/O Memory Protection", SOSP 2024) unless a
// table of the range was taken out. The block then covers all that the table
// did, none of which is mapped; and when the unit has answered, the table is
// freed. A table that was taken out may make the unit miss a *new* mapping
// beside it: SyncMap sees to that, and to units that cache "not mapped".
//
// Threads: all calls but Init and the destructor at any time; see
// second_level.h for what waits for what.

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "dma/address.h"
#include "dma/barrier.h"
#include "dma/direction.h"
#include "dma/iommu_map.h"
#include "dma/result.h"
#include "dma/version.h"
#include "iommu/fault_log.h"
#include "iommu/invalidation_queue.h"
#include "iommu/second_level.h"
#include "iommu/vtd_unit.h"

namespace dmamap::inline v0 {

struct VtdSpaceOptions {
  // Bits of I/O addresses that are wanted; 39 or fewer make do with three
  // levels where the unit has them.
  unsigned address_bits = 39;
  bool large_leaves = true;  // where the unit has them
  bool merges = true;        // SecondLevelOptions
};

template <class Unit>
class VtdSpace {
  using Memory = typename Unit::MemoryType;
  using Tables = SecondLevel<Memory, typename Unit::PoliciesType>;

 public:
  VtdSpace() = default;
  VtdSpace(const VtdSpace&) = delete;
  VtdSpace& operator=(const VtdSpace&) = delete;
  // Detaches what is attached. If the unit does not obey, the tables stay.
  ~VtdSpace() {
    if (unit_ == nullptr) return;
    if (unit_->DetachAll(id_).ok()) {
      unit_->GiveId(id_);
    } else {
      tables_.Abandon();
    }
  }

  // The unit must outlive this. kBusy the second time; kInvalidArgument;
  // kUnsupported for more bits than the unit has; kLimit for too many spaces;
  // as the memory fails.
  Result<void> Init(Unit* unit, const VtdSpaceOptions& options = {});

  // From now on the function reaches what is mapped here, and nothing else.
  // kBusy when it is attached to a space; kDevice, as the memory fails.
  Result<void> Attach(PciSource source) {
    if (unit_ == nullptr) return Error::kShutDown;
    return unit_->Attach(source, id_, tables_.root(), tables_.levels());
  }
  // It reaches nothing. kNotMapped; kDevice: it may still reach.
  Result<void> Detach(PciSource source) {
    if (unit_ == nullptr) return Error::kShutDown;
    return unit_->Detach(source, id_);
  }

  // --- IommuMap ---
  PageSize page() const { return PageSize(); }
  // Writes of devices to here are interrupts, whatever the tables say: Map
  // returns kOutOfRange. (VT-d specification, "Handling Requests to Interrupt
  // Address Range", 3.15 in revision 5.10.)
  static constexpr Range kInterrupts =
      *Range::FromFirstLast(Iova(0xfee0'0000), Iova(0xfeef'ffff));
  std::span<const Range> reserved() const { return {&kInterrupts, 1}; }

  // kOutOfRange also for memory that the device cannot reach. kDevice: a part
  // had been mapped when another failed, and the device may remember it: the
  // addresses must not be used again.
  Result<void> Map(Range range, PhysAddr memory, Permission permission);
  Result<void> SyncMap(Range range);
  Result<void> Unmap(Range range) { return tables_.Unmap(range); }
  Result<void> Invalidate(Range range);
  Result<void> InvalidateAll();

  // Gives every page of `range` another permission (not kNone). kNotMapped,
  // kNoMemory, kDevice. The device knows when it returns Ok.
  Result<void> Protect(Range range, Permission permission) {
    const auto done = tables_.Protect(range, permission);
    return done.ok() ? Invalidate(range) : done;
  }
  // What the device finds at `at`; kNotMapped.
  Result<IommuTranslation> Lookup(Iova at) { return tables_.Lookup(at); }

  std::uint16_t id() const { return id_; }
  // Invalidate and InvalidateAll since Init, and SyncMap where it had to; of
  // some moment. The unit counts what they were to it.
  std::uint64_t requests() const {
    return requests_.load(std::memory_order_relaxed);  // a statistic
  }
  Iova limit() const { return tables_.limit(); }
  SecondLevelStats stats() const { return tables_.stats(); }
  // REQUIRES: no other call is under way.
  bool CheckInvariants() const { return tables_.CheckInvariants(); }

 private:
  // Descriptors for a range; 1 or 2.
  struct Work {
    std::array<InvalidationDescriptor, 2> all;
    std::size_t count = 0;
    std::span<const InvalidationDescriptor> span() const {
      return std::span(all).first(count);
    }
  };
  Work WorkFor(Range range, TableCaches caches) const;
  Result<void> Submit(const Work& work) {
    requests_.fetch_add(1, std::memory_order_relaxed);  // a statistic
    return unit_->Submit(work.span());
  }
  Result<void> Forget(Range range, bool all, TableCaches caches);

  Unit* unit_ = nullptr;
  Tables tables_;
  std::uint16_t id_ = 0;
  typename Unit::PoliciesType::template Atom<std::uint64_t> requests_{0};
};

template <class Unit>
Result<void> VtdSpace<Unit>::Init(Unit* unit, const VtdSpaceOptions& options) {
  if (unit_ != nullptr) return Error::kBusy;
  if (unit == nullptr || options.address_bits == 0) {
    return Error::kInvalidArgument;
  }
  const Result<std::uint16_t> id = unit->TakeId();
  if (!id.ok()) return id.error();
  const VtdCapabilities& c = unit->capabilities();
  const bool three = c.three_levels && (options.address_bits <= 39);
  Result<void> made;
  if (options.address_bits > std::min(c.address_bits, 48u) ||
      (!three && !c.four_levels)) {
    made = Error::kUnsupported;
  } else {
    made = tables_.Init(&unit->memory(),
                        {.levels = three ? 3u : 4u,
                         .two_mib = c.two_mib && options.large_leaves,
                         .one_gib = c.one_gib && options.large_leaves,
                         .snoops = c.snoops,
                         .merges = options.merges,
                         .input_bits = c.address_bits,
                         .bus_bits = unit->options().bus_bits});
  }
  if (!made.ok()) {
    unit->GiveId(*id);
    return made;
  }
  unit_ = unit;
  id_ = *id;
  return Ok();
}

template <class Unit>
Result<void> VtdSpace<Unit>::Map(Range range, PhysAddr memory,
                                 Permission permission) {
  if (unit_ == nullptr) return Error::kShutDown;
  if (!range.IsPageAligned(page())) return Error::kInvalidArgument;
  if (range.last() > tables_.limit() || range.Overlaps(kInterrupts)) {
    return Error::kOutOfRange;
  }
  const auto all = PhysRange::FromSize(memory, range.size());
  if (!all.ok()) return Error::kOutOfRange;
  const Result<PhysAddr> bus = unit_->memory().ToBus(*all);
  if (!bus.ok()) return bus.error();
  std::uint64_t mapped = 0;
  const auto done = tables_.Map(range, *bus, permission, &mapped);
  if (done.ok() || mapped == 0) return done;
  const Range part = *Range::FromSize(range.first(), mapped);
  auto undone = tables_.Unmap(part);  // whole leaves: takes no memory
  if (undone.ok()) undone = Invalidate(part);
  return undone.ok() ? done : Result<void>(Error::kDevice);
}

template <class Unit>
Result<void> VtdSpace<Unit>::SyncMap(Range range) {
  if (unit_ == nullptr) return Error::kShutDown;
  DmaWriteBarrier();  // the tables before the device is told
  const VtdCapabilities& c = unit_->capabilities();
  if (c.caches_absent || tables_.MayRemember(range)) {
    return Forget(range, false, TableCaches::kForget);
  }
  return c.needs_buffer_flush ? unit_->FlushWriteBuffer() : Ok();
}

template <class Unit>
Result<void> VtdSpace<Unit>::Invalidate(Range range) {
  return Forget(range, false, TableCaches::kKeep);
}
template <class Unit>
Result<void> VtdSpace<Unit>::InvalidateAll() {
  return Forget(Range::Whole(), true, TableCaches::kKeep);
}

template <class Unit>
Result<void> VtdSpace<Unit>::Forget(Range range, bool all, TableCaches caches) {
  if (unit_ == nullptr) return Error::kShutDown;
  typename Tables::Batch batch;
  const bool took = tables_.TakeRetired(range, &batch);
  Range block = range;
  if (took && !all) block = RetiredList<Tables>::Hull(range, batch.covered);
  if (!all) block = tables_.Widen(block);
  // Also those whose own invalidation is still under way elsewhere.
  if (took || !(block == range) || tables_.MayRemember(range)) {
    caches = TableCaches::kForget;
  }
  const auto done = Submit(WorkFor(block, caches));
  if (took && done.ok()) tables_.FreeRetired(&batch);
  if (took && !done.ok()) tables_.PutBackRetired(&batch);
  return done;
}

template <class Unit>
auto VtdSpace<Unit>::WorkFor(Range range, TableCaches caches) const -> Work {
  const VtdCapabilities& c = unit_->capabilities();
  const std::uint64_t first = page().Number(range.first());
  const std::uint64_t last = page().Number(range.last());
  // Pages first to last are in one aligned block of 2^mask.
  const auto mask = [](std::uint64_t a, std::uint64_t b) {
    return static_cast<unsigned>(std::bit_width(a ^ b));
  };
  const auto pages = [&](std::uint64_t a, std::uint64_t b) {
    const unsigned m = mask(a, b);
    return vtd::ForgetPages(id_, Iova((a >> m << m) << page().shift()), m,
                            caches);
  };
  Work work;
  const unsigned one = mask(first, last);
  // A leaf is forgotten by a block that covers it, not by two halves.
  const std::uint64_t count = last - first + 1;
  constexpr unsigned kLeaf = Tables::kIndexBits;  // of 2^kLeaf pages, and twice
  const bool leaf_is_cut = (c.most_mask < kLeaf && count >> kLeaf != 0) ||
                           (c.most_mask < 2 * kLeaf && count >> 2 * kLeaf != 0);
  if (!c.page_selective || leaf_is_cut || range.last() > tables_.limit()) {
    work.all[work.count++] = vtd::ForgetDomain(id_);
    return work;
  }
  if (one <= c.most_mask && (std::uint64_t{1} << one) / 4 <= count) {
    work.all[work.count++] = pages(first, last);
    return work;
  }
  // Cut at the most aligned page inside: neither half's block is more than
  // twice what it has to cover.
  const std::uint64_t cut = last >> (one - 1) << (one - 1);
  if (std::max(mask(first, cut - 1), mask(cut, last)) > c.most_mask) {
    work.all[work.count++] = vtd::ForgetDomain(id_);
    return work;
  }
  work.all[work.count++] = pages(first, cut - 1);
  work.all[work.count++] = pages(cut, last);
  return work;
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOMMU_VTD_H_
