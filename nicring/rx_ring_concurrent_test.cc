// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// A device, an interrupt handler and a poll on one ring, each on a thread of
// its own: NAPI, RNR and restarts for real. Runs under the thread sanitizer,
// which sees whatever the handler touches beside a poll.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>

#include "dma/sync.h"
#include "nicring/interrupts.h"
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

// Checks each frame as it comes: whole, and in order. Takes its time now and
// then, so that the device and the handler get far while a pass is under way.
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
    for (int i = 0; i < 10 && frames % 16 == 0; ++i) std::this_thread::yield();
    return BufferFate::kReturn;
  }
  std::uint32_t last = 0;
  std::uint64_t frames = 0;
  std::uint64_t wrong = 0;
};

// The device: sends frames, and gives the driver time to restart, mostly, so
// that both are met: frames lost to a stopped receiver, and frames that arrive
// during a poll.
template <class B>
void Send(B& bench, std::uint32_t frames) {
  for (std::uint32_t i = 1; i <= frames; ++i) {
    bench.sim->Inject(MakeFrame(i, 4 + i % 61));
    while (bench.sim->Step()) {
    }
    for (int wait = 0; wait < 1000 && i % 8 != 0 && bench.sim->Stopped();
         ++wait) {
      std::this_thread::yield();
    }
  }
}

// The interrupt handler. Its line is shared with another device: now and then
// it is called although our interrupt is masked, beside a poll.
template <class B, class N>
void HandleInterrupts(B& bench, N& napi, const std::atomic<bool>& sent,
                      std::atomic<std::uint64_t>& runs) {
  for (std::uint32_t turn = 0;; ++turn) {
    // acquire: pairs with the release of the device's end; what was sent is
    // then visible.
    const bool last_turn = sent.load(std::memory_order_acquire);
    // Nobody but this thread schedules: what is idle stays so.
    const bool idle = !napi.scheduled();
    if (!bench.sim->InterruptLine() && turn % 4 != 0) {
      if (last_turn && idle) return;
      std::this_thread::yield();
      continue;
    }
    if (bench.sim->ReadCauses() == 0) continue;  // the other device's
    // release: pairs with the acquire of the poll's loop.
    if (napi.Schedule()) runs.fetch_add(1, std::memory_order_release);
  }
}

template <class World>
void Race(std::uint32_t entries, std::uint32_t frames, std::size_t budget) {
  BenchOptions options;
  options.entries = entries;
  options.buffers = entries + 8;
  Bench<World, I8255xFormat, SpinLock> bench(options);
  bench.Start();
  CheckingSink sink;
  I8255xInterrupts interrupts(&*bench.sim, &bench.ring);
  Napi napi(&interrupts);
  std::atomic<bool> sent{false};
  std::atomic<bool> handled{false};
  std::atomic<std::uint64_t> runs{0};  // polls that were asked for
  std::thread device([&] {
    Send(bench, frames);
    // release: pairs with the acquire of the handler.
    sent.store(true, std::memory_order_release);
  });
  std::thread handler([&] {
    HandleInterrupts(bench, napi, sent, runs);
    // release: pairs with the acquire below.
    handled.store(true, std::memory_order_release);
  });

  const auto poll = [&](std::size_t n) {
    return bench.ring.Poll(n, sink, bench.registers).done;
  };
  const auto look = [&] { return bench.ring.HasWork(); };
  std::uint64_t ran = 0;
  for (;;) {
    // acquire, both: pair with the releases of the handler; it has asked for
    // nothing more once it is done.
    const bool last_round = handled.load(std::memory_order_acquire);
    if (runs.load(std::memory_order_acquire) != ran) {
      ++ran;
      while (napi.Poll(budget, poll, look) == PollOutcome::kAgain) {
      }
    } else if (last_round) {
      break;
    } else {
      std::this_thread::yield();
    }
  }
  device.join();
  handler.join();
  const SimI8255xCounters c = bench.sim->counters();
  EXPECT_EQ(sink.wrong, 0u);
  EXPECT_EQ(sink.frames, c.rx_good);
  EXPECT_EQ(c.rx_good + c.rx_resource_errors, frames);
  // How many get through depends on who runs when; the ring went on.
  EXPECT_GT(c.rx_good, 10 * entries);
  EXPECT_EQ(bench.registers.bad_starts, 0);
  EXPECT_EQ(c.illegal_starts, 0u);
  EXPECT_EQ(c.bus_errors, 0u);
  EXPECT_TRUE(bench.ring.CheckInvariants());
}

TEST(RxRingConcurrent, IdentityMapping) { Race<IdentityWorld>(64, 4000, 16); }
TEST(RxRingConcurrent, IdentityMappingTightRing) {
  Race<IdentityWorld>(4, 1500, 2);
}
TEST(RxRingConcurrent, CopyingMapping) { Race<CopyingWorld<>>(32, 2000, 16); }

}  // namespace
}  // namespace dmamap
