// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// The kernel's code does behind the shim what it does in a kernel, as far as
// the workloads use it. Two of its faults that are known are there too: they
// show that this is its code and not a likeness.

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "benchmarks/peers/iotlb_workloads.h"
#include "benchmarks/peers/linux_iotlb.h"
#include "benchmarks/peers/linux_iova.h"
#include "benchmarks/peers/linux_vduse.h"
#include "dma/direction.h"
#include "dma/mapper.h"

namespace dmamap::peers {
namespace {

TEST(LinuxIovaTest, LiveRangesAreDisjointAlignedAndBelowTheLimit) {
  auto iova = *LinuxIova::Create({});
  ASSERT_TRUE(iova->EnterThread(0).ok());
  std::map<std::uint64_t, std::uint64_t> live;  // page to pages
  Random random(1);
  for (int i = 0; i < 20'000; ++i) {
    if (live.size() < 500 || random.Below(2) == 0) {
      const std::uint64_t pages = std::uint64_t{1} << random.Below(8);
      const bool cached = random.Below(4) != 0;
      const std::uint64_t page =
          cached ? iova->Allocate(pages, kLastPage32)
                 : iova->AllocateUncached(pages, kLastPage32);
      ASSERT_NE(page, 0u);
      ASSERT_EQ(page % pages, 0u);
      ASSERT_LE(page + pages - 1, kLastPage32);
      const auto above = live.lower_bound(page);
      ASSERT_TRUE(above == live.end() || above->first >= page + pages);
      if (above != live.begin()) {
        const auto below = std::prev(above);
        ASSERT_LE(below->first + below->second, page);
      }
      live.emplace(page, pages);
    } else {
      auto at = live.lower_bound(random.Below(kLastPage32));
      if (at == live.end()) at = live.begin();
      iova->Free(at->first, at->second);
      live.erase(at);
    }
  }
}

TEST(LinuxIovaTest, MagazinesAreReused) {
  auto iova = *LinuxIova::Create({});
  ASSERT_TRUE(iova->EnterThread(0).ok());
  const std::uint64_t page = iova->Allocate(1, kLastPage48);
  iova->Free(page, 1);
  EXPECT_EQ(iova->Allocate(1, kLastPage48), page);
}

TEST(LinuxIovaTest, EachCpuHasMagazinesOfItsOwn) {
  auto iova = *LinuxIova::Create({.threads = 2});
  ASSERT_TRUE(iova->EnterThread(0).ok());
  const std::uint64_t page = iova->Allocate(1, kLastPage48);
  iova->Free(page, 1);
  ASSERT_TRUE(iova->EnterThread(1).ok());
  EXPECT_NE(iova->Allocate(1, kLastPage48), page);
  ASSERT_TRUE(iova->EnterThread(0).ok());
  EXPECT_EQ(iova->Allocate(1, kLastPage48), page);
}

// The depot's delayed work returns full magazines to the tree.
TEST(LinuxIovaTest, DelayedWorkRuns) {
  auto iova = *LinuxIova::Create({});
  ASSERT_TRUE(iova->EnterThread(0).ok());
  std::vector<std::uint64_t> pages(4096);
  for (std::uint64_t& page : pages) page = iova->Allocate(1, kLastPage48);
  const std::uint64_t lowest = *std::min_element(pages.begin(), pages.end());
  for (const std::uint64_t page : pages) iova->Free(page, 1);
  // Room at the top of the space, where the tree looks first, comes from there.
  std::uint64_t found = 0;
  for (int i = 0; i < 100 && found <= lowest; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    found = iova->AllocateUncached(64, kLastPage48);
  }
  EXPECT_GT(found, lowest);
}

// One hint about failures serves all limits: after a request under 30 bits that
// fails, one under 32 bits fails too, with 3 GiB free.
TEST(LinuxIovaTest, ARefusalUnderOneLimitPoisonsAnother) {
  auto iova = *LinuxIova::Create({});
  ASSERT_TRUE(iova->EnterThread(0).ok());
  constexpr std::uint64_t kLastPage30 = (std::uint64_t{1} << 18) - 1;
  while (iova->AllocateUncached(1, kLastPage30) != 0) continue;
  EXPECT_EQ(iova->AllocateUncached(1, kLastPage32), 0u);
  EXPECT_NE(iova->AllocateUncached(1, 2 * kLastPage32 + 1), 0u);
}

TEST(LinuxIotlbTest, TranslatesAndWalks) {
  const std::vector<WorkloadMapping> mappings = DenseMappings(200);
  auto iotlb = *LinuxIotlb::Create(200);
  auto reader = iotlb->NewReader();
  WalkResult all;
  for (const WorkloadMapping& m : mappings) {
    EXPECT_EQ(reader.Lookup(m.first), 0u);
    ASSERT_TRUE(iotlb->AddShared(m.first, m.last, m.address, 3));
    EXPECT_EQ(reader.Lookup(m.last), m.address + m.size() - 1);
    EXPECT_EQ(reader.LookupShared(m.first), m.address);
    ++all.count;
    all.sum += m.address;
  }
  EXPECT_EQ(iotlb->Walk(0, ~std::uint64_t{0}), all);
  EXPECT_EQ(iotlb->Walk(mappings[3].last, mappings[5].first).count, 3u);
  iotlb->RemoveShared(mappings[4].first, mappings[4].last);
  EXPECT_EQ(reader.Lookup(mappings[4].first), 0u);
  EXPECT_EQ(iotlb->Walk(mappings[3].last, mappings[5].first).count, 2u);
  iotlb->Remove(0, ~std::uint64_t{0});
  EXPECT_EQ(iotlb->Walk(0, ~std::uint64_t{0}), WalkResult{});
}

class LinuxVduseTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(domain_->EnterThread(0).ok()); }
  std::unique_ptr<LinuxVduse> domain_ = *LinuxVduse::Create({});
};

TEST_F(LinuxVduseTest, CopiesToTheDevice) {
  std::vector<std::byte> buffer(1500, std::byte{7});
  LinuxVduse::Handle iova = 0;
  ASSERT_TRUE(domain_->Map(buffer.data(), buffer.size(), Direction::kToDevice,
                           MapAttributes::kNone, iova));
  // The buffer may begin anywhere in its page, the mapping begins at a page.
  const std::byte* device = domain_->DevicePage(iova);
  ASSERT_NE(device, nullptr);
  EXPECT_EQ(std::count(device, device + 1500, std::byte{7}), 1500);
  EXPECT_EQ(device[1500], std::byte{0});
  buffer[0] = std::byte{8};
  domain_->SyncForDevice(iova, 1500, Direction::kToDevice);
  EXPECT_EQ(device[0], std::byte{8});
  domain_->Unmap(iova, 1500, Direction::kToDevice, MapAttributes::kNone);
}

TEST_F(LinuxVduseTest, CopiesFromTheDevice) {
  std::vector<std::byte> buffer(6000, std::byte{7});
  LinuxVduse::Handle iova = 0;
  ASSERT_TRUE(domain_->Map(buffer.data(), buffer.size(), Direction::kFromDevice,
                           MapAttributes::kNone, iova));
  std::fill_n(domain_->DevicePage(iova), 4096, std::byte{1});
  std::fill_n(domain_->DevicePage(iova + 4096), 4096, std::byte{2});
  domain_->SyncForCpu(iova, 4096, Direction::kFromDevice);
  EXPECT_EQ(std::count(buffer.begin(), buffer.end(), std::byte{1}), 4096);
  EXPECT_EQ(std::count(buffer.begin(), buffer.end(), std::byte{7}),
            6000 - 4096);
  domain_->Unmap(iova, 6000, Direction::kFromDevice, MapAttributes::kNone);
  EXPECT_EQ(std::count(buffer.begin(), buffer.end(), std::byte{2}),
            6000 - 4096);
}

TEST_F(LinuxVduseTest, CopiesNothingWhenToldSo) {
  std::vector<std::byte> buffer(4096, std::byte{7});
  LinuxVduse::Handle iova = 0;
  ASSERT_TRUE(domain_->Map(buffer.data(), 4096, Direction::kBidirectional,
                           MapAttributes::kSkipSync, iova));
  EXPECT_EQ(domain_->DevicePage(iova)[0], std::byte{0});
  domain_->Unmap(iova, 4096, Direction::kBidirectional,
                 MapAttributes::kSkipSync);
  EXPECT_EQ(buffer[0], std::byte{7});
}

// A device that writes less than was mapped: the driver gets what the page held
// before, another mapping's bytes.
TEST_F(LinuxVduseTest, AShortWriteBringsStaleBytes) {
  std::vector<std::byte> secret(4096, std::byte{0x53});
  LinuxVduse::Handle iova = 0;
  ASSERT_TRUE(domain_->Map(secret.data(), 4096, Direction::kToDevice,
                           MapAttributes::kNone, iova));
  domain_->Unmap(iova, 4096, Direction::kToDevice, MapAttributes::kNone);
  std::vector<std::byte> buffer(1500, std::byte{7});
  LinuxVduse::Handle second = 0;
  ASSERT_TRUE(domain_->Map(buffer.data(), 1500, Direction::kFromDevice,
                           MapAttributes::kNone, second));
  ASSERT_EQ(second, iova);
  std::fill_n(domain_->DevicePage(second), 100, std::byte{1});
  domain_->Unmap(second, 1500, Direction::kFromDevice, MapAttributes::kNone);
  EXPECT_EQ(std::count(buffer.begin(), buffer.end(), std::byte{0x53}), 1400);
}

}  // namespace
}  // namespace dmamap::peers
