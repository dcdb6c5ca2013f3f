// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_ALLOCATOR_CHECK_H_
#define DMAMAP_IOVA_ALLOCATOR_CHECK_H_

// stats() and CheckInvariants() of IovaAllocator. Included by iova/allocator.h
// alone.
//
// The fast path counts allocations and frees, nothing else; what is live and
// what is cached follows from these and from what left the store. An entry that
// is dropped after a late double free was freed once too often, so it counts
// as an allocation. A retired range counts as live until it is released.

#include "iova/allocator.h"

namespace dmamap::inline v0 {

template <RangeStore Store, CpuLocal Cpu, class Policy>
auto IovaAllocator<Store, Cpu, Policy>::stats() const -> Stats {
  Stats s;
  const Guard<LockType> guard(store_lock_);
  std::array<std::uint64_t, kClasses> dropped = dropped_;
  for (std::size_t n = 0; n < cache_.slots(); ++n) {
    const typename Cache::Slot* slot = cache_.Find(n);
    if (slot == nullptr) continue;
    for (unsigned c = 0; c < kClasses; ++c) {
      const Bin& bin = slot->bin[c];
      ClassStats& sum = s.size_class[c];
      sum.allocations += bin.allocations();
      sum.frees += bin.frees();
      sum.alloc_misses += bin.alloc_misses.value();
      sum.free_misses += bin.free_misses.value();
      sum.depot_takes += bin.depot_takes.value();
      sum.depot_puts += bin.depot_puts.value();
      dropped[c] += bin.dropped.value();
    }
  }
  for (unsigned c = 0; c <= kClasses; ++c) {
    s.uncached_allocations += direct_allocations_[c];
    s.uncached_frees += direct_frees_[c];
  }
  s.live = direct_allocations_[kClasses] - direct_frees_[kClasses];
  for (unsigned c = 0; c < kClasses; ++c) {
    ClassStats& sum = s.size_class[c];
    sum.from_store = from_store_[c];
    sum.to_store = to_store_[c];
    sum.depot_trims = trimmed_[c];
    sum.live = sum.allocations + direct_allocations_[c] + dropped[c] -
               sum.frees - direct_frees_[c];
    sum.cached = sum.from_store - sum.to_store - sum.live;
    s.live += sum.live;
    s.cached += sum.cached;
    s.late_double_frees += dropped[c];
  }
  s.refusals = refusals_;
  s.flushes = flushes_;
  s.free_pages = store_.free_pages();
  s.store_bytes = store_.bytes() + reserved_.bytes();
  s.tag_bytes = tags_.bytes();
  s.cache_bytes = cache_.bytes();
  return s;
}

template <RangeStore Store, CpuLocal Cpu, class Policy>
bool IovaAllocator<Store, Cpu, Policy>::CheckInvariants() const {
  if (!ready_) return true;
  const Stats s = stats();
  if (!cache_.CheckInvariants() || !store_.CheckInvariants()) return false;
  std::uint64_t pages = store_.free_pages();
  // Entries whose tags name their magazine are cached; others are leftovers of
  // late double frees and count for nothing.
  std::uint64_t cached = 0;
  std::uint64_t leftovers = 0;
  bool cells = true;
  cache_.ForEachEntry([&](unsigned c, std::uint32_t number,
                          const typename Cache::Entry& entry) {
    cells = cells && entry.cell == tags_.Find(entry.first >> shift_, c);
    if (!entry.cell->Is(Tag::Cached(number))) {
      ++leftovers;
      return;
    }
    ++cached;
    pages += std::uint64_t{1} << HeldOrder(c);
  });
  if (!cells) return false;
  if constexpr (Policy::kFreeCheck == FreeCheck::kOff) {
    // Nobody knows which ranges are live, nor how long the long ones are.
    for (unsigned c = 0; c < kClasses; ++c) {
      pages += s.size_class[c].live << HeldOrder(c);
    }
    const bool any_long =
        direct_allocations_[kClasses] != direct_frees_[kClasses];
    return any_long ? pages < window_pages_ : pages == window_pages_;
  }
  std::uint64_t live = 0;
  std::uint64_t free_from = 0;
  bool disjoint = true;
  tags_.ForEachHeld([&](std::uint64_t page, std::uint64_t count) {
    ++live;
    pages += PagesHeld(count);
    disjoint = disjoint && page >= free_from;
    free_from = page + PagesHeld(count);
  });
  return disjoint && pages == window_pages_ && live == s.live + leftovers &&
         cached + leftovers == s.cached;
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_ALLOCATOR_CHECK_H_
