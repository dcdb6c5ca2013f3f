// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_FRONT_FILL_H_
#define DMAMAP_IOTLB_FRONT_FILL_H_

// FrontFill: how one mapping is entered into tables of the front, and when
// another table is made for it. Between front_brief.h and front_trim.h;
// page_front.h says when a table pays.
//
// The writer's.

#include <cstddef>
#include <cstdint>
#include <utility>

#include "dma/version.h"
#include "iotlb/front_brief.h"
#include "iotlb/front_table.h"
#include "iotlb/node_pool.h"

namespace dmamap::inline v0 {

template <class Record, NodeMemory Memory, unsigned kPageShift, unsigned kBits,
          template <class> class Atom>
class FrontFill : public FrontBrief<Record, Memory, kPageShift, kBits, Atom> {
  using Base = FrontBrief<Record, Memory, kPageShift, kBits, Atom>;

 public:
  using Base::kSlack;
  using Base::PageOf;
  using Base::Worth;
  using Table = typename Base::Table;
  using Word = typename Base::Word;

  using Base::Base;

 protected:
  using Base::LastOf;
  using Base::table_bytes;
  using Base::TakeTable;
  using Base::TellOne;

  template <class Source>
  struct Change {
    const Source &source;
    Word word;  // what a slot becomes
    Word old;   // what it may have been; 0: nothing
    Word old2;
    std::uint64_t first, last;
    const Record *beside = nullptr;
    // The record of `word` where it is alive, so that its memory may be told.
    const Record *alive = nullptr;

    // Whether a slot of the pages [from, to] that says `was` passes to `word`.
    bool Passes(Word was, std::uint64_t from, std::uint64_t to) const {
      if (was != old && was != old2) return false;
      return beside == nullptr || PageOf(beside->first()) > to ||
             PageOf(beside->last()) < from;
    }
  };

  template <class Source>
  bool Pays(const Change<Source> &change, std::uint64_t from,
            std::uint64_t to) const {
    const std::size_t with = table_bytes() + sizeof(Table);
    if (with <= kSlack) return true;
    // An eighth of what all are worth stays free: it takes so many removals to
    // pass the bound again (front_trim.h), whatever comes back in between.
    if (with > kSlack + Base::worth() - Base::worth() / 8) return false;
    return IsWorth(change.source, from, to, sizeof(Table));
  }
  // Whether what touches the pages [from, to] is worth `bytes` of tables.
  template <class Source>
  static bool IsWorth(const Source &source, std::uint64_t from,
                      std::uint64_t to, std::size_t bytes) {
    std::size_t worth = 0;
    source.Touching(from, to, [&](Record &record) {
      const std::uint64_t a = PageOf(record.first()), b = PageOf(record.last());
      worth += Worth((b < to ? b : to) - (a > from ? a : from));
      return worth < bytes;
    });
    return worth >= bytes;
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
      const Change<Source> one{change.source,
                               internal::FrontWordOf(&record),
                               0,
                               0,
                               PageOf(record.first()),
                               PageOf(record.last()),
                               nullptr,
                               record.dead() ? nullptr : &record};
      SetIn(one, *table, shift, from);
      return true;
    });
    return table;
  }

  template <class Source>
  static void Lead(const Change<Source> &change, Table &table, unsigned i,
                   std::uint64_t from, unsigned shift) {
    table.Lead(i, change.word);
    if (change.alive != nullptr) TellOne(table, i, *change.alive, from, shift);
  }

  // --- Setting.

  template <class Source>
  void SetIn(const Change<Source> &change, Table &table, unsigned shift,
             std::uint64_t from) {
    shift -= kBits;
    const auto [lo, hi] = SlotsOf(change, shift, from);
    for (unsigned i = lo; i <= hi; ++i) {
      const Word word = table.slot[i].Own();
      const std::uint64_t at = from + (std::uint64_t{i} << shift);
      if (word == internal::kFrontNone) {
        ++table.used;
        Lead(change, table, i, at, shift);
      } else if (change.Passes(word, at, LastOf(at, shift))) {
        Lead(change, table, i, at, shift);
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
    table.Lead(i, below == nullptr ? internal::kFrontAsk
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

  bool shared_ = false;  // a change has met another mapping
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_FRONT_FILL_H_
