// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_INTEL_ADVANCED_H_
#define DMAMAP_NICRING_INTEL_ADVANCED_H_

// The advanced one-buffer receive descriptor of Intel's NICs from igb and ixgbe
// to igc: 16 bytes that the device overwrites with what it has to say.
//
//   read format (the driver writes)        write-back format (the device)
//   byte 0  packet buffer address, 64      0  RSS type, packet type, header
//           bits; bit 0 is A0 or NSE       4  RSS hash, or checksum and IP id
//        8  header buffer address, 64      8  errors (31:20), status (19:0):
//           bits; bit 0 lies where DD           EOP (1), DD (0)
//           will be, and must be 0         12  packet length (15:0), VLAN tag
//
// Source: Intel 82599 10 GbE Controller Datasheet, "Advanced Receive
// Descriptors" (read format, write-back format) and the register SRRCTL
// (DESCTYPE 001b, one buffer; BSIZEPACKET in KiB). The I350, I210 and
// I225 lay out what is used here in the same way. All words little-endian.
//
// The address is gone after the write-back, so the driver's own record is what
// unmaps. A frame longer than a buffer goes on in the next one; EOP marks its
// last descriptor, and errors are valid only there.

#include <cstddef>
#include <cstdint>

#include "dma/address.h"
#include "dma/version.h"
#include "nicring/format.h"
#include "nicring/little_endian.h"

namespace dmamap::inline v0 {

namespace intel_advanced {

// In raw_status, the word at byte 8.
inline constexpr std::uint32_t kStatusDone = 1u << 0;         // DD
inline constexpr std::uint32_t kStatusEndOfPacket = 1u << 1;  // EOP
inline constexpr std::uint32_t kErrorMac = 1u << 29;          // RXE
inline constexpr std::uint32_t kErrorL4Checksum = 1u << 30;   // L4E
inline constexpr std::uint32_t kErrorIpChecksum = 1u << 31;   // IPE

}  // namespace intel_advanced

template <class Access>
struct BasicIntelAdvancedFormat {
  using Status = std::uint32_t;

  static constexpr std::uint32_t kHeaderBytes = 0;
  static constexpr std::uint32_t kAlignment = 2;  // bit 0 has another meaning
  static constexpr std::uint32_t kDescriptorBytes = 16;
  static constexpr std::uint32_t kEntriesMultiple = 8;     // RDLEN: 128 bytes
  static constexpr std::uint32_t kMaxEntries = 65536 - 8;  // RDT: 16 bits

  static constexpr Field kStatus{8, 4};
  static constexpr Field kCount{12, 4};

  // SRRCTL.BSIZEPACKET: 1 to 16 KiB, in steps of 1 KiB.
  static constexpr bool IsRoom(std::uint32_t bytes) {
    return bytes != 0 && bytes <= 16384 && bytes % 1024 == 0;
  }

  static Status LoadStatus(const std::byte* descriptor) {
    return Access::Load32(descriptor + kStatus.offset);
  }
  static constexpr bool IsComplete(Status status) {
    return (status & intel_advanced::kStatusDone) != 0;
  }
  // Checksum errors are no errors of the frame (see e1000.h).
  static Completion Snapshot(const std::byte* descriptor, Status status) {
    const std::uint32_t count = Access::Load32(descriptor + kCount.offset);
    return Completion{(status & intel_advanced::kErrorMac) == 0, count & 0xffff,
                      status,
                      (status & intel_advanced::kStatusEndOfPacket) != 0};
  }

  // Plain bytes: written only where the device cannot be. Clears DD.
  static constexpr void WriteArmed(std::byte* descriptor, Iova buffer) {
    StoreLe64(descriptor, buffer.value());
    StoreLe64(descriptor + 8, 0);
  }
};

using IntelAdvancedFormat = BasicIntelAdvancedFormat<DeviceAccess>;
static_assert(ArrayFormat<IntelAdvancedFormat>);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_INTEL_ADVANCED_H_
