// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_REVERSE_MAP_H_
#define DMAMAP_IOTLB_REVERSE_MAP_H_

// ReverseMap: from a memory address to the I/O addresses that mean it.
//
// A second interval tree over the same records, ordered by memory address. Two
// mappings of one page are two entries of it, so that both are found and the
// one that is removed is the one that was named (QEMU 05063f55: a tree that was
// searched by address for what to remove removed the other). O(log n), and O(k)
// more for k aliases. Readers walk it without a lock, as they do the other.
//
// An optional stage: kPresent false makes it an empty class, and every call a
// no-op that the compiler drops.

#include <cstddef>
#include <cstdint>

#include "dma/version.h"
#include "iotlb/interval_tree.h"
#include "iotlb/node_pool.h"
#include "iotlb/record.h"

namespace dmamap::inline v0 {
namespace internal {

template <class Record, NodeMemory Memory, unsigned kKeys,
          template <class> class Atom, bool kPresent>
class ReverseMap {
 public:
  using Tree = IntervalTree<Record, Memory, kKeys, Atom>;

  explicit ReverseMap(const Memory &memory) : tree_(memory) {}

  [[nodiscard]] bool Reserve(std::size_t count) { return tree_.Reserve(count); }
  void Insert(Record *r) { tree_.Insert(r->address(), LastOf(*r), r); }
  void Erase(Record *r) { tree_.Erase(r->address(), r); }
  void Clear() {
    tree_.Clear([](Record &) {});
  }

  const Tree &tree() const { return tree_; }
  std::size_t memory_bytes() const { return tree_.memory_bytes(); }
  bool CheckInvariants(std::size_t size) const {
    return tree_.CheckInvariants(
        size, [](std::uint64_t first, std::uint64_t last, const Record &r) {
          return r.address() == first && LastOf(r) == last && !r.dead();
        });
  }

 private:
  // The last byte of memory, inclusive: no wrap, Validate() saw to it.
  static std::uint64_t LastOf(const Record &r) {
    return r.address() + (r.last() - r.first());
  }

  Tree tree_;
};

template <class Record, NodeMemory Memory, unsigned kKeys,
          template <class> class Atom>
class ReverseMap<Record, Memory, kKeys, Atom, false> {
 public:
  explicit ReverseMap(const Memory &) {}

  [[nodiscard]] bool Reserve(std::size_t) { return true; }
  void Insert(Record *) {}
  void Erase(Record *) {}
  void Clear() {}
  std::size_t memory_bytes() const { return 0; }
  bool CheckInvariants(std::size_t) const { return true; }
};

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_REVERSE_MAP_H_
