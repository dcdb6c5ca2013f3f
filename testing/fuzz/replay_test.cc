// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// The normal tests' part of a fuzz target: every input of its corpus, inputs
// made from these by chance, and random ones. The same each time.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "testing/fuzz/fuzz_target.h"
#include "testing/fuzz/tally.h"

namespace dmamap {
namespace {

using Input = std::vector<std::uint8_t>;

void RunInput(const Input& input) {
  EXPECT_EQ(LLVMFuzzerTestOneInput(input.data(), input.size()), 0);
}

// In the order of their names. Run from the root of the repository.
std::vector<Input> Corpus() {
  std::vector<std::filesystem::path> names;
  const std::filesystem::path folder =
      std::filesystem::path("testing/fuzz/corpus") / fuzz::kTarget;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.push_back(entry.path());
  }
  std::sort(names.begin(), names.end());
  std::vector<Input> inputs;
  for (const auto& name : names) {
    std::ifstream file(name, std::ios::binary);
    inputs.emplace_back(std::istreambuf_iterator<char>(file),
                        std::istreambuf_iterator<char>());
  }
  return inputs;
}

Input RandomInput(std::mt19937& random, std::size_t size) {
  Input input(size);
  for (std::uint8_t& byte : input) {
    byte = static_cast<std::uint8_t>(random() & 0xff);
  }
  return input;
}

TEST(FuzzReplay, CorpusHolds) {
  const std::vector<Input> corpus = Corpus();
  EXPECT_GE(corpus.size(), 10u);
  for (const Input& input : corpus) RunInput(input);
  // Not vacuous: frames got through, lies were found, resets happened.
  EXPECT_GT(fuzz::g_tally.packets, 20u);
  EXPECT_GT(fuzz::g_tally.dropped, 5u);
  EXPECT_GT(fuzz::g_tally.violations, 0u);
  EXPECT_GT(fuzz::g_tally.resets, corpus.size());
}

TEST(FuzzReplay, ChangedInputsHold) {
  std::mt19937 random(1);
  for (const Input& input : Corpus()) {
    for (int i = 0; i < 20 && !input.empty(); ++i) {
      Input changed = input;
      for (int n = 0; n < 4; ++n) {
        changed[random() % changed.size()] =
            static_cast<std::uint8_t>(random() & 0xff);
      }
      changed.erase(changed.end() - static_cast<std::ptrdiff_t>(
                                        random() % (changed.size() / 2 + 1)),
                    changed.end());
      RunInput(changed);
    }
  }
}

TEST(FuzzReplay, RandomInputsHold) {
  std::mt19937 random(2);
  const fuzz::Tally before = fuzz::g_tally;
  for (int i = 0; i < 600; ++i) RunInput(RandomInput(random, random() % 1200));
  EXPECT_GT(fuzz::g_tally.runs - before.runs, 500u);
  EXPECT_GT(fuzz::g_tally.packets - before.packets, 1000u);
  EXPECT_GT(fuzz::g_tally.dropped - before.dropped, 100u);
}

TEST(FuzzReplay, EmptyAndTinyInputsHold) {
  for (std::size_t size = 0; size < 24; ++size) RunInput(Input(size, 0));
  for (std::size_t size = 0; size < 24; ++size) RunInput(Input(size, 0xff));
}

}  // namespace
}  // namespace dmamap
