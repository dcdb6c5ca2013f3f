// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BOUNCE_BOUNCE_LOOK_H_
#define DMAMAP_BOUNCE_BOUNCE_LOOK_H_

// How Bounce finds mappings: by an address, on a page, all of them. Included by
// bounce/bounce.h alone.

#include <cstdint>

#include "bounce/bounce.h"

namespace dmamap::inline v0 {

template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
template <class F>
void Bounce<Source, Memory, Atom, Fence>::ForEachShown(Iova at, F&& f) const {
  const Range range = PageRange(at);
  const std::uint64_t last = NumberOf(range.last());
  for (std::uint64_t n = NumberOf(range.first()); n <= last; ++n) {
    const Result<Shown> found = LookAt(n);
    // One that has given its address back may have a new one begin in its
    // slots: only what is shown owns them.
    if (!found.ok() || !found->word.is_shown()) continue;
    f(*found);
    n = NumberOf(found->b.slots.last());
  }
}

template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
template <class F>
void Bounce<Source, Memory, Atom, Fence>::ForEachMapping(F&& f) const {
  table_.ForEachSlot(0, ~std::uint64_t{0}, [&](std::uint64_t n, Slot& slot) {
    // W2, acquire: pairs with W1.
    const SlotWord word(slot.word.load(std::memory_order_acquire));
    if (word.is_free()) return;
    const Result<Shown> found = LookAt(n);
    if (found.ok() && found->slot == &slot) f(*found);
  });
}

template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
auto Bounce<Source, Memory, Atom, Fence>::LookAt(std::uint64_t n) const
    -> Result<Shown> {
  for (;;) {
    Slot* slot = table_.FindSlot(n);
    if (slot == nullptr) return Error::kNotMapped;
    std::uint64_t first = n;
    // seq_cst: after Lock, if the caller has the page (page_table.h). W2 too.
    SlotWord word(slot->word.load(std::memory_order_seq_cst));
    if (word.is_free()) {
      const std::uint64_t owner = slot->owner.load(std::memory_order_seq_cst);
      if (owner == 0) return Error::kNotMapped;
      first = owner - 1;
      slot = table_.FindSlot(first);
      word = SlotWord(slot->word.load(std::memory_order_seq_cst));
      if (word.is_free()) return Error::kNotMapped;
    }
    Shown found;
    // Another mapping of the slot, at the next turn, or none.
    if (!Read(IovaOf(first), *slot, word, found)) continue;
    if (NumberOf(found.b.slots.last()) < n) return Error::kNotMapped;
    return found;
  }
}

template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
bool Bounce<Source, Memory, Atom, Fence>::AreOwned(Range slots) const {
  const std::uint64_t first = NumberOf(slots.first());
  bool good = true;
  table_.EachSlot(
      first, NumberOf(slots.last()), [&](std::uint64_t n, const Slot& slot) {
        // relaxed: nobody else is there.
        const auto relaxed = std::memory_order_relaxed;
        const SlotWord word(slot.word.load(relaxed));
        const std::uint64_t owner = slot.owner.load(relaxed);
        good = good && word.is_free() && (n == first || owner == first + 1);
      });
  return good;
}

template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
bool Bounce<Source, Memory, Atom, Fence>::CheckInvariants() const {
  bool good = true;
  ForEachPage([&](Range, std::byte* data) {
    good = good && page().IsAligned(PhysAddrOf(data).value());
  });
  std::uint64_t next = 0;
  ForEachMapping([&](const Shown& m) {
    good = good && NumberOf(m.b.slots.first()) >= next;
    next = NumberOf(m.b.slots.last()) + 1;
  });
  return good;
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_BOUNCE_BOUNCE_LOOK_H_
