// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DMA_INVALIDATE_H_
#define DMAMAP_DMA_INVALIDATE_H_

// What must happen before an I/O address may be used again.
//
// After a mapping is removed, a device (or its IOTLB) may still hold the old
// translation. The Invalidate seam names the embedder's way to end that: a VFIO
// unmap, an IOMMU's invalidation queue with a wait descriptor, a vhost-user
// IOTLB message with its reply.

#include <concepts>

#include "dma/address.h"
#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

template <class I>
concept Invalidator = requires(I& i, Range range) {
  // Returns success only when no device can reach memory through an old
  // translation of any byte of `range`. On an error nothing may be assumed:
  // the caller keeps the range in quarantine. May block; thread-safe.
  { i.Invalidate(range) } -> std::same_as<Result<void>>;
  // The same for every address: one call for a whole batch of ranges.
  { i.InvalidateAll() } -> std::same_as<Result<void>>;
};

// Nothing caches translations: the device looks each one up (a software
// device), or there is no device yet.
class NoInvalidation {
 public:
  Result<void> Invalidate(Range) { return Ok(); }
  Result<void> InvalidateAll() { return Ok(); }
};
static_assert(Invalidator<NoInvalidation>);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_DMA_INVALIDATE_H_
