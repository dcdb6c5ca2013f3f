// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TOOLS_ADDRESS_MAP_SVG_H_
#define DMAMAP_TOOLS_ADDRESS_MAP_SVG_H_

// Writes XML: elements that nest, attributes and texts that are escaped.
//
//   SvgWriter svg;
//   svg.Open("g", {{"class", "axis"}});
//   svg.Leaf("rect", {{"x", Number(1.5)}}, /*title=*/"a < b");
//   svg.Close();
//   std::string text = svg.Take();

#include <initializer_list>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace dmamap::address_map {

struct Attribute {
  absl::string_view name;  // as it is
  std::string value;
};

// With at most two decimals, and none that say nothing.
std::string Number(double value);

// For a text or an attribute in double quotes. What XML 1.0 cannot hold (most
// control characters, bytes that are no UTF-8) becomes U+FFFD.
std::string Escaped(absl::string_view text);

class SvgWriter {
 public:
  void Open(absl::string_view element,
            std::initializer_list<Attribute> attributes);
  void Close();  // the element opened last
  // An element with a text or, where it is empty, without.
  void Text(absl::string_view element,
            std::initializer_list<Attribute> attributes,
            absl::string_view text);
  // An element with a tooltip or, where that is empty, without.
  void Leaf(absl::string_view element,
            std::initializer_list<Attribute> attributes,
            absl::string_view title = "");

  // REQUIRES: all is closed.
  std::string Take();

 private:
  void Begin(absl::string_view element,
             std::initializer_list<Attribute> attributes);

  std::string text_;
  std::vector<std::string> open_;
};

}  // namespace dmamap::address_map

#endif  // DMAMAP_TOOLS_ADDRESS_MAP_SVG_H_
