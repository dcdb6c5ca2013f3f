// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOMMU_BUS_MEMORY_H_
#define DMAMAP_IOMMU_BUS_MEMORY_H_

// BusMemory: the embedder's memory as an IOMMU sees it. A PageSource whose
// pages have an address on the bus, for tables and queues, and the bus address
// of whatever is mapped.
//
//   LinearMemory<Pages>   one window of memory that lies on the bus in one
//                         piece: a kernel's direct map, a machine's memory file
//
// Where the IOMMU does not snoop the CPU's caches when it walks its tables
// (ECAP.C is 0), a BusMemory also has
//
//   void WriteBack(const std::byte* at, std::size_t bytes);
//
// which returns when these bytes are in memory. Thread-safe. A virtual IOMMU
// mostly says that it does not snoop, and means nothing by it: there the
// function does nothing.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "bounce/page_source.h"
#include "dma/address.h"
#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

template <class M>
concept BusMemory = PageSource<M> &&
    requires(const M& m, PhysRange memory, PhysAddr bus) {
  // Where `memory`, as the maker of a mapping names it, begins on the bus. It
  // must lie there in one piece. kOutOfRange: a device cannot reach all of it.
  // Any page that Allocate returned can be reached. Thread-safe.
  { m.ToBus(memory) } -> std::same_as<Result<PhysAddr>>;
  // The CPU's pointer to a page that Allocate returned. Thread-safe.
  { m.FromBus(bus) } -> std::same_as<std::byte*>;
};

template <class M>
concept WritesBack = requires(M& m, const std::byte* at, std::size_t bytes) {
  m.WriteBack(at, bytes);
};

// Pages of `Pages`, which must lie in `window`. By default the window is all
// memory and bus addresses are the CPU's. As thread-safe as Pages.
template <PageSource Pages>
class LinearMemory {
 public:
  LinearMemory() = default;
  // `window`, as the CPU names it, begins at `bus`.
  LinearMemory(PhysRange window, PhysAddr bus) { SetWindow(window, bus); }

  // Before anything is allocated or mapped.
  void SetWindow(PhysRange window, PhysAddr bus) {
    window_ = window;
    offset_ = bus.value() - window.first().value();
  }

  Result<std::byte*> Allocate(PageSize page, std::uint64_t pages) {
    const Result<std::byte*> made = pages_.Allocate(page, pages);
    if (!made.ok()) return made;
    const auto range =
        PhysRange::FromSize(PhysAddrOf(*made), pages << page.shift());
    if (range.ok() && window_.Contains(*range)) return made;
    pages_.Free(*made, page, pages);
    return Error::kOutOfRange;
  }
  void Free(std::byte* memory, PageSize page, std::uint64_t pages) {
    pages_.Free(memory, page, pages);
  }

  Result<PhysAddr> ToBus(PhysRange memory) const {
    if (!window_.Contains(memory)) return Error::kOutOfRange;
    return memory.first() + offset_;
  }
  std::byte* FromBus(PhysAddr bus) const { return PointerTo(bus - offset_); }

  Pages& pages() { return pages_; }

 private:
  Pages pages_;
  PhysRange window_ = PhysRange::Whole();
  std::uint64_t offset_ = 0;  // from the CPU's address to the bus's
};
static_assert(BusMemory<LinearMemory<HeapPages>>);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOMMU_BUS_MEMORY_H_
