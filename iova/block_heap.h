// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_BLOCK_HEAP_H_
#define DMAMAP_IOVA_BLOCK_HEAP_H_

// BlockHeap: the blocks of six consecutive orders in one node of a BlockTrie,
// as 126 bits. Row r (0..5) has 64 >> r blocks of 2^r units; block i of it is
// bit (64 >> r) + i, so that the block around bit n is bit n / 2, as in a heap.
// Bits 0 and 1 are unused: the whole node is a block of the node above.
// Single-threaded; every call takes constant time.

#include <array>
#include <cstdint>

#include "dma/version.h"

namespace dmamap::inline v0 {

class BlockHeap {
 public:
  // Row r (0..5): bit i is block i, i < 64 >> r.
  std::uint64_t Row(unsigned r) const {
    if (r == 0) return words_[1];
    const unsigned width = 64u >> r;
    return (words_[0] >> width) & ((std::uint64_t{1} << width) - 1);
  }
  bool Test(unsigned r, unsigned i) const { return TestBit((64u >> r) + i); }
  void Flip(unsigned r, unsigned i) {
    const unsigned bit = (64u >> r) + i;
    words_[bit / 64] ^= std::uint64_t{1} << (bit % 64);
  }
  // True when block i of row r, or a block around it, is set.
  bool TestAround(unsigned r, unsigned i) const {
    for (unsigned bit = (64u >> r) + i; bit > 1; bit /= 2) {
      if (TestBit(bit)) return true;
    }
    return false;
  }
  // True when a block strictly inside block i of row r is set.
  bool TestInside(unsigned r, unsigned i) const {
    for (unsigned row = 0; row < r; ++row) {
      const unsigned width = 1u << (r - row);  // at most 32
      const std::uint64_t mask = ((std::uint64_t{1} << width) - 1)
                                 << (i * width);
      if ((Row(row) & mask) != 0) return true;
    }
    return false;
  }
  bool empty() const { return (words_[0] | words_[1]) == 0; }

 private:
  bool TestBit(unsigned bit) const {
    return ((words_[bit / 64] >> (bit % 64)) & 1) != 0;
  }
  std::array<std::uint64_t, 2> words_ = {};
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_BLOCK_HEAP_H_
