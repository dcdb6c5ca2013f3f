// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BOUNCE_COPY_H_
#define DMAMAP_BOUNCE_COPY_H_

// Copies between a bounce page and the original buffer, one window at a time.
//
// The loop runs at most once for each byte, and never trusts a MemoryAccess
// with its bounds: a window longer than what was asked for is an error, not an
// overrun (guarantees 3, 11). Bytes before the failing one have been copied.

#include <cstddef>
#include <cstring>

#include "bounce/memory_access.h"
#include "dma/address.h"
#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

namespace internal {

// Calls f(window, bytes done) until `length` bytes are done. kUnsupported when
// the access cannot reach a byte; kOverflow when the bytes wrap at 2^64.
template <MemoryAccess M, class F>
Result<void> ForEachWindow(M& memory, PhysAddr address, std::size_t length,
                           F&& f) {
  if (length == 0) return Ok();
  if (!address.CheckedAdd(length - 1).ok()) return Error::kOverflow;
  for (std::size_t done = 0; done < length;) {
    const MemoryWindow w = memory.Open(address + done, length - done);
    if (w.empty()) return Error::kUnsupported;
    const bool fits = w.length <= length - done;
    if (fits) f(w, done);
    memory.Close(w);
    if (!fits) return Error::kUnsupported;
    done += w.length;
  }
  return Ok();
}

}  // namespace internal

// `length` bytes from the original buffer to `to`.
template <MemoryAccess M>
Result<void> CopyFromMemory(M& memory, PhysAddr from, std::byte* to,
                            std::size_t length) {
  return internal::ForEachWindow(memory, from, length,
                                 [to](const MemoryWindow& w, std::size_t done) {
                                   std::memcpy(to + done, w.data, w.length);
                                 });
}

// `length` bytes from `from` to the original buffer.
template <MemoryAccess M>
Result<void> CopyToMemory(M& memory, PhysAddr to, const std::byte* from,
                          std::size_t length) {
  return internal::ForEachWindow(
      memory, to, length, [from](const MemoryWindow& w, std::size_t done) {
        std::memcpy(w.data, from + done, w.length);
      });
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_BOUNCE_COPY_H_
