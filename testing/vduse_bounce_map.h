// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_VDUSE_BOUNCE_MAP_H_
#define DMAMAP_TESTING_VDUSE_BOUNCE_MAP_H_

// VduseBounceMap: one entry of VDUSE's bounce map as it was proposed in 2021,
// before its reviewers found the race: a negative control for tests of a table
// whose entries are published without a lock.
//
// The driver writes the address of the original and looks whether a page is
// there to be filled; a fault puts a page there and looks whether there is an
// original to fill it from. Each writes by a release and reads by an acquire,
// which does not keep a write before a later read (store buffering): each may
// miss the other, and then nobody fills the page. A fence between the two, on
// both sides, mends it. bounce/fault_sched_test.cc runs both.

#include <atomic>
#include <cstdint>

#include "dma/version.h"

namespace dmamap::inline v0::faulty {

// Fence: Light() for the driver, Heavy() for the fault (AsymmetricFence).
template <template <class> class Atom, class Fence>
class VduseBounceMap {
 public:
  // The driver's side, once; true: it has filled the page.
  bool Map() {
    original_.store(1, std::memory_order_release);
    Fence::Light();
    return page_.load(std::memory_order_acquire) != 0;
  }
  // A fault; the same.
  bool Fault() {
    std::uint64_t none = 0;
    page_.compare_exchange_strong(none, 1, std::memory_order_acq_rel,
                                  std::memory_order_acquire);
    Fence::Heavy();
    return original_.load(std::memory_order_acquire) != 0;
  }

 private:
  Atom<std::uint64_t> original_{0};  // address of the buffer; 0: none
  Atom<std::uint64_t> page_{0};      // likewise of the bounce page
};

}  // namespace dmamap::inline v0::faulty

#endif  // DMAMAP_TESTING_VDUSE_BOUNCE_MAP_H_
