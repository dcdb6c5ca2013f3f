// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// A device thread and a driver thread on one ring: NAPI, RNR and restarts for
// real. Runs under the thread sanitizer.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>

#include "dma/sync.h"
#include "nicring/napi.h"
#include "nicring/rx_ring.h"
#include "testing/rx_bench.h"

namespace dmamap {
namespace {

using testing_bench::Bench;
using testing_bench::BenchOptions;
using testing_bench::Bytes;
using testing_bench::CopyingWorld;
using testing_bench::IdentityWorld;
using testing_bench::MakeFrame;

// Checks each frame as it comes: whole, and in order.
struct CheckingSink {
  BufferFate Deliver(const RxFrame& frame) {
    std::uint32_t number = 0;
    for (std::size_t i = 0; i < 4 && i < frame.length; ++i) {
      number |= std::to_integer<std::uint32_t>(frame.data[i]) << (8 * i);
    }
    const Bytes expected = MakeFrame(number, frame.length);
    wrong += number <= last ||
             !std::equal(expected.begin(), expected.end(), frame.data);
    last = number;
    ++frames;
    return BufferFate::kReturn;
  }
  std::uint32_t last = 0;
  std::uint64_t frames = 0;
  std::uint64_t wrong = 0;
};

template <class World>
void Race(std::uint32_t entries, std::uint32_t frames, std::size_t budget) {
  BenchOptions options;
  options.entries = entries;
  options.buffers = entries + 8;
  Bench<World, I8255xFormat, SpinLock> bench(options);
  bench.Start();
  std::atomic<bool> sent{false};
  std::thread device([&] {
    for (std::uint32_t i = 1; i <= frames; ++i) {
      bench.sim->Inject(MakeFrame(i, 4 + i % 61));
      while (bench.sim->Step()) {
      }
      // Gives the driver time to restart, mostly, so that both are met: frames
      // lost to a stopped receiver, and frames that arrive during a poll.
      for (int wait = 0; wait < 1000 && i % 8 != 0 && bench.sim->Stopped();
           ++wait) {
        std::this_thread::yield();
      }
    }
    // release: pairs with the acquire of the driver's loop.
    sent.store(true, std::memory_order_release);
  });

  CheckingSink sink;
  Napi napi(&*bench.sim);
  const auto poll = [&](std::size_t n) {
    return bench.ring.Poll(n, sink, bench.registers).done;
  };
  const auto look = [&] { return bench.ring.HasWork(); };
  for (bool last_round = false;;) {
    // acquire: pairs with the release above; what was sent is then visible.
    last_round = sent.load(std::memory_order_acquire);
    if (bench.sim->InterruptLine()) {
      const std::uint16_t causes = bench.sim->Acknowledge();
      if ((causes & bench.sim->kCauseRnr) != 0) bench.ring.OnRnr();
      if (napi.Schedule()) {
        while (napi.Poll(budget, poll, look) == PollOutcome::kAgain) {
        }
      }
    } else if (last_round) {
      break;
    } else {
      std::this_thread::yield();
    }
  }
  device.join();
  const SimI8255xCounters c = bench.sim->counters();
  EXPECT_EQ(sink.wrong, 0u);
  EXPECT_EQ(sink.frames, c.rx_good);
  EXPECT_EQ(c.rx_good + c.rx_resource_errors, frames);
  EXPECT_GT(c.rx_good, frames / 2);
  EXPECT_EQ(bench.registers.bad_starts, 0);
  EXPECT_EQ(c.illegal_starts, 0u);
  EXPECT_EQ(c.bus_errors, 0u);
  EXPECT_TRUE(bench.ring.CheckInvariants());
}

TEST(RxRingConcurrent, IdentityMapping) { Race<IdentityWorld>(64, 30000, 16); }
TEST(RxRingConcurrent, IdentityMappingTightRing) {
  Race<IdentityWorld>(4, 20000, 2);
}
TEST(RxRingConcurrent, CopyingMapping) { Race<CopyingWorld<>>(32, 10000, 16); }

}  // namespace
}  // namespace dmamap
