// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_RECEIVER_H_
#define DMAMAP_NICRING_RECEIVER_H_

// What a receive ring asks of the world on both its sides: the registers of the
// NIC's receiver (a ReceiverPort where it stops at the end of a list, a
// DoorbellPort where it goes on when it is told of more), and a Sink, where the
// frames go.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

#include "dma/address.h"
#include "dma/result.h"
#include "dma/version.h"
#include "nicring/buffer_pool.h"

namespace dmamap::inline v0 {

// A received frame. The buffer is unmapped: the device cannot reach it.
struct RxFrame {
  const std::byte* data = nullptr;
  std::uint32_t length = 0;      // bytes
  std::uint32_t raw_status = 0;  // the device's status word
  Buffer buffer;                 // holds the frame
};

// A received frame that lies in several buffers. None is the device's.
struct RxPart {
  const std::byte* data = nullptr;
  std::uint32_t length = 0;  // bytes, not 0
  Buffer buffer;
};
struct RxScatteredFrame {
  std::span<const RxPart> parts;  // at least 2, in order; valid in the call
  std::uint64_t length = 0;       // bytes in all
  std::uint32_t raw_status = 0;   // of the last part
};

// What a sink did with the buffer of a frame, or all its buffers.
enum class BufferFate : std::uint8_t {
  kReturn,  // done with it: the ring puts it back into the pool
  kKeep,    // the sink owns it now and puts it back itself
};

// Takes the frames, one call each, in order.
template <class S>
concept FrameSink = requires(S& sink, const RxFrame& frame) {
  { sink.Deliver(frame) } -> std::same_as<BufferFate>;
};

// Takes them in batches, in order: each time as many as a pass has, at most
// RxPolicies::kBatch. fates[i] says what became of the buffer of frames[i]:
// kReturn on entry. Both are valid in the call.
template <class S>
concept BatchSink = requires(S& sink, std::span<const RxFrame> frames,
                             std::span<BufferFate> fates) {
  sink.DeliverBatch(frames, fates);
};

// A sink that is both gets batches.
template <class S>
concept Sink = FrameSink<S> || BatchSink<S>;

// A sink that also takes frames that lie in several buffers. For any other such
// a frame is dropped, and counted.
template <class S>
concept ScatterSink = Sink<S> && requires(S& sink, const RxScatteredFrame& f) {
  { sink.DeliverScattered(f) } -> std::same_as<BufferFate>;
};

// The registers of a receiver that stops at the end of its list. Each function
// must have reached the device when it returns.
template <class P>
concept ReceiverPort = requires(P& port, Iova first) {
  // Starts a receiver that is not running at the descriptor `first`.
  { port.Start(first) } -> std::same_as<Result<void>>;
  // True when the receiver is not running and has stopped writing. Acquire:
  // all that it wrote before is visible after (on PCI, a register read pushes
  // the device's posted writes ahead of it).
  { port.Stopped() } -> std::same_as<bool>;
  // Clears a pending "receiver not ready" interrupt.
  port.AcknowledgeRnr();
  // Stops the receiver: it reaches no descriptor any more.
  port.Abort();
};

// Where the parts of a ring lie, for the device's registers.
struct RingAddresses {
  Iova descriptors = {};      // the descriptor array
  Iova driver = {};           // virtio: the driver area
  Iova device = {};           // virtio: the device area
  std::uint32_t entries = 0;  // descriptors
  std::uint32_t room = 0;     // bytes of each buffer, as the device must know
};

// The registers of a receiver that a doorbell keeps going. Start and Abort must
// have reached the device when they return; Doorbell may be posted.
template <class P>
concept DoorbellPort = requires(P& port, const RingAddresses& ring,
                                std::uint32_t tail) {
  // Starts a receiver that is not running, head and tail at 0.
  { port.Start(ring) } -> std::same_as<Result<void>>;
  // The device may use every entry before `tail`, as the format counts it.
  port.Doorbell(tail);
  // Stops the receiver: it reaches no memory any more.
  port.Abort();
};

// The registers of a transmitter that suspends at the end of its list. Start,
// Resume and Abort must have reached the device when they return.
template <class P>
concept CommandPort = requires(P& port, const RingAddresses& ring) {
  // Starts a transmitter that is not running, at the first descriptor.
  { port.Start(ring) } -> std::same_as<Result<void>>;
  // True when it is suspended. Acquire: all that it wrote before is visible.
  { port.Suspended() } -> std::same_as<bool>;
  // It goes on behind the descriptor at which it is suspended.
  port.Resume();
  // Stops the transmitter: it reaches no memory any more.
  port.Abort();
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_RECEIVER_H_
