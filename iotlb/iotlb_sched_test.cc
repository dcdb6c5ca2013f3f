// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Lookups against add, remove, split, merge and retire under the deterministic
// scheduler: the shipped source, every order within the bounds, every value
// that the memory model lets a load return; and the same with weaker orders.
//
// The oracle: each answer was right after some step of the change; not before
// the step that the reader knows to be done, nor before its last answer for
// this byte; and what was written in the memory of a mapping before Add is
// seen, and what is written there after Remove is not.

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

// Before all headers: an assertion that fails fails the execution.
#define DMAMAP_ASSERT_HANDLER(text, file, line) ::dmamap::AssertionFailed(text)
namespace dmamap {
void AssertionFailed(const char *text);
}  // namespace dmamap

#include "dma/atom.h"
#include "dma/sync.h"
#include "iotlb/iotlb.h"
#include "iotlb/oracle_for_test.h"
#include "testing/sched/explore.h"

namespace dmamap {

void AssertionFailed(const char *text) {
  if (sched::Engine::Current() == nullptr) __builtin_trap();
  sched::Check(false, text);
}

namespace {

constexpr auto kRead = Permission::kRead;

IotlbEntry Entry(std::uint64_t first, std::uint64_t last, std::uint64_t token,
                 Permission permission = kRead) {
  return {RangeOf(first, last), PhysAddr(token * 1000 + first), permission,
          token};
}

// Pages of 8 bytes, tables of two slots.
struct SchedPolicies : IotlbPolicies {
  template <class T>
  using Atom = sched::Atomic<T>;
  static constexpr unsigned kKeys = 8;
  static constexpr unsigned kPageShift = 3;
  static constexpr unsigned kFrontBits = 1;
};
using SchedIotlb = BasicIotlb<SchedPolicies>;

// An IOTLB, and the memory that its mappings lead to: one variable for each
// token. Two uses of it that nothing orders are a data race.
struct World {
  SchedIotlb iotlb;
  SchedIotlb::Reader reader;
  std::array<sched::Plain<int>, 8> memory;
  sched::Atomic<int> done{0};

  void Done(int step) { done.store(step, std::memory_order_release); }
  void Add(const IotlbEntry &entry) {
    memory[entry.token] = static_cast<int>(entry.token);
    sched::Check(iotlb.Add(entry).ok(), "Add");
  }
  void Remove(std::uint64_t first, std::uint64_t last) {
    sched::Check(iotlb.Remove(RangeOf(first, last)).ok(), "Remove");
  }
  void RemoveExact(const IotlbEntry &entry) {
    sched::Check(iotlb.RemoveExact(entry.range, entry.token).ok(), "Exact");
  }
  void Free(std::size_t token) { memory[token] = -1; }
};

// How the reader looks up.
enum class Way : std::uint8_t {
  kIotlb,        // by the IOTLB
  kSection,      // by a Reader, in a section
  kHint,         // so too, with a hint on the first byte looked up
  kPage,         // by the IOTLB, as a page table does
  kPageSection,  // so too by a Reader, in a section
};

bool InSections(Way way) { return way != Way::kIotlb && way != Way::kPage; }

// The tokens that answer for byte `at`, step by step; 0: none.
struct Look {
  std::uint64_t at;
  std::vector<int> tokens;
};

struct Scene {
  const char *name;
  IotlbOptions options;
  std::vector<IotlbEntry> start;
  std::function<void(World &)> change;
  std::vector<Look> looks;
  Way way = Way::kIotlb;
};

void LookUp(World &world, Way way, const Look &look, int &step) {
  const int told = world.done.load(std::memory_order_acquire);
  step = told > step ? told : step;
  const auto check = [&](const auto &t) {
    // The memory tells whose it is, also where the answer has no token.
    const std::uint64_t away = t.ok() ? t->address.value() - look.at : 0;
    const int token = static_cast<int>(away / 1000);
    const int end = static_cast<int>(look.tokens.size());
    while (step < end && look.tokens[static_cast<std::size_t>(step)] != token) {
      ++step;
    }
    sched::Check(step < end, "an answer that was not right");
    if (!t.ok()) return;
    sched::Check(away % 1000 == 0 && away / 1000 < world.memory.size(),
                 "no mapping's memory");
    if constexpr (requires { t->token; }) {
      sched::Check(away == t->token * 1000, "another mapping's memory");
    }
    sched::Check(world.memory[away / 1000] == token, "freed memory");
  };
  if (way == Way::kIotlb) {
    check(world.iotlb.Lookup(Iova(look.at), kRead));
    return;
  }
  if (way == Way::kPage) {
    check(world.iotlb.LookupPage(Iova(look.at), kRead));
    return;
  }
  SchedIotlb::Reader::Section section(world.reader);
  if (way == Way::kPageSection) {
    check(world.reader.LookupPage(Iova(look.at), kRead));
    return;
  }
  check(world.reader.Lookup(Iova(look.at), kRead));
}

sched::Body BodyOf(const Scene &scene) {
  return [scene] {
    World world;
    sched::Check(world.iotlb.Init(scene.options).ok(), "Init");
    if (InSections(scene.way)) {
      sched::Check(world.reader.Init(world.iotlb).ok(), "Reader::Init");
    }
    for (const IotlbEntry &entry : scene.start) world.Add(entry);
    for (int i = 0; scene.way == Way::kHint && i < 3; ++i) {
      (void)world.reader.Lookup(Iova(scene.looks[0].at), kRead).ok();
    }
    sched::RunThreads(
        {[&] { scene.change(world); },
         [&] {
           std::map<std::uint64_t, int> steps;
           for (const Look &look : scene.looks) {
             LookUp(world, scene.way, look, steps[look.at]);
           }
         }},
        [&] { sched::Check(world.iotlb.CheckInvariants(), "invariants"); });
  };
}

IotlbOptions With(FrontPolicy front) { return {.front_policy = front}; }

// --- Add and remove.

Scene AddOne(FrontPolicy front, Way way = Way::kIotlb) {
  return {"add",
          With(front),
          {},
          [](World &w) {
            w.Add(Entry(8, 15, 3));
            w.Done(1);
          },
          {{9, {0, 3}}},
          way};
}
// The memory is freed behind the sections that may use it.
Scene RemoveOne(FrontPolicy front, Way way) {
  return {"remove",
          With(front),
          {Entry(8, 15, 2)},
          [way](World &w) {
            w.Remove(8, 8);
            w.Done(1);
            if (InSections(way)) w.Free(2);
          },
          {{9, {2, 0}}},
          way};
}
// By another in the same place, which gets the same record.
Scene Replace(FrontPolicy front, Way way) {
  return {"replace",
          With(front),
          {Entry(8, 15, 2)},
          [way](World &w) {
            w.Remove(8, 8);
            if (InSections(way)) w.Free(2);
            w.Add(Entry(8, 15, 3));
          },
          {{9, {2, 0, 3}}, {9, {2, 0, 3}}},
          way};
}
// To another place, as the old one stays buried; a third mapping stays.
Scene Move(FrontPolicy front, Way way = Way::kIotlb) {
  return {"move",
          With(front),
          {Entry(8, 15, 2), Entry(24, 31, 1)},
          [](World &w) {
            w.Remove(8, 8);
            w.Add(Entry(16, 23, 3));
          },
          {{9, {2, 0}}, {17, {0, 0, 3}}, {25, {1}}},
          way};
}
// By another in the same place and record; a third mapping stays.
Scene ReplaceOne(FrontPolicy front) {
  return {"replace_one",
          With(front),
          {Entry(8, 15, 2), Entry(24, 31, 1)},
          [](World &w) {
            w.Remove(8, 8);
            w.Add(Entry(8, 15, 3));
          },
          {}};
}
// The removed one has to leave for what comes on its pages, which gets its
// record and does not cover the byte; a third mapping stays.
constexpr std::uint64_t kBefore = 1, kBehind = 12;  // where it comes
Scene Recycle(FrontPolicy front, std::uint64_t at, Way way = Way::kIotlb) {
  return {at == kBefore ? "recycle_before" : "recycle_behind",
          With(front),
          {Entry(8, 15, 2), Entry(24, 31, 1)},
          [at](World &w) {
            w.Remove(8, 8);
            w.Add(Entry(at, at + 7, 3));
          },
          {{9, {2, 0}}, {at == kBefore ? 3u : 17u, {0, 0, 3}}, {25, {1}}},
          way};
}
Scene ClearAll(FrontPolicy front, Way way = Way::kIotlb) {
  return {"clear",
          With(front),
          {Entry(8, 15, 2), Entry(24, 31, 1)},
          [](World &w) {
            w.iotlb.Clear();
            w.Add(Entry(8, 15, 3));
          },
          {{9, {2, 0, 3}}, {25, {1, 0, 0}}},
          way};
}

// --- Split, merge, retire.

// The bytes outside are mapped at each moment.
Scene Split(FrontPolicy front, std::uint64_t at, Way way = Way::kIotlb) {
  return {"split",
          {.remove_policy = RemovePolicy::kSplit, .front_policy = front},
          {Entry(8, 23, 2)},
          [](World &w) { w.Remove(14, 17); },
          {{at, {2}}, {15, {2, 0}}},
          way};
}
Scene Merge(FrontPolicy front, Way way = Way::kIotlb) {
  return {"merge",
          {.merge_policy = MergePolicy::kMerge, .front_policy = front},
          {Entry(8, 15, 2)},
          // The same memory: its variable is not written again.
          [](World &w) { (void)w.iotlb.Add(Entry(16, 23, 2)).ok(); },
          {{9, {2}}, {17, {0, 2}}},
          way};
}
Scene Retire(FrontPolicy front, Way way) {
  return {"retire",
          {.limit = 1,
           .limit_policy = LimitPolicy::kRetireOldest,
           .front_policy = front},
          {Entry(8, 15, 2)},
          [way](World &w) {
            w.Add(Entry(16, 23, 3));
            w.Done(1);
            if (!InSections(way)) return;
            w.iotlb.Synchronize();  // a limit does not wait
            w.Free(2);
          },
          {{9, {2, 0}}, {17, {0, 3}}},
          way};
}

// --- Tables of the front that go, and come again elsewhere.

// Clear empties four tables, the root among them; what is added next takes the
// same ones for other levels of other regions.
Scene ReuseTables(Way way) {
  return {"reuse_tables",
          {},
          {Entry(8, 15, 1), Entry(16, 23, 2), Entry(128, 135, 3)},
          [](World &w) {
            w.iotlb.Clear();
            w.Add(Entry(72, 79, 4));
            w.Add(Entry(136, 143, 5));
            w.Add(Entry(8, 15, 6));
          },
          {{9, {1, 0, 6}}, {17, {2, 0}}},
          way};
}

// The same without Clear: two removed mappings leave the table of their pages
// when another comes to lie over them; the table is empty and goes, and what
// comes at pages 8 and 9 next takes it. Tables go where more than the 16 free
// ones are there: a mapping far away makes as many levels.
Scene ReuseByRemove(Way way) {
  constexpr std::uint64_t kFar = std::uint64_t{8} << 12;
  return {"reuse_by_remove",
          {},
          {Entry(16, 23, 1), Entry(24, 31, 2), Entry(64, 71, 3),
           Entry(80, 87, 4), Entry(kFar, kFar + 7, 5),
           Entry(kFar + kFar / 2, kFar + kFar / 2 + 7, 5)},
          [](World &w) {
            w.Remove(16, 16);
            w.Remove(24, 24);
            w.Add(Entry(16, 31, 6));
            w.Add(Entry(72, 79, 7));
          },
          {{17, {1, 0, 6}}},
          way};
}

// --- Mappings that overlap: one of them answers at each moment.

Scene Cover(FrontPolicy front, Way way = Way::kIotlb) {
  return {"cover",
          With(front),
          {Entry(9, 15, 2)},
          [](World &w) {
            w.Add(Entry(8, 15, 3));
            w.Done(1);
          },
          {{10, {2, 3}}, {10, {2, 3}}},
          way};
}
Scene Uncover(FrontPolicy front, Way way = Way::kIotlb) {
  return {"uncover",
          With(front),
          {Entry(8, 15, 2), Entry(9, 15, 3)},
          [](World &w) { w.RemoveExact(Entry(8, 15, 2)); },
          {{10, {2, 3}}},
          way};
}
// Behind one that refuses the access, so that all have to be looked at.
Scene Among(FrontPolicy front) {
  return {"among",
          With(front),
          {Entry(8, 15, 1, Permission::kWrite), Entry(9, 15, 2)},
          [](World &w) {
            w.Add(Entry(7, 15, 3));
            w.RemoveExact(Entry(9, 15, 2));
          },
          {{10, {2, 3}}}};
}

sched::Options Bounds(std::uint32_t preemptions, std::uint32_t stale) {
  // A lookup, and the writer, read the same versions again and again, which is
  // no spin loop: with the default the scheduler would make them wait, and see
  // next to nothing.
  return {.preemptions = preemptions, .stale = stale, .rereads = 12};
}

void ExploreAll(const Scene &scene, sched::Options options) {
  options.name = scene.name;
  const sched::Report report = sched::Explore(options, BodyOf(scene));
  EXPECT_TRUE(report.ok && report.complete && !report.cut_history) << report;
  EXPECT_GT(report.executions, 90u) << report;
  testing::Test::RecordProperty(scene.name, std::to_string(report.executions));
}

class IotlbSched : public testing::TestWithParam<FrontPolicy> {};
INSTANTIATE_TEST_SUITE_P(Front, IotlbSched,
                         testing::Values(FrontPolicy::kOn, FrontPolicy::kOff));

TEST_P(IotlbSched, AddAndRemove) {
  ExploreAll(AddOne(GetParam()), Bounds(2, 2));
  ExploreAll(RemoveOne(GetParam(), Way::kIotlb), Bounds(2, 3));
  ExploreAll(Replace(GetParam(), Way::kIotlb), Bounds(1, 3));
  ExploreAll(Move(GetParam()), Bounds(1, 2));
  ExploreAll(ClearAll(GetParam()), Bounds(1, 3));
}

// Whoever asks for the memory alone does not look at the record.
TEST(IotlbSchedPages, EachAnswerWasRight) {
  constexpr Way kPage = Way::kPage;
  constexpr auto kOn = FrontPolicy::kOn;
  ExploreAll(AddOne(kOn, kPage), Bounds(2, 2));
  ExploreAll(RemoveOne(kOn, kPage), Bounds(2, 3));
  ExploreAll(Replace(kOn, kPage), Bounds(1, 3));
  ExploreAll(Move(kOn, kPage), Bounds(1, 2));
  ExploreAll(ClearAll(kOn, kPage), Bounds(1, 3));
  ExploreAll(Split(kOn, 9, kPage), Bounds(1, 2));
  ExploreAll(Split(kOn, 20, kPage), Bounds(1, 2));
  ExploreAll(Merge(kOn, kPage), Bounds(1, 3));
  ExploreAll(Cover(kOn, kPage), Bounds(1, 2));
  ExploreAll(Uncover(kOn, kPage), Bounds(1, 4));
}

TEST(IotlbSchedTables, ServeOtherRegions) {
  ExploreAll(ReuseTables(Way::kIotlb), Bounds(1, 2));
  ExploreAll(ReuseTables(Way::kPage), Bounds(1, 2));
  ExploreAll(ReuseByRemove(Way::kPage), Bounds(1, 1));
}
// The scene is what it says: a table goes, and serves again.
TEST(IotlbSchedTables, GoAndComeAgainByRemove) {
  sched::Options options = Bounds(0, 0);
  options.name = "reuse_by_remove_alone";
  const sched::Report report = sched::Explore(options, [] {
    const Scene scene = ReuseByRemove(Way::kIotlb);
    World world;
    sched::Check(world.iotlb.Init().ok(), "Init");
    for (const IotlbEntry &entry : scene.start) world.Add(entry);
    const std::size_t all = world.iotlb.stats().front_tables;
    const std::size_t bytes = world.iotlb.stats().memory_bytes;
    world.Remove(16, 16);
    world.Remove(24, 24);
    sched::Check(world.iotlb.stats().front_tables == all, "gone too early");
    world.Add(Entry(16, 31, 6));
    sched::Check(world.iotlb.stats().front_tables == all - 1, "not gone");
    world.Add(Entry(72, 79, 7));
    sched::Check(world.iotlb.stats().front_tables == all, "no new one");
    sched::Check(world.iotlb.stats().memory_bytes == bytes, "not the same");
  });
  EXPECT_TRUE(report.ok) << report;
}

// --- Tables that go before they are empty.

// As if `shape` did not count: the writer stores no new one.
template <class T>
class Uncounted;

}  // namespace

template <>
struct AtomTraits<Uncounted> : AtomTraits<sched::Atomic> {
  static inline std::size_t skipped = 0;
};

namespace {

template <class T>
class Uncounted : public sched::Atomic<T> {
 public:
  using sched::Atomic<T>::Atomic;
  void store(T value, std::memory_order order,
             sched::Site site = sched::Site::Here()) {
    const bool counts = sched::FunctionName(site.function) == "CountShape";
    if (counts && sched::ThreadIndex() == 1) {
      ++AtomTraits<Uncounted>::skipped;
      return;
    }
    sched::Atomic<T>::store(value, order, site);
  }
};
struct UncountedPolicies : SchedPolicies {
  template <class T>
  using Atom = Uncounted<T>;
};

// A mapping far away makes a root of 13 levels; the first one lies at the end
// of a chain of twelve tables, and a long one that overlaps two others far away
// is worth as many more. It goes, and with it more tables than lie there: the
// chain, too, is worth little. `comes`: another mapping comes beside the first,
// and takes those tables. The first is there all the time; another overlapped
// it, so that what the front says of it is looked at twice.
template <class Policies>
sched::Body CollapseBody(Way way, bool comes) {
  return [=] {
    constexpr std::uint64_t kFar = std::uint64_t{8} << 12;
    const IotlbEntry stays = Entry(16, 23, 1), beside = Entry(17, 23, 2),
                     goes = Entry(kFar + 1, kFar + 807, 4);
    BasicIotlb<Policies> iotlb;
    sched::Check(iotlb.Init().ok() && iotlb.Add(stays).ok() &&
                     iotlb.Add(beside).ok() &&
                     iotlb.RemoveExact(beside.range, beside.token).ok() &&
                     iotlb.Add(Entry(kFar, kFar + 7, 3)).ok() &&
                     iotlb.Add(Entry(kFar + 800, kFar + 807, 3)).ok() &&
                     iotlb.Add(goes).ok(),
                 "Add");
    const std::size_t tables = iotlb.stats().front_tables;
    // The reader first: so one switch is enough to find it in any table.
    sched::RunThreads(
        {[&] {
           const Iova at(18);
           const PhysAddr memory = TranslationOf(stays, at).address;
           const auto is_it = [&](const auto &t) {
             sched::Check(t.ok() && t->address == memory,
                          "a miss of what stays mapped");
           };
           if (way == Way::kPage) {
             is_it(iotlb.LookupPage(at, kRead));
           } else {
             is_it(iotlb.Lookup(at, kRead));
           }
         },
         [&] {
           sched::Check(iotlb.RemoveExact(goes.range, goes.token).ok(),
                        "RemoveExact");
           const std::size_t left = iotlb.stats().front_tables;
           sched::Check(left + 12 < tables, "the chain is there");
           if (!comes) return;
           sched::Check(iotlb.Add(Entry(72, 79, 5)).ok(), "Add");
           sched::Check(iotlb.stats().front_tables > left, "no new table");
         }},
        [&] { sched::Check(iotlb.CheckInvariants(), "invariants"); });
  };
}

// Trimming asks the tree for each table.
sched::Options TrimBounds(const char *name) {
  sched::Options options = Bounds(1, 0);
  options.rereads = 1000;
  options.name = name;
  return options;
}

TEST(IotlbSchedTables, GoUnderReaders) {
  for (const Way way : {Way::kIotlb, Way::kPage}) {
    const bool comes = way == Way::kIotlb;
    const sched::Report report =
        sched::Explore(TrimBounds(comes ? "collapse_and_reuse" : "collapse"),
                       CollapseBody<SchedPolicies>(way, comes));
    EXPECT_TRUE(report.ok && report.complete && !report.cut_history) << report;
    EXPECT_GT(report.executions, 90u) << report;
  }
}
// Not of LookupPage, which finds no memory in such a table and looks again.
TEST(IotlbSchedTables, UncountedShapesAreFound) {
  AtomTraits<Uncounted>::skipped = 0;
  const sched::Report report =
      sched::Explore(TrimBounds("uncounted"),
                     CollapseBody<UncountedPolicies>(Way::kIotlb, false));
  EXPECT_GT(AtomTraits<Uncounted>::skipped, 0u);
  EXPECT_EQ(report.failure, "T1: a miss of what stays mapped") << report;
}

TEST_P(IotlbSched, FreeBehindSections) {
  for (const Way way : {Way::kSection, Way::kHint, Way::kPageSection}) {
    ExploreAll(RemoveOne(GetParam(), way), Bounds(2, 2));
    ExploreAll(Replace(GetParam(), way), Bounds(1, 3));
    ExploreAll(Retire(GetParam(), way), Bounds(1, 2));
  }
}

TEST_P(IotlbSched, SplitMergeRetire) {
  for (const std::uint64_t at : {9u, 20u}) {
    ExploreAll(Split(GetParam(), at), Bounds(1, 2));
  }
  ExploreAll(Split(GetParam(), 9, Way::kHint), Bounds(1, 2));
  ExploreAll(Merge(GetParam()), Bounds(1, 3));
  ExploreAll(Merge(GetParam(), Way::kHint), Bounds(1, 3));
  ExploreAll(Retire(GetParam(), Way::kIotlb), Bounds(1, 2));
}

TEST_P(IotlbSched, Overlaps) {
  ExploreAll(Cover(GetParam()), Bounds(1, 2));
  ExploreAll(Cover(GetParam(), Way::kHint), Bounds(1, 3));
  ExploreAll(Uncover(GetParam()), Bounds(1, 4));
  ExploreAll(Among(GetParam()), Bounds(1, 2));
}

// A walk visits what is there all the time, once and whole, and of the rest
// only what is there at some moment.
sched::Body WalkBody(const Scene &scene, std::uint64_t always) {
  return [scene, always] {
    World world;
    sched::Check(world.iotlb.Init(scene.options).ok(), "Init");
    for (const IotlbEntry &entry : scene.start) world.Add(entry);
    sched::RunThreads(
        {[&] { scene.change(world); },
         [&] {
           int met = 0;
           Iova last;
           world.iotlb.ForEach([&](const IotlbEntry &entry) {
             met += entry.token == always ? 1 : 0;
             const std::uint64_t first = entry.range.first().value();
             sched::Check(entry == Entry(first, first + 7, entry.token),
                          "a torn entry");
             sched::Check(last <= entry.range.first(), "out of order");
             sched::Check(
                 world.memory[entry.token] == static_cast<int>(entry.token),
                 "memory before Add");
             last = entry.range.first();
           });
           sched::Check(met == 1, "not visited once");
         }},
        [&] { sched::Check(world.iotlb.CheckInvariants(), "invariants"); });
  };
}

TEST_P(IotlbSched, Walk) {
  // In one leaf, and where the leaf that the walk goes to moves.
  Scene two = Move(GetParam());
  two.name = "walk_two_leaves";
  two.start = {Entry(8, 15, 2), Entry(24, 31, 1)};
  for (std::uint64_t i = 0; i < 7; ++i) {
    two.start.push_back(Entry(64 + 16 * i, 71 + 16 * i, 4));
  }
  for (const Scene &scene : {Move(GetParam()), ReplaceOne(GetParam()), two,
                             Recycle(GetParam(), kBehind)}) {
    sched::Options options = Bounds(1, 2);
    options.name = scene.name;
    const sched::Report report = sched::Explore(options, WalkBody(scene, 1));
    EXPECT_TRUE(report.ok && report.complete && !report.cut_history) << report;
    EXPECT_GT(report.executions, 90u) << report;
  }
}

// What a range translates to while mappings come and go: all of it, each part
// as it was at some moment, and what stays, whole.
sched::Body TranslateBody(const Scene &scene) {
  return [scene] {
    World world;
    sched::Check(world.iotlb.Init(scene.options).ok(), "Init");
    for (const IotlbEntry &entry : scene.start) world.Add(entry);
    sched::RunThreads(
        {[&] { scene.change(world); },
         [&] {
           std::uint64_t at = 0;
           int stays = 0;
           const auto emit = [&](const Segment &s) {
             sched::Check(s.range.first().value() == at, "a gap");
             at = s.range.last().value() + 1;
             if (s.kind != SegmentKind::kMapped) return true;
             sched::Check(
                 s.address.value() == s.token * 1000 + s.range.first().value(),
                 "another mapping's memory");
             sched::Check(world.memory[s.token] == static_cast<int>(s.token),
                          "memory before Add");
             stays += s.token == 1 && s.range == RangeOf(24, 31);
             return true;
           };
           sched::Check(
               world.iotlb.ForEachSegment(RangeOf(0, 39), kRead, emit).ok(),
               "ForEachSegment");
           sched::Check(at == 40 && stays == 1, "not all of it");
         }},
        [&] { (void)world; });
  };
}

// --- Records that serve elsewhere while somebody reads them.

enum class Ask : std::uint8_t { kWalk, kNext, kTranslate, kReverse, kLookup };

// Asks for bytes [0, 10] of [8, 15], by a walk a leaf at a time or an entry at
// a time, by memory, or for byte 9; a copy of the record's next life must not
// be taken for an answer.
template <class I>
void AskOnce(const I &iotlb, Ask ask) {
  const IotlbEntry old = Entry(8, 15, 2);
  const auto visit = [&](const IotlbEntry &entry) {
    sched::Check(entry == old, "a mapping outside of the query");
  };
  switch (ask) {
    case Ask::kWalk:
      iotlb.ForEach(RangeOf(0, 10), visit);
      break;
    case Ask::kNext: {
      const Result<IotlbEntry> region = iotlb.Region(Iova(9));
      if (region.ok()) visit(*region);
      break;
    }
    case Ask::kTranslate: {
      std::uint64_t at = 0;
      const auto emit = [&](const Segment &s) {
        sched::Check(s.range.first().value() == at, "a gap");
        at = s.range.last().value() + 1;
        sched::Check(s.kind == SegmentKind::kMiss ||
                         (s.range == RangeOf(8, 10) && s.token == 2 &&
                          s.address == old.address),
                     "a mapping outside of the query");
        return true;
      };
      (void)iotlb.ForEachSegment(RangeOf(0, 10), kRead, emit).ok();
      sched::Check(at == 11, "not all of it");
      break;
    }
    case Ask::kReverse:
      // From before it on, so that its beginning alone puts it in the range.
      iotlb.ForEachMappingOf(*PhysRange::FromSize(old.address - 8, 11), visit);
      break;
    case Ask::kLookup: {
      const Result<Translation> t = iotlb.Lookup(Iova(9), kRead);
      sched::Check(!t.ok() || *t == TranslationOf(old, Iova(9)),
                   "a mapping outside of the query");
      break;
    }
  }
}

template <class Policies>
sched::Body RecycleBody(FrontPolicy front, std::uint64_t comes, Ask ask) {
  return [=] {
    BasicIotlb<Policies> iotlb;
    sched::Check(iotlb.Init(With(front)).ok(), "Init");
    sched::Check(iotlb.Add(Entry(8, 15, 2)).ok(), "Add");
    sched::Check(iotlb.Add(Entry(24, 31, 1)).ok(), "Add");
    sched::RunThreads(
        {[&] {
           sched::Check(iotlb.Remove(RangeOf(8, 8)).ok(), "Remove");
           sched::Check(iotlb.Add(Entry(comes, comes + 7, 3)).ok(), "Add");
         },
         [&] { AskOnce(iotlb, ask); }},
        [&] { sched::Check(iotlb.CheckInvariants(), "invariants"); });
  };
}

struct ReversePolicies : SchedPolicies {
  static constexpr bool kReverse = true;
};

// What asks by the entry asks where the next life begins before the byte: one
// that begins behind it ends the search, and rightly.
std::uint64_t WorstFor(Ask ask) {
  return ask == Ask::kLookup || ask == Ask::kNext ? kBefore : kBehind;
}
constexpr Ask kAsks[] = {Ask::kWalk, Ask::kNext, Ask::kTranslate, Ask::kReverse,
                         Ask::kLookup};

TEST_P(IotlbSched, RecycledRecords) {
  sched::Options options = Bounds(1, 2);
  options.name = "recycled";
  for (const Ask ask : kAsks) {
    const sched::Report report = sched::Explore(
        options, RecycleBody<ReversePolicies>(GetParam(), WorstFor(ask), ask));
    EXPECT_TRUE(report.ok && report.complete && !report.cut_history) << report;
    EXPECT_GT(report.executions, 40u) << report;
  }
  ExploreAll(Recycle(GetParam(), kBefore), Bounds(1, 2));
  ExploreAll(Recycle(GetParam(), kBehind, Way::kHint), Bounds(1, 2));
}
// The scene is what it says: the same record, of another range.
TEST(IotlbSchedRecycled, TheRecordServesAgain) {
  BasicIotlb<IotlbPolicies> iotlb;
  ASSERT_TRUE(iotlb.Init().ok());
  ASSERT_TRUE(iotlb.Add(Entry(8, 15, 2)).ok());
  const auto old = iotlb.First(Range::Whole());
  ASSERT_EQ(*iotlb.Remove(RangeOf(8, 8)), 1u);
  ASSERT_TRUE(iotlb.Add(Entry(kBehind, kBehind + 7, 3)).ok());
  EXPECT_TRUE(iotlb.First(Range::Whole()) == old);
}

// Negative control: as if nobody asked for the node's version behind the copy
// of a record (tree_walk.h, iotlb_index.h). A load of the version says what it
// said when the node was entered, if the last fence before this check's was
// that of Read (record.h); the writer's loads are left alone.
template <class T>
class Trusting;

}  // namespace

template <>
struct AtomTraits<Trusting> : AtomTraits<sched::Atomic> {
  static inline bool behind_read = false, skips = false;
  static inline std::size_t skipped = 0;

  static void Fence(std::memory_order order, sched::Site site) {
    if (sched::ThreadIndex() == 1) {
      const bool check = sched::FunctionName(site.function) == "IsStill";
      const bool of_node = sched::BaseName(site) == "tree_node.h";
      skips = check && of_node && behind_read;
      behind_read = check && !of_node;
    }
    AtomTraits<sched::Atomic>::Fence(order, site);
  }
};

namespace {

template <class T>
class Trusting : public sched::Atomic<T> {
 public:
  using sched::Atomic<T>::Atomic;
  T load(std::memory_order order,
         sched::Site site = sched::Site::Here()) const {
    using Traits = AtomTraits<Trusting>;
    const bool reader = sched::ThreadIndex() == 1;
    if (reader && std::exchange(Traits::skips, false)) {
      ++Traits::skipped;
      return entered_;
    }
    const T value = sched::Atomic<T>::load(order, site);
    if (reader && sched::FunctionName(site.function) == "Version") {
      entered_ = value;
    }
    return value;
  }

 private:
  mutable T entered_{};
};

struct TrustingPolicies : ReversePolicies {
  template <class T>
  using Atom = Trusting<T>;
};

TEST(IotlbSchedRecycled, EachReaderAsksForTheVersionBehindTheCopy) {
  for (const Ask ask : kAsks) {
    AtomTraits<Trusting>::skipped = 0;
    const sched::Report report = sched::Explore(
        Bounds(1, 2),
        RecycleBody<TrustingPolicies>(FrontPolicy::kOff, WorstFor(ask), ask));
    EXPECT_GT(AtomTraits<Trusting>::skipped, 0u);
    // Who cuts a range into segments asserts what he is given.
    EXPECT_EQ(report.failure, ask == Ask::kTranslate
                                  ? "T2: entry.range.Overlaps(query_)"
                                  : "T2: a mapping outside of the query")
        << static_cast<int>(ask) << report;
  }
}

// --- Merges beside walks that have passed the place of what takes over.

// The reader goes on from its first look at the record that goes only when the
// writer has begun, so that one switch back is enough to meet every state of
// the change.
template <class T>
class Gated;

}  // namespace

template <>
struct AtomTraits<Gated> : AtomTraits<sched::Atomic> {
  static inline bool closed = false, joins = true;
  static inline int looks = 0;  // at records before that one
  static inline sched::Atomic<int> *arrived = nullptr, *begun = nullptr;

  static void Pass(sched::Site site) {
    if (!closed || sched::ThreadIndex() != 1 ||
        sched::FunctionName(site.function) != "meta") {
      return;
    }
    if (looks-- > 0) return;
    closed = false;
    arrived->store(1, std::memory_order_release);
    while (begun->load(std::memory_order_acquire) == 0) {
    }
  }
};

namespace {

template <class T>
class Gated : public sched::Atomic<T> {
 public:
  using sched::Atomic<T>::Atomic;
  T load(std::memory_order order,
         sched::Site site = sched::Site::Here()) const {
    AtomTraits<Gated>::Pass(site);
    const T value = sched::Atomic<T>::load(order, site);
    return AtomTraits<Gated>::joins ||
                   sched::FunctionName(site.function) != "Joined"
               ? value
               : T{};
  }
};

struct GatedPolicies : ReversePolicies {
  template <class T>
  using Atom = Gated<T>;
};

// Two leaves: the second one begins with [112, 119], which what comes at 104
// is joined with; the new mapping is the last one of the first leaf.
template <class Visit>
void AskForJoined(const BasicIotlb<GatedPolicies> &iotlb, Ask ask,
                  Visit &&visit) {
  if (ask == Ask::kTranslate) {
    const auto emit = [&](const Segment &s) {
      if (s.kind == SegmentKind::kMapped) visit(s.token);
      return true;
    };
    (void)iotlb.ForEachSegment(RangeOf(112, 119), kRead, emit).ok();
  } else if (ask == Ask::kNext) {
    const Result<IotlbEntry> region = iotlb.Region(Iova(113));
    if (region.ok()) visit(region->token);
  } else if (ask == Ask::kWalk) {
    iotlb.ForEach(RangeOf(112, 119),
                  [&](const IotlbEntry &entry) { visit(entry.token); });
  } else {
    iotlb.ForEachMappingOf(
        *PhysRange::FromSize(Entry(104, 111, 3).address, 16),
        [&](const IotlbEntry &entry) { visit(entry.token); });
  }
}

sched::Body JoinBody(Ask ask) {
  return [=] {
    BasicIotlb<GatedPolicies> iotlb;
    sched::Atomic<int> arrived(0), begun(0);
    AtomTraits<Gated>::arrived = &arrived;
    AtomTraits<Gated>::begun = &begun;
    AtomTraits<Gated>::closed = false;
    sched::Check(iotlb
                     .Init({.merge_policy = MergePolicy::kMerge,
                            .front_policy = FrontPolicy::kOff})
                     .ok(),
                 "Init");
    for (std::uint64_t i = 0; i < 9; ++i) {
      // By memory the first of the second leaf: behind the first byte of what
      // comes and before what goes for it. A walk that has passed it goes on
      // behind it.
      sched::Check(i != 7 || ask != Ask::kReverse ||
                       iotlb.Add(Entry(1106, 1109, 2)).ok(),
                   "Add");
      sched::Check(iotlb.Add(Entry(16 * i, 16 * i + 7, i < 7 ? 2 : 3)).ok(),
                   "Add");
    }
    AtomTraits<Gated>::looks = ask == Ask::kReverse ? 1 : 0;
    AtomTraits<Gated>::closed = true;
    sched::RunThreads(
        {[&] {
           while (arrived.load(std::memory_order_acquire) == 0) {
           }
           begun.store(1, std::memory_order_release);
           sched::Check(iotlb.Add(Entry(104, 111, 3)).ok(), "Add");
         },
         [&] {
           std::size_t met = 0;
           AskForJoined(iotlb, ask, [&](std::uint64_t token) {
             met += token == 3 ? 1 : 0;
           });
           sched::Check(met > 0, "a miss of what stays mapped");
         }},
        [&] {
          sched::Check(iotlb.size() == (ask == Ask::kReverse ? 10u : 9u) &&
                           iotlb.CheckInvariants(),
                       "invariants");
        });
  };
}

constexpr Ask kAsksForJoined[] = {Ask::kTranslate, Ask::kNext, Ask::kWalk,
                                  Ask::kReverse};

TEST(IotlbSched, MergesAheadOfWalks) {
  sched::Options options = Bounds(1, 0);
  options.name = "join";
  for (const Ask ask : kAsksForJoined) {
    const sched::Report report = sched::Explore(options, JoinBody(ask));
    EXPECT_TRUE(report.ok && report.complete && !report.cut_history)
        << static_cast<int>(ask) << report;
    EXPECT_GT(report.executions, 90u) << static_cast<int>(ask) << report;
  }
}

// --- Two that change, with the IOTLB's lock, and misses.

struct LockedPolicies : SchedPolicies {
  using WriterLock = BasicSpinLock<sched::Atomic>;
};

// A mapping comes, and is used in a section, as another writer clears all: if
// it has gone by that, its memory may be freed.
sched::Body ClearBesideAdd() {
  return [] {
    BasicIotlb<LockedPolicies> iotlb;
    BasicIotlb<LockedPolicies>::Reader reader;
    sched::Atomic<int> added(0);
    sched::Plain<int> memory(7);
    sched::Check(iotlb.Init(With(FrontPolicy::kOff)).ok(), "Init");
    sched::Check(reader.Init(iotlb).ok(), "Reader::Init");
    sched::RunThreads(
        {[&] {
           iotlb.Clear();
           if (added.load(std::memory_order_acquire) == 1 &&
               !iotlb.Lookup(Iova(9), kRead).ok()) {
             memory = 0;
           }
         },
         [&] {
           sched::Check(iotlb.Add(Entry(8, 15, 2)).ok(), "Add");
           const BasicIotlb<LockedPolicies>::Reader::Section section(reader);
           const bool found = reader.Lookup(Iova(9), kRead).ok();
           added.store(1, std::memory_order_release);
           if (found) sched::Check(memory == 7, "freed memory");
         }},
        [&] { sched::Check(iotlb.CheckInvariants(), "invariants"); });
  };
}

// A miss is reported twice as its mapping comes: it is new once at most, and
// answered in the end.
sched::Body MissBesideAdd() {
  return [] {
    SchedIotlb iotlb;
    sched::Check(
        iotlb.Init({.front_policy = FrontPolicy::kOff, .pending_misses = 2})
            .ok(),
        "Init");
    sched::RunThreads(
        {[&] { sched::Check(iotlb.Add(Entry(8, 15, 2)).ok(), "Add"); },
         [&] {
           const MissReport first = iotlb.ReportMiss(Iova(9), kRead);
           const MissReport second = iotlb.ReportMiss(Iova(9), kRead);
           const bool once = first == MissReport::kNew
                                 ? second == MissReport::kPending ||
                                       second == MissReport::kAnswered
                                 : first == MissReport::kAnswered &&
                                       second == MissReport::kAnswered;
           sched::Check(once, "reported twice");
         }},
        [&] {
          std::size_t waiting = 0;
          iotlb.ForEachPendingMiss([&](const PendingMiss &) { ++waiting; });
          sched::Check(waiting == 0, "an answered miss still waits");
        });
  };
}

TEST(IotlbSchedWriters, ClearBesideAddAndMissBesideAdd) {
  for (const bool clear : {true, false}) {
    sched::Options options = Bounds(1, 2);
    options.name = clear ? "clear_beside_add" : "miss_beside_add";
    const sched::Report report =
        sched::Explore(options, clear ? ClearBesideAdd() : MissBesideAdd());
    EXPECT_TRUE(report.ok && report.complete && !report.cut_history) << report;
    EXPECT_GT(report.executions, 40u) << report;
    testing::Test::RecordProperty(options.name,
                                  std::to_string(report.executions));
  }
}

// A region that a neighbour makes longer, and that then loses its beginning.
sched::Body RegionBody(FrontPolicy front, MergePolicy merge) {
  return [front, merge] {
    World world;
    sched::Check(
        world.iotlb.Init({.merge_policy = merge, .front_policy = front}).ok(),
        "Init");
    world.Add(Entry(8, 15, 2));
    sched::RunThreads(
        {[&] {
           (void)world.iotlb.Add(Entry(16, 23, 2)).ok();
           world.Done(1);
           world.Remove(8, 8);
           world.Done(2);
         },
         [&] {
           const int before = world.done.load(std::memory_order_acquire);
           const Result<IotlbEntry> region = world.iotlb.Region(Iova(9));
           if (!region.ok()) return;
           sched::Check(before < 2, "a region that was gone");
           sched::Check(
               *region == Entry(8, 23, 2) ||
                   (before < 1 && *region == Entry(8, 15, 2)) ||
                   // Its end may have gone as it was looked at.
                   (merge == MergePolicy::kKeep && *region == Entry(8, 15, 2)),
               "a region that never was");
         }},
        [&] { sched::Check(world.iotlb.CheckInvariants(), "invariants"); });
  };
}

TEST_P(IotlbSched, TranslateAndRegion) {
  sched::Options options = Bounds(1, 2);
  sched::Report report;
  for (const Scene &scene : {Move(GetParam()), ReplaceOne(GetParam()),
                             Recycle(GetParam(), kBehind)}) {
    options.name = scene.name;
    report = sched::Explore(options, TranslateBody(scene));
    EXPECT_TRUE(report.ok && report.complete && !report.cut_history) << report;
    EXPECT_GT(report.executions, 90u) << report;
  }
  for (const MergePolicy merge : {MergePolicy::kKeep, MergePolicy::kMerge}) {
    options.name = "region";
    report = sched::Explore(options, RegionBody(GetParam(), merge));
    EXPECT_TRUE(report.ok && report.complete && !report.cut_history) << report;
    EXPECT_GT(report.executions, 40u) << report;
  }
}

// `weaken` fails `body`, and is an access of it that was stronger.
void ExpectFound(const sched::Weaken &weaken, const sched::Body &body,
                 std::uint32_t stale = 3) {
  std::vector<sched::Op> sites;
  sched::Options options = Bounds(1, stale);
  options.sites = &sites;
  options.weaken = weaken;
  const sched::Report report = sched::Explore(options, body);
  std::size_t weakened = 0;
  for (const sched::Op &op : sites) {
    if (weaken.Matches(op.site, op.name) && op.order != weaken.to) ++weakened;
  }
  EXPECT_GT(weakened, 0u) << weaken.function << ": no such order";
  EXPECT_FALSE(report.ok) << weaken.function << ": not found by " << report;
}
void ExpectFound(const sched::Weaken &weaken, const Scene &scene,
                 std::uint32_t stale = 3) {
  ExpectFound(weaken, BodyOf(scene), stale);
}

// Not among them, as a fence nearby does the same: Changes and NoChangeSince
// (C2; the fences of IsStill come between), the fences of CountShape and
// IsShape (P1, P2; each slot is stored with release and loaded with acquire).
// They stay, each edge with both its ends, for what may change nearby.
TEST(IotlbSched, WeakerOrdersAreFound) {
  constexpr auto kOn = FrontPolicy::kOn, kOff = FrontPolicy::kOff;
  ExpectFound({.function = "Load"}, AddOne(kOn));                     // F2
  ExpectFound({.function = "Store"}, Move(kOn));                      // F1
  ExpectFound({.function = "meta"}, Replace(kOn, Way::kIotlb));       // R2
  ExpectFound({.function = "GoLive"}, Replace(kOn, Way::kIotlb));     // R1
  ExpectFound({.function = "Fill"}, Replace(kOn, Way::kIotlb));       // R3
  ExpectFound({.function = "IsExactly"}, Replace(kOn, Way::kIotlb));  // R4
  ExpectFound({.function = "IsStill"}, Replace(kOff, Way::kIotlb));   // R4
  ExpectFound({.function = "Kill"}, Split(kOff, 20));
  ExpectFound({.function = "CountChange"}, Among(kOff));  // C1
  ExpectFound({.function = "Shape"}, Split(kOn, 9));      // P2
  ExpectFound({.function = "CountShape", .access = "store"},
              Split(kOn, 9));  // P1
}

// Of what a lookup by page trusts without a look at the record.
TEST(IotlbSched, WeakerOrdersOfPagesAreFound) {
  constexpr auto kOn = FrontPolicy::kOn;
  ExpectFound({.function = "Load"}, Move(kOn, Way::kPage));          // F2
  ExpectFound({.function = "Store"}, Move(kOn, Way::kPage));         // F1
  ExpectFound({.function = "Shape"}, ReuseTables(Way::kPage), 1);    // P2
  ExpectFound({.function = "Shape"}, ReuseByRemove(Way::kPage), 1);  // P2
}

// Of walks, of ranges cut into segments and of regions.
TEST(IotlbSched, WeakerOrdersOfWalksAreFound) {
  const Scene replace = ReplaceOne(FrontPolicy::kOff);
  for (const sched::Body &body :
       {WalkBody(replace, 1), TranslateBody(replace)}) {
    ExpectFound({.function = "meta"}, body);     // R2
    ExpectFound({.function = "GoLive"}, body);   // R1
    ExpectFound({.function = "Fill"}, body);     // R3
    ExpectFound({.function = "IsStill"}, body);  // R4
  }
  for (const MergePolicy merge : {MergePolicy::kKeep, MergePolicy::kMerge}) {
    const sched::Body body = RegionBody(FrontPolicy::kOff, merge);
    ExpectFound({.function = "Start"}, body);            // S2
    ExpectFound({.function = "PublishRootWord"}, body);  // S1
  }
}

// As if a mapping that another took over from died before it left the tree.
TEST(IotlbSched, WeakerOrdersOfMergesAreFound) {
  for (const Ask ask : {Ask::kTranslate, Ask::kNext, Ask::kWalk}) {
    SCOPED_TRACE(static_cast<int>(ask));
    ExpectFound({.function = "Kill"}, JoinBody(ask), 2);
  }
}

// As if a walk by memory did not look again behind a merge (iotlb_index.h): no
// mapping ever took over from others, as far as it is told.
TEST(IotlbSched, WalksByMemoryLookAgainBehindMerges) {
  AtomTraits<Gated>::joins = false;
  const sched::Report report =
      sched::Explore(Bounds(1, 0), JoinBody(Ask::kReverse));
  AtomTraits<Gated>::joins = true;
  EXPECT_EQ(report.failure, "T2: a miss of what stays mapped") << report;
}

TEST(IotlbSched, WeakerOrdersOfLocksAreFound) {
  ExpectFound({.function = "unlock"}, MissBesideAdd());    // U1
  ExpectFound({.function = "try_lock"}, MissBesideAdd());  // L1
}

TEST(IotlbSched, WeakerOrdersOfSectionsAreFound) {
  const Scene remove = RemoveOne(FrontPolicy::kOn, Way::kSection);
  const Scene replace = Replace(FrontPolicy::kOn, Way::kHint);
  ExpectFound({.function = "Enter", .access = "fence"}, remove);   // E1
  ExpectFound({.function = "Retire"}, remove);                     // E2
  ExpectFound({.function = "Leave"}, remove);                      // E3
  ExpectFound({.function = "IsOver"}, remove);                     // E4
  ExpectFound({.function = "Enter", .access = "store"}, replace);  // E3
}

}  // namespace
}  // namespace dmamap
