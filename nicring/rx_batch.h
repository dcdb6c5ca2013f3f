// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_RX_BATCH_H_
#define DMAMAP_NICRING_RX_BATCH_H_

// RxBatch: frames of a pass that wait to be delivered together, and what
// becomes of their buffers. Empty between passes. Not thread-safe; loops over
// what it holds.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "dma/version.h"
#include "nicring/buffer_pool.h"
#include "nicring/receiver.h"

namespace dmamap::inline v0 {

template <std::uint32_t kFrames>
class RxBatch {
 public:
  static_assert(kFrames != 0);

  bool empty() const { return count_ == 0; }
  bool full() const { return count_ == kFrames; }
  // REQUIRES: !full().
  void Add(const RxFrame& frame) { frames_[count_++] = frame; }

  // Hands all of them to the sink, and is empty then. The buffers that it
  // returned, valid until the next call.
  template <BatchSink SinkType>
  std::span<const Buffer> Deliver(SinkType& sink) {
    for (std::uint32_t i = 0; i < count_; ++i) fates_[i] = BufferFate::kReturn;
    sink.DeliverBatch(std::span<const RxFrame>(frames_.data(), count_),
                      std::span<BufferFate>(fates_.data(), count_));
    std::uint32_t returned = 0;
    for (std::uint32_t i = 0; i < count_; ++i) {
      returned_[returned] = frames_[i].buffer;
      returned += fates_[i] == BufferFate::kReturn ? 1 : 0;
    }
    count_ = 0;
    return {returned_.data(), returned};
  }

 private:
  std::uint32_t count_ = 0;
  std::array<RxFrame, kFrames> frames_;
  std::array<BufferFate, kFrames> fates_;
  std::array<Buffer, kFrames> returned_;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_RX_BATCH_H_
