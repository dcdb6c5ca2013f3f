// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_E1000_H_
#define DMAMAP_NICRING_E1000_H_

// The legacy receive descriptor of the Intel 8254x family (e1000: 82540EM,
// 82545, ...), 16 bytes in an array between the head and tail registers.
//
//   byte 0   buffer address, 64 bits                       the driver writes
//        8   length, bytes stored in this buffer (16)      the device writes
//       10   packet checksum (16)
//       12   status  PIF TCPCS IPCS (7:5) VP (3) IXSM (2) EOP (1) DD (0)
//       13   errors  RXE IPE TCPE (7:5) CXE SEQ SE CE (4,2,1,0)
//       14   special: the VLAN tag (16)
//
// Source: Intel PCI/PCI-X Family of Gigabit Ethernet Controllers Software
// Developer's Manual (8254x): "Receive Descriptor Format" (layout, status
// field, error field), the receive descriptor queue, and the registers RCTL
// (buffer sizes), RDLEN (a multiple of 128 bytes), RDH and RDT. All words
// little-endian.
//
// A frame longer than a buffer goes on in the next one; EOP marks its last
// descriptor. Length and checksum are valid in each, errors only with EOP.
// The four bytes from 12 on are loaded as one word, which says who
// owns the descriptor: DD is written with EOP and the errors.
//
// The IP and TCP checksum errors are no errors of the frame: the driver that
// asked for the check finds them in raw_status.

#include <cstddef>
#include <cstdint>

#include "dma/address.h"
#include "dma/version.h"
#include "nicring/format.h"
#include "nicring/little_endian.h"

namespace dmamap::inline v0 {

namespace e1000 {

// In raw_status, the word at byte 12.
inline constexpr std::uint32_t kStatusDone = 1u << 0;            // DD
inline constexpr std::uint32_t kStatusEndOfPacket = 1u << 1;     // EOP
inline constexpr std::uint32_t kStatusIgnoreChecksum = 1u << 2;  // IXSM
inline constexpr std::uint32_t kStatusVlan = 1u << 3;            // VP
inline constexpr std::uint32_t kErrorCrc = 1u << 8;              // CE
inline constexpr std::uint32_t kErrorSymbol = 1u << 9;           // SE
inline constexpr std::uint32_t kErrorSequence = 1u << 10;        // SEQ
inline constexpr std::uint32_t kErrorCarrier = 1u << 12;         // CXE
inline constexpr std::uint32_t kErrorTcpChecksum = 1u << 13;     // TCPE
inline constexpr std::uint32_t kErrorIpChecksum = 1u << 14;      // IPE
inline constexpr std::uint32_t kErrorData = 1u << 15;            // RXE
// Errors of the frame itself.
inline constexpr std::uint32_t kFrameErrors =
    kErrorCrc | kErrorSymbol | kErrorSequence | kErrorCarrier | kErrorData;

}  // namespace e1000

// The format. Access loads the words that the device writes; a test counts its
// calls.
template <class Access>
struct BasicE1000Format {
  using Status = std::uint32_t;

  static constexpr std::uint32_t kHeaderBytes = 0;
  static constexpr std::uint32_t kAlignment = 1;
  static constexpr std::uint32_t kDescriptorBytes = 16;
  static constexpr std::uint32_t kEntriesMultiple = 8;     // RDLEN: 128 bytes
  static constexpr std::uint32_t kMaxEntries = 65536 - 8;  // RDT: 16 bits

  static constexpr Field kCount{8, 4};
  static constexpr Field kStatus{12, 4};

  // RCTL.BSIZE and BSEX: a power of two from 256 to 16384, in bytes.
  static constexpr bool IsRoom(std::uint32_t bytes) {
    return bytes >= 256 && bytes <= 16384 && (bytes & (bytes - 1)) == 0;
  }

  static Status LoadStatus(const std::byte* descriptor) {
    return Access::Load32(descriptor + kStatus.offset);
  }
  static constexpr bool IsComplete(Status status) {
    return (status & e1000::kStatusDone) != 0;
  }
  static Completion Snapshot(const std::byte* descriptor, Status status) {
    const std::uint32_t count = Access::Load32(descriptor + kCount.offset);
    return Completion{(status & e1000::kFrameErrors) == 0, count & 0xffff,
                      status, (status & e1000::kStatusEndOfPacket) != 0};
  }

  // Plain bytes: written only where the device cannot be. Clears DD.
  static constexpr void WriteArmed(std::byte* descriptor, Iova buffer) {
    StoreLe64(descriptor, buffer.value());
    StoreLe64(descriptor + 8, 0);
  }
};

using E1000Format = BasicE1000Format<DeviceAccess>;
static_assert(ArrayFormat<E1000Format>);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_E1000_H_
