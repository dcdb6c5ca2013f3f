// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_CONSTRAINTS_H_
#define DMAMAP_IOVA_CONSTRAINTS_H_

// What a caller may ask of the range that it is given, and the same request in
// pages, as a RangeStore takes it.

#include <cstdint>

#include "dma/address.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

// The least alignment of the first byte.
enum class AlignTo : std::uint8_t {
  kPage,  // any page will do
  kSize,  // the size in pages, rounded up to a power of two
};

// Designated initialisers make a request readable:
//   allocator.Allocate(4, {.limit = Iova(0xffffffff)});
struct Constraints {
  // The last byte that the device can address, inclusive. Every byte of the
  // range lies at or below it.
  Iova limit = Iova::Max();
  // Bytes, a power of two; 0 or less than a page means one page. Addresses are
  // aligned as absolute values, not relative to the window.
  std::uint64_t alignment = 0;
  AlignTo align_to = AlignTo::kPage;
};

// A request in pages of a RangeStore.
struct PageRequest {
  std::uint64_t count = 1;                 // pages, at least 1
  unsigned align_order = 0;                // first page % 2^align_order == 0
  std::uint64_t last = ~std::uint64_t{0};  // last usable page, inclusive
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_CONSTRAINTS_H_
