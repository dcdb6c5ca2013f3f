// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// The machine (memory_model.h) against the axioms (axioms.h): random small
// programs must have the same outcomes under both, none more and none fewer.

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>
#include <cstddef>
#include <ostream>
#include <set>
#include <vector>

#include "testing/sched/axioms.h"
#include "testing/sched/explore.h"

namespace dmamap::inline v0 {
namespace sched {

void showValue(const Instruction& i, std::ostream& out) {
  constexpr std::array kNames = {"load", "store", "exchange", "compare",
                                 "fence"};
  out << kNames[static_cast<std::size_t>(i.kind)] << '(';
  if (i.kind != InstructionKind::kFence) out << "xy"[i.location] << ' ';
  if (i.kind == InstructionKind::kCompare) out << i.expected << "->";
  if (i.value != 0) out << i.value << ' ';
  out << OrderName(i.order);
  if (i.kind == InstructionKind::kCompare) out << '/' << OrderName(i.failure);
  out << ')';
}

namespace {

// What the scheduler finds.
std::set<Outcome> Explored(const Program& program, const Options& options) {
  std::set<Outcome> outcomes;
  const Report report = Explore(options, [&] {
    std::array<Atomic<int>, kLocations> memory;
    std::vector<std::vector<int>> read(program.size());
    std::vector<Body> threads;
    for (std::size_t t = 0; t < program.size(); ++t) {
      threads.push_back([&, t] {
        for (const Instruction& i : program[t]) {
          Atomic<int>& at = memory[static_cast<std::size_t>(i.location)];
          int expected = i.expected;
          switch (i.kind) {
            case InstructionKind::kLoad:
              read[t].push_back(at.load(i.order));
              break;
            case InstructionKind::kStore:
              at.store(i.value, i.order);
              break;
            case InstructionKind::kExchange:
              read[t].push_back(at.exchange(i.value, i.order));
              break;
            case InstructionKind::kCompare:
              at.compare_exchange_strong(expected, i.value, i.order, i.failure);
              read[t].push_back(expected);
              break;
            case InstructionKind::kFence:
              AtomFence<Atomic>(i.order);
              break;
          }
        }
      });
    }
    RunThreads(threads, [&] {
      Outcome outcome;
      for (const auto& values : read) {
        outcome.insert(outcome.end(), values.begin(), values.end());
      }
      for (Atomic<int>& at : memory) outcome.push_back(at.load());
      outcomes.insert(outcome);
    });
  });
  EXPECT_TRUE(report.exhaustive()) << report;
  return outcomes;
}

Options Unbounded() {
  Options options;
  options.preemptions = kUnlimited;
  options.history = kUnlimited;
  options.spurious = 0;
  options.rereads = 100;
  options.max_executions = 10000000;
  return options;
}

template <class... Orders>
rc::Gen<std::memory_order> OneOf(Orders... orders) {
  return rc::gen::element(orders...);
}

rc::Gen<Instruction> AnyInstruction() {
  return rc::gen::exec([] {
    using std::memory_order_acq_rel, std::memory_order_acquire,
        std::memory_order_relaxed, std::memory_order_release,
        std::memory_order_seq_cst;
    Instruction i;
    i.kind = *rc::gen::weightedElement<InstructionKind>(
        {{4, InstructionKind::kLoad},
         {4, InstructionKind::kStore},
         {1, InstructionKind::kExchange},
         {1, InstructionKind::kCompare},
         {2, InstructionKind::kFence}});
    i.location = *rc::gen::element(0, 1);
    switch (i.kind) {
      case InstructionKind::kLoad:
        i.order = *OneOf(memory_order_relaxed, memory_order_acquire,
                         memory_order_seq_cst);
        break;
      case InstructionKind::kStore:
        i.order = *OneOf(memory_order_relaxed, memory_order_release,
                         memory_order_seq_cst);
        break;
      case InstructionKind::kFence:
        i.order = *OneOf(memory_order_acquire, memory_order_release,
                         memory_order_acq_rel, memory_order_seq_cst);
        break;
      default:
        i.order = *OneOf(memory_order_relaxed, memory_order_acquire,
                         memory_order_release, memory_order_acq_rel,
                         memory_order_seq_cst);
        i.failure = *OneOf(memory_order_relaxed, memory_order_acquire,
                           memory_order_seq_cst);
        break;
    }
    return i;
  });
}

// Gives each store a value of its own, and each compare one of them to expect.
void Number(Program& program) {
  int value = 0;
  for (auto& thread : program) {
    for (Instruction& i : thread) {
      if (i.kind == InstructionKind::kLoad || i.kind == InstructionKind::kFence)
        continue;
      i.expected = value / 2;
      i.value = ++value;
    }
  }
}

// `sizes`: the number of instructions of each thread.
Program AnyProgram(const std::vector<std::size_t>& sizes) {
  Program program;
  for (const std::size_t size : sizes) {
    program.push_back(
        *rc::gen::container<std::vector<Instruction>>(size, AnyInstruction()));
  }
  Number(program);
  return program;
}

void ExpectSame(const Program& program) {
  RC_ASSERT(Explored(program, Unbounded()) == Axioms::Outcomes(program));
}

// In each thread an access, a fence, an access: the classic litmus tests with
// fences and their neighbours.
Program AnyFencedProgram(std::size_t threads) {
  Program program;
  for (std::size_t t = 0; t < threads; ++t) {
    program.push_back(*rc::gen::container<std::vector<Instruction>>(
        3, rc::gen::suchThat(AnyInstruction(), [](const Instruction& i) {
          return i.kind != InstructionKind::kFence;
        })));
    Instruction& fence = program.back()[1];
    fence.kind = InstructionKind::kFence;
    fence.order = *rc::gen::weightedElement<std::memory_order>(
        {{1, std::memory_order_acquire},
         {1, std::memory_order_release},
         {3, std::memory_order_seq_cst}});
  }
  Number(program);
  return program;
}

RC_GTEST_PROP(MemoryModel, FencedThreadsAgreeWithTheAxioms, ()) {
  for (int i = 0; i < 2; ++i) ExpectSame(AnyFencedProgram(2));
  ExpectSame(AnyFencedProgram(3));
}

// Without the reduction the same outcomes are found.
RC_GTEST_PROP(MemoryModel, SleepSetsLoseNothing, ()) {
  const Program program = AnyProgram({2, 2, 2});
  Options all = Unbounded();
  all.reduction = Reduction::kNone;
  RC_ASSERT(Explored(program, Unbounded()) == Explored(program, all));
}

RC_GTEST_PROP(MemoryModel, TwoThreadsAgreeWithTheAxioms, ()) {
  for (int i = 0; i < 2; ++i) ExpectSame(AnyProgram({3, 3}));
  ExpectSame(AnyProgram({4, 3}));
}

RC_GTEST_PROP(MemoryModel, ThreeThreadsAgreeWithTheAxioms, ()) {
  for (int i = 0; i < 2; ++i) ExpectSame(AnyProgram({2, 2, 2}));
  ExpectSame(AnyProgram({2, 3, 2}));
}

RC_GTEST_PROP(MemoryModel, FourThreadsAgreeWithTheAxioms, ()) {
  for (int i = 0; i < 2; ++i) ExpectSame(AnyProgram({1, 1, 2, 2}));
}

}  // namespace
}  // namespace sched
}  // namespace dmamap::inline v0
