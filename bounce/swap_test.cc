// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Bounce pages that move between one's own memory and a user's.

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "bounce/bounce.h"
#include "bounce/swappable_pages.h"
#include "dma/address.h"

namespace dmamap {
namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kCount = 8;

struct alignas(kPage) Memory {
  std::array<std::byte, kPage * kCount> bytes;
};

struct World {
  explicit World(std::uint64_t slots_a_page = 1) {
    const auto slot = *PageSize::FromBytes(kPage / slots_a_page);
    RC_ASSERT(
        bounce.Init({.size = kPage * kCount, .page = PageSize(), .slot = slot})
            .ok());
    lent.bytes.fill(std::byte{0xEE});
  }
  Result<void> Lend(std::uint64_t pages = kCount) {
    const std::array regions = {UserRegion{lent.bytes.data(), pages * kPage}};
    return pages_.lent().Register({.regions = regions});
  }
  Result<std::uint64_t> Swap(PageHome to) {
    return bounce.SwapPages(to, [&](Range r) {
      invalidated.push_back(r);
      return fail ? Result<void>(Error::kDevice) : Ok();
    });
  }
  std::byte* Touch(Iova at) {
    bool made = false;
    std::uint64_t bytes = 0;
    const auto page = bounce.Touch(
        at, [] { return Ok(); }, &made, &bytes);
    return page.ok() ? *page : nullptr;
  }
  bool IsLent(const std::byte* p) const {
    return p >= lent.bytes.data() && p < lent.bytes.data() + lent.bytes.size();
  }

  Memory lent;
  SwappablePages<> pages_;
  DirectMemory memory;
  Bounce<SwappablePages<>, DirectMemory> bounce{pages_, memory};
  std::vector<Range> invalidated;
  bool fail = false;
};

BounceBuffer BufferAt(const World& w, std::uint64_t slot, std::uint64_t size,
                      const std::byte* buffer) {
  const Range body =
      *Range::FromSize(Iova(slot * w.bounce.slot().bytes()), size);
  return {body.RoundOutToPages(w.bounce.slot()), body, PhysAddrOf(buffer)};
}

TEST(Swap, TooFewPagesChangeNothing) {
  World w;
  for (std::uint64_t i = 0; i < 4; ++i) {
    ASSERT_TRUE(
        w.bounce.Prepare(*Range::FromSize(Iova(0), kPage * kCount)).ok());
    ASSERT_NE(w.Touch(Iova(i * kPage)), nullptr);
  }
  std::byte* const page = w.Touch(Iova(0));
  ASSERT_TRUE(w.Lend(3).ok());
  EXPECT_EQ(w.Swap(PageHome::kLent).error(), Error::kPoolEmpty);
  EXPECT_EQ(w.Touch(Iova(0)), page);
  EXPECT_TRUE(w.invalidated.empty());
  EXPECT_EQ(w.pages_.home(), PageHome::kOwn);
  EXPECT_EQ(w.pages_.out(PageHome::kLent), 0u);
  EXPECT_TRUE(w.pages_.CheckInvariants());
  EXPECT_TRUE(w.pages_.lent().Withdraw().ok());
}

TEST(Swap, WithoutLentPagesNothingChanges) {
  World w;
  ASSERT_TRUE(w.bounce.Prepare(*Range::FromSize(Iova(0), kPage)).ok());
  ASSERT_NE(w.Touch(Iova(0)), nullptr);
  EXPECT_EQ(w.Swap(PageHome::kLent).error(), Error::kShutDown);
  EXPECT_EQ(w.pages_.home(), PageHome::kOwn);
}

TEST(Swap, AFailedInvalidationKeepsThePageAndMayBeTriedAgain) {
  World w;
  ASSERT_TRUE(w.Lend().ok());
  ASSERT_TRUE(w.bounce.Prepare(*Range::FromSize(Iova(0), kPage)).ok());
  std::byte* const page = w.Touch(Iova(0));
  page[7] = std::byte{7};
  w.fail = true;
  EXPECT_EQ(w.Swap(PageHome::kLent).error(), Error::kDevice);
  EXPECT_EQ(w.Touch(Iova(0)), page);
  w.fail = false;
  EXPECT_EQ(*w.Swap(PageHome::kLent), 1u);
  EXPECT_TRUE(w.IsLent(w.Touch(Iova(0))));
  EXPECT_EQ(w.Touch(Iova(0))[7], std::byte{7});
  EXPECT_EQ(w.pages_.lent().Withdraw().error(), Error::kBusy);
  EXPECT_EQ(*w.Swap(PageHome::kOwn), 1u);
  EXPECT_EQ(w.Touch(Iova(0))[7], std::byte{7});
  EXPECT_TRUE(w.pages_.lent().Withdraw().ok());
}

TEST(Swap, AMappingInQuarantineKeepsItsPage) {
  World w;
  ASSERT_TRUE(w.Lend().ok());
  std::vector<std::byte> buffer(kPage, std::byte{1});
  const BounceBuffer b = BufferAt(w, 0, kPage, buffer.data());
  auto& slot = **w.bounce.Prepare(b.slots);
  std::uint64_t bytes = 0;
  ASSERT_TRUE(w.bounce.Show(slot, b, &bytes).ok());
  (void)w.bounce.Admit(slot);
  std::byte* const page = w.Touch(Iova(0));
  w.bounce.Vacate(slot, SlotState::kQuarantined);
  EXPECT_EQ(w.Swap(PageHome::kLent).error(), Error::kDevice);
  EXPECT_EQ(w.Touch(Iova(0)), page);
}

// Mappings, device writes, syncs, ends and swaps in any order, against an
// oracle of what each live mapping must show: no byte is lost, none becomes
// another's.
RC_GTEST_PROP(Swap, NoByteIsLost, ()) {
  const std::uint64_t slots_a_page = std::uint64_t{1}
                                     << *rc::gen::inRange(0, 3);
  World w(slots_a_page);
  RC_ASSERT(w.Lend().ok());
  struct Live {
    BounceBuffer b;
    std::vector<std::byte> shown;  // what the device must see
    std::vector<std::byte> buffer;
  };
  const std::uint64_t slots = kCount * slots_a_page;
  const std::uint64_t slot_bytes = kPage / slots_a_page;
  std::vector<Live> live;
  std::vector<bool> used(slots, false);
  std::uint64_t swaps = 0;
  const int steps = *rc::gen::inRange(1, 40);
  for (int i = 0; i < steps; ++i) {
    const int what = *rc::gen::inRange(0, 6);
    if (what == 0) {  // map
      const auto first = *rc::gen::inRange<std::uint64_t>(0, slots);
      const auto n = *rc::gen::inRange<std::uint64_t>(1, 4);
      bool free = first + n <= slots;
      for (std::uint64_t s = first; free && s < first + n; ++s) free = !used[s];
      if (!free) continue;
      const auto size = *rc::gen::inRange<std::uint64_t>(
          (n - 1) * slot_bytes + 1, n * slot_bytes + 1);
      Live l;
      const auto value = static_cast<std::byte>(*rc::gen::inRange(1, 256));
      l.buffer.assign(size, value);
      l.shown = l.buffer;
      l.b = BufferAt(w, first, size, l.buffer.data());
      auto& slot = **w.bounce.Prepare(l.b.slots);
      std::uint64_t bytes = 0;
      RC_ASSERT(w.bounce.Show(slot, l.b, &bytes).ok());
      (void)w.bounce.Admit(slot);
      for (std::uint64_t s = first; s < first + n; ++s) used[s] = true;
      live.push_back(std::move(l));
    } else if (what == 1) {  // swap
      const PageHome to =
          w.pages_.home() == PageHome::kOwn ? PageHome::kLent : PageHome::kOwn;
      RC_ASSERT(w.Swap(to).ok());
      ++swaps;
      w.bounce.ForEachPage([&](Range, std::byte* page) {
        RC_ASSERT(w.IsLent(page) == (to == PageHome::kLent));
      });
    } else if (!live.empty()) {
      const auto at = *rc::gen::inRange<std::size_t>(0, live.size());
      Live& l = live[at];
      const auto offset = *rc::gen::inRange<std::uint64_t>(0, l.shown.size());
      const Iova iova = l.b.body.first() + offset;
      if (what == 2 || what == 3) {  // the device writes a byte
        const auto value = static_cast<std::byte>(*rc::gen::inRange(1, 256));
        w.Touch(iova)[PageSize().Offset(iova.value())] = value;
        l.shown[offset] = value;
        continue;
      }
      std::uint64_t bytes = 0;  // sync for the CPU, or the end
      RC_ASSERT(w.bounce.CopyOut(l.b.body, l.b.buffer, &bytes).ok());
      RC_ASSERT(l.buffer == l.shown);
      if (what == 4) continue;
      auto& slot = *w.bounce.SlotAt(l.b.slots.first());
      w.bounce.Retract(slot, l.b.slots);
      w.bounce.Vacate(slot, SlotState::kFree);
      const std::uint64_t first = l.b.slots.first().value() / slot_bytes;
      for (std::uint64_t s = first; s <= l.b.slots.last().value() / slot_bytes;
           ++s) {
        used[s] = false;
      }
      live.erase(live.begin() + static_cast<std::ptrdiff_t>(at));
    }
  }
  for (const Live& l : live) {
    for (std::uint64_t i = 0; i < l.shown.size(); ++i) {
      const Iova iova = l.b.body.first() + i;
      RC_ASSERT(w.Touch(iova)[PageSize().Offset(iova.value())] == l.shown[i]);
    }
  }
  RC_ASSERT(w.bounce.CheckInvariants() && w.pages_.CheckInvariants());
  RC_TAG(swaps == 0 ? "no swap" : "swaps");
}

}  // namespace
}  // namespace dmamap
