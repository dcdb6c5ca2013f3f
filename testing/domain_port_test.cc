// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "testing/domain_port.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "domain/domain.h"
#include "testing/device_port.h"

namespace dmamap {
namespace {

using Bytes = std::vector<std::byte>;
constexpr std::uint64_t kPage = 4096;

static_assert(DevicePort<DomainPort<Domain<>>>);

struct DomainPortTest : testing::Test {
  DomainPortTest() { EXPECT_TRUE(domain.Init({}).ok()); }
  Domain<> domain;
  DomainPort<Domain<>> port{domain};
  Bytes buffer = Bytes(3 * kPage, std::byte{0x21});
};

TEST_F(DomainPortTest, MovesBytesAcrossPagesAndFaultsThemIn) {
  const auto m = domain.Map(PhysAddrOf(buffer.data()), buffer.size(),
                            Direction::kBidirectional);
  Bytes frame(2 * kPage, std::byte{0x42});
  Transfer t = port.Write(m->iova + 100, frame.data(), frame.size());
  EXPECT_TRUE(t.ok());
  EXPECT_EQ(t.bytes, frame.size());
  EXPECT_EQ(domain.stats().faults, 3u);
  Bytes seen(buffer.size());
  EXPECT_TRUE(port.Read(m->iova, seen.data(), seen.size()).ok());
  EXPECT_EQ(seen[99], std::byte{0x21});
  EXPECT_EQ(seen[100], std::byte{0x42});
  EXPECT_EQ(seen[2 * kPage + 99], std::byte{0x42});
  EXPECT_EQ(seen[2 * kPage + 100], std::byte{0x21});
  EXPECT_TRUE(domain.Unmap(*m).ok());
  EXPECT_EQ(buffer, seen);
}

TEST_F(DomainPortTest, StopsWhereTheMappingEndsAndSaysHowFar) {
  const auto m =
      domain.Map(PhysAddrOf(buffer.data()), kPage + 10, Direction::kFromDevice);
  const Bytes frame(2 * kPage);
  Transfer t = port.Write(m->iova, frame.data(), frame.size());
  EXPECT_EQ(t.bytes, kPage + 10);
  EXPECT_EQ(t.error(), Error::kNotMapped);
  Bytes seen(1);
  t = port.Read(m->iova, seen.data(), 1);
  EXPECT_EQ(t.bytes, 0u);
  EXPECT_EQ(t.error(), Error::kPermission);
  EXPECT_TRUE(port.Read(m->iova, nullptr, 0).ok()) << "nothing is fine";
  EXPECT_TRUE(domain.Unmap(*m).ok());
}

TEST_F(DomainPortTest, TheEndOfTheAddressSpaceIsAnEnd) {
  std::byte b[2] = {};
  EXPECT_EQ(port.Read(Iova::Max(), b, 2).error(), Error::kNotMapped);
  // A device that answers everywhere, one byte at a time.
  struct Everywhere {
    std::byte byte{7};
    Result<DeviceView> Translate(Iova, std::uint64_t, Permission) {
      return DeviceView{&byte, 1};
    }
  } everywhere;
  DomainPort<Everywhere> any(everywhere);
  const Transfer t = any.Read(Iova::Max(), b, 2);
  EXPECT_EQ(t.bytes, 1u);
  EXPECT_EQ(t.error(), Error::kNotMapped) << "it does not wrap to 0";
}

}  // namespace
}  // namespace dmamap
