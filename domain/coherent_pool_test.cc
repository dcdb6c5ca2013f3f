// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "domain/coherent_pool.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#include "domain/domain.h"

namespace dmamap {
namespace {

using Pool = CoherentPool<Domain<>>;

void Start(Domain<>& domain) {
  RC_ASSERT(domain
                .Init({.limit = Iova(0xff'ffff),
                       .bounce_size = std::uint64_t{1} << 20})
                .ok());
}
bool IsAll(const CoherentBlock& b, std::byte value) {
  return std::all_of(b.cpu, b.cpu + b.size,
                     [&](std::byte x) { return x == value; });
}

TEST(CoherentPool, RefusesWhatCannotBe) {
  Domain<> domain;
  Start(domain);
  Pool pool(domain);
  EXPECT_EQ(pool.Allocate().error(), Error::kShutDown);
  const CoherentPoolOptions bad[] = {
      {.size = 0},
      {.size = 8, .alignment = 3},
      {.size = 8, .alignment = 8192},
      {.size = 8, .boundary = 24},
      {.size = 65, .boundary = 64},
      {.size = 100, .chunk_bytes = 99},
      {.size = 6000, .boundary = 8192, .chunk_bytes = 65536},
      {.size = ~std::uint64_t{0}},
  };
  for (const auto& o : bad) {
    EXPECT_EQ(pool.Init(o).error(), Error::kInvalidArgument) << o.size;
  }
  ASSERT_TRUE(pool.Init({.size = 8}).ok());
  EXPECT_EQ(pool.Init({.size = 8}).error(), Error::kBusy);
}

TEST(CoherentPool, ChecksWhatIsFreed) {
  Domain<> domain;
  Start(domain);
  Pool pool(domain);
  Pool other(domain);
  ASSERT_TRUE(pool.Init({.size = 48, .alignment = 16}).ok());
  ASSERT_TRUE(other.Init({.size = 48, .alignment = 16}).ok());
  const auto a = pool.Allocate();
  const auto b = other.Allocate();
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ(pool.Free(*b).error(), Error::kForeign);
  for (int what = 0; what < 4; ++what) {
    CoherentBlock lie = *a;
    if (what == 0) lie.iova = lie.iova + 16;  // inside
    if (what == 1) lie.cpu += 48;
    if (what == 2) lie.size = 47;
    if (what == 3) lie = {a->iova + 48, a->cpu + 48, 48};  // never taken
    EXPECT_EQ(pool.Free(lie).error(),
              what == 3 ? Error::kDoubleFree : Error::kForeign);
  }
  ASSERT_TRUE(pool.Free(*a).ok());
  EXPECT_EQ(pool.Free(*a).error(), Error::kDoubleFree);
  EXPECT_EQ(pool.stats().bad_frees, 6u);
  EXPECT_TRUE(pool.CheckInvariants());
  ASSERT_TRUE(other.Free(*b).ok());
}

TEST(CoherentPool, ListsLeaksAndGivesAllBack) {
  Domain<> domain;
  Start(domain);
  {
    Pool pool(domain);
    ASSERT_TRUE(pool.Init({.size = 1000}).ok());
    const auto a = pool.Allocate();
    const auto b = pool.Allocate();
    ASSERT_TRUE(a.ok() && b.ok() && pool.Free(*a).ok());
    std::vector<Iova> leaks;
    EXPECT_EQ(pool.ReportLeaks(
                  [&](const CoherentBlock& l) { leaks.push_back(l.iova); }),
              1u);
    EXPECT_EQ(leaks, std::vector<Iova>{b->iova});
    EXPECT_EQ(pool.Trim(), 0u);
    ASSERT_TRUE(pool.Free(*b).ok());
    EXPECT_EQ(pool.Trim(), 1u);
    EXPECT_EQ(domain.stats().coherent, 0u);
    ASSERT_TRUE(pool.Allocate().ok());
  }
  EXPECT_EQ(domain.stats().coherent, 0u);
}

TEST(CoherentPool, WantOfMemoryLosesNothing) {
  Domain<> domain;
  Start(domain);
  Pool pool(domain);
  ASSERT_TRUE(pool.Init({.size = 2048}).ok());
  domain.pages().set_budget(2 * 4096);
  std::vector<CoherentBlock> all;
  auto b = pool.Allocate();
  for (; b.ok(); b = pool.Allocate()) all.push_back(*b);
  EXPECT_EQ(b.error(), Error::kBudget);
  EXPECT_EQ(all.size(), 4u);
  EXPECT_TRUE(pool.CheckInvariants());
  for (const CoherentBlock& x : all) EXPECT_TRUE(pool.Free(x).ok());
  EXPECT_EQ(pool.Trim(), 2u);
  EXPECT_EQ(domain.pages().in_use(), 0u);
}

TEST(CoherentPool, ABoundOnBlocks) {
  Domain<> domain;
  Start(domain);
  Pool pool(domain);
  ASSERT_TRUE(pool.Init({.size = 64, .max_blocks = 2}).ok());
  const auto a = pool.Allocate();
  ASSERT_TRUE(a.ok() && pool.Allocate().ok());
  EXPECT_EQ(pool.Allocate().error(), Error::kLimit);
  ASSERT_TRUE(pool.Free(*a).ok());
  EXPECT_TRUE(pool.Allocate().ok());
}

TEST(CoherentPool, ALateDeviceIsWipedAgainIfAskedFor) {
  Domain<> domain;
  Start(domain);
  Pool pool(domain);
  ASSERT_TRUE(pool.Init({.size = 64, .zero_again = true}).ok());
  const auto a = pool.Allocate();
  ASSERT_TRUE(a.ok() && pool.Free(*a).ok());
  std::memset(a->cpu, 0x5A, 64);
  const auto b = pool.Allocate();
  ASSERT_TRUE(b.ok());
  EXPECT_EQ(b->iova, a->iova);
  EXPECT_TRUE(IsAll(*b, std::byte{0}));
}

TEST(CoherentPool, SmallerPagesThanTheAlignment) {
  Domain<> domain;
  const PageSize page = *PageSize::FromBytes(64);
  ASSERT_TRUE(domain
                  .Init({.limit = Iova(0xff'ffff),
                         .bounce_size = 1 << 20,
                         .page = page,
                         .bounce_page = page})
                  .ok());
  const auto shift = domain.AllocateCoherent(64);  // the next is not on 4096
  ASSERT_TRUE(shift.ok());
  Pool pool(domain);
  ASSERT_TRUE(pool.Init({.size = 64, .alignment = 4096}).ok());
  const auto b = pool.Allocate();
  if (b.ok()) {
    EXPECT_EQ(b->iova.value() % 4096, 0u);
  } else {
    EXPECT_EQ(b.error(), Error::kUnsupported);
    EXPECT_EQ(domain.stats().coherent, 1u);
  }
}

// Any geometry and any order of calls, against a list of what is out.
RC_GTEST_PROP(CoherentPool, BlocksAreApartAlignedZeroAndKeepTheirBytes, ()) {
  Domain<> domain;
  Start(domain);
  Pool pool(domain);
  CoherentPoolOptions o;
  o.size = *rc::gen::inRange<std::uint64_t>(1, 700);
  o.alignment = std::uint64_t{1} << *rc::gen::inRange(0, 9);
  if (*rc::gen::arbitrary<bool>()) {
    o.boundary = std::uint64_t{1024} << *rc::gen::inRange(0, 5);
  }
  if (*rc::gen::arbitrary<bool>()) {
    o.chunk_bytes = *rc::gen::inRange<std::uint64_t>(1024, 20'000);
  }
  RC_ASSERT(pool.Init(o).ok());
  struct Out {
    CoherentBlock b;
    std::byte value;
  };
  std::vector<Out> out;
  const int steps = *rc::gen::inRange(1, 60);
  for (int i = 0; i < steps; ++i) {
    const int what = *rc::gen::inRange(0, 8);
    if (what < 4 || out.empty()) {
      const auto b = pool.Allocate();
      RC_ASSERT(b.ok());
      RC_ASSERT(b->size == o.size && b->iova.value() % o.alignment == 0);
      const std::uint64_t last = b->iova.value() + o.size - 1;
      const bool crosses =
          o.boundary != 0 && b->iova.value() / o.boundary != last / o.boundary;
      RC_ASSERT(!crosses);
      const auto view =
          domain.Translate(b->iova, o.size, Permission::kReadWrite);
      RC_ASSERT(view.ok() && view->length == o.size && view->data == b->cpu);
      RC_ASSERT(IsAll(*b, std::byte{0}));
      const Range mine = *Range::FromSize(b->iova, b->size);
      for (const Out& other : out) {
        RC_ASSERT(!mine.Overlaps(*Range::FromSize(other.b.iova, other.b.size)));
      }
      const auto value = static_cast<std::byte>(*rc::gen::inRange(1, 256));
      std::memset(view->data, static_cast<int>(value), o.size);  // the device
      out.push_back({*b, value});
    } else if (what < 7) {
      const auto at = *rc::gen::inRange<std::size_t>(0, out.size());
      RC_ASSERT(IsAll(out[at].b, out[at].value));
      RC_ASSERT(pool.Free(out[at].b).ok());
      RC_ASSERT(pool.Free(out[at].b).error() == Error::kDoubleFree);
      RC_ASSERT(IsAll(out[at].b, std::byte{0}));
      out.erase(out.begin() + static_cast<std::ptrdiff_t>(at));
    } else {
      pool.Trim();
    }
    RC_ASSERT(pool.CheckInvariants() && pool.stats().out == out.size());
    std::uint64_t leaks = 0;
    pool.ReportLeaks([&](const CoherentBlock& l) {
      leaks += std::any_of(out.begin(), out.end(),
                           [&](const Out& x) { return x.b.iova == l.iova; });
    });
    RC_ASSERT(leaks == out.size());
  }
}

TEST(CoherentPool, AnyNumberOfThreads) {
  Domain<> domain;
  Start(domain);
  Pool pool(domain);
  ASSERT_TRUE(pool.Init({.size = 64}).ok());
  std::vector<std::thread> threads;
  for (int n = 0; n < 3; ++n) {
    threads.emplace_back([&pool, n] {
      const auto mine = static_cast<std::byte>(n + 1);
      std::vector<CoherentBlock> out;
      for (int i = 0; i < 2000; ++i) {
        if (out.size() < 100 && (i * 7 + n) % 5 < 3) {
          const auto b = pool.Allocate();
          ASSERT_TRUE(b.ok());
          ASSERT_TRUE(IsAll(*b, std::byte{0}));
          std::memset(b->cpu, n + 1, b->size);
          out.push_back(*b);
        } else if (!out.empty()) {
          ASSERT_TRUE(IsAll(out.back(), mine));
          ASSERT_TRUE(pool.Free(out.back()).ok());
          out.pop_back();
        }
        if (i % 100 == 0) pool.Trim();
      }
      for (const CoherentBlock& b : out) ASSERT_TRUE(pool.Free(b).ok());
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(pool.stats().out, 0u);
  EXPECT_TRUE(pool.CheckInvariants());
  pool.Trim();
  EXPECT_EQ(domain.stats().coherent, 0u);
}

}  // namespace
}  // namespace dmamap
