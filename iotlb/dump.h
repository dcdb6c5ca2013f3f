// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_DUMP_H_
#define DMAMAP_IOTLB_DUMP_H_

// Dump() of an IOTLB, for a human. Included by those who call it.
//
//   mapping  [0x1000, 0x1fff] -> 0x7f0000001000 read-write token 7
//   pending  0x9000 write
//   tree     1 mapping in 1 level, front of 0 tables, 2432 bytes
//   changes  1 added, 0 removed, 0 retired, 0 splits, 0 merges
//   lookups  12 hits (9 by the hint), 1 misses, 0 faults
//
// Numbers are formatted into a buffer on the stack: nothing is allocated.

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "dma/direction.h"
#include "dma/version.h"
#include "iotlb/iotlb.h"

namespace dmamap::inline v0 {
namespace internal {

// One line of text of at most 191 characters; what is longer is cut off.
class IotlbLine {
 public:
  IotlbLine &Text(std::string_view text) {
    for (const char c : text) {
      if (length_ != text_.size()) text_[length_++] = c;
    }
    return *this;
  }
  IotlbLine &Number(std::uint64_t n) { return Digits(n, 10); }
  IotlbLine &Hex(std::uint64_t n) { return Text("0x").Digits(n, 16); }
  IotlbLine &Bytes(const Range &range) {
    return Text("[")
        .Hex(range.first().value())
        .Text(", ")
        .Hex(range.last().value())
        .Text("]");
  }
  std::string_view view() const { return {text_.data(), length_}; }

 private:
  IotlbLine &Digits(std::uint64_t n, int base) {
    std::array<char, 20> digits;
    const std::to_chars_result end =
        std::to_chars(digits.data(), digits.data() + digits.size(), n, base);
    return Text(
        {digits.data(), static_cast<std::size_t>(end.ptr - digits.data())});
  }

  std::array<char, 191> text_;
  std::size_t length_ = 0;
};

}  // namespace internal

template <class P>
template <class Emit>
void BasicIotlb<P>::Dump(Emit &&emit) const {
  using Line = internal::IotlbLine;
  ForEach([&](const IotlbEntry &e) {
    Line line;
    line.Text("mapping  ").Bytes(e.range).Text(" -> ").Hex(e.address.value());
    line.Text(" ").Text(ToString(e.permission)).Text(" token ");
    emit(line.Number(e.token).view());
  });
  ForEachPendingMiss([&](const PendingMiss &miss) {
    Line line;
    line.Text("pending  ").Hex(miss.page.value()).Text(" ");
    emit(line.Text(ToString(miss.permission)).view());
  });
  const IotlbStats s = stats();
  Line tree;
  tree.Text("tree     ").Number(s.entries).Text(" mappings in ");
  tree.Number(s.height).Text(" levels, front of ").Number(s.front_tables);
  emit(tree.Text(" tables, ").Number(s.memory_bytes).Text(" bytes").view());
  Line changes;
  changes.Text("changes  ").Number(s.added).Text(" added, ").Number(s.removed);
  changes.Text(" removed, ").Number(s.retired).Text(" retired, ");
  changes.Number(s.splits).Text(" splits, ").Number(s.merges);
  emit(changes.Text(" merges").view());
  Line lookups;
  lookups.Text("lookups  ").Number(s.readers.hits).Text(" hits (");
  lookups.Number(s.readers.hint_hits).Text(" by the hint), ");
  lookups.Number(s.readers.misses).Text(" misses, ");
  emit(lookups.Number(s.readers.faults).Text(" faults").view());
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_DUMP_H_
