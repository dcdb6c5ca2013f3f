// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_SCHED_CHOICES_H_
#define DMAMAP_TESTING_SCHED_CHOICES_H_

// Choices: the path through the tree of all executions.
//
// An execution is determined by the choices made in it: which thread goes next,
// which store a load returns. The path is walked from its start in each
// execution; behind its end, new choices are appended. Advance() then moves to
// the next path, depth first.
//
// A path is written as numbers and runs of the first choice, "z12.1.z3.2":
// twelve times the first, once the second, three times the first, once the
// third; the first ever after.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dma/version.h"

namespace dmamap::inline v0 {
namespace sched {

class Choices {
 public:
  // Back to the start of the path, for the next execution.
  void Rewind() { at_ = 0; }

  // One of `count` alternatives. A new choice takes `fresh`.
  // REQUIRES: count >= 1, fresh < count.
  std::uint32_t Choose(std::uint32_t count, std::uint32_t fresh = 0) {
    if (count == 1) return 0;
    if (at_ == path_.size()) path_.push_back({fresh, count});
    Choice& choice = path_[at_++];
    if (choice.count == kFromText) choice.count = count;
    if (choice.count != count || choice.taken >= count) {
      diverged_ = true;
      return 0;
    }
    return choice.taken;
  }

  // At the end of an execution: it made other choices than the path says. It
  // depends on something else too, or the path belongs to another program.
  bool diverged() const { return diverged_ || at_ < path_.size(); }

  // To the next path; false when there is none.
  bool Advance() {
    path_.resize(at_);
    while (!path_.empty() && path_.back().taken + 1 == path_.back().count) {
      path_.pop_back();
    }
    if (path_.empty()) return false;
    ++path_.back().taken;
    return true;
  }

  void Clear() {
    path_.clear();
    at_ = 0;
    diverged_ = false;
  }

  // Calls put(text) with the pieces of the text. No allocation: a handler of a
  // fatal signal calls it.
  template <class Put>
  void Write(Put put) const {
    std::size_t end = path_.size() < at_ ? path_.size() : at_;
    while (end > 0 && path_[end - 1].taken == 0) --end;
    const char* separator = "";
    for (std::size_t i = 0; i < end;) {
      char piece[24];
      std::size_t zeros = 0;
      while (path_[i + zeros].taken == 0) ++zeros;
      if (zeros > 0) {
        std::snprintf(piece, sizeof piece, "%sz%zu", separator, zeros);
        i += zeros;
      } else {
        std::snprintf(piece, sizeof piece, "%s%u", separator, path_[i].taken);
        ++i;
      }
      put(piece);
      separator = ".";
    }
  }

  std::string ToText() const {
    std::string text;
    Write([&](const char* piece) { text += piece; });
    return text;
  }

  // Sets the path; false (and no change) when the text is not one.
  bool FromText(std::string_view text) {
    std::vector<Choice> path;
    while (!text.empty()) {
      const std::size_t dot = text.find('.');
      if (dot + 1 == text.size()) return false;
      std::string_view piece = text.substr(0, dot);
      text = dot == text.npos ? std::string_view{} : text.substr(dot + 1);
      const bool zeros = !piece.empty() && piece.front() == 'z';
      if (zeros) piece.remove_prefix(1);
      const std::optional<std::uint32_t> number = ParseNumber(piece);
      if (!number) return false;
      if (zeros) {
        path.insert(path.end(), *number, Choice{0, kFromText});
      } else {
        path.push_back({*number, kFromText});
      }
    }
    Clear();
    path_ = std::move(path);
    return true;
  }

 private:
  static constexpr std::uint32_t kFromText = 0;  // count is not known yet

  struct Choice {
    std::uint32_t taken;
    std::uint32_t count;
  };

  // At most 6 digits.
  static std::optional<std::uint32_t> ParseNumber(std::string_view text) {
    if (text.empty() || text.size() > 6) return std::nullopt;
    std::uint32_t number = 0;
    for (const char c : text) {
      if (c < '0' || c > '9') return std::nullopt;
      number = number * 10 + static_cast<std::uint32_t>(c - '0');
    }
    return number;
  }

  std::vector<Choice> path_;
  std::size_t at_ = 0;
  bool diverged_ = false;
};

}  // namespace sched
}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_SCHED_CHOICES_H_
