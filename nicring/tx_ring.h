// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_TX_RING_H_
#define DMAMAP_NICRING_TX_RING_H_

// TxRing: sends frames, of one or several segments, and gives them back when
// the device is done with them.
//
//   TxRing<E1000TxFormat, IdentityMapper> ring;
//   ring.Init(&mapper, {.entries = 256});
//   ring.Start(port);        // port: a DoorbellPort (i8255x: a CommandPort)
//   if (!ring.stopped()) ring.Post({segments, token});   // ... and more
//   ring.Kick(port);                        // one doorbell for all of them
//   TxPollResult r = ring.Poll(64, sink, port);          // sink: a TxSink
//   if (r.woken) <the stack may go on>
//
// Stop and wake. The ring stops when a frame of max_segments might not fit any
// more, and wakes in a poll once `wake` descriptors are free: far enough apart
// that the two do not alternate frame by frame. While it is stopped Post still
// takes what fits; a caller that heeds stopped() is never refused for space.
//
// Every frame that Post took is given to the sink once: sent, with an error,
// cancelled by Shutdown (a reset of the device), or quarantined. What the
// device says decides when, and never which.
//
// Keeps guarantees 6, 7 and 11: a poll gives back at most `budget` frames, and
// only frames that are in the ring. Not thread-safe: posts and polls of one
// ring must be ordered (a driver's transmit lock, or both in one Napi poll).

#include <cstddef>
#include <cstdint>
#include <utility>

#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"
#include "nicring/receiver.h"
#include "nicring/rx_queue.h"
#include "nicring/tx_queue.h"

namespace dmamap::inline v0 {

struct TxRingOptions {
  std::uint32_t entries = 256;
  std::uint32_t max_segments = 16;  // of one frame; more are refused
  // Free descriptors at which the ring wakes; 0: a quarter of the ring,
  // and at least twice max_segments where the ring has as many.
  std::uint32_t wake = 0;
  std::uint64_t features = 0;  // virtio: the feature bits negotiated
  std::uint32_t room = 0;      // i8255x: bytes of the longest frame
};

struct TxPollResult {
  std::size_t done = 0;  // frames given back
  bool cut = false;      // the budget ended the pass: poll again
  bool woken = false;    // the ring was stopped, and is not any more
  bool broken = false;   // (virtio) Shutdown, Start
};

// Conservation: tx_posted = tx_packets + tx_errors + tx_cancelled
//                           + tx_quarantined + frames in the ring.
struct TxStatistics {
  std::uint64_t tx_posted = 0;       // frames that Post took
  std::uint64_t tx_packets = 0;      // sent
  std::uint64_t tx_bytes = 0;        // bytes of these
  std::uint64_t tx_errors = 0;       // the device could not send them
  std::uint64_t tx_cancelled = 0;    // taken back by Shutdown
  std::uint64_t tx_quarantined = 0;  // could not be unmapped
  std::uint64_t tx_busy = 0;         // posts refused: no space
  std::uint64_t tx_map_failed = 0;   // posts refused: the mapper
  std::uint64_t tx_sync_failed = 0;  // looks that failed; tried again
  std::uint64_t tx_broken = 0;       // times the device said what cannot be
  std::uint64_t tx_stops = 0;
  std::uint64_t tx_wakes = 0;
  std::uint64_t doorbells = 0;
  std::uint64_t polls = 0;
  std::uint64_t budget_cuts = 0;
};

template <class Format, Mapper MapperType>
class TxRing {
 public:
  using Queue = typename TxQueueOf<Format, MapperType>::Type;
  static_assert(TxQueue<Queue>);

  TxRing() = default;
  TxRing(const TxRing&) = delete;
  TxRing& operator=(const TxRing&) = delete;
  // Unmaps what is still posted; no sink hears of it (Shutdown tells).
  // REQUIRES: the device cannot reach the ring's memory; the mapper lives.
  ~TxRing() {
    if (queue_.frames() != 0) queue_.Clear([](const TxDone&) {});
  }

  // kBusy the second time; kInvalidArgument, also for thresholds that the ring
  // cannot meet; kLimit, kNoMemory, the mapper's errors. After an error the
  // ring is as before.
  Result<void> Init(MapperType* mapper, const TxRingOptions& options) {
    if (ready_) return Error::kBusy;
    if (options.entries < 2 || options.max_segments == 0 ||
        options.max_segments > options.entries - 1 ||
        options.wake > options.entries - 1) {
      return Error::kInvalidArgument;
    }
    const Result<void> made =
        queue_.Init(mapper, {options.entries, options.features, options.room});
    if (!made.ok()) {  // as before, so that Init can be called again
      Rebuild(&queue_);
      return made;
    }
    options_ = options;
    if (options_.wake == 0) {
      const std::uint32_t twice = 2 * options.max_segments;
      options_.wake = options.entries / 4 < twice ? twice : options.entries / 4;
      if (options_.wake > queue_.capacity()) options_.wake = queue_.capacity();
    }
    if (options_.wake < options_.max_segments) {
      options_.wake = options_.max_segments;
    }
    ready_ = true;
    return Ok();
  }

  // kShutDown before Init, kBusy when started, the port's errors.
  template <TxPortOf<Queue> Port>
  Result<void> Start(Port& port) {
    if (!ready_) return Error::kShutDown;
    if (started_) return Error::kBusy;
    const Result<void> started = port.Start(queue_.addresses());
    started_ = started.ok();
    return started;
  }

  // Takes a frame; the device learns of it by Kick. kShutDown when not started,
  // kLimit for more than max_segments, kNoSpace, kInvalidArgument, the mapper's
  // errors. The frame is the caller's then; kBusy: but a segment of it stayed
  // mapped, so its memory must not be used again.
  Result<void> Post(const TxFrame& frame) {
    if (!started_) return Error::kShutDown;
    if (frame.segments.size() > options_.max_segments) return Error::kLimit;
    const Result<void> posted = queue_.Post(frame);
    if (posted.ok()) {
      ++statistics_.tx_posted;
    } else if (posted.error() == Error::kNoSpace) {
      ++statistics_.tx_busy;
    } else if (posted.error() != Error::kInvalidArgument) {
      ++statistics_.tx_map_failed;
    }
    if (!stopped_ && queue_.free() < options_.max_segments) {
      stopped_ = true;
      ++statistics_.tx_stops;
    }
    return posted;
  }

  // Tells the device of what was posted since the last time, if anything.
  template <TxPortOf<Queue> Port>
  void Kick(Port& port) {
    if (!started_) return;
    if constexpr (ResumedQueue<Queue>) {
      const bool suspended = port.Suspended();  // before what is complete
      if (!queue_.TakeDoorbell() || !suspended) return;
      ++statistics_.doorbells;
      port.Resume();
    } else if (queue_.TakeDoorbell()) {
      ++statistics_.doorbells;
      port.Doorbell(queue_.doorbell());
    }
  }

  // Gives back at most `budget` frames that are done. Kicks too, so that a
  // forgotten doorbell hangs nothing for longer than a poll.
  template <TxSink Sink, TxPortOf<Queue> Port>
  TxPollResult Poll(std::size_t budget, Sink& sink, Port& port) {
    TxPollResult result;
    if (!started_) return result;
    ++statistics_.polls;
    Kick(port);
    while (!(result.cut = result.done >= budget)) {
      const TxLook look = queue_.Look();
      if (look == TxLook::kFailed) ++statistics_.tx_sync_failed;
      if (look == TxLook::kBroken) {
        result.broken = true;
        if (!std::exchange(broken_, true)) ++statistics_.tx_broken;
      }
      if (look != TxLook::kComplete) break;
      GiveBack(queue_.Pop(), sink);
      ++result.done;
    }
    if (result.cut) ++statistics_.budget_cuts;
    result.woken = stopped_ && queue_.free() >= options_.wake;
    if (result.woken) {
      stopped_ = false;
      ++statistics_.tx_wakes;
    }
    return result;
  }

  // True when a poll would find a frame that is done, or nobody would tell if
  // it did: the device could not be shown the unmask, or the look failed. Does
  // not count as a poll.
  bool HasWork() {
    if (!started_ || broken_) return false;
    return masked_ || queue_.Look() != TxLook::kNothing;
  }

  // As those of RxRing, for a queue that is masked in its own memory (virtio).
  void Mask() requires MaskedInMemory<Queue> { (void)queue_.Mask(); }
  void Unmask() requires MaskedInMemory<Queue> { masked_ = !queue_.Unmask(); }
  void Acknowledge() requires MaskedInMemory<Queue> {}

  // Stops the device and gives back every frame as cancelled. Start may follow.
  template <TxSink Sink, TxPortOf<Queue> Port>
  void Shutdown(Sink& sink, Port& port) {
    if (!started_) return;
    port.Abort();
    queue_.Clear([&](const TxDone& done) { GiveBack(done, sink); });
    started_ = stopped_ = broken_ = masked_ = false;
  }

  bool stopped() const { return stopped_; }
  std::uint32_t free() const { return queue_.free(); }
  std::uint32_t frames() const { return queue_.frames(); }
  const TxStatistics& statistics() const { return statistics_; }

  bool CheckInvariants() const {
    const TxStatistics& s = statistics_;
    return queue_.CheckInvariants() &&
           s.tx_posted == s.tx_packets + s.tx_errors + s.tx_cancelled +
                              s.tx_quarantined + queue_.frames() &&
           s.tx_wakes <= s.tx_stops &&
           (stopped_ || !started_ || queue_.free() >= options_.max_segments);
  }

 private:
  template <TxSink Sink>
  void GiveBack(const TxDone& done, Sink& sink) {
    switch (done.fate) {
      case TxFate::kSent:
        ++statistics_.tx_packets;
        statistics_.tx_bytes += done.bytes;
        break;
      case TxFate::kError:
        ++statistics_.tx_errors;
        break;
      case TxFate::kCancelled:
        ++statistics_.tx_cancelled;
        break;
      case TxFate::kQuarantined:
        ++statistics_.tx_quarantined;
        break;
    }
    sink.Done(done);
  }

  Queue queue_;
  TxRingOptions options_;
  bool ready_ = false;
  bool started_ = false;
  bool stopped_ = false;
  bool broken_ = false;
  bool masked_ = false;  // an unmask did not reach the device
  TxStatistics statistics_;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_TX_RING_H_
