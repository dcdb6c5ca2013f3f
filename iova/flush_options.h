// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_FLUSH_OPTIONS_H_
#define DMAMAP_IOVA_FLUSH_OPTIONS_H_

// What a flush queue may be told, what it asks of its allocator and its clock,
// and what it counts.

#include <atomic>
#include <chrono>
#include <concepts>
#include <cstdint>
#include <mutex>

#include "dma/address.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "iova/flush_ring.h"

namespace dmamap::inline v0 {

enum class FlushMode : std::uint8_t {
  kStrict,    // each free invalidates its own range, and waits for that
  kDeferred,  // frees are queued; one invalidation for all that are queued
};

struct FlushQueueOptions {
  FlushMode mode = FlushMode::kDeferred;
  // Ranges that one slot may have queued, a power of two, at most 2^20. When
  // it has so many, its next free invalidates. (Linux's flush queue has 256.)
  std::uint32_t entries = 256;
  // Nanoseconds of the clock; a slot whose oldest entry waits longer
  // invalidates at its next free. 0: the clock is never read. (Linux: 10 ms.)
  std::uint64_t max_age = 10'000'000;
  // The clock is read at every n-th free of a slot, a power of two, and at the
  // first after an invalidation. A clock that costs 20 ns is most of a free.
  std::uint32_t clock_interval = 1;
};

// Nanoseconds since any fixed point; thread-safe. It should not run backwards;
// where it does, an invalidation comes too early or up to max_age late, and
// nothing else happens.
template <class C>
concept FlushClock = requires(C& clock) {
  { clock() } -> std::convertible_to<std::uint64_t>;
};

struct SteadyClock {
  std::uint64_t operator()() const {
    return static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(
            std::chrono::steady_clock::now().time_since_epoch())
            .count());
  }
};

// An allocator whose free can be done in two steps (IovaAllocator).
template <class A>
concept RetiringAllocator = requires(A& a, Iova first, std::uint64_t pages) {
  { a.Retire(first, pages) } -> std::same_as<Result<void>>;
  { a.Release(first, pages) } -> std::same_as<Result<void>>;
  { a.Restore(first, pages) } -> std::same_as<Result<void>>;
  { a.page_size() } -> std::same_as<PageSize>;
  a.cpu();  // a CpuLocal, by reference; Release may acquire it
};

// What an embedder may change.
struct FlushQueuePolicy {
  template <class T>
  using Atom = std::atomic<T>;
  // A few instructions or, once in a batch, the release of a slot's entries.
  using Lock = SpinLock;
  // Held while the Invalidator runs: one that lets the waiting thread sleep.
  using FlushLock = std::mutex;
  using Clock = SteadyClock;
  template <template <class> class AtomType, class LockType>
  using Ring = FlushRing<AtomType, LockType>;
};

// Of one moment; exact when nobody frees or drains. Deferred mode but for
// `failures`.
struct FlushQueueStats {
  std::uint64_t queued = 0;         // ranges in quarantine now
  std::uint64_t enqueued = 0;       // ranges since Init
  std::uint64_t released = 0;       // of these, that went to the allocator
  std::uint64_t invalidations = 0;  // calls of InvalidateAll that succeeded
  std::uint64_t failures = 0;       // calls of the Invalidator that failed
  std::uint64_t disowned = 0;       // released, but the allocator refused
  std::uint64_t bytes = 0;          // of bookkeeping
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_FLUSH_OPTIONS_H_
