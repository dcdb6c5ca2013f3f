// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// A RapidCheck state model of the IOTLB for each combination of policies: the
// real one and the oracle get the same commands and must answer the same, and
// every invariant must hold after each command.

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <rapidcheck/state.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <ostream>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "iotlb/compare_for_test.h"
#include "iotlb/iotlb.h"
#include "iotlb/oracle_for_test.h"
#include "iotlb/pending_misses.h"

namespace dmamap {
namespace {

// Few keys a node: deep trees out of few commands.
// Small pages and tables: every kind of slot in a space of few bytes.
struct SmallPolicies : IotlbPolicies {
  static constexpr unsigned kKeys = 8;
  static constexpr unsigned kPageShift = 3;
  static constexpr unsigned kFrontBits = 2;
  static constexpr bool kReverse = true;
};
using SmallNodes = BasicIotlb<SmallPolicies>;
// Without it an Add of what was just removed reserves nothing (ReserveFor).
struct PlainPolicies : SmallPolicies {
  static constexpr bool kReverse = false;
};
using PlainNodes = BasicIotlb<PlainPolicies>;

template <class I>
inline constexpr unsigned kPageShiftOf = 0;
template <class P>
inline constexpr unsigned kPageShiftOf<BasicIotlb<P>> = P::kPageShift;

// Addresses in three short windows, so that ranges meet: the two ends of the
// space and one in the middle. Some ranges span all of it.
rc::Gen<Range> AnyRange() {
  const auto at =
      rc::gen::map(rc::gen::pair(rc::gen::inRange(0, 3),
                                 rc::gen::inRange<std::uint64_t>(0, 48)),
                   [](std::pair<int, std::uint64_t> p) {
                     return p.first == 0   ? p.second
                            : p.first == 1 ? (std::uint64_t{1} << 32) + p.second
                                           : ~p.second;
                   });
  const auto near = rc::gen::map(
      rc::gen::pair(at, rc::gen::inRange<std::uint64_t>(0, 12)),
      [](std::pair<std::uint64_t, std::uint64_t> p) {
        const std::uint64_t last = p.first + p.second;
        return RangeOf(p.first, last < p.first ? ~std::uint64_t{0} : last);
      });
  const auto far = rc::gen::map(rc::gen::pair(at, at),
                                [](std::pair<std::uint64_t, std::uint64_t> p) {
                                  return RangeOf(std::min(p.first, p.second),
                                                 std::max(p.first, p.second));
                                });
  return rc::gen::weightedOneOf<Range>(
      {{16, near}, {3, far}, {1, rc::gen::just(Range::Whole())}});
}

rc::Gen<Permission> AnyPermission() {
  return rc::gen::elementOf(std::vector<Permission>(std::begin(kAllPermissions),
                                                    std::end(kAllPermissions)));
}

// Of two entries one means the memory at its own address, so that neighbours
// continue each other.
rc::Gen<IotlbEntry> AnyEntry();
rc::Gen<IotlbEntry> AnyLooseEntry() {
  return rc::gen::map(
      rc::gen::tuple(AnyRange(), rc::gen::inRange<std::uint64_t>(0, 1 << 20),
                     AnyPermission(), rc::gen::inRange<std::uint64_t>(0, 3)),
      [](const std::tuple<Range, std::uint64_t, Permission, std::uint64_t> &t) {
        const auto &[range, address, permission, token] = t;
        // One wide range in two keeps an address that makes it pass 2^64-1.
        const bool wide = range.size_minus_one() > ~std::uint64_t{0} - address;
        return IotlbEntry{range,
                          PhysAddr(wide && address % 2 == 0 ? 0 : address),
                          permission, token};
      });
}

rc::Gen<IotlbEntry> AnyEntry() {
  return rc::gen::map(
      rc::gen::pair(AnyLooseEntry(), rc::gen::arbitrary<bool>()),
      [](std::pair<IotlbEntry, bool> p) {
        if (p.second) {
          p.first.address = PhysAddr(p.first.range.first().value());
          p.first.permission = Permission::kReadWrite;
          p.first.token = 0;
        }
        return p.first;
      });
}

template <class I>
struct Rig {
  explicit Rig(const IotlbOptions &options) {
    RC_ASSERT(iotlb.Init(options).ok());
    RC_ASSERT(reader.Init(iotlb).ok());
  }
  I iotlb;
  typename I::Reader reader;  // which has a hint, as soon as it was lucky
};

template <class I>
using Command = rc::state::Command<IotlbOracle, Rig<I>>;

void ExpectSame(const std::optional<std::string> &difference) {
  if (difference) RC_FAIL(*difference);
}

// The reader's answers, and what its hint still says of the range before.
template <class I>
void ExpectReaderAgrees(const IotlbOracle &next, Rig<I> &rig, Range around) {
  for (const Iova at : {around.first(), around.last(), around.first()}) {
    for (int again = 0; again < 3; ++again) {
      const Result<Translation> want = next.Lookup(at, Permission::kRead);
      const Result<Translation> got = rig.reader.Lookup(at, Permission::kRead);
      RC_ASSERT(want.ok() == got.ok());
      if (want.ok()) {
        RC_ASSERT(*want == *got);
      } else {
        RC_ASSERT(want.error() == got.error());
      }
    }
  }
}

// Compares after a command; `next` is the oracle behind it.
template <class I>
void ExpectAgreement(const IotlbOracle &next, Rig<I> &rig, Range around) {
  const I &iotlb = rig.iotlb;
  ExpectReaderAgrees(next, rig, around);
  RC_ASSERT(iotlb.CheckInvariants());
  ExpectSame(FirstDifference(next, iotlb, around));
  RC_ASSERT(iotlb.stats().entries == next.size());
  RC_ASSERT(iotlb.stats().retired == next.retired());
  RC_ASSERT(iotlb.stats().added == next.added());
  RC_ASSERT(iotlb.stats().merges == next.merges());
  RC_ASSERT(iotlb.stats().splits == next.splits());
  RC_ASSERT(iotlb.stats().removed == next.removed());
  RC_ASSERT(iotlb.stats().refused_limit == next.refused_limit());
  RC_ASSERT(iotlb.stats().refused_overlap == next.refused_overlap());
  std::vector<PendingMiss> misses;
  iotlb.ForEachPendingMiss(
      [&](const PendingMiss &miss) { misses.push_back(miss); });
  RC_ASSERT(misses == next.misses());
  if constexpr (requires {
                  iotlb.ForEachMappingOf(PhysRange(), [](auto &) {});
                }) {
    for (std::uint64_t first : {std::uint64_t{0}, std::uint64_t{1} << 19}) {
      const PhysRange memory =
          PhysRange::FromSize(PhysAddr(first), std::uint64_t{1} << 19).value();
      std::vector<IotlbEntry> found;
      iotlb.ForEachMappingOf(memory,
                             [&](const IotlbEntry &e) { found.push_back(e); });
      RC_ASSERT(found == next.MappingsOf(memory));
    }
  }
}

template <class I>
struct AddCommand : Command<I> {
  IotlbEntry entry = *AnyEntry();

  void apply(IotlbOracle &oracle) const override { (void)oracle.Add(entry); }
  void run(const IotlbOracle &oracle, Rig<I> &rig) const override {
    IotlbOracle next = oracle;
    const Result<void> want = next.Add(entry);
    const Result<void> got = rig.iotlb.Add(entry);
    RC_ASSERT(want.ok() == got.ok());
    if (!want.ok()) RC_ASSERT(want.error() == got.error());
    ExpectAgreement(next, rig, entry.range);
  }
  void show(std::ostream &os) const override {
    os << "Add " << Show(entry.range) << " " << ToString(entry.permission)
       << " address " << entry.address.value() << " token " << entry.token;
  }
};

template <class I>
struct RemoveCommand : Command<I> {
  Range range = *AnyRange();
  bool deferred = *rc::gen::arbitrary<bool>();

  void apply(IotlbOracle &oracle) const override {
    (void)oracle.Remove(range).ok();
  }
  void run(const IotlbOracle &oracle, Rig<I> &rig) const override {
    IotlbOracle next = oracle;
    const Result<std::size_t> want = next.Remove(range);
    const Result<std::size_t> got = rig.iotlb.Remove(
        range, deferred ? RemoveMode::kDeferred : RemoveMode::kSynchronous);
    RC_ASSERT(rig.iotlb.IsOver(rig.iotlb.Retire()));
    RC_ASSERT(got.ok() == want.ok());
    if (want.ok()) RC_ASSERT(*got == *want);
    if (!want.ok()) RC_ASSERT(got.error() == want.error());
    ExpectAgreement(next, rig, range);
  }
  void show(std::ostream &os) const override { os << "Remove " << Show(range); }
};

// Of an entry that is there, most of the time.
template <class I>
struct RemoveExactCommand : Command<I> {
  Range range = *AnyRange();
  std::uint64_t token = *rc::gen::inRange<std::uint64_t>(0, 3);

  explicit RemoveExactCommand(const IotlbOracle &oracle) {
    if (oracle.size() == 0 || *rc::gen::inRange(0, 8) == 0) return;
    const auto i = *rc::gen::inRange<std::size_t>(0, oracle.size());
    range = oracle[i].range;
    token = oracle[i].token;
  }
  void apply(IotlbOracle &oracle) const override {
    (void)oracle.RemoveExact(range, token);
  }
  void run(const IotlbOracle &oracle, Rig<I> &rig) const override {
    IotlbOracle next = oracle;
    const Result<IotlbEntry> want = next.RemoveExact(range, token);
    const Result<IotlbEntry> got = rig.iotlb.RemoveExact(range, token);
    RC_ASSERT(want.ok() == got.ok());
    if (want.ok()) {
      RC_ASSERT(*want == *got);
    } else {
      RC_ASSERT(want.error() == got.error());
    }
    ExpectAgreement(next, rig, range);
  }
  void show(std::ostream &os) const override {
    os << "RemoveExact " << Show(range) << " token " << token;
  }
};

// What a walk found, the k-th that overlaps a range.
template <class I>
struct RemoveEntryCommand : Command<I> {
  Range range = *AnyRange();
  std::size_t skip = *rc::gen::inRange<std::size_t>(0, 3);

  void apply(IotlbOracle &oracle) const override { (void)Take(oracle); }
  void run(const IotlbOracle &oracle, Rig<I> &rig) const override {
    IotlbOracle next = oracle;
    const std::optional<IotlbEntry> want = Take(next);
    auto ref = rig.iotlb.First(range);
    for (std::size_t i = 0; i < skip && ref != nullptr; ++i) {
      ref = rig.iotlb.Next(ref, range);
    }
    RC_ASSERT((ref != nullptr) == want.has_value());
    if (want) RC_ASSERT(rig.iotlb.RemoveEntry(ref) == *want);
    ExpectAgreement(next, rig, range);
  }
  void show(std::ostream &os) const override {
    os << "RemoveEntry " << skip << " of " << Show(range);
  }

 private:
  std::optional<IotlbEntry> Take(IotlbOracle &oracle) const {
    return oracle.RemoveOverlapping(range, skip);
  }
};

// One that is there goes and comes again at once.
template <class I>
struct AgainCommand : Command<I> {
  std::optional<IotlbEntry> entry;

  explicit AgainCommand(const IotlbOracle &oracle) {
    if (oracle.size() == 0) return;
    entry = oracle[*rc::gen::inRange<std::size_t>(0, oracle.size())];
  }
  void apply(IotlbOracle &oracle) const override {
    if (!entry) return;
    const Result<IotlbEntry> removed =
        oracle.RemoveExact(entry->range, entry->token);
    if (removed.ok()) (void)oracle.Add(*removed).ok();
  }
  void run(const IotlbOracle &oracle, Rig<I> &rig) const override {
    IotlbOracle next = oracle;
    apply(next);
    if (entry) {
      const Result<IotlbEntry> removed =
          rig.iotlb.RemoveExact(entry->range, entry->token);
      if (removed.ok()) (void)rig.iotlb.Add(*removed).ok();
    }
    ExpectAgreement(next, rig, entry ? entry->range : Range::Whole());
  }
  void show(std::ostream &os) const override {
    os << "Again " << (entry ? Show(entry->range) : "nothing");
  }
};

template <class I>
struct ClearCommand : Command<I> {
  void apply(IotlbOracle &oracle) const override { oracle.Clear(); }
  void run(const IotlbOracle &oracle, Rig<I> &rig) const override {
    IotlbOracle next = oracle;
    next.Clear();
    rig.iotlb.Clear();
    ExpectAgreement(next, rig, Range::Whole());
  }
  void show(std::ostream &os) const override { os << "Clear"; }
};

// A range of up to 100 bytes, judged byte by byte; read in one call and again
// through an array of `room` segments.
template <class I>
struct TranslateCommand : Command<I> {
  Range range = *rc::gen::suchThat(
      AnyRange(), [](const Range &r) { return r.size_minus_one() < 100; });
  Permission wanted = *AnyPermission();
  std::size_t room = *rc::gen::inRange<std::size_t>(1, 4);

  void run(const IotlbOracle &oracle, Rig<I> &rig) const override {
    std::array<Segment, 101> all;
    const std::size_t n = rig.iotlb.Translate(range, wanted, all);
    const std::vector<Segment> whole(all.begin(), all.begin() + n);
    ExpectSame(oracle.Judge(range, wanted, whole));
    std::vector<Segment> pieces;
    Range rest = range;
    for (;;) {
      const std::size_t got = rig.iotlb.Translate(
          rest, wanted, std::span<Segment>(all.data(), room));
      RC_ASSERT(got >= 1u && got <= room);
      pieces.insert(pieces.end(), all.begin(), all.begin() + got);
      if (pieces.back().range.last() == range.last()) break;
      rest =
          RangeOf(pieces.back().range.last().value() + 1, range.last().value());
    }
    RC_ASSERT(pieces == whole);
  }
  void show(std::ostream &os) const override {
    os << "Translate " << Show(range) << " for " << ToString(wanted);
  }
};

// A byte of a range, mapped or not.
template <class I>
struct ReportMissCommand : Command<I> {
  Iova at = (*AnyRange()).first();
  Permission wanted = *AnyPermission();

  // Of one that waits, or of its neighbour in the page, one time in two.
  explicit ReportMissCommand(const IotlbOracle &oracle) {
    const auto &misses = oracle.misses();
    if (misses.empty() || *rc::gen::arbitrary<bool>()) return;
    const auto i = *rc::gen::inRange<std::size_t>(0, misses.size());
    at = misses[i].page + *rc::gen::inRange<std::uint64_t>(0, 2);
    wanted = misses[i].permission;
  }
  void apply(IotlbOracle &oracle) const override {
    (void)oracle.ReportMiss(at, wanted);
  }
  void run(const IotlbOracle &oracle, Rig<I> &rig) const override {
    IotlbOracle next = oracle;
    const MissReport want = next.ReportMiss(at, wanted);
    RC_ASSERT(rig.iotlb.ReportMiss(at, wanted) == want);
    ExpectAgreement(next, rig, Range::Byte(at));
  }
  void show(std::ostream &os) const override {
    os << "ReportMiss " << Show(Range::Byte(at)) << " for " << ToString(wanted);
  }
};

// "There is no mapping."
template <class I>
struct AnswerMissesCommand : Command<I> {
  Range range = *AnyRange();
  Permission granted = *AnyPermission();

  void apply(IotlbOracle &oracle) const override {
    (void)oracle.AnswerMisses(range, granted);
  }
  void run(const IotlbOracle &oracle, Rig<I> &rig) const override {
    IotlbOracle next = oracle;
    const std::size_t want = next.AnswerMisses(range, granted);
    RC_ASSERT(rig.iotlb.AnswerMisses(range, granted) == want);
    ExpectAgreement(next, rig, range);
  }
  void show(std::ostream &os) const override {
    os << "AnswerMisses " << Show(range) << " " << ToString(granted);
  }
};

// Runs sequences of up to 120 commands: the tree gets three levels high.
template <class I, class MakeCommand>
void CheckCommands(const IotlbOptions &options, MakeCommand make_command) {
  const IotlbOracle start(options, kPageShiftOf<I>);
  const auto commands = *rc::gen::scale(
      1.2, rc::state::gen::commands(start, std::move(make_command)));
  Rig<I> rig(options);
  rc::state::runAll(commands, start, rig);
  RC_TAG(rig.iotlb.stats().height);
}

// Add more often than the rest: that is what makes a tree.
template <class I>
void CheckModel(const IotlbOptions &options) {
  CheckCommands<I>(
      options, rc::state::gen::execOneOfWithArgs<
                   AddCommand<I>, AddCommand<I>, AddCommand<I>, AddCommand<I>,
                   AddCommand<I>, AddCommand<I>, AddCommand<I>, AddCommand<I>,
                   RemoveCommand<I>, RemoveExactCommand<I>,
                   RemoveEntryCommand<I>, AgainCommand<I>, TranslateCommand<I>,
                   TranslateCommand<I>, ReportMissCommand<I>,
                   ReportMissCommand<I>, AnswerMissesCommand<I>>());
}

// Without Remove, which takes a wide range at times, the tree stays tall.
template <class I>
void CheckModelOfTallTrees(const IotlbOptions &options) {
  CheckCommands<I>(
      options,
      rc::state::gen::execOneOfWithArgs<AddCommand<I>, AddCommand<I>,
                                        AddCommand<I>, RemoveExactCommand<I>,
                                        TranslateCommand<I>>());
}
template <class I>
void CheckModelWithClear(const IotlbOptions &options) {
  CheckCommands<I>(
      options,
      rc::state::gen::execOneOfWithArgs<AddCommand<I>, AddCommand<I>,
                                        AddCommand<I>, AddCommand<I>,
                                        RemoveCommand<I>, ClearCommand<I>>());
}

constexpr auto kAllow = OverlapPolicy::kAllow;
constexpr auto kNoOverlap = OverlapPolicy::kRefuse;
constexpr auto kRefuse = LimitPolicy::kRefuse;
constexpr auto kRetire = LimitPolicy::kRetireOldest;

// Each combination of policies, one property each: bit 0 of the number refuses
// overlaps, bit 1 splits, bit 2 merges, bit 3 switches the front off.
IotlbOptions Combination(unsigned bits, std::size_t limit,
                         LimitPolicy limit_policy) {
  IotlbOptions options{limit, limit_policy};
  options.overlap_policy = (bits & 1) != 0 ? kNoOverlap : kAllow;
  options.remove_policy =
      (bits & 2) != 0 ? RemovePolicy::kSplit : RemovePolicy::kWhole;
  options.merge_policy =
      (bits & 4) != 0 ? MergePolicy::kMerge : MergePolicy::kKeep;
  options.front_policy = (bits & 8) != 0 ? FrontPolicy::kOff : FrontPolicy::kOn;
  options.pending_misses = 3;  // few, so that the list is full at times
  return options;
}

class IotlbModels : public testing::TestWithParam<unsigned> {
 protected:
  template <class I>
  void Check(std::size_t limit, LimitPolicy policy) {
    const IotlbOptions options = Combination(GetParam(), limit, policy);
    EXPECT_TRUE(rc::check([&] { CheckModel<I>(options); }));
  }
};
TEST_P(IotlbModels, Unlimited) { Check<SmallNodes>(0, kRefuse); }
TEST_P(IotlbModels, LimitRefuses) { Check<PlainNodes>(6, kRefuse); }
TEST_P(IotlbModels, LimitRetires) { Check<SmallNodes>(12, kRetire); }
TEST_P(IotlbModels, LimitOfOneRetires) { Check<PlainNodes>(1, kRetire); }
INSTANTIATE_TEST_SUITE_P(AllPolicies, IotlbModels, testing::Range(0u, 16u));

RC_GTEST_PROP(IotlbModel, StandardNodes, ()) {
  CheckModel<Iotlb>({0, kRefuse, kAllow});
}
RC_GTEST_PROP(IotlbModel, TallTrees, ()) {
  CheckModelOfTallTrees<SmallNodes>({0, kRefuse, kAllow});
}
RC_GTEST_PROP(IotlbModel, TallTreesRetire, ()) {
  CheckModelOfTallTrees<SmallNodes>({40, kRetire, kAllow});
}
RC_GTEST_PROP(IotlbModel, Clear, ()) {
  CheckModelWithClear<SmallNodes>({12, kRetire, kAllow});
}

}  // namespace
}  // namespace dmamap
