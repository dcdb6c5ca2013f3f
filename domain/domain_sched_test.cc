// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// A whole domain under the deterministic scheduler: Map, Unmap and Shutdown
// against each other and against the device.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

#include "dma/address.h"
#include "dma/asymmetric_fence.h"
#include "dma/direction.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "domain/domain.h"
#include "domain/sched_addresses_for_test.h"
#include "iova/allocator_options.h"
#include "iova/sched_model_for_test.h"
#include "testing/sched/explore.h"

namespace dmamap {
namespace {

constexpr std::uint64_t kPage = 64;
constexpr auto kAcqRel = std::memory_order_acq_rel;
constexpr auto kRelaxed = std::memory_order_relaxed;

// A plain variable: two calls that nothing orders are a data race.
class SchedInvalidation {
 public:
  Result<void> Invalidate(Range) {
    calls = calls + 1;
    return Ok();
  }
  Result<void> InvalidateAll() {
    calls = calls + 1;
    return Ok();
  }
  sched::Plain<int> calls{0};
};

struct SchedPolicies : DomainPolicies {
  using Invalidation = SchedInvalidation;
  using LockType = SchedLock;
  using Cpu = SchedCpu;
  using Allocator = SchedAddresses;
  template <class T>
  using Atom = sched::Atomic<T>;
};

// Negative control: no fence between a Map's record and its look at the phase.
template <template <class> class A>
struct OneSided : SymmetricFence<A> {
  static void Light() {}
};
struct OneSidedPolicies : SchedPolicies {
  template <template <class> class A>
  using Fence = OneSided<A>;
};

template <class Policies = SchedPolicies>
struct World {
  explicit World(std::uint64_t slots_a_page = 1, std::uint64_t slots = 8) {
    const auto made =
        domain.Init({.limit = Iova(2 * slots * kPage - 1),
                     .bounce_size = slots * kPage,
                     .page = *PageSize::FromBytes(kPage),
                     .bounce_page = *PageSize::FromBytes(slots_a_page * kPage),
                     .sharing = PageSharing::kOwner});
    sched::Check(made.ok(), "Init");
    // The table of slots is there, as it is after the first mapping.
    const Mapping m = MapNow(0);
    sched::Check(domain.Unmap(m).ok(), "Unmap");
  }
  Result<Mapping> Map(std::size_t n, std::uint64_t size = 40,
                      Direction direction = Direction::kBidirectional) {
    return domain.Map(PhysAddrOf(buffers[n].bytes.data()), size, direction);
  }
  Mapping MapNow(std::size_t n, std::uint64_t size = 40) {
    const auto m = Map(n, size);
    sched::Check(m.ok(), "Map");
    return m.ok() ? *m : Mapping{};
  }
  Result<void> Shutdown() {
    return domain.Shutdown([this](const Leak&) { ++reported; });
  }
  void CheckQuiet() { sched::Check(domain.CheckInvariants(), "invariants"); }

  Domain<Policies> domain;
  struct Buffer {
    Buffer() { bytes.fill(std::byte{5}); }
    std::array<std::byte, 2 * kPage> bytes;
  };
  std::array<Buffer, 3> buffers;
  int reported = 0;
};

void HoldsFor(const char* name, const sched::Body& body,
              std::uint32_t preemptions = 2, std::uint64_t at_least = 100) {
  const sched::Report report = sched::Explore(
      {.name = name, .preemptions = preemptions, .rereads = 16}, body);
  EXPECT_TRUE(report.ok && report.complete) << report;
  EXPECT_GE(report.executions, at_least) << report;
  testing::Test::RecordProperty(name, std::to_string(report.executions));
}
void IsFoundBy(const char* name, const sched::Body& body,
               const sched::Weaken& weaken = {}) {
  const sched::Report report =
      sched::Explore({.name = name, .rereads = 16, .weaken = weaken}, body);
  EXPECT_FALSE(report.ok) << report << weaken.function;
}

// --- Shutdown ---

// A mapping that is made is seen by the Shutdown, or is not made.
template <class Policies = SchedPolicies>
sched::Body MapAgainstShutdown() {
  return [] {
    World<Policies> w;
    Result<Mapping> m = Error::kNotMapped;
    Result<void> down;
    sched::RunThreads(
        {[&] { m = w.Map(0); }, [&] { down = w.Shutdown(); }}, [&] {
          sched::Check(m.ok() != down.ok(), "both, or neither");
          if (m.ok() == down.ok()) return;
          const Error said = m.ok() ? down.error() : m.error();
          sched::Check(said == (m.ok() ? Error::kBusy : Error::kShutDown),
                       "another error");
          w.CheckQuiet();
        });
  };
}

TEST(DomainSched, MapAgainstShutdown) { HoldsFor("map", MapAgainstShutdown()); }
TEST(DomainSchedControl, MapAgainstShutdown) {
  IsFoundBy("one fence", MapAgainstShutdown<OneSidedPolicies>());
  IsFoundBy("weak fence", MapAgainstShutdown(),
            {.function = "Light", .to = kAcqRel});
}

// When Shutdown has said Ok, the Unmap is over but for its return.
sched::Body UnmapAgainstShutdown() {
  return [] {
    World w;
    const Mapping m = w.MapNow(0);
    Result<void> gone = Error::kNotMapped;
    Result<void> down;
    sched::RunThreads({[&] { gone = w.domain.Unmap(m); },
                       [&] {
                         down = w.Shutdown();
                         if (down.ok()) ++w.domain.invalidation().calls;
                       }},
                      [&] {
                        if (SchedFailed()) return;
                        sched::Check(gone.ok(), "refused");
                        sched::Check(down.ok() || down.error() == Error::kBusy,
                                     "another error");
                        w.CheckQuiet();
                        sched::Check(w.Shutdown().ok() != down.ok(), "again");
                      });
  };
}

TEST(DomainSched, UnmapAgainstShutdown) {
  HoldsFor("unmap", UnmapAgainstShutdown());
}
TEST(DomainSchedControl, UnmapAgainstShutdown) {
  IsFoundBy("vacate", UnmapAgainstShutdown(),
            {.function = "Vacate", .access = "store", .to = kRelaxed});
}

// Two Shutdowns: one succeeds.
TEST(DomainSched, ShutdownAgainstShutdown) {
  HoldsFor(
      "shutdown",
      [] {
        World w;
        Result<void> first;
        Result<void> second;
        sched::RunThreads(
            {[&] { first = w.Shutdown(); }, [&] { second = w.Shutdown(); }},
            [&] { sched::Check(first.ok() != second.ok(), "not one"); });
      },
      1);
}

// --- Unmap ---

// Two that end the same mapping: one does, and copies back once.
TEST(DomainSched, UnmapAgainstUnmap) {
  HoldsFor("unmap", [] {
    World w;
    const Mapping m = w.MapNow(0);
    const auto view = w.domain.Translate(m.iova, 40, Permission::kWrite);
    sched::Check(view.ok(), "Translate");
    std::fill_n(view->data, 40, std::byte{7});
    Result<void> first;
    Result<void> second;
    sched::RunThreads(
        {[&] { first = w.domain.Unmap(m); },
         [&] { second = w.domain.Unmap(m); }},
        [&] {
          sched::Check(first.ok() != second.ok(), "not one of them");
          if (first.ok() == second.ok()) return;
          const Error error = first.ok() ? second.error() : first.error();
          sched::Check(error == Error::kNotMapped || error == Error::kMismatch,
                       "another error");
          const auto& bytes = w.buffers[0].bytes;
          sched::Check(bytes[0] == std::byte{7} && bytes[39] == std::byte{7} &&
                           bytes[40] == std::byte{5},
                       "not copied back");
          w.CheckQuiet();
        });
  });
}

// All members of a list, or none; the other call ends one, or none.
TEST(DomainSched, UnmapScatterAgainstUnmap) {
  HoldsFor("scatter", [] {
    World w;
    const std::array<Mapping, 2> m = {w.MapNow(0), w.MapNow(1)};
    Result<void> all;
    Result<void> one;
    sched::RunThreads(
        {[&] { all = w.domain.UnmapScatter(m); },
         [&] { one = w.domain.Unmap(m[1]); }},
        [&] {
          sched::Check(
              all.ok() || one.ok() ||
                  (all.error() == Error::kBusy && one.error() == Error::kBusy),
              "neither, and no reason");
          sched::Check(!(all.ok() && one.ok()), "both");
          const std::uint64_t left = all.ok() ? 0 : one.ok() ? 1 : 2;
          sched::Check(w.domain.stats().live == left, "live");
          w.CheckQuiet();
        });
  });
}

// A list that is refused has changed nothing, not for a moment: the device goes
// on using its members.
TEST(DomainSched, RefusedUnmapScatterAgainstDevice) {
  HoldsFor("refused", [] {
    World w;
    const Mapping m = w.MapNow(0);
    Mapping bad = w.MapNow(1);
    ++bad.tag;
    const std::array<Mapping, 2> list = {m, bad};
    sched::RunThreads(
        {[&] {
           const auto r = w.domain.UnmapScatter(list);
           sched::Check(!r.ok() && r.error() == Error::kMismatch, "ended");
         },
         [&] {
           const auto view = w.domain.Translate(m.iova, 40, Permission::kRead);
           sched::Check(view.ok(), "the device is refused");
           sched::Check(view->data[0] == std::byte{5}, "other bytes");
         }},
        [&] { w.CheckQuiet(); });
  });
}

// A sync and an Unmap: the sync is complete, or refused; so is the Unmap.
TEST(DomainSched, SyncAgainstUnmap) {
  HoldsFor("sync", [] {
    World w;
    const Mapping m = w.MapNow(0);
    sched::Check(w.domain.Translate(m.iova, 40, Permission::kWrite).ok(), "");
    Result<void> sync;
    Result<void> gone;
    sched::RunThreads({[&] { sync = w.domain.SyncForCpu(m, 0, 40); },
                       [&] { gone = w.domain.Unmap(m); }},
                      [&] {
                        sched::Check(sync.ok() || gone.ok(), "neither");
                        sched::Check(gone.ok() || gone.error() == Error::kBusy,
                                     "another error of Unmap");
                        sched::Check(
                            sync.ok() || sync.error() == Error::kNotMapped,
                            "another error of Sync");
                        w.CheckQuiet();
                      });
  });
}

// --- The device ---

// What the device is given is the mapping's, in full, from its first moment.
TEST(DomainSched, DeviceAgainstMap) {
  for (const std::uint64_t slots : {1u, 2u}) {
    HoldsFor("device", [slots] {
      World w(slots);
      Mapping m;
      sched::RunThreads(
          {[&] { m = w.MapNow(0); },
           [&] {
             const auto view =
                 w.domain.Translate(Iova(kPage), 64, Permission::kRead);
             if (!view.ok()) return;
             sched::Check(view->length == 40, "length");
             sched::Check(
                 std::all_of(view->data, view->data + 40,
                             [](std::byte b) { return b == std::byte{5}; }),
                 "not the mapping's bytes");
           }},
          [&] {
            const auto view = w.domain.Translate(m.iova, 64, Permission::kRead);
            sched::Check(view.ok() && view->data[39] == std::byte{5}, "after");
            w.CheckQuiet();
          });
    });
  }
}

// The same for a mapping in a slot that its thread had parked, or in a run of
// two (the device is at the second): what the former mapping showed there is
// not seen any more.
template <class Policies = SchedPolicies>
sched::Body DeviceAgainstMapInParked(std::uint64_t slots) {
  return [slots] {
    World<Policies> w(1, slots == 1 ? 8 : 128);
    w.buffers[1].bytes.fill(std::byte{6});
    const std::uint64_t size = (slots - 1) * kPage + 40;
    const Iova at(slots * kPage);
    sched::Atomic<int> step{0};
    Mapping last;
    sched::RunThreads(
        {[&] {
           // The first Unmap makes room, the second parks.
           for (int i = 0; i < 2; ++i) {
             const Mapping m = w.MapNow(1, size);
             sched::Check(w.domain.Unmap(m).ok(), "Unmap");
           }
           step.store(1);
           last = w.MapNow(0, size);
         },
         [&] {
           if (step.load() == 0) return;
           const auto view = w.domain.Translate(at, 64, Permission::kRead);
           if (!view.ok()) return;
           sched::Check(
               std::all_of(view->data, view->data + 40,
                           [](std::byte b) { return b == std::byte{5}; }),
               "not the mapping's bytes");
         }},
        [&] {
          sched::Check(last.iova == Iova(kPage), "another slot");
          const auto view = w.domain.Translate(at, 64, Permission::kRead);
          sched::Check(view.ok() && view->data[39] == std::byte{5}, "after");
          w.CheckQuiet();
        });
  };
}

TEST(DomainSched, DeviceAgainstMapInAParkedSlot) {
  HoldsFor("parked", DeviceAgainstMapInParked(1), 2);
}
TEST(DomainSched, DeviceAgainstMapInAParkedRun) {
  HoldsFor("parked", DeviceAgainstMapInParked(2), 1);
}
// A Light that is no fence, as that of membarrier, leaves it to the word.
TEST(DomainSchedControl, DeviceAgainstMapInAParkedRun) {
  IsFoundBy("admit", DeviceAgainstMapInParked<OneSidedPolicies>(2),
            {.function = "Admit", .access = "store", .to = kRelaxed});
}

// A page that comes while its mapping ends: it is filled from the mapping, or
// nothing is copied back from it. The device has written nothing, so the buffer
// stays as it was (guarantee 2). With a neighbour on the page, the fault is for
// that one.
sched::Body FaultAgainstUnmap(std::uint64_t slots, bool neighbour) {
  return [=] {
    World w(slots);
    const auto m = w.Map(0, kPage + 40, Direction::kFromDevice);
    const Mapping other = w.MapNow(1);
    sched::Check(m.ok(), "Map");
    const Iova at = neighbour ? other.iova : m->iova + kPage;
    Result<void> gone;
    sched::RunThreads({[&] { gone = w.domain.Unmap(*m); },
                       [&] { (void)w.domain.Fault(at).ok(); }},
                      [&] {
                        sched::Check(gone.ok(), "Unmap");
                        const auto& bytes = w.buffers[0].bytes;
                        sched::Check(std::all_of(bytes.begin(), bytes.end(),
                                                 [](std::byte b) {
                                                   return b == std::byte{5};
                                                 }),
                                     "copied back what was never there");
                        w.CheckQuiet();
                      });
  };
}

TEST(DomainSched, FaultAgainstUnmap) {
  HoldsFor("own page", FaultAgainstUnmap(1, false));
  HoldsFor("shared page", FaultAgainstUnmap(4, true), 1);
  HoldsFor("shared page, own fault", FaultAgainstUnmap(4, false), 1);
}

// Two mappings share a page; one goes and another comes in its place, while
// the device faults the page for the one that stays.
TEST(DomainSched, FaultAgainstUnmapAndMap) {
  HoldsFor(
      "fault",
      [] {
        World w(4);
        w.buffers[1].bytes.fill(std::byte{6});
        const Mapping goes = w.MapNow(0, 2 * kPage);  // two slots
        const Mapping stays = w.MapNow(2);
        Mapping comes;
        sched::RunThreads(
            {[&] {
               sched::Check(w.domain.Unmap(goes).ok(), "Unmap");
               comes = w.MapNow(1);
             },
             [&] {
               const auto page = w.domain.Fault(stays.iova);
               sched::Check(page.ok(), "Fault");
             }},
            [&] {
              const auto page = w.domain.Fault(stays.iova);
              for (const Mapping& m : {comes, stays}) {
                const auto at = m.iova - page->range.first();
                const std::byte want{
                    static_cast<unsigned char>(m == comes ? 6 : 5)};
                sched::Check(page->page[at] == want &&
                                 page->page[at + 39] == want &&
                                 page->page[at + 40] == std::byte{0},
                             "not its bytes");
              }
              sched::Check(page->page[3 * kPage] == std::byte{0} ||
                               stays.iova.value() == 3 * kPage,
                           "left behind");
              w.CheckQuiet();
            });
      },
      1);
}

}  // namespace
}  // namespace dmamap
