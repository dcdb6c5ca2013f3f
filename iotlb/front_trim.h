// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_FRONT_TRIM_H_
#define DMAMAP_IOTLB_FRONT_TRIM_H_

// FrontTrim: tables that leave the front before they are empty, so that its
// bound holds at all times. Between front_fill.h and page_front.h, which tells
// the bound.
//
// What makes the bound fall, or takes tables without asking for it, calls Trim
// at its end. Where the bound is passed, Trim collapses tables until a quarter
// of it is free, in rounds: first those whose regions are worth less than a
// quarter of a table, then half of one, and so on, by address in a round; in
// the end only the root is left. A region that collapsed gets a table again as
// any other does, when it pays.
//
// A round looks at each table. But new tables leave an eighth of the bound free
// (FrontFill::Pays), so that an eighth of what is mapped has to go between two
// calls that go round: a few looks a removal (at most a quarter of a table goes
// with a mapping), though one of them has all of these looks at once.
//
// The writer's.

#include <cstddef>
#include <cstdint>

#include "dma/version.h"
#include "iotlb/front_fill.h"
#include "iotlb/front_table.h"
#include "iotlb/node_pool.h"

namespace dmamap::inline v0 {

template <class Record, NodeMemory Memory, unsigned kPageShift, unsigned kBits,
          template <class> class Atom>
class FrontTrim : public FrontFill<Record, Memory, kPageShift, kBits, Atom> {
  using Base = FrontFill<Record, Memory, kPageShift, kBits, Atom>;

 protected:
  using Base::CountShape;
  using Base::FreeBelow;
  using Base::IsWorth;
  using Base::LastOf;
  using Base::live_tables;
  using Base::root_;
  using Base::ShiftOf;
  using Base::table_bytes;
  using Base::TellOne;
  using Base::WordFor;

 public:
  using Base::kSlack;
  using Base::PageOf;
  using Base::Worth;
  using Table = typename Base::Table;
  using Word = typename Base::Word;

  using Base::Base;

 protected:
  // The most bytes that all tables may have.
  std::size_t Bound() const { return kSlack + Base::worth(); }
  bool IsWithinBound() const { return table_bytes() <= Bound(); }

  template <class Source>
  void Trim(const Source &source) {
    if (!IsWithinBound()) [[unlikely]]
      TrimToBound(source);
  }
  // Slot `i`, which stands for the region of `shift` bits from page `from`,
  // says what the source says.
  template <class Source>
  static void PutTruth(const Source &source, Table &table, unsigned i,
                       unsigned shift, std::uint64_t from) {
    const Word word = WordFor(source, from, LastOf(from, shift));
    table.Put(i, word);
    if (internal::IsRecord(word)) {
      TellOne(table, i, *internal::FrontPointer<Record>(word), from, shift);
    }
  }

 private:
  template <class Source>
  [[gnu::noinline]] void TrimToBound(const Source &source) {
    const std::size_t most = Bound() - Bound() / 4;
    const Word root = root_.Own();
    for (std::size_t least = sizeof(Table) / 4;
         table_bytes() > most && live_tables() > 1; least *= 2) {
      TrimIn(source, *internal::FrontPointer<Table>(root), ShiftOf(root), 0,
             most, least);
    }
  }
  // Collapses tables below `table` that are worth less than `least`, until all
  // tables together have at most `most` bytes.
  template <class Source>
  void TrimIn(const Source &source, Table &table, unsigned shift,
              std::uint64_t from, std::size_t most, std::size_t least) {
    shift -= kBits;
    for (unsigned i = 0; i < Table::kSlots && table_bytes() > most; ++i) {
      const Word word = table.slot[i].Own();
      if (!internal::IsTable(word)) continue;
      const std::uint64_t at = from + (std::uint64_t{i} << shift);
      Table *const below = internal::FrontPointer<Table>(word);
      if (IsWorth(source, at, LastOf(at, shift), least)) {
        TrimIn(source, *below, shift, at, most, least);
        continue;
      }
      PutTruth(source, table, i, shift, at);
      // Nothing leads there now; but readers may be there, and must not take
      // what is cleared next for an answer.
      CountShape();
      FreeBelow(below, shift);
    }
  }
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_FRONT_TRIM_H_
