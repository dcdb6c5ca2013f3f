// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_OP_TIMER_H_
#define DMAMAP_BENCHMARKS_OP_TIMER_H_

// Times calls that take nanoseconds, in between work that must not count.
//
//   OpTimer timer(2);                  // kinds 0 and 1
//   timer.BeginChunk();                // on the thread that will be timed
//   timer.Start();
//   ... n calls of kind 1 ...
//   timer.Stop(1, n);
//   timer.EndChunk();
//   timer.NsPerOp(1)
//
// The clock is the CPU's time-stamp counter where it runs at a constant rate
// (x86-64), fenced so that no call leaks out of its bracket, and calibrated
// against the steady clock; elsewhere the steady clock. What an empty bracket
// costs is measured once and subtracted from each bracket.
//
// Such a clock goes on while the thread is off its CPU. A chunk during which
// the kernel counted a context switch for the thread is therefore left out of
// the sums (but for excluded_share()), so that what remains is CPU time.
// One thread at a time; a hand-over between threads must synchronise.

#include <array>
#include <cstddef>
#include <cstdint>

namespace dmamap::bench {

class TickClock {
 public:
  static std::uint64_t Start();
  static std::uint64_t Stop();
  static double NsPerTick();
  static std::uint64_t Overhead();  // ticks of an empty bracket
  static const char* Name();        // for the report
};

class OpTimer {
 public:
  static constexpr std::size_t kMaxKinds = 8;

  void BeginChunk() {
    chunk_ = {};
    switches_ = ContextSwitches();
  }
  void EndChunk() { Sum(ContextSwitches() != switches_); }

  void Start() { start_ = TickClock::Start(); }
  void Stop(std::size_t kind, std::uint64_t ops) {
    const std::uint64_t ticks = TickClock::Stop() - start_;
    const std::uint64_t overhead = overhead_;
    chunk_[kind].ticks += ticks > overhead ? ticks - overhead : 0;
    chunk_[kind].ops += ops;
  }

  // Of the chunks that count; 0 when there was none.
  double NsPerOp(std::size_t kind) const;
  // Over kinds [0, kinds): the mean over all their operations.
  double NsPerOpOfAll(std::size_t kinds) const;
  // Operations, in chunks left out or not.
  std::uint64_t ops(std::size_t kind) const {
    return counted_[kind].ops + excluded_[kind].ops;
  }
  std::uint64_t OpsOfAll(std::size_t kinds) const;
  // The part of all operations that was timed in chunks left out, 0 to 1.
  double excluded_share() const;

 private:
  struct Sums {
    std::uint64_t ticks = 0;
    std::uint64_t ops = 0;
  };
  using PerKind = std::array<Sums, kMaxKinds>;

  static std::uint64_t ContextSwitches();  // of this thread, so far
  void Sum(bool excluded);
  // The sums to report: of what counts, or of all when nothing does.
  Sums Reported(std::size_t kind) const;

  const std::uint64_t overhead_ = TickClock::Overhead();
  std::uint64_t start_ = 0;
  std::uint64_t switches_ = 0;
  PerKind chunk_ = {};
  PerKind counted_ = {};
  PerKind excluded_ = {};
};

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_OP_TIMER_H_
