// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_FORMAT_H_
#define DMAMAP_NICRING_FORMAT_H_

// DescriptorFormat: what one ring entry looks like to the device.
//
// A format is a stateless type. It knows where the fields lie, which of them
// the device writes and in what order, and how an entry is armed; it knows
// nothing of mappings, buffers or positions. DescriptorFormat is what every
// ring whose entries complete in place needs: who owns the entry, and what does
// the device say of it. Two families add how an entry is armed:
//   ListFormat   a list with an end bit (i8255x): each descriptor stands in
//                front of the data in the same buffer and names the next one;
//   ArrayFormat  an array with head and tail registers (e1000.h,
//                intel_advanced.h): each descriptor names its buffer, and a
//                frame may take several.
// A virtqueue is not of these: its device names what it is done with by number
// (virtio.h).
//
// Two rules bind every format:
//   * each field that the device writes is loaded once per completion, through
//     the Access policy, and only the snapshot is used afterwards;
//   * a field that the driver writes is never loaded back: the driver keeps its
//     own record, since the device can write there too.

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>

#include "dma/address.h"
#include "dma/version.h"
#include "nicring/little_endian.h"

namespace dmamap::inline v0 {

// Where a field lies in its descriptor, in bytes: [offset, offset+size).
struct Field {
  std::uint32_t offset = 0;
  std::uint32_t size = 0;
};

// The snapshot of what the device wrote about one completed entry.
struct Completion {
  bool good = false;             // received without an error
  std::uint32_t length = 0;      // bytes, as the device claims: unchecked
  std::uint32_t raw_status = 0;  // the status word, for the driver's log
  bool last = true;              // the frame ends in this entry
};

// How a word that the device may access at the same time is loaded and stored.
// `p` is aligned to the word's size. Words are little-endian in memory.
//
// Synchronisation edges, for a device that is a thread (a real one is ordered
// by dma/barrier.h, which the caller adds)
//   D1 -> A1  what the device wrote before it set the status is seen by the
//             driver that has seen the status.
//   A2 -> D2  what the driver wrote before it opened an entry is seen by the
//             device that has seen the entry open.
struct DeviceAccess {
  [[gnu::always_inline]] static std::uint16_t Load16(const std::byte* p) {
    using Shared [[gnu::may_alias]] = std::uint16_t;
    // A1, acquire: pairs with D1, the device's store of this word.
    return FromLittle16(
        __atomic_load_n(reinterpret_cast<const Shared*>(p), __ATOMIC_ACQUIRE));
  }
  [[gnu::always_inline]] static std::uint32_t Load32(const std::byte* p) {
    using Shared [[gnu::may_alias]] = std::uint32_t;
    // A1, acquire: pairs with D1, the device's store of this word.
    return FromLittle32(
        __atomic_load_n(reinterpret_cast<const Shared*>(p), __ATOMIC_ACQUIRE));
  }
  [[gnu::always_inline]] static void Store16(std::byte* p,
                                             std::uint16_t value) {
    using Shared [[gnu::may_alias]] = std::uint16_t;
    // A2, release: pairs with D2, the device's load of this word.
    __atomic_store_n(reinterpret_cast<Shared*>(p), ToLittle16(value),
                     __ATOMIC_RELEASE);
  }
};

template <class F>
concept DescriptorFormat = requires(const std::byte* descriptor,
                                    typename F::Status status) {
  // Bytes in front of the data in a buffer, and the alignment of the buffer's
  // first byte.
  { F::kHeaderBytes } -> std::convertible_to<std::uint32_t>;
  { F::kAlignment } -> std::convertible_to<std::uint32_t>;
  // Where in its descriptor the field lies that says who owns the entry: the
  // device writes it last.
  { F::kStatus } -> std::convertible_to<Field>;
  // What else the device writes in the descriptor, all of it before kStatus.
  { F::kCount } -> std::convertible_to<Field>;
  // Loads the status, once.
  { F::LoadStatus(descriptor) } -> std::same_as<typename F::Status>;
  // True when the device is done with the entry.
  { F::IsComplete(status) } -> std::same_as<bool>;
  // Loads the other fields, each once. REQUIRES: IsComplete(status).
  { F::Snapshot(descriptor, status) } -> std::same_as<Completion>;
};

// Where a list ends for the device.
enum class ListEnd : std::uint8_t { kNo, kYes };

// One step of moving the end of the list behind freshly linked entries. Every
// step is visible to the device before the next begins.
enum class ListStep : std::uint8_t {
  kLink,     // the link of the old last entry names the first new one
  kClose,    // the new stop gets size 0 and the end bit
  kReopen,   // the old stop loses the end bit ...
  kRestore,  // ... and then gets its size back
};

template <class F>
concept ListFormat = DescriptorFormat<F> &&
    requires(std::byte* descriptor, std::uint32_t value, ListEnd end) {
  // Most data bytes that kSize can express.
  { F::kMaxFrameBytes } -> std::convertible_to<std::uint32_t>;
  // The fields that the driver writes. Neither kStatus nor kCount overlaps one
  // of them: a driver's sync never carries a field that the device writes.
  { F::kLink } -> std::convertible_to<Field>;
  { F::kCommand } -> std::convertible_to<Field>;
  { F::kSize } -> std::convertible_to<Field>;
  // The order in which a move of the end becomes visible.
  { F::kPublishOrder } -> std::convertible_to<const std::array<ListStep, 4>&>;
  // Writes a whole descriptor: not complete, no link, no end, room for `value`
  // data bytes. REQUIRES: the device cannot reach it yet.
  F::WriteBlank(descriptor, value);
  // Writes kLink, kCommand or kSize, and not a byte besides.
  F::WriteLink(descriptor, value);
  F::WriteEnd(descriptor, end);
  F::WriteSize(descriptor, value);
};

template <class F>
concept ArrayFormat = DescriptorFormat<F> &&
    requires(std::byte* descriptor, std::uint32_t bytes, Iova at) {
  // Of one descriptor; the first is aligned to a page.
  { F::kDescriptorBytes } -> std::convertible_to<std::uint32_t>;
  // The number of descriptors is a multiple of this, and at most that.
  { F::kEntriesMultiple } -> std::convertible_to<std::uint32_t>;
  { F::kMaxEntries } -> std::convertible_to<std::uint32_t>;
  // True when the device can be told that each buffer has `bytes` bytes.
  { F::IsRoom(bytes) } -> std::same_as<bool>;
  // Writes a whole descriptor: not complete, its buffer at `at`. REQUIRES: the
  // device has not been told of it.
  F::WriteArmed(descriptor, at);
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_FORMAT_H_
