// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_FRONT_TABLES_H_
#define DMAMAP_IOTLB_FRONT_TABLES_H_

// FrontTables: where the tables of the front come from, what they may cost, and
// how all of them go at once. Between front_index.h and page_front.h.
//
// The writer's.

#include <cstddef>
#include <cstdint>
#include <utility>

#include "dma/sync.h"
#include "dma/version.h"
#include "iotlb/front_index.h"
#include "iotlb/front_table.h"
#include "iotlb/node_pool.h"

namespace dmamap::inline v0 {

template <NodeMemory Memory, unsigned kPageShift, unsigned kBits,
          template <class> class Atom>
class FrontTables : public FrontIndex<kPageShift, kBits, Atom> {
 public:
  using Index = FrontIndex<kPageShift, kBits, Atom>;

 protected:
  using Index::above_;
  using Index::CountShape;
  using Index::root_;
  using Index::ShiftOf;

 public:
  using Table = typename Index::Table;
  using Word = typename Index::Word;

  // Tables that are given freely, in bytes.
  static constexpr std::size_t kSlack = 16 * sizeof(Table);

  explicit FrontTables(Memory memory) : tables_(std::move(memory)) {}

  // What a mapping of `pages` pages less one is worth, in bytes of tables.
  static std::size_t Worth(std::uint64_t pages_minus_one) {
    constexpr std::size_t kFree = 64, kPage = 32, kMost = 64;
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

  // Every lookup asks the tree, and nothing is kept. REQUIRES: nothing is set.
  void SwitchOff() { above_.Store(internal::kFrontAsk); }
  // Every lookup asks the tree, until Reset().
  void HushAll() {
    above_.Store(internal::kFrontAsk);
    hushed_ = root_.Own();
    root_.Store(0);
    CountShape();
  }

  // Forgets all mappings. REQUIRES: HushAll().
  void Reset() {
    worth_ = 0;
    above_.Store(internal::kFrontNone);
    if (hushed_ == 0) return;
    FreeBelow(internal::FrontPointer<Table>(hushed_), ShiftOf(hushed_));
    hushed_ = 0;
  }

  std::size_t memory_bytes() const { return tables_.memory_bytes(); }

 protected:
  std::size_t live_tables() const { return tables_.live(); }
  std::size_t table_bytes() const { return tables_.live() * sizeof(Table); }
  // What all mappings together are worth.
  std::size_t worth() const { return worth_; }

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
    for (unsigned i = 0; i < Table::kSlots; ++i) {
      const Word word = table->slot[i].Own();
      table->slot[i].Store(internal::kFrontNone);
      table->brief[i].Store(0);
      if (internal::IsTable(word)) {
        FreeBelow(internal::FrontPointer<Table>(word), shift);
      }
    }
    table->used = 0;
    tables_.Put(table);
  }

 private:
  // The writer's, and not on the line that every lookup reads.
  alignas(kCacheLine) NodePool<Table, Memory> tables_;
  Word hushed_ = 0;        // the root that HushAll took away
  std::size_t worth_ = 0;  // bytes of tables that the mappings are worth
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_FRONT_TABLES_H_
