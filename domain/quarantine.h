// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_QUARANTINE_H_
#define DMAMAP_DOMAIN_QUARANTINE_H_

// Quarantine: addresses, and what lies behind them, between the Unmap that
// ended their mapping and an invalidation after which no device can reach them.
// A FlushQueue (iova/flush_queue.h) whose entries are mappings. An inner
// header.
//
//   Unmap      the mapping is out of the tables and says kRetired
//   Put        its address waits: not free, not live
//   ...        InvalidateAll, one for all that wait
//   released   Space::Released(first) gives up what lies behind the address
//              (bounce pages, the word), and then the address is free
//
// Tickets. Invalidations are numbered from 1 as they start, and one runs at a
// time. Ticket() names the first that starts from now on; once an invalidation
// of that number or a later one has succeeded, all that was Put before is over.
//
// Synchronisation edge
//   T1 -> T2  what its caller did before Ticket() happens before the
//             invalidation that the ticket names.
//   T3 -> T4  that has succeeded when IsOver says so.

#include <atomic>
#include <cstdint>

#include "dma/address.h"
#include "dma/result.h"
#include "dma/version.h"
#include "domain/mode.h"
#include "iova/flush_queue.h"

namespace dmamap::inline v0 {
namespace internal {

// Policies as DomainPolicies. Allocator: the addresses' (it may be one of
// several). Space: Result<void> InvalidateAll(), one at a
// time, and Released(Iova first), by any thread and under a lock: it must call
// neither the quarantine nor anybody who waits for it.
template <class Policies, class Space,
          class Allocator = typename Policies::Allocator>
class Quarantine {
 public:
  static constexpr bool kCan = RetiringAllocator<Allocator>;

  Quarantine(Allocator& iova, Space& space)
      : iovas_{iova, space}, device_{space}, queue_(iovas_, device_) {}

  // As FlushQueue::Init. kUnsupported: the allocator cannot retire.
  Result<void> Init(const FlushQueueOptions& options) {
    deferred_ = options.mode == FlushMode::kDeferred;
    if (deferred_ && !kCan) return Error::kUnsupported;
    return deferred_ ? queue_.Init(options) : Ok();
  }
  bool deferred() const { return kCan && deferred_; }

  // As FlushQueue::Free: Ok, or nothing has changed. REQUIRES: deferred().
  Result<void> Put(Iova first, std::uint64_t pages) {
    return queue_.Free(first, pages);
  }
  // When it returns Ok, all that was Put before is over. It has a number like
  // an invalidation: the queue makes none when nothing waits.
  Result<void> Drain() {
    if (!deferred()) return Ok();
    const std::uint64_t mine = device_.Start();
    const Result<void> done = queue_.Drain();
    if (done.ok()) device_.Finish(mine);
    return done;
  }
  Result<void> Poll() { return deferred() ? queue_.Poll() : Ok(); }
  std::uint64_t size() const { return deferred() ? queue_.stats().queued : 0; }
  std::uint64_t invalidations() const {
    return deferred() ? queue_.stats().invalidations : 0;
  }

  // REQUIRES: nobody else uses it.
  bool CheckInvariants() const { return queue_.CheckInvariants(); }

  SafetyTicket Ticket() {
    // T1, release: pairs with T2. A read-modify-write, so that an invalidation
    // that starts later reads from it or from one behind it.
    return SafetyTicket{
        device_.started.fetch_add(0, std::memory_order_release) + 1};
  }
  bool IsOver(SafetyTicket ticket) const {
    // T4, acquire: pairs with T3.
    return !deferred() || device_.finished.load(std::memory_order_acquire) >=
                              static_cast<std::uint64_t>(ticket);
  }

 private:
  template <class T>
  using Atom = typename Policies::template Atom<T>;

  struct Iovas {
    Allocator& iova;
    Space& space;
    Result<void> Retire(Iova a, std::uint64_t n) { return iova.Retire(a, n); }
    Result<void> Restore(Iova a, std::uint64_t n) { return iova.Restore(a, n); }
    Result<void> Release(Iova a, std::uint64_t n) {
      space.Released(a);
      return iova.Release(a, n);
    }
    PageSize page_size() const { return iova.page_size(); }
    auto& cpu() { return iova.cpu(); }
  };
  struct Counted {
    Space& space;
    Atom<std::uint64_t> started{0};
    Atom<std::uint64_t> finished{0};
    Result<void> Invalidate(Range) { return InvalidateAll(); }
    std::uint64_t Start() {
      // T2, acquire: pairs with T1.
      return started.fetch_add(1, std::memory_order_acquire) + 1;
    }
    void Finish(std::uint64_t mine) {
      std::uint64_t last = finished.load(std::memory_order_relaxed);
      // T3, release: pairs with T4. relaxed on failure: a guess. It only grows.
      while (last < mine && !finished.compare_exchange_weak(
                                last, mine, std::memory_order_release,
                                std::memory_order_relaxed)) {
      }
    }
    Result<void> InvalidateAll() {
      const std::uint64_t mine = Start();
      const Result<void> done = space.InvalidateAll();
      if (done.ok()) Finish(mine);
      return done;
    }
  };
  // For an allocator that cannot retire.
  struct NoQueue {
    NoQueue(Iovas&, Counted&) {}
    Result<void> Init(const FlushQueueOptions&) { return Error::kUnsupported; }
    Result<void> Free(Iova, std::uint64_t) { return Error::kUnsupported; }
    Result<void> Drain() { return Ok(); }
    Result<void> Poll() { return Ok(); }
    FlushQueueStats stats() const { return {}; }
    bool CheckInvariants() const { return true; }
  };
  template <bool kQueue, class I, class D>
  struct QueueFor {
    using Type = NoQueue;
  };
  template <class I, class D>
  struct QueueFor<true, I, D> {
    using Type = FlushQueue<I, D, typename Policies::Flush>;
  };

  Iovas iovas_;
  Counted device_;
  typename QueueFor<kCan, Iovas, Counted>::Type queue_;
  bool deferred_ = false;
};

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_QUARANTINE_H_
