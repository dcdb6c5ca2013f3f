// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_CONSTRAINTS_H_
#define DMAMAP_IOVA_CONSTRAINTS_H_

// What a caller may ask of the range that it is given, and the same request in
// pages, as a RangeStore takes it. All constraints hold at once.

#include <cstdint>

#include "dma/address.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

// The last byte of the space that a device of 32 address bits can reach.
inline constexpr Iova kLast32Bit{0xffff'ffff};

// On x86 a device's write here is an interrupt message, not a memory access,
// whatever an IOMMU would translate it to (Intel SDM vol. 3, 11.11.1; VT-d
// specification, 3.14): reserve it in every window that covers it.
inline constexpr Range kX86MsiWindow =
    *Range::FromFirstLast(Iova(0xfee0'0000), Iova(0xfeef'ffff));

// The least alignment of the first byte.
enum class AlignTo : std::uint8_t {
  kPage,  // any page will do
  kSize,  // the size in pages, rounded up to a power of two
};

// Where the store looks first. What a magazine holds is taken wherever it
// lies.
enum class Placement : std::uint8_t {
  kTopDown,   // high addresses; low ones are left to narrow devices
  kBottomUp,  // low ones
};

// Designated initialisers make a request readable:
//   allocator.Allocate(4, {.limit = kLast32Bit});
//   allocator.Allocate(16, {.boundary = 0x10000});  // a descriptor engine
struct Constraints {
  // The last byte that the device can address, inclusive. Every byte of the
  // range lies at or below it.
  Iova limit = Iova::Max();
  // Bytes, a power of two; 0 or less than a page means one page. Addresses are
  // aligned as absolute values, not relative to the window.
  std::uint64_t alignment = 0;
  AlignTo align_to = AlignTo::kPage;
  Placement placement = Placement::kTopDown;
  // The first byte that may be used, inclusive.
  Iova first = Iova::Min();
  // Bytes, a power of two: no multiple of it lies inside the range, as engines
  // ask for that count an address in 16 or 32 bits. 0: none. kInvalidArgument
  // when the range is longer.
  std::uint64_t boundary = 0;
  // Where the last byte should lie, if that can be had without emptying a
  // cache; else anything up to `limit` will do. With kLast32Bit this is what
  // Linux does for PCI devices, which may need two bus cycles for an address
  // above 4 GiB.
  Iova preferred_limit = Iova::Max();
};

// A request in pages of a RangeStore.
struct PageRequest {
  static constexpr unsigned kNoBoundary = 64;
  static constexpr unsigned kWhole = 64;

  std::uint64_t count = 1;                 // pages, at least 1
  unsigned align_order = 0;                // first page % 2^align_order == 0
  std::uint64_t last = ~std::uint64_t{0};  // last usable page, inclusive
  std::uint64_t first = 0;                 // first usable page, inclusive
  // The `count` pages do not cross a multiple of 2^boundary_order.
  unsigned boundary_order = kNoBoundary;
  // Pages behind the `count` that are taken as well. They may lie above `last`
  // and a boundary.
  std::uint64_t padding = 0;
  Placement placement = Placement::kTopDown;
  // The range may be freed in aligned pieces of 2^piece_order pages.
  unsigned piece_order = kWhole;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_CONSTRAINTS_H_
