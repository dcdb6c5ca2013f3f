// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "iotlb/software_iommu.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>

#include "dma/address.h"
#include "dma/direction.h"
#include "dma/result.h"

namespace dmamap {
namespace {

constexpr std::uint64_t kPage = 4096;

Range Pages(std::uint64_t first, std::uint64_t count) {
  return *Range::FromSize(Iova(first * kPage), count * kPage);
}

struct SoftwareIommuTest : testing::Test {
  SoftwareIommuTest() { EXPECT_TRUE(iommu.Init().ok()); }
  ~SoftwareIommuTest() override {
    EXPECT_TRUE(iommu.iotlb().CheckInvariants());
  }
  PhysAddr At(std::uint64_t page) const { return PhysAddr(page * kPage); }
  SoftwareIommu iommu;
};

TEST(SoftwareIommuInit, ComesFirstAndOnce) {
  SoftwareIommu iommu;
  EXPECT_EQ(iommu.Map(Pages(1, 1), PhysAddr(kPage), Permission::kRead).error(),
            Error::kShutDown);
  EXPECT_EQ(iommu.Init(*PageSize::FromShift(8)).error(),
            Error::kInvalidArgument);
  EXPECT_TRUE(iommu.Init(*PageSize::FromShift(16)).ok());
  EXPECT_EQ(iommu.Init().error(), Error::kBusy);
  EXPECT_EQ(iommu.page().bytes(), 65536u);
}

TEST_F(SoftwareIommuTest, MapsWholePagesOnce) {
  const auto map = [&](Range range, std::uint64_t memory, Permission p) {
    const auto r = iommu.Map(range, PhysAddr(memory), p);
    return r.ok() ? Error{} : r.error();
  };
  const auto rw = Permission::kReadWrite;
  EXPECT_EQ(map(Pages(4, 3), 10 * kPage, rw), Error{});
  EXPECT_EQ(map(Pages(6, 3), 20 * kPage, rw), Error::kOverlap);
  EXPECT_EQ(map(Range::Byte(Iova(0)), 0, rw), Error::kInvalidArgument);
  EXPECT_EQ(map(Pages(9, 1), 10, rw), Error::kInvalidArgument);
  EXPECT_EQ(map(Pages(9, 1), 0, Permission::kNone), Error::kInvalidArgument);
  EXPECT_TRUE(iommu.SyncMap(Pages(4, 3)).ok());
  const auto t = iommu.Lookup(Iova(5 * kPage + 7), Permission::kWrite);
  ASSERT_TRUE(t.ok());
  EXPECT_EQ(t->address, PhysAddr(11 * kPage + 7));
  EXPECT_EQ(t->bytes_minus_one, 2 * kPage - 8);
}

TEST_F(SoftwareIommuTest, UnmapsWholeMapsAndParts) {
  for (const std::uint64_t page : {4u, 5u, 6u}) {
    ASSERT_TRUE(
        iommu.Map(Pages(page, 1), At(page + 100), Permission::kRead).ok());
  }
  ASSERT_TRUE(iommu.Map(Pages(7, 4), At(200), Permission::kRead).ok());
  EXPECT_EQ(iommu.Unmap(Pages(3, 2)).error(), Error::kNotMapped);
  EXPECT_EQ(iommu.Unmap(Range::Byte(Iova(5 * kPage))).error(),
            Error::kInvalidArgument);
  EXPECT_TRUE(iommu.Unmap(Pages(5, 4)).ok()) << "two, and the half of another";
  EXPECT_TRUE(iommu.Invalidate(Pages(5, 4)).ok());
  EXPECT_TRUE(iommu.Lookup(Iova(4 * kPage), Permission::kRead).ok());
  EXPECT_FALSE(iommu.Lookup(Iova(5 * kPage), Permission::kRead).ok());
  EXPECT_FALSE(iommu.Lookup(Iova(8 * kPage), Permission::kRead).ok());
  const auto rest = iommu.Lookup(Iova(9 * kPage), Permission::kRead);
  ASSERT_TRUE(rest.ok());
  EXPECT_EQ(rest->address, At(202));
}

// A device that keeps to sections never reads memory that its driver has taken
// back.
TEST_F(SoftwareIommuTest, InvalidationWaitsForSections) {
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> reads{0};
  std::thread device([&] {
    SoftwareIommu::Iotlb::Reader reader;
    ASSERT_TRUE(reader.Init(iommu.iotlb()).ok());
    while (!stop.load()) {
      const SoftwareIommu::Iotlb::Reader::Section section(reader);
      const auto t = reader.Lookup(Iova(kPage), Permission::kRead);
      if (!t.ok()) continue;
      const auto* p = reinterpret_cast<const int*>(PointerTo(t->address));
      ASSERT_EQ(*p, 42);
      reads.fetch_add(1);
    }
  });
  struct alignas(kPage) Page {
    int value = 42;
  };
  for (int i = 0; i < 300 || reads.load() < 20; ++i) {
    auto page = std::make_unique<Page>();
    ASSERT_TRUE(
        iommu.Map(Pages(1, 1), PhysAddrOf(page.get()), Permission::kRead).ok());
    if (i % 8 == 0) std::this_thread::yield();
    ASSERT_TRUE(iommu.Unmap(Pages(1, 1)).ok());
    ASSERT_TRUE(iommu.Invalidate(Pages(1, 1)).ok());
    page->value = 0;
  }
  stop.store(true);
  device.join();
}

}  // namespace
}  // namespace dmamap
