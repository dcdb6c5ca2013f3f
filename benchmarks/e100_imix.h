// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_E100_IMIX_H_
#define DMAMAP_BENCHMARKS_E100_IMIX_H_

// An Internet mix of frames through the receive ring of an e100: a simulated
// i8255x stores each frame through a port, byte for byte, and the driver's ring
// polls, delivers and refills over a mapper.
//
// The mix: 7 frames of 64 bytes, 4 of 594, 1 of 1518 on the wire, shuffled; the
// simulated device stores them without their CRC (60, 590, 1514), which are the
// sizes that the recorded e100 runs have. Frames come in bursts of 1 to 32, as
// many as an interrupt finds when it is served; each 256th burst has 300 frames
// and so runs the ring of 256 descriptors dry: the device drops the rest and
// the driver restarts it.
//
// Device and driver take turns on one thread. The driver's part alone is timed
// (interrupt, polls, refill, restart); the frames are compared afterwards with
// what was sent, while the ring has other buffers, and then given back. Each
// frame carries its number, so that one that is lost without being counted, or
// comes twice or out of order, is seen.

#include <time.h>

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <vector>

#include "benchmarks/byte_check.h"
#include "benchmarks/op_timer.h"
#include "dma/address.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "nicring/buffer_pool.h"
#include "nicring/i8255x.h"
#include "nicring/interrupts.h"
#include "nicring/napi.h"
#include "nicring/rx_ring.h"
#include "testing/device_port.h"
#include "testing/sim_i8255x.h"

namespace dmamap::bench {

// The frames of the mix, by number; both ends know them.
class Imix {
 public:
  static constexpr std::size_t kMaxFrame = 1514;
  static constexpr std::size_t kNumberBytes = 8;

  Imix() : bytes_(kWindows + kMaxFrame) {
    std::mt19937_64 random(kSeed);
    for (std::byte& b : bytes_) b = static_cast<std::byte>(random());
    // One of 12 sizes for each number modulo 12 * 256, shuffled.
    for (std::size_t i = 0; i < sizes_.size(); ++i) {
      const std::size_t kind = i % 12;
      sizes_[i] = kind < 7 ? 60 : kind < 11 ? 590 : kMaxFrame;
    }
    std::shuffle(sizes_.begin(), sizes_.end(), random);
  }

  std::size_t Size(std::uint64_t number) const {
    return sizes_[number % sizes_.size()];
  }
  // Behind the number, the frame is a window of random bytes.
  std::span<const std::byte> Body(std::uint64_t number) const {
    return std::span(bytes_).subspan(number % kWindows,
                                     Size(number) - kNumberBytes);
  }
  std::span<const std::byte> Build(std::uint64_t number) {
    std::memcpy(frame_.data(), &number, kNumberBytes);
    const std::span<const std::byte> body = Body(number);
    std::memcpy(frame_.data() + kNumberBytes, body.data(), body.size());
    return std::span(frame_).first(Size(number));
  }

 private:
  static constexpr std::size_t kWindows = 8191;  // prime
  static constexpr std::uint64_t kSeed = 82559;

  std::vector<std::byte> bytes_;
  std::array<std::size_t, 12 * 256> sizes_;
  std::array<std::byte, kMaxFrame> frame_;
};

struct E100Imix {
  OpTimer timer;  // kind 0: one frame, on the driver's side
  std::uint64_t sent = 0;
  std::uint64_t delivered = 0;
  std::uint64_t device_drops = 0;  // the receiver had no descriptor
  std::uint64_t driver_drops = 0;
  std::uint64_t interrupts = 0;
  std::uint64_t polls = 0;
  std::uint64_t restarts = 0;
  std::uint64_t bytes = 0;          // delivered
  std::uint64_t wrong_bytes = 0;    // of delivered frames
  std::uint64_t wrong_frames = 0;   // of a wrong length, twice, out of order
  std::uint64_t unaccounted = 0;    // neither delivered nor counted as dropped
  std::uint64_t device_errors = 0;  // accesses of the device that failed
  double seconds = 0;               // CPU time of all: device, driver, checks
  bool sound = true;                // everything started, and was given back
};

// What the ring runs on; another joins by meeting this.
template <class E>
concept RingEnvironment = std::default_initializable<E> &&
    Mapper<typename E::MapperType> && DevicePort<typename E::PortType> &&
    requires(E& e, PhysRange memory) {
  // `memory` holds all buffers of the ring.
  { e.Init(memory) } -> std::same_as<bool>;
  { e.mapper() } -> std::same_as<typename E::MapperType&>;
  { e.port() } -> std::same_as<typename E::PortType&>;
  // Where the 32-bit links of descriptors count from.
  { e.base() } -> std::same_as<Iova>;
  // Nothing is mapped any more, and the invariants hold.
  { e.IsClean() } -> std::same_as<bool>;
};

namespace internal {

template <RingEnvironment E>
class E100Runner {
 public:
  explicit E100Runner(std::uint64_t frames) : frames_(frames) {}

  E100Imix Run() {
    result_.sound = Prepare();
    if (!result_.sound) return result_;
    Device device(&environment_.port(),
                  {.ru_base = environment_.base(), .fifo_frames = 1});
    result_.sound = Receive(device);
    Settle(device);
    return result_;
  }

 private:
  using Device = SimI8255x<typename E::PortType>;
  using Ring = RxRing<I8255xFormat, typename E::MapperType, FixedPool>;
  using Interrupt = I8255xInterrupts<Device, Ring>;

  static constexpr std::uint32_t kEntries = 256;
  static constexpr std::uint32_t kRoom = 1522;  // as Linux's e100 has it
  static constexpr std::uint32_t kBuffer = 16 + kRoom;
  static constexpr std::size_t kBudget = 64;
  static constexpr std::uint64_t kLongBurst = 300;
  static constexpr std::uint64_t kLongBurstEach = 256;

  // Keeps the frames of a pass; they are looked at after it.
  struct KeepingSink {
    std::vector<RxFrame> frames;
    BufferFate Deliver(const RxFrame& frame) {
      frames.push_back(frame);
      return BufferFate::kKeep;
    }
  };

  bool Prepare() {
    // One pass more than the list: kept while the ring refills itself.
    if (!pool_
             .Init({.buffers = kEntries + kBudget,
                    .buffer_bytes = kBuffer,
                    .skew = 2})
             .ok()) {
      return false;
    }
    const Result<PhysRange> memory = pool_.memory();
    if (!memory.ok() || !environment_.Init(*memory)) return false;
    sink_.frames.reserve(kBudget);
    return ring_
        .Init(&environment_.mapper(), &pool_,
              {.entries = kEntries, .room = kRoom, .base = environment_.base()})
        .ok();
  }

  bool Receive(Device& device) {
    Interrupt interrupt(&device, &ring_);
    Napi<Interrupt> napi(&interrupt);
    if (!ring_.Start(device).ok()) return false;
    const double start = CpuSeconds();
    while (result_.sent < frames_) {
      SendBurst(device);
      result_.timer.BeginChunk();
      while (device.InterruptLine()) ServeInterrupt(napi, device);
      result_.timer.EndChunk();
    }
    result_.seconds = CpuSeconds() - start;
    return true;
  }

  void SendBurst(Device& device) {
    std::uint64_t burst = 1 + random_() % 32;
    if (++bursts_ % kLongBurstEach == 0) burst = kLongBurst;
    for (; burst != 0 && result_.sent < frames_; --burst) {
      device.Receive(imix_.Build(result_.sent++));
    }
  }

  void ServeInterrupt(Napi<Interrupt>& napi, Device& device) {
    ++result_.interrupts;
    result_.timer.Start();
    bool again = napi.Schedule();
    while (again) {
      again = napi.Poll(
                  kBudget,
                  [&](std::size_t budget) {
                    return ring_.Poll(budget, sink_, device).done;
                  },
                  [&] { return ring_.HasWork(); }) == PollOutcome::kAgain;
      result_.timer.Stop(0, sink_.frames.size());
      CheckFrames();
      result_.timer.Start();
    }
    result_.timer.Stop(0, 0);
  }

  void CheckFrames() {
    for (const RxFrame& frame : sink_.frames) {
      CheckFrame(frame);
      if (!pool_.Put(frame.buffer).ok()) result_.sound = false;
    }
    sink_.frames.clear();
  }

  void CheckFrame(const RxFrame& frame) {
    ++result_.delivered;
    result_.bytes += frame.length;
    std::uint64_t number = 0;
    if (frame.length < sizeof number) {
      ++result_.wrong_frames;
      return;
    }
    std::memcpy(&number, frame.data, sizeof number);
    if (number < next_number_ || number >= result_.sent ||
        frame.length != imix_.Size(number)) {
      ++result_.wrong_frames;
      return;
    }
    next_number_ = number + 1;
    result_.wrong_bytes +=
        CountWrong({frame.data + sizeof number, frame.length - sizeof number},
                   imix_.Body(number));
  }

  void Settle(Device& device) {
    const SimI8255xCounters device_counts = device.counters();
    const RxStatistics& ring_counts = ring_.statistics();
    result_.polls = ring_counts.polls;
    result_.restarts = ring_counts.restarts;
    result_.driver_drops = ring_counts.rx_dropped;
    result_.device_drops =
        device_counts.rx_resource_errors + device_counts.rx_overrun_errors;
    result_.device_errors = device_counts.bus_errors;
    const std::uint64_t known =
        result_.delivered + result_.driver_drops + result_.device_drops;
    result_.unaccounted =
        result_.sent > known ? result_.sent - known : known - result_.sent;
    const bool counts_hold =
        ring_.CheckInvariants() && device.CheckInvariants();
    ring_.Shutdown(device);
    result_.sound = result_.sound && counts_hold && environment_.IsClean() &&
                    pool_.CheckInvariants() &&
                    pool_.free_buffers() == kEntries + kBudget;
  }

  static double CpuSeconds() {
    timespec now = {};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) +
           static_cast<double>(now.tv_nsec) * 1e-9;
  }

  std::uint64_t frames_;
  Imix imix_;
  std::mt19937_64 random_{100};
  // In the order in which they must outlive each other.
  FixedPool pool_;
  E environment_;
  Ring ring_;
  KeepingSink sink_;
  std::uint64_t bursts_ = 0;
  std::uint64_t next_number_ = 0;  // the least that may come next
  E100Imix result_;
};

}  // namespace internal

template <RingEnvironment E>
E100Imix RunE100Imix(std::uint64_t frames) {
  return internal::E100Runner<E>(frames).Run();
}

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_E100_IMIX_H_
