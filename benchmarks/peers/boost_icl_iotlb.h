// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_PEERS_BOOST_ICL_IOTLB_H_
#define DMAMAP_BENCHMARKS_PEERS_BOOST_ICL_IOTLB_H_

// boost::icl::interval_map as an IOTLB. Later mappings replace earlier ones
// where they overlap. Not thread-safe; LockedIotlb puts a lock around it.

#include <boost/icl/interval_map.hpp>
#include <cstdint>
#include <utility>

#include "benchmarks/peers/iotlb_subject.h"

namespace dmamap::peers {

// What a segment carries. interval_map joins neighbours whose values are equal,
// and wants += for values that are added to one another.
struct IclEntry {
  std::uint64_t first = 0;
  std::uint64_t address = 0;
  unsigned permission = 0;

  friend bool operator==(const IclEntry&, const IclEntry&) = default;
  IclEntry& operator+=(const IclEntry& other) { return *this = other; }
};

class BoostIclMap {
 public:
  static constexpr std::uint64_t kMaxMappings = 0;

  bool Add(std::uint64_t first, std::uint64_t last, std::uint64_t address,
           unsigned permission) {
    map_.set(std::make_pair(Interval::closed(first, last),
                            IclEntry{first, address, permission}));
    return true;
  }
  void Remove(std::uint64_t first, std::uint64_t last) {
    map_.erase(Interval::closed(first, last));
  }
  std::uint64_t Lookup(std::uint64_t iova) const {
    const auto it = map_.find(iova);
    if (it == map_.end()) return 0;
    return it->second.address + (iova - it->second.first);
  }
  WalkResult Walk(std::uint64_t first, std::uint64_t last) const {
    WalkResult result;
    const auto range = map_.equal_range(Interval::closed(first, last));
    for (auto it = range.first; it != range.second; ++it) {
      ++result.count;
      result.sum += it->second.address;
    }
    return result;
  }

 private:
  using Interval = boost::icl::interval<std::uint64_t>;
  boost::icl::interval_map<std::uint64_t, IclEntry> map_;
};

using BoostIclIotlb = LockedIotlb<BoostIclMap>;
static_assert(WalkableIotlb<BoostIclIotlb>);

}  // namespace dmamap::peers

#endif  // DMAMAP_BENCHMARKS_PEERS_BOOST_ICL_IOTLB_H_
