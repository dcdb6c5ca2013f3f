// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_MAGAZINE_H_
#define DMAMAP_IOVA_MAGAZINE_H_

// Magazine: a fixed-size stack of entries (Bonwick and Adams, "Magazines and
// Vmem", USENIX 2001). An entry is a range's first byte and where its tag is
// kept, so that taking one needs no look-up. 127 entries and a header fill 2
// KiB.
//
// It has one owner at a time: a slot's cache or, while it lies in the depot,
// nobody. All but `next` is plain memory that changes hands through the
// depot's edges. Single-threaded; every call but RaiseFitting is a few
// instructions.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "dma/assert.h"
#include "dma/atom.h"
#include "dma/sync.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

// A range's first byte and the cell of its tag (null where no tags are kept).
template <class Cell>
struct MagazineEntry {
  std::uint64_t first = 0;
  Cell* cell = nullptr;
};

template <class Cell, std::size_t kEntries = 127,
          template <class> class Atom = std::atomic>
class alignas(kCacheLine) Magazine {
  static_assert(kEntries >= 1 && kEntries <= 0xffff);

 public:
  using Entry = MagazineEntry<Cell>;
  // First bytes and cells apart, so that an index finds both without
  // arithmetic.
  struct Slots {
    std::array<PlainFor<Atom, std::uint64_t>, kEntries> first;
    std::array<PlainFor<Atom, Cell*>, kEntries> cell;

    Entry operator[](std::size_t i) const { return {first[i], cell[i]}; }
    void Set(std::size_t i, const Entry& entry) {
      first[i] = entry.first;
      cell[i] = entry.cell;
    }
  };
  static constexpr std::size_t kCapacity = kEntries;

  explicit Magazine(std::uint16_t number) : number_(number) {}
  Magazine(const Magazine&) = delete;
  Magazine& operator=(const Magazine&) = delete;

  // What the depot calls it, and what the tags of its entries name.
  std::uint16_t number() const { return number_; }

  std::size_t count() const { return count_; }
  bool empty() const { return count() == 0; }
  bool full() const { return count() == kCapacity; }

  // REQUIRES: !full().
  void Push(const Entry& entry) {
    DMAMAP_ASSERT(!full());
    entries_.Set(count(), entry);
    Resize(count() + 1);
  }
  // The entry that Pop takes. REQUIRES: !empty().
  Entry Top() const {
    DMAMAP_ASSERT(!empty());
    return entries_[count() - 1];
  }
  // REQUIRES: !empty().
  Entry Pop() {
    const Entry entry = Top();
    Resize(count() - 1);
    return entry;
  }

  // Brings the newest entry that begins at most at `last` to the top. False
  // when there is none: nothing changed. At most kCapacity steps.
  bool RaiseFitting(std::uint64_t last) {
    for (std::size_t i = count(); i-- > 0;) {
      const Entry entry = entries_[i];
      if (entry.first > last) continue;
      const Entry top = Top();
      entries_.Set(i, top);
      entries_.Set(count() - 1, entry);
      return true;
    }
    return false;
  }

  // i < kCapacity, from the oldest.
  Entry at(std::size_t i) const {
    DMAMAP_ASSERT(i < kCapacity);
    return entries_[i];
  }

  // For an owner who keeps the count himself for a while: the entries, from the
  // oldest, and what the count is in the end. REQUIRES: n <= kCapacity, and the
  // first n entries were written.
  Slots& slots() { return entries_; }
  void Resize(std::size_t n) { count_ = static_cast<std::uint16_t>(n); }

  // While it waits in the depot: no entry begins below this byte. Written by
  // its owner, read by anybody, as a guess.
  // relaxed: who acts on it takes the magazine first, or asks again later.
  void set_none_below(std::uint64_t first) {
    none_below_.store(first, std::memory_order_relaxed);
  }
  std::uint64_t none_below() const {
    return none_below_.load(std::memory_order_relaxed);
  }

  // The magazine below this one in a list of the depot: its number + 1, or 0.
  Atom<std::uint32_t>& next() { return next_; }

 private:
  PlainFor<Atom, std::uint16_t> count_{0};
  const std::uint16_t number_;
  Atom<std::uint32_t> next_{0};
  Atom<std::uint64_t> none_below_{0};
  Slots entries_;
};
static_assert(sizeof(Magazine<int>) == 2048);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_MAGAZINE_H_
