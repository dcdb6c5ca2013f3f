// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// A fault against the beginning and the end of a mapping, under the
// deterministic scheduler: the race of VDUSE's bounce map, on the shipped
// source and on a model of that map.

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
#include "testing/vduse_bounce_map.h"

namespace dmamap {
namespace {

// A page of one slot, or two: then the fault may come for the other slot.
struct Place {
  std::uint64_t slots_a_page;
  std::uint64_t fault;  // slot
};
const std::vector<Place> kPlaces = {{1, 0}, {2, 0}, {2, 1}};

// --- The beginning ---

// Whoever is first, the page shows the mapping afterwards.
template <class Fence = SymmetricFence<sched::Atomic>>
sched::Body FaultAgainstMap(Place p) {
  return [p] {
    BounceWorld<sched::Atomic, Fence> w(1, p.slots_a_page);
    const BounceBuffer b = w.Shape(0, 1, 0);
    sched::RunThreads(
        {[&] { w.Map(b); }, [&] { (void)w.Touch(w.SlotIova(p.fault)); }}, [&] {
          w.CheckShown(b);
          sched::Check(w.made() == 1, "not one page");
          sched::Check(w.bounce().CheckInvariants(), "invariants");
        });
  };
}

TEST(FaultSched, AgainstMap) {
  for (const Place p : kPlaces) {
    EXPECT_GT(Holds("map", FaultAgainstMap(p)).executions, 1000u);
  }
}

// The same for a mapping of three slots on two pages, which names its owner in
// the slots behind the first one.
sched::Body FaultAgainstLongMap(std::uint64_t fault) {
  return [fault] {
    BounceWorld w(2, 2);
    const BounceBuffer b = w.Shape(1, 3, 0);
    sched::RunThreads(
        {[&] { w.Map(b); }, [&] { (void)w.Touch(w.SlotIova(fault)); }}, [&] {
          w.CheckShown(b);
          const std::byte* const second = w.Touch(w.SlotIova(2));
          for (std::size_t i = 0; i < 2 * kSchedSlot - 2; ++i) {
            sched::Check(second[i] == SchedMemory::ByteOf(0), "second page");
          }
        });
  };
}

TEST(FaultSched, AgainstMapOfTwoPages) {
  for (std::uint64_t fault : {0u, 1u, 2u, 3u}) {
    EXPECT_GT(Holds("long map", FaultAgainstLongMap(fault)).executions, 1000u);
  }
}

// A device that finds the mapping live has its bytes at once.
sched::Body DeviceAgainstMap(Place p, bool prepared_page) {
  return [=] {
    BounceWorld w(1, p.slots_a_page);
    if (prepared_page) (void)w.Touch(w.SlotIova(0));
    const BounceBuffer b = w.Shape(0, 1, 0);
    sched::RunThreads({[&] { w.Map(b); },
                       [&] {
                         const auto m = w.bounce().Look(b.body.first());
                         if (m.ok() && m->word.is_live()) w.CheckShown(b);
                       }},
                      [&] { w.CheckShown(b); });
  };
}

TEST(FaultSched, DeviceAgainstMap) {
  for (const Place p : kPlaces) {
    Holds("device", DeviceAgainstMap(p, false), 3);
    Holds("device, page there", DeviceAgainstMap(p, true), 3);
  }
}

constexpr auto kAcqRel = std::memory_order_acq_rel;
constexpr auto kAcquire = std::memory_order_acquire;
constexpr auto kRelaxed = std::memory_order_relaxed;

// Map and fault each write first and look then; what keeps the look behind the
// write is a fence on each side.
TEST(FaultSchedControl, TheFencesAreNeeded) {
  for (const Place p : kPlaces) {
    const sched::Body body = FaultAgainstMap(p);
    IsFound("no fences", FaultAgainstMap<NoFence>(p));
    IsFound("no light fence", FaultAgainstMap<NoLightFence>(p));
    IsFound("weak light fence", body, {.function = "Light", .to = kAcqRel});
  }
}

// Without the fault's fence, its accesses have to be in the one order by
// themselves, and are.
TEST(FaultSchedControl, EachSequentiallyConsistentOrderIsNeeded) {
  for (const Place p : kPlaces) {
    const sched::Body body = FaultAgainstMap<NoHeavyFence>(p);
    IsFound("lock", body, {.function = "LockUnless", .to = kAcqRel});
    IsFound("look", body,
            {.function = "LookAt", .access = "load", .to = kAcquire});
  }
}

// What is live must have been shown before.
TEST(FaultSchedControl, AdmitReleases) {
  for (const Place p : kPlaces) {
    IsFound("admit", DeviceAgainstMap(p, true),
            {.function = "Admit", .access = "store", .to = kRelaxed});
  }
}

// Settle that does not wait.
struct NeverBusy {
  static std::uint64_t Told(std::string_view function, std::uint64_t truth) {
    return function == "SettleAt" ? truth & ~std::uint64_t{1} : truth;
  }
};

TEST(FaultSchedControl, SettleWaits) {
  IsFound("never busy", [] {
    BounceWorld<LyingAtoms<NeverBusy>::Atom> w(1, 1);
    const BounceBuffer b = w.Shape(0, 1, 0);
    sched::RunThreads({[&] { w.Map(b); }, [&] { (void)w.Touch(Iova(0)); }},
                      [&] { w.CheckShown(b); });
  });
}

template <class Fence>
sched::Body VduseMap() {
  return [] {
    faulty::VduseBounceMap<sched::Atomic, Fence> map;
    bool by_map = false;
    bool by_fault = false;
    sched::RunThreads(
        {[&] { by_map = map.Map(); }, [&] { by_fault = map.Fault(); }},
        [&] { sched::Check(by_map || by_fault, "each missed the other"); });
  };
}

TEST(FaultSchedControl, VduseMissesAMapping) {
  IsFound("as proposed", VduseMap<NoFence>());
  IsFound("one fence", VduseMap<NoHeavyFence>());
  EXPECT_TRUE(Holds("two fences", VduseMap<SymmetricFence<sched::Atomic>>(), 8)
                  .exhaustive());
}

// --- The end ---

enum class Settles { kYes, kNo };

// No fault reads the buffer once its mapping has been settled; `shared`: one
// that came for a neighbour.
sched::Body FaultAgainstEnd(Place p, Settles settles) {
  return [=] {
    BounceWorld w(1, p.slots_a_page);
    const BounceBuffer b = w.Shape(0, 1, 0);
    auto& slot = w.Map(b);
    sched::RunThreads({[&] {
                         w.BeginEnd(slot);
                         if (settles == Settles::kYes) {
                           w.bounce().SettleAll(b.slots);
                         }
                         w.memory().Overwrite(0);
                         w.bounce().Scrub(b.slots);
                         w.bounce().Vacate(slot, SlotState::kFree);
                       },
                       [&] { (void)w.Touch(w.SlotIova(p.fault)); }},
                      [&] {
                        const std::byte* const page = w.Touch(Iova(0));
                        for (std::uint64_t i = 0; i < kSchedSlot; ++i) {
                          sched::Check(page[i] == std::byte{0}, "left behind");
                        }
                      });
  };
}

TEST(FaultSched, AgainstEnd) {
  for (const Place p : kPlaces) {
    EXPECT_GT(Holds("end", FaultAgainstEnd(p, Settles::kYes)).executions,
              1000u);
  }
}

TEST(FaultSchedControl, AgainstEnd) {
  for (const Place p : kPlaces) {
    IsFound("not settled", FaultAgainstEnd(p, Settles::kNo));
    const sched::Body body = FaultAgainstEnd(p, Settles::kYes);
    IsFound("exchange", body, {.function = "BeginEnd", .to = kAcqRel});
    IsFound("settle", body,
            {.function = "SettleAt", .access = "load", .to = kAcquire});
    IsFound("unlock", body, {.function = "Unlock", .to = kRelaxed});
  }
}

// What was shown and is taken back leaves nothing on a page that came since.
sched::Body FaultAgainstRetract(Place p) {
  return [p] {
    BounceWorld w(1, p.slots_a_page);
    const BounceBuffer b = w.Shape(0, 1, 0);
    sched::RunThreads({[&] {
                         auto& slot = w.Show(b);
                         w.bounce().Retract(slot, b.slots);
                         w.memory().Overwrite(0);
                         w.bounce().Vacate(slot, SlotState::kFree);
                       },
                       [&] { (void)w.Touch(w.SlotIova(p.fault)); }},
                      [&] {
                        const std::byte* const page = w.Touch(Iova(0));
                        for (std::uint64_t i = 0; i < kSchedSlot; ++i) {
                          sched::Check(page[i] == std::byte{0}, "left behind");
                        }
                      });
  };
}

TEST(FaultSched, AgainstRetract) {
  for (const Place p : kPlaces) Holds("retract", FaultAgainstRetract(p));
}

TEST(FaultSchedControl, AgainstRetract) {
  IsFound("retract", FaultAgainstRetract({2, 1}),
          {.function = "Retract", .access = "exchange", .to = kAcqRel});
}

// --- The end of one and the beginning of another ---

// An address is handed out again before its last owner has written his last
// word: a page that comes then shows the new mapping, wherever in the old one's
// slots it begins.
sched::Body FaultAgainstMapBehindEnd(std::uint64_t old_slots,
                                     std::uint64_t first) {
  return [=] {
    BounceWorld w(1, 2);
    sched::Atomic<int> address_is_free{0};
    const BounceBuffer old = w.Shape(0, old_slots, 0);
    const BounceBuffer b = w.Shape(first, 1, 1);
    auto& slot = w.Map(old);
    bool mapped = false;
    sched::RunThreads({[&] {
                         w.BeginEnd(slot);
                         w.bounce().SettleAll(old.slots);
                         w.bounce().Scrub(old.slots);
                         address_is_free.store(1, std::memory_order_release);
                         w.bounce().Vacate(slot, SlotState::kFree);
                       },
                       [&] {
                         // As an allocator does.
                         if (address_is_free.load(kAcquire) == 0) return;
                         w.Map(b);
                         mapped = true;
                         w.CheckShown(b);
                       }},
                      [&] {
                        if (mapped) w.CheckShown(b);
                      });
  };
}

TEST(FaultSched, AgainstMapBehindEnd) {
  Holds("same slot", FaultAgainstMapBehindEnd(1, 0));
  Holds("first of two", FaultAgainstMapBehindEnd(2, 0));
  Holds("second of two", FaultAgainstMapBehindEnd(2, 1));
}

}  // namespace
}  // namespace dmamap
