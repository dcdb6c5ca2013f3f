// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_ROW_FILTER_H_
#define DMAMAP_BENCHMARKS_ROW_FILTER_H_

// Which rows the user asked for: those whose name matches a POSIX extended
// regular expression somewhere. (Not <regex>: g++ 12 warns inside it under the
// address sanitizer.)

#include <regex.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace dmamap::bench {

class RowFilter {
 public:
  // An empty expression matches every name.
  static absl::StatusOr<RowFilter> Parse(const std::string& expression) {
    if (expression.empty()) return RowFilter(nullptr);
    auto compiled = std::make_unique<regex_t>();
    const int error =
        regcomp(compiled.get(), expression.c_str(), REG_EXTENDED | REG_NOSUB);
    if (error == 0) return RowFilter(Regex(compiled.release()));
    char reason[128];
    regerror(error, compiled.get(), reason, sizeof reason);
    return absl::InvalidArgumentError(
        absl::StrCat("bad --filter: ", reason, ": ", expression));
  }

  bool Matches(const std::string& name) const {
    return regex_ == nullptr ||
           regexec(regex_.get(), name.c_str(), 0, nullptr, 0) == 0;
  }

 private:
  struct Free {
    void operator()(regex_t* regex) const {
      regfree(regex);
      delete regex;
    }
  };
  using Regex = std::unique_ptr<regex_t, Free>;

  explicit RowFilter(Regex regex) : regex_(std::move(regex)) {}

  Regex regex_;  // null: everything matches
};

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_ROW_FILTER_H_
