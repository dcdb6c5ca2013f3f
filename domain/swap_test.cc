// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Domain::SwapPages: a user's pages in and out under live mappings, while other
// threads map, sync, unmap and play the device.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "bounce/swappable_pages.h"
#include "dma/address.h"
#include "dma/atom.h"
#include "dma/result.h"
#include "domain/domain.h"

namespace dmamap {
namespace {

constexpr std::uint64_t kPages = 64;

// Devices are threads; an invalidation waits until none is in an access.
class WaitsForDevices {
 public:
  static constexpr std::size_t kDevices = 2;
  template <class F>
  void Access(std::size_t n, F&& f) {
    busy_[n].store(1, std::memory_order_seq_cst);
    AtomFence<std::atomic>(std::memory_order_seq_cst);
    f();
    busy_[n].store(0, std::memory_order_release);
  }
  Result<void> Invalidate(Range) {
    AtomFence<std::atomic>(std::memory_order_seq_cst);
    for (auto& busy : busy_) {
      while (busy.load(std::memory_order_acquire) != 0) {
        std::this_thread::yield();
      }
    }
    return Ok();
  }
  Result<void> InvalidateAll() { return Invalidate(Range::Byte(Iova(0))); }

 private:
  std::array<std::atomic<int>, kDevices> busy_ = {};
};

struct Policies : DomainPolicies {
  using Pages = SwappablePages<>;
  using Invalidation = WaitsForDevices;
};

struct alignas(4096) Lent {
  std::array<std::byte, kPages * 4096> bytes;
};

class SwapTest : public testing::Test {
 protected:
  SwapTest() : lent_(std::make_unique<Lent>()) {
    EXPECT_TRUE(
        domain_.Init({.limit = Iova(0xff'ffff), .bounce_size = kPages * 4096})
            .ok());
    const std::array regions = {
        UserRegion{lent_->bytes.data(), lent_->bytes.size()}};
    EXPECT_TRUE(domain_.pages()
                    .lent()
                    .Register({.regions = regions, .pages = kPages})
                    .ok());
  }
  bool IsLent(const std::byte* p) const {
    return p >= lent_->bytes.data() &&
           p < lent_->bytes.data() + lent_->bytes.size();
  }

  std::unique_ptr<Lent> lent_;  // outlives the domain
  Domain<Policies> domain_;
};

// Also while no page is out that would have to move.
TEST(Swap, ToAHomeWithoutPagesIsRefused) {
  Domain<Policies> domain;
  ASSERT_TRUE(
      domain.Init({.limit = Iova(0xff'ffff), .bounce_size = kPages * 4096})
          .ok());
  for (int i = 0; i < 2; ++i) {
    EXPECT_FALSE(domain.SwapPages(PageHome::kLent).ok());
    EXPECT_EQ(domain.pages().home(), PageHome::kOwn);
  }
  std::array<std::byte, 100> buffer = {};
  const auto m =
      domain.Map(PhysAddrOf(buffer.data()), 100, Direction::kToDevice);
  ASSERT_TRUE(m.ok());
  EXPECT_TRUE(domain.Translate(m->iova, 100, Permission::kRead).ok());
  EXPECT_TRUE(domain.Unmap(*m).ok());
  EXPECT_TRUE(domain.CheckInvariants());
}

TEST_F(SwapTest, WhatADeviceWroteComesBackAfterwards) {
  std::array<std::byte, 100> buffer = {};
  const auto m =
      domain_.Map(PhysAddrOf(buffer.data()), 100, Direction::kFromDevice);
  ASSERT_TRUE(m.ok());
  const auto block = domain_.AllocateCoherent(100);
  ASSERT_TRUE(block.ok());
  block->cpu[5] = std::byte{5};
  auto view = domain_.Translate(m->iova, 100, Permission::kWrite);
  ASSERT_TRUE(view.ok());
  view->data[3] = std::byte{3};
  EXPECT_EQ(*domain_.SwapPages(PageHome::kLent), 1u);
  view = domain_.Translate(m->iova, 100, Permission::kWrite);
  ASSERT_TRUE(view.ok());
  EXPECT_TRUE(IsLent(view->data));
  EXPECT_EQ(view->data[3], std::byte{3});
  view->data[4] = std::byte{4};
  EXPECT_EQ(*domain_.SwapPages(PageHome::kOwn), 1u);
  EXPECT_TRUE(domain_.pages().lent().Withdraw().ok());
  EXPECT_TRUE(domain_.Unmap(*m).ok());
  EXPECT_EQ(buffer[3], std::byte{3});
  EXPECT_EQ(buffer[4], std::byte{4});
  EXPECT_EQ(block->cpu[5], std::byte{5});  // it never moves
  EXPECT_TRUE(domain_.FreeCoherent(*block).ok());
  EXPECT_TRUE(domain_.CheckInvariants());
}

// Each thread is driver and device of its own buffers.
TEST_F(SwapTest, UnderTraffic) {
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> rounds{0};
  std::vector<std::thread> threads;
  for (std::size_t n = 0; n < WaitsForDevices::kDevices; ++n) {
    threads.emplace_back([&, n] {
      std::vector<std::byte> buffer(6000);
      for (unsigned i = 1; !stop.load(std::memory_order_relaxed); ++i) {
        const auto in = static_cast<std::byte>(i);
        const std::size_t at = i * 37 % buffer.size();
        std::fill(buffer.begin(), buffer.end(), in);
        const auto m = domain_.Map(PhysAddrOf(buffer.data()), buffer.size(),
                                   Direction::kBidirectional);
        ASSERT_TRUE(m.ok());
        for (bool done = false; !done;) {
          domain_.invalidation().Access(n, [&] {
            const auto view =
                domain_.Translate(m->iova + at, 1, Permission::kReadWrite);
            if (!view.ok()) {
              ASSERT_EQ(view.error(), Error::kBusy);
              return;
            }
            ASSERT_EQ(view->data[0], in);
            view->data[0] = ~in;
            done = true;
          });
        }
        if (i % 2 == 0) {
          ASSERT_TRUE(domain_.SyncForCpu(*m, at, 1).ok());
          ASSERT_EQ(buffer[at], ~in);
        }
        ASSERT_TRUE(domain_.Unmap(*m).ok());
        ASSERT_EQ(buffer[at], ~in);
        ASSERT_EQ(buffer[(at + 1) % buffer.size()], in);
        rounds.fetch_add(1, std::memory_order_relaxed);
      }
    });
  }
  std::uint64_t moved = 0;
  for (int i = 0; i < 20 || rounds.load() < 20 || moved == 0; ++i) {
    const auto r =
        domain_.SwapPages(i % 2 == 0 ? PageHome::kLent : PageHome::kOwn);
    EXPECT_TRUE(r.ok());
    if (!r.ok() || i == 1'000'000) break;
    moved += *r;
    std::this_thread::yield();
  }
  stop = true;
  for (std::thread& t : threads) t.join();
  EXPECT_GT(moved, 0u);
  EXPECT_TRUE(domain_.CheckInvariants());
}

}  // namespace
}  // namespace dmamap
