// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_DEPOT_H_
#define DMAMAP_IOVA_DEPOT_H_

// Depot: where magazines wait for a slot. One lock-free list of full magazines
// for each size class, bounded, and one of empty magazines for all.
//
// A list is a Treiber stack of magazine numbers. Its head is one 64-bit word:
// the number of the top magazine + 1 (0: empty list) and a tag that every
// change increments. So a head that was taken off and put back between a
// reader's load and its compare-exchange is not mistaken for the one it read
// (ABA), until exactly 2^32 changes happen in between; and no 128-bit
// compare-exchange is needed. Numbers become pointers through a table
// (magazine_table.h), and magazines are only freed by the destructor, so that a
// late reader reads valid memory.
//
// Synchronisation edge
//   D1 -> D2  what the last owner wrote into a magazine is seen by whoever
//             takes it off a list. Every change of a head is a
//             compare-exchange, so each continues the release sequence of all
//             before it: the edge also holds for magazines deeper down.
//
// Surplus: a list remembers the fewest magazines that waited since somebody
// last asked (the minimum of Bonwick and Adams, section 3.6). That many were of
// use to nobody; TakeSurplus takes one of them, for its caller to empty.
//
// Limits: a list may be searched for an entry under a limit (TakeFitting). What
// a search found a magazine not to hold is remembered with it while it waits,
// so that who asks in vain looks at each magazine once, and later at a word.
//
// Progress: lock-free. Making a magazine calls operator new (nothrow).

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "dma/assert.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "iova/magazine.h"
#include "iova/magazine_table.h"

namespace dmamap::inline v0 {

template <class MagazineType, unsigned kClasses,
          template <class> class Atom = std::atomic>
class Depot {
  using Table = MagazineTable<MagazineType, Atom>;

 public:
  // Magazine numbers are below this; more are never made.
  static constexpr std::uint32_t kMaxMagazines = Table::kMost;

  Depot() = default;
  Depot(const Depot&) = delete;
  Depot& operator=(const Depot&) = delete;

  // At most `limit` full magazines wait for each class. Before first use.
  void set_limit(std::uint32_t limit) { limit_ = limit; }

  // A full (at least not empty) magazine of the class, or null.
  MagazineType* TakeFull(unsigned size_class) {
    List& list = full_[size_class];
    MagazineType* magazine = Take(list);
    // relaxed: `waiting` is a bound, not a guard of anything.
    if (magazine != nullptr) {
      Lower(list, list.waiting.fetch_sub(1, std::memory_order_relaxed) - 1);
    } else {
      Lower(list, 0);
    }
    return magazine;
  }
  // A full magazine of the class with an entry of at most `last`, which it has
  // on top then; null when none of those that wait has one. `in`, if not null,
  // goes to the depot in its place. At most as many steps as magazines may
  // wait; others do not find what it holds meanwhile.
  MagazineType* TakeFitting(unsigned size_class, std::uint64_t last,
                            MagazineType* in) {
    List& list = full_[size_class];
    if (!MayFit(list, last)) return nullptr;
    MagazineType* found = nullptr;
    // Those that do not fit, the last one taken first. They keep their places
    // in `waiting`.
    std::uint32_t aside = 0;
    for (std::uint32_t n = 0; n < limit_; ++n) {
      MagazineType* const magazine = Take(list);
      if (magazine == nullptr) break;
      if (magazine->RaiseFitting(last)) {
        found = magazine;
        break;
      }
      magazine->set_none_below(last + 1);  // any has one up to the last byte
      // relaxed: it is ours alone.
      magazine->next().store(aside, std::memory_order_relaxed);
      aside = magazine->number() + 1u;
    }
    while (aside != 0) {
      MagazineType* const magazine = table_.At(aside - 1);
      // relaxed: as above.
      aside = magazine->next().load(std::memory_order_relaxed);
      Put(list, magazine);
    }
    if (found == nullptr) return nullptr;
    if (in != nullptr) {
      in->set_none_below(0);
      Put(list, in);
    } else {
      // relaxed: see TakeFull.
      Lower(list, list.waiting.fetch_sub(1, std::memory_order_relaxed) - 1);
    }
    return found;
  }
  // A magazine as TakeFull's, if since the last call for this class there was
  // always one more than anybody took; else null.
  MagazineType* TakeSurplus(unsigned size_class) {
    List& list = full_[size_class];
    // relaxed: a guess at what is of no use; TakeFull decides what there is.
    if (list.fewest.load(std::memory_order_relaxed) == 0) {
      list.fewest.store(list.waiting.load(std::memory_order_relaxed),
                        std::memory_order_relaxed);
      return nullptr;
    }
    MagazineType* magazine = TakeFull(size_class);
    // relaxed: as above. A new period begins.
    list.fewest.store(list.waiting.load(std::memory_order_relaxed),
                      std::memory_order_relaxed);
    return magazine;
  }
  // False when the class has its limit of magazines: the caller keeps it.
  bool PutFull(unsigned size_class, MagazineType* magazine) {
    List& list = full_[size_class];
    // relaxed: see TakeFull. Counted before the put, so that the list is never
    // longer than the limit.
    if (list.waiting.fetch_add(1, std::memory_order_relaxed) >= limit_) {
      list.waiting.fetch_sub(1, std::memory_order_relaxed);
      return false;
    }
    magazine->set_none_below(0);
    Put(list, magazine);
    return true;
  }

  // An empty magazine, a new one if none waits; null when memory or numbers
  // are exhausted.
  MagazineType* TakeEmpty() {
    MagazineType* magazine = Take(empty_);
    return magazine != nullptr ? magazine : table_.Make();
  }
  // REQUIRES: magazine->empty().
  void PutEmpty(MagazineType* magazine) {
    DMAMAP_ASSERT(magazine->empty());
    Put(empty_, magazine);
  }

  // Full magazines of the class that wait now, or a little ago.
  std::uint32_t waiting(unsigned size_class) const {
    // relaxed: a bound, and a statistic.
    return full_[size_class].waiting.load(std::memory_order_relaxed);
  }
  // Bytes of all magazines, wherever they are, and of their table.
  std::uint64_t bytes() const { return table_.bytes(); }

  // Calls fn(class, magazine) for each full one that waits. REQUIRES: nobody
  // else uses the depot.
  template <class Fn>
  void ForEachFull(Fn&& fn) const {
    for (unsigned c = 0; c < kClasses; ++c) {
      ForEachIn(full_[c], [&](MagazineType& m) { fn(c, m); });
    }
  }

  // Lists end, hold the number of magazines that they say, full ones are not
  // empty and empty ones are. REQUIRES: nobody else uses the depot.
  bool CheckInvariants() const {
    bool good = true;
    for (unsigned c = 0; c < kClasses; ++c) {
      std::uint32_t found = 0;
      ForEachIn(full_[c], [&](MagazineType& m) {
        ++found;
        good = good && !m.empty() && found <= kMaxMagazines;
      });
      good = good && found == waiting(c) && found <= limit_;
    }
    ForEachIn(empty_, [&](MagazineType& m) { good = good && m.empty(); });
    return good;
  }

 private:
  struct alignas(kCacheLine) List {
    Atom<std::uint64_t> head{0};  // tag << 32 | number + 1
    Atom<std::uint32_t> waiting{0};
    Atom<std::uint32_t> fewest{0};  // that waited since TakeSurplus
  };

  static constexpr std::uint32_t TopOf(std::uint64_t head) {
    return static_cast<std::uint32_t>(head);
  }
  static constexpr std::uint64_t Next(std::uint64_t head, std::uint32_t top) {
    return (((head >> 32) + 1) << 32) | top;
  }

  static void Lower(List& list, std::uint32_t waiting) {
    // relaxed, and not a read-modify-write: of two at a time one may be lost,
    // and a magazine is then emptied that somebody would have used.
    if (waiting < list.fewest.load(std::memory_order_relaxed)) {
      list.fewest.store(waiting, std::memory_order_relaxed);
    }
  }

  // False when each magazine of the list is known to hold nothing up to `last`.
  // A guess while others change the list: no magazine but the word that says so
  // is read.
  bool MayFit(const List& list, std::uint64_t last) const {
    // relaxed: Find makes sure of each magazine, and no entry is read.
    std::uint32_t top = TopOf(list.head.load(std::memory_order_relaxed));
    for (std::uint32_t n = 0; top != 0 && n < limit_; ++n) {
      MagazineType* const magazine = table_.Find(top - 1);
      if (magazine == nullptr || magazine->none_below() <= last) return true;
      // relaxed: where somebody took the magazine, this leads astray, to
      // others, and a fitting one is missed or looked for in vain.
      top = magazine->next().load(std::memory_order_relaxed);
    }
    return false;
  }

  void Put(List& list, MagazineType* magazine) {
    // relaxed: a guess, and no magazine is read through it.
    std::uint64_t head = list.head.load(std::memory_order_relaxed);
    const std::uint32_t top = magazine->number() + 1u;
    do {
      // relaxed: published by D1.
      magazine->next().store(TopOf(head), std::memory_order_relaxed);
      // D1, release: pairs with D2. relaxed on failure: a new guess.
    } while (!list.head.compare_exchange_weak(head, Next(head, top),
                                              std::memory_order_release,
                                              std::memory_order_relaxed));
  }

  MagazineType* Take(List& list) {
    // D2, acquire: pairs with D1; the top magazine's `next` is read below.
    std::uint64_t head = list.head.load(std::memory_order_acquire);
    while (TopOf(head) != 0) {
      MagazineType* magazine = table_.At(TopOf(head) - 1);
      // relaxed: stale if the magazine was taken since; then the tag differs
      // and the exchange fails.
      const std::uint32_t below =
          magazine->next().load(std::memory_order_relaxed);
      // D2, acquire on both outcomes: pairs with D1. On failure for the next
      // turn's `next`. On success the load that gave `head` has done it, as
      // long as equal tags mean the same store: the edge does not rest on that.
      if (list.head.compare_exchange_weak(head, Next(head, below),
                                          std::memory_order_acquire,
                                          std::memory_order_acquire)) {
        return magazine;
      }
    }
    return nullptr;
  }

  template <class Fn>
  void ForEachIn(const List& list, Fn&& fn) const {
    // relaxed: nobody else uses the depot.
    std::uint32_t top = TopOf(list.head.load(std::memory_order_relaxed));
    for (std::uint32_t n = 0; top != 0 && n <= kMaxMagazines; ++n) {
      MagazineType* magazine = table_.At(top - 1);
      fn(*magazine);
      // relaxed: as above.
      top = magazine->next().load(std::memory_order_relaxed);
    }
  }

  std::array<List, kClasses> full_ = {};
  List empty_;
  Table table_;
  std::uint32_t limit_ = 32;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_DEPOT_H_
