// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_RX_RING_H_
#define DMAMAP_NICRING_RX_RING_H_

// RxRing: receives frames from a NIC that follows a list of descriptors, in the
// manner of Linux's e100: poll with a budget, deliver or drop, refill, restart
// the receiver when it ran out of descriptors.
//
//   RxRing<I8255xFormat, IdentityMapper, FixedPool> ring;
//   ring.Init(&mapper, &pool, {.entries = 256, .room = 1536});
//   ring.Start(port);                              // port: a ReceiverPort
//   RxPollResult r = ring.Poll(64, sink, port);    // sink: a Sink
//
// The receiver's states, as the ring knows them:
//   kIdle     not started, or shut down
//   kRunning  started; may be out of resources already without our knowing
//   kStopped  found out of resources, but completed frames may be waiting
//   kDrained  stopped, and every completed frame has been consumed since
// Only kDrained is restarted, at the head: then no complete descriptor lies in
// front of the device, and none is handed back to it. A pass that was cut by
// its budget drains nothing. An announced RNR counts only when the device says
// so itself (ReceiverPort::Stopped) *before* the pass; so does one that is told
// twice, or that the ring had noticed and mended already.
//
// An empty pool leaves a hole in the list, which the next Poll or Refill mends;
// while no descriptor is open the receiver stays stopped.
//
// Keeps guarantees 5 (length policy), 6 (one load for each field of a
// completion), 7 (nothing from the device is an index) and 11 (bounded). Not
// thread-safe: calls of one ring must be ordered, as Napi does (napi.h), except
// OnRnr, which an interrupt handler calls beside any of them.

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "dma/address.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"
#include "nicring/buffer_pool.h"
#include "nicring/format.h"
#include "nicring/length_policy.h"
#include "nicring/receiver.h"
#include "nicring/rnr_flag.h"
#include "nicring/rx_list.h"
#include "nicring/rx_statistics.h"

namespace dmamap::inline v0 {

struct RxRingOptions {
  std::uint32_t entries = 256;
  std::uint32_t room = 1536;  // data bytes offered for each frame, even
  // Longest frame delivered, bytes; 0: room. Holds for what kClamp has cut to
  // the room, not for a length beyond the room that kTrust hands on.
  std::uint32_t max_frame = 0;
  LengthPolicy length_policy = LengthPolicy::kReject;
  Iova base;  // descriptor links are offsets from here
};

enum class ReceiverState : std::uint8_t { kIdle, kRunning, kStopped, kDrained };

struct RxPollResult {
  std::size_t done = 0;    // frames consumed (delivered or dropped)
  bool cut = false;        // the budget ended the pass: poll again
  bool restarted = false;  // the receiver was started again
};

template <ListFormat Format, Mapper MapperType, BufferPool Pool,
          template <class> class Atom = std::atomic>
class RxRing {
 public:
  RxRing() = default;
  RxRing(const RxRing&) = delete;
  RxRing& operator=(const RxRing&) = delete;
  // REQUIRES: the device cannot reach the ring's memory; mapper and pool live.
  ~RxRing() { Release(); }

  // kBusy the second time; kInvalidArgument, kLimit, kNoMemory.
  Result<void> Init(MapperType* mapper, Pool* pool,
                    const RxRingOptions& options) {
    if (pool == nullptr || !IsValid(options.length_policy)) {
      return Error::kInvalidArgument;
    }
    const Result<void> made =
        list_.Init(mapper, {options.entries, options.room, options.base});
    if (!made.ok()) return made;
    pool_ = pool;
    options_ = options;
    if (options_.max_frame == 0) options_.max_frame = options_.room;
    return Ok();
  }

  // Fills the list and starts the receiver. kShutDown before Init, kBusy when
  // started, kPoolEmpty or the mapper's error when that leaves too few
  // buffers for a list, the port's errors. After an error the ring is as
  // before.
  template <ReceiverPort Port>
  Result<void> Start(Port& port);

  // Consumes at most `budget` complete frames, refills, restarts.
  template <Sink SinkType, ReceiverPort Port>
  RxPollResult Poll(std::size_t budget, SinkType& sink, Port& port);

  // Mends a hole that an empty pool left, and restarts the receiver if that was
  // all it waited for. For a watchdog; Poll does the same.
  template <ReceiverPort Port>
  void Refill(Port& port) {
    if (state_ == ReceiverState::kIdle) return;
    (void)FillList();  // counted; a hole is mended next time
    Restart(port);
  }

  // The interrupt handler saw "receiver not ready". Call it before the poll
  // that it schedules. Thread-safe, wait-free; only destruction must be ordered
  // with it.
  void OnRnr() { rnr_.Announce(); }

  // True when a poll would find a frame. Does not count as one.
  bool HasWork() {
    return state_ != ReceiverState::kIdle &&
           list_.Look().look == RxLook::kComplete;
  }

  // Aborts the receiver, unmaps every buffer and puts it back into the pool.
  // Start may follow.
  template <ReceiverPort Port>
  void Shutdown(Port& port) {
    if (state_ == ReceiverState::kIdle) return;
    port.Abort();
    Release();
  }

  ReceiverState state() const { return state_; }
  const RxStatistics& statistics() const { return statistics_; }
  std::uint32_t armed() const { return list_.armed(); }
  std::uint32_t open() const { return list_.open(); }

  bool CheckInvariants() const {
    return list_.CheckInvariants() && statistics_.ConservationHolds() &&
           (state_ != ReceiverState::kIdle || list_.empty());
  }

 private:
  template <Sink SinkType>
  void Consume(SinkType& sink);
  template <Sink SinkType>
  void Deliver(const RxFrame& frame, SinkType& sink);
  template <ReceiverPort Port>
  void AskReceiver(Port& port);
  template <ReceiverPort Port>
  bool Restart(Port& port);
  std::uint32_t JudgeFrame(const Completion& completion);
  void Skip(std::uint32_t entries);
  Result<void> FillList();
  void Release();
  void PutBack(const Buffer& buffer, Result<void> unmapped);

  RxList<Format, MapperType> list_;
  Pool* pool_ = nullptr;
  RxRingOptions options_;
  ReceiverState state_ = ReceiverState::kIdle;
  RnrFlag<Atom> rnr_;
  RxStatistics statistics_;
};

template <ListFormat F, Mapper M, BufferPool P, template <class> class A>
template <ReceiverPort Port>
Result<void> RxRing<F, M, P, A>::Start(Port& port) {
  if (pool_ == nullptr) return Error::kShutDown;
  if (state_ != ReceiverState::kIdle) return Error::kBusy;
  Result<void> started = FillList();
  if (list_.open() != 0) started = port.Start(list_.head_iova());
  if (!started.ok()) {
    Release();
    return started;
  }
  state_ = ReceiverState::kRunning;
  return Ok();
}

template <ListFormat F, Mapper M, BufferPool P, template <class> class A>
template <Sink SinkType, ReceiverPort Port>
RxPollResult RxRing<F, M, P, A>::Poll(std::size_t budget, SinkType& sink,
                                      Port& port) {
  RxPollResult result;
  if (state_ == ReceiverState::kIdle) return result;
  ++statistics_.polls;
  // Only here: what is announced from now on waits for the next pass.
  if (rnr_.Take()) AskReceiver(port);
  RxLook look = RxLook::kNothing;
  while (!(result.cut = result.done >= budget)) {
    const auto found = list_.Look();
    look = found.look;
    if (look != RxLook::kComplete) break;
    Skip(found.skipped);
    Consume(sink);
    ++result.done;
  }
  if (result.cut) ++statistics_.budget_cuts;
  if (look == RxLook::kFailed) ++statistics_.rx_sync_failed;
  const bool drained =
      !result.cut && (look == RxLook::kNothing || look == RxLook::kAtStop);
  // With the head at the stop nothing can be complete, whenever the receiver
  // stopped. Asking it saves an interrupt.
  if (drained && look == RxLook::kAtStop) AskReceiver(port);
  if (drained && state_ == ReceiverState::kStopped) {
    state_ = ReceiverState::kDrained;
  }
  (void)FillList();  // counted; a hole is mended next time
  result.restarted = Restart(port);
  return result;
}

// An announced RNR may be an old one: what counts is that it is stopped now.
template <ListFormat F, Mapper M, BufferPool P, template <class> class A>
template <ReceiverPort Port>
void RxRing<F, M, P, A>::AskReceiver(Port& port) {
  if (state_ != ReceiverState::kRunning || !port.Stopped()) return;
  state_ = ReceiverState::kStopped;
  ++statistics_.rnr;
}

template <ListFormat F, Mapper M, BufferPool P, template <class> class A>
template <ReceiverPort Port>
bool RxRing<F, M, P, A>::Restart(Port& port) {
  if (state_ != ReceiverState::kDrained || list_.open() == 0) return false;
  // While it is stopped no new RNR can come: this one is taken care of.
  port.AcknowledgeRnr();
  if (!port.Start(list_.head_iova()).ok()) {
    ++statistics_.restart_failed;  // still drained: the next refill tries again
    return false;
  }
  list_.ForgetSuspects();
  state_ = ReceiverState::kRunning;
  ++statistics_.restarts;
  return true;
}

// One completed descriptor: snapshot, judge, unmap, deliver or drop.
template <ListFormat F, Mapper M, BufferPool P, template <class> class A>
template <Sink SinkType>
void RxRing<F, M, P, A>::Consume(SinkType& sink) {
  ++statistics_.rx_completions;
  const Result<Completion> snapshot = list_.Snapshot();
  const std::uint32_t length = snapshot.ok() ? JudgeFrame(*snapshot) : 0;
  const std::uint32_t stored = length < options_.room ? length : options_.room;
  const auto popped = list_.Pop(stored);
  const bool intact =
      snapshot.ok() && popped.synced.ok() && popped.unmapped.ok();
  if (intact && length != 0) {
    Deliver({popped.buffer.data + F::kHeaderBytes, length, snapshot->raw_status,
             popped.buffer},
            sink);
    return;
  }
  // A length of 0 is a drop that JudgeFrame has counted under its reason.
  if (!snapshot.ok() || length != 0) ++statistics_.rx_mapper_dropped;
  ++statistics_.rx_dropped;
  PutBack(popped.buffer, popped.unmapped);
}

// Bytes to deliver; 0 when the frame is to be dropped (and why is counted).
template <ListFormat F, Mapper M, BufferPool P, template <class> class A>
std::uint32_t RxRing<F, M, P, A>::JudgeFrame(const Completion& completion) {
  if (!completion.good) {
    ++statistics_.rx_errors;
    return 0;
  }
  const LengthPolicy policy = options_.length_policy;
  const LengthVerdict verdict = Judge(policy, completion.length, options_.room);
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

template <ListFormat F, Mapper M, BufferPool P, template <class> class A>
template <Sink SinkType>
void RxRing<F, M, P, A>::Deliver(const RxFrame& frame, SinkType& sink) {
  ++statistics_.rx_packets;
  statistics_.rx_bytes += frame.length;
  if (sink.Deliver(frame) == BufferFate::kReturn) PutBack(frame.buffer, Ok());
}

// The device passed over these; their buffers are as good as new.
template <ListFormat F, Mapper M, BufferPool P, template <class> class A>
void RxRing<F, M, P, A>::Skip(std::uint32_t entries) {
  for (; entries != 0; --entries) {
    const auto popped = list_.Pop(0);
    ++statistics_.rx_skipped;
    PutBack(popped.buffer, popped.unmapped);
  }
}

// Arms as many entries as it can. The error, if any, says why not all of them.
template <ListFormat F, Mapper M, BufferPool P, template <class> class A>
Result<void> RxRing<F, M, P, A>::FillList() {
  Result<void> filled;
  while (filled.ok() && !list_.full()) {
    const Result<Buffer> buffer = pool_->Get();
    if (!buffer.ok()) {
      ++statistics_.rx_alloc_failed;
      filled = buffer.error();
      break;
    }
    const auto pushed = list_.Push(*buffer);
    filled = pushed.result;
    if (filled.ok()) continue;
    ++statistics_.rx_map_failed;
    PutBack(*buffer, pushed.unmapped);
  }
  const Result<void> published = list_.Publish();
  if (published.ok()) return filled;
  // kNoSpace: too few for a list, for the reason that `filled` holds.
  if (published.error() == Error::kNoSpace) return filled;
  ++statistics_.rx_sync_failed;
  return published;
}

// A buffer whose unmap failed stays out of the pool: the device may reach it.
template <ListFormat F, Mapper M, BufferPool P, template <class> class A>
void RxRing<F, M, P, A>::PutBack(const Buffer& buffer, Result<void> unmapped) {
  if (!unmapped.ok()) {
    ++statistics_.rx_quarantined;
    return;
  }
  if (!pool_->Put(buffer).ok()) ++statistics_.rx_put_failed;
}

template <ListFormat F, Mapper M, BufferPool P, template <class> class A>
void RxRing<F, M, P, A>::Release() {
  list_.Clear(
      [this](const auto& popped) { PutBack(popped.buffer, popped.unmapped); });
  state_ = ReceiverState::kIdle;
  // An RNR that is still announced does no harm: the receiver is asked.
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_RX_RING_H_
