// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BOUNCE_SCHED_WORLD_FOR_TEST_H_
#define DMAMAP_BOUNCE_SCHED_WORLD_FOR_TEST_H_

// The shipped Bounce under the deterministic scheduler: tiny pages, memory that
// notices who uses it, and words that can be made to lie.
//
// The bytes of pages and buffers move by memcpy, which the scheduler does not
// see. A plain variable for each stands for them:
//
//   a page    written by who allocates, fills or frees it, read by who uses it:
//             a page that goes away under its user is a data race.
//   a buffer  read by each copy to a page, written by each copy back and by the
//             driver: a fault that reads a buffer which has been given back is
//             a data race.
//   a slot    written by who has shown a mapping there, read by the device that
//             found it live.
//
// A page is never handed out twice in an execution, so that one which went away
// is known by its address.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>

#include "bounce/bounce.h"
#include "bounce/sched_parts_for_test.h"
#include "bounce/slot.h"
#include "dma/address.h"
#include "dma/asymmetric_fence.h"
#include "dma/result.h"
#include "dma/version.h"
#include "testing/sched/explore.h"

namespace dmamap::inline v0 {

// Negative controls: sched::Atomic, but what a 64-bit one loads is what
// Lie::Told says. (An alias FaultyAtom below makes a policy of it.)
template <class Lie>
class LyingWord : public sched::Atomic<std::uint64_t> {
  using Base = sched::Atomic<std::uint64_t>;

 public:
  using Base::Base;
  std::uint64_t load(std::memory_order order,
                     sched::Site site = sched::Site::Here()) const {
    const std::uint64_t truth = Base::load(order, site);
    return Lie::Told(sched::FunctionName(site.function), truth);
  }
};
template <class Lie>
struct LyingAtoms {
  template <class T>
  using Atom = std::conditional_t<std::is_same_v<T, std::uint64_t>,
                                  LyingWord<Lie>, sched::Atomic<T>>;
};

// Negative controls, too: a fence on one side, or on none.
struct NoLightFence : SymmetricFence<sched::Atomic> {
  static void Light() {}
};
struct NoHeavyFence : SymmetricFence<sched::Atomic> {
  static void Heavy() {}
};
struct NoFence : NoLightFence {
  static void Heavy() {}
};

// Some pages in slots of 64 bytes, and what the threads of a test do to them.
template <template <class> class Atom = sched::Atomic,
          class Fence = SymmetricFence<sched::Atomic>>
class BounceWorld {
 public:
  using BounceType = Bounce<SchedPages, SchedMemory, Atom, Fence>;
  using Slot = typename BounceType::Slot;

  BounceWorld(std::uint64_t pages, std::uint64_t slots_a_page) {
    const std::uint64_t page = slots_a_page * kSchedSlot;
    const auto made = bounce_.Init({.size = pages * page,
                                    .page = *PageSize::FromBytes(page),
                                    .slot = *PageSize::FromBytes(kSchedSlot)});
    sched::Check(made.ok(), "Init");
    const Range all = *Range::FromSize(Iova(0), pages * page);
    sched::Check(bounce_.Prepare(all).ok(), "Prepare");
  }

  BounceType& bounce() { return bounce_; }
  SchedPages& pages() { return pages_; }
  SchedMemory& memory() { return memory_; }
  static Iova SlotIova(std::uint64_t n) { return Iova(n * kSchedSlot); }

  // A mapping of buffer `n` in `count` slots from `first` on: with a byte of
  // padding in front of it and two behind.
  BounceBuffer Shape(std::uint64_t first, std::uint64_t count,
                     std::size_t n) const {
    BounceBuffer b;
    b.slots = *Range::FromSize(SlotIova(first), count * kSchedSlot);
    b.body = *Range::FromSize(SlotIova(first) + 1, count * kSchedSlot - 3);
    b.buffer = memory_.At(n);
    return b;
  }

  // Makes a mapping, as Domain::Map does.
  Slot& Show(const BounceBuffer& b) {
    Slot& first = **bounce_.Prepare(b.slots);
    std::uint64_t bytes = 0;
    const bool alone = !bounce_.shares_pages() && b.slots.size() == kSchedSlot;
    const Result<void> shown =
        alone ? bounce_.ShowSlot(
                    first, bounce_.WordAfter(bounce_.AwaitFree(first).tag()),
                    b.body.size(), b.buffer,
                    SlotShape(b.body.first() - b.slots.first(), b), &bytes)
              : bounce_.Show(first, b, &bytes);
    sched::Check(shown.ok(), "Show");
    ForEachSlotOf(b, [](sched::Plain<int>& contents) { contents = 1; });
    return first;
  }
  Slot& Map(const BounceBuffer& b) {
    Slot& first = Show(b);
    bounce_.Admit(first);
    return first;
  }
  // The first step of its end, as Domain::Unmap's.
  void BeginEnd(Slot& first) {
    const SlotWord now(first.word.load(std::memory_order_relaxed));
    first.word.exchange(now.To(SlotState::kEnding).bits(),
                        std::memory_order_seq_cst);
  }
  // All of it; nothing is copied back.
  void End(Slot& first, const BounceBuffer& b) {
    BeginEnd(first);
    bounce_.SettleAll(b.slots);
    bounce_.Scrub(b.slots);
    bounce_.Vacate(first, SlotState::kFree);
  }

  // A device's access: the page of `at`, whose bytes may be used.
  std::byte* Touch(Iova at) {
    std::byte* const page = TryTouch(at);
    sched::Check(page != nullptr, "Touch");
    return page;
  }
  // The same; null while the page is being moved.
  std::byte* TryTouch(Iova at) {
    bool made = false;
    std::uint64_t bytes = 0;
    const auto page = bounce_.Touch(
        at, [] { return Ok(); }, &made, &bytes);
    pages_.EndFill();
    sched::Check(page.ok() || page.error() == Error::kBusy, "TryTouch");
    if (!page.ok()) return nullptr;
    pages_.Use(*page);
    touched_made_ += made ? 1 : 0;
    return *page;
  }
  // Waits for the page of `at`, if it is being made or moved.
  void AwaitPage(Iova at) { bounce_.SettleAll(bounce_.PageRange(at)); }
  // Pages that Touch has made.
  int made() const { return touched_made_; }

  // Whether `page` shows `b` in its slots: its bytes and zeros.
  bool Shows(const std::byte* page, const BounceBuffer& b) {
    const Range range = bounce_.PageRange(b.slots.first());
    const std::byte value = SchedMemory::ByteOf(memory_.NumberOf(b.buffer));
    const Range here = *b.slots.Intersect(range);
    for (std::uint64_t i = 0; i < here.size(); ++i) {
      const Iova at = here.first() + i;
      const std::byte want = b.body.Contains(at) ? value : std::byte{0};
      if (page[at - range.first()] != want) return false;
    }
    return true;
  }
  // Checks that a live `b` is there, in full; its first page. The caller knows
  // that it is live.
  std::byte* CheckShown(const BounceBuffer& b) {
    std::byte* const page = Touch(b.body.first());
    if (page == nullptr) return nullptr;
    ForEachSlotOf(b, [](sched::Plain<int>& contents) { (void)contents.Get(); });
    sched::Check(Shows(page, b), "a mapping is not shown");
    return page;
  }

 private:
  template <class F>
  void ForEachSlotOf(const BounceBuffer& b, F f) {
    const std::uint64_t last = b.slots.last().value() / kSchedSlot;
    for (auto n = b.slots.first().value() / kSchedSlot; n <= last; ++n) {
      f(contents_[static_cast<std::size_t>(n) % contents_.size()]);
    }
  }

  SchedPages pages_;
  SchedMemory memory_{pages_};
  BounceType bounce_{pages_, memory_};
  std::array<sched::Plain<int>, 8> contents_;
  int touched_made_ = 0;
};

// A call looks at the root of the table for each slot that it needs, and is no
// spin loop (testing/sched/progress.h); those have an AtomRelax.
inline constexpr std::uint32_t kSchedRereads = 16;

// Every execution of `body` with so many preemptions holds.
inline sched::Report Holds(const char* name, const sched::Body& body,
                           std::uint32_t preemptions = 2,
                           std::uint32_t spin_steps = 64) {
  const sched::Report report = sched::Explore({.name = name,
                                               .preemptions = preemptions,
                                               .rereads = kSchedRereads,
                                               .spin_steps = spin_steps},
                                              body);
  EXPECT_TRUE(report.ok && report.complete) << report;
  EXPECT_FALSE(report.cut_history) << report;
  testing::Test::RecordProperty(name, std::to_string(report.executions));
  return report;
}
// Some execution does not.
inline void IsFound(const char* name, const sched::Body& body,
                    const sched::Weaken& weaken = {},
                    std::uint32_t preemptions = 2) {
  const sched::Report report = sched::Explore({.name = name,
                                               .preemptions = preemptions,
                                               .rereads = kSchedRereads,
                                               .weaken = weaken},
                                              body);
  EXPECT_FALSE(report.ok) << report << weaken.function;
  testing::Test::RecordProperty(name, report.failure);
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_BOUNCE_SCHED_WORLD_FOR_TEST_H_
