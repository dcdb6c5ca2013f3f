// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_RX_RING_H_
#define DMAMAP_NICRING_RX_RING_H_

// RxRing: receives frames from a NIC's ring of descriptors, of whatever family,
// in the manner of NAPI: poll with a budget, deliver or drop, refill, keep the
// receiver going.
//
//   RxRing<I8255xFormat, IdentityMapper, FixedPool> ring;
//   ring.Init(&mapper, &pool, {.entries = 256, .room = 1536});
//   ring.Start(port);             // port: ReceiverPort or DoorbellPort
//   RxPollResult r = ring.Poll(64, sink, port);    // sink: a Sink
//
// The format chooses the queue behind it (rx_queue.h). A device that goes on by
// itself gets a doorbell for new entries. One that stops at the end of a list
// (i8255x) is restarted; its states, as the ring knows them:
//   kIdle     not started, or shut down
//   kRunning  started; may be out of resources already without our knowing
//   kStopped  found out of resources, but completed frames may be waiting
//   kDrained  stopped, and every completed frame has been consumed since
//   kBroken   (virtio) the device said what cannot be: Shutdown, Start
// Only kDrained is restarted, at the head: then no complete descriptor lies in
// front of the device, and none is handed back to it. A pass that was cut by
// its budget drains nothing. An announced RNR counts only when the device says
// so itself (ReceiverPort::Stopped) *before* the pass; so does one that is told
// twice, or that the ring had noticed and mended already. A poll that finds
// nothing asks by itself, where the receiver may have met a former stop: who
// polls without interrupts need not announce anything.
//
// An empty pool leaves a hole in the ring, which the next Poll or Refill mends.
// A frame in several descriptors goes to a ScatterSink (rx_frames.h).
//
// Keeps guarantees 5 (length policy), 6 (one load for each field of a
// completion), 7 (nothing from the device is an index unchecked) and 11: a poll
// consumes no more entries than the ring has. Not thread-safe: calls of one
// ring must be ordered, as Napi does (napi.h), except OnRnr, which an interrupt
// handler calls beside any of them.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "dma/address.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"
#include "nicring/buffer_pool.h"
#include "nicring/format.h"
#include "nicring/length_policy.h"
#include "nicring/receiver.h"
#include "nicring/refill.h"
#include "nicring/rnr_flag.h"
#include "nicring/rx_array.h"
#include "nicring/rx_assembly.h"
#include "nicring/rx_batch.h"
#include "nicring/rx_list.h"
#include "nicring/rx_queue.h"
#include "nicring/rx_ring_options.h"
#include "nicring/rx_statistics.h"

namespace dmamap::inline v0 {

// The registers that a queue's receiver has; `port` is one everywhere.
template <class P, class Queue>
concept RxPortFor = (Queue::kStops && ReceiverPort<P>) ||
                    (!Queue::kStops && DoorbellPort<P>);

// What a ring is composed of; derive and replace a member. Refill: refill.h;
// kChecks: rx_queue.h; kBatch: most frames of a batch (BatchSink).
struct RxPolicies {
  static constexpr RxChecks kChecks = RxChecks::kAll;
  static constexpr std::uint32_t kBatch = 16;
  template <class T>
  using Atom = std::atomic<T>;
  template <Mapper MapperType, BufferPool Pool>
  using Refill = MapEach<MapperType, Pool>;
};

template <class Format, Mapper MapperType, BufferPool Pool,
          class Policies = RxPolicies>
class RxRing {
 public:
  static constexpr bool kTrusts = Policies::kChecks == RxChecks::kNone;
  using Queue = typename RxQueueOf<Format, MapperType, Policies::kChecks>::Type;
  static_assert(StoppingQueue<Queue> || DoorbellQueue<Queue>);
  using Refiller = typename Policies::template Refill<MapperType, Pool>;
  static_assert(RxRefill<Refiller>);

  RxRing() = default;
  RxRing(const RxRing&) = delete;
  RxRing& operator=(const RxRing&) = delete;
  // REQUIRES: the device cannot reach the ring's memory; mapper and pool live.
  ~RxRing() { Release(); }

  // kBusy the second time; kInvalidArgument, kLimit, kNoMemory, kUnsupported
  // for features that the format does not know, the mapper's errors. After an
  // error the ring is as before.
  Result<void> Init(MapperType* mapper, Pool* pool,
                    const RxRingOptions& options);

  // Fills the ring and starts the receiver. kShutDown before Init, kBusy when
  // started, kPoolEmpty or the mapper's error when that leaves too few
  // buffers for a ring, the port's errors. After an error the ring is as
  // before.
  template <class Port>
  Result<void> Start(Port& port);

  // Consumes at most `budget` complete frames, refills, restarts or rings.
  template <Sink SinkType, class Port>
  RxPollResult Poll(std::size_t budget, SinkType& sink, Port& port);

  // Mends a hole that an empty pool left, and restarts the receiver if it has
  // stopped and no complete frame waits (then HasWork: schedule a poll). For a
  // watchdog; Poll does the same.
  template <class Port>
  void Refill(Port& port) {
    if (!started()) return;
    if constexpr (Queue::kStops) {
      AskReceiver(port);
      Drain(false, queue_.Look().look);
    }
    (void)Fill();  // counted; a hole is mended next time
    (void)KeepGoing(port);
  }

  // The interrupt handler saw "receiver not ready". Call it before the poll
  // that it schedules. Thread-safe, wait-free; but for destruction.
  void OnRnr() { rnr_.Announce(); }

  // True when a poll would find something, or nobody would tell if it did: the
  // device could not be shown the unmask or new buffers, the look failed, an
  // RNR is announced that no pass has heard of, or the receiver has stopped and
  // waits for the pass that restarts it. Does not count as a poll.
  bool HasWork() {
    if (!started()) return false;
    if (masked_ || unpublished_ || state_ == ReceiverState::kStopped ||
        (Queue::kStops && rnr_.announced())) {
      return true;
    }
    const RxLook look = queue_.Look().look;
    return look != RxLook::kNothing && look != RxLook::kAtStop;
  }

  // The interrupt of a queue that is masked in its own memory (virtio): makes
  // the ring an Interrupts, for Napi. Mask and Unmask are ordered with the
  // other calls. A message (MSI-X) needs no acknowledge; a line has VirtioLine
  // (interrupts.h).
  void Mask() requires InterruptingQueue<Queue> { (void)queue_.Mask(); }
  void Unmask() requires InterruptingQueue<Queue> {
    masked_ = !queue_.Unmask();
  }
  void Acknowledge() requires InterruptingQueue<Queue> {}

  // Aborts the receiver, unmaps every buffer and puts it back into the pool.
  // Start may follow.
  template <class Port>
  void Shutdown(Port& port) {
    if (state_ == ReceiverState::kIdle) return;
    port.Abort();
    Release();
  }

  // Gives back a buffer that the sink kept; after Shutdown too. kForeign,
  // kDoubleFree.
  Result<void> Return(const Buffer& buffer) { return refill_.Return(buffer); }
  // Each of them; the error of the first that was refused.
  Result<void> ReturnBatch(std::span<const Buffer> batch) {
    return refill_.ReturnBatch(batch);
  }
  // Bytes in front of each delivered buffer that the sink may write.
  std::uint32_t headroom() const { return refill_.headroom(); }

  // Adds what the NIC's counters say since the last time.
  void NoteDeviceLosses(std::uint64_t no_descriptor, std::uint64_t missed) {
    statistics_.rx_resource_errors += no_descriptor;
    statistics_.rx_missed_errors += missed;
  }

  ReceiverState state() const { return state_; }
  const Refiller& refill() const { return refill_; }
  const RxStatistics& statistics() const { return statistics_; }
  std::uint32_t armed() const { return queue_.armed(); }
  std::uint32_t open() const { return queue_.open(); }
  // Buffers that hold parts of a frame whose end is to come.
  std::size_t held() const { return assembly_.parts().size(); }

  bool CheckInvariants() const {
    return queue_.CheckInvariants() && assembly_.CheckInvariants() &&
           refill_.CheckInvariants() && statistics_.ConservationHolds() &&
           batch_.empty() &&
           (state_ != ReceiverState::kIdle || (queue_.empty() && held() == 0));
  }

 private:
  bool started() const {
    return state_ != ReceiverState::kIdle && state_ != ReceiverState::kBroken;
  }

  // rx_frames.h
  template <Sink SinkType>
  std::size_t Consume(SinkType& sink);
  bool IsPlain(const Completion& completion) const;
  template <Sink SinkType>
  [[gnu::noinline]] std::size_t ConsumeOdd(const Result<Completion>& snapshot,
                                           SinkType& sink);
  template <Sink SinkType>
  void DeliverWhole(const Completion& completion, std::uint32_t length,
                    SinkType& sink);
  template <Sink SinkType>
  [[gnu::noinline]] std::size_t ConsumePart(const Completion& completion,
                                            SinkType& sink);
  template <Sink SinkType>
  void EndFrame(const Completion& completion, SinkType& sink);
  template <Sink SinkType>
  void DeliverParts(std::uint32_t raw_status, SinkType& sink);
  template <Sink SinkType>
  void Deliver(const RxTaken& taken, std::uint32_t length,
               std::uint32_t raw_status, SinkType& sink);
  template <Sink SinkType>
  void DeliverBatch(SinkType& sink);
  std::uint32_t JudgeFrame(const Completion& completion);
  [[gnu::noinline]] void DropWhole(bool judged, RxArmed* armed);
  void DropParts(RxDrop reason);
  void GiveBack(const Buffer& buffer) {
    if (!refill_.Return(buffer).ok()) ++statistics_.rx_put_failed;
  }

  // rx_refill.h
  template <class Port>
  void AskReceiver(Port& port);
  // A stopped receiver that a look found to be drained may be restarted.
  void Drain(bool cut, RxLook look) {
    if (Queue::Drains(cut, look) && state_ == ReceiverState::kStopped) {
      state_ = ReceiverState::kDrained;
    }
  }
  template <class Port>
  bool KeepGoing(Port& port);
  template <class Port>
  bool Restart(Port& port);
  void Skip(std::uint32_t entries);
  Result<void> Fill();
  void Release();

  Queue queue_;
  Refiller refill_;
  bool made_ = false;
  RxRingOptions options_;
  ReceiverState state_ = ReceiverState::kIdle;
  RnrFlag<Policies::template Atom> rnr_;
  bool masked_ = false;       // an unmask did not reach the device
  bool unpublished_ = false;  // nor did what was pushed
  RxAssembly assembly_;
  RxBatch<Policies::kBatch> batch_;
  RxStatistics statistics_;
};

template <class F, Mapper M, BufferPool P, class X>
Result<void> RxRing<F, M, P, X>::Init(M* mapper, P* pool,
                                      const RxRingOptions& options) {
  if (pool == nullptr || !IsValid(options.length_policy)) {
    return Error::kInvalidArgument;
  }
  if (made_) return Error::kBusy;
  options_ = options;
  if (options_.max_frame == 0) options_.max_frame = options_.room;
  const std::uint32_t half = options_.entries / 2;
  if (options_.doorbell_batch > half) options_.doorbell_batch = half;
  if (options_.max_parts == 0 && options_.room != 0) {
    options_.max_parts = (options_.max_frame - 1) / options_.room + 1;
  }
  if (options_.max_parts > options_.entries) {
    options_.max_parts = options_.entries;
  }
  if constexpr (Queue::kScatters) {
    const Result<void> room = assembly_.Init(options_.max_parts);
    if (!room.ok()) return room;
  }
  Result<void> made =
      queue_.Init(mapper, {options_.entries, options_.room, options_.base,
                           options_.doorbell_batch, options_.features,
                           options_.chain, options_.max_parts});
  if (made.ok()) {
    made = refill_.Init(mapper, pool,
                        {options_.entries, queue_.buffer_bytes(),
                         Queue::kHeaderBytes, Queue::kDirection,
                         options_.copybreak, options_.copies, options_.pages});
  }
  made_ = made.ok();
  if (!made_) {  // as before, so that Init can be called again
    Rebuild(&queue_);
    Rebuild(&refill_);
  }
  return made;
}

template <class F, Mapper M, BufferPool P, class X>
template <Sink SinkType, class Port>
RxPollResult RxRing<F, M, P, X>::Poll(std::size_t budget, SinkType& sink,
                                      Port& port) {
  static_assert(RxPortFor<Port, Queue>);
  RxPollResult result;
  result.broken = state_ == ReceiverState::kBroken;
  if (!started()) return result;
  ++statistics_.polls;
  // Only here: what is announced from now on waits for the next pass.
  if (Queue::kStops && rnr_.Take()) AskReceiver(port);
  RxLook look = RxLook::kNothing;
  // Each turn takes an entry out of the queue, and nothing is put in.
  while (!(result.cut = result.done >= budget)) {
    const RxFound found = queue_.Look();
    look = found.look;
    Skip(found.skipped);
    if (look == RxLook::kSkipped) continue;
    if (look != RxLook::kComplete) break;
    result.done += Consume(sink);
  }
  DeliverBatch(sink);
  if (result.cut) ++statistics_.budget_cuts;
  if (look == RxLook::kFailed) ++statistics_.rx_sync_failed;
  if (look == RxLook::kBroken) {
    ++statistics_.rx_broken;
    state_ = ReceiverState::kBroken;
    result.broken = true;
    return result;
  }
  if constexpr (Queue::kStops) {
    if (Queue::AsksAfter(result.cut, look)) AskReceiver(port);
    Drain(result.cut, look);
  }
  (void)Fill();  // counted; a hole is mended next time
  result.restarted = KeepGoing(port);
  if constexpr (Queue::kStops) {
    if (result.done == 0 && look == RxLook::kNothing && !result.cut &&
        queue_.MayHaveStopped()) {
      AskReceiver(port);
    }
  }
  return result;
}

}  // namespace dmamap::inline v0

#include "nicring/rx_frames.h"  // IWYU pragma: export
#include "nicring/rx_refill.h"  // IWYU pragma: export

#endif  // DMAMAP_NICRING_RX_RING_H_
