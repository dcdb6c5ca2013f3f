// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BOUNCE_PAGE_SOURCE_H_
#define DMAMAP_BOUNCE_PAGE_SOURCE_H_

// PageSource: where the memory comes from that a device may see.
//
// Whatever it hands out is zero, so that nothing an earlier owner left behind
// ever reaches a device (guarantee 1).
//
//   HeapPages     the C++ heap (this header)
//   HugePages     2 MiB pieces of anonymous memory (huge_pages.h, Linux)
//   MemfdPages    one memory file that another process can map (memfd_pages.h,
//                 Linux)
//   UserPages     memory that the embedder supplies (user_pages.h)

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>

#include "bounce/page_budget.h"
#include "dma/address.h"
#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

template <class S>
concept PageSource = requires(S& s, PageSize page, std::uint64_t pages,
                              std::byte* memory) {
  // `pages` pages (not 0), contiguous, aligned to one page, every byte zero.
  // kBudget when a budget is reached, kNoMemory when the system has none
  // left, kPoolEmpty when a pool of fixed size has not. Thread-safe.
  { s.Allocate(page, pages) } -> std::same_as<Result<std::byte*>>;
  // Takes back what Allocate(page, pages) returned. Thread-safe.
  s.Free(memory, page, pages);
};

// Pages from the C++ heap, within a budget of bytes. Thread-safe; lock-free
// but for the heap itself, which also is what keeps freed pages or gives them
// back to the system. It does not say which of them are zero already, so every
// page is overwritten with zeros before it goes out.
class HeapPages {
 public:
  static constexpr std::uint64_t kNoBudget = PageBudget::kNoBudget;

  explicit HeapPages(std::uint64_t budget = kNoBudget) : budget_(budget) {}

  // Bytes that may be out at a time. A budget below what is out already
  // refuses every allocation until enough has come back.
  void set_budget(std::uint64_t bytes) { budget_.set(bytes); }

  // kInvalidArgument for 0 pages, kOverflow when the size does not fit.
  Result<std::byte*> Allocate(PageSize page, std::uint64_t pages) {
    if (pages == 0) return Error::kInvalidArgument;
    if (pages > (std::numeric_limits<std::size_t>::max() >> 1) / page.bytes()) {
      return Error::kOverflow;
    }
    const std::uint64_t bytes = pages * page.bytes();
    if (const Result<void> taken = budget_.Take(bytes, pages); !taken.ok()) {
      return taken.error();
    }
    void* memory = ::operator new(static_cast<std::size_t>(bytes),
                                  Alignment(page), std::nothrow);
    if (memory == nullptr) {
      budget_.Refuse(bytes, pages);
      return Error::kNoMemory;
    }
    budget_.Commit();
    std::memset(memory, 0, static_cast<std::size_t>(bytes));
    return static_cast<std::byte*>(memory);
  }

  void Free(std::byte* memory, PageSize page, std::uint64_t pages) {
    ::operator delete(memory, Alignment(page));
    budget_.Give(pages * page.bytes(), pages);
  }

  // Bytes out now, and the most there ever were.
  std::uint64_t in_use() const { return budget_.in_use(); }
  std::uint64_t high_water() const { return budget_.high_water(); }
  PageSourceStats stats() const { return budget_.stats(); }

  // REQUIRES: nobody else uses the object.
  bool CheckInvariants() const { return budget_.CheckInvariants(); }

 private:
  static std::align_val_t Alignment(PageSize page) {
    return std::align_val_t{static_cast<std::size_t>(page.bytes())};
  }

  PageBudget budget_;
};
static_assert(PageSource<HeapPages>);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_BOUNCE_PAGE_SOURCE_H_
