// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_DOORBELL_BENCH_FOR_TEST_H_
#define DMAMAP_NICRING_DOORBELL_BENCH_FOR_TEST_H_

// A ring, a pool, a mapper and a device of any format on one bench; and the
// random walk of driver and device that each format has to pass.

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

#include "nicring/rx_ring.h"
#include "testing/batched_sink.h"
#include "testing/driver_side.h"

namespace dmamap::inline v0 {
namespace testing_bench {

using Bytes = std::vector<std::byte>;

// A frame that names itself.
inline Bytes NumberedFrame(std::uint32_t number, std::size_t size) {
  Bytes frame(size);
  for (std::size_t i = 0; i < size; ++i) {
    frame[i] = static_cast<std::byte>((number >> (i % 4 * 8)) + i / 4 * 37);
  }
  return frame;
}

// Keeps what was delivered, and says what lay where.
struct PlainSink {
  BufferFate Deliver(const RxFrame& frame) {
    frames.emplace_back(frame.data, frame.data + frame.length);
    if (!keep) return BufferFate::kReturn;
    kept.push_back(frame.buffer);
    return BufferFate::kKeep;
  }
  std::vector<Bytes> frames;
  std::vector<Buffer> kept;
  std::size_t scattered = 0;  // of the frames
  bool keep = false;
};
struct GatheringSink : PlainSink {
  BufferFate DeliverScattered(const RxScatteredFrame& frame) {
    Bytes all;
    for (const RxPart& part : frame.parts) {
      all.insert(all.end(), part.data, part.data + part.length);
      if (keep) kept.push_back(part.buffer);
    }
    EXPECT_EQ(all.size(), frame.length);
    frames.push_back(std::move(all));
    ++scattered;
    return keep ? BufferFate::kKeep : BufferFate::kReturn;
  }
};

using DoorbellOptions = DriverOptions;

// The driver's side with an honest device, and an oracle: the list of the
// frames that the device has stored.
template <class World, class Format, class Sim, class SinkType = GatheringSink,
          class Policies = RxPolicies>
class HonestBench : public DriverSide<World, Format, Policies> {
 public:
  template <class SimOptions>
  HonestBench(const DoorbellOptions& options, const SimOptions& sim_options)
      : DriverSide<World, Format, Policies>(options),
        sim(&this->world.port, sim_options) {}
  ~HonestBench() {
    this->world.SetHook(nullptr);
    this->ring.Shutdown(sim);
  }

  bool Start() { return this->made.ok() && this->ring.Start(sim).ok(); }
  void Inject(std::size_t size, std::uint32_t errors = 0) {
    if (sim.Inject(NumberedFrame(next_frame, size), errors)) {
      fifo.push_back({next_frame, size});
    }
    ++next_frame;
  }
  bool Step() {
    const auto before = sim.counters();
    const bool moved = sim.Step();
    const auto after = sim.counters();
    if (after.rx_good != before.rx_good) {
      stored.push_back(NumberedFrame(fifo.front().first, fifo.front().second));
    }
    while (fifo.size() > sim.waiting()) fifo.pop_front();
    return moved;
  }
  void RunDevice() {
    while (Step()) {
    }
  }
  // A receiver that stops has interrupted.
  RxPollResult Poll(std::size_t budget) {
    if constexpr (HonestBench::Ring::Queue::kStops) {
      if ((sim.Acknowledge() & Sim::kCauseRnr) != 0) this->ring.OnRnr();
    }
    if (in_batches) return this->ring.Poll(budget, batched, sim);
    return this->ring.Poll(budget, sink, sim);
  }
  // What the sink kept.
  void ReturnKept() {
    for (const Buffer& buffer : sink.kept) {
      settled = this->ring.Return(buffer).ok() && settled;
    }
    sink.kept.clear();
  }
  // Polls, with the device running in between, until nothing moves.
  void Settle() {
    for (int i = 0; i < 300; ++i) {
      RunDevice();
      const RxPollResult r = Poll(64);
      if (r.done == 0 && sim.waiting() == 0) return;
    }
    settled = false;
  }
  bool Sound(std::size_t away = 0) {
    return settled && batched.stale == 0 && this->Conserved(sink, away) &&
           sim.CheckInvariants() && sim.counters().bus_errors == 0;
  }

  Sim sim;
  SinkType sink;
  BatchedSink<SinkType> batched{&sink};
  bool in_batches = false;
  std::deque<std::pair<std::uint32_t, std::size_t>> fifo;
  std::vector<Bytes> stored;  // good frames that the device has completed
  std::uint32_t next_frame = 1;
  bool settled = true;
};

// What the sink must have seen.
inline std::vector<Bytes> Deliverable(const std::vector<Bytes>& stored,
                                      std::size_t max_frame) {
  std::vector<Bytes> out;
  for (const Bytes& frame : stored) {
    if (frame.size() <= max_frame) out.push_back(frame);
  }
  return out;
}

// One move of the walk; `away` are buffers that somebody else took.
template <class B>
void WalkOnce(B& bench, std::size_t longest, std::uint32_t error,
              std::vector<Buffer>& away) {
  switch (*rc::gen::inRange(0, 9)) {
    case 0:
    case 1:
    case 2:
      bench.Inject(*rc::gen::inRange<std::size_t>(1, longest + 1),
                   *rc::gen::inRange(0, 10) == 0 ? error : 0);
      break;
    case 3:
    case 4: {
      const int steps = *rc::gen::inRange(1, 30);
      for (int i = 0; i < steps && bench.Step(); ++i) {
      }
      break;
    }
    case 5: {
      const auto budget = *rc::gen::inRange<std::size_t>(0, 6);
      const RxPollResult r = bench.Poll(budget);
      RC_ASSERT(r.done <= budget);
      RC_ASSERT(r.cut == (r.done == budget));
      RC_ASSERT(!r.broken);
      break;
    }
    case 6: {
      if (!*rc::gen::arbitrary<bool>()) {
        while (!away.empty()) {
          RC_ASSERT(bench.pool.Put(away.back()).ok());
          away.pop_back();
        }
        break;
      }
      const Result<Buffer> buffer = bench.pool.Get();
      if (buffer.ok()) away.push_back(*buffer);
      break;
    }
    case 7:
      bench.sink.keep = !bench.sink.keep;
      bench.ReturnKept();
      break;
    default:
      bench.ring.Refill(bench.sim);
      break;
  }
  RC_ASSERT(bench.Sound(away.size()));
}

// Driver and device as a random walk. The device also runs in the driver's
// calls, where the world has a hook.
template <class B>
void RandomWalk(B& bench, std::size_t longest, std::size_t max_frame,
                std::uint32_t error) {
  RC_ASSERT(bench.Start());
  auto random = *rc::gen::arbitrary<std::uint32_t>();
  const auto one_in = *rc::gen::element(2u, 5u, 20u);
  bench.world.SetHook([&bench, &random, one_in] {
    random = random * 1664525u + 1013904223u;
    for (std::uint32_t i = 0; (random >> 16) % one_in == 0 && i < 6; ++i) {
      if (!bench.Step()) return;
      random = random * 1664525u + 1013904223u;
    }
  });
  std::vector<Buffer> away;
  bench.in_batches = *rc::gen::arbitrary<bool>();
  const int moves = *rc::gen::inRange(1, 300);
  for (int i = 0; i < moves; ++i) WalkOnce(bench, longest, error, away);
  for (const Buffer& b : away) RC_ASSERT(bench.pool.Put(b).ok());
  bench.sink.keep = false;
  bench.ReturnKept();
  bench.Settle();
  RC_ASSERT(bench.Sound());
  const auto c = bench.sim.counters();
  const RxStatistics& s = bench.ring.statistics();
  RC_ASSERT(bench.sink.frames == Deliverable(bench.stored, max_frame));
  RC_ASSERT(s.rx_completions == c.rx_good + c.rx_bad);
  RC_ASSERT(s.rx_errors + s.rx_over_length_errors + s.rx_packets ==
            s.rx_completions);
  RC_ASSERT(s.rx_length_violations == 0u);
  bench.Inject(20);  // not stuck
  bench.Settle();
  RC_ASSERT(bench.sim.counters().rx_good == c.rx_good + 1);
}

// walk.operator()<Policies>() with one of the refill policies.
template <class Walk>
void WithAnyPolicies(Walk&& walk) {
  switch (*rc::gen::inRange(0, 3)) {
    case 0:
      return walk.template operator()<RxPolicies>();
    case 1:
      return walk.template operator()<RecyclePolicies>();
    default:
      return walk.template operator()<FlipPolicies>();
  }
}

}  // namespace testing_bench
}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_DOORBELL_BENCH_FOR_TEST_H_
