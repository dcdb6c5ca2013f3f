// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_VIRTIO_LAYOUT_H_
#define DMAMAP_NICRING_VIRTIO_LAYOUT_H_

// Numbers and layouts of virtio 1.x virtqueues (the sections: virtio.h).

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "dma/address.h"
#include "dma/result.h"
#include "dma/version.h"
#include "nicring/little_endian.h"

namespace dmamap::inline v0 {

namespace virtio {

// Feature bits (5.1.3, 6).
inline constexpr std::uint64_t kMergeableBuffers = 1ull << 15;  // MRG_RXBUF
inline constexpr std::uint64_t kEventIndex = 1ull << 29;        // EVENT_IDX
inline constexpr std::uint64_t kVersion1 = 1ull << 32;
inline constexpr std::uint64_t kRingPacked = 1ull << 34;
// Bits that change nothing here: those of the network device up to 23, which
// leave queue and header alone but for MRG_RXBUF, INDIRECT_DESC (28: it allows,
// and demands nothing), ACCESS_PLATFORM (33), ORDER_PLATFORM (36), SR_IOV (37),
// NOTIFICATION_DATA and NOTIF_CONFIG_DATA (38, 39: the port's), RING_RESET
// (40).
inline constexpr std::uint64_t kKnownFeatures =
    0xffffffull | 1ull << 28 | kEventIndex | kVersion1 | 1ull << 33 |
    kRingPacked | 0x1full << 36;

// A transmit queue works with these features, of either layout.
constexpr bool CanTransmit(std::uint64_t features) {
  return (features & ~kKnownFeatures) == 0 && (features & kVersion1) != 0;
}

inline constexpr std::uint32_t kMaxEntries = 32768;  // 2.6, Queue Size
inline constexpr std::uint32_t kDescriptorBytes = 16;

// Descriptor flags (2.7.5, 2.8.1).
inline constexpr std::uint16_t kNext = 1u << 0;
inline constexpr std::uint16_t kWrite = 1u << 1;
inline constexpr std::uint16_t kAvail = 1u << 7;  // packed
inline constexpr std::uint16_t kUsed = 1u << 15;  // packed

// The other side need not tell us of buffers (2.7.7, 2.7.10).
inline constexpr std::uint16_t kNoInterrupt = 1;  // available ring, flags
inline constexpr std::uint16_t kNoNotify = 1;     // used ring, flags

// Packed event suppression (2.8.10).
inline constexpr std::uint16_t kEventEnable = 0;
inline constexpr std::uint16_t kEventDisable = 1;
inline constexpr std::uint16_t kEventAt = 2;  // RING_EVENT_FLAGS_DESC

// The network header (5.1.6), where the fields lie that are read.
inline constexpr std::uint32_t kNetHeaderBytes = 12;
// A frame of the largest size, with its header (5.1.6.3.1).
inline constexpr std::uint32_t kLargestFrame = 65562;
inline constexpr std::uint32_t kHeaderFlagsAt = 0;  // flags and gso_type
inline constexpr std::uint32_t kHeaderBuffersAt = 10;

// Split: a descriptor of the table.
constexpr void WriteSplitDescriptor(std::byte* p, Iova at, std::uint32_t bytes,
                                    std::uint16_t flags, std::uint16_t next) {
  StoreLe64(p, at.value());
  StoreLe32(p + 8, bytes);
  StoreLe16(p + 12, flags);
  StoreLe16(p + 14, next);
}
// Packed: all of a descriptor but its flags, which are written last.
constexpr void WritePackedDescriptor(std::byte* p, Iova at, std::uint32_t bytes,
                                     std::uint16_t id) {
  StoreLe64(p, at.value());
  StoreLe32(p + 8, bytes);
  StoreLe16(p + 12, id);
}

// Split, EVENT_IDX: the side that moved an index from `before` to `after` must
// tell the other, which asked to be told when it passes `event` (2.7.10.1).
constexpr bool NeedsEvent(std::uint16_t event, std::uint16_t after,
                          std::uint16_t before) {
  return static_cast<std::uint16_t>(after - event - 1) <
         static_cast<std::uint16_t>(after - before);
}

// A place in a packed ring and its wrap counter in one number: 0 to 2*size-1,
// the wrap counter 1 in the first half (2.8.1: both start at 1).
constexpr std::uint32_t PlaceOf(std::uint32_t cycle, std::uint32_t size) {
  return cycle < size ? cycle : cycle - size;
}
constexpr bool WrapOf(std::uint32_t cycle, std::uint32_t size) {
  return cycle < size;
}
// REQUIRES: n <= size.
constexpr std::uint32_t Advance(std::uint32_t cycle, std::uint32_t n,
                                std::uint32_t size) {
  const std::uint32_t next = cycle + n;
  return next < 2 * size ? next : next - 2 * size;
}
// How far `to` is ahead of `from`.
constexpr std::uint32_t Ahead(std::uint32_t from, std::uint32_t to,
                              std::uint32_t size) {
  return to >= from ? to - from : to + 2 * size - from;
}
// off_wrap of the event suppression structure: place, and wrap counter (15).
constexpr std::uint16_t OffWrap(std::uint32_t cycle, std::uint32_t size) {
  const unsigned wrap = WrapOf(cycle, size) ? 1u << 15 : 0;
  return static_cast<std::uint16_t>(PlaceOf(cycle, size) | wrap);
}
// Packed: true when the place that `off_wrap` asks for is among the `added`
// descriptors before `after`. One that cannot be asks for everything.
constexpr bool NeedsEventAt(std::uint16_t off_wrap, std::uint32_t after,
                            std::uint32_t added, std::uint32_t size) {
  const std::uint32_t place = off_wrap & 0x7fffu;
  if (place >= size || added >= 2 * size) return true;
  const std::uint32_t event = (off_wrap >> 15) != 0 ? place : place + size;
  const std::uint32_t distance = Ahead(event, after, size);
  return distance != 0 && distance <= added;
}
// Packed: the flags of a descriptor made available, and whether one is used.
constexpr std::uint16_t AvailableFlags(bool wrap) {
  return wrap ? kAvail : kUsed;
}
constexpr bool IsUsed(std::uint16_t flags, bool wrap) {
  return ((flags & kAvail) != 0) == wrap && ((flags & kUsed) != 0) == wrap;
}

// What an Init says of size and layout: kBusy for a ring that is made,
// kInvalidArgument, kLimit, kUnsupported for features of the other layout.
template <class Ring>
Result<void> CheckLayout(const Ring& ring, std::uint32_t size,
                         std::uint64_t features) {
  if (ring.made()) return Error::kBusy;
  if (!Ring::IsSize(size)) return Error::kInvalidArgument;
  if (size > kMaxEntries) return Error::kLimit;
  if ((features & kRingPacked) != Ring::kLayout) return Error::kUnsupported;
  return Ok();
}

}  // namespace virtio

// A format of a virtqueue: which layout, and how shared words are accessed. It
// says no more, since what else a DescriptorFormat describes (an entry that
// completes in place, by a field of its own) a virtqueue has not: its device
// names what it is done with by number, in another ring or at another place,
// and indices, wrap counters and event suppression, which belong to no entry,
// say when. That is protocol; it is the queue's (SplitRing, PackedRing). A ring
// of this kind but of another protocol is a DoorbellQueue of its own
// (rx_queue.h) for which RxQueueOf is specialised.
template <class F>
concept VirtqueueFormat = requires {
  typename F::Access;  // Load16, Load32 and Store16 as DeviceAccess has them
  { F::kPacked } -> std::convertible_to<bool>;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_VIRTIO_LAYOUT_H_
