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

namespace dmamap::inline v0 {

// Reaches into a tree, to break it.
struct IntervalTreeTestPeer {
  template <class Tree>
  static std::vector<typename Tree::Node*> Nodes(Tree& tree) {
    std::vector<typename Tree::Node*> nodes;
    if (tree.root_ != nullptr) nodes.push_back(tree.root_);
    for (std::size_t n = 0; n < nodes.size(); ++n) {
      if (nodes[n]->level == 0) continue;
      for (unsigned i = 0; i < nodes[n]->count; ++i) {
        nodes.push_back(nodes[n]->child(i));
      }
    }
    return nodes;
  }
};

namespace {

using Tree = IntervalTree<HeapMemory, 8>;
using Record = Tree::Record;

// Records with the given ranges, in a tree.
class TreeTest : public testing::Test {
 protected:
  void Insert(std::uint64_t first, std::uint64_t last) {
    auto record = std::make_unique<Record>();
    record->range = RangeOf(first, last);
    record->token = records_.size();
    ASSERT_TRUE(tree_.Reserve());
    tree_.Insert(*record);
    records_.push_back(std::move(record));
    ASSERT_TRUE(tree_.CheckInvariants(records_.size()));
  }
  void EraseAt(std::size_t i) {
    tree_.Erase(*records_[i]);
    records_.erase(records_.begin() + static_cast<std::ptrdiff_t>(i));
    ASSERT_TRUE(tree_.CheckInvariants(records_.size()));
  }
  std::vector<std::uint64_t> Tokens(Range range) const {
    std::vector<std::uint64_t> tokens;
    for (auto at = tree_.First(range); at; at = tree_.Next(at, range)) {
      tokens.push_back(at.record()->token);
    }
    return tokens;
  }

  Tree tree_;
  std::vector<std::unique_ptr<Record>> records_;
};

TEST_F(TreeTest, EmptyTree) {
  EXPECT_TRUE(tree_.empty());
  EXPECT_EQ(tree_.height(), 0u);
  EXPECT_EQ(tree_.FirstReaching(0), nullptr);
  EXPECT_FALSE(tree_.First(Range::Whole()));
  EXPECT_FALSE(tree_.LowerBound(Iova(0)));
  EXPECT_TRUE(tree_.CheckInvariants(0));
}

TEST_F(TreeTest, AscendingInsertion) {
  for (std::uint64_t i = 0; i < 600; ++i) Insert(i * 10, i * 10 + 9);
  EXPECT_GE(tree_.height(), 4u);
  // 600 mappings at three quarters of 8 slots: 100 leaves.
  EXPECT_LE(IntervalTreeTestPeer::Nodes(tree_).size(), 130u);
  for (std::uint64_t i = 0; i < 6000; ++i) {
    ASSERT_EQ(tree_.FirstReaching(i)->token, i / 10);
  }
}

TEST_F(TreeTest, DescendingInsertionAndRemovalFromBothEnds) {
  for (std::uint64_t i = 600; i-- > 0;) Insert(i * 10, i * 10 + 9);
  EXPECT_GE(tree_.height(), 4u);
  EXPECT_LE(IntervalTreeTestPeer::Nodes(tree_).size(), 130u);
  while (!records_.empty()) {
    EraseAt(0);
    if (!records_.empty()) EraseAt(records_.size() - 1);
  }
  EXPECT_TRUE(tree_.empty());
}

TEST_F(TreeTest, EqualFirstBytesKeepTheOrderOfInsertion) {
  Insert(0, 0);
  for (int i = 0; i < 300; ++i) Insert(5, 5 + static_cast<unsigned>(i) % 7);
  Insert(9, 9);
  const std::vector<std::uint64_t> tokens = Tokens(Range::Byte(Iova(5)));
  ASSERT_EQ(tokens.size(), 300u);
  EXPECT_TRUE(std::is_sorted(tokens.begin(), tokens.end()));
  EXPECT_EQ(tree_.LowerBound(Iova(5)).record()->token, 1u);
  EXPECT_EQ(tree_.LowerBound(Iova(6)).record()->token, 301u);
  EXPECT_FALSE(tree_.LowerBound(Iova(10)));
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
  tree_.Clear([&](Record& record) {
    EXPECT_EQ(record.token, next++);
    EXPECT_EQ(record.leaf, nullptr);
  });
  EXPECT_EQ(next, 200u);
  EXPECT_TRUE(tree_.CheckInvariants(0));
}

TEST(IntervalTree, RefusedReserveChangesNothing) {
  FailingMemory::State state;
  IntervalTree<FailingMemory, 8> tree{FailingMemory(&state)};
  state.fail_at = 0;
  EXPECT_FALSE(tree.Reserve());
  EXPECT_TRUE(tree.CheckInvariants(0));
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

  template <class Field, class Value>
  void ExpectFound(const char* what, Field& field, Value broken) {
    const Field good = field;
    field = static_cast<Field>(broken);
    EXPECT_FALSE(tree_.CheckInvariants(records_.size())) << what;
    field = good;
    ASSERT_TRUE(tree_.CheckInvariants(records_.size())) << what;
  }
};

TEST_F(BrokenTreeTest, EveryBrokenSlotIsFound) {
  for (Tree::Node* node : IntervalTreeTestPeer::Nodes(tree_)) {
    for (unsigned i = 0; i < 8; ++i) {
      ExpectFound("reach", node->reach[i], node->reach[i] - 1);
      ExpectFound("first", node->first[i], node->first[i] - 1);
      if (i >= node->count) continue;
      ExpectFound("reach", node->reach[i], node->reach[i] + 1);
      ExpectFound("first", node->first[i], node->first[i] + 1);
      ExpectFound("end", node->end[i], node->end[i] - 1);
      ExpectFound("end", node->end[i], node->end[i] + 1);
    }
  }
}

// The usual mistake: a change is not carried up. end[] and reach[] agree with
// each other, but not with the child.
TEST_F(BrokenTreeTest, ForgottenPropagationIsFound) {
  for (Tree::Node* node : IntervalTreeTestPeer::Nodes(tree_)) {
    if (node->level == 0) continue;
    const Tree::Node good = *node;
    for (unsigned i = 0; i < node->count; ++i) {
      node->end[i] -= 1;
      std::uint64_t largest = 0;
      for (unsigned k = 0; k < node->count; ++k) {
        largest = std::max(largest, node->end[k]);
        node->reach[k] = largest;
      }
      EXPECT_TRUE(node->CheckInvariants()) << "wrong by itself: no control";
      EXPECT_FALSE(tree_.CheckInvariants(records_.size()));
      *node = good;
    }
  }
  EXPECT_TRUE(tree_.CheckInvariants(records_.size()));
}

TEST_F(BrokenTreeTest, EveryBrokenNodeIsFound) {
  Tree::Node stranger{};
  for (Tree::Node* node : IntervalTreeTestPeer::Nodes(tree_)) {
    ExpectFound("parent", node->parent, &stranger);
    ExpectFound("count", node->count, node->count - 1);
    ExpectFound("count", node->count, 9u);
    if (node->parent != nullptr) {
      ExpectFound("level", node->level, node->level + 8);
    }
  }
}

TEST_F(BrokenTreeTest, EveryBrokenRecordIsFound) {
  for (auto& record : records_) {
    ExpectFound("leaf", record->leaf, nullptr);
    ExpectFound("range", record->range, RangeOf(1, 2));
  }
  EXPECT_FALSE(tree_.CheckInvariants(records_.size() + 1));
  EXPECT_FALSE(tree_.CheckInvariants(records_.size() - 1));
}

}  // namespace
}  // namespace dmamap::inline v0
