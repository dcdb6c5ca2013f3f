// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_ALLOCATOR_FREE_H_
#define DMAMAP_IOVA_ALLOCATOR_FREE_H_

// The slow paths of IovaAllocator on the way back: frees that the loaded
// magazine cannot take, and magazines that go back to the store. Included by
// iova/allocator.h alone. Lock order: see allocator_slow.h.

#include "iova/allocator.h"

namespace dmamap::inline v0 {

template <RangeStore Store, CpuLocal Cpu, class Policy>
Result<void> IovaAllocator<Store, Cpu, Policy>::FreeSlow(std::size_t guess,
                                                         Iova first,
                                                         std::uint64_t pages) {
  const Result<void> checked = CheckArguments(first, pages);
  if (!checked.ok()) return checked;
  if (ClassOf(pages) < kClasses) {
    return WithSlot(FastSlot<Cpu>::Settle(cpu_, guess),
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
    const BinVisit visit(bin);
    if (!MakeRoom(*owned, size_class)) return FreeToStore(page, pages);
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
  // Both are cold when many ranges are live: wait for them at the same time.
  tags_.Prefetch(page, pages);
  const Guard<LockType> guard(store_lock_);
  store_.Prefetch(page);
  const Result<void> retired = tags_.Retire(page, pages, Tag::Released());
  if (!retired.ok()) return retired;
  const Result<void> freed = store_.Free(page, PagesHeld(pages));
  if (!freed.ok()) return freed;  // with FreeCheck::kOff alone
  const unsigned size_class = std::min(ClassOf(pages), kClasses);
  ++to_store_[size_class];
  ++direct_frees_[size_class];
  return Ok();
}

// Makes the loaded magazine of a class one that is not full; false for want of
// memory. REQUIRES: the caller owns the slot and visits the class's bin.
template <RangeStore Store, CpuLocal Cpu, class Policy>
bool IovaAllocator<Store, Cpu, Policy>::MakeRoom(Slot& owned,
                                                 unsigned size_class) {
  Bin& bin = owned.bin[size_class];
  if (bin.loaded != nullptr && !bin.loaded->full()) return true;
  EmptySurplus(owned);
  switch (cache_.MakeRoom(size_class, bin)) {
    case Cache::Room::kReady:
      return true;
    case Cache::Room::kNoMemory:
      return false;
    case Cache::Room::kSpill:
      Empty(size_class, *bin.previous);
      std::swap(bin.loaded, bin.previous);
  }
  return true;
}

// The depot's share of each kTrimPeriod'th miss of a slot. Never waits: when
// the store is in use, a later miss will do. REQUIRES: the caller owns the
// slot.
template <RangeStore Store, CpuLocal Cpu, class Policy>
void IovaAllocator<Store, Cpu, Policy>::EmptySurplus(Slot& owned) {
  if constexpr (Policy::kTrimPeriod != 0) {
    const unsigned size_class = Cache::NextTrim(owned, Policy::kTrimPeriod);
    if (size_class == kClasses || !store_lock_.try_lock()) return;
    TrimLocked(size_class);
    store_lock_.unlock();
  }
}
// What waits in the depot and nobody takes goes back to the store, a magazine
// at a time. Under store_lock_: so whoever counts what is cached (stats) does
// so before or behind it.
template <RangeStore Store, CpuLocal Cpu, class Policy>
void IovaAllocator<Store, Cpu, Policy>::TrimLocked(unsigned size_class) {
  MagazineType* const magazine = cache_.depot().TakeSurplus(size_class);
  if (magazine == nullptr) return;
  EmptyLocked(size_class, *magazine);
  ++trimmed_[size_class];
  cache_.depot().PutEmpty(magazine);
}

// Gives all entries of a magazine back to the store.
template <RangeStore Store, CpuLocal Cpu, class Policy>
void IovaAllocator<Store, Cpu, Policy>::Empty(unsigned size_class,
                                              MagazineType& magazine) {
  const Guard<LockType> guard(store_lock_);
  EmptyLocked(size_class, magazine);
}
// The same under store_lock_.
template <RangeStore Store, CpuLocal Cpu, class Policy>
void IovaAllocator<Store, Cpu, Policy>::EmptyLocked(unsigned size_class,
                                                    MagazineType& magazine) {
  while (!magazine.empty()) {
    const auto [first, cell] = magazine.Pop();
    if (!cell->Exchange(Tag::Cached(magazine.number()), Tag::Released())) {
      ++dropped_[size_class];
      continue;
    }
    // Refused where the overlap of two frees went on until the range was there
    // already (see LiveTags).
    const Result<void> freed =
        store_.Free(first >> shift_, std::uint64_t{1} << HeldOrder(size_class));
    if (freed.ok()) {
      ++to_store_[size_class];
    } else {
      ++dropped_[size_class];
    }
  }
}

// REQUIRES: the caller owns slot n of the cache.
template <RangeStore Store, CpuLocal Cpu, class Policy>
void IovaAllocator<Store, Cpu, Policy>::FlushSlot(std::size_t n) {
  typename Cache::Slot* owned = cache_.Find(n);
  if (owned == nullptr) return;
  for (unsigned c = 0; c < kClasses; ++c) {
    Bin& bin = owned->bin[c];
    const BinVisit visit(bin);
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
    const BinVisit visit(bin);
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

#endif  // DMAMAP_IOVA_ALLOCATOR_FREE_H_
