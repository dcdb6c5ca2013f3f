// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_SPARSE_ARRAY_H_
#define DMAMAP_IOVA_SPARSE_ARRAY_H_

// SparseArray: an array of small zero-initialised cells over up to 2^53
// indexes, whose memory comes in leaves of 2^kLeafBits cells when first asked
// for and stays until the end.
//
// A radix tree, kNodeBits bits a node, of as many levels as the size given to
// Init asks for, at least two.
//
// Who writes what: Ensure has one caller at a time (the owner's lock); Find
// may run at any time on any thread and is wait-free.
//
// Synchronisation edge
//   E1 -> F1  a leaf (or node) is zeroed before a reader finds it.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>

#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

template <class Cell, template <class> class Atom = std::atomic,
          unsigned kLeafBits = 14, unsigned kNodeBits = 11>
class SparseArray {
 public:
  SparseArray() = default;
  SparseArray(const SparseArray&) = delete;
  SparseArray& operator=(const SparseArray&) = delete;
  ~SparseArray() {
    if (root_ != nullptr) Destroy(root_, height_);
  }

  // For indexes below 2^bits. kNoMemory; kBusy the second time.
  Result<void> Init(unsigned bits) {
    if (root_ != nullptr) return Error::kBusy;
    unsigned height = 2;
    while (kLeafBits + height * kNodeBits < bits) ++height;
    root_ = new (std::nothrow) Node();
    if (root_ == nullptr) return Error::kNoMemory;
    height_ = height;
    bits_ = kLeafBits + height * kNodeBits;
    bytes_ = sizeof(Node);
    return Ok();
  }

  // The cell, or null when its leaf was never asked for or the index is out of
  // range.
  Cell* Find(std::uint64_t index) const {
    if ((index >> bits_) != 0) [[unlikely]]
      return nullptr;
    const Node* node = root_;
    if (node == nullptr) [[unlikely]]
      return nullptr;
    for (unsigned level = height_ - 1; level != 0; --level) {
      node = static_cast<const Node*>(Child(node, index, level));
      if (node == nullptr) [[unlikely]]
        return nullptr;
    }
    Leaf* leaf = static_cast<Leaf*>(Child(node, index, 0));
    if (leaf == nullptr) [[unlikely]]
      return nullptr;
    return &leaf->cell[index & (kLeafCells - 1)];
  }

  // Makes the cells [first, last] findable. kNoMemory: some may be.
  // REQUIRES: in range; one caller at a time.
  Result<void> Ensure(std::uint64_t first, std::uint64_t last) {
    for (std::uint64_t leaf = first >> kLeafBits; leaf <= last >> kLeafBits;
         ++leaf) {
      const Result<void> made = EnsureLeaf(leaf << kLeafBits);
      if (!made.ok()) return made;
    }
    return Ok();
  }

  // Bytes held. Call it under the lock that serialises Ensure.
  std::uint64_t bytes() const { return bytes_; }

  // The first cell from `index` on that has memory and for which want(cell) is
  // true; `index` becomes its own. Null when there is none.
  template <class Want>
  Cell* FindFrom(std::uint64_t& index, Want&& want) const {
    while (root_ != nullptr && (index >> bits_) == 0) {
      unsigned level = height_ - 1;
      void* child = Child(root_, index, level);
      while (child != nullptr && level != 0) {
        child = Child(static_cast<Node*>(child), index, --level);
      }
      if (child != nullptr) {
        Leaf* leaf = static_cast<Leaf*>(child);
        const std::uint64_t base = index >> kLeafBits << kLeafBits;
        for (std::size_t c = index - base; c < kLeafCells; ++c) {
          if (!want(leaf->cell[c])) continue;
          index = base + c;
          return &leaf->cell[c];
        }
      }
      // On to the next leaf, or behind the missing node.
      const unsigned span = kLeafBits + level * kNodeBits;
      index = ((index >> span) + 1) << span;
    }
    return nullptr;
  }

 private:
  static constexpr std::size_t kLeafCells = std::size_t{1} << kLeafBits;
  static constexpr std::size_t kNodeChildren = std::size_t{1} << kNodeBits;
  struct Leaf {
    std::array<Cell, kLeafCells> cell = {};
  };
  struct Node {
    std::array<Atom<void*>, kNodeChildren> child = {};
  };

  static std::size_t Slot(std::uint64_t index, unsigned level) {
    return static_cast<std::size_t>(index >> (kLeafBits + level * kNodeBits)) &
           (kNodeChildren - 1);
  }
  static void* Child(const Node* node, std::uint64_t index, unsigned level) {
    // F1, acquire: pairs with E1.
    return node->child[Slot(index, level)].load(std::memory_order_acquire);
  }
  static void Publish(Node* node, std::uint64_t index, unsigned level,
                      void* child) {
    // E1, release: pairs with F1.
    node->child[Slot(index, level)].store(child, std::memory_order_release);
  }

  Result<void> EnsureLeaf(std::uint64_t index) {
    Node* node = root_;
    for (unsigned level = height_ - 1; level != 0; --level) {
      Node* next = static_cast<Node*>(Child(node, index, level));
      if (next == nullptr) {
        next = new (std::nothrow) Node();
        if (next == nullptr) return Error::kNoMemory;
        bytes_ += sizeof(Node);
        Publish(node, index, level, next);
      }
      node = next;
    }
    if (Child(node, index, 0) != nullptr) return Ok();
    Leaf* leaf = new (std::nothrow) Leaf();
    if (leaf == nullptr) return Error::kNoMemory;
    bytes_ += sizeof(Leaf);
    Publish(node, index, 0, leaf);
    return Ok();
  }

  void Destroy(Node* node, unsigned height) {
    for (Atom<void*>& child : node->child) {
      // relaxed: nobody else is left.
      void* at = child.load(std::memory_order_relaxed);
      if (at == nullptr) continue;
      if (height == 1) {
        delete static_cast<Leaf*>(at);
      } else {
        Destroy(static_cast<Node*>(at), height - 1);
      }
    }
    delete node;
  }

  Node* root_ = nullptr;
  unsigned height_ = 1;
  unsigned bits_ = 0;  // of the indexes that it could hold
  std::uint64_t bytes_ = 0;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_SPARSE_ARRAY_H_
