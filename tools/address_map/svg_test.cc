// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "tools/address_map/svg.h"

#include <gtest/gtest.h>

#include <string>

#include "tools/address_map/xml_for_test.h"

namespace dmamap::address_map {
namespace {

TEST(Svg, Numbers) {
  EXPECT_EQ(Number(0), "0");
  EXPECT_EQ(Number(-0.001), "0");
  EXPECT_EQ(Number(100), "100");
  EXPECT_EQ(Number(1.5), "1.5");
  EXPECT_EQ(Number(2.125), "2.12");
  EXPECT_EQ(Number(-3.999), "-4");
}

TEST(Svg, EscapesWhatXmlReserves) {
  EXPECT_EQ(Escaped("a<b>&\"c'"), "a&lt;b&gt;&amp;&quot;c'");
  EXPECT_EQ(Escaped("tab\tline\n"), "tab\tline\n");
}

TEST(Svg, ReplacesWhatXmlCannotHold) {
  const std::string r = "\xEF\xBF\xBD";
  EXPECT_EQ(Escaped(std::string("a\0b", 3)), "a" + r + "b");
  EXPECT_EQ(Escaped("\x1b[1m"), r + "[1m");
  const std::string good = "\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80";
  EXPECT_EQ(Escaped(good), good);
  EXPECT_EQ(Escaped("\xFF"), r);
  EXPECT_EQ(Escaped("\xC3"), r);                  // cut off
  EXPECT_EQ(Escaped("\xC3("), r + "(");           // no second byte
  EXPECT_EQ(Escaped("\xC0\xAF"), r + r);          // longer than need be
  EXPECT_EQ(Escaped("\xED\xA0\x80"), r + r + r);  // half of a pair
  EXPECT_EQ(Escaped("\xEF\xBF\xBF"), r + r + r);  // U+FFFF
  EXPECT_EQ(Escaped("\xF4\x90\x80\x80"), r + r + r + r);
}

TEST(Svg, Nests) {
  SvgWriter svg;
  svg.Open("svg", {{"width", "1"}});
  svg.Leaf("rect", {{"class", "a\"b"}}, "1 < 2");
  svg.Leaf("rect", {});
  svg.Text("text", {}, "x & y");
  svg.Close();
  const std::string text = svg.Take();
  EXPECT_EQ(text,
            "<svg width=\"1\">\n"
            "<rect class=\"a&quot;b\"><title>1 &lt; 2</title></rect>\n"
            "<rect/>\n"
            "<text>x &amp; y</text>\n"
            "</svg>\n");
  EXPECT_EQ(XmlError(text), "");
}

TEST(XmlCheck, Complains) {
  EXPECT_EQ(XmlError("<a><b c=\"1\"/>x &lt; y</a>\n"), "");
  for (const char* bad :
       {"", "<a>", "</a>", "<a></b>", "<a/><b/>", "<a b=1/>", "<a b=\"1/>",
        "<a b=\"<\"/>", "<a b=\"1\" b=\"2\"/>", "<a>&nbsp;</a>", "<a>& </a>",
        "<a>\x01</a>", "x<a/>", "<a b=\"1\"c=\"2\"/>", "<a"}) {
    EXPECT_NE(XmlError(bad), "") << bad;
  }
}

}  // namespace
}  // namespace dmamap::address_map
