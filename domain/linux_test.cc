// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "domain/linux.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#include "bounce/huge_pages.h"
#include "domain/domain.h"
#include "domain/parts_for_test.h"
#include "testing/domain_port.h"

namespace dmamap {
namespace {

using testing_parts::Bytes;
using testing_parts::Pattern;

struct Policies : LinuxDomainPolicies {
  using Pages = HugePages;
};

constexpr unsigned kTurns = 1600;

// One driver and its device, on one thread: what is mapped is seen, and what is
// written arrives, whatever the others do.
void Drive(Domain<Policies>& domain, unsigned seed, std::atomic<int>& wrong) {
  DomainPort port(domain);
  for (unsigned i = 0; i < kTurns; ++i) {
    if (i % 8 == 0) domain.ReclaimIdle();  // the next page has to be made
    const std::size_t size = 1 + (i * 977 + seed * 131) % 9000;
    Bytes buffer = Pattern(size, i + seed);
    const Bytes original = buffer;
    const auto m =
        domain.Map(PhysAddrOf(buffer.data()), size, Direction::kBidirectional);
    if (!m.ok()) {
      ++wrong;
      continue;
    }
    Bytes seen(size);
    const bool read = port.Read(m->iova, seen.data(), size).ok();
    const Bytes written = Pattern(size / 2 + 1, i + seed + 7);
    const bool wrote = port.Write(m->iova, written.data(), written.size()).ok();
    if (!domain.Unmap(*m).ok() || !read || !wrote || seen != original) ++wrong;
    Bytes expected = original;
    std::copy(written.begin(), written.end(), expected.begin());
    if (buffer != expected) ++wrong;
  }
}

// The membarrier between maps and faults: pages come and go all the time.
TEST(LinuxDomain, BytesArriveWhilePagesComeAndGo) {
  Domain<Policies> domain;
  ASSERT_TRUE(domain.pages().Init({}).ok());
  ASSERT_TRUE(domain.Init({.bounce_size = 8 << 20}).ok());
  std::atomic<int> wrong{0};
  std::atomic<bool> stop{false};
  std::thread sweeper([&] {
    while (!stop) domain.ReclaimIdle();
  });
  std::vector<std::thread> drivers;
  for (unsigned t = 0; t < 2; ++t) {
    drivers.emplace_back([&, t] { Drive(domain, t, wrong); });
  }
  for (std::thread& t : drivers) t.join();
  stop = true;
  sweeper.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_GE(domain.stats().faults, 2 * kTurns / 8);
  EXPECT_TRUE(domain.CheckInvariants());
  EXPECT_TRUE(domain.Shutdown([](const Leak&) {}).ok());
}

}  // namespace
}  // namespace dmamap
