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
#include "dma/invalidate.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "domain/options.h"
#include "iotlb/iotlb.h"

namespace dmamap::inline v0 {
namespace internal {

// Guarded by `lock`: iotlb, stats, closed, and the records of both spaces.
// The policies are thread-safe by themselves.
template <class Policies>
struct DomainCore {
  static_assert(MemoryAccess<typename Policies::Memory>);
  static_assert(PageSource<typename Policies::Pages>);
  static_assert(Invalidator<typename Policies::Invalidation>);
  static_assert(Lock<typename Policies::LockType>);

  typename Policies::Memory memory;
  typename Policies::Pages pages;
  typename Policies::Invalidation invalidation;
  typename Policies::LockType lock;
  Iotlb iotlb;
  DomainStats stats;
  // Mappings and blocks that a call is taking apart: not live, not yet free.
  // Raised under the lock, lowered without it.
  typename Policies::template Atom<std::uint64_t> ending{0};
  bool closed = false;

  // REQUIRES: the lock.
  void BeginEnding(std::uint64_t n) {
    // relaxed: the lock orders it for Shutdown.
    ending.fetch_add(n, std::memory_order_relaxed);
  }
  // The last thing that an Unmap or FreeCoherent does.
  void DoneEnding(std::uint64_t n) {
    // E1, release: pairs with E2. All that the call did has happened.
    ending.fetch_sub(n, std::memory_order_release);
  }
  // E2, acquire: pairs with E1. REQUIRES: the lock.
  bool IsEnding() const { return ending.load(std::memory_order_acquire) != 0; }

  // Counts a call that named something that is not there, and passes it on.
  Error Refuse(Error error) {
    ++stats.refused;
    return error;
  }
};

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_CORE_H_
