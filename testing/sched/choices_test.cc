// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "testing/sched/choices.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace dmamap::inline v0 {
namespace sched {
namespace {

TEST(Choices, WalksATreeDepthFirst) {
  Choices choices;
  std::vector<std::string> paths;
  do {
    choices.Rewind();
    // The second choice depends on the first.
    if (choices.Choose(3) == 1) choices.Choose(2);
    EXPECT_FALSE(choices.diverged());
    paths.push_back(choices.ToText());
  } while (choices.Advance());
  EXPECT_EQ(paths, (std::vector<std::string>{"", "1", "1.1", "2"}));
}

TEST(Choices, OneAlternativeIsNoChoice) {
  Choices choices;
  EXPECT_EQ(choices.Choose(1), 0u);
  EXPECT_FALSE(choices.Advance());
}

TEST(Choices, SeesAnotherTree) {
  Choices choices;
  choices.Choose(2);
  choices.Choose(2);
  ASSERT_TRUE(choices.Advance());
  choices.Rewind();
  choices.Choose(2);
  EXPECT_TRUE(choices.diverged()) << "fewer choices";
  choices.Choose(3);
  EXPECT_TRUE(choices.diverged()) << "another number of alternatives";
}

RC_GTEST_PROP(Choices, TextRoundTrips, ()) {
  const auto taken = *rc::gen::container<std::vector<std::uint32_t>>(
      rc::gen::weightedOneOf<std::uint32_t>(
          {{3, rc::gen::just<std::uint32_t>(0)},
           {1, rc::gen::inRange<std::uint32_t>(0, 1000)}}));
  Choices made;
  for (const std::uint32_t t : taken) made.Choose(1000, t);
  Choices read;
  RC_ASSERT(read.FromText(made.ToText()));
  for (const std::uint32_t t : taken) RC_ASSERT(read.Choose(1000) == t);
  RC_ASSERT(!read.diverged());
  RC_ASSERT(read.ToText() == made.ToText());
}

TEST(Choices, RefusesWhatIsNoPath) {
  Choices choices;
  ASSERT_TRUE(choices.FromText("z2.5"));
  for (const char* text :
       {"x", ".", "1.", ".1", "z", "1..2", "1z", "-1", "1 ", "1234567"}) {
    EXPECT_FALSE(choices.FromText(text)) << text;
  }
  EXPECT_EQ(choices.Choose(9), 0u);  // still the path before
  EXPECT_EQ(choices.Choose(9), 0u);
  EXPECT_EQ(choices.Choose(9), 5u);
}

}  // namespace
}  // namespace sched
}  // namespace dmamap::inline v0
