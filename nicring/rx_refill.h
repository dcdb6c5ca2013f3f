// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_RX_REFILL_H_
#define DMAMAP_NICRING_RX_REFILL_H_

// How an RxRing starts its receiver and keeps it going: fill the queue, restart
// a receiver that stopped, or ring for one that does not. Included by
// nicring/rx_ring.h alone, which says what the states mean.

#include <cstdint>

#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"
#include "nicring/buffer_pool.h"
#include "nicring/receiver.h"
#include "nicring/refill.h"
#include "nicring/rx_assembly.h"
#include "nicring/rx_queue.h"
#include "nicring/rx_ring.h"

namespace dmamap::inline v0 {

template <class F, Mapper M, BufferPool P, class X>
template <class Port>
Result<void> RxRing<F, M, P, X>::Start(Port& port) {
  static_assert(RxPortFor<Port, Queue>);
  if (!made_) return Error::kShutDown;
  if (state_ != ReceiverState::kIdle) return Error::kBusy;
  Result<void> started = Fill();
  if constexpr (Queue::kStops) {
    if (queue_.open() != 0) started = port.Start(queue_.head_iova());
  } else {
    if (!queue_.empty()) started = port.Start(queue_.addresses());
  }
  if (!started.ok()) {
    Release();
    return started;
  }
  state_ = ReceiverState::kRunning;
  (void)KeepGoing(port);
  return Ok();
}

// An announced RNR may be an old one: what counts is that it is stopped now.
template <class F, Mapper M, BufferPool P, class X>
template <class Port>
void RxRing<F, M, P, X>::AskReceiver(Port& port) {
  if constexpr (Queue::kStops) {
    if (state_ != ReceiverState::kRunning || !port.Stopped()) return;
    state_ = ReceiverState::kStopped;
    ++statistics_.rnr;
  } else {
    (void)port;
  }
}

// Restarts a receiver that stopped, or tells one that does not of new entries.
// True when it was restarted.
template <class F, Mapper M, BufferPool P, class X>
template <class Port>
bool RxRing<F, M, P, X>::KeepGoing(Port& port) {
  if constexpr (Queue::kStops) {
    return Restart(port);
  } else {
    if (!queue_.TakeDoorbell()) return false;
    ++statistics_.doorbells;
    port.Doorbell(queue_.doorbell());
    return false;
  }
}

template <class F, Mapper M, BufferPool P, class X>
template <class Port>
bool RxRing<F, M, P, X>::Restart(Port& port) {
  if (state_ != ReceiverState::kDrained || queue_.open() == 0) return false;
  // While it is stopped no new RNR can come: this one is taken care of.
  port.AcknowledgeRnr();
  if (!port.Start(queue_.head_iova()).ok()) {
    ++statistics_.restart_failed;  // still drained: the next refill tries again
    return false;
  }
  queue_.ForgetSuspects();
  state_ = ReceiverState::kRunning;
  ++statistics_.restarts;
  return true;
}

// The device passed over these; their buffers are as good as new.
template <class F, Mapper M, BufferPool P, class X>
void RxRing<F, M, P, X>::Skip(std::uint32_t entries) {
  for (; entries != 0; --entries) {
    ++statistics_.rx_skipped;
    refill_.Drop(queue_.Pop(), statistics_);
  }
}

// Arms as many entries as it can. The error, if any, says why not all of them.
template <class F, Mapper M, BufferPool P, class X>
Result<void> RxRing<F, M, P, X>::Fill() {
  Result<void> filled;
  const auto prepare = [this](const Buffer& buffer) {
    return queue_.Prepare(buffer);
  };
  refill_.BeginRefill(queue_.vacant());
  while (!queue_.full()) {
    const Result<RxArmed*> armed = refill_.Next(prepare, statistics_);
    if (!armed.ok()) {
      filled = armed.error();
      break;
    }
    filled = queue_.Push(*armed);
    if (filled.ok()) continue;
    ++statistics_.rx_map_failed;
    refill_.Drop(*armed, statistics_);
    break;
  }
  refill_.EndRefill(statistics_);
  const Result<void> published = queue_.Publish();
  // kNoSpace: too few for a ring, for the reason that `filled` holds.
  unpublished_ = !published.ok() && published.error() != Error::kNoSpace;
  if (!unpublished_) return filled;
  ++statistics_.rx_sync_failed;
  return published;
}

template <class F, Mapper M, BufferPool P, class X>
void RxRing<F, M, P, X>::Release() {
  DropParts(RxDrop::kNone);
  assembly_.End();  // neither delivered nor dropped: it had no end
  queue_.Clear([this](RxArmed* armed) { refill_.Retire(armed, statistics_); });
  refill_.Release(statistics_);
  masked_ = unpublished_ = false;
  state_ = ReceiverState::kIdle;
  // An RNR that is still announced does no harm: the receiver is asked.
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_RX_REFILL_H_
