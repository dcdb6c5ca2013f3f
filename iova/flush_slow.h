// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_FLUSH_SLOW_H_
#define DMAMAP_IOVA_FLUSH_SLOW_H_

// The slow paths of FlushQueue. Included by iova/flush_queue.h alone.
//
// Locks: flush_lock_ and a ring's lock are never held together. Under the
// ring's the allocator may take its own.

#include "iova/flush_queue.h"

namespace dmamap::inline v0 {

template <RetiringAllocator A, Invalidator I, class Policy>
Result<void> FlushQueue<A, I, Policy>::Init(const FlushQueueOptions& options) {
  if (ready_) return Error::kBusy;
  if (!IsPowerOfTwo(options.entries) || options.entries > kMaxEntries ||
      !IsPowerOfTwo(options.clock_interval)) {
    return Error::kInvalidArgument;
  }
  if (options.mode == FlushMode::kDeferred) {
    const std::size_t slots = allocator_.cpu().slots();
    rings_.reset(new (std::nothrow) RingPointer[slots + 1]());
    if (rings_ == nullptr) return Error::kNoMemory;
    entries_ = options.entries;
    if (Make(slots) == nullptr) {
      rings_.reset();
      return Error::kNoMemory;
    }
    slots_ = slots;
    max_age_ = options.max_age;
    clock_mask_ = options.clock_interval - 1;
    allocator_.cpu().Subscribe(listener_);
  }
  mode_ = options.mode;
  ready_ = true;
  return Ok();
}

template <RetiringAllocator A, Invalidator I, class Policy>
auto FlushQueue<A, I, Policy>::FreeShared(Iova first, std::uint64_t pages)
    -> Step {
  const Guard<LockType> guard(shared_lock_);
  return Enqueue(*Find(slots_), first, pages);
}

// Also what Free is before Init. The range is out of use while the invalidation
// runs, and live again if that fails.
template <RetiringAllocator A, Invalidator I, class Policy>
Result<void> FlushQueue<A, I, Policy>::FreeStrict(Iova first,
                                                  std::uint64_t pages) {
  if (!ready_) return Error::kShutDown;
  const Result<void> retired = allocator_.Retire(first, pages);
  if (!retired.ok()) return retired;
  // It is a live range of the allocator's, so this cannot overflow.
  const std::uint64_t bytes = pages << allocator_.page_size().shift();
  const Result<Range> range = Range::FromFirstLast(first, first + (bytes - 1));
  const Result<void> done =
      range.ok() ? invalidation_.Invalidate(*range) : range.error();
  if (done.ok()) return allocator_.Release(first, pages);
  // relaxed: a statistic.
  failures_.fetch_add(1, std::memory_order_relaxed);
  const Result<void> restored = allocator_.Restore(first, pages);
  return restored.ok() ? done : restored;
}

// What a free has found to do. It holds neither its slot nor a lock.
template <RetiringAllocator A, Invalidator I, class Policy>
Result<void> FlushQueue<A, I, Policy>::Work(const Step& step) {
  step.ring->set_abandoned(false);
  Result<void> done;
  if (step.next == Next::kMakeRoom && !step.ring->HasClean()) {
    const Guard<typename Policy::FlushLock> guard(flush_lock_);
    // Somebody else's invalidation may have served this ring meanwhile.
    if (!step.ring->HasClean()) done = FlushLocked(max_age_ != 0 ? Now() : 0);
  } else if (step.next == Next::kFlush && flush_lock_.try_lock()) {
    // If it is taken, an invalidation is under way: the next free looks again.
    // What fails here is counted and tried again; the range is taken.
    if (TooOld(*step.ring, step.now)) (void)FlushLocked(step.now);
    flush_lock_.unlock();
  }
  Release(*step.ring);
  ForEachRing([&](Ring& ring) {
    if (ring.abandoned() && ring.HasClean()) Release(ring);
  });
  return done;
}

// One invalidation for everything queued, if anything is. Under flush_lock_. A
// ring that is made after the first loop has snapshot 0: nothing of it becomes
// clean.
template <RetiringAllocator A, Invalidator I, class Policy>
Result<void> FlushQueue<A, I, Policy>::FlushLocked(std::uint64_t now) {
  bool dirty = false;
  ForEachRing([&](Ring& ring) { dirty = ring.Snapshot() || dirty; });
  if (!dirty) return Ok();
  // relaxed throughout: hints and statistics.
  last_attempt_.store(now, std::memory_order_relaxed);
  const Result<void> done = invalidation_.InvalidateAll();
  if (!done.ok()) {
    failures_.fetch_add(1, std::memory_order_relaxed);
    return done;
  }
  invalidations_.fetch_add(1, std::memory_order_relaxed);
  ForEachRing([](Ring& ring) { ring.Publish(); });
  return Ok();
}

template <RetiringAllocator A, Invalidator I, class Policy>
void FlushQueue<A, I, Policy>::Release(Ring& ring) {
  ring.TakeClean([&](const FlushEntry& entry) {
    if (allocator_.Release(entry.first, entry.pages).ok()) return;
    // Only after two frees of one address at the same instant, one of them
    // past the queue (FreeCheck::kOrdered). relaxed: a statistic.
    disowned_.fetch_add(1, std::memory_order_relaxed);
  });
}

template <RetiringAllocator A, Invalidator I, class Policy>
Result<void> FlushQueue<A, I, Policy>::Drain() {
  if (!ready_) return Error::kShutDown;
  if (rings_ == nullptr) return Ok();
  Result<void> done;
  {
    const Guard<typename Policy::FlushLock> guard(flush_lock_);
    done = FlushLocked(max_age_ != 0 ? Now() : 0);
  }
  // Without a look whether there is anything: who is at it now must be done
  // when this returns.
  ForEachRing([&](Ring& ring) { Release(ring); });
  return done;
}

template <RetiringAllocator A, Invalidator I, class Policy>
Result<void> FlushQueue<A, I, Policy>::Poll(std::uint64_t now) {
  if (!ready_) return Error::kShutDown;
  if constexpr (requires { allocator_.TrimStep(); }) allocator_.TrimStep();
  if (rings_ == nullptr) return Ok();
  bool due = false;
  ForEachRing([&](const Ring& ring) {
    due = due || (max_age_ != 0 && ring.HasDirty() && TooOld(ring, now));
  });
  Result<void> done;
  if (due) {
    const Guard<typename Policy::FlushLock> guard(flush_lock_);
    done = FlushLocked(now);
  }
  ForEachRing([&](Ring& ring) {
    if (ring.HasClean()) Release(ring);
  });
  return done;
}

// On the leaving thread, before the slot has a new owner.
template <RetiringAllocator A, Invalidator I, class Policy>
void FlushQueue<A, I, Policy>::OnRetired(void* self, std::size_t slot) {
  auto& me = *static_cast<FlushQueue*>(self);
  if (slot >= me.slots_) return;
  Ring* ring = me.Find(slot);
  if (ring == nullptr) return;
  ring->set_abandoned(true);
  if (ring->HasClean()) me.Release(*ring);
}

template <RetiringAllocator A, Invalidator I, class Policy>
FlushQueueStats FlushQueue<A, I, Policy>::stats() const {
  FlushQueueStats s;
  // relaxed: statistics.
  s.invalidations = invalidations_.load(std::memory_order_relaxed);
  s.failures = failures_.load(std::memory_order_relaxed);
  s.disowned = disowned_.load(std::memory_order_relaxed);
  s.bytes = sizeof(*this);
  if (rings_ == nullptr) return s;
  s.bytes += (slots_ + 1) * sizeof(RingPointer);
  ForEachRing([&](const Ring& ring) {
    const std::uint64_t head = ring.head();  // first: it never passes the tail
    const std::uint64_t tail = ring.tail();
    s.released += head;
    s.enqueued += tail;
    s.queued += tail - head;
    s.bytes += ring.bytes();
  });
  return s;
}

template <RetiringAllocator A, Invalidator I, class Policy>
bool FlushQueue<A, I, Policy>::CheckInvariants() const {
  if (rings_ == nullptr) return true;
  bool good = Find(slots_) != nullptr;
  ForEachRing([&](const Ring& r) { good = good && r.CheckInvariants(); });
  return good;
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_FLUSH_SLOW_H_
