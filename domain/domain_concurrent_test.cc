// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Threads on one domain: drivers that map, sync and unmap, a device that
// serves them through Translate, a hostile one that faults anywhere, and a
// thread that reclaims idle pages. Run it under TSan and ASan.
//
// And calls that run in the middle of another one, without threads: in its
// invalidation, or where it takes a lock or frees an address. The orders of
// single accesses are domain_sched_test.cc's and bounce/*_sched_test.cc's.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <mutex>
#include <random>
#include <shared_mutex>
#include <thread>
#include <vector>

#include "domain/domain.h"
#include "domain/parts_for_test.h"
#include "iova/standard.h"
#include "testing/domain_port.h"

namespace dmamap {
namespace {

using testing_parts::Bytes;
using testing_parts::Pattern;

constexpr std::uint64_t kPage = 256;

// What a software device needs: it holds the gate while it uses what Translate
// gave it, and an invalidation waits until it does not.
class DeviceGate {
 public:
  std::shared_mutex& gate() { return gate_; }
  Result<void> Invalidate(Range) {
    const std::lock_guard wait(gate_);
    return Ok();
  }
  Result<void> InvalidateAll() { return Invalidate(Range()); }

 private:
  std::shared_mutex gate_;
};

struct GatedPolicies : DomainPolicies {
  using Memory = PagewiseMemory<>;
  using Invalidation = DeviceGate;
};
using GatedDomain = Domain<GatedPolicies>;

// One driver's order to the device: answer what is at `mapping`.
struct Order {
  Mapping mapping;
  std::atomic<bool> pending{false};  // release/acquire hand the buffer over
};

void Device(GatedDomain& domain, std::vector<Order>& orders,
            const std::atomic<bool>& stop) {
  DomainPort port(domain);
  while (!stop.load(std::memory_order_relaxed)) {  // relaxed: only a flag
    for (Order& o : orders) {
      if (!o.pending.load(std::memory_order_acquire)) continue;
      const std::shared_lock hold(domain.invalidation().gate());
      Bytes bytes(o.mapping.size);
      if (DeviceReads(o.mapping.direction)) {
        EXPECT_TRUE(port.Read(o.mapping.iova, bytes.data(), bytes.size()).ok());
      }
      if (DeviceWrites(o.mapping.direction)) {
        // Inverts what it read, or writes ones; only the first half.
        for (std::byte& b : bytes) b = ~b;
        const std::size_t half = (bytes.size() + 1) / 2;
        EXPECT_TRUE(port.Write(o.mapping.iova, bytes.data(), half).ok());
      }
      o.pending.store(false, std::memory_order_release);
    }
    std::this_thread::yield();
  }
}

// What the buffer must hold after the device has served it.
Bytes Served(const Bytes& original, Direction direction) {
  Bytes b = original;
  if (!DeviceWrites(direction)) return b;
  for (std::size_t i = 0; i < (b.size() + 1) / 2; ++i) {
    b[i] = DeviceReads(direction) ? ~b[i] : std::byte{0xff};
  }
  return b;
}

void Driver(GatedDomain& domain, BufferOwner owner, Order& order, unsigned seed,
            int rounds) {
  std::minstd_rand random(seed + 1);
  for (int round = 0; round < rounds; ++round) {
    Bytes buffer = Pattern(1 + random() % (4 * kPage),
                           static_cast<unsigned>(random() % 1000));
    const Bytes original = buffer;
    const auto direction = static_cast<Direction>(random() % 3);
    const auto m = domain.For(owner).Map(PhysAddrOf(buffer.data()),
                                         buffer.size(), direction);
    if (!m.ok()) {
      EXPECT_EQ(m.error(), Error::kNoSpace);
      continue;
    }
    order.mapping = *m;
    order.pending.store(true, std::memory_order_release);
    while (order.pending.load(std::memory_order_acquire)) {
      std::this_thread::yield();
    }
    if (random() % 2 == 0) {
      EXPECT_TRUE(domain.SyncForCpu(*m, 0, buffer.size()).ok());
      EXPECT_EQ(buffer, Served(original, direction));
      EXPECT_TRUE(domain.SyncForDevice(*m, 0, buffer.size()).ok());
    }
    Mapping bad = *m;
    ++bad.tag;
    EXPECT_FALSE(domain.Unmap(bad).ok());
    EXPECT_TRUE(domain.Unmap(*m).ok());
    EXPECT_EQ(buffer, Served(original, direction));
    if (random() % 4 == 0) {
      const auto block = domain.AllocateCoherent(1 + random() % 600);
      if (block.ok()) {
        EXPECT_EQ(block->cpu[block->size - 1], std::byte{0});
        std::memset(block->cpu, 1, block->size);
        EXPECT_TRUE(domain.FreeCoherent(*block).ok());
      }
    }
  }
}

void Stress(unsigned bounce_shift, std::uint32_t owners = 1) {
  GatedDomain domain;
  ASSERT_TRUE(domain
                  .Init({.limit = Iova(256 * kPage - 1),
                         .bounce_size = 128 * kPage,
                         .page = *PageSize::FromBytes(kPage),
                         .bounce_page = *PageSize::FromShift(bounce_shift),
                         .sharing = PageSharing::kOwner,
                         .owners = owners})
                  .ok());
  std::vector<Order> orders(3);
  std::atomic<bool> stop{false};
  std::thread device([&] { Device(domain, orders, stop); });
  std::thread hostile([&] {
    std::minstd_rand random(99);
    while (!stop.load(std::memory_order_relaxed)) {  // relaxed: only a flag
      (void)domain.Fault(Iova(random() % (256 * kPage))).ok();
      (void)domain
          .Translate(Iova(random() % (256 * kPage)), 10, Permission::kRead)
          .ok();
      if (random() % 16 == 0) domain.ReclaimIdle();
    }
  });
  std::vector<std::thread> drivers;
  for (unsigned i = 0; i < orders.size(); ++i) {
    const BufferOwner owner{i % owners};
    drivers.emplace_back([&, owner, i] {
      Driver(domain, owner, orders[i], i, owners == 1 ? 200 : 100);
    });
  }
  for (std::thread& t : drivers) t.join();
  stop.store(true);
  device.join();
  hostile.join();
  EXPECT_TRUE(domain.CheckInvariants());
  EXPECT_EQ(domain.stats().maps, domain.stats().unmaps);
  EXPECT_TRUE(domain.Shutdown([](const Leak&) { ADD_FAILURE(); }).ok());
  EXPECT_EQ(domain.pages().in_use(), 0u);
}

TEST(DomainStress, EachMappingItsOwnPages) { Stress(8); }
TEST(DomainStress, MappingsSharePages) { Stress(11); }
TEST(DomainStress, OwnersHavePagesOfTheirOwn) { Stress(11, 3); }

// A device that reads wherever it can, while mappings come and go and idle
// pages are given back. Each buffer is one byte many times, so bytes that
// differ within one view belong to a mapping that came after the translation.
TEST(DomainStress, ADeviceSeesNothingThatCameAfterItsTranslation) {
  GatedDomain domain;
  ASSERT_TRUE(domain
                  .Init({.limit = Iova(64 * kPage - 1),
                         .bounce_size = 8 * kPage,
                         .page = *PageSize::FromBytes(kPage)})
                  .ok());
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> views{0};
  std::thread device([&] {
    std::minstd_rand random(5);
    while (!stop.load(std::memory_order_relaxed)) {  // relaxed: only a flag
      const std::shared_lock hold(domain.invalidation().gate());
      const Iova at(kPage * (1 + random() % 7));
      const auto view = domain.Translate(at, kPage, Permission::kRead);
      if (!view.ok()) continue;
      const std::byte first = view->data[0];
      for (int again = 0; again < 4; ++again) {
        EXPECT_TRUE(std::all_of(view->data, view->data + view->length,
                                [&](std::byte b) { return b == first; }));
      }
      views.fetch_add(1, std::memory_order_relaxed);  // relaxed: a count
    }
  });
  std::vector<std::thread> drivers;
  for (unsigned t = 0; t < 2; ++t) {
    drivers.emplace_back([&, t] {
      for (unsigned i = 0; i < 1000 || views.load() < 100; ++i) {
        const Bytes buffer(kPage,
                           static_cast<std::byte>(1 + (2 * i + t) % 255));
        const auto m =
            domain.Map(PhysAddrOf(buffer.data()), kPage, Direction::kToDevice);
        ASSERT_TRUE(m.ok());
        if (i % 8 == 0) std::this_thread::yield();
        ASSERT_TRUE(domain.Unmap(*m).ok());
        if (i % 64 == 0) domain.ReclaimIdle();
      }
    });
  }
  for (std::thread& t : drivers) t.join();
  stop.store(true);
  device.join();
  EXPECT_TRUE(domain.CheckInvariants());
}

// Many threads try to end the same mappings: one succeeds for each.
TEST(DomainStress, OneUnmapOfEachMappingSucceeds) {
  GatedDomain domain;
  ASSERT_TRUE(domain.Init({}).ok());
  Bytes buffer = Pattern(100, 1);
  std::vector<Mapping> all;
  for (int i = 0; i < 300; ++i) {
    all.push_back(
        *domain.Map(PhysAddrOf(buffer.data()), 100, Direction::kToDevice));
  }
  std::atomic<int> ended{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (const Mapping& m : all) {
        if (domain.Unmap(m).ok()) ended.fetch_add(1);
        (void)domain.SyncForDevice(m, 0, 100).ok();
      }
    });
  }
  for (std::thread& t : threads) t.join();
  // A sync that was under way may have made an Unmap answer kBusy.
  int left = 0;
  for (const Mapping& m : all) left += domain.Unmap(m).ok() ? 1 : 0;
  EXPECT_EQ(ended.load() + left, 300);
  EXPECT_TRUE(domain.CheckInvariants());
}

// One thread syncs a mapping that another one ends: each is served or refused,
// and nothing is copied once the mapping has ended.
TEST(DomainStress, SyncAgainstUnmap) {
  GatedDomain domain;
  ASSERT_TRUE(domain
                  .Init({.limit = Iova(64 * kPage - 1),
                         .bounce_size = 8 * kPage,
                         .page = *PageSize::FromBytes(kPage)})
                  .ok());
  constexpr int kRounds = 300;
  Bytes buffer(2 * kPage);
  Mapping mapping;
  std::atomic<int> round{0};  // odd: a mapping is there
  std::atomic<int> served{0};
  std::thread syncer([&] {
    for (int seen = 1; seen < 2 * kRounds; seen += 2) {
      while (round.load(std::memory_order_acquire) < seen) {
        std::this_thread::yield();
      }
      for (int i = 0; i < 4; ++i) {
        const auto r = i % 2 == 0 ? domain.SyncForCpu(mapping, 0, mapping.size)
                                  : domain.SyncForDevice(mapping, 1, 7);
        if (r.ok()) {
          served.fetch_add(1);
        } else {
          EXPECT_EQ(r.error(), Error::kNotMapped);
        }
      }
      round.store(seen + 1, std::memory_order_release);
    }
  });
  for (int i = 0; i < kRounds; ++i) {
    std::fill(buffer.begin(), buffer.end(), std::byte{1});
    const auto m = domain.Map(PhysAddrOf(buffer.data()), buffer.size(),
                              Direction::kBidirectional);
    ASSERT_TRUE(m.ok());
    mapping = *m;
    DomainPort port(domain);
    const Bytes two(buffer.size(), std::byte{2});
    ASSERT_TRUE(port.Write(m->iova, two.data(), two.size()).ok());
    round.store(2 * i + 1, std::memory_order_release);
    if (i % 2 == 0) std::this_thread::yield();
    for (;;) {
      const auto r = domain.Unmap(*m);
      if (r.ok()) break;
      ASSERT_EQ(r.error(), Error::kBusy);
    }
    ASSERT_EQ(buffer, two);
    std::fill(buffer.begin(), buffer.end(), std::byte{3});
    while (round.load(std::memory_order_acquire) != 2 * i + 2) {
      std::this_thread::yield();
    }
    ASSERT_TRUE(std::all_of(buffer.begin(), buffer.end(), [](std::byte b) {
      return b == std::byte{3};
    })) << "copied after the end";
  }
  syncer.join();
  EXPECT_GT(served.load(), 0);
  EXPECT_TRUE(domain.CheckInvariants());
}

// Pages are given back while mappings come on them and devices touch them.
void ReclaimStress(unsigned bounce_shift) {
  GatedDomain domain;
  ASSERT_TRUE(domain
                  .Init({.limit = Iova(512 * kPage - 1),
                         .bounce_size = 256 * kPage,
                         .page = *PageSize::FromBytes(kPage),
                         .bounce_page = *PageSize::FromShift(bounce_shift),
                         .sharing = PageSharing::kOwner})
                  .ok());
  const std::uint64_t page = std::uint64_t{1} << bounce_shift;
  const std::uint64_t pages = 256 * kPage / page;
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> freed{0};
  std::thread reclaimer([&] {
    std::minstd_rand random(3);
    while (!stop.load(std::memory_order_relaxed)) {  // relaxed: only a flag
      const std::uint64_t first = random() % pages;
      const auto r = domain.Reclaim(*Range::FromSize(
          Iova(first * page), (1 + random() % (pages - first)) * page));
      EXPECT_TRUE(r.ok() || r.error() == Error::kBusy);
      freed.fetch_add(r.ok() ? *r : 0);
      if (random() % 4 == 0) freed.fetch_add(domain.ReclaimIdle());
    }
  });
  std::vector<std::thread> drivers;
  for (unsigned t = 0; t < 2; ++t) {
    drivers.emplace_back([&, t] {
      std::minstd_rand random(t + 7);
      DomainPort port(domain);
      for (int i = 0; i < 5000 || freed.load() < 20; ++i) {
        Bytes buffer = Pattern(1 + random() % (3 * kPage), t * 1000u + 5);
        const Bytes original = buffer;
        const auto m = domain.Map(PhysAddrOf(buffer.data()), buffer.size(),
                                  Direction::kBidirectional);
        ASSERT_TRUE(m.ok());
        const bool touched = i % 3 != 0;
        Bytes seen(buffer.size());
        if (touched) {
          EXPECT_TRUE(domain.Fault(m->iova).ok());
          ASSERT_TRUE(port.Read(m->iova, seen.data(), seen.size()).ok());
          EXPECT_EQ(seen, original);
          seen.assign(seen.size(), std::byte{0x77});
          ASSERT_TRUE(port.Write(m->iova, seen.data(), seen.size()).ok());
        }
        ASSERT_TRUE(domain.Unmap(*m).ok());
        EXPECT_EQ(buffer, touched ? seen : original);
      }
    });
  }
  for (std::thread& t : drivers) t.join();
  stop.store(true);
  reclaimer.join();
  domain.ReclaimIdle();
  EXPECT_EQ(domain.pages().in_use(), 0u);
  EXPECT_TRUE(domain.CheckInvariants());
}
TEST(DomainStress, ReclaimAgainstMapAndFault) { ReclaimStress(8); }
TEST(DomainStress, ReclaimAgainstMapAndFaultOfSharedPages) {
  ReclaimStress(10);
}

// A list of mappings is ended while another thread ends one of them: the list
// as a whole, or not at all; each mapping once.
TEST(DomainStress, UnmapScatterAgainstUnmapOfAMember) {
  GatedDomain domain;
  ASSERT_TRUE(domain.Init({}).ok());
  constexpr int kRounds = 300;
  Bytes buffer = Pattern(100, 1);
  const ScatterEntry entry = {PhysAddrOf(buffer.data()), 100};
  const std::vector<ScatterEntry> list(3, entry);
  std::vector<Mapping> m(3);
  std::atomic<int> round{0};  // odd: the mappings are there
  std::atomic<bool> member{false};
  std::thread other([&] {
    for (int seen = 1; seen < 2 * kRounds; seen += 2) {
      while (round.load(std::memory_order_acquire) < seen) {
        std::this_thread::yield();
      }
      const auto r = domain.Unmap(m[static_cast<std::size_t>(seen / 2 % 3)]);
      EXPECT_TRUE(r.ok() || r.error() == Error::kBusy ||
                  r.error() == Error::kNotMapped);
      member.store(r.ok());
      round.store(seen + 1, std::memory_order_release);
    }
  });
  for (int i = 0; i < kRounds; ++i) {
    ASSERT_TRUE(domain.MapScatter(list, Direction::kToDevice, m).ok());
    round.store(2 * i + 1, std::memory_order_release);
    if (i % 2 == 0) std::this_thread::yield();
    const auto all = domain.UnmapScatter(m);
    while (round.load(std::memory_order_acquire) != 2 * i + 2) {
      std::this_thread::yield();
    }
    EXPECT_FALSE(all.ok() && member.load());
    const std::uint64_t left = all.ok() ? 0 : member.load() ? 2 : 3;
    EXPECT_EQ(domain.stats().live, left);
    std::uint64_t ended = 0;
    for (const Mapping& each : m) ended += domain.Unmap(each).ok() ? 1 : 0;
    EXPECT_EQ(ended, left) << "a refused list stays live";
  }
  other.join();
  EXPECT_TRUE(domain.CheckInvariants());
  EXPECT_TRUE(domain.Shutdown([](const Leak&) { ADD_FAILURE(); }).ok());
}

// --- One call in the middle of another ---

// Runs `hook` once, just before it is taken for the n-th time from now.
class HookedLock {
 public:
  static inline std::uint64_t countdown = 0;
  static inline std::function<void()> hook;

  void lock() {
    if (!hook || countdown-- != 0) return;
    const std::function<void()> now = std::move(hook);
    hook = nullptr;
    now();
  }
  bool try_lock() { return true; }
  void unlock() {}
};

struct HookedPolicies : DomainPolicies {
  using LockType = HookedLock;
};

// The page appears when the mapping is out of reach and is not copied back
// yet: it was never filled from it, so nothing of it may be copied back.
TEST(DomainRace, FaultDuringTheInvalidation) {
  struct Policies : DomainPolicies {
    using Invalidation = testing_parts::WatchedInvalidation;
  };
  Domain<Policies> domain;
  ASSERT_TRUE(domain
                  .Init({.limit = Iova(0xfffff),
                         .bounce_size = 16 * 1024,
                         .page = *PageSize::FromBytes(64),
                         .bounce_page = *PageSize::FromBytes(16 * 1024),
                         .sharing = PageSharing::kOwner})
                  .ok());
  Bytes first = Pattern(50, 1);
  Bytes second = Pattern(100, 2);
  const Bytes original = second;
  const auto a = domain.Map(PhysAddrOf(first.data()), 50, Direction::kToDevice);
  const auto b =
      domain.Map(PhysAddrOf(second.data()), 100, Direction::kFromDevice);
  domain.invalidation().hook = [&](Range) {
    EXPECT_TRUE(domain.Fault(a->iova).ok());
  };
  ASSERT_TRUE(domain.Unmap(*b).ok());
  EXPECT_EQ(second, original);
  EXPECT_TRUE(domain.CheckInvariants());
}

// A mapping made while Shutdown runs: it is reported, or it is refused.
TEST(DomainRace, MapAgainstShutdown) {
  bool ran = true;
  std::uint64_t busy = 0;
  for (std::uint64_t n = 0; ran; ++n) {
    Bytes buffer(100);
    Domain<HookedPolicies> domain;
    ASSERT_TRUE(domain.Init({}).ok());
    bool mapped = false;
    HookedLock::countdown = n;
    HookedLock::hook = [&] {
      mapped =
          domain.Map(PhysAddrOf(buffer.data()), 100, Direction::kToDevice).ok();
    };
    std::uint64_t reported = 0;
    const auto r = domain.Shutdown([&](const Leak&) { ++reported; });
    ran = !HookedLock::hook;
    HookedLock::hook = nullptr;
    EXPECT_EQ(r.ok(), !mapped) << n;
    EXPECT_EQ(reported, mapped ? 1u : 0u) << n;
    busy += r.ok() ? 0 : 1;
  }
  EXPECT_GE(busy, 1u) << "met at least once";
}

// What a thread had parked, slots or runs of them, is free when the thread has
// ended.
TEST(DomainThreads, ParkedSlotsOutliveTheirThreadNot) {
  for (const std::uint64_t pages : {1, 2}) {
    const std::uint64_t window = pages == 1 ? 8 : 128;
    Bytes buffer((window - 1) * 4096);
    Domain<> domain;
    ASSERT_TRUE(domain.Init({.bounce_size = window * 4096}).ok());
    for (int round = 0; round < 3; ++round) {
      std::thread([&] {
        std::vector<Mapping> maps;
        for (int i = 0; i < 7; ++i) {
          const auto m = domain.Map(PhysAddrOf(buffer.data()), pages * 4096,
                                    Direction::kToDevice);
          ASSERT_TRUE(m.ok());
          maps.push_back(*m);
        }
        for (const Mapping& m : maps) EXPECT_TRUE(domain.Unmap(m).ok());
      }).join();
      EXPECT_TRUE(domain.CheckInvariants());
    }
    const auto all = domain.Map(PhysAddrOf(buffer.data()), buffer.size() / 2,
                                Direction::kToDevice);
    ASSERT_TRUE(all.ok()) << ToString(all.error());
    EXPECT_TRUE(domain.Unmap(*all).ok());
  }
}

// Runs `hook` before it takes an address back.
struct HookedAllocator : StandardAllocator {
  static inline std::function<void()> hook;

  Result<void> Free(Iova first, std::uint64_t pages) {
    if (hook) hook();
    return StandardAllocator::Free(first, pages);
  }
};

// While an address is on its way back, its Unmap or FreeCoherent is under way.
TEST(DomainRace, ShutdownAgainstTheLastStepOfUnmap) {
  struct Policies : DomainPolicies {
    using Allocator = HookedAllocator;
  };
  Domain<Policies> domain;
  ASSERT_TRUE(domain.Init({}).ok());
  // Of few slots each would be parked, and their addresses stay taken.
  Bytes buffer(20 * 4096);
  std::vector<Mapping> m(2);
  const ScatterEntry entry = {PhysAddrOf(buffer.data()), buffer.size()};
  const auto mapped =
      domain.MapScatter(std::vector{entry, entry}, Direction::kFromDevice, m);
  ASSERT_TRUE(mapped.ok());
  const auto block = domain.AllocateCoherent(100);
  ASSERT_TRUE(block.ok());
  int calls = 0;
  HookedAllocator::hook = [&] {
    ++calls;
    const auto r = domain.Shutdown([](const Leak&) {});
    ASSERT_FALSE(r.ok());
    EXPECT_EQ(r.error(), Error::kBusy);
  };
  EXPECT_TRUE(domain.FreeCoherent(*block).ok());
  EXPECT_EQ(calls, 1);
  EXPECT_TRUE(domain.UnmapScatter(m).ok());
  EXPECT_EQ(calls, 3);
  HookedAllocator::hook = nullptr;
  EXPECT_TRUE(domain.CheckInvariants());
  EXPECT_TRUE(domain.Shutdown([](const Leak&) { ADD_FAILURE(); }).ok());
}

}  // namespace
}  // namespace dmamap
