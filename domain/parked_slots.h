// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_PARKED_SLOTS_H_
#define DMAMAP_DOMAIN_PARKED_SLOTS_H_

// ParkedSlots: slots of mappings of one slot that have ended, kept by the
// thread (or CPU) that ended them for the next ones it makes. An inner header.
//
// A parked slot's word is free, its address is still taken from the allocator.
// So the next mapping begins with a pop: no address is freed and allocated, and
// no slot is looked up. What a free of the allocator checks, the word of the
// slot has decided before: one caller ended that mapping, once.
//
// Each belongs to the owner of a line of DomainCounters, alone, and is worth a
// pop or a push, a few instructions. Nobody is ever refused for want of what he
// parked himself; what others have parked is out of his reach, as what lies in
// their magazines is.

#include <array>
#include <cstddef>
#include <cstdint>
#include <new>

#include "bounce/slot.h"
#include "dma/address.h"
#include "dma/assert.h"
#include "dma/version.h"

namespace dmamap::inline v0 {
namespace internal {

template <template <class> class Atom>
class ParkedSlots {
 public:
  using Slot = BounceSlot<Atom>;
  struct Entry {
    Slot* slot = nullptr;
    Iova first;             // byte, of the slot
    std::uint32_t tag = 0;  // of the last mapping, in the slot's word
  };
  static constexpr std::uint32_t kMost = 32;

  ParkedSlots() = default;
  ParkedSlots(const ParkedSlots&) = delete;
  ParkedSlots& operator=(const ParkedSlots&) = delete;
  ~ParkedSlots() { delete below_; }

  // Takes room for kMost; until then there is none. Fails for want of memory,
  // and the second time.
  bool Reserve() {
    if (below_ != nullptr) return false;
    below_ = new (std::nothrow) Below();
    if (below_ == nullptr) return false;
    most_ = kMost;
    return true;
  }

  bool any() const { return count_ != 0; }
  bool has_room() const { return count_ != most_; }
  // REQUIRES: has_room().
  [[gnu::always_inline]] void Put(Entry entry) {
    DMAMAP_ASSERT(has_room());
    const std::uint32_t count = count_;
    if (count != 0) below_->entry[count - 1] = top_;
    top_.slot = entry.slot;  // see TakeTop
    top_.first = entry.first;
    top_.tag = entry.tag;
    count_ = count + 1;
  }
  // The one that was put last, or none.
  Entry Take() { return any() ? TakeTop() : Entry(); }
  // REQUIRES: any().
  [[gnu::always_inline]] Entry TakeTop() {
    const std::uint32_t count = count_;
    DMAMAP_ASSERT(count != 0);
    // One by one, as Put wrote them: a wider load would wait for the stores.
    const Entry taken = {top_.slot, top_.first, top_.tag};
    if (count != 1) top_ = below_->entry[count - 2];
    count_ = count - 1;
    return taken;
  }

  // f(const Entry&) for each. REQUIRES: nobody else uses it.
  template <class F>
  void ForEach(F&& f) const {
    if (count_ != 0) f(static_cast<const Entry&>(top_));
    for (std::uint32_t i = 1; i < count_; ++i) {
      f(static_cast<const Entry&>(below_->entry[i - 1]));
    }
  }

 private:
  struct Below {
    std::array<Entry, kMost - 1> entry;
  };
  // The newest lies where no index leads to it: the next mapping waits for
  // nothing but it.
  Entry top_;
  Below* below_ = nullptr;
  std::uint32_t count_ = 0;
  std::uint32_t most_ = 0;  // kMost, or 0 without room
};

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_PARKED_SLOTS_H_
