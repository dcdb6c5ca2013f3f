// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BOUNCE_USER_PAGES_H_
#define DMAMAP_BOUNCE_USER_PAGES_H_

// UserPages: a PageSource over memory that the embedder supplies and keeps:
// memory that a device process registered (VDUSE's user bounce pages), memory
// of a certain NUMA node, a reserved region.
//
//   UserPages pages;
//   std::array regions = {UserRegion{memory, 64 * 4096}};
//   Result<void> r = pages.Register({.regions = regions, .pages = 64});
//   ...
//   r = pages.Withdraw();    // kBusy while pages are out
//
// All or nothing: Register takes every region or, with the first thing that is
// wrong, none; Withdraw gives back all or, while a page is out, none. Between
// the two nobody else writes to the memory but whom it is shown to. After
// Withdraw other memory may be registered.
//
// What the memory holds when it comes is nobody's business: every page is
// overwritten with zeros before it goes out, the first time too. What it holds
// when it is withdrawn is what its last users left.
//
// A block of several pages lies in one region. A page smaller than that of the
// registration takes a whole one.
//
// Thread-safe, Register and Withdraw too. Progress: blocking (CarvedPages).

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <utility>

#include "bounce/carved_pages.h"
#include "bounce/page_budget.h"
#include "bounce/page_runs.h"
#include "bounce/page_source.h"
#include "dma/address.h"
#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

struct UserRegion {
  std::byte* data = nullptr;  // aligned to a page
  std::uint64_t bytes = 0;    // whole pages, not 0
};

struct UserPagesOptions {
  std::span<const UserRegion> regions;  // in any order; read in the call alone
  PageSize page = PageSize();
  // How many pages they must add up to; 0: any number.
  std::uint64_t pages = 0;
};

namespace internal {

// Units numbered through regions in order of addresses. Between two regions one
// number is left out (a blocked unit), so that no run crosses from one into the
// next.
class UserPlace {
 public:
  // kInvalidArgument (no region, null, empty, not aligned, not whole pages),
  // kOverflow (a region wraps, or too many pages), kOverlap, kNoMemory.
  Result<void> Init(std::span<const UserRegion> regions, PageSize unit) {
    if (regions.empty()) return Error::kInvalidArgument;
    regions_.reset(new (std::nothrow) Region[regions.size()]);
    if (regions_ == nullptr) return Error::kNoMemory;
    count_ = regions.size();
    unit_ = unit;
    for (std::size_t i = 0; i < count_; ++i) {
      if (const auto r = Check(regions[i]); !r.ok()) return r;
      regions_[i] = {regions[i].data, regions[i].bytes >> unit_.shift(), 0};
    }
    std::sort(regions_.get(), End(), [](const Region& a, const Region& b) {
      return Address(a) < Address(b);
    });
    return Number();
  }

  std::uint64_t pages() const { return pages_; }
  std::uint64_t units() const { return pages_ + count_ - 1; }

  std::byte* At(std::uint64_t unit) const {
    const Region& r = *ByUnit(unit);
    return r.data + ((unit - r.first) << unit_.shift());
  }
  std::uint64_t UnitOf(const std::byte* memory) const {
    const PhysAddr at = PhysAddrOf(memory);
    const Region* r = std::upper_bound(
        Begin(), End(), at,
        [](PhysAddr a, const Region& b) { return a < Address(b); });
    if (r == Begin()) return kNoUnit;
    --r;
    const std::uint64_t offset = at - Address(*r);
    const bool good =
        unit_.IsAligned(offset) && (offset >> unit_.shift()) < r->units;
    return good ? r->first + (offset >> unit_.shift()) : kNoUnit;
  }
  std::uint64_t NextAligned(std::uint64_t unit, PageSize page) const {
    if (page.shift() <= unit_.shift() || unit >= units()) return unit;
    for (const Region* r = ByUnit(unit); r != End(); ++r) {
      const std::uint64_t i = unit > r->first ? unit - r->first : 0;
      const std::uint64_t at = Address(*r).value() + (i << unit_.shift());
      const Result<std::uint64_t> up = page.RoundUp(at);
      if (!up.ok()) return kNoUnit;
      const std::uint64_t aligned = i + ((*up - at) >> unit_.shift());
      if (aligned < r->units) return r->first + aligned;
    }
    return kNoUnit;
  }
  // f(unit) for each number that is left out.
  template <class F>
  void ForEachGap(F&& f) const {
    for (std::size_t i = 1; i < count_; ++i) f(regions_[i].first - 1);
  }

 private:
  struct Region {
    std::byte* data = nullptr;
    std::uint64_t units = 0;
    std::uint64_t first = 0;  // the number of its first unit
  };

  static PhysAddr Address(const Region& r) { return PhysAddrOf(r.data); }
  Region* Begin() const { return regions_.get(); }
  Region* End() const { return regions_.get() + count_; }
  const Region* ByUnit(std::uint64_t unit) const {
    return std::upper_bound(
               Begin(), End(), unit,
               [](std::uint64_t u, const Region& r) { return u < r.first; }) -
           1;
  }

  Result<void> Check(const UserRegion& r) const {
    const PhysAddr first = PhysAddrOf(r.data);
    if (r.data == nullptr || r.bytes == 0 || !unit_.IsAligned(first.value()) ||
        !unit_.IsAligned(r.bytes)) {
      return Error::kInvalidArgument;
    }
    if (r.bytes - 1 >
        std::numeric_limits<std::uintptr_t>::max() - first.value())
      return Error::kOverflow;
    return Ok();
  }
  // REQUIRES: sorted.
  Result<void> Number() {
    std::uint64_t next = 0;
    for (std::size_t i = 0; i < count_; ++i) {
      Region& r = regions_[i];
      if (i > 0) {
        const Region& before = regions_[i - 1];
        const std::uint64_t gap = Address(r) - Address(before);
        if (gap >> unit_.shift() < before.units) return Error::kOverlap;
      }
      if (r.units > PageRuns::kMaxUnits - next) return Error::kOverflow;
      r.first = next;
      pages_ += r.units;
      next += r.units + 1;
    }
    return Ok();
  }

  std::unique_ptr<Region[]> regions_;
  std::size_t count_ = 0;
  std::uint64_t pages_ = 0;
  PageSize unit_;
};
static_assert(UnitPlace<UserPlace>);

}  // namespace internal

template <class Policy = PagePolicy>
class BasicUserPages {
 public:
  explicit BasicUserPages(std::uint64_t budget = PageBudget::kNoBudget)
      : carved_(budget) {}
  BasicUserPages(const BasicUserPages&) = delete;
  BasicUserPages& operator=(const BasicUserPages&) = delete;

  // Takes the regions, all or none. kInvalidArgument (no region, null, empty,
  // not aligned, not whole pages), kOverflow (a region wraps, or more pages
  // than PageRuns counts), kOverlap, kMismatch (another number of pages),
  // kNoMemory; kBusy while others are registered.
  Result<void> Register(const UserPagesOptions& options) {
    if (carved_.is_open()) return Error::kBusy;
    typename Carved::Stretch stretch;
    stretch.unit = options.page;
    if (const auto r = stretch.place.Init(options.regions, options.page);
        !r.ok()) {
      return r;
    }
    if (options.pages != 0 && options.pages != stretch.place.pages()) {
      return Error::kMismatch;
    }
    stretch.runs.reset(new (std::nothrow) PageRuns);
    if (stretch.runs == nullptr) return Error::kNoMemory;
    if (const auto r =
            stretch.runs->Init(stretch.place.units(), UnitContents::kOld);
        !r.ok()) {
      return r;
    }
    stretch.place.ForEachGap(
        [&](std::uint64_t unit) { stretch.runs->Block(unit); });
    return carved_.Open(std::move(stretch));
  }

  // From here on the memory is the embedder's again, all of it. kBusy, and
  // nothing changes, while pages are out (ForEachOut tells which; a budget of 0
  // keeps more from going out); kShutDown when nothing is registered.
  Result<void> Withdraw() {
    const auto closed = carved_.Close();
    if (!closed.ok()) return closed.error();
    return Ok();
  }

  // As PageSource; kShutDown while nothing is registered, kPoolEmpty when no
  // region has so many pages left in a row.
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
    if (block.ok()) carved_.EndGive(*block, UnitContents::kOld);
  }

  // Whether `memory` is the first byte of a registered page.
  bool Holds(const std::byte* memory) const { return carved_.Holds(memory); }

  // f(memory, bytes) for each block that is out, in order of addresses. f must
  // not use this object.
  template <class F>
  void ForEachOut(F&& f) const {
    carved_.ForEachOut(f);
  }

  void set_budget(std::uint64_t bytes) { carved_.set_budget(bytes); }
  std::uint64_t in_use() const { return carved_.budget().in_use(); }
  std::uint64_t high_water() const { return carved_.budget().high_water(); }
  // `kept` is all that is registered and not out.
  PageSourceStats stats() const { return carved_.stats(); }
  bool registered() const { return carved_.is_open(); }

  // REQUIRES: nobody else uses the object.
  bool CheckInvariants() const { return carved_.CheckInvariants(); }

 private:
  using Carved = internal::CarvedPages<internal::UserPlace, Policy>;
  Carved carved_;
};
using UserPages = BasicUserPages<>;
static_assert(PageSource<UserPages>);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_BOUNCE_USER_PAGES_H_
