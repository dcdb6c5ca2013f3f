// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Reclaim against all that needs a page, and two faults for one page, under the
// deterministic scheduler.

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "bounce/bounce.h"
#include "bounce/sched_world_for_test.h"
#include "bounce/slot.h"
#include "dma/address.h"
#include "dma/asymmetric_fence.h"
#include "testing/sched/explore.h"

namespace dmamap {
namespace {

constexpr auto kAcqRel = std::memory_order_acq_rel;
constexpr auto kAcquire = std::memory_order_acquire;
constexpr auto kRelaxed = std::memory_order_relaxed;

// A mapping of one slot on a page of one or two.
struct Place {
  std::uint64_t slots_a_page;
  std::uint64_t slot;
};
const std::vector<Place> kPlaces = {{1, 0}, {2, 0}, {2, 1}};

// --- Reclaim ---

// A page that a mapping was shown on stays its page: what a device is given
// before the reclaim is over is still there afterwards.
template <template <class> class Atom = sched::Atomic,
          class Fence = SymmetricFence<sched::Atomic>>
sched::Body ReclaimAgainstMap(Place p) {
  return [p] {
    BounceWorld<Atom, Fence> w(1, p.slots_a_page);
    (void)w.Touch(Iova(0));
    const BounceBuffer b = w.Shape(p.slot, 1, 0);
    const std::byte* given = nullptr;
    std::uint64_t freed = 0;
    sched::RunThreads({[&] {
                         w.Map(b);
                         given = w.CheckShown(b);
                       },
                       [&] { freed = w.bounce().ReclaimIdle(); }},
                      [&] {
                        w.pages().Use(given);
                        w.CheckShown(b);
                        sched::Check(w.pages().in_use() == 1, "pages");
                        sched::Check(freed <= 1, "freed twice");
                      });
  };
}

TEST(ReclaimSched, AgainstMap) {
  for (const Place p : kPlaces) {
    EXPECT_GT(Holds("map", ReclaimAgainstMap(p)).executions, 1000u);
  }
}

// Nobody looks at the words.
struct NoWord {
  static std::uint64_t Told(std::string_view function, std::uint64_t truth) {
    return function == "operator()" ? 0 : truth;  // in InUse
  }
};

TEST(ReclaimSchedControl, AgainstMap) {
  IsFound("blind", ReclaimAgainstMap<LyingAtoms<NoWord>::Atom>({2, 1}));
  for (const Place p : kPlaces) {
    IsFound("no fences", ReclaimAgainstMap<sched::Atomic, NoFence>(p));
    IsFound("no light fence",
            ReclaimAgainstMap<sched::Atomic, NoLightFence>(p));
    IsFound("lock", ReclaimAgainstMap<sched::Atomic, NoHeavyFence>(p),
            {.function = "LockUnless", .to = kAcqRel});
  }
  IsFound("in use", ReclaimAgainstMap<sched::Atomic, NoHeavyFence>({2, 1}),
          {.function = "operator()", .access = "load", .to = kAcquire});
}

// The second page of a mapping is known by its owner alone.
template <class Fence = SymmetricFence<sched::Atomic>>
sched::Body ReclaimAgainstLongMap() {
  return [] {
    BounceWorld<sched::Atomic, Fence> w(2, 2);
    const std::byte* const there = w.Touch(w.SlotIova(2));
    const BounceBuffer b = w.Shape(1, 2, 0);
    const std::byte* given = nullptr;
    sched::RunThreads({[&] {
                         w.Map(b);
                         given = w.Touch(w.SlotIova(2));
                       },
                       [&] { (void)w.bounce().ReclaimIdle(); }},
                      [&] {
                        w.pages().Use(given);
                        sched::Check(given[0] == SchedMemory::ByteOf(0),
                                     "the second page is not filled");
                        (void)there;
                      });
  };
}

TEST(ReclaimSched, AgainstMapOfTwoPages) {
  EXPECT_GT(Holds("long map", ReclaimAgainstLongMap()).executions, 1000u);
  IsFound("no light fence", ReclaimAgainstLongMap<NoLightFence>());
}

// Three at a time: a device that finds the mapping live has its bytes.
TEST(ReclaimSched, AgainstMapAndDevice) {
  for (const Place p : kPlaces) {
    Holds(
        "map and device",
        [p] {
          BounceWorld w(1, p.slots_a_page);
          (void)w.Touch(Iova(0));
          const BounceBuffer b = w.Shape(p.slot, 1, 0);
          sched::RunThreads({[&] { w.Map(b); },
                             [&] {
                               const auto m = w.bounce().Look(b.body.first());
                               if (m.ok() && m->word.is_live()) w.CheckShown(b);
                             },
                             [&] { (void)w.bounce().ReclaimIdle(); }},
                            [&] { w.CheckShown(b); });
        },
        1);
  }
}

// Reclaim of a range refuses a page with a mapping, whatever a fault does.
TEST(ReclaimSched, AgainstFault) {
  for (const Place p : kPlaces) {
    Holds("fault", [p] {
      BounceWorld w(1, p.slots_a_page);
      const BounceBuffer b = w.Shape(p.slot, 1, 0);
      w.Map(b);
      sched::RunThreads(
          {[&] { w.CheckShown(b); },
           [&] {
             const auto r = w.bounce().Reclaim(w.bounce().PageRange(Iova(0)));
             sched::Check(!r.ok() && r.error() == Error::kBusy,
                          "a page in use is given back");
           }},
          [&] {
            w.CheckShown(b);
            sched::Check(w.made() == 1, "made again");
          });
    });
  }
}

// What whoever ends a mapping does with its page, he does before the page goes.
sched::Body ReclaimAgainstEnd(Place p) {
  return [p] {
    BounceWorld w(1, p.slots_a_page);
    const BounceBuffer b = w.Shape(p.slot, 1, 0);
    auto& slot = w.Map(b);
    (void)w.Touch(Iova(0));
    std::uint64_t freed = 0;
    sched::RunThreads({[&] {
                         w.BeginEnd(slot);
                         w.bounce().SettleAll(b.slots);
                         w.memory().set_copies_back(true);
                         std::uint64_t bytes = 0;
                         const auto r =
                             w.bounce().CopyOut(b.body, b.buffer, &bytes);
                         sched::Check(r.ok() && bytes == b.body.size(), "copy");
                         w.bounce().Scrub(b.slots);
                         w.pages().Use(w.bounce().PageAt(Iova(0)));
                         w.bounce().Vacate(slot, SlotState::kFree);
                       },
                       [&] { freed = w.bounce().ReclaimIdle(); }},
                      [&] {
                        freed += w.bounce().ReclaimIdle();
                        sched::Check(freed == 1, "not given back once");
                        sched::Check(w.pages().in_use() == 0, "left");
                      });
  };
}

TEST(ReclaimSched, AgainstEnd) {
  for (const Place p : kPlaces) Holds("end", ReclaimAgainstEnd(p), 3);
}

TEST(ReclaimSchedControl, AgainstEnd) {
  for (const Place p : kPlaces) {
    IsFound("vacate", ReclaimAgainstEnd(p),
            {.function = "Vacate", .access = "store", .to = kRelaxed});
  }
}

// Each page is given back once.
sched::Body ReclaimAgainstReclaim(std::uint64_t pages) {
  return [pages] {
    BounceWorld w(pages, 1);
    for (std::uint64_t i = 0; i < pages; ++i) (void)w.Touch(w.SlotIova(i));
    std::uint64_t first = 0;
    std::uint64_t second = 0;
    sched::RunThreads({[&] { first = w.bounce().ReclaimIdle(); },
                       [&] { second = w.bounce().ReclaimIdle(); }},
                      [&] {
                        sched::Check(first + second == pages, "not each once");
                        sched::Check(w.pages().in_use() == 0, "left");
                      });
  };
}

TEST(ReclaimSched, AgainstReclaim) {
  Holds("one page", ReclaimAgainstReclaim(1));
  Holds("two pages", ReclaimAgainstReclaim(2), 1);
}

// --- Two faults ---

// One page wins, both see it, and it is filled.
sched::Body FaultAgainstFault(Place p) {
  return [p] {
    BounceWorld w(1, p.slots_a_page);
    const BounceBuffer b = w.Shape(p.slot, 1, 0);
    w.Map(b);
    const std::byte* first = nullptr;
    const std::byte* second = nullptr;
    sched::RunThreads({[&] { first = w.CheckShown(b); },
                       [&] {
                         second = w.Touch(w.SlotIova(p.slots_a_page - 1));
                         sched::Check(w.Shows(second, b), "not filled");
                       }},
                      [&] {
                        sched::Check(first == second, "two pages");
                        sched::Check(w.made() == 1, "made twice");
                        sched::Check(w.pages().in_use() == 1, "one is kept");
                        w.CheckShown(b);
                      });
  };
}

TEST(ReclaimSched, FaultAgainstFault) {
  for (const Place p : kPlaces) {
    EXPECT_GT(Holds("fault", FaultAgainstFault(p)).executions, 1000u);
  }
}

TEST(ReclaimSchedControl, FaultAgainstFault) {
  for (const Place p : kPlaces) {
    const sched::Body body = FaultAgainstFault(p);
    IsFound("unlock", body, {.function = "Unlock", .to = kRelaxed});
    IsFound("find", body,
            {.function = "Find", .access = "load", .to = kRelaxed});
  }
}

// A fault that finds no memory has the idle pages given back, while others do
// the same.
TEST(ReclaimSched, TouchAgainstReclaimAndTouch) {
  Holds("touch", [] {
    BounceWorld w(2, 1);
    (void)w.Touch(w.SlotIova(1));
    const BounceBuffer b = w.Shape(0, 1, 0);
    w.Map(b);
    sched::RunThreads(
        {[&] { w.CheckShown(b); }, [&] { (void)w.bounce().ReclaimIdle(); }},
        [&] { sched::Check(w.pages().in_use() == 1, "in use"); });
  });
}

}  // namespace
}  // namespace dmamap
