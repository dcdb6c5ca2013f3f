// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_FRONT_BRIEF_H_
#define DMAMAP_IOTLB_FRONT_BRIEF_H_

// FrontBrief: what the brief words of the front say of a mapping, and where.
// Between front_tables.h and page_front.h; front_table.h tells what they are.
//
// The writer's.

#include <cstdint>

#include "dma/version.h"
#include "iotlb/front_table.h"
#include "iotlb/front_tables.h"
#include "iotlb/node_pool.h"

namespace dmamap::inline v0 {

template <class Record, NodeMemory Memory, unsigned kPageShift, unsigned kBits,
          template <class> class Atom>
class FrontBrief : public FrontTables<Memory, kPageShift, kBits, Atom> {
  using Base = FrontTables<Memory, kPageShift, kBits, Atom>;

 protected:
  using Base::kOffset;
  using Base::LastOf;
  using Base::root_;
  using Base::ShiftOf;
  using Base::TopOf;

 public:
  using Table = typename Base::Table;
  using Word = typename Base::Word;

  using Base::Base;

  // `record` is alive: its memory is told wherever the front leads to it alone.
  void Tell(const Record &record) {
    const Word brief = BriefOf(record);
    if (brief != 0) StoreBrief(record, brief);
  }
  // It is told no more, and may be killed.
  void Hush(const Record &record) {
    if (BriefOf(record) != 0) StoreBrief(record, 0);
  }

 protected:
  // What brief words say of `record`; 0: they cannot tell.
  static Word BriefOf(const Record &record) {
    const Word away = record.address() - record.first();
    const auto grants = static_cast<Word>(record.permission());
    if (kOffset < 7 || grants == 0 || (away & kOffset) != 0) return 0;
    return away | grants << 1;  // in the bits of an offset in a page
  }
  // Whether it covers the 2^shift pages from page `from`.
  static bool IsWhole(const Record &record, std::uint64_t from,
                      unsigned shift) {
    const std::uint64_t first = from << kPageShift;
    const std::uint64_t last = first + (((kOffset + 1) << shift) - 1);
    return record.first() <= first && record.last() >= last;
  }
  static Word BriefOf(const Record &record, std::uint64_t from,
                      unsigned shift) {
    return IsWhole(record, from, shift) ? BriefOf(record) : 0;
  }
  // The slot leads to `record`, which may be alive.
  static void TellOne(Table &table, unsigned i, const Record &record,
                      std::uint64_t from, unsigned shift) {
    if (!record.dead()) table.brief[i].Store(BriefOf(record, from, shift));
  }
  // What the brief word beside a slot has to say.
  static Word BriefTruth(Word word, std::uint64_t from, unsigned shift) {
    if (!internal::IsRecord(word)) return internal::BriefWithoutMemory(word);
    const Record &record = *internal::FrontPointer<Record>(word);
    return record.dead() ? 0 : BriefOf(record, from, shift);
  }

 private:
  [[gnu::always_inline]] void StoreBrief(const Record &record, Word brief) {
    ForEachRun(record, [brief, word = internal::FrontWordOf(&record)](
                           Table &table, unsigned lo, unsigned hi) {
      // Copies: what is captured would be read again behind each store.
      const Word was = word, becomes = brief;
      for (unsigned i = lo; i <= hi; ++i) {
        if (table.slot[i].Own() == was) table.brief[i].Store(becomes);
      }
    });
  }
  // Calls `run(table, first slot, last slot)` for the slots whose regions the
  // record covers; there may be tables among them.
  template <class Run>
  [[gnu::always_inline]] void ForEachRun(const Record &record, const Run &run) {
    // Pages that are covered to their ends.
    const std::uint64_t first = (record.first() + kOffset) >> kPageShift;
    const std::uint64_t end = (record.last() >> kPageShift) +
                              ((record.last() & kOffset) == kOffset ? 1 : 0);
    const Word root = root_.Own();
    if (root == 0 || first >= end || first > TopOf(root) ||
        record.first() > ~kOffset) {
      return;
    }
    Table *table = internal::FrontPointer<Table>(root);
    unsigned shift = ShiftOf(root);
    for (;;) {
      shift -= kBits;
      const auto lo = static_cast<unsigned>((first >> shift) % Table::kSlots);
      if (((first ^ (end - 1)) >> (shift + kBits)) != 0) break;
      if (shift == 0) {
        run(*table, lo, static_cast<unsigned>((end - 1) % Table::kSlots));
        return;
      }
      const Word below = table->brief[lo].Own();
      if (((first ^ (end - 1)) >> shift) != 0 || !internal::IsTable(below)) {
        break;
      }
      table = internal::FrontPointer<Table>(below);
    }
    // More than one table, or one that is not at the bottom.
    RunsIn(*internal::FrontPointer<Table>(root), ShiftOf(root), 0, first,
           end - 1, run);
  }
  template <class Run>
  static void RunsIn(Table &table, unsigned shift, std::uint64_t from,
                     std::uint64_t first, std::uint64_t last, const Run &run) {
    shift -= kBits;
    const std::uint64_t to = LastOf(from, shift + kBits);
    const std::uint64_t lo = (first > from ? first - from : 0) >> shift;
    const std::uint64_t hi = ((last < to ? last : to) - from) >> shift;
    for (std::uint64_t i = lo; i <= hi; ++i) {
      const auto n = static_cast<unsigned>(i);
      const std::uint64_t at = from + (i << shift);
      const Word brief = table.brief[n].Own();
      if (internal::IsTable(brief)) {
        RunsIn(*internal::FrontPointer<Table>(brief), shift, at, first, last,
               run);
      } else if (at >= first && LastOf(at, shift) <= last) {
        run(table, n, n);
      }
    }
  }
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_FRONT_BRIEF_H_
