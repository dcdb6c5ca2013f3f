// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_RX_FRAMES_H_
#define DMAMAP_NICRING_RX_FRAMES_H_

// How an RxRing makes frames of completions: judge, unmap, assemble, deliver or
// drop for one counted reason. Included by nicring/rx_ring.h alone.
//
// Nearly every frame lies whole in one descriptor and takes the short way
// (IsPlain). A frame in several is gathered (RxAssembly) until its last
// descriptor; what is wrong with one part is wrong with the frame. The device's
// verdict counts only with the last part. A last part of no bytes is no
// violation: a device that strips the CRC may have had nothing else for it.

#include <cstddef>
#include <cstdint>
#include <span>

#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"
#include "nicring/buffer_pool.h"
#include "nicring/format.h"
#include "nicring/length_policy.h"
#include "nicring/receiver.h"
#include "nicring/rx_assembly.h"
#include "nicring/rx_queue.h"
#include "nicring/rx_ring.h"

namespace dmamap::inline v0 {

// One completed descriptor. How many frames ended with it: 0 or 1.
template <class F, Mapper M, BufferPool P, class X>
template <Sink SinkType>
[[gnu::always_inline]] inline std::size_t RxRing<F, M, P, X>::Consume(
    SinkType& sink) {
  const Result<Completion> snapshot = queue_.Snapshot();
  queue_.Prefetch();
  if (snapshot.ok() && IsPlain(*snapshot)) [[likely]] {
    ++statistics_.rx_completions;
    DeliverWhole(*snapshot, snapshot->length, sink);
    return 1;
  }
  return ConsumeOdd(snapshot, sink);
}

// A good frame in one descriptor, of a length that may be.
template <class F, Mapper M, BufferPool P, class X>
[[gnu::always_inline]] inline bool RxRing<F, M, P, X>::IsPlain(
    const Completion& completion) const {
  if (Queue::kScatters && (!completion.last || assembly_.active())) {
    return false;
  }
  if constexpr (kTrusts) return completion.good;
  return completion.good && completion.length != 0 &&
         completion.length <= queue_.room() &&
         completion.length <= options_.max_frame;
}

// Any other completion.
template <class F, Mapper M, BufferPool P, class X>
template <Sink SinkType>
std::size_t RxRing<F, M, P, X>::ConsumeOdd(const Result<Completion>& snapshot,
                                           SinkType& sink) {
  if constexpr (Queue::kScatters) {
    if (snapshot.ok() && (!snapshot->last || assembly_.active())) {
      return ConsumePart(*snapshot, sink);
    }
  }
  ++statistics_.rx_completions;
  const std::uint32_t length = snapshot.ok() ? JudgeFrame(*snapshot) : 0;
  if (length != 0) {
    DeliverWhole(*snapshot, length, sink);
  } else {
    // A length of 0 is a drop that JudgeFrame has counted under its reason.
    DropWhole(snapshot.ok(), queue_.Pop());
  }
  return 1;
}

template <class F, Mapper M, BufferPool P, class X>
template <Sink SinkType>
[[gnu::always_inline]] inline void RxRing<F, M, P, X>::DeliverWhole(
    const Completion& completion, std::uint32_t length, SinkType& sink) {
  const std::uint32_t room = queue_.room();
  const std::uint32_t offset = queue_.data_offset();
  const std::uint32_t taken_length = kTrusts || length < room ? length : room;
  const RxTaken taken = refill_.Take(queue_.Pop(), offset, taken_length,
                                     RxExtent::kWhole, statistics_);
  if (taken.data != nullptr) [[likely]] {
    Deliver(taken, length, completion.raw_status, sink);
  } else {
    DropWhole(false, nullptr);
  }
}

// A frame in one descriptor is lost: judged bad, or the mapper failed. `armed`
// is null where the policy has dealt with it.
template <class F, Mapper M, BufferPool P, class X>
void RxRing<F, M, P, X>::DropWhole(bool judged, RxArmed* armed) {
  if (!judged) ++statistics_.rx_mapper_dropped;
  ++statistics_.rx_dropped;
  if (armed != nullptr) refill_.Drop(armed, statistics_);
}

// Bytes to deliver; 0 when the frame is to be dropped (and why is counted).
template <class F, Mapper M, BufferPool P, class X>
std::uint32_t RxRing<F, M, P, X>::JudgeFrame(const Completion& completion) {
  if (!completion.good) {
    ++statistics_.rx_errors;
    return 0;
  }
  const LengthPolicy policy = options_.length_policy;
  const LengthVerdict verdict = Judge(policy, completion.length, queue_.room());
  if (verdict.violation) ++statistics_.rx_length_violations;
  if (!verdict.deliver) {
    ++statistics_.rx_length_rejected;
    return 0;
  }
  const bool trusted = verdict.violation && policy == LengthPolicy::kTrust;
  if (!trusted && verdict.length > options_.max_frame) {
    ++statistics_.rx_over_length_errors;
    return 0;
  }
  return verdict.length;
}

template <class F, Mapper M, BufferPool P, class X>
template <Sink SinkType>
std::size_t RxRing<F, M, P, X>::ConsumePart(const Completion& completion,
                                            SinkType& sink) {
  assembly_.Begin();
  const LengthPolicy policy = options_.length_policy;
  const std::uint32_t room = queue_.room();
  const std::uint32_t offset = queue_.data_offset();
  const bool empty_end = completion.last && completion.length == 0;
  const LengthVerdict verdict =
      kTrusts ? LengthVerdict{true, false, completion.length}
              : Judge(policy, completion.length, room);
  if (verdict.violation && !empty_end) {
    ++statistics_.rx_length_violations;
    if (!verdict.deliver) DropParts(RxDrop::kLength);
  }
  const std::uint32_t length = verdict.length;
  RxArmed* const armed = queue_.Pop();
  const bool trusted = verdict.violation && policy == LengthPolicy::kTrust;
  const std::uint64_t total = assembly_.length() + length;
  const bool too_long = !trusted && total > options_.max_frame;
  if (length != 0 && (too_long || assembly_.full())) {
    DropParts(RxDrop::kOverLength);
  }
  if (length == 0 || assembly_.drop() != RxDrop::kNone) {
    refill_.Drop(armed, statistics_);
  } else {
    const RxTaken taken =
        refill_.Take(armed, offset, length < room ? length : room,
                     RxExtent::kPart, statistics_);
    if (taken.data == nullptr) {
      DropParts(RxDrop::kMapper);
    } else {
      assembly_.Add({taken.data, length, taken.buffer});
    }
  }
  if (!completion.last) {
    ++statistics_.rx_fragments;
    return 0;
  }
  EndFrame(completion, sink);
  return 1;
}

// Judges a frame whose last part is in.
template <class F, Mapper M, BufferPool P, class X>
template <Sink SinkType>
void RxRing<F, M, P, X>::EndFrame(const Completion& completion,
                                  SinkType& sink) {
  ++statistics_.rx_completions;
  RxStatistics& s = statistics_;
  std::uint64_t* dropped = nullptr;
  switch (assembly_.drop()) {
    case RxDrop::kNone:
      if (!completion.good) {
        dropped = &s.rx_errors;
      } else if (assembly_.parts().size() > 1 && !ScatterSink<SinkType>) {
        dropped = &s.rx_scatter_dropped;
      }
      break;
    case RxDrop::kLength:
      dropped = &s.rx_length_rejected;
      break;
    case RxDrop::kOverLength:
      dropped = &s.rx_over_length_errors;
      break;
    case RxDrop::kMapper:
      dropped = &s.rx_mapper_dropped;
      break;
  }
  if (dropped == nullptr) {
    DeliverParts(completion.raw_status, sink);
  } else {
    ++*dropped;
    ++s.rx_dropped;
    DropParts(RxDrop::kNone);
  }
  assembly_.End();
}

// REQUIRES: at least one part.
template <class F, Mapper M, BufferPool P, class X>
template <Sink SinkType>
void RxRing<F, M, P, X>::DeliverParts(std::uint32_t raw_status,
                                      SinkType& sink) {
  const auto parts = assembly_.parts();
  if (parts.size() == 1) {
    Deliver({parts[0].data, parts[0].buffer}, parts[0].length, raw_status,
            sink);
    return;
  }
  if constexpr (ScatterSink<SinkType>) {
    DeliverBatch(sink);  // in order
    ++statistics_.rx_packets;
    statistics_.rx_bytes += assembly_.length();
    const BufferFate fate =
        sink.DeliverScattered({parts, assembly_.length(), raw_status});
    if (fate == BufferFate::kReturn) DropParts(RxDrop::kNone);
  }
}

// Puts the buffers of the frame in the making back.
template <class F, Mapper M, BufferPool P, class X>
void RxRing<F, M, P, X>::DropParts(RxDrop reason) {
  assembly_.Drop(reason, [this](const Buffer& buffer) { GiveBack(buffer); });
}

template <class F, Mapper M, BufferPool P, class X>
template <Sink SinkType>
[[gnu::always_inline]] inline void RxRing<F, M, P, X>::Deliver(
    const RxTaken& taken, std::uint32_t length, std::uint32_t raw_status,
    SinkType& sink) {
  ++statistics_.rx_packets;
  statistics_.rx_bytes += length;
  const RxFrame frame{taken.data, length, raw_status, taken.buffer};
  if constexpr (BatchSink<SinkType>) {
    batch_.Add(frame);
    if (batch_.full()) DeliverBatch(sink);
  } else if (sink.Deliver(frame) == BufferFate::kReturn) {
    refill_.TakeBack(taken, statistics_);
  }
}

// What waits for a BatchSink.
template <class F, Mapper M, BufferPool P, class X>
template <Sink SinkType>
void RxRing<F, M, P, X>::DeliverBatch(SinkType& sink) {
  if constexpr (BatchSink<SinkType>) {
    if (batch_.empty()) return;
    const std::span<const Buffer> returned = batch_.Deliver(sink);
    if (!refill_.ReturnBatch(returned).ok()) ++statistics_.rx_put_failed;
  }
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_RX_FRAMES_H_
