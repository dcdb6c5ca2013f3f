// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// One program, built and run once for each way of embedding dmamap
// (../check_consumers.sh): it includes a header of each part and uses it, so
// that a way that finds only some of the headers does not pass.

#include <array>
#include <cstddef>
#include <cstdio>

#include "bounce/bounce.h"
#include "bounce/memory_access.h"
#include "bounce/page_source.h"
#include "dma/address.h"
#include "dma/mapper.h"
#include "domain/domain.h"
#include "iotlb/iotlb.h"
#include "iova/standard.h"
#include "nicring/length_policy.h"
#include "nicring/rx_ring.h"
#include "testing/copying_mapper.h"

namespace {

using dmamap::Direction;
using dmamap::Iova;
using dmamap::Mapping;
using dmamap::Permission;
using dmamap::Range;
using dmamap::Result;

bool UsesDma() {
  const Result<Range> range = Range::FromSize(Iova(0x1000), 0x2000);
  return range.ok() && range->last() == Iova(0x2fff);
}

bool UsesIova() {
  dmamap::StandardAllocator allocator;
  const Result<Range> window =
      Range::FromFirstLast(Iova(0x10000), Iova(0xffffffff));
  if (!window.ok() || !allocator.Init({.window = *window}).ok()) return false;
  const Result<Iova> pages = allocator.Allocate(4);
  return pages.ok() && allocator.Free(*pages, 4).ok() &&
         !allocator.Free(*pages, 4).ok();
}

bool UsesIotlb() {
  dmamap::Iotlb iotlb;
  std::array<std::byte, 64> buffer = {};
  const Result<Range> range = Range::FromSize(Iova(0x1000), buffer.size());
  if (!range.ok() || !iotlb.Init().ok()) return false;
  const dmamap::IotlbEntry entry = {*range, dmamap::PhysAddrOf(buffer.data()),
                                    Permission::kRead, 0};
  return iotlb.Add(entry).ok() &&
         iotlb.Lookup(Iova(0x1001), Permission::kRead).ok() &&
         !iotlb.Lookup(Iova(0x1001), Permission::kWrite).ok();
}

bool UsesBounce() {
  dmamap::HeapPages pages;
  dmamap::DirectMemory memory;
  dmamap::Bounce bounce(pages, memory);
  return bounce.Init({.size = 1 << 20}).ok() &&
         bounce.PageAt(Iova(0x1000)) == nullptr;
}

bool UsesNicring() {
  using dmamap::LengthPolicy;
  return Judge(LengthPolicy::kClamp, 2000, 1536).length == 1536 &&
         !Judge(LengthPolicy::kReject, 2000, 1536).deliver;
}

template <dmamap::Mapper M>
bool MapsAndUnmaps(M& mapper) {
  std::array<std::byte, 100> buffer = {};
  const Result<Mapping> mapping =
      mapper.Map(dmamap::PhysAddrOf(buffer.data()), buffer.size(),
                 Direction::kBidirectional);
  return mapping.ok() && mapper.Unmap(*mapping).ok();
}

bool UsesDomain() {
  dmamap::Domain<> domain;
  return domain.Init({.limit = Iova(0xffffffff), .bounce_size = 1 << 20})
             .ok() &&
         MapsAndUnmaps(domain);
}

bool UsesTesting() {
  dmamap::CopyingMapper mapper;
  return MapsAndUnmaps(mapper);
}

}  // namespace

int main() {
  const bool fine = UsesDma() && UsesIova() && UsesIotlb() && UsesBounce() &&
                    UsesNicring() && UsesDomain() && UsesTesting();
  if (!fine) return 1;
  std::puts("dmamap consumer: ok");
  return 0;
}
