// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_NAPI_H_
#define DMAMAP_NICRING_NAPI_H_

// Napi: interrupts off while there is work, polls with a budget, and no event
// lost when interrupts go on again.
//
//   interrupt handler:  causes = Acknowledge(); if (rnr) ring.OnRnr();
//                       if (napi.Schedule()) <arrange for Poll to be called>
//   later, any CPU:     while (napi.Poll(64, poll, look) == kAgain) {}
//
// One owner. events_ counts the calls of Schedule since the last completion.
// Who raises it from 0 owns the poll; it is owned until Poll returns kIdle.
// Polls of one Napi are therefore ordered, whatever CPU they run on.
//
// The missed-event rule. A device whose interrupt is masked may say nothing
// about a frame, now or later (an edge, an MSI). So a completing poll first
// unmasks, *then* looks again, and only then gives the poll up, provided that
// nobody called Schedule meanwhile:
//   event before the unmask        the look sees its frame
//   event after it, poll not over  its interrupt makes the exchange fail
//   event after the poll           its interrupt schedules a new one
// Looking before unmasking loses an event between the two.
//
// Schedule may be called from an interrupt handler; it is wait-free. Poll takes
// the time of one call of the poll function.

#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>

#include "dma/barrier.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

// The interrupt of one device or queue. Each function has reached the device
// when it returns (on PCI: write, then read back).
template <class I>
concept Interrupts = requires(I& interrupts) {
  interrupts.Mask();
  interrupts.Unmask();
};

enum class PollOutcome : std::uint8_t {
  kIdle,   // complete: interrupts are on, somebody else may own the poll now
  kAgain,  // call Poll again: interrupts are off
};

template <Interrupts InterruptsType, template <class> class Atom = std::atomic>
class Napi {
 public:
  // `interrupts` must outlive the Napi.
  explicit Napi(InterruptsType* interrupts) : interrupts_(interrupts) {}
  Napi(const Napi&) = delete;
  Napi& operator=(const Napi&) = delete;

  // An event. True when the caller must arrange for a Poll, which has been
  // masked for; false when somebody else does.
  [[nodiscard]] bool Schedule() {
    // S1, release: pairs with P1, so that the owner sees what the handler did
    // before (OnRnr). It continues the release sequence of P2: the P1 of a new
    // owner acquires what the last one did. Acquire: pairs with P2, so that the
    // mask comes after the last poll; a virtqueue's Mask reads what that wrote.
    if (events_.fetch_add(1, std::memory_order_acq_rel) != 0) return false;
    interrupts_->Mask();
    return true;
  }

  // One pass by the owner. poll(budget) returns how many frames it consumed;
  // look() whether there is work. REQUIRES: budget > 0; Schedule returned true,
  // and the last Poll since, if any, kAgain.
  template <class PollFunction, class LookFunction>
  PollOutcome Poll(std::size_t budget, PollFunction&& poll,
                   LookFunction&& look) {
    // P1, acquire: pairs with S1, and with P2 of the last owner. Events counted
    // here are served by this pass.
    std::uint64_t seen = events_.load(std::memory_order_acquire);
    if (poll(budget) >= budget) return PollOutcome::kAgain;
    interrupts_->Unmask();
    DmaFullBarrier();  // the look is younger than the unmask
    if (!look() &&
        // P2, release: pairs with S1 and P1 of the next owner. Relaxed on
        // failure: the next pass sees by P1 what came in between.
        events_.compare_exchange_strong(seen, 0, std::memory_order_release,
                                        std::memory_order_relaxed)) {
      return PollOutcome::kIdle;
    }
    interrupts_->Mask();
    return PollOutcome::kAgain;
  }

  bool scheduled() const {
    // relaxed: a hint for tests and statistics.
    return events_.load(std::memory_order_relaxed) != 0;
  }
  bool CheckInvariants() const { return interrupts_ != nullptr; }

 private:
  InterruptsType* interrupts_;
  Atom<std::uint64_t> events_{0};
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_NAPI_H_
