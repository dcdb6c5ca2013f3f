// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "tools/address_map/svg.h"

#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"

namespace dmamap::address_map {
namespace {

constexpr absl::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// Bytes of the UTF-8 sequence that the text begins with; 0 when it is none, or
// one for what XML 1.0 has no place for (section 2.2, Char).
std::size_t CharacterLength(absl::string_view text) {
  const auto byte = [&](std::size_t i) {
    return static_cast<std::uint8_t>(text[i]);
  };
  const std::uint8_t lead = byte(0);
  if (lead < 0x80) {
    const bool control =
        lead < 0x20 && lead != '\t' && lead != '\n' && lead != '\r';
    return control ? 0 : 1;
  }
  // The leads C0, C1 and F5 and above begin nothing.
  const std::size_t length = lead < 0xC2   ? 0
                             : lead < 0xE0 ? 2
                             : lead < 0xF0 ? 3
                             : lead < 0xF5 ? 4
                                           : 0;
  if (length == 0 || text.size() < length) return 0;
  std::uint32_t code = lead & (0x7Fu >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3Fu);
  }
  constexpr std::uint32_t kLowest[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  const bool none = code == 0xFFFE || code == 0xFFFF || code > 0x10FFFF;
  return code < kLowest[length] || surrogate || none ? 0 : length;
}

void AppendEscaped(std::string& out, absl::string_view character) {
  switch (character[0]) {
    case '&':
      out += "&amp;";
      break;
    case '<':
      out += "&lt;";
      break;
    case '>':
      out += "&gt;";
      break;
    case '"':
      out += "&quot;";
      break;
    default:
      out.append(character.data(), character.size());
  }
}

}  // namespace

std::string Number(double value) {
  const std::string fixed = absl::StrFormat("%.2f", value);
  absl::string_view text = fixed;
  while (absl::ConsumeSuffix(&text, "0")) {
  }
  absl::ConsumeSuffix(&text, ".");
  return text == "-0" ? "0" : std::string(text);
}

std::string Escaped(absl::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const std::size_t length = CharacterLength(text);
    AppendEscaped(out, length == 0 ? kReplacement : text.substr(0, length));
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return out;
}

void SvgWriter::Begin(absl::string_view element,
                      std::initializer_list<Attribute> attributes) {
  absl::StrAppend(&text_, "<", element);
  for (const Attribute& attribute : attributes) {
    absl::StrAppend(&text_, " ", attribute.name, "=\"",
                    Escaped(attribute.value), "\"");
  }
}

void SvgWriter::Open(absl::string_view element,
                     std::initializer_list<Attribute> attributes) {
  Begin(element, attributes);
  text_ += ">\n";
  open_.emplace_back(element);
}

void SvgWriter::Close() {
  absl::StrAppend(&text_, "</", open_.back(), ">\n");
  open_.pop_back();
}

void SvgWriter::Text(absl::string_view element,
                     std::initializer_list<Attribute> attributes,
                     absl::string_view text) {
  Begin(element, attributes);
  if (text.empty()) {
    text_ += "/>\n";
  } else {
    absl::StrAppend(&text_, ">", Escaped(text), "</", element, ">\n");
  }
}

void SvgWriter::Leaf(absl::string_view element,
                     std::initializer_list<Attribute> attributes,
                     absl::string_view title) {
  Begin(element, attributes);
  if (title.empty()) {
    text_ += "/>\n";
  } else {
    absl::StrAppend(&text_, "><title>", Escaped(title), "</title></", element,
                    ">\n");
  }
}

std::string SvgWriter::Take() { return std::exchange(text_, {}); }

}  // namespace dmamap::address_map
