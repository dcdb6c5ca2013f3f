// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Driver and device as a random walk, against a naive oracle: the list of the
// frames that the device has stored.

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "nicring/doorbell_bench_for_test.h"
#include "nicring/i8255x.h"
#include "nicring/rx_ring.h"
#include "testing/driver_side.h"
#include "testing/rx_bench.h"
#include "testing/sim_i8255x.h"

namespace dmamap {
namespace {

using testing_bench::Bench;
using testing_bench::BenchOptions;
using testing_bench::Bytes;
using testing_bench::CopyingWorld;
using testing_bench::HookedFormat;
using testing_bench::IdentityWorld;

constexpr std::uint32_t kRoom = 64;
constexpr std::uint32_t kMaxFrame = 56;

// What the sink must have seen: the good frames that are not too long.
std::vector<Bytes> Deliverable(const std::vector<Bytes>& stored) {
  std::vector<Bytes> out;
  for (const Bytes& frame : stored) {
    if (frame.size() <= kMaxFrame) out.push_back(frame);
  }
  return out;
}

template <class B>
void Inject(B& bench) {
  const auto size = *rc::gen::inRange<std::size_t>(1, kRoom + 8);
  const bool damaged = *rc::gen::inRange(0, 10) == 0;
  bench.Inject(size, damaged ? i8255x::kStatusCrc : 0);
}

template <class B>
void StepDevice(B& bench) {
  const int steps = *rc::gen::inRange(1, 30);
  for (int i = 0; i < steps && bench.Step(); ++i) {
  }
}

template <class B>
void PollOnce(B& bench) {
  const auto budget = *rc::gen::inRange<std::size_t>(0, 6);
  const RxPollResult r = bench.Poll(budget);
  RC_ASSERT(r.done <= budget);
  RC_ASSERT(r.cut == (r.done == budget));
}

// Somebody else takes buffers away, and brings them back.
template <class B>
void MovePool(B& bench, std::vector<Buffer>& away) {
  if (*rc::gen::arbitrary<bool>()) {
    const int n = *rc::gen::inRange(1, 10);
    for (int i = 0; i < n; ++i) {
      const Result<Buffer> b = bench.pool.Get();
      if (b.ok()) away.push_back(*b);
    }
    return;
  }
  while (!away.empty() && *rc::gen::inRange(0, 4) != 0) {
    RC_ASSERT(bench.pool.Put(away.back()).ok());
    away.pop_back();
  }
}

template <class World, class Format>
void RandomWalk() {
  BenchOptions options;
  options.entries = *rc::gen::inRange<std::uint32_t>(3, 9);
  options.buffers = options.entries + *rc::gen::inRange<std::uint32_t>(0, 6);
  options.room = kRoom;
  options.max_frame = kMaxFrame;
  options.fetch = *rc::gen::element(HeaderFetch::kOnFrame, HeaderFetch::kAhead);
  options.mapper.descending = *rc::gen::arbitrary<bool>();
  Bench<World, Format> bench(options);
  bench.Start();
  bench.in_batches = *rc::gen::arbitrary<bool>();
  // The device runs inside the driver's calls too. A generator of its own:
  // RapidCheck's is too slow for every access.
  auto random = *rc::gen::arbitrary<std::uint32_t>();
  const auto one_in = *rc::gen::element(1u, 2u, 5u, 20u);
  bench.SetHook([&bench, &random, one_in] {
    random = random * 1664525u + 1013904223u;
    for (std::uint32_t i = 0; (random >> 16) % one_in == 0 && i < 12; ++i) {
      if (!bench.Step()) return;
      random = random * 1664525u + 1013904223u;
    }
  });
  std::vector<Buffer> away;
  const int moves = *rc::gen::inRange(1, 1000);
  for (int i = 0; i < moves; ++i) {
    switch (*rc::gen::inRange(0, 9)) {
      case 0:
      case 1:
      case 8:
        Inject(bench);
        break;
      case 2:
      case 3:
        StepDevice(bench);
        break;
      case 4:
      case 5:
        PollOnce(bench);
        break;
      case 6:
        MovePool(bench, away);
        break;
      case 7:
        bench.ring.Refill(bench.registers);
        break;
    }
    RC_ASSERT(bench.Sound());
    // Conservation: what the device completed is consumed or in the ring.
    const SimI8255xCounters c = bench.sim->counters();
    const RxStatistics& s = bench.ring.statistics();
    RC_ASSERT(s.rx_completions <= c.rx_good + c.rx_bad);
    RC_ASSERT(c.rx_good + c.rx_bad - s.rx_completions <= bench.ring.armed());
    RC_ASSERT(s.rx_skipped <= c.skipped);
  }
  for (const Buffer& b : away) RC_ASSERT(bench.pool.Put(b).ok());
  bench.Settle();
  const SimI8255xCounters c = bench.sim->counters();
  const RxStatistics& s = bench.ring.statistics();
  RC_ASSERT(bench.sink.frames == Deliverable(bench.stored));
  RC_ASSERT(s.rx_completions == c.rx_good + c.rx_bad);
  RC_ASSERT(s.rx_errors == c.rx_bad);
  RC_ASSERT(s.rx_over_length_errors ==
            bench.stored.size() - bench.sink.frames.size());
  RC_ASSERT(s.rx_length_violations == 0u);
  RC_ASSERT(bench.ring.armed() == options.entries);
  RC_ASSERT(bench.pool.free_buffers() == options.buffers - options.entries);
  bench.Inject(40);  // not stuck
  bench.Settle();
  RC_ASSERT(bench.sim->counters().rx_good == c.rx_good + 1);
}

RC_GTEST_PROP(RxRingProperty, IdentityMapping, ()) {
  RandomWalk<IdentityWorld, HookedFormat>();
}
RC_GTEST_PROP(RxRingProperty, CopyingMapping, ()) {
  RandomWalk<CopyingWorld<>, I8255xFormat>();
}

// The walk that the other formats have, with the refill policies.
RC_GTEST_PROP(RxRingProperty, RefillPolicies, ()) {
  testing_bench::WithAnyPolicies([]<class Policies>() {
    using World = testing_bench::CopyWorld<>;
    SimI8255xOptions sim;
    sim.min_frame = 1;
    testing_bench::DriverOptions options;
    options.ring.entries = *rc::gen::inRange<std::uint32_t>(3, 12);
    options.ring.room = kRoom;
    options.ring.max_frame = kMaxFrame;
    options.ring.copybreak = 30;
    options.ring.copies = 3;
    options.buffer_bytes = 16 + kRoom;
    options.buffers = options.ring.entries + *rc::gen::inRange(0u, 8u);
    testing_bench::HonestBench<World, I8255xFormat, SimI8255x<World::Port>,
                               testing_bench::PlainSink, Policies>
        bench(options, sim);
    testing_bench::RandomWalk(bench, kRoom, kMaxFrame, i8255x::kStatusCrc);
  });
}

}  // namespace
}  // namespace dmamap
