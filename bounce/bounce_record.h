// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BOUNCE_BOUNCE_RECORD_H_
#define DMAMAP_BOUNCE_BOUNCE_RECORD_H_

// The record of a mapping in Bounce: how it is written, shown, taken back and
// read. Included by bounce/bounce.h alone.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "bounce/bounce.h"

namespace dmamap::inline v0 {

template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
inline SlotWord Bounce<Source, Memory, Atom, Fence>::Own(Slot& first,
                                                         Range slots) {
  const SlotWord free = AwaitFree(first);
  const std::uint64_t number = NumberOf(slots.first());
  const std::uint64_t last = NumberOf(slots.last());
  if (number != last) OwnSlots(number, last);
  return free;
}

template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
inline Result<void> Bounce<Source, Memory, Atom, Fence>::Show(
    Slot& first, SlotWord word, const BounceBuffer& b, std::uint64_t* bytes) {
  Record(first, word, b.body.size(), b.buffer,
         SlotShape(b.body.first() - b.slots.first(), b));
  return Fill(b, bytes);
}

template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
Result<void> Bounce<Source, Memory, Atom, Fence>::ShowSlot(
    Slot& slot, SlotWord word, std::uint64_t size, PhysAddr buffer,
    SlotShape shape, std::uint64_t* bytes) {
  Record(slot, word, size, buffer, shape);
  std::byte* const page_data = table_.SettleAt(slot);
  if (page_data == nullptr) return Ok();
  const auto begin = static_cast<std::uint32_t>(shape.head());
  Tidy(slot, page_data, begin, begin + static_cast<std::uint32_t>(size));
  if (shape.fill() == BounceFill::kZero) {
    std::memset(page_data + begin, 0, static_cast<std::size_t>(size));
    return Ok();
  }
  *bytes += size;
  return CopyFromMemory(memory_, buffer, page_data + begin,
                        static_cast<std::size_t>(size));
}

template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
inline std::uint32_t Bounce<Source, Memory, Atom, Fence>::Admit(Slot& first) {
  // relaxed: this thread wrote it.
  return Admit(first, SlotWord(first.word.load(std::memory_order_relaxed)));
}
template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
inline std::uint32_t Bounce<Source, Memory, Atom, Fence>::Admit(Slot& first,
                                                                SlotWord word) {
  // W1, release: pairs with W2.
  first.word.store(word.To(SlotState::kLive).bits(), std::memory_order_release);
  return word.tag();
}

template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
inline void Bounce<Source, Memory, Atom, Fence>::Vacate(Slot& first,
                                                        SlotState to) {
  // relaxed: this thread wrote it.
  const SlotWord now(first.word.load(std::memory_order_relaxed));
  Vacate(first, now.To(to));
}
template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
inline void Bounce<Source, Memory, Atom, Fence>::Vacate(Slot& first,
                                                        SlotWord to) {
  // W1, release: pairs with W2 in AwaitFree and in whoever looks for what is
  // still taken.
  first.word.store(to.bits(), std::memory_order_release);
}

template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
void Bounce<Source, Memory, Atom, Fence>::Retract(Slot& first, Range slots) {
  const SlotWord now(first.word.load(std::memory_order_relaxed));
  // seq_cst: before the pages are looked at.
  first.word.exchange(now.To(SlotState::kEnding).bits(),
                      std::memory_order_seq_cst);
  SettleAll(slots);
  Scrub(slots);
}

template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
bool Bounce<Source, Memory, Atom, Fence>::Read(Iova slot_first, Slot& slot,
                                               SlotWord word,
                                               Shown& found) const {
  // relaxed: see the fence.
  const SlotShape shape(slot.shape.load(std::memory_order_relaxed));
  const Iova begin = slot_first + shape.head();
  const std::uint64_t size = slot.size.load(std::memory_order_relaxed);
  const PhysAddr buffer(slot.buffer.load(std::memory_order_relaxed));
  // acquire: pairs with W1 in Show: who read a later mapping's field reads its
  // word below.
  AtomFence<Atom>(std::memory_order_acquire);
  const SlotWord now(slot.word.load(std::memory_order_relaxed));
  if (!now.SameAs(word) || size == 0) return false;
  const Result<Range> body = Range::FromSize(begin, size);
  if (!body.ok()) return false;
  found.slot = &slot;
  found.word = word;
  found.b = {body->RoundOutToPages(this->slot()),
             *body,
             buffer,
             shape.fill(),
             shape.direction(),
             shape.overwritten()};
  return true;
}

template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
inline SlotWord Bounce<Source, Memory, Atom, Fence>::AwaitFree(
    const Slot& slot) const {
  // W2, acquire: pairs with W1 in Vacate.
  SlotWord word(slot.word.load(std::memory_order_acquire));
  while (!word.is_free()) [[unlikely]] {
      AtomRelax<Atom>();
      word = SlotWord(slot.word.load(std::memory_order_acquire));
    }
  return word;
}

template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
void Bounce<Source, Memory, Atom, Fence>::OwnSlots(std::uint64_t first,
                                                   std::uint64_t last) {
  table_.EachSlot(first + 1, last, [&](std::uint64_t, Slot& slot) {
    (void)AwaitFree(slot);
    // relaxed: the fence behind the word orders it.
    slot.owner.store(first + 1, std::memory_order_relaxed);
  });
}

template <PageSource Source, MemoryAccess Memory, template <class> class Atom,
          AsymmetricFence Fence>
inline void Bounce<Source, Memory, Atom, Fence>::Record(Slot& first,
                                                        SlotWord word,
                                                        std::uint64_t size,
                                                        PhysAddr buffer,
                                                        SlotShape shape) {
  // W1, release: pairs with the fence of Read. A reader that finds one of these
  // finds the word changed.
  first.size.store(size, std::memory_order_release);
  first.buffer.store(buffer.value(), std::memory_order_release);
  first.shape.store(shape.bits(), std::memory_order_release);
  // W1, release: pairs with W2.
  first.word.store(word.bits(), std::memory_order_release);
  // The word and the owners before the pages (page_table.h).
  Fence::Light();
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_BOUNCE_BOUNCE_RECORD_H_
