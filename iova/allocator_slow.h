// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_ALLOCATOR_SLOW_H_
#define DMAMAP_IOVA_ALLOCATOR_SLOW_H_

// The slow paths of Allocate: what happens once in a magazine's worth of calls,
// and for large ranges. Included by iova/allocator.h alone.
//
// Lock order: shared_lock_, then store_lock_. The depot takes none.

#include "iova/allocator.h"

namespace dmamap::inline v0 {

// Calls fn with the number of the cache's slot that the caller may use: its
// own, or the shared one under its lock.
template <RangeStore Store, CpuLocal Cpu, class Policy>
template <class Fn>
auto IovaAllocator<Store, Cpu, Policy>::WithSlot(std::size_t slot, Fn&& fn) {
  if (slot < local_slots_) return fn(slot);
  const Guard<LockType> guard(shared_lock_);
  return fn(cache_.shared_slot());
}

template <RangeStore Store, CpuLocal Cpu, class Policy>
Result<Iova> IovaAllocator<Store, Cpu, Policy>::AllocateConstrained(
    std::size_t guess, std::uint64_t pages, const Constraints& constraints) {
  if (!ready_) return Error::kShutDown;
  const std::size_t slot = FastSlot<Cpu>::Settle(cpu_, guess);
  const Result<PageRequest> request = ToRequest(pages, constraints);
  if (!request.ok()) return CountRefusal(request.error());
  Result<std::uint64_t> page = Error::kNoSpace;
  if (constraints.preferred_limit < constraints.limit) {
    page = AllocatePreferred(slot, pages, constraints);
  }
  if (!page.ok() && page.error() == Error::kNoSpace) {
    page = AllocateOnce(slot, pages, *request);
  }
  if (!page.ok() && page.error() == Error::kNoSpace &&
      CouldServe(pages, *request)) {
    Flush(slot);
    page = AllocateOnce(slot, pages, *request);
  }
  if (page.ok()) return Iova(*page << shift_);
  return CountRefusal(page.error());
}

template <RangeStore Store, CpuLocal Cpu, class Policy>
Error IovaAllocator<Store, Cpu, Policy>::CountRefusal(Error error) {
  if (error == Error::kNoSpace) {
    const Guard<LockType> guard(store_lock_);
    ++refusals_;
  }
  return error;
}

// False for what not even an empty window could serve: it is no reason to empty
// the caches.
template <RangeStore Store, CpuLocal Cpu, class Policy>
bool IovaAllocator<Store, Cpu, Policy>::CouldServe(
    std::uint64_t pages, const PageRequest& request) const {
  const PageRequest padded = Padded(pages, request);
  return padded.count <= window_pages_ &&
         padded.padding <= window_pages_ - padded.count &&
         store_.HasPlaceFor(padded);
}
// With what is taken besides: the rest of the class's size, guard pages.
template <RangeStore Store, CpuLocal Cpu, class Policy>
PageRequest IovaAllocator<Store, Cpu, Policy>::Padded(
    std::uint64_t pages, const PageRequest& request) const {
  const unsigned size_class = std::min(ClassOf(pages), kClasses);
  PageRequest padded = request;
  padded.padding =
      size_class < kClasses ? PagesHeld(pages) - pages : guard_pages_;
  // Of long ranges LiveTags knows only every 2^kClasses'th page.
  padded.align_order = std::max(padded.align_order, size_class);
  return padded;
}

// Up to the preferred limit. A refusal costs a look at two magazines and one
// request of the store, which is not remembered: as soon as something is free
// there again, it is found.
template <RangeStore Store, CpuLocal Cpu, class Policy>
Result<std::uint64_t> IovaAllocator<Store, Cpu, Policy>::AllocatePreferred(
    std::size_t slot, std::uint64_t pages, const Constraints& constraints) {
  Constraints preferred = constraints;
  preferred.limit = constraints.preferred_limit;
  const Result<PageRequest> request = ToRequest(pages, preferred);
  if (!request.ok()) return request.error();
  return AllocateOnce(slot, pages, *request);
}

template <RangeStore Store, CpuLocal Cpu, class Policy>
Result<std::uint64_t> IovaAllocator<Store, Cpu, Policy>::AllocateOnce(
    std::size_t slot, std::uint64_t pages, const PageRequest& request) {
  const unsigned size_class = ClassOf(pages);
  if (size_class >= kClasses) return AllocateFromStore(nullptr, pages, request);
  return WithSlot(slot, [&](std::size_t n) -> Result<std::uint64_t> {
    typename Cache::Slot* owned = cache_.Obtain(n);
    if (owned == nullptr) return AllocateFromStore(nullptr, pages, request);
    Bin& bin = owned->bin[size_class];
    if (!bin.fill().has_entry()) EmptySurplus(*owned);
    const BinVisit visit(bin);
    // Entries are aligned and so cross no boundary; a lower bound is for the
    // store to keep.
    if (request.align_order <= size_class && request.first == 0) {
      std::uint64_t page = 0;
      const std::uint64_t last = request.last - (pages - 1);
      if (TakeFitting(bin, size_class, pages, last, page)) {
        bin.visit_allocs.Add();
        bin.alloc_misses.Add();
        return page;
      }
    }
    return AllocateFromStore(&bin, pages, request);
  });
}

// A range from the bin or the depot whose first page is at most `last`, marked
// live. Entries that their tags disown are dropped on the way (see LiveTags).
template <RangeStore Store, CpuLocal Cpu, class Policy>
bool IovaAllocator<Store, Cpu, Policy>::TakeFitting(Bin& bin,
                                                    unsigned size_class,
                                                    std::uint64_t pages,
                                                    std::uint64_t last,
                                                    std::uint64_t& page) {
  last = std::min(last, page_.Number(window_.last()));  // can be shifted
  while (cache_.LoadFitting(size_class, bin, last << shift_)) {
    const typename Cache::Entry entry = bin.loaded->Pop();
    if (entry.cell->Is(Tag::Cached(bin.loaded->number()))) {
      entry.cell->Store(Tag::Live(pages));
      page = entry.first >> shift_;
      return true;
    }
    bin.dropped.Add();
  }
  return false;
}

// A range from the store; for a caller with a bin and no special wishes (a
// limit behind the window is none) out of a magazine that is filled first.
template <RangeStore Store, CpuLocal Cpu, class Policy>
Result<std::uint64_t> IovaAllocator<Store, Cpu, Policy>::AllocateFromStore(
    Bin* bin, std::uint64_t pages, const PageRequest& request) {
  const unsigned size_class = std::min(ClassOf(pages), kClasses);
  const PageRequest padded = Padded(pages, request);
  const bool prefetch =
      bin != nullptr && request.last >= page_.Number(window_.last()) &&
      request.first == 0 && request.placement == Placement::kTopDown &&
      request.align_order <= size_class &&
      cache_.MakeRoom(size_class, *bin) == Cache::Room::kReady;

  const Guard<LockType> guard(store_lock_);
  if (prefetch && Prefetch(*bin->loaded, size_class)) {
    bin->visit_allocs.Add();
    bin->alloc_misses.Add();
    const std::uint64_t page = bin->loaded->Pop().first >> shift_;
    tags_.MarkLive(page, pages);
    return page;
  }
  const Result<std::uint64_t> page = store_.Allocate(padded);
  if (!page.ok()) return page;
  const Result<void> made = tags_.EnsureRange(*page, pages);
  if (!made.ok()) {
    (void)store_.Free(*page, pages + padded.padding);
    return made.error();
  }
  tags_.MarkLive(*page, pages);
  ++from_store_[size_class];
  if (bin == nullptr) {
    const std::uint64_t direct = ++direct_allocations_[size_class];
    if constexpr (Policy::kTrimPeriod != 0) {
      if (direct % Policy::kTrimPeriod == 0) {
        TrimLocked(trim_steps_++ % kClasses);
      }
    }
  } else {
    bin->visit_allocs.Add();
    bin->alloc_misses.Add();
  }
  return page;
}

// Fills up to 32 ranges into an empty magazine: from one aligned run when there
// is one, so that they lie side by side, else some one by one. False, and
// nothing, when the window is nearly used up. Under store_lock_.
//
// Where frees in random order have left holes everywhere, a run comes from
// pages that nobody has used yet, and tags and nodes of the store would grow
// with each. So when the tags already cover half as many pages again as are in
// use, the holes serve, the smallest first.
template <RangeStore Store, CpuLocal Cpu, class Policy>
bool IovaAllocator<Store, Cpu, Policy>::Prefetch(MagazineType& magazine,
                                                 unsigned size_class) {
  if (!magazine.empty()) return false;
  constexpr std::uint64_t kRanges =
      std::min<std::uint64_t>(32, std::bit_floor(MagazineType::kCapacity));
  // Wide guard gaps: a run would touch memory for tags far apart.
  if (HeldOrder(size_class) > kMaxRunOrder) return false;
  if (store_.free_pages() >> 6 < kRanges << HeldOrder(size_class)) return false;
  const std::uint64_t in_use = window_pages_ - store_.free_pages();
  const bool sparse =
      tags_.bytes() > kSparseTagBytes + in_use * Tags::kPageBytes * 3 / 2;
  if (sparse || !PrefetchRun(magazine, size_class, kRanges)) {
    for (unsigned i = 0; i < 8 && i < kRanges; ++i) {
      if (!PrefetchRun(magazine, size_class, 1)) break;
    }
  }
  return !magazine.empty();
}

// Fills `ranges` ranges that lie side by side into a magazine with room for
// them, the highest on top. False when there are none, or no memory for their
// tags.
template <RangeStore Store, CpuLocal Cpu, class Policy>
bool IovaAllocator<Store, Cpu, Policy>::PrefetchRun(MagazineType& magazine,
                                                    unsigned size_class,
                                                    std::uint64_t ranges) {
  const unsigned order = HeldOrder(size_class);
  const std::uint64_t count = ranges << order;
  const Result<std::uint64_t> run = store_.Allocate(
      {.count = count, .align_order = order, .piece_order = order});
  if (!run.ok()) return false;
  // Where a range begins, and not in the gaps that guard pages leave.
  for (std::uint64_t i = 0; i < ranges; ++i) {
    const std::uint64_t page = *run + (i << order);
    if (tags_.Ensure(page, page).ok()) continue;
    (void)store_.Free(*run, count);
    return false;
  }
  for (std::uint64_t i = 0; i < ranges; ++i) {
    const std::uint64_t page = *run + (i << order);
    typename Tags::Cell* cell = tags_.Find(page, size_class);
    cell->Store(Tag::Cached(magazine.number()));
    magazine.Push({page << shift_, cell});
  }
  from_store_[size_class] += ranges;
  return true;
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_ALLOCATOR_SLOW_H_
