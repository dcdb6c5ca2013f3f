// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Drivers on several threads and a device that keeps to the IOTLB's sections,
// in every mode, strict and deferred: for the sanitizers.

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#include "domain/domain.h"
#include "domain/modes_for_test.h"
#include "iotlb/software_iommu.h"

namespace dmamap {
namespace {

using testing_parts::Arena;

constexpr std::uint64_t kPage = 4096;

struct Policies : DomainPolicies {
  using Invalidation = SoftwareIommu;
};

struct World {
  World(DomainMode mode, FlushMode flush) {
    EXPECT_TRUE(domain.invalidation().Init().ok());
    EXPECT_TRUE(domain
                    .Init({.bounce_size = 4096 * kPage,
                           .mode = mode,
                           .automatic = {.map_ns = 200},
                           .flush = {.mode = flush, .entries = 16}})
                    .ok());
  }
  // The device writes the first byte, as hardware would.
  void DeviceWrites(SoftwareIommu::Iotlb::Reader& reader, Iova at) {
    const SoftwareIommu::Iotlb::Reader::Section section(reader);
    const auto t = reader.Lookup(at, Permission::kWrite);
    ASSERT_TRUE(t.ok());
    *PointerTo(t->address) = std::byte{7};
  }
  Domain<Policies> domain;
};

void Drive(World& w, unsigned tid) {
  SoftwareIommu::Iotlb::Reader reader;
  ASSERT_TRUE(reader.Init(w.domain.invalidation().iotlb()).ok());
  Arena arena(4 * kPage);
  std::memset(arena.data(), 1, arena.size());
  for (std::uint64_t i = 0; i < 300; ++i) {
    const std::uint64_t size = 1 + (i * 613 + tid) % 9000;
    arena[100] = std::byte{1};
    const auto m = w.domain.Map(arena.at(100), size, Direction::kBidirectional);
    ASSERT_TRUE(m.ok());
    w.DeviceWrites(reader, m->iova);
    ASSERT_TRUE(w.domain.SyncForCpu(*m, 0, 1).ok());
    ASSERT_EQ(arena[100], std::byte{7});
    ASSERT_TRUE(w.domain.Unmap(*m).ok());
    const SafetyTicket ticket = w.domain.Retired();
    if (i % 32 == 0) {
      ASSERT_TRUE(w.domain.Flush().ok());
      ASSERT_TRUE(w.domain.IsSafe(ticket));
      w.domain.ReclaimIdle();
    }
    const auto held = w.domain.Reserve(2 * kPage);
    if (!held.ok()) continue;  // kPooled
    const auto link =
        w.domain.Link(*held, 0, arena.at(0), kPage, Direction::kToDevice);
    ASSERT_TRUE(link.ok() && w.domain.SyncLinks(*held).ok());
    ASSERT_TRUE(w.domain.Unlink({&*link, 1}).ok());
    ASSERT_TRUE(w.domain.Release(*held).ok());
  }
}

TEST(ModesConcurrent, DriversOfOneDomain) {
  for (const DomainMode mode :
       {DomainMode::kBounce, DomainMode::kDirect, DomainMode::kUnalignedEnds,
        DomainMode::kPooled, DomainMode::kAutomatic}) {
    for (const FlushMode flush : {FlushMode::kStrict, FlushMode::kDeferred}) {
      World w(mode, flush);
      std::vector<std::thread> threads;
      for (unsigned t = 0; t < 3; ++t) {
        threads.emplace_back([&w, t] { Drive(w, t); });
      }
      for (std::thread& t : threads) t.join();
      EXPECT_TRUE(w.domain.CheckInvariants());
      EXPECT_EQ(w.domain.stats().live, 0u);
      EXPECT_TRUE(w.domain.Shutdown([](const Leak&) {}).ok());
    }
  }
}

}  // namespace
}  // namespace dmamap
