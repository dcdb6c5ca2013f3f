// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BOUNCE_BOUNCE_PAGES_H_
#define DMAMAP_BOUNCE_BOUNCE_PAGES_H_

// Bounce's beginning, and its pages: how one is made when a device touches it,
// and how idle ones go back. Included by bounce/bounce.h alone.

#include <cstddef>
#include <cstdint>

#include "bounce/bounce.h"

namespace dmamap::inline v0 {

template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
Result<void> Bounce<Source, Memory, Atom, Fence>::Init(
    const BounceOptions& options) {
  if (options.size == 0 || !options.page.IsAligned(options.size)) {
    return Error::kInvalidArgument;
  }
  Fence::Prepare();
  first_tag_ = options.first_tag == 0 ? 1 : options.first_tag;
  return table_.Init(options.page, options.slot,
                     options.size >> options.page.shift());
}

// --- Making a page ---

template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
template <class Allowed>
Result<std::byte*> Bounce<Source, Memory, Atom, Fence>::Touch(
    Iova at, Allowed&& allowed, bool* made, std::uint64_t* bytes) {
  const std::uint64_t index = page().Number(at);
  if (const Result<void> r = allowed(); !r.ok()) return r.error();
  if (std::byte* const page_data = table_.Find(index)) return page_data;
  // Memory is taken before the page is, and so the question is asked again.
  Result<std::byte*> fresh = table_.NewPage();
  if (!fresh.ok() && ReclaimIdle() != 0) fresh = table_.NewPage();
  if (!fresh.ok()) return fresh;
  const Result<std::byte*> locked = table_.LockShown(index);
  if (!locked.ok()) {
    table_.Discard(*fresh);
    return locked;
  }
  std::byte* const there = *locked;
  Fence::Heavy();  // the page before the words
  Result<void> r = allowed();
  if (r.ok() && there == nullptr) r = FillNew(at, *fresh, bytes);
  *made = r.ok() && there == nullptr;
  table_.Unlock(index, *made ? *fresh : there);
  if (!*made) table_.Discard(*fresh);
  if (!r.ok()) return r.error();
  return *made ? *fresh : there;
}

template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
Result<void> Bounce<Source, Memory, Atom, Fence>::FillNew(
    Iova at, std::byte* page_data, std::uint64_t* bytes) {
  const Range range = PageRange(at);
  table_.ForEachSlot(NumberOf(range.first()), NumberOf(range.last()),
                     [](std::uint64_t, Slot& slot) {
                       slot.dirty_first = 0;
                       slot.dirty_end = 0;
                     });
  Result<void> result;
  ForEachShown(at, [&](const Shown& m) {
    const Range part = *m.b.slots.Intersect(range);
    TidyPart(part, page_data, m.b.body);
    const Result<Range> body = part.Intersect(m.b.body);
    const Result<void> r =
        Write(*body, At(page_data, body->first()), m.b, bytes);
    if (!r.ok() && result.ok()) result = r;
  });
  return result;
}

// --- Giving pages back ---

template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
Result<std::uint64_t> Bounce<Source, Memory, Atom, Fence>::Reclaim(
    Range pages) {
  if (!pages.IsPageAligned(page())) return Error::kInvalidArgument;
  const std::uint64_t first = page().Number(pages.first());
  const std::uint64_t last = page().Number(pages.last());
  if (last >= table_.count()) return Error::kOutOfRange;
  for (Sweep sweep = {.only_look = true};; sweep = {}) {
    SweepIdle(first, last, sweep);
    if (sweep.busy != 0) return Error::kBusy;
    if (!sweep.only_look) return sweep.freed;
  }
}

template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
std::uint64_t Bounce<Source, Memory, Atom, Fence>::ReclaimIdle() {
  Sweep sweep;
  SweepIdle(0, table_.count() - 1, sweep);
  return sweep.freed;
}

template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
bool Bounce<Source, Memory, Atom, Fence>::InUse(std::uint64_t index) const {
  const Range range = PageRange(Iova(index << page().shift()));
  bool used = false;
  const std::uint64_t first = NumberOf(range.first());
  table_.ForEachSlot(
      first, NumberOf(range.last()), [&](std::uint64_t n, Slot& slot) {
        // seq_cst: after Lock (page_table.h).
        const SlotWord word(slot.word.load(std::memory_order_seq_cst));
        used = used || !word.is_free() || (n == first && LookAt(n).ok());
      });
  return used;
}

template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
void Bounce<Source, Memory, Atom, Fence>::SweepIdle(std::uint64_t first,
                                                    std::uint64_t last,
                                                    Sweep& sweep) {
  table_.ForEachPageIn(first, last, [&](std::uint64_t index) {
    if (sweep.only_look || table_.Find(index) == nullptr) {
      sweep.busy += InUse(index) ? 1 : 0;
      return;
    }
    // In ascending order, as all who hold several.
    (void)table_.Lock(index);
    sweep.page[sweep.locked++] = index;
    if (sweep.locked == sweep.page.size()) FreeIdle(sweep);
  });
  FreeIdle(sweep);
}

template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
void Bounce<Source, Memory, Atom, Fence>::FreeIdle(Sweep& sweep) {
  if (sweep.locked == 0) return;
  Fence::Heavy();  // the pages before the words
  for (std::size_t i = 0; i < sweep.locked; ++i) {
    const std::uint64_t index = sweep.page[i];
    std::byte* const data = table_.Find(index);
    const bool used = InUse(index);
    table_.Unlock(index, used ? data : nullptr);
    sweep.busy += used ? 1 : 0;
    if (used || data == nullptr) continue;
    table_.Discard(data);
    ++sweep.freed;
  }
  sweep.locked = 0;
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_BOUNCE_BOUNCE_PAGES_H_
