// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_OWNER_H_
#define DMAMAP_DOMAIN_OWNER_H_

// What may share a page that a device sees: PageSharing, and the owners that it
// goes by.
//
//   kNothing   |A.......|B.......|C.......|   each buffer its own bounce pages
//   kOwner     |AAB.BCC.|........|DD.D....|   slots: buffers of one owner share
//               +- owner 0 --+ + owner 1
//
// A device that has a page (FaultPage) reads all of it and writes all of it. So
// with kNothing it never reaches a byte of another buffer; with kOwner it
// reaches other buffers of the same owner, and a small transfer costs a slot
// (DomainOptions::page) and not a page (bounce_page). An owner is whatever the
// driver says: a queue, a ring, a client on whose behalf it maps. Owners have
// their own stretches of the stream space, so that one who maps without end
// takes no address of another, and a bounce page changes its owner only by way
// of the PageSource, which zeroes it.

#include <cstddef>
#include <cstdint>
#include <span>

#include "dma/address.h"
#include "dma/direction.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

enum class PageSharing : std::uint8_t {
  kNothing,  // no page ever shows two buffers
  kOwner,    // a page shows buffers of one owner
};
constexpr bool IsValid(PageSharing sharing) {
  return sharing <= PageSharing::kOwner;
}
constexpr const char* ToString(PageSharing sharing) {
  switch (sharing) {
    case PageSharing::kNothing:
      return "nothing";
    case PageSharing::kOwner:
      return "owner";
  }
  return "invalid sharing";
}

struct ScatterEntry;  // options.h

// Numbers from 0 to DomainOptions::owners - 1. Who says nothing maps for 0.
enum class BufferOwner : std::uint32_t {};

// A domain as one owner uses it: a CoherentMapper, as cheap to copy as a
// pointer and a number. What ends a mapping or syncs it is the domain's own
// call: whose it is, its address says. (Coherent blocks have their pages alone,
// whoever has them made.) kInvalidArgument from Map for an owner that the
// domain was not told of.
template <class DomainType>
class OwnedDomain {
 public:
  OwnedDomain(DomainType& domain, BufferOwner owner)
      : domain_(&domain), owner_(owner) {}

  BufferOwner owner() const { return owner_; }

  Result<Mapping> Map(PhysAddr buffer, std::uint64_t size, Direction direction,
                      MapAttributes attributes = MapAttributes::kNone) {
    return domain_->Map(buffer, size, direction, attributes, owner_);
  }
  Result<void> MapScatter(std::span<const ScatterEntry> list,
                          Direction direction, std::span<Mapping> mappings,
                          MapAttributes attributes = MapAttributes::kNone) {
    return domain_->MapScatter(list, direction, mappings, attributes, owner_);
  }
  Result<void> Unmap(const Mapping& mapping,
                     MapAttributes attributes = MapAttributes::kNone) {
    return domain_->Unmap(mapping, attributes);
  }
  Result<void> UnmapScatter(std::span<const Mapping> mappings,
                            MapAttributes attributes = MapAttributes::kNone) {
    return domain_->UnmapScatter(mappings, attributes);
  }
  Result<void> SyncForCpu(const Mapping& mapping, std::uint64_t offset,
                          std::uint64_t size) {
    return domain_->SyncForCpu(mapping, offset, size);
  }
  Result<void> SyncForDevice(const Mapping& mapping, std::uint64_t offset,
                             std::uint64_t size) {
    return domain_->SyncForDevice(mapping, offset, size);
  }
  Result<CoherentBlock> AllocateCoherent(std::uint64_t size) {
    return domain_->AllocateCoherent(size);
  }
  Result<void> FreeCoherent(const CoherentBlock& block) {
    return domain_->FreeCoherent(block);
  }

 private:
  DomainType* domain_;
  BufferOwner owner_;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_OWNER_H_
