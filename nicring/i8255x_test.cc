// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "nicring/i8255x.h"

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "nicring/length_policy.h"
#include "nicring/little_endian.h"

namespace dmamap {
namespace {

using Rfd = std::array<std::byte, 18>;

template <class... B>
constexpr std::array<std::byte, sizeof...(B)> ByteArray(B... b) {
  return {static_cast<std::byte>(b)...};
}

// Compile-time: the layout in bytes, whatever the host's order.
constexpr bool BlankIsAsInTheManual() {
  std::array<std::byte, 16> rfd{};
  for (std::byte& b : rfd) b = std::byte{0xff};
  I8255xFormat::WriteBlank(rfd.data(), 0x0602);
  return rfd == ByteArray(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0x06);
}
static_assert(BlankIsAsInTheManual());

constexpr bool LinkIsUnalignedLittleEndian() {
  std::array<std::byte, 17> memory{};
  I8255xFormat::WriteLink(memory.data() + 1, 0x12345678);
  return memory == ByteArray(0, 0, 0, 0, 0, 0x78, 0x56, 0x34, 0x12, 0, 0, 0, 0,
                             0, 0, 0, 0);
}
static_assert(LinkIsUnalignedLittleEndian());

static_assert(FromLittle16(ToLittle16(0xabcd)) == 0xabcd);

TEST(LittleEndian, BytesInOrder) {
  const auto b = ByteArray(0x78, 0x56, 0x34, 0x12);
  EXPECT_EQ(LoadLe32(b.data()), 0x12345678u);
  EXPECT_EQ(LoadLe16(b.data() + 1), 0x3456u);
  std::array<std::byte, 5> out{};
  StoreLe32(out.data() + 1, 0x12345678);
  EXPECT_EQ(out, ByteArray(0, 0x78, 0x56, 0x34, 0x12));
  // The image of a word in memory is the bytes of the little-endian one.
  const std::uint16_t image = ToLittle16(0x1234);
  std::array<std::byte, 2> bytes{};
  std::memcpy(bytes.data(), &image, 2);
  EXPECT_EQ(bytes, ByteArray(0x34, 0x12));
}

TEST(I8255x, FieldsThatTheDeviceWritesAreApart) {
  const Field device[] = {I8255xFormat::kStatus, I8255xFormat::kCount};
  const Field driver[] = {I8255xFormat::kCommand, I8255xFormat::kLink,
                          I8255xFormat::kSize};
  for (const Field& a : device) {
    for (const Field& b : driver) {
      EXPECT_TRUE(a.offset + a.size <= b.offset ||
                  b.offset + b.size <= a.offset);
    }
    EXPECT_LE(a.offset + a.size, I8255xFormat::kHeaderBytes);
  }
}

TEST(I8255x, WritersTouchOnlyTheirField) {
  alignas(2) std::array<std::byte, 16> rfd;
  rfd.fill(std::byte{0xee});
  I8255xFormat::WriteEnd(rfd.data(), ListEnd::kYes);
  EXPECT_EQ(rfd, ByteArray(0xee, 0xee, 0x00, 0x80, 0xee, 0xee, 0xee, 0xee, 0xee,
                           0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee));
  I8255xFormat::WriteSize(rfd.data(), 0x123);
  I8255xFormat::WriteEnd(rfd.data(), ListEnd::kNo);
  EXPECT_EQ(rfd, ByteArray(0xee, 0xee, 0x00, 0x00, 0xee, 0xee, 0xee, 0xee, 0xee,
                           0xee, 0xee, 0xee, 0xee, 0xee, 0x23, 0x01));
}

TEST(I8255x, StatusAndCount) {
  // C and OK; EOF, F and 0x2fa = 762 bytes. At 2 modulo 4, as Linux lays it.
  alignas(4) std::array<std::byte, 18> memory{};
  std::byte* rfd = memory.data() + 2;
  EXPECT_FALSE(I8255xFormat::IsComplete(I8255xFormat::LoadStatus(rfd)));
  rfd[1] = std::byte{0xa0};
  rfd[12] = std::byte{0xfa};
  rfd[13] = std::byte{0xc2};
  const auto status = I8255xFormat::LoadStatus(rfd);
  ASSERT_TRUE(I8255xFormat::IsComplete(status));
  const Completion c = I8255xFormat::Snapshot(rfd, status);
  EXPECT_TRUE(c.good);
  EXPECT_EQ(c.length, 762u);
  EXPECT_EQ(c.raw_status, 0xa000u);
  // Complete without OK, CRC error; all 14 bits of the count.
  rfd[1] = std::byte{0x88};
  rfd[12] = rfd[13] = std::byte{0xff};
  const Completion bad =
      I8255xFormat::Snapshot(rfd, I8255xFormat::LoadStatus(rfd));
  EXPECT_FALSE(bad.good);
  EXPECT_EQ(bad.length, 0x3fffu);
  EXPECT_EQ(bad.raw_status & i8255x::kStatusCrc, i8255x::kStatusCrc);
}

TEST(LengthPolicy, EachPolicy) {
  const auto judge = [](LengthPolicy p, std::uint32_t n) {
    const LengthVerdict v = Judge(p, n, 100);
    return std::array<std::uint32_t, 3>{v.deliver, v.violation, v.length};
  };
  using A = std::array<std::uint32_t, 3>;
  for (LengthPolicy p :
       {LengthPolicy::kReject, LengthPolicy::kClamp, LengthPolicy::kTrust}) {
    EXPECT_EQ(judge(p, 1), (A{1, 0, 1}));
    EXPECT_EQ(judge(p, 100), (A{1, 0, 100}));
    EXPECT_EQ(judge(p, 0), (A{0, 1, 0}));  // no frame
    EXPECT_TRUE(IsValid(p));
  }
  EXPECT_EQ(judge(LengthPolicy::kReject, 101), (A{0, 1, 0}));
  EXPECT_EQ(judge(LengthPolicy::kClamp, 101), (A{1, 1, 100}));
  EXPECT_EQ(judge(LengthPolicy::kTrust, 101), (A{1, 1, 101}));
  EXPECT_FALSE(IsValid(static_cast<LengthPolicy>(3)));
}

}  // namespace
}  // namespace dmamap
