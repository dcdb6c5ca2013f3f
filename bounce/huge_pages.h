// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BOUNCE_HUGE_PAGES_H_
#define DMAMAP_BOUNCE_HUGE_PAGES_H_

// HugePages: a PageSource over one stretch of anonymous memory that the system
// backs with huge pages (2 MiB), so that bounce pages of any size cost the CPU
// few TLB entries, and a block of up to 2 MiB can be contiguous in real memory.
//
// The stretch is address space alone until it is used. Pages are carved out of
// it first fit, so that they stay together. Whatever comes from the system is
// zero; a page that was out before is overwritten when it goes out again, where
// the caller is about to write to it anyway.
//
// What goes back to the system and when: a piece of 2 MiB of which nothing is
// out, in Free when more than HugePagesOptions::keep bytes of freed pages are
// kept, and in Trim. Never a part of a piece, which would split a huge page;
// nothing at all with kHugetlb, whose pages might not be there again.
// A device that holds the memory by its real address (VFIO) must not see that
// happen: then set `keep` to kNoBudget and do not call Trim.
//
// The first touch of a piece takes all 2 MiB, which the budget does not count:
// it counts what is out, in units of 4 KiB (a smaller page takes 4 KiB).
//
// Thread-safe but for Init. Progress: blocking (CarvedPages). On other systems
// than Linux Init returns kUnsupported.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

#include "bounce/carved_pages.h"
#include "bounce/linux_pages.h"
#include "bounce/page_budget.h"
#include "bounce/page_runs.h"
#include "bounce/page_source.h"
#include "dma/address.h"
#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

struct HugePagesOptions {
  // Bytes of address space, rounded up to 2 MiB; at most kMaxPageCapacity.
  // kHugetlb takes as much memory from the pool.
  std::uint64_t capacity = std::uint64_t{1} << 30;
  std::uint64_t budget = PageBudget::kNoBudget;  // bytes out
  std::uint64_t keep = std::uint64_t{2} << 20;   // bytes of freed pages
  // kHugetlb falls back to kTransparent where the pool is too small.
  HugeBacking backing = HugeBacking::kTransparent;
};

template <class Policy = SystemPagePolicy>
class BasicHugePages {
 public:
  using Calls = typename Policy::Calls;

  BasicHugePages() = default;
  explicit BasicHugePages(Calls calls) : calls_(std::move(calls)) {}
  BasicHugePages(const BasicHugePages&) = delete;
  BasicHugePages& operator=(const BasicHugePages&) = delete;
  // REQUIRES: no device can reach a page any more.
  ~BasicHugePages() {
    if (base_ != nullptr) calls_.Unmap(base_, capacity_);
  }

  // kUnsupported, kInvalidArgument for a bad capacity, kNoMemory; kBusy the
  // second time. Not thread-safe.
  Result<void> Init(const HugePagesOptions& options = {}) {
    if (!Calls::kSupported) return Error::kUnsupported;
    if (base_ != nullptr) return Error::kBusy;
    if (options.capacity == 0 || options.capacity > kMaxPageCapacity) {
      return Error::kInvalidArgument;
    }
    const std::uint64_t bytes = Piece().PagesFor(options.capacity)
                                << kHugePageShift;
    const std::uint64_t units = bytes >> Unit().shift();
    std::unique_ptr<PageRuns> runs(new (std::nothrow) PageRuns);
    if (runs == nullptr) return Error::kNoMemory;
    if (const auto r = runs->Init(units, UnitContents::kZero); !r.ok()) {
      return r;
    }
    backing_ = options.backing;
    std::byte* base = calls_.Map(bytes, &backing_);
    if (base == nullptr && backing_ == HugeBacking::kHugetlb) {
      backing_ = HugeBacking::kTransparent;
      base = calls_.Map(bytes, &backing_);
    }
    if (base == nullptr) return Error::kNoMemory;
    base_ = base;
    capacity_ = bytes;
    keep_ = options.keep;
    carved_.set_budget(options.budget);
    return carved_.Open({{base, Unit(), units}, Unit(), std::move(runs)});
  }

  // As PageSource; kShutDown before Init.
  Result<std::byte*> Allocate(PageSize page, std::uint64_t pages) {
    const Result<internal::PageBlock> block = carved_.Take(page, pages);
    if (!block.ok()) return block.error();
    if (block->old != 0) block->Zero();
    return block->data;
  }

  // What is not out as such a block is left alone, and counted (bad_frees).
  void Free(std::byte* memory, PageSize page, std::uint64_t pages) {
    const Result<internal::PageBlock> block =
        carved_.BeginGive(memory, page, pages);
    if (!block.ok()) return;
    carved_.EndGive(*block, UnitContents::kOld);
    const std::uint64_t end = block->first + block->count;
    for (std::uint64_t i = block->first; i < end; i = NextPiece(i)) {
      (void)TrimPiece(i, keep_);
    }
  }

  // Gives every piece that nobody uses back to the system. Returns how many
  // bytes of freed pages were in them.
  std::uint64_t Trim() {
    if (base_ == nullptr) return 0;
    std::uint64_t bytes = 0;
    const std::uint64_t units = capacity_ >> Unit().shift();
    for (std::uint64_t i = 0; i < units; i = NextPiece(i)) {
      bytes += TrimPiece(i, 0);
    }
    return bytes;
  }

  void set_budget(std::uint64_t bytes) { carved_.set_budget(bytes); }
  std::uint64_t in_use() const { return carved_.budget().in_use(); }
  std::uint64_t high_water() const { return carved_.budget().high_water(); }
  PageSourceStats stats() const { return carved_.stats(); }
  std::uint64_t capacity() const { return capacity_; }  // bytes
  HugeBacking backing() const { return backing_; }      // what Init got
  Calls& calls() { return calls_; }

  // REQUIRES: nobody else uses the object.
  bool CheckInvariants() const { return carved_.CheckInvariants(); }

 private:
  static constexpr PageSize Unit() { return PageSize(); }
  static constexpr PageSize Piece() {
    return *PageSize::FromShift(kHugePageShift);
  }
  static constexpr std::uint64_t UnitsInPiece() {
    return Piece().bytes() >> Unit().shift();
  }
  // The first unit of the piece behind that of unit `i`.
  static std::uint64_t NextPiece(std::uint64_t i) {
    return (i / UnitsInPiece() + 1) * UnitsInPiece();
  }

  // Bytes of freed pages that went back with the piece of unit `i`.
  std::uint64_t TrimPiece(std::uint64_t i, std::uint64_t keep) {
    if (backing_ == HugeBacking::kHugetlb) return 0;
    const Result<internal::PageBlock> piece =
        carved_.BeginTrim(i - i % UnitsInPiece(), UnitsInPiece(), keep);
    if (!piece.ok()) return 0;
    const bool gone = calls_.Discard(piece->data, piece->bytes);
    carved_.EndGive(*piece, gone ? UnitContents::kZero : UnitContents::kOld);
    return gone ? piece->old << Unit().shift() : 0;
  }

  Calls calls_;
  std::byte* base_ = nullptr;
  std::uint64_t capacity_ = 0;
  std::uint64_t keep_ = 0;
  HugeBacking backing_ = HugeBacking::kPlain;
  internal::CarvedPages<internal::ArenaPlace, Policy> carved_;
};
using HugePages = BasicHugePages<>;
static_assert(PageSource<HugePages>);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_BOUNCE_HUGE_PAGES_H_
