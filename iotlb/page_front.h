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
//   * beyond, a mapping that touches the region is worth 64 bytes and 32 for
//     each of its first 64 pages there, and a table is made where they are
//     worth its size and an eighth of what all are worth stays free;
//   * all tables together have at most kSlack bytes and what all mappings are
//     worth (96 to 2,112 bytes each), whenever a call of the writer returns. A
//     removed mapping counts as long as it is buried (at most 65 are:
//     graves.h).
//
// A table stays while something is in it, until the bound is passed: then those
// go that are worth least (front_trim.h). The bound is of tables in the front.
// The pool behind them has the memory of as many as there ever were at a time,
// since readers may look at one that has gone: it serves again for others, and
// goes back with the front.
//
// Where it does not pay, or memory is short, the slot says "ask the tree", as
// it does for a page that several mappings touch. So nothing here can fail, and
// the front never says anything that the tree does not.
//
// A mapping is in the front for as long as it is in the tree, also before it is
// alive and behind its death. Only what brief words tell follows its life: the
// writer calls Tell behind GoLive and Hush before Kill.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "dma/atom.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "iotlb/front_table.h"
#include "iotlb/front_trim.h"
#include "iotlb/node_pool.h"

namespace dmamap::inline v0 {

// The writer's calls take a Source, the truth: `Touching(first, last, visit)`
// calls `bool visit(Record&)` for each mapping that touches a page of
// [first, last], until it returns false.
template <class Record, NodeMemory Memory, unsigned kPageShift, unsigned kBits,
          template <class> class Atom>
class PageFront : public FrontTrim<Record, Memory, kPageShift, kBits, Atom> {
  using Base = FrontTrim<Record, Memory, kPageShift, kBits, Atom>;
  template <class Source>
  using Change = typename Base::template Change<Source>;
  using Base::above_;
  using Base::BriefTruth;
  using Base::CountShape;
  using Base::FreeTable;
  using Base::IsWithinBound;
  using Base::kLastPage;
  using Base::kReachBits;
  using Base::LastOf;
  using Base::live_tables;
  using Base::PutTruth;
  using Base::root_;
  using Base::SetIn;
  using Base::shared_;
  using Base::ShiftOf;
  using Base::SlotsOf;
  using Base::table_bytes;
  using Base::TakeTable;
  using Base::TopOf;
  using Base::Trim;
  using Base::WordFor;

 public:
  using Base::PageOf;
  using Table = typename Base::Table;
  using Slot = typename Base::Slot;
  using Word = typename Base::Word;

  using Base::kSlack;
  using Base::Worth;

  explicit PageFront(Memory memory = Memory()) : Base(std::move(memory)) {}

  std::size_t tables() const { return Base::live_tables(); }

  // --- The writer. Pages are inclusive.

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
                          beside,
                          record->dead() ? nullptr : record};
    shared_ = false;
    if (last > TopOf(root_.Own()) || root_.Own() == 0) SetAbove(change);
    const Word root = root_.Own();
    if (root != 0 && first <= TopOf(root)) {
      SetIn(change, *internal::FrontPointer<Table>(root), ShiftOf(root), 0);
    }
    Trim(source);  // a higher root has not asked
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
    if (root != 0 && first <= top) {
      ClearIn(change, *internal::FrontPointer<Table>(root), ShiftOf(root), 0);
    }
    Trim(source);
  }

  // That each slot says what the source says, each count is right and the bound
  // is kept. O(n).
  template <class Source>
  bool CheckInvariants(const Source &source) const {
    const Word root = root_.Own();
    std::size_t count = 0;
    if (root != 0 && !CheckIn(source, *internal::FrontPointer<Table>(root),
                              ShiftOf(root), 0, count)) {
      return false;
    }
    const std::uint64_t from = root == 0 ? 0 : TopOf(root) + 1;
    return count == live_tables() && CheckBound(source) &&
           CheckWord(source, above_.Own(), from, kLastPage);
  }

 private:
  friend struct PageFrontTestPeer;

  // --- Setting.

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
          source,  internal::FrontWordOf(&record),    0,
          0,       first > covered ? first : covered, PageOf(record.last()),
          nullptr, record.dead() ? nullptr : &record};
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
        table.Lead(i, internal::kFrontNone);
        continue;
      }
      const std::uint64_t at = from + (std::uint64_t{i} << shift);
      if (internal::IsTable(word)) {
        ClearTable(change, table, i, shift, at);
      } else if (word == internal::kFrontAsk) {
        PutTruth(change.source, table, i, shift, at);
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
      if (table.brief[i].Own() != BriefTruth(word, at, shift)) return false;
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
  bool CheckBound(const Source &source) const {
    std::size_t worth = 0;
    source.Touching(0, kLastPage, [&worth](const Record &record) {
      worth += Worth(PageOf(record.last()) - PageOf(record.first()));
      return true;
    });
    return worth == Base::worth() && IsWithinBound();
  }
  template <class Source>
  bool CheckWord(const Source &source, Word word, std::uint64_t from,
                 std::uint64_t to) const {
    const Word truth = WordFor(source, from, to);
    // "ask" is exact too: Clear puts right what it comes by.
    return word == truth;
  }
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_PAGE_FRONT_H_
