// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BOUNCE_PAGE_SOURCE_H_
#define DMAMAP_BOUNCE_PAGE_SOURCE_H_

// PageSource: where the memory comes from that a device may see.
//
// Whatever it hands out is zero, so that nothing an earlier owner left behind
// ever reaches a device (guarantee 1).

#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>

#include "dma/address.h"
#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

template <class S>
concept PageSource = requires(S& s, PageSize page, std::uint64_t pages,
                              std::byte* memory) {
  // `pages` pages (not 0), contiguous, aligned to one page, every byte zero.
  // kLimit when a budget is reached, kNoMemory when there is none left.
  // Thread-safe.
  { s.Allocate(page, pages) } -> std::same_as<Result<std::byte*>>;
  // Takes back what Allocate(page, pages) returned. Thread-safe.
  s.Free(memory, page, pages);
};

// Pages from the C++ heap, within a budget of bytes. Thread-safe; lock-free
// but for the heap itself.
class HeapPages {
 public:
  static constexpr std::uint64_t kNoBudget =
      std::numeric_limits<std::uint64_t>::max();

  explicit HeapPages(std::uint64_t budget = kNoBudget) : budget_(budget) {}
  HeapPages(const HeapPages&) = delete;
  HeapPages& operator=(const HeapPages&) = delete;

  // Bytes that may be out at a time. A budget below what is out already
  // refuses every allocation until enough has come back.
  void set_budget(std::uint64_t bytes) {
    // relaxed: a bound on a counter; orders nothing (so all in this class).
    budget_.store(bytes, std::memory_order_relaxed);
  }

  // kInvalidArgument for 0 pages, kOverflow when the size does not fit.
  Result<std::byte*> Allocate(PageSize page, std::uint64_t pages) {
    if (pages == 0) return Error::kInvalidArgument;
    if (pages > (std::numeric_limits<std::size_t>::max() >> 1) / page.bytes()) {
      return Error::kOverflow;
    }
    const std::uint64_t bytes = pages * page.bytes();
    if (const Result<void> taken = Take(bytes); !taken.ok()) {
      return taken.error();
    }
    void* memory = ::operator new(static_cast<std::size_t>(bytes),
                                  Alignment(page), std::nothrow);
    if (memory == nullptr) {
      in_use_.fetch_sub(bytes, std::memory_order_relaxed);
      return Error::kNoMemory;
    }
    std::memset(memory, 0, static_cast<std::size_t>(bytes));
    NoteHighWater();
    return static_cast<std::byte*>(memory);
  }

  void Free(std::byte* memory, PageSize page, std::uint64_t pages) {
    ::operator delete(memory, Alignment(page));
    in_use_.fetch_sub(pages * page.bytes(), std::memory_order_relaxed);
  }

  // Bytes out now, and the most there ever were.
  std::uint64_t in_use() const {
    return in_use_.load(std::memory_order_relaxed);
  }
  std::uint64_t high_water() const {
    return high_water_.load(std::memory_order_relaxed);
  }

 private:
  static std::align_val_t Alignment(PageSize page) {
    return std::align_val_t{static_cast<std::size_t>(page.bytes())};
  }

  Result<void> Take(std::uint64_t bytes) {
    const std::uint64_t budget = budget_.load(std::memory_order_relaxed);
    std::uint64_t now = in_use();
    do {
      if (now > budget || bytes > budget - now) return Error::kLimit;
    } while (!in_use_.compare_exchange_weak(now, now + bytes,
                                            std::memory_order_relaxed));
    return Ok();
  }

  void NoteHighWater() {
    const std::uint64_t now = in_use();
    std::uint64_t high = high_water();
    while (now > high && !high_water_.compare_exchange_weak(
                             high, now, std::memory_order_relaxed)) {
    }
  }

  std::atomic<std::uint64_t> budget_;
  std::atomic<std::uint64_t> in_use_{0};
  std::atomic<std::uint64_t> high_water_{0};
};
static_assert(PageSource<HeapPages>);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_BOUNCE_PAGE_SOURCE_H_
