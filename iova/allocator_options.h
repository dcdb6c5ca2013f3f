// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_ALLOCATOR_OPTIONS_H_
#define DMAMAP_IOVA_ALLOCATOR_OPTIONS_H_

// What an IovaAllocator is told once: options when it starts, policies when it
// is compiled.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "dma/address.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "iova/tag.h"

namespace dmamap::inline v0 {

struct AllocatorOptions {
  // Page-aligned, inclusive. Page 0 is given out if it is in the window.
  Range window = Range::Whole();
  PageSize page = PageSize();
  // Never handed out; rounded out to pages. May overlap and leave the window.
  // On x86: kX86MsiWindow of constraints.h.
  std::span<const Range> reserved = {};
  // Full magazines that wait in the depot for each size class, at most.
  std::uint32_t depot_limit = 32;
  // Pages behind each range, at least, that belong to nobody while it lives: a
  // device that runs over the end faults. They are taken and freed with the
  // range, are not part of it (limits and boundaries do not concern them), and
  // let a range of a cached size take twice its pages. Below 2^kMaxPageBits.
  std::uint64_t guard_pages = 0;
};

// What an embedder may change beside the store and the slots.
struct AllocatorPolicy {
  template <class T>
  using Atom = std::atomic<T>;
  using Lock = SpinLock;
  static constexpr unsigned kClasses = 6;  // 1, 2, 4 .. 32 pages
  static constexpr std::size_t kMagazineEntries = 127;
  static constexpr FreeCheck kFreeCheck = FreeCheck::kOrdered;
  // Misses (loaded magazine empty, or full) of a slot between two looks at the
  // depot, which is asked for one class after the other whether a magazine was
  // of use to nobody; ranges too large for a cache likewise, all slots
  // together. 0: never but by TrimStep.
  static constexpr std::uint32_t kTrimPeriod = 32;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_ALLOCATOR_OPTIONS_H_
