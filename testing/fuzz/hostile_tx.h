// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_FUZZ_HOSTILE_TX_H_
#define DMAMAP_TESTING_FUZZ_HOSTILE_TX_H_

// HostileTx: a transmit ring of any format and a hostile device, both led by
// the bytes of a fuzzer. Whatever the device says must hold:
//   * no poll passes its budget, or gives back more frames than were posted;
//   * each frame comes back once, with the bytes that were posted;
//   * a frame that Post refused does not come back;
//   * a reset gives every frame back, and the ring starts again.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "dma/address.h"
#include "dma/version.h"
#include "nicring/tx_ring.h"
#include "testing/driver_side.h"
#include "testing/fuzz/byte_source.h"
#include "testing/fuzz/tally.h"

namespace dmamap::inline v0 {
namespace fuzz {

// Knows what is posted: tokens count on, and index it.
class OnceSink {
 public:
  void Done(const TxDone& done) {
    Require(done.token < bytes_.size(), "a frame that never was");
    Require(std::exchange(bytes_[done.token], 0) == done.bytes,
            "a frame twice, or of other bytes");
    --out_;
  }
  std::uint64_t next() const { return bytes_.size(); }
  void Posted(std::uint64_t bytes) {
    bytes_.push_back(bytes);
    ++out_;
  }
  std::size_t out() const { return out_; }

 private:
  std::vector<std::uint64_t> bytes_;  // of each frame; 0: it is back
  std::size_t out_ = 0;
};

template <class Ring, class Device>
class HostileTx {
 public:
  HostileTx(Ring& ring, Device& device, std::uint32_t max_segments)
      : ring_(ring), device_(device), max_segments_(max_segments) {}

  // `faulty`: the mapper fails now and then, if it can.
  template <class World>
  void Run(World& world, ByteSource& in, bool faulty) {
    ++g_tally.runs;
    Start();
    world.SetHook([&] {
      if ((in.Byte() & 7) == 7) device_.Act(in);
    });
    if constexpr (requires { world.mapper.faults; }) {
      if (faulty) {
        world.mapper.faults = [&] { return (in.Byte() & 15) == 15; };
      }
    }
    while (!in.empty()) {
      Move(in);
      Require(ring_.CheckInvariants(), "the ring's invariants");
      Require(ring_.frames() == sink_.out(), "a frame is lost");
    }
    world.SetHook(nullptr);
    if constexpr (requires { world.mapper.faults; }) {
      world.mapper.faults = nullptr;
    }
    Shutdown();
    const TxStatistics& s = ring_.statistics();
    g_tally.packets += s.tx_packets;
    g_tally.dropped += s.tx_errors + s.tx_cancelled;
    g_tally.violations += s.tx_broken;
  }

 private:
  void Move(ByteSource& in) {
    const std::uint32_t move = in.Below(16);
    if (move < 5) {
      Post(in);
    } else if (move < 10) {
      for (std::uint32_t n = move - 4; n-- != 0;) device_.Act(in);
    } else if (move < 14) {
      Poll(in.Below(8));
    } else if (move == 14) {
      ring_.Kick(device_);
      (void)ring_.HasWork();
    } else if (in.Below(4) == 0) {
      Shutdown();
      Start();
    }
  }
  void Post(ByteSource& in) {
    const std::uint32_t segments = 1 + in.Below(max_segments_ + 1);
    std::array<TxSegment, 16> segment;
    std::uint64_t bytes = 0;
    for (std::uint32_t i = 0; i < segments; ++i) {
      const std::uint32_t length = 1 + in.Below(40);
      segment[i] = {PhysAddrOf(memory_.data()), length, memory_.data()};
      bytes += length;
    }
    const Result<void> posted =
        ring_.Post({std::span(segment.data(), segments), sink_.next()});
    if (posted.ok()) sink_.Posted(bytes);
    Require(!posted.ok() || segments <= max_segments_, "too many segments");
  }
  void Poll(std::size_t budget) {
    const std::uint32_t before = ring_.frames();
    const TxPollResult r = ring_.Poll(budget, sink_, device_);
    Require(r.done <= budget && r.done <= before, "a poll beyond its bounds");
    if (!r.broken) return;
    Shutdown();
    Start();
  }
  void Start() {
    ++g_tally.resets;
    Require(ring_.Start(device_).ok(), "does not start again");
  }
  void Shutdown() {
    ring_.Shutdown(sink_, device_);
    Require(sink_.out() == 0, "a shutdown that keeps frames");
  }

  Ring& ring_;
  Device& device_;
  const std::uint32_t max_segments_;
  OnceSink sink_;
  const std::vector<std::byte> memory_ = std::vector<std::byte>(64);
};

// One input: the world, then the run. make(port) makes the device.
template <class Format, class Make>
void FuzzTx(ByteSource& in, const TxRingOptions& options, Make&& make) {
  const std::uint32_t choice = in.Byte();
  const auto run = [&]<class World>() {
    World world;
    TxRing<Format, typename World::MapperType> ring;
    if (!ring.Init(&world.mapper, options).ok()) return;
    auto device = make(&world.port);
    HostileTx(ring, device, options.max_segments)
        .Run(world, in, (choice & 6) == 6);
  };
  if ((choice & 1) != 0) {
    run.template operator()<testing_bench::SharedWorld>();
  } else {
    run.template
    operator()<testing_bench::CopyWorld<testing_bench::FaultyMapper>>();
  }
}

}  // namespace fuzz
}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_FUZZ_HOSTILE_TX_H_
