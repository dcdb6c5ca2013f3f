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
// Source: the datasheets of the Intel 82599 (ixgbe), I350, I210 (igb) and I225
// (igc), "Advanced Receive Descriptors" (read format, write-back format) and
// the register SRRCTL (DESCTYPE 001b, one buffer; BSIZEPACKET in KiB). All
// words little-endian. The two lines of NICs differ in the top three error
// bits, and in nothing else that is used here:
//
//   bit               29                  30                  31
//   82599 and later   RXE: any MAC error  L4E: TCP, UDP sum   IPE: IP sum
//   igb, igc          L4E: TCP, UDP sum   IPE: IP sum         RXE: MAC error
//
// The wrong one of the two drops good frames and delivers bad ones.
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

// Error bits, in the same word: of the 82599, X540, X550 ...
struct IxgbeErrors {
  static constexpr std::uint32_t kMac = 1u << 29;         // RXE
  static constexpr std::uint32_t kL4Checksum = 1u << 30;  // L4E
  static constexpr std::uint32_t kIpChecksum = 1u << 31;  // IPE
};
// ... and of the 82576, I350, I210 (igb), I225 and I226 (igc).
struct IgbErrors {
  static constexpr std::uint32_t kL4Checksum = 1u << 29;  // L4E
  static constexpr std::uint32_t kIpChecksum = 1u << 30;  // IPE
  static constexpr std::uint32_t kMac = 1u << 31;         // RXE
};

}  // namespace intel_advanced

template <class Access, class ErrorBits>
struct BasicIntelAdvancedFormat {
  using Errors = ErrorBits;
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
    return Completion{(status & Errors::kMac) == 0, count & 0xffff, status,
                      (status & intel_advanced::kStatusEndOfPacket) != 0};
  }

  // Plain bytes: written only where the device cannot be. Clears DD.
  static constexpr void WriteArmed(std::byte* descriptor, Iova buffer) {
    StoreLe64(descriptor, buffer.value());
    StoreLe64(descriptor + 8, 0);
  }
};

using IxgbeFormat =
    BasicIntelAdvancedFormat<DeviceAccess, intel_advanced::IxgbeErrors>;
using IgbFormat =  // igc's too
    BasicIntelAdvancedFormat<DeviceAccess, intel_advanced::IgbErrors>;
static_assert(ArrayFormat<IxgbeFormat> && ArrayFormat<IgbFormat>);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_INTEL_ADVANCED_H_
