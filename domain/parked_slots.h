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
    Iova first;     // byte, of the slot
    SlotWord word;  // the slot's: free, and the tag of the last mapping
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

  bool has_room() const { return count_ != most_; }
  // REQUIRES: has_room().
  void Put(const Entry& entry) {
    DMAMAP_ASSERT(has_room());
    const std::uint32_t count = count_;
    if (count != 0) below_->entry[count - 1] = top_;
    top_ = entry;
    count_ = count + 1;
  }
  // The one that was put last, or none.
  Entry Take() {
    const std::uint32_t count = count_;
    if (count == 0) [[unlikely]]
      return {};
    const Entry taken = top_;
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
