// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// The layouts of e1000.h and intel_advanced.h, byte for byte.

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "nicring/e1000.h"
#include "nicring/intel_advanced.h"
#include "nicring/little_endian.h"

namespace dmamap {
namespace {

using Descriptor = std::array<std::byte, 16>;

template <class... B>
constexpr std::array<std::byte, sizeof...(B)> ByteArray(B... b) {
  return {static_cast<std::byte>(b)...};
}

template <class Format>
constexpr bool ArmedIsAddressAndZeros() {
  Descriptor d{};
  for (std::byte& b : d) b = std::byte{0xff};
  Format::WriteArmed(d.data(), Iova(0x0123456789abcdee));
  return d == ByteArray(0xee, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01, 0, 0, 0,
                        0, 0, 0, 0, 0);
}
static_assert(ArmedIsAddressAndZeros<E1000Format>());
static_assert(ArmedIsAddressAndZeros<IxgbeFormat>());
static_assert(ArmedIsAddressAndZeros<IgbFormat>());

static_assert([] {
  std::array<std::byte, 9> b{};
  StoreLe64(b.data() + 1, 0x0102030405060708);
  return b == ByteArray(0, 8, 7, 6, 5, 4, 3, 2, 1) &&
         LoadLe64(b.data() + 1) == 0x0102030405060708;
}());

template <class Format>
Completion Complete(const std::byte* descriptor) {
  const auto status = Format::LoadStatus(descriptor);
  EXPECT_TRUE(Format::IsComplete(status));
  return Format::Snapshot(descriptor, status);
}

TEST(E1000Format, WriteBackAsInTheManual) {
  // 0x05ea = 1514 bytes, checksum 0xbeef, DD | EOP | IXSM, no error, VLAN 7.
  alignas(16) Descriptor d =
      ByteArray(1, 2, 3, 4, 5, 6, 7, 8, 0xea, 0x05, 0xef, 0xbe, 0x07, 0, 7, 0);
  Completion c = Complete<E1000Format>(d.data());
  EXPECT_TRUE(c.good);
  EXPECT_TRUE(c.last);
  EXPECT_EQ(c.length, 1514u);
  EXPECT_EQ(c.raw_status, 0x00070007u);
  d[12] = std::byte{0x01};  // DD alone: the frame goes on
  EXPECT_FALSE(Complete<E1000Format>(d.data()).last);
  d[12] = std::byte{0xfe};  // everything but DD
  EXPECT_FALSE(E1000Format::IsComplete(E1000Format::LoadStatus(d.data())));
  // All 16 bits of the length.
  d[12] = std::byte{0x03};
  d[8] = d[9] = std::byte{0xff};
  EXPECT_EQ(Complete<E1000Format>(d.data()).length, 0xffffu);
}

TEST(E1000Format, EachErrorBit) {
  alignas(16) Descriptor d{};
  d[12] = std::byte{0x03};
  // CE, SE, SEQ, (reserved), CXE, TCPE, IPE, RXE.
  const bool bad[8] = {true, true, true, false, true, false, false, true};
  for (unsigned bit = 0; bit < 8; ++bit) {
    d[13] = static_cast<std::byte>(1u << bit);
    EXPECT_EQ(Complete<E1000Format>(d.data()).good, !bad[bit]) << bit;
  }
}

TEST(IntelAdvancedFormat, WriteBackAsInTheManual) {
  alignas(16) Descriptor d = ByteArray(0x10, 0x20, 0, 0, 0xaa, 0xbb, 0xcc, 0xdd,
                                       0x03, 0, 0, 0, 0xea, 0x05, 7, 0);
  Completion c = Complete<IxgbeFormat>(d.data());
  EXPECT_TRUE(c.good);
  EXPECT_TRUE(c.last);
  EXPECT_EQ(c.length, 1514u);
  EXPECT_EQ(c.raw_status, 3u);
  d[8] = std::byte{0x01};
  EXPECT_FALSE(Complete<IxgbeFormat>(d.data()).last);
  d[8] = std::byte{0x02};  // a header address with bit 0 clear
  EXPECT_FALSE(IxgbeFormat::IsComplete(IxgbeFormat::LoadStatus(d.data())));
}

// Bits 29, 30 and 31: the MAC error is the first on one line of NICs, and the
// last on the other; the rest are checksums.
TEST(IntelAdvancedFormat, EachErrorBit) {
  alignas(16) Descriptor d{};
  d[8] = std::byte{0x03};
  for (unsigned bit = 0; bit < 8; ++bit) {
    d[11] = static_cast<std::byte>(1u << bit);
    EXPECT_EQ(Complete<IxgbeFormat>(d.data()).good, bit != 5) << bit;
    EXPECT_EQ(Complete<IgbFormat>(d.data()).good, bit != 7) << bit;
  }
}

TEST(IntelFormats, RoomsThatTheDeviceCanBeTold) {
  for (std::uint32_t n = 0; n <= 20000; ++n) {
    const bool e1000 = n == 256 || n == 512 || n == 1024 || n == 2048 ||
                       n == 4096 || n == 8192 || n == 16384;
    EXPECT_EQ(E1000Format::IsRoom(n), e1000) << n;
    EXPECT_EQ(IxgbeFormat::IsRoom(n), n >= 1024 && n <= 16384 && n % 1024 == 0)
        << n;
  }
}

template <class Format>
bool FieldsApart() {
  const Field a = Format::kStatus, b = Format::kCount;
  return (a.offset + a.size <= b.offset || b.offset + b.size <= a.offset) &&
         a.offset + a.size <= 16 && b.offset + b.size <= 16;
}
TEST(IntelFormats, FieldsAreApart) {
  EXPECT_TRUE(FieldsApart<E1000Format>());
  EXPECT_TRUE(FieldsApart<IxgbeFormat>());
}

}  // namespace
}  // namespace dmamap
