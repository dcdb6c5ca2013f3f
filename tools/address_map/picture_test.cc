// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "tools/address_map/picture.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tools/address_map/xml_for_test.h"

namespace dmamap::address_map {
namespace {

using absl::StrContains;

std::size_t Times(const std::string& text, const std::string& part) {
  std::size_t times = 0;
  for (std::size_t at = text.find(part); at != std::string::npos;
       at = text.find(part, at + part.size())) {
    ++times;
  }
  return times;
}

// Regions 1 and 4: a range that is freed, and one that is not.
History Small() {
  History history;
  history.us = {0, 1500, 2'000'000};
  history.ranges = {{.first = 512,
                     .pages = 256,
                     .begin = 0,
                     .end = 2,
                     .begin_us = 0,
                     .end_us = 2'000'000,
                     .holder = 0,
                     .freed = true},
                    {.first = 4 * 512 + 511,
                     .pages = 1,
                     .begin = 1,
                     .end = 3,
                     .begin_us = 1500,
                     .end_us = 2'000'000,
                     .holder = 1,
                     .freed = false}};
  return history;
}

LayoutOptions Sized(double width, double height) {
  LayoutOptions options;
  options.width = width;
  options.height = height;
  return options;
}

Caption Plain() {
  return {.trace = "t.csv",
          .addresses = "as recorded",
          .holders = {"one", "two", "nobody"},
          .notes = {}};
}

TEST(Draw, EachRangeIsARectangleWithATooltip) {
  const History history = Small();
  const Layout layout = LayOut(history, Sized(300, 100));
  const std::string svg = Draw(history, layout, Plain());
  EXPECT_EQ(XmlError(svg), "");
  EXPECT_TRUE(
      StrContains(svg,
                  "<rect class=\"h0\" x=\"0\" y=\"75.000\" width=\"200\" "
                  "height=\"25.000\"><title>0x200000 - 0x2fffff\n"
                  "256 pages, one\n"
                  "allocated at step 0, 0 us\n"
                  "freed at step 2, 2 s\n"
                  "held for 2 steps, 2 s</title></rect>\n"))
      << svg;
  EXPECT_TRUE(
      StrContains(svg,
                  "<rect class=\"h1\" x=\"100\" y=\"0.000\" width=\"200\" "
                  "height=\"0.098\"><title>0x9ff000 - 0x9fffff\n"
                  "1 page, two\n"
                  "allocated at step 1, 1.5 ms\n"
                  "not freed: held for at least 2 steps, 2 s</title></rect>\n"))
      << svg;
}

TEST(Draw, RegionsHaveBoundariesAndBaseAddresses) {
  const History history = Small();
  const std::string svg =
      Draw(history, LayOut(history, Sized(300, 100)), Plain());
  EXPECT_TRUE(StrContains(svg, "y=\"49\">0x800000</text>")) << svg;
  EXPECT_TRUE(StrContains(svg, "y=\"99\">0x200000</text>")) << svg;
  // Regions 2 and 3 are left out.
  EXPECT_TRUE(StrContains(
      svg, "<line class=\"gap\" x1=\"-6\" y1=\"50\" x2=\"300\" y2=\"50\"/>"));
  EXPECT_TRUE(StrContains(
      svg,
      "<line class=\"line\" x1=\"-6\" y1=\"100\" x2=\"300\" y2=\"100\"/>"));
  EXPECT_TRUE(StrContains(svg, "A dashed line"));
}

TEST(Draw, LegendNamesThoseWhoHeldSomething) {
  const History history = Small();
  const std::string svg =
      Draw(history, LayOut(history, Sized(300, 100)), Plain());
  EXPECT_TRUE(StrContains(svg, ">one (1)</text>"));
  EXPECT_TRUE(StrContains(svg, ">two (1)</text>"));
  EXPECT_FALSE(StrContains(svg, "nobody"));
  EXPECT_FALSE(StrContains(svg, "Merged"));
}

TEST(Draw, NothingComesFromOutside) {
  const History history = Small();
  const std::string svg =
      Draw(history, LayOut(history, Sized(300, 100)), Plain());
  EXPECT_EQ(Times(svg, "http"), 1u);  // the name space
  for (const char* outside : {"href", "url(", "@import", "<script", "<image"}) {
    EXPECT_FALSE(StrContains(svg, outside)) << outside;
  }
  EXPECT_TRUE(StrContains(svg, "prefers-color-scheme: dark"));
}

TEST(Draw, NamesAreEscaped) {
  const History history = Small();
  Caption caption = Plain();
  caption.trace = "</title><script>\"&\x01\xFF.csv";
  caption.holders[0] = "<a & \"b\">";
  caption.notes = {"1 < 2"};
  const std::string svg =
      Draw(history, LayOut(history, Sized(300, 100)), caption);
  EXPECT_EQ(XmlError(svg), "");
  EXPECT_FALSE(StrContains(svg, "<script"));
  EXPECT_TRUE(StrContains(svg, "&lt;/title&gt;&lt;script&gt;&quot;&amp;"));
  EXPECT_TRUE(StrContains(svg, "256 pages, &lt;a &amp; &quot;b&quot;&gt;"));
  EXPECT_TRUE(StrContains(svg, "1 &lt; 2"));
}

TEST(Draw, SaysWhatWasMerged) {
  const History history = Small();
  LayoutOptions options = Sized(300, 100);
  options.max_boxes = 1;
  const std::string svg = Draw(history, LayOut(history, options), Plain());
  EXPECT_EQ(XmlError(svg), "");
  EXPECT_TRUE(StrContains(svg, "the 1 ranges of the largest area")) << svg;
  EXPECT_TRUE(StrContains(svg, "the 1 others are a raster of squares of 1 px"));
  EXPECT_TRUE(StrContains(svg,
                          "<path class=\"h1 s1\" d=\"M100 0h200v1h-200z\">"
                          "<title>merged ranges, most of it two; held: up to "
                          "25 %</title></path>"))
      << svg;
}

TEST(Draw, NothingWasHeld) {
  History history;
  history.us = {1, 2};
  const std::string svg =
      Draw(history, LayOut(history, Sized(300, 100)), Plain());
  EXPECT_EQ(XmlError(svg), "");
  EXPECT_TRUE(StrContains(svg, "0 ranges, at most 0 B live"));
}

// As ragged as can be: each pixel has another holder, sizes and regions vary,
// nothing lies where something of its kind was.
History Ragged(std::size_t ranges) {
  std::mt19937_64 random(1);
  History history;
  std::uint64_t page = 512;
  for (std::size_t i = 0; i < ranges; ++i) {
    history.us.push_back(i * 3);
    const std::uint64_t pages = 1 + random() % 64;
    history.ranges.push_back({.first = page,
                              .pages = pages,
                              .begin = i,
                              .end = std::min(ranges, i + 1 + random() % 2000),
                              .begin_us = i * 3,
                              .end_us = i * 3,
                              .holder = static_cast<std::uint8_t>(random() % 7),
                              .freed = false});
    page = 512 + (page + pages + random() % 100'000) % 4'000'000;
  }
  return history;
}

TEST(Draw, ABigTraceMakesASmallFile) {
  const History history = Ragged(400'000);
  Caption caption = Plain();
  caption.holders = {"a", "b", "c", "d", "e", "f", "g"};
  for (const double size : {1200.0, kMostWidth}) {
    const Layout layout = LayOut(history, Sized(size, size));
    const std::string svg = Draw(history, layout, caption);
    EXPECT_EQ(XmlError(svg), "");
    EXPECT_LT(svg.size(), kMostBytes);
    EXPECT_EQ(layout.boxes.size() + layout.raster.ranges, 400'000u);
    EXPECT_TRUE(StrContains(svg, "the 395000 others")) << size;
  }
}

}  // namespace
}  // namespace dmamap::address_map
