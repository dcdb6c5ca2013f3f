// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BOUNCE_SPARSE_TABLE_H_
#define DMAMAP_BOUNCE_SPARSE_TABLE_H_

// SparseTable<T>: an array of up to 2^63 Ts of which only the parts that were
// ever touched take memory.
//
// A radix tree whose height is chosen once, by the number of elements: leaves
// of 512 Ts, inner nodes of 512 links. 1 GiB of bounce space in pages of 4 KiB
// has height 1 (one inner node above the leaves).
//
// A node appears once and stays until the table is destroyed, so that a T* is
// good for the table's life. Ts start value-initialised and are the caller's to
// synchronise.
//
// Synchronisation edge
//   N1 -> N2  a node's initialised contents are seen by whoever finds it.
//
// Progress: Find is wait-free. Ensure is lock-free but for the heap. Exactly
// one of the racing Ensures installs its node; the others free theirs.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>

#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

template <class T, template <class> class Atom = std::atomic>
class SparseTable {
 public:
  static constexpr unsigned kBits = 9;
  static constexpr std::size_t kFanout = std::size_t{1} << kBits;

  SparseTable() = default;
  SparseTable(const SparseTable&) = delete;
  SparseTable& operator=(const SparseTable&) = delete;
  ~SparseTable() { Destroy(Load(root_), height_); }

  // For indices 0 .. count-1. kInvalidArgument for 0 or more than 2^63, kBusy
  // the second time. Not thread-safe.
  Result<void> Init(std::uint64_t count) {
    if (count_ != 0) return Error::kBusy;
    if (count == 0 || count > std::uint64_t{1} << 63) {
      return Error::kInvalidArgument;
    }
    count_ = count;
    height_ = 0;
    while (((count - 1) >> (kBits * (height_ + 1))) != 0) ++height_;
    fast_count_ = height_ == 1 ? count : 0;
    return Ok();
  }

  std::uint64_t count() const { return count_; }

  // Element `index`; nullptr when its leaf is not there or index >= count().
  [[gnu::always_inline]] T* Find(std::uint64_t index) const {
    if (index >= fast_count_) [[unlikely]]
      return FindAnywhere(index);
    const Node* const node = static_cast<Node*>(Load(root_));
    if (node == nullptr) [[unlikely]]
      return nullptr;
    void* const leaf = Load(node->links[index >> kBits]);
    return leaf == nullptr ? nullptr
                           : &static_cast<Leaf*>(leaf)->items[Digit(index, 0)];
  }

  // The same, and makes the leaf. kNoMemory, kOutOfRange for a bad index.
  Result<T*> Ensure(std::uint64_t index) {
    if (index >= count_) return Error::kOutOfRange;
    Atom<void*>* link = &root_;
    for (unsigned level = height_; level > 0; --level) {
      void* node = Install<Node>(*link);
      if (node == nullptr) return Error::kNoMemory;
      link = &static_cast<Node*>(node)->links[Digit(index, level)];
    }
    void* leaf = Install<Leaf>(*link);
    if (leaf == nullptr) return Error::kNoMemory;
    return &static_cast<Leaf*>(leaf)->items[Digit(index, 0)];
  }

  // f(index, T&) for each element of [first, last] (inclusive) whose leaf is
  // there, in order; skips what is not in whole subtrees.
  template <class F>
  void ForEach(std::uint64_t first, std::uint64_t last, F&& f) const {
    if (count_ == 0) return;
    Visit(Load(root_), height_, 0, first, std::min(last, count_ - 1), f);
  }

 private:
  struct Node {
    Atom<void*> links[kFanout] = {};
  };
  struct Leaf {
    T items[kFanout] = {};
  };

  static std::size_t Digit(std::uint64_t index, unsigned level) {
    return static_cast<std::size_t>((index >> (kBits * level)) & (kFanout - 1));
  }
  static void* Load(const Atom<void*>& link) {
    return link.load(std::memory_order_acquire);  // N2, acquire: with N1.
  }

  // Find for any height.
  [[gnu::noinline]] T* FindAnywhere(std::uint64_t index) const {
    if (index >= count_) return nullptr;
    void* at = Load(root_);
    for (unsigned level = height_; level > 0 && at != nullptr; --level) {
      at = Load(static_cast<Node*>(at)->links[Digit(index, level)]);
    }
    return at == nullptr ? nullptr
                         : &static_cast<Leaf*>(at)->items[Digit(index, 0)];
  }

  // The node below `link`, made if it is not there; nullptr: no memory.
  template <class N>
  static void* Install(Atom<void*>& link) {
    void* found = Load(link);
    if (found != nullptr) return found;
    N* fresh = new (std::nothrow) N();
    if (fresh == nullptr) return nullptr;
    // N1, release: publishes the node's contents. On failure N2, acquire: the
    // other thread's node is used.
    if (link.compare_exchange_strong(found, fresh, std::memory_order_acq_rel,
                                     std::memory_order_acquire)) {
      return fresh;
    }
    delete fresh;
    return found;
  }

  // `base` is the index of the first element below `at`. The height is at most
  // 6 (63 index bits, 9 for the leaf and 9 a level), so nothing here overflows.
  template <class F>
  static void Visit(void* at, unsigned level, std::uint64_t base,
                    std::uint64_t first, std::uint64_t last, F& f) {
    if (at == nullptr) return;
    for (std::size_t i = 0; i < kFanout; ++i) {
      const std::uint64_t begin = base + (std::uint64_t{i} << (kBits * level));
      const std::uint64_t end =
          begin + ((std::uint64_t{1} << (kBits * level)) - 1);
      if (end < first) continue;
      if (begin > last) return;
      if (level == 0) {
        f(begin, static_cast<Leaf*>(at)->items[i]);
      } else {
        Visit(Load(static_cast<Node*>(at)->links[i]), level - 1, begin, first,
              last, f);
      }
    }
  }

  static void Destroy(void* at, unsigned level) {
    if (at == nullptr) return;
    if (level == 0) {
      delete static_cast<Leaf*>(at);
      return;
    }
    Node* node = static_cast<Node*>(at);
    for (Atom<void*>& link : node->links) Destroy(Load(link), level - 1);
    delete node;
  }

  Atom<void*> root_{nullptr};
  std::uint64_t count_ = 0;
  unsigned height_ = 0;  // inner levels above the leaves
  // What Find finds without a loop: the indices below, if the height is 1.
  std::uint64_t fast_count_ = 0;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_BOUNCE_SPARSE_TABLE_H_
