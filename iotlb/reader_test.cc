// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Readers by themselves: the hint and what ends it, the counters, sections and
// the tickets that wait for them.

#include "iotlb/reader.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>

#include "iotlb/iotlb.h"
#include "iotlb/memory_for_test.h"
#include "iotlb/oracle_for_test.h"

namespace dmamap {
namespace {

constexpr auto kRead = Permission::kRead;
constexpr auto kReadWrite = Permission::kReadWrite;

IotlbEntry Entry(std::uint64_t first, std::uint64_t last, std::uint64_t token,
                 Permission permission = kReadWrite) {
  return {RangeOf(first, last), PhysAddr(first * 2), permission, token};
}

class ReaderTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(iotlb_.Init().ok());
    ASSERT_TRUE(reader_.Init(iotlb_).ok());
  }
  void Add(const IotlbEntry &entry) { ASSERT_TRUE(iotlb_.Add(entry).ok()); }
  // Looks up often enough for the hint to answer.
  void Warm(std::uint64_t at) {
    for (int i = 0; i < 3; ++i) (void)reader_.Lookup(Iova(at), kRead).ok();
  }

  Iotlb iotlb_;
  Iotlb::Reader reader_;
};

TEST(Reader, InitOnceAndOfAReadyIotlb) {
  Iotlb iotlb;
  Iotlb::Reader reader;
  EXPECT_EQ(reader.Lookup(Iova(0), kRead).error(), Error::kShutDown);
  EXPECT_EQ(reader.Init(iotlb).error(), Error::kShutDown);
  ASSERT_TRUE(iotlb.Init().ok());
  ASSERT_TRUE(reader.Init(iotlb).ok());
  EXPECT_EQ(reader.Init(iotlb).error(), Error::kBusy);
  EXPECT_EQ(reader.Lookup(Iova(0), static_cast<Permission>(9)).error(),
            Error::kInvalidArgument);
}

TEST_F(ReaderTest, HintAnswersTheSameMappingAgain) {
  Add(Entry(0x1000, 0x2fff, 7, kRead));
  Warm(0x1000);
  EXPECT_GE(reader_.stats().hint_hits, 1u);
  EXPECT_EQ(*reader_.Lookup(Iova(0x2fff), kRead),
            (Translation{PhysAddr(0x3fff), 0, kRead, 7}));
  EXPECT_EQ(reader_.Lookup(Iova(0x1000), kReadWrite).error(),
            Error::kPermission);
  EXPECT_EQ(reader_.Lookup(Iova(0x3000), kRead).error(), Error::kNotMapped);
  EXPECT_EQ(reader_.Lookup(Iova(0xfff), kRead).error(), Error::kNotMapped);
  const ReaderStats stats = iotlb_.stats().readers;
  EXPECT_EQ(stats.hits, 4u);
  EXPECT_EQ(stats.hint_hits, 2u);
  EXPECT_EQ(stats.misses, 2u);
  EXPECT_EQ(stats.faults, 1u);
}

// A page table's answer: no farther than the page, as long as it needs no
// record; the hint, which another look at the same page takes, goes farther.
TEST_F(ReaderTest, PageLookupKnowsWhatAPageTableKnows) {
  Add(Entry(0x1000, 0x3fff, 7, kRead));
  Add({RangeOf(0x8000, 0x9fff), PhysAddr(0x70010), kReadWrite, 8});
  Add(Entry(0xb100, 0xb1ff, 9));
  EXPECT_EQ(*reader_.LookupPage(Iova(0x1010), kRead),
            (PageTranslation{PhysAddr(0x2010), 0xfef, kRead}));
  EXPECT_EQ(*reader_.LookupPage(Iova(0x2010), kRead),
            (PageTranslation{PhysAddr(0x3010), 0xfef, kRead}));
  EXPECT_EQ(*reader_.LookupPage(Iova(0x2011), kRead),
            (PageTranslation{PhysAddr(0x3011), 0x1fee, kRead}));
  EXPECT_EQ(*reader_.LookupPage(Iova(0x3000), kRead),
            (PageTranslation{PhysAddr(0x4000), 0xfff, kRead}));
  EXPECT_EQ(reader_.stats().hits, 4u);
  EXPECT_EQ(reader_.stats().hint_hits, 1u);
  // Memory that begins inside of a page, and a part of a page.
  EXPECT_EQ(*reader_.LookupPage(Iova(0x8001), kReadWrite),
            (PageTranslation{PhysAddr(0x70011), 0x1ffe, kReadWrite}));
  EXPECT_EQ(*reader_.LookupPage(Iova(0xb101), kRead),
            (PageTranslation{PhysAddr(0x16201), 0xfe, kReadWrite}));
  EXPECT_EQ(reader_.LookupPage(Iova(0xb100 - 1), kRead).error(),
            Error::kNotMapped);
  EXPECT_EQ(reader_.LookupPage(Iova(0x1000), kReadWrite).error(),
            Error::kPermission);
  EXPECT_EQ(reader_.stats().misses, 1u);
  EXPECT_EQ(reader_.stats().faults, 1u);
}

// What shares a page with another mapping asks the records; and no more when
// the other has gone.
TEST_F(ReaderTest, PageLookupBesideOtherMappings) {
  Add(Entry(0x1000, 0x4fff, 1));
  Add(Entry(0x9000, 0x9fff, 2));
  for (int round = 0; round < 3; ++round) {
    Add(Entry(0x2000, 0x2fff, 3, kRead));
    EXPECT_EQ(iotlb_.LookupPage(Iova(0x2000), kRead)->bytes_minus_one, 0x2fffu);
    EXPECT_EQ(iotlb_.LookupPage(Iova(0x3000), kRead)->bytes_minus_one, 0xfffu);
    EXPECT_TRUE(iotlb_.RemoveExact(RangeOf(0x2000, 0x2fff), 3).ok());
    EXPECT_EQ(iotlb_.LookupPage(Iova(0x2000), kRead)->bytes_minus_one, 0xfffu);
    EXPECT_TRUE(iotlb_.RemoveExact(RangeOf(0x9000, 0x9fff), 2).ok());
    EXPECT_EQ(iotlb_.LookupPage(Iova(0x9000), kRead).error(),
              Error::kNotMapped);
    // What was removed last is buried there.
    EXPECT_EQ(*iotlb_.Remove(RangeOf(0x9000, 0x9fff)), 0u);
    Add(Entry(0x9000, 0x97ff, 4));
    EXPECT_EQ(iotlb_.LookupPage(Iova(0x9000), kRead)->bytes_minus_one, 0x7ffu);
    EXPECT_EQ(*iotlb_.Remove(RangeOf(0x9000, 0x97ff)), 1u);
    Add(Entry(0x9000, 0x9fff, 2));
    EXPECT_EQ(iotlb_.LookupPage(Iova(0x9000), kRead)->bytes_minus_one, 0xfffu);
    ASSERT_TRUE(iotlb_.CheckInvariants());
  }
}

TEST_F(ReaderTest, PageLookupRefusesWhatIsNoPermission) {
  Add(Entry(0x1000, 0x1fff, 1));
  Add(Entry(0x3000, 0x37ff, 2));
  Add(Entry(0x3800, 0x3fff, 3));  // the page asks the tree
  for (const unsigned bits : {4u, 5u, 12u, 255u}) {
    const auto wanted = static_cast<Permission>(bits);
    for (const std::uint64_t at : {0x1000u, 0x2000u, 0x3000u}) {
      const Error want = at == 0x2000 ? iotlb_.Lookup(Iova(at), wanted).error()
                                      : Error::kInvalidArgument;
      EXPECT_EQ(iotlb_.LookupPage(Iova(at), wanted).error(), want) << bits;
      EXPECT_EQ(reader_.LookupPage(Iova(at), wanted).error(), want) << bits;
    }
  }
}

TEST_F(ReaderTest, HintEndsWithTheMapping) {
  Add(Entry(0, 99, 1));
  Warm(5);
  ASSERT_EQ(*iotlb_.Remove(RangeOf(5, 5)), 1u);
  EXPECT_EQ(reader_.Lookup(Iova(5), kRead).error(), Error::kNotMapped);
  // The record serves again, at the same place.
  Add(Entry(0, 49, 2));
  EXPECT_EQ(reader_.Lookup(Iova(5), kRead)->token, 2u);
  EXPECT_EQ(reader_.Lookup(Iova(50), kRead).error(), Error::kNotMapped);
}

TEST_F(ReaderTest, HintEndsWhenAnotherMappingGoesFirst) {
  Add(Entry(10, 99, 1));
  Warm(50);
  Add(Entry(0, 60, 2));
  EXPECT_EQ(reader_.Lookup(Iova(50), kRead)->token, 2u);
  EXPECT_EQ(reader_.Lookup(Iova(70), kRead)->token, 1u);
}

// A mapping that another overlaps is never a hint: which of them answers is a
// matter of the permission asked for.
TEST_F(ReaderTest, NoHintWhereMappingsOverlap) {
  Add(Entry(0, 9, 1, Permission::kWrite));
  Add(Entry(0, 9, 2, kReadWrite));
  Warm(5);
  Warm(5);
  EXPECT_EQ(reader_.stats().hint_hits, 0u);
  EXPECT_EQ(reader_.Lookup(Iova(5), kRead)->token, 2u);
  EXPECT_EQ(reader_.Lookup(Iova(5), Permission::kWrite)->token, 1u);
}

TEST_F(ReaderTest, CountersOutliveTheReader) {
  Add(Entry(0, 9, 1));
  {
    Iotlb::Reader other;
    ASSERT_TRUE(other.Init(iotlb_).ok());
    EXPECT_TRUE(other.Lookup(Iova(3), kRead).ok());
  }
  EXPECT_EQ(iotlb_.stats().readers.hits, 1u);
  const std::size_t bytes = iotlb_.stats().memory_bytes;
  Iotlb::Reader again;  // takes the slot of the one that ended
  ASSERT_TRUE(again.Init(iotlb_).ok());
  EXPECT_EQ(iotlb_.stats().memory_bytes, bytes);
}

// A reader tells what it counted itself, whoever had its slot before; the sums
// of the IOTLB tell of all.
TEST_F(ReaderTest, CountsBeginAtZero) {
  Add(Entry(0, 9, 1, kRead));
  for (std::uint64_t round = 1; round <= 3; ++round) {
    Iotlb::Reader other;
    ASSERT_TRUE(other.Init(iotlb_).ok());
    EXPECT_EQ(other.stats().hits, 0u);
    EXPECT_EQ(other.stats().misses, 0u);
    EXPECT_EQ(other.stats().faults, 0u);
    EXPECT_EQ(other.stats().hint_hits, 0u);
    for (int i = 0; i < 5; ++i) (void)other.Lookup(Iova(3), kRead).ok();
    (void)other.Lookup(Iova(10), kRead).ok();
    (void)other.Lookup(Iova(3), kReadWrite).ok();
    EXPECT_EQ(other.stats().hits, 5u);
    EXPECT_EQ(other.stats().hint_hits, 3u);
    const ReaderStats sum = iotlb_.stats().readers;
    EXPECT_EQ(sum.hits, 5 * round);
    EXPECT_EQ(sum.hint_hits, 3 * round);
    EXPECT_EQ(sum.misses, round);
    EXPECT_EQ(sum.faults, round);
  }
  EXPECT_EQ(iotlb_.stats().readers.hits, 15u);
  EXPECT_EQ(reader_.stats().hits, 0u);
}

TEST_F(ReaderTest, TicketWaitsForSectionsThatBeganBefore) {
  Add(Entry(0, 9, 1));
  Iotlb::Reader late;
  ASSERT_TRUE(late.Init(iotlb_).ok());
  reader_.Enter();
  ASSERT_TRUE(reader_.Lookup(Iova(3), kRead).ok());
  EXPECT_EQ(*iotlb_.Remove(RangeOf(0, 0), RemoveMode::kDeferred), 1u);
  const GraceTicket ticket = iotlb_.Retire();
  EXPECT_FALSE(iotlb_.IsOver(ticket));
  EXPECT_EQ(reader_.Lookup(Iova(3), kRead).error(), Error::kNotMapped);
  late.Enter();  // does not know the mapping
  reader_.Leave();
  EXPECT_TRUE(iotlb_.IsOver(ticket));
  EXPECT_FALSE(iotlb_.IsOver(iotlb_.Retire()));
  late.Leave();
  // Again and again in a section: each is another one.
  const GraceTicket next = iotlb_.Retire();
  reader_.Enter();
  EXPECT_TRUE(iotlb_.IsOver(next));
  reader_.Leave();
  iotlb_.Synchronize();
}

TEST_F(ReaderTest, TranslatesAsTheIotlb) {
  Add(Entry(0, 9, 1));
  std::array<Segment, 3> out;
  EXPECT_EQ(reader_.Translate(RangeOf(5, 20), kRead, out), 2u);
  std::size_t segments = 0;
  ASSERT_TRUE(reader_
                  .ForEachSegment(RangeOf(5, 20), kRead,
                                  [&](const Segment &) {
                                    ++segments;
                                    return true;
                                  })
                  .ok());
  EXPECT_EQ(segments, 2u);
}

struct Failing : IotlbPolicies {
  using Memory = FailingMemory;
};

TEST(Reader, NoMemory) {
  FailingMemory::State state;
  BasicIotlb<Failing> iotlb{FailingMemory(&state)};
  ASSERT_TRUE(iotlb.Init().ok());
  BasicIotlb<Failing>::Reader reader;
  state.fail_at = state.calls;
  EXPECT_EQ(reader.Init(iotlb).error(), Error::kNoMemory);
  EXPECT_TRUE(reader.Init(iotlb).ok());
}

}  // namespace
}  // namespace dmamap
