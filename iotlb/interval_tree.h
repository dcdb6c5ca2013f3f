// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_INTERVAL_TREE_H_
#define DMAMAP_IOTLB_INTERVAL_TREE_H_

// An augmented interval tree with many keys in a node (a B+-tree), which
// readers search without a lock.
//
// All mappings are in the leaves, ordered by first byte, and those with equal
// first bytes by the order of Insert. Beside each child stands the largest last
// byte below it (the augmentation of the interval tree in Cormen et al.,
// "Introduction to Algorithms", section 14.3) and the running maximum of these
// (tree_node.h). Invariants, for a node that is not the root:
//   * it has between a quarter of kKeys and kKeys slots; all leaves are level
//   0;
//   * what its parent says of it (smallest first, largest end) is exact.
//
// Search goes down once and never back. In each node it takes the leftmost slot
// whose end reaches the query's first byte. What it arrives at is the leftmost
// mapping of the whole tree that ends at or behind that byte: of all mappings
// that could overlap the query it has the smallest first byte, so that either
// it overlaps, or none does. O(log n), whatever overlaps what.
//
// An update copies the leaf, and each node above whose parent's word on it
// changes, and becomes visible with one store: in the slot above the topmost
// copy, or in the root. Only then are the old nodes marked, and reused. A
// reader that met one of them starts again (tree_path.h); no reader ever
// touches freed memory, nor waits.
//
// One writer. Readers: TreePath over root(). Only Reserve can fail.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "dma/assert.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "iotlb/node_pool.h"
#include "iotlb/tree_census.h"
#include "iotlb/tree_node.h"
#include "iotlb/tree_path.h"
#include "iotlb/tree_slots.h"

namespace dmamap::inline v0 {

template <class RecordType, NodeMemory Memory = HeapMemory, unsigned kKeys = 16,
          template <class> class Atom = std::atomic>
class IntervalTree {
 public:
  using Record = RecordType;
  using Node = internal::TreeNode<kKeys, Atom>;
  using Path = internal::TreePath<Node>;
  static constexpr unsigned kSlots = kKeys;  // of a node

  explicit IntervalTree(Memory memory = Memory()) : nodes_(std::move(memory)) {}
  IntervalTree(const IntervalTree &) = delete;
  IntervalTree &operator=(const IntervalTree &) = delete;

  // Where readers start: the node's address and, in the low bits, its level.
  const Atom<std::uint64_t> &root() const { return root_; }

  std::size_t memory_bytes() const { return nodes_.memory_bytes(); }
  std::size_t height() const {
    const std::uint64_t word = RootWord();
    return word == 0 ? 0 : static_cast<std::size_t>(word % kCacheLine) + 1;
  }

  // Makes the next `count` Inserts certain to succeed, and any number of Erases
  // at any time; false without memory, and then nothing has changed.
  [[nodiscard]] bool Reserve(std::size_t count = 1) {
    if (count == 1 && RootWord() == 0) return nodes_.Reserve(1);
    // An Insert makes two nodes at each level and a root, before it gives back
    // those that they replace; an Erase makes two at each level. What an Insert
    // keeps is a node at each level and a root at most.
    return nodes_.Reserve(4 * height() + 1 + 2 * count);
  }

  // Enters [first, last] with `record` behind all with the same first byte.
  // REQUIRES: reserved.
  void Insert(std::uint64_t first, std::uint64_t last, Record *record) {
    Path path;
    if (!path.Start(root_)) {
      Builder leaf(nodes_.Take());
      Fence();
      leaf.Push(first, last, record);
      PublishRoot(leaf.Finish(), 0);
      return;
    }
    path.OwnBehind(first);
    Node &leaf = *path.leaf();
    const unsigned at = path.index(0);
    Fence();
    Made made;
    if (leaf.size() < kKeys) {
      Builder copy(nodes_.Take());
      copy.PushHead(leaf, at);
      copy.Push(first, last, record);
      copy.PushFrom(leaf, at, leaf.size());
      made.Add(copy.Finish());
      Discard(&leaf);
    } else {
      Slots slots;
      slots.Add(leaf, 0, at);
      slots.Add(first, last, record);
      slots.Add(leaf, at, leaf.size());
      made = Emit(slots, at);
      Discard(&leaf);
    }
    Ascend(path, 0, 1, made);
  }

  // Takes out the entry of `record`. REQUIRES: Insert(first, .., record) was.
  void Erase(std::uint64_t first, Record *record) {
    Path path;
    Find(path, first, record);
    EraseAt(path);
  }

  // Takes out the entry at which `path` stands. REQUIRES: path.IsStill().
  void EraseAt(Path &path) {
    Node &leaf = *path.leaf();
    const unsigned at = path.index(0);
    const unsigned left = leaf.size() - 1;
    Fence();
    Made made;
    unsigned replaced = 1;
    if (left >= Node::kFewest || (path.height() == 1 && left > 0)) {
      Builder copy(nodes_.Take());
      copy.PushHead(leaf, at);
      copy.PushFrom(leaf, at + 1, left + 1);
      made.Add(copy.Finish());
      Discard(&leaf);
    } else {
      Slots slots;
      slots.Add(leaf, 0, at);
      slots.Add(leaf, at + 1, left + 1);
      made = Rebuild(path, 0, slots, kKeys, replaced);
    }
    Ascend(path, 0, replaced, made);
  }

  // Empties the tree; `drop(Record&)` is told of each record, in order, when no
  // reader that starts now can find it. O(n).
  template <class Drop>
  void Clear(Drop &&drop) {
    const std::uint64_t word = RootWord();
    if (word == 0) return;
    PublishRootWord(0);
    ClearBelow(NodeOf(word), static_cast<unsigned>(word % kCacheLine), drop);
  }

  // Every invariant of the tree, and that it holds `records` entries. O(n).
  // `check(first, last, const Record&)` is asked of each.
  template <class Check>
  bool CheckInvariants(std::size_t records, Check &&check) const {
    internal::TreeCensus<Node, Record> census;
    const std::uint64_t word = RootWord();
    const unsigned level = static_cast<unsigned>(word % kCacheLine);
    return (word == 0 || census.CheckRoot(*NodeOf(word), level, check)) &&
           census.records() == records && census.nodes() == nodes_.live();
  }

 private:
  friend struct IntervalTreeTestPeer;

  using Builder = internal::NodeBuilder<Node, kKeys>;
  using Slots = internal::NodeSlots<Node, kKeys>;

  // The one or two nodes that take the place of others; none: they vanish.
  struct Made {
    Node *node[2] = {nullptr, nullptr};
    unsigned count = 0;

    void Add(Node *n) { node[count++] = n; }
  };

  static Node *NodeOf(std::uint64_t word) {
    return reinterpret_cast<Node *>(
        static_cast<std::uintptr_t>(word - word % kCacheLine));
  }
  // relaxed: the writer reads what it wrote.
  std::uint64_t RootWord() const {
    return root_.load(std::memory_order_relaxed);
  }
  // S1, release: pairs with S2.
  void PublishRootWord(std::uint64_t word) {
    root_.store(word, std::memory_order_release);
  }
  void PublishRoot(Node *node, unsigned level) {
    PublishRootWord(reinterpret_cast<std::uintptr_t>(node) + level);
  }
  // N3, release: pairs with N4. Nodes that this update fills were marked
  // before.
  static void Fence() { AtomFence<Atom>(std::memory_order_release); }

  // The path to the entry of `record`: behind those with the same first byte
  // that came before it.
  void Find(Path &path, std::uint64_t first, Record *record) const {
    (void)path.Start(root_);
    path.OwnBefore(first);
    while (path.index(0) == path.leaf()->size() ||
           Node::Get(path.leaf()->slot(path.index(0))) != record) {
      [[maybe_unused]] const auto reached = path.NextReaching(first);
      DMAMAP_ASSERT(reached == internal::Reached::kSlot);
    }
  }

  // `made` takes the place of `replaced` nodes at `level`, the first of which
  // is path.node(level) or its left sibling (path.index(level + 1) says):
  // carries the change up as far as it is one, and publishes it.
  void Ascend(Path &path, unsigned level, unsigned replaced, Made made) {
    while (level + 1 < path.height()) {
      Node &above = *path.node(level + 1);
      const unsigned at = path.index(level + 1);
      if (replaced == 1 && made.count == 1 &&
          above.first_at(at) == made.node[0]->first_at(0) &&
          above.end_at(at) == made.node[0]->largest_end()) {
        above.Lead(at, made.node[0]);
        RetireDiscarded();
        return;
      }
      ++level;
      Slots slots;
      slots.Add(above, 0, at);
      for (unsigned i = 0; i < made.count; ++i) slots.AddNode(made.node[i]);
      slots.Add(above, at + replaced, above.size());
      const unsigned place = made.count == 2 ? at + 1 : kKeys;
      made = Rebuild(path, level, slots, place, replaced);
    }
    PublishTop(made, level);
    RetireDiscarded();
  }

  // New nodes for `slots`, which path.node(level) is to have; `place` is a new
  // one among them if they are too many. Joins them with a sibling's if they
  // are too few; then `replaced` becomes 2.
  Made Rebuild(Path &path, unsigned level, Slots &slots, unsigned place,
               unsigned &replaced) {
    Discard(path.node(level));
    replaced = 1;
    if (level + 1 == path.height() || slots.size() >= Node::kFewest) {
      return Emit(slots, place);
    }
    const Node &above = *path.node(level + 1);
    unsigned &at = path.index(level + 1);
    replaced = 2;
    if (at == 0) {
      Node *const right = above.child_at(1);
      slots.Add(*right, 0, right->size());
      Discard(right);
    } else {
      Node *const left = above.child_at(--at);
      slots.Prepend(*left);
      Discard(left);
    }
    if (slots.size() <= Node::kMergeAtMost) return Emit(slots, kKeys);
    return EmitTwo(slots, slots.size() / 2);
  }

  Made Emit(const Slots &slots, unsigned place) {
    if (slots.size() > kKeys) return EmitTwo(slots, SplitPoint(slots, place));
    Made made;
    if (slots.size() != 0) made.Add(Build(slots, 0, slots.size()));
    return made;
  }
  Made EmitTwo(const Slots &slots, unsigned left) {
    Made made;
    made.Add(Build(slots, 0, left));
    made.Add(Build(slots, left, slots.size()));
    return made;
  }
  // Where slots come in order of address, the side that will not grow keeps
  // more.
  static unsigned SplitPoint(const Slots &slots, unsigned place) {
    return place + 1 == slots.size() ? kKeys - Node::kFewest + 1
           : place == 0              ? Node::kFewest
                                     : slots.size() / 2;
  }
  Node *Build(const Slots &slots, unsigned from, unsigned to) {
    Builder node(nodes_.Take());
    for (unsigned i = from; i < to; ++i) {
      node.Push(slots.first(i), slots.end(i), slots.slot(i));
    }
    return node.Finish();
  }

  void PublishTop(const Made &made, unsigned level) {
    if (made.count == 0) {
      PublishRootWord(0);
      return;
    }
    Node *top = made.node[0];
    if (made.count == 2) {
      Builder root(nodes_.Take());
      for (Node *node : made.node) {
        root.Push(node->first_at(0), node->largest_end(), node);
      }
      top = root.Finish();
      ++level;
    }
    while (level > 0 && top->size() == 1) {  // a root needs two children
      Discard(top);
      top = top->child_at(0);
      --level;
    }
    PublishRoot(top, level);
  }

  // Leaves the tree with the change that is under way.
  void Discard(Node *node) {
    node->link = discarded_;
    discarded_ = node;
  }
  void RetireDiscarded() {
    while (discarded_ != nullptr) {
      Node *const node = std::exchange(discarded_, discarded_->link);
      node->Retire();
      nodes_.Put(node);
    }
  }

  // Recursion is as deep as the tree is high.
  template <class Drop>
  void ClearBelow(Node *node, unsigned level, Drop &drop) {
    node->Retire();
    for (unsigned i = 0; i < node->size(); ++i) {
      if (level > 0) {
        ClearBelow(node->child_at(i), level - 1, drop);
      } else {
        drop(*static_cast<Record *>(Node::Get(node->slot(i))));
      }
    }
    nodes_.Put(node);
  }

  Atom<std::uint64_t> root_{0};
  // The writer's, and not on the line that every search reads.
  alignas(kCacheLine) NodePool<Node, Memory> nodes_;
  Node *discarded_ = nullptr;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_INTERVAL_TREE_H_
