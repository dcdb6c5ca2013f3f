// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// The tree alone under the deterministic scheduler: a search against inserts
// and erases that replace, split and join nodes and use them again.
//
// Every execution within the bounds of Bounds() is made. A search, and the
// writer, read the same versions again and again, which is no spin loop: with
// the default `rereads` the scheduler would make them wait, and see next to
// nothing.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "iotlb/interval_tree.h"
#include "iotlb/node_pool.h"
#include "testing/sched/explore.h"

namespace dmamap {
namespace {

template <class T>
class NoFinish;

}  // namespace

template <>
struct AtomTraits<NoFinish> : AtomTraits<sched::Atomic> {};

namespace {

struct Item {
  sched::Plain<int> value;  // what was written before Insert
};

// Negative control: N1 (tree_node.h) without its release.
template <class T>
class NoFinish : public sched::Atomic<T> {
 public:
  using sched::Atomic<T>::Atomic;
  void store(T value, std::memory_order order,
             sched::Site site = sched::Site::Here()) {
    const bool n1 = sched::FunctionName(site.function) == "Finish";
    sched::Atomic<T>::store(value, n1 ? std::memory_order_relaxed : order,
                            site);
  }
};

// Item n is [16n, 16n + 7].
template <template <class> class Atom>
class World {
  using Tree = IntervalTree<Item, HeapMemory, 8, Atom>;

 public:
  void Insert(int n) {
    Item& item = items_[static_cast<std::size_t>(n)];
    if (!std::exchange(written_[static_cast<std::size_t>(n)], true)) {
      item.value = n;
    }
    sched::Check(tree_.Reserve(), "no memory");
    tree_.Insert(FirstOf(n), FirstOf(n) + 7, &item);
  }
  void Erase(int n) {
    tree_.Erase(FirstOf(n), &items_[static_cast<std::size_t>(n)]);
  }
  void Clear() {
    tree_.Clear([](Item&) {});
  }
  // As IotlbCore looks up.
  bool Has(int n) const {
    typename Tree::Path path;
    for (;;) {
      const auto reached = path.FirstReaching(tree_.root(), FirstOf(n) + 3);
      if (reached == internal::Reached::kStale) continue;
      if (reached == internal::Reached::kNothing) return false;
      const auto& leaf = *path.leaf();
      const std::uint64_t first = leaf.first_at(path.index(0));
      const auto* const item =
          static_cast<const Item*>(leaf.slot_at(path.index(0)));
      if (!path.IsStill()) continue;
      if (first > FirstOf(n) + 3) return false;
      sched::Check(item != nullptr, "an unwritten slot");
      sched::Check(item->value == n, "another item");
      return true;
    }
  }
  void CheckInvariants(std::size_t size) const {
    sched::Check(tree_.CheckInvariants(
                     size,
                     [](std::uint64_t first, std::uint64_t, const Item& item) {
                       return FirstOf(item.value) == first;
                     }),
                 "invariants");
  }

 private:
  static std::uint64_t FirstOf(int n) {
    return 16 * static_cast<std::uint64_t>(n);
  }
  std::array<Item, 16> items_;
  std::array<bool, 16> written_{};  // what is used again is not written again
  Tree tree_;
};

struct Scene {
  std::vector<int> start;  // n: Insert(n); -n: Erase(n); 0: Clear()
  std::vector<int> change;
  // Searched for, each in turn; 0 ends.
  std::array<int, 2> look{};
};

// Whether `n` is in the tree after each step of the change.
std::vector<bool> StatesOf(const Scene& scene, int n) {
  bool in = false;
  for (const int step : scene.start)
    in = step == n || (in && step != -n && step != 0);
  std::vector<bool> states = {in};
  for (const int step : scene.change) {
    in = step == n || (in && step != -n && step != 0);
    states.push_back(in);
  }
  return states;
}

std::size_t SizeAfter(const Scene& scene) {
  std::size_t size = 0;
  for (const auto* steps : {&scene.start, &scene.change}) {
    for (const int step : *steps) {
      size = step == 0 ? 0 : step > 0 ? size + 1 : size - 1;
    }
  }
  return size;
}

template <class World>
void Make(World& world, const std::vector<int>& steps,
          const std::function<void(int)>& done) {
  int count = 0;
  for (const int step : steps) {
    step == 0  ? world.Clear()
    : step > 0 ? world.Insert(step)
               : world.Erase(-step);
    done(++count);
  }
}

// Each search says what was right after one step of the change, not before the
// step that is known to be done, nor before what the last search has said.
template <template <class> class Atom = sched::Atomic>
sched::Body BodyOf(const Scene& scene) {
  return [scene] {
    World<Atom> world;
    sched::Atomic<int> done(0);
    Make(world, scene.start, [](int) {});
    sched::RunThreads(
        {[&] {
           Make(world, scene.change,
                [&](int step) { done.store(step, std::memory_order_release); });
         },
         [&] {
           std::size_t step =
               static_cast<std::size_t>(done.load(std::memory_order_acquire));
           for (const int n : scene.look) {
             if (n == 0) break;
             const std::vector<bool> states = StatesOf(scene, n);
             const bool has = world.Has(n);
             while (step < states.size() && states[step] != has) ++step;
             sched::Check(step < states.size(), "never right");
           }
         }},
        [&] { world.CheckInvariants(SizeAfter(scene)); });
  };
}

const std::vector<int> kEight = {1, 2, 3, 4, 5, 6, 7, 8};
const std::vector<int> kTwoLeaves = {1, 2, 3, 4, 5, 6, 7, 8, 9};

// Name: start; change; look.
const Scene kFirst = {{}, {1, 2}, {2, 1}};
const Scene kLast = {{1, 2}, {-1, -2}, {1, 2}};
// The leaf is used again, and its slots stand for others.
const Scene kReuse = {{1, 2}, {3, -1}, {2}};
const Scene kAgain = {{1}, {-1, 1}, {1, 1}};
const Scene kBeside = {{1, 3}, {2, -1}, {3, 1}};
// The ninth splits the leaf, as the last or in the middle.
const Scene kSplitEnd = {kEight, {9}, {9, 8}};
const Scene kSplit = {{1, 2, 3, 4, 6, 7, 8, 9}, {5}, {9, 2}};
// In a leaf below an inner node, which then leads to another leaf.
const Scene kLead = {kTwoLeaves, {-3, 3}, {3, 4}};
const Scene kLeadFresh = {{1, 2, 4, 5, 6, 7, 8, 9, 10}, {3}, {3, 4}};
const Scene kEdge = {kTwoLeaves, {-9, 10}, {9, 8}};
// Two leaves become one, which is the root.
const Scene kJoin = {{1, 2, 3, 4, 5, 6, 7, 8, 9, -1, -2}, {-9}, {8, 9}};
// The root becomes a leaf of a tree and then the root again.
const Scene kCrossed = {kTwoLeaves, {10, -2}, {8}};
const Scene kRootAgain = {kEight, {9, -1, -2, -9}, {8}};

const Scene kClear = {{1, 2}, {0, 3}, {2, 3}};

sched::Options Bounds(std::uint32_t preemptions, std::uint32_t stale) {
  return {.preemptions = preemptions, .stale = stale, .rereads = 12};
}

void ExploreAll(const char* name, const Scene& scene, sched::Options options) {
  options.name = name;
  const sched::Report report = sched::Explore(options, BodyOf(scene));
  EXPECT_TRUE(report.ok && report.complete && !report.cut_history) << report;
  // Neither thread was made to wait for the other all the time.
  EXPECT_GT(report.executions, 100u) << report;
  testing::Test::RecordProperty(name, std::to_string(report.executions));
}

// `weaken` fails `body`, and is an access of it that was stronger.
void ExpectFound(const sched::Weaken& weaken, const sched::Body& body,
                 const sched::Options& bounds) {
  sched::Options options = bounds;
  std::vector<sched::Op> sites;
  options.sites = &sites;
  options.weaken = weaken;
  const sched::Report report = sched::Explore(options, body);
  std::size_t weakened = 0;
  for (const sched::Op& op : sites) {
    if (weaken.Matches(op.site, op.name) && op.order != weaken.to) ++weakened;
  }
  EXPECT_GT(weakened, 0u) << weaken.function << ": no such order";
  EXPECT_FALSE(report.ok) << weaken.function << ": not found\n" << report;
}

TEST(IntervalTreeSched, SearchAgainstOneLeaf) {
  ExploreAll("first", kFirst, Bounds(2, 3));
  ExploreAll("last", kLast, Bounds(2, 3));
  ExploreAll("reuse", kReuse, Bounds(1, 5));
  ExploreAll("again", kAgain, Bounds(2, 3));
  ExploreAll("beside", kBeside, Bounds(1, 5));
  ExploreAll("clear", kClear, Bounds(2, 3));
}

TEST(IntervalTreeSched, SearchAgainstSplitAndJoin) {
  ExploreAll("split_end", kSplitEnd, Bounds(1, 4));
  ExploreAll("split", kSplit, Bounds(1, 4));
  ExploreAll("join", kJoin, Bounds(1, 4));
  ExploreAll("root_again", kRootAgain, Bounds(1, 3));
}

TEST(IntervalTreeSched, SearchAgainstALeafBelow) {
  ExploreAll("lead", kLead, Bounds(1, 4));
  ExploreAll("lead_fresh", kLeadFresh, Bounds(1, 4));
  ExploreAll("edge", kEdge, Bounds(1, 4));
  ExploreAll("crossed", kCrossed, Bounds(1, 5));
}

TEST(IntervalTreeSched, WeakerOrdersAreFound) {
  const auto found = [](const sched::Weaken& weaken, const Scene& scene) {
    ExpectFound(weaken, BodyOf(scene), Bounds(1, 3));
  };
  found({.function = "Start"}, kFirst);                               // S2
  found({.function = "PublishRootWord", .access = "store"}, kSplit);  // S1
  found({.function = "Version"}, kReuse);                             // N2
  found({.function = "Fence"}, kReuse);                               // N3
  found({.function = "IsStill"}, kReuse);                             // N4
}

// N1 beside S1 is one edge too many: a reader looks again at the place that led
// to the node when it has the node's version. Without N1, S1 is needed. (S2 of
// a slot is needed in neither case: IsStill, which follows, is an acquire,
// too.)
TEST(IntervalTreeSched, OneOfTwoEdgesToANodeIsNeeded) {
  for (const Scene* scene : {&kReuse, &kLead, &kCrossed}) {
    const sched::Report report =
        sched::Explore(Bounds(1, 4), BodyOf<NoFinish>(*scene));
    EXPECT_TRUE(report.ok && report.complete) << report;
  }
  ExpectFound({.function = "Lead"}, BodyOf<NoFinish>(kLead), Bounds(1, 4));
}

}  // namespace
}  // namespace dmamap
