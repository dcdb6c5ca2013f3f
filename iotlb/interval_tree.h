// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_INTERVAL_TREE_H_
#define DMAMAP_IOTLB_INTERVAL_TREE_H_

// An augmented interval tree with many keys in a node (a B+-tree).
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
// it overlaps, or none does. O(log n), whatever overlaps what; a walk costs
// O(log n) a step at worst, and most steps stay in one leaf.
//
// Records and nodes are type-stable (node_pool.h): a reader that is late reads
// a node, never freed memory. Nothing here loops on a wrap: ends are inclusive,
// and no code computes the byte behind a mapping.
//
// Thread-compatible: any number of const callers, or one writer. Const members
// write nothing. Only Reserve can fail.

#include <cstddef>
#include <cstdint>
#include <utility>

#include "dma/address.h"
#include "dma/assert.h"
#include "dma/version.h"
#include "iotlb/node_pool.h"
#include "iotlb/tree_node.h"

namespace dmamap::inline v0 {

template <NodeMemory Memory = HeapMemory, unsigned kKeys = 16>
class IntervalTree {
 public:
  using Node = internal::TreeNode<kKeys>;
  using Record = internal::MappingRecord<kKeys>;

  // A place in the tree: valid until the next Insert, Erase or Clear.
  struct Cursor {
    const Node* leaf = nullptr;
    unsigned index = 0;

    explicit operator bool() const { return leaf != nullptr; }
    Record* record() const { return leaf->record(index); }
  };

  explicit IntervalTree(Memory memory = Memory()) : nodes_(std::move(memory)) {}
  IntervalTree(const IntervalTree&) = delete;
  IntervalTree& operator=(const IntervalTree&) = delete;

  bool empty() const { return root_ == nullptr; }
  std::size_t height() const { return empty() ? 0 : root_->level + 1; }
  std::size_t memory_bytes() const { return nodes_.memory_bytes(); }

  // The leftmost mapping that ends at or behind `at`, or nullptr.
  Record* FirstReaching(std::uint64_t at) const {
    const Cursor cursor = FirstReachingCursor(at);
    return cursor ? cursor.record() : nullptr;
  }

  // The first mapping in order that overlaps `query`.
  Cursor First(Range query) const {
    return Clip(FirstReachingCursor(query.first().value()), query);
  }

  // The next one in order. REQUIRES: First(query) or Next(.., query) returned
  // `at`, or `at` is Locate() of any record.
  Cursor Next(Cursor at, Range query) const {
    return Clip(NextReaching(at, query.first().value()), query);
  }

  // Where a record of this tree is.
  static Cursor Locate(const Record& record) {
    return Cursor{record.leaf, record.leaf->IndexOf(&record)};
  }

  // The first mapping in order with first byte >= `first`, if any.
  Cursor LowerBound(Iova first) const {
    if (empty()) return Cursor();
    const Node* node = root_;
    while (node->level > 0) {
      // The last child that begins below `first`: the mapping sought is there,
      // or is the one behind it.
      const unsigned below = node->CountBelow(first.value());
      node = node->child(below == 0 ? 0 : below - 1);
    }
    const unsigned below = node->CountBelow(first.value());
    if (below < node->count) return Cursor{node, below};
    return NextReaching(Cursor{node, below - 1}, 0);
  }

  // Makes the next Insert certain to succeed; false without memory, and then
  // nothing has changed.
  [[nodiscard]] bool Reserve() {
    // An Insert splits at most each level, and puts a root on top.
    return nodes_.Reserve(height() + 1);
  }

  // Enters `record` behind all mappings with the same first byte.
  // REQUIRES: Reserve() was true since the last Insert, and `record` stays
  // where it is and keeps its range until Erase or Clear.
  void Insert(Record& record) {
    const std::uint64_t first = record.range.first().value();
    if (empty()) {
      root_ = TakeNode(0);
    }
    Node* node = root_;
    while (node->level > 0) {
      const unsigned at_most = node->CountAtMost(first);
      node = node->child(at_most == 0 ? 0 : at_most - 1);
    }
    InsertSlot(node, node->CountAtMost(first), first,
               record.range.last().value(), &record);
  }

  // REQUIRES: `record` is in this tree.
  void Erase(Record& record) {
    Node* const node = record.leaf;
    node->Remove(node->IndexOf(&record));
    record.leaf = nullptr;
    Repair(node);
  }

  // Empties the tree; `drop(Record&)` is told of each record, in order, when
  // the tree does not use it any more. O(n).
  template <class Drop>
  void Clear(Drop&& drop) {
    Node* const root = std::exchange(root_, nullptr);
    if (root != nullptr) ClearBelow(root, drop);
  }

  // Every invariant of the tree, and that it holds `records` mappings. O(n).
  bool CheckInvariants(std::size_t records) const {
    Census census;
    if (!empty() && (root_->parent != nullptr || root_->count == 0 ||
                     (root_->level > 0 && root_->count < 2) ||
                     !CheckBelow(*root_, census))) {
      return false;
    }
    return census.records == records && census.nodes == nodes_.live();
  }

 private:
  friend struct IntervalTreeTestPeer;

  struct Census {
    std::size_t nodes = 0;
    std::size_t records = 0;
    std::uint64_t last_first = 0;  // first byte of the mapping before
  };

  static Cursor Clip(Cursor cursor, Range query) {
    const bool overlaps =
        cursor && cursor.leaf->first[cursor.index] <= query.last().value();
    return overlaps ? cursor : Cursor();
  }

  Cursor FirstReachingCursor(std::uint64_t at) const {
    if (empty() || root_->largest_end() < at) return Cursor();
    return Descend(root_, at);
  }

  // REQUIRES: something below `node` ends at or behind `at`.
  static Cursor Descend(const Node* node, std::uint64_t at) {
    for (std::uint32_t level = node->level; level > 0; --level) {
      node = node->child(node->FirstReaching(at));
    }
    return Cursor{node, node->FirstReaching(at)};
  }

  // The first mapping behind `from` that ends at or behind `at`.
  static Cursor NextReaching(Cursor from, std::uint64_t at) {
    const Node* node = from.leaf;
    unsigned i = node->NextReaching(from.index + 1, at);
    while (i == node->count) {
      const Node* const above = node->parent;
      if (above == nullptr) return Cursor();
      i = above->NextReaching(above->IndexOf(node) + 1, at);
      node = above;
    }
    if (node->level > 0) return Descend(node->child(i), at);
    node->PrefetchBehind(i);
    return Cursor{node, i};
  }

  Node* TakeNode(std::uint32_t level) {
    Node* const node = nodes_.Take();
    node->Reset(level);
    return node;
  }

  // Puts a slot at place `i` of `node`, splitting what is full.
  void InsertSlot(Node* node, unsigned i, std::uint64_t first,
                  std::uint64_t end, void* what) {
    while (node->full()) {
      Node* const right = Split(node, i);
      if (i <= node->count) {
        node->Insert(i, first, end, what);
      } else {
        right->Insert(i - node->count, first, end, what);
      }
      if (node->parent == nullptr) {
        GrowRoot(node, right);
        return;
      }
      Node* const above = node->parent;
      const unsigned place = above->IndexOf(node);
      above->Summarise(place);
      node = above;
      i = place + 1;
      first = right->smallest_first();
      end = right->largest_end();
      what = right;
    }
    node->Insert(i, first, end, what);
    SummariseUpwards(node);
  }

  // Halves a full node; a new slot is to come to place `i`. Where slots come
  // in order of address, the side that will not grow keeps more.
  Node* Split(Node* node, unsigned i) {
    Node* const right = TakeNode(node->level);
    const unsigned keep = i == kKeys ? kKeys - Node::kFewest
                          : i == 0   ? Node::kFewest
                                     : kKeys / 2;
    node->MoveTail(keep, *right);
    return right;
  }

  void GrowRoot(Node* left, Node* right) {
    root_ = TakeNode(left->level + 1);
    root_->Insert(0, left->smallest_first(), left->largest_end(), left);
    root_->Insert(1, right->smallest_first(), right->largest_end(), right);
  }

  // Carries a change of `node` up, as far as it is one.
  void SummariseUpwards(Node* node) {
    while (node->parent != nullptr) {
      Node* const above = node->parent;
      if (!above->Summarise(above->IndexOf(node))) return;
      node = above;
    }
  }

  // `node` has lost a slot: fills it up or does away with it, up to the root.
  void Repair(Node* node) {
    while (node->parent != nullptr && node->count < Node::kFewest) {
      Node* const above = node->parent;
      const unsigned place = above->IndexOf(node);
      const unsigned left = place == 0 ? 0 : place - 1;
      if (!MergeOrLevel(above, left)) {
        SummariseUpwards(above);
        return;
      }
      node = above;
    }
    if (node->parent == nullptr) {
      ShrinkRoot();
    } else {
      SummariseUpwards(node);
    }
  }

  // Brings the children `left` and `left + 1` of `above` to a fair size. True
  // when they became one, so that `above` has lost a slot.
  bool MergeOrLevel(Node* above, unsigned left) {
    Node& l = *above->child(left);
    Node& r = *above->child(left + 1);
    const unsigned total = l.count + r.count;
    const bool merge = total <= Node::kMergeAtMost;
    const unsigned want = merge ? total : total / 2;
    if (l.count < want) {
      l.TakeHead(r, want - l.count);
    } else {
      l.MoveTail(want, r);
    }
    if (merge) {
      above->Remove(left + 1);
      nodes_.Put(&r);
    } else {
      above->Summarise(left + 1);
    }
    above->Summarise(left);
    return merge;
  }

  void ShrinkRoot() {
    Node* const old = root_;
    if (old->level > 0 && old->count == 1) {
      root_ = old->child(0);
      root_->parent = nullptr;
    } else if (old->count == 0) {
      root_ = nullptr;
    } else {
      return;
    }
    nodes_.Put(old);
  }

  // Recursion is as deep as the tree is high: 31 levels hold 2^62 mappings.
  template <class Drop>
  void ClearBelow(Node* node, Drop& drop) {
    for (unsigned i = 0; i < node->count; ++i) {
      if (node->level > 0) {
        ClearBelow(node->child(i), drop);
        continue;
      }
      Record* const record = node->record(i);
      record->leaf = nullptr;
      drop(*record);
    }
    nodes_.Put(node);
  }

  bool CheckBelow(const Node& node, Census& census) const {
    ++census.nodes;
    if (&node != root_ && node.count < Node::kFewest) return false;
    if (!node.CheckInvariants()) return false;
    for (unsigned i = 0; i < node.count; ++i) {
      const bool good = node.level == 0 ? CheckRecord(node, i, census)
                                        : CheckChild(node, i, census);
      if (!good) return false;
    }
    return true;
  }
  bool CheckChild(const Node& node, unsigned i, Census& census) const {
    const Node& child = *node.child(i);
    return child.parent == &node && child.level + 1 == node.level &&
           child.count > 0 && CheckBelow(child, census) &&
           node.first[i] == child.smallest_first() &&
           node.end[i] == child.largest_end();
  }
  static bool CheckRecord(const Node& node, unsigned i, Census& census) {
    const Record& record = *node.record(i);
    ++census.records;
    const bool in_order = node.first[i] >= census.last_first;
    census.last_first = node.first[i];
    return in_order && record.leaf == &node &&
           record.range.first().value() == node.first[i] &&
           record.range.last().value() == node.end[i];
  }

  Node* root_ = nullptr;
  NodePool<Node, Memory> nodes_;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_INTERVAL_TREE_H_
