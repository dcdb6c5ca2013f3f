// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_MAGAZINE_TABLE_H_
#define DMAMAP_IOVA_MAGAZINE_TABLE_H_

// MagazineTable: makes magazines and finds them by number, in chunks that are
// made as numbers grow. None is freed before the table: who comes late with an
// old number still reads a magazine.
//
// Synchronisation edge
//   C1 -> C2  a magazine, and its chunk, were constructed before they are used.
//
// Thread-safe. Progress: lock-free; Make calls operator new (nothrow).

#include <array>
#include <atomic>
#include <cstdint>
#include <new>

#include "dma/version.h"

namespace dmamap::inline v0 {

template <class MagazineType, template <class> class Atom = std::atomic>
class MagazineTable {
 public:
  // Numbers are below this; more magazines are never made.
  static constexpr std::uint32_t kMost = 1u << 14;

  MagazineTable() = default;
  MagazineTable(const MagazineTable&) = delete;
  MagazineTable& operator=(const MagazineTable&) = delete;
  ~MagazineTable() {
    // relaxed throughout: nobody else is left.
    for (auto& entry : chunks_) {
      Chunk* chunk = entry.load(std::memory_order_relaxed);
      if (chunk == nullptr) continue;
      for (auto& m : chunk->magazine) {
        delete m.load(std::memory_order_relaxed);
      }
      delete chunk;
    }
  }

  // Null when this thread cannot know yet that there is such a magazine.
  MagazineType* Find(std::uint32_t number) const {
    // C2, acquire both: pair with C1.
    Chunk* chunk = chunks_[number / kChunk].load(std::memory_order_acquire);
    return chunk == nullptr ? nullptr
                            : chunk->magazine[number % kChunk].load(
                                  std::memory_order_acquire);
  }
  // REQUIRES: the number comes from a list of the depot.
  MagazineType* At(std::uint32_t number) const {
    // C2, acquire both: pair with C1. Who has the number from a list has the
    // edge through D2 already; so At is right for a number from anywhere.
    Chunk* chunk = chunks_[number / kChunk].load(std::memory_order_acquire);
    return chunk->magazine[number % kChunk].load(std::memory_order_acquire);
  }

  // A new magazine under the next number.
  MagazineType* Make() {
    // relaxed: only the number matters; a number that cannot be used for want
    // of memory is given back if nobody took a later one, else it is lost.
    std::uint32_t number = made_.load(std::memory_order_relaxed);
    do {
      if (number >= kMost) return nullptr;
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

  // Of all magazines, wherever they are, and of the chunks.
  std::uint64_t bytes() const {
    // relaxed: a statistic.
    const std::uint64_t made = made_.load(std::memory_order_relaxed);
    return made * sizeof(MagazineType) +
           (made + kChunk - 1) / kChunk * sizeof(Chunk);
  }

 private:
  static constexpr std::uint32_t kChunk = 256;
  struct Chunk {
    std::array<Atom<MagazineType*>, kChunk> magazine = {};
  };

  Chunk* ChunkOf(std::uint32_t number) {
    Atom<Chunk*>& entry = chunks_[number / kChunk];
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

  std::array<Atom<Chunk*>, kMost / kChunk> chunks_ = {};
  Atom<std::uint32_t> made_{0};
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_MAGAZINE_TABLE_H_
