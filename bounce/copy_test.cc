// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "bounce/copy.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "bounce/memory_access.h"
#include "dma/address.h"

namespace dmamap {
namespace {

using Bytes = std::vector<std::byte>;

Bytes Pattern(std::size_t n, unsigned seed) {
  Bytes b(n);
  for (std::size_t i = 0; i < n; ++i) {
    b[i] = static_cast<std::byte>((i * 7 + seed) & 0xff);
  }
  return b;
}

// Reaches only the bytes before `end`; answers with `lie` bytes too many.
struct OddMemory {
  std::uint64_t end = ~std::uint64_t{0};
  std::size_t lie = 0;
  int open = 0;
  MemoryWindow Open(PhysAddr a, std::size_t n) {
    if (a.value() >= end) return {};
    ++open;
    const std::uint64_t left = end - a.value();
    return {PointerTo(a),
            (left < n ? static_cast<std::size_t>(left) : n) + lie};
  }
  void Close(const MemoryWindow&) { --open; }
};

TEST(PagewiseMemory, NeverCrossesAPage) {
  PagewiseMemory<> memory(*PageSize::FromShift(6));
  Bytes b(1000);
  const PhysAddr start = PhysAddrOf(b.data());
  for (std::size_t at = 0; at < 200; ++at) {
    const MemoryWindow w = memory.Open(start + at, 500);
    ASSERT_FALSE(w.empty());
    EXPECT_EQ(w.data, b.data() + at);
    EXPECT_EQ(w.length, 64 - ((start.value() + at) & 63));
    memory.Close(w);
  }
  EXPECT_EQ(memory.open_windows(), 0);
}

TEST(PagewiseMemory, APageOfHalfTheSpaceIsNoBound) {
  PagewiseMemory<> memory(*PageSize::FromShift(63));
  Bytes b(100);
  EXPECT_EQ(memory.Open(PhysAddrOf(b.data()), 100).length, 100u);
}

RC_GTEST_PROP(Copy, SameBytesDirectAndPagewise, ()) {
  const auto size = *rc::gen::inRange<std::size_t>(0, 5000);
  const auto offset = *rc::gen::inRange<std::size_t>(0, 300);
  const auto shift = *rc::gen::inRange(0u, 13u);
  const Bytes from = Pattern(size + offset + 16, shift);
  Bytes to(size + 2, std::byte{0xee});
  PagewiseMemory<> memory(*PageSize::FromShift(shift));
  RC_ASSERT(CopyFromMemory(memory, PhysAddrOf(from.data() + offset),
                           to.data() + 1, size)
                .ok());
  RC_ASSERT(memory.open_windows() == 0);
  Bytes expected(from.begin() + static_cast<std::ptrdiff_t>(offset),
                 from.begin() + static_cast<std::ptrdiff_t>(offset + size));
  RC_ASSERT(Bytes(to.begin() + 1, to.end() - 1) == expected);
  RC_ASSERT(to.front() == std::byte{0xee} && to.back() == std::byte{0xee});

  Bytes back(from.size(), std::byte{0xdd});
  RC_ASSERT(CopyToMemory(memory, PhysAddrOf(back.data() + offset),
                         expected.data(), size)
                .ok());
  for (std::size_t i = 0; i < back.size(); ++i) {
    const bool inside = i >= offset && i < offset + size;
    RC_ASSERT(back[i] == (inside ? from[i] : std::byte{0xdd}));
  }
}

TEST(Copy, StopsAtTheByteThatCannotBeReached) {
  Bytes from = Pattern(100, 1);
  Bytes to(100);
  OddMemory memory{PhysAddrOf(from.data()).value() + 60};
  const auto r =
      CopyFromMemory(memory, PhysAddrOf(from.data()), to.data(), 100);
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error(), Error::kUnsupported);
  EXPECT_EQ(memory.open, 0);
  EXPECT_EQ(to[59], from[59]);
  EXPECT_EQ(to[60], std::byte{0});
}

// Memory of which only the first bytes are there, a page at a time: each copy
// does all of those, none behind them, and says how many.
RC_GTEST_PROP(Copy, SaysHowFarItCame, ()) {
  const auto size = *rc::gen::inRange<std::size_t>(0, 500);
  const auto reach = *rc::gen::inRange<std::size_t>(0, 600);
  const auto shift = *rc::gen::inRange(0u, 9u);
  Bytes memory = Pattern(600, 1);
  const PhysAddr start = PhysAddrOf(memory.data());
  PagewiseMemory<OddMemory> access(*PageSize::FromShift(shift),
                                   {.end = start.value() + reach});
  const std::size_t there = std::min(size, reach);

  Bytes out(size, std::byte{0xee});
  std::size_t copied = 77;
  const auto r = CopyFromMemory(access, start, out.data(), size, &copied);
  RC_ASSERT(r.ok() == (there == size));
  if (!r.ok()) RC_ASSERT(r.error() == Error::kUnsupported);
  RC_ASSERT(copied == there);
  for (std::size_t i = 0; i < size; ++i) {
    RC_ASSERT(out[i] == (i < there ? memory[i] : std::byte{0xee}));
  }

  const Bytes in(size, std::byte{0xdd});
  const Bytes before = memory;
  RC_ASSERT(CopyToMemory(access, start, in.data(), size, &copied).ok() ==
            r.ok());
  RC_ASSERT(copied == there);
  for (std::size_t i = 0; i < memory.size(); ++i) {
    RC_ASSERT(memory[i] == (i < there ? std::byte{0xdd} : before[i]));
  }
  RC_ASSERT(access.open_windows() == 0);
}

TEST(Copy, AWindowThatIsTooLongIsNotUsed) {
  Bytes from = Pattern(100, 1);
  Bytes to(100);
  OddMemory memory;
  memory.lie = 1;
  const auto r = CopyFromMemory(memory, PhysAddrOf(from.data()), to.data(), 50);
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error(), Error::kUnsupported);
  EXPECT_EQ(memory.open, 0);
  EXPECT_EQ(to, Bytes(100));
}

TEST(Copy, WrapIsAnErrorAndTheLastByteIsNot) {
  // Plays the last page of the address space with a local array.
  struct Top {
    std::byte page[256] = {};
    MemoryWindow Open(PhysAddr a, std::size_t n) {
      return {page + (a.value() & 255), n};
    }
    void Close(const MemoryWindow&) {}
  } memory;
  std::byte b[100] = {};
  b[99] = std::byte{9};
  const PhysAddr top(~std::uint64_t{0} - 99);
  EXPECT_TRUE(CopyToMemory(memory, top, b, 100).ok());
  EXPECT_EQ(memory.page[255], std::byte{9});
  std::size_t copied = 77;
  const auto r = CopyToMemory(memory, top + 1, b, 100, &copied);
  EXPECT_EQ(copied, 0u);
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error(), Error::kOverflow);
}

}  // namespace
}  // namespace dmamap
