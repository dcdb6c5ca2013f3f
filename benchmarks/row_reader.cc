// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/row_reader.h"

#include <charconv>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace dmamap::bench {

RowReader::RowReader(const std::string& path) : lines_(path) {
  absl::string_view line;
  if (lines_.Next(&line)) {
    header_ = std::string(line);
    names_ = absl::StrSplit(line, ',');
    return;
  }
  status_ = lines_.status();
  if (status_.ok()) {
    status_ = absl::InvalidArgumentError(absl::StrCat(path, ":1: empty file"));
  }
}

bool RowReader::Next() {
  if (!ok()) return false;
  absl::string_view line;
  if (!lines_.Next(&line)) {
    status_ = lines_.status();
    return false;
  }
  fields_ = absl::StrSplit(line, ',');
  if (fields_.size() == names_.size()) return true;
  Fail(absl::StrCat(fields_.size() < names_.size() ? "short" : "long",
                    " line: ", fields_.size(), " fields, expected ",
                    names_.size()));
  return false;
}

std::uint64_t RowReader::Decimal(std::size_t field, std::uint64_t max) {
  return Number(field, 10, max);
}

std::uint64_t RowReader::Hex(std::size_t field, std::uint64_t max) {
  return Number(field, 16, max);
}

char RowReader::Letter(std::size_t field, absl::string_view letters) {
  const absl::string_view text = fields_[field];
  if (text.size() == 1 && letters.find(text[0]) != absl::string_view::npos) {
    return text[0];
  }
  FailField(field, absl::StrCat("is none of the letters ", letters));
  return '\0';
}

void RowReader::ExpectEmpty(std::size_t field) {
  if (!IsEmpty(field)) FailField(field, "must be empty in this row");
}

void RowReader::Fail(absl::string_view message) {
  if (ok()) status_ = lines_.ErrorHere(message);
}

std::uint64_t RowReader::Number(std::size_t field, int base,
                                std::uint64_t max) {
  const absl::string_view text = fields_[field];
  const char* const end = text.data() + text.size();
  std::uint64_t value = 0;
  const std::from_chars_result parsed =
      std::from_chars(text.data(), end, value, base);
  if (parsed.ec == std::errc() && parsed.ptr == end) {
    if (value <= max) return value;
    FailField(field, absl::StrCat("is above ", max));
  } else {
    FailField(field, base == 16 ? "is not a hexadecimal 64-bit number"
                                : "is not a decimal 64-bit number");
  }
  return 0;
}

void RowReader::FailField(std::size_t field, absl::string_view what) {
  Fail(absl::StrCat("field '", names_[field], "' ", what, ": '", fields_[field],
                    "'"));
}

}  // namespace dmamap::bench
