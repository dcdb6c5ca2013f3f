// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_RNR_FLAG_H_
#define DMAMAP_NICRING_RNR_FLAG_H_

// RnrFlag: how an interrupt handler tells a poll on another CPU that the
// receiver was "not ready". A Napi does not order the two: an interrupt that is
// shared, or that comes while a completing poll looks again, runs beside a poll
// (napi.h).
//
// Two announcements before a Take are one. One that comes after the Take of a
// pass waits for the next pass; none is lost. Each call is one atomic access.

#include <atomic>

#include "dma/version.h"

namespace dmamap::inline v0 {

template <template <class> class Atom = std::atomic>
class RnrFlag {
 public:
  void Announce() {
    // R1, release: pairs with R2. What the handler did before (it read the
    // cause from the device) comes before what the pass asks the device.
    announced_.store(true, std::memory_order_release);
  }

  // True while something waits for Take. For the pass's thread: what another
  // announces now it schedules for.
  bool announced() const {
    // relaxed: only says whether to Take, which acquires.
    return announced_.load(std::memory_order_relaxed);
  }

  // True once for what was announced so far.
  [[nodiscard]] bool Take() {
    // R2, acquire: pairs with R1. One access that reads and clears: between a
    // load and a store another announcement would be lost. No release: the
    // handler reads nothing that a pass wrote.
    return announced_.exchange(false, std::memory_order_acquire);
  }

 private:
  Atom<bool> announced_{false};
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_RNR_FLAG_H_
