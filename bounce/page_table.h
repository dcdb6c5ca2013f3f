// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BOUNCE_PAGE_TABLE_H_
#define DMAMAP_BOUNCE_PAGE_TABLE_H_

// The table of bounce pages, indexed by iova >> page_shift.
//
// An entry is one word: the page's address, whose low page_shift bits are zero,
// plus in those bits the number of claims on the entry. A mapping claims every
// page it lies on for as long as it lives. So one atomic operation answers both
// questions that race: Claim learns, in the step that makes the page stay,
// whether there is a page; Reclaim takes the page away only in the step that
// sees no claim.
//
//   0            nobody is here                0 | n     claimed, no page yet
//   page | 0     kept for the next mapping     page | n  in use
//
// Synchronisation edges
//   P1 -> P2  a page's contents (zero, then filled) are seen by whoever finds
//             it. Exactly one of several Publish wins.
//   D1 -> D2  what the last claimant did with a page happens before Reclaim
//             gives the page back, and before the next claimant uses it.
//
// Progress: Find is wait-free; the rest is lock-free but for the PageSource.

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "bounce/page_source.h"
#include "bounce/sparse_table.h"
#include "dma/address.h"
#include "dma/assert.h"
#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

template <PageSource Source, template <class> class Atom = std::atomic>
class BouncePageTable {
 public:
  explicit BouncePageTable(Source& source) : source_(source) {}
  BouncePageTable(const BouncePageTable&) = delete;
  BouncePageTable& operator=(const BouncePageTable&) = delete;
  // Frees every page. REQUIRES: no device can reach one any more.
  ~BouncePageTable() {
    entries_.ForEach(0, kAll, [this](std::uint64_t, Entry& entry) {
      std::byte* const page = PageOf(Load(entry));
      if (page != nullptr) Discard(page);
    });
  }

  // Pages 0 .. count-1 of `page` bytes. kInvalidArgument for a count that
  // SparseTable refuses, or a page below kMinPage bytes or above 1 GiB (its low
  // bits must hold the claims). kBusy the second time. Not thread-safe.
  static constexpr std::uint64_t kMinPage = 64;
  Result<void> Init(PageSize page, std::uint64_t count) {
    if (page.bytes() < kMinPage || page.shift() > 30) {
      return Error::kInvalidArgument;
    }
    if (const Result<void> r = entries_.Init(count); !r.ok()) return r;
    page_ = page;
    return Ok();
  }

  PageSize page() const { return page_; }
  std::uint64_t count() const { return entries_.count(); }

  // Makes room for the entries [first, last]. kNoMemory, kOutOfRange.
  Result<void> Prepare(std::uint64_t first, std::uint64_t last) {
    using Table = SparseTable<Entry, Atom>;
    if (last < first || last >= count()) return Error::kOutOfRange;
    const std::uint64_t step = Table::kFanout;  // one element of each leaf
    for (std::uint64_t i = first - first % step; i <= last; i += step) {
      if (const auto r = entries_.Ensure(i); !r.ok()) return r.error();
    }
    return Ok();
  }

  // One more claim on entry `index`; returns its page or nullptr.
  // REQUIRES: Prepare()d; fewer than page().bytes() - 1 claims.
  std::byte* Claim(std::uint64_t index) {
    // D2, acquire: pairs with D1; P2, acquire: pairs with P1.
    const std::uintptr_t old =
        At(index).fetch_add(1, std::memory_order_acquire);
    DMAMAP_ASSERT(ClaimsOf(old) + 1 < page_.bytes());
    return PageOf(old);
  }

  // One claim less. REQUIRES: the caller has one.
  void Release(std::uint64_t index) {
    // D1, release: pairs with D2.
    const std::uintptr_t old =
        At(index).fetch_sub(1, std::memory_order_release);
    DMAMAP_ASSERT(ClaimsOf(old) > 0);
    (void)old;
  }

  // The page at `index`, or nullptr. It stays while the entry is claimed.
  std::byte* Find(std::uint64_t index) const {
    const Entry* entry = entries_.Find(index);
    return entry == nullptr ? nullptr : PageOf(Load(*entry));
  }
  std::uint64_t claims(std::uint64_t index) const {
    const Entry* entry = entries_.Find(index);
    return entry == nullptr ? 0 : ClaimsOf(Load(*entry));
  }

  // A zeroed page that nobody else can see yet: fill it, then Publish it, or
  // give it back with Discard. Fails as the source does.
  Result<std::byte*> NewPage() { return source_.Allocate(page_, 1); }
  void Discard(std::byte* page) { source_.Free(page, page_, 1); }

  // Makes `page` the page at `index` unless one is there; returns the page that
  // is there now. The caller keeps a page that did not win. REQUIRES: the entry
  // is claimed and stays so during the call; `page` came from NewPage.
  std::byte* Publish(std::uint64_t index, std::byte* page) {
    Entry& entry = At(index);
    const auto address = reinterpret_cast<std::uintptr_t>(page);
    DMAMAP_ASSERT(ClaimsOf(address) == 0);
    std::uintptr_t now = Load(entry);
    while (PageOf(now) == nullptr) {
      // P1, release: pairs with P2. On failure P2, acquire: somebody else's
      // page, or only another claim.
      if (entry.compare_exchange_weak(now, address | now,
                                      std::memory_order_acq_rel,
                                      std::memory_order_acquire)) {
        return page;
      }
    }
    return PageOf(now);
  }

  // Gives the pages of [first, last] back to the source. kBusy, and nothing is
  // given back, while any of them is claimed; a claim that arrives during the
  // sweep keeps its own page and is reported as kBusy too. kOutOfRange.
  // Returns how many pages went back.
  Result<std::uint64_t> Reclaim(std::uint64_t first, std::uint64_t last) {
    if (last < first || last >= count()) return Error::kOutOfRange;
    bool busy = false;
    entries_.ForEach(first, last, [&](std::uint64_t, Entry& entry) {
      busy = busy || ClaimsOf(Load(entry)) != 0;
    });
    if (busy) return Error::kBusy;
    const Sweep sweep = SweepIdle(first, last);
    if (sweep.busy != 0) return Error::kBusy;
    return sweep.freed;
  }

  // The same for whatever is idle; leaves the rest. Returns the pages freed.
  std::uint64_t ReclaimIdle() { return SweepIdle(0, kAll).freed; }

  // f(index, page or nullptr, claims) for each entry that has either.
  template <class F>
  void ForEach(F&& f) const {
    entries_.ForEach(0, kAll, [&](std::uint64_t index, Entry& entry) {
      const std::uintptr_t now = Load(entry);
      if (now != 0) f(index, PageOf(now), ClaimsOf(now));
    });
  }

 private:
  using Entry = Atom<std::uintptr_t>;
  struct Sweep {
    std::uint64_t freed = 0;
    std::uint64_t busy = 0;
  };
  static constexpr std::uint64_t kAll = ~std::uint64_t{0};

  Entry& At(std::uint64_t index) {
    Entry* entry = entries_.Find(index);
    DMAMAP_ASSERT(entry != nullptr);
    return *entry;
  }
  static std::uintptr_t Load(const Entry& entry) {
    return entry.load(std::memory_order_acquire);  // P2, acquire: with P1.
  }
  std::byte* PageOf(std::uintptr_t word) const {
    return reinterpret_cast<std::byte*>(word & ~Mask());
  }
  std::uint64_t ClaimsOf(std::uintptr_t word) const { return word & Mask(); }
  std::uintptr_t Mask() const {
    return static_cast<std::uintptr_t>(page_.mask());
  }

  Sweep SweepIdle(std::uint64_t first, std::uint64_t last) {
    Sweep sweep;
    entries_.ForEach(first, last, [&](std::uint64_t, Entry& entry) {
      std::uintptr_t now = Load(entry);
      if (PageOf(now) == nullptr) return;
      // D2, acquire: pairs with D1; the last claimant is done with the page.
      // relaxed on failure: somebody claimed it, and we leave it alone.
      if (ClaimsOf(now) == 0 &&
          entry.compare_exchange_strong(now, 0, std::memory_order_acquire,
                                        std::memory_order_relaxed)) {
        Discard(PageOf(now));
        ++sweep.freed;
      } else {
        ++sweep.busy;
      }
    });
    return sweep;
  }

  Source& source_;
  SparseTable<Entry, Atom> entries_;
  PageSize page_;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_BOUNCE_PAGE_TABLE_H_
