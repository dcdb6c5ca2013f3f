// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_CHOICES_FOR_TEST_H_
#define DMAMAP_NICRING_CHOICES_FOR_TEST_H_

// For tests that make a run again and again until every choice in it has been
// made.

#include <cstddef>
#include <string>
#include <vector>

#include "dma/version.h"

namespace dmamap::inline v0 {
namespace testing_bench {

// Enumerates sequences of yes/no choices, depth first.
class Choices {
 public:
  bool Next() {
    if (at_ == made_.size()) made_.push_back(false);
    return made_[at_++];
  }
  // The next sequence; false when all have been made.
  bool Advance() {
    while (!made_.empty() && made_.back()) made_.pop_back();
    if (made_.empty()) return false;
    made_.back() = true;
    at_ = 0;
    return true;
  }
  std::string ToString() const {
    std::string s;
    for (const bool b : made_) s += b ? '1' : '0';
    return s;
  }

 private:
  std::vector<bool> made_;
  std::size_t at_ = 0;
};

}  // namespace testing_bench
}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_CHOICES_FOR_TEST_H_
