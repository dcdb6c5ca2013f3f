// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_VIRTIO_H_
#define DMAMAP_NICRING_VIRTIO_H_

// Receive queues of a virtio 1.x network device: split and packed.
//
//   RxRing<VirtioSplitFormat, IdentityMapper, FixedPool> ring;
//   ring.Init(&mapper, &pool, {.entries = 256, .room = 1524,
//                              .features = negotiated});
//   Napi napi(&ring);   // its interrupts are masked in the queue's memory;
//                       // one that is a line: VirtioLine (interrupts.h)
//
// Source: Virtual I/O Device (VIRTIO) Version 1.2, 2.7 (split virtqueues), 2.8
// (packed virtqueues), 5.1.6 (virtio_net_hdr). All words little-endian.
//
//   split   descriptor table  addr 64, len 32, flags 16, next 16      2.7.5
//           available ring    flags, idx, ring[size] of 16, used_event 2.7.6
//           used ring         flags, idx, {id, len} of 32, avail_event 2.7.8
//   packed  descriptor ring   addr 64, len 32, id 16, flags 16        2.8.13
//           event suppression off_wrap 16, flags 16, one each way     2.8.14
//   header  flags 8, gso_type 8, hdr_len 16, gso_size 16,
//           csum_start 16, csum_offset 16, num_buffers 16             5.1.6
//
// Every buffer begins with room for the header (kNetHeaderBytes); a frame's
// data stand behind it, and RxFrame::data - kNetHeaderBytes is the header of a
// frame whose buffer is its first. raw_status is flags and gso_type (bits 8 to
// 15). RxRingOptions::room counts data bytes: the buffer has that and the
// header. RxRingOptions::chain > 1 offers that many buffers as one chain, for
// frames larger than a buffer where VIRTIO_NET_F_MRG_RXBUF was not negotiated.
//
// What is left out: legacy devices (no VIRTIO_F_VERSION_1), indirect
// descriptors, VIRTIO_F_IN_ORDER, VIRTIO_NET_F_HASH_REPORT (a longer header).
// Init answers kUnsupported to a feature that would change what is here.

#include <cstddef>
#include <cstdint>

#include "dma/version.h"
#include "nicring/format.h"
#include "nicring/rx_packed_queue.h"
#include "nicring/rx_queue.h"
#include "nicring/rx_split_queue.h"
#include "nicring/virtio_layout.h"

namespace dmamap::inline v0 {

// The formats. Accessor loads and stores the words that both sides touch; a
// test counts its calls.
template <class Accessor>
struct BasicVirtioSplitFormat {
  using Access = Accessor;
  static constexpr bool kPacked = false;
};
template <class Accessor>
struct BasicVirtioPackedFormat {
  using Access = Accessor;
  static constexpr bool kPacked = true;
};

using VirtioSplitFormat = BasicVirtioSplitFormat<DeviceAccess>;
using VirtioPackedFormat = BasicVirtioPackedFormat<DeviceAccess>;
static_assert(VirtqueueFormat<VirtioSplitFormat>);
static_assert(VirtqueueFormat<VirtioPackedFormat>);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_VIRTIO_H_
