// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOMMU_SCHED_FOR_TEST_H_
#define DMAMAP_IOMMU_SCHED_FOR_TEST_H_

// SchedLock: the lock of tests under the deterministic scheduler. Threads of an
// execution that failed are left where they were, with their locks; destructors
// still have to come to an end.

#include "dma/sync.h"
#include "testing/sched/explore.h"

namespace dmamap {

class SchedLock : public BasicSpinLock<sched::Atomic> {
 public:
  void lock() {
    const sched::Engine* const engine = sched::Engine::Current();
    if (engine == nullptr || !engine->failed()) BasicSpinLock::lock();
  }
};

}  // namespace dmamap

#endif  // DMAMAP_IOMMU_SCHED_FOR_TEST_H_
