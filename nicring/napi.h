// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_NAPI_H_
#define DMAMAP_NICRING_NAPI_H_

// Napi: interrupts off while there is work, polls with a budget, and no event
// lost when interrupts go on again.
//
//   interrupt handler:  if (napi.Schedule()) <arrange for Poll to be called>
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
// Causes stay pending until they are acknowledged, and are gone then: so a look
// at the ring follows every acknowledge, before the poll is given up.
//   Schedule acknowledges, and then counts the event: the owner's exchange
//   fails
//     and its next look is younger. The other way round that look may be over,
//     and a cause that came since is wiped, its frame never seen. Who does not
//     get the poll acknowledges too, else a line that rose between unmask and
//     exchange would interrupt for ever.
//   A completing poll acknowledges between pass and unmask: what came during
//     the pass, pass or look find; its causes would interrupt for nothing.
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

// The interrupt of one device or queue; interrupts.h has those of the NICs of
// this folder. Each function has reached the device when it returns (on PCI:
// write, then read back). Mask and Unmask are the owner's; Acknowledge may run
// on several CPUs at once.
template <class I>
concept Interrupts = requires(I& interrupts) {
  interrupts.Mask();
  interrupts.Unmask();  // a cause that is pending interrupts now
  // Clears the causes that are pending, or those of them that it has read, and
  // none that comes later. What a cause tells beside "look at the ring" is its
  // own to pass on (RxRing::OnRnr).
  { interrupts.Acknowledge() } -> std::same_as<void>;
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

  // An event, which is acknowledged. True when the caller must arrange for a
  // Poll, which has been masked for; false when somebody else does.
  [[nodiscard]] bool Schedule() {
    interrupts_->Acknowledge();
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
    interrupts_->Acknowledge();
    interrupts_->Unmask();
    DmaFullBarrier();  // the look is younger than both
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
