// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_RECLAIM_H_
#define DMAMAP_IOTLB_RECLAIM_H_

// ReaderRegistry: who reads, and when all of them have let go of what is
// removed.
//
// The IOTLB's own memory needs none of this: it is type-stable, and lookups
// check what they read. This is for the memory that a *translation* leads to.
// A reader that uses a translation does so within a section; who removes a
// mapping waits for the sections that may still know it, and no other.
//
//   reader: Enter ... lookup, access the memory ... Leave
//   writer: kill the mapping; ticket = Retire(); until IsOver(ticket)
//
// Synchronisation edges
//   E1 <-> E2  two full fences: either the writer sees the section, or the
//              section sees that the mapping is dead.
//   E3 -> E4   all that a section did, before the wait for it ends.
//   E5 -> E6   what was removed, before a section that is not waited for.
//
// A section writes its reader's own cache line, which only a remover reads.
// Enter and Leave are wait-free, Retire and IsOver never block.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <utility>

#include "dma/atom.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "iotlb/mapping.h"
#include "iotlb/node_pool.h"

namespace dmamap::inline v0 {

// A moment after which new sections do not know what was removed before.
enum class GraceTicket : std::uint64_t {};

namespace internal {

// One reader. Type-stable: it stays in the list, and serves another reader.
template <template <class> class Atom>
struct alignas(2 * kCacheLine) ReaderSlot {
  Atom<std::uint64_t> section{0};  // the epoch of its begin; 0: in none
  // Only the reader writes these.
  Atom<std::uint64_t> hits{0}, misses{0}, faults{0}, hint_hits{0};
  // Guarded by the registry's lock.
  ReaderSlot *next_free = nullptr;
  // Set before the slot is in the list, and then constant.
  ReaderSlot *next = nullptr;

  static ReaderSlot *&PoolLink(ReaderSlot &s) { return s.next_free; }

  ReaderStats stats() const {
    // relaxed, all: counts alone.
    const std::uint64_t hinted = hint_hits.load(std::memory_order_relaxed);
    return {hits.load(std::memory_order_relaxed) + hinted,
            misses.load(std::memory_order_relaxed),
            faults.load(std::memory_order_relaxed), hinted};
  }

  void ResetCounts() {
    // relaxed, all: the registry's lock orders them before the next reader's.
    for (auto *const counter : {&hits, &misses, &faults, &hint_hits}) {
      counter->store(0, std::memory_order_relaxed);
    }
  }

  [[gnu::always_inline]] static void Count(Atom<std::uint64_t> &counter) {
    // relaxed: one writer, and nobody concludes anything from a count.
    counter.store(counter.load(std::memory_order_relaxed) + 1,
                  std::memory_order_relaxed);
  }
};

}  // namespace internal

template <NodeMemory Memory, template <class> class Atom>
class ReaderRegistry {
 public:
  using Slot = internal::ReaderSlot<Atom>;

  explicit ReaderRegistry(Memory memory = Memory())
      : slots_(std::move(memory)) {}

  // --- Readers.

  // nullptr: no memory. REQUIRES: the writer's lock, or what stands for it.
  Slot *Attach() {
    Guard guard(lock_);
    if (free_ != nullptr) return std::exchange(free_, free_->next_free);
    if (!slots_.Reserve(1)) return nullptr;
    Slot *const slot = slots_.Take();
    // relaxed: the lock orders those who attach.
    slot->next = head_.load(std::memory_order_relaxed);
    // release: pairs with the acquire load in IsOver.
    head_.store(slot, std::memory_order_release);
    return slot;
  }
  // What the reader counted stays counted, and the slot begins anew. REQUIRES:
  // not in a section.
  void Detach(Slot *slot) {
    Guard guard(lock_);
    Sum(ended_, slot->stats());
    slot->ResetCounts();
    slot->next_free = free_;
    free_ = slot;
  }

  void Enter(Slot &slot) const {
    // E6, relaxed: E1 behind it is the acquire that pairs with E5.
    const std::uint64_t now = epoch_.load(std::memory_order_relaxed);
    // E3, release: pairs with E4. The section before ended.
    slot.section.store(now, std::memory_order_release);
    // E1, seq_cst: pairs with E2.
    AtomFence<Atom>(std::memory_order_seq_cst);
  }
  static void Leave(Slot &slot) {
    // E3, release: pairs with E4.
    slot.section.store(0, std::memory_order_release);
  }

  // --- The writer.

  // Sections that begin from now on see all that was removed until now.
  GraceTicket Retire() {
    // E2, seq_cst: pairs with E1.
    AtomFence<Atom>(std::memory_order_seq_cst);
    // relaxed: only the writer changes it.
    const std::uint64_t ticket = epoch_.load(std::memory_order_relaxed) + 1;
    // E5, relaxed: E2 before it is the release that pairs with E6.
    epoch_.store(ticket, std::memory_order_relaxed);
    return GraceTicket(ticket);
  }
  // True when no section is left that began before Retire gave out `ticket`.
  // Any thread.
  bool IsOver(GraceTicket ticket) const {
    // acquire: pairs with the release store in Attach.
    for (const Slot *slot = head_.load(std::memory_order_acquire);
         slot != nullptr; slot = slot->next) {
      // E4, acquire: pairs with E3.
      const std::uint64_t section =
          slot->section.load(std::memory_order_acquire);
      if (section != 0 && section < static_cast<std::uint64_t>(ticket)) {
        return false;
      }
    }
    return true;
  }
  // Waits. REQUIRES: the caller is in no section.
  void WaitFor(GraceTicket ticket) const {
    while (!IsOver(ticket)) AtomRelax<Atom>();
  }

  // Nobody ever attached: there are no sections. The writer's.
  bool IsUnused() const {
    // relaxed: who attaches holds the writer's lock, before or after.
    return head_.load(std::memory_order_relaxed) == nullptr;
  }

  // Of all readers, also of those that ended. Blocks while one comes or ends.
  ReaderStats stats() const {
    Guard guard(lock_);
    ReaderStats sum = ended_;
    for (const Slot *slot = head_.load(std::memory_order_acquire);
         slot != nullptr; slot = slot->next) {
      Sum(sum, slot->stats());
    }
    return sum;
  }
  std::size_t memory_bytes() const { return slots_.memory_bytes(); }

 private:
  static void Sum(ReaderStats &sum, const ReaderStats &one) {
    sum.hits += one.hits;
    sum.misses += one.misses;
    sum.faults += one.faults;
    sum.hint_hits += one.hint_hits;
  }

  mutable BasicSpinLock<Atom> lock_;
  Atom<Slot *> head_{nullptr};
  Slot *free_ = nullptr;
  ReaderStats ended_;  // of readers that ended
  NodePool<Slot, Memory> slots_;
  alignas(kCacheLine) Atom<std::uint64_t> epoch_{1};
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_RECLAIM_H_
