// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_BLOCK_NODE_H_
#define DMAMAP_IOVA_BLOCK_NODE_H_

// The nodes of a BlockTrie and where their memory comes from.
//
// What a random free touches decides its cost, so the layout keeps apart what
// large and small blocks need. Blocks of 64 pages and more live in the nodes'
// own heaps; a leaf with its summary is one cache line, and 64 leaves lie side
// by side in their region: one million live ranges of 64 to 256 pages touch
// 2.3 MB of leaves. Smaller blocks live in words, 1 KiB for 16 MiB of pages,
// which exist only where such blocks do.

#include <array>
#include <cstdint>
#include <new>

#include "dma/sync.h"
#include "dma/version.h"
#include "iova/block_heap.h"

namespace dmamap::inline v0 {

// Level 0: orders 0..5 of 4096 pages, 64 pages a heap.
struct BlockWords {
  std::array<BlockHeap, 64> heap = {};
};

// Level 1: 4096 pages. Bit c of below[o]: heap c of its words has order o.
struct alignas(kCacheLine) BlockLeaf {
  BlockHeap own;                         // orders 6..11
  std::array<std::uint64_t, 6> below{};  // orders 0..5
};
static_assert(sizeof(BlockLeaf) == kCacheLine);

// Level 2: 2^18 pages, 1 GiB in pages of 4 KiB.
struct BlockRegion {
  std::array<BlockLeaf, 64> leaf = {};
  BlockHeap own;                             // orders 12..17
  std::array<std::uint64_t, 12> below = {};  // orders 0..11
  std::array<BlockWords*, 64> words = {};    // of each leaf, or null
};

// Levels 3 and up. A child is a region (level 3) or a node, or null.
struct BlockNode {
  BlockHeap own;
  std::array<std::uint64_t, 48> below = {};  // orders under the own ones
  std::array<void*, 64> child = {};
};

// Makes zeroed T's and keeps up to kSpares of them for the next time.
template <class T, unsigned kSpares>
class SparePool {
 public:
  SparePool() = default;
  SparePool(const SparePool&) = delete;
  SparePool& operator=(const SparePool&) = delete;
  ~SparePool() {
    while (count_ != 0) delete spare_[--count_];
  }

  // Null when there is no memory.
  T* New() {
    if (count_ != 0) return spare_[--count_];
    T* made = new (std::nothrow) T();
    if (made != nullptr) bytes_ += sizeof(T);
    return made;
  }
  // REQUIRES: zero again.
  void Recycle(T* zero) {
    if (count_ == kSpares) return Delete(zero);
    spare_[count_++] = zero;
  }
  void Delete(T* any) {
    delete any;
    bytes_ -= sizeof(T);
  }
  // Bytes handed out and kept.
  std::uint64_t bytes() const { return bytes_; }

 private:
  std::array<T*, kSpares> spare_ = {};
  unsigned count_ = 0;
  std::uint64_t bytes_ = 0;
};

// The memory of one trie. A node of level 2 is a BlockRegion, of levels 3 and
// up a BlockNode.
struct BlockMemory {
  SparePool<BlockNode, 8> nodes;
  SparePool<BlockRegion, 4> regions;
  SparePool<BlockWords, 32> words;

  std::uint64_t bytes() const {
    return nodes.bytes() + regions.bytes() + words.bytes();
  }
  // Takes back the words of a leaf without small blocks, if there are any.
  void DropWords(BlockRegion& region, unsigned leaf) {
    if (region.words[leaf] == nullptr) return;
    words.Recycle(region.words[leaf]);
    region.words[leaf] = nullptr;
  }
  // Takes back a node of `level` without blocks, and all nodes below it.
  void Recycle(void* node, unsigned level) {
    if (level == 2) {
      auto* region = static_cast<BlockRegion*>(node);
      for (unsigned c = 0; c < 64; ++c) DropWords(*region, c);
      return regions.Recycle(region);
    }
    auto* inner = static_cast<BlockNode*>(node);
    for (void*& child : inner->child) {
      if (child != nullptr) Recycle(child, level - 1);
      child = nullptr;
    }
    nodes.Recycle(inner);
  }
  // The same, whatever they hold.
  void Destroy(void* node, unsigned level) {
    if (level == 2) {
      auto* region = static_cast<BlockRegion*>(node);
      for (BlockWords* w : region->words) {
        if (w != nullptr) words.Delete(w);
      }
      return regions.Delete(region);
    }
    auto* inner = static_cast<BlockNode*>(node);
    for (void* child : inner->child) {
      if (child != nullptr) Destroy(child, level - 1);
    }
    nodes.Delete(inner);
  }
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_BLOCK_NODE_H_
