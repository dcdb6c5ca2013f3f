// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_RING_RX_SIDE_H_
#define DMAMAP_BENCHMARKS_RING_RX_SIDE_H_

// dmamap's receive ring as a peers::RingSide: any format, world (mapper and the
// device's way to memory) and policies. The device is the simulated one of
// testing/.
//
// Each frame that reaches the sink is counted, and its length compared; in the
// first bursts every byte is. The driver's part of a burst is one poll with the
// burst as its budget: what it refills, and the doorbell, included.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "benchmarks/peers/ring_side.h"
#include "dma/address.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "nicring/buffer_pool.h"
#include "nicring/e1000.h"
#include "nicring/i8255x.h"
#include "nicring/intel_advanced.h"
#include "nicring/receiver.h"
#include "nicring/rx_ring.h"
#include "nicring/virtio.h"
#include "testing/device_port.h"
#include "testing/driver_side.h"
#include "testing/sim_e1000.h"
#include "testing/sim_i8255x.h"
#include "testing/sim_virtio.h"

namespace dmamap::bench {

using testing_bench::FlipPolicies;
using testing_bench::RecyclePolicies;

inline constexpr std::uint32_t kRingEntries = 256;
inline constexpr std::uint32_t kRingRoom = 2048;
inline constexpr std::size_t kRingBurst = 64;

// --- Worlds ------------------------------------------------------------------

// Device and CPU see one memory.
struct IdentityWorld {
  using MapperType = IdentityMapper;
  using Port = IdentityPort;
  bool Init() { return true; }
  Iova base(Iova lowest) const { return lowest; }

  MapperType mapper;
  Port port{Range::Whole()};
};

// --- Formats and their devices -----------------------------------------------

struct RxI8255x {
  using Format = I8255xFormat;
  template <class Port>
  using Device = SimI8255x<Port>;
  static SimI8255xOptions Options(Iova base) { return {.ru_base = base}; }
  static constexpr std::uint64_t kFeatures = 0;
};
struct RxE1000 {
  using Format = E1000Format;
  template <class Port>
  using Device = SimE1000<Port>;
  static SimE1000Options Options(Iova) { return {}; }
  static constexpr std::uint64_t kFeatures = 0;
};
struct RxAdvanced {
  using Format = IxgbeFormat;
  template <class Port>
  using Device = SimE1000<Port>;
  static SimE1000Options Options(Iova) {
    return {.layout = E1000Layout::kIxgbe};
  }
  static constexpr std::uint64_t kFeatures = 0;
};
struct RxSplit {
  using Format = VirtioSplitFormat;
  template <class Port>
  using Device = SimVirtio<Port>;
  static SimVirtioOptions Options(Iova) { return {.event_index = true}; }
  static constexpr std::uint64_t kFeatures =
      virtio::kVersion1 | virtio::kEventIndex;
};
struct RxPacked {
  using Format = VirtioPackedFormat;
  template <class Port>
  using Device = SimVirtio<Port>;
  static SimVirtioOptions Options(Iova) {
    return {.layout = VirtioLayout::kPacked, .event_index = true};
  }
  static constexpr std::uint64_t kFeatures =
      virtio::kVersion1 | virtio::kEventIndex | virtio::kRingPacked;
};

// --- The side ----------------------------------------------------------------

// The bytes of every frame.
inline std::vector<std::byte> RingFrame(std::size_t bytes) {
  std::vector<std::byte> frame(bytes);
  for (std::size_t i = 0; i < bytes; ++i) {
    frame[i] = static_cast<std::byte>(i * 37 + 5);
  }
  return frame;
}

// Counts, and gives the buffer back at once.
class NullSink {
 public:
  explicit NullSink(std::size_t bytes)
      : frame_(RingFrame(bytes)), length_(frame_.size()) {}

  [[gnu::always_inline]] BufferFate Deliver(const RxFrame& frame) {
    ++frames_;
    wrong_ += frame.length != length_;
    if (compare_) [[unlikely]]
      Compare(frame);
    return BufferFate::kReturn;
  }
  const std::vector<std::byte>& frame() const { return frame_; }
  std::uint64_t frames() const { return frames_; }
  std::uint64_t wrong() const { return wrong_; }
  void set_compare(bool compare) { compare_ = compare; }

 private:
  [[gnu::noinline]] void Compare(const RxFrame& frame) {
    wrong_ += frame.length == length_ &&
              std::memcmp(frame.data, frame_.data(), length_) != 0;
  }

  std::vector<std::byte> frame_;
  std::size_t length_;
  std::uint64_t frames_ = 0;
  std::uint64_t wrong_ = 0;
  bool compare_ = true;
};

// The same, a batch at a time.
class NullBatchSink : public NullSink {
 public:
  using NullSink::NullSink;
  [[gnu::always_inline]] void DeliverBatch(std::span<const RxFrame> frames,
                                           std::span<BufferFate>) {
    for (const RxFrame& frame : frames) (void)Deliver(frame);
  }
};

// Recycles, and believes the device: no length and no number is looked at.
struct TrustingPolicies : RecyclePolicies {
  static constexpr RxChecks kChecks = RxChecks::kNone;
};

template <class World, class Kind, class Policies, class SinkType = NullSink>
class DmamapRxSide final : public peers::RingSide {
 public:
  using Ring = RxRing<typename Kind::Format, typename World::MapperType,
                      FixedPool, Policies>;

  // Null when it did not start.
  static std::unique_ptr<peers::RingSide> Make(std::size_t bytes) {
    auto side = std::unique_ptr<DmamapRxSide>(new DmamapRxSide(bytes));
    if (!side->Start()) return nullptr;
    for (int i = 0; i < 16; ++i) {
      if (!side->Device(kRingBurst) || side->Driver(kRingBurst) != kRingBurst) {
        return nullptr;
      }
    }
    side->sink_.set_compare(false);
    return side;
  }
  ~DmamapRxSide() override {
    if (device_) ring_.Shutdown(*device_);
  }

  bool Device(std::size_t n) override {
    for (std::size_t i = 0; i < n; ++i) {
      if (!device_->Inject(sink_.frame())) return false;
    }
    device_->RunAll();
    injected_ += n;
    return true;
  }
  std::size_t Driver(std::size_t n) override {
    return ring_.Poll(n, sink_, *device_).done;
  }
  std::uint64_t failures() override {
    const RxStatistics& s = ring_.statistics();
    const std::uint64_t missing =
        injected_ > sink_.frames() ? injected_ - sink_.frames() : 0;
    return sink_.wrong() + s.rx_dropped + missing +
           (ring_.CheckInvariants() && device_->CheckInvariants() ? 0 : 1);
  }

 private:
  explicit DmamapRxSide(std::size_t bytes) : sink_(bytes) {}

  bool Start() {
    constexpr std::uint32_t kBuffer = 2 * (kRingRoom + 64);
    if (!world_.Init() ||
        !pool_.Init({.buffers = 2 * kRingEntries, .buffer_bytes = kBuffer})
             .ok()) {
      return false;
    }
    const Result<PhysRange> memory = pool_.memory();
    if (!memory.ok()) return false;
    const Iova base = world_.base(Iova(memory->first().value()));
    device_.emplace(&world_.port, Kind::Options(base));
    return ring_
               .Init(&world_.mapper, &pool_,
                     {.entries = kRingEntries,
                      .room = kRingRoom,
                      .base = base,
                      .features = Kind::kFeatures})
               .ok() &&
           ring_.Start(*device_).ok();
  }

  // In the order in which they must outlive each other.
  World world_;
  FixedPool pool_;
  std::optional<typename Kind::template Device<typename World::Port>> device_;
  Ring ring_;
  SinkType sink_;
  std::uint64_t injected_ = 0;
};

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_RING_RX_SIDE_H_
