// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BOUNCE_BOUNCE_COPY_H_
#define DMAMAP_BOUNCE_BOUNCE_COPY_H_

// The contents of Bounce's pages: what is filled, copied and zeroed. Included
// by bounce/bounce.h alone.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "bounce/bounce.h"

namespace dmamap::inline v0 {

template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
void Bounce<Source, Memory, Atom, Fence>::TidyOther(Slot& slot, std::byte* data,
                                                    std::uint32_t begin,
                                                    std::uint32_t end) {
  const std::uint32_t first = slot.dirty_first;
  const std::uint32_t behind = slot.dirty_end;
  if (first < begin) {
    std::memset(data + first, 0, std::min(begin, behind) - first);
  }
  if (behind > end) {
    const std::uint32_t from = std::max(first, end);
    std::memset(data + from, 0, behind - from);
  }
  slot.dirty_first = begin;
  slot.dirty_end = end;
}

template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
inline void Bounce<Source, Memory, Atom, Fence>::TidyFor(Slot& slot,
                                                         std::uint64_t n,
                                                         std::byte* page_data,
                                                         Range body) const {
  const Iova first = IovaOf(n);
  const std::uint64_t begin = body.first() > first ? body.first() - first : 0;
  const std::uint64_t end =
      std::min(body.last() - first, this->slot().mask()) + 1;
  Tidy(slot, At(page_data, first), static_cast<std::uint32_t>(begin),
       static_cast<std::uint32_t>(end));
}

template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
inline Result<void> Bounce<Source, Memory, Atom, Fence>::Write(
    Range piece, std::byte* data, const BounceBuffer& b, std::uint64_t* bytes) {
  if (b.fill == BounceFill::kZero) {
    std::memset(data, 0, Size(piece));
    return Ok();
  }
  *bytes += piece.size();
  return CopyFromMemory(memory_, b.buffer + (piece.first() - b.body.first()),
                        data, Size(piece));
}

template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
void Bounce<Source, Memory, Atom, Fence>::Scrub(Range slots) {
  table_.EachSlot(NumberOf(slots.first()), NumberOf(slots.last()),
                  [this](std::uint64_t n, Slot& slot) {
                    std::byte* const data = PageAt(IovaOf(n));
                    if (data != nullptr) Tidy(slot, At(data, IovaOf(n)), 0, 0);
                  });
}

template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
Result<void> Bounce<Source, Memory, Atom, Fence>::CopyIn(Range part,
                                                         PhysAddr buffer,
                                                         std::uint64_t* bytes) {
  SettleAll(part);
  return ForEachRun(part, FindPage, [&](Range piece, std::byte* data) {
    *bytes += piece.size();
    return CopyFromMemory(memory_, buffer + (piece.first() - part.first()),
                          data, Size(piece));
  });
}

template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
Result<void> Bounce<Source, Memory, Atom, Fence>::CopyOut(
    Range part, PhysAddr buffer, std::uint64_t* bytes) {
  const std::uint64_t begin = NumberOf(part.first());
  const auto filled = [&](std::uint64_t index, const Slot& first) {
    // A swap may have hidden it (bounce_swap.h).
    std::byte* const data = table_.SettleAt(first);
    if (data == nullptr) return data;
    const std::uint64_t n = NumberOf(Iova(index << page().shift()));
    const Slot& own =
        shares_pages() ? *table_.FindSlot(std::max(begin, n)) : first;
    return WasFilled(own) ? data : nullptr;
  };
  return ForEachRun(part, filled, [&](Range piece, std::byte* data) {
    *bytes += piece.size();
    return CopyToMemory(memory_, buffer + (piece.first() - part.first()), data,
                        Size(piece));
  });
}

template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
Result<void> Bounce<Source, Memory, Atom, Fence>::Fill(const BounceBuffer& b,
                                                       std::uint64_t* bytes) {
  const bool shares = shares_pages();
  const auto ready = [&](std::uint64_t index, Slot& first) {
    std::byte* const data = table_.SettleAt(first);
    if (data == nullptr) return data;
    if (!shares) {
      TidyFor(first, index, data, b.body);
    } else {
      const Range whole = PageRange(Iova(index << page().shift()));
      TidyPart(*b.slots.Intersect(whole), data, b.body);
    }
    return data;
  };
  return ForEachRun(b.body, ready, [&](Range piece, std::byte* data) {
    return Write(piece, data, b, bytes);
  });
}

template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
void Bounce<Source, Memory, Atom, Fence>::TidyPart(Range part,
                                                   std::byte* page_data,
                                                   Range body) const {
  table_.EachSlot(
      NumberOf(part.first()), NumberOf(part.last()),
      [&](std::uint64_t n, Slot& slot) { TidyFor(slot, n, page_data, body); });
}

template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
template <class PageOf, class F>
Result<void> Bounce<Source, Memory, Atom, Fence>::ForEachRun(Range range,
                                                             PageOf&& page_of,
                                                             F&& f) {
  const unsigned shift = page().shift();
  const std::uint64_t last = page().Number(range.last());
  std::uint64_t begin = page().Number(range.first());
  Slot* slot = &table_.FirstSlot(begin, nullptr);
  std::byte* data = page_of(begin, *slot);
  for (;;) {  // once for each run; or for pages in a row that are not there
    std::uint64_t behind = begin + 1;
    std::byte* next = nullptr;
    for (; behind <= last; ++behind) {
      slot = &table_.FirstSlot(behind, slot);
      next = page_of(behind, *slot);
      const std::byte* const in_a_row =
          data == nullptr ? nullptr : data + ((behind - begin) << shift);
      if (next != in_a_row) break;
    }
    if (data != nullptr) {
      const Iova first(begin << shift);
      const Iova end(((behind - 1) << shift) | page().mask());
      const Range piece = *range.Intersect(*Range::FromFirstLast(first, end));
      const Result<void> r = f(piece, data + (piece.first() - first));
      if (!r.ok()) return r;
    }
    if (behind > last) return Ok();
    begin = behind;
    data = next;
  }
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_BOUNCE_BOUNCE_COPY_H_
