// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BOUNCE_COPY_H_
#define DMAMAP_BOUNCE_COPY_H_

// Copies between a bounce page and the original buffer, one window at a time.
//
// The loop runs at most once for each byte, and never trusts a MemoryAccess
// with its bounds: a window longer than what was asked for is an error, not an
// overrun (guarantees 3, 11). Bytes before the failing one have been copied,
// and the caller can learn how many.
//
// The bytes move by memcpy, which knows the machine. Stores that bypass the
// caches were measured against it (README.md): they lose wherever the target is
// in a cache, which a bounce page in use mostly is, or is read by a CPU soon,
// and win only at about 1 MiB between cold memory that no CPU reads afterwards;
// a copy is at most a bounce page long.

#include <cstddef>
#include <cstring>

#include "bounce/memory_access.h"
#include "dma/address.h"
#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

namespace internal {

// ForEachWindow for a buffer that is not seen in one piece. `w`: its first
// window, or an empty one.
template <MemoryAccess M, class F>
[[gnu::noinline]] Result<void> ForEachWindowFrom(MemoryWindow w, M& memory,
                                                 PhysAddr address,
                                                 std::size_t length,
                                                 std::size_t* done, F f) {
  for (;;) {
    if (w.empty()) return Error::kUnsupported;
    const bool fits = w.length <= length - *done;
    if (fits) f(w, *done);
    memory.Close(w);
    if (!fits) return Error::kUnsupported;
    *done += w.length;
    if (*done == length) return Ok();
    w = memory.Open(address + *done, length - *done);
  }
}

// Calls f(window, bytes done) until `length` bytes are done. kUnsupported when
// the access cannot reach a byte; kOverflow when the bytes wrap at 2^64. *done
// becomes the bytes done, in either case.
template <MemoryAccess M, class F>
[[gnu::always_inline]] inline Result<void> ForEachWindow(
    M& memory, PhysAddr address, std::size_t length, std::size_t* done, F f) {
  *done = 0;
  if (length == 0) return Ok();
  if (!address.CheckedAdd(length - 1).ok()) return Error::kOverflow;
  const MemoryWindow w = memory.Open(address, length);
  if (w.data == nullptr || w.length != length) [[unlikely]]
    return ForEachWindowFrom(w, memory, address, length, done, f);
  f(w, std::size_t{0});
  memory.Close(w);
  *done = length;
  return Ok();
}

}  // namespace internal

// `length` bytes from the original buffer to `to`. kUnsupported when a byte of
// the buffer cannot be reached, kOverflow when it wraps. *copied: the bytes
// copied, from the first one on, which is all of them unless there is an error.
template <MemoryAccess M>
[[gnu::always_inline]] inline Result<void> CopyFromMemory(M& memory,
                                                          PhysAddr from,
                                                          std::byte* to,
                                                          std::size_t length,
                                                          std::size_t* copied) {
  return internal::ForEachWindow(memory, from, length, copied,
                                 [to](const MemoryWindow& w, std::size_t done) {
                                   std::memcpy(to + done, w.data, w.length);
                                 });
}
template <MemoryAccess M>
[[gnu::always_inline]] inline Result<void> CopyFromMemory(M& memory,
                                                          PhysAddr from,
                                                          std::byte* to,
                                                          std::size_t length) {
  std::size_t copied = 0;
  return CopyFromMemory(memory, from, to, length, &copied);
}

// The same for `length` bytes from `from` to the original buffer.
template <MemoryAccess M>
[[gnu::always_inline]] inline Result<void> CopyToMemory(M& memory, PhysAddr to,
                                                        const std::byte* from,
                                                        std::size_t length,
                                                        std::size_t* copied) {
  return internal::ForEachWindow(
      memory, to, length, copied,
      [from](const MemoryWindow& w, std::size_t done) {
        std::memcpy(w.data, from + done, w.length);
      });
}
template <MemoryAccess M>
[[gnu::always_inline]] inline Result<void> CopyToMemory(M& memory, PhysAddr to,
                                                        const std::byte* from,
                                                        std::size_t length) {
  std::size_t copied = 0;
  return CopyToMemory(memory, to, from, length, &copied);
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_BOUNCE_COPY_H_
