// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "bounce/user_pages.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>
#include <vector>

#include "bounce/page_calls_for_test.h"
#include "dma/address.h"

namespace dmamap {
namespace {

using testing_parts::AllAre;
using testing_parts::AllZero;
using testing_parts::Scribble;

constexpr std::uint64_t kUnit = 4096;
const PageSize kPage;

// `pages` pages of memory, aligned to 64 KiB, full of old bytes.
class Memory {
 public:
  explicit Memory(std::uint64_t pages)
      : bytes_(pages * kUnit),
        data_(static_cast<std::byte*>(
            ::operator new(static_cast<std::size_t>(bytes_), kAlign))) {
    Scribble(data_, bytes_);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() { ::operator delete(data_, kAlign); }
  std::byte* at(std::uint64_t page) const { return data_ + page * kUnit; }

 private:
  static constexpr std::align_val_t kAlign{65536};
  std::uint64_t bytes_;
  std::byte* data_;
};

TEST(UserPages, WhatIsWrongIsNamedAndNothingIsTaken) {
  const Memory m(16);
  UserPages pages;
  EXPECT_EQ(pages.Allocate(kPage, 1).error(), Error::kShutDown);
  EXPECT_EQ(pages.Withdraw().error(), Error::kShutDown);
  const UserRegion good{m.at(0), 2 * kUnit};
  std::byte* const top = PointerTo(PhysAddr(~std::uint64_t{0} - 4095));
  struct Case {
    std::vector<UserRegion> regions;
    Error error;
  };
  const std::vector<Case> cases = {
      {{}, Error::kInvalidArgument},
      {{good, {nullptr, kUnit}}, Error::kInvalidArgument},
      {{good, {m.at(4), 0}}, Error::kInvalidArgument},
      {{good, {m.at(4) + 64, kUnit}}, Error::kInvalidArgument},
      {{good, {m.at(4), kUnit + 64}}, Error::kInvalidArgument},
      {{good, {top, 2 * kUnit}}, Error::kOverflow},
      {{good, good}, Error::kOverlap},
      {{{m.at(3), 4 * kUnit}, good, {m.at(1), 2 * kUnit}}, Error::kOverlap},
      {{{m.at(0), 8 * kUnit}, {m.at(7), kUnit}}, Error::kOverlap},
      {{good, {m.at(2), kUnit}}, Error::kMismatch},  // 3 pages and not 4
  };
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const auto r = pages.Register({.regions = cases[i].regions, .pages = 4});
    ASSERT_FALSE(r.ok()) << i;
    EXPECT_EQ(r.error(), cases[i].error) << i;
    EXPECT_FALSE(pages.registered());
    EXPECT_EQ(pages.Allocate(kPage, 1).error(), Error::kShutDown);
  }
  EXPECT_TRUE(AllAre(m.at(0), 16 * kUnit, std::byte{0x5a}));
}

TEST(UserPages, TheLastPageOfTheAddressSpaceIsAPage) {
  UserPages pages;
  const std::array top = {
      UserRegion{PointerTo(PhysAddr(~std::uint64_t{0} - 4095)), kUnit}};
  ASSERT_TRUE(pages.Register({.regions = top}).ok());
  EXPECT_TRUE(pages.Withdraw().ok());
}

TEST(UserPages, ZeroTheFirstTimeAndEveryTime) {
  const Memory m(4);
  UserPages pages;
  const std::array regions = {UserRegion{m.at(0), 4 * kUnit}};
  ASSERT_TRUE(pages.Register({.regions = regions, .pages = 4}).ok());
  EXPECT_EQ(pages.Register({.regions = regions}).error(), Error::kBusy);
  EXPECT_EQ(pages.stats().kept, 4 * kUnit);
  for (int round = 0; round < 3; ++round) {
    const auto p = pages.Allocate(kPage, 3);
    ASSERT_TRUE(p.ok());
    EXPECT_TRUE(AllZero(*p, 3 * kUnit));
    EXPECT_TRUE(AllAre(m.at(3), kUnit, std::byte{0x5a}));
    Scribble(*p, 3 * kUnit);
    pages.Free(*p, kPage, 3);
  }
}

TEST(UserPages, ARunLiesInOneRegion) {
  const Memory m(16);
  UserPages pages;
  // Neighbours in memory, registered apart, and a third with a gap.
  const std::array regions = {UserRegion{m.at(3), 2 * kUnit},
                              UserRegion{m.at(0), 3 * kUnit},
                              UserRegion{m.at(8), 4 * kUnit}};
  ASSERT_TRUE(pages.Register({.regions = regions, .pages = 9}).ok());
  EXPECT_EQ(pages.Allocate(kPage, 5).error(), Error::kPoolEmpty);
  EXPECT_EQ(*pages.Allocate(kPage, 4), m.at(8));
  EXPECT_EQ(*pages.Allocate(kPage, 3), m.at(0));
  EXPECT_EQ(*pages.Allocate(kPage, 2), m.at(3));
  EXPECT_EQ(pages.Allocate(kPage, 1).error(), Error::kPoolEmpty);
  // Each is given back as it was taken.
  pages.Free(m.at(0), kPage, 5);
  EXPECT_EQ(pages.stats().bad_frees, 1u);
  pages.Free(m.at(0), kPage, 3);
  pages.Free(m.at(3), kPage, 2);
  pages.Free(m.at(8), kPage, 4);
  EXPECT_EQ(pages.stats().bad_frees, 1u);
  EXPECT_TRUE(pages.CheckInvariants());
}

TEST(UserPages, LargerPagesAreAlignedWhereverTheRegionsBegin) {
  const Memory m(64);
  UserPages pages;
  // 64 KiB pages begin at 0, 16, 32, 48.
  const std::array regions = {UserRegion{m.at(1), 14 * kUnit},
                              UserRegion{m.at(20), 30 * kUnit},
                              UserRegion{m.at(63), kUnit}};
  ASSERT_TRUE(pages.Register({.regions = regions}).ok());
  const PageSize large = *PageSize::FromShift(16);
  EXPECT_EQ(*pages.Allocate(large, 1), m.at(32));
  EXPECT_EQ(pages.Allocate(large, 1).error(), Error::kPoolEmpty);
  EXPECT_EQ(*pages.Allocate(*PageSize::FromShift(13), 2), m.at(2));
  pages.Free(m.at(32), large, 1);
  pages.Free(m.at(2), *PageSize::FromShift(13), 2);
  EXPECT_TRUE(pages.Withdraw().ok());
}

TEST(UserPages, WithdrawalWaitsForEveryPageAndSaysWhich) {
  const Memory m(8);
  UserPages pages;
  const std::array regions = {UserRegion{m.at(0), 4 * kUnit},
                              UserRegion{m.at(6), 2 * kUnit}};
  ASSERT_TRUE(pages.Register({.regions = regions}).ok());
  std::byte* const a = *pages.Allocate(kPage, 4);
  std::byte* const b = *pages.Allocate(kPage, 1);
  EXPECT_EQ(pages.Withdraw().error(), Error::kBusy);
  std::vector<std::pair<std::byte*, std::uint64_t>> out;
  pages.ForEachOut([&](std::byte* memory, std::uint64_t bytes) {
    out.emplace_back(memory, bytes);
  });
  EXPECT_EQ(out, (decltype(out){{a, 4 * kUnit}, {b, kUnit}}));
  pages.set_budget(0);  // no more go out
  pages.Free(a, kPage, 4);
  EXPECT_EQ(pages.Allocate(kPage, 1).error(), kOverBudget);
  EXPECT_EQ(pages.Withdraw().error(), Error::kBusy);
  Scribble(b, kUnit);
  pages.Free(b, kPage, 1);
  ASSERT_TRUE(pages.Withdraw().ok());
  EXPECT_TRUE(AllAre(b, kUnit, std::byte{0x5a}));  // what was left there
  pages.Free(b, kPage, 1);  // a late one: refused, not written to
  EXPECT_EQ(pages.stats().bad_frees, 1u);
  // Others may follow.
  pages.set_budget(PageBudget::kNoBudget);
  ASSERT_TRUE(pages.Register({.regions = regions}).ok());
  EXPECT_TRUE(AllZero(*pages.Allocate(kPage, 1), kUnit));
}

// Random regions of a small memory: registered if and only if an oracle of one
// flag a page says so; every page then goes out exactly once, zero, and none
// that was not registered is ever written to.
RC_GTEST_PROP(UserPages, AllOrNothingAndNothingIsLost, ()) {
  static const Memory m(64);
  Scribble(m.at(0), 64 * kUnit);
  const auto count = *rc::gen::inRange<std::size_t>(0, 6);
  std::vector<UserRegion> regions;
  std::vector<int> flags(64, 0);
  bool sound = count != 0;
  for (std::size_t i = 0; i < count; ++i) {
    const auto first = *rc::gen::inRange<std::uint64_t>(0, 64);
    const auto size = *rc::gen::inRange<std::uint64_t>(
        0, std::min<std::uint64_t>(12, 64 - first) + 1);
    const auto skew =
        *rc::gen::weightedElement<std::uint64_t>({{20, 0}, {1, 64}});
    regions.push_back({m.at(first) + skew, size * kUnit});
    sound = sound && size != 0 && skew == 0;
    for (std::uint64_t p = first; p < first + size; ++p) ++flags[p];
  }
  for (int f : flags) sound = sound && f <= 1;

  RC_CLASSIFY(sound, "sound");

  UserPages pages;
  RC_ASSERT(pages.Register({.regions = regions}).ok() == sound);
  std::vector<bool> seen(64, false);
  for (;;) {
    const auto p = pages.Allocate(kPage, 1);
    if (!p.ok()) {
      RC_ASSERT(p.error() == (sound ? Error::kPoolEmpty : Error::kShutDown));
      break;
    }
    const auto index = static_cast<std::size_t>(*p - m.at(0)) / kUnit;
    RC_ASSERT(index < 64 && flags[index] == 1 && !seen[index]);
    RC_ASSERT(AllZero(*p, kUnit));
    seen[index] = true;
  }
  RC_ASSERT(pages.CheckInvariants());
  for (std::size_t i = 0; i < 64; ++i) {
    RC_ASSERT(seen[i] == (sound && flags[i] == 1));
    if (!seen[i]) RC_ASSERT(AllAre(m.at(i), kUnit, std::byte{0x5a}));
  }
  for (std::size_t i = 0; i < 64; ++i) {
    if (!seen[i]) continue;
    RC_ASSERT(pages.Withdraw().error() == Error::kBusy);
    pages.Free(m.at(i), kPage, 1);
  }
  RC_ASSERT(pages.in_use() == 0u);
  RC_ASSERT(pages.Withdraw().ok() == sound);
  RC_ASSERT(pages.CheckInvariants());
}

}  // namespace
}  // namespace dmamap
