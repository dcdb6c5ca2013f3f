// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// What happens to the page sources when the C++ heap runs out: an error value,
// and nothing changed. This program replaces the global nothrow operator new.

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

#include "bounce/huge_pages.h"
#include "bounce/memfd_pages.h"
#include "bounce/page_calls_for_test.h"
#include "bounce/page_source.h"
#include "bounce/user_pages.h"
#include "dma/address.h"

namespace {

// Not inlined: g++ would see free() at the end of what it takes for a new of
// its own, and warn.
[[gnu::noinline]] void GiveBack(void* p) noexcept { std::free(p); }

// Allocations that still succeed; negative: no limit.
long allowed = -1;

void* Take(std::size_t size, std::size_t alignment) noexcept {
  if (allowed == 0) return nullptr;
  if (allowed > 0) --allowed;
  return std::aligned_alloc(alignment,
                            (size + alignment - 1) / alignment * alignment);
}

}  // namespace

void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return Take(size, 16);
}
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept {
  return Take(size, 16);
}
void* operator new(std::size_t size, std::align_val_t alignment,
                   const std::nothrow_t&) noexcept {
  return Take(size, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t size) {
  void* p = std::malloc(size);
  if (p == nullptr) std::abort();
  return p;
}
void* operator new[](std::size_t size) { return operator new(size); }
void operator delete(void* p) noexcept { GiveBack(p); }
void operator delete[](void* p) noexcept { GiveBack(p); }
void operator delete(void* p, std::size_t) noexcept { GiveBack(p); }
void operator delete[](void* p, std::size_t) noexcept { GiveBack(p); }
void operator delete(void* p, std::align_val_t) noexcept { GiveBack(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept {
  GiveBack(p);
}

namespace dmamap {
namespace {

using testing_parts::CallPlan;
using testing_parts::PlannedCalls;
using testing_parts::PlannedPolicy;

class PagesFailure : public ::testing::Test {
 protected:
  ~PagesFailure() override { allowed = -1; }
};

// init() with 0, 1, 2, ... allocations allowed, until it succeeds; how many it
// took. untouched() after each failure.
template <class Init, class Untouched>
long CountFailures(Init&& init, Untouched&& untouched) {
  for (long n = 0; n < 20; ++n) {
    allowed = n;
    const Result<void> r = init();
    allowed = -1;
    if (r.ok()) return n;
    EXPECT_EQ(r.error(), Error::kNoMemory);
    EXPECT_TRUE(untouched());
  }
  return -1;
}

TEST_F(PagesFailure, Heap) {
  HeapPages pages(1 << 20);
  allowed = 0;
  EXPECT_EQ(pages.Allocate(PageSize(), 3).error(), Error::kNoMemory);
  allowed = -1;
  EXPECT_EQ(pages.in_use(), 0u);
  EXPECT_EQ(pages.high_water(), 0u);
  EXPECT_EQ(pages.stats().refused_by_memory, 1u);
  EXPECT_EQ(pages.stats().refused_by_budget, 0u);
  EXPECT_TRUE(pages.CheckInvariants());
  const auto p = pages.Allocate(PageSize(), 3);
  ASSERT_TRUE(p.ok());
  pages.Free(*p, PageSize(), 3);
}

TEST_F(PagesFailure, HugeInit) {
  CallPlan plan;
  BasicHugePages<PlannedPolicy> pages{PlannedCalls(&plan)};
  EXPECT_EQ(CountFailures([&] { return pages.Init(); },
                          [&] { return plan.mapped == 0; }),
            2);
  EXPECT_TRUE(pages.CheckInvariants());
}

TEST_F(PagesFailure, MemfdInit) {
  CallPlan plan;
  BasicMemfdPages<PlannedPolicy> pages{PlannedCalls(&plan)};
  EXPECT_EQ(CountFailures([&] { return pages.Init(); },
                          [&] { return plan.mapped == 0 && plan.files == 0; }),
            2);
  EXPECT_TRUE(pages.CheckInvariants());
}

TEST_F(PagesFailure, UserRegister) {
  UserPages pages;
  alignas(4096) static std::byte memory[3 * 4096];
  const std::array regions = {UserRegion{memory, 4096},
                              UserRegion{memory + 2 * 4096, 4096}};
  EXPECT_EQ(CountFailures([&] { return pages.Register({.regions = regions}); },
                          [&] { return !pages.registered(); }),
            3);
  EXPECT_TRUE(pages.CheckInvariants());
}

// Allocate and Free of the sources that own their memory need no heap.
TEST_F(PagesFailure, CarvingNeedsNoHeap) {
  HugePages pages;
  ASSERT_TRUE(pages.Init({}).ok());
  allowed = 0;
  const auto p = pages.Allocate(PageSize(), 3);
  ASSERT_TRUE(p.ok());
  pages.Free(*p, PageSize(), 3);
  EXPECT_EQ(pages.Trim(), 3u * 4096);
}

}  // namespace
}  // namespace dmamap
