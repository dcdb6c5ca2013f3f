// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_ROW_READER_H_
#define DMAMAP_BENCHMARKS_ROW_READER_H_

// Rows of a comma-separated trace: the fields of one line after the other, as
// numbers. The first error stays in status(), with file and line; a getter
// that fails returns 0, so that a caller reads all the fields of a row and then
// asks ok() once. Numbers are digits alone: no sign, no space, no "0x".

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "benchmarks/line_reader.h"

namespace dmamap::bench {

class RowReader {
 public:
  static constexpr std::uint64_t kMax64 =
      std::numeric_limits<std::uint64_t>::max();

  // Reads the header line.
  explicit RowReader(const std::string& path);

  // The header line; empty when there is none (status() says why).
  const std::string& header() const { return header_; }

  // Takes the next row, whose field count is that of the header. False at the
  // end and on an error.
  bool Next();

  bool ok() const { return status_.ok(); }
  const absl::Status& status() const { return status_; }
  std::size_t line() const { return lines_.line_number(); }

  bool IsEmpty(std::size_t field) const { return fields_[field].empty(); }
  absl::string_view Text(std::size_t field) const { return fields_[field]; }
  // The number in a field; an error when it is none or above `max`.
  std::uint64_t Decimal(std::size_t field, std::uint64_t max = kMax64);
  std::uint64_t Hex(std::size_t field, std::uint64_t max = kMax64);
  // The single letter in a field, one of `letters`.
  char Letter(std::size_t field, absl::string_view letters);
  // Checks that the field is empty.
  void ExpectEmpty(std::size_t field);

  // Records an error about this row, unless there is one already.
  void Fail(absl::string_view message);

 private:
  std::uint64_t Number(std::size_t field, int base, std::uint64_t max);
  void FailField(std::size_t field, absl::string_view what);

  LineReader lines_;
  std::string header_;
  std::vector<std::string> names_;  // of the columns
  std::vector<absl::string_view> fields_;
  absl::Status status_;
};

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_ROW_READER_H_
