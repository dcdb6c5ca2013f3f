// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_DEVICE_PORT_H_
#define DMAMAP_TESTING_DEVICE_PORT_H_

// DevicePort: how a simulated device reaches memory.
//
// A device knows I/O addresses only. The port translates them, checks the
// permission and moves the bytes; it stops at the first byte that it cannot
// reach, and says how many it moved before. IdentityPort is a machine without
// an IOMMU; CopyingMapper (copying_mapper.h) and a Domain have ports too.
//
// The memory that a driver and a device share is shared by two threads in a
// concurrent test. SharedLoad and SharedStore move it as a bus does: a
// naturally aligned word of 2, 4 or 8 bytes in one access, and in the order of
// the calls; everything else byte by byte.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "dma/address.h"
#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

// What one access did: all of it (ok), or `bytes` of it and then an error.
struct Transfer {
  std::size_t bytes = 0;
  Result<void> result;

  bool ok() const { return result.ok(); }
  Error error() const { return result.error(); }  // REQUIRES: !ok().
};

template <class P>
concept DevicePort = requires(P& p, Iova at, void* to, const void* from,
                              std::size_t n) {
  // Device reads n bytes (0 is fine). kNotMapped, kPermission.
  { p.Read(at, to, n) } -> std::same_as<Transfer>;
  // Device writes n bytes. kNotMapped, kPermission.
  { p.Write(at, from, n) } -> std::same_as<Transfer>;
};

namespace internal {

template <class Word>
void SharedLoadWord(void* to, const std::byte* from) {
  using Shared [[gnu::may_alias]] = Word;
  // acquire: pairs with the release of the driver's or device's store of this
  // word. What was written before the store is seen by the loads that follow.
  const Word word =
      __atomic_load_n(reinterpret_cast<const Shared*>(from), __ATOMIC_ACQUIRE);
  std::memcpy(to, &word, sizeof word);
}

template <class Word>
void SharedStoreWord(std::byte* to, const void* from) {
  using Shared [[gnu::may_alias]] = Word;
  Word word;
  std::memcpy(&word, from, sizeof word);
  // release: pairs with the acquire of whoever loads this word.
  __atomic_store_n(reinterpret_cast<Shared*>(to), word, __ATOMIC_RELEASE);
}

inline bool IsAlignedTo(const void* pointer, std::size_t n) {
  return reinterpret_cast<std::uintptr_t>(pointer) % n == 0;
}

}  // namespace internal

// Copies n bytes out of memory that another thread may be writing.
inline void SharedLoad(void* to, const std::byte* from, std::size_t n) {
  if (n == 2 && internal::IsAlignedTo(from, 2)) {
    internal::SharedLoadWord<std::uint16_t>(to, from);
  } else if (n == 4 && internal::IsAlignedTo(from, 4)) {
    internal::SharedLoadWord<std::uint32_t>(to, from);
  } else if (n == 8 && internal::IsAlignedTo(from, 8)) {
    internal::SharedLoadWord<std::uint64_t>(to, from);
  } else if (n != 0) {
    std::memcpy(to, from, n);
  }
}

// Copies n bytes into memory that another thread may be reading.
inline void SharedStore(std::byte* to, const void* from, std::size_t n) {
  if (n == 2 && internal::IsAlignedTo(to, 2)) {
    internal::SharedStoreWord<std::uint16_t>(to, from);
  } else if (n == 4 && internal::IsAlignedTo(to, 4)) {
    internal::SharedStoreWord<std::uint32_t>(to, from);
  } else if (n == 8 && internal::IsAlignedTo(to, 8)) {
    internal::SharedStoreWord<std::uint64_t>(to, from);
  } else if (n != 0) {
    std::memcpy(to, from, n);
  }
}

// I/O addresses are host addresses. Reaches `window` only, so that a simulated
// device that runs wild gets an error value and not somebody's memory.
// Stateless: thread-safe, wait-free.
class IdentityPort {
 public:
  explicit IdentityPort(Range window) : window_(window) {}

  Transfer Read(Iova at, void* to, std::size_t n) {
    const std::size_t reach = Reach(at, n);
    SharedLoad(to, Pointer(at), reach);
    return Done(reach, n);
  }
  Transfer Write(Iova at, const void* from, std::size_t n) {
    const std::size_t reach = Reach(at, n);
    SharedStore(Pointer(at), from, reach);
    return Done(reach, n);
  }

 private:
  // Bytes of [at, at+n) up to the end of the window.
  std::size_t Reach(Iova at, std::size_t n) const {
    if (n == 0 || !window_.Contains(at)) return 0;
    const std::uint64_t left_minus_one = window_.last() - at;
    return n - 1 <= left_minus_one
               ? n
               : static_cast<std::size_t>(left_minus_one) + 1;
  }
  static std::byte* Pointer(Iova at) { return PointerTo(PhysAddr(at.value())); }
  static Transfer Done(std::size_t bytes, std::size_t wanted) {
    if (bytes == wanted) return {bytes, Ok()};
    return {bytes, Error::kNotMapped};
  }

  Range window_;
};
static_assert(DevicePort<IdentityPort>);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_DEVICE_PORT_H_
