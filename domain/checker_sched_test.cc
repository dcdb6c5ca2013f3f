// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// The checker under the deterministic scheduler: who may end a mapping, or copy
// for it, when several calls name the same one at a time.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "bounce/bounce.h"
#include "bounce/sched_world_for_test.h"
#include "bounce/slot.h"
#include "dma/address.h"
#include "dma/asymmetric_fence.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "domain/checker.h"
#include "testing/sched/explore.h"

namespace dmamap {
namespace {

constexpr auto kAcqRel = std::memory_order_acq_rel;
constexpr auto kRelaxed = std::memory_order_relaxed;

// A live mapping, and the checker of its space. kMatches: Take knows what the
// word should say; else, and where that is not what it says, it goes as Pin.
template <bool kMatches = true, class Fence = SymmetricFence<sched::Atomic>>
struct CheckedWorld : BounceWorld<sched::Atomic, Fence> {
  using World = BounceWorld<sched::Atomic, Fence>;
  using Slot = typename World::Slot;

  CheckedWorld() : World(1, 1) {
    b = this->Shape(0, 1, 0);
    first = &this->Map(b);
    mapping = Name();
  }
  // The mapping that is there, as its Map named it.
  Mapping Name() const {
    return {b.body.first(), b.body.size(), b.direction,
            SlotWord(first->word.load()).tag()};
  }
  Result<Slot*> Take(SlotState to) { return checker.Take(mapping, to); }
  Result<Slot*> Pin() { return checker.Pin(mapping, 0, 1); }
  // What only who has taken the mapping may do.
  void Use() { used = used + 1; }

  internal::StreamChecker<typename World::BounceType, kMatches> checker{
      this->bounce()};
  BounceBuffer b;
  Slot* first = nullptr;
  Mapping mapping;
  sched::Plain<int> used{0};
};

// --- Two who end it ---

TEST(CheckerSched, OneOfTwoUnmapsTakesIt) {
  for (const SlotState to : {SlotState::kEnding, SlotState::kClaimed}) {
    EXPECT_GT(Holds(
                  "take",
                  [to] {
                    CheckedWorld w;
                    int taken = 0;
                    const auto unmap = [&] {
                      const auto r = w.Take(to);
                      if (r.ok()) {
                        w.Use();
                        ++taken;
                        return;
                      }
                      const Error want = to == SlotState::kClaimed
                                             ? Error::kBusy
                                             : Error::kNotMapped;
                      sched::Check(r.error() == want, "another error");
                    };
                    sched::RunThreads({unmap, unmap}, [&] {
                      sched::Check(taken == 1, "not one of them");
                      const SlotWord now(w.first->word.load());
                      sched::Check(now.state() == to, "the word");
                    });
                  },
                  8)
                  .executions,
              10u);
  }
}

// --- One who copies ---

// A pin and a take exclude each other, and the copy comes before the end.
template <bool kMatches = true>
sched::Body PinAgainstTake(int pinners) {
  return [pinners] {
    CheckedWorld<kMatches> w;
    std::array<bool, 2> pinned = {};
    bool taken = false;
    const auto sync = [&](std::size_t i) {
      return [&, i] {
        const auto r = w.Pin();
        sched::Check(r.ok() || r.error() == Error::kNotMapped, "another error");
        if (!r.ok()) return;
        pinned[i] = true;
        if (pinners == 1) w.Use();
        w.checker.Unpin(**r);
      };
    };
    std::vector<sched::Body> threads = {[&] {
      const auto r = w.Take(SlotState::kEnding);
      sched::Check(r.ok() || r.error() == Error::kBusy, "another error");
      if (!r.ok()) return;
      taken = true;
      w.Use();
    }};
    for (int i = 0; i < pinners; ++i) {
      threads.push_back(sync(static_cast<std::size_t>(i)));
    }
    sched::RunThreads(threads, [&] {
      const SlotWord now(w.first->word.load());
      sched::Check(now.pins() == 0, "pins are left");
      sched::Check(now.is_live() == !taken, "the word");
      sched::Check(taken || pinned[0] || pinned[1], "neither");
    });
  };
}

TEST(CheckerSched, PinAgainstTake) {
  EXPECT_GT(Holds("one", PinAgainstTake(1), 4).executions, 10u);
  EXPECT_GT(Holds("two", PinAgainstTake(2)).executions, 100u);
  EXPECT_GT(Holds("unchecked", PinAgainstTake<false>(1), 4).executions, 10u);
}

TEST(CheckerSchedControl, PinAgainstTake) {
  IsFound("unpin", PinAgainstTake(1), {.function = "Unpin", .to = kRelaxed});
  IsFound("take", PinAgainstTake(1),
          {.function = "TryTake",
           .access = "compare_exchange_strong",
           .to = kRelaxed});
  IsFound("change", PinAgainstTake<false>(1),
          {.function = "Change",
           .access = "compare_exchange_weak",
           .to = kRelaxed});
}

// --- One who names a mapping that is over ---

enum class Tags { kCount, kStay };

// The mapping ends and another one like it begins in its slot: a second unmap
// of the first never takes the other.
sched::Body StaleAgainstReuse(Tags tags) {
  return [tags] {
    CheckedWorld w;
    bool ended = false;
    bool ended_again = false;
    sched::RunThreads(
        {[&] {
           const auto r = w.Take(SlotState::kEnding);
           if (!r.ok()) return;
           ended = true;
           w.bounce().SettleAll(w.b.slots);
           w.bounce().Vacate(**r, SlotState::kFree);
           if (tags == Tags::kStay) {
             w.first->word.store(
                 SlotWord(w.mapping.tag - 1, SlotState::kFree).bits());
           }
           w.Map(w.b);
         },
         [&] {
           const auto r = w.Take(SlotState::kEnding);
           ended_again = r.ok();
           if (r.ok()) return;
           sched::Check(
               r.error() == Error::kNotMapped || r.error() == Error::kMismatch,
               "another error");
         }},
        [&] {
          sched::Check(ended != ended_again, "not one of them");
          const SlotWord now(w.first->word.load());
          sched::Check(now.is_live() == ended, "took another's");
        });
  };
}

TEST(CheckerSched, StaleUnmapTakesNothingElse) {
  EXPECT_GT(Holds("stale", StaleAgainstReuse(Tags::kCount), 3).executions,
            100u);
}
TEST(CheckerSchedControl, WithoutTagsItDoes) {
  IsFound("same tag", StaleAgainstReuse(Tags::kStay));
}

// A new mapping of another size in the slot: what is read of both is never
// taken for one.
TEST(CheckerSched, StaleUnmapOfAnotherSize) {
  Holds("another size", [] {
    CheckedWorld w;
    BounceBuffer other = w.b;
    other.body = *Range::FromSize(w.b.body.first(), 5);
    other.direction = Direction::kToDevice;
    Mapping mixed = w.mapping;  // the new one's size and direction
    mixed.size = 5;
    mixed.direction = Direction::kToDevice;
    sched::RunThreads({[&] {
                         const auto r = w.Take(SlotState::kEnding);
                         sched::Check(r.ok(), "refused");
                         w.bounce().SettleAll(w.b.slots);
                         w.bounce().Vacate(*w.first, SlotState::kFree);
                         w.Map(other);
                       },
                       [&] {
                         const auto r =
                             w.checker.Take(mixed, SlotState::kEnding);
                         sched::Check(!r.ok(), "took a mixture");
                       }});
  });
}

// --- An end against a fault ---

// Who has taken a mapping and settled it has the buffer for himself.
template <bool kMatches = true>
sched::Body TakeAgainstFault() {
  return [] {
    CheckedWorld<kMatches> w;
    sched::RunThreads({[&] {
                         sched::Check(w.Take(SlotState::kEnding).ok(), "Take");
                         w.bounce().SettleAll(w.b.slots);
                         w.memory().Overwrite(0);
                       },
                       [&] { (void)w.Touch(Iova(0)); }});
  };
}

TEST(CheckerSched, TakeAgainstFault) {
  EXPECT_GT(Holds("take", TakeAgainstFault()).executions, 1000u);
  EXPECT_GT(Holds("change", TakeAgainstFault<false>()).executions, 1000u);
}
TEST(CheckerSchedControl, TakeAgainstFault) {
  IsFound("take", TakeAgainstFault(),
          {.function = "TryTake",
           .access = "compare_exchange_strong",
           .to = kAcqRel});
  IsFound(
      "change", TakeAgainstFault<false>(),
      {.function = "Change", .access = "compare_exchange_weak", .to = kAcqRel});
}

// --- A sync for the device against a fault ---

// Whoever is first, the page has what the driver wrote before its sync.
template <class Fence = SymmetricFence<sched::Atomic>>
sched::Body SyncAgainstFault() {
  return [] {
    CheckedWorld<true, Fence> w;
    sched::Atomic<int> start{0};
    sched::RunThreads(
        {[&] {
           (void)start.load();  // the other may go first
           // Not as a data race: the fault may read either.
           std::fill_n(PointerTo(w.b.buffer), w.b.body.size(), std::byte{9});
           const auto r = w.Pin();
           sched::Check(r.ok(), "Pin");
           std::uint64_t bytes = 0;
           const auto in = w.bounce().CopyIn(w.b.body, w.b.buffer, &bytes);
           sched::Check(in.ok(), "CopyIn");
           w.checker.Unpin(**r);
         },
         [&] { (void)w.Touch(Iova(0)); }},
        [&] {
          const std::byte* const page = w.Touch(Iova(0));
          const std::uint64_t head = w.b.body.first().value();
          sched::Check(page[head] == std::byte{9}, "old bytes are shown");
        });
  };
}

TEST(CheckerSched, SyncAgainstFault) {
  EXPECT_GT(Holds("sync", SyncAgainstFault()).executions, 1000u);
}
TEST(CheckerSchedControl, SyncAgainstFault) {
  IsFound("settle", SyncAgainstFault(),
          {.function = "SettleAt",
           .access = "load",
           .to = std::memory_order_acquire});
  IsFound("no heavy fence, lock", SyncAgainstFault<NoHeavyFence>(),
          {.function = "LockUnless", .to = kAcqRel});
}

}  // namespace
}  // namespace dmamap
