// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BOUNCE_BOUNCE_SWAP_H_
#define DMAMAP_BOUNCE_BOUNCE_SWAP_H_

// How Bounce moves its pages to other memory under live mappings, without
// losing a byte. Included by bounce/bounce.h alone.
//
// One page: Lock (no fault makes it, whoever settles it waits); then look at
// the words. Who is filling, syncing or ending a mapping of the page may have
// settled it before, and hold its address: then it is let go and tried again.
// Who comes later waits for Unlock and finds the new page (page_table.h has the
// order). A live mapping holds no address but the device's: the page is hidden
// from it, so that no Touch finds it (kBusy, at once: a device whose access the
// invalidation waits for must not wait for the page), and invalidated, so that
// no access goes on. Now nobody reads or writes: copy, Unlock with the new one,
// free the old.

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "bounce/bounce.h"
#include "dma/atom.h"

namespace dmamap::inline v0 {

template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
auto Bounce<Source, Memory, Atom, Fence>::UseOf(std::uint64_t index,
                                                Shown* mover) const -> PageUse {
  const Range range = PageRange(Iova(index << page().shift()));
  const std::uint64_t last = NumberOf(range.last());
  PageUse use = PageUse::kStill;
  for (std::uint64_t n = NumberOf(range.first()); n <= last; ++n) {
    const Result<Shown> m = LookAt(n);
    if (!m.ok()) continue;
    const SlotState state = m->word.state();
    // A retired one is waited for by nobody who could say how long.
    if (state == SlotState::kQuarantined || state == SlotState::kRetired) {
      return PageUse::kForEver;
    }
    if (m->word.is_live() && m->word.pins() == 0) continue;
    *mover = *m;
    use = PageUse::kMoving;
  }
  return use;
}

// kBusy: another time. REQUIRES: between BeginSwap and EndSwap.
template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
template <class Invalidate>
Result<bool> Bounce<Source, Memory, Atom, Fence>::SwapPage(
    std::uint64_t index, PageHome to, Invalidate&& invalidate) {
  Source& source = table_.source();
  std::byte* const old = table_.Lock(index);
  if (old == nullptr || source.HomeOf(old) == to) {
    table_.Unlock(index, old);
    return false;
  }
  Fence::Heavy();  // the page before the words
  Shown mover;
  const PageUse use = UseOf(index, &mover);
  if (use != PageUse::kStill) {
    table_.Unlock(index, old);
    if (use == PageUse::kForEver) return Error::kDevice;
    // acquire: W2.
    while (mover.slot->word.load(std::memory_order_acquire) ==
           mover.word.bits()) {
      AtomRelax<Atom>();
    }
    return Error::kBusy;
  }
  table_.Hide(index);
  const Result<void> gone =
      invalidate(PageRange(Iova(index << page().shift())));
  if (!gone.ok()) {
    table_.Unlock(index, old);
    return gone.error() == Error::kBusy ? Error::kDevice : gone.error();
  }
  std::byte* const fresh = source.TakeReserved();
  std::memcpy(fresh, old, static_cast<std::size_t>(page().bytes()));
  table_.Unlock(index, fresh);
  table_.Discard(old);
  return true;
}

template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
template <class Invalidate>
Result<std::uint64_t> Bounce<Source, Memory, Atom, Fence>::SwapPages(
    PageHome to, Invalidate&& invalidate) {
  Source& source = table_.source();
  const PageHome from = to == PageHome::kOwn ? PageHome::kLent : PageHome::kOwn;
  if (const auto begun = source.BeginSwap(page(), to); !begun.ok()) {
    return begun.error();
  }
  std::uint64_t moved = 0;
  Result<void> result;
  // Pages that a fault took before the home changed come to be seen yet.
  while (result.ok() && source.out(from) != 0) {
    bool again = false;
    table_.ForEachPageIn(0, table_.count() - 1, [&](std::uint64_t index) {
      if (table_.Find(index) == nullptr) return;
      const Result<bool> r = SwapPage(index, to, invalidate);
      if (r.ok()) {
        moved += *r ? 1 : 0;
      } else if (r.error() == Error::kBusy) {
        again = true;
      } else if (result.ok()) {
        result = r.error();
      }
    });
    if (again || source.out(from) != 0) AtomRelax<Atom>();
  }
  source.EndSwap(page());
  if (!result.ok()) return result.error();
  return moved;
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_BOUNCE_BOUNCE_SWAP_H_
