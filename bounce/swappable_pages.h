// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BOUNCE_SWAPPABLE_PAGES_H_
#define DMAMAP_BOUNCE_SWAPPABLE_PAGES_H_

// SwappablePages: a PageSource of two homes, pages of one's own and pages that
// a user has lent, of which one is in use; bounce pages move from one to the
// other under live mappings (what VDUSE calls user-registered bounce pages).
//
//   struct Policies : DomainPolicies { using Pages = SwappablePages<>; };
//   domain.pages().lent().Register({.regions = regions});
//   domain.SwapPages(PageHome::kLent);     // all are there, or nothing changed
//   ...
//   domain.SwapPages(PageHome::kOwn);
//   domain.pages().lent().Withdraw();
//
// All or nothing: BeginSwap takes from the new home as many pages as are out of
// the old one, those on their way included, and only then makes it the home of
// all that come. So nothing can fail half way for want of memory. Bounce then
// moves page after page (bounce_swap.h); each is freed to where it came from.
//
// Coherent blocks cannot move, since CPUs hold pointers into them: they come
// from fixed(), one's own pages.
//
// Thread-safe; one swap at a time. Progress: blocking.

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

#include "bounce/page_source.h"
#include "bounce/user_pages.h"
#include "dma/address.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

enum class PageHome : std::uint8_t {
  kOwn,
  kLent,
};

// What Bounce::SwapPages asks of a source.
template <class S>
concept SwappableSource = PageSource<S> &&
    requires(S& s, PageSize page, PageHome home, const std::byte* memory) {
  // From here on pages come from `home`, and TakeReserved succeeds for each
  // page that is out of the other. As the home fails: then nothing has changed.
  // kBusy while another swap is under way.
  { s.BeginSwap(page, home) } -> std::same_as<Result<void>>;
  // A page of the new home, whatever it holds. REQUIRES: between the two.
  { s.TakeReserved() } -> std::same_as<std::byte*>;
  // Gives back what was not taken.
  s.EndSwap(page);
  // Where a page that is out came from; how many of a home are out, or on their
  // way.
  { s.HomeOf(memory) } -> std::same_as<PageHome>;
  { s.out(home) } -> std::same_as<std::uint64_t>;
};

// Lent: a PageSource with Holds(memory): whether the memory is its own. The two
// never have the same memory.
template <PageSource Own = HeapPages, PageSource Lent = UserPages,
          Lock LockType = SpinLock>
class SwappablePages {
 public:
  SwappablePages() = default;
  SwappablePages(const SwappablePages&) = delete;
  SwappablePages& operator=(const SwappablePages&) = delete;

  Own& own() { return own_; }
  Lent& lent() { return lent_; }
  Own& fixed() { return own_; }
  PageHome home() const {
    Guard guard(lock_);
    return home_;
  }

  // As a PageSource; fails as the home does.
  Result<std::byte*> Allocate(PageSize page, std::uint64_t pages) {
    const PageHome home = CountOut();
    const Result<std::byte*> memory = AllocateFrom(home, page, pages);
    if (!memory.ok()) CountIn(home);
    return memory;
  }
  void Free(std::byte* memory, PageSize page, std::uint64_t pages) {
    const PageHome home = HomeOf(memory);
    FreeTo(home, memory, page, pages);
    CountIn(home);
  }

  // --- SwappableSource ---

  Result<void> BeginSwap(PageSize page, PageHome to) {
    std::uint64_t wanted = 0;
    {
      Guard guard(lock_);
      if (swapping_) return Error::kBusy;
      swapping_ = true;
    }
    for (;;) {
      {
        Guard guard(lock_);
        // One at least: a home that has none to give is no home.
        wanted = std::max<std::uint64_t>(out_[Index(Other(to))], 1);
        if (wanted <= reserved_) {
          home_ = to;
          swap_to_ = to;
          return Ok();
        }
      }
      const Result<void> more = Reserve(page, to, wanted);
      if (more.ok()) continue;
      swap_to_ = to;
      EndSwap(page);
      return more;
    }
  }
  std::byte* TakeReserved() {
    std::byte* const page = reserve_[--reserved_];
    Guard guard(lock_);
    ++out_[Index(swap_to_)];
    return page;
  }
  void EndSwap(PageSize page) {
    while (reserved_ > 0) FreeTo(swap_to_, reserve_[--reserved_], page, 1);
    reserve_.reset();
    room_ = 0;
    Guard guard(lock_);
    swapping_ = false;
  }
  PageHome HomeOf(const std::byte* memory) const {
    return lent_.Holds(memory) ? PageHome::kLent : PageHome::kOwn;
  }
  std::uint64_t out(PageHome home) const {
    Guard guard(lock_);
    return out_[Index(home)];
  }

  // REQUIRES: nobody else uses the object.
  bool CheckInvariants() const {
    return !swapping_ && reserved_ == 0 && own_.CheckInvariants() &&
           lent_.CheckInvariants();
  }

 private:
  static std::size_t Index(PageHome home) {
    return static_cast<std::size_t>(home);
  }
  static PageHome Other(PageHome home) {
    return home == PageHome::kOwn ? PageHome::kLent : PageHome::kOwn;
  }
  // Counted from before the page is there, so that a swap sees it.
  PageHome CountOut() {
    Guard guard(lock_);
    ++out_[Index(home_)];
    return home_;
  }
  void CountIn(PageHome home) {
    Guard guard(lock_);
    --out_[Index(home)];
  }
  Result<std::byte*> AllocateFrom(PageHome home, PageSize page,
                                  std::uint64_t pages) {
    return home == PageHome::kOwn ? own_.Allocate(page, pages)
                                  : lent_.Allocate(page, pages);
  }
  void FreeTo(PageHome home, std::byte* memory, PageSize page,
              std::uint64_t pages) {
    if (home == PageHome::kOwn) {
      own_.Free(memory, page, pages);
    } else {
      lent_.Free(memory, page, pages);
    }
  }
  Result<void> Reserve(PageSize page, PageHome to, std::uint64_t wanted) {
    if (wanted > room_) {
      const std::uint64_t room = wanted + wanted / 8 + 8;
      std::unique_ptr<std::byte*[]> more(
          new (std::nothrow) std::byte*[static_cast<std::size_t>(room)]);
      if (more == nullptr) return Error::kNoMemory;
      for (std::uint64_t i = 0; i < reserved_; ++i) more[i] = reserve_[i];
      reserve_ = std::move(more);
      room_ = room;
    }
    while (reserved_ < wanted) {
      const Result<std::byte*> memory = AllocateFrom(to, page, 1);
      if (!memory.ok()) return memory.error();
      reserve_[reserved_++] = *memory;
    }
    return Ok();
  }

  Own own_;
  Lent lent_;
  mutable LockType lock_;
  PageHome home_ = PageHome::kOwn;         // guarded by lock_
  bool swapping_ = false;                  // guarded by lock_
  std::array<std::uint64_t, 2> out_ = {};  // by home; guarded by lock_
  // The swap's alone.
  PageHome swap_to_ = PageHome::kOwn;
  std::unique_ptr<std::byte*[]> reserve_;
  std::uint64_t reserved_ = 0;
  std::uint64_t room_ = 0;
};
static_assert(SwappableSource<SwappablePages<>>);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_BOUNCE_SWAPPABLE_PAGES_H_
