// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "iova/buddy_store.h"
#include "iova/store_model_for_test.h"

namespace dmamap {
namespace {

rc::Gen<StoreStep> AnyStep() {
  return rc::gen::build<StoreStep>(
      rc::gen::set(&StoreStep::allocate,
                   rc::gen::weightedElement<bool>({{3, true}, {2, false}})),
      rc::gen::set(&StoreStep::count,
                   rc::gen::weightedOneOf<std::uint64_t>(
                       {{6, rc::gen::inRange<std::uint64_t>(1, 5)},
                        {3, rc::gen::inRange<std::uint64_t>(1, 140)},
                        {1, rc::gen::inRange<std::uint64_t>(1, 5000)}})),
      rc::gen::set(
          &StoreStep::align_order,
          rc::gen::weightedOneOf<unsigned>(
              {{3, rc::gen::just(0u)}, {1, rc::gen::inRange(0u, 10u)}})),
      rc::gen::set(&StoreStep::limited, rc::gen::arbitrary<bool>()),
      rc::gen::set(&StoreStep::limit,
                   rc::gen::inRange<std::uint64_t>(0, 1u << 13)),
      rc::gen::set(&StoreStep::first,
                   rc::gen::weightedOneOf<std::uint64_t>(
                       {{3, rc::gen::just<std::uint64_t>(0)},
                        {1, rc::gen::inRange<std::uint64_t>(0, 1u << 13)}})),
      rc::gen::set(&StoreStep::boundary_order,
                   rc::gen::weightedOneOf<unsigned>(
                       {{2, rc::gen::just(PageRequest::kNoBoundary)},
                        {1, rc::gen::inRange(0u, 12u)}})),
      rc::gen::set(&StoreStep::padding,
                   rc::gen::weightedOneOf<std::uint64_t>(
                       {{3, rc::gen::just<std::uint64_t>(0)},
                        {1, rc::gen::inRange<std::uint64_t>(0, 70)}})),
      rc::gen::set(&StoreStep::bottom_up, rc::gen::arbitrary<bool>()),
      rc::gen::set(&StoreStep::piece_order,
                   rc::gen::weightedOneOf<unsigned>(
                       {{3, rc::gen::just(PageRequest::kWhole)},
                        {1, rc::gen::inRange(0u, 8u)}})),
      rc::gen::set(&StoreStep::pick,
                   rc::gen::inRange<std::uint64_t>(0, 1u << 10)));
}

rc::Gen<StoreWindow> AnyWindow() {
  constexpr std::uint64_t kTop = std::uint64_t{1} << kMaxPageBits;
  return rc::gen::map(
      rc::gen::tuple(rc::gen::inRange<std::uint64_t>(1, 9000),
                     rc::gen::element<std::uint64_t>(0, 1, 4095, 262143,
                                                     0xfffff000 / 4096, kTop),
                     rc::gen::container<std::vector<std::uint64_t>>(
                         rc::gen::inRange<std::uint64_t>(0, 9000))),
      [](const auto& t) {
        StoreWindow window;
        window.pages = std::get<0>(t);
        window.first = std::get<1>(t) == kTop ? kTop - window.pages  // the end
                                              : std::get<1>(t);
        window.holes = std::get<2>(t);
        return window;
      });
}

RC_GTEST_PROP(BuddyStoreProperty, AgreesWithThePageMap, ()) {
  for (int sequence = 0; sequence < 4; ++sequence) {
    const StoreWindow window = *AnyWindow();
    const auto steps = *rc::gen::container<std::vector<StoreStep>>(AnyStep());
    RC_ASSERT(RunStoreModel<BuddyStore>(window, steps) == std::string());
  }
}

// Negative controls: a store with one broken rule must be found out.
template <class Change>
class Broken {
 public:
  Result<void> Init(std::uint64_t first, std::uint64_t last) {
    return store_.Init(first, last);
  }
  Result<void> Insert(std::uint64_t first, std::uint64_t last) {
    return store_.Insert(first, last);
  }
  Result<std::uint64_t> Allocate(const PageRequest& request) {
    return change_.Allocate(store_, request);
  }
  Result<void> Free(std::uint64_t first, std::uint64_t count) {
    return change_.Free(store_, first, count);
  }
  bool HasPlaceFor(const PageRequest& request) const {
    return change_.HasPlaceFor(store_, request);
  }
  std::uint64_t free_pages() const { return store_.free_pages(); }
  void Prefetch(std::uint64_t page) const { store_.Prefetch(page); }
  template <class Fn>
  void ForEachFree(Fn&& fn) const {
    store_.ForEachFree(fn);
  }
  std::uint64_t bytes() const { return store_.bytes(); }
  bool CheckInvariants() const { return store_.CheckInvariants(); }

 private:
  BuddyStore store_;
  Change change_;
};
struct Faithful {
  Result<std::uint64_t> Allocate(BuddyStore& s, PageRequest r) {
    return s.Allocate(r);
  }
  Result<void> Free(BuddyStore& s, std::uint64_t first, std::uint64_t count) {
    return s.Free(first, count);
  }
  bool HasPlaceFor(const BuddyStore& s, const PageRequest& r) const {
    return s.HasPlaceFor(r);
  }
};
// Refuses what just fits.
struct WantsAPageMore : Faithful {
  bool HasPlaceFor(const BuddyStore& s, PageRequest r) const {
    return ++r.count != 0 && s.HasPlaceFor(r);
  }
};
struct LimitOffByOne : Faithful {
  Result<std::uint64_t> Allocate(BuddyStore& s, PageRequest r) {
    if (r.last != ~std::uint64_t{0}) ++r.last;
    return s.Allocate(r);
  }
};
struct NoAlignment : Faithful {
  Result<std::uint64_t> Allocate(BuddyStore& s, PageRequest r) {
    r.align_order = 0;
    return s.Allocate(r);
  }
};
struct NoFirst : Faithful {
  Result<std::uint64_t> Allocate(BuddyStore& s, PageRequest r) {
    r.first = 0;
    return s.Allocate(r);
  }
};
struct NoPlacement : Faithful {
  Result<std::uint64_t> Allocate(BuddyStore& s, PageRequest r) {
    r.placement = Placement::kTopDown;
    return s.Allocate(r);
  }
};
// Believes that the padding may be put anywhere.
struct NoPadding : Faithful {
  Result<std::uint64_t> Allocate(BuddyStore& s, PageRequest r) {
    r.padding = 0;
    return s.Allocate(r);
  }
};
// Takes the lowest page of the range found: right but for its boundary.
struct NoBoundary : Faithful {
  Result<std::uint64_t> Allocate(BuddyStore& s, PageRequest r) {
    if (r.boundary_order >= 64 || r.align_order != 0 || r.count < 2 ||
        (r.count - 1) >> r.boundary_order != 0) {
      return s.Allocate(r);
    }
    // One page more, so that the range may begin one page later.
    PageRequest wide = r;
    ++wide.padding;
    wide.last -= wide.last == ~std::uint64_t{0} ? 0 : 1;
    const Result<std::uint64_t> got = s.Allocate(wide);
    if (!got.ok()) return s.Allocate(r);
    (void)s.Free(*got, 1);
    return *got + 1;
  }
};
struct NoPieces : Faithful {
  Result<std::uint64_t> Allocate(BuddyStore& s, PageRequest r) {
    r.piece_order = PageRequest::kWhole;
    return s.Allocate(r);
  }
};
struct KeepsTheTail : Faithful {
  Result<void> Free(BuddyStore& s, std::uint64_t first, std::uint64_t count) {
    return s.Free(first, count > 32 ? count - 1 : count);
  }
};
// Linux's max32_alloc_size: one refusal makes others of that size or more fail
// until the next free, whatever their limit.
struct RemembersRefusal : Faithful {
  Result<std::uint64_t> Allocate(BuddyStore& s, PageRequest r) {
    if (r.count >= hint) return Error::kNoSpace;
    const Result<std::uint64_t> got = s.Allocate(r);
    if (!got.ok()) hint = r.count;
    return got;
  }
  Result<void> Free(BuddyStore& s, std::uint64_t first, std::uint64_t count) {
    hint = ~std::uint64_t{0};
    return s.Free(first, count);
  }
  std::uint64_t hint = ~std::uint64_t{0};
};
struct SwallowsDoubleFree : Faithful {
  Result<void> Free(BuddyStore& s, std::uint64_t first, std::uint64_t count) {
    (void)s.Free(first, count);
    return Ok();
  }
};

template <class Store>
class StoreModel : public testing::Test {
 public:
  static std::string FirstDifference() {
    std::mt19937_64 generator(20260101);
    // One call a statement, so that every compiler draws the same numbers.
    const auto below = [&](std::uint64_t n) { return generator() % n; };
    for (int run = 0; run < 60; ++run) {
      StoreWindow window;
      window.first = below(5000);
      window.pages = 1 + below(run % 3 == 0 ? 20000 : 900);
      std::vector<StoreStep> steps(80);
      for (StoreStep& s : steps) {
        s.allocate = below(5) < 3;
        const std::uint64_t most = below(3) == 0 ? 140 : 4;
        s.count = 1 + below(most);
        if (below(4) == 0) s.align_order = static_cast<unsigned>(below(6));
        s.limited = below(2) == 0;
        s.limit = generator();
        if (below(4) == 0) s.first = generator();
        if (below(4) == 0) s.boundary_order = static_cast<unsigned>(below(9));
        if (below(4) == 0) s.padding = below(40);
        s.bottom_up = below(2) == 0;
        if (below(4) == 0) {
          s.piece_order = static_cast<unsigned>(below(4));
          s.count <<= 6;
        }
        s.pick = generator();
      }
      const std::string what = RunStoreModel<Store>(window, steps);
      if (!what.empty()) return what;
    }
    return "";
  }
};
using Whole = StoreModel<Broken<Faithful>>;
TEST_F(Whole, PassesTheControlsRuns) { EXPECT_EQ(FirstDifference(), ""); }

using Controls =
    testing::Types<Broken<WantsAPageMore>, Broken<LimitOffByOne>,
                   Broken<NoAlignment>, Broken<NoFirst>, Broken<NoPlacement>,
                   Broken<NoPadding>, Broken<NoBoundary>, Broken<NoPieces>,
                   Broken<KeepsTheTail>, Broken<RemembersRefusal>,
                   Broken<SwallowsDoubleFree>>;
template <class Store>
class NegativeControl : public StoreModel<Store> {};
TYPED_TEST_SUITE(NegativeControl, Controls);
TYPED_TEST(NegativeControl, IsFound) { EXPECT_NE(this->FirstDifference(), ""); }

}  // namespace
}  // namespace dmamap
