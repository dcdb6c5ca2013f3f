// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "iotlb/iotlb.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "iotlb/compare_for_test.h"
#include "iotlb/memory_for_test.h"
#include "iotlb/oracle_for_test.h"

namespace dmamap {
namespace {

constexpr std::uint64_t kMax = ~std::uint64_t{0};
constexpr auto kRead = Permission::kRead;
constexpr auto kWrite = Permission::kWrite;
constexpr auto kReadWrite = Permission::kReadWrite;

IotlbEntry Entry(std::uint64_t first, std::uint64_t last,
                 Permission permission = kReadWrite, std::uint64_t token = 0) {
  return {RangeOf(first, last), PhysAddr(first / 2), permission, token};
}

class IotlbTest : public testing::Test {
 protected:
  void Init(const IotlbOptions &options = {}) {
    ASSERT_TRUE(iotlb_.Init(options).ok());
  }
  void Add(const IotlbEntry &entry) {
    ASSERT_TRUE(iotlb_.Add(entry).ok());
    ASSERT_TRUE(iotlb_.CheckInvariants());
  }
  std::vector<std::uint64_t> Walk(Range range = Range::Whole()) const {
    std::vector<std::uint64_t> tokens;
    for (auto e = iotlb_.First(range); e != nullptr;
         e = iotlb_.Next(e, range)) {
      tokens.push_back(e->token);
    }
    return tokens;
  }
  void TearDown() override { EXPECT_TRUE(iotlb_.CheckInvariants()); }

  Iotlb iotlb_;
};

using Tokens = std::vector<std::uint64_t>;

TEST(MappingTest, Validate) {
  EXPECT_TRUE(Validate(Entry(0, kMax)).ok());
  EXPECT_TRUE(Validate(Entry(5, 9, Permission::kNone)).ok());
  EXPECT_EQ(Validate(Entry(5, 9, static_cast<Permission>(4))).error(),
            Error::kInvalidArgument);
  IotlbEntry high = Entry(0, 15);
  high.address = PhysAddr(kMax - 15);
  EXPECT_TRUE(Validate(high).ok());
  high.address = PhysAddr(kMax - 14);
  EXPECT_EQ(Validate(high).error(), Error::kOverflow);
}

TEST_F(IotlbTest, BeforeInitNothingWorksAndNothingBreaks) {
  std::array<Segment, 2> out;
  EXPECT_EQ(iotlb_.Add(Entry(0, 9)).error(), Error::kShutDown);
  EXPECT_EQ(iotlb_.Lookup(Iova(0), kRead).error(), Error::kShutDown);
  EXPECT_EQ(iotlb_.RemoveExact(RangeOf(0, 9), 0).error(), Error::kShutDown);
  EXPECT_EQ(*iotlb_.Remove(Range::Whole()), 0u);
  EXPECT_TRUE(iotlb_.First(Range::Whole()) == nullptr);
  EXPECT_EQ(iotlb_.Translate(RangeOf(0, 9), kRead, out), 0u);
  iotlb_.Clear();
  EXPECT_EQ(iotlb_.size(), 0u);
}

TEST_F(IotlbTest, InitOnceWithKnownPolicies) {
  EXPECT_EQ(iotlb_.Init({.limit_policy = static_cast<LimitPolicy>(2)}).error(),
            Error::kInvalidArgument);
  EXPECT_EQ(
      iotlb_.Init({.overlap_policy = static_cast<OverlapPolicy>(2)}).error(),
      Error::kInvalidArgument);
  Init();
  EXPECT_EQ(iotlb_.Init().error(), Error::kBusy);
}

TEST_F(IotlbTest, LookupTranslatesEachByteOfAMapping) {
  Init();
  Add({RangeOf(0x1000, 0x2fff), PhysAddr(0x80000), kRead, 7});
  const Result<Translation> t = iotlb_.Lookup(Iova(0x1234), kRead);
  ASSERT_TRUE(t.ok());
  EXPECT_EQ(*t, (Translation{PhysAddr(0x80234), 0x1dcb, kRead, 7}));
  EXPECT_EQ(iotlb_.Lookup(Iova(0x2fff), kRead)->bytes_minus_one, 0u);
  EXPECT_EQ(iotlb_.Lookup(Iova(0xfff), kRead).error(), Error::kNotMapped);
  EXPECT_EQ(iotlb_.Lookup(Iova(0x3000), kRead).error(), Error::kNotMapped);
  EXPECT_EQ(iotlb_.Lookup(Iova(0x1000), kWrite).error(), Error::kPermission);
  EXPECT_TRUE(iotlb_.Lookup(Iova(0x1000), Permission::kNone).ok());
  for (const std::uint64_t at : {0x1000u, 0u}) {
    EXPECT_EQ(iotlb_.Lookup(Iova(at), static_cast<Permission>(8)).error(),
              Error::kInvalidArgument);
  }
}

TEST_F(IotlbTest, FirstInOrderThatGrantsAnswers) {
  Init();
  Add(Entry(4, 20, kWrite, 1));
  Add(Entry(4, 8, kReadWrite, 2));
  Add(Entry(0, 6, kRead, 3));
  EXPECT_EQ(iotlb_.Lookup(Iova(5), kRead)->token, 3u);
  EXPECT_EQ(iotlb_.Lookup(Iova(5), kWrite)->token, 1u);
  EXPECT_EQ(iotlb_.Lookup(Iova(5), kReadWrite)->token, 2u);
  EXPECT_EQ(iotlb_.Lookup(Iova(8), kRead)->token, 2u);
  EXPECT_EQ(iotlb_.Lookup(Iova(9), kRead).error(), Error::kPermission);
  EXPECT_EQ(iotlb_.Lookup(Iova(21), kRead).error(), Error::kNotMapped);
}

TEST_F(IotlbTest, GuardIsAPermissionFault) {
  Init();
  Add(Entry(4, 8, Permission::kNone));
  EXPECT_EQ(iotlb_.Lookup(Iova(4), kRead).error(), Error::kPermission);
  EXPECT_TRUE(iotlb_.Lookup(Iova(4), Permission::kNone).ok());
}

TEST_F(IotlbTest, WalkIsOrderedAndComplete) {
  Init();
  Add(Entry(30, 40, kRead, 1));
  Add(Entry(10, 50, kRead, 2));
  Add(Entry(10, 12, kRead, 3));
  Add(Entry(0, kMax, kRead, 4));
  EXPECT_EQ(Walk(), (Tokens{4, 2, 3, 1}));
  EXPECT_EQ(Walk(RangeOf(13, 29)), (Tokens{4, 2}));
  EXPECT_EQ(Walk(RangeOf(12, 30)), (Tokens{4, 2, 3, 1}));
  EXPECT_EQ(Walk(RangeOf(51, kMax)), Tokens{4});
}

TEST_F(IotlbTest, RemoveTakesWholeMappings) {
  Init();
  Add(Entry(0, 10, kRead, 1));
  Add(Entry(5, 30, kRead, 2));
  Add(Entry(20, 40, kRead, 3));
  EXPECT_EQ(*iotlb_.Remove(RangeOf(10, 12)), 2u);
  EXPECT_EQ(Walk(), Tokens{3});
  EXPECT_EQ(*iotlb_.Remove(RangeOf(0, 19)), 0u);
  EXPECT_EQ(iotlb_.stats().removed, 2u);
}

TEST_F(IotlbTest, RemoveExactTakesTheNamedAlias) {
  Init();
  Add(Entry(0, 10, kRead, 1));
  Add(Entry(0, 10, kWrite, 2));
  Add(Entry(0, 10, kReadWrite, 2));
  Add(Entry(0, 11, kRead, 2));
  EXPECT_EQ(iotlb_.RemoveExact(RangeOf(0, 10), 3).error(), Error::kNotMapped);
  EXPECT_EQ(iotlb_.RemoveExact(RangeOf(0, 9), 1).error(), Error::kNotMapped);
  EXPECT_EQ(*iotlb_.RemoveExact(RangeOf(0, 10), 2), Entry(0, 10, kWrite, 2));
  EXPECT_EQ(*iotlb_.RemoveExact(RangeOf(0, 10), 2),
            Entry(0, 10, kReadWrite, 2));
  EXPECT_EQ(iotlb_.RemoveExact(RangeOf(0, 10), 2).error(), Error::kNotMapped);
  EXPECT_EQ(Walk(), (Tokens{1, 2}));
}

TEST_F(IotlbTest, RemoveEntryTakesWhatAWalkFound) {
  Init();
  for (std::uint64_t i = 0; i < 100; ++i) Add(Entry(7, 9, kRead, i));
  auto e = iotlb_.First(Range::Byte(Iova(7)));
  for (int i = 0; i < 50; ++i) e = iotlb_.Next(e, Range::Byte(Iova(7)));
  EXPECT_EQ(iotlb_.RemoveEntry(e).token, 50u);
  EXPECT_EQ(iotlb_.RemoveExact(RangeOf(7, 9), 50).error(), Error::kNotMapped);
  EXPECT_EQ(iotlb_.size(), 99u);
}

// A removed mapping keeps its place in the tree for the next one of its range.
TEST_F(IotlbTest, TheSameRangeAgainIsANewMapping) {
  Init();
  Add(Entry(0x1000, 0x1fff, kRead, 1));
  Add(Entry(0x3000, 0x3fff, kRead, 2));
  EXPECT_EQ(*iotlb_.Remove(RangeOf(0x1800, 0x1800)), 1u);
  EXPECT_TRUE(iotlb_.CheckInvariants());
  EXPECT_EQ(iotlb_.size(), 1u);
  EXPECT_EQ(Walk(), (Tokens{2}));
  EXPECT_EQ(iotlb_.Lookup(Iova(0x1000), kRead).error(), Error::kNotMapped);
  EXPECT_EQ(iotlb_.RemoveExact(RangeOf(0x1000, 0x1fff), 1).error(),
            Error::kNotMapped);
  Add({RangeOf(0x1000, 0x1fff), PhysAddr(0x70000), kWrite, 3});
  EXPECT_EQ(Walk(), (Tokens{3, 2}));
  EXPECT_EQ(iotlb_.Lookup(Iova(0x1000), kRead).error(), Error::kPermission);
  EXPECT_EQ(iotlb_.Lookup(Iova(0x1234), kWrite)->address, PhysAddr(0x70234));
}

TEST_F(IotlbTest, AnAliasThatCameMeanwhileStaysFirst) {
  Init();
  Add(Entry(0x1000, 0x1fff, kRead, 1));
  ASSERT_TRUE(iotlb_.RemoveExact(RangeOf(0x1000, 0x1fff), 1).ok());
  Add(Entry(0x1000, 0x2fff, kRead, 2));  // the same first byte
  Add(Entry(0x1000, 0x1fff, kRead, 3));
  EXPECT_EQ(Walk(), (Tokens{2, 3}));
  Add(Entry(0x0, 0x4fff, kRead, 4));
  ASSERT_TRUE(iotlb_.RemoveExact(RangeOf(0x1000, 0x1fff), 3).ok());
  Add(Entry(0x1000, 0x1fff, kRead, 5));
  EXPECT_EQ(Walk(), (Tokens{4, 2, 5}));
}

// More removals than there are places for them, and all of it once more.
TEST_F(IotlbTest, RemovedMappingsDoNotPileUp) {
  Init();
  for (int round = 0; round < 3; ++round) {
    for (std::uint64_t i = 0; i < 1000; ++i) {
      ASSERT_TRUE(iotlb_.Add(Entry(i << 12, (i << 12) + 0xfff)).ok());
    }
    const std::size_t bytes = iotlb_.stats().memory_bytes;
    for (std::uint64_t i = 0; i < 1000; ++i) {
      ASSERT_EQ(*iotlb_.Remove(RangeOf(i << 12, i << 12)), 1u);
    }
    ASSERT_TRUE(iotlb_.CheckInvariants());
    EXPECT_TRUE(iotlb_.empty());
    EXPECT_EQ(Walk(), Tokens{});
    EXPECT_EQ(iotlb_.stats().memory_bytes, bytes);
    Add(Entry(0x5000, 0x5fff));
    iotlb_.Clear();
    EXPECT_TRUE(iotlb_.CheckInvariants());
  }
}

TEST_F(IotlbTest, OverlapRefused) {
  Init({.overlap_policy = OverlapPolicy::kRefuse});
  Add(Entry(10, 19));
  EXPECT_EQ(iotlb_.Add(Entry(0, 10)).error(), Error::kOverlap);
  EXPECT_EQ(iotlb_.Add(Entry(19, 19)).error(), Error::kOverlap);
  EXPECT_EQ(iotlb_.Add(Entry(0, kMax)).error(), Error::kOverlap);
  Add(Entry(0, 9));
  Add(Entry(20, kMax));
  EXPECT_EQ(iotlb_.stats().refused_overlap, 3u);
  EXPECT_EQ(iotlb_.size(), 3u);
}

TEST_F(IotlbTest, LimitRefuses) {
  Init({.limit = 2});
  Add(Entry(0, 1));
  Add(Entry(2, 3));
  EXPECT_EQ(iotlb_.Add(Entry(4, 5)).error(), Error::kLimit);
  EXPECT_TRUE(iotlb_.oldest() == nullptr);
  EXPECT_EQ(*iotlb_.Remove(RangeOf(0, 0)), 1u);
  Add(Entry(4, 5));
  EXPECT_EQ(iotlb_.stats().refused_limit, 1u);
}

TEST_F(IotlbTest, LimitRetiresTheOldest) {
  Init({.limit = 3, .limit_policy = LimitPolicy::kRetireOldest});
  Add(Entry(50, 59, kRead, 1));
  Add(Entry(10, 19, kRead, 2));
  Add(Entry(30, 39, kRead, 3));
  EXPECT_EQ(iotlb_.oldest()->token, 1u);
  Add(Entry(20, 29, kRead, 4));
  EXPECT_EQ(Walk(), (Tokens{2, 4, 3}));
  EXPECT_EQ(*iotlb_.Remove(RangeOf(10, 10)), 1u);
  EXPECT_EQ(iotlb_.oldest()->token, 3u);
  Add(Entry(0, 0, kRead, 5));
  Add(Entry(1, 1, kRead, 6));
  EXPECT_EQ(Walk(), (Tokens{5, 6, 4}));
  EXPECT_EQ(iotlb_.stats().retired, 2u);
}

TEST_F(IotlbTest, NothingRetiresForAMappingThatIsRefused) {
  Init({.limit = 1,
        .limit_policy = LimitPolicy::kRetireOldest,
        .overlap_policy = OverlapPolicy::kRefuse});
  Add(Entry(0, 9, kRead, 1));
  EXPECT_EQ(iotlb_.Add(Entry(5, 5)).error(), Error::kOverlap);
  EXPECT_EQ(iotlb_.Add(Entry(50, 55, static_cast<Permission>(9))).error(),
            Error::kInvalidArgument);
  EXPECT_EQ(Walk(), Tokens{1});
}

struct SmallNodes : IotlbPolicies {
  static constexpr unsigned kKeys = 8;
  static constexpr bool kReverse = true;
};

// A region grows downward, a mapping at a time, while a walk is on its way: its
// upper end, which is mapped all the time, is told although what it belongs to
// begins before the last entry visited by then.
TEST_F(IotlbTest, WalksMeetWhatGrowsPastThem) {
  constexpr std::uint64_t kPages = 64, kTop = (2 * kPages) << 12;
  const auto page = [](std::uint64_t at) {
    return IotlbEntry{RangeOf(at << 12, (at << 12) + 0xfff), PhysAddr(at << 12),
                      kRead, 1};
  };
  for (const bool reverse : {false, true}) {
    BasicIotlb<SmallNodes> iotlb;
    ASSERT_TRUE(iotlb.Init({.merge_policy = MergePolicy::kMerge}).ok());
    // Every other page, then what closes the gaps from above.
    for (std::uint64_t i = 0; i < kPages; ++i) {
      ASSERT_TRUE(iotlb.Add(page(2 * i + 2)).ok());
    }
    std::uint64_t next = 2 * kPages - 1;
    std::size_t visits = 0, top = 0;
    const auto visit = [&](const IotlbEntry &entry) {
      top += entry.range.Contains(Iova(kTop)) ? 1 : 0;
      // At first where the walk is not; then all around it, and before it.
      if (++visits < 3) return;
      for (int n = 0; n < 50 && next < 2 * kPages; ++n, next -= 2) {
        ASSERT_TRUE(iotlb.Add(page(next)).ok());
      }
    };
    if (reverse) {
      iotlb.ForEachMappingOf(*PhysRange::FromSize(PhysAddr(0), kTop + 1),
                             visit);
    } else {
      iotlb.ForEach(RangeOf(0, kTop), visit);
    }
    EXPECT_GE(top, 1u) << "reverse: " << reverse;
    EXPECT_TRUE(iotlb.CheckInvariants());
  }
}

TEST_F(IotlbTest, TranslateFillsABoundedArray) {
  Init();
  Add(Entry(10, 19, kRead, 1));
  Add(Entry(30, 39, kWrite, 2));
  std::array<Segment, 8> out;
  ASSERT_EQ(iotlb_.Translate(RangeOf(0, 49), kRead, out), 5u);
  EXPECT_EQ(out[1].kind, SegmentKind::kMapped);
  EXPECT_EQ(out[3].kind, SegmentKind::kFault);
  EXPECT_EQ(out[4].range, RangeOf(40, 49));
  ASSERT_EQ(iotlb_.Translate(RangeOf(0, 49), kRead, std::span(out).first(2)),
            2u);
  EXPECT_EQ(out[1].range, RangeOf(10, 19));
  EXPECT_EQ(iotlb_.Translate(RangeOf(0, 49), kRead, {}), 0u);
  EXPECT_EQ(iotlb_.Translate(RangeOf(0, 49), static_cast<Permission>(4), out),
            0u);
  EXPECT_EQ(iotlb_
                .ForEachSegment(RangeOf(0, 49), static_cast<Permission>(4),
                                [](const Segment &) { return true; })
                .error(),
            Error::kInvalidArgument);
}

TEST_F(IotlbTest, ClearKeepsPoliciesAndMemory) {
  Init({.limit = 500, .limit_policy = LimitPolicy::kRetireOldest});
  for (std::uint64_t i = 0; i < 500; ++i) Add(Entry(i, i + 3));
  const std::size_t bytes = iotlb_.stats().memory_bytes;
  iotlb_.Clear();
  EXPECT_TRUE(iotlb_.empty());
  EXPECT_TRUE(iotlb_.oldest() == nullptr);
  for (std::uint64_t i = 0; i < 500; ++i) Add(Entry(i, i + 3));
  EXPECT_EQ(iotlb_.stats().memory_bytes, bytes);
  EXPECT_EQ(iotlb_.stats().removed, 500u);
  EXPECT_EQ(iotlb_.stats().peak_entries, 500u);
}

TEST_F(IotlbTest, AMissOfNoPermissionIsNotNoted) {
  Init({.pending_misses = 2});
  for (const int bits : {4, 7, 255}) {
    EXPECT_EQ(iotlb_.ReportMiss(Iova(1), static_cast<Permission>(bits)),
              MissReport::kInvalid);
  }
  EXPECT_EQ(iotlb_.ReportMiss(Iova(1), Permission::kRead), MissReport::kNew);
  EXPECT_EQ(iotlb_.ReportMiss(Iova(1), Permission::kReadWrite),
            MissReport::kNew);
  EXPECT_EQ(iotlb_.AnswerMisses(Range::Whole(), kReadWrite), 2u);
}

// An IOTLB that maps everything to itself is small.
TEST_F(IotlbTest, IdentityMappingCostsUnderAPage) {
  Init();
  Add({Range::Whole(), PhysAddr(0), kReadWrite, 0});
  EXPECT_LT(sizeof(Iotlb) + iotlb_.stats().memory_bytes, 4096u);
}

// Linux e2ae38cf3d91 (peers_record_test.cc has its model): a mapping of the
// whole space has size 2^64, which is 0 in 64 bits; a loop that advances by the
// size never ends.
TEST_F(IotlbTest, WholeSpaceDoesNotLoop) {
  Init();
  Add({Range::Whole(), PhysAddr(0), kReadWrite, 9});
  EXPECT_EQ(iotlb_.Lookup(Iova::Max(), kRead)->address, PhysAddr(kMax));
  EXPECT_EQ(iotlb_.Lookup(Iova(0), kRead)->bytes_minus_one, kMax);
  EXPECT_EQ(Walk(), Tokens{9});
  std::array<Segment, 4> out;
  ASSERT_EQ(iotlb_.Translate(Range::Whole(), kRead, out), 1u);
  EXPECT_EQ(out[0].range, Range::Whole());
  EXPECT_EQ(*iotlb_.Remove(Range::Whole()), 1u);
}

// The same with neighbours at both ends of the space.
TEST_F(IotlbTest, NoWrapAtTheEndsOfTheSpace) {
  Init();
  Add(Entry(kMax, kMax, kRead, 1));
  Add(Entry(0, 0, kRead, 2));
  Add(Entry(kMax - 5, kMax - 1, kRead, 3));
  EXPECT_EQ(Walk(), (Tokens{2, 3, 1}));
  EXPECT_EQ(Walk(RangeOf(kMax - 2, kMax)), (Tokens{3, 1}));
  EXPECT_EQ(Walk(RangeOf(1, kMax - 6)), Tokens{});
  std::array<Segment, 8> out;
  ASSERT_EQ(iotlb_.Translate(RangeOf(kMax - 7, kMax), kRead, out), 3u);
  EXPECT_EQ(out[2].range, RangeOf(kMax, kMax));
  EXPECT_EQ(*iotlb_.Remove(Range::Byte(Iova::Max())), 1u);
  EXPECT_EQ(Walk(), (Tokens{2, 3}));
}

// Linux 9059c62f1197 (as above): size 0 was accepted, and `start + 0 - 1` made
// a mapping of nothing, or at start 0 of everything.
TEST_F(IotlbTest, ZeroSizeIsNoRange) {
  EXPECT_EQ(Range::FromSize(Iova(0), 0).error(), Error::kInvalidArgument);
  EXPECT_EQ(Range::FromSize(Iova(0x1000), 0).error(), Error::kInvalidArgument);
  EXPECT_EQ(Range::FromFirstLast(Iova(0x1000), Iova(0xfff)).error(),
            Error::kInvalidArgument);
  EXPECT_EQ(Range::FromSize(Iova(kMax), 2).error(), Error::kOverflow);
}

template <bool kWithReverse>
struct FailingPolicies : IotlbPolicies {
  using Memory = FailingMemory;
  static constexpr unsigned kKeys = 8;
  static constexpr unsigned kPageShift = 4;
  static constexpr unsigned kFrontBits = 4;
  static constexpr bool kReverse = kWithReverse;
};

// Fails the `fail_at`-th allocation of a run of Adds, every fourth of a mapping
// that was just removed; false when the run needs fewer. Nothing may have
// changed by the Add that failed, and it succeeds when it is repeated;
// `refused` counts it. (A table of the front is done without.)
template <bool kWithReverse>
bool RunWithFailure(std::size_t fail_at, const IotlbOptions &options,
                    std::size_t &refused) {
  FailingMemory::State state;
  state.fail_at = fail_at;
  {
    BasicIotlb<FailingPolicies<kWithReverse>> iotlb{FailingMemory(&state)};
    IotlbOracle oracle(options);
    EXPECT_TRUE(iotlb.Init(options).ok());
    std::mt19937_64 random(1);
    for (int i = 0; i < 1500; ++i) {
      const std::uint64_t first = random() % 100000;
      IotlbEntry entry = Entry(first, first + random() % 50);
      if (i % 4 == 3) {
        entry = oracle[random() % oracle.size()];
        EXPECT_TRUE(oracle.RemoveExact(entry.range, entry.token).ok());
        EXPECT_TRUE(iotlb.RemoveExact(entry.range, entry.token).ok());
      }
      Result<void> result = iotlb.Add(entry);
      if (!result.ok() && result.error() == Error::kNoMemory) {
        ++refused;
        EXPECT_TRUE(iotlb.CheckInvariants());
        EXPECT_EQ(FirstDifference(oracle, iotlb, entry.range), std::nullopt);
        EXPECT_EQ(iotlb.stats().retired, oracle.retired());
        result = iotlb.Add(entry);
      }
      const Result<void> want = oracle.Add(entry);
      EXPECT_EQ(want.ok(), result.ok());
    }
    EXPECT_EQ(FirstDifference(oracle, iotlb, Range::Whole()), std::nullopt);
    EXPECT_TRUE(iotlb.CheckInvariants());
  }
  EXPECT_EQ(state.bytes_held, 0u) << "leak";
  return state.calls > fail_at;
}

template <bool kWithReverse>
void FailEachAllocation() {
  for (const std::size_t limit : {std::size_t{0}, std::size_t{40}}) {
    const IotlbOptions options{.limit = limit,
                               .limit_policy = LimitPolicy::kRetireOldest};
    std::size_t allocations = 0, refused = 0;
    while (RunWithFailure<kWithReverse>(allocations, options, refused)) {
      ++allocations;
    }
    // Two or three pools that refuse and the front's, several chunks each.
    EXPECT_GE(refused, limit == 0 ? 8u : 3u);
    EXPECT_GT(allocations, refused);
  }
}
TEST(IotlbMemory, EachAllocationMayFail) { FailEachAllocation<false>(); }
TEST(IotlbMemory, EachAllocationMayFailWithReverse) {
  FailEachAllocation<true>();
}

// At most 256 bytes a mapping, of single pages scattered over 48 bits in any
// order, with the front and without. (With a million it is less:
// tools/bench.sh --filter=iotlb/memory.)
TEST(IotlbMemory, ScatteredPagesCostAtMost256BytesEach) {
  constexpr std::size_t kPages = 40000;
  std::mt19937_64 random(48);
  std::vector<std::uint64_t> pages(kPages);
  for (std::uint64_t &page : pages) page = random() >> 28;
  for (const bool ascending : {false, true}) {
    if (ascending) std::sort(pages.begin(), pages.end());
    for (const FrontPolicy front : {FrontPolicy::kOn, FrontPolicy::kOff}) {
      Iotlb iotlb;
      ASSERT_TRUE(iotlb.Init({.front_policy = front}).ok());
      for (const std::uint64_t page : pages) {
        ASSERT_TRUE(iotlb.Add(Entry(page << 12, (page << 12) + 0xfff)).ok());
      }
      const std::size_t bytes = sizeof(iotlb) + iotlb.stats().memory_bytes;
      EXPECT_LE(bytes, 256 * kPages) << ascending << static_cast<int>(front);
    }
  }
}

}  // namespace
}  // namespace dmamap
