// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_CALL_SITE_H_
#define DMAMAP_DOMAIN_CALL_SITE_H_

// CallSite: the line of the program that made a call, as a default argument:
//
//   void Map(PhysAddr buffer, CallSite where = CallSite::Here());
//
// What std::source_location is, which clang 14 has not; where the library has
// it, a CallSite is made from one. Good for the program's life; a few words.

#include <version>

#if defined(__cpp_lib_source_location)
#include <source_location>
#endif

#include "dma/version.h"

namespace dmamap::inline v0 {

struct CallSite {
  const char* file = "";
  unsigned line = 0;  // 0: not known
  const char* function = "";

  static constexpr CallSite Here(const char* at_file = __builtin_FILE(),
                                 unsigned at_line = __builtin_LINE(),
                                 const char* in = __builtin_FUNCTION()) {
    return {at_file, at_line, in};
  }
#if defined(__cpp_lib_source_location)
  static constexpr CallSite From(const std::source_location& at) {
    return {at.file_name(), at.line(), at.function_name()};
  }
#endif
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_CALL_SITE_H_
