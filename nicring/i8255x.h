// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_I8255X_H_
#define DMAMAP_NICRING_I8255X_H_

// The receive frame descriptor (RFD) of the Intel 8255x family (e100), in
// simplified mode: 16 bytes in front of the frame, in the same buffer.
//
//   byte 0   status  C (15), OK (13), errors (12:0)        the device writes
//        2   command EL (15), S (14), H (4), SF (3)
//        4   link    offset of the next RFD from the RU base, unaligned
//        8   reserved (the RBD address of flexible mode)
//       12   count   EOF (15), F (14), bytes stored (13:0)  the device writes
//       14   size    bytes of room (13:0), even
//       16   the frame
//
// Source: Intel 8255x 10/100 Mbps Ethernet Controller Family Open Source
// Software Developer Manual, 6.4.3.1.2 and table 52; all words little-endian.
//
// The end of the list. EL stops the receive unit *after* the frame in that RFD
// (6.4.3.1.2), so that a driver that appends to the last RFD races the device
// for its header. Hence the rule of Linux's e100 (commit 7734f6e6bcd7): EL on
// and size 0 in the RFD *before* the last. The device stops there and writes
// nothing; the link of the RFD behind can be written at leisure. The stop moves
// on in the order of kPublishOrder:
//   link   behind the stop, where the device cannot be;
//   close  the new stop, also behind the old one;
//   reopen clears EL of the old stop. A device that looks now sees room for 0
//          bytes and no EL: it *skips* the RFD (the ring finds that out);
//   restore sets its size. A device that looks at EL before and at the size
//          after sees room and EL: it fills the RFD and stops.
// The size comes last also because on a machine without coherent caches each
// store carries its cache line: until the size is there, the device writes no
// status that the line could overwrite.

#include <array>
#include <cstddef>
#include <cstdint>

#include "dma/version.h"
#include "nicring/format.h"
#include "nicring/little_endian.h"

namespace dmamap::inline v0 {

namespace i8255x {

inline constexpr std::uint16_t kStatusComplete = 1u << 15;  // C
inline constexpr std::uint16_t kStatusOk = 1u << 13;        // OK
inline constexpr std::uint16_t kStatusCrc = 1u << 11;
inline constexpr std::uint16_t kStatusAlignment = 1u << 10;
inline constexpr std::uint16_t kStatusNoRoom = 1u << 9;  // frame > size
inline constexpr std::uint16_t kStatusOverrun = 1u << 8;
inline constexpr std::uint16_t kStatusShort = 1u << 7;
inline constexpr std::uint16_t kCommandEl = 1u << 15;
inline constexpr std::uint16_t kCommandSuspend = 1u << 14;  // S
inline constexpr std::uint16_t kCountEof = 1u << 15;
inline constexpr std::uint16_t kCountF = 1u << 14;
inline constexpr std::uint16_t kCountMask = 0x3fff;
inline constexpr std::uint16_t kSizeMask = 0x3fff;

}  // namespace i8255x

// The format. Access loads and stores the words that both sides touch; a test
// counts its calls.
template <class Access>
struct BasicI8255xFormat {
  using Status = std::uint16_t;

  static constexpr std::uint32_t kHeaderBytes = 16;
  // Both 16-bit words that change under the device's eyes are whole accesses.
  // Linux puts the RFD at 2 modulo 4, to align the IP header: the 32-bit link
  // is not aligned.
  static constexpr std::uint32_t kAlignment = 2;
  static constexpr std::uint32_t kMaxFrameBytes = i8255x::kSizeMask - 1;

  static constexpr Field kStatus{0, 2};
  static constexpr Field kCommand{2, 2};
  static constexpr Field kLink{4, 4};
  static constexpr Field kCount{12, 2};
  static constexpr Field kSize{14, 2};

  static constexpr std::array<ListStep, 4> kPublishOrder = {
      ListStep::kLink, ListStep::kClose, ListStep::kReopen, ListStep::kRestore};

  static Status LoadStatus(const std::byte* rfd) {
    return Access::Load16(rfd + kStatus.offset);
  }
  static constexpr bool IsComplete(Status status) {
    return (status & i8255x::kStatusComplete) != 0;
  }
  // EOF and F are not looked at: in simplified mode they are always set, and
  // some models of the device never set them.
  static Completion Snapshot(const std::byte* rfd, Status status) {
    const std::uint16_t count = Access::Load16(rfd + kCount.offset);
    return Completion{(status & i8255x::kStatusOk) != 0,
                      static_cast<std::uint32_t>(count & i8255x::kCountMask),
                      status};
  }

  // `size` bytes of room, even (6.4.3.1.2), at most kMaxFrameBytes. Clears C,
  // EOF and F, as the manual demands of an RFD that is used again.
  static constexpr void WriteBlank(std::byte* rfd, std::uint32_t size) {
    for (std::uint32_t i = 0; i < kHeaderBytes; ++i) rfd[i] = std::byte{0};
    StoreLe16(rfd + kSize.offset,
              static_cast<std::uint16_t>(size & i8255x::kSizeMask));
  }
  // Plain bytes: written only where the device cannot be (see above).
  static constexpr void WriteLink(std::byte* rfd, std::uint32_t offset) {
    StoreLe32(rfd + kLink.offset, offset);
  }
  static void WriteEnd(std::byte* rfd, ListEnd end) {
    Access::Store16(rfd + kCommand.offset,
                    end == ListEnd::kYes ? i8255x::kCommandEl : 0);
  }
  static void WriteSize(std::byte* rfd, std::uint32_t size) {
    Access::Store16(rfd + kSize.offset,
                    static_cast<std::uint16_t>(size & i8255x::kSizeMask));
  }
};

using I8255xFormat = BasicI8255xFormat<DeviceAccess>;
static_assert(ListFormat<I8255xFormat>);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_I8255X_H_
