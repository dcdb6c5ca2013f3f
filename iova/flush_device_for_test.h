// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_FLUSH_DEVICE_FOR_TEST_H_
#define DMAMAP_IOVA_FLUSH_DEVICE_FOR_TEST_H_

// The worst device that an Invalidator can have behind it: it holds on to every
// translation that it ever could look up until it is told not to, and looks up
// again at once whatever is still mapped then.
//
//   Map(page)      the page has a mapping, and the device has seen it
//   Unmap(page)    the mapping is gone; the device does not know that
//   Stale(page)    the device could still reach the memory of a mapping that
//                  is gone, or somebody's who has the page now
//
// An allocator that hands out a stale page is what all of this is about. Each
// page is an atomic of the test's policy; what orders the accesses is the
// business of the code under test.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "dma/address.h"
#include "dma/result.h"

namespace dmamap {

template <template <class> class Atom = std::atomic>
class StaleDevice {
 public:
  explicit StaleDevice(std::size_t pages) : mapped_(pages), cached_(pages) {}

  // Asked before each invalidation: false makes it fail, having done half.
  std::function<bool()> works = [] { return true; };
  // Called when one has looked at everything and is about to return.
  std::function<void()> at_end = [] {};

  void Map(std::uint64_t page) {
    mapped_[page].store(1, kRelaxed);
    cached_[page].store(1, kRelaxed);
  }
  void Unmap(std::uint64_t page) { mapped_[page].store(0, kRelaxed); }
  bool Stale(std::uint64_t page) const {
    return cached_[page].load(kRelaxed) != 0;
  }

  // Of pages of 4 KiB.
  Result<void> Invalidate(Range range) {
    const PageSize page;
    return InvalidatePages(page.Number(range.first()),
                           page.Number(range.last()) + 1);
  }
  Result<void> InvalidateAll() { return InvalidatePages(0, mapped_.size()); }

 private:
  static constexpr std::memory_order kRelaxed = std::memory_order_relaxed;

  Result<void> InvalidatePages(std::uint64_t first, std::uint64_t end) {
    const bool good = works();
    if (!good) end = first + (end - first) / 2;
    for (std::uint64_t page = first; page < end; ++page) {
      cached_[page].store(mapped_[page].load(kRelaxed), kRelaxed);
    }
    at_end();
    return good ? Ok() : Result<void>(Error::kDevice);
  }

  std::vector<Atom<std::uint8_t>> mapped_;
  std::vector<Atom<std::uint8_t>> cached_;
};

}  // namespace dmamap

#endif  // DMAMAP_IOVA_FLUSH_DEVICE_FOR_TEST_H_
