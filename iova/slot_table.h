// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_SLOT_TABLE_H_
#define DMAMAP_IOVA_SLOT_TABLE_H_

// SlotTable: from a slot's number to the slot. A number whose slot was not made
// yet stands for one slot that has nothing and takes nothing, so that a fast
// path never asks whether there is one.
//
// kReach is what a PeekedCpuLocal policy calls kMostSlots: the table then lies
// in its owner and takes whatever Current() returns without a comparison,
// before Init too, those two numbers included that stand for no slot. With 0 it
// is made by Init, as long as it has to be.
//
// Synchronisation edge
//   S1 -> S2  a slot is constructed before somebody else finds it.
//
// Thread-safe after Init; Set by the slot's owner. Wait-free.

#include <array>
#include <atomic>
#include <cstddef>
#include <new>
#include <type_traits>

#include "dma/cpu.h"
#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

template <class Slot, std::size_t kReach, template <class> class Atom>
class SlotTable {
 public:
  explicit SlotTable(Slot& vacant) : vacant_(vacant) {
    if constexpr (kInline) Fill(entries_.data(), entries_.size());
  }
  SlotTable(const SlotTable&) = delete;
  SlotTable& operator=(const SlotTable&) = delete;
  ~SlotTable() {
    for (std::size_t n = 0; n < size_; ++n) {
      // relaxed: nobody else is left.
      Slot* slot = At(n).load(std::memory_order_relaxed);
      if (slot != &vacant_) delete slot;
    }
    if constexpr (!kInline) delete[] entries_;
  }

  // For the numbers below `slots`; with a kReach, for those up to it. REQUIRES:
  // then slots <= kReach + 1. kBusy the second time, kNoMemory.
  Result<void> Init(std::size_t slots) {
    if (size_ != 0) return Error::kBusy;
    if constexpr (kInline) {
      size_ = kReach + 1;
    } else {
      entries_ = new (std::nothrow) Atom<Slot*>[slots]();
      if (entries_ == nullptr) return Error::kNoMemory;
      Fill(entries_, slots);
      size_ = slots;
    }
    return Ok();
  }

  // The numbers below it are in the table; 0 before Init.
  std::size_t size() const { return size_; }

  // REQUIRES: n < size(), or any number that Current() returned.
  Slot& operator[](std::size_t n) const {
    // S2, acquire: pairs with S1. (The owner itself needs no order.)
    return *At(n).load(std::memory_order_acquire);
  }
  // REQUIRES: n < size().
  void Set(std::size_t n, Slot& slot) {
    // S1, release: pairs with S2.
    At(n).store(&slot, std::memory_order_release);
  }

  // Of what lies outside the object.
  std::size_t bytes() const {
    return kInline ? 0 : size_ * sizeof(Atom<Slot*>);
  }

 private:
  static constexpr bool kInline = kReach != 0;
  // kNoSlot - 1 and kNoSlot stand in front of 0.
  static constexpr std::size_t kFront = 2;
  static_assert(kNoSlot + 1 == 0);

  void Fill(Atom<Slot*>* entries, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      // relaxed: nobody else knows the table yet.
      entries[i].store(&vacant_, std::memory_order_relaxed);
    }
  }
  const Atom<Slot*>& At(std::size_t n) const {
    return kInline ? entries_[n + kFront] : entries_[n];
  }
  Atom<Slot*>& At(std::size_t n) {
    return kInline ? entries_[n + kFront] : entries_[n];
  }

  Slot& vacant_;
  std::size_t size_ = 0;
  std::conditional_t<kInline, std::array<Atom<Slot*>, kFront + kReach + 1>,
                     Atom<Slot*>*>
      entries_{};
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_SLOT_TABLE_H_
