// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_PEERS_DPDK_LIST_IOTLB_H_
#define DMAMAP_BENCHMARKS_PEERS_DPDK_LIST_IOTLB_H_

// The IOTLB of DPDK's vhost library, written from its description: a linked
// list in order of address that every search walks from its head, a pool of
// 2,048 entries, and a random victim when the pool is empty. DPDK keeps it to
// itself, so this stands in for it.
//
// Not thread-safe; LockedIotlb puts a lock around it, as DPDK does around its
// queues.

#include <array>
#include <cstdint>
#include <iterator>
#include <list>

#include "benchmarks/peers/iotlb_subject.h"
#include "benchmarks/peers/measure.h"

namespace dmamap::peers {

class DpdkListIotlb {
 public:
  static constexpr std::uint64_t kMaxMappings = 2048;

  DpdkListIotlb() : free_(kMaxMappings) {}

  // A mapping that begins where another does is already there: refused.
  bool Add(std::uint64_t first, std::uint64_t last, std::uint64_t address,
           unsigned permission) {
    if (free_.empty()) EvictRandom();
    auto at = used_.begin();
    while (at != used_.end() && at->first < first) ++at;
    if (at != used_.end() && at->first == first) return false;
    // Moves a node; nothing is allocated.
    used_.splice(at, free_, free_.begin());
    *std::prev(at) = Entry{first, last, address, permission};
    return true;
  }
  void Remove(std::uint64_t first, std::uint64_t last) {
    for (auto at = used_.begin(); at != used_.end() && at->first <= last;) {
      const auto next = std::next(at);
      if (at->last >= first) free_.splice(free_.begin(), used_, at);
      at = next;
    }
  }
  std::uint64_t Lookup(std::uint64_t iova) const {
    for (const Entry& entry : used_) {
      if (entry.first > iova) return 0;
      if (iova <= entry.last) return entry.address + (iova - entry.first);
    }
    return 0;
  }
  WalkResult Walk(std::uint64_t first, std::uint64_t last) const {
    WalkResult result;
    for (const Entry& entry : used_) {
      if (entry.first > last) break;
      if (entry.last < first) continue;
      ++result.count;
      result.sum += entry.address;
    }
    return result;
  }
  std::uint64_t size() const { return used_.size(); }

 private:
  struct Entry {
    std::uint64_t first = 0;
    std::uint64_t last = 0;
    std::uint64_t address = 0;
    unsigned permission = 0;
  };

  void EvictRandom() {
    const auto victim =
        std::next(used_.begin(),
                  static_cast<std::ptrdiff_t>(random_.Below(used_.size())));
    free_.splice(free_.begin(), used_, victim);
  }

  Random random_{2048};
  std::list<Entry> used_;
  std::list<Entry> free_;
};

using DpdkList = LockedIotlb<DpdkListIotlb>;
static_assert(WalkableIotlb<DpdkList>);

}  // namespace dmamap::peers

#endif  // DMAMAP_BENCHMARKS_PEERS_DPDK_LIST_IOTLB_H_
