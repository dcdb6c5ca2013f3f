// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/options.h"

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <system_error>
#include <vector>

#include "absl/flags/commandlineflag.h"
#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/reflection.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"

ABSL_FLAG(std::string, json, "",
          "FILE: write the results in Google Benchmark's JSON format, with a "
          "list of verdicts");
ABSL_FLAG(std::string, filter, "",
          "REGEX (POSIX extended): only rows whose name, "
          "<part>/<workload>/<implementation>, "
          "matches it somewhere");
ABSL_FLAG(bool, quick, false,
          "a smoke run: one repetition, the first 20000 events of each trace, "
          "50000 frames, short IOVA workloads");
ABSL_FLAG(std::string, trace, "",
          "FILE: replay this trace (.csv, plain or zstd; its kind is told by "
          "its header line) in place of the recorded ones");
ABSL_FLAG(std::string, traces, "",
          "FOLDER: where the recorded traces are, if not in the usual places");
ABSL_FLAG(int, repetitions, std::numeric_limits<int>::min(),
          "N: runs of each row (default 11)");
ABSL_FLAG(std::uint64_t, frames, 0,
          "N: frames through the e100 ring (default 1000000)");
ABSL_FLAG(std::uint64_t, ageing_ops, 0,
          "N: allocations and frees of iova/ageing (default 1000000000)");
ABSL_FLAG(std::uint64_t, load_interrupt_ns, 0,
          "N: what an interrupt costs in nicring/load_* (default 2000)");
ABSL_FLAG(std::uint64_t, load_frame_ns, 0,
          "N: what a frame costs there, the ring's part being 30 % (default "
          "500)");
ABSL_FLAG(std::string, load_arrivals, "poisson",
          "poisson, even or bursts: how frames arrive there");

ABSL_FLAG(std::uint64_t, invalidation_ns, 500,
          "N: what an invalidation costs in domain/pooled_ and "
          "domain/copy_or_map_, the curve of copy against map");

namespace dmamap::bench {
namespace {

constexpr const char* kFlags[] = {
    "json",          "filter",        "quick",
    "trace",         "traces",        "repetitions",
    "frames",        "ageing_ops",    "load_interrupt_ns",
    "load_frame_ns", "load_arrivals", "invalidation_ns"};

// The simulated time base of nicring/load_*.
absl::Status ReadLoadOptions(LoadOptions& load) {
  constexpr std::uint64_t kMost = 1'000'000;  // ns
  const std::uint64_t interrupt = absl::GetFlag(FLAGS_load_interrupt_ns);
  const std::uint64_t frame = absl::GetFlag(FLAGS_load_frame_ns);
  if (interrupt > kMost || frame > kMost) {
    return absl::InvalidArgumentError(
        "--load-interrupt-ns and --load-frame-ns must be at most 1000000");
  }
  if (interrupt != 0) load.costs.interrupt = interrupt;
  if (frame != 0) {
    load.costs.driver = frame * 3 / 10;
    load.costs.stack = frame - load.costs.driver;
  }
  const std::string arrivals = absl::GetFlag(FLAGS_load_arrivals);
  if (arrivals == "poisson") {
    load.arrivals = Arrivals::kPoisson;
  } else if (arrivals == "even") {
    load.arrivals = Arrivals::kEven;
  } else if (arrivals == "bursts") {
    load.arrivals = Arrivals::kBursts;
  } else {
    return absl::InvalidArgumentError(absl::StrCat(
        "--load-arrivals: not poisson, even or bursts: ", arrivals));
  }
  return absl::OkStatus();
}

// `bazel run` changes the folder; the user meant the one he called it in.
std::string FromUsersFolder(const std::string& path) {
  const char* const folder = std::getenv("BUILD_WORKING_DIRECTORY");
  if (path.empty() || folder == nullptr) return path;
  return (std::filesystem::path(folder) / path).string();
}

// "--ageing-ops=1" may also be written "--ageing_ops=1", as the library wants.
std::string& WithUnderscores(std::string& argument) {
  if (argument.size() < 2 || argument.compare(0, 2, "--") != 0) return argument;
  const auto end = argument.begin() + static_cast<std::ptrdiff_t>(std::min(
                                          argument.find('='), argument.size()));
  std::replace(argument.begin() + 2, end, '-', '_');
  return argument;
}

bool WantsHelp(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const absl::string_view argument = argv[i];
    if (argument == "--help" || argument == "-h") return true;
  }
  return false;
}

}  // namespace

absl::StatusOr<Options> ParseOptions(int argc, char** argv) {
  Options options;
  options.help = WantsHelp(argc, argv);
  if (options.help) return options;
  std::vector<std::string> arguments(argv, argv + argc);
  std::vector<char*> pointers;
  for (std::string& argument : arguments) {
    pointers.push_back(WithUnderscores(argument).data());
  }
  const std::vector<char*> rest = absl::ParseCommandLine(argc, pointers.data());
  if (rest.size() > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("unexpected argument: ", rest[1]));
  }
  options.json = FromUsersFolder(absl::GetFlag(FLAGS_json));
  options.filter = absl::GetFlag(FLAGS_filter);
  options.quick = absl::GetFlag(FLAGS_quick);
  options.trace = FromUsersFolder(absl::GetFlag(FLAGS_trace));
  options.traces = FromUsersFolder(absl::GetFlag(FLAGS_traces));
  if (options.quick) {
    options.repetitions = 1;
    options.frames = 50'000;
    options.events = 20'000;
    options.ageing_ops = 1'000'000;
    options.load.frames = 2'000;
  }
  const int repetitions = absl::GetFlag(FLAGS_repetitions);
  const bool given = repetitions != std::numeric_limits<int>::min();
  if (given && (repetitions < 1 || repetitions > 1000)) {
    return absl::InvalidArgumentError("--repetitions must be 1 to 1000");
  }
  if (given) options.repetitions = repetitions;
  if (absl::Status s = ReadLoadOptions(options.load); !s.ok()) return s;
  const std::uint64_t frames = absl::GetFlag(FLAGS_frames);
  if (frames != 0) options.frames = frames;
  const std::uint64_t ageing_ops = absl::GetFlag(FLAGS_ageing_ops);
  if (ageing_ops != 0) options.ageing_ops = ageing_ops;
  options.invalidation_ns = absl::GetFlag(FLAGS_invalidation_ns);
  return options;
}

std::string HelpText() {
  std::string text =
      "Replays recorded DMA traffic through dmamap, checks every byte, and "
      "prints what it cost.\n\n";
  for (const char* name : kFlags) {
    const absl::CommandLineFlag* const flag = absl::FindCommandLineFlag(name);
    absl::StrAppend(&text, "  --", absl::StrReplaceAll(name, {{"_", "-"}}),
                    "\n      ", flag->Help(), "\n");
  }
  absl::StrAppend(&text,
                  "\nExit status: 0, or 1 for bad input, bad options or a "
                  "check of correctness that does not hold; never because of "
                  "time.\n");
  return text;
}

absl::StatusOr<std::string> FindTraceFolder(const std::string& program) {
  const std::string below = "benchmarks/traces";
  std::vector<std::string> places = {below};  // `bazel run` and `bazel test`
  for (const char* variable : {"RUNFILES_DIR", "TEST_SRCDIR"}) {
    const char* const folder = std::getenv(variable);
    if (folder == nullptr) continue;
    places.push_back(absl::StrCat(folder, "/dmamap/", below));
    places.push_back(absl::StrCat(folder, "/_main/", below));
  }
  places.push_back(absl::StrCat(program, ".runfiles/dmamap/", below));
  places.push_back(absl::StrCat(program, ".runfiles/_main/", below));
  places.push_back(
      (std::filesystem::path(program).parent_path() / "traces").string());
  std::error_code error;
  for (const std::string& place : places) {
    if (std::filesystem::is_directory(place, error)) return place;
  }
  return absl::NotFoundError(
      "cannot find the recorded traces: say where with --traces=FOLDER");
}

}  // namespace dmamap::bench
