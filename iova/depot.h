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
// compare-exchange is needed. Numbers become pointers through a table, and
// magazines are only freed by the destructor, so that a late reader reads
// valid memory.
//
// Synchronisation edge
//   D1 -> D2  what the last owner wrote into a magazine is seen by whoever
//             takes it off a list. Every change of a head is a
//             compare-exchange, so each continues the release sequence of all
//             before it: the edge also holds for magazines deeper down.
//   C1 -> C2  the magazine was constructed before its number is used.
//
// Surplus: a list remembers the fewest magazines that waited since somebody
// last asked (the minimum of Bonwick and Adams, section 3.6). That many were of
// use to nobody; TakeSurplus takes one of them, for its caller to empty.
//
// Progress: lock-free. Making a magazine calls operator new (nothrow).

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>

#include "dma/assert.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "iova/magazine.h"

namespace dmamap::inline v0 {

template <class MagazineType, unsigned kClasses,
          template <class> class Atom = std::atomic>
class Depot {
 public:
  // Magazine numbers are below this; more are never made.
  static constexpr std::uint32_t kMaxMagazines = 1u << 14;

  Depot() = default;
  Depot(const Depot&) = delete;
  Depot& operator=(const Depot&) = delete;
  ~Depot() {
    // relaxed throughout: nobody else is left.
    for (auto& entry : table_) {
      Chunk* chunk = entry.load(std::memory_order_relaxed);
      if (chunk == nullptr) continue;
      for (auto& m : chunk->magazine) {
        delete m.load(std::memory_order_relaxed);
      }
      delete chunk;
    }
  }

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
    Put(list, magazine);
    return true;
  }

  // An empty magazine, a new one if none waits; null when memory or numbers
  // are exhausted.
  MagazineType* TakeEmpty() {
    MagazineType* magazine = Take(empty_);
    return magazine != nullptr ? magazine : Make();
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
  // Bytes of all magazines, wherever they are.
  std::uint64_t bytes() const {
    // relaxed: a statistic.
    return std::uint64_t{made_.load(std::memory_order_relaxed)} *
           sizeof(MagazineType);
  }

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
  static constexpr std::uint32_t kChunk = 256;
  struct Chunk {
    std::array<Atom<MagazineType*>, kChunk> magazine = {};
  };
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

  MagazineType* At(std::uint32_t number) const {
    // C2, acquire both: pair with C1. Who has the number from a list has the
    // edge through D2 already; so At is right for a number from anywhere.
    Chunk* chunk = table_[number / kChunk].load(std::memory_order_acquire);
    return chunk->magazine[number % kChunk].load(std::memory_order_acquire);
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
      MagazineType* magazine = At(TopOf(head) - 1);
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

  // A new magazine under the next number.
  MagazineType* Make() {
    // relaxed: only the number matters; a number that cannot be used for want
    // of memory is given back if nobody took a later one, else it is lost.
    std::uint32_t number = made_.load(std::memory_order_relaxed);
    do {
      if (number >= kMaxMagazines) return nullptr;
    } while (!made_.compare_exchange_weak(number, number + 1,
                                          std::memory_order_relaxed,
                                          std::memory_order_relaxed));
    Chunk* chunk = ChunkOf(number);
    MagazineType* magazine =
        chunk == nullptr ? nullptr
                         : new (std::nothrow)
                               MagazineType(static_cast<std::uint16_t>(number));
    if (magazine == nullptr) {
      std::uint32_t mine = number + 1;
      // relaxed: as above.
      (void)made_.compare_exchange_strong(
          mine, number, std::memory_order_relaxed, std::memory_order_relaxed);
      return nullptr;
    }
    // C1, release: pairs with C2.
    chunk->magazine[number % kChunk].store(magazine, std::memory_order_release);
    return magazine;
  }

  Chunk* ChunkOf(std::uint32_t number) {
    Atom<Chunk*>& entry = table_[number / kChunk];
    // C2, acquire: pairs with C1 of another thread.
    Chunk* chunk = entry.load(std::memory_order_acquire);
    if (chunk != nullptr) return chunk;
    Chunk* fresh = new (std::nothrow) Chunk();
    if (fresh == nullptr) return nullptr;
    // C1, release, and C2, acquire if another thread was first.
    if (entry.compare_exchange_strong(chunk, fresh, std::memory_order_release,
                                      std::memory_order_acquire)) {
      return fresh;
    }
    delete fresh;
    return chunk;
  }

  template <class Fn>
  void ForEachIn(const List& list, Fn&& fn) const {
    // relaxed: nobody else uses the depot.
    std::uint32_t top = TopOf(list.head.load(std::memory_order_relaxed));
    for (std::uint32_t n = 0; top != 0 && n <= kMaxMagazines; ++n) {
      MagazineType* magazine = At(top - 1);
      fn(*magazine);
      // relaxed: as above.
      top = magazine->next().load(std::memory_order_relaxed);
    }
  }

  std::array<List, kClasses> full_ = {};
  List empty_;
  std::array<Atom<Chunk*>, kMaxMagazines / kChunk> table_ = {};
  Atom<std::uint32_t> made_{0};
  std::uint32_t limit_ = 32;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_DEPOT_H_
