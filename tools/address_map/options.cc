// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "tools/address_map/options.h"

#include <cstdlib>
#include <filesystem>
#include <vector>

#include "absl/flags/commandlineflag.h"
#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/reflection.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "tools/address_map/picture.h"

ABSL_FLAG(std::string, out, "",
          "FILE: where the picture goes (default: the trace's name with "
          ".svg)");
ABSL_FLAG(std::string, dma, "",
          "FILE: the .dma trace of the same run, to colour an .iova trace by "
          "kind of mapping and direction in place of size");
ABSL_FLAG(std::string, allocator, "dmamap",
          "dmamap: the addresses that dmamap's allocator hands out for these "
          "requests; recorded: those in the trace");
ABSL_FLAG(std::string, time, "steps",
          "steps: each allocation or free is as wide as the other; us: as "
          "recorded");
ABSL_FLAG(std::optional<std::uint64_t>, domain, std::nullopt,
          "N: the recorded number of the address space to draw (.iova only; "
          "default: the one with most steps)");
ABSL_FLAG(double, width, 1200, "PIXELS: of the plot, 100 to 4000");
ABSL_FLAG(double, height, 640,
          "PIXELS: of the address space at most, 50 to 4000");

namespace dmamap::address_map {
namespace {

constexpr const char* kFlags[] = {"out",    "dma",   "allocator", "time",
                                  "domain", "width", "height"};

// `bazel run` changes the folder; the user meant the one he called it in.
std::string FromUsersFolder(const std::string& path) {
  const char* const folder = std::getenv("BUILD_WORKING_DIRECTORY");
  if (folder == nullptr) return path;
  return (std::filesystem::path(folder) / path).string();
}

// "e100-tx-lazy.iova.csv.zst" becomes "e100-tx-lazy.iova.svg".
std::string PictureName(const std::string& trace) {
  const std::string file = std::filesystem::path(trace).filename().string();
  absl::string_view name = file;
  absl::ConsumeSuffix(&name, ".zst");
  absl::ConsumeSuffix(&name, ".csv");
  return absl::StrCat(name, ".svg");
}

bool WantsHelp(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const absl::string_view argument = argv[i];
    if (argument == "--help" || argument == "-h") return true;
  }
  return false;
}

// One of two words; true for the second.
absl::StatusOr<bool> Choice(absl::string_view flag, absl::string_view value,
                            absl::string_view first, absl::string_view second) {
  if (value == first) return false;
  if (value == second) return true;
  return absl::InvalidArgumentError(absl::StrCat(
      "--", flag, " must be ", first, " or ", second, ", not '", value, "'"));
}

// What is not a number is not within either.
absl::StatusOr<double> Within(absl::string_view flag, double value,
                              double least, double most) {
  if (value >= least && value <= most) return value;
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag, " must be ", least, " to ", most));
}

}  // namespace

absl::StatusOr<Options> ParseOptions(int argc, char** argv) {
  Options options;
  options.help = WantsHelp(argc, argv);
  if (options.help) return options;
  const std::vector<char*> rest = absl::ParseCommandLine(argc, argv);
  if (rest.size() != 2) {
    return absl::InvalidArgumentError(
        rest.size() < 2 ? "which trace? See --help"
                        : absl::StrCat("unexpected argument: ", rest[2]));
  }
  const auto recorded =
      Choice("allocator", absl::GetFlag(FLAGS_allocator), "dmamap", "recorded");
  if (!recorded.ok()) return recorded.status();
  const auto by_time = Choice("time", absl::GetFlag(FLAGS_time), "steps", "us");
  if (!by_time.ok()) return by_time.status();
  const auto width =
      Within("width", absl::GetFlag(FLAGS_width), 100, kMostWidth);
  if (!width.ok()) return width.status();
  const auto height = Within("height", absl::GetFlag(FLAGS_height), 50, 4000);
  if (!height.ok()) return height.status();
  const std::string out = absl::GetFlag(FLAGS_out);
  options.trace = FromUsersFolder(rest[1]);
  options.out = FromUsersFolder(out.empty() ? PictureName(rest[1]) : out);
  const std::string dma = absl::GetFlag(FLAGS_dma);
  if (!dma.empty()) options.dma = FromUsersFolder(dma);
  options.recorded = *recorded;
  options.domain = absl::GetFlag(FLAGS_domain);
  options.layout.axis = *by_time ? TimeAxis::kMicroseconds : TimeAxis::kSteps;
  options.layout.width = *width;
  options.layout.height = *height;
  return options;
}

std::string HelpText() {
  std::string text =
      "address_map TRACE [OPTIONS]\n\nDraws who held which I/O addresses when, "
      "from a recorded .iova or .dma trace,\nas one SVG file.\n\n";
  for (const char* name : kFlags) {
    absl::StrAppend(&text, "  --", name, "\n      ",
                    absl::FindCommandLineFlag(name)->Help(), "\n");
  }
  absl::StrAppend(&text,
                  "\nExit status: 0, or 1 and no file for bad input or bad "
                  "options.\n");
  return text;
}

}  // namespace dmamap::address_map
