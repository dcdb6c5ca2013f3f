// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DMA_COUNTER_H_
#define DMAMAP_DMA_COUNTER_H_

// Statistics that cost their one writer a plain addition.

#include <atomic>
#include <cstdint>

#include "dma/version.h"

namespace dmamap::inline v0 {

// A counter with one writer at a time and any number of readers.
template <template <class> class Atom = std::atomic>
class Counter {
 public:
  // The value then.
  [[gnu::always_inline]] std::uint64_t Add(std::uint64_t n = 1) {
    // relaxed, and not a read-modify-write: one writer, a statistic.
    const std::uint64_t value = value_.load(std::memory_order_relaxed) + n;
    value_.store(value, std::memory_order_relaxed);
    return value;
  }
  std::uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  Atom<std::uint64_t> value_{0};
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_DMA_COUNTER_H_
