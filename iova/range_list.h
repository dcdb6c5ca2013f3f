// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_RANGE_LIST_H_
#define DMAMAP_IOVA_RANGE_LIST_H_

// RangeList: a copy of some ranges, sorted and joined where they overlap or
// touch. Made once, then constant.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <span>

#include "dma/address.h"
#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

class RangeList {
 public:
  RangeList() = default;
  RangeList(const RangeList&) = delete;
  RangeList& operator=(const RangeList&) = delete;
  ~RangeList() { delete[] ranges_; }

  // The parts of `ranges`, rounded out to pages, that lie in `window`. Once.
  // kNoMemory, kBusy.
  Result<void> Init(std::span<const Range> ranges, const Range& window,
                    PageSize page) {
    if (ranges_ != nullptr) return Error::kBusy;
    if (ranges.empty()) return Ok();
    ranges_ = new (std::nothrow) Range[ranges.size()];
    if (ranges_ == nullptr) return Error::kNoMemory;
    capacity_ = ranges.size();
    for (const Range& range : ranges) {
      const Result<Range> part = range.RoundOutToPages(page).Intersect(window);
      if (part.ok()) ranges_[count_++] = *part;
    }
    std::sort(ranges_, ranges_ + count_, [](const Range& a, const Range& b) {
      return a.first() < b.first();
    });
    Join();
    return Ok();
  }

  std::span<const Range> ranges() const { return {ranges_, count_}; }
  std::uint64_t bytes() const { return capacity_ * sizeof(Range); }

 private:
  void Join() {
    std::size_t joined = 0;
    for (std::size_t i = 1; i < count_; ++i) {
      Range& before = ranges_[joined];
      const Range& next = ranges_[i];
      if (before.Overlaps(next) || before.IsFollowedBy(next)) {
        before = *Range::FromFirstLast(before.first(),
                                       std::max(before.last(), next.last()));
      } else {
        ranges_[++joined] = next;
      }
    }
    if (count_ != 0) count_ = joined + 1;
  }

  Range* ranges_ = nullptr;
  std::size_t count_ = 0;
  std::size_t capacity_ = 0;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_RANGE_LIST_H_
