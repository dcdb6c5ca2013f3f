// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_RING_TX_SIDE_H_
#define DMAMAP_BENCHMARKS_RING_TX_SIDE_H_

// dmamap's transmit ring as a peers::RingSide. The driver's part of a burst:
// take back the frames of the burst before, post as many of one segment, ring
// once. With TxPace::kEach one frame is taken back, one posted and the device
// told of it, before the next, as a driver without batches does.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "benchmarks/peers/ring_side.h"
#include "benchmarks/ring_rx_side.h"
#include "dma/address.h"
#include "nicring/e1000_tx.h"
#include "nicring/i8255x_tx.h"
#include "nicring/tx_queue.h"
#include "nicring/tx_ring.h"
#include "nicring/virtio_tx.h"
#include "testing/sim_e1000_tx.h"
#include "testing/sim_i8255x_tx.h"
#include "testing/sim_virtio_tx.h"

namespace dmamap::bench {

struct TxE1000 {
  using Format = E1000TxFormat;
  struct Device : SimE1000Tx<IdentityPort> {
    explicit Device(IdentityPort* port) : SimE1000Tx<IdentityPort>(port) {}
  };
  static constexpr std::uint64_t kFeatures = 0;
};
struct TxSplit {
  using Format = VirtioSplitTxFormat;
  struct Device : SimVirtioTx<IdentityPort> {
    explicit Device(IdentityPort* port)
        : SimVirtioTx<IdentityPort>(port, {.event_index = true}) {}
  };
  static constexpr std::uint64_t kFeatures =
      virtio::kVersion1 | virtio::kEventIndex;
};

struct TxPacked {
  using Format = VirtioPackedTxFormat;
  struct Device : SimVirtioTx<IdentityPort> {
    explicit Device(IdentityPort* port)
        : SimVirtioTx<IdentityPort>(
              port, {.event_index = true, .layout = VirtioLayout::kPacked}) {}
  };
  static constexpr std::uint64_t kFeatures =
      virtio::kVersion1 | virtio::kEventIndex | virtio::kRingPacked;
};
struct TxI8255x {
  using Format = I8255xTxFormat;
  using Device = SimI8255xTx<IdentityPort>;
  static constexpr std::uint64_t kFeatures = 0;
};

enum class TxPace : std::uint8_t { kBurst, kEach };

template <class Kind, TxPace kPace = TxPace::kBurst>
class DmamapTxSide final : public peers::RingSide {
 public:
  // Null when it did not start.
  static std::unique_ptr<peers::RingSide> Make(std::size_t bytes) {
    auto side = std::unique_ptr<DmamapTxSide>(new DmamapTxSide(bytes));
    if (!side->Start()) return nullptr;
    (void)side->Driver(kRingBurst);  // the first has none before it
    return side;
  }
  ~DmamapTxSide() override { ring_.Shutdown(sink_, device_); }

  bool Device(std::size_t) override {
    device_.RunAll();
    for (const auto& sent : device_.TakeSent()) wrong_ += sent != frame_;
    return true;
  }
  std::size_t Driver(std::size_t n) override {
    const std::size_t step = kPace == TxPace::kEach ? 1 : n;
    std::size_t done = 0;
    for (std::size_t i = 0; i < n; i += step) {
      done += ring_.Poll(step, sink_, device_).done;
      for (std::size_t k = 0; k < step; ++k) Post();
      ring_.Kick(device_);
    }
    return done;
  }
  std::uint64_t failures() override {
    const TxStatistics& s = ring_.statistics();
    return wrong_ + s.tx_errors + s.tx_busy + s.tx_quarantined +
           (ring_.CheckInvariants() ? 0 : 1);
  }

 private:
  struct Sink {
    void Done(const TxDone& done) { tokens += done.token; }
    std::uint64_t tokens = 0;
  };
  static constexpr std::size_t kStride = 2048;

  explicit DmamapTxSide(std::size_t bytes)
      : frame_(RingFrame(bytes)), memory_(kRingEntries * kStride) {}

  void Post() {
    const std::byte* const data = &memory_[next_ * kStride];
    const TxSegment segment{PhysAddrOf(data),
                            static_cast<std::uint32_t>(frame_.size()), data};
    if (!ring_.Post({{&segment, 1}, next_}).ok()) ++wrong_;
    next_ = next_ + 1 == kRingEntries ? 0 : next_ + 1;
  }
  bool Start() {
    for (std::size_t i = 0; i < kRingEntries; ++i) {
      std::copy(frame_.begin(), frame_.end(), &memory_[i * kStride]);
    }
    return ring_
               .Init(&mapper_, {.entries = kRingEntries,
                                .max_segments = 1,
                                .features = Kind::kFeatures,
                                .room = 1536})
               .ok() &&
           ring_.Start(device_).ok();
  }

  const std::vector<std::byte> frame_;
  std::vector<std::byte> memory_;
  IdentityMapper mapper_;
  IdentityPort port_{Range::Whole()};
  typename Kind::Device device_{&port_};
  TxRing<typename Kind::Format, IdentityMapper> ring_;
  Sink sink_;
  std::size_t next_ = 0;
  std::uint64_t wrong_ = 0;
};

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_RING_TX_SIDE_H_
