// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_PAGE_FRONT_H_
#define DMAMAP_IOTLB_PAGE_FRONT_H_

// PageFront: the page-indexed front of the interval tree, for lookups.
//
// A radix tree by page number, with leaves at every level (front_table.h). A
// slot stays the leaf of its whole region for as long as at most one mapping
// touches the region, however large that is: one mapping of the whole space is
// one word and no table, a lone page far from all others is one slot. The
// second mapping makes a table, if it pays:
//
//   * the first kSlack bytes of tables are given freely;
//   * beyond, a mapping that touches the region is worth 64 bytes and 16 for
//     each of its first 64 pages there, and a table is made where they are
//     worth its size;
//   * all tables together are at most kSlack plus what all mappings are worth.
//
// Where it does not pay, or memory is short, the slot says "ask the tree", as
// it does for a page that several mappings touch. So nothing here can fail, and
// the front never says anything that the tree does not.
//
// The root covers as many levels as the mappings in use need (up to
// 2^kReachBits bytes); one more slot stands for all that is above.
//
// Readers: Find, wait-free. They may be in a table that has left the front; it
// is empty, and `shape` counts before it is used again or a region narrows, so
// that Shape() before and IsShape() after tell (P1 -> P2).

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "dma/atom.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "iotlb/front_table.h"
#include "iotlb/node_pool.h"

namespace dmamap::inline v0 {

// The writer's calls take a Source, the truth: `Touching(first, last, visit)`
// calls `bool visit(Record&)` for each mapping that touches a page of
// [first, last], until it returns false.
template <class Record, NodeMemory Memory, unsigned kPageShift, unsigned kBits,
          template <class> class Atom>
class PageFront {
 public:
  using Table = internal::FrontTable<kBits, Atom>;
  using Slot = internal::FrontSlot<Atom>;
  using Word = internal::FrontWord;

  static constexpr std::size_t kSlack = 16 * sizeof(Table);
  static constexpr unsigned kReachBits = 48 - kPageShift;  // of a page number

  explicit PageFront(Memory memory = Memory()) : tables_(std::move(memory)) {}
  PageFront(const PageFront &) = delete;
  PageFront &operator=(const PageFront &) = delete;

  static std::uint64_t PageOf(std::uint64_t at) { return at >> kPageShift; }

  // --- Readers.

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
      for (;;) {
        shift -= kBits;
        slot = &table->slot[(page >> shift) % Table::kSlots];
        word = slot->Load();
        if (!internal::IsTable(word)) return slot;
        table = internal::FrontPointer<Table>(word);
      }
    }
    word = slot->Load();
    return slot;
  }

  // --- The writer. Pages are inclusive.

  // Every lookup asks the tree, and nothing is kept. REQUIRES: nothing is set.
  void SwitchOff() { above_.Store(internal::kFrontAsk); }

  // True when no mapping touches a page of [first, last].
  bool IsEmpty(std::uint64_t first, std::uint64_t last) const {
    const Word root = root_.Own();
    const std::uint64_t top = TopOf(root);
    if (last > top || root == 0) {
      if (above_.Own() != internal::kFrontNone) return false;
      if (root == 0 || first > top) return true;
      last = top;
    }
    return IsEmptyIn(*internal::FrontPointer<Table>(root), ShiftOf(root), first,
                     last);
  }

  // `record` touches exactly the pages [first, last], and the source's
  // Touching() knows it already. Slots of `old` and `old2` pass to it, but not
  // those that `beside` touches, too: these become shared at once, so that none
  // ever says that `record` alone touches it. False: surely no other mapping
  // touches a page of it.
  template <class Source>
  bool Set(const Source &source, Record *record, std::uint64_t first,
           std::uint64_t last, const Record *old = nullptr,
           const Record *old2 = nullptr, const Record *beside = nullptr) {
    Change<Source> change{source,
                          internal::FrontWordOf(record),
                          internal::FrontWordOf(old),
                          internal::FrontWordOf(old2),
                          first,
                          last,
                          beside};
    shared_ = false;
    if (last > TopOf(root_.Own()) || root_.Own() == 0) SetAbove(change);
    const Word root = root_.Own();
    if (root != 0 && first <= TopOf(root)) {
      SetIn(change, *internal::FrontPointer<Table>(root), ShiftOf(root), 0);
    }
    return shared_;
  }

  // `record` touches [first, last] no more, and Touching() knows.
  template <class Source>
  void Clear(const Source &source, const Record *record, std::uint64_t first,
             std::uint64_t last) {
    Change<Source> change{source,
                          internal::kFrontNone,
                          internal::FrontWordOf(record),
                          internal::kFrontNone,
                          first,
                          last};
    const Word root = root_.Own();
    const std::uint64_t top = TopOf(root);
    if (last > top || root == 0) {
      const std::uint64_t from = root == 0 ? 0 : top + 1;
      const Word word = above_.Own();
      if (word == change.old || word == internal::kFrontAsk) {
        above_.Store(WordFor(change, from, kLastPage));
      }
    }
    if (root == 0 || first > top) return;
    ClearIn(change, *internal::FrontPointer<Table>(root), ShiftOf(root), 0);
  }

  // What a mapping of `pages` pages less one is worth, in bytes of tables.
  static std::size_t Worth(std::uint64_t pages_minus_one) {
    constexpr std::size_t kFree = 64, kPage = 16, kMost = 64;
    const std::size_t pages =
        pages_minus_one >= kMost
            ? kMost
            : static_cast<std::size_t>(pages_minus_one) + 1;
    return kFree + kPage * pages;
  }
  void AddWorth(std::uint64_t first, std::uint64_t last) {
    worth_ += Worth(last - first);
  }
  void SubtractWorth(std::uint64_t first, std::uint64_t last) {
    worth_ -= Worth(last - first);
  }

  // Forgets all mappings.
  void Reset() {
    const Word root = root_.Own();
    worth_ = 0;
    above_.Store(internal::kFrontNone);
    if (root == 0) return;
    root_.Store(0);
    FreeBelow(internal::FrontPointer<Table>(root), ShiftOf(root));
    CountShape();
  }

  std::size_t tables() const { return tables_.live(); }
  std::size_t memory_bytes() const { return tables_.memory_bytes(); }

  // That each slot says what the source says, and each count is right. O(n).
  template <class Source>
  bool CheckInvariants(const Source &source) const {
    const Word root = root_.Own();
    std::size_t count = 0;
    if (root != 0 && !CheckIn(source, *internal::FrontPointer<Table>(root),
                              ShiftOf(root), 0, count)) {
      return false;
    }
    const std::uint64_t from = root == 0 ? 0 : TopOf(root) + 1;
    return count == tables_.live() &&
           CheckWord(source, above_.Own(), from, kLastPage);
  }

 private:
  friend struct PageFrontTestPeer;

  static constexpr std::uint64_t kLastPage = ~std::uint64_t{0} >> kPageShift;

  template <class Source>
  struct Change {
    const Source &source;
    Word word;  // what a slot becomes
    Word old;   // what it may have been; 0: nothing
    Word old2;
    std::uint64_t first, last;
    const Record *beside = nullptr;

    // Whether a slot of the pages [from, to] that says `was` passes to `word`.
    bool Passes(Word was, std::uint64_t from, std::uint64_t to) const {
      if (was != old && was != old2) return false;
      return beside == nullptr || PageOf(beside->first()) > to ||
             PageOf(beside->last()) < from;
    }
  };

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

  // --- Tables.

  std::size_t table_bytes() const { return tables_.live() * sizeof(Table); }

  template <class Source>
  bool Pays(const Change<Source> &change, std::uint64_t from,
            std::uint64_t to) const {
    const std::size_t with = table_bytes() + sizeof(Table);
    if (with <= kSlack) return true;
    if (with > kSlack + worth_) return false;
    std::size_t worth = 0;
    change.source.Touching(from, to, [&](Record &record) {
      const std::uint64_t a = PageOf(record.first()), b = PageOf(record.last());
      worth += Worth((b < to ? b : to) - (a > from ? a : from));
      return worth < sizeof(Table);
    });
    return worth >= sizeof(Table);
  }

  Table *TakeTable() {
    if (!tables_.Reserve(1)) return nullptr;
    return tables_.Take();
  }
  // `table` is empty and nothing leads to it.
  void FreeTable(Table *table) {
    tables_.Put(table);
    CountShape();
  }
  void FreeBelow(Table *table, unsigned shift) {
    shift -= kBits;
    for (Slot &slot : table->slot) {
      const Word word = slot.Own();
      slot.Store(internal::kFrontNone);
      if (internal::IsTable(word)) {
        FreeBelow(internal::FrontPointer<Table>(word), shift);
      }
    }
    table->used = 0;
    tables_.Put(table);
  }

  // A table for the region of `shift` bits from page `from`, filled by the
  // source; nullptr: it does not pay.
  template <class Source>
  Table *MakeTable(const Change<Source> &change, unsigned shift,
                   std::uint64_t from) {
    const std::uint64_t to = LastOf(from, shift);
    if (!Pays(change, from, to)) return nullptr;
    Table *const table = TakeTable();
    if (table == nullptr) return nullptr;
    change.source.Touching(from, to, [&](Record &record) {
      const Change<Source> one{
          change.source,          internal::FrontWordOf(&record), 0, 0,
          PageOf(record.first()), PageOf(record.last())};
      SetIn(one, *table, shift, from);
      return true;
    });
    return table;
  }

  // --- Setting.

  template <class Source>
  void SetIn(const Change<Source> &change, Table &table, unsigned shift,
             std::uint64_t from) {
    shift -= kBits;
    const auto [lo, hi] = SlotsOf(change, shift, from);
    for (unsigned i = lo; i <= hi; ++i) {
      const Word word = table.slot[i].Own();
      if (word == internal::kFrontNone) {
        ++table.used;
        table.slot[i].Store(change.word);
        continue;
      }
      const std::uint64_t at = from + (std::uint64_t{i} << shift);
      if (change.Passes(word, at, LastOf(at, shift))) {
        table.slot[i].Store(change.word);
      } else if (word != change.word) {
        SetShared(change, table, i, shift, at);
      }
    }
  }

  // A slot that another mapping touches, too.
  template <class Source>
  void SetShared(const Change<Source> &change, Table &table, unsigned i,
                 unsigned shift, std::uint64_t from) {
    const Word word = table.slot[i].Own();
    if (internal::IsTable(word)) {
      SetIn(change, *internal::FrontPointer<Table>(word), shift, from);
      return;
    }
    shared_ = true;
    Table *const below = shift == 0 ? nullptr : MakeTable(change, shift, from);
    table.slot[i].Store(below == nullptr ? internal::kFrontAsk
                                         : internal::FrontWordOf(below) |
                                               internal::kFrontTableBit);
  }

  // The slots of a table from page `from` that a change touches.
  template <class Source>
  static std::pair<unsigned, unsigned> SlotsOf(const Change<Source> &change,
                                               unsigned shift,
                                               std::uint64_t from) {
    const std::uint64_t to = LastOf(from, shift + kBits);
    const std::uint64_t a = change.first > from ? change.first - from : 0;
    const std::uint64_t b = (change.last < to ? change.last : to) - from;
    return {static_cast<unsigned>(a >> shift),
            static_cast<unsigned>(b >> shift)};
  }

  template <class Source>
  void SetAbove(const Change<Source> &change) {
    const Word word = above_.Own(), root = root_.Own();
    const std::uint64_t from = root == 0 ? 0 : TopOf(root) + 1;
    if (word == internal::kFrontNone || change.Passes(word, from, kLastPage)) {
      above_.Store(change.word);
    } else if (word != change.word) {
      shared_ = true;
      if (!GrowRoot(change)) above_.Store(internal::kFrontAsk);
    }
  }

  // Makes the root cover the pages of `change`. False: it does not reach that
  // far, or no memory.
  template <class Source>
  bool GrowRoot(const Change<Source> &change) {
    const Word old = root_.Own();
    const std::uint64_t covered = old == 0 ? 0 : TopOf(old) + 1;
    // A mapping up to the end of the space does not ask for the whole space.
    std::uint64_t want = change.last;
    if ((want >> kReachBits) != 0) want = change.first;
    if ((want >> kReachBits) != 0 || want < covered) return false;
    unsigned shift = ShiftOf(old);
    Table *top = internal::FrontPointer<Table>(old);
    while (top == nullptr || (want >> shift) != 0) {
      Table *const table = TakeTable();
      if (table == nullptr) break;
      if (top != nullptr) {
        table->Put(0, internal::FrontWordOf(top) | internal::kFrontTableBit);
      }
      top = table;
      shift += kBits;
    }
    const Word root = internal::FrontWordOf(top) + shift;
    if (top == nullptr || root == old) return false;
    Adopt(change.source, *top, shift, covered);
    root_.Store(root);
    CountShape();  // what above_ stands for narrows
    above_.Store(WordFor(change, TopOf(root) + 1, kLastPage));
    return true;
  }

  // Enters all mappings on the pages from `covered` on into a new root.
  template <class Source>
  void Adopt(const Source &source, Table &top, unsigned shift,
             std::uint64_t covered) {
    source.Touching(covered, LastOf(0, shift), [&](Record &record) {
      const std::uint64_t first = PageOf(record.first());
      const Change<Source> one{
          source, internal::FrontWordOf(&record),    0,
          0,      first > covered ? first : covered, PageOf(record.last())};
      SetIn(one, top, shift, 0);
      return true;
    });
  }

  // --- Clearing.

  template <class Source>
  void ClearIn(const Change<Source> &change, Table &table, unsigned shift,
               std::uint64_t from) {
    shift -= kBits;
    const auto [lo, hi] = SlotsOf(change, shift, from);
    for (unsigned i = lo; i <= hi; ++i) {
      const Word word = table.slot[i].Own();
      if (word == internal::kFrontNone) continue;
      if (word == change.old) {
        --table.used;
        table.slot[i].Store(internal::kFrontNone);
        continue;
      }
      const std::uint64_t at = from + (std::uint64_t{i} << shift);
      if (internal::IsTable(word)) {
        ClearTable(change, table, i, shift, at);
      } else if (word == internal::kFrontAsk) {
        table.Put(i, WordFor(change, at, LastOf(at, shift)));
      }
    }
  }

  template <class Source>
  void ClearTable(const Change<Source> &change, Table &table, unsigned i,
                  unsigned shift, std::uint64_t from) {
    Table *const below = internal::FrontPointer<Table>(table.slot[i].Own());
    ClearIn(change, *below, shift, from);
    // Within the slack an empty table stays: its region may fill again.
    if (below->used != 0 || table_bytes() <= kSlack) return;
    table.Put(i, internal::kFrontNone);
    FreeTable(below);
  }

  // What a slot that is no table says about the pages [from, to].
  template <class Source>
  static Word WordFor(const Change<Source> &change, std::uint64_t from,
                      std::uint64_t to) {
    return WordFor(change.source, from, to);
  }
  template <class Source>
  static Word WordFor(const Source &source, std::uint64_t from,
                      std::uint64_t to) {
    Word word = internal::kFrontNone;
    source.Touching(from, to, [&](Record &record) {
      const bool first = word == internal::kFrontNone;
      word = first ? internal::FrontWordOf(&record) : internal::kFrontAsk;
      return first;
    });
    return word;
  }

  bool IsEmptyIn(const Table &table, unsigned shift, std::uint64_t first,
                 std::uint64_t last) const {
    shift -= kBits;
    const std::uint64_t lo = first >> shift, hi = last >> shift;
    for (std::uint64_t i = lo; i <= hi; ++i) {
      const Word word = table.slot[i % Table::kSlots].Own();
      if (word == internal::kFrontNone) continue;
      if (!internal::IsTable(word)) return false;
      const std::uint64_t from = i << shift, to = LastOf(from, shift);
      if (!IsEmptyIn(*internal::FrontPointer<Table>(word), shift,
                     first > from ? first : from, last < to ? last : to)) {
        return false;
      }
    }
    return true;
  }

  template <class Source>
  bool CheckIn(const Source &source, const Table &table, unsigned shift,
               std::uint64_t from, std::size_t &count) const {
    ++count;
    shift -= kBits;
    unsigned used = 0;
    for (unsigned i = 0; i < Table::kSlots; ++i) {
      const Word word = table.slot[i].Own();
      used += word != internal::kFrontNone ? 1 : 0;
      const std::uint64_t at = from + (std::uint64_t{i} << shift);
      const bool good =
          internal::IsTable(word)
              ? shift > 0 &&
                    CheckIn(source, *internal::FrontPointer<Table>(word), shift,
                            at, count)
              : CheckWord(source, word, at, LastOf(at, shift));
      if (!good) return false;
    }
    return used == table.used;
  }
  template <class Source>
  bool CheckWord(const Source &source, Word word, std::uint64_t from,
                 std::uint64_t to) const {
    const Word truth = WordFor(source, from, to);
    // "ask" is exact too: Clear puts right what it comes by.
    return word == truth;
  }

  Slot root_;
  Slot above_;
  Atom<std::uint64_t> shape_{0};
  // The writer's, and not on the line that every lookup reads.
  alignas(kCacheLine) bool shared_ = false;  // Set has met another mapping
  std::size_t worth_ = 0;  // bytes of tables that the mappings are worth
  NodePool<Table, Memory> tables_;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_PAGE_FRONT_H_
