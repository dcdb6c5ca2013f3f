// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BOUNCE_PAGE_TABLE_H_
#define DMAMAP_BOUNCE_PAGE_TABLE_H_

// The table of slots and of the pages under them. A page is one slot or more;
// its address lies in its first slot, with a bit that says that somebody is
// making it or taking it away.
//
// The race that has to be right is the one of VDUSE's bounce map: a mapping is
// recorded and looks whether a page is there to be filled, while a page is put
// there and filled from what is recorded. If each could miss the other, a
// device would see a page without the mapping's bytes. So each writes first and
// looks then, with a sequentially consistent operation or fence in between (an
// AsymmetricFence, since maps are many and faults are few):
//
//   Map, Unmap, Sync            Fault, Reclaim
//   write the slot's word       Lock: set the busy bit       (L1)
//   Light(), or seq_cst word    Heavy()
//   Settle: look at the page    look at the slots' words     (L2)
//                               Unlock: page, or none, not busy
//
// Either Settle sees the busy bit, waits, and then sees the page; or Lock comes
// after it, and what follows sees the word. What a Fault has seen stays as it
// is until Unlock: whoever ends a mapping settles its pages before he goes on.
//
// Synchronisation edges
//   P1 -> P2  a page's contents (zero, then filled) are seen by whoever finds
//             it; what was done with a page happens before it is taken away.
//   W1 -> W2  a slot's fields are seen by whoever sees its word.
//
// Progress: Find is wait-free. Settle and Lock wait for one page to be made or
// taken away; everything else is lock-free but for the PageSource.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "bounce/page_source.h"
#include "bounce/slot.h"
#include "bounce/sparse_table.h"
#include "dma/address.h"
#include "dma/assert.h"
#include "dma/atom.h"
#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

template <PageSource Source, template <class> class Atom = std::atomic>
class BouncePageTable {
 public:
  using Slot = BounceSlot<Atom>;

  explicit BouncePageTable(Source& source) : source_(source) {}
  BouncePageTable(const BouncePageTable&) = delete;
  BouncePageTable& operator=(const BouncePageTable&) = delete;
  // Frees every page. REQUIRES: no device can reach one any more.
  ~BouncePageTable() {
    slots_.ForEach(0, kAll, [this](std::uint64_t, Slot& slot) {
      // relaxed: nobody else is left.
      std::byte* const page = PageOf(slot.page.load(std::memory_order_relaxed));
      if (page != nullptr) Discard(page);
    });
  }

  // Pages 0 .. count-1 of `page` bytes in slots of `slot` bytes.
  // kInvalidArgument for a count of slots that SparseTable refuses, a slot
  // below kMinSlot bytes or larger than a page, or a page above 1 GiB. kBusy
  // the second time. Not thread-safe.
  static constexpr std::uint64_t kMinSlot = 64;
  Result<void> Init(PageSize page, PageSize slot, std::uint64_t count) {
    if (slot.bytes() < kMinSlot || slot.shift() > page.shift() ||
        page.shift() > 30 || count > kAll >> page.shift()) {
      return Error::kInvalidArgument;
    }
    const unsigned order = page.shift() - slot.shift();
    if (const Result<void> r = slots_.Init(count << order); !r.ok()) return r;
    page_ = page;
    slot_ = slot;
    count_ = count;
    order_ = order;
    return Ok();
  }

  PageSize page() const { return page_; }
  PageSize slot() const { return slot_; }
  std::uint64_t count() const { return count_; }  // pages

  // Slot `n`; null when it never was asked for. Needs no lock, and is good for
  // the table's life.
  [[gnu::always_inline]] Slot* FindSlot(std::uint64_t n) const {
    return slots_.Find(n);
  }
  // The slots [first, last] and those that hold their pages' addresses; slot
  // `first`. kNoMemory, kOutOfRange.
  [[gnu::always_inline]] Result<Slot*> Prepare(std::uint64_t first,
                                               std::uint64_t last) {
    const std::uint64_t begin = first >> order_ << order_;
    if (first <= last && begin / kLeaf == last / kLeaf) [[likely]] {
      Slot* const there = slots_.Find(first);
      if (there != nullptr && last < slots_.count()) [[likely]]
        return there;
    }
    return PrepareAll(first, last);
  }

  // The page at `index`, or nullptr. It stays while a slot of it is taken.
  std::byte* Find(std::uint64_t index) const {
    const Slot* first = slots_.Find(index << order_);
    // P2, acquire: pairs with P1.
    return first == nullptr
               ? nullptr
               : PageOf(first->page.load(std::memory_order_acquire));
  }

  // The same, once nobody is making it or taking it away. REQUIRES: Prepare()d,
  // and the caller's change of a word comes before it in the order above.
  std::byte* Settle(std::uint64_t index) const {
    return SettleAt(*slots_.Find(index << order_));
  }
  // The same for the page that begins with this slot.
  [[gnu::always_inline]] std::byte* SettleAt(const Slot& first) const {
    // seq_cst: see the top. It is P2 too.
    const std::uintptr_t now = first.page.load(std::memory_order_seq_cst);
    if (now == 0) return nullptr;
    if ((now & kBusy) != 0) [[unlikely]]
      return PageOf(AwaitPage(first));
    return reinterpret_cast<std::byte*>(now);  // not busy: it has no bits
  }

  // Takes the page for the caller alone, from other Locks and from Settles;
  // returns it, or nullptr. REQUIRES: Prepare()d; Unlock follows.
  std::byte* Lock(std::uint64_t index) {
    bool met = false;
    return LockUnless(index, 0, &met);
  }
  // Ends Lock: `page` is the page at `index` from now on (null: none is).
  void Unlock(std::uint64_t index, std::byte* page) {
    // P1, release: pairs with P2.
    slots_.Find(index << order_)
        ->page.store(reinterpret_cast<std::uintptr_t>(page),
                     std::memory_order_release);
  }

  // f(number, Slot&) for each slot of [first, last] (inclusive), in order.
  // REQUIRES: Prepare()d.
  template <class F>
  void EachSlot(std::uint64_t first, std::uint64_t last, F&& f) const {
    while (first <= last) {
      Slot* const slot = slots_.Find(first);
      // They lie side by side up to the end of the leaf.
      const std::uint64_t run =
          std::min(last - first + 1, kLeaf - first % kLeaf);
      for (std::uint64_t i = 0; i < run; ++i) f(first + i, slot[i]);
      first += run;
    }
  }
  // The first slot of page `index`; `before` is that of the page before, or
  // null. REQUIRES: Prepare()d.
  Slot& FirstSlot(std::uint64_t index, Slot* before) const {
    const std::uint64_t n = index << order_;
    return before == nullptr || n % kLeaf == 0
               ? *slots_.Find(n)
               : before[std::size_t{1} << order_];
  }
  // f(index, the page's first Slot&) for each page of [first, last], likewise.
  template <class F>
  void EachPage(std::uint64_t first, std::uint64_t last, F&& f) const {
    if (order_ == 0) {
      EachSlot(first, last, f);
      return;
    }
    for (std::uint64_t i = first; i <= last; ++i) {
      f(i, *slots_.Find(i << order_));
    }
  }
  // The page that begins with this slot, or nullptr.
  static std::byte* FindAt(const Slot& first) {
    // P2, acquire: pairs with P1.
    return PageOf(first.page.load(std::memory_order_acquire));
  }

  // Between the two: nobody finds the page, though it is there, and LockShown
  // fails. Who settles or Locks it waits as before.
  void Hide(std::uint64_t index) {
    // seq_cst: before the caller makes sure that no device uses it.
    slots_.Find(index << order_)
        ->page.store(kBusy | kHidden, std::memory_order_seq_cst);
  }
  // Lock, or kBusy while the page is hidden.
  Result<std::byte*> LockShown(std::uint64_t index) {
    bool hidden = false;
    std::byte* const page = LockUnless(index, kHidden, &hidden);
    if (hidden) return Error::kBusy;
    return page;
  }

  Source& source() { return source_; }
  // A zeroed page that nobody else can see yet. Fails as the source does.
  Result<std::byte*> NewPage() { return source_.Allocate(page_, 1); }
  void Discard(std::byte* page) { source_.Free(page, page_, 1); }

  // f(number, Slot&) for each slot of [first, last] (inclusive) that was ever
  // near one that was asked for, in order.
  template <class F>
  void ForEachSlot(std::uint64_t first, std::uint64_t last, F&& f) const {
    slots_.ForEach(first, last, f);
  }
  // f(index) for each page of [first, last] (inclusive) whose first slot was
  // ever near one that was asked for, in order.
  template <class F>
  void ForEachPageIn(std::uint64_t first, std::uint64_t last, F&& f) const {
    slots_.ForEach(first << order_, (last << order_) | ((1u << order_) - 1),
                   [&](std::uint64_t n, Slot&) {
                     if (n >> order_ << order_ == n) f(n >> order_);
                   });
  }
  // f(index, page) for each page that is there.
  template <class F>
  void ForEachPage(F&& f) const {
    slots_.ForEach(0, kAll, [&](std::uint64_t n, Slot& slot) {
      // P2, acquire: pairs with P1.
      std::byte* const page = PageOf(slot.page.load(std::memory_order_acquire));
      if (page != nullptr) f(n >> order_, page);
    });
  }

 private:
  // Below any page's alignment.
  static constexpr std::uintptr_t kBusy = 1;
  static constexpr std::uintptr_t kHidden = 2;
  static constexpr std::uint64_t kAll = ~std::uint64_t{0};
  static constexpr std::uint64_t kLeaf = SparseTable<Slot, Atom>::kFanout;

  [[gnu::noinline]] Result<Slot*> PrepareAll(std::uint64_t first,
                                             std::uint64_t last) {
    if (last < first || last >= slots_.count()) return Error::kOutOfRange;
    const Result<Slot*> slot = slots_.Ensure(first);
    if (!slot.ok()) return slot;
    const std::uint64_t begin = first >> order_ << order_;
    // One element of each leaf.
    for (std::uint64_t i = begin - begin % kLeaf; i <= last; i += kLeaf) {
      if (const auto r = slots_.Ensure(i); !r.ok()) return r.error();
    }
    return slot;
  }

  // Gives up, and says so, when it meets a bit of `bits`.
  std::byte* LockUnless(std::uint64_t index, std::uintptr_t bits, bool* met) {
    Slot& first = *slots_.Find(index << order_);
    // relaxed: a guess.
    std::uintptr_t now = first.page.load(std::memory_order_relaxed);
    for (;;) {
      if ((now & bits) != 0) {
        *met = true;
        return nullptr;
      }
      if ((now & kBusy) != 0) {
        AtomRelax<Atom>();
        now = first.page.load(std::memory_order_relaxed);
        continue;
      }
      // L1, seq_cst: see the top. It is P2 too. relaxed on failure: a guess.
      if (first.page.compare_exchange_weak(now, now | kBusy,
                                           std::memory_order_seq_cst,
                                           std::memory_order_relaxed)) {
        return PageOf(now);
      }
    }
  }

  [[gnu::noinline]] static std::uintptr_t AwaitPage(const Slot& first) {
    for (;;) {
      AtomRelax<Atom>();
      // acquire: P2. Its place in the order is that of SettleAt's load.
      const std::uintptr_t now = first.page.load(std::memory_order_acquire);
      if ((now & kBusy) == 0) return now;
    }
  }

  static std::byte* PageOf(std::uintptr_t word) {
    return reinterpret_cast<std::byte*>(word & ~(kBusy | kHidden));
  }

  Source& source_;
  SparseTable<Slot, Atom> slots_;
  PageSize page_;
  PageSize slot_;
  std::uint64_t count_ = 0;
  unsigned order_ = 0;  // slots of a page, as a power of two
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_BOUNCE_PAGE_TABLE_H_
