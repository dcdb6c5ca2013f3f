// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_FUZZ_HOSTILE_RX_H_
#define DMAMAP_TESTING_FUZZ_HOSTILE_RX_H_

// HostileRx: a receive ring of any format and refill policy and a hostile
// device, both led by the bytes of a fuzzer. Whatever the device does must
// hold:
//   * no poll passes its budget, or takes more entries than the ring has;
//   * every buffer is in the pool, armed, held or kept; every frame delivered
//     or dropped for one counted reason (DriverSide::Conserved);
//   * nothing longer than allowed is delivered, and every byte of it is the
//     driver's: read here, so that a sanitizer sees a wrong one, and where the
//     device has a copy of its own, unchanged until the sink is done with it;
//   * a reset gives every buffer back, and the ring starts again.

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "dma/version.h"
#include "nicring/rx_ring.h"
#include "testing/batched_sink.h"
#include "testing/driver_side.h"
#include "testing/fuzz/byte_source.h"
#include "testing/fuzz/tally.h"

namespace dmamap::inline v0 {
namespace fuzz {

// Reads every byte, and keeps some frames for a while.
class ReadingSink {
 public:
  explicit ReadingSink(std::uint32_t max_frame) : max_frame_(max_frame) {}

  BufferFate Deliver(const RxFrame& frame) {
    Require(frame.length <= max_frame_, "a frame longer than allowed");
    Require(frame.length <= frame.buffer.size, "longer than its buffer");
    return Take(frame.data, frame.length, frame.buffer,
                keep && (!keep_half || frames.size() % 2 == 0));
  }
  BufferFate DeliverScattered(const RxScatteredFrame& frame) {
    std::uint64_t length = 0;
    for (const RxPart& part : frame.parts) {
      Require(part.length != 0 && part.length <= part.buffer.size, "a part");
      length += part.length;
    }
    Require(length == frame.length && length <= max_frame_,
            "a scattered frame's length");
    Require(frame.parts.size() >= 2, "a scattered frame of one part");
    const std::size_t before = frames.size();
    BufferFate fate = BufferFate::kReturn;
    for (const RxPart& part : frame.parts) {
      fate = Take(part.data, part.length, part.buffer, keep);
    }
    frames.resize(before + 1);  // one frame, whatever its parts
    return fate;
  }

  // Bytes and what they added up to when they came.
  struct Seen {
    const std::byte* data;
    std::uint32_t length;
    std::uint32_t sum;
  };
  std::vector<std::uint32_t> frames;  // their sums
  std::vector<Buffer> kept;
  std::vector<Seen> seen;  // of the kept ones
  bool keep = false;
  bool keep_half = false;  // then of the frames in one buffer every second

  static std::uint32_t Sum(const std::byte* data, std::uint32_t length) {
    std::uint32_t sum = length;
    for (std::uint32_t i = 0; i < length; ++i) {
      sum = sum * 31 + static_cast<std::uint32_t>(data[i]);
    }
    return sum;
  }

 private:
  BufferFate Take(const std::byte* data, std::uint32_t length,
                  const Buffer& buffer, bool keeps) {
    frames.push_back(Sum(data, length));
    if (!keeps) return BufferFate::kReturn;
    kept.push_back(buffer);
    seen.push_back({data, length, frames.back()});
    return BufferFate::kKeep;
  }
  std::uint32_t max_frame_;
};

// Device: made of (Port*, Driver&) by `make`. `kCopies`: a kept frame is out of
// the device's reach.
template <class Driver, class Device>
class HostileRx {
 public:
  static constexpr bool kMasks = requires(typename Driver::Ring & ring) {
    ring.Mask();
  };
  static constexpr bool kStops = Driver::Ring::Queue::kStops;

  HostileRx(Driver& driver, Device& device,
            const testing_bench::DriverOptions& options, bool copies)
      : driver_(driver),
        device_(device),
        options_(options),
        sink_(options.ring.max_frame),
        copies_(copies) {}

  // `faulty`: the mapper fails now and then, if it can. `batches`: the sink
  // takes them, and keeps half of one.
  void Run(ByteSource& in, bool faulty, bool batches) {
    if (!driver_.made.ok()) return;  // options that Init refuses
    batches_ = batches;
    sink_.keep_half = batches;
    ++g_tally.runs;
    Reset();
    driver_.world.SetHook([&] {
      if ((in.Byte() & 7) == 7) device_.Act(in);
    });
    if constexpr (requires { driver_.world.mapper.faults; }) {
      if (faulty) {
        driver_.world.mapper.faults = [&] {
          return !starting_ && (in.Byte() & 15) == 15;
        };
      }
    }
    while (!in.empty()) {
      Move(in);
      Require(driver_.Conserved(sink_), "a buffer or a frame is lost");
    }
    driver_.world.SetHook(nullptr);
    if constexpr (requires { driver_.world.mapper.faults; }) {
      driver_.world.mapper.faults = nullptr;
    }
    ReturnKept();
    driver_.ring.Shutdown(device_);
    Require(driver_.pool.free_buffers() == options_.buffers,
            "a shutdown that keeps buffers");
    Count();
  }

 private:
  void Move(ByteSource& in) {
    const std::uint32_t move = in.Below(16);
    if (move < 7) {
      for (std::uint32_t n = move; n-- != 0;) device_.Act(in);
    } else if (move < 12) {
      Poll(in.Below(10));
    } else if (move == 12) {
      driver_.ring.Refill(device_);
    } else if (move == 13) {
      Signal(in);
    } else if (move == 14) {
      sink_.keep = !sink_.keep;
      ReturnKept();
    } else if (in.Below(4) == 0) {
      driver_.ring.Shutdown(device_);
      Reset();
    }
  }
  void Poll(std::size_t budget) {
    const RxStatistics before = driver_.ring.statistics();
    const RxPollResult r = batches_
                               ? driver_.ring.Poll(budget, batched_, device_)
                               : driver_.ring.Poll(budget, sink_, device_);
    Require(batched_.stale == 0, "a batch that is not new");
    const RxStatistics& after = driver_.ring.statistics();
    Require(r.done <= budget, "a poll beyond its budget");
    Require(after.rx_fragments + after.rx_skipped - before.rx_fragments -
                    before.rx_skipped <=
                options_.ring.entries,
            "more entries than the ring has");
    Require(r.broken == (driver_.ring.state() == ReceiverState::kBroken),
            "broken, or not");
    if (!r.broken) return;
    driver_.ring.Shutdown(device_);
    Reset();
  }
  // What an interrupt handler or a completing poll does.
  void Signal(ByteSource& in) {
    (void)driver_.ring.HasWork();
    if constexpr (kStops) driver_.ring.OnRnr();
    if constexpr (kMasks) {
      in.Coin() ? driver_.ring.Mask() : driver_.ring.Unmask();
    }
  }
  void Reset() {
    ++g_tally.resets;
    ReturnKept();
    Require(driver_.pool.free_buffers() == options_.buffers,
            "a reset that keeps buffers");
    starting_ = true;
    // A device may refuse to start, and then the ring is as it was; not twice.
    if (!driver_.ring.Start(device_).ok()) {
      Require(driver_.pool.free_buffers() == options_.buffers,
              "a failed start that keeps buffers");
      Require(driver_.ring.Start(device_).ok(), "does not start again");
    }
    starting_ = false;
  }
  void ReturnKept() {
    for (const auto& s : sink_.seen) {
      Require(!copies_ || ReadingSink::Sum(s.data, s.length) == s.sum,
              "a delivered frame has changed");
    }
    for (const Buffer& buffer : sink_.kept) {
      Require(driver_.ring.Return(buffer).ok(), "a kept buffer is not its own");
      Require(!driver_.ring.Return(buffer).ok(), "given back twice");
    }
    sink_.kept.clear();
    sink_.seen.clear();
  }
  void Count() const {
    const RxStatistics& s = driver_.ring.statistics();
    g_tally.packets += s.rx_packets;
    g_tally.dropped += s.rx_dropped;
    g_tally.violations += s.rx_length_violations;
  }

  Driver& driver_;
  Device& device_;
  testing_bench::DriverOptions options_;
  ReadingSink sink_;
  testing_bench::BatchedSink<ReadingSink> batched_{&sink_};
  bool batches_ = false;
  bool copies_;
  bool starting_ = false;  // the mapper does not fail
};

// One input: the world and the refill policy, then the run. `make` makes the
// device of a driver.
template <class Format, class Make>
void FuzzRx(ByteSource& in, const testing_bench::DriverOptions& chosen,
            Make&& make) {
  using CopyWorld = testing_bench::CopyWorld<testing_bench::FaultyMapper>;
  using testing_bench::FlipPolicies;
  using testing_bench::RecyclePolicies;
  using testing_bench::SharedWorld;
  const std::uint32_t choice = in.Byte();
  testing_bench::DriverOptions options = chosen;
  options.ring.copybreak = choice >> 3;  // from none to 31 bytes
  options.ring.copies = 3;
  const auto run = [&]<class World, class Policies>() {
    using Driver = testing_bench::DriverSide<World, Format, Policies>;
    Driver driver(options);
    auto device = make(driver);
    HostileRx<Driver, decltype(device)>(driver, device, options,
                                        !std::is_same_v<World, SharedWorld>)
        .Run(in, choice % 8 == 2 || choice % 16 > 8, choice >= 128);
  };
  switch (choice % 8) {
    case 0:
    case 2:
      return run.template operator()<CopyWorld, RxPolicies>();
    case 4:
      return run.template operator()<CopyWorld, RecyclePolicies>();
    case 6:
      return run.template operator()<CopyWorld, FlipPolicies>();
    case 7:
      return run.template operator()<SharedWorld, RecyclePolicies>();
    default:
      return run.template operator()<SharedWorld, RxPolicies>();
  }
}

}  // namespace fuzz
}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_FUZZ_HOSTILE_RX_H_
