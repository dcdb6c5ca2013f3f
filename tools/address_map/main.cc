// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Draws the I/O address space of a recorded trace over time. See --help.

#include <filesystem>
#include <fstream>
#include <iostream>
#include <optional>
#include <string>
#include <system_error>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "tools/address_map/layout.h"
#include "tools/address_map/options.h"
#include "tools/address_map/picture.h"
#include "tools/address_map/recording.h"
#include "tools/address_map/replay.h"

namespace dmamap::address_map {
namespace {

constexpr const char* kDmamapAddresses =
    "addresses: dmamap's allocator, asked for what was recorded, in the "
    "recorded order, with a cache for each recorded CPU";
constexpr const char* kRecordedAddresses = "addresses: as recorded";

// Leaves no half a file.
absl::Status Write(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  if (!file.is_open()) {
    return absl::UnavailableError(absl::StrCat(path, ": cannot open to write"));
  }
  file << text;
  file.close();
  if (file.good()) return absl::OkStatus();
  std::error_code ignored;
  std::filesystem::remove(path, ignored);
  return absl::UnavailableError(absl::StrCat(path, ": cannot write"));
}

absl::Status Run(const Options& options) {
  auto recording = ReadRecording(options.trace, options.domain);
  if (!recording.ok()) return recording.status();
  if (!options.dma.empty()) {
    const auto dma = ReadRecording(options.dma, std::nullopt);
    if (!dma.ok()) return dma.status();
    if (absl::Status s = TakeHolders(*dma, *recording); !s.ok()) return s;
  }
  const auto history = options.recorded ? TakeAsRecorded(*recording)
                                        : ReplayThroughDmamap(*recording);
  if (!history.ok()) return history.status();
  const Layout layout = LayOut(*history, options.layout);
  const std::string picture = Draw(
      *history, layout,
      {.trace = recording->name,
       .addresses = options.recorded ? kRecordedAddresses : kDmamapAddresses,
       .holders = recording->holders,
       .notes = recording->notes});
  if (absl::Status s = Write(options.out, picture); !s.ok()) return s;
  std::cout << TotalsLine(*history, layout) << "\n"
            << options.out << ": " << picture.size() << " bytes" << std::endl;
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  const absl::StatusOr<Options> options = ParseOptions(argc, argv);
  absl::Status status = options.status();
  if (options.ok() && options->help) {
    std::cout << HelpText();
  } else if (options.ok()) {
    status = Run(*options);
  }
  if (status.ok()) return 0;
  std::cerr << "address_map: " << status.message() << std::endl;
  return 1;
}

}  // namespace
}  // namespace dmamap::address_map

int main(int argc, char** argv) {
  return dmamap::address_map::Main(argc, argv);
}
