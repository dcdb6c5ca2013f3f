// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_RECEIVER_H_
#define DMAMAP_NICRING_RECEIVER_H_

// What a receive ring asks of the world on both its sides: a ReceiverPort, the
// registers of the NIC's receiver, and a Sink, where the frames go.

#include <concepts>
#include <cstddef>
#include <cstdint>

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
  Buffer buffer;                 // holds the frame behind the descriptor
};

// What a sink did with the buffer of a frame.
enum class BufferFate : std::uint8_t {
  kReturn,  // done with it: the ring puts it back into the pool
  kKeep,    // the sink owns it now and puts it back itself
};

// Takes the frames, one call each, in order.
template <class S>
concept Sink = requires(S& sink, const RxFrame& frame) {
  { sink.Deliver(frame) } -> std::same_as<BufferFate>;
};

// The registers of a receiver. Each function must have reached the device when
// it returns.
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

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_RECEIVER_H_
