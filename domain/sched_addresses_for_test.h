// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_SCHED_ADDRESSES_FOR_TEST_H_
#define DMAMAP_DOMAIN_SCHED_ADDRESSES_FOR_TEST_H_

// An allocator small enough for the deterministic scheduler.

#include <atomic>
#include <cstdint>

#include "dma/address.h"
#include "dma/result.h"
#include "iova/allocator_options.h"
#include "iova/sched_model_for_test.h"
#include "testing/sched/explore.h"

namespace dmamap::inline v0 {

// Addresses of up to 32 pages: the first that fits.
class SchedAddresses {
 public:
  Result<void> Init(const AllocatorOptions& options) {
    page_ = options.page;
    first_ = options.window.first();
    const std::uint64_t pages = options.window.size() >> page_.shift();
    if (pages < 32) taken_.store(~std::uint32_t{0} << pages);
    return Ok();
  }
  Result<Iova> Allocate(std::uint64_t pages) {
    std::uint32_t taken = taken_.load(std::memory_order_acquire);
    for (;;) {
      const std::uint32_t wanted = (1u << pages) - 1;
      unsigned at = 0;
      while (at < 32 && (taken >> at & wanted) != 0) ++at;
      if (at + pages > 32) return Error::kNoSpace;
      if (taken_.compare_exchange_strong(taken, taken | wanted << at,
                                         std::memory_order_acq_rel,
                                         std::memory_order_acquire)) {
        return first_ + (std::uint64_t{at} << page_.shift());
      }
    }
  }
  Result<void> Free(Iova first, std::uint64_t pages) {
    const auto at = static_cast<unsigned>((first - first_) >> page_.shift());
    const std::uint32_t bits = ((1u << pages) - 1) << at;
    const std::uint32_t before =
        taken_.fetch_and(~bits, std::memory_order_release);
    sched::Check((before & bits) == bits, "freed twice");
    return Ok();
  }
  // For a flush queue: retired is as taken.
  Result<void> Retire(Iova, std::uint64_t) { return Ok(); }
  Result<void> Restore(Iova, std::uint64_t) { return Ok(); }
  Result<void> Release(Iova first, std::uint64_t pages) {
    return Free(first, pages);
  }
  PageSize page_size() const { return page_; }
  SchedCpu& cpu() { return cpu_; }

 private:
  SchedCpu cpu_;
  PageSize page_;
  Iova first_;
  sched::Atomic<std::uint32_t> taken_{0};
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_SCHED_ADDRESSES_FOR_TEST_H_
