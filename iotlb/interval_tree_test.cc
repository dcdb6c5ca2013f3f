// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// The tree by itself: shapes that only certain orders of insertion make, and
// the negative control of its CheckInvariants.

#include "iotlb/interval_tree.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "iotlb/memory_for_test.h"
#include "iotlb/oracle_for_test.h"
#include "iotlb/record.h"
#include "iotlb/tree_walk.h"

namespace dmamap::inline v0 {

// Reaches into a tree, to break it.
struct IntervalTreeTestPeer {
  template <class Tree>
  static std::vector<typename Tree::Node *> Nodes(Tree &tree) {
    std::vector<typename Tree::Node *> nodes;
    const std::uint64_t word = tree.root().load();
    if (word != 0) Collect<Tree>(*Tree::NodeOf(word), word % 64, nodes);
    return nodes;
  }
  // A node's level is known from where it hangs.
  template <class Tree>
  static void Collect(typename Tree::Node &node, std::uint64_t level,
                      std::vector<typename Tree::Node *> &nodes) {
    nodes.push_back(&node);
    for (unsigned i = 0; level > 0 && i < node.size(); ++i) {
      Collect<Tree>(*node.child_at(i), level - 1, nodes);
    }
  }
};

namespace {

using Record = MappingRecord<>;
using Tree = IntervalTree<Record, HeapMemory, 8>;

// Records with the given ranges, in a tree.
class TreeTest : public testing::Test {
 protected:
  void Insert(std::uint64_t first, std::uint64_t last) {
    auto record = std::make_unique<Record>();
    record->Fill(
        {RangeOf(first, last), PhysAddr(0), Permission::kRead, records_.size()},
        next_id_++);
    record->GoLive();
    ASSERT_TRUE(tree_.Reserve());
    tree_.Insert(first, last, record.get());
    records_.push_back(std::move(record));
    ASSERT_TRUE(IsWhole(records_.size()));
  }
  void EraseAt(std::size_t i) {
    tree_.Erase(records_[i]->first(), records_[i].get());
    records_.erase(records_.begin() + static_cast<std::ptrdiff_t>(i));
    ASSERT_TRUE(IsWhole(records_.size()));
  }
  bool IsWhole(std::size_t records) const {
    return tree_.CheckInvariants(
        records, [](std::uint64_t first, std::uint64_t last, const Record &r) {
          return r.first() == first && r.last() == last;
        });
  }
  std::vector<std::uint64_t> Tokens(Range range) const {
    std::vector<std::uint64_t> tokens;
    TreeWalk<Tree> walk(tree_, range.first().value(), range.last().value());
    RecordCopy copy;
    while (walk.Next(copy)) tokens.push_back(copy.token);
    return tokens;
  }

  Tree tree_;
  std::vector<std::unique_ptr<Record>> records_;
  std::uint64_t next_id_ = 1;
};

TEST_F(TreeTest, EmptyTree) {
  EXPECT_EQ(tree_.height(), 0u);
  EXPECT_TRUE(Tokens(Range::Whole()).empty());
  EXPECT_TRUE(IsWhole(0));
}

TEST_F(TreeTest, AscendingInsertion) {
  for (std::uint64_t i = 0; i < 600; ++i) Insert(i * 10, i * 10 + 9);
  EXPECT_GE(tree_.height(), 4u);
  // 600 mappings at three quarters of 8 slots: 100 leaves.
  EXPECT_LE(IntervalTreeTestPeer::Nodes(tree_).size(), 130u);
  for (std::uint64_t i = 0; i < 6000; ++i) {
    ASSERT_EQ(Tokens(Range::Byte(Iova(i))),
              (std::vector<std::uint64_t>{i / 10}));
  }
}

TEST_F(TreeTest, DescendingInsertionAndRemovalFromBothEnds) {
  for (std::uint64_t i = 600; i-- > 0;) Insert(i * 10, i * 10 + 9);
  EXPECT_GE(tree_.height(), 4u);
  EXPECT_LE(IntervalTreeTestPeer::Nodes(tree_).size(), 160u);
  while (!records_.empty()) {
    EraseAt(0);
    if (!records_.empty()) EraseAt(records_.size() - 1);
  }
  EXPECT_EQ(tree_.height(), 0u);
}

// Nothing can fail in a removal: whatever came before, the memory is there.
TEST_F(TreeTest, RandomInsertionAndRemoval) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 4000; ++round) {
    if (records_.empty() || random() % 100 < (round < 2000 ? 65u : 35u)) {
      const std::uint64_t first = random() % 500;
      Insert(first, first + random() % 200);
    } else {
      EraseAt(random() % records_.size());
    }
  }
}

TEST_F(TreeTest, EqualFirstBytesKeepTheOrderOfInsertion) {
  Insert(0, 0);
  for (int i = 0; i < 300; ++i) Insert(5, 5 + static_cast<unsigned>(i) % 7);
  Insert(9, 9);
  const std::vector<std::uint64_t> tokens = Tokens(Range::Byte(Iova(5)));
  ASSERT_EQ(tokens.size(), 300u);
  EXPECT_TRUE(std::is_sorted(tokens.begin(), tokens.end()));
}

// A walk that has to find its place again, at each entry.
TEST_F(TreeTest, WalkResumesBehindAnEntry) {
  for (int i = 0; i < 100; ++i) Insert(5 + static_cast<unsigned>(i) / 40, 90);
  RecordCopy copy;
  std::uint64_t next = 0;
  for (std::uint64_t key = 0, id = 0; next < 100; key = copy.first) {
    TreeWalk<Tree> walk(tree_, 0, ~std::uint64_t{0});
    walk.Resume(key, id);
    ASSERT_TRUE(walk.Next(copy));
    EXPECT_EQ(copy.token, next++);
    id = copy.id;
  }
}

// One mapping covers all, the others are small: a walk at the far end must find
// it, and must not look at the small ones between.
TEST_F(TreeTest, WideMappingIsFoundBehindManySmallOnes) {
  Insert(0, ~std::uint64_t{0});
  for (std::uint64_t i = 1; i < 500; ++i) Insert(i * 16, i * 16 + 3);
  const auto at = Iova(499 * 16 + 2);
  EXPECT_EQ(Tokens(Range::Byte(at)), (std::vector<std::uint64_t>{0, 499}));
  EXPECT_EQ(Tokens(Range::Byte(Iova::Max())), std::vector<std::uint64_t>{0});
}

TEST_F(TreeTest, ClearTellsEachRecordInOrder) {
  for (std::uint64_t i = 0; i < 200; ++i) Insert(i, i);
  std::uint64_t next = 0;
  tree_.Clear([&](Record &record) { EXPECT_EQ(record.token(), next++); });
  EXPECT_EQ(next, 200u);
  EXPECT_TRUE(IsWhole(0));
}

TEST(IntervalTree, RefusedReserveChangesNothing) {
  FailingMemory::State state;
  IntervalTree<Record, FailingMemory, 8> tree{FailingMemory(&state)};
  state.fail_at = 0;
  EXPECT_FALSE(tree.Reserve());
  EXPECT_EQ(tree.height(), 0u);
  EXPECT_TRUE(tree.Reserve());
}

// Negative control: breaks one field at a time, in each node, and puts it back.
class BrokenTreeTest : public TreeTest {
 protected:
  void SetUp() override {
    std::mt19937_64 random(5);
    for (int i = 0; i < 150; ++i) {
      const std::uint64_t first = 8 + random() % 1000;
      Insert(first, first + random() % 100);
    }
    ASSERT_GE(tree_.height(), 3u);
  }

  template <class T>
  void ExpectFound(const char *what, std::atomic<T> &field, T broken) {
    const T good = field;
    field = broken;
    EXPECT_FALSE(IsWhole(records_.size())) << what;
    field = good;
    ASSERT_TRUE(IsWhole(records_.size())) << what;
  }
};

TEST_F(BrokenTreeTest, EveryBrokenSlotIsFound) {
  for (Tree::Node *node : IntervalTreeTestPeer::Nodes(tree_)) {
    for (unsigned i = 0; i < 8; ++i) {
      ExpectFound("reach", node->reach(i), node->reach(i) - 1);
      ExpectFound("first", node->first[i], node->first[i] - 1);
      if (i >= node->size()) continue;
      ExpectFound("reach", node->reach(i), node->reach(i) + 1);
      ExpectFound("first", node->first[i], node->first[i] + 1);
      ExpectFound("end", node->end[i], node->end[i] - 1);
      ExpectFound("end", node->end[i], node->end[i] + 1);
    }
    for (auto &pivot : node->pivot) {
      ExpectFound("pivot", pivot, pivot - 1);
    }
    ExpectFound("version", node->version, node->version + 1);
    ExpectFound("count", node->count, node->count - 1);
    ExpectFound("count", node->count, std::uint64_t{9});
  }
}

// The usual mistake: a change is not carried up. end[] and reach[] agree with
// each other, but not with the child.
TEST_F(BrokenTreeTest, ForgottenPropagationIsFound) {
  Tree::Node &root = *IntervalTreeTestPeer::Nodes(tree_).front();
  for (unsigned i = 0; i < root.size(); ++i) {
    std::vector<std::uint64_t> reach;
    for (unsigned k = 0; k < root.size(); ++k) reach.push_back(root.reach(k));
    const std::uint64_t pivot = root.pivot[0];
    --root.end[i];
    std::uint64_t largest = 0;
    for (unsigned k = 0; k < root.size(); ++k) {
      largest = std::max<std::uint64_t>(largest, root.end[k]);
      root.reach(k) = largest;
    }
    root.pivot[0] = root.reach(3).load();
    EXPECT_TRUE(root.CheckInvariants()) << "wrong by itself: no control";
    EXPECT_FALSE(IsWhole(records_.size()));
    ++root.end[i];
    for (unsigned k = 0; k < root.size(); ++k) root.reach(k) = reach[k];
    root.pivot[0] = pivot;
  }
  EXPECT_TRUE(IsWhole(records_.size()));
}

TEST_F(BrokenTreeTest, EveryBrokenRecordIsFound) {
  for (auto &record : records_) {
    const IotlbEntry good = record->entry();
    record->Kill();
    record->Fill({RangeOf(1, 2), PhysAddr(0), Permission::kRead, 0}, 1);
    EXPECT_FALSE(IsWhole(records_.size()));
    record->Fill(good, 1);
    record->GoLive();
  }
  EXPECT_TRUE(IsWhole(records_.size()));
  EXPECT_FALSE(IsWhole(records_.size() + 1));
  EXPECT_FALSE(IsWhole(records_.size() - 1));
}

}  // namespace
}  // namespace dmamap::inline v0
