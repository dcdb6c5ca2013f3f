// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_PEERS_MAP_IOTLB_H_
#define DMAMAP_BENCHMARKS_PEERS_MAP_IOTLB_H_

// An IOTLB as one would write it over an ordered map: keyed by the last byte,
// so that one lower_bound finds the only candidate. No two mappings overlap.
//
// Not thread-safe; LockedIotlb puts a lock around it.

#include <cstdint>
#include <map>

#include "absl/container/btree_map.h"
#include "benchmarks/peers/iotlb_subject.h"

namespace dmamap::peers {

struct MapIotlbEntry {
  std::uint64_t first;
  std::uint64_t address;  // of the first byte
  unsigned permission;
};

template <class Map>
class MapIotlb {
 public:
  static constexpr std::uint64_t kMaxMappings = 0;

  // The caller sees to it that nothing overlaps.
  bool Add(std::uint64_t first, std::uint64_t last, std::uint64_t address,
           unsigned permission) {
    return map_.emplace(last, MapIotlbEntry{first, address, permission}).second;
  }
  void Remove(std::uint64_t first, std::uint64_t last) {
    auto it = map_.lower_bound(first);
    while (it != map_.end() && it->second.first <= last) it = map_.erase(it);
  }
  std::uint64_t Lookup(std::uint64_t iova) const {
    const auto it = map_.lower_bound(iova);
    if (it == map_.end() || it->second.first > iova) return 0;
    return it->second.address + (iova - it->second.first);
  }
  WalkResult Walk(std::uint64_t first, std::uint64_t last) const {
    WalkResult result;
    for (auto it = map_.lower_bound(first);
         it != map_.end() && it->second.first <= last; ++it) {
      ++result.count;
      result.sum += it->second.address;
    }
    return result;
  }

 private:
  Map map_;
};

using StdMapIotlb =
    LockedIotlb<MapIotlb<std::map<std::uint64_t, MapIotlbEntry>>>;
using AbslBtreeIotlb =
    LockedIotlb<MapIotlb<absl::btree_map<std::uint64_t, MapIotlbEntry>>>;
static_assert(WalkableIotlb<StdMapIotlb>);
static_assert(WalkableIotlb<AbslBtreeIotlb>);

}  // namespace dmamap::peers

#endif  // DMAMAP_BENCHMARKS_PEERS_MAP_IOTLB_H_
