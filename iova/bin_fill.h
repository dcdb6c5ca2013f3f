// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_BIN_FILL_H_
#define DMAMAP_IOVA_BIN_FILL_H_

// BinFill: what a bin of a CpuCache holds, and what became of it, in one word:
// the low kCountBits are the number of entries of its loaded magazine, or
// kNoMagazine, the others the entries that were ever taken. So the fast path
// stores one word, and that is its statistic too. A value; every call is a few
// instructions.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "dma/version.h"

namespace dmamap::inline v0 {

template <std::size_t kEntries>
class BinFill {
 public:
  // Wide enough for one bit more than a magazine's count needs: in one byte, a
  // bin of 2^56 allocations begins to count anew.
  using CountWord =
      std::conditional_t<(kEntries < 1u << 7), std::uint8_t, std::uint16_t>;
  static constexpr unsigned kCountBits = std::numeric_limits<CountWord>::digits;
  static_assert(kEntries < 1u << (kCountBits - 1));
  // What a bin counts while it has no loaded magazine.
  static constexpr std::uint64_t kNoMagazine = std::uint64_t{1}
                                               << (kCountBits - 1);

  constexpr BinFill() = default;
  constexpr BinFill(std::uint64_t taken, std::uint64_t count)
      : word_((taken << kCountBits) | count) {}
  constexpr explicit BinFill(std::uint64_t word) : word_(word) {}

  constexpr std::uint64_t count() const { return Count(word_); }
  constexpr std::uint64_t taken() const { return word_ >> kCountBits; }
  // Each is one comparison, and both fail for kNoMagazine.
  constexpr bool has_entry() const { return top() < kEntries; }
  constexpr bool has_room() const { return count() < kEntries; }
  // Of the newest entry. REQUIRES: has_entry().
  constexpr std::uint64_t top() const { return Count(word_ - 1); }
  // REQUIRES: has_entry(), or has_room().
  constexpr BinFill Popped() const {
    return BinFill(word_ + (std::uint64_t{1} << kCountBits) - 1);
  }
  constexpr BinFill Pushed() const { return BinFill(word_ + 1); }
  constexpr std::uint64_t word() const { return word_; }

 private:
  static constexpr CountWord Count(std::uint64_t word) {
    return static_cast<CountWord>(word);
  }
  std::uint64_t word_ = kNoMagazine;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_BIN_FILL_H_
