// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_LOCALITY_TABLE_H_
#define DMAMAP_IOVA_LOCALITY_TABLE_H_

// LocalityTable: which chunk holds this page? From chunk numbers (first page
// divided by the chunk's pages) to indexes below 2^16.
//
// Open addressing with linear probing in a table that is at most half full and
// never moves an entry. A look-up goes as far as any insertion ever had to, so
// an entry that is taken out leaves nothing behind.
//
// Insert and Erase by one owner. Find on any thread, wait-free: it finds what
// was inserted, in the happens-before sense, and is not erased meanwhile. All
// accesses are relaxed: whoever looks for a chunk learnt its address through an
// edge of the caller's own, and an index leads to nothing but atomics.

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include "dma/assert.h"
#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

template <template <class> class Atom = std::atomic>
class LocalityTable {
 public:
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};
  static constexpr std::uint32_t kMaxEntries = 1u << 16;

  // For at most `entries` at a time. kNoMemory.
  Result<void> Init(std::uint32_t entries) {
    DMAMAP_ASSERT(entries >= 1 && entries <= kMaxEntries);
    const std::size_t size = std::bit_ceil(std::size_t{2} * entries);
    entry_.reset(new (std::nothrow) Atom<std::uint64_t>[size]());
    if (entry_ == nullptr) return Error::kNoMemory;
    shift_ = 64u - static_cast<unsigned>(std::bit_width(size - 1));
    mask_ = size - 1;
    return Ok();
  }

  // kNone when it is not there. REQUIRES: Init.
  std::uint32_t Find(std::uint64_t number) const {
    std::size_t at = Home(number);
    const std::uint64_t wanted = Pack(number, 0);
    std::uint32_t left = reach_.load(std::memory_order_relaxed);
    for (;;) {
      const std::uint64_t entry = entry_[at].load(std::memory_order_relaxed);
      if (entry - wanted < kMaxEntries) [[likely]]
        return static_cast<std::uint32_t>(entry - wanted);
      if (left-- == 0) return kNone;
      at = (at + 1) & mask_;
    }
  }

  // REQUIRES: not there; fewer than `entries` are.
  void Insert(std::uint64_t number, std::uint32_t index) {
    DMAMAP_ASSERT(Find(number) == kNone);
    std::size_t at = Home(number);
    std::uint32_t steps = 0;
    for (; entry_[at].load(std::memory_order_relaxed) != 0; ++steps) {
      at = (at + 1) & mask_;
    }
    reach_.store(std::max(steps, reach_.load(std::memory_order_relaxed)),
                 std::memory_order_relaxed);
    entry_[at].store(Pack(number, index), std::memory_order_relaxed);
  }

  // REQUIRES: it is there.
  void Erase(std::uint64_t number) {
    std::size_t at = Home(number);
    while ((entry_[at].load(std::memory_order_relaxed) - Pack(number, 0)) >=
           kMaxEntries) {
      at = (at + 1) & mask_;
    }
    entry_[at].store(0, std::memory_order_relaxed);
  }

  std::uint64_t bytes() const {
    return entry_ == nullptr ? 0 : (mask_ + 1) * sizeof(std::uint64_t);
  }

 private:
  // Never 0. Chunk numbers have at most 46 bits.
  static constexpr std::uint64_t Pack(std::uint64_t number,
                                      std::uint32_t index) {
    return (std::uint64_t{1} << 63) | number << 16 | index;
  }
  std::size_t Home(std::uint64_t number) const {
    // 2^64 divided by the golden ratio spreads neighbours (Knuth 6.4).
    return static_cast<std::size_t>((number * 0x9e3779b97f4a7c15u) >> shift_);
  }

  std::unique_ptr<Atom<std::uint64_t>[]> entry_;
  unsigned shift_ = 63;
  std::size_t mask_ = 0;
  Atom<std::uint32_t> reach_{0};  // the most steps that any Insert took
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_LOCALITY_TABLE_H_
