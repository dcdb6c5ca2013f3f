// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_VIRTIO_TX_H_
#define DMAMAP_NICRING_VIRTIO_TX_H_

// Transmit queues of a virtio 1.x network device: split and packed (virtio 1.2,
// 2.7, 2.8 and 5.1.6.2).
//
//   TxRing<VirtioSplitTxFormat, IdentityMapper> ring;
//   ring.Init(&mapper, {.entries = 256, .features = negotiated});
//
// A frame is a chain: a descriptor for its virtio_net_hdr, then one for each
// segment. No offload is asked for, so all headers are the same twelve zero
// bytes, and every frame names the same ones, in the ring's memory. Indirect
// descriptors and VIRTIO_F_IN_ORDER are left out, as in virtio.h.

#include <concepts>
#include <type_traits>

#include "dma/mapper.h"
#include "dma/version.h"
#include "nicring/format.h"
#include "nicring/tx_packed_queue.h"
#include "nicring/tx_queue.h"
#include "nicring/tx_split_queue.h"

namespace dmamap::inline v0 {

// The formats. Accessor loads and stores the words that both sides touch; a
// test counts its calls.
template <class Accessor>
struct BasicVirtioSplitTxFormat {
  using Access = Accessor;
  static constexpr bool kPackedTx = false;
};
template <class Accessor>
struct BasicVirtioPackedTxFormat {
  using Access = Accessor;
  static constexpr bool kPackedTx = true;
};
using VirtioSplitTxFormat = BasicVirtioSplitTxFormat<DeviceAccess>;
using VirtioPackedTxFormat = BasicVirtioPackedTxFormat<DeviceAccess>;

template <class F>
concept VirtioTxFormat = requires {
  typename F::Access;
  { F::kPackedTx } -> std::convertible_to<bool>;
};

template <VirtioTxFormat Format, Mapper MapperType>
struct TxQueueOf<Format, MapperType> {
  using Access = typename Format::Access;
  using Type =
      std::conditional_t<Format::kPackedTx, TxPackedQueue<Access, MapperType>,
                         TxSplitQueue<Access, MapperType>>;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_VIRTIO_TX_H_
