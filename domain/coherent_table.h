// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_COHERENT_TABLE_H_
#define DMAMAP_DOMAIN_COHERENT_TABLE_H_

// CoherentTable: the IOTLB of the coherent space, which is also entered into
// the device's own tables where it has some (IommuMap). An inner header. Under
// the domain's lock, as the IOTLB is.

#include <utility>

#include "dma/address.h"
#include "dma/iommu_map.h"
#include "dma/result.h"
#include "dma/version.h"
#include "iotlb/iotlb.h"
#include "iotlb/mapping.h"

namespace dmamap::inline v0 {
namespace internal {

// The device looks up here.
template <class Invalidation>
class CoherentTable : public Iotlb {
 public:
  explicit CoherentTable(Invalidation&) {}

  Result<void> Add(const IotlbEntry& entry, bool*) { return Iotlb::Add(entry); }
};

// The device looks up in `Backend`, by whole pages. REQUIRES: entries begin on
// pages of it, and share none.
template <IommuMap Backend>
class CoherentTable<Backend> : public Iotlb {
 public:
  explicit CoherentTable(Backend& backend) : backend_(backend) {}

  // As Iotlb::Add, and as Backend::Map. After an error that sets *kept the
  // device may reach the memory, and it cannot be taken away from it.
  Result<void> Add(const IotlbEntry& entry, bool* kept) {
    const Result<void> added = Iotlb::Add(entry);
    if (!added.ok()) return added;
    const Range pages = PagesOf(entry.range);
    Result<void> done = backend_.Map(pages, entry.address, entry.permission);
    if (done.ok()) {
      done = backend_.SyncMap(pages);
      if (!done.ok()) *kept = !Forget(pages);
    }
    if (!done.ok()) (void)RemoveExact(entry.range, entry.token).ok();
    return done;
  }
  // Out of the tables first. REQUIRES: an invalidation follows.
  IotlbEntry RemoveEntry(const EntryRef& entry) {
    (void)backend_.Unmap(PagesOf(entry->range)).ok();  // it is mapped
    return Iotlb::RemoveEntry(entry);
  }
  void Clear() {
    ForEach([this](const IotlbEntry& entry) {
      (void)backend_.Unmap(PagesOf(entry.range)).ok();  // likewise
    });
    Iotlb::Clear();
  }

 private:
  Range PagesOf(Range range) const {
    return range.RoundOutToPages(backend_.page());
  }

  bool Forget(Range pages) {
    return backend_.Unmap(pages).ok() && backend_.Invalidate(pages).ok();
  }

  Backend& backend_;
};

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_COHERENT_TABLE_H_
