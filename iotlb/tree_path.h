// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_TREE_PATH_H_
#define DMAMAP_IOTLB_TREE_PATH_H_

// The way from the root of an interval tree to one slot of a leaf, which a
// reader goes without a lock while a writer replaces nodes.
//
// Each step notes the node's version. A step down is made only when the node
// that it leaves was still in the tree after its slot was read, so that what
// the slot holds is a node; and the child's version counts only when the node
// above is still in the tree and the slot still leads there afterwards: else
// the child may be in use elsewhere. Whatever fails is kStale: the caller
// starts again from the root, which is then another one. A reader never waits
// for the writer: it goes again only when an update was completed meanwhile.
//
// IsStill() says that all nodes of the path were in the tree at one moment (the
// last load before it), since the writer marks what it replaced before it
// publishes the next change.

#include <cstdint>

#include "dma/version.h"
#include "iotlb/tree_node.h"

namespace dmamap::inline v0 {
namespace internal {

enum class Reached : std::uint8_t { kSlot, kNothing, kStale };

template <class Node>
class TreePath {
 public:
  // With 2^62 mappings and a quarter of 8 slots in each node: 31 levels more.
  static constexpr unsigned kMaxHeight = 64;

  Node *node(unsigned level) const { return steps_[level].node; }
  unsigned &index(unsigned level) { return steps_[level].index; }
  unsigned index(unsigned level) const { return steps_[level].index; }
  unsigned height() const { return height_; }

  Node *leaf() const { return steps_[0].node; }
  std::uint64_t leaf_version() const { return steps_[0].version; }
  bool LeafIsStill() const { return leaf()->IsStill(steps_[0].version); }
  bool IsStill() const {
    for (unsigned level = 0; level < height_; ++level) {
      if (!node(level)->IsStill(steps_[level].version)) return false;
    }
    return true;
  }

  // To the root; false when the tree is empty.
  template <class Root>
  bool Start(const Root &root) {
    for (;;) {
      // S2, acquire: pairs with S1.
      const std::uint64_t word = root.load(std::memory_order_acquire);
      if (word == 0) return false;
      const unsigned level = static_cast<unsigned>(word % kCacheLine);
      Node *const node =
          reinterpret_cast<Node *>(static_cast<std::uintptr_t>(word - level));
      const std::uint64_t version = node->Version();
      // acquire: a root that comes to the same word again is seen whole.
      if (version % 2 == 0 && root.load(std::memory_order_acquire) == word) {
        height_ = level + 1;
        steps_[level] = {node, version, 0};
        return true;
      }
    }
  }

  // From the node of `level` to a leaf; `choose(node, level)` names the slot in
  // each. kNothing: it chose one that is not there.
  template <class Choose>
  [[gnu::always_inline]] Reached Descend(unsigned level, Choose choose) {
    Node *node = steps_[level].node;
    std::uint64_t version = steps_[level].version;
    for (;; --level) {
      const unsigned i = choose(*node, level);
      steps_[level].index = i;
      if (!node->Has(i)) [[unlikely]] {
        return node->IsStill(version) ? Reached::kNothing : Reached::kStale;
      }
      if (level == 0) return Reached::kSlot;
      Node *const child = node->child_at(i);
      const std::uint64_t entered = EnterChild(*node, version, i, child);
      if (entered % 2 != 0) [[unlikely]]
        return Reached::kStale;
      steps_[level - 1] = {child, entered, 0};
      node = child;
      version = entered;
    }
  }

  // To the first slot in order that reaches `at`.
  template <class Root>
  [[gnu::always_inline]] Reached FirstReaching(const Root &root,
                                               std::uint64_t at) {
    if (!Start(root)) return Reached::kNothing;
    return DescendReaching(height_ - 1, at);
  }

  // To the next slot in order that reaches `at`.
  Reached NextReaching(std::uint64_t at) {
    for (unsigned level = 0; level < height_; ++level) {
      Step &step = steps_[level];
      step.index = step.node->NextReaching(step.index + 1, at);
      if (step.node->Has(step.index)) {
        if (level == 0) {
          step.node->PrefetchBehind(step.index);
          return Reached::kSlot;
        }
        Node *const child = step.node->child_at(step.index);
        const std::uint64_t version =
            EnterChild(*step.node, step.version, step.index, child);
        if (version % 2 != 0) return Reached::kStale;
        steps_[level - 1] = {child, version, 0};
        // Mostly all of it does.
        return Descend(level - 1, [at](const Node &node, unsigned) {
          return node.reach_at(0) >= at ? 0 : node.FirstReaching(at);
        });
      }
      if (!step.node->IsStill(step.version)) return Reached::kStale;
    }
    return Reached::kNothing;
  }

  // To right before the first slot with first >= `key`; NextReaching goes on.
  template <class Root>
  Reached Before(const Root &root, std::uint64_t key) {
    if (!Start(root)) return Reached::kNothing;
    const Reached reached =
        Descend(height_ - 1, [key](const Node &node, unsigned level) {
          const unsigned below = node.CountBelow(key);
          // In a leaf one too far, for the check of the bounds.
          return below == 0 || level == 0 ? 0u : below - 1;
        });
    if (reached == Reached::kSlot) {
      index(0) = leaf()->CountBelow(key) - 1;  // NextReaching adds the 1
    }
    return reached;
  }

  // --- The writer, whose nodes do not change. REQUIRES: Start() was true.

  // To the place behind all slots with first <= `key`.
  void OwnBehind(std::uint64_t key) {
    OwnDescend([key](const Node &node) { return node.CountAtMost(key); });
  }
  // To the first slot with first >= `key`, or behind the last of its leaf.
  void OwnBefore(std::uint64_t key) {
    OwnDescend([key](const Node &node) { return node.CountBelow(key); });
  }

 private:
  // Goes down before the slot that `count` counts up to.
  template <class Count>
  void OwnDescend(Count count) {
    Node *node = steps_[height_ - 1].node;
    for (unsigned level = height_ - 1;; --level) {
      const unsigned n = count(*node);
      steps_[level] = {node, Node::Get(node->version), n};
      if (level == 0) return;
      steps_[level].index = n == 0 ? 0 : n - 1;
      node = static_cast<Node *>(Node::Get(node->slot(steps_[level].index)));
    }
  }

  struct Step {
    Node *node;
    std::uint64_t version;
    unsigned index;
  };

  [[gnu::always_inline]] Reached DescendReaching(unsigned level,
                                                 std::uint64_t at) {
    return Descend(level, [at](const Node &node, unsigned) {
      return node.FirstReaching(at);
    });
  }

  // The version of the child in slot `i` of a node that is entered from there;
  // odd: stale.
  [[gnu::always_inline]] static std::uint64_t EnterChild(const Node &node,
                                                         std::uint64_t version,
                                                         unsigned i,
                                                         const Node *child) {
    child->PrefetchForSearch();
    if (!node.IsStill(version)) return 1;  // is it a node?
    const std::uint64_t entered = child->Version();
    // With this version it is the child: the slot leads to it, and the node
    // above was not replaced before the child was used again.
    if (node.child_at(i) != child || !node.IsStill(version)) return 1;
    return entered;
  }

  Step steps_[kMaxHeight];
  unsigned height_ = 0;
};

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_TREE_PATH_H_
