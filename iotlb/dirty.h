// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_DIRTY_H_
#define DMAMAP_IOTLB_DIRTY_H_

// DirtyMap: which pages of I/O addresses a device has written since the last
// harvest (live migration, VFIO's dirty page tracking).
//
// One bit a page of a window that is fixed at Init. Readers set bits, behind
// their write; a harvest takes and clears them, in the page size that its
// caller wants, which may be larger or smaller than the one they were recorded
// in. Every index is 64 bits wide (libvfio-user had one of 8: beyond 256 pages
// its loop never ended).
//
// Synchronisation edges
//   D1 -> D2  what was written before Set, before the harvest that finds it.
//
// Set is wait-free. Any number of Set and Harvest calls at the same time.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <new>
#include <span>

#include "dma/address.h"
#include "dma/result.h"
#include "dma/version.h"
#include "iotlb/node_pool.h"

namespace dmamap::inline v0 {

template <NodeMemory Memory = HeapMemory,
          template <class> class Atom = std::atomic>
class DirtyMap {
 public:
  explicit DirtyMap(const Memory &memory = Memory()) : memory_(memory) {}
  ~DirtyMap() {
    if (words_ == nullptr) return;
    for (std::uint64_t i = 0; i < word_count(); ++i) words_[i].~Word();
    memory_.Free(words_, static_cast<std::size_t>(word_count()) * sizeof(Word),
                 alignof(Word));
  }
  DirtyMap(const DirtyMap &) = delete;
  DirtyMap &operator=(const DirtyMap &) = delete;

  // Once; all pages are clean. The window is rounded out to whole pages.
  // kBusy the second time, kLimit when the bits would not fit the address space
  // of this program, kNoMemory.
  Result<void> Init(const Range &window, PageSize page) {
    if (words_ != nullptr) return Error::kBusy;
    const std::uint64_t last = window.PagesTouchedMinusOne(page);
    const std::uint64_t words = last / kBits + 1;
    if (words > std::numeric_limits<std::size_t>::max() / sizeof(Word)) {
      return Error::kLimit;
    }
    void *const block = memory_.Allocate(
        static_cast<std::size_t>(words) * sizeof(Word), alignof(Word));
    if (block == nullptr) return Error::kNoMemory;
    words_ = static_cast<Word *>(block);
    for (std::uint64_t i = 0; i < words; ++i) {
      ::new (static_cast<void *>(words_ + i)) Word(0);
    }
    window_ = window.RoundOutToPages(page);
    page_ = page;
    return Ok();
  }

  // Marks the pages of `range`, as far as they lie in the window. Call it
  // behind the write, and within the section of the lookup.
  void Set(const Range &range) {
    const Result<Range> part = Clip(range);
    if (!part.ok()) return;
    const std::uint64_t first = IndexOf(part->first());
    const std::uint64_t last = IndexOf(part->last());
    for (std::uint64_t w = first / kBits; w <= last / kBits; ++w) {
      // D1, release: pairs with D2. Not skipped where the bit is set already:
      // a harvest that clears it meanwhile must be ordered behind the write.
      words_[w].fetch_or(MaskIn(w, first, last), std::memory_order_release);
    }
  }

  // Takes and clears the bits of `range` (bytes; whole pages of both sizes,
  // inside the window): bit i of `bits` is page i of `page` bytes from
  // range.first() on. Returns how many are set. kInvalidArgument: Init was not
  // called, or the range is not whole pages; kOutOfRange: it leaves the window;
  // kNoSpace: `bits` is too small. Then nothing is cleared.
  Result<std::uint64_t> Harvest(const Range &range, PageSize page,
                                std::span<std::uint64_t> bits) {
    if (words_ == nullptr || !range.IsPageAligned(page) ||
        !range.IsPageAligned(page_)) {
      return Error::kInvalidArgument;
    }
    if (!window_.Contains(range)) return Error::kOutOfRange;
    const std::uint64_t last = range.PagesTouchedMinusOne(page);
    if (bits.empty() || last / kBits > bits.size() - 1) return Error::kNoSpace;
    for (std::uint64_t i = 0; i <= last / kBits; ++i) {
      bits[static_cast<std::size_t>(i)] = 0;
    }
    std::uint64_t count = 0;
    const std::uint64_t from = IndexOf(range.first());
    const std::uint64_t to = IndexOf(range.last());
    for (std::uint64_t w = from / kBits; w <= to / kBits; ++w) {
      const std::uint64_t mask = MaskIn(w, from, to);
      // D2, acquire: pairs with D1.
      std::uint64_t found =
          words_[w].fetch_and(~mask, std::memory_order_acquire) & mask;
      for (; found != 0; found &= found - 1) {
        const std::uint64_t bit =
            static_cast<std::uint64_t>(__builtin_ctzll(found));
        count += Report(w * kBits + bit - from, page, bits);
      }
    }
    return count;
  }

  const Range &window() const { return window_; }
  PageSize page() const { return page_; }
  std::size_t memory_bytes() const {
    return words_ == nullptr
               ? 0
               : static_cast<std::size_t>(word_count()) * sizeof(Word);
  }

 private:
  using Word = Atom<std::uint64_t>;
  static constexpr std::uint64_t kBits = 64;

  std::uint64_t word_count() const {
    return window_.PagesTouchedMinusOne(page_) / kBits + 1;
  }
  Result<Range> Clip(const Range &range) const {
    if (words_ == nullptr) return Error::kInvalidArgument;
    return range.Intersect(window_);
  }
  std::uint64_t IndexOf(Iova at) const {
    return (at - window_.first()) >> page_.shift();
  }
  // The bits of word `w` that are pages of [first, last].
  static std::uint64_t MaskIn(std::uint64_t w, std::uint64_t first,
                              std::uint64_t last) {
    std::uint64_t mask = ~std::uint64_t{0};
    if (w == first / kBits) mask &= ~std::uint64_t{0} << (first % kBits);
    if (w == last / kBits) {
      mask &= ~std::uint64_t{0} >> (kBits - 1 - last % kBits);
    }
    return mask;
  }
  // Sets the caller's bits for recorded page `index` of its range; returns how
  // many were not set before.
  std::uint64_t Report(std::uint64_t index, PageSize page,
                       std::span<std::uint64_t> bits) const {
    std::uint64_t first = index, last = index;
    if (page.shift() > page_.shift()) {
      first = last = index >> (page.shift() - page_.shift());
    } else if (page.shift() < page_.shift()) {
      const unsigned finer = page_.shift() - page.shift();
      first = index << finer;
      last = first + ((std::uint64_t{1} << finer) - 1);
    }
    std::uint64_t count = 0;
    for (std::uint64_t w = first / kBits; w <= last / kBits; ++w) {
      std::uint64_t &word = bits[static_cast<std::size_t>(w)];
      const std::uint64_t fresh = MaskIn(w, first, last) & ~word;
      count += static_cast<std::uint64_t>(__builtin_popcountll(fresh));
      word |= fresh;
    }
    return count;
  }

  [[no_unique_address]] Memory memory_;
  Word *words_ = nullptr;
  Range window_;
  PageSize page_;
};

// The absent stage.
class NoDirtyMap {
 public:
  template <class Memory>
  explicit NoDirtyMap(const Memory &) {}
  Result<void> Init(const Range &, PageSize) { return Ok(); }
  std::size_t memory_bytes() const { return 0; }
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_DIRTY_H_
