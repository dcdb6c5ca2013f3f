// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_ALLOCATOR_INIT_H_
#define DMAMAP_IOVA_ALLOCATOR_INIT_H_

// Init() of IovaAllocator, and how a caller's constraints become a request in
// pages. Included by iova/allocator.h alone.

#include "iova/allocator.h"

namespace dmamap::inline v0 {

template <RangeStore Store, CpuLocal Cpu, class Policy>
Result<void> IovaAllocator<Store, Cpu, Policy>::Init(
    const AllocatorOptions& options) {
  if (local_slots_ != 0 || ready_) return Error::kBusy;
  page_ = options.page;
  shift_ = page_.shift();
  if (!options.window.IsPageAligned(page_)) return Error::kInvalidArgument;
  const std::uint64_t first = page_.Number(options.window.first());
  const std::uint64_t last = page_.Number(options.window.last());
  if ((last >> kMaxPageBits) != 0) return Error::kUnsupported;
  if ((options.guard_pages >> kMaxPageBits) != 0) {
    return Error::kInvalidArgument;
  }
  guard_pages_ = options.guard_pages;
  window_ = options.window;
  Result<void> made = store_.Init(first, last);
  if (made.ok()) made = reserved_.Init(options.reserved, window_, page_);
  if (made.ok()) made = InsertUnreserved();
  if (made.ok()) {
    made = tags_.Init(static_cast<unsigned>(std::bit_width(last)), kClasses);
  }
  if (made.ok()) made = cache_.Init(cpu_.slots(), options.depot_limit);
  if (!made.ok()) return made;
  window_pages_ = store_.free_pages();
  if (window_pages_ == 0) return Error::kInvalidArgument;
  local_slots_ = cpu_.slots();
  ready_ = true;
  cpu_.Subscribe(listener_);
  return Ok();
}

// Inserts the pages of the window before, between and behind reserved ranges.
template <RangeStore Store, CpuLocal Cpu, class Policy>
Result<void> IovaAllocator<Store, Cpu, Policy>::InsertUnreserved() {
  std::uint64_t at = page_.Number(window_.first());
  for (const Range& range : reserved_.ranges()) {
    const std::uint64_t from = page_.Number(range.first());
    if (from > at) {
      const Result<void> inserted = store_.Insert(at, from - 1);
      if (!inserted.ok()) return inserted;
    }
    at = page_.Number(range.last()) + 1;
  }
  const std::uint64_t last = page_.Number(window_.last());
  return at <= last ? store_.Insert(at, last) : Ok();
}

template <RangeStore Store, CpuLocal Cpu, class Policy>
Result<PageRequest> IovaAllocator<Store, Cpu, Policy>::ToRequest(
    std::uint64_t pages, const Constraints& c) const {
  if (pages == 0) return Error::kInvalidArgument;
  if (c.alignment != 0 && !IsPowerOfTwo(c.alignment)) {
    return Error::kInvalidArgument;
  }
  PageRequest request;
  request.count = pages;
  if ((c.alignment >> shift_) > 1) {
    request.align_order =
        static_cast<unsigned>(std::countr_zero(c.alignment)) - shift_;
  }
  if (c.align_to == AlignTo::kSize) {
    request.align_order = std::max(
        request.align_order, static_cast<unsigned>(std::bit_width(pages - 1)));
  }
  if (c.boundary != 0) {
    if (!IsPowerOfTwo(c.boundary) || (c.boundary >> shift_) < pages) {
      return Error::kInvalidArgument;
    }
    request.boundary_order =
        static_cast<unsigned>(std::countr_zero(c.boundary)) - shift_;
  }
  if (c.limit != Iova::Max()) {
    // Whole pages at or below the limit, less one.
    const std::uint64_t whole = (c.limit.value() + 1) >> shift_;
    if (whole < pages) return Error::kNoSpace;
    request.last = whole - 1;
  }
  const Result<std::uint64_t> first = page_.RoundUp(c.first.value());
  if (!first.ok()) return Error::kNoSpace;
  request.first = *first >> shift_;
  request.placement = c.placement;
  return request;
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_ALLOCATOR_INIT_H_
