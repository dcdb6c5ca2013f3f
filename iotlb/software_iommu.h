// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_SOFTWARE_IOMMU_H_
#define DMAMAP_IOTLB_SOFTWARE_IOMMU_H_

// SoftwareIommu: the IOTLB as an IommuMap, for devices that are software.
//
//   driver's side                          the device's, any number of threads
//   Map, SyncMap                           Reader::Section section(reader);
//   Unmap      found no more               t = reader.Lookup(iova, wanted);
//   Invalidate waits for the sections      ... uses the memory ...
//
// A device that uses what a lookup gave it within a Section of its Reader does
// what hardware does between a translation and the end of its access; an
// invalidation waits for it. A device that reads without a section is on its
// own: then nobody waits for it.
//
// Byte ranges would be possible; pages are what hardware has, so it is pages
// here too, and what a driver sees with it is what it will see with an IOMMU.
//
// Thread-safe after Init. Changes are under the IOTLB's writer lock; lookups
// take none.

#include <cstddef>

#include "dma/address.h"
#include "dma/direction.h"
#include "dma/iommu_map.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "iotlb/iotlb.h"
#include "iotlb/mapping.h"
#include "iotlb/policies.h"

namespace dmamap::inline v0 {

struct SoftwareIommuPolicies : IotlbPolicies {
  using WriterLock = SpinLock;
};

template <class Policies = SoftwareIommuPolicies>
class BasicSoftwareIommu {
 public:
  using Iotlb = BasicIotlb<Policies>;

  // Once, before anything else; until then calls end in kShutDown. `limit`: the
  // most ranges at a time, each Map's one; 0: no bound. kBusy the second time,
  // kInvalidArgument for a page of less than 4 KiB.
  Result<void> Init(PageSize page = PageSize(), std::size_t limit = 0) {
    if (page.shift() < PageSize().shift()) return Error::kInvalidArgument;
    const Result<void> made =
        iotlb_.Init({.limit = limit,
                     .overlap_policy = OverlapPolicy::kRefuse,
                     .remove_policy = RemovePolicy::kSplit});
    if (made.ok()) page_ = page;
    return made;
  }

  // As IommuMap says; kLimit, kNoMemory.
  PageSize page() const { return page_; }
  Result<void> Map(Range range, PhysAddr memory, Permission permission) {
    if (!range.IsPageAligned(page_) || !page_.IsAligned(memory.value()) ||
        permission == Permission::kNone) {
      return Error::kInvalidArgument;
    }
    return iotlb_.Add({range, memory, permission});
  }
  Result<void> SyncMap(Range) { return Ok(); }
  Result<void> Unmap(Range range) {
    if (!range.IsPageAligned(page_)) return Error::kInvalidArgument;
    if (!IsMapped(range)) return Error::kNotMapped;
    const auto removed = iotlb_.Remove(range, RemoveMode::kDeferred);
    return removed.ok() ? Ok() : Result<void>(removed.error());
  }
  // Waits until no section is left that began before. REQUIRES: the caller is
  // in none.
  Result<void> Invalidate(Range) { return InvalidateAll(); }
  Result<void> InvalidateAll() {
    iotlb_.Synchronize();
    return Ok();
  }

  // What the device reaches at `at`; kNotMapped, kPermission. For more than one
  // look-up, and for sections: a Reader of iotlb().
  Result<Translation> Lookup(Iova at, Permission wanted) const {
    return iotlb_.Lookup(at, wanted);
  }
  Iotlb& iotlb() { return iotlb_; }
  const Iotlb& iotlb() const { return iotlb_; }

 private:
  // Each byte: the ranges do not overlap.
  bool IsMapped(Range range) const {
    bool whole = true;
    const auto looked =
        iotlb_.ForEachSegment(range, Permission::kNone, [&](const Segment& s) {
          whole = whole && s.kind == SegmentKind::kMapped;
          return whole;
        });
    return looked.ok() && whole;
  }

  Iotlb iotlb_;
  PageSize page_;
};

using SoftwareIommu = BasicSoftwareIommu<>;
static_assert(IommuMap<SoftwareIommu>);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_SOFTWARE_IOMMU_H_
