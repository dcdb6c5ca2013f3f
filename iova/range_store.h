// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_RANGE_STORE_H_
#define DMAMAP_IOVA_RANGE_STORE_H_

// RangeStore: the slow path under the magazines. It knows which pages of a
// window are free and nothing about who uses the others.
//
// Pages are numbered absolutely (address >> page shift), so that alignment is
// alignment of the address. A store is single-threaded: its owner locks it.
// The cost of each call is at most logarithmic in the window, whatever is live
// and whatever is asked for. A refusal is about one request: it says nothing
// about another limit or size, nor about the same one after a free.

#include <concepts>
#include <cstdint>

#include "dma/result.h"
#include "dma/version.h"
#include "iova/constraints.h"

namespace dmamap::inline v0 {

// Page numbers are below 2^kMaxPageBits: all of a 64-bit space in 4 KiB pages.
inline constexpr unsigned kMaxPageBits = 52;

template <class S>
concept RangeStore = std::default_initializable<S> &&
    requires(S& s, const S& c, std::uint64_t page, PageRequest request) {
  // Prepares for the pages [first, last]; none is free yet. Once: then kBusy.
  { s.Init(page, page) } -> std::same_as<Result<void>>;
  // Makes the pages [first, last] free. kOutOfRange outside the window,
  // kOverlap when one of them is free already, kNoMemory.
  { s.Insert(page, page) } -> std::same_as<Result<void>>;
  // The first page of `count` + `padding` free pages that meet the request;
  // they are free no more. kNoSpace, kNoMemory, kInvalidArgument (count 0, or
  // more than the boundary admits): nothing changed.
  { s.Allocate(request) } -> std::same_as<Result<std::uint64_t>>;
  // Takes back `count` pages from `first`: a range that Allocate returned, with
  // its padding, or a piece of it. Needs no memory. kForeign outside the window
  // or where nothing was handed out, kDoubleFree when a page of it is free:
  // nothing changed.
  { s.Free(page, page) } -> std::same_as<Result<void>>;
  // False when such a request is refused even while every page from Init's
  // first to its last is free. REQUIRES: count and padding are no more than
  // that. Any thread may ask at any time.
  { c.HasPlaceFor(request) } -> std::same_as<bool>;
  // A hint that this page is freed next. Any page; may do nothing.
  c.Prefetch(page);
  { c.free_pages() } -> std::same_as<std::uint64_t>;
  // Bytes of bookkeeping held now.
  { c.bytes() } -> std::same_as<std::uint64_t>;
  // Calls fn(first page, pages) for each free block, in no particular order.
  c.ForEachFree([](std::uint64_t, std::uint64_t) {});
  { c.CheckInvariants() } -> std::same_as<bool>;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_RANGE_STORE_H_
