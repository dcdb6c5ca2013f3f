// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "testing/sched/atomic.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "dma/atom.h"
#include "testing/sched/explore.h"

namespace dmamap::inline v0 {
namespace sched {
namespace {

// What an Atomic of a type without a default constructor, with padding, is for.
struct Pair {
  constexpr Pair(std::uint64_t a, std::uint32_t b) : first(a), second(b) {}
  std::uint64_t first;
  std::uint32_t second;
};

enum class Colour : std::uint8_t { kRed, kGreen };

// One random operation, the same on both; returns what it returned.
//
// The operand is volatile, read anew for each operation: where the operand and
// the result of fetch_and, fetch_or or fetch_xor meet in one variable (r = by;
// if (c) r = a.fetch_and(by);), g++ 12.2 with -O1 loses the operand.
template <class A>
std::vector<std::int64_t> Apply(A& a, int what, int by) {
  using T = typename A::value_type;
  const volatile int operand = by;
  T expected = static_cast<T>(operand / 2);
  bool done = true;
  T result = T{};
  switch (what) {
    case 0:
      a.store(static_cast<T>(operand));
      break;
    case 1:
      result = a.exchange(static_cast<T>(operand));
      break;
    case 2:
      result = a.fetch_add(static_cast<T>(operand));
      break;
    case 3:
      result = a.fetch_sub(static_cast<T>(operand));
      break;
    case 4:
      result = a.fetch_and(static_cast<T>(operand));
      break;
    case 5:
      result = a.fetch_or(static_cast<T>(operand));
      break;
    case 6:
      result = a.fetch_xor(static_cast<T>(operand));
      break;
    case 7:
      done = a.compare_exchange_strong(expected, static_cast<T>(operand));
      break;
    case 8:
      done = a.compare_exchange_strong(expected, static_cast<T>(operand),
                                       std::memory_order_acq_rel,
                                       std::memory_order_relaxed);
      break;
    case 9:
      result = ++a;
      break;
    case 10:
      result = a--;
      break;
    case 11:
      result = (a += static_cast<T>(operand));
      break;
    case 12:
      result = (a ^= static_cast<T>(operand));
      break;
    case 13:
      result = (a = static_cast<T>(operand));
      break;
    case 14:
      result = (a -= static_cast<T>(operand));
      break;
    case 15:
      result = --a;
      break;
    case 16:
      result = a++;
      break;
    case 17:
      result = (a &= static_cast<T>(operand));
      break;
    case 18:
      result = (a |= static_cast<T>(operand));
      break;
    default:
      result = a;
      break;
  }
  return {static_cast<std::int64_t>(result),
          static_cast<std::int64_t>(expected), done ? 1 : 0,
          static_cast<std::int64_t>(a.load())};
}

template <class T>
void ActsAsStdAtomic(const std::vector<std::pair<int, int>>& operations) {
  std::vector<std::vector<std::int64_t>> wanted, got, alone;
  std::atomic<T> standard{T{1}};
  for (const auto& [what, operand] : operations) {
    wanted.push_back(Apply(standard, what, operand));
  }
  // In a thread, and outside of an execution.
  const Report report = Explore({}, [&] {
    Atomic<T> ours{T{1}};
    RunThreads({[&] {
      for (const auto& [what, operand] : operations) {
        got.push_back(Apply(ours, what, operand));
      }
    }});
  });
  RC_ASSERT(report.ok);
  RC_ASSERT(report.executions == 1u);
  Atomic<T> bare{T{1}};
  for (const auto& [what, operand] : operations) {
    alone.push_back(Apply(bare, what, operand));
  }
  RC_ASSERT(got == wanted);
  RC_ASSERT(alone == wanted);
}

RC_GTEST_PROP(Atomic, ActsAsStdAtomicInOneThread, ()) {
  const auto operations = *rc::gen::container<std::vector<std::pair<int, int>>>(
      rc::gen::pair(rc::gen::inRange(0, 20), rc::gen::inRange(-300, 300)));
  ActsAsStdAtomic<int>(operations);
  ActsAsStdAtomic<std::uint8_t>(operations);
  ActsAsStdAtomic<std::int16_t>(operations);
  ActsAsStdAtomic<std::uint64_t>(operations);
}

TEST(Atomic, HoldsWhatStdAtomicHolds) {
  Atomic<bool> flag;
  EXPECT_FALSE(flag);
  flag = true;
  EXPECT_TRUE(flag.exchange(false));

  Atomic<Colour> colour{Colour::kRed};
  Colour expected = Colour::kRed;
  EXPECT_TRUE(colour.compare_exchange_weak(expected, Colour::kGreen));
  EXPECT_FALSE(colour.compare_exchange_weak(expected, Colour::kGreen));
  EXPECT_EQ(expected, Colour::kGreen);

  std::array<int, 4> numbers = {1, 2, 3, 4};
  Atomic<int*> pointer{numbers.data()};
  EXPECT_EQ(*pointer.fetch_add(2), 1);
  EXPECT_EQ(*--pointer, 2);
  EXPECT_EQ(*(pointer += 2), 4);

  Atomic<Pair> pair{Pair(1, 2)};
  pair.store(Pair(3, 4), std::memory_order_release);
  EXPECT_EQ(pair.load().first, 3u);
  EXPECT_EQ(pair.load().second, 4u);

  Atomic<std::uint64_t> array[3] = {};
  EXPECT_EQ(array[2].load(), 0u);
  static_assert(Atomic<int>::is_always_lock_free);
  static_assert(!std::is_copy_constructible_v<Atomic<int>>);
}

// Written once, run under both policies.
template <template <class> class Atom = std::atomic>
class Mailbox {
 public:
  void Put(int letter) {
    letter_ = letter;
    AtomFence<Atom>(std::memory_order_release);
    full_.store(true, std::memory_order_relaxed);
  }
  int Take() {
    while (!full_.load(std::memory_order_relaxed)) AtomRelax<Atom>();
    AtomFence<Atom>(std::memory_order_acquire);
    return letter_;
  }

 private:
  PlainFor<Atom, int> letter_ = 0;
  Atom<bool> full_{false};
};

TEST(Atomic, OneSourceRunsUnderBothPolicies) {
  Mailbox<> standard;
  standard.Put(7);
  EXPECT_EQ(standard.Take(), 7);
  const auto body = [] {
    Mailbox<Atomic> box;
    RunThreads(
        {[&] { box.Put(7); }, [&] { Check(box.Take() == 7, "letter"); }});
  };
  const Report report = Explore({.preemptions = kUnlimited}, body);
  EXPECT_TRUE(report.exhaustive()) << report;
  for (const char* function : {"Put", "Take"}) {
    const Report weak =
        Explore({.weaken = {.function = function, .access = "fence"}}, body);
    EXPECT_NE(weak.failure.find("data race"), std::string::npos) << weak;
  }
}

// A policy class names its atomics by an alias template.
struct AliasPolicy {
  template <class T>
  using Atom = Atomic<T>;
};
template <class Policy>
using MailboxOf = Mailbox<Policy::template Atom>;

TEST(Atomic, TheRestOfThePolicyFollowsAnAlias) {
  static_assert(std::is_same_v<PlainFor<AliasPolicy::Atom, int>, Plain<int>>);
  const Report weak =
      Explore({.weaken = {.function = "Put", .access = "fence"}}, [] {
        MailboxOf<AliasPolicy> box;
        RunThreads({[&] { box.Put(7); }, [&] { (void)box.Take(); }});
      });
  EXPECT_NE(weak.failure.find("data race"), std::string::npos) << weak;
}

// A static keeps its value and starts each execution with a new history.
TEST(Atomic, MayOutliveAnExecution) {
  Atomic<int> outside{5};
  const Report report = Explore({.preemptions = kUnlimited}, [&] {
    outside.store(5);
    RunThreads({[&] { outside.fetch_add(1); }, [&] { outside.fetch_add(1); }},
               [&] { Check(outside.load() == 7, "both"); });
  });
  EXPECT_TRUE(report.exhaustive()) << report;
  EXPECT_EQ(report.executions, 2u);
  EXPECT_EQ(outside.load(), 7);
}

}  // namespace
}  // namespace sched
}  // namespace dmamap::inline v0
