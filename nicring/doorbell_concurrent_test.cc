// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// A device and a poll on one ring, each on a thread of its own, for the formats
// with a doorbell. Runs under the thread sanitizer.

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#include "dma/mapper.h"
#include "dma/sync.h"
#include "nicring/buffer_pool.h"
#include "nicring/e1000.h"
#include "nicring/intel_advanced.h"
#include "nicring/napi.h"
#include "nicring/rx_ring.h"
#include "nicring/virtio.h"
#include "testing/device_port.h"
#include "testing/sim_e1000.h"
#include "testing/sim_virtio.h"

namespace dmamap {
namespace {

std::byte ByteOf(std::uint32_t number, std::size_t i) {
  return static_cast<std::byte>((number >> (i % 4 * 8)) + i / 4 * 37);
}

// Checks each frame as it comes: whole, and the next one.
struct CheckingSink {
  BufferFate Deliver(const RxFrame& frame) {
    const RxPart part{frame.data, frame.length, frame.buffer};
    return DeliverScattered({{&part, 1}, frame.length, frame.raw_status});
  }
  BufferFate DeliverScattered(const RxScatteredFrame& frame) {
    const std::uint32_t number = static_cast<std::uint32_t>(++frames);
    std::size_t at = 0;
    for (const RxPart& part : frame.parts) {
      for (std::uint32_t i = 0; i < part.length; ++i, ++at) {
        wrong += part.data[i] != ByteOf(number, at);
      }
    }
    return BufferFate::kReturn;
  }
  std::uint64_t frames = 0;
  std::uint64_t wrong = 0;
};

// A frame is injected only while there is room for it inside the device: none
// may be lost.
template <class Sim>
void Send(Sim& sim, std::uint32_t frames, std::size_t longest,
          std::atomic<bool>& done) {
  for (std::uint32_t i = 1; i <= frames;) {
    if (sim.waiting() < 32) {
      std::vector<std::byte> frame(4 + i * 61 % longest);
      for (std::size_t b = 0; b < frame.size(); ++b) frame[b] = ByteOf(i, b);
      sim.Inject(frame);
      ++i;
    }
    if (!sim.Step()) std::this_thread::yield();
  }
  // acquire: pairs with the release of the driver's end.
  while (!done.load(std::memory_order_acquire)) {
    if (!sim.Step()) std::this_thread::yield();
  }
}

template <class Format, class Sim, class SimOptions>
void Race(const SimOptions& sim_options, const RxRingOptions& ring_options,
          std::uint32_t buffer_bytes) {
  constexpr std::uint32_t kFrames = 800;
  IdentityMapper mapper;
  IdentityPort port(Range::Whole());
  FixedPool pool;
  ASSERT_TRUE(pool.Init({ring_options.entries + 8, buffer_bytes, 0}).ok());
  Sim sim(&port, sim_options);
  RxRing<Format, IdentityMapper, FixedPool> ring;
  ASSERT_TRUE(ring.Init(&mapper, &pool, ring_options).ok());
  ASSERT_TRUE(ring.Start(sim).ok());
  CheckingSink sink;
  std::atomic<bool> done{false};
  std::thread device(
      [&] { Send(sim, kFrames, ring_options.max_frame - 4, done); });
  while (sink.frames < kFrames) {
    const RxPollResult r = ring.Poll(8, sink, sim);
    if (r.broken) break;
    if (r.done == 0) std::this_thread::yield();
  }
  // release: pairs with the acquire of the device's loop.
  done.store(true, std::memory_order_release);
  device.join();
  EXPECT_EQ(sink.wrong, 0u);
  EXPECT_EQ(sink.frames, kFrames);
  EXPECT_EQ(sim.counters().rx_good, kFrames);
  EXPECT_TRUE(sim.CheckInvariants());
  EXPECT_TRUE(ring.CheckInvariants());
  EXPECT_EQ(ring.statistics().rx_dropped, 0u);
  ring.Shutdown(sim);
  EXPECT_EQ(pool.free_buffers(), ring_options.entries + 8);
}

TEST(DoorbellConcurrent, E1000) {
  RxRingOptions options;
  options.entries = 16;
  options.room = 256;
  options.max_frame = 700;
  options.doorbell_batch = 4;
  Race<E1000Format, SimE1000<IdentityPort, SpinLock>>(
      SimE1000Options{E1000Layout::kLegacy, 64, 0}, options, 256);
}
TEST(DoorbellConcurrent, IntelAdvanced) {
  RxRingOptions options;
  options.entries = 8;
  options.room = 1024;
  options.max_frame = 1500;
  options.doorbell_batch = 2;
  Race<IxgbeFormat, SimE1000<IdentityPort, SpinLock>>(
      SimE1000Options{E1000Layout::kIxgbe, 64, 0}, options, 1024);
}

// The interrupt handler of a queue that is masked in its own memory. Its line
// is shared: now and then it schedules for nothing, beside a poll. Ends when
// all frames have been consumed.
template <class Sim, class N>
void HandleInterrupts(Sim& sim, N& napi, const std::atomic<bool>& consumed,
                      std::atomic<std::uint64_t>& runs) {
  // acquire: pairs with the release of the poll's end.
  for (std::uint32_t turn = 0; !consumed.load(std::memory_order_acquire);
       ++turn) {
    if (turn % 2 == 0 && !sim.Acknowledge()) {
      std::this_thread::yield();
      continue;
    }
    // release: pairs with the acquire of the poll's loop.
    if (napi.Schedule()) runs.fetch_add(1, std::memory_order_release);
  }
}

// Three threads: the device, its interrupt handler, and the poll.
template <class Format>
void RaceUnderNapi() {
  constexpr std::uint32_t kFrames = 600;
  using Sim = SimVirtio<IdentityPort, SpinLock>;
  IdentityMapper mapper;
  IdentityPort port(Range::Whole());
  FixedPool pool;
  ASSERT_TRUE(pool.Init({24, 256, 0}).ok());
  Sim sim(&port, SimVirtioOptions{Format::kPacked ? VirtioLayout::kPacked
                                                  : VirtioLayout::kSplit,
                                  false, true, 64});
  RxRing<Format, IdentityMapper, FixedPool> ring;
  RxRingOptions options;
  options.entries = 16;
  options.room = 244;
  options.features = virtio::kVersion1 | virtio::kEventIndex |
                     (Format::kPacked ? virtio::kRingPacked : 0);
  ASSERT_TRUE(ring.Init(&mapper, &pool, options).ok());
  ASSERT_TRUE(ring.Start(sim).ok());
  CheckingSink sink;
  Napi napi(&ring);
  std::atomic<bool> consumed{false};
  std::atomic<std::uint64_t> runs{1};  // polls that were asked for
  EXPECT_TRUE(napi.Schedule());        // the first, which unmasks
  std::thread device([&] { Send(sim, kFrames, 200, consumed); });
  std::thread handler([&] { HandleInterrupts(sim, napi, consumed, runs); });
  std::uint64_t ran = 0;
  while (sink.frames < kFrames) {
    // acquire: pairs with the release of the handler.
    if (runs.load(std::memory_order_acquire) == ran) {
      std::this_thread::yield();
      continue;
    }
    ++ran;
    while (napi.Poll(
               8, [&](std::size_t n) { return ring.Poll(n, sink, sim).done; },
               [&] { return ring.HasWork(); }) == PollOutcome::kAgain) {
    }
  }
  // release: pairs with the acquires of the device and the handler.
  consumed.store(true, std::memory_order_release);
  device.join();
  handler.join();
  EXPECT_EQ(sink.wrong, 0u);
  EXPECT_EQ(sink.frames, kFrames);
  EXPECT_TRUE(ring.CheckInvariants());
  ring.Shutdown(sim);
}
TEST(DoorbellConcurrent, NapiOverVirtqueues) {
  RaceUnderNapi<VirtioSplitFormat>();
  RaceUnderNapi<VirtioPackedFormat>();
}

template <class Format>
void RaceVirtio(bool mergeable, bool event_index) {
  RxRingOptions options;
  options.entries = 16;
  options.room = 244;
  options.max_frame = mergeable ? 700 : 244;
  options.doorbell_batch = 4;
  options.features = virtio::kVersion1 |
                     (Format::kPacked ? virtio::kRingPacked : 0) |
                     (mergeable ? virtio::kMergeableBuffers : 0) |
                     (event_index ? virtio::kEventIndex : 0);
  Race<Format, SimVirtio<IdentityPort, SpinLock>>(
      SimVirtioOptions{
          Format::kPacked ? VirtioLayout::kPacked : VirtioLayout::kSplit,
          mergeable, event_index, 64},
      options, 256);
}
TEST(DoorbellConcurrent, VirtioSplit) {
  RaceVirtio<VirtioSplitFormat>(false, true);
  RaceVirtio<VirtioSplitFormat>(true, false);
}
TEST(DoorbellConcurrent, VirtioPacked) {
  RaceVirtio<VirtioPackedFormat>(false, true);
  RaceVirtio<VirtioPackedFormat>(true, false);
}

}  // namespace
}  // namespace dmamap
