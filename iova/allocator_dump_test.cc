// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "iova/allocator_dump.h"

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <string_view>

#include "iova/standard.h"

namespace dmamap {
namespace {

std::string Dumped(const StandardAllocator& a) {
  std::string text;
  a.Dump([&](std::string_view piece) { text += piece; });
  return text;
}

TEST(AllocatorDump, ListsWhatAHumanAsksFor) {
  StandardAllocator a;
  EXPECT_EQ(Dumped(a), "not initialised\n");
  const std::array<Range, 2> reserved = {kX86MsiWindow,
                                         Range::Byte(Iova(0x3001))};
  ASSERT_TRUE(a.Init({.window = *Range::FromFirstLast(Iova(0x1000), kLast32Bit),
                      .reserved = reserved})
                  .ok());
  ASSERT_EQ(*a.Allocate(100, {.limit = Iova(0xffffff)}), Iova(0xf80000));
  ASSERT_EQ(*a.Allocate(3), Iova(0xfeffc000));
  const Iova freed = *a.Allocate(1);
  ASSERT_TRUE(a.Free(freed, 1).ok());
  const AllocatorStats s = a.stats();
  const std::string text = Dumped(a);
  EXPECT_EQ(text.substr(0, text.find("free")),
            "window   [0x1000, 0xffffffff]\n"
            "reserved [0x3000, 0x3fff]\n"
            "reserved [0xfee00000, 0xfeefffff]\n"
            "live     [0xf80000, 0xfe3fff]  100 pages\n"
            "live     [0xfeffc000, 0xfeffefff]  3 pages\n"
            "cached   " +
                std::to_string(s.size_class[0].cached) +
                " ranges of up to 1 page\n"
                "cached   " +
                std::to_string(s.size_class[2].cached) +
                " ranges of up to 4 pages\n");
  EXPECT_NE(text.find("free     " + std::to_string(s.free_pages) + " pages in"),
            std::string::npos);
  EXPECT_NE(text.find("the largest of 262144 pages\n"), std::string::npos);
}

TEST(DumpLine, CutsOffWhatIsTooLong) {
  DumpLine line;
  line.Text(std::string(300, 'x')).Number(1);
  EXPECT_EQ(line.view(), std::string(159, 'x'));
  EXPECT_EQ(DumpLine().Bytes(Range::Whole()).view(),
            "[0x0, 0xffffffffffffffff]");
  EXPECT_EQ(DumpLine().Count(1, "page").Text(" ").Count(2, "page").view(),
            "1 page 2 pages");
  EXPECT_EQ(DumpLine().Number(~0ull).view(), "18446744073709551615");
}

}  // namespace
}  // namespace dmamap
