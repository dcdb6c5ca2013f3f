// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "testing/sched/fiber.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

namespace dmamap::inline v0 {
namespace sched {
namespace {

TEST(Fiber, RunsUntilItSwitchesAway) {
  Fiber main;
  Fiber fiber(64 << 10);
  std::vector<int> log;
  fiber.Start([&] {
    log.push_back(1);
    fiber.SwitchTo(main);
    log.push_back(3);
    return &main;
  });
  EXPECT_TRUE(log.empty());
  main.SwitchTo(fiber);
  log.push_back(2);
  EXPECT_FALSE(fiber.finished());
  main.SwitchTo(fiber);
  EXPECT_TRUE(fiber.finished());
  EXPECT_EQ(log, (std::vector<int>{1, 2, 3}));
}

TEST(Fiber, RunsOneFunctionAfterTheOther) {
  Fiber main;
  Fiber fiber(64 << 10);
  int sum = 0;
  for (int i = 0; i < 1000; ++i) {
    fiber.Start([&, i] {
      sum += i;
      return &main;
    });
    main.SwitchTo(fiber);
  }
  EXPECT_EQ(sum, 499500);
}

// Registers and an aligned stack survive: floating point, alignment, depth.
double Deep(int depth, Fiber& here, Fiber& there) {
  alignas(32) volatile double local[4] = {1.0 * depth, 2, 3, 4};
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(&local[0]) % 32, 0u);
  if (depth == 0) {
    here.SwitchTo(there);
    return local[0];
  }
  return std::sqrt(Deep(depth - 1, here, there) + local[0] * local[0]);
}

TEST(Fiber, KeepsItsStackAndRegisters) {
  Fiber main;
  Fiber a(256 << 10);
  Fiber b(256 << 10);
  double from_a = 0, from_b = 0;
  a.Start([&] {
    from_a = Deep(50, a, b);
    return &b;
  });
  b.Start([&] {
    from_b = Deep(70, b, a);
    return &main;
  });
  main.SwitchTo(a);  // to b, back to a, whose end goes to b, whose end to main
  EXPECT_TRUE(a.finished());
  EXPECT_TRUE(b.finished());
  EXPECT_GT(from_a, 50);
  EXPECT_GT(from_b, 70);
  EXPECT_LT(from_b, 71);
}

TEST(Fiber, MayBeAbandoned) {
  Fiber main;
  std::unique_ptr<int> kept;
  {
    Fiber fiber(64 << 10);
    fiber.Start([&] {
      kept = std::make_unique<int>(7);
      const auto only_here = std::make_unique<int>(8);
      fiber.SwitchTo(main);
      return &main;
    });
    main.SwitchTo(fiber);
  }
  EXPECT_EQ(*kept, 7);
}

// Ends in the guard page and not in somebody else's memory.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Winfinite-recursion"
int Endless(int n) {
  volatile char bytes[512];
  bytes[0] = static_cast<char>(n);
  return Endless(n + 1) + bytes[0];
}
#pragma GCC diagnostic pop

TEST(FiberDeathTest, AnOverflowIsCaught) {
  const auto overflow = [] {
    Fiber main;
    Fiber fiber(64 << 10);
    fiber.Start([&] {
      Endless(0);
      return &main;
    });
    main.SwitchTo(fiber);
  };
  EXPECT_DEATH(overflow(), "");
}

}  // namespace
}  // namespace sched
}  // namespace dmamap::inline v0
