// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// PageRuns by example, and a state model: random programs run on it and on an
// oracle that keeps one number for each unit.

#include "bounce/page_runs.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "dma/result.h"

namespace dmamap {
namespace {

constexpr auto kAnywhere = [](std::uint64_t i) { return i; };

TEST(PageRuns, SizesThatCannotBe) {
  PageRuns runs;
  EXPECT_EQ(runs.Init(0, UnitContents::kZero).error(), Error::kInvalidArgument);
  EXPECT_EQ(runs.Init(PageRuns::kMaxUnits + 1, UnitContents::kZero).error(),
            Error::kInvalidArgument);
  ASSERT_TRUE(runs.Init(1, UnitContents::kZero).ok());
  EXPECT_EQ(runs.Init(1, UnitContents::kZero).error(), Error::kBusy);
}

TEST(PageRuns, FirstFitAndTheEnd) {
  // Around the ends of words and of a word of the summary (64 * 64).
  for (std::uint64_t units :
       {1u, 2u, 63u, 64u, 65u, 128u, 4095u, 4096u, 4097u, 4160u, 5000u}) {
    PageRuns runs;
    ASSERT_TRUE(runs.Init(units, UnitContents::kZero).ok());
    for (std::uint64_t i = 0; i < units; ++i) {
      const auto taken = runs.Take(1, kAnywhere);
      ASSERT_TRUE(taken.ok());
      ASSERT_EQ(taken->first, i);
      ASSERT_EQ(taken->old, 0u);
    }
    EXPECT_EQ(runs.Take(1, kAnywhere).error(), Error::kPoolEmpty);
    EXPECT_TRUE(runs.CheckInvariants());
    ASSERT_TRUE(runs.BeginGive(units - 1, 1));
    runs.EndGive(units - 1, 1, UnitContents::kOld);
    EXPECT_EQ(runs.FindOld(0), units - 1);
    EXPECT_EQ(runs.Take(2, kAnywhere).error(), Error::kPoolEmpty);
    const auto again = runs.Take(1, kAnywhere);
    ASSERT_TRUE(again.ok());
    EXPECT_EQ(again->first, units - 1);
    EXPECT_EQ(again->old, 1u);
    EXPECT_TRUE(runs.CheckInvariants());
  }
}

TEST(PageRuns, OnlyWhatWasTakenComesBack) {
  PageRuns runs;
  ASSERT_TRUE(runs.Init(100, UnitContents::kZero).ok());
  ASSERT_EQ(runs.Take(3, kAnywhere)->first, 0u);
  ASSERT_EQ(runs.Take(2, kAnywhere)->first, 3u);
  for (std::uint64_t first = 0; first < 101; ++first) {
    for (std::uint64_t count = 0; count < 8; ++count) {
      const bool is = (first == 0 && count == 3) || (first == 3 && count == 2);
      EXPECT_EQ(runs.IsRun(first, count), is) << first << " " << count;
      if (!is) {
        EXPECT_FALSE(runs.BeginGive(first, count));
      }
    }
  }
  ASSERT_TRUE(runs.BeginGive(0, 3));
  EXPECT_FALSE(runs.BeginGive(0, 3));  // it is on its way
  EXPECT_EQ(runs.Take(1, kAnywhere)->first, 5u);
  runs.EndGive(0, 3, UnitContents::kZero);
  EXPECT_FALSE(runs.BeginGive(0, 3));
  EXPECT_TRUE(runs.CheckInvariants());
}

TEST(PageRuns, ABlockedUnitIsAWall) {
  PageRuns runs;
  ASSERT_TRUE(runs.Init(10, UnitContents::kOld).ok());
  runs.Block(4);
  EXPECT_EQ(runs.old_units(), 9u);
  EXPECT_EQ(runs.units_out(), 0u);
  EXPECT_FALSE(runs.BeginGive(4, 1));
  EXPECT_EQ(runs.Take(5, kAnywhere)->first, 5u);
  EXPECT_EQ(runs.Take(4, kAnywhere)->first, 0u);
  EXPECT_EQ(runs.Take(1, kAnywhere).error(), Error::kPoolEmpty);
  EXPECT_TRUE(runs.BeginGive(0, 4));  // ends at the wall
  runs.EndGive(0, 4, UnitContents::kZero);
  EXPECT_TRUE(runs.CheckInvariants());
}

// --- The model ---

constexpr std::uint64_t kUnits = 330;  // the last word is not whole

struct Model {
  // 0: free and zero, -1: free and old, n: in run n.
  std::vector<int> unit = std::vector<int>(kUnits, 0);
  struct Run {
    std::uint64_t first;
    std::uint64_t count;
    int number;
  };
  std::vector<Run> out;
  int next = 1;

  bool Free(std::uint64_t first, std::uint64_t count) const {
    for (std::uint64_t i = first; i < first + count; ++i) {
      if (i >= kUnits || unit[i] > 0) return false;
    }
    return true;
  }
  std::uint64_t Old(std::uint64_t first, std::uint64_t end) const {
    std::uint64_t n = 0;
    for (std::uint64_t i = first; i < end; ++i) n += unit[i] == -1 ? 1 : 0;
    return n;
  }
  void Fill(std::uint64_t first, std::uint64_t count, int value) {
    for (std::uint64_t i = first; i < first + count; ++i) unit[i] = value;
  }
};

void StepTake(PageRuns& runs, Model& model) {
  const auto count = *rc::gen::weightedOneOf<std::uint64_t>(
      {{3, rc::gen::inRange<std::uint64_t>(1, 6)},
       {1, rc::gen::inRange<std::uint64_t>(60, 70)},
       {1, rc::gen::inRange<std::uint64_t>(1, kUnits + 2)}});
  const auto align = std::uint64_t{1} << *rc::gen::inRange(0, 6);
  const auto phase = *rc::gen::inRange<std::uint64_t>(0, align);
  const auto next = [&](std::uint64_t i) {
    while (i % align != phase) ++i;
    return i;
  };
  std::optional<std::uint64_t> expected;
  for (std::uint64_t i = 0; i < kUnits && !expected; ++i) {
    if (i % align == phase && model.Free(i, count)) expected = i;
  }
  const auto taken = runs.Take(count, next);
  RC_ASSERT(taken.ok() == expected.has_value());
  if (!taken.ok()) {
    RC_ASSERT(taken.error() == Error::kPoolEmpty);
    return;
  }
  RC_ASSERT(taken->first == *expected);
  RC_ASSERT(taken->old == model.Old(*expected, *expected + count));
  model.Fill(*expected, count, model.next);
  model.out.push_back({*expected, count, model.next++});
}

void StepGive(PageRuns& runs, Model& model) {
  if (model.out.empty()) return;
  const auto i = *rc::gen::inRange<std::size_t>(0, model.out.size());
  const Model::Run run = model.out[i];
  const bool old = *rc::gen::arbitrary<bool>();
  RC_ASSERT(runs.BeginGive(run.first, run.count));
  RC_ASSERT(!runs.IsRun(run.first, run.count));
  runs.EndGive(run.first, run.count,
               old ? UnitContents::kOld : UnitContents::kZero);
  model.Fill(run.first, run.count, old ? -1 : 0);
  model.out.erase(model.out.begin() + static_cast<std::ptrdiff_t>(i));
}

void StepBadGive(PageRuns& runs, const Model& model) {
  const auto first = *rc::gen::inRange<std::uint64_t>(0, kUnits + 2);
  const auto count = *rc::gen::inRange<std::uint64_t>(0, 6);
  bool is = false;
  for (const auto& r : model.out) {
    is = is || (r.first == first && r.count == count);
  }
  RC_ASSERT(runs.IsRun(first, count) == is);
  if (!is) RC_ASSERT(!runs.BeginGive(first, count));
}

void StepTrim(PageRuns& runs, Model& model) {
  const auto first = *rc::gen::inRange<std::uint64_t>(0, kUnits);
  const auto count = *rc::gen::inRange<std::uint64_t>(1, kUnits - first + 1);
  const bool can =
      model.Free(first, count) && model.Old(first, first + count) != 0;
  const std::uint64_t old = runs.BeginTrim(first, count);
  RC_ASSERT(old == (can ? model.Old(first, first + count) : 0));
  if (old == 0) return;
  RC_ASSERT(!runs.BeginGive(first, count));
  runs.EndGive(first, count, UnitContents::kZero);
  model.Fill(first, count, 0);
}

void Compare(const PageRuns& runs, const Model& model) {
  RC_ASSERT(runs.CheckInvariants());
  std::uint64_t out = 0;
  for (const auto& r : model.out) out += r.count;
  RC_ASSERT(runs.units_out() == out);
  RC_ASSERT(runs.old_units() == model.Old(0, kUnits));
  std::uint64_t row = 0;
  while (row < kUnits && model.unit[row] != -1) ++row;
  RC_ASSERT(runs.FindOld(0) == row);
  if (row < kUnits) {
    std::uint64_t end = row;
    while (end < kUnits && model.unit[end] == -1) ++end;
    RC_ASSERT(runs.EndOfOld(row, kUnits + 9) == end);
    RC_ASSERT(runs.EndOfOld(row, row + 1) == row + 1);
  }
  std::size_t seen = 0;
  runs.ForEachRun([&](std::uint64_t first, std::uint64_t count) {
    for (const auto& r : model.out) {
      seen += r.first == first && r.count == count ? 1 : 0;
    }
  });
  RC_ASSERT(seen == model.out.size());
}

RC_GTEST_PROP(PageRuns, AgreesWithTheModel, ()) {
  PageRuns runs;
  Model model;
  const bool old = *rc::gen::arbitrary<bool>();
  RC_ASSERT(
      runs.Init(kUnits, old ? UnitContents::kOld : UnitContents::kZero).ok());
  if (old) model.Fill(0, kUnits, -1);
  const auto steps = *rc::gen::inRange(0, 80);
  for (int s = 0; s < steps; ++s) {
    switch (*rc::gen::weightedElement<int>({{5, 0}, {4, 1}, {1, 2}, {1, 3}})) {
      case 0:
        StepTake(runs, model);
        break;
      case 1:
        StepGive(runs, model);
        break;
      case 2:
        StepBadGive(runs, model);
        break;
      default:
        StepTrim(runs, model);
    }
    Compare(runs, model);
  }
}

}  // namespace
}  // namespace dmamap
