// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_FRONT_TABLE_H_
#define DMAMAP_IOTLB_FRONT_TABLE_H_

// One table of the page-indexed front, and what it says about each of its
// regions (a page, or a power of two of pages, as in a hardware page table).
// It says so twice. The slot is the truth of the front:
//
//   0          no mapping touches the region
//   a record   this mapping, and no other, touches it (all of it or a part)
//   ask        several do, or nobody kept count: the tree knows
//   a table    one that divides the region
//
// The brief word is for lookups that want no more than the memory:
//
//   0          the slot knows
//   ask        as the slot
//   a table    as the slot
//   memory     the slot says a record, which is alive and covers the region:
//              how far behind an I/O address its memory lies (modulo 2^64),
//              and in the two bits above the lowest what is granted there
//
// It is written behind GoLive and taken back before Kill: whoever reads memory
// in it met a mapping that was there at that moment, and touches no record.
//
// Records and tables are aligned to 64 bytes, memory in a brief word is a
// multiple of a page away; the low bits tell them apart.
//
// Synchronisation edges
//   F1 -> F2  the record or the table, before a slot leads to it; for a short
//             word also that the mapping is alive.

#include <atomic>
#include <cstdint>

#include "dma/atom.h"
#include "dma/sync.h"
#include "dma/version.h"

namespace dmamap::inline v0 {
namespace internal {

using FrontWord = std::uint64_t;
inline constexpr FrontWord kFrontNone = 0;
inline constexpr FrontWord kFrontAsk = 2;
inline constexpr FrontWord kFrontTableBit = 1;

// Of brief words: what is no table and grants nothing is no memory.
inline constexpr FrontWord kBriefAsk = 8;
inline constexpr FrontWord kBriefGrants = 6;

inline bool IsTable(FrontWord word) { return (word & kFrontTableBit) != 0; }
inline bool IsRecord(FrontWord word) {
  return word != kFrontNone && word % kCacheLine == 0;
}
// What a brief word may always say beside a slot.
inline FrontWord BriefWithoutMemory(FrontWord slot) {
  return IsTable(slot) ? slot : slot == kFrontAsk ? kBriefAsk : kFrontNone;
}
template <class T>
T *FrontPointer(FrontWord word) {
  return reinterpret_cast<T *>(
      static_cast<std::uintptr_t>(word & ~FrontWord{kCacheLine - 1}));
}
// REQUIRES: IsTable(word).
template <class T>
const T *TableAt(FrontWord word) {
  return reinterpret_cast<const T *>(
      static_cast<std::uintptr_t>(word - kFrontTableBit));
}
inline FrontWord FrontWordOf(const void *record) {
  return reinterpret_cast<std::uintptr_t>(record);
}

template <template <class> class Atom>
class FrontSlot {
 public:
  // F2, acquire: pairs with F1.
  FrontWord Load() const { return word_.load(std::memory_order_acquire); }
  // The writer's own.
  FrontWord Own() const { return word_.load(std::memory_order_relaxed); }
  // F1, release: pairs with F2.
  void Store(FrontWord word) { word_.store(word, std::memory_order_release); }

 private:
  Atom<FrontWord> word_{kFrontNone};
};

template <unsigned kBits, template <class> class Atom>
struct alignas(kCacheLine) FrontTable {
  static constexpr unsigned kSlots = 1u << kBits;

  FrontSlot<Atom> brief[kSlots];
  FrontSlot<Atom> slot[kSlots];
  // The writer's: slots that are not kFrontNone.
  unsigned used = 0;
  FrontTable *link = nullptr;

  static FrontTable *&PoolLink(FrontTable &t) { return t.link; }

  void Put(unsigned i, FrontWord word) {
    used += word != kFrontNone ? 1 : 0;
    used -= slot[i].Own() != kFrontNone ? 1 : 0;
    Lead(i, word);
  }
  // The same where it is kFrontNone neither before nor behind. What lookups
  // take for the truth in the meantime goes first.
  void Lead(unsigned i, FrontWord word) {
    const FrontWord told = BriefWithoutMemory(word);
    // To ask is never wrong; a table is told of when the slot leads there.
    if (!IsTable(word) && brief[i].Own() != told) brief[i].Store(told);
    slot[i].Store(word);
    if (IsTable(word)) brief[i].Store(told);
  }
};

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_FRONT_TABLE_H_
