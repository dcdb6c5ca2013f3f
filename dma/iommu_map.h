// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DMA_IOMMU_MAP_H_
#define DMAMAP_DMA_IOMMU_MAP_H_

// IommuMap: page tables that a device's accesses go through, as whoever makes
// mappings sees them. An IOMMU's tables, a VFIO container, vhost-user messages,
// or, for software devices, the library's own IOTLB (iotlb/software_iommu.h).
//
//   Map, SyncMap                  the device may use it
//   Unmap, Invalidate[All]        it may not, and knows nothing of it any more
//
// An Unmap alone is no end: a device, or an IOTLB in it, may go on with an old
// translation until an invalidation that began after the Unmap has succeeded.
// The memory of tables that an Unmap has emptied is the implementation's, and
// is in the same case: a walk may be in it until then, so it is freed after the
// next invalidation that covers it, not in Unmap.
//
// Ranges are whole pages of page(), inclusive. Thread-safe; calls for disjoint
// ranges may run at the same time.

#include <concepts>
#include <span>

#include "dma/address.h"
#include "dma/direction.h"
#include "dma/invalidate.h"
#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

template <class B>
concept IommuMap = Invalidator<B> &&
    requires(B& b, const B& c, Range range, PhysAddr memory,
             Permission permission) {
  // The smallest page. The same in every call.
  { c.page() } -> std::same_as<PageSize>;
  // From now on `range` means the memory from `memory` (a page's start) on, for
  // accesses of `permission`. All or nothing. kInvalidArgument (not whole
  // pages, no permission), kOverlap when a page of it is mapped, kOutOfRange
  // beyond what the tables reach, kNoMemory or kLimit for want of table memory,
  // kDevice.
  { b.Map(range, memory, permission) } -> std::same_as<Result<void>>;
  // After one Map or several, and before the device is told an address: what it
  // or its IOTLB remembers of "not mapped" is gone, and the tables are written
  // out. kDevice: the device may not use the range.
  { b.SyncMap(range) } -> std::same_as<Result<void>>;
  // Ends the translations of `range`: all that one or several Maps made, which
  // cannot fail, or a part of that. kNoMemory, and nothing has changed, when a
  // part would need memory (a large page that has to be split). kNotMapped when
  // a page of it is not mapped.
  { b.Unmap(range) } -> std::same_as<Result<void>>;
};

// What a backend says that no mapping may be at, and no address handed out: an
// optional `std::span<const Range> reserved() const`, the same in every call.
template <class B>
std::span<const Range> ReservedBy(const B& backend) {
  if constexpr (requires {
                  {
                    backend.reserved()
                    } -> std::convertible_to<std::span<const Range>>;
                }) {
    return backend.reserved();
  } else {
    return {};
  }
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_DMA_IOMMU_MAP_H_
