// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/machine.h"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <thread>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace dmamap::bench {
namespace {

std::string CpuModel() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (!absl::StartsWith(line, "model name")) continue;
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    return std::string(absl::StripAsciiWhitespace(line.substr(colon + 1)));
  }
  return "unknown CPU";
}

struct ClosePipe {
  void operator()(std::FILE* pipe) const { pclose(pipe); }
};

// The first line that a shell command prints; empty when there is none.
std::string FirstLineOf(const char* command) {
  const std::unique_ptr<std::FILE, ClosePipe> pipe(popen(command, "r"));
  if (pipe == nullptr) return "";
  char line[256] = "";
  if (std::fgets(line, sizeof line, pipe.get()) == nullptr) return "";
  return std::string(absl::StripAsciiWhitespace(line));
}

}  // namespace

std::string MachineName() {
  return absl::StrCat(CpuModel(), ", ", std::thread::hardware_concurrency(),
                      " CPUs");
}

std::string CompilerName() {
#if defined(__clang__)
  return absl::StrCat("clang++ ", __clang_version__);
#else
  return absl::StrCat("g++ ", __VERSION__);
#endif
}

std::string CommitName() {
  if (std::getenv("BUILD_WORKSPACE_DIRECTORY") == nullptr) return "unknown";
  const std::string commit = FirstLineOf(
      "git -C \"$BUILD_WORKSPACE_DIRECTORY\" rev-parse HEAD 2>/dev/null");
  if (commit.empty()) return "unknown";
  const std::string change = FirstLineOf(
      "git -C \"$BUILD_WORKSPACE_DIRECTORY\" status --porcelain "
      "--untracked-files=no 2>/dev/null");
  return change.empty() ? commit : commit + "-dirty";
}

}  // namespace dmamap::bench
