// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_FRONT_INDEX_H_
#define DMAMAP_IOTLB_FRONT_INDEX_H_

// FrontIndex: the page-indexed front as its readers see it; page_front.h adds
// what the writer does.
//
// The root covers as many levels as the mappings in use need (up to
// 2^kReachBits pages); one more slot stands for all that is above.
//
// Wait-free. A reader may be in a table that has left the front, and that
// serves another region, perhaps at another level. `shape` counts before a
// table is cleared or used again, and before a region narrows, so that a look
// at it before and behind tells (P1 -> P2).
//
// Synchronisation edges
//   P1 -> P2  `shape` has counted, before a table is cleared or serves another
//             region.

#include <atomic>
#include <cstdint>

#include "dma/atom.h"
#include "dma/direction.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "iotlb/front_table.h"
#include "iotlb/mapping.h"

namespace dmamap::inline v0 {

template <unsigned kPageShift, unsigned kBits, template <class> class Atom>
class FrontIndex {
 public:
  using Table = internal::FrontTable<kBits, Atom>;
  using Slot = internal::FrontSlot<Atom>;
  using Word = internal::FrontWord;

  static_assert(kPageShift < 48);
  static constexpr unsigned kReachBits = 48 - kPageShift;  // of a page number

  FrontIndex() = default;
  FrontIndex(const FrontIndex &) = delete;
  FrontIndex &operator=(const FrontIndex &) = delete;

  static std::uint64_t PageOf(std::uint64_t at) { return at >> kPageShift; }

  // P2, acquire: pairs with P1.
  std::uint64_t Shape() const { return shape_.load(std::memory_order_acquire); }
  bool IsShape(std::uint64_t seen) const {
    AtomFence<Atom>(std::memory_order_acquire);  // P2
    return shape_.load(std::memory_order_relaxed) == seen;
  }

  // The slot that stands for `page`; its word in `word`.
  const Slot *Find(std::uint64_t page, Word &word) const {
    const Word root = root_.Load();
    unsigned shift = ShiftOf(root);
    const Slot *slot = &above_;
    if (root != 0 && (page >> shift) == 0) [[likely]] {
      const Table *table = internal::FrontPointer<Table>(root);
      // As many levels as the root has, whatever a table says that has left.
      do {
        shift -= kBits;
        slot = &table->slot[(page >> shift) % Table::kSlots];
        word = slot->Load();
        if (!internal::IsTable(word)) return slot;
        table = internal::FrontPointer<Table>(word);
      } while (shift != 0);
      word = internal::kFrontAsk;
      return slot;
    }
    word = slot->Load();
    return slot;
  }

  // The writer's Find, for a change of the mapping that begins at `page`: asks
  // for what that will write, so that it comes while the record is looked at.
  Word FindForChange(std::uint64_t page) const {
    const Word root = root_.Own();
    unsigned shift = ShiftOf(root);
    if (root == 0 || (page >> shift) != 0) [[unlikely]]
      return above_.Own();
    const Table *table = internal::FrontPointer<Table>(root);
    for (;;) {
      shift -= kBits;
      const auto i = static_cast<unsigned>((page >> shift) % Table::kSlots);
      if (shift != 0) {
        const Word word = table->brief[i].Own();
        if (internal::IsTable(word)) {
          table = internal::FrontPointer<Table>(word);
          continue;
        }
      }
      constexpr unsigned kLine = kCacheLine / sizeof(Slot);
      const unsigned next = i + kLine < Table::kSlots ? i + kLine : i;
      __builtin_prefetch(&table->brief[i], 1);
      __builtin_prefetch(&table->brief[next], 1);
      __builtin_prefetch(&table->slot[next]);
      return table->slot[i].Own();
    }
  }

  enum class Brief : std::uint8_t { kMemory, kAskSlot, kAskTree };

  // The memory that byte `at` means, if a brief word says it and grants the
  // access; else who knows.
  [[gnu::always_inline]] Brief FindMemory(std::uint64_t at, Permission wanted,
                                          PageTranslation &found) const {
    const std::uint64_t shape = Shape();
    const Word root = root_.Load();
    if (root == 0 || ((at >> kPageShift) >> ShiftOf(root)) != 0) [[unlikely]] {
      return above_.Load() == internal::kFrontAsk ? Brief::kAskTree
                                                  : Brief::kAskSlot;
    }
    unsigned shift = 0;
    const Word word = BriefBelow<kMaxLevels>(root, at, shift);
    const Word wants = static_cast<Word>(wanted) << 1;
    // No memory is what asks (8), none (0) or a table (odd); what is no
    // permission is not asked of it.
    const bool asks = wants != 0 && (wants & ~internal::kBriefGrants) == 0;
    if (!asks || (word & (wants | internal::kFrontTableBit)) != wants ||
        !IsShape(shape)) [[unlikely]] {
      const bool slot = word == 0 || (!internal::IsTable(word) &&
                                      (word & internal::kBriefGrants) != 0);
      return slot && IsShape(shape) ? Brief::kAskSlot : Brief::kAskTree;
    }
    found.address = PhysAddr((word & ~kOffset) + at);
    found.bytes_minus_one = ~at & ((std::uint64_t{1} << shift) - 1);
    found.permission = static_cast<Permission>((word & kOffset) >> 1);
    return Brief::kMemory;
  }

 protected:
  static constexpr std::uint64_t kLastPage = ~std::uint64_t{0} >> kPageShift;
  static constexpr std::uint64_t kOffset = (std::uint64_t{1} << kPageShift) - 1;

  static constexpr unsigned kMaxLevels = (kReachBits + kBits - 1) / kBits;

  // The brief word that stands for byte `at` below a root of at most kLevels
  // levels, and the bits of its region in bytes. As many levels as the root
  // has, whatever a table says that has left: it may be a table's word.
  // Unrolled, since a lookup's instructions bound how many of them a CPU has
  // under way while each waits for its line.
  template <unsigned kLevels>
  [[gnu::always_inline]] static Word BriefBelow(Word root, std::uint64_t at,
                                                unsigned &shift) {
    if constexpr (kLevels > 1) {
      if (ShiftOf(root) < kLevels * kBits) {
        return BriefBelow<kLevels - 1>(root, at, shift);
      }
    }
    return BriefIn<kLevels>(internal::FrontPointer<Table>(root), at, shift);
  }
  template <unsigned kLevels>
  [[gnu::always_inline]] static Word BriefIn(const Table *table,
                                             std::uint64_t at,
                                             unsigned &shift) {
    shift = kPageShift + (kLevels - 1) * kBits;
    const Word word = table->brief[(at >> shift) % Table::kSlots].Load();
    if constexpr (kLevels > 1) {
      if (internal::IsTable(word)) [[likely]] {
        return BriefIn<kLevels - 1>(internal::TableAt<Table>(word), at, shift);
      }
    }
    return word;
  }

  // The root's word: the table's address and the bits of a page number that it
  // covers.
  static unsigned ShiftOf(Word root) {
    return static_cast<unsigned>(root % kCacheLine);
  }
  static std::uint64_t TopOf(Word root) {
    return (std::uint64_t{1} << ShiftOf(root)) - 1;
  }
  static std::uint64_t LastOf(std::uint64_t from, unsigned shift) {
    return from + ((std::uint64_t{1} << shift) - 1);
  }

  // P1, release: pairs with P2. What is reused or narrowed next was let go.
  void CountShape() {
    shape_.store(shape_.load(std::memory_order_relaxed) + 1,
                 std::memory_order_release);
    AtomFence<Atom>(std::memory_order_release);  // P1, for the stores behind it
  }

  // On one line, which every lookup reads and few changes write.
  alignas(kCacheLine) Slot root_;
  Slot above_;
  Atom<std::uint64_t> shape_{0};
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_FRONT_INDEX_H_
