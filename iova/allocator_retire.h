// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_ALLOCATOR_RETIRE_H_
#define DMAMAP_IOVA_ALLOCATOR_RETIRE_H_

// The free in two steps of IovaAllocator: Retire, then Release or Restore.
// Included by iova/allocator.h alone.
//
// Between the two the range is in no magazine and not in the store; its tag
// says retired(n). Retire touches the tag alone: it needs no slot.

#include "iova/allocator.h"

namespace dmamap::inline v0 {

// Of every free that is not on the fast path.
template <RangeStore Store, CpuLocal Cpu, class Policy>
Result<void> IovaAllocator<Store, Cpu, Policy>::CheckArguments(
    Iova first, std::uint64_t pages) const {
  if (!ready_) return Error::kShutDown;
  if (pages == 0) return Error::kInvalidArgument;
  if (!page_.IsAligned(first.value())) return Error::kForeign;
  if constexpr (Policy::kFreeCheck == FreeCheck::kOff) {
    // Else nobody says so, and its pages and the guard's could wrap.
    if (pages > window_pages_) return Error::kForeign;
  }
  return Ok();
}

template <RangeStore Store, CpuLocal Cpu, class Policy>
Result<void> IovaAllocator<Store, Cpu, Policy>::Retire(Iova first,
                                                       std::uint64_t pages) {
  const Result<void> checked = CheckArguments(first, pages);
  if (!checked.ok()) return checked;
  const std::uint64_t page = page_.Number(first);
  const unsigned size_class = ClassOf(pages);
  if (size_class < kClasses) [[likely]] {
    typename Tags::Cell* cell = tags_.Find(page, size_class);
    if (cell != nullptr &&
        cell->Exchange(Tag::Live(pages), Tag::Retired(pages))) [[likely]] {
      return Ok();
    }
  }
  return tags_.Retire(page, pages, Tag::Retired(pages));
}

template <RangeStore Store, CpuLocal Cpu, class Policy>
Result<void> IovaAllocator<Store, Cpu, Policy>::Restore(Iova first,
                                                        std::uint64_t pages) {
  const Result<void> checked = CheckArguments(first, pages);
  if (!checked.ok()) return checked;
  return tags_.EndRetired(page_.Number(first), pages, Tags::LiveTag(pages));
}

template <RangeStore Store, CpuLocal Cpu, class Policy>
Result<void> IovaAllocator<Store, Cpu, Policy>::Release(Iova first,
                                                        std::uint64_t pages) {
  const Result<void> checked = CheckArguments(first, pages);
  if (!checked.ok()) return checked;
  const std::uint64_t page = page_.Number(first);
  if (ClassOf(pages) >= kClasses) return ReleaseToStore(page, pages);
  const SlotGuard<Cpu> guard(cpu_);
  return WithSlot(guard.slot(),
                  [&](std::size_t n) { return ReleaseCached(n, page, pages); });
}

// REQUIRES: the caller owns slot n of the cache.
template <RangeStore Store, CpuLocal Cpu, class Policy>
Result<void> IovaAllocator<Store, Cpu, Policy>::ReleaseCached(
    std::size_t n, std::uint64_t page, std::uint64_t pages) {
  typename Cache::Slot* owned = cache_.Obtain(n);
  if (owned == nullptr) return ReleaseToStore(page, pages);
  const unsigned size_class = ClassOf(pages);
  Bin& bin = owned->bin[size_class];
  const BinVisit visit(bin);
  const bool missed = bin.loaded == nullptr || bin.loaded->full();
  if (!MakeRoom(*owned, size_class)) return ReleaseToStore(page, pages);
  const Tag cached = Tag::Cached(bin.loaded->number());
  typename Tags::Cell* cell = tags_.Find(page, size_class);
  // One caller releases what was retired once: nobody else changes the tag,
  // but for the frees at the same instant of FreeCheck::kOrdered.
  if (Policy::kFreeCheck == FreeCheck::kOrdered && cell != nullptr &&
      cell->Is(Tag::Retired(pages))) [[likely]] {
    cell->Store(cached);
  } else {
    const Result<void> ended = tags_.EndRetired(page, pages, cached);
    if (!ended.ok()) return ended;
  }
  bin.loaded->Push({page << shift_, cell});
  bin.visit_frees.Add();
  if (missed) bin.free_misses.Add();
  return Ok();
}

template <RangeStore Store, CpuLocal Cpu, class Policy>
Result<void> IovaAllocator<Store, Cpu, Policy>::ReleaseToStore(
    std::uint64_t page, std::uint64_t pages) {
  const Guard<LockType> guard(store_lock_);
  const Result<void> ended = tags_.EndRetired(page, pages, Tag::Released());
  if (!ended.ok()) return ended;
  const Result<void> freed = store_.Free(page, PagesHeld(pages));
  if (!freed.ok()) return freed;  // with FreeCheck::kOff alone
  const unsigned size_class = std::min(ClassOf(pages), kClasses);
  ++to_store_[size_class];
  ++direct_frees_[size_class];
  return Ok();
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_ALLOCATOR_RETIRE_H_
