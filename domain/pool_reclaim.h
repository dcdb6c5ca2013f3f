// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_POOL_RECLAIM_H_
#define DMAMAP_DOMAIN_POOL_RECLAIM_H_

// How a PoolSpace gives back pages that no mapping is on, and its invariants.
// Included by pool_space.h alone.

#include <array>
#include <cstddef>
#include <cstdint>

#include "domain/pool_space.h"

namespace dmamap::inline v0 {
namespace internal {

template <class Policies>
struct PoolSpace<Policies>::Sweep {
  std::uint64_t freed = 0;
  std::size_t held = 0;
  std::array<Slot*, 64> slots = {};
};

template <class Policies>
std::uint64_t PoolSpace<Policies>::ReclaimIdle() {
  Sweep sweep;
  table_.ForEachSlot([&](Iova at, Slot& slot) {
    if (!table_.Begin(slot, 0, PhysAddr(), SlotShape(0))) return;
    table_.Become(slot, SlotState::kEnding);
    std::byte* const memory = slot.memory;
    if (memory == nullptr || !TakeOut(slot, at)) {
      table_.Become(slot, SlotState::kFree);
      return;
    }
    sweep.slots[sweep.held++] = &slot;
    if (sweep.held == sweep.slots.size()) FreeIdle(sweep);
  });
  FreeIdle(sweep);
  return sweep.freed;
}

template <class Policies>
void PoolSpace<Policies>::FreeIdle(Sweep& sweep) {
  if (sweep.held == 0) return;
  // If it fails, the pages keep their memory, and their next mapping puts it
  // back into the tables.
  const bool gone = core_.invalidation.InvalidateAll().ok();
  for (std::size_t i = 0; i < sweep.held; ++i) {
    Slot& slot = *sweep.slots[i];
    std::byte* const memory = slot.memory;
    if (gone) {
      slot.memory = nullptr;
      core_.pages.Free(memory, page_, 1);
      ++sweep.freed;
    }
    table_.Become(slot, SlotState::kFree);
  }
  sweep.held = 0;
}

template <class Policies>
bool PoolSpace<Policies>::CheckInvariants() const {
  bool good = true;
  std::uint64_t behind = 0;  // the last mapping's pages
  bool abandoned = false;    // and it is in quarantine
  table_.ForEachSlot([&](Iova at, Slot& slot) {
    const SlotWord word(slot.word.load(std::memory_order_relaxed));
    const std::byte* const memory = slot.memory;
    const bool mapped = slot.mapped;
    const std::uint32_t end = slot.dirty_end;
    const bool ready = slot.ready;
    good = good && word.pins() == 0 && (memory != nullptr || !mapped) &&
           (mapped || !ready) && end <= page_.bytes();
    if (word.is_free()) return;
    const std::uint64_t size = slot.size.load(std::memory_order_relaxed);
    const std::uint64_t n = page_.Number(at);
    good = good && (size != 0) == (n >= behind);
    if (size != 0) {
      behind = n + Pages(slot);
      abandoned = word.state() == SlotState::kQuarantined;
    }
    good = good && (ready || abandoned);
  });
  return good;
}

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_POOL_RECLAIM_H_
