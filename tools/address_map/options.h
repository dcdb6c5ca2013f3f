// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TOOLS_ADDRESS_MAP_OPTIONS_H_
#define DMAMAP_TOOLS_ADDRESS_MAP_OPTIONS_H_

// The program's options.

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "tools/address_map/layout.h"

namespace dmamap::address_map {

struct Options {
  bool help = false;
  std::string trace;
  std::string dma;  // that says who holds what; empty: none
  std::string out;
  bool recorded = false;  // addresses; otherwise dmamap's
  std::optional<std::uint64_t> domain;
  LayoutOptions layout;
};

// Reads the command line. Relative file names are those of the folder in which
// `bazel run` was called. An unknown option or a value that is no number ends
// the program with status 1.
absl::StatusOr<Options> ParseOptions(int argc, char** argv);

// What --help prints.
std::string HelpText();

}  // namespace dmamap::address_map

#endif  // DMAMAP_TOOLS_ADDRESS_MAP_OPTIONS_H_
