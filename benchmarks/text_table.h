// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_TEXT_TABLE_H_
#define DMAMAP_BENCHMARKS_TEXT_TABLE_H_

// A table for a terminal: the first column to the left, the others to the
// right, as wide as they need to be.

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace dmamap::bench {

class TextTable {
 public:
  TextTable() = default;
  explicit TextTable(std::vector<std::string> heading) {
    rows_.push_back(std::move(heading));
  }
  // REQUIRES: as many cells as the heading has.
  void AddRow(std::vector<std::string> cells) {
    rows_.push_back(std::move(cells));
  }

  std::string ToString() const {
    std::string text;
    for (const std::vector<std::string>& row : rows_) {
      for (std::size_t i = 0; i < row.size(); ++i) {
        const std::string pad(Width(i) - row[i].size(), ' ');
        text += i == 0 ? row[i] + pad : "  " + pad + row[i];
      }
      text += '\n';
    }
    return text;
  }

 private:
  std::size_t Width(std::size_t column) const {
    std::size_t width = 0;
    for (const std::vector<std::string>& row : rows_) {
      width = std::max(width, row[column].size());
    }
    return width;
  }

  std::vector<std::vector<std::string>> rows_;
};

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_TEXT_TABLE_H_
