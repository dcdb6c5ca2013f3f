// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_TREE_NODE_H_
#define DMAMAP_IOTLB_TREE_NODE_H_

// One node of the interval tree, and how it is built.
//
// A node holds up to kKeys slots, in order. A slot of a leaf is one mapping, a
// slot of an inner node is one child with everything below it:
//
//   first[i]  first byte of the mapping; smallest first byte below the child
//   end[i]    last byte of the mapping; largest last byte below the child
//   reach(i)  the largest of end[0] .. end[i]
//   slot(i)   the record or the child; null behind the last
//
// reach() never decreases, and the first i with reach(i) >= x is also the first
// with end[i] >= x: a search looks at one sorted array. Four of these and their
// slots share a cache line, a group; the last reach of each group but the last
// one stands beside the version (`pivot`), so that a search reads two lines.
// Where slots end, reach and first are 2^64-1: searches count over fixed
// numbers of words, without a branch on what they find.
//
// A node does not change once it is in the tree, but for slot(i) of an inner
// node, which may come to lead to a newer child with the same first and end.
// Nodes are type-stable (node_pool.h). `version` is even while the node is in
// the tree and odd when it is not; it never repeats.
//
// Synchronisation edges
//   N1 -> N2  all of a node before its version is seen even.
//   N3 -> N4  who sees a store of a node's next use also sees its version odd.
//   S1 -> S2  the child, before a slot or the root leads to it.

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "dma/assert.h"
#include "dma/atom.h"
#include "dma/sync.h"
#include "dma/version.h"

namespace dmamap::inline v0 {
namespace internal {

inline constexpr std::uint64_t kNever = ~std::uint64_t{0};

template <unsigned kKeys, template <class> class Atom>
struct alignas(kCacheLine) TreeNode {
  // At least 8: a node that is not the root has a sibling to join.
  static_assert(kKeys >= 8 && kKeys % 4 == 0);

  // Fewest slots of a node that is not the root: a quarter, so that a delete
  // and an add in turn do not merge and split each time.
  static constexpr unsigned kFewest = kKeys / 4;
  // Two siblings become one only if the new node has room left.
  static constexpr unsigned kMergeAtMost = kKeys - kFewest;

  static constexpr unsigned kInGroup = 4;
  static constexpr unsigned kGroups = kKeys / kInGroup;

  struct alignas(kCacheLine) Group {
    Atom<std::uint64_t> reach[kInGroup]{};
    Atom<void *> slot[kInGroup]{};
  };

  Atom<std::uint64_t> version{1};
  Atom<std::uint64_t> pivot[kGroups - 1]{};
  Group group[kGroups];
  Atom<std::uint64_t> first[kKeys]{};
  Atom<std::uint64_t> end[kKeys]{};
  // The writer's.
  Atom<std::uint64_t> count{0};
  TreeNode *link = nullptr;  // the pool's, and the writer's list

  static TreeNode *&PoolLink(TreeNode &n) { return n.link; }

  template <class T>
  static T Get(const Atom<T> &field) {
    // relaxed: a reader checks the version behind it, the writer reads its own.
    return field.load(std::memory_order_relaxed);
  }

  Atom<void *> &slot(unsigned i) {
    return group[i / kInGroup].slot[i % kInGroup];
  }
  const Atom<void *> &slot(unsigned i) const {
    return group[i / kInGroup].slot[i % kInGroup];
  }
  Atom<std::uint64_t> &reach(unsigned i) {
    return group[i / kInGroup].reach[i % kInGroup];
  }
  std::uint64_t reach_at(unsigned i) const {
    return Get(group[i / kInGroup].reach[i % kInGroup]);
  }

  // --- Readers (and the writer).

  std::uint64_t first_at(unsigned i) const { return Get(first[i]); }
  std::uint64_t end_at(unsigned i) const { return Get(end[i]); }
  // Null: behind the last. S2, acquire: pairs with S1.
  void *slot_at(unsigned i) const {
    return slot(i).load(std::memory_order_acquire);
  }
  // REQUIRES: an inner node, by a version that IsStill.
  TreeNode *child_at(unsigned i) const {
    return static_cast<TreeNode *>(slot_at(i));
  }
  // Whether there is a slot `i`, which may be kKeys.
  bool Has(unsigned i) const { return i < kKeys && Get(slot(i)) != nullptr; }
  // N2, acquire: pairs with N1. Odd: not in the tree.
  std::uint64_t Version() const {
    return version.load(std::memory_order_acquire);
  }
  // All that was read since Version() returned `seen` belongs together, and the
  // node was in the tree until now.
  bool IsStill(std::uint64_t seen) const {
    // N4, acquire: pairs with N3.
    AtomFence<Atom>(std::memory_order_acquire);
    return Get(version) == seen;
  }

  // The first slot with end >= at; one that is not there when none has.
  unsigned FirstReaching(std::uint64_t at) const {
    unsigned g = 0;
#pragma GCC unroll 16
    for (unsigned k = 0; k + 1 < kGroups; ++k) g += Get(pivot[k]) < at ? 1 : 0;
    unsigned i = 0;
#pragma GCC unroll 4
    for (unsigned k = 0; k < kInGroup; ++k) {
      i += Get(group[g].reach[k]) < at ? 1 : 0;
    }
    return g * kInGroup + i;
  }
  // Slots with first < at.
  unsigned CountBelow(std::uint64_t at) const {
    unsigned g = 0;
#pragma GCC unroll 16
    for (unsigned k = 1; k < kGroups; ++k) {
      g += Get(first[k * kInGroup - 1]) < at ? 1 : 0;
    }
    unsigned i = 0;
#pragma GCC unroll 4
    for (unsigned k = 0; k < kInGroup; ++k) {
      i += Get(first[g * kInGroup + k]) < at ? 1 : 0;
    }
    return g * kInGroup + i;
  }
  // Slots with first <= at; for 2^64-1 all that are in use. The writer's.
  unsigned CountAtMost(std::uint64_t at) const {
    return at == kNever ? size() : CountBelow(at + 1);
  }
  // The first slot from `i` on with end >= at; one that is not there if none.
  unsigned NextReaching(unsigned i, std::uint64_t at) const {
    while (Has(i) && end_at(i) < at) ++i;
    return i;
  }
  // Asks for what a search reads, before it is known to be a node.
  [[gnu::always_inline]] void PrefetchForSearch() const {
    __builtin_prefetch(this);
    for (unsigned g = 0; g < kGroups; ++g) __builtin_prefetch(&group[g]);
  }
  // Asks for what the slots of a group lead to.
  [[gnu::always_inline]] void PrefetchSlots(unsigned g) const {
#pragma GCC unroll 4
    for (const Atom<void *> &to : group[g].slot) __builtin_prefetch(Get(to));
  }
  // Asks for what a walk that stands at slot `i` will read a few steps on.
  void PrefetchBehind(unsigned i) const {
    constexpr unsigned kAhead = 4;
    if (i + kAhead < kKeys) __builtin_prefetch(Get(slot(i + kAhead)));
  }

  // --- The writer.

  unsigned size() const { return static_cast<unsigned>(Get(count)); }
  std::uint64_t largest_end() const { return reach_at(size() - 1); }
  // S1, release: pairs with S2.
  void Lead(unsigned i, void *to) {
    slot(i).store(to, std::memory_order_release);
  }
  // The node has left the tree.
  void Retire() {
    // relaxed: behind the store that replaced the node (S1), before the next
    // one; N3 orders it before the next use.
    version.store(Get(version) + 1, std::memory_order_relaxed);
  }
  bool live() const { return Get(version) % 2 == 0; }

  // This node alone: order, reach, pivots and padding. The tree checks the
  // rest.
  bool CheckInvariants() const {
    if (size() > kKeys || !live()) return false;
    std::uint64_t largest = 0;
    for (unsigned i = 0; i < kKeys; ++i) {
      if (i % kInGroup == kInGroup - 1 && i / kInGroup + 1 < kGroups &&
          Get(pivot[i / kInGroup]) != reach_at(i)) {
        return false;
      }
      if (i >= size()) {
        if (reach_at(i) != kNever || first_at(i) != kNever || Has(i)) {
          return false;
        }
        continue;
      }
      largest = end_at(i) > largest ? end_at(i) : largest;
      if (reach_at(i) != largest || !Has(i)) return false;
      if (end_at(i) < first_at(i)) return false;
      if (i > 0 && first_at(i) < first_at(i - 1)) return false;
    }
    return true;
  }
};

// Fills a node that is not in the tree, from left to right.
template <class Node, unsigned kKeys>
class NodeBuilder {
 public:
  explicit NodeBuilder(Node *node) : node_(node) {}

  [[gnu::always_inline]] void Push(std::uint64_t first, std::uint64_t end,
                                   void *slot) {
    DMAMAP_ASSERT(count_ < kKeys);
    largest_ = end > largest_ ? end : largest_;
    Put(node_->first[count_], first);
    Put(node_->end[count_], end);
    Put(node_->reach(count_), largest_);
    Put(node_->slot(count_), slot);
    ++count_;
  }
  // The first `to` slots of another node. REQUIRES: nothing was pushed.
  [[gnu::always_inline]] void PushHead(const Node &other, unsigned to) {
    for (unsigned i = 0; i < to; ++i) {
      Put(node_->first[i], other.first_at(i));
      Put(node_->end[i], other.end_at(i));
      Put(node_->reach(i), other.reach_at(i));
      Put(node_->slot(i), Node::Get(other.slot(i)));
    }
    count_ = to;
    largest_ = to == 0 ? 0 : other.reach_at(to - 1);
  }
  // Slots [from, to) of another node.
  [[gnu::always_inline]] void PushFrom(const Node &other, unsigned from,
                                       unsigned to) {
    for (unsigned i = from; i < to; ++i) {
      Push(other.first_at(i), other.end_at(i), Node::Get(other.slot(i)));
    }
  }
  // Now the node can be published.
  [[gnu::always_inline]] Node *Finish() {
    for (unsigned i = count_; i < kKeys; ++i) {
      Put(node_->reach(i), kNever);
      Put(node_->first[i], kNever);
      Put(node_->slot(i), static_cast<void *>(nullptr));
    }
    for (unsigned g = 0; g + 1 < Node::kGroups; ++g) {
      Put(node_->pivot[g], node_->reach_at((g + 1) * Node::kInGroup - 1));
    }
    Put(node_->count, std::uint64_t{count_});
    // N1, release: pairs with N2.
    node_->version.store(Node::Get(node_->version) + 1,
                         std::memory_order_release);
    return node_;
  }

 private:
  template <class A, class T>
  [[gnu::always_inline]] static void Put(A &field, T value) {
    // relaxed: N1 publishes it, N3 precedes it.
    field.store(value, std::memory_order_relaxed);
  }

  Node *const node_;
  unsigned count_ = 0;
  std::uint64_t largest_ = 0;
};

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_TREE_NODE_H_
