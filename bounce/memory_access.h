// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BOUNCE_MEMORY_ACCESS_H_
#define DMAMAP_BOUNCE_MEMORY_ACCESS_H_

// MemoryAccess: how the CPU reaches the original buffer.
//
// A userspace driver follows a pointer. A kernel may have to map a page of
// high memory first, and may only have one such page open at a time. So bounce
// copies never assume that a whole buffer can be seen at once: they open a
// window on the front of what is left, copy, close it, and go on.
//
//   DirectMemory         a PhysAddr is a pointer; one window shows everything.
//   PagewiseMemory<M>    M, but no window crosses a page boundary: what a
//                        kernel's highmem path sees, and a test of the loop.

#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "dma/address.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

// A CPU view of `length` bytes of memory. Empty: nothing could be opened.
struct MemoryWindow {
  std::byte* data = nullptr;
  std::size_t length = 0;  // bytes

  bool empty() const { return data == nullptr || length == 0; }
};

template <class M>
concept MemoryAccess = requires(M& m, PhysAddr address, std::size_t length,
                                const MemoryWindow& window) {
  // A view of the first bytes, at least one, of [address, address + length);
  // empty when `address` cannot be reached. REQUIRES: length > 0, no wrap.
  // Thread-safe; bounded.
  { m.Open(address, length) } -> std::same_as<MemoryWindow>;
  // Ends the view. Called once for each window that was not empty, by the
  // thread that opened it, before it opens another.
  m.Close(window);
};

// A PhysAddr is a host pointer. Reaches everything but address 0.
class DirectMemory {
 public:
  MemoryWindow Open(PhysAddr address, std::size_t length) {
    return {PointerTo(address), length};
  }
  void Close(const MemoryWindow&) {}
};
static_assert(MemoryAccess<DirectMemory>);

// Opens what Inner opens, but never more than up to the end of a page.
template <MemoryAccess Inner = DirectMemory>
class PagewiseMemory {
 public:
  explicit PagewiseMemory(PageSize page = PageSize(), Inner inner = Inner())
      : page_(page), inner_(std::move(inner)) {}

  MemoryWindow Open(PhysAddr address, std::size_t length) {
    const std::uint64_t left = page_.mask() - page_.Offset(address.value());
    // left + 1 bytes to the end of the page; compared without the + 1, which
    // is 2^64 for a page of the whole space.
    const bool crosses = length - 1 > left;
    MemoryWindow w = inner_.Open(
        address, crosses ? static_cast<std::size_t>(left) + 1 : length);
    // relaxed: counters for tests; they order nothing.
    if (!w.empty()) open_.fetch_add(1, std::memory_order_relaxed);
    return w;
  }
  void Close(const MemoryWindow& window) {
    open_.fetch_sub(1, std::memory_order_relaxed);  // relaxed: as in Open
    inner_.Close(window);
  }

  // Windows opened and not closed yet.
  std::int64_t open_windows() const {
    return open_.load(std::memory_order_relaxed);  // relaxed: as in Open
  }

 private:
  PageSize page_;
  Inner inner_;
  std::atomic<std::int64_t> open_{0};
};
static_assert(MemoryAccess<PagewiseMemory<>>);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_BOUNCE_MEMORY_ACCESS_H_
