// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "bounce/bounce.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <vector>

#include "bounce/memory_access.h"
#include "bounce/page_source.h"

namespace dmamap {
namespace {

using Bytes = std::vector<std::byte>;
using TestBounce = Bounce<HeapPages, PagewiseMemory<>>;

constexpr auto kSkip = MapAttributes::kSkipSync;
constexpr auto kOverwrites = MapAttributes::kDeviceOverwritesAll;

TEST(BounceRules, FillAndDrainByDirection) {
  for (Direction d : {Direction::kBidirectional, Direction::kToDevice,
                      Direction::kFromDevice}) {
    EXPECT_EQ(FillFor(d, MapAttributes::kNone), BounceFill::kOriginal);
    EXPECT_EQ(FillFor(d, kSkip), BounceFill::kZero);
    EXPECT_EQ(DrainsFor(d, MapAttributes::kNone), d != Direction::kToDevice);
    EXPECT_FALSE(DrainsFor(d, kSkip));
  }
  EXPECT_EQ(FillFor(Direction::kFromDevice, kOverwrites), BounceFill::kZero);
  EXPECT_EQ(FillFor(Direction::kBidirectional, kOverwrites),
            BounceFill::kOriginal);
}

struct BounceTest : testing::Test {
  BounceTest() {
    const auto r = bounce.Init({.size = 64 * 256,
                                .page = *PageSize::FromBytes(256),
                                .slot = *PageSize::FromBytes(64)});
    EXPECT_TRUE(r.ok());
  }
  static Range Bytes_(std::uint64_t first, std::uint64_t size) {
    return *Range::FromSize(Iova(first), size);
  }
  // Makes the page of `at`, every byte 0xAA. REQUIRES: claimed.
  std::byte* Dirty(std::uint64_t at) {
    std::byte* const page = *bounce.NewPage();
    std::memset(page, 0xAA, 256);
    return bounce.Publish(Iova(at), page);
  }
  HeapPages source;
  PagewiseMemory<> memory{*PageSize::FromBytes(64)};
  TestBounce bounce{source, memory};
  Bytes buffer = Bytes(1000, std::byte{0x11});
  std::uint64_t bytes = 0;
};

TEST_F(BounceTest, InitChecks) {
  TestBounce b(source, memory);
  const PageSize p = *PageSize::FromBytes(256);
  const PageSize small = *PageSize::FromBytes(64);
  EXPECT_EQ(b.Init({0, p, small}).error(), Error::kInvalidArgument);
  EXPECT_EQ(b.Init({300, p, small}).error(), Error::kInvalidArgument);
  EXPECT_EQ(b.Init({256, small, p}).error(), Error::kInvalidArgument);
  EXPECT_EQ(b.Init({256, p, *PageSize::FromBytes(1)}).error(),
            Error::kInvalidArgument);
  EXPECT_TRUE(b.Init({256, p, p}).ok());
  EXPECT_FALSE(b.shares_pages());
  EXPECT_TRUE(bounce.shares_pages());
}

TEST_F(BounceTest, FillOverwritesEveryByteOfTheSlotsAndNoOther) {
  const BounceBuffer b{Bytes_(256 + 64, 384), Bytes_(256 + 70, 300),
                       PhysAddrOf(buffer.data())};
  ASSERT_TRUE(bounce.Claim(b.slots).ok());
  std::byte* const first = Dirty(256);
  std::byte* const second = Dirty(512);
  ASSERT_TRUE(bounce.Fill(b, &bytes).ok());
  EXPECT_EQ(bytes, 300u);
  for (std::uint64_t i = 0; i < 512; ++i) {
    const std::byte got = i < 256 ? first[i] : second[i - 256];
    const Iova at(256 + i);
    const std::byte want = b.body.Contains(at)    ? std::byte{0x11}
                           : b.slots.Contains(at) ? std::byte{0}
                                                  : std::byte{0xAA};
    ASSERT_EQ(got, want) << at.value();
  }
  bounce.Scrub(b.slots);
  EXPECT_EQ(first[63], std::byte{0xAA});
  EXPECT_EQ(first[64], std::byte{0});
  EXPECT_EQ(second[191], std::byte{0});
  EXPECT_EQ(second[192], std::byte{0xAA});
  EXPECT_TRUE(bounce.CheckInvariants());
}

TEST_F(BounceTest, ZeroFillShowsNothingOfTheBuffer) {
  const BounceBuffer b{Bytes_(256, 256), Bytes_(260, 100),
                       PhysAddrOf(buffer.data()), BounceFill::kZero};
  ASSERT_TRUE(bounce.Claim(b.slots).ok());
  std::byte* const page = Dirty(256);
  ASSERT_TRUE(bounce.Fill(b, &bytes).ok());
  EXPECT_EQ(bytes, 0u);
  EXPECT_TRUE(std::all_of(page, page + 256,
                          [](std::byte x) { return x == std::byte{0}; }));
}

TEST_F(BounceTest, CopiesTouchOnlyThePartAndOnlyPagesThatAreThere) {
  const Range slots = Bytes_(256, 768);
  ASSERT_TRUE(bounce.Claim(slots).ok());
  Dirty(512);  // the middle page of three
  ASSERT_TRUE(
      bounce.CopyOut(Bytes_(300, 600), PhysAddrOf(buffer.data() + 100), &bytes)
          .ok());
  EXPECT_EQ(bytes, 256u);
  for (std::size_t i = 0; i < buffer.size(); ++i) {
    const std::uint64_t at = 300 + i - 100;  // I/O address of buffer[i]
    const bool written = i >= 100 && i < 700 && at >= 512 && at < 768;
    ASSERT_EQ(buffer[i], written ? std::byte{0xAA} : std::byte{0x11}) << i;
  }
  bytes = 0;
  ASSERT_TRUE(
      bounce.CopyIn(Bytes_(520, 4), PhysAddrOf(buffer.data()), &bytes).ok());
  EXPECT_EQ(bytes, 4u);
  std::byte* const page = bounce.PageAt(Iova(512));
  EXPECT_EQ(page[7], std::byte{0xAA});
  EXPECT_EQ(page[8], std::byte{0x11});
  EXPECT_EQ(page[11], std::byte{0x11});
  EXPECT_EQ(page[12], std::byte{0xAA});
}

TEST_F(BounceTest, ClaimChecksBoundsAndReclaimRefusesClaimed) {
  EXPECT_EQ(bounce.Claim(Bytes_(63 * 256, 512)).error(), Error::kOutOfRange);
  const Range slots = Bytes_(256 + 192, 128);  // two pages
  ASSERT_TRUE(bounce.Claim(slots).ok());
  Dirty(256);
  EXPECT_EQ(bounce.Reclaim(Bytes_(0, 1024)).error(), Error::kBusy);
  EXPECT_EQ(bounce.Reclaim(Bytes_(0, 100)).error(), Error::kInvalidArgument);
  EXPECT_EQ(bounce.Reclaim(Bytes_(0, 65 * 256)).error(), Error::kOutOfRange);
  bounce.Release(slots);
  EXPECT_EQ(*bounce.Reclaim(Bytes_(0, 1024)), 1u);
  EXPECT_EQ(source.in_use(), 0u);
  EXPECT_TRUE(bounce.CheckInvariants());
}

// A page filled before it is published, from any set of mappings on it, shows
// each mapping's bytes in its body and zero elsewhere.
RC_GTEST_FIXTURE_PROP(BounceTest, AFreshPageShowsEveryMappingAndNothingElse,
                      ()) {
  std::byte* const page = *bounce.NewPage();
  Bytes expected(256);
  const Range range = bounce.PageRange(Iova(256));
  std::vector<Bytes> buffers;
  for (std::uint64_t slot = 0; slot < 4; ++slot) {
    if (!*rc::gen::arbitrary<bool>()) continue;
    const auto head = *rc::gen::inRange<std::uint64_t>(0, 63);
    const auto size = *rc::gen::inRange<std::uint64_t>(1, 64 - head + 1);
    buffers.push_back(Bytes(size, static_cast<std::byte>(slot + 1)));
    const std::uint64_t at = 256 + slot * 64;
    const BounceBuffer b{Bytes_(at, 64), Bytes_(at + head, size),
                         PhysAddrOf(buffers.back().data())};
    RC_ASSERT(bounce.FillPage(page, range, b, &bytes).ok());
    std::fill_n(
        expected.begin() + static_cast<std::ptrdiff_t>(slot * 64 + head), size,
        static_cast<std::byte>(slot + 1));
  }
  RC_ASSERT(Bytes(page, page + 256) == expected);
  bounce.Discard(page);
}

}  // namespace
}  // namespace dmamap
