// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_LOAD_CURVE_H_
#define DMAMAP_BENCHMARKS_LOAD_CURVE_H_

// What interrupts, NAPI and busy polling make of an offered load: the shipped
// ring and AdaptiveNapi, which has a Napi in it and is no more than that with
// interrupt_ns = 0, over a simulated i8255x, on one simulated CPU.
//
// Time is simulated: the code runs, and each thing that it does costs what
// LoadCosts says. Frames arrive by a random process of a fixed seed, also in
// the middle of what the CPU does. A run is hence the same on every machine,
// and says nothing about the speed of the code (the other rows do), only about
// what the four ways of waiting cost.
//
// Modes
//   kInterrupt  before NAPI: each interrupt's handler empties the ring into a
//               queue (so at a high load there are fewer interrupts than
//               frames), and the stack works on the queue when no interrupt
//               is pending. A full queue drops (Mogul and Ramakrishnan,
//               "Eliminating receive livelock in an interrupt-driven kernel",
//               ACM TOCS 1997).
//   kNapi       AdaptiveNapi with interrupt_ns = 0: the handler schedules; a
//               poll takes each frame from the ring through the stack, and
//               unmasks when the ring is empty.
//   kAdaptive   AdaptiveNapi with interrupt_ns = costs.interrupt.
//   kBusy       polls for ever, interrupts off.

#include <cstddef>
#include <cstdint>

namespace dmamap::bench {

enum class LoadMode { kInterrupt, kNapi, kAdaptive, kBusy };
enum class Arrivals {
  kPoisson,  // independent
  kEven,     // one each 1 / rate
  kBursts,   // 16 back to back (50 ns apart), the bursts independent
};

// CPU time in nanoseconds. The defaults are of the order that is measured on
// servers; --load-interrupt-ns and --load-frame-ns change the two that matter.
struct LoadCosts {
  std::uint64_t interrupt = 2000;  // entry, cause, acknowledge, exit
  std::uint64_t mask = 20;         // a posted write to the mask register
  std::uint64_t acknowledge = 20;  // of a completing poll: the same
  std::uint64_t pass = 50;         // a call of the poll function, empty
  std::uint64_t driver = 150;      // a frame: from the ring to the stack
  std::uint64_t stack = 350;       // a frame: in the stack
};

struct LoadOptions {
  LoadMode mode = LoadMode::kNapi;
  // Offered load, as a share of what a CPU does that does nothing else:
  // 1 / (driver + stack).
  double share = 0.5;
  Arrivals arrivals = Arrivals::kPoisson;
  std::uint64_t frames = 100'000;
  LoadCosts costs;
  std::uint32_t entries = 256;  // of the ring
  std::size_t backlog = 1000;   // frames in the queue of kInterrupt
  std::uint64_t seed = 1;
};

// Counted from the first arrival to the last.
struct LoadResult {
  bool sound = false;             // started, and every frame is accounted for
  std::uint64_t elapsed = 0;      // ns
  std::uint64_t busy = 0;         // ns of CPU time
  std::uint64_t offered = 0;      // frames
  std::uint64_t delivered = 0;    // frames that the stack is done with
  std::uint64_t lost_device = 0;  // no descriptor was free
  std::uint64_t lost_queue = 0;   // the queue was full
  std::uint64_t waiting = 0;      // in the ring or in the queue at the end
  std::uint64_t interrupts = 0;
  std::uint64_t passes = 0;
  double mean_latency = 0;        // ns from arrival to the end of the stack
  std::uint64_t p99_latency = 0;  // ns

  double NsPerFrame() const;     // between delivered frames
  double CpuNsPerFrame() const;  // CPU time for a delivered frame
};

LoadResult RunLoad(const LoadOptions& options);

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_LOAD_CURVE_H_
