// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_POLICIES_H_
#define DMAMAP_IOTLB_POLICIES_H_

// What an IOTLB is made of: one struct that names every part. Derive from it
// and change what you need.
//
//   struct Traced : IotlbPolicies {
//     using WriterLock = SpinLock;            // ours, not the embedder's
//     static constexpr bool kReverse = true;  // memory address to IOVAs
//   };
//   BasicIotlb<Traced> iotlb;

#include <atomic>

#include "dma/sync.h"
#include "dma/version.h"
#include "iotlb/node_pool.h"

namespace dmamap::inline v0 {

struct IotlbPolicies {
  // Where nodes, records and tables come from.
  using Memory = HeapMemory;
  template <class T>
  using Atom = std::atomic<T>;
  // Taken by each call that changes the IOTLB. NullLock: the embedder sees to
  // it that there is one such call at a time.
  using WriterLock = NullLock;
  // Slots of a tree node: a multiple of 4, at least 8.
  static constexpr unsigned kKeys = 32;
  // The front: the page is 2^kPageShift bytes, a table has 2^kFrontBits slots.
  static constexpr unsigned kPageShift = 12;
  static constexpr unsigned kFrontBits = 9;
  // Stages that cost nothing when they are absent.
  static constexpr bool kReverse = false;  // reverse_map.h
  static constexpr bool kDirty = false;    // dirty.h
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_POLICIES_H_
