// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_FLUSH_QUEUE_H_
#define DMAMAP_IOVA_FLUSH_QUEUE_H_

// FlushQueue: frees that take effect only after the Invalidator has completed.
//
//   caller removes the mapping    Free(a, n)
//     allocator.Retire              a is checked and out of use
//     the slot's FlushRing          a waits
//     ...                           InvalidateAll(), one for everything queued
//     allocator.Release             a may be handed out again
//
// The rule: an entry is released once an invalidation that started after the
// entry was queued has completed. Linux numbers invalidations by a started and
// a finished counter and each entry carries the number it came before; that
// takes a full fence in each free, between the removal of the mapping and the
// look at the counter. Here whoever invalidates notes first how far each slot's
// ring has got, and marks that much clean afterwards: the same rule, slot by
// slot, and an acquire in the flusher for the fence in each free (flush_ring.h
// has the edges). One invalidation serves the entries of all slots; each slot
// releases its own, through its own magazines, at its next free.
//
// A slot invalidates when its ring is full or its oldest entry is too old. Who
// waits for somebody else's invalidation and finds that it served his entries
// too does not start another.
//
// Errors. Free either takes the range (Ok), or nothing has changed and the
// range stays the caller's, live:
//   kForeign, kDoubleFree, kMismatch, kInvalidArgument   as Allocator::Free
//   kShutDown     before Init
//   the Invalidator's error    the slot's ring is full and could not be drained
//                 (deferred), or the range's own invalidation failed (strict)
// An invalidation that fails leaves everything in quarantine, where it is
// bounded by the rings. It is tried again by Drain, by the next free of a slot
// whose ring is full, and for entries that are too old max_age later.
//
// The time bound needs somebody who looks: the slot's own next free, or a
// caller of Poll; nothing looks at the ring of a slot that has fallen silent.
//
// Thread-safe after Init. A free changes its tag by one compare-exchange (two
// retires that race must not both queue the range). Progress: a free is
// wait-free but for a release of
// what is clean or, when its ring is full, an invalidation. A slot's owner that
// goes away (SlotListener) releases what is clean and leaves the rest in its
// ring, where the next invalidation finds it; it never waits for one.
//
// The Invalidator and the Clock must not call the queue. Keeps guarantees 8, 9
// and 12 of the library.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include "dma/address.h"
#include "dma/cpu.h"
#include "dma/invalidate.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "iova/flush_options.h"
#include "iova/flush_ring.h"

namespace dmamap::inline v0 {

template <RetiringAllocator Allocator, Invalidator Invalidation,
          class Policy = FlushQueuePolicy>
class FlushQueue {
  using LockType = typename Policy::Lock;
  using Ring = typename Policy::template Ring<Policy::template Atom, LockType>;
  using Cpu =
      std::remove_reference_t<decltype(std::declval<Allocator>().cpu())>;

 public:
  using Clock = typename Policy::Clock;
  static_assert(FlushClock<Clock> && Lock<typename Policy::FlushLock>);

  // Both must outlive the queue.
  FlushQueue(Allocator& allocator, Invalidation& invalidation,
             Clock clock = Clock())
      : allocator_(allocator),
        invalidation_(invalidation),
        clock_(std::move(clock)),
        listener_(&OnRetired, this) {}
  FlushQueue(const FlushQueue&) = delete;
  FlushQueue& operator=(const FlushQueue&) = delete;
  // Drains. What cannot be drained stays retired: the allocator never hands it
  // out again. REQUIRES: no call is under way.
  ~FlushQueue() {
    if (rings_ == nullptr) return;
    allocator_.cpu().Unsubscribe(listener_);
    (void)Drain();
    for (std::size_t i = 0; i <= slots_; ++i) delete Find(i);
  }

  // Once, after the allocator's, before any other call: then kBusy.
  // kInvalidArgument (a number that is no power of two, or too large),
  // kNoMemory.
  Result<void> Init(const FlushQueueOptions& options);

  // Ends the range that Allocate(pages) returned as `first`. REQUIRES: its
  // mapping has been removed.
  Result<void> Free(Iova first, std::uint64_t pages) {
    if (mode_ == FlushMode::kStrict) return FreeStrict(first, pages);
    for (;;) {
      Step step;
      {
        const SlotGuard<Cpu> guard(allocator_.cpu());
        step = FreeIn(guard.slot(), first, pages);
      }
      if (step.next == Next::kDone) [[likely]]
        return step.result;
      const Result<void> done = Work(step);
      if (step.next != Next::kMakeRoom) return Ok();
      if (!done.ok()) return done;
    }
  }

  // When it returns Ok, every range whose Free happened before it is free, also
  // those of other slots. Else the Invalidator's error, or kShutDown: what was
  // clean is free, the rest stays queued.
  Result<void> Drain();

  // For a caller who has a timer: drains if the entries of any slot are older
  // than max_age at time `now`, of the queue's clock. Releases what is clean,
  // and trims the allocator's depot by a step.
  // The Invalidator's error; kShutDown.
  Result<void> Poll(std::uint64_t now);
  Result<void> Poll() { return Poll(max_age_ != 0 ? Now() : 0); }

  FlushQueueStats stats() const;

  // REQUIRES: nobody else uses the queue.
  bool CheckInvariants() const;

 private:
  enum class Next : std::uint8_t {
    kDone,
    kMakeRoom,  // nothing was queued, because the ring is full
    kRelease,   // queued; there is something clean
    kFlush,     // queued; the oldest entry is too old
  };
  struct Step {
    Result<void> result = Ok();
    Next next = Next::kDone;
    Ring* ring = nullptr;
    std::uint64_t now = 0;
  };
  static constexpr std::uint64_t kMaxEntries = std::uint64_t{1} << 20;

  // The ring, or null. REQUIRES: n <= slots_.
  Ring* Find(std::size_t n) const {
    // M2, acquire: pairs with M1.
    return rings_[n].load(std::memory_order_acquire);
  }
  Ring* Make(std::size_t n) {
    Ring* ring = Ring::Make(entries_).release();
    // M1, release: pairs with M2. The ring is constructed before it is found.
    if (ring != nullptr) rings_[n].store(ring, std::memory_order_release);
    return ring;
  }
  std::uint64_t Now() { return static_cast<std::uint64_t>(clock_()); }

  // REQUIRES: the caller owns the slot, if it is one.
  Step FreeIn(std::size_t slot, Iova first, std::uint64_t pages) {
    if (slot < slots_) [[likely]] {
      Ring* ring = Find(slot);
      if (ring == nullptr) [[unlikely]]
        ring = Make(slot);
      if (ring != nullptr) [[likely]]
        return Enqueue(*ring, first, pages);
    }
    return FreeShared(first, pages);
  }
  [[gnu::noinline]] Step FreeShared(Iova first, std::uint64_t pages);

  // REQUIRES: the caller is the ring's producer.
  Step Enqueue(Ring& ring, Iova first, std::uint64_t pages) {
    if (!ring.HasRoom()) [[unlikely]]
      return {.next = Next::kMakeRoom, .ring = &ring};
    const Result<void> retired = allocator_.Retire(first, pages);
    if (!retired.ok()) [[unlikely]]
      return {.result = retired};
    std::uint64_t now = 0;
    bool old = false;
    if (max_age_ != 0) {
      const bool dirty = ring.SeesDirty();
      if (!dirty || (ring.OwnTail() & clock_mask_) == 0) {
        now = Now();
        if (!dirty) ring.set_since(now);
        old = dirty && TooOld(ring, now);
      }
    }
    ring.Push({.first = first, .pages = pages});
    if (old) [[unlikely]]
      return {.next = Next::kFlush, .ring = &ring, .now = now};
    if (ring.SeesClean()) [[unlikely]]
      return {.next = Next::kRelease, .ring = &ring};
    return {};
  }

  // Dirty entries are no older than their ring says, and no older than the
  // last invalidation, which would have served them or has failed. Modulo
  // 2^64: a clock that ran backwards makes them old.
  bool TooOld(const Ring& ring, std::uint64_t now) const {
    // relaxed: a hint.
    const std::uint64_t last = last_attempt_.load(std::memory_order_relaxed);
    return now - ring.since() > max_age_ && now - last > max_age_;
  }

  [[gnu::noinline]] Result<void> FreeStrict(Iova first, std::uint64_t pages);
  [[gnu::noinline]] Result<void> Work(const Step& step);
  Result<void> FlushLocked(std::uint64_t now);
  void Release(Ring& ring);
  template <class Fn>
  void ForEachRing(Fn&& fn) const {
    for (std::size_t i = 0; i <= slots_; ++i) {
      if (Ring* ring = Find(i)) fn(*ring);
    }
  }
  static void OnRetired(void* self, std::size_t slot);

  using RingPointer = typename Policy::template Atom<Ring*>;

  // Read by every call, written by Init. Until then slots_ is 0, rings_ null.
  Allocator& allocator_;
  Invalidation& invalidation_;
  Clock clock_;
  SlotListener listener_;
  FlushMode mode_ = FlushMode::kStrict;
  bool ready_ = false;
  std::size_t slots_ = 0;  // the last ring is that of slotless callers
  std::uint64_t entries_ = 0;
  std::uint64_t max_age_ = 0;
  std::uint64_t clock_mask_ = 0;
  std::unique_ptr<RingPointer[]> rings_;

  // Callers without a slot take turns as its producer.
  alignas(kCacheLine) LockType shared_lock_;
  // One invalidation at a time. No other lock is taken or held under it.
  alignas(kCacheLine) typename Policy::FlushLock flush_lock_;
  // Written under flush_lock_ but for failures_ of strict frees.
  typename Policy::template Atom<std::uint64_t> last_attempt_{0};
  typename Policy::template Atom<std::uint64_t> invalidations_{0};
  typename Policy::template Atom<std::uint64_t> failures_{0};
  typename Policy::template Atom<std::uint64_t> disowned_{0};
};

}  // namespace dmamap::inline v0

#include "iova/flush_slow.h"  // IWYU pragma: export

#endif  // DMAMAP_IOVA_FLUSH_QUEUE_H_
