// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_ADAPTIVE_NAPI_H_
#define DMAMAP_NICRING_ADAPTIVE_NAPI_H_

// AdaptiveNapi: a Napi that goes on polling an empty ring, interrupts off, for
// as long as that is likely to be cheaper than the next interrupt.
//
//   AdaptiveNapi napi(&nic, &clock, {.interrupt_ns = 2000});
//   interrupt handler:  if (napi.Schedule()) <arrange for Poll to be called>
//   later:              while (napi.Poll(64, poll, look) == kAgain) {}
//
//   kInterrupt   nobody polls; the next event interrupts
//   kPoll        polls, and finds frames
//   kBusyPoll    polls, finds nothing, and has not gone back yet
//
// When to go back. An interrupt costs interrupt_ns of CPU time (entry, cache
// lines, registers), and so does a wait of that length spent polling. Whoever
// waits for no longer than that, and then goes back, pays at most twice what
// one who knew the future would have paid (ski rental: Karlin and others,
// "Competitive snoopy caching", Algorithmica 1988). On top of that the lengths
// of past waits are averaged: while the average is longer than interrupt_ns the
// poll goes back at once, as a Napi does. So a slow stream costs interrupts, a
// fast one none, and a lone frame at most one wasted wait.
//
// interrupt_ns = 0 is a plain Napi; kNever never goes back. The missed-event
// rule is Napi's (napi.h), whose one owner calls Poll; Schedule may be called
// from an interrupt handler and is wait-free; the rest is the owner's.

#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>

#include "dma/version.h"
#include "nicring/napi.h"

namespace dmamap::inline v0 {

// A clock of the caller's: a time-stamp counter, the simulated time of a test.
template <class C>
concept NanosecondClock = requires(C& clock) {
  // Nanoseconds from any start. Should not run backwards: then no time passed.
  { clock.Now() } -> std::same_as<std::uint64_t>;
};

enum class PollMode : std::uint8_t { kInterrupt, kPoll, kBusyPoll };

struct AdaptiveOptions {
  // CPU time that one interrupt costs: the longest wait spent polling.
  std::uint64_t interrupt_ns = 2000;
};

struct AdaptiveStatistics {
  std::uint64_t passes = 0;      // calls of the poll function
  std::uint64_t in_vain = 0;     // of these: found nothing
  std::uint64_t went_back = 0;   // times it gave up waiting
  std::uint64_t waited_out = 0;  // waits, while polling, that a frame ended
};

template <Interrupts InterruptsType, NanosecondClock Clock,
          template <class> class Atom = std::atomic>
class AdaptiveNapi {
 public:
  static constexpr std::uint64_t kNever = UINT64_MAX;

  // Both must outlive it.
  AdaptiveNapi(InterruptsType* interrupts, Clock* clock,
               const AdaptiveOptions& options = {})
      : napi_(interrupts), clock_(clock), most_(options.interrupt_ns) {}

  // As Napi::Schedule.
  [[nodiscard]] bool Schedule() { return napi_.Schedule(); }

  // As Napi::Poll, except that it may return kAgain though nothing was found:
  // then mode() is kBusyPoll.
  template <class PollFunction, class LookFunction>
  PollOutcome Poll(std::size_t budget, PollFunction&& poll,
                   LookFunction&& look) {
    // Nothing is written once Napi may have given the poll up.
    return napi_.Poll(
        budget,
        [&](std::size_t n) {
          const std::uint64_t start = clock_->Now();
          const std::size_t done = poll(n);
          Learn(start, done);
          return done < n && GoesBack(start) ? done : n;
        },
        look);
  }

  // How it polls now. The owner's; kInterrupt when there is none.
  PollMode mode() const {
    if (!napi_.scheduled()) return PollMode::kInterrupt;
    return found_ ? PollMode::kPoll : PollMode::kBusyPoll;
  }
  // Mean of the last waits for a frame, nanoseconds, each counted as 4 times
  // interrupt_ns at most: so that a long pause is forgotten in a dozen frames.
  std::uint64_t mean_wait() const { return mean_; }
  const AdaptiveStatistics& statistics() const { return statistics_; }
  bool scheduled() const { return napi_.scheduled(); }
  bool CheckInvariants() const {
    return napi_.CheckInvariants() && mean_ <= LongestWait() &&
           statistics_.in_vain <= statistics_.passes;
  }

 private:
  std::uint64_t LongestWait() const {
    return most_ > UINT64_MAX / 4 ? UINT64_MAX : 4 * most_;
  }
  static std::uint64_t Between(std::uint64_t from, std::uint64_t to) {
    return to > from ? to - from : 0;
  }

  void Learn(std::uint64_t start, std::size_t done) {
    ++statistics_.passes;
    if (done == 0) {
      ++statistics_.in_vain;
      found_ = false;
      return;
    }
    std::uint64_t wait = Between(drained_, start);
    // The interrupt that ended it is no part of it.
    if (went_back_) wait -= wait < most_ ? wait : most_;
    if (wait > LongestWait()) wait = LongestWait();
    mean_ = mean_ - mean_ / 8 + wait / 8;  // each counts one eighth
    if (!found_ && !went_back_) ++statistics_.waited_out;
    found_ = true;
    went_back_ = false;
    drained_ = clock_->Now();
  }
  // The ring is empty: shall interrupts tell of the next frame?
  bool GoesBack(std::uint64_t start) {
    if (mean_ <= most_ && Between(drained_, start) < most_) return false;
    ++statistics_.went_back;
    went_back_ = true;
    return true;
  }

  Napi<InterruptsType, Atom> napi_;
  Clock* clock_;
  std::uint64_t most_;
  std::uint64_t drained_ = 0;  // when the last frame had been consumed
  std::uint64_t mean_ = 0;
  bool found_ = false;     // the last pass did
  bool went_back_ = true;  // interrupts have been on since the last frame
  AdaptiveStatistics statistics_;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_ADAPTIVE_NAPI_H_
