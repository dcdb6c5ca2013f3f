// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_SCHED_SITE_H_
#define DMAMAP_TESTING_SCHED_SITE_H_

// Where an access stands in the source, and how a test weakens it there.

#include <atomic>
#include <string_view>

#include "dma/version.h"

namespace dmamap::inline v0 {
namespace sched {

// The default argument of each access: `Site site = Site::Here()`.
// (std::source_location is absent in clang 14.)
struct Site {
  const char* file = "";
  int line = 0;  // 0: not known
  const char* function = "";

  static constexpr Site Here(const char* at_file = __builtin_FILE(),
                             int at_line = __builtin_LINE(),
                             const char* in = __builtin_FUNCTION()) {
    return {at_file, at_line, in};
  }
};

// The file without its folders.
inline std::string_view BaseName(const Site& site) {
  const std::string_view file = site.file;
  const std::size_t slash = file.rfind('/');
  return slash == file.npos ? file : file.substr(slash + 1);
}

// Its function without template arguments, which g++ adds and clang does not.
inline std::string_view FunctionName(std::string_view function) {
  if (function.starts_with("operator")) return function;  // operator<
  return function.substr(0, function.find('<'));
}

// A negative control on the shipped source: the order of some accesses becomes
// `to`. Weaken{.function = "unlock"} makes every access in functions of that
// name relaxed.
struct Weaken {
  // Without its class and template arguments; empty: nothing.
  std::string_view function = {};
  std::string_view access = {};  // "store", "fence" ...; empty: each
  int line = 0;                  // 0: each
  bool failure = false;          // of a compare: the order on failure
  std::memory_order to = std::memory_order_relaxed;

  bool Matches(const Site& site, std::string_view name) const {
    return !function.empty() &&
           FunctionName(function) == FunctionName(site.function) &&
           (access.empty() || access == name) &&
           (line == 0 || line == site.line);
  }
};

}  // namespace sched
}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_SCHED_SITE_H_
