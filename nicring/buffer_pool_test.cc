// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// FixedPool and CpuPool: slab and headroom, a state model, threads, and the
// deterministic scheduler with its controls.

#include "nicring/buffer_pool.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "dma/cpu.h"
#include "dma/rseq.h"
#include "nicring/cpu_pool.h"
#include "testing/sched/explore.h"

namespace {
// Sizes that aligned new was asked for; one that does not round them up itself.
std::atomic<std::size_t> g_odd_pages{0};
}  // namespace
void* operator new(std::size_t size, std::align_val_t alignment,
                   const std::nothrow_t&) noexcept {
  const auto page = static_cast<std::size_t>(alignment);
  // relaxed: a counter.
  if (size % page != 0) g_odd_pages.fetch_add(1, std::memory_order_relaxed);
  return std::aligned_alloc(page, (size + page - 1) / page * page);
}
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }

namespace dmamap {
namespace {

// --- The slab ----------------------------------------------------------------

TEST(BufferSlab, HeadroomLiesInFrontOfTheBufferAndIsItsOwn) {
  FixedPool pool;
  ASSERT_TRUE(
      pool.Init({.buffers = 3, .buffer_bytes = 100, .skew = 2, .headroom = 70})
          .ok());
  EXPECT_EQ(pool.headroom(), 128u);  // whole lines
  std::array<Buffer, 3> all;
  ASSERT_EQ(pool.GetBatch(all), 3u);
  const PhysRange memory = *pool.memory();
  for (const Buffer& b : all) {
    EXPECT_EQ(b.address.value() % 64, 2u);
    EXPECT_GE(b.address.value() - pool.headroom(), memory.first().value());
    EXPECT_LE(b.address.value() + b.size - 1, memory.last().value());
    EXPECT_TRUE(pool.Owns(b));
    // All of it may be written; nobody else's changes.
    std::memset(b.data - pool.headroom(), static_cast<int>(b.token + 1),
                pool.headroom() + b.size);
  }
  for (const Buffer& b : all) {
    const auto mine = static_cast<std::byte>(b.token + 1);
    EXPECT_TRUE(std::all_of(b.data - pool.headroom(), b.data + b.size,
                            [&](std::byte x) { return x == mine; }));
  }
}

TEST(BufferSlab, SharesNoPage) {
  FixedPool pool;
  const std::size_t before = g_odd_pages.load(std::memory_order_relaxed);
  ASSERT_TRUE(pool.Init({.buffers = 3, .buffer_bytes = 100}).ok());
  EXPECT_EQ(g_odd_pages.load(std::memory_order_relaxed), before);
  EXPECT_EQ(pool.memory()->first().value() % 4096, 0u);
}

TEST(BufferSlab, RefusesWhatItCannotMake) {
  const auto error = [](const BufferSlabOptions& options) {
    return FixedPool().Init(options).error();
  };
  EXPECT_EQ(error({.buffers = 0, .buffer_bytes = 1}), Error::kInvalidArgument);
  EXPECT_EQ(error({.buffers = 1, .buffer_bytes = 0}), Error::kInvalidArgument);
  EXPECT_EQ(error({.buffers = 1, .buffer_bytes = 1, .skew = 64}),
            Error::kInvalidArgument);
  EXPECT_EQ(error({.buffers = 1, .buffer_bytes = 1, .headroom = UINT32_MAX}),
            Error::kOverflow);
  EXPECT_EQ(error({.buffers = UINT32_MAX, .buffer_bytes = 64}),
            Error::kOverflow);
  FixedPool pool;
  ASSERT_TRUE(pool.Init({.buffers = 1, .buffer_bytes = 1}).ok());
  EXPECT_EQ(pool.Init({.buffers = 1, .buffer_bytes = 1}).error(), Error::kBusy);
  CpuPool<> shared;
  EXPECT_EQ(shared.Get().error(), Error::kPoolEmpty);  // before Init
  EXPECT_EQ(shared.Put({}).error(), Error::kForeign);
  EXPECT_EQ(shared.memory().error(), Error::kShutDown);
  EXPECT_EQ(
      shared.Init({.slab = {.buffers = 1, .buffer_bytes = 1}, .cache = 65})
          .error(),
      Error::kLimit);
  EXPECT_EQ(shared.Init({}).error(), Error::kInvalidArgument);
  EXPECT_TRUE(shared.CheckInvariants());
  EXPECT_TRUE(shared.Init({.slab = {.buffers = 1, .buffer_bytes = 1}}).ok());
}

// --- Model -------------------------------------------------------------------

constexpr std::uint32_t kBuffers = 40;
constexpr std::size_t kSlots = 3;

// What any pool has to do, against a set of the buffers that are in use. `most`
// is how many free ones may lie where a caller does not get them.
template <class Pool>
class PoolModel {
 public:
  PoolModel(Pool* pool, std::uint32_t most) : pool_(*pool), most_(most) {}

  void Step() {
    switch (*rc::gen::inRange(0, 6)) {
      case 0:
        return Get();
      case 1:
        return GetBatch(*rc::gen::inRange<std::size_t>(0, 20));
      case 2:
        return Put();
      case 3:
        return PutBatch(*rc::gen::inRange<std::size_t>(0, 20));
      case 4:
        return PutTwice();
      default:
        return PutForeign();
    }
  }
  void Check() const {
    RC_ASSERT(pool_.CheckInvariants());
    RC_ASSERT(pool_.free_buffers() + used_.size() == kBuffers);
  }
  void PutAll() {
    RC_ASSERT(pool_.PutBatch(used_).ok());
    used_.clear();
    Check();
  }

 private:
  void Use(const Buffer& buffer) {
    RC_ASSERT(buffer.size == 64u);
    for (const Buffer& other : used_) RC_ASSERT(!(other == buffer));
    used_.push_back(buffer);
  }
  void Get() {
    const Result<Buffer> buffer = pool_.Get();
    if (buffer.ok()) return Use(*buffer);
    RC_ASSERT(buffer.error() == Error::kPoolEmpty);
    RC_ASSERT(kBuffers - used_.size() <= most_);
  }
  void GetBatch(std::size_t n) {
    std::vector<Buffer> out(n);
    const std::size_t got = pool_.GetBatch(out);
    RC_ASSERT(got <= n);
    for (std::size_t i = 0; i < got; ++i) Use(out[i]);
    if (got < n) RC_ASSERT(kBuffers - used_.size() <= most_);
  }
  Buffer TakeUsed() {
    const auto i = *rc::gen::inRange<std::size_t>(0, used_.size());
    const Buffer buffer = used_[i];
    used_.erase(used_.begin() + static_cast<std::ptrdiff_t>(i));
    return buffer;
  }
  void Put() {
    if (!used_.empty()) RC_ASSERT(pool_.Put(TakeUsed()).ok());
  }
  // With a buffer twice in it: the others are taken back all the same.
  void PutBatch(std::size_t n) {
    std::vector<Buffer> in;
    while (in.size() < n && !used_.empty()) in.push_back(TakeUsed());
    const bool twice = !in.empty() && *rc::gen::arbitrary<bool>();
    if (twice) in.insert(in.begin() + 1, in[0]);
    const Result<void> put = pool_.PutBatch(in);
    RC_ASSERT(put.ok() != twice);
    if (twice) RC_ASSERT(put.error() == Error::kDoubleFree);
  }
  void PutTwice() {
    if (used_.empty()) return;
    const Buffer buffer = TakeUsed();
    RC_ASSERT(pool_.Put(buffer).ok());
    RC_ASSERT(pool_.Put(buffer).error() == Error::kDoubleFree);
  }
  void PutForeign() {
    if (used_.empty()) return;
    Buffer buffer = used_.front();
    switch (*rc::gen::inRange(0, 4)) {
      case 0:
        buffer.data += 64;
        break;
      case 1:
        buffer.address = buffer.address + 1;
        break;
      case 2:
        ++buffer.size;
        break;
      default:
        buffer.token += *rc::gen::element(1u, kBuffers, UINT32_MAX / 2);
        break;
    }
    RC_ASSERT(pool_.Put(buffer).error() == Error::kForeign);
  }

  Pool& pool_;
  const std::uint32_t most_;
  std::vector<Buffer> used_;
};

constexpr BufferSlabOptions kSlab = {.buffers = kBuffers, .buffer_bytes = 64};

RC_GTEST_PROP(FixedPoolProperty, KeepsItsBuffers, ()) {
  FixedPool pool;
  RC_ASSERT(pool.Init(kSlab).ok());
  PoolModel<FixedPool> model(&pool, 0);
  for (int i = *rc::gen::inRange(1, 100); i-- != 0; model.Check()) {
    model.Step();
  }
  model.PutAll();
}

template <PutCheck kCheck>
void WalkCpuPool() {
  const auto cache = *rc::gen::element(0u, 1u, 2u, 7u, 16u);
  CpuPool<FakeCpu, kCheck> pool(kSlots);
  RC_ASSERT(pool.Init({.slab = kSlab, .cache = cache}).ok());
  PoolModel<CpuPool<FakeCpu, kCheck>> model(&pool, kSlots * cache);
  for (int i = *rc::gen::inRange(1, 200); i-- != 0; model.Check()) {
    switch (*rc::gen::inRange(0, 10)) {
      case 0:  // one more than there are: no slot
        pool.cpu().set_current(*rc::gen::inRange<std::size_t>(0, kSlots + 1));
        break;
      case 1:
        pool.Flush();
        break;
      case 2:
        pool.cpu().Retire(*rc::gen::inRange<std::size_t>(0, kSlots));
        break;
      default:
        model.Step();
        break;
    }
    RC_ASSERT(!pool.cpu().held());
  }
  model.PutAll();
  // Nothing stays where nobody gets it.
  for (std::size_t s = 0; s < kSlots; ++s) pool.cpu().Retire(s);
  std::vector<Buffer> all(kBuffers);
  RC_ASSERT(pool.GetBatch(all) == kBuffers);
  RC_ASSERT(pool.Get().error() == Error::kPoolEmpty);
}
RC_GTEST_PROP(CpuPoolProperty, KeepsItsBuffers, ()) {
  WalkCpuPool<PutCheck::kOrdered>();
}
RC_GTEST_PROP(CpuPoolProperty, KeepsItsBuffersWithTheStrongerCheck, ()) {
  WalkCpuPool<PutCheck::kRacing>();
}

TEST(CpuPool, VisitsTheStoreOnceForHalfACache) {
  CpuPool<FakeCpu> pool(kSlots);
  ASSERT_TRUE(pool.Init({.slab = kSlab, .cache = 16}).ok());
  std::array<Buffer, 32> all;
  ASSERT_EQ(pool.GetBatch(all), 32u);
  EXPECT_EQ(pool.stats().store_visits, 4u);
  pool.cpu().set_current(1);
  ASSERT_TRUE(pool.PutBatch(all).ok());
  EXPECT_EQ(pool.stats().store_visits, 6u);
  ASSERT_EQ(pool.Get()->token, all[31].token);  // the warmest
  EXPECT_EQ(pool.stats().store_visits, 6u);
}

TEST(CpuPool, CountsWhatItRefuses) {
  CpuPool<FakeCpu> pool(kSlots);
  ASSERT_TRUE(pool.Init({.slab = kSlab}).ok());
  std::array<Buffer, kBuffers + 2> all;
  ASSERT_EQ(pool.GetBatch(all), std::size_t{kBuffers});
  EXPECT_EQ(pool.stats().empty, 2u);
  EXPECT_FALSE(pool.PutBatch(all).ok());  // the last two are nothing
  EXPECT_EQ(pool.stats().refused, 2u);
  EXPECT_EQ(pool.free_buffers(), kBuffers);
}

// --- Threads -----------------------------------------------------------------

// Each thread gets, writes all over what it got, checks that nobody else did,
// and lets another one put it back.
template <class Pool>
void Stress(Pool& pool) {
  constexpr int kThreads = 4;
  constexpr int kTurns = 2000;
  std::mutex mutex;
  std::deque<Buffer> handed;
  std::atomic<int> wrong{0};
  const auto work = [&](int self) {
    for (int i = 0; i < kTurns; ++i) {
      std::array<Buffer, 5> mine;
      const std::size_t n = pool.GetBatch({mine.data(), 1u + i % 5});
      for (std::size_t k = 0; k < n; ++k) {
        std::memset(mine[k].data - pool.headroom(), self,
                    pool.headroom() + mine[k].size);
      }
      for (std::size_t k = 0; k < n; ++k) {
        const std::byte* const first = mine[k].data - pool.headroom();
        for (const std::byte* b = first; b < mine[k].data + 64; ++b) {
          wrong += *b != static_cast<std::byte>(self);
        }
      }
      std::vector<Buffer> back;
      {
        const std::lock_guard<std::mutex> guard(mutex);
        handed.insert(handed.end(), mine.begin(), mine.begin() + n);
        while (handed.size() > 8) {
          back.push_back(handed.front());
          handed.pop_front();
        }
      }
      wrong += pool.PutBatch(back).ok() ? 0 : 1;
      if (!back.empty() && i % 16 == 0) {
        Buffer changed = back[0];
        changed.size = 1;
        wrong += pool.Put(changed).error() == Error::kForeign ? 0 : 1;
      }
    }
  };
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) threads.emplace_back(work, t + 1);
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(wrong.load(), 0);
  EXPECT_TRUE(pool.CheckInvariants());
  EXPECT_EQ(pool.free_buffers() + handed.size(), kBuffers);
  for (const Buffer& b : handed) EXPECT_TRUE(pool.Put(b).ok());
}

constexpr CpuPoolOptions kStressed = {
    .slab = {.buffers = kBuffers, .buffer_bytes = 64, .headroom = 64},
    .cache = 8};

TEST(CpuPoolConcurrent, ThreadsShareItAndLeaveNothingBehind) {
  CpuPool<> pool;
  ASSERT_TRUE(pool.Init(kStressed).ok());
  Stress(pool);
  pool.Flush();
  std::vector<Buffer> all(kBuffers);  // those that have exited cache none
  EXPECT_EQ(pool.GetBatch(all), std::size_t{kBuffers});
}
TEST(CpuPoolConcurrent, MoreThreadsThanSlots) {
  CpuPool<ThreadSlots, PutCheck::kRacing> pool(std::size_t{2});
  ASSERT_TRUE(pool.Init(kStressed).ok());
  Stress(pool);
}
TEST(CpuPoolConcurrent, SlotsOfCpus) {
  CpuPool<RseqSlots> pool;
  ASSERT_TRUE(pool.Init(kStressed).ok());
  Stress(pool);
}

// Two threads put each buffer at the same time: one of them is told.
TEST(CpuPoolConcurrent, OneOfTwoRacingPutsIsRefused) {
  CpuPool<ThreadSlots, PutCheck::kRacing> pool;
  ASSERT_TRUE(pool.Init(kStressed).ok());
  std::vector<Buffer> all(kBuffers);
  ASSERT_EQ(pool.GetBatch(all), std::size_t{kBuffers});
  std::atomic<std::uint32_t> taken{0};
  std::atomic<int> ready{0};
  const auto put = [&] {
    ++ready;
    while (ready != 2) std::this_thread::yield();
    for (const Buffer& b : all) taken += pool.Put(b).ok() ? 1u : 0u;
  };
  std::thread other(put);
  put();
  other.join();
  EXPECT_EQ(taken.load(), kBuffers);
  EXPECT_EQ(pool.stats().refused, kBuffers);
  EXPECT_TRUE(pool.CheckInvariants());
  EXPECT_EQ(pool.free_buffers(), kBuffers);
}

// --- The deterministic scheduler ---------------------------------------------

// A thread's slot is its number, while that is below `slots`.
struct SchedCpu {
  std::size_t operator()() const {
    const std::size_t self = sched::ThreadIndex();
    return self == sched::kNoThread ? 0 : self;
  }
};
using SchedSlots = CallerCpu<SchedCpu>;
template <PutCheck kCheck = PutCheck::kOrdered>
using SchedPool = CpuPool<SchedSlots, kCheck, sched::Atomic>;

template <class Pool>
struct SchedWorld {
  explicit SchedWorld(std::size_t slots, std::uint32_t buffers,
                      std::uint32_t cache = 1)
      : pool(slots, SchedCpu()) {
    sched::Check(pool.Init({.slab = {.buffers = buffers, .buffer_bytes = 1},
                            .cache = cache})
                     .ok(),
                 "init");
  }
  // Plain: two users of one buffer that nothing orders are a race.
  void Use(const Buffer& buffer) {
    uses[buffer.token] = uses[buffer.token] + 1;
  }
  void CheckAllFree() {
    sched::Check(pool.CheckInvariants(), "invariants");
    sched::Check(pool.free_buffers() == pool.buffers(), "a buffer is lost");
  }
  Pool pool;
  std::array<sched::Plain<int>, 4> uses{};
};

// Both get and put by way of the store, which has one buffer; the second one
// may have no slot.
sched::Body GetAndPut(std::size_t slots) {
  return [slots] {
    SchedWorld<SchedPool<>> world(slots, 1);
    const auto work = [&] {
      const Result<Buffer> b = world.pool.Get();
      if (!b.ok()) return;
      world.Use(*b);
      sched::Check(world.pool.Put(*b).ok(), "put");
      world.pool.Flush();
    };
    sched::RunThreads({work, work}, [&] { world.CheckAllFree(); });
  };
}

// One thread leaves; what it cached is the other's then.
sched::Body Leave() {
  return [] {
    SchedWorld<SchedPool<>> world(2, 1);
    const auto work = [&] {
      const Result<Buffer> b = world.pool.Get();
      if (!b.ok()) return;
      world.Use(*b);
      sched::Check(world.pool.Put(*b).ok(), "put");
    };
    sched::RunThreads({[&] {
                         work();
                         world.pool.cpu().Retire(0);
                       },
                       work},
                      [&] { world.CheckAllFree(); });
  };
}

// Both put the one buffer, which its user had no right to.
template <PutCheck kCheck>
sched::Body PutAtOnce() {
  return [] {
    SchedWorld<SchedPool<kCheck>> world(2, 1);
    const Result<Buffer> b = world.pool.Get();
    std::array<sched::Plain<int>, 2> put{};
    const auto work = [&] {
      if (world.pool.Put(*b).ok()) put[sched::ThreadIndex()] = 1;
    };
    sched::RunThreads({work, work}, [&] {
      const int puts = int{put[0]} + int{put[1]};
      sched::Check(puts == 1, "two puts of one buffer");
      world.CheckAllFree();
    });
  };
}

TEST(CpuPoolSched, NobodySharesABufferAndNoneIsLost) {
  const auto explore = [](const char* name, const sched::Body& body) {
    const auto report = sched::Explore({.name = name}, body);
    EXPECT_TRUE(report.ok && report.complete) << report;
    EXPECT_GT(report.executions, 50u) << name;
  };
  explore("slots", GetAndPut(2));
  explore("noslot", GetAndPut(1));
  explore("leave", Leave());
}
TEST(CpuPoolSched, TheStrongerCheckFindsRacingPuts) {
  const auto report =
      sched::Explore({.name = "racing", .preemptions = sched::kUnlimited},
                     PutAtOnce<PutCheck::kRacing>());
  EXPECT_TRUE(report.exhaustive()) << report;
}
TEST(CpuPoolSchedControl, TheWeakerOneDoesNot) {
  const auto report = sched::Explore({}, PutAtOnce<PutCheck::kOrdered>());
  EXPECT_NE(report.failure.find("two puts"), std::string::npos) << report;
}
TEST(CpuPoolSchedControl, AWeakerLockIsFound) {
  for (const char* function : {"unlock", "try_lock"}) {
    const auto report =
        sched::Explore({.weaken = {.function = function}}, GetAndPut(2));
    EXPECT_FALSE(report.ok) << function;
  }
}

}  // namespace
}  // namespace dmamap
