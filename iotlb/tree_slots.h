// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_TREE_SLOTS_H_
#define DMAMAP_IOTLB_TREE_SLOTS_H_

// The slots of one or two tree nodes, laid out anew by the writer before it
// builds nodes from them. On the stack, seen by nobody else.

#include <cstdint>

#include "dma/assert.h"
#include "dma/version.h"

namespace dmamap::inline v0 {
namespace internal {

template <class Node, unsigned kKeys>
class NodeSlots {
 public:
  unsigned size() const { return size_; }
  std::uint64_t first(unsigned i) const { return slots_[i].first; }
  std::uint64_t end(unsigned i) const { return slots_[i].end; }
  void *slot(unsigned i) const { return slots_[i].what; }

  void Add(std::uint64_t first, std::uint64_t end, void *what) {
    DMAMAP_ASSERT(size_ < kRoom);
    slots_[size_++] = {first, end, what};
  }
  // Slots [from, to) of a node.
  void Add(const Node &node, unsigned from, unsigned to) {
    for (unsigned i = from; i < to; ++i) {
      Add(node.first_at(i), node.end_at(i), Node::Get(node.slot(i)));
    }
  }
  // A slot for a child.
  void AddNode(Node *child) {
    Add(child->first_at(0), child->largest_end(), child);
  }
  // All slots of a node before these.
  void Prepend(const Node &node) {
    const unsigned n = node.size();
    DMAMAP_ASSERT(size_ + n <= kRoom);
    for (unsigned i = size_; i-- > 0;) slots_[i + n] = slots_[i];
    for (unsigned i = 0; i < n; ++i) {
      slots_[i] = {node.first_at(i), node.end_at(i), Node::Get(node.slot(i))};
    }
    size_ += n;
  }

 private:
  struct Slot {
    std::uint64_t first;
    std::uint64_t end;
    void *what;
  };
  // A full node beside one with too few.
  static constexpr unsigned kRoom = 2 * kKeys + 1;

  Slot slots_[kRoom];
  unsigned size_ = 0;
};

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_TREE_SLOTS_H_
