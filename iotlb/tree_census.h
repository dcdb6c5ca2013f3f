// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_TREE_CENSUS_H_
#define DMAMAP_IOTLB_TREE_CENSUS_H_

// TreeCensus: counts what an interval tree holds, and checks every invariant of
// it on the way (interval_tree.h says which). For CheckInvariants: the
// writer's, or anybody's while nothing changes.

#include <cstddef>
#include <cstdint>

#include "dma/version.h"

namespace dmamap::inline v0 {
namespace internal {

template <class Node, class Record>
class TreeCensus {
 public:
  // `check(first, last, const Record&)` is asked of each entry. O(n).
  template <class Check>
  bool CheckRoot(const Node &root, unsigned level, Check &check) {
    const unsigned least = level > 0 ? 2 : 1;
    return root.size() >= least && CheckNode(root, level, check);
  }

  std::size_t nodes() const { return nodes_; }
  std::size_t records() const { return records_; }

 private:
  // Recursion is as deep as the tree is high.
  template <class Check>
  bool CheckNode(const Node &node, unsigned level, Check &check) {
    ++nodes_;
    if (!node.CheckInvariants()) return false;
    for (unsigned i = 0; i < node.size(); ++i) {
      const std::uint64_t first = node.first_at(i), end = node.end_at(i);
      if (level > 0) {
        const Node &child = *node.child_at(i);
        if (child.size() < Node::kFewest ||
            !CheckNode(child, level - 1, check) || first != child.first_at(0) ||
            end != child.largest_end()) {
          return false;
        }
        continue;
      }
      ++records_;
      if (first < last_first_) return false;
      last_first_ = first;
      if (!check(first, end, *static_cast<Record *>(Node::Get(node.slot(i))))) {
        return false;
      }
    }
    return true;
  }

  std::size_t nodes_ = 0;
  std::size_t records_ = 0;
  std::uint64_t last_first_ = 0;  // first byte of the entry before
};

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_TREE_CENSUS_H_
