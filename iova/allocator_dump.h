// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_ALLOCATOR_DUMP_H_
#define DMAMAP_IOVA_ALLOCATOR_DUMP_H_

// Dump() of IovaAllocator, for a human. Included by iova/allocator.h alone.
//
//   window   [0x1000, 0xffffffff]
//   reserved [0xfee00000, 0xfeefffff]
//   live     [0xfffff000, 0xffffffff]  1 page
//   cached   31 ranges of up to 1 page
//   free     1048287 pages in 20 blocks, the largest of 524288 pages
//
// Numbers are formatted into a buffer on the stack: nothing is allocated.

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "iova/allocator.h"

namespace dmamap::inline v0 {

// One line of text of at most 159 characters; what is longer is cut off.
class DumpLine {
 public:
  DumpLine& Text(std::string_view text) {
    for (const char c : text) {
      if (length_ != text_.size()) text_[length_++] = c;
    }
    return *this;
  }
  DumpLine& Number(std::uint64_t n) { return Digits(n, 10); }
  DumpLine& Bytes(const Range& range) {
    return Text("[0x")
        .Digits(range.first().value(), 16)
        .Text(", 0x")
        .Digits(range.last().value(), 16)
        .Text("]");
  }
  // "1 page", "2 pages".
  DumpLine& Count(std::uint64_t n, std::string_view noun) {
    return Number(n).Text(" ").Text(noun).Text(n == 1 ? "" : "s");
  }
  std::string_view view() const { return {text_.data(), length_}; }

 private:
  DumpLine& Digits(std::uint64_t n, int base) {
    std::array<char, 20> digits;
    const std::to_chars_result end =
        std::to_chars(digits.data(), digits.data() + digits.size(), n, base);
    return Text(
        {digits.data(), static_cast<std::size_t>(end.ptr - digits.data())});
  }

  std::array<char, 159> text_;
  std::size_t length_ = 0;
};

template <RangeStore Store, CpuLocal Cpu, class Policy>
template <class Sink>
void IovaAllocator<Store, Cpu, Policy>::Dump(Sink&& sink) const {
  if (!ready_) return sink(std::string_view("not initialised\n"));
  const auto put = [&](DumpLine& line) { sink(line.Text("\n").view()); };
  put(DumpLine().Text("window   ").Bytes(window_));
  for (const Range& range : reserved_.ranges()) {
    put(DumpLine().Text("reserved ").Bytes(range));
  }
  ForEachLive([&](const Range& range) {
    const std::uint64_t pages = range.PagesTouchedMinusOne(page_) + 1;
    put(DumpLine()
            .Text("live     ")
            .Bytes(range)
            .Text("  ")
            .Count(pages, "page"));
  });
  const Stats now = stats();
  for (unsigned c = 0; c < kClasses; ++c) {
    if (now.size_class[c].cached == 0) continue;
    put(DumpLine()
            .Text("cached   ")
            .Count(now.size_class[c].cached, "range")
            .Text(" of up to ")
            .Count(std::uint64_t{1} << c, "page"));
  }
  std::uint64_t blocks = 0;
  std::uint64_t largest = 0;
  std::uint64_t free_pages = 0;
  {
    const Guard<LockType> guard(store_lock_);
    free_pages = store_.free_pages();
    store_.ForEachFree([&](std::uint64_t, std::uint64_t pages) {
      ++blocks;
      largest = std::max(largest, pages);
    });
  }
  put(DumpLine()
          .Text("free     ")
          .Count(free_pages, "page")
          .Text(" in ")
          .Count(blocks, "block")
          .Text(", the largest of ")
          .Count(largest, "page"));
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_ALLOCATOR_DUMP_H_
