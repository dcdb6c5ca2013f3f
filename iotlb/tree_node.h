// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_TREE_NODE_H_
#define DMAMAP_IOTLB_TREE_NODE_H_

// One node of the interval tree, and the record of one mapping.
//
// A node holds up to kKeys slots, in order. A slot of a leaf is one mapping, a
// slot of an inner node is one child with everything below it:
//
//   first[i]  first byte of the mapping; smallest first byte below the child
//   end[i]    last byte of the mapping; largest last byte below the child
//   reach[i]  the largest of end[0] .. end[i]
//   slot[i]   the MappingRecord or the child
//
// reach[] never decreases, and the first i with reach[i] >= x is also the first
// with end[i] >= x. That is why a search compares one array only, counts
// without a branch, and needs no second way down: see interval_tree.h.
// Beyond `count`, reach and first are 2^64-1, so that counts run over all
// kKeys slots, a number that the compiler knows.
//
// Every access to a node's arrays is in this file.

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "dma/address.h"
#include "dma/assert.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "iotlb/mapping.h"

namespace dmamap::inline v0 {
namespace internal {

inline constexpr std::uint64_t kNever = ~std::uint64_t{0};

template <unsigned kKeys>
struct TreeNode;

// A mapping in its one place: it does not move while it is mapped.
template <unsigned kKeys>
struct alignas(kCacheLine) MappingRecord : IotlbEntry {
  TreeNode<kKeys>* leaf = nullptr;  // that points here; null: not in a tree
  MappingRecord* older = nullptr;   // order of Add, where that is kept
  MappingRecord* newer = nullptr;

  static MappingRecord*& PoolLink(MappingRecord& r) { return r.newer; }
};
static_assert(sizeof(MappingRecord<16>) == kCacheLine,
              "a hit costs one cache line behind the leaf");

template <unsigned kKeys>
struct alignas(kCacheLine) TreeNode {
  static_assert(kKeys >= 8 && kKeys % 4 == 0);
  using Record = MappingRecord<kKeys>;

  // Fewest slots of a node that is not the root: a quarter, so that a delete
  // and an add in turn do not merge and split each time.
  static constexpr unsigned kFewest = kKeys / 4;
  // Two siblings become one only if the new node has room left.
  static constexpr unsigned kMergeAtMost = kKeys - kFewest;

  std::uint64_t reach[kKeys];
  void* slot[kKeys];
  std::uint64_t first[kKeys];
  std::uint64_t end[kKeys];
  TreeNode* parent;     // null: the root. Only the writer and walks read it.
  std::uint32_t count;  // slots in use
  std::uint32_t level;  // 0: a leaf

  static TreeNode*& PoolLink(TreeNode& n) { return n.parent; }

  // Makes a node out of the pool an empty one.
  void Reset(std::uint32_t at_level) {
    parent = nullptr;
    level = at_level;
    count = 0;
    ClearFrom(0, kKeys);
  }

  bool full() const { return count == kKeys; }
  TreeNode* child(unsigned i) const {
    DMAMAP_ASSERT(level > 0);
    return static_cast<TreeNode*>(slot[i]);
  }
  Record* record(unsigned i) const {
    DMAMAP_ASSERT(level == 0);
    return static_cast<Record*>(slot[i]);
  }
  // What this node's parent has to say about it. REQUIRES: count > 0.
  std::uint64_t smallest_first() const { return first[0]; }
  std::uint64_t largest_end() const { return reach[count - 1]; }

  // The first slot with end >= at; count when there is none.
  unsigned FirstReaching(std::uint64_t at) const {
    unsigned n = 0;
    for (unsigned i = 0; i < kKeys; ++i) n += reach[i] < at ? 1u : 0u;
    return n;
  }
  // Slots with first < at.
  unsigned CountBelow(std::uint64_t at) const {
    unsigned n = 0;
    for (unsigned i = 0; i < kKeys; ++i) n += first[i] < at ? 1u : 0u;
    return n;
  }
  // Slots with first <= at; for 2^64-1 all that are in use.
  unsigned CountAtMost(std::uint64_t at) const {
    return at == kNever ? count : CountBelow(at + 1);
  }
  // Asks for what a walk that stands at slot `i` will read a few steps on.
  void PrefetchBehind(unsigned i) const {
    constexpr unsigned kAhead = 4;
    if (i + kAhead < count) __builtin_prefetch(slot[i + kAhead]);
  }
  // The first slot from `i` on with end >= at, not counting on reach[].
  unsigned NextReaching(unsigned i, std::uint64_t at) const {
    while (i < count && end[i] < at) ++i;
    return i;
  }
  // REQUIRES: the node has `what` in a slot.
  unsigned IndexOf(const void* what) const {
    unsigned i = 0;
    while (slot[i] != what) {
      ++i;
      DMAMAP_ASSERT(i < count);
    }
    return i;
  }

  // Opens slot `i` for `what`. REQUIRES: !full(), i <= count.
  void Insert(unsigned i, std::uint64_t first_byte, std::uint64_t last_byte,
              void* what) {
    DMAMAP_ASSERT(!full() && i <= count);
    MoveWithin(i, i + 1, count - i);
    ++count;
    first[i] = first_byte;
    end[i] = last_byte;
    slot[i] = what;
    Adopt(i);
    RefreshReach(i);
  }
  // Closes slot `i`.
  void Remove(unsigned i) {
    DMAMAP_ASSERT(i < count);
    MoveWithin(i + 1, i, count - i - 1);
    --count;
    ClearFrom(count, count + 1);
    RefreshReach(i);
  }
  // Says anew what slot `i` says about its child; false when nothing changed.
  bool Summarise(unsigned i) {
    const TreeNode& below = *child(i);
    if (first[i] == below.smallest_first() && end[i] == below.largest_end()) {
      return false;
    }
    first[i] = below.smallest_first();
    end[i] = below.largest_end();
    RefreshReach(i);
    return true;
  }

  // Moves the slots from `from` on to the front of `right`, before its own.
  void MoveTail(unsigned from, TreeNode& right) {
    const unsigned moved = count - from;
    DMAMAP_ASSERT(right.count + moved <= kKeys);
    right.MoveWithin(0, moved, right.count);
    right.count += moved;
    right.CopyFrom(*this, from, 0, moved);
    right.RefreshReach(0);
    ClearFrom(from, count);
    count = from;
  }
  // Moves the first `moved` slots of `right` behind this node's own.
  void TakeHead(TreeNode& right, unsigned moved) {
    DMAMAP_ASSERT(count + moved <= kKeys && moved <= right.count);
    const unsigned from = count;
    count += moved;
    CopyFrom(right, 0, from, moved);
    RefreshReach(from);
    const unsigned left_over = right.count - moved;
    right.MoveWithin(moved, 0, left_over);
    right.ClearFrom(left_over, right.count);
    right.count = left_over;
    right.RefreshReach(0);
  }

  // This node alone: order, reach and padding. The tree checks the rest.
  bool CheckInvariants() const {
    if (count > kKeys) return false;
    std::uint64_t largest = 0;
    for (unsigned i = 0; i < kKeys; ++i) {
      if (i >= count) {
        if (reach[i] != kNever || first[i] != kNever) return false;
        continue;
      }
      largest = end[i] > largest ? end[i] : largest;
      if (reach[i] != largest || slot[i] == nullptr) return false;
      if (end[i] < first[i]) return false;
      if (i > 0 && first[i] < first[i - 1]) return false;
    }
    return true;
  }

 private:
  // Slots [from, from + n) go to [to, to + n), which may overlap; reach[] is
  // for the caller to refresh.
  void MoveWithin(unsigned from, unsigned to, unsigned n) {
    std::memmove(first + to, first + from, n * sizeof(first[0]));
    std::memmove(end + to, end + from, n * sizeof(end[0]));
    std::memmove(slot + to, slot + from, n * sizeof(slot[0]));
  }
  // Slots [from, from + n) of `other` go to [to, to + n) and live here now.
  void CopyFrom(const TreeNode& other, unsigned from, unsigned to, unsigned n) {
    std::memcpy(first + to, other.first + from, n * sizeof(first[0]));
    std::memcpy(end + to, other.end + from, n * sizeof(end[0]));
    std::memcpy(slot + to, other.slot + from, n * sizeof(slot[0]));
    for (unsigned i = to; i < to + n; ++i) Adopt(i);
  }
  // Tells what slot `i` holds where it is now.
  void Adopt(unsigned i) {
    if (level == 0) {
      record(i)->leaf = this;
    } else {
      child(i)->parent = this;
    }
  }
  void RefreshReach(unsigned from) {
    std::uint64_t largest = from == 0 ? 0 : reach[from - 1];
    for (unsigned i = from; i < count; ++i) {
      largest = end[i] > largest ? end[i] : largest;
      reach[i] = largest;
    }
  }
  void ClearFrom(unsigned from, unsigned to) {
    for (unsigned i = from; i < to; ++i) {
      reach[i] = kNever;
      first[i] = kNever;
      end[i] = 0;
      slot[i] = nullptr;
    }
  }
};

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_TREE_NODE_H_
