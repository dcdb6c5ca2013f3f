// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// The way from an I/O address to its mapping, under the deterministic
// scheduler: while another thread ends mappings and makes others in the same
// slots, what is found is one of them, in all its fields, or none.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "bounce/bounce.h"
#include "bounce/sched_world_for_test.h"
#include "bounce/slot.h"
#include "dma/address.h"
#include "dma/direction.h"
#include "testing/sched/explore.h"

namespace dmamap {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

bool Same(const BounceBuffer& a, const BounceBuffer& b) {
  return a.slots == b.slots && a.body == b.body && a.buffer == b.buffer &&
         a.fill == b.fill && a.direction == b.direction &&
         a.overwritten == b.overwritten;
}

// Differs from Shape()'s in each field.
template <class World>
BounceBuffer OtherShape(const World& w, std::uint64_t first,
                        std::uint64_t count) {
  BounceBuffer b = w.Shape(first, count, 1);
  b.body = *Range::FromSize(b.slots.first() + 7, count * kSchedSlot - 9);
  b.fill = BounceFill::kZero;
  b.direction = Direction::kFromDevice;
  b.overwritten = true;
  return b;
}

struct Span {
  std::uint64_t first;  // slot
  std::uint64_t count;
};

// `old` ends and `next` begins, while the mapping of slot `at` is looked up.
template <template <class> class Atom = sched::Atomic>
sched::Body ReuseAgainstLook(Span old, Span next, std::uint64_t at) {
  return [=] {
    BounceWorld<Atom> w(1, 2);
    const BounceBuffer a = w.Shape(old.first, old.count, 0);
    const BounceBuffer b = OtherShape(w, next.first, next.count);
    auto& slot = w.Map(a);
    const Iova there = w.SlotIova(at) + 9;
    sched::RunThreads(
        {[&] {
           w.End(slot, a);
           w.Map(b);
         },
         [&] {
           const auto found = w.bounce().Look(there);
           if (!found.ok()) return;
           sched::Check(Same(found->b, a) || Same(found->b, b), "a mixture");
           sched::Check(found->b.slots.Contains(there), "of other slots");
         }},
        [&] {
          const auto found = w.bounce().Look(there);
          const bool covered = b.slots.Contains(there);
          sched::Check(found.ok() == covered, "lost, or found too far");
          if (found.ok()) sched::Check(Same(found->b, b), "not the last one");
          sched::Check(w.bounce().CheckInvariants(), "invariants");
        });
  };
}

TEST(LookupSched, OneMappingAtATime) {
  Holds("slot", ReuseAgainstLook({0, 1}, {0, 1}, 0), 3);
  Holds("shorter", ReuseAgainstLook({0, 2}, {0, 1}, 1));
  Holds("longer", ReuseAgainstLook({0, 1}, {0, 2}, 1));
  Holds("second slot alone", ReuseAgainstLook({0, 2}, {1, 1}, 1));
  Holds("second slot's owner", ReuseAgainstLook({1, 1}, {0, 2}, 1));
  Holds("two slots", ReuseAgainstLook({0, 2}, {0, 2}, 1));
}

// The word is not read again behind the fields: the fourth load of a Read, and
// it is what it was before.
struct NoSecondLook {
  static std::uint64_t Told(std::string_view function, std::uint64_t truth) {
    static std::array<std::uint64_t, sched::kMaxThreads + 1> words;
    static std::array<int, sched::kMaxThreads + 1> reads;
    const std::size_t caller = SchedPages::Caller();
    if (function == "LookAt") {
      words[caller] = truth;
      reads[caller] = 0;
    }
    return function == "Read" && ++reads[caller] == 4 ? words[caller] : truth;
  }
};

TEST(LookupSchedControl, OneMappingAtATime) {
  const sched::Body body = ReuseAgainstLook({0, 1}, {0, 1}, 0);
  IsFound("no second look",
          ReuseAgainstLook<LyingAtoms<NoSecondLook>::Atom>({0, 1}, {0, 1}, 0));
  IsFound("fence", body,
          {.function = "Read", .access = "fence", .to = kRelaxed});
  IsFound("fields", body,
          {.function = "Record", .access = "store", .to = kRelaxed});
  IsFound("look", body, {.function = "LookAt", .to = kRelaxed});
}

// A mapping that stays is found, whatever happens in front of it.
sched::Body NeighbourAgainstLook(std::uint64_t at) {
  return [=] {
    BounceWorld w(1, 4);
    const BounceBuffer a = w.Shape(0, 1, 0);
    const BounceBuffer b = OtherShape(w, 0, 1);
    const BounceBuffer stays = w.Shape(1, 2, 2);
    auto& slot = w.Map(a);
    w.Map(stays);
    sched::RunThreads({[&] {
                         w.End(slot, a);
                         w.Map(b);
                       },
                       [&] {
                         const auto found = w.bounce().Look(w.SlotIova(at));
                         sched::Check(found.ok() && Same(found->b, stays),
                                      "not found");
                       }});
  };
}

TEST(LookupSched, AMappingThatStaysIsFound) {
  Holds("first slot", NeighbourAgainstLook(1));
  Holds("second slot", NeighbourAgainstLook(2));
}

// All mappings of a page, listed while one of them goes and another one comes
// behind it, in a slot that was the first one's: what stays is on the list.
sched::Body ListAgainstReuse() {
  return [] {
    BounceWorld w(1, 4);
    sched::Atomic<int> address_is_free{0};
    const BounceBuffer old = w.Shape(0, 2, 0);
    const BounceBuffer b = w.Shape(1, 1, 1);
    const BounceBuffer stays = w.Shape(2, 1, 2);
    auto& slot = w.Map(old);
    w.Map(stays);
    sched::RunThreads(
        {[&] {
           w.BeginEnd(slot);
           w.bounce().SettleAll(old.slots);
           address_is_free.store(1, std::memory_order_release);
           w.bounce().Vacate(slot, SlotState::kFree);
         },
         [&] {
           const bool reuse =
               address_is_free.load(std::memory_order_acquire) != 0;
           if (reuse) w.Map(b);
           int found = 0;
           w.bounce().ForEachShown(Iova(0), [&](const auto& m) {
             found += Same(m.b, stays) || Same(m.b, b) ? 1 : 0;
           });
           sched::Check(found == (reuse ? 2 : 1), "a mapping is not listed");
         }});
  };
}

TEST(LookupSched, TheListOfAPageIsComplete) {
  Holds("list", ListAgainstReuse());
}

}  // namespace
}  // namespace dmamap
