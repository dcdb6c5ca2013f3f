// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// One test for each guarantee that bounce pages and domain keep, and for each
// row of the security record that concerns bounce buffers. A check is a
// function of a domain; it passes on Domain and on the model without a fault,
// and fails on the model that has the fault of old.
//
//   the record                          test, model (testing/faulty_domain.h)
//   CVE-2022-0854                       ShortDeviceWriteKeepsOriginal
//   CVE-2024-35814                      SlotsAreDisjointForAllOffsets
//   VDUSE 2021-2026, pages not zeroed   PagesAreZeroBeforeADeviceSeesThem
//   VDUSE, swiotlb, padding             PagesAreScrubbedWhenTheyChangeOwner
//   Thunderclap, sub-page neighbours    ThunderclapSubPageNeighbours,
//                                       SwiotlbTwoBuffersOnAPage
//   e2ae38cf3d91, 9059c62f1197          RangesAreInclusiveAndOverflowChecked
//   iova.c BUG (smartpqi)               BadFreesAreFoundBeforeTheyReachACache
//   VDUSE, map fails in the middle      VduseMapOfSeveralPagesFailsInTheMiddle
//   05063f55, the wrong alias removed   QemuTheNamedOfTwoAliasesEnds
//   VDUSE 2021, store-buffer race       bounce/fault_sched_test.cc, VduseMisses
//                                       AMapping (testing/vduse_bounce_map.h)

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "domain/domain.h"
#include "domain/parts_for_test.h"
#include "testing/faulty_domain.h"

namespace dmamap {
namespace {

using namespace faulty;         // NOLINT: the names of the faults
using namespace testing_parts;  // NOLINT: Real and its parts

constexpr auto kTo = Direction::kToDevice;
constexpr auto kFrom = Direction::kFromDevice;
constexpr auto kBoth = Direction::kBidirectional;
constexpr std::uint64_t kPage = FaultyDomain::kPage;

struct Real : WatchedDomain {
  explicit Real(std::uint64_t min_align_mask = 0) {
    EXPECT_TRUE(Init({.limit = Iova(64 * kPage - 1),
                      .bounce_size = FaultyDomain::kPages * kPage,
                      .min_align_mask = min_align_mask})
                    .ok());
  }
};

// What a check needs beside Map, Unmap, SyncForCpu and Fault.
template <class F>
void OnInvalidate(Real& d, F f) {
  d.invalidation().hook = [&d, f](Range r) { d.invalidation().fail = !f(r); };
}
template <class F>
void OnInvalidate(FaultyDomain& d, F f) {
  d.invalidate = [f](Range r) {
    return f(r) ? Ok() : Result<void>(Error::kDevice);
  };
}
// A Map of two pages of `at` fails half way.
Result<Mapping> FailingMap(Real& d, PhysAddr at) {
  const auto warm = d.Map(at, 2 * kPage, kTo);
  EXPECT_TRUE(d.Fault(warm->iova).ok() && d.Fault(warm->iova + kPage).ok());
  EXPECT_TRUE(d.Unmap(*warm).ok());
  d.memory().hole = *PhysRange::FromSize(at + kPage, 1);
  const auto m = d.Map(at, 2 * kPage, kTo);
  d.memory().hole.reset();
  return m;
}
Result<Mapping> FailingMap(FaultyDomain& d, PhysAddr at) {
  d.fail_next_page = true;
  return d.Map(at, 2 * kPage, kTo);
}

bool IsZero(const std::byte* p, std::size_t n) {
  return std::all_of(p, p + n, [](std::byte b) { return b == std::byte{0}; });
}
bool Overlap(const Mapping& a, const Mapping& b) {
  return Range::FromSize(a.iova, a.size)
      ->Overlaps(*Range::FromSize(b.iova, b.size));
}

// Leaves bytes of somebody else in page after page of freed memory.
void DirtyTheHeap() {
  std::vector<std::unique_ptr<Bytes>> old;
  for (int i = 0; i < 64; ++i) {
    old.push_back(std::make_unique<Bytes>(kPage, std::byte{0x5A}));
  }
}

// --- The checks: true if the guarantee holds ---

template <class D>
bool PagesAreZeroBeforeFirstSight(D& d) {
  DirtyTheHeap();
  Bytes buffer = Pattern(64, 1);
  const auto m = d.Map(PhysAddrOf(buffer.data()), 64, kTo);
  const auto page = d.Fault(m->iova);
  return std::memcmp(page->page, buffer.data(), 64) == 0 &&
         IsZero(page->page + 64, kPage - 64);
}

template <class D>
bool PagesAreScrubbedWhenTheyChangeOwner(D& d) {
  Bytes secret(kPage, std::byte{0x55});
  const auto old = d.Map(PhysAddrOf(secret.data()), kPage, kTo);
  (void)d.Fault(old->iova).ok();
  if (!d.Unmap(*old).ok()) return false;
  Bytes buffer = Pattern(64, 1);
  const auto m = d.Map(PhysAddrOf(buffer.data()), 64, kTo);
  const auto page = d.Fault(m->iova);
  return std::memcmp(page->page, buffer.data(), 64) == 0 &&
         IsZero(page->page + 64, kPage - 64);
}

// The device writes 100 of 1500 bytes, into a page another mapping had before.
template <class D>
bool ShortDeviceWriteKeepsOriginal(D& d) {
  Bytes secret(kPage, std::byte{0x55});
  const auto old = d.Map(PhysAddrOf(secret.data()), kPage, kTo);
  (void)d.Fault(old->iova).ok();
  if (!d.Unmap(*old).ok()) return false;
  Bytes buffer = Pattern(1500, 2);
  Bytes expected = buffer;
  const auto m = d.Map(PhysAddrOf(buffer.data()), 1500, kFrom);
  std::memset(d.Fault(m->iova)->page, 0x77, 100);
  std::fill_n(expected.begin(), 100, std::byte{0x77});
  return d.Unmap(*m).ok() && buffer == expected;
}

// A hostile device writes all of every page that it sees.
template <class D>
bool NothingOutsideTheBufferIsCopiedBack(D& d) {
  Bytes arena = Pattern(2 * kPage, 3);
  Bytes expected = arena;
  const auto m = d.Map(PhysAddrOf(arena.data()) + 1000, 100, kFrom);
  std::memset(d.Fault(m->iova)->page, 0x77, kPage);
  std::fill_n(expected.begin() + 1000, 100, std::byte{0x77});
  return d.SyncForCpu(*m, 0, 100).ok() && arena == expected &&
         d.Unmap(*m).ok() && arena == expected;
}

template <class D>
bool SyncAndUnmapGoByTheRecord(D& d) {
  Bytes arena = Pattern(2 * kPage, 4);
  const Bytes original = arena;
  const auto m = d.Map(PhysAddrOf(arena.data()), 100, kFrom);
  std::memset(d.Fault(m->iova)->page, 0x77, kPage);
  Mapping lie = *m;
  lie.size = 200;
  const bool refused = !d.SyncForCpu(*m, 0, 200).ok() &&
                       !d.SyncForCpu(lie, 0, 200).ok() && !d.Unmap(lie).ok();
  return refused && arena == original && d.Unmap(*m).ok();
}

template <class D>
bool RangesAreInclusive(D& d) {
  const auto skip = MapAttributes::kSkipSync;
  const PhysAddr top(~std::uint64_t{0} - 99);
  const auto last = d.Map(top, 100, kTo, skip);
  if (!last.ok() || !d.Unmap(*last, skip).ok()) return false;
  return !d.Map(top, 101, kTo, skip).ok() && !d.Map(top, 0, kTo, skip).ok() &&
         !d.Fault(Iova::Max()).ok();
}

template <class D>
bool BadFreesDoNotPoisonTheAddresses(D& d) {
  Bytes buffer = Pattern(kPage, 5);
  const PhysAddr at = PhysAddrOf(buffer.data());
  const auto a = d.Map(at, 100, kTo);
  const auto b = d.Map(at, 100, kTo);
  if (!d.Unmap(*b).ok() || d.Unmap(*b).ok()) return false;
  Mapping foreign = *a;
  foreign.iova = a->iova + 1;
  if (d.Unmap(foreign).ok()) return false;
  std::vector<Mapping> live = {*a};
  for (auto m = d.Map(at, 100, kTo); m.ok(); m = d.Map(at, 100, kTo)) {
    for (const Mapping& other : live) {
      if (Overlap(*m, other)) return false;
    }
    live.push_back(*m);
  }
  return live.size() == FaultyDomain::kPages - 1;
}

// During the invalidation every free address is asked for.
template <class D>
bool NoAddressIsReusedBeforeItsInvalidation(D& d) {
  Bytes buffer = Pattern(kPage, 6);
  const PhysAddr at = PhysAddrOf(buffer.data());
  bool good = true;
  int calls = 0;
  OnInvalidate(d, [&](Range range) {
    ++calls;
    std::vector<Mapping> taken;
    for (auto m = d.Map(at, 100, kTo); m.ok(); m = d.Map(at, 100, kTo)) {
      good = good && !range.Overlaps(*Range::FromSize(m->iova, 100));
    }
    good = good && !d.Fault(range.first()).ok();
    return true;
  });
  const auto m = d.Map(at, 100, kTo);
  return d.Unmap(*m).ok() && good && calls == 1;
}

template <class D>
bool AFailedInvalidationIsQuarantine(D& d) {
  Bytes buffer = Pattern(kPage, 6);
  const PhysAddr at = PhysAddrOf(buffer.data());
  OnInvalidate(d, [](Range) { return false; });
  const auto gone = d.Map(at, 100, kTo);
  if (d.Unmap(*gone).ok() || d.Unmap(*gone).ok()) return false;
  for (auto m = d.Map(at, 100, kTo); m.ok(); m = d.Map(at, 100, kTo)) {
    if (Overlap(*m, *gone)) return false;
  }
  return true;
}

// Two mappings at each offset; each writes and sees its own bytes alone.
template <class D>
bool SlotsOfLiveMappingsAreDisjoint(D& d) {
  Bytes a = Pattern(3 * kPage, 1);
  Bytes b = Pattern(3 * kPage, 2);
  for (std::uint64_t offset = 0; offset < kPage; offset += 509) {
    for (std::uint64_t size : {std::uint64_t{1}, kPage - 1, kPage, kPage + 1}) {
      const auto x = d.Map(PhysAddrOf(a.data()) + offset, size, kTo);
      const auto y = d.Map(PhysAddrOf(b.data()) + offset, size, kTo);
      const auto slots = [](const Mapping& m) {
        return Range::FromSize(m.iova, m.size)->RoundOutToPages(PageSize());
      };
      if (slots(*x).Overlaps(slots(*y))) return false;
      if (!d.Unmap(*x).ok() || !d.Unmap(*y).ok()) return false;
    }
  }
  return true;
}

template <class D>
bool AFailedMapLeavesNothingMapped(D& d) {
  Bytes buffer = Pattern(2 * kPage, 7);
  if (FailingMap(d, PhysAddrOf(buffer.data())).ok()) return false;
  for (std::uint64_t page = 0; page < FaultyDomain::kPages; ++page) {
    if (d.Fault(Iova(page * kPage)).ok()) return false;
  }
  return true;
}

// A buffer amid foreign bytes of its page: the device sees none of these, and
// what it writes over them goes nowhere.
template <class D>
bool NeighboursOnTheBuffersPageAreOutOfReach(D& d) {
  Bytes memory = Pattern(3 * kPage, 8);
  const PhysAddr page(PageSize().RoundDown(PhysAddrOf(&memory[kPage]).value()));
  const Bytes original = memory;
  const auto m = d.Map(page + 1024, 64, kBoth);
  const auto seen = d.Fault(m->iova);
  const std::uint64_t at = m->iova.value() % kPage;
  for (std::uint64_t i = 0; i < kPage; ++i) {
    const bool own = i >= at && i < at + 64;
    if (!own && seen->page[i] != std::byte{0}) return false;
  }
  std::memset(seen->page, 0x77, kPage);
  if (!d.Unmap(*m).ok()) return false;
  const std::byte* const first = PointerTo(page) + 1024;
  for (std::size_t i = 0; i < memory.size(); ++i) {
    const bool own = &memory[i] >= first && &memory[i] < first + 64;
    if (memory[i] != (own ? std::byte{0x77} : original[i])) return false;
  }
  return true;
}

// Two small buffers, side by side on a page of memory too.
template <class D>
bool BuffersMeetOnNoVisiblePage(D& d) {
  Bytes memory = Pattern(3 * kPage, 9);
  const PhysAddr page(PageSize().RoundDown(PhysAddrOf(&memory[kPage]).value()));
  const auto a = d.Map(page + 100, 64, kTo);
  const auto b = d.Map(page + 164, 64, kTo);
  for (const Mapping& m : {*a, *b}) {
    const auto seen = d.Fault(m.iova);
    const std::uint64_t at = m.iova.value() % kPage;
    for (std::uint64_t i = 0; i < kPage; ++i) {
      const bool own = i >= at && i < at + 64;
      if (!own && seen->page[i] != std::byte{0}) return false;
    }
  }
  return d.Unmap(*a).ok() && d.Unmap(*b).ok();
}

// One buffer mapped twice: the one that is named ends, the other one lives.
template <class D>
bool TheNamedAliasEnds(D& d) {
  Bytes buffer = Pattern(100, 10);
  const auto first = d.Map(PhysAddrOf(buffer.data()), 100, kTo);
  const auto second = d.Map(PhysAddrOf(buffer.data()), 100, kTo);
  return d.Unmap(*second).ok() && !d.Fault(second->iova).ok() &&
         d.Fault(first->iova).ok() && !d.Unmap(*second).ok() &&
         d.Unmap(*first).ok() && !d.Fault(first->iova).ok();
}

// `check` holds on the domain and on the model without a fault, and not with.
#define DMAMAP_CHECK_GUARANTEE(check, fault, ...)           \
  do {                                                      \
    Real real{__VA_ARGS__};                                 \
    EXPECT_TRUE(check(real));                               \
    FaultyDomain good(kNoFault __VA_OPT__(, ) __VA_ARGS__); \
    EXPECT_TRUE(check(good)) << "the check is wrong";       \
    FaultyDomain bad(fault __VA_OPT__(, ) __VA_ARGS__);     \
    EXPECT_FALSE(check(bad)) << "the check is blind";       \
  } while (false)

TEST(Guarantee1, PagesAreZeroBeforeADeviceSeesThem) {
  DMAMAP_CHECK_GUARANTEE(PagesAreZeroBeforeFirstSight, kDirtyPages);
}
TEST(Guarantee1, PagesAreScrubbedWhenTheyChangeOwner) {
  DMAMAP_CHECK_GUARANTEE(PagesAreScrubbedWhenTheyChangeOwner, kPaddingStays);
}
TEST(Guarantee2, ShortDeviceWriteKeepsOriginal) {
  DMAMAP_CHECK_GUARANTEE(ShortDeviceWriteKeepsOriginal, kNoCopyIn);
}
TEST(Guarantee3, NoByteOutsideIsCopiedBack) {
  DMAMAP_CHECK_GUARANTEE(NothingOutsideTheBufferIsCopiedBack, kWholePageBack);
}
TEST(Guarantee3, NoByteOutsideIsShown) {
  DMAMAP_CHECK_GUARANTEE(NeighboursOnTheBuffersPageAreOutOfReach, kDirect);
  DMAMAP_CHECK_GUARANTEE(NeighboursOnTheBuffersPageAreOutOfReach, kDirect,
                         kPage - 1);
}
TEST(Guarantee4, SyncAndUnmapAreBoundedByTheRecordedMapping) {
  DMAMAP_CHECK_GUARANTEE(SyncAndUnmapGoByTheRecord, kTrustsCaller);
}
TEST(Guarantee8, RangesAreInclusiveAndOverflowChecked) {
  DMAMAP_CHECK_GUARANTEE(RangesAreInclusive, kExclusiveEnd);
}
TEST(Guarantee9, BadFreesAreFoundBeforeTheyReachACache) {
  DMAMAP_CHECK_GUARANTEE(BadFreesDoNotPoisonTheAddresses, kNoFreeCheck);
}
TEST(Guarantee10, NoAddressIsReusedBeforeItsInvalidation) {
  DMAMAP_CHECK_GUARANTEE(NoAddressIsReusedBeforeItsInvalidation, kFreesEarly);
}
TEST(Guarantee10, AFailedInvalidationIsQuarantine) {
  DMAMAP_CHECK_GUARANTEE(AFailedInvalidationIsQuarantine, kFreesAnyway);
}
TEST(SecurityRecord, Cve202435814SlotsAreDisjointForAllOffsets) {
  DMAMAP_CHECK_GUARANTEE(SlotsOfLiveMappingsAreDisjoint, kForgetsOffset,
                         kPage - 1);
  for (const std::uint64_t mask : {0x0u, 0x3fu, 0x1ffu, 0x7ffu}) {
    Real real(mask);
    EXPECT_TRUE(SlotsOfLiveMappingsAreDisjoint(real)) << mask;
  }
}
TEST(SecurityRecord, SwiotlbTwoBuffersOnAPage) {
  DMAMAP_CHECK_GUARANTEE(BuffersMeetOnNoVisiblePage, kSharesPage);
  DMAMAP_CHECK_GUARANTEE(BuffersMeetOnNoVisiblePage, kSharesPage, kPage - 1);
}
TEST(SecurityRecord, QemuTheNamedOfTwoAliasesEnds) {
  DMAMAP_CHECK_GUARANTEE(TheNamedAliasEnds, kRemovesAlias);
}
TEST(SecurityRecord, VduseMapOfSeveralPagesFailsInTheMiddle) {
  DMAMAP_CHECK_GUARANTEE(AFailedMapLeavesNothingMapped, kNoUndo);
}
TEST(SecurityRecord, ThunderclapSubPageNeighbours) {
  DMAMAP_CHECK_GUARANTEE(NeighboursOnTheBuffersPageAreOutOfReach, kDirect);
}

// Guarantee 10 for coherent memory, and what a domain says of quarantine.
TEST(Guarantee10, CoherentMemoryOfAFailedInvalidationIsKept) {
  Real d;
  const auto block = d.AllocateCoherent(100);
  d.invalidation().fail = true;
  const auto r = d.FreeCoherent(*block);
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error(), Error::kDevice);
  EXPECT_EQ(d.stats().quarantined, 1u);
  EXPECT_EQ(d.pages().inner.in_use(), kPage) << "a device may write to it";
  EXPECT_FALSE(d.Fault(block->iova).ok());
  for (auto b = d.AllocateCoherent(1); b.ok(); b = d.AllocateCoherent(1)) {
    EXPECT_NE(b->iova, block->iova);
  }
  EXPECT_TRUE(d.CheckInvariants());
}

TEST(Guarantee10, BouncePagesOfAFailedInvalidationAreKept) {
  Real d;
  Bytes buffer = Pattern(100, 1);
  const auto m = d.Map(PhysAddrOf(buffer.data()), 100, kFrom);
  std::memset(d.Fault(m->iova)->page, 0x77, 50);
  d.invalidation().fail = true;
  const auto r = d.Unmap(*m);
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error(), Error::kDevice);
  EXPECT_EQ(buffer[49], std::byte{0x77}) << "the driver has its bytes";
  EXPECT_EQ(d.ReclaimIdle(), 0u);
  EXPECT_EQ(d.pages().inner.in_use(), kPage);
  EXPECT_TRUE(d.CheckInvariants());
}

}  // namespace
}  // namespace dmamap
