// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_OPTIONS_H_
#define DMAMAP_BENCHMARKS_OPTIONS_H_

// The program's options.

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "benchmarks/load_curve.h"

namespace dmamap::bench {

struct Options {
  bool help = false;
  std::string json;    // file to write; empty: none
  std::string filter;  // regular expression on the names of rows; empty: all
  bool quick = false;
  std::string trace;   // a user's own trace; empty: the recorded ones
  std::string traces;  // folder of the recorded traces; empty: look for it
  int repetitions = 11;
  std::uint64_t frames = 1'000'000;
  std::uint64_t events = 0;  // of each trace; 0: all
  std::uint64_t ageing_ops = 1'000'000'000;
  std::uint64_t invalidation_ns = 500;
  LoadOptions load;  // of nicring/load_*
};

// Reads the command line. `--quick` lowers what was not given on it.
// Relative file names are those of the folder in which `bazel run` was called.
// An unknown option or a bad value ends the program with status 1.
absl::StatusOr<Options> ParseOptions(int argc, char** argv);

// What --help prints.
std::string HelpText();

// The folder with the recorded traces: in the runfiles of Bazel, or beside the
// program. NotFound when there is none.
absl::StatusOr<std::string> FindTraceFolder(const std::string& program);

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_OPTIONS_H_
