// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Whole algorithms: the shipped lock and slot numbers are proved right, and
// algorithms with a known fault are found out.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "dma/cpu.h"
#include "dma/sync.h"
#include "testing/sched/explore.h"
#include "testing/sched/needed_orders.h"

namespace dmamap::inline v0 {
namespace sched {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr auto kAcquire = std::memory_order_acquire;
constexpr auto kRelease = std::memory_order_release;
constexpr auto kSeqCst = std::memory_order_seq_cst;

constexpr const char* kRace = "data race";

// Two threads announce themselves and enter if the other has not.
Report Dekker(std::memory_order store, std::memory_order load,
              std::memory_order fence = kRelaxed) {
  return Explore({.preemptions = kUnlimited}, [=] {
    Atomic<int> here[2] = {0, 0};
    Plain<int> inside{0};
    const auto enter = [&](std::size_t me) {
      here[me].store(1, store);
      AtomFence<Atomic>(fence);
      if (here[1 - me].load(load) == 0) ++inside;
    };
    RunThreads({[&] { enter(0); }, [&] { enter(1); }});
  });
}

TEST(Structures, DekkersTestNeedsSeqCst) {
  EXPECT_TRUE(Dekker(kSeqCst, kSeqCst).exhaustive());
  EXPECT_TRUE(Dekker(kRelaxed, kRelaxed, kSeqCst).exhaustive());
  EXPECT_FALSE(Dekker(kRelease, kAcquire).ok);
  EXPECT_FALSE(Dekker(kRelaxed, kRelaxed, std::memory_order_acq_rel).ok);
}

// Peterson's lock (1981), for two threads.
Report Peterson(std::memory_order store, std::memory_order load) {
  return Explore({.preemptions = kUnlimited}, [=] {
    Atomic<int> wants[2] = {0, 0};
    Atomic<int> turn{0};
    Plain<int> inside{0};
    const auto enter = [&](std::size_t me) {
      wants[me].store(1, store);
      turn.store(static_cast<int>(1 - me), store);
      while (wants[1 - me].load(load) == 1 &&
             turn.load(load) == static_cast<int>(1 - me)) {
      }
      ++inside;
      wants[me].store(0, store == kSeqCst ? kSeqCst : kRelease);
    };
    RunThreads({[&] { enter(0); }, [&] { enter(1); }},
               [&] { Check(inside == 2, "both were inside"); });
  });
}

TEST(Structures, PetersonsLockNeedsSeqCst) {
  EXPECT_TRUE(Peterson(kSeqCst, kSeqCst).exhaustive())
      << Peterson(kSeqCst, kSeqCst);
  const Report broken = Peterson(kRelease, kAcquire);
  EXPECT_NE(broken.failure.find(kRace), std::string::npos) << broken;
}

// A Treiber stack over an array of nodes. `tag_bits` counts changes in the head
// beside the index; 0 leaves it open to ABA.
template <template <class> class Atom>
class IndexStack {
 public:
  static constexpr std::uint32_t kNone = 0xff;

  explicit IndexStack(std::uint32_t tag_bits) : tag_bits_(tag_bits) {}

  void Push(std::uint32_t node) {
    std::uint32_t head = head_.load(kRelaxed);
    do {
      next_[node].store(head & 0xff, kRelaxed);
    } while (!head_.compare_exchange_weak(head, Retag(head, node), kRelease,
                                          kRelaxed));
  }
  std::uint32_t Pop() {
    std::uint32_t head = head_.load(kAcquire);
    while ((head & 0xff) != kNone) {
      const std::uint32_t next = next_[head & 0xff].load(kRelaxed);
      if (head_.compare_exchange_weak(head, Retag(head, next), kAcquire,
                                      kAcquire)) {
        return head & 0xff;
      }
    }
    return kNone;
  }

 private:
  std::uint32_t Retag(std::uint32_t head, std::uint32_t node) const {
    const std::uint32_t mask = (std::uint32_t{1} << tag_bits_) - 1;
    return (((head >> 8) + 1) & mask) << 8 | node;
  }

  const std::uint32_t tag_bits_;
  Atom<std::uint32_t> head_{kNone};
  std::array<Atom<std::uint32_t>, 3> next_ = {kNone, kNone, kNone};
};

// One thread pops while the other pops two and pushes the first back.
Body PopAgainstReuse(std::uint32_t tag_bits) {
  return [=] {
    IndexStack<Atomic> stack(tag_bits);
    for (std::uint32_t node = 0; node < 3; ++node) stack.Push(node);
    std::array<Plain<int>, 3> owned = {0, 0, 0};
    const auto own = [&](std::uint32_t node) {
      if (node != stack.kNone) ++owned[node];
    };
    RunThreads({[&] { own(stack.Pop()); },
                [&] {
                  const std::uint32_t first = stack.Pop();
                  own(stack.Pop());
                  if (first != stack.kNone) stack.Push(first);
                }},
               [&] {
                 for (int i = 0; i < 3; ++i) own(stack.Pop());
                 for (const auto& times : owned) {
                   Check(times == 1, "each node has one owner");
                 }
               });
  };
}

TEST(Structures, AStackWithoutTagsHasTheAbaProblem) {
  const Options options = {.name = "aba"};
  const Report report = Explore(options, PopAgainstReuse(0));
  ASSERT_FALSE(report.ok) << report;
  // A second replay of what was found says the same.
  const Report again = Replay(options, report.replay, PopAgainstReuse(0));
  EXPECT_EQ(again.failure, report.failure);
  EXPECT_EQ(again.schedule, report.schedule);
}

TEST(Structures, AStackWithTagsHasNot) {
  const Report report = Explore({.preemptions = 3}, PopAgainstReuse(16));
  EXPECT_TRUE(report.ok && report.complete) << report;
  EXPECT_GT(report.executions, 500u);
}

TEST(Structures, RandomSearchFindsTheAbaProblem) {
  const Options options = {.search = Search::kRandom, .max_executions = 100000};
  EXPECT_FALSE(Explore(options, PopAgainstReuse(0)).ok);
  const Options few = {.search = Search::kRandom, .max_executions = 2000};
  EXPECT_TRUE(Explore(few, PopAgainstReuse(16)).ok);
}

// The lock of dma/sync.h.
Body Locked(int threads, int times) {
  return [=] {
    BasicSpinLock<Atomic> lock;
    Plain<int> count{0};
    const auto work = [&] {
      for (int i = 0; i < times; ++i) {
        Guard guard(lock);
        ++count;
      }
    };
    RunThreads(std::vector<Body>(static_cast<std::size_t>(threads), work), [&] {
      Check(count == threads * times, "an increment is lost");
    });
  };
}

TEST(Structures, TheSpinLockExcludes) {
  const Options all = {.preemptions = kUnlimited};
  for (const auto& body : {Locked(2, 1), Locked(2, 2), Locked(3, 1)}) {
    const Report report = Explore(all, body);
    EXPECT_TRUE(report.exhaustive()) << report;
  }
  const Report bounded = Explore({.preemptions = 2}, Locked(2, 3));
  EXPECT_TRUE(bounded.ok && bounded.complete) << bounded;
}

TEST(Structures, EachOrderOfTheSpinLockIsNeeded) {
  EXPECT_EQ(UnneededOrders({}, Locked(2, 1)), std::vector<std::string>{});
  for (const char* function : {"try_lock", "unlock"}) {
    const Report report =
        Explore({.weaken = {.function = function}}, Locked(2, 1));
    EXPECT_NE(report.failure.find(kRace), std::string::npos) << report;
  }
}

TEST(Structures, ALockThatLooksBeforeItTakesIsFound) {
  const Report report = Explore({}, [] {
    Atomic<bool> locked{false};
    Plain<int> count{0};
    const auto work = [&] {
      while (locked.load(kAcquire)) {
      }
      locked.store(true, kRelaxed);
      ++count;
      locked.store(false, kRelease);
    };
    RunThreads({work, work});
  });
  EXPECT_NE(report.failure.find(kRace), std::string::npos) << report;
}

// The slot numbers of dma/cpu.h: each slot has one owner at a time, and its
// contents reach the next one.
Body Slots(int threads, int times) {
  return [=] {
    SlotNumbers<Atomic> numbers;
    std::array<Plain<int>, 4> contents = {0, 0, 0, 0};
    Plain<int> rounds[kMaxThreads] = {0, 0, 0, 0};
    const auto work = [&] {
      for (int i = 0; i < times; ++i) {
        const std::size_t slot = numbers.Take();
        Check(slot < static_cast<std::size_t>(threads), "the lowest free slot");
        ++contents[slot];
        ++rounds[ThreadIndex()];
        numbers.Return(slot);
      }
    };
    RunThreads(std::vector<Body>(static_cast<std::size_t>(threads), work), [&] {
      int sum = 0;
      for (const auto& c : contents) sum += c;
      Check(sum == threads * times, "contents are lost");
      Check(numbers.Take() == 0, "all slots are free again");
    });
  };
}

TEST(Structures, SlotNumbersAreUniqueAndPublish) {
  const Report once = Explore({.preemptions = kUnlimited}, Slots(2, 1));
  EXPECT_TRUE(once.ok && once.complete) << once;
  const Report twice = Explore({.preemptions = 2}, Slots(2, 2));
  EXPECT_TRUE(twice.ok && twice.complete) << twice;
  const Report three = Explore({.preemptions = 2}, Slots(3, 1));
  EXPECT_TRUE(three.ok && three.complete) << three;
}

TEST(Structures, EachOrderOfTheSlotNumbersIsNeeded) {
  EXPECT_EQ(UnneededOrders({}, Slots(2, 1)), std::vector<std::string>{});
  const Report report =
      Explore({.weaken = {.function = "Return"}}, Slots(2, 1));
  EXPECT_NE(report.failure.find(kRace), std::string::npos) << report;
}

// The scheduler's number of a thread as the embedder's number of a CPU.
TEST(Structures, CallerCpuFollowsTheThreads) {
  const Report report = Explore({.preemptions = kUnlimited}, [] {
    CallerCpu cpu(2, [] { return ThreadIndex(); });
    Atomic<int> x{0};
    Plain<int> slots[2] = {0, 0};
    const auto work = [&] {
      SlotGuard guard(cpu);
      ++slots[guard.slot()];
      x.fetch_add(1, kRelaxed);
      ++slots[guard.slot()];
    };
    Check(cpu.Acquire() == kNoSlot, "no slot outside of a thread");
    RunThreads({work, work});
  });
  EXPECT_TRUE(report.exhaustive()) << report;
}

TEST(Structures, AnUnneededOrderIsNamed) {
  const auto unneeded = UnneededOrders({.preemptions = kUnlimited}, [] {
    Atomic<int> x{0}, y{0};
    RunThreads({[&] {
                  x.store(1, kRelaxed);
                  AtomFence<Atomic>(kRelease);
                  y.store(1, kRelease);  // the fence does it
                },
                [&] {
                  if (y.load(kAcquire) == 1) Check(x.load(kRelaxed) == 1, "x");
                }});
  });
  // Either of the two may be weaker, and only the load not.
  ASSERT_EQ(unneeded.size(), 2u);
  EXPECT_NE(unneeded[0].find("fence release -> relaxed"), std::string::npos);
  EXPECT_NE(unneeded[1].find("store release -> relaxed"), std::string::npos);
  EXPECT_NE(unneeded[1].find("structures_test.cc:"), std::string::npos);
}

// What one body does not notice, another may.
TEST(Structures, AnOrderIsNeededWhenOneBodyNeedsIt) {
  const auto body = [](bool reads) {
    return [reads] {
      Atomic<int> x{0};
      Plain<int> data{0};
      RunThreads({[&] {
                    data = 1;
                    x.store(1, kRelease);
                  },
                  [&] {
                    if (x.load(kAcquire) == 1 && reads) Check(data == 1, "1");
                  }});
    };
  };
  EXPECT_EQ(UnneededOrders({}, body(false)).size(), 2u);
  EXPECT_EQ(UnneededOrders({}, {body(false), body(true)}),
            std::vector<std::string>{});
}

// g++ calls it "Give<int>".
template <class T>
void Give(Atomic<T>& x) {
  x.store(1, kRelease);
}

TEST(Structures, AFunctionTemplateIsNamedWithoutItsArguments) {
  const Body body = [] {
    Atomic<int> x{0};
    Plain<int> data{0};
    RunThreads({[&] {
                  data = 1;
                  Give<int>(x);
                },
                [&] {
                  if (x.load(kAcquire) == 1) Check(data == 1, "data");
                }});
  };
  EXPECT_TRUE(Explore({}, body).exhaustive());
  const Report weak = Explore({.weaken = {.function = "Give"}}, body);
  EXPECT_NE(weak.failure.find(kRace), std::string::npos) << weak;
  EXPECT_TRUE(Explore({.weaken = {.function = "Giv"}}, body).ok);
  EXPECT_EQ(UnneededOrders({}, body), std::vector<std::string>{});
  EXPECT_EQ(FunctionName("operator<"), "operator<");
}

}  // namespace
}  // namespace sched
}  // namespace dmamap::inline v0
