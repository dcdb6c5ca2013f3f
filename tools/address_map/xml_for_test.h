// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TOOLS_ADDRESS_MAP_XML_FOR_TEST_H_
#define DMAMAP_TOOLS_ADDRESS_MAP_XML_FOR_TEST_H_

// Is a text the XML that SvgWriter means to write? Elements with attributes in
// double quotes, nested in one root; texts; the four entities; no comment, no
// CDATA, no processing instruction.

#include <algorithm>
#include <cstddef>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace dmamap::address_map {

class XmlCheck {
 public:
  explicit XmlCheck(absl::string_view text) : whole_(text), rest_(text) {}

  // What is wrong first; empty when nothing is.
  std::string FirstError() {
    while (error_.empty() && !rest_.empty()) {
      if (absl::ConsumePrefix(&rest_, "</")) {
        EndTag();
      } else if (absl::ConsumePrefix(&rest_, "<")) {
        StartTag();
      } else {
        Characters();
      }
    }
    if (!open_.empty()) Fail("open at the end");
    if (roots_ != 1) Fail("not one root");
    return error_;
  }

 private:
  void Fail(absl::string_view what) {
    if (!error_.empty()) return;
    error_ = absl::StrCat(what, " at byte ", whole_.size() - rest_.size());
  }

  std::string Name() {
    std::size_t n = 0;
    while (n < rest_.size() &&
           absl::ascii_isalpha(static_cast<unsigned char>(rest_[n]))) {
      ++n;
    }
    if (n < rest_.size() && n > 0 && rest_[n] >= '0' && rest_[n] <= '9') ++n;
    if (n == 0) Fail("no name");
    const std::string name(rest_.substr(0, n));
    rest_.remove_prefix(n);
    return name;
  }

  void EndTag() {
    const std::string name = Name();
    if (!absl::ConsumePrefix(&rest_, ">")) Fail("end tag goes on");
    if (open_.empty() || open_.back() != name) return Fail("wrong end tag");
    open_.pop_back();
  }

  void StartTag() {
    if (open_.empty()) ++roots_;
    const std::string name = Name();
    std::set<std::string> seen;
    while (error_.empty() && absl::ConsumePrefix(&rest_, " ")) {
      if (!seen.insert(Name()).second) Fail("attribute given twice");
      if (!absl::ConsumePrefix(&rest_, "=\"")) return Fail("no value");
      const std::size_t end = rest_.find('"');
      if (end == absl::string_view::npos) return Fail("value has no end");
      Text(rest_.substr(0, end));
      rest_.remove_prefix(end + 1);
    }
    if (absl::ConsumePrefix(&rest_, "/>")) return;
    if (!absl::ConsumePrefix(&rest_, ">")) Fail("tag goes on");
    open_.push_back(name);
  }

  void Characters() {
    const std::size_t end = std::min(rest_.find('<'), rest_.size());
    const absl::string_view text = rest_.substr(0, end);
    if (open_.empty() && text != "\n") Fail("text outside the root");
    Text(text);
    rest_.remove_prefix(end);
  }

  void Text(absl::string_view text) {
    if (absl::StrContains(text, '<')) Fail("< in a text");
    for (std::size_t i = 0; i < text.size(); ++i) {
      const auto byte = static_cast<unsigned char>(text[i]);
      if (byte < 0x20 && byte != '\n' && byte != '\t') Fail("control byte");
      if (byte != '&') continue;
      const absl::string_view entity = text.substr(i);
      if (!absl::StartsWith(entity, "&amp;") &&
          !absl::StartsWith(entity, "&lt;") &&
          !absl::StartsWith(entity, "&gt;") &&
          !absl::StartsWith(entity, "&quot;")) {
        Fail("unknown entity");
      }
    }
  }

  absl::string_view whole_;
  absl::string_view rest_;
  std::vector<std::string> open_;
  int roots_ = 0;
  std::string error_;
};

inline std::string XmlError(absl::string_view text) {
  return XmlCheck(text).FirstError();
}

}  // namespace dmamap::address_map

#endif  // DMAMAP_TOOLS_ADDRESS_MAP_XML_FOR_TEST_H_
