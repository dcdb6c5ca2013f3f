// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_ALLOCATOR_H_
#define DMAMAP_IOVA_ALLOCATOR_H_

// IovaAllocator: hands out ranges of I/O addresses from a window.
//
//   Allocate(1)   CpuCache: the slot's loaded magazine   a pop, no lock
//                   previous magazine, depot             lock-free
//                     Store, a batch at a time           under one Lock
//   Free(a, 1)    LiveTags: is it live, and 1 page?      one load, one compare
//                   CpuCache: push                       no lock
//
// Ranges of up to 2^(kClasses-1) pages (32) are cached; they take a power of
// two of pages and are aligned to that. Larger ones come straight from the
// store and take no page more than asked for; so do, rounded up, small ones
// that are to be aligned to more than their size.
//
// A free is checked before anything changes: kForeign (nothing begins here),
// kDoubleFree (handed out before, or waiting in a magazine to be), kMismatch
// (another size). FreeCheck (tag.h) says what two
// frees at the same instant get.
//
// kNoSpace is said only after the caller's own magazines, the depot and the
// cache of slotless callers went back to the store and it was asked again.
// Magazines of other slots cannot be touched without a lock in their owners'
// fast path: up to two of them for each class and slot may hold addresses that
// somebody else is refused. Near the end of the window a refill therefore takes
// one range, not a batch.
//
// Thread-safe after Init. Progress: lock-free while magazines serve; the store
// is under Policy::Lock. When a slot loses its owner (SlotListener) its
// magazines go to the depot or the store.
//
//   StandardAllocator iova;  // iova/standard.h
//   auto window = Range::FromFirstLast(Iova(0x1000), Iova(0xffffffff));
//   if (Result<void> r = iova.Init({.window = *window}); !r.ok()) ...
//   Result<Iova> a = iova.Allocate(4);           // 4 pages
//   Result<void> f = iova.Free(*a, 4);
//
// Keeps guarantees 8, 9 and 12 of the library.

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "dma/address.h"
#include "dma/cpu.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "iova/allocator_options.h"
#include "iova/constraints.h"
#include "iova/cpu_cache.h"
#include "iova/live_tags.h"
#include "iova/no_tags.h"
#include "iova/range_list.h"
#include "iova/range_store.h"
#include "iova/stats.h"
#include "iova/tag.h"

namespace dmamap::inline v0 {

template <RangeStore Store, CpuLocal Cpu, class Policy = AllocatorPolicy>
class IovaAllocator {
  using Tags = std::conditional_t<Policy::kFreeCheck == FreeCheck::kOff,
                                  NoTags<Policy::template Atom>,
                                  LiveTags<Policy::template Atom>>;
  // Numbers that the fast path may look up as they come.
  static constexpr std::size_t kReach = [] {
    if constexpr (PeekedCpuLocal<Cpu>) {
      return Cpu::kMostSlots;
    } else {
      return std::size_t{0};
    }
  }();
  using Cache = CpuCache<Tags, Policy::kClasses, Policy::kMagazineEntries,
                         Policy::template Atom, kReach>;
  using Slot = typename Cache::Slot;
  using Bin = typename Cache::Bin;
  using BinVisit = typename Cache::BinVisit;
  using Cell = typename Tags::Cell;
  using MagazineType = typename Cache::MagazineType;

 public:
  static constexpr unsigned kClasses = Policy::kClasses;
  static_assert(kClasses >= 1 && kClasses <= 13);
  using Stats = BasicAllocatorStats<kClasses>;

  // The arguments make the Cpu policy.
  template <class... Args>
  explicit IovaAllocator(Args&&... cpu)
      : cpu_(std::forward<Args>(cpu)...), listener_(&OnRetired, this) {}
  IovaAllocator(const IovaAllocator&) = delete;
  IovaAllocator& operator=(const IovaAllocator&) = delete;
  // Frees all memory; what is still live is forgotten. REQUIRES: no call is
  // under way.
  ~IovaAllocator() {
    if (ready_) cpu_.Unsubscribe(listener_);
  }

  // Once, before any other call: then kBusy. kInvalidArgument when the window
  // is not page-aligned or has no page that is not reserved, kUnsupported when
  // it ends at page 2^52 or later, kLimit when slots and depot could need more
  // than 2^14 magazines, kNoMemory. After an error the object is of no use.
  Result<void> Init(const AllocatorOptions& options);

  // `pages` pages; the first byte. Errors: kNoSpace, kNoMemory,
  // kInvalidArgument (0 pages, an alignment or boundary that is not a power of
  // two, a range longer than its boundary), kShutDown before Init.
  Result<Iova> Allocate(std::uint64_t pages) {
    const FastSlot<Cpu> cpu(cpu_);
    Iova first;
    const auto any = [](Iova) { return true; };
    if (!TakeNewest(cpu.guess(), pages, any, first)) [[unlikely]] {
      return AllocateSlow(cpu.guess(), pages);
    }
    return first;
  }
  Result<Iova> Allocate(std::uint64_t pages, const Constraints& constraints) {
    const FastSlot<Cpu> cpu(cpu_);
    Iova first;
    const auto suits = [&](Iova entry) {
      return Suits(entry, pages, constraints);
    };
    if (!TakeNewest(cpu.guess(), pages, suits, first)) [[unlikely]] {
      return AllocateConstrained(cpu.guess(), pages, constraints);
    }
    return first;
  }

  // Ends the range that Allocate(pages) returned as `first`. Errors, after
  // which nothing has changed: kForeign, kDoubleFree, kMismatch,
  // kInvalidArgument (0 pages), kShutDown before Init. Never for want of memory
  // or space.
  Result<void> Free(Iova first, std::uint64_t pages) {
    const FastSlot<Cpu> cpu(cpu_);
    if (!PutNewest(cpu.guess(), first, pages)) [[unlikely]] {
      return FreeSlow(cpu.guess(), first, pages);
    }
    return Ok();
  }

  // A free in two steps, for an address that must not be handed out yet (see
  // FlushQueue). Retire checks as Free does and takes the range out of use: to
  // free or retire it again is kDoubleFree. Release frees a retired range,
  // through the caller's magazines; Restore makes it live again. Their errors:
  // kBusy (live), else as Free's. After any error nothing has changed. Of
  // Retires that race exactly one succeeds, with FreeCheck::kExact of any calls
  // that race; see FreeCheck::kOrdered for what a Free that began before may
  // do. Release each range that was retired once.
  Result<void> Retire(Iova first, std::uint64_t pages);
  Result<void> Release(Iova first, std::uint64_t pages);
  Result<void> Restore(Iova first, std::uint64_t pages);

  // Gives what the depot and slotless callers cached back to the store, and
  // what the caller's own slot did.
  void Trim() {
    const SlotGuard<Cpu> guard(cpu_);
    if (ready_) Flush(guard.slot());
  }

  // One step of the trim that misses and ranges past the caches make as well: a
  // magazine that waited in the depot for long goes back to the store, of each
  // class in turn. For a timer, on a thread of its own or any other;
  // FlushQueue::Poll makes one. Never waits for the store.
  void TrimStep() {
    if (!ready_ || !store_lock_.try_lock()) return;
    TrimLocked(trim_steps_++ % kClasses);
    store_lock_.unlock();
  }

  // Calls fn(Range) for each range that is handed out, ascending. Exact only
  // while nobody allocates or frees.
  template <class Fn>
  void ForEachLive(Fn&& fn) const {
    tags_.ForEachLive([&](std::uint64_t page, std::uint64_t pages) {
      fn(*Range::FromFirstLast(
          Iova(page << shift_),
          Iova(((page + pages - 1) << shift_) | page_.mask())));
    });
  }

  Stats stats() const;

  // Calls sink(std::string_view) with lines of text for a human: window,
  // reserved and live ranges, what is cached and what is free. Exact as
  // ForEachLive; holds the store's lock while it counts free blocks.
  template <class Sink>
  void Dump(Sink&& sink) const;

  // Every page of the window is in exactly one of: the store, one magazine, a
  // live range. REQUIRES: nobody else uses the allocator. Walks everything.
  bool CheckInvariants() const;

  Cpu& cpu() { return cpu_; }
  PageSize page_size() const { return page_; }  // valid after Init

 private:
  using LockType = typename Policy::Lock;

  // Of the widest ranges, guard pages included, that come in runs.
  static constexpr unsigned kMaxRunOrder = 9;
  // Of tags, which a small allocator may have more of than it needs.
  static constexpr std::uint64_t kSparseTagBytes = std::uint64_t{1} << 20;
  static constexpr std::uint64_t kMostCached = std::uint64_t{1}
                                               << (kClasses - 1);  // pages

  // The smallest class of at least `pages` pages; kClasses or more when there
  // is none, or for 0 pages.
  static unsigned ClassOf(std::uint64_t pages) {
    return static_cast<unsigned>(std::bit_width(pages - 1));
  }
  // The same without a branch. REQUIRES: 1 <= pages <= kMostCached.
  static unsigned CachedClassOf(std::uint64_t pages) {
    return static_cast<unsigned>(std::bit_width((2 * pages - 1) | 1)) - 1;
  }
  // Pages that a range of `pages` pages keeps from the store, whichever way it
  // was allocated: so a small one may always be freed into a magazine.
  std::uint64_t PagesHeld(std::uint64_t pages) const {
    const unsigned size_class = ClassOf(pages);
    return size_class < kClasses ? std::uint64_t{1} << HeldOrder(size_class)
                                 : pages + guard_pages_;
  }
  // The same for an entry of a class: its pages and the guard's, a power of
  // two.
  unsigned HeldOrder(unsigned size_class) const {
    return static_cast<unsigned>(
        std::bit_width((std::uint64_t{1} << size_class) + guard_pages_ - 1));
  }
  // Whether the fast path may look: the caller has a slot, and the size a
  // class.
  bool IsCached(std::size_t slot, std::uint64_t pages) const {
    // What Current() returned for a caller without a slot, the cache finds
    // vacant.
    const bool has_slot = kReach != 0 || slot < local_slots_;
    return has_slot && pages - 1 < kMostCached;
  }

  // The fast paths, in allocator_fast.h.
  bool Suits(Iova first, std::uint64_t pages, const Constraints& c) const;
  template <class Filter>
  [[gnu::always_inline]] inline bool TakeNewest(std::size_t slot,
                                                std::uint64_t pages,
                                                Filter&& suits, Iova& first);
  [[gnu::always_inline]] inline bool PutNewest(std::size_t slot, Iova first,
                                               std::uint64_t pages);
  [[gnu::always_inline]] inline bool PutChecked(Slot& slot, Iova first,
                                                std::uint64_t pages);

  // What the fast paths leave.
  [[gnu::noinline]] Result<Iova> AllocateSlow(std::size_t guess,
                                              std::uint64_t pages) {
    return AllocateConstrained(guess, pages, Constraints());
  }
  [[gnu::noinline]] Result<Iova> AllocateConstrained(
      std::size_t guess, std::uint64_t pages, const Constraints& constraints);
  [[gnu::noinline]] Result<void> FreeSlow(std::size_t guess, Iova first,
                                          std::uint64_t pages);

  // Init and its parts.
  Result<void> InsertUnreserved();

  // The slow paths, in allocator_slow.h and allocator_free.h.
  Error CountRefusal(Error error);
  bool CouldServe(std::uint64_t pages, const PageRequest& request) const;
  PageRequest Padded(std::uint64_t pages, const PageRequest& request) const;
  Result<PageRequest> ToRequest(std::uint64_t pages, const Constraints&) const;
  Result<std::uint64_t> AllocatePreferred(std::size_t slot, std::uint64_t pages,
                                          const Constraints& constraints);
  template <class Fn>
  auto WithSlot(std::size_t slot, Fn&& fn);
  Result<std::uint64_t> AllocateOnce(std::size_t slot, std::uint64_t pages,
                                     const PageRequest& request);
  bool TakeFitting(Bin& bin, unsigned size_class, std::uint64_t pages,
                   std::uint64_t last, std::uint64_t& page);
  Result<std::uint64_t> AllocateFromStore(Bin* bin, std::uint64_t pages,
                                          const PageRequest& request);
  bool Prefetch(MagazineType& magazine, unsigned size_class);
  bool PrefetchRun(MagazineType& magazine, unsigned size_class,
                   std::uint64_t ranges);
  Result<void> FreeCached(std::size_t n, Iova first, std::uint64_t pages);
  Result<void> FreeToStore(std::uint64_t page, std::uint64_t pages);
  bool MakeRoom(Slot& owned, unsigned size_class);
  void EmptySurplus(Slot& owned);
  void TrimLocked(unsigned size_class);
  void Empty(unsigned size_class, MagazineType& magazine);
  void EmptyLocked(unsigned size_class, MagazineType& magazine);
  Result<void> CheckArguments(Iova first, std::uint64_t pages) const;
  Result<void> ReleaseCached(std::size_t n, std::uint64_t page,
                             std::uint64_t pages);
  Result<void> ReleaseToStore(std::uint64_t page, std::uint64_t pages);
  void FlushSlot(std::size_t n);
  void Flush(std::size_t slot);
  static void OnRetired(void* self, std::size_t slot);

  // Read by every call, written by Init.
  unsigned shift_ = 12;
  bool ready_ = false;
  std::size_t local_slots_ = 0;
  PageSize page_;
  Range window_;
  RangeList reserved_;
  std::uint64_t window_pages_ = 0;  // that are not reserved
  std::uint64_t guard_pages_ = 0;
  Cpu cpu_;
  SlotListener listener_;
  Cache cache_;
  Tags tags_;

  // Callers without a slot take turns with the cache's shared_slot(). Taken
  // before store_lock_.
  alignas(kCacheLine) LockType shared_lock_;
  alignas(kCacheLine) mutable LockType store_lock_;
  // Under store_lock_; the last class counts what is too large for a cache.
  Store store_;
  std::array<std::uint64_t, kClasses + 1> from_store_ = {};
  std::array<std::uint64_t, kClasses + 1> to_store_ = {};
  std::array<std::uint64_t, kClasses + 1> direct_allocations_ = {};
  std::array<std::uint64_t, kClasses + 1> direct_frees_ = {};
  std::array<std::uint64_t, kClasses> dropped_ = {};
  std::array<std::uint64_t, kClasses> trimmed_ = {};
  std::uint64_t refusals_ = 0;
  std::uint64_t flushes_ = 0;
  std::uint32_t trim_steps_ = 0;
};

}  // namespace dmamap::inline v0

#include "iova/allocator_check.h"   // IWYU pragma: export
#include "iova/allocator_dump.h"    // IWYU pragma: export
#include "iova/allocator_fast.h"    // IWYU pragma: export
#include "iova/allocator_free.h"    // IWYU pragma: export
#include "iova/allocator_init.h"    // IWYU pragma: export
#include "iova/allocator_retire.h"  // IWYU pragma: export
#include "iova/allocator_slow.h"    // IWYU pragma: export

#endif  // DMAMAP_IOVA_ALLOCATOR_H_
