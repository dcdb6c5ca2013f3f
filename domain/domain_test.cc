// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "domain/domain.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "domain/parts_for_test.h"
#include "testing/domain_port.h"

namespace dmamap {
namespace {

using testing_parts::Bytes;
using testing_parts::Pattern;
using testing_parts::WatchedDomain;

constexpr auto kTo = Direction::kToDevice;
constexpr auto kFrom = Direction::kFromDevice;
constexpr auto kBoth = Direction::kBidirectional;
constexpr std::uint64_t kPage = 4096;

// REQUIRES: !r.ok(), or the test fails.
template <class T>
Error ErrorOf(const Result<T>& r) {
  EXPECT_FALSE(r.ok());
  return r.ok() ? Error{} : r.error();
}

struct DomainTest : testing::Test {
  DomainTest() {
    EXPECT_TRUE(domain
                    .Init({.limit = Iova(64 * kPage - 1),
                           .bounce_size = 32 * kPage,
                           .max_mappings = 20})
                    .ok());
  }
  ~DomainTest() override { EXPECT_TRUE(domain.CheckInvariants()); }

  Bytes DeviceRead(Iova at, std::size_t n) {
    Bytes b(n);
    EXPECT_TRUE(port.Read(at, b.data(), n).ok());
    return b;
  }

  WatchedDomain domain;
  DomainPort<WatchedDomain> port{domain};
  Bytes buffer = Pattern(3 * kPage, 1);
  PhysAddr buffer_address = PhysAddrOf(buffer.data());
};

TEST(DomainInit, EveryCallBeforeItIsAnError) {
  Domain<> d;
  std::byte b{};
  EXPECT_EQ(ErrorOf(d.Map(PhysAddrOf(&b), 1, kTo)), Error::kShutDown);
  EXPECT_EQ(ErrorOf(d.Unmap({})), Error::kShutDown);
  EXPECT_EQ(ErrorOf(d.SyncForCpu({}, 0, 1)), Error::kShutDown);
  EXPECT_EQ(ErrorOf(d.SyncForDevice({}, 0, 1)), Error::kShutDown);
  EXPECT_EQ(ErrorOf(d.MapScatter({}, kTo, {})), Error::kShutDown);
  EXPECT_EQ(ErrorOf(d.AllocateCoherent(1)), Error::kShutDown);
  EXPECT_EQ(ErrorOf(d.FreeCoherent({})), Error::kShutDown);
  EXPECT_EQ(ErrorOf(d.Translate(Iova(0), 1, Permission::kRead)),
            Error::kShutDown);
  EXPECT_EQ(ErrorOf(d.Fault(Iova(0))), Error::kShutDown);
  EXPECT_EQ(ErrorOf(d.Reclaim(Range())), Error::kShutDown);
  EXPECT_EQ(d.ReclaimIdle(), 0u);
  EXPECT_EQ(ErrorOf(d.Shutdown([](const Leak&) {})), Error::kShutDown);
  EXPECT_TRUE(d.CheckInvariants());
}

TEST(DomainInit, OptionsAreChecked) {
  const auto init = [](const DomainOptions& o) {
    Domain<> d;
    return d.Init(o);
  };
  const PageSize k64 = *PageSize::FromShift(16);
  EXPECT_TRUE(init({}).ok());
  EXPECT_TRUE(
      init({.limit = Iova(3 * kPage - 1), .bounce_size = 2 * kPage}).ok());
  for (const DomainOptions& bad : {
           // The limit must exceed the bounce size, and end a page.
           DomainOptions{.limit = Iova(2 * kPage - 1),
           .bounce_size = 2 * kPage},
           DomainOptions{.limit = Iova(2 * kPage), .bounce_size = 2 * kPage},
           DomainOptions{.limit = Iova(3 * kPage - 2),
           .bounce_size = 2 * kPage},
           DomainOptions{.bounce_size = 0},
           DomainOptions{.bounce_size = kPage},
           DomainOptions{.bounce_size = 2 * kPage + 1},
           DomainOptions{.bounce_size = 3 * kPage, .bounce_page = k64},
           DomainOptions{.page = k64, .bounce_page = PageSize()},
           DomainOptions{.page = *PageSize::FromShift(5)},
           DomainOptions{.bounce_size = std::uint64_t{1} << 31,
           .bounce_page = *PageSize::FromShift(31)},
           DomainOptions{.sharing = static_cast<PageSharing>(2)},
           DomainOptions{.owners = 0},
           // Nobody shares: each of two owners has a page of 64 KiB only.
           DomainOptions{
               .bounce_size = 2 * k64.bytes(), .bounce_page = k64, .owners = 2},
           DomainOptions{.min_align_mask = 2},
           DomainOptions{.min_align_mask = 2 * kPage - 1},
       }) {
    EXPECT_EQ(ErrorOf(init(bad)), Error::kInvalidArgument);
  }
  EXPECT_EQ(
      ErrorOf(init({.limit = Iova::Max(), .page = *PageSize::FromBytes(64)})),
      Error::kUnsupported)
      << "more than 2^52 pages";
  Domain<> twice;
  EXPECT_FALSE(twice.Init({.bounce_size = 1}).ok());
  EXPECT_TRUE(twice.Init({}).ok()) << "after an error Init may be called again";
  EXPECT_EQ(ErrorOf(twice.Init({})), Error::kBusy);
}

TEST_F(DomainTest, MapChecksItsArguments) {
  const auto map = [&](PhysAddr at, std::uint64_t size, Direction d,
                       MapAttributes a = MapAttributes::kNone) {
    return ErrorOf(domain.Map(at, size, d, a));
  };
  const PhysAddr top(~std::uint64_t{0});
  EXPECT_EQ(map(buffer_address, 0, kTo), Error::kInvalidArgument);
  EXPECT_EQ(map(buffer_address, 1, static_cast<Direction>(3)),
            Error::kInvalidArgument);
  EXPECT_EQ(map(buffer_address, 1, kTo, static_cast<MapAttributes>(4)),
            Error::kInvalidArgument);
  EXPECT_EQ(map(buffer_address, 1, kBoth, MapAttributes::kDeviceOverwritesAll),
            Error::kInvalidArgument);
  EXPECT_EQ(map(top, 2, kTo), Error::kOverflow);
  EXPECT_EQ(map(PhysAddr(0), ~std::uint64_t{0}, kTo), Error::kNoSpace);
  EXPECT_EQ(map(buffer_address, 32 * kPage, kTo), Error::kNoSpace);
  EXPECT_EQ(domain.stats().live, 0u);
}

TEST_F(DomainTest, DataTravelsEachWay) {
  const Bytes original = buffer;
  const std::size_t size = 2 * kPage + 100;
  const auto m = domain.Map(buffer_address + 7, size, kBoth);
  ASSERT_TRUE(m.ok());
  EXPECT_EQ(m->iova.value() % kPage, 0u) << "begins on a page";
  EXPECT_EQ(DeviceRead(m->iova, size),
            Bytes(original.begin() + 7, original.begin() + 7 + size));
  const Bytes frame = Pattern(kPage, 5);
  ASSERT_TRUE(port.Write(m->iova + 200, frame.data(), frame.size()).ok());
  EXPECT_EQ(buffer, original) << "the device reaches a bounce page only";

  ASSERT_TRUE(domain.SyncForCpu(*m, 210, 20).ok());
  Bytes expected = original;
  std::copy_n(frame.begin() + 10, 20, expected.begin() + 217);
  EXPECT_EQ(buffer, expected) << "exactly the part that was asked for";

  buffer[7 + 1000] = expected[7 + 1000] = std::byte{0xC3};
  ASSERT_TRUE(domain.SyncForDevice(*m, 1000, 1).ok());
  EXPECT_EQ(DeviceRead(m->iova + 1000, 1)[0], std::byte{0xC3});

  ASSERT_TRUE(domain.Unmap(*m).ok());
  std::copy(frame.begin(), frame.end(), expected.begin() + 207);
  expected[1007] = std::byte{0xC3};
  EXPECT_EQ(buffer, expected);
  std::byte b;
  EXPECT_EQ(port.Read(m->iova, &b, 1).error(), Error::kNotMapped);
  const DomainStats s = domain.stats();
  EXPECT_EQ(s.maps, 1u);
  EXPECT_EQ(s.unmaps, 1u);
  EXPECT_EQ(s.live, 0u);
  EXPECT_EQ(s.high_water, 1u);
  EXPECT_EQ(s.faults, 3u);
  EXPECT_EQ(s.bytes_to_device, size + 1);
  EXPECT_EQ(s.bytes_from_device, size + 20);
}

TEST_F(DomainTest, PermissionFollowsDirection) {
  std::byte b{};
  const auto to = domain.Map(buffer_address, 10, kTo);
  const auto from = domain.Map(buffer_address, 10, kFrom);
  EXPECT_TRUE(port.Read(to->iova, &b, 1).ok());
  EXPECT_EQ(port.Write(to->iova, &b, 1).error(), Error::kPermission);
  EXPECT_TRUE(port.Write(from->iova, &b, 1).ok());
  EXPECT_EQ(port.Read(from->iova, &b, 1).error(), Error::kPermission);
  EXPECT_EQ(ErrorOf(domain.Translate(to->iova, 0, Permission::kRead)),
            Error::kInvalidArgument);
  EXPECT_EQ(ErrorOf(domain.Translate(to->iova, 1, Permission::kNone)),
            Error::kInvalidArgument);
  ASSERT_TRUE(domain.UnmapScatter(std::vector{*to, *from}).ok());
}

TEST_F(DomainTest, TranslateEndsWithTheMappingAndWithThePage) {
  const auto m = domain.Map(buffer_address, kPage + 50, kTo);
  EXPECT_EQ(domain.Translate(m->iova + 10, 9999, Permission::kRead)->length,
            kPage - 10);
  EXPECT_EQ(domain.Translate(m->iova + kPage, 9999, Permission::kRead)->length,
            50u);
  EXPECT_EQ(domain.Translate(m->iova, 3, Permission::kRead)->length, 3u);
  EXPECT_EQ(
      ErrorOf(domain.Translate(m->iova + kPage + 50, 1, Permission::kRead)),
      Error::kNotMapped);
  Bytes b(2 * kPage);
  const Transfer t = port.Read(m->iova, b.data(), b.size());
  EXPECT_FALSE(t.ok());
  EXPECT_EQ(t.bytes, kPage + 50) << "what was reached before the end";
  ASSERT_TRUE(domain.Unmap(*m).ok());
}

TEST_F(DomainTest, FaultIsRefusedWithoutAMapping) {
  EXPECT_EQ(ErrorOf(domain.Fault(Iova(0))), Error::kNotMapped);
  EXPECT_EQ(ErrorOf(domain.Fault(Iova(31 * kPage))), Error::kNotMapped);
  EXPECT_EQ(ErrorOf(domain.Fault(Iova(40 * kPage))), Error::kNotMapped);
  EXPECT_EQ(ErrorOf(domain.Fault(Iova::Max())), Error::kNotMapped);
  EXPECT_EQ(domain.pages().inner.in_use(), 0u);
}

TEST_F(DomainTest, FaultShowsThePageAndTranslateTheSame) {
  const auto m = domain.Map(buffer_address, 100, kFrom);
  const auto page = domain.Fault(m->iova + 4000);
  ASSERT_TRUE(page.ok()) << "also behind the mapping, on its page";
  EXPECT_EQ(page->range.first(), m->iova);
  EXPECT_EQ(page->range.size(), kPage);
  EXPECT_EQ(page->permission, Permission::kWrite);
  EXPECT_EQ(domain.Translate(m->iova + 5, 1, Permission::kWrite)->data,
            page->page + 5);
  EXPECT_EQ(domain.Fault(m->iova)->page, page->page);
  EXPECT_EQ(domain.stats().faults, 1u);
  ASSERT_TRUE(domain.Unmap(*m).ok());
}

TEST_F(DomainTest, UnmapRefusesWhatIsNotTheRecordedMapping) {
  const auto m = domain.Map(buffer_address, 100, kBoth);
  const auto unmap = [&](Mapping x) { return ErrorOf(domain.Unmap(x)); };
  Mapping x = *m;
  x.size = 101;
  EXPECT_EQ(unmap(x), Error::kMismatch);
  x = *m;
  x.direction = kFrom;
  EXPECT_EQ(unmap(x), Error::kMismatch);
  x = *m;
  ++x.tag;
  EXPECT_EQ(unmap(x), Error::kMismatch);
  x = *m;
  x.iova = m->iova + 1;
  EXPECT_EQ(unmap(x), Error::kNotMapped);
  x.iova = m->iova + kPage;
  EXPECT_EQ(unmap(x), Error::kNotMapped);
  x.iova = Iova::Max();
  EXPECT_EQ(unmap(x), Error::kNotMapped);
  EXPECT_EQ(ErrorOf(domain.Unmap(*m, static_cast<MapAttributes>(8))),
            Error::kInvalidArgument);
  EXPECT_EQ(domain.stats().refused, 6u);
  EXPECT_EQ(DeviceRead(m->iova, 1)[0], buffer[0]) << "nothing has changed";
  EXPECT_TRUE(domain.Unmap(*m).ok());
  EXPECT_EQ(unmap(*m), Error::kNotMapped);
}

TEST_F(DomainTest, AMappingOfAnotherDomainIsRefused) {
  WatchedDomain other;
  ASSERT_TRUE(other.Init(domain.options()).ok());
  const auto mine = domain.Map(buffer_address, 100, kTo);
  const auto theirs = other.Map(buffer_address, 100, kTo);
  ASSERT_EQ(mine->iova, theirs->iova);
  EXPECT_EQ(ErrorOf(domain.Unmap(*theirs)), Error::kMismatch);
  EXPECT_TRUE(domain.Unmap(*mine).ok());
  EXPECT_TRUE(other.Unmap(*theirs).ok());
}

TEST_F(DomainTest, AnOldMappingIsKnownWhenItsAddressIsInUseAgain) {
  const auto old = domain.Map(buffer_address, 100, kTo);
  ASSERT_TRUE(domain.Unmap(*old).ok());
  std::vector<Mapping> now;
  while (now.empty() || now.back().iova != old->iova) {
    const auto m = domain.Map(buffer_address, 100, kTo);
    ASSERT_TRUE(m.ok());
    now.push_back(*m);
  }
  EXPECT_EQ(ErrorOf(domain.Unmap(*old)), Error::kMismatch);
  EXPECT_EQ(ErrorOf(domain.SyncForCpu(*old, 0, 1)), Error::kMismatch);
  EXPECT_TRUE(domain.UnmapScatter(now).ok());
}

TEST_F(DomainTest, SyncIsBoundedByTheMapping) {
  const auto m = domain.Map(buffer_address, 100, kBoth);
  for (auto sync :
       {&WatchedDomain::SyncForCpu, &WatchedDomain::SyncForDevice}) {
    const auto error = [&](std::uint64_t offset, std::uint64_t size) {
      return ErrorOf((domain.*sync)(*m, offset, size));
    };
    EXPECT_EQ(error(0, 101), Error::kOutOfRange);
    EXPECT_EQ(error(100, 1), Error::kOutOfRange);
    EXPECT_EQ(error(99, 2), Error::kOutOfRange);
    EXPECT_EQ(error(1, ~std::uint64_t{0}), Error::kOutOfRange);
    EXPECT_EQ(error(~std::uint64_t{0}, 2), Error::kOutOfRange);
    EXPECT_EQ(error(0, 0), Error::kInvalidArgument);
    EXPECT_TRUE((domain.*sync)(*m, 99, 1).ok());
    EXPECT_TRUE((domain.*sync)(*m, 0, 100).ok());
  }
  EXPECT_TRUE(domain.Unmap(*m).ok());
}

TEST_F(DomainTest, WhatADeviceMayNotWriteIsNeverCopiedBack) {
  const Bytes original = buffer;
  const auto m = domain.Map(buffer_address, 100, kTo);
  std::memset(domain.Fault(m->iova)->page, 0x66, kPage);  // it writes anyway
  EXPECT_TRUE(domain.SyncForCpu(*m, 0, 100).ok());
  EXPECT_TRUE(domain.Unmap(*m).ok());
  EXPECT_EQ(buffer, original);
}

TEST_F(DomainTest, SkipSyncCopiesOnlyByHand) {
  const Bytes original = buffer;
  const auto skip = MapAttributes::kSkipSync;
  const auto m = domain.Map(buffer_address, 2 * kPage, kBoth, skip);
  ASSERT_TRUE(m.ok());
  EXPECT_EQ(DeviceRead(m->iova, 10), Bytes(10)) << "zeros, not the buffer";
  // The second page is not there yet: the sync has it made.
  ASSERT_TRUE(domain.SyncForDevice(*m, kPage + 5, 10).ok());
  EXPECT_EQ(DeviceRead(m->iova + kPage, 5), Bytes(5));
  EXPECT_EQ(DeviceRead(m->iova + kPage + 5, 10),
            Bytes(buffer.begin() + kPage + 5, buffer.begin() + kPage + 15));
  const Bytes frame = Pattern(50, 3);
  ASSERT_TRUE(port.Write(m->iova, frame.data(), 50).ok());
  ASSERT_TRUE(domain.SyncForCpu(*m, 0, 20).ok());
  ASSERT_TRUE(domain.Unmap(*m, skip).ok());
  Bytes expected = original;
  std::copy_n(frame.begin(), 20, expected.begin());
  EXPECT_EQ(buffer, expected);
}

TEST_F(DomainTest, TheNamedOptOutShowsZerosNotStaleBytes) {
  const auto first = domain.Map(buffer_address, kPage, kTo);
  DeviceRead(first->iova, kPage);
  ASSERT_TRUE(domain.Unmap(*first).ok());
  const auto m = domain.Map(buffer_address, kPage, kFrom,
                            MapAttributes::kDeviceOverwritesAll);
  ASSERT_EQ(m->iova, first->iova);
  const FaultPage page = *domain.Fault(m->iova);
  EXPECT_EQ(Bytes(page.page, page.page + kPage), Bytes(kPage));
  EXPECT_EQ(domain.stats().bytes_to_device, kPage) << "of the first alone";
  ASSERT_TRUE(domain.SyncForDevice(*m, 0, 10).ok());
  EXPECT_EQ(page.page[0], std::byte{0});
  ASSERT_TRUE(domain.Unmap(*m).ok());
}

TEST_F(DomainTest, ScatterIsAllOrNothing) {
  std::vector<ScatterEntry> list = {{buffer_address, 100},
                                    {buffer_address + 200, kPage},
                                    {buffer_address + 5000, 1}};
  std::vector<Mapping> out(3);
  ASSERT_TRUE(domain.MapScatter(list, kBoth, out).ok());
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(out[i].size, list[i].size);
    EXPECT_EQ(DeviceRead(out[i].iova, 1)[0], *PointerTo(list[i].buffer));
  }
  // A bad one among them: none is ended. The same one twice: none.
  std::vector<Mapping> bad = out;
  bad[2].size = 2;
  EXPECT_EQ(ErrorOf(domain.UnmapScatter(bad)), Error::kMismatch);
  bad[2] = out[0];
  EXPECT_EQ(ErrorOf(domain.UnmapScatter(bad)), Error::kNotMapped);
  EXPECT_EQ(domain.stats().live, 3u);
  EXPECT_TRUE(domain.CheckInvariants());
  EXPECT_TRUE(domain.UnmapScatter(out).ok());

  list[2].size = 0;
  EXPECT_EQ(ErrorOf(domain.MapScatter(list, kBoth, out)),
            Error::kInvalidArgument);
  EXPECT_EQ(domain.stats().live, 0u);
  list[2].size = 100 * kPage;
  EXPECT_EQ(ErrorOf(domain.MapScatter(list, kBoth, out)), Error::kNoSpace);
  EXPECT_EQ(domain.stats().live, 0u);
  EXPECT_EQ(ErrorOf(domain.MapScatter({}, kBoth, out)),
            Error::kInvalidArgument);
  EXPECT_EQ(ErrorOf(domain.MapScatter(list, kBoth, std::span(out).first(2))),
            Error::kInvalidArgument);
  EXPECT_EQ(ErrorOf(domain.UnmapScatter({})), Error::kInvalidArgument);
}

TEST_F(DomainTest, CoherentBlocksAreSharedAndChecked) {
  const auto a = domain.AllocateCoherent(kPage + 1);
  ASSERT_TRUE(a.ok());
  EXPECT_GE(a->iova.value(), 32 * kPage);
  EXPECT_EQ(a->iova.value() % kPage, 0u);
  EXPECT_TRUE(PageSize().IsAligned(PhysAddrOf(a->cpu).value()));
  EXPECT_EQ(DeviceRead(a->iova, kPage + 1), Bytes(kPage + 1)) << "zeroed";
  a->cpu[kPage] = std::byte{7};
  EXPECT_EQ(DeviceRead(a->iova + kPage, 1)[0], std::byte{7});
  const std::byte b{9};
  ASSERT_TRUE(port.Write(a->iova + 3, &b, 1).ok());
  EXPECT_EQ(a->cpu[3], b);
  EXPECT_EQ(port.Write(a->iova + kPage + 1, &b, 1).error(), Error::kNotMapped);
  const auto page = domain.Fault(a->iova + 2 * kPage - 1);
  ASSERT_TRUE(page.ok());
  EXPECT_EQ(page->page, a->cpu + kPage);
  EXPECT_EQ(page->permission, Permission::kReadWrite);

  CoherentBlock x = *a;
  x.size = 1;
  EXPECT_EQ(ErrorOf(domain.FreeCoherent(x)), Error::kMismatch);
  x = *a;
  x.cpu += kPage;
  EXPECT_EQ(ErrorOf(domain.FreeCoherent(x)), Error::kMismatch);
  x = *a;
  x.iova = a->iova + kPage;
  EXPECT_EQ(ErrorOf(domain.FreeCoherent(x)), Error::kNotMapped);
  // A streaming mapping is no block, however well it is described.
  const auto m = domain.Map(buffer_address, 100, kBoth);
  x = {m->iova, buffer.data(), 100};
  EXPECT_EQ(ErrorOf(domain.FreeCoherent(x)), Error::kNotMapped);
  ASSERT_TRUE(domain.Unmap(*m).ok());

  ASSERT_TRUE(domain.FreeCoherent(*a).ok());
  EXPECT_EQ(ErrorOf(domain.FreeCoherent(*a)), Error::kNotMapped);
  EXPECT_EQ(ErrorOf(domain.AllocateCoherent(0)), Error::kInvalidArgument);
  EXPECT_EQ(ErrorOf(domain.AllocateCoherent(~std::uint64_t{0})),
            Error::kNoSpace);
  EXPECT_EQ(ErrorOf(domain.AllocateCoherent(33 * kPage)), Error::kNoSpace);
}

TEST_F(DomainTest, ReclaimTakesIdlePagesOnly) {
  const auto a = domain.Map(buffer_address, 2 * kPage, kTo);
  DeviceRead(a->iova, 2 * kPage);
  const Range pages = *Range::FromSize(a->iova, 2 * kPage);
  EXPECT_EQ(ErrorOf(domain.Reclaim(pages)), Error::kBusy);
  EXPECT_EQ(domain.ReclaimIdle(), 0u);
  ASSERT_TRUE(domain.Unmap(*a).ok());
  EXPECT_EQ(ErrorOf(domain.Reclaim(*Range::FromSize(a->iova, 1))),
            Error::kInvalidArgument);
  EXPECT_EQ(ErrorOf(domain.Reclaim(*Range::FromSize(Iova(0), 33 * kPage))),
            Error::kOutOfRange);
  EXPECT_EQ(*domain.Reclaim(pages), 2u);
  EXPECT_EQ(domain.pages().inner.in_use(), 0u);
}

TEST_F(DomainTest, ABudgetTakesIdlePagesBackBeforeItRefuses) {
  domain.pages().inner.set_budget(2 * kPage);
  const auto a = domain.Map(buffer_address, 2 * kPage, kTo);
  DeviceRead(a->iova, 2 * kPage);
  const auto b = domain.Map(buffer_address, 3, kTo);
  Bytes x(8);
  EXPECT_EQ(port.Read(b->iova, x.data(), 1).error(), Error::kBudget);
  ASSERT_TRUE(domain.Unmap(*a).ok());
  EXPECT_EQ(DeviceRead(b->iova, 1)[0], buffer[0]);
  ASSERT_TRUE(domain.Unmap(*b).ok());
}

TEST_F(DomainTest, MaxMappingsIsALimit) {
  std::vector<Mapping> all;
  for (int i = 0; i < 20; ++i) {
    all.push_back(*domain.Map(buffer_address, 1, kTo));
  }
  EXPECT_EQ(ErrorOf(domain.Map(buffer_address, 1, kTo)), Error::kLimit);
  EXPECT_EQ(ErrorOf(domain.AllocateCoherent(1)), Error::kLimit);
  EXPECT_TRUE(domain.CheckInvariants());
  EXPECT_TRUE(domain.UnmapScatter(all).ok());
  EXPECT_EQ(domain.stats().high_water, 20u);
  EXPECT_EQ(domain.pages().inner.in_use(), 0u) << "the refused block's memory";
}

// What a thread has parked is given up before it is refused anything.
TEST(DomainParked, IsInNobodysWay) {
  Bytes buffer(4 * kPage);
  const PhysAddr at = PhysAddrOf(buffer.data());
  Domain<> domain;
  ASSERT_TRUE(domain.Init({.bounce_size = 8 * kPage}).ok());
  for (int round = 0; round < 3; ++round) {
    std::vector<Mapping> maps;
    for (int i = 0; i < 7; ++i) {
      const auto m = domain.Map(at, 1, kTo);
      ASSERT_TRUE(m.ok());
      maps.push_back(*m);
    }
    EXPECT_EQ(ErrorOf(domain.Map(at, 1, kTo)), Error::kNoSpace);
    for (const Mapping& m : maps) EXPECT_TRUE(domain.Unmap(m).ok());
    EXPECT_TRUE(domain.CheckInvariants());
    const auto all = domain.Map(at, buffer.size(), kTo);
    ASSERT_TRUE(all.ok()) << ToString(all.error());
    EXPECT_TRUE(domain.Unmap(*all).ok());
    EXPECT_TRUE(domain.CheckInvariants());
  }
  EXPECT_EQ(domain.stats().maps, 3 * 8u) << "and not one that was refused";
  EXPECT_EQ(domain.stats().high_water, 7u);
}

// Runs of slots are kept by their length, up to a share of the space; the rest
// is freed, and lengths that are not asked for any more make room.
TEST(DomainParked, KeepsRunsByTheirLength) {
  constexpr std::uint64_t kWindow = 1024;  // pages: 31 of them in runs
  Bytes buffer(24 * kPage);
  const PhysAddr at = PhysAddrOf(buffer.data());
  Domain<> domain;
  ASSERT_TRUE(domain.Init({.bounce_size = kWindow * kPage}).ok());
  const auto map = [&](std::uint64_t pages) {
    const auto m = domain.Map(at, pages * kPage, kTo);
    EXPECT_TRUE(m.ok());
    return m.ok() ? *m : Mapping{};
  };
  for (const std::uint64_t pages : {2u, 5u, 17u}) {
    // The first end makes room, or finds it full and makes room; the second
    // parks.
    for (int i = 0; i < 2; ++i) EXPECT_TRUE(domain.Unmap(map(pages)).ok());
    const Mapping kept = map(pages);
    const Mapping other = map(pages + 1);
    EXPECT_TRUE(domain.Unmap(kept).ok());
    const Mapping again = map(pages);
    EXPECT_EQ(again.iova, kept.iova) << pages;
    EXPECT_NE(again.tag, kept.tag);
    EXPECT_EQ(ErrorOf(domain.Unmap(kept)), Error::kMismatch);
    EXPECT_TRUE(domain.Unmap(again).ok());
    EXPECT_TRUE(domain.Unmap(other).ok());
    EXPECT_EQ(ErrorOf(domain.Unmap(again)), Error::kNotMapped);
    EXPECT_TRUE(domain.CheckInvariants());
  }
  // More at a time than are kept, and nothing is in anybody's way.
  std::vector<Mapping> maps;
  for (int i = 0; i < 60; ++i) maps.push_back(map(8));
  for (const Mapping& m : maps) EXPECT_TRUE(domain.Unmap(m).ok());
  EXPECT_TRUE(domain.CheckInvariants());
  maps.clear();
  for (std::uint64_t i = 0; i < kWindow - 1; ++i) maps.push_back(map(1));
  EXPECT_EQ(ErrorOf(domain.Map(at, 1, kTo)), Error::kNoSpace);
  for (const Mapping& m : maps) EXPECT_TRUE(domain.Unmap(m).ok());
  EXPECT_TRUE(domain.CheckInvariants());
  EXPECT_EQ(domain.stats().live, 0u);
  EXPECT_TRUE(domain.Shutdown([](const Leak&) { ADD_FAILURE(); }).ok());
}

// More than one parks, and a mapping that is over is known in a parked slot.
TEST(DomainParked, HoldsSomeAndFreesTheRest) {
  Bytes buffer(1);
  Domain<> domain;
  ASSERT_TRUE(domain.Init({.bounce_size = 256 * kPage}).ok());
  for (int round = 0; round < 2; ++round) {
    std::vector<Mapping> maps;
    for (int i = 0; i < 100; ++i) {
      const auto m = domain.Map(PhysAddrOf(buffer.data()), 1, kTo);
      ASSERT_TRUE(m.ok());
      maps.push_back(*m);
    }
    for (const Mapping& m : maps) EXPECT_TRUE(domain.Unmap(m).ok());
    for (const Mapping& m : maps) {
      EXPECT_EQ(ErrorOf(domain.Unmap(m)), Error::kNotMapped);
    }
    EXPECT_TRUE(domain.CheckInvariants());
  }
  EXPECT_EQ(domain.stats().live, 0u);
  EXPECT_TRUE(domain.Shutdown([](const Leak&) { ADD_FAILURE(); }).ok());
}

TEST_F(DomainTest, ShutdownReportsWhatIsLive) {
  const auto a = domain.Map(buffer_address, 100, kFrom);
  const auto b = domain.AllocateCoherent(5);
  std::vector<Leak> leaks;
  const auto report = [&](const Leak& leak) {
    leaks.push_back(leak);
    EXPECT_EQ(domain.stats().live, 1u) << "the domain may be asked meanwhile";
  };
  EXPECT_EQ(ErrorOf(domain.Shutdown(report)), Error::kBusy);
  ASSERT_EQ(leaks.size(), 2u);
  EXPECT_EQ(leaks[0].kind, Leak::Kind::kStream);
  EXPECT_EQ(leaks[0].range, *Range::FromSize(a->iova, 100));
  EXPECT_EQ(leaks[0].memory, buffer_address);
  EXPECT_EQ(leaks[0].direction, kFrom);
  EXPECT_EQ(leaks[0].tag, a->tag);
  EXPECT_EQ(leaks[1].kind, Leak::Kind::kCoherent);
  EXPECT_EQ(leaks[1].range, *Range::FromSize(b->iova, 5));
  EXPECT_EQ(leaks[1].memory, PhysAddrOf(b->cpu));
  EXPECT_EQ(domain.ReportLeaks([](const Leak&) {}), 2u);

  ASSERT_TRUE(domain.Unmap(*a).ok()) << "the domain went on";
  ASSERT_TRUE(domain.FreeCoherent(*b).ok());
  leaks.clear();
  EXPECT_TRUE(domain.Shutdown(report).ok());
  EXPECT_TRUE(leaks.empty());
  EXPECT_EQ(domain.invalidation().all, 1u);
  EXPECT_EQ(ErrorOf(domain.Shutdown(report)), Error::kShutDown);
  EXPECT_EQ(ErrorOf(domain.Map(buffer_address, 1, kTo)), Error::kShutDown);
  EXPECT_EQ(ErrorOf(domain.AllocateCoherent(1)), Error::kShutDown);
}

TEST_F(DomainTest, ForcedShutdownEndsAllAndCopiesNothingBack) {
  const Bytes original = buffer;
  const auto a = domain.Map(buffer_address, 100, kFrom);
  ASSERT_TRUE(port.Write(a->iova, Pattern(50, 9).data(), 50).ok());
  const auto b = domain.AllocateCoherent(5);
  std::uint64_t leaks = 0;
  EXPECT_TRUE(
      domain.Shutdown([&](const Leak&) { ++leaks; }, Teardown::kForce).ok());
  EXPECT_EQ(leaks, 2u);
  EXPECT_EQ(buffer, original);
  EXPECT_EQ(ErrorOf(domain.Unmap(*a)), Error::kShutDown);
  EXPECT_EQ(ErrorOf(domain.FreeCoherent(*b)), Error::kShutDown);
  EXPECT_EQ(ErrorOf(domain.SyncForCpu(*a, 0, 1)), Error::kShutDown);
  EXPECT_EQ(ErrorOf(domain.Fault(a->iova)), Error::kNotMapped);
  EXPECT_EQ(domain.stats().quarantined, 2u);
}

TEST(DomainDestructor, FreesAllMemoryAlsoWithLiveMappings) {
  Bytes buffer(100);
  WatchedDomain domain;  // the leak checker is the judge
  ASSERT_TRUE(domain.Init({}).ok());
  const auto m = domain.Map(PhysAddrOf(buffer.data()), 100, kFrom);
  ASSERT_TRUE(domain.Fault(m->iova).ok());
  ASSERT_TRUE(domain.AllocateCoherent(100).ok());
}

struct LeakLog {
  std::vector<Leak> leaks;
  static void Add(void* context, const Leak& leak) {
    static_cast<LeakLog*>(context)->leaks.push_back(leak);
  }
  DomainOptions Options() {
    return {.on_leak = &LeakLog::Add, .leak_context = this};
  }
};

TEST(DomainDestructor, ReportsWhatIsStillLive) {
  Bytes buffer(200);
  const PhysAddr at = PhysAddrOf(buffer.data());
  LeakLog log;
  std::vector<Range> live;
  {
    Domain<> domain;
    ASSERT_TRUE(domain.Init(log.Options()).ok());
    const auto a = domain.Map(at, 100, kFrom);
    const auto gone = domain.Map(at, 7, kTo);
    const auto b = domain.Map(at + 100, 50, kTo);
    const auto c = domain.AllocateCoherent(5);
    ASSERT_TRUE(domain.Unmap(*gone).ok());
    live = {*Range::FromSize(a->iova, 100), *Range::FromSize(b->iova, 50),
            *Range::FromSize(c->iova, 5)};
    EXPECT_TRUE(log.leaks.empty());
  }
  const auto earlier = [](Range x, Range y) { return x.first() < y.first(); };
  std::sort(live.begin(), live.end(), earlier);
  ASSERT_EQ(log.leaks.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(log.leaks[i].range, live[i]);
  EXPECT_EQ(log.leaks[0].kind, Leak::Kind::kStream);
  EXPECT_EQ(log.leaks[2].kind, Leak::Kind::kCoherent);
}

TEST(DomainDestructor, SaysNothingOfWhatShutdownReported) {
  Bytes buffer(100);
  LeakLog log;
  for (const bool force : {false, true}) {
    Domain<> domain;
    ASSERT_TRUE(domain.Init(log.Options()).ok());
    const auto m = domain.Map(PhysAddrOf(buffer.data()), 100, kFrom);
    ASSERT_TRUE(force || domain.Unmap(*m).ok());
    std::uint64_t reported = 0;
    ASSERT_TRUE(
        domain
            .Shutdown([&](const Leak&) { ++reported; },
                      force ? Teardown::kForce : Teardown::kRefuseIfLive)
            .ok());
    EXPECT_EQ(reported, force ? 1u : 0u);
  }
  {
    Domain<> never;  // no Init, or one that failed: nobody to tell
    DomainOptions bad = log.Options();
    bad.bounce_size = 1;
    EXPECT_FALSE(never.Init(bad).ok());
  }
  EXPECT_TRUE(log.leaks.empty());
}

// One bounce page of 4 KiB, slots of 64 bytes: mappings share it.
struct SharedBouncePage : testing::Test {
  SharedBouncePage() {
    EXPECT_TRUE(domain
                    .Init({.limit = Iova(4 * kPage - 1),
                           .bounce_size = kPage,
                           .page = *PageSize::FromBytes(64),
                           .bounce_page = *PageSize::FromBytes(kPage),
                           .sharing = PageSharing::kOwner})
                    .ok());
  }
  ~SharedBouncePage() override { EXPECT_TRUE(domain.CheckInvariants()); }

  Domain<> domain;
  Bytes shown = Pattern(128, 1);
  Bytes secret = Pattern(100, 2);
};

TEST_F(SharedBouncePage, TranslateNeverShowsAWriteOnlyMapping) {
  const auto lower = domain.Map(PhysAddrOf(shown.data()), 128, kTo);
  const auto from = domain.Map(PhysAddrOf(secret.data()), 100, kFrom);
  const auto upper = domain.Map(PhysAddrOf(shown.data()), 128, kBoth);
  ASSERT_TRUE(upper.ok());
  ASSERT_TRUE(domain.Fault(from->iova).ok()) << "the page is there, and filled";
  const Range hidden = *Range::FromSize(from->iova, 100);
  for (std::uint64_t at = 0; at < kPage; ++at) {
    for (const Permission p : {Permission::kRead, Permission::kReadWrite}) {
      const auto view = domain.Translate(Iova(at), kPage, p);
      if (!view.ok()) {
        if (hidden.Contains(Iova(at))) {
          ASSERT_EQ(view.error(), Error::kPermission);
        }
        continue;
      }
      ASSERT_FALSE(hidden.Overlaps(*Range::FromSize(Iova(at), view->length)))
          << at;
    }
  }
  EXPECT_EQ(domain.Translate(lower->iova, kPage, Permission::kRead)->length,
            128u);
  EXPECT_EQ(domain.Translate(from->iova, kPage, Permission::kWrite)->length,
            100u);
  EXPECT_TRUE(domain.UnmapScatter(std::vector{*lower, *from, *upper}).ok());
}

// The price of a shared page, as options.h states it: what guarantee 2 needs on
// the page is within sight of a device that may read a neighbour.
TEST_F(SharedBouncePage, FaultShowsAllMappingsWithTheirPermissionsTogether) {
  const auto from = domain.Map(PhysAddrOf(secret.data()), 100, kFrom);
  EXPECT_EQ(domain.Fault(from->iova)->permission, Permission::kWrite);
  const auto to = domain.Map(PhysAddrOf(shown.data()), 128, kTo);
  const FaultPage page = *domain.Fault(to->iova);
  EXPECT_EQ(page.permission, Permission::kReadWrite);
  std::byte* const there = page.page + (from->iova - page.range.first());
  EXPECT_EQ(Bytes(there, there + 100), secret);

  // A short write keeps the rest: why the bytes must be there.
  Bytes expected = secret;
  there[0] = expected[0] = std::byte{0};
  ASSERT_TRUE(domain.Unmap(*from).ok());
  EXPECT_EQ(secret, expected);

  // The way out that options.h names.
  const auto zeros = domain.Map(PhysAddrOf(secret.data()), 100, kFrom,
                                MapAttributes::kDeviceOverwritesAll);
  std::byte* const blank = page.page + (zeros->iova - page.range.first());
  EXPECT_EQ(Bytes(blank, blank + 100), Bytes(100));
  EXPECT_TRUE(domain.UnmapScatter(std::vector{*to, *zeros}).ok());
}

// What a device reaches through the page of `m`: a byte that is no zero, and
// is not `mine`.
template <class D>
bool SeesOthers(D& domain, const Mapping& m, std::byte mine) {
  const auto page = domain.Fault(m.iova);
  EXPECT_TRUE(page.ok());
  return std::any_of(
      page->page, page->page + page->range.size(),
      [&](std::byte b) { return b != mine && b != std::byte{}; });
}

// Six buffers, each of one value, of three owners; bounce pages of `bounce`.
struct SharingTest : testing::TestWithParam<std::uint64_t> {
  static constexpr std::uint32_t kOwners = 3;
  void Init(PageSharing sharing) {
    const std::uint64_t bounce = GetParam();
    ASSERT_TRUE(domain
                    .Init({.bounce_size = 24 * bounce,
                           .page = *PageSize::FromBytes(256),
                           .bounce_page = *PageSize::FromBytes(bounce),
                           .sharing = sharing,
                           .owners = kOwners})
                    .ok());
    for (std::uint32_t i = 0; i < 6; ++i) {
      buffers[i].assign(200, ValueOf(i));
      const auto m = domain.For(BufferOwner{i % kOwners})
                         .Map(PhysAddrOf(buffers[i].data()), 200, kBoth);
      ASSERT_TRUE(m.ok());
      maps.push_back(*m);
    }
  }
  static std::byte ValueOf(std::uint32_t i) {
    return static_cast<std::byte>(0x11 * (i + 1));
  }
  ~SharingTest() override {
    EXPECT_TRUE(domain.UnmapScatter(maps).ok());
    EXPECT_TRUE(domain.CheckInvariants());
  }

  Domain<> domain;
  std::array<Bytes, 6> buffers;
  std::vector<Mapping> maps;
};

TEST_P(SharingTest, NothingGivesEachBufferItsOwnPage) {
  Init(PageSharing::kNothing);
  for (std::uint32_t i = 0; i < 6; ++i) {
    EXPECT_FALSE(SeesOthers(domain, maps[i], ValueOf(i)));
    EXPECT_EQ(domain.Fault(maps[i].iova)->range.first(), maps[i].iova);
  }
  EXPECT_EQ(domain.pages().in_use(), 6 * GetParam());
}

TEST_P(SharingTest, OwnersMeetOnNoPageAndTheirBuffersTakeASlot) {
  Init(PageSharing::kOwner);
  for (std::uint32_t i = 0; i < 6; ++i) {
    const FaultPage page = *domain.Fault(maps[i].iova);
    // The two buffers of this owner, and nothing else.
    std::uint64_t own = 0;
    for (std::uint64_t k = 0; k < GetParam(); ++k) {
      const std::byte b = page.page[k];
      own += b == ValueOf(i % 3) || b == ValueOf(i % 3 + 3) ? 1 : 0;
      ASSERT_TRUE(b == std::byte{} || b == ValueOf(i % 3) ||
                  b == ValueOf(i % 3 + 3));
    }
    EXPECT_EQ(own, 400u);
    // All that this device can write: the other owners' buffers stay.
    std::memset(page.page, 0xEE, GetParam());
    for (std::uint32_t other = 0; other < 6; ++other) {
      EXPECT_TRUE(domain.SyncForCpu(maps[other], 0, 200).ok());
      const bool same = other % 3 <= i % 3;  // written now or before
      EXPECT_EQ(buffers[other],
                Bytes(200, same ? std::byte{0xEE} : ValueOf(other)));
    }
    if (i == 2) break;
  }
  EXPECT_EQ(domain.pages().in_use(), kOwners * GetParam());
}

// An owner that maps without end takes no address of another.
TEST_P(SharingTest, AnOwnerHasAShareOfTheSpace) {
  Init(PageSharing::kOwner);
  auto greedy = domain.For(BufferOwner{1});
  const auto skip = MapAttributes::kSkipSync;
  Result<Mapping> m = greedy.Map(PhysAddr(1), 1, kTo, skip);
  for (; m.ok(); m = greedy.Map(PhysAddr(1), 1, kTo, skip)) maps.push_back(*m);
  EXPECT_EQ(ErrorOf(m), Error::kNoSpace);
  EXPECT_EQ(maps.size(), 8 * GetParam() / 256 + 4) << "and four of the others";
  for (const std::uint32_t other : {0u, 2u}) {
    m = domain.For(BufferOwner{other}).Map(PhysAddr(1), 1000, kTo, skip);
    ASSERT_TRUE(m.ok());
    maps.push_back(*m);
  }
  EXPECT_EQ(ErrorOf(domain.For(BufferOwner{3}).Map(PhysAddr(1), 1, kTo, skip)),
            Error::kInvalidArgument);
}

// When a page is taken back from one owner the next one finds it zero.
TEST_P(SharingTest, APageChangesItsOwnerClean) {
  Init(PageSharing::kOwner);
  domain.pages().set_budget(GetParam());
  for (std::uint32_t i = 0; i < 3; ++i) {
    const FaultPage page = *domain.Fault(maps[i].iova);
    for (std::uint64_t k = 0; k < GetParam(); ++k) {
      const std::byte b = page.page[k];
      ASSERT_TRUE(b == std::byte{} || b == ValueOf(i) || b == ValueOf(i + 3));
    }
    std::memset(page.page, 0xEE, GetParam());
    if (i < 2) {
      EXPECT_EQ(ErrorOf(domain.Fault(maps[i + 1].iova)), Error::kBudget);
    }
    const Mapping mine[] = {maps[i], maps[i + 3]};
    ASSERT_TRUE(domain.UnmapScatter(mine).ok());
  }
  maps.clear();
  maps.push_back(*domain.Map(PhysAddr(1), 1, kTo, MapAttributes::kSkipSync));
}

INSTANTIATE_TEST_SUITE_P(BouncePages, SharingTest,
                         testing::Values(4096, 65536, 2097152));

TEST(DomainOffsets, TheAddressHasTheLowBitsOfTheBuffer) {
  Bytes buffer = Pattern(3 * kPage, 2);
  for (std::uint64_t mask : {0ull, 1ull, 0x3full, 0xfffull}) {
    Domain<> domain;
    ASSERT_TRUE(domain.Init({.min_align_mask = mask}).ok());
    DomainPort port(domain);
    for (std::size_t offset = 0; offset < kPage; offset += 37) {
      const PhysAddr at = PhysAddrOf(buffer.data()) + offset;
      const auto m = domain.Map(at, kPage, kBoth);
      ASSERT_EQ(m->iova.value() & mask, at.value() & mask);
      ASSERT_EQ(m->iova.value() & (kPage - 1), at.value() & mask);
      Bytes seen(kPage);
      ASSERT_TRUE(port.Read(m->iova, seen.data(), kPage).ok());
      ASSERT_EQ(std::memcmp(seen.data(), buffer.data() + offset, kPage), 0);
      // The padding in front of it and behind it is zero.
      const FaultPage first = *domain.Fault(m->iova);
      for (std::uint64_t i = 0; i < m->iova.value() % kPage; ++i) {
        ASSERT_EQ(first.page[i], std::byte{0});
      }
      ASSERT_TRUE(domain.Unmap(*m).ok());
    }
    EXPECT_TRUE(domain.CheckInvariants());
  }
}

TEST(DomainTop, TheCoherentSpaceMayEndWithTheAddressSpace) {
  // The last of 2^52 pages of 4 KiB, the most there may be.
  Domain<> domain;
  const PageSize page = PageSize();
  ASSERT_TRUE(domain
                  .Init({.limit = Iova::Max(),
                         .bounce_size = std::uint64_t{1} << 20,
                         .page = page})
                  .ok());
  const auto block = domain.AllocateCoherent(100);
  ASSERT_TRUE(block.ok());
  // Wherever it lies (the allocator may begin at the top), it is found, and a
  // walk over all addresses ends.
  EXPECT_TRUE(domain.Fault(block->iova)->range.Contains(block->iova + 4095));
  EXPECT_EQ(domain.ReportLeaks([](const Leak&) {}), 1u);
  EXPECT_TRUE(domain.CheckInvariants());
  EXPECT_TRUE(domain.FreeCoherent(*block).ok());
}

}  // namespace
}  // namespace dmamap
