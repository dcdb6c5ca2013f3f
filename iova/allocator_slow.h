// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_ALLOCATOR_SLOW_H_
#define DMAMAP_IOVA_ALLOCATOR_SLOW_H_

// The slow paths of IovaAllocator: what happens once in a magazine's worth of
// calls, for large ranges, and at Init. Included by iova/allocator.h alone.
//
// Lock order: shared_lock_, then store_lock_. The depot takes none.

#include "iova/allocator.h"

namespace dmamap::inline v0 {

template <RangeStore Store, CpuLocal Cpu, class Policy>
Result<void> IovaAllocator<Store, Cpu, Policy>::Init(
    const AllocatorOptions& options) {
  if (local_slots_ != 0 || ready_) return Error::kBusy;
  page_ = options.page;
  shift_ = page_.shift();
  offset_mask_ = page_.mask();
  if (!options.window.IsPageAligned(page_)) return Error::kInvalidArgument;
  const std::uint64_t first = page_.Number(options.window.first());
  const std::uint64_t last = page_.Number(options.window.last());
  if ((last >> kMaxPageBits) != 0) return Error::kUnsupported;
  Result<void> made = store_.Init(first, last);
  if (made.ok()) made = InsertUnreserved(options);
  if (made.ok()) {
    made = tags_.Init(static_cast<unsigned>(std::bit_width(last)));
  }
  if (made.ok()) made = cache_.Init(cpu_.slots() + 1, options.depot_limit);
  if (!made.ok()) return made;
  window_pages_ = store_.free_pages();
  if (window_pages_ == 0) return Error::kInvalidArgument;
  local_slots_ = cpu_.slots();
  ready_ = true;
  cpu_.Subscribe(listener_);
  return Ok();
}

// Inserts the pages of the window that no reserved range touches, gap by gap.
template <RangeStore Store, CpuLocal Cpu, class Policy>
Result<void> IovaAllocator<Store, Cpu, Policy>::InsertUnreserved(
    const AllocatorOptions& options) {
  std::uint64_t at = page_.Number(options.window.first());
  const std::uint64_t last = page_.Number(options.window.last());
  for (;;) {
    // The first page from `at` on that is not reserved.
    for (std::size_t i = 0; i < options.reserved.size();) {
      const Range& r = options.reserved[i];
      if (page_.Number(r.first()) <= at && at <= page_.Number(r.last())) {
        if (page_.Number(r.last()) >= last) return Ok();
        at = page_.Number(r.last()) + 1;
        i = 0;
      } else {
        ++i;
      }
    }
    // And the last one before the next reserved page.
    std::uint64_t end = last;
    for (const Range& r : options.reserved) {
      const std::uint64_t from = page_.Number(r.first());
      if (from > at && from - 1 < end) end = from - 1;
    }
    const Result<void> inserted = store_.Insert(at, end);
    if (!inserted.ok() || end == last) return inserted;
    at = end + 1;
  }
}

template <RangeStore Store, CpuLocal Cpu, class Policy>
Result<PageRequest> IovaAllocator<Store, Cpu, Policy>::ToRequest(
    std::uint64_t pages, const Constraints& c) const {
  if (pages == 0) return Error::kInvalidArgument;
  if (c.alignment != 0 && !IsPowerOfTwo(c.alignment)) {
    return Error::kInvalidArgument;
  }
  PageRequest request;
  request.count = pages;
  if ((c.alignment >> shift_) > 1) {
    request.align_order =
        static_cast<unsigned>(std::countr_zero(c.alignment)) - shift_;
  }
  if (c.align_to == AlignTo::kSize) {
    request.align_order = std::max(
        request.align_order, static_cast<unsigned>(std::bit_width(pages - 1)));
  }
  if (c.limit != Iova::Max()) {
    // Whole pages at or below the limit, less one.
    const std::uint64_t whole = (c.limit.value() + 1) >> shift_;
    if (whole < pages) return Error::kNoSpace;
    request.last = whole - 1;
  }
  return request;
}

// Calls fn with the number of the cache's slot that the caller may use: its
// own, or the shared one under its lock.
template <RangeStore Store, CpuLocal Cpu, class Policy>
template <class Fn>
auto IovaAllocator<Store, Cpu, Policy>::WithSlot(std::size_t slot, Fn&& fn) {
  if (slot < local_slots_) return fn(slot);
  const Guard<LockType> guard(shared_lock_);
  return fn(local_slots_);
}

template <RangeStore Store, CpuLocal Cpu, class Policy>
Result<Iova> IovaAllocator<Store, Cpu, Policy>::AllocateConstrained(
    std::size_t slot, std::uint64_t pages, Constraints constraints) {
  if (!ready_) return Error::kShutDown;
  const Result<PageRequest> request = ToRequest(pages, constraints);
  if (!request.ok()) return request.error();
  Result<std::uint64_t> page = AllocateOnce(slot, pages, *request);
  if (!page.ok() && page.error() == Error::kNoSpace) {
    Flush(slot);
    page = AllocateOnce(slot, pages, *request);
  }
  if (page.ok()) return Iova(*page << shift_);
  if (page.error() == Error::kNoSpace) {
    const Guard<LockType> guard(store_lock_);
    ++refusals_;
  }
  return page.error();
}

template <RangeStore Store, CpuLocal Cpu, class Policy>
Result<std::uint64_t> IovaAllocator<Store, Cpu, Policy>::AllocateOnce(
    std::size_t slot, std::uint64_t pages, const PageRequest& request) {
  const unsigned size_class = ClassOf(pages);
  if (size_class >= kClasses) {
    return AllocateFromStore(nullptr, pages, request);
  }
  return WithSlot(slot, [&](std::size_t n) -> Result<std::uint64_t> {
    typename Cache::Slot* owned = cache_.Obtain(n);
    if (owned == nullptr) return AllocateFromStore(nullptr, pages, request);
    Bin& bin = owned->bin[size_class];
    const BinVisit visit(cache_, bin);
    if (request.align_order <= size_class) {
      std::uint64_t page = 0;
      const std::uint64_t last = request.last - (pages - 1);
      if (TakeFitting(bin, size_class, pages, last, page)) {
        bin.allocations.Add();
        bin.alloc_misses.Add();
        return page;
      }
    }
    return AllocateFromStore(&bin, pages, request);
  });
}

// An entry of at most `last` from the bin or the depot, marked live. Entries
// that their tags disown are dropped on the way (see LiveTags).
template <RangeStore Store, CpuLocal Cpu, class Policy>
bool IovaAllocator<Store, Cpu, Policy>::TakeFitting(Bin& bin,
                                                    unsigned size_class,
                                                    std::uint64_t pages,
                                                    std::uint64_t last,
                                                    std::uint64_t& page) {
  while (cache_.LoadFitting(size_class, bin, last)) {
    const typename Cache::Entry entry = bin.loaded->Pop();
    if (entry.cell->Load() == Tag::Cached(bin.loaded->number())) {
      entry.cell->Store(Tag::Live(pages));
      page = entry.page;
      return true;
    }
    bin.dropped.Add();
  }
  return false;
}

// A range from the store; for a caller with a bin and no special wishes out of
// a magazine that is filled first.
template <RangeStore Store, CpuLocal Cpu, class Policy>
Result<std::uint64_t> IovaAllocator<Store, Cpu, Policy>::AllocateFromStore(
    Bin* bin, std::uint64_t pages, const PageRequest& request) {
  const std::uint64_t held = PagesHeld(pages);
  const unsigned size_class = std::min(ClassOf(pages), kClasses);
  PageRequest padded = request;
  padded.count = held;
  if (size_class < kClasses) {
    padded.align_order = std::max(padded.align_order, size_class);
  }
  // Only the pages asked for need to lie under the limit.
  padded.last += std::min(held - pages, ~std::uint64_t{0} - padded.last);
  const bool prefetch =
      bin != nullptr && request.last == PageRequest().last &&
      request.align_order <= size_class &&
      cache_.MakeRoom(size_class, *bin) == Cache::Room::kReady;

  const Guard<LockType> guard(store_lock_);
  if (prefetch && Prefetch(*bin->loaded, size_class)) {
    bin->allocations.Add();
    bin->alloc_misses.Add();
    const std::uint64_t page = bin->loaded->Pop().page;
    tags_.MarkLive(page, pages);
    return page;
  }
  const Result<std::uint64_t> page = store_.Allocate(padded);
  if (!page.ok()) return page;
  const Result<void> made = tags_.EnsureRange(*page, pages);
  if (!made.ok()) {
    (void)store_.Free(*page, held);
    return made.error();
  }
  tags_.MarkLive(*page, pages);
  ++from_store_[size_class];
  if (bin == nullptr) {
    ++direct_allocations_[size_class];
  } else {
    bin->allocations.Add();
    bin->alloc_misses.Add();
  }
  return page;
}

// Fills up to 32 ranges into an empty magazine: from one aligned run when there
// is one, so that they lie side by side, else some one by one. False, and
// nothing, when the window is nearly used up. Under store_lock_.
template <RangeStore Store, CpuLocal Cpu, class Policy>
bool IovaAllocator<Store, Cpu, Policy>::Prefetch(MagazineType& magazine,
                                                 unsigned size_class) {
  if (!magazine.empty()) return false;
  constexpr std::uint64_t kRanges =
      std::min<std::uint64_t>(32, std::bit_floor(MagazineType::kCapacity));
  if (store_.free_pages() >> 6 < kRanges << size_class) return false;
  if (!PrefetchRun(magazine, size_class, kRanges)) {
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
  const std::uint64_t count = ranges << size_class;
  const Result<std::uint64_t> run =
      store_.Allocate({.count = count, .align_order = size_class});
  if (!run.ok()) return false;
  if (!tags_.Ensure(*run, *run + count - 1).ok()) {
    (void)store_.Free(*run, count);
    return false;
  }
  for (std::uint64_t i = 0; i < ranges; ++i) {
    const std::uint64_t page = *run + (i << size_class);
    typename Tags::Cell* cell = tags_.Find(page);
    cell->Store(Tag::Cached(magazine.number()));
    magazine.Push({page, cell});
  }
  from_store_[size_class] += ranges;
  return true;
}

template <RangeStore Store, CpuLocal Cpu, class Policy>
Result<void> IovaAllocator<Store, Cpu, Policy>::FreeSlow(std::size_t slot,
                                                         Iova first,
                                                         std::uint64_t pages) {
  if (!ready_) return Error::kShutDown;
  if (pages == 0) return Error::kInvalidArgument;
  if (!page_.IsAligned(first.value())) return Error::kForeign;
  if (ClassOf(pages) < kClasses) {
    return WithSlot(slot,
                    [&](std::size_t n) { return FreeCached(n, first, pages); });
  }
  return FreeToStore(page_.Number(first), pages);
}

// A free that the loaded magazine could not take, or a wrong one. REQUIRES: the
// caller owns slot n of the cache.
template <RangeStore Store, CpuLocal Cpu, class Policy>
Result<void> IovaAllocator<Store, Cpu, Policy>::FreeCached(
    std::size_t n, Iova first, std::uint64_t pages) {
  const std::uint64_t page = page_.Number(first);
  const Result<void> checked = tags_.Check(page, pages);
  if (!checked.ok()) return checked;
  const unsigned size_class = ClassOf(pages);
  typename Cache::Slot* owned = cache_.Obtain(n);
  if (owned == nullptr) return FreeToStore(page, pages);
  Bin& bin = owned->bin[size_class];
  {
    const BinVisit visit(cache_, bin);
    const typename Cache::Room room = cache_.MakeRoom(size_class, bin);
    if (room == Cache::Room::kNoMemory) return FreeToStore(page, pages);
    if (room == Cache::Room::kSpill) {
      Empty(size_class, *bin.previous);
      std::swap(bin.loaded, bin.previous);
    }
  }
  if (!PutChecked(*owned, first, pages)) {
    // Somebody else freed it since the check.
    const Result<void> again = tags_.Check(page, pages);
    return again.ok() ? Error::kDoubleFree : again.error();
  }
  bin.free_misses.Add();
  return Ok();
}

template <RangeStore Store, CpuLocal Cpu, class Policy>
Result<void> IovaAllocator<Store, Cpu, Policy>::FreeToStore(
    std::uint64_t page, std::uint64_t pages) {
  const Guard<LockType> guard(store_lock_);
  const Result<void> retired = tags_.Retire(page, pages, Tag::Released());
  if (!retired.ok()) return retired;
  const unsigned size_class = std::min(ClassOf(pages), kClasses);
  ++to_store_[size_class];
  ++direct_frees_[size_class];
  return store_.Free(page, PagesHeld(pages));
}

// Gives all entries of a magazine back to the store.
template <RangeStore Store, CpuLocal Cpu, class Policy>
void IovaAllocator<Store, Cpu, Policy>::Empty(unsigned size_class,
                                              MagazineType& magazine) {
  const Guard<LockType> guard(store_lock_);
  while (!magazine.empty()) {
    const auto [page, cell] = magazine.Pop();
    if (!cell->Exchange(Tag::Cached(magazine.number()), Tag::Released())) {
      ++dropped_[size_class];
      continue;
    }
    ++to_store_[size_class];
    (void)store_.Free(page, std::uint64_t{1} << size_class);
  }
}

// REQUIRES: the caller owns slot n of the cache.
template <RangeStore Store, CpuLocal Cpu, class Policy>
void IovaAllocator<Store, Cpu, Policy>::FlushSlot(std::size_t n) {
  typename Cache::Slot* owned = cache_.Find(n);
  if (owned == nullptr) return;
  for (unsigned c = 0; c < kClasses; ++c) {
    Bin& bin = owned->bin[c];
    const BinVisit visit(cache_, bin);
    if (bin.loaded != nullptr) Empty(c, *bin.loaded);
    if (bin.previous != nullptr) Empty(c, *bin.previous);
  }
}

// Everything that this caller may touch goes back to the store: its own slot,
// the shared one, and what waits in the depot now.
template <RangeStore Store, CpuLocal Cpu, class Policy>
void IovaAllocator<Store, Cpu, Policy>::Flush(std::size_t slot) {
  if (slot < local_slots_) FlushSlot(slot);
  WithSlot(kNoSlot, [&](std::size_t n) { FlushSlot(n); });
  for (unsigned c = 0; c < kClasses; ++c) {
    // Bounded: others may go on putting magazines there.
    for (std::uint32_t left = cache_.depot().waiting(c); left != 0; --left) {
      MagazineType* magazine = cache_.depot().TakeFull(c);
      if (magazine == nullptr) break;
      Empty(c, *magazine);
      cache_.depot().PutEmpty(magazine);
    }
  }
  const Guard<LockType> guard(store_lock_);
  ++flushes_;
}

// The slot's owner is gone and nobody else has it yet: full magazines go to
// the depot, entries of others to the store.
template <RangeStore Store, CpuLocal Cpu, class Policy>
void IovaAllocator<Store, Cpu, Policy>::OnRetired(void* self,
                                                  std::size_t slot) {
  auto& me = *static_cast<IovaAllocator*>(self);
  if (slot >= me.local_slots_) return;
  typename Cache::Slot* owned = me.cache_.Find(slot);
  if (owned == nullptr) return;
  for (unsigned c = 0; c < kClasses; ++c) {
    Bin& bin = owned->bin[c];
    const BinVisit visit(me.cache_, bin);
    for (MagazineType* magazine : {std::exchange(bin.loaded, nullptr),
                                   std::exchange(bin.previous, nullptr)}) {
      if (magazine == nullptr) continue;
      if (magazine->full() && me.cache_.depot().PutFull(c, magazine)) continue;
      me.Empty(c, *magazine);
      me.cache_.depot().PutEmpty(magazine);
    }
  }
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_ALLOCATOR_SLOW_H_
