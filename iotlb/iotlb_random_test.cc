// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Long random runs against the oracle: two thousand steps with hundreds of
// mappings, growing, mixing and shrinking, so that every split, merge and
// levelling of a tree of three and more levels happens. And the negative
// control: the same run over a tree whose augmentation is broken must differ.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "iotlb/compare_for_test.h"
#include "iotlb/iotlb.h"
#include "iotlb/oracle_for_test.h"

namespace dmamap::inline v0 {

// Reaches into an IOTLB, to break it.
struct IotlbTestPeer {
  // As if changes below the root's last child had not been carried up: the root
  // knows of nothing there but the first byte.
  template <class I>
  static void ForgetPropagation(I &iotlb);
};
struct IntervalTreeTestPeer {
  template <class Tree>
  static auto *Root(const Tree &tree) {
    return tree.height() < 2 ? nullptr : Tree::NodeOf(tree.root().load());
  }
};
template <class I>
void IotlbTestPeer::ForgetPropagation(I &iotlb) {
  auto *const root = IntervalTreeTestPeer::Root(iotlb.core_.tree());
  if (root == nullptr) return;
  const unsigned last = root->size() - 1;
  root->end[last] = root->first[last].load();
  root->reach(last) =
      std::max(root->reach_at(last - 1), root->end[last].load());
}

namespace {

constexpr std::uint64_t kMax = ~std::uint64_t{0};

enum class Sabotage { kNone, kForgetPropagation };

template <class I>
class RandomRun {
 public:
  RandomRun(const IotlbOptions &options, std::uint64_t seed)
      : oracle_(options), random_(seed) {
    EXPECT_TRUE(iotlb_.Init(options).ok());
  }

  // Runs `steps` steps in which `add_percent` add; says what differed.
  std::optional<std::string> Run(int steps, unsigned add_percent,
                                 Sabotage sabotage = Sabotage::kNone) {
    for (int i = 0; i < steps; ++i) {
      const auto difference =
          Below(100) < add_percent ? AddOne() : RemoveSome();
      if (difference) return difference;
      if (sabotage == Sabotage::kForgetPropagation) {
        IotlbTestPeer::ForgetPropagation(iotlb_);
      }
      if (check_invariants && !iotlb_.CheckInvariants()) return "invariants";
      if (auto probed = Probe()) return probed;
      tallest_ = std::max(tallest_, iotlb_.stats().height);
    }
    return DifferenceInContents(oracle_, iotlb_);
  }

  std::size_t tallest() const { return tallest_; }
  std::size_t size() const { return iotlb_.size(); }
  bool check_invariants = true;

 private:
  std::uint64_t Below(std::uint64_t n) { return random_() % n; }

  // Most are short and in the middle, some lie at an end of the space, few are
  // very wide.
  Range AnyRange() {
    const std::uint64_t kind = Below(100);
    if (kind < 2) {
      const std::uint64_t first = random_();
      return RangeOf(first, first + Below(kMax - first));
    }
    const std::uint64_t at = Below(40000), size = Below(60);
    if (kind < 10) return RangeOf(at / 256, at / 256 + size);
    if (kind < 18) {
      const std::uint64_t first = kMax - at / 256;
      return RangeOf(first, first + std::min(size, kMax - first));
    }
    return RangeOf(0x100000 + at, 0x100000 + at + size);
  }

  std::optional<std::string> AddOne() {
    const IotlbEntry entry{AnyRange(), PhysAddr(0), kAllPermissions[Below(4)],
                           Below(4)};
    const Result<void> want = oracle_.Add(entry);
    const Result<void> got = iotlb_.Add(entry);
    if (want.ok() != got.ok()) return "Add " + Show(entry.range);
    if (!want.ok() && want.error() != got.error()) return "error of Add";
    return std::nullopt;
  }

  std::optional<std::string> RemoveSome() {
    if (oracle_.size() == 0) return std::nullopt;
    const IotlbEntry victim = oracle_[Below(oracle_.size())];
    if (Below(4) != 0) {
      const Result<IotlbEntry> want =
          oracle_.RemoveExact(victim.range, victim.token);
      const Result<IotlbEntry> got =
          iotlb_.RemoveExact(victim.range, victim.token);
      if (!got.ok() || *want != *got) return "RemoveExact";
      return std::nullopt;
    }
    const Range byte = Range::Byte(victim.range.first());
    if (*oracle_.Remove(byte) != *iotlb_.Remove(byte)) return "Remove";
    return std::nullopt;
  }

  // Looks at the edges of a few mappings.
  std::optional<std::string> Probe() {
    if (iotlb_.size() != oracle_.size()) return "size";
    for (int i = 0; i < 2 && oracle_.size() != 0; ++i) {
      const Range range = oracle_[Below(oracle_.size())].range;
      if (auto difference = DifferenceAround(oracle_, iotlb_, range)) {
        return difference;
      }
    }
    const Range query = AnyRange();
    if (query.size_minus_one() >= 100) return std::nullopt;
    const Permission wanted = kAllPermissions[Below(4)];
    std::array<Segment, 101> out;
    const std::size_t n = iotlb_.Translate(query, wanted, out);
    return oracle_.Judge(query, wanted,
                         std::vector<Segment>(out.begin(), out.begin() + n));
  }

  I iotlb_;
  IotlbOracle oracle_;
  std::mt19937_64 random_;
  std::size_t tallest_ = 0;
};

struct SmallPolicies : IotlbPolicies {
  static constexpr unsigned kKeys = 8;
  static constexpr unsigned kPageShift = 5;
  static constexpr unsigned kFrontBits = 3;
};
using SmallNodes = BasicIotlb<SmallPolicies>;

constexpr IotlbOptions kAllowAll{};
constexpr IotlbOptions kTreeAlone{.front_policy = FrontPolicy::kOff};
constexpr IotlbOptions kRetire{.limit = 300,
                               .limit_policy = LimitPolicy::kRetireOldest};

template <class I>
void GrowMixShrink(const IotlbOptions &options, std::uint64_t seed,
                   std::size_t levels) {
  RandomRun<I> run(options, seed);
  SCOPED_TRACE("seed " + std::to_string(seed));
  ASSERT_EQ(run.Run(600, 97), std::nullopt);
  ASSERT_EQ(run.Run(400, 60), std::nullopt);
  EXPECT_GE(run.tallest(), levels);
  ASSERT_EQ(run.Run(1000, 5), std::nullopt);
  ASSERT_EQ(run.Run(200, 80), std::nullopt);
}

TEST(IotlbRandom, SmallNodes) { GrowMixShrink<SmallNodes>(kAllowAll, 1, 4); }

TEST(IotlbRandom, StandardNodes) { GrowMixShrink<Iotlb>(kAllowAll, 2, 2); }

TEST(IotlbRandom, TreeAlone) { GrowMixShrink<SmallNodes>(kTreeAlone, 3, 4); }

TEST(IotlbRandom, LimitRetires) { GrowMixShrink<SmallNodes>(kRetire, 9, 3); }

TEST(IotlbRandom, WithoutOverlap) {
  GrowMixShrink<SmallNodes>({.overlap_policy = OverlapPolicy::kRefuse}, 4, 3);
}

// Negative controls: each of the two nets must catch the fault by itself.
TEST(IotlbRandom, BrokenAugmentationIsFoundByTheInvariants) {
  RandomRun<SmallNodes> run(kAllowAll, 1);
  const auto found = run.Run(1000, 97, Sabotage::kForgetPropagation);
  EXPECT_EQ(found, "invariants");
}

TEST(IotlbRandom, BrokenAugmentationIsFoundByTheOracle) {
  RandomRun<SmallNodes> run(kTreeAlone, 1);
  run.check_invariants = false;
  const auto found = run.Run(1000, 97, Sabotage::kForgetPropagation);
  ASSERT_NE(found, std::nullopt);
}

}  // namespace
}  // namespace dmamap::inline v0
