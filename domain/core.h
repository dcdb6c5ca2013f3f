// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_CORE_H_
#define DMAMAP_DOMAIN_CORE_H_

// What the stream space and the coherent space of a domain share: the lock, the
// IOTLB that it guards, the policies, the counters. An inner header.

#include <atomic>
#include <cstdint>

#include "bounce/memory_access.h"
#include "bounce/page_source.h"
#include "bounce/swappable_pages.h"
#include "dma/atom.h"
#include "dma/invalidate.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "domain/coherent_table.h"
#include "domain/counters.h"
#include "domain/options.h"

namespace dmamap::inline v0 {
namespace internal {

// Whether calls are accepted.
enum class DomainPhase : std::uint32_t {
  kNotYet,  // before Init
  kOpen,
  kClosing,  // a Shutdown looks whether it may; who meets it waits
  kClosed,
};

// Guarded by `lock`: iotlb, coherent counters, the records of the coherent
// space, and each change of `phase`. The policies and `counters` are
// thread-safe by themselves.
template <class Policies>
struct DomainCore {
  static_assert(MemoryAccess<typename Policies::Memory>);
  static_assert(PageSource<typename Policies::Pages>);
  static_assert(Invalidator<typename Policies::Invalidation>);
  static_assert(Lock<typename Policies::LockType>);
  template <class T>
  using Atom = typename Policies::template Atom<T>;
  using Fence = typename Policies::template Fence<Policies::template Atom>;

  typename Policies::Memory memory;
  typename Policies::Pages pages;
  // What never moves (swappable_pages.h).
  auto& fixed_pages() {
    if constexpr (SwappableSource<typename Policies::Pages>) {
      return pages.fixed();
    } else {
      return pages;
    }
  }
  typename Policies::Invalidation invalidation;
  DomainCounters<typename Policies::Cpu, typename Policies::LockType,
                 Policies::template Atom>
      counters;
  typename Policies::LockType lock;
  CoherentTable<typename Policies::Invalidation> iotlb{invalidation};
  std::uint64_t coherent = 0;
  std::uint64_t refused = 0;
  Atom<std::uint64_t> quarantined{0};
  // Blocks that a FreeCoherent is taking apart: not live, not yet free. Raised
  // under the lock, lowered without it.
  Atom<std::uint64_t> ending{0};
  Atom<DomainPhase> phase{DomainPhase::kNotYet};
  // Mappings and blocks that may still be made; unused when there is no bound.
  Atom<std::uint64_t> quota{0};
  bool bounded = false;

  // False before Init and after Shutdown. `order`: seq_cst for who has made
  // something that a Shutdown has to see, else acquire.
  bool IsOpen(std::memory_order order = std::memory_order_acquire) const {
    // O2, acquire at least: pairs with O1 in Init, and with Shutdown's answer.
    const DomainPhase now = phase.load(order);
    return now == DomainPhase::kOpen || AwaitOpen(now);
  }

  // The same, when it said `now` and not kOpen.
  [[gnu::noinline, gnu::cold]] bool AwaitOpen(DomainPhase now) const {
    while (now == DomainPhase::kClosing) {
      AtomRelax<Policies::template Atom>();
      now = phase.load(std::memory_order_acquire);  // as above
    }
    return now == DomainPhase::kOpen;
  }

  // One of max_mappings; false when there is none left.
  bool TakeQuota() {
    if (!bounded) [[likely]]
      return true;
    // relaxed: a bound on a counter; orders nothing.
    std::uint64_t left = quota.load(std::memory_order_relaxed);
    do {
      if (left == 0) return false;
    } while (!quota.compare_exchange_weak(
        left, left - 1, std::memory_order_relaxed, std::memory_order_relaxed));
    return true;
  }
  void GiveQuota() {
    if (bounded) quota.fetch_add(1, std::memory_order_relaxed);  // as above
  }

  void CountQuarantined() {
    // relaxed: a statistic.
    quarantined.fetch_add(1, std::memory_order_relaxed);
  }

  // REQUIRES: the lock.
  void BeginEnding(std::uint64_t n) {
    // relaxed: the lock orders it for Shutdown.
    ending.fetch_add(n, std::memory_order_relaxed);
  }
  // The last thing that a FreeCoherent does.
  void DoneEnding(std::uint64_t n) {
    // E1, release: pairs with E2. All that the call did has happened.
    ending.fetch_sub(n, std::memory_order_release);
  }
  // E2, acquire: pairs with E1. REQUIRES: the lock.
  bool IsEnding() const { return ending.load(std::memory_order_acquire) != 0; }

  // Counts a call that named a mapping that is not there, and passes it on.
  Error RefuseStream(Error error) {
    if (error != Error::kBusy && error != Error::kInvalidArgument) {
      counters.Count([](auto& line) { line.refused.Add(); });
    }
    return error;
  }
  // The same for a coherent block. REQUIRES: the lock.
  Error Refuse(Error error) {
    ++refused;
    return error;
  }
};

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_CORE_H_
