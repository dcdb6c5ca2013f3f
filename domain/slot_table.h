// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_SLOT_TABLE_H_
#define DMAMAP_DOMAIN_SLOT_TABLE_H_

// SlotTable: the records of the mappings of one window of I/O addresses, each
// in the slot of its first page, under one word (bounce/slot.h). What a
// StreamChecker checks against. An inner header.
//
//   Begin (kFree -> kFilling) ... Become(kLive) ... Checker::Take (kEnding)
//   ... Become(kFree, or kQuarantined, or kRetired and later kFree)
//
// The word is last to say what is, and first to say what is no more; the fields
// beside it are its owner's, who is the thread that took it.
//
// Synchronisation edge
//   S1 -> S2  a slot's fields are seen by whoever sees its word.

#include <atomic>
#include <cstdint>

#include "bounce/slot.h"
#include "bounce/sparse_table.h"
#include "dma/address.h"
#include "dma/atom.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {
namespace internal {

// SlotType: word, size, buffer and shape as BounceSlot has them.
template <class SlotType, template <class> class Atom>
class SlotTable {
 public:
  using Slot = SlotType;
  struct Shown {
    Slot* slot = nullptr;
    SlotWord word;
    BounceBuffer b;
  };

  // Pages of `page` bytes; whole ones in `window`. As SparseTable::Init.
  Result<void> Init(Range window, PageSize page, std::uint32_t first_tag) {
    page_ = page;
    first_ = page.Number(window.first());
    first_tag_ = first_tag == 0 ? 1 : first_tag;
    return slots_.Init(window.PagesTouchedMinusOne(page) + 1);
  }

  PageSize slot() const { return page_; }
  Range window() const {
    const Iova first(first_ << page_.shift());
    return *Range::FromSize(first, slots_.count() << page_.shift());
  }
  // The slot of the page that `at` is on; null where there never was one.
  Slot* SlotAt(Iova at) const {
    const std::uint64_t n = page_.Number(at);
    return n < first_ ? nullptr : slots_.Find(n - first_);
  }
  // The same, made. kNoMemory; kOutOfRange outside the window.
  Result<Slot*> Ensure(Iova at) {
    return slots_.Ensure(page_.Number(at) - first_);
  }

  // Takes a free slot and writes the record; false when it is not free.
  bool Begin(Slot& slot, std::uint64_t size, PhysAddr buffer, SlotShape shape) {
    SlotWord now(slot.word.load(std::memory_order_relaxed));  // a guess
    if (!now.is_free()) return false;
    std::uint64_t bits = now.bits();
    const SlotWord next(TagAfter(now), SlotState::kFilling);
    // S2, acquire: pairs with S1 of who freed it. relaxed: somebody else's.
    if (!slot.word.compare_exchange_strong(bits, next.bits(),
                                           std::memory_order_acquire,
                                           std::memory_order_relaxed)) {
      return false;
    }
    // F1, release: pairs with the fence in Read. Who reads one of these finds
    // the word changed.
    slot.size.store(size, std::memory_order_release);
    slot.buffer.store(buffer.value(), std::memory_order_release);
    slot.shape.store(shape.bits(), std::memory_order_release);
    return true;
  }
  // REQUIRES: the word is the caller's. Its tag.
  std::uint32_t Become(Slot& slot, SlotState state) {
    // relaxed: this thread wrote it, or took it.
    const SlotWord now(slot.word.load(std::memory_order_relaxed));
    // S1, release: pairs with S2.
    slot.word.store(now.To(state).bits(), std::memory_order_release);
    return now.tag();
  }
  std::uint32_t TagAfter(SlotWord before) const {
    const std::uint32_t tag = before.tag();
    return tag == 0 || tag + 1 == 0 ? first_tag_ : tag + 1;
  }

  // f(page's first byte, Slot&) for each slot that is there, in order.
  template <class F>
  void ForEachSlot(F&& f) const {
    slots_.ForEach(0, ~std::uint64_t{0}, [&](std::uint64_t n, Slot& slot) {
      f(Iova((first_ + n) << page_.shift()), slot);
    });
  }
  // f(const Shown&) for each mapping in any state but kFree, in order.
  template <class F>
  void ForEachMapping(F&& f) const {
    ForEachSlot([&](Iova first, Slot& slot) {
      Shown found;
      if (Read(first, slot, found)) f(static_cast<const Shown&>(found));
    });
  }
  // The mapping in whose slots `at` lies is not found by this, unless it begins
  // on that page. False: none does.
  bool Read(Iova first, Slot& slot, Shown& found) const {
    for (;;) {
      // S2, acquire: pairs with S1.
      const SlotWord word(slot.word.load(std::memory_order_acquire));
      if (word.is_free()) return false;
      // relaxed: compared with the word below.
      const SlotShape shape(slot.shape.load(std::memory_order_relaxed));
      const std::uint64_t size = slot.size.load(std::memory_order_relaxed);
      const PhysAddr buffer(slot.buffer.load(std::memory_order_relaxed));
      // acquire: pairs with F1. A field of a later mapping comes with its word.
      AtomFence<Atom>(std::memory_order_acquire);
      const SlotWord now(slot.word.load(std::memory_order_relaxed));
      if (!now.SameAs(word)) continue;
      const Result<Range> body = Range::FromSize(first + shape.head(), size);
      if (!body.ok()) return false;  // being written, or no mapping's first
      found = {&slot,
               word,
               {body->RoundOutToPages(page_), *body, buffer, shape.fill(),
                shape.direction(), shape.overwritten()}};
      return true;
    }
  }

 private:
  SparseTable<Slot, Atom> slots_;
  PageSize page_;
  std::uint64_t first_ = 0;  // the window's first page
  std::uint32_t first_tag_ = 1;
};

// A slot's fields, for whoever has its word.
template <class Slot>
PhysAddr BufferOf(const Slot& slot) {
  return PhysAddr(slot.buffer.load(std::memory_order_relaxed));  // see above
}
template <class Slot>
SlotShape ShapeOf(const Slot& slot) {
  return SlotShape(slot.shape.load(std::memory_order_relaxed));  // see above
}

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_SLOT_TABLE_H_
