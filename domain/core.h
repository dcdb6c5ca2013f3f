// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_CORE_H_
#define DMAMAP_DOMAIN_CORE_H_

// What the stream space and the coherent space of a domain share: the lock, the
// IOTLB that it guards, the policies, the counters. An inner header.

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
  // Calls that took something apart and are not done: not live, not free.
  std::uint64_t ending = 0;
  bool closed = false;

  // Counts a call that named something that is not there, and passes it on.
  Error Refuse(Error error) {
    ++stats.refused;
    return error;
  }
};

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_CORE_H_
