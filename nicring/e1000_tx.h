// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_E1000_TX_H_
#define DMAMAP_NICRING_E1000_TX_H_

// The legacy transmit descriptor of the Intel 8254x family (e1000), 16 bytes in
// an array between the head and tail registers.
//
//   byte 0   buffer address, 64 bits
//        8   length (16)
//       10   checksum offset
//       11   command  DEXT (5, 0 here) RS (3) IFCS (1) EOP (0)
//       12   status   TU (3) LC (2) EC (1) DD (0)           the device writes
//       13   checksum start
//       14   special
//
// Source: 8254x Software Developer's Manual, "Legacy Transmit Descriptor
// Format" (layout, command and status field) and the registers TDH and TDT. All
// words little-endian. Each
// descriptor of a frame asks for the FCS, the last one also for a report: DD.

#include <cstddef>
#include <cstdint>

#include "dma/address.h"
#include "dma/version.h"
#include "nicring/format.h"
#include "nicring/little_endian.h"
#include "nicring/tx_array.h"

namespace dmamap::inline v0 {

namespace e1000 {

inline constexpr std::uint32_t kTxEndOfPacket = 1u << 0;  // EOP
inline constexpr std::uint32_t kTxInsertFcs = 1u << 1;    // IFCS
inline constexpr std::uint32_t kTxReport = 1u << 3;       // RS
inline constexpr std::uint32_t kTxDone = 1u << 0;         // DD
inline constexpr std::uint32_t kTxExcessCollisions = 1u << 1;
inline constexpr std::uint32_t kTxLateCollision = 1u << 2;
inline constexpr std::uint32_t kTxUnderrun = 1u << 3;  // 82544 only

}  // namespace e1000

template <class Access>
struct BasicE1000TxFormat {
  using Status = std::uint32_t;

  static constexpr std::uint32_t kDescriptorBytes = 16;
  static constexpr std::uint32_t kEntriesMultiple = 8;      // TDLEN: 128 bytes
  static constexpr std::uint32_t kMaxEntries = 65536 - 8;   // TDT: 16 bits
  static constexpr std::uint32_t kMaxSegmentBytes = 16288;  // its Length field
  static constexpr Field kStatus{12, 4};

  static Status LoadStatus(const std::byte* descriptor) {
    return Access::Load32(descriptor + kStatus.offset);
  }
  static constexpr bool IsComplete(Status status) {
    return (status & e1000::kTxDone) != 0;
  }
  static constexpr bool IsGood(Status status) {
    return (status & (e1000::kTxExcessCollisions | e1000::kTxLateCollision |
                      e1000::kTxUnderrun)) == 0;
  }
  // Plain bytes: written only where the device cannot be. Clears DD.
  static constexpr void WritePosted(std::byte* descriptor, Iova at,
                                    std::uint32_t bytes, TxPlace place) {
    const std::uint32_t last =
        place == TxPlace::kLast ? e1000::kTxEndOfPacket | e1000::kTxReport : 0;
    StoreLe64(descriptor, at.value());
    StoreLe32(descriptor + 8, (bytes & 0xffff) | (e1000::kTxInsertFcs | last)
                                                     << 24);
    StoreLe32(descriptor + 12, 0);
  }
};

using E1000TxFormat = BasicE1000TxFormat<DeviceAccess>;
static_assert(TxArrayFormat<E1000TxFormat>);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_E1000_TX_H_
