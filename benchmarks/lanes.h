// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_LANES_H_
#define DMAMAP_BENCHMARKS_LANES_H_

// Runs recorded events in the recorded order, each on the thread that stands
// for its recorded CPU.
//
// There is one thread for each lane. A turn is a run of events on one lane; at
// its end the thread hands over to the thread of the next turn and waits until
// its own next turn comes. So one thread works at any time, and what the
// threads touch moves between CPUs as it did when recorded.
//
// Synchronisation edge
//   H1 -> H2  what the turns before did is seen by the turn that begins.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <thread>
#include <vector>

#include "dma/sync.h"

namespace dmamap::bench {

struct Turn {
  std::uint16_t lane;
  std::size_t first;  // indices of events, [first, end)
  std::size_t end;
};

// The turns of `events`, whose members have a member `lane`.
template <class Event>
std::vector<Turn> TurnsOf(std::span<const Event> events) {
  std::vector<Turn> turns;
  for (std::size_t i = 0; i < events.size(); ++i) {
    if (turns.empty() || turns.back().lane != events[i].lane) {
      turns.push_back({events[i].lane, i, i});
    }
    turns.back().end = i + 1;
  }
  return turns;
}

// A counter that one thread waits on until it reaches a value: by spinning for
// some microseconds where there are CPUs enough, and then asleep.
class Gate {
 public:
  void Open(std::size_t value) {
    // H1, release: pairs with H2.
    value_.store(value, std::memory_order_release);
    value_.notify_all();
  }
  void WaitFor(std::size_t value, unsigned spins) const {
    for (;;) {
      // H2, acquire: pairs with H1.
      const std::size_t seen = value_.load(std::memory_order_acquire);
      if (seen >= value) return;
      if (spins != 0) {
        --spins;
        CpuRelax();
      } else {
        // acquire: as H2 (the loop loads again).
        value_.wait(seen, std::memory_order_acquire);
      }
    }
  }

 private:
  alignas(kCacheLine) std::atomic<std::size_t> value_{0};
};

// Calls `body(turn)` for each turn, in order, on the thread of its lane, and
// `finish()` behind the last one, on its thread, while all threads still live.
// REQUIRES: each turn's lane is below `lanes`.
template <class Body, class Finish>
void RunOnLanes(std::size_t lanes, std::span<const Turn> turns, Body&& body,
                Finish&& finish) {
  constexpr unsigned kSpins = 2000;
  const unsigned spins =
      lanes <= std::thread::hardware_concurrency() ? kSpins : 0;
  std::vector<Gate> gates(lanes);  // opened with 1 + the index of a turn
  Gate end;
  const auto run_lane = [&](std::size_t lane) {
    for (std::size_t i = 0; i < turns.size(); ++i) {
      if (turns[i].lane != lane) continue;
      gates[lane].WaitFor(i + 1, spins);
      body(turns[i]);
      if (i + 1 < turns.size()) {
        gates[turns[i + 1].lane].Open(i + 2);
      } else {
        finish();
        end.Open(1);
      }
    }
    end.WaitFor(1, 0);
  };
  if (turns.empty()) return finish();
  gates[turns[0].lane].Open(1);
  std::vector<std::jthread> threads;
  threads.reserve(lanes);
  for (std::size_t lane = 0; lane < lanes; ++lane) {
    threads.emplace_back(run_lane, lane);
  }
}

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_LANES_H_
