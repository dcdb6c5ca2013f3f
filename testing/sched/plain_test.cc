// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "testing/sched/plain.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <memory>
#include <new>
#include <string>
#include <type_traits>

#include "dma/atom.h"
#include "testing/sched/explore.h"

namespace dmamap::inline v0 {
namespace sched {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr auto kAcquire = std::memory_order_acquire;
constexpr auto kRelease = std::memory_order_release;

// The policy costs nothing with std::atomic.
static_assert(std::is_same_v<PlainFor<std::atomic, int>, int>);
static_assert(std::is_same_v<PlainFor<std::atomic, int[4]>, int[4]>);
static_assert(std::is_same_v<PlainFor<Atomic, int>, Plain<int>>);

Report ExploreAll(const Body& body) {
  return Explore({.preemptions = kUnlimited}, body);
}
void ExpectRace(const Body& body, const std::string& text) {
  const Report report = ExploreAll(body);
  EXPECT_FALSE(report.ok) << report;
  EXPECT_NE(report.failure.find("data race"), std::string::npos) << report;
  EXPECT_NE(report.failure.find(text), std::string::npos) << report;
}
void ExpectClean(const Body& body) {
  const Report report = ExploreAll(body);
  EXPECT_TRUE(report.exhaustive()) << report;
}

TEST(Plain, TwoWritesRace) {
  ExpectRace(
      [] {
        Plain<int> p{0};
        p.SetLabel("letter");
        RunThreads({[&] { p = 1; }, [&] { p = 2; }});
      },
      "T2 writes letter, which T1 writes");
}

TEST(Plain, AReadAndAWriteRace) {
  ExpectRace(
      [] {
        Plain<int> p{0};
        RunThreads({[&] { p = 1; }, [&] { p.Get(); }});
      },
      "T2 reads p1, which T1 writes");
  ExpectRace(
      [] {
        Plain<int> p{0};
        RunThreads({[&] { p.Get(); }, [&] { p = 1; }});
      },
      "T2 writes p1, which T1 reads");
}

TEST(Plain, ReadsDoNotRace) {
  ExpectClean([] {
    Plain<int> p{7};
    const auto read = [&] { Check(p == 7, "value"); };
    RunThreads({read, read, read});
  });
}

// `store` and `load` publish a plain variable.
Body Publish(std::memory_order store, std::memory_order load) {
  return [=] {
    Atomic<int> flag{0};
    Plain<int> p{0};
    RunThreads({[&] {
                  p = 1;
                  flag.store(1, store);
                },
                [&] {
                  if (flag.load(load) == 1) Check(p == 1, "value");
                }});
  };
}

TEST(Plain, ReleaseAndAcquireOrderIt) {
  ExpectClean(Publish(kRelease, kAcquire));
  ExpectRace(Publish(kRelaxed, kAcquire), "T2 reads p1");
  ExpectRace(Publish(kRelease, kRelaxed), "T2 reads p1");
}

TEST(Plain, WhatIsWrittenAfterTheReleaseRaces) {
  ExpectRace(
      [] {
        Atomic<int> flag{0};
        Plain<int> p{0};
        RunThreads({[&] {
                      flag.store(1, kRelease);
                      p = 1;
                    },
                    [&] {
                      if (flag.load(kAcquire) == 1) p.Get();
                    }});
      },
      "p1");
}

// seq_cst fences order atomic accesses; without an access that synchronises,
// they do not order plain ones.
TEST(Plain, SeqCstFencesAloneDoNotOrderIt) {
  ExpectRace(
      [] {
        Atomic<int> turn{0};
        Plain<int> p{0};
        RunThreads({[&] {
                      p = 1;
                      AtomFence<Atomic>(std::memory_order_seq_cst);
                    },
                    [&] {
                      AtomFence<Atomic>(std::memory_order_seq_cst);
                      p.Get();
                    }});
      },
      "p1");
}

TEST(Plain, ConstructionAndDestructionAreWrites) {
  ExpectRace(
      [] {
        Atomic<Plain<int>*> shared{nullptr};
        std::unique_ptr<Plain<int>> owner;
        RunThreads({[&] {
                      owner = std::make_unique<Plain<int>>(1);
                      shared.store(owner.get(), kRelaxed);
                    },
                    [&] {
                      if (auto* p = shared.load(kAcquire)) p->Get();
                    }});
      },
      "T2 reads p");
  ExpectRace(
      [] {
        auto owner = std::make_unique<Plain<int>>(1);
        RunThreads({[&] { owner->Get(); }, [&] { owner.reset(); }});
      },
      "T2 writes p1, which T1 reads");
}

// The same for atomics: their initialisation is no atomic access.
TEST(Plain, AnAtomicMustBePublished) {
  const auto publish = [](std::memory_order order) {
    return [order] {
      Atomic<Atomic<int>*> shared{nullptr};
      std::unique_ptr<Atomic<int>> owner;
      RunThreads({[&] {
                    owner = std::make_unique<Atomic<int>>(1);
                    shared.store(owner.get(), order);
                  },
                  [&] {
                    if (auto* a = shared.load(kAcquire)) a->load(kRelaxed);
                  }});
    };
  };
  ExpectClean(publish(kRelease));
  ExpectRace(publish(kRelaxed), "initialisation");
}

TEST(Plain, AnAtomicMustOutliveItsAccesses) {
  ExpectRace(
      [] {
        auto owner = std::make_unique<Atomic<int>>(1);
        RunThreads({[&] { owner->load(); }, [&] { owner.reset(); }});
      },
      "destroys");
}

TEST(Plain, AnAtomicMustOutliveWhatIsNotKnownToBeDone) {
  const auto destroy = [](std::memory_order order) {
    return [order] {
      auto owner = std::make_unique<Atomic<int>>(1);
      Atomic<int> done{0};
      RunThreads({[&] {
                    owner->load();
                    done.store(1, order);
                  },
                  [&] {
                    if (done.load(kAcquire) == 1) owner.reset();
                  }});
    };
  };
  ExpectClean(destroy(kRelease));
  ExpectRace(destroy(kRelaxed), "destroys");
}

// In memory that nobody has used again, so that the access itself does no harm.
TEST(Plain, AnAtomicMustNotBeAccessedAfterItsEnd) {
  for (const bool use_before : {false, true}) {
    const Report report = ExploreAll([use_before] {
      alignas(Atomic<int>) std::byte memory[sizeof(Atomic<int>)];
      auto* a = new (memory) Atomic<int>(1);
      Atomic<int> gone{0};
      RunThreads({[&] {
                    if (use_before) a->load();
                    a->~Atomic();
                    gone.store(1, kRelease);
                  },
                  [&] {
                    if (gone.load(kAcquire) == 1) a->load();
                  }});
    });
    EXPECT_NE(report.failure.find("after its end"), std::string::npos)
        << report;
  }
}

TEST(Plain, ActsAsItsType) {
  ExpectClean([] {
    Plain<int> p;
    Check(p == 0, "zero");
    p = 3;
    p += 4;
    p -= 1;
    Check(++p == 7 && p++ == 7 && p == 8 && --p == 7 && p-- == 7, "steps");
    Plain<int> copy = p;
    Plain<int> other{1};
    other = copy;
    Check(other == 6, "copies");
    struct S {
      int a;
    } s = {5};
    Plain<S*> pointer{&s};
    Check(pointer->a == 5, "pointer");
    RunThreads({});
  });
}

TEST(Plain, OutsideOfAnExecutionItIsAVariable) {
  Plain<int> p{1};
  p = p + 1;
  EXPECT_EQ(p, 2);
}

}  // namespace
}  // namespace sched
}  // namespace dmamap::inline v0
