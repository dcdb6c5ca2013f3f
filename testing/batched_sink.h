// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_BATCHED_SINK_H_
#define DMAMAP_TESTING_BATCHED_SINK_H_

// BatchedSink: a BatchSink of a test's sink, which is asked frame by frame and
// may hence keep some of a batch. Not thread-safe.

#include <cstddef>
#include <span>

#include "dma/version.h"
#include "nicring/receiver.h"

namespace dmamap::inline v0 {
namespace testing_bench {

template <FrameSink SinkType>
struct BatchedSink {
  void DeliverBatch(std::span<const RxFrame> frames,
                    std::span<BufferFate> fates) {
    ++batches;
    if (frames.size() > largest) largest = frames.size();
    // Nobody has written there before.
    for (const BufferFate fate : fates) {
      stale += fate == BufferFate::kReturn ? 0 : 1;
    }
    stale += frames.empty() || frames.size() != fates.size() ? 1 : 0;
    for (std::size_t i = 0; i < frames.size(); ++i) {
      fates[i] = to->Deliver(frames[i]);
    }
  }
  BufferFate DeliverScattered(const RxScatteredFrame& frame) requires
      ScatterSink<SinkType> {
    return to->DeliverScattered(frame);
  }

  SinkType* to = nullptr;
  std::size_t batches = 0;
  std::size_t largest = 0;  // frames
  std::size_t stale = 0;    // what must not be
};

}  // namespace testing_bench
}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_BATCHED_SINK_H_
