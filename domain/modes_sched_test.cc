// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// A domain over page tables under the deterministic scheduler: an Unmap whose
// address waits for an invalidation, whoever invalidates, and a Map that wants
// an address. A device remembers what the tables said; nothing that it can
// reach may be somebody else's, or given back.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "dma/address.h"
#include "dma/direction.h"
#include "dma/iommu_map.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "domain/domain.h"
#include "domain/sched_addresses_for_test.h"
#include "iova/flush_queue.h"
#include "iova/sched_model_for_test.h"
#include "testing/sched/explore.h"

namespace dmamap {
namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::size_t kPages = 8;
constexpr auto kRelaxed = std::memory_order_relaxed;

// Page tables, and a device that remembers. What orders them is the domain's
// task: relaxed throughout.
class SchedIommu {
 public:
  PageSize page() const { return PageSize(); }
  Result<void> Map(Range range, PhysAddr memory, Permission) {
    for (std::size_t n = First(range); n <= Last(range); ++n) {
      sched::Check(tables_[n].load(kRelaxed) == 0, "mapped already");
      sched::Check(remembered_[n].load(kRelaxed) == 0,
                   "used while the device remembers it");
      tables_[n].store(memory.value(), kRelaxed);
      remembered_[n].store(memory.value(), kRelaxed);
    }
    return Ok();
  }
  Result<void> SyncMap(Range) { return Ok(); }
  Result<void> Unmap(Range range) {
    for (std::size_t n = First(range); n <= Last(range); ++n) {
      tables_[n].store(0, kRelaxed);
    }
    return Ok();
  }
  Result<void> Invalidate(Range range) {
    for (std::size_t n = First(range); n <= Last(range); ++n) Forget(n);
    return Ok();
  }
  Result<void> InvalidateAll() {
    for (std::size_t n = 0; n < kPages; ++n) Forget(n);
    return Ok();
  }
  bool Remembers(Iova at) const {
    return remembered_[at.value() / kPage].load(kRelaxed) != 0;
  }
  bool RemembersMemory(const std::byte* memory) const {
    bool found = false;
    for (const auto& r : remembered_) {
      found = found || r.load(kRelaxed) == PhysAddrOf(memory).value();
    }
    return found;
  }

 private:
  static std::size_t First(Range r) { return r.first().value() / kPage; }
  static std::size_t Last(Range r) { return r.last().value() / kPage; }
  void Forget(std::size_t n) {
    remembered_[n].store(tables_[n].load(kRelaxed), kRelaxed);
  }
  std::array<sched::Atomic<std::uint64_t>, kPages> tables_;
  std::array<sched::Atomic<std::uint64_t>, kPages> remembered_;
};
static_assert(IommuMap<SchedIommu>);

// Knows the tables: a page that a device remembers is not given back.
class SchedPages {
 public:
  const SchedIommu* device = nullptr;

  Result<std::byte*> Allocate(PageSize page, std::uint64_t pages) {
    return inner_.Allocate(page, pages);
  }
  void Free(std::byte* memory, PageSize page, std::uint64_t pages) {
    if (!SchedFailed() && device != nullptr) {
      sched::Check(!device->RemembersMemory(memory), "freed in its reach");
    }
    inner_.Free(memory, page, pages);
  }

 private:
  HeapPages inner_;
};

struct SchedFlush : FlushQueuePolicy {
  template <class T>
  using Atom = sched::Atomic<T>;
  using Lock = SchedLock;
  using FlushLock = SchedLock;
};
// Negative control: what is queued while the invalidation runs counts as
// invalidated.
template <template <class> class Atom, class LockType>
class LateRing : public FlushRing<Atom, LockType> {
  using Base = FlushRing<Atom, LockType>;

 public:
  static std::unique_ptr<LateRing> Make(std::uint64_t capacity) {
    return std::unique_ptr<LateRing>(new LateRing(capacity));
  }
  void Publish() {
    Base::Snapshot();
    Base::Publish();
  }

 private:
  using Base::Base;
};
struct LateFlush : SchedFlush {
  template <template <class> class Atom, class LockType>
  using Ring = LateRing<Atom, LockType>;
};

template <class FlushType>
struct SchedPolicies : DomainPolicies {
  using Pages = SchedPages;
  using Invalidation = SchedIommu;
  using LockType = SchedLock;
  using Cpu = SchedCpu;
  using Allocator = SchedAddresses;
  using Flush = FlushType;
  template <class T>
  using Atom = sched::Atomic<T>;
};

template <class FlushType = SchedFlush>
struct World {
  explicit World(DomainMode mode, FlushMode flush = FlushMode::kDeferred) {
    domain.pages().device = &domain.invalidation();
    const auto made =
        domain.Init({.limit = Iova(kPages * kPage - 1),
                     .bounce_size = 4 * kPage,  // three pages
                     .mode = mode,
                     .flush = {.mode = flush, .entries = 2, .max_age = 0}});
    sched::Check(made.ok(), "Init");
  }
  ~World() { domain.pages().device = nullptr; }
  Result<Mapping> Map(std::size_t n) {
    return domain.Map(PhysAddrOf(buffers[n].bytes.data()), 40,
                      Direction::kBidirectional);
  }
  Mapping MapNow(std::size_t n) {
    const auto m = Map(n);
    sched::Check(m.ok(), "Map");
    return m.ok() ? *m : Mapping{};
  }
  void CheckQuiet() {
    if (SchedFailed()) return;
    sched::Check(domain.CheckInvariants(), "invariants");
  }

  Domain<SchedPolicies<FlushType>> domain;
  struct alignas(kPage) Buffer {
    std::array<std::byte, kPage> bytes = {};
  };
  std::array<Buffer, 2> buffers;
};

void HoldsFor(const char* name, const sched::Body& body,
              std::uint32_t preemptions = 2) {
  const sched::Report report =
      sched::Explore({.name = name, .preemptions = preemptions}, body);
  EXPECT_TRUE(report.ok && report.complete) << report;
  EXPECT_GE(report.executions, 50u) << report;
  testing::Test::RecordProperty(name, std::to_string(report.executions));
}
void IsFoundBy(const char* name, const sched::Body& body,
               const sched::Weaken& weaken = {}) {
  const sched::Report report =
      sched::Explore({.name = name, .rereads = 16, .weaken = weaken}, body);
  EXPECT_FALSE(report.ok) << report << weaken.function;
}

// One unmaps; one invalidates; and, when that is over, maps until no address is
// left: those of the Unmap are among them, or not yet.
template <class FlushType = SchedFlush>
sched::Body UnmapFlushMap(DomainMode mode) {
  return [mode] {
    World<FlushType> w(mode);
    const Mapping first = w.MapNow(0);
    sched::Check(w.domain.Unmap(first).ok(), "Unmap");  // one waits already
    const Mapping m = w.MapNow(0);
    sched::RunThreads({[&] { sched::Check(w.domain.Unmap(m).ok(), "Unmap"); },
                       [&] {
                         sched::Check(w.domain.Flush().ok(), "Flush");
                         // The tables check each page that this gets.
                         (void)w.Map(1).ok();
                         (void)w.Map(1).ok();
                       }},
                      [&] { w.CheckQuiet(); });
  };
}

TEST(ModesSched, UnmapAgainstFlushAndReuse) {
  HoldsFor("direct", UnmapFlushMap(DomainMode::kDirect), 1);
  HoldsFor("bounce", UnmapFlushMap(DomainMode::kBounce), 1);
}
TEST(ModesSchedControl, UnmapAgainstFlushAndReuse) {
  IsFoundBy("late", UnmapFlushMap<LateFlush>(DomainMode::kDirect));
}

// A ticket that is over: the device has forgotten what was unmapped before it.
sched::Body TicketAgainstFlush() {
  return [] {
    World w(DomainMode::kDirect);
    const Mapping m = w.MapNow(0);
    sched::RunThreads({[&] {
                         sched::Check(w.domain.Unmap(m).ok(), "Unmap");
                         const SafetyTicket ticket = w.domain.Retired();
                         if (!w.domain.IsSafe(ticket)) return;
                         sched::Check(
                             !w.domain.invalidation().Remembers(m.iova),
                             "safe, and remembered");
                       },
                       [&] {
                         sched::Check(w.domain.Flush().ok(), "Flush");
                         sched::Check(w.domain.Flush().ok(), "Flush");
                       }},
                      [&] { w.CheckQuiet(); });
  };
}
TEST(ModesSched, TicketAgainstFlush) {
  HoldsFor("ticket", TicketAgainstFlush(), 1);
}

TEST(ModesSchedControl, TicketAgainstFlush) {
  IsFoundBy("ticket", TicketAgainstFlush(),
            {.function = "Ticket", .access = "fetch_add", .to = kRelaxed});
}

// Two that unmap the same mapping, deferred: one does.
TEST(ModesSched, UnmapAgainstUnmap) {
  HoldsFor("unmap", [] {
    World w(DomainMode::kDirect);
    const Mapping m = w.MapNow(0);
    Result<void> first;
    Result<void> second;
    sched::RunThreads({[&] { first = w.domain.Unmap(m); },
                       [&] { second = w.domain.Unmap(m); }},
                      [&] {
                        sched::Check(first.ok() != second.ok(), "not one");
                        w.CheckQuiet();
                      });
  });
}

// Links on the same page: one gets it, and while the other ends, nobody.
TEST(ModesSched, LinkAgainstUnlink) {
  HoldsFor("link", [] {
    World w(DomainMode::kDirect, FlushMode::kStrict);
    const auto held = w.domain.Reserve(2 * kPage);
    const auto link =
        w.domain.Link(*held, 0, PhysAddrOf(w.buffers[0].bytes.data()), kPage,
                      Direction::kToDevice);
    sched::Check(held.ok() && link.ok(), "Link");
    Result<Mapping> other = Error::kNotMapped;
    Result<void> released;
    sched::RunThreads(
        {[&] {
           sched::Check(w.domain.Unlink({&*link, 1}).ok(), "Unlink");
         },
         [&] {
           other =
               w.domain.Link(*held, 0, PhysAddrOf(w.buffers[1].bytes.data()), 8,
                             Direction::kToDevice);
           sched::Check(other.ok() || other.error() == Error::kOverlap,
                        "another error");
           released = w.domain.Release(*held);
         }},
        [&] {
          sched::Check(!(other.ok() && released.ok()), "released under a link");
          w.CheckQuiet();
        });
  });
}

// The pool's page is reclaimed while a Map wants it.
TEST(ModesSched, MapAgainstReclaim) {
  HoldsFor(
      "reclaim",
      [] {
        World w(DomainMode::kPooled, FlushMode::kStrict);
        const Mapping m = w.MapNow(0);
        sched::Check(w.domain.Unmap(m).ok(), "Unmap");
        Result<Mapping> again = Error::kNotMapped;
        sched::RunThreads(
            {[&] { again = w.Map(1); }, [&] { (void)w.domain.ReclaimIdle(); }},
            [&] {
              sched::Check(again.ok(), "Map");
              w.CheckQuiet();
            });
      },
      1);
}

}  // namespace
}  // namespace dmamap
