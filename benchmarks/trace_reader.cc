// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/trace_reader.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "benchmarks/row_reader.h"

namespace dmamap::bench {
namespace {

// "e100-rx-strict.iova.csv.zst" is "e100-rx-strict".
std::string NameOf(const std::string& path) {
  const std::string file = std::filesystem::path(path).filename().string();
  const std::vector<std::string> parts = absl::StrSplit(file, '.');
  return parts.front().empty() ? file : parts.front();
}

template <class Content>
absl::StatusOr<Trace> Named(std::string name, absl::StatusOr<Content> content) {
  if (!content.ok()) return content.status();
  return Trace{std::move(name), *std::move(content)};
}

}  // namespace

absl::StatusOr<Trace> ReadTrace(const std::string& path) {
  RowReader rows(path);
  if (!rows.ok()) return rows.status();
  const std::string name = NameOf(path);
  if (rows.header() == IovaTrace::kHeader) {
    return Named(name, ReadIovaTrace(rows));
  }
  if (rows.header() == DmaTrace::kHeader) {
    return Named(name, ReadDmaTrace(rows));
  }
  if (rows.header() == IotlbTrace::kHeader) {
    return Named(name, ReadIotlbTrace(rows));
  }
  rows.Fail(absl::StrCat("bad header: expected '", IovaTrace::kHeader, "', '",
                         DmaTrace::kHeader, "' or '", IotlbTrace::kHeader,
                         "'"));
  return rows.status();
}

absl::StatusOr<std::vector<std::string>> FindTraces(const std::string& folder) {
  std::error_code error;
  std::vector<std::string> found;
  for (std::filesystem::directory_iterator at(folder, error), end;
       !error && at != end; at.increment(error)) {
    const std::string path = at->path().string();
    if (path.ends_with(".csv") || path.ends_with(".csv.zst")) {
      found.push_back(path);
    }
  }
  if (error) {
    return absl::NotFoundError(absl::StrCat(folder, ": ", error.message()));
  }
  if (found.empty()) {
    return absl::NotFoundError(absl::StrCat(folder, ": no traces in it"));
  }
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace dmamap::bench
