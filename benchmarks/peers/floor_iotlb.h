// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_PEERS_FLOOR_IOTLB_H_
#define DMAMAP_BENCHMARKS_PEERS_FLOOR_IOTLB_H_

// The floors of the IOTLB workloads: tables indexed by page number, one 8-byte
// entry a page (address and permission), read without a lock. They know no byte
// ranges, no overlaps and no order, and give no memory back.
//
//   FloorRadix  three levels of 4096 entries over a 48-bit space;
//   FloorFlat   one array for the first 2^24 pages.
//
// Threads: readers and one writer at a time; the shared calls take a lock among
// writers.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/status/statusor.h"
#include "benchmarks/peers/iotlb_subject.h"

namespace dmamap::peers {

// Both: Table has Slot(page), which makes the entry of a page, and Find(page),
// which is null where there is none.
template <class Table>
class PageTableIotlb {
 public:
  static constexpr std::uint64_t kMaxMappings = 0;
  static constexpr bool kSparse = false;

  static absl::StatusOr<std::unique_ptr<PageTableIotlb>> Create(std::uint64_t) {
    return std::make_unique<PageTableIotlb>();
  }
  PlainReader<PageTableIotlb> NewReader() {
    return PlainReader<PageTableIotlb>(*this);
  }

  // Page-aligned, address included; false above the table's reach.
  bool Add(std::uint64_t first, std::uint64_t last, std::uint64_t address,
           unsigned permission) {
    if (last / kPage >= Table::kPages) return false;
    for (std::uint64_t page = first / kPage; page <= last / kPage; ++page) {
      // release: pairs with the acquire load in Lookup, which reads what the
      // address points to next.
      table_.Slot(page).store(address | permission, std::memory_order_release);
      address += kPage;
    }
    return true;
  }
  void Remove(std::uint64_t first, std::uint64_t last) {
    for (std::uint64_t page = first / kPage; page <= last / kPage; ++page) {
      table_.Slot(page).store(0, std::memory_order_release);  // as in Add
    }
  }
  std::uint64_t Lookup(std::uint64_t iova) const {
    if (iova / kPage >= Table::kPages) [[unlikely]]
      return 0;
    const std::atomic<std::uint64_t>* slot = table_.Find(iova / kPage);
    if (slot == nullptr) [[unlikely]]
      return 0;
    // acquire: pairs with Add.
    const std::uint64_t entry = slot->load(std::memory_order_acquire);
    return entry == 0 ? 0 : entry / kPage * kPage + iova % kPage;
  }

  bool AddShared(std::uint64_t first, std::uint64_t last, std::uint64_t address,
                 unsigned permission) {
    const std::lock_guard lock(writers_);
    return Add(first, last, address, permission);
  }
  void RemoveShared(std::uint64_t first, std::uint64_t last) {
    const std::lock_guard lock(writers_);
    Remove(first, last);
  }
  std::uint64_t LookupShared(std::uint64_t iova) const { return Lookup(iova); }

 private:
  static constexpr std::uint64_t kPage = 4096;

  Table table_;
  PeerSpinLock writers_;
};

class RadixTable {
 public:
  static constexpr std::uint64_t kPages = std::uint64_t{1} << 36;

  std::atomic<std::uint64_t>& Slot(std::uint64_t page) {
    Middle& middle = Child(root_[page >> 24], middles_);
    Leaf& leaf = Child(middle[(page >> 12) % kEntries], leaves_);
    return leaf[page % kEntries];
  }
  const std::atomic<std::uint64_t>* Find(std::uint64_t page) const {
    // acquire, both: pair with the release store in Child.
    const Middle* middle = root_[page >> 24].load(std::memory_order_acquire);
    if (middle == nullptr) [[unlikely]]
      return nullptr;
    const Leaf* leaf =
        (*middle)[(page >> 12) % kEntries].load(std::memory_order_acquire);
    if (leaf == nullptr) [[unlikely]]
      return nullptr;
    return &(*leaf)[page % kEntries];
  }

 private:
  static constexpr std::size_t kEntries = 4096;
  using Leaf = std::array<std::atomic<std::uint64_t>, kEntries>;
  using Middle = std::array<std::atomic<Leaf*>, kEntries>;

  // One writer at a time. `owned` frees the nodes with the table.
  template <class Node>
  static Node& Child(std::atomic<Node*>& slot,
                     std::vector<std::unique_ptr<Node>>& owned) {
    Node* node = slot.load(std::memory_order_relaxed);  // only writers store
    if (node == nullptr) {
      owned.push_back(std::make_unique<Node>());
      node = owned.back().get();
      slot.store(node, std::memory_order_release);  // zeroed before it is seen
    }
    return *node;
  }

  std::vector<std::unique_ptr<Middle>> middles_;
  std::vector<std::unique_ptr<Leaf>> leaves_;
  std::array<std::atomic<Middle*>, kEntries> root_{};
};

class FlatTable {
 public:
  static constexpr std::uint64_t kPages = std::uint64_t{1} << 24;

  std::atomic<std::uint64_t>& Slot(std::uint64_t page) { return slots_[page]; }
  const std::atomic<std::uint64_t>* Find(std::uint64_t page) const {
    return &slots_[page];
  }

 private:
  std::vector<std::atomic<std::uint64_t>> slots_ =
      std::vector<std::atomic<std::uint64_t>>(kPages);
};

using FloorRadix = PageTableIotlb<RadixTable>;
using FloorFlat = PageTableIotlb<FlatTable>;
static_assert(IotlbSubject<FloorRadix>);
static_assert(IotlbSubject<FloorFlat>);

}  // namespace dmamap::peers

#endif  // DMAMAP_BENCHMARKS_PEERS_FLOOR_IOTLB_H_
