// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_ALLOCATOR_FAST_H_
#define DMAMAP_IOVA_ALLOCATOR_FAST_H_

// The fast paths of IovaAllocator: a pop of the slot's loaded magazine, and a
// checked push. What they cannot serve returns false and has changed nothing.
// Included by iova/allocator.h alone.

#include "iova/allocator.h"

namespace dmamap::inline v0 {

// True when the cached range at `first` meets the constraints. Cached ranges
// are aligned to their size.
template <RangeStore Store, CpuLocal Cpu, class Policy>
bool IovaAllocator<Store, Cpu, Policy>::Suits(Iova first, std::uint64_t pages,
                                              const Constraints& c) const {
  if ((c.alignment & (c.alignment - 1)) != 0) return false;
  if ((c.alignment >> shift_) > pages) return false;
  // An aligned entry crosses no boundary of at least its size; none is 2^64.
  if ((c.boundary & (c.boundary - 1)) != 0) return false;
  if (c.boundary - 1 < (pages << shift_) - 1) return false;
  if (first < c.first) return false;
  const Iova last(first.value() + ((pages << shift_) - 1));
  return last <= c.limit && last <= c.preferred_limit;
}

// Fast path of Allocate: the newest entry of `loaded`, if it suits and its
// tag says that it belongs there.
template <RangeStore Store, CpuLocal Cpu, class Policy>
template <class Filter>
inline bool IovaAllocator<Store, Cpu, Policy>::TakeNewest(std::size_t slot,
                                                          std::uint64_t pages,
                                                          Filter&& suits,
                                                          Iova& first) {
  if (!IsCached(slot, pages)) [[unlikely]]
    return false;
  Bin& bin = cache_.SlotOf(slot).bin[CachedClassOf(pages)];
  const typename Bin::Fill fill = bin.fill();
  if (!fill.has_entry()) [[unlikely]]
    return false;
  const typename Cache::Entry entry = bin.Top(fill);
  if (!suits(Iova(entry.first))) [[unlikely]]
    return false;
  if (!entry.cell->Is(bin.tag)) [[unlikely]]
    return false;
  entry.cell->Store(Tag::Live(pages));
  bin.Pop(fill);
  first = Iova(entry.first);
  return true;
}

// Fast path of Free: a live range of this size, and room for it.
template <RangeStore Store, CpuLocal Cpu, class Policy>
inline bool IovaAllocator<Store, Cpu, Policy>::PutNewest(std::size_t slot,
                                                         Iova first,
                                                         std::uint64_t pages) {
  if (!IsCached(slot, pages)) [[unlikely]]
    return false;
  return PutChecked(cache_.SlotOf(slot), first, pages);
}

// REQUIRES: a cached size; the caller owns the slot.
template <RangeStore Store, CpuLocal Cpu, class Policy>
inline bool IovaAllocator<Store, Cpu, Policy>::PutChecked(Slot& slot,
                                                          Iova first,
                                                          std::uint64_t pages) {
  const unsigned size_class = CachedClassOf(pages);
  Bin& bin = slot.bin[size_class];
  const typename Bin::Fill fill = bin.fill();
  if (!fill.has_room()) [[unlikely]]
    return false;
  if constexpr (Policy::kFreeCheck == FreeCheck::kOff) {
    if (!page_.IsAligned(first.value())) return false;
  }
  Cell* cell = tags_.Find(first.value(), shift_, size_class, slot.hint);
  if (cell == nullptr) [[unlikely]]
    return false;
  if constexpr (Policy::kFreeCheck == FreeCheck::kExact) {
    if (!cell->Exchange(Tag::Live(pages), bin.tag)) return false;
  } else {
    if (!cell->Is(Tag::Live(pages))) [[unlikely]]
      return false;
    cell->Store(bin.tag);
  }
  bin.Push(fill, {first.value(), cell});
  return true;
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_ALLOCATOR_FAST_H_
