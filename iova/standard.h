// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_STANDARD_H_
#define DMAMAP_IOVA_STANDARD_H_

// The default composition of the IOVA allocator, top to bottom:
//
//   IovaAllocator    checks, constraints, who is asked in which order
//     ThreadSlots    each thread owns a slot                 dma/cpu.h
//     CpuCache       two magazines a slot and size class     iova/cpu_cache.h
//     Depot          full and empty magazines, lock-free     iova/depot.h
//     LiveTags       a word a range: live, cached, released  iova/live_tags.h
//     BuddyStore     the free pages of the window            iova/buddy_store.h

#include "dma/cpu.h"
#include "dma/version.h"
#include "iova/allocator.h"
#include "iova/buddy_store.h"

namespace dmamap::inline v0 {

// Thread-safe; size classes of 1, 2, 4 .. 32 pages, 256 threads with caches of
// their own, any number of others.
using StandardAllocator = IovaAllocator<BuddyStore, ThreadSlots>;

using AllocatorStats = StandardAllocator::Stats;

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_STANDARD_H_
