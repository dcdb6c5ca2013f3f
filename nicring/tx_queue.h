// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_TX_QUEUE_H_
#define DMAMAP_NICRING_TX_QUEUE_H_

// What a transmit ring takes and gives back, and TxQueue: what TxRing asks of
// the posted descriptors of a transmitter, whatever family the device is of.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

#include "dma/address.h"
#include "dma/result.h"
#include "dma/version.h"
#include "nicring/format.h"
#include "nicring/receiver.h"

namespace dmamap::inline v0 {

// A piece of a frame, in memory that stays as it is until the frame is done.
struct TxSegment {
  PhysAddr address;
  std::uint32_t length = 0;  // bytes, not 0
  // The same bytes for the CPU; of use to a format that copies (i8255x_tx.h),
  // and to no other.
  const std::byte* data = nullptr;
};

struct TxFrame {
  std::span<const TxSegment> segments;  // in order, at least one
  std::uint64_t token = 0;  // opaque: comes back when the frame is done
};

enum class TxFate : std::uint8_t {
  kSent,         // the device says so
  kError,        // the device says that it could not
  kCancelled,    // taken back: it may have been sent, or not
  kQuarantined,  // a segment could not be unmapped: the device may still read
                 // it, so the memory must not be used again
};

struct TxDone {
  std::uint64_t token = 0;
  std::uint64_t bytes = 0;
  TxFate fate = TxFate::kSent;
};

// Takes the frames that are done, one call each.
template <class S>
concept TxSink = requires(S& sink, const TxDone& done) {
  sink.Done(done);
};

enum class TxLook : std::uint8_t {
  kNothing,   // the device is not done with any frame
  kComplete,  // it is done with one
  kFailed,    // the mapper refused to sync
  kBroken,    // it said what cannot be: nothing it says counts any more
};

struct TxQueueOptions {
  std::uint32_t entries = 0;   // descriptors
  std::uint64_t features = 0;  // virtio: as negotiated
  std::uint32_t room = 0;      // i8255x: bytes of the longest frame
};

template <class Q>
concept TxQueue = requires(Q& q, const Q& c, const TxFrame& frame,
                           void (*give_back)(const TxDone&)) {
  // Segments that one more frame may have, and the most that one ever may.
  { c.free() } -> std::same_as<std::uint32_t>;
  { c.capacity() } -> std::same_as<std::uint32_t>;
  { c.frames() } -> std::same_as<std::uint32_t>;  // not yet done
  // Maps and writes the frame. After an error nothing of it is left; kBusy
  // means that a segment could not even be unmapped again (see kQuarantined).
  { q.Post(frame) } -> std::same_as<Result<void>>;
  { c.addresses() } -> std::same_as<RingAddresses>;
  // As DoorbellQueue (rx_queue.h).
  { q.TakeDoorbell() } -> std::same_as<bool>;
  { c.doorbell() } -> std::same_as<std::uint32_t>;
  // Looks for a frame that is done; a second look loads nothing again.
  { q.Look() } -> std::same_as<TxLook>;
  // Takes it out, unmapped. REQUIRES: Look said kComplete.
  { q.Pop() } -> std::same_as<TxDone>;
  // Takes everything out, as cancelled. REQUIRES: the device is stopped.
  q.Clear(give_back);
  { c.CheckInvariants() } -> std::same_as<bool>;
};

// A queue whose interrupt is masked by words in its own memory. False when the
// device could not be shown it.
template <class Q>
concept MaskedInMemory = TxQueue<Q> && requires(Q& q) {
  { q.Mask() } -> std::same_as<bool>;
  { q.Unmask() } -> std::same_as<bool>;
};

// A queue whose device suspends at the end of the list. TakeDoorbell is true
// when a device that was seen suspended before the call has something to do.
template <class Q>
concept ResumedQueue = TxQueue<Q> && requires {
  requires Q::kResumes;
};
// The registers that a queue goes with.
template <class P, class Q>
concept TxPortOf = (ResumedQueue<Q> && CommandPort<P>) ||
                   (!ResumedQueue<Q> && DoorbellPort<P>);

// The queue that a format takes: TxQueueOf<Format, Mapper>::Type.
template <class Format, class MapperType>
struct TxQueueOf;

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_TX_QUEUE_H_
