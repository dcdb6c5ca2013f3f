// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Modes of a domain, deferred invalidation, the two-step form and segments, one
// promise at a time. modes_property_test.cc has all of them together.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "domain/domain.h"
#include "domain/modes_for_test.h"
#include "iotlb/software_iommu.h"
#include "testing/domain_port.h"

namespace dmamap {
namespace {

using testing_parts::Arena;
using testing_parts::Bytes;
using testing_parts::kNever;
using testing_parts::TableDomain;
using testing_parts::WatchedDomain;

constexpr auto kTo = Direction::kToDevice;
constexpr auto kFrom = Direction::kFromDevice;
constexpr auto kBoth = Direction::kBidirectional;
constexpr std::uint64_t kPage = 4096;

constexpr DomainMode kModes[] = {DomainMode::kBounce, DomainMode::kDirect,
                                 DomainMode::kUnalignedEnds,
                                 DomainMode::kPooled, DomainMode::kAutomatic};

template <class T>
Error ErrorOf(const Result<T>& r) {
  EXPECT_FALSE(r.ok());
  return r.ok() ? Error{} : r.error();
}

struct SoftwarePolicies : DomainPolicies {
  using Invalidation = SoftwareIommu;
};
using SoftwareDomain = Domain<SoftwarePolicies>;

DomainOptions OptionsFor(DomainMode mode, FlushMode flush) {
  DomainOptions o;
  o.limit = Iova(1024 * kPage - 1);
  o.bounce_size = 512 * kPage;
  o.mode = mode;
  o.flush = {.mode = flush, .max_age = 0};  // no clock
  o.automatic.map_ns = 200;                 // 2 KiB are copied
  return o;
}

std::string NameOf(DomainMode mode) {
  std::string name = ToString(mode);
  std::erase(name, ' ');
  return name;
}

// --- Every mode is a Mapper ---

class EveryMode
    : public testing::TestWithParam<std::tuple<DomainMode, FlushMode>> {
 protected:
  EveryMode() {
    EXPECT_TRUE(domain.invalidation().Init().ok());
    EXPECT_TRUE(domain.Init(OptionsFor(mode(), std::get<1>(GetParam()))).ok());
    for (std::size_t i = 0; i < arena.size(); ++i) {
      arena[i] = static_cast<std::byte>(1 + i % 251);
    }
    original.assign(arena.data(), arena.data() + arena.size());
  }
  ~EveryMode() override { EXPECT_TRUE(domain.CheckInvariants()); }
  DomainMode mode() const { return std::get<0>(GetParam()); }
  void ExpectArena(const Bytes& want) {
    EXPECT_EQ(std::memcmp(arena.data(), want.data(), want.size()), 0);
  }

  Arena arena{16 * kPage};
  Bytes original;
  SoftwareDomain domain;
  DomainPort<SoftwareDomain> port{domain};
};

TEST_P(EveryMode, BytesTravelBothWays) {
  Bytes want = original;
  for (const std::size_t offset : {0u, 1u, 100u, 4095u, 4096u}) {
    for (const std::size_t size :
         {1u, 64u, 1500u, 4096u, 4097u, 9000u, 32768u}) {
      const auto m = domain.Map(arena.at(offset), size, kBoth);
      ASSERT_TRUE(m.ok());
      EXPECT_EQ(ErrorOf(domain.For(BufferOwner{1}).Map(arena.at(0), 1, kTo)),
                Error::kInvalidArgument);
      Bytes seen(size);
      ASSERT_TRUE(port.Read(m->iova, seen.data(), size).ok());
      EXPECT_EQ(std::memcmp(seen.data(), want.data() + offset, size), 0);
      // All but the last byte, which the device leaves alone.
      std::fill(seen.begin(), seen.end() - 1, static_cast<std::byte>(size));
      ASSERT_TRUE(port.Write(m->iova, seen.data(), size - 1).ok());
      std::memset(want.data() + offset, static_cast<int>(size & 0xff),
                  size - 1);
      ASSERT_TRUE(domain.SyncForCpu(*m, 0, size).ok());
      ExpectArena(want);
      arena[offset] = want[offset] = std::byte{0x5A};
      ASSERT_TRUE(domain.SyncForDevice(*m, 0, 1).ok());
      ASSERT_TRUE(port.Read(m->iova, seen.data(), 1).ok());
      EXPECT_EQ(seen[0], std::byte{0x5A});
      ASSERT_TRUE(domain.Unmap(*m).ok());
      ExpectArena(want);
      EXPECT_EQ(ErrorOf(domain.Unmap(*m)), Error::kNotMapped);
    }
  }
  const DomainStats stats = domain.stats();
  EXPECT_EQ(stats.live, 0u);
  EXPECT_EQ(stats.maps, 35u);
  EXPECT_EQ(stats.maps_by_direction, (std::array<std::uint64_t, 3>{35, 0, 0}));
}

TEST_P(EveryMode, DirectionsArePermissions) {
  std::byte b{};
  const auto to = domain.Map(arena.at(0), 1500, kTo);
  const auto from = domain.Map(arena.at(8 * kPage), 1500, kFrom);
  EXPECT_EQ(port.Write(to->iova, &b, 1).error(), Error::kPermission);
  EXPECT_EQ(port.Read(from->iova, &b, 1).error(), Error::kPermission);
  const Mapping both[] = {*to, *from};
  EXPECT_TRUE(domain.UnmapScatter(both).ok());
  ExpectArena(original);
}

TEST_P(EveryMode, MisuseIsFoundAndCounted) {
  const auto m = domain.Map(arena.at(100), 1500, kFrom);
  const auto other = domain.Map(arena.at(5 * kPage), 9000, kTo);
  Mapping bad = *m;
  ++bad.size;
  EXPECT_EQ(ErrorOf(domain.Unmap(bad)), Error::kMismatch);
  bad = *m;
  bad.direction = kTo;
  EXPECT_EQ(ErrorOf(domain.SyncForCpu(bad, 0, 1)), Error::kMismatch);
  EXPECT_EQ(ErrorOf(domain.SyncForCpu(*m, 1000, 501)), Error::kOutOfRange);
  EXPECT_EQ(ErrorOf(domain.SyncForCpu(*m, 1000, 0)), Error::kInvalidArgument);
  const Mapping list[] = {*m, *other, *m};
  EXPECT_EQ(ErrorOf(domain.UnmapScatter(list)), Error::kNotMapped);
  EXPECT_EQ(ErrorOf(domain.Unmap({Iova(3), 1, kTo, 1})), Error::kNotMapped);
  EXPECT_EQ(ErrorOf(domain.Unmap({Iova::Max(), 1, kTo, 1})), Error::kNotMapped);
  EXPECT_EQ(domain.stats().live, 2u) << "nothing has changed";
  EXPECT_EQ(domain.stats().refused, 6u);
  std::uint64_t leaks = 0;
  EXPECT_EQ(ErrorOf(domain.Shutdown([&](const Leak&) { ++leaks; })),
            Error::kBusy);
  EXPECT_EQ(leaks, 2u);
  EXPECT_TRUE(domain.UnmapScatter(std::span(list).first(2)).ok());
  EXPECT_TRUE(domain.Shutdown([](const Leak&) {}).ok());
  EXPECT_EQ(ErrorOf(domain.Map(arena.at(0), 1, kTo)), Error::kShutDown);
}

// Each misuse by itself: its error, its counter, and nothing else.
TEST_P(EveryMode, EachMisuseHasAnErrorAndACounter) {
  const auto m = domain.Map(arena.at(100), 1500, kBoth);
  const auto gone = domain.Map(arena.at(4 * kPage), 100, kTo);
  ASSERT_TRUE(m.ok() && gone.ok() && domain.Unmap(*gone).ok());
  RefusedCalls want;
  std::uint64_t all = 0;
  const auto expect = [&](std::uint64_t RefusedCalls::*counter, Error error,
                          auto call) {
    EXPECT_EQ(ErrorOf(call()), error);
    ++(want.*counter);
    const DomainStats now = domain.stats();
    EXPECT_EQ(now.refused_calls, want);
    EXPECT_EQ(now.refused, ++all);
    EXPECT_EQ(now.live, 1u);
  };
  const auto changed = [&](auto change) {
    Mapping x = *m;
    change(x);
    return x;
  };
  const Mapping size = changed([](Mapping& x) { ++x.size; });
  const Mapping direction = changed([](Mapping& x) { x.direction = kTo; });
  const Mapping tag = changed([](Mapping& x) { x.tag += 12345; });
  const Mapping inside = changed([](Mapping& x) { x.iova = x.iova + 1; });
  using C = RefusedCalls;
  for (const Mapping& bad : {*gone, inside}) {
    expect(&C::not_mapped, Error::kNotMapped,
           [&] { return domain.Unmap(bad); });
    expect(&C::not_mapped, Error::kNotMapped,
           [&] { return domain.SyncForCpu(bad, 0, 1); });
  }
  expect(&C::wrong_size, Error::kMismatch, [&] { return domain.Unmap(size); });
  expect(&C::wrong_size, Error::kMismatch,
         [&] { return domain.SyncForDevice(size, 0, 1); });
  expect(&C::wrong_direction, Error::kMismatch,
         [&] { return domain.Unmap(direction); });
  expect(&C::wrong_direction, Error::kMismatch,
         [&] { return domain.SyncForCpu(direction, 0, 1); });
  expect(&C::of_another, Error::kMismatch, [&] { return domain.Unmap(tag); });
  expect(&C::of_another, Error::kMismatch,
         [&] { return domain.SyncForCpu(tag, 0, 1); });
  expect(&C::outside, Error::kOutOfRange,
         [&] { return domain.SyncForCpu(*m, 1499, 2); });
  expect(&C::outside, Error::kOutOfRange,
         [&] { return domain.SyncForDevice(*m, 1500, 1); });
  // Another domain's mapping, though its address is in use here too.
  SoftwareDomain other;
  ASSERT_TRUE(other.invalidation().Init().ok());
  ASSERT_TRUE(other.Init(OptionsFor(mode(), FlushMode::kStrict)).ok());
  const auto theirs = other.Map(arena.at(100), 1500, kBoth);
  ASSERT_TRUE(theirs.ok());
  ASSERT_EQ(theirs->iova, m->iova);
  expect(&C::of_another, Error::kMismatch,
         [&] { return domain.Unmap(*theirs); });
  EXPECT_TRUE(other.Unmap(*theirs).ok());
  EXPECT_TRUE(domain.Unmap(*m).ok());
}

// No bound on one mapping but the space: swiotlb ends at 256 KiB. Half of it
// from the device, a quarter to it (kPooled has parts by direction).
TEST_P(EveryMode, AMappingMayBeAsLargeAsTheSpaceAllows) {
  Arena large(256 * kPage);
  std::memset(large.data(), 0x55, large.size());
  Bytes bytes(128 * kPage);
  const auto to = domain.Map(large.at(0), bytes.size(), kTo);
  ASSERT_TRUE(to.ok());
  ASSERT_TRUE(port.Read(to->iova, bytes.data(), bytes.size()).ok());
  EXPECT_EQ(std::memcmp(bytes.data(), large.data(), bytes.size()), 0);
  ASSERT_TRUE(domain.Unmap(*to).ok());
  if (std::get<1>(GetParam()) == FlushMode::kDeferred) {
    ASSERT_TRUE(domain.Flush().ok()) << "the buffer is in use again";
  }
  const auto from = domain.Map(large.at(0), large.size(), kFrom);
  ASSERT_TRUE(from.ok());
  bytes.assign(large.size(), std::byte{0x77});
  ASSERT_TRUE(port.Write(from->iova, bytes.data(), bytes.size()).ok());
  ASSERT_TRUE(domain.Unmap(*from).ok());
  EXPECT_EQ(std::memcmp(bytes.data(), large.data(), bytes.size()), 0);
}

TEST_P(EveryMode, CoherentMemoryIsTheDevicesToo) {
  const auto block = domain.AllocateCoherent(5000);
  ASSERT_TRUE(block.ok());
  const std::byte seven{7};
  EXPECT_TRUE(port.Write(block->iova + 4999, &seven, 1).ok());
  EXPECT_EQ(block->cpu[4999], seven);
  ASSERT_TRUE(domain.FreeCoherent(*block).ok());
  EXPECT_EQ(port.Write(block->iova, &seven, 1).error(), Error::kNotMapped);
}

TEST_P(EveryMode, ForcedTeardownReportsAndEnds) {
  const auto m = domain.Map(arena.at(100), 9000, kBoth);
  ASSERT_TRUE(m.ok());
  std::uint64_t leaks = 0;
  EXPECT_TRUE(
      domain.Shutdown([&](const Leak&) { ++leaks; }, Teardown::kForce).ok());
  EXPECT_EQ(leaks, 1u);
  EXPECT_EQ(domain.stats().live, 0u);
  std::byte seen{};
  for (const std::uint64_t at : {0u, 8999u}) {  // its first and last page
    EXPECT_FALSE(domain.Translate(m->iova + at, 1, Permission::kRead).ok());
    EXPECT_FALSE(port.Read(m->iova + at, &seen, 1).ok());
    EXPECT_FALSE(
        domain.invalidation().Lookup(m->iova + at, Permission::kRead).ok());
  }
}

INSTANTIATE_TEST_SUITE_P(
    Modes, EveryMode,
    testing::Combine(testing::ValuesIn(kModes),
                     testing::Values(FlushMode::kStrict, FlushMode::kDeferred)),
    [](const auto& of) {
      return NameOf(std::get<0>(of.param)) +
             (std::get<1>(of.param) == FlushMode::kStrict ? "Strict"
                                                          : "Deferred");
    });

// --- Device masks ---

class EveryMask : public testing::TestWithParam<DomainMode> {};

TEST_P(EveryMask, AddressesFitTheDevice) {
  Arena arena(4 * kPage);
  std::memset(arena.data(), 0x11, arena.size());
  for (const unsigned bits : {32u, 39u, 48u, 64u}) {
    SoftwareDomain domain;
    ASSERT_TRUE(domain.invalidation().Init().ok());
    DomainOptions o = OptionsFor(GetParam(), FlushMode::kStrict);
    o.limit = Iova(~std::uint64_t{0} >> (64 - bits));
    // All of what the device reaches, but the last page, for coherent memory.
    o.bounce_size = o.limit.value() - (kPage - 1);
    ASSERT_TRUE(domain.Init(o).ok()) << bits;
    DomainPort<SoftwareDomain> port(domain);
    std::vector<Mapping> all;
    for (const Direction d : {kBoth, kTo, kFrom}) {
      for (const std::uint64_t size : {64u, 9000u}) {
        const auto m = domain.Map(arena.at(100), size, d);
        ASSERT_TRUE(m.ok()) << bits;
        EXPECT_LT(m->iova.value() + size - 1, o.bounce_size);
        all.push_back(*m);
      }
    }
    Bytes seen(9000);
    EXPECT_TRUE(port.Read(all[1].iova, seen.data(), 9000).ok());
    EXPECT_EQ(seen, Bytes(9000, std::byte{0x11}));
    const auto top = domain.AllocateCoherent(kPage);
    ASSERT_TRUE(top.ok());
    EXPECT_EQ(top->iova + (kPage - 1), o.limit) << "the device's last byte";
    EXPECT_TRUE(port.Read(top->iova, seen.data(), kPage).ok());
    EXPECT_EQ(ErrorOf(domain.AllocateCoherent(1)), Error::kNoSpace);
    EXPECT_TRUE(domain.UnmapScatter(all).ok());
    EXPECT_TRUE(domain.FreeCoherent(*top).ok());
    EXPECT_TRUE(domain.CheckInvariants());
    EXPECT_TRUE(domain.Shutdown([](const Leak&) {}).ok());
  }
}
INSTANTIATE_TEST_SUITE_P(Modes, EveryMask, testing::ValuesIn(kModes),
                         [](const auto& of) { return NameOf(of.param); });

// --- Options ---

TEST(ModeOptions, AreChecked) {
  const auto init = [](auto change) {
    auto domain = std::make_unique<TableDomain>();
    DomainOptions o = OptionsFor(DomainMode::kAutomatic, FlushMode::kStrict);
    change(o);
    const auto r = domain->Init(o);
    return r.ok() ? Error{} : r.error();
  };
  EXPECT_EQ(init([](DomainOptions&) {}), Error{});
  const auto bad = Error::kInvalidArgument;
  EXPECT_EQ(init([](auto& o) { o.mode = static_cast<DomainMode>(9); }), bad);
  EXPECT_EQ(init([](auto& o) { o.pool_size = 5 * kPage + 1; }), bad);
  EXPECT_EQ(init([](auto& o) { o.pool_size = o.bounce_size; }), bad);
  EXPECT_EQ(init([](auto& o) { o.pool_size = kPage; }), bad);
  EXPECT_EQ(init([](auto& o) { o.pool_size = 3 * kPage; }), bad)
      << "no page for each direction";
  EXPECT_EQ(init([](auto& o) { o.automatic.map_with = DomainMode::kPooled; }),
            bad);
  EXPECT_EQ(init([](auto& o) { o.segments.boundary = 3; }), bad);
  EXPECT_EQ(init([](auto& o) { o.flush = {.entries = 3}; }), bad);
  EXPECT_EQ(init([](auto& o) {
              o.page = *PageSize::FromShift(7);  // the tables have 256 bytes
              o.bounce_page = o.page;
            }),
            bad);

  Domain<> none;
  EXPECT_EQ(ErrorOf(none.Init({.mode = DomainMode::kDirect})),
            Error::kUnsupported);
  ASSERT_TRUE(none.Init({}).ok());
  EXPECT_EQ(ErrorOf(none.Reserve(1)), Error::kUnsupported);
  EXPECT_EQ(ErrorOf(none.Link({}, 0, PhysAddr(1), 1, kTo)),
            Error::kUnsupported);
  EXPECT_EQ(ErrorOf(none.SyncLinks({})), Error::kUnsupported);
  const Mapping m;
  EXPECT_EQ(ErrorOf(none.Unlink({&m, 1})), Error::kUnsupported);
  EXPECT_EQ(ErrorOf(none.Release({})), Error::kUnsupported);
}

// --- What a device sees beside a buffer ---

// Tables of 256 bytes a page.
struct Tables : testing::Test {
  static constexpr std::uint64_t kSmall = 256;
  void Init(DomainMode mode, FlushMode flush = FlushMode::kStrict) {
    DomainOptions o;
    o.limit = Iova(512 * kSmall - 1);
    o.bounce_size = 256 * kSmall;
    o.page = *PageSize::FromBytes(kSmall);
    o.bounce_page = o.page;
    o.mode = mode;
    o.flush = {.mode = flush, .max_age = 0};  // no clock
    o.on_safe = [](void* me, PhysRange memory) {
      static_cast<Tables*>(me)->safe.push_back(memory);
    };
    o.safe_context = this;
    ASSERT_TRUE(domain.Init(o).ok());
    std::memset(arena.data(), 0xEE, arena.size());
  }
  ~Tables() override { EXPECT_TRUE(domain.CheckInvariants()); }
  std::byte* Reach(Iova at, Permission p = Permission::kNone) {
    return domain.invalidation().Reach(at, p);
  }

  std::vector<PhysRange> safe;
  Arena arena{16 * kSmall};
  TableDomain domain;
};

TEST_F(Tables, UnalignedEndsShowsWholePagesAndHidesNeighbours) {
  Init(DomainMode::kUnalignedEnds);
  std::memset(arena.data() + 100, 0x11, 1000);  // pages 0 to 4, 4 with 76 bytes
  const auto m = domain.Map(arena.at(100), 1000, kBoth);
  ASSERT_TRUE(m.ok());
  EXPECT_EQ(m->iova.value() % kSmall, 100u);
  const Iova page = m->iova - 100;
  for (int i = 1; i <= 3; ++i) {
    EXPECT_EQ(Reach(page + i * kSmall), arena.data() + i * kSmall) << "direct";
  }
  for (const Iova bounced : {page, page + 4 * kSmall}) {
    const std::byte* const seen = Reach(bounced);
    EXPECT_FALSE(arena.range().Contains(PhysAddrOf(seen)));
    for (std::uint64_t i = 0; i < kSmall; ++i) {
      const bool body = bounced + i >= m->iova && bounced + i < m->iova + 1000;
      EXPECT_EQ(seen[i], body ? std::byte{0x11} : std::byte{0});
    }
  }
  // All that the device can write; the neighbours stay.
  for (Iova at = page; at < page + 5 * kSmall; at = at + 1) {
    *Reach(at, Permission::kWrite) = std::byte{0x22};
  }
  EXPECT_TRUE(domain.Unmap(*m).ok());
  for (std::size_t i = 0; i < arena.size(); ++i) {
    EXPECT_EQ(arena[i],
              i >= 100 && i < 1100 ? std::byte{0x22} : std::byte{0xEE});
  }
  ASSERT_EQ(safe.size(), 1u);
  EXPECT_EQ(safe[0], *PhysRange::FromSize(arena.at(kSmall), 3 * kSmall));
}

TEST_F(Tables, AlignedBuffersAreNotCopiedAtAll) {
  Init(DomainMode::kUnalignedEnds);
  const auto m = domain.Map(arena.at(kSmall), 4 * kSmall, kBoth);
  EXPECT_TRUE(domain.Unmap(*m).ok());
  EXPECT_EQ(domain.stats().bytes_to_device, 0u);
  EXPECT_EQ(domain.stats().bytes_from_device, 0u);
  EXPECT_EQ(domain.pages().inner.in_use(), 0u);
}

TEST_F(Tables, PooledNeedsNoInvalidationAndKeepsItsPages) {
  Init(DomainMode::kPooled);
  Iova first;
  for (int i = 0; i < 10; ++i) {
    std::memset(arena.data() + 10, 0x10 + i, 500);
    const auto m = domain.Map(arena.at(10), 500 - 20 * i, kTo);
    ASSERT_TRUE(m.ok());
    if (i == 0) first = m->iova;
    EXPECT_EQ(m->iova, first) << "the page that was used last";
    EXPECT_EQ(*Reach(m->iova), static_cast<std::byte>(0x10 + i));
    EXPECT_EQ(Reach(m->iova, Permission::kWrite), nullptr);
    // Behind it: zeros, nothing of the longer one before.
    for (std::uint64_t k = m->size;
         k < 2 * kSmall && k / kSmall == (m->size - 1) / kSmall; ++k) {
      EXPECT_EQ(*Reach(m->iova + k), std::byte{0});
    }
    EXPECT_TRUE(domain.Unmap(*m).ok());
  }
  EXPECT_EQ(domain.invalidation().invalidations, 0u);
  EXPECT_EQ(domain.pages().inner.in_use(), 2 * kSmall);
  EXPECT_EQ(domain.ReclaimIdle(), 2u);
  EXPECT_EQ(domain.invalidation().invalidations, 1u);
  EXPECT_EQ(domain.pages().inner.in_use(), 0u);
  EXPECT_TRUE(domain.invalidation().remembered().empty());
}

TEST_F(Tables, PooledPagesComeBackWhenTheDeviceDoesNotForget) {
  Init(DomainMode::kPooled);
  const auto m = domain.Map(arena.at(0), 100, kFrom);
  ASSERT_TRUE(m.ok() && domain.Unmap(*m).ok());
  domain.invalidation().fail_invalidation = true;
  EXPECT_EQ(domain.ReclaimIdle(), 0u);
  EXPECT_EQ(domain.pages().inner.in_use(), kSmall)
      << "a device may write there";
  domain.invalidation().fail_invalidation = false;
  EXPECT_EQ(domain.ReclaimIdle(), 1u) << "out of the tables already";
  EXPECT_EQ(domain.pages().inner.in_use(), 0u);
}

// A page that the device was not told of is no page for the next mapping.
TEST_F(Tables, PooledAsksAgainForAPageThatTheDeviceMayNotUse) {
  Init(DomainMode::kPooled);
  for (int i = 0; i < 2; ++i) {
    domain.invalidation().sync_fails_in = 0;
    EXPECT_EQ(ErrorOf(domain.Map(arena.at(0), 200, kTo)), Error::kDevice);
    EXPECT_EQ(domain.invalidation().sync_fails_in, kNever);  // it was asked
  }
  const auto m = domain.Map(arena.at(0), 200, kTo);
  ASSERT_TRUE(m.ok());
  EXPECT_EQ(*Reach(m->iova), std::byte{0xEE});
  EXPECT_TRUE(domain.Unmap(*m).ok());
}

// When the undo fails too, the caller hears that the device keeps the buffers.
TEST_F(Tables, AListThatCannotBeTakenBackSaysSo) {
  Init(DomainMode::kDirect);
  const ScatterEntry list[] = {{arena.at(0), kSmall},
                               {arena.at(kSmall), kSmall},
                               {arena.at(0), std::uint64_t{1} << 20}};
  std::array<Mapping, 3> maps;
  EXPECT_EQ(ErrorOf(domain.MapScatter(list, kBoth, maps)), Error::kNoSpace);
  EXPECT_EQ(domain.stats().quarantined, 0u);
  domain.invalidation().fail_invalidation = true;
  EXPECT_EQ(ErrorOf(domain.MapScatter(list, kBoth, maps)), Error::kDevice);
  EXPECT_EQ(domain.stats().quarantined, 2u);
  // So does a single one whose tables had it.
  domain.invalidation().sync_fails_in = 0;
  EXPECT_EQ(ErrorOf(domain.Map(arena.at(0), kSmall, kBoth)), Error::kDevice);
  EXPECT_EQ(domain.stats().quarantined, 3u);
}

// A coherent block that the device may not use, and may not lose either.
TEST_F(Tables, ACoherentBlockThatCannotBeTakenBackIsQuarantine) {
  Init(DomainMode::kDirect);
  domain.invalidation().sync_fails_in = 0;
  EXPECT_EQ(ErrorOf(domain.AllocateCoherent(100)), Error::kDevice);
  EXPECT_EQ(domain.stats().quarantined, 0u);
  EXPECT_TRUE(domain.invalidation().remembered().empty());
  domain.invalidation().sync_fails_in = 0;
  domain.invalidation().fail_invalidation = true;
  EXPECT_EQ(ErrorOf(domain.AllocateCoherent(100)), Error::kDevice);
  EXPECT_EQ(domain.stats().quarantined, 1u);
  EXPECT_EQ(domain.stats().coherent, 0u);
  ASSERT_EQ(domain.invalidation().remembered().size(), 1u);
  // What the device remembers is nobody else's: neither address nor memory.
  domain.invalidation().fail_invalidation = false;
  const auto [page, entry] = *domain.invalidation().remembered().begin();
  const auto block = domain.AllocateCoherent(100);
  ASSERT_TRUE(block.ok());
  EXPECT_NE(block->iova.value() / kSmall, page);
  EXPECT_NE(PhysAddrOf(block->cpu), entry.memory);
  EXPECT_TRUE(domain.FreeCoherent(*block).ok());
}

// Memory of which one byte cannot be reached.
struct MemoryWithAHole {
  MemoryWindow Open(PhysAddr at, std::size_t size) {
    const std::size_t n = std::min<std::size_t>(size, 64 - at.value() % 64);
    if (at.value() <= hole && hole < at.value() + n) return {};
    return {PointerTo(at), n};
  }
  void Close(const MemoryWindow&) {}
  std::uint64_t hole = 0;
};
struct HolePolicies : testing_parts::TablePolicies {
  using Memory = MemoryWithAHole;
};

// A Map that fails leaves nothing of the buffer on pages that the device may
// read already.
TEST(PooledMap, ThatFailsShowsNothing) {
  constexpr std::uint64_t kSmall = Tables::kSmall;
  Domain<HolePolicies> domain;
  DomainOptions o;
  o.limit = Iova(128 * kSmall - 1);
  o.bounce_size = 64 * kSmall;
  o.page = *PageSize::FromBytes(kSmall);
  o.bounce_page = o.page;
  o.mode = DomainMode::kPooled;
  ASSERT_TRUE(domain.Init(o).ok());
  Arena arena(16 * kSmall);
  std::memset(arena.data(), 0, arena.size());
  std::vector<Mapping> all;  // every page of the part, so that each is known
  for (;;) {
    const auto m = domain.Map(arena.at(0), kSmall, kTo);
    if (!m.ok()) break;
    all.push_back(*m);
  }
  ASSERT_FALSE(all.empty());
  for (const Mapping& m : all) ASSERT_TRUE(domain.Unmap(m).ok());
  std::memset(arena.data(), 0xEE, arena.size());
  domain.memory().hole = arena.at(kSmall + 150).value();
  EXPECT_EQ(ErrorOf(domain.Map(arena.at(0), 2 * kSmall, kTo)),
            Error::kUnsupported);
  std::uint64_t seen = 0;
  for (const auto& [page, entry] : domain.invalidation().remembered()) {
    const std::byte* const memory = PointerTo(entry.memory);
    seen += static_cast<std::uint64_t>(
        std::count(memory, memory + kSmall, std::byte{0xEE}));
  }
  EXPECT_EQ(seen, 0u);
  EXPECT_TRUE(domain.CheckInvariants());
}

// Runs a hook in the middle of a deferred Unmap, before its address waits.
struct HookedAllocator : StandardAllocator {
  static inline std::function<void()> hook;
  Result<void> Retire(Iova first, std::uint64_t pages) {
    if (hook) std::exchange(hook, nullptr)();
    return StandardAllocator::Retire(first, pages);
  }
};
template <class Base>
struct Hooked : Base {
  using Allocator = HookedAllocator;
};
template <class DomainType>
void ShutdownDuringUnmap(DomainMode mode) {
  auto domain = std::make_unique<DomainType>();
  DomainOptions o;
  o.limit = Iova(512 * Tables::kSmall - 1);
  o.bounce_size = 256 * Tables::kSmall;
  o.page = *PageSize::FromBytes(Tables::kSmall);
  o.bounce_page = o.page;
  o.mode = mode;
  o.flush.mode = FlushMode::kDeferred;
  ASSERT_TRUE(domain->Init(o).ok());
  Arena arena(4096);
  const auto m = domain->Map(arena.at(0), 100, kBoth);
  ASSERT_TRUE(m.ok());
  bool ran = false;
  HookedAllocator::hook = [&] {
    ran = true;
    EXPECT_EQ(ErrorOf(domain->Shutdown([](const Leak&) {})), Error::kBusy);
  };
  EXPECT_TRUE(domain->Unmap(*m).ok());
  EXPECT_TRUE(ran);
  EXPECT_EQ(domain->stats().waiting, 1u);
  EXPECT_TRUE(domain->Shutdown([](const Leak&) {}).ok());
  EXPECT_EQ(domain->stats().waiting, 0u);
}
TEST(ShutdownDuringAnUnmap, IsRefused) {
  ShutdownDuringUnmap<Domain<Hooked<DomainPolicies>>>(DomainMode::kBounce);
  ShutdownDuringUnmap<Domain<Hooked<testing_parts::TablePolicies>>>(
      DomainMode::kDirect);
  ShutdownDuringUnmap<Domain<Hooked<testing_parts::TablePolicies>>>(
      DomainMode::kUnalignedEnds);
}

TEST_F(Tables, TooLittleMemoryReclaimsIdlePagesFirst) {
  Init(DomainMode::kPooled);
  const auto one = domain.Map(arena.at(0), 3 * kSmall, kTo);
  ASSERT_TRUE(one.ok() && domain.Unmap(*one).ok());
  domain.pages().fail_in = 0;
  const auto other = domain.Map(arena.at(0), 100, kFrom);
  ASSERT_TRUE(other.ok());
  EXPECT_EQ(domain.pages().inner.in_use(), kSmall);
}

TEST_F(Tables, AutomaticTakesTheOtherWayWhenOneIsFull) {
  Init(DomainMode::kAutomatic);
  std::vector<Mapping> all;
  // Half of the space has 32 pages for this direction.
  for (int i = 0; i < 60; ++i) {
    const auto m = domain.Map(arena.at(0), 64, kTo);
    ASSERT_TRUE(m.ok()) << i;
    all.push_back(*m);
  }
  EXPECT_GT(domain.invalidation().tables().size(), 50u);
  EXPECT_TRUE(domain.UnmapScatter(all).ok());
}

// --- Deferred ---

TEST_F(Tables, DeferredBuffersAreSafeAfterTheInvalidation) {
  Init(DomainMode::kDirect, FlushMode::kDeferred);
  const auto m = domain.Map(arena.at(0), 2 * kSmall, kBoth);
  ASSERT_TRUE(domain.Unmap(*m).ok());
  const SafetyTicket ticket = domain.Retired();
  EXPECT_FALSE(domain.IsSafe(ticket));
  EXPECT_EQ(domain.stats().waiting, 1u);
  EXPECT_TRUE(safe.empty());
  *Reach(m->iova, Permission::kWrite) = std::byte{0x33};
  EXPECT_EQ(arena[0], std::byte{0x33}) << "the device still reaches it";
  // Its address is nobody else's.
  const auto next = domain.Map(arena.at(4 * kSmall), 2 * kSmall, kBoth);
  EXPECT_NE(next->iova, m->iova);
  domain.invalidation().fail_invalidation = true;
  EXPECT_EQ(ErrorOf(domain.Flush()), Error::kDevice);
  EXPECT_FALSE(domain.IsSafe(ticket));
  domain.invalidation().fail_invalidation = false;
  EXPECT_TRUE(domain.Flush().ok());
  EXPECT_TRUE(domain.IsSafe(ticket));
  EXPECT_FALSE(domain.IsSafe(domain.Retired())) << "nothing says so yet";
  EXPECT_TRUE(domain.Flush().ok()) << "nothing waits: nothing to invalidate";
  EXPECT_EQ(Reach(m->iova), nullptr);
  ASSERT_EQ(safe.size(), 1u);
  EXPECT_EQ(safe[0], *PhysRange::FromSize(arena.at(0), 2 * kSmall));
  EXPECT_EQ(domain.invalidation().invalidations, 2u);
}

TEST_F(Tables, DeferredBouncePagesAreNotReusedBefore) {
  Init(DomainMode::kBounce, FlushMode::kDeferred);
  std::memset(arena.data(), 0x11, 2 * kSmall);
  const auto m = domain.Map(arena.at(0), 300, kFrom);
  std::byte* const page = Reach(m->iova, Permission::kWrite);
  *page = std::byte{0x44};
  ASSERT_TRUE(domain.Unmap(*m).ok());
  EXPECT_EQ(arena[0], std::byte{0x44}) << "copied back at once";
  *page = std::byte{0x55};  // late
  EXPECT_EQ(arena[0], std::byte{0x44});
  EXPECT_TRUE(domain.pages().IsOut(PhysAddrOf(page)));
  EXPECT_EQ(domain.pages().inner.in_use(), 2 * kSmall);
  EXPECT_TRUE(domain.Flush().ok());
  EXPECT_EQ(domain.pages().inner.in_use(), 0u);
  EXPECT_TRUE(safe.empty()) << "it never reached the buffer";
}

TEST_F(Tables, OneInvalidationServesMany) {
  Init(DomainMode::kUnalignedEnds, FlushMode::kDeferred);
  for (int i = 0; i < 100; ++i) {
    const auto m = domain.Map(arena.at(10), 1000, kTo);
    ASSERT_TRUE(m.ok());
    ASSERT_TRUE(domain.Unmap(*m).ok());
    if (domain.stats().waiting != 20) continue;
    EXPECT_TRUE(domain.Flush().ok());
  }
  EXPECT_EQ(domain.invalidation().invalidations, 5u);
  EXPECT_EQ(domain.invalidation().reused, 0u);
}

TEST_F(Tables, AListIsInvalidatedOnce) {
  Init(DomainMode::kDirect);
  const ScatterEntry list[] = {{arena.at(0), 100},
                               {arena.at(kSmall), 700},
                               {arena.at(8 * kSmall), kSmall}};
  Mapping maps[3];
  ASSERT_TRUE(domain.MapScatter(list, kTo, maps).ok());
  ASSERT_TRUE(domain.UnmapScatter(maps).ok());
  EXPECT_EQ(domain.invalidation().invalidations, 1u);
}

// Without tables: the bounce pages that devices fault in.
TEST(DeferredBounce, SlotsWaitWithTheirPages) {
  WatchedDomain domain;
  ASSERT_TRUE(domain
                  .Init({.limit = Iova(64 * kPage - 1),
                         .bounce_size = 32 * kPage,
                         .flush = {.mode = FlushMode::kDeferred, .max_age = 0}})
                  .ok());
  Bytes buffer(100, std::byte{1});
  const auto m = domain.Map(PhysAddrOf(buffer.data()), 100, kFrom);
  std::byte* const page = domain.Fault(m->iova)->page;
  page[0] = std::byte{2};
  ASSERT_TRUE(domain.Unmap(*m).ok());
  EXPECT_EQ(buffer[0], std::byte{2});
  EXPECT_TRUE(domain.invalidation().log.empty());
  EXPECT_EQ(domain.stats().waiting, 1u);
  EXPECT_EQ(ErrorOf(domain.Fault(m->iova)), Error::kNotMapped);
  EXPECT_EQ(ErrorOf(domain.Unmap(*m)), Error::kNotMapped);
  // A device process that has the page mapped writes on.
  EXPECT_EQ(domain.ReclaimIdle(), 0u);
  const auto next = domain.Map(PhysAddrOf(buffer.data()), 100, kFrom);
  EXPECT_NE(next->iova, m->iova);
  page[0] = std::byte{3};
  EXPECT_TRUE(domain.Flush().ok());
  EXPECT_EQ(domain.invalidation().all, 1u);
  EXPECT_EQ(domain.ReclaimIdle(), 1u);
  EXPECT_EQ(buffer[0], std::byte{2});
  EXPECT_TRUE(domain.Unmap(*next).ok());
  domain.invalidation().fail = true;
  EXPECT_EQ(ErrorOf(domain.Shutdown([](const Leak&) {})), Error::kDevice);
}

// Each owner's addresses go back to where they came from.
TEST(DeferredBounce, OwnersWaitInOneQueue) {
  WatchedDomain domain;
  ASSERT_TRUE(domain
                  .Init({.limit = Iova(64 * kPage - 1),
                         .bounce_size = 32 * kPage,
                         .bounce_page = *PageSize::FromBytes(4 * kPage),
                         .sharing = PageSharing::kOwner,
                         .owners = 3,
                         .flush = {.mode = FlushMode::kDeferred, .max_age = 0}})
                  .ok());
  Bytes buffer(100, std::byte{1});
  std::size_t first_time = 0;
  for (int round = 0; round < 3; ++round) {
    std::vector<Mapping> all;
    for (std::uint32_t owner = 0; owner < 3; ++owner) {
      auto mine = domain.For(BufferOwner{owner});
      auto m = mine.Map(PhysAddrOf(buffer.data()), 100, kTo);
      for (; m.ok(); m = mine.Map(PhysAddrOf(buffer.data()), 100, kTo)) {
        EXPECT_EQ(std::min<std::uint64_t>(m->iova.value() / (8 * kPage), 2),
                  owner);
        all.push_back(*m);
      }
      EXPECT_EQ(ErrorOf(m), Error::kNoSpace);
    }
    if (round == 0) first_time = all.size();
    EXPECT_EQ(all.size(), first_time);
    EXPECT_EQ(all.size(), 31u);
    EXPECT_TRUE(domain.UnmapScatter(all).ok());
    EXPECT_EQ(domain.stats().waiting, 31u);
    EXPECT_TRUE(domain.Flush().ok());
  }
  EXPECT_TRUE(domain.CheckInvariants());
  EXPECT_TRUE(domain.Shutdown([](const Leak&) {}).ok());
}

TEST(DeferredBounce, AQueueThatIsFullAndCannotBeDrainedIsQuarantine) {
  WatchedDomain domain;
  ASSERT_TRUE(domain
                  .Init({.limit = Iova(64 * kPage - 1),
                         .bounce_size = 32 * kPage,
                         .flush = {.mode = FlushMode::kDeferred,
                                   .entries = 2,
                                   .max_age = 0}})
                  .ok());
  Bytes buffer(100, std::byte{1});
  domain.invalidation().fail = true;
  std::vector<Mapping> maps;
  for (int i = 0; i < 4; ++i) {
    maps.push_back(*domain.Map(PhysAddrOf(buffer.data()), 100, kTo));
  }
  EXPECT_TRUE(domain.Unmap(maps[0]).ok());
  EXPECT_TRUE(domain.Unmap(maps[1]).ok());
  EXPECT_EQ(ErrorOf(domain.Unmap(maps[2])), Error::kDevice);
  EXPECT_EQ(domain.stats().quarantined, 1u);
  EXPECT_EQ(domain.stats().waiting, 2u);
  domain.invalidation().fail = false;
  EXPECT_TRUE(domain.Unmap(maps[3]).ok());
  EXPECT_TRUE(domain.Flush().ok());
  EXPECT_EQ(domain.stats().waiting, 0u);
  EXPECT_TRUE(domain.CheckInvariants());
  EXPECT_TRUE(domain.Shutdown([](const Leak&) {}).ok());
}

// --- Two steps ---

TEST_F(Tables, TwoSteps) {
  Init(DomainMode::kUnalignedEnds);
  std::memset(arena.data() + 2 * kSmall, 0x21, kSmall);
  std::memset(arena.data() + 7 * kSmall, 0x22, 2 * kSmall + 10);
  const auto held = domain.Reserve(5 * kSmall);
  ASSERT_TRUE(held.ok());
  const auto one = domain.Link(*held, 0, arena.at(2 * kSmall), kSmall, kTo);
  const auto two =
      domain.Link(*held, kSmall, arena.at(7 * kSmall), 2 * kSmall + 10, kTo);
  ASSERT_TRUE(one.ok() && two.ok());
  EXPECT_TRUE(domain.SyncLinks(*held).ok());
  // One run of addresses over both.
  for (std::uint64_t i = 0; i < 3 * kSmall + 10; ++i) {
    EXPECT_EQ(*Reach(held->iova + i), std::byte(i < kSmall ? 0x21 : 0x22));
  }
  EXPECT_EQ(*Reach(held->iova + 3 * kSmall + 10), std::byte{0});
  EXPECT_EQ(Reach(held->iova + 4 * kSmall), nullptr) << "nothing linked";

  EXPECT_EQ(ErrorOf(domain.Link(*held, 3 * kSmall, arena.at(0), 8, kTo)),
            Error::kOverlap);
  EXPECT_EQ(ErrorOf(domain.Link(*held, 4 * kSmall, arena.at(1), 8, kTo)),
            Error::kInvalidArgument);
  EXPECT_EQ(ErrorOf(domain.Link(*held, 4 * kSmall, arena.at(0), 257, kTo)),
            Error::kOutOfRange);
  EXPECT_EQ(ErrorOf(domain.Unmap(*one)), Error::kMismatch);
  EXPECT_EQ(ErrorOf(domain.Release(*held)), Error::kBusy);
  Reservation bad = *held;
  ++bad.tag;
  EXPECT_EQ(ErrorOf(domain.SyncLinks(bad)), Error::kMismatch);
  const Mapping links[] = {*one, *two};
  EXPECT_TRUE(domain.Unlink(links).ok());
  EXPECT_EQ(domain.invalidation().invalidations, 1u);
  EXPECT_EQ(ErrorOf(domain.Unlink(links)), Error::kNotMapped);
  // And again, in other places.
  const auto again = domain.Link(*held, kSmall, arena.at(kSmall), 100, kFrom);
  ASSERT_TRUE(again.ok());
  std::uint64_t leaks = 0;
  EXPECT_EQ(ErrorOf(domain.Shutdown([&](const Leak& leak) {
              leaks += leak.kind == Leak::Kind::kReservation ? 100 : 1;
            })),
            Error::kBusy);
  EXPECT_EQ(leaks, 101u);
  EXPECT_TRUE(domain.Unlink({&*again, 1}).ok());
  EXPECT_TRUE(domain.Release(*held).ok());
  EXPECT_EQ(ErrorOf(domain.Release(*held)), Error::kNotMapped);
  EXPECT_TRUE(domain.Shutdown([](const Leak&) {}).ok());
}

TEST_F(Tables, ALinkThatCannotBeInvalidatedKeepsItsPlace) {
  Init(DomainMode::kDirect);
  const auto held = domain.Reserve(4 * kSmall);
  const auto link = domain.Link(*held, 0, arena.at(0), 3 * kSmall, kTo);
  domain.invalidation().fail_invalidation = true;
  EXPECT_EQ(ErrorOf(domain.Unlink({&*link, 1})), Error::kDevice);
  domain.invalidation().fail_invalidation = false;
  for (const std::uint64_t page : {0u, 1u, 2u}) {
    EXPECT_EQ(ErrorOf(domain.Link(*held, page * kSmall, arena.at(0), 8, kTo)),
              Error::kOverlap);
  }
  EXPECT_TRUE(domain.Link(*held, 3 * kSmall, arena.at(0), 8, kTo).ok());
  EXPECT_EQ(ErrorOf(domain.Release(*held)), Error::kBusy);
  EXPECT_TRUE(safe.empty());
}

// --- Segments ---

TEST(Segments, AreCutAndJoined) {
  const Mapping maps[] = {{Iova(0x1000), 0x1000, kTo, 1},
                          {Iova(0x2000), 0x800, kTo, 1},
                          {Iova(0x5000), 0x10, kTo, 1},
                          {Iova(~std::uint64_t{0}), 1, kTo, 1}};
  using S = std::vector<DeviceSegment>;
  const auto cut = [&](const SegmentLimits& limits) {
    S out;
    EXPECT_TRUE(ForEachSegment(maps, limits, [&](const DeviceSegment& s) {
                  out.push_back(s);
                  return true;
                }).ok());
    return out;
  };
  const DeviceSegment tail[] = {{Iova(0x5000), 0x10},
                                {Iova(~std::uint64_t{0}), 1}};
  const auto with_tail = [&](S s) {
    s.insert(s.end(), std::begin(tail), std::end(tail));
    return s;
  };
  EXPECT_EQ(cut({}), with_tail({{Iova(0x1000), 0x1800}}));
  EXPECT_EQ(cut({.max_size = 0x1000}),
            with_tail({{Iova(0x1000), 0x1000}, {Iova(0x2000), 0x800}}));
  EXPECT_EQ(cut({.max_size = 0xC00}),
            with_tail({{Iova(0x1000), 0xC00}, {Iova(0x1C00), 0xC00}}));
  EXPECT_EQ(cut({.boundary = 0x2000}),
            with_tail({{Iova(0x1000), 0x1000}, {Iova(0x2000), 0x800}}));
  EXPECT_EQ(cut({.max_size = 0xC00, .boundary = 0x1000}),
            with_tail({{Iova(0x1000), 0xC00},
                       {Iova(0x1C00), 0x400},
                       {Iova(0x2000), 0x800}}));
  DeviceSegment few[2];
  EXPECT_EQ(ErrorOf(ToSegments(maps, {}, few)), Error::kLimit);
  EXPECT_EQ(few[0], (DeviceSegment{Iova(0x1000), 0x1800}));
  EXPECT_EQ(ErrorOf(ToSegments(maps, {.boundary = 3}, few)),
            Error::kInvalidArgument);
  const Mapping none;
  EXPECT_EQ(ErrorOf(ToSegments({&none, 1}, {}, few)), Error::kInvalidArgument);
}

TEST(Segments, OfAListInEveryMode) {
  for (const DomainMode mode : kModes) {
    SoftwareDomain domain;
    ASSERT_TRUE(domain.invalidation().Init().ok());
    DomainOptions o = OptionsFor(mode, FlushMode::kStrict);
    o.segments = {.max_size = 3000, .boundary = 8192};
    ASSERT_TRUE(domain.Init(o).ok());
    Arena arena(16 * kPage);
    const ScatterEntry list[] = {{arena.at(10), 20000},
                                 {arena.at(6 * kPage), 1}};
    Mapping maps[2];
    DeviceSegment segments[16];
    const auto count = domain.MapScatter(list, kTo, maps, segments);
    ASSERT_TRUE(count.ok());
    std::uint64_t bytes = 0;
    for (const DeviceSegment& s : std::span(segments).first(*count)) {
      EXPECT_LE(s.size, 3000u);
      EXPECT_EQ(s.iova.value() / 8192, (s.iova.value() + s.size - 1) / 8192);
      EXPECT_TRUE(domain.Translate(s.iova, s.size, Permission::kRead).ok());
      bytes += s.size;
    }
    EXPECT_EQ(bytes, 20001u);
    EXPECT_TRUE(domain.UnmapScatter(maps).ok());
    EXPECT_EQ(ErrorOf(domain.MapScatter(list, kTo, maps,
                                        std::span(segments).first(3))),
              Error::kLimit);
    EXPECT_EQ(domain.stats().live, 0u);
    EXPECT_TRUE(domain.CheckInvariants());
  }
}

// --- Automatic ---

TEST(MapCost, MovesWhenWhatIsMeasuredIsFarOff) {
  internal::MapCost<> cost;
  cost.Init({.map_ns = 1000, .copy_ns_per_kib = 100, .probe_interval = 8});
  const std::uint64_t first = cost.limit();
  EXPECT_EQ(first, 10240u);
  EXPECT_TRUE(cost.Copies(first, 1));
  EXPECT_FALSE(cost.Copies(first + 1, 1));
  EXPECT_FALSE(cost.Copies(first, 8)) << "a probe";
  EXPECT_TRUE(cost.Copies(first * 2, 8));
  EXPECT_TRUE(cost.Copies(64, 8)) << "too far from the limit";
  // 10 % dearer: within the hysteresis.
  for (int i = 0; i < 200; ++i) cost.AddMapped(cost.kUnmap, 600);
  EXPECT_EQ(cost.limit(), first);
  // An IOMMU that takes its time.
  for (int i = 0; i < 200; ++i) cost.AddMapped(cost.kUnmap, 5000);
  EXPECT_GT(cost.limit(), 4 * first);
  EXPECT_LT(cost.limit(), 6 * first);
  const std::uint64_t dear = cost.limit();
  // A sample in which the thread lost its CPU is one of many.
  cost.AddMapped(cost.kUnmap, 1'000'000'000);
  for (int i = 0; i < 200; ++i) cost.AddMapped(cost.kUnmap, 5000);
  EXPECT_LT(cost.limit(), 2 * dear);
  // Copies get dearer; those of small buffers say nothing.
  cost.AddCopied(cost.kCopyAtMap, 64, 1'000'000);
  EXPECT_LT(cost.limit(), 2 * dear);
  for (int i = 0; i < 300; ++i) {
    cost.AddCopied(cost.kCopyAtMap, cost.limit(), cost.limit());  // 1 ns a byte
  }
  EXPECT_LT(cost.limit(), first);
  EXPECT_GT(cost.moves(), 2u);
}

TEST(MapCost, NoGuessIsTooLarge) {
  internal::MapCost<> cost;
  const std::uint64_t most = std::uint64_t{256} << 10;
  for (unsigned bit = 20; bit < 64; ++bit) {
    cost.Init({.map_ns = std::uint64_t{1} << bit, .never_copy = most});
    EXPECT_EQ(cost.limit(), most);
    cost.Init({.copy_ns_per_kib = std::uint64_t{1} << bit});
    EXPECT_LE(cost.limit(), 1u);
  }
}

TEST(MapCost, GuessesStandWithoutAClock) {
  internal::MapCost<> cost;
  cost.Init({.never_copy = 4096, .always_copy = 100});
  EXPECT_FALSE(cost.Samples(0));
  EXPECT_EQ(cost.limit(), 4096u);
  EXPECT_FALSE(cost.Copies(4097, 0));
  EXPECT_TRUE(cost.Copies(100, 255));
}

// A clock that goes on with what is done: 1 ns for a byte copied, 4000 for an
// invalidation. So they meet at 4000 bytes, wherever it begins.
TEST(MapCost, ADomainFindsItsLimit) {
  for (const std::uint64_t guess : {200u, 5000u}) {
    TableDomain domain;
    DomainOptions o;
    o.limit = Iova((1 << 20) - 1);
    o.bounce_size = 1 << 19;
    o.page = *PageSize::FromShift(8);
    o.bounce_page = o.page;
    o.mode = DomainMode::kAutomatic;
    o.automatic = {.clock =
                       [](void* me) {
                         auto& d = *static_cast<TableDomain*>(me);
                         return d.stats().bytes_to_device +
                                4000 * d.invalidation().invalidations;
                       },
                   .clock_context = &domain,
                   .map_ns = guess,
                   .copy_ns_per_kib = 500,
                   .probe_interval = 16};
    ASSERT_TRUE(domain.Init(o).ok());
    Arena arena(4 * kPage);
    for (std::uint64_t i = 0; i < 8000; ++i) {
      const auto m = domain.Map(arena.at(i % 256), 1 + i * 37 % 8192, kTo);
      ASSERT_TRUE(m.ok());
      ASSERT_TRUE(domain.Unmap(*m).ok());
    }
    // The hysteresis, and the noise of what was measured last.
    EXPECT_GT(domain.stats().copy_limit, 2700u);
    EXPECT_LT(domain.stats().copy_limit, 6000u);
  }
}

}  // namespace
}  // namespace dmamap
