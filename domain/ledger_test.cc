// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "domain/domain.h"
#include "domain/ledger_mapper.h"

namespace dmamap {
namespace {

constexpr auto kTo = Direction::kToDevice;
constexpr auto kFrom = Direction::kFromDevice;
constexpr auto kBoth = Direction::kBidirectional;
using OffMapper = LedgerMapper<Domain<>, LedgerOff>;
using OnMapper = LedgerMapper<Domain<>>;
static_assert(CoherentMapper<OffMapper> && CoherentMapper<OnMapper>);
static_assert(CoherentMapper<OwnedLedgerMapper<OnMapper>>);
static_assert(sizeof(OffMapper) == sizeof(void*));

// What the sink was told; entries are copied, as they do not last.
struct Told {
  Complaint c;
  LedgerEntry entry;
  LedgerEntry other;
};

class LedgerTest : public testing::Test {
 protected:
  explicit LedgerTest(const LedgerOptions& options = {.entries = 64}) {
    EXPECT_TRUE(domain_
                    .Init({.limit = Iova(0xff'ffff),
                           .bounce_size = std::uint64_t{1} << 20})
                    .ok());
    EXPECT_TRUE(
        dma_.Init(options, {.on_complaint = Take, .context = this}).ok());
  }
  ~LedgerTest() override { EXPECT_TRUE(dma_.CheckInvariants()); }

  static void Take(void* context, const Complaint& c) {
    auto* const self = static_cast<LedgerTest*>(context);
    Told told{c, {}, {}};
    if (c.entry != nullptr) told.entry = *c.entry;
    if (c.other != nullptr) told.other = *c.other;
    self->told_.push_back(told);
  }
  // The only thing that was complained of since the last question.
  Told Only(Misuse misuse) {
    const std::vector<Told> all = std::exchange(told_, {});
    EXPECT_EQ(all.size(), 1u) << ToString(misuse);
    if (all.size() != 1) return {};
    EXPECT_EQ(all[0].c.misuse, misuse) << ToString(all[0].c.misuse);
    return all[0];
  }
  PhysAddr At(std::size_t offset) {
    return PhysAddrOf(buffer_.data()) + offset;
  }
  Mapping MapOk(PhysAddr at, std::uint64_t size, Direction direction) {
    auto m = dma_.Map(at, size, direction);
    EXPECT_TRUE(m.ok());
    return *m;
  }

  std::array<std::byte, 16384> buffer_ = {};
  std::vector<Told> told_;
  Domain<> domain_;
  OnMapper dma_{domain_};
};

TEST_F(LedgerTest, CorrectUseMakesNoComplaint) {
  auto m = dma_.Map(At(0), 1500, kFrom);
  ASSERT_TRUE(m.ok());
  const Mapping beside = MapOk(At(1500), 500, kFrom);
  const Mapping read = MapOk(At(4096), 500, kTo);
  const Mapping again = MapOk(At(4096), 500, kTo);  // two may read
  EXPECT_TRUE(dma_.SyncForCpu(*m, 100, 10).ok());
  EXPECT_TRUE(dma_.SyncForDevice(*m, 0, 1500).ok());
  const auto block = dma_.AllocateCoherent(100);
  ASSERT_TRUE(block.ok());
  EXPECT_TRUE(dma_.FreeCoherent(*block).ok());
  for (const Mapping& x : {*m, beside, read, again}) {
    EXPECT_TRUE(dma_.Unmap(x).ok());
  }
  EXPECT_EQ(dma_.AssertIdle(At(0), buffer_.size()), 0u);
  EXPECT_EQ(dma_.ReportLeaks(), 0u);
  EXPECT_TRUE(told_.empty());
  EXPECT_EQ(dma_.stats().recorded, 5u);
  EXPECT_EQ(dma_.stats().live, 0u);
  EXPECT_EQ(dma_.stats().high_water, 5u);
}

TEST_F(LedgerTest, ALeakNamesItsLineAndItsOwner) {
  auto rx = dma_.For("rx ring 0");
  const unsigned line = __LINE__ + 1;
  auto m = rx.Map(At(0), 100, kTo);
  ASSERT_TRUE(m.ok());
  const auto block = rx.AllocateCoherent(64);
  ASSERT_TRUE(block.ok());
  EXPECT_EQ(dma_.ReportLeaks(), 2u);
  ASSERT_EQ(told_.size(), 2u);
  const Told& leak = told_[told_[0].entry.coherent ? 1 : 0];
  EXPECT_EQ(leak.c.misuse, Misuse::kLeak);
  EXPECT_EQ(leak.entry.made.line, line);
  EXPECT_NE(std::strstr(leak.entry.made.file, "ledger_test"), nullptr);
  EXPECT_STREQ(leak.entry.owner, "rx ring 0");
  EXPECT_EQ(leak.entry.mapping, *m);
  EXPECT_EQ(leak.entry.buffer, At(0));
  EXPECT_TRUE(rx.Unmap(*m).ok() && rx.FreeCoherent(*block).ok());
}

TEST_F(LedgerTest, TheEndOfTheLedgerReportsLeaks) {
  Mapping m;
  {
    OnMapper dma(domain_);
    ASSERT_TRUE(dma.Init({}, {.on_complaint = Take, .context = this}).ok());
    auto made = dma.Map(At(0), 100, kTo);
    ASSERT_TRUE(made.ok());
    m = *made;
  }
  EXPECT_EQ(Only(Misuse::kLeak).entry.mapping, m);
  EXPECT_TRUE(domain_.Unmap(m).ok());
}

TEST_F(LedgerTest, ASecondUnmapNamesBothEndsAndTheBeginning) {
  const unsigned made = __LINE__ + 1;
  auto m = dma_.Map(At(0), 100, kTo);
  ASSERT_TRUE(m.ok());
  const unsigned ended = __LINE__ + 1;
  ASSERT_TRUE(dma_.Unmap(*m).ok());
  const unsigned again = __LINE__ + 1;
  EXPECT_FALSE(dma_.Unmap(*m).ok());
  const Told told = Only(Misuse::kBadUnmap);
  EXPECT_EQ(told.c.error, Error::kNotMapped);
  EXPECT_EQ(told.c.where.line, again);
  EXPECT_EQ(told.entry.made.line, made);
  EXPECT_EQ(told.entry.ended.line, ended);
}

TEST_F(LedgerTest, WrongSizeDirectionAndForeignUnmaps) {
  const Mapping m = MapOk(At(0), 100, kTo);
  Mapping lie = m;
  lie.size = 101;
  EXPECT_FALSE(dma_.Unmap(lie).ok());
  EXPECT_EQ(Only(Misuse::kBadUnmap).entry.mapping, m);
  lie = m;
  lie.direction = kFrom;
  EXPECT_FALSE(dma_.Unmap(lie).ok());
  EXPECT_EQ(Only(Misuse::kBadUnmap).c.error, Error::kMismatch);
  lie = m;
  lie.iova = m.iova + 4096;
  EXPECT_FALSE(dma_.Unmap(lie).ok());
  EXPECT_EQ(Only(Misuse::kBadUnmap).c.entry, nullptr);
  EXPECT_FALSE(dma_.SyncForCpu(m, 50, 51).ok());
  EXPECT_EQ(Only(Misuse::kBadSync).c.error, Error::kOutOfRange);
  EXPECT_FALSE(dma_.SyncForDevice(lie, 0, 1).ok());
  (void)Only(Misuse::kBadSync);
  EXPECT_TRUE(dma_.Unmap(m).ok());
  EXPECT_EQ(dma_.stats().live, 0u);
}

TEST_F(LedgerTest, BadFreesOfCoherentBlocks) {
  const auto block = dma_.AllocateCoherent(100);
  ASSERT_TRUE(block.ok());
  CoherentBlock lie = *block;
  lie.size = 99;
  EXPECT_FALSE(dma_.FreeCoherent(lie).ok());
  EXPECT_EQ(Only(Misuse::kBadFree).entry.mapping.size, 100u);
  EXPECT_EQ(dma_.stats().live, 1u);
  EXPECT_TRUE(dma_.FreeCoherent(*block).ok());
  EXPECT_FALSE(dma_.FreeCoherent(*block).ok());
  (void)Only(Misuse::kBadFree);
}

TEST_F(LedgerTest, OverlapsThatADeviceMayWriteThrough) {
  const Mapping first = MapOk(At(100), 100, kTo);
  const unsigned line = __LINE__ + 1;
  auto second = dma_.Map(At(199), 50, kFrom);  // one byte in common
  ASSERT_TRUE(second.ok());
  const Told told = Only(Misuse::kOverlap);
  EXPECT_EQ(told.c.where.line, line);
  EXPECT_EQ(told.entry.mapping, *second);
  EXPECT_EQ(told.other.mapping, first);
  EXPECT_TRUE(dma_.Unmap(*second).ok());
  const Mapping beside = MapOk(At(200), 50, kBoth);
  const Mapping whole = MapOk(At(0), 16384, kTo);  // finds the written one
  EXPECT_EQ(Only(Misuse::kOverlap).other.mapping, beside);
  for (const Mapping& m : {first, beside, whole}) {
    EXPECT_TRUE(dma_.Unmap(m).ok());
  }
}

struct CacheLines : LedgerTest {
  CacheLines() : LedgerTest({.entries = 8, .granule = 64}) {}
};
TEST_F(CacheLines, AGranuleWidensWhatOverlaps) {
  const std::size_t line = (64 - At(0).value() % 64) % 64;
  const Mapping a = MapOk(At(line), 10, kFrom);
  const Mapping b = MapOk(At(line + 60), 4, kFrom);  // of the same line
  (void)Only(Misuse::kOverlap);
  const Mapping c = MapOk(At(line + 64), 4, kFrom);  // of the next
  EXPECT_TRUE(told_.empty());
  for (const Mapping& m : {a, b, c}) EXPECT_TRUE(dma_.Unmap(m).ok());
}

TEST_F(LedgerTest, AResultThatNobodyLookedAt) {
  const unsigned line = __LINE__ + 2;
  Mapping taken;
  taken = *dma_.Map(At(0), 100, kTo);
  EXPECT_EQ(Only(Misuse::kUnlooked).c.where.line, line);
  EXPECT_TRUE(dma_.Unmap(taken).ok());
  { [[maybe_unused]] auto failed = dma_.Map(At(0), 0, kTo); }
  EXPECT_EQ(Only(Misuse::kUnlooked).c.error, Error::kInvalidArgument);
  const Result<Mapping> followed_no_more = dma_.Map(At(0), 0, kTo);
  EXPECT_FALSE(followed_no_more.ok());
  EXPECT_TRUE(told_.empty());
}

TEST_F(LedgerTest, ABufferThatIsFreedWhileItIsMapped) {
  const Mapping m = MapOk(At(100), 100, kTo);
  EXPECT_EQ(dma_.AssertIdle(At(0), 100), 0u);
  EXPECT_EQ(dma_.AssertIdle(At(150), 1), 1u);
  EXPECT_EQ(Only(Misuse::kStillMapped).entry.mapping, m);
  EXPECT_TRUE(dma_.Unmap(m).ok());
}

struct Small : LedgerTest {
  Small() : LedgerTest({.entries = 2}) {}
};
TEST_F(Small, WhatDoesNotFitIsCountedAndWorks) {
  std::vector<Mapping> all;
  for (int i = 0; i < 4; ++i) all.push_back(MapOk(At(0), 100, kTo));
  EXPECT_EQ(dma_.stats().dropped, 2u);
  for (const Mapping& m : all) EXPECT_TRUE(dma_.Unmap(m).ok());
  EXPECT_TRUE(told_.empty());  // it does not know all, and does not guess
  EXPECT_EQ(dma_.stats().live, 0u);
}

// A mapper without records: the ledger knows better.
TEST(Ledger, FindsWhatTheMapperDoesNot) {
  std::array<std::byte, 256> buffer;
  IdentityMapper identity;
  LedgerMapper<IdentityMapper> dma(identity);
  ASSERT_TRUE(dma.Init({.entries = 8}, {}).ok());
  auto m = dma.Map(PhysAddrOf(buffer.data()), 256, kFrom);
  ASSERT_TRUE(m.ok());
  Mapping shorter = *m;
  shorter.size = 10;
  EXPECT_TRUE(dma.SyncForCpu(shorter, 0, 10).ok());
  EXPECT_EQ(dma.complaints(Misuse::kBadSync), 1u);
  EXPECT_TRUE(dma.Unmap(shorter).ok());
  EXPECT_EQ(dma.complaints(Misuse::kBadUnmap), 1u);
  EXPECT_TRUE(dma.Unmap(*m).ok());  // the second time
  EXPECT_EQ(dma.complaints(Misuse::kBadUnmap), 2u);
}

TEST(Ledger, BadOptionsAndUseBeforeInit) {
  Domain<> domain;
  OnMapper dma(domain);
  EXPECT_EQ(dma.Init({.entries = 0}, {}).error(), Error::kInvalidArgument);
  EXPECT_EQ(dma.Init({.granule = 3}, {}).error(), Error::kInvalidArgument);
  auto m = dma.Map(PhysAddr(4096), 1, kTo);
  EXPECT_EQ(m.error(), Error::kShutDown);
  EXPECT_EQ(dma.ReportLeaks() + dma.AssertIdle(PhysAddr(1), 1), 0u);
  ASSERT_TRUE(dma.Init({}, {}).ok());
  EXPECT_EQ(dma.Init({}, {}).error(), Error::kBusy);
}

TEST(Ledger, TheSinkHearsNoMoreThanItAskedFor) {
  Domain<> domain;
  OnMapper dma(domain);
  int heard = 0;
  ASSERT_TRUE(dma.Init({}, {.on_complaint =
                                [](void* n, const Complaint&) {
                                  ++*static_cast<int*>(n);
                                },
                            .context = &heard,
                            .most = 3})
                  .ok());
  ASSERT_TRUE(domain.Init({.bounce_size = std::uint64_t{1} << 20}).ok());
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(dma.Unmap({Iova(4096), 1}).ok());
  EXPECT_EQ(heard, 3);
  EXPECT_EQ(dma.complaints(Misuse::kBadUnmap), 5u);
}

// Against an oracle that compares all with all.
RC_GTEST_PROP(Ledger, FindsEachOverlapAndNoOther, ()) {
  struct Live {
    LedgerEntry entry;
    PhysRange bytes;
  };
  const auto granule = std::uint64_t{1} << *rc::gen::inRange(0, 7);
  Ledger<> ledger;
  RC_ASSERT(ledger
                .Init({.entries = *rc::gen::inRange<std::size_t>(8, 64),
                       .granule = granule,
                       .overlaps = LedgerOverlaps::kAll})
                .ok());
  std::vector<Live> live;
  std::uint32_t tag = 0;
  const int steps = *rc::gen::inRange(1, 60);
  const std::uint64_t base =
      *rc::gen::element<std::uint64_t>(0, 1 << 20, ~std::uint64_t{0} - 8191);
  const auto rounded = [&](PhysAddr at, std::uint64_t size) {
    return *PhysRange::FromFirstLast(
        PhysAddr(at.value() & ~(granule - 1)),
        PhysAddr((at.value() + size - 1) | (granule - 1)));
  };
  for (int i = 0; i < steps; ++i) {
    if (!live.empty() && *rc::gen::inRange(0, 3) == 0) {
      const auto at = *rc::gen::inRange<std::size_t>(0, live.size());
      LedgerEntry gone;
      RC_ASSERT(ledger.Remove(live[at].entry.mapping, {}, &gone));
      RC_ASSERT(gone.buffer == live[at].entry.buffer);
      live.erase(live.begin() + static_cast<std::ptrdiff_t>(at));
      continue;
    }
    const auto offset = *rc::gen::inRange<std::uint64_t>(0, 4096);
    const auto most = *rc::gen::element<std::uint64_t>(1, 2, 70, 4096);
    const auto size = *rc::gen::inRange<std::uint64_t>(1, most + 1);
    LedgerEntry e;
    e.buffer = PhysAddr(base + offset);
    e.mapping = {Iova(4096 * (1 + tag % 5)), size, kTo, ++tag};
    const PhysRange bytes = rounded(e.buffer, size);
    std::size_t expected = 0;
    for (const Live& l : live) expected += l.bytes.Overlaps(bytes) ? 1 : 0;
    std::size_t found = 0;
    if (ledger.Add(e, [&](const LedgerEntry& other) {
          found += rounded(other.buffer, other.mapping.size).Overlaps(bytes);
        })) {
      RC_ASSERT(found == expected);
      live.push_back({e, bytes});
    }
    RC_ASSERT(ledger.CheckInvariants());
    RC_ASSERT(ledger.stats().live == live.size());
  }
}

TEST(Ledger, ThreadsKeepTheirEntriesApart) {
  Domain<> domain;
  ASSERT_TRUE(domain.Init({.bounce_size = std::uint64_t{1} << 20}).ok());
  OnMapper dma(domain);
  ASSERT_TRUE(dma.Init({.entries = 32}, {}).ok());
  std::array<std::array<std::byte, 512>, 4> buffers;
  std::vector<std::thread> threads;
  for (auto& buffer : buffers) {
    threads.emplace_back([&dma, &buffer] {
      for (int i = 0; i < 500; ++i) {
        std::array<Mapping, 8> mine;
        for (std::size_t n = 0; n < mine.size(); ++n) {
          auto m = dma.Map(PhysAddrOf(buffer.data() + 64 * n), 64, kBoth);
          ASSERT_TRUE(m.ok());
          mine[n] = *m;
        }
        for (const Mapping& m : mine) ASSERT_TRUE(dma.Unmap(m).ok());
      }
    });
  }
  for (std::thread& t : threads) t.join();
  for (std::size_t m = 0; m < kMisuses; ++m) {
    EXPECT_EQ(dma.complaints(static_cast<Misuse>(m)), 0u) << m;
  }
  EXPECT_EQ(dma.stats().dropped, 0u);
  EXPECT_TRUE(dma.CheckInvariants());
}

}  // namespace
}  // namespace dmamap
