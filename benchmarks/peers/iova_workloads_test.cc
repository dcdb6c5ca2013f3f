// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Every IOVA workload on an allocator that writes down what is asked of it: a
// workload that does nothing, or something else than its name says, fails here.

#include "benchmarks/peers/iova_workloads.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "benchmarks/peers/floor_tls_stack.h"

namespace dmamap::peers {
namespace {

struct Log {
  std::vector<IovaSpace> spaces;               // one for each allocator created
  std::array<std::uint64_t, 2> allocations{};  // by thread
  std::array<std::uint64_t, 2> frees{};
  std::uint64_t uncached_allocations = 0;
  std::uint64_t uncached_frees = 0;
  std::uint64_t bad_frees = 0;
  std::uint64_t free_of_oldest = 0;
  std::map<std::uint64_t, std::uint64_t> sizes;  // requests, by pages
  std::uint64_t freed_pages = 0;                 // of the last free
  std::uint64_t resized = 0;  // requests of another size than that
  std::set<std::uint64_t> limits;
  std::vector<std::uint64_t> pairs_given;  // answers to requests for two pages
  std::uint64_t live = 0;
  std::uint64_t most_live = 0;
  std::uint64_t live_at_destruction = 0;
  std::array<int, 2> entered{};
  std::array<int, 2> left{};
  bool exhausted = false;  // hand out nothing any more
  bool deaf = false;       // refuse to take anything back

  std::uint64_t all_allocations() const {
    return allocations[0] + allocations[1];
  }
  std::uint64_t all_frees() const { return frees[0] + frees[1]; }
};

Log* g_log = nullptr;
thread_local unsigned g_tid = 0;

// A buddy over sets, under one lock.
class FakeIova {
 public:
  static constexpr bool kRanges = true;
  static constexpr bool kFreeElsewhere = true;

  static absl::StatusOr<std::unique_ptr<FakeIova>> Create(
      const IovaSpace& space) {
    g_log->spaces.push_back(space);
    return std::make_unique<FakeIova>();
  }
  FakeIova() : free_(37) {
    // [1, 2^36 - 1]: one block of each order.
    for (std::size_t order = 0; order < 36; ++order) {
      free_[order].insert(std::uint64_t{1} << order);
    }
  }
  ~FakeIova() { g_log->live_at_destruction += live_.size(); }

  absl::Status EnterThread(unsigned tid) {
    const std::lock_guard lock(mutex_);
    g_tid = tid;
    ++g_log->entered[tid];
    return absl::OkStatus();
  }
  void LeaveThread(unsigned tid) {
    const std::lock_guard lock(mutex_);
    EXPECT_EQ(g_tid, tid);
    ++g_log->left[tid];
  }
  std::uint64_t Allocate(std::uint64_t pages, std::uint64_t last_page) {
    const std::lock_guard lock(mutex_);
    ++g_log->allocations[g_tid];
    return Take(pages, last_page);
  }
  bool Free(std::uint64_t page, std::uint64_t pages) {
    const std::lock_guard lock(mutex_);
    ++g_log->frees[g_tid];
    return Give(page, pages);
  }
  std::uint64_t AllocateUncached(std::uint64_t pages, std::uint64_t last_page) {
    const std::lock_guard lock(mutex_);
    ++g_log->uncached_allocations;
    return Take(pages, last_page);
  }
  bool FreeUncached(std::uint64_t page, std::uint64_t pages) {
    const std::lock_guard lock(mutex_);
    ++g_log->uncached_frees;
    return Give(page, pages);
  }

 private:
  struct Range {
    std::uint64_t pages;
    std::uint64_t number;  // of the allocation
  };
  static std::size_t Order(std::uint64_t pages) {
    return static_cast<std::size_t>(std::bit_width(pages - 1));
  }

  std::uint64_t Take(std::uint64_t pages, std::uint64_t last_page) {
    ++g_log->sizes[pages];
    if (g_log->freed_pages != pages) ++g_log->resized;
    g_log->limits.insert(last_page);
    const std::uint64_t page = g_log->exhausted ? 0 : Find(pages, last_page);
    if (pages == 2) g_log->pairs_given.push_back(page);
    if (page == 0) return 0;
    live_.emplace(page, Range{pages, ++count_});
    by_age_.emplace(count_, page);
    g_log->most_live = std::max(g_log->most_live, ++g_log->live);
    return page;
  }
  std::uint64_t Find(std::uint64_t pages, std::uint64_t last_page) {
    const std::size_t order = Order(pages);
    for (std::size_t o = order; o < free_.size(); ++o) {
      if (free_[o].empty()) continue;
      const std::uint64_t page = *free_[o].begin();
      if (page + pages - 1 > last_page) continue;
      free_[o].erase(free_[o].begin());
      for (; o > order; --o) {
        free_[o - 1].insert(page + (std::uint64_t{1} << (o - 1)));
      }
      return page;
    }
    return 0;
  }
  bool Give(std::uint64_t page, std::uint64_t pages) {
    const auto at = live_.find(page);
    if (g_log->deaf || at == live_.end() || at->second.pages != pages) {
      ++g_log->bad_frees;
      return false;
    }
    g_log->freed_pages = pages;
    if (by_age_.begin()->second == page) ++g_log->free_of_oldest;
    by_age_.erase(at->second.number);
    live_.erase(at);
    --g_log->live;
    std::size_t order = Order(pages);
    for (; order < 36; ++order) {
      const std::uint64_t buddy = page ^ (std::uint64_t{1} << order);
      if (free_[order].erase(buddy) == 0) break;
      page = std::min(page, buddy);
    }
    free_[order].insert(page);
    return true;
  }

  std::mutex mutex_;
  std::vector<std::set<std::uint64_t>> free_;  // by order
  std::map<std::uint64_t, Range> live_;        // by page
  std::map<std::uint64_t, std::uint64_t> by_age_;
  std::uint64_t count_ = 0;
};
static_assert(UncachedIovaSubject<FakeIova>);

class IovaWorkloadsTest : public testing::Test {
 protected:
  IovaWorkloadsTest() { g_log = &log_; }
  ~IovaWorkloadsTest() override { g_log = nullptr; }

  // Makes the session, runs it twice, ends it. What must hold of all. With a
  // switch, the session is run once more with that fault, which it must count.
  void Play(const std::string& workload, bool Log::*fault = nullptr) {
    auto session = MakeIovaSession<FakeIova>(workload, kQuick);
    ASSERT_TRUE(session.ok()) << session.status();
    at_start_ = log_;
    (*session)->Run();
    repetition_ = (*session)->Run();
    at_end_ = log_;
    EXPECT_EQ(repetition_.failures, 0u);
    EXPECT_EQ(log_.bad_frees, 0u);
    if (fault != nullptr) {
      log_.*fault = true;
      EXPECT_GT((*session)->Run().failures, 0u);
      log_ = at_end_;
    }
    session->reset();
    // After a fault, ranges that were not taken back are left.
    if (fault != nullptr) return;
    EXPECT_EQ(log_.live_at_destruction, 0u);
    EXPECT_EQ(log_.entered, log_.left);
    for (const Metric& metric : repetition_.metrics) {
      if (metric.unit != "ns") continue;
      EXPECT_GE(metric.value, 0) << metric.name;
    }
  }
  std::set<std::uint64_t> Sizes() const {
    std::set<std::uint64_t> sizes;
    for (const auto& [size, count] : log_.sizes) sizes.insert(size);
    return sizes;
  }
  double Value(const std::string& name) const {
    for (const Metric& metric : repetition_.metrics) {
      if (metric.name == name) return metric.value;
    }
    ADD_FAILURE() << "no metric " << name;
    return -1;
  }

  static constexpr SessionOptions kQuick{.repetition_ns = 2e5,
                                         .latency_limit_ns = 5e7,
                                         .ageing_ns = 1e7,
                                         .max_discarded = 100};
  Log log_;
  Log at_start_;  // the log when the session was ready
  Log at_end_;    // and before it ended
  Repetition repetition_;
};

TEST_F(IovaWorkloadsTest, Pair1t) {
  Play("pair_1t");
  EXPECT_EQ(log_.spaces.size(), 1u);
  EXPECT_EQ(log_.entered, (std::array{1, 0}));
  EXPECT_EQ(Sizes(), std::set<std::uint64_t>{1});
  EXPECT_EQ(log_.limits, std::set<std::uint64_t>{kLastPage48});
  EXPECT_EQ(log_.most_live, 1u);
  EXPECT_GT(at_end_.allocations[0], at_start_.allocations[0] + 20);
  EXPECT_EQ(log_.allocations[0], log_.frees[0]);
}

TEST_F(IovaWorkloadsTest, Pair2t) {
  Play("pair_2t");
  EXPECT_EQ(log_.spaces.at(0).threads, 2u);
  EXPECT_EQ(log_.entered, (std::array{1, 1}));
  EXPECT_LE(log_.most_live, 2u);
  EXPECT_GT(log_.allocations[0], 20u);
  EXPECT_EQ(log_.allocations[0], log_.allocations[1]);
  EXPECT_EQ(log_.allocations, log_.frees);
}

TEST_F(IovaWorkloadsTest, RingReplacesTheOldestOf1024) {
  Play("ring1024");
  EXPECT_EQ(Sizes(), std::set<std::uint64_t>{1});
  EXPECT_EQ(log_.most_live, 1024u);
  EXPECT_EQ(at_end_.live, 1024u);
  EXPECT_GT(at_end_.frees[0], 100u);
  EXPECT_EQ(at_end_.free_of_oldest, at_end_.frees[0]);
}

TEST_F(IovaWorkloadsTest, RingOf16Pages) {
  Play("ring1024_16p");
  EXPECT_EQ(Sizes(), std::set<std::uint64_t>{16});
  EXPECT_EQ(log_.most_live, 1024u);
}

TEST_F(IovaWorkloadsTest, RingOnTwoThreads) {
  Play("ring1024_2t");
  EXPECT_EQ(at_end_.live, 2048u);
  EXPECT_GT(at_end_.frees[0], 100u);
  EXPECT_GT(at_end_.frees[1], 100u);
}

TEST_F(IovaWorkloadsTest, Bursts) {
  for (const std::uint64_t burst : {64u, 256u, 1024u}) {
    log_ = Log();
    Play("burst" + std::to_string(burst));
    EXPECT_EQ(log_.most_live, burst);
    EXPECT_GT(log_.allocations[0], 0u);
    EXPECT_EQ(log_.allocations[0] % burst, 0u);
    EXPECT_EQ(log_.free_of_oldest, log_.frees[0]);
    EXPECT_EQ(log_.frees, log_.allocations);
  }
}

TEST_F(IovaWorkloadsTest, OneThreadProducesTheOtherConsumes) {
  Play("prodcons");
  EXPECT_GT(log_.allocations[0], 20u);
  EXPECT_EQ(log_.allocations[1], 0u);
  EXPECT_EQ(log_.frees[0], 0u);
  EXPECT_EQ(log_.frees[1], log_.allocations[0]);
  EXPECT_EQ(log_.free_of_oldest, log_.frees[1]);
}

TEST_F(IovaWorkloadsTest, MixedHasSixSizesAnd4096InFlight) {
  Play("mixed");
  EXPECT_EQ(Sizes(), (std::set<std::uint64_t>{1, 2, 4, 8, 16, 32}));
  for (const auto& [size, count] : log_.sizes) {
    EXPECT_NEAR(static_cast<double>(count) * 6 /
                    static_cast<double>(log_.all_allocations()),
                1, 0.25)
        << size;
  }
  EXPECT_EQ(at_start_.live, 4096u);
  EXPECT_EQ(log_.most_live, 4096u);
  EXPECT_LT(at_end_.free_of_oldest, at_end_.frees[0] / 2);  // at random
  EXPECT_GT(at_end_.resized - at_start_.resized,
            (at_end_.frees[0] - at_start_.frees[0]) / 2);
}

TEST_F(IovaWorkloadsTest, Mix32StaysIn32Bits) {
  Play("mix32");
  EXPECT_EQ(Sizes(),
            (std::set<std::uint64_t>{1, 2, 4, 8, 16, 32, 64, 128, 256}));
  EXPECT_EQ(log_.limits, std::set<std::uint64_t>{kLastPage32});
  EXPECT_EQ(log_.spaces.at(0).last_page, kLastPage32);
  EXPECT_EQ(log_.most_live, 20'000u);
  std::uint64_t large = 0;
  for (const std::uint64_t size : {32u, 64u, 128u, 256u})
    large += log_.sizes[size];
  EXPECT_NEAR(
      static_cast<double>(large) / static_cast<double>(log_.all_allocations()),
      0.28, 0.02);
  EXPECT_EQ(Value("refused"), 0);
  EXPECT_GT(at_end_.resized - at_start_.resized,
            (at_end_.frees[0] - at_start_.frees[0]) / 2);
}

TEST_F(IovaWorkloadsTest, Mix32CountsRefusals) {
  auto session = MakeIovaSession<FakeIova>("mix32", kQuick);
  ASSERT_TRUE(session.ok());
  const std::uint64_t before = log_.all_allocations();
  log_.exhausted = true;
  repetition_ = (*session)->Run();
  // All of this repetition, of all since the 80,000 that came first.
  EXPECT_GT(log_.all_allocations(), before);
  EXPECT_DOUBLE_EQ(Value("refused"),
                   100 * static_cast<double>(log_.all_allocations() - before) /
                       static_cast<double>(log_.all_allocations() - 80'000));
  EXPECT_EQ(repetition_.failures, 0u);
  session->reset();
  EXPECT_EQ(log_.live_at_destruction, 0u);
}

TEST_F(IovaWorkloadsTest, FreshBeginsAnewEachTime) {
  Play("fresh");
  EXPECT_GE(log_.spaces.size(), 2u);
  EXPECT_EQ(log_.all_allocations(), 65'536 * log_.spaces.size());
  EXPECT_EQ(log_.all_frees(), log_.all_allocations());
  EXPECT_EQ(log_.most_live, 65'536u);
  EXPECT_EQ(Sizes(), std::set<std::uint64_t>{1});
}

TEST_F(IovaWorkloadsTest, NoCacheGoesPastTheCaches) {
  Play("no_cache_1000");
  EXPECT_EQ(log_.all_allocations(), 0u);
  EXPECT_EQ(at_start_.most_live, 1000u);  // calibration has run
  EXPECT_EQ(at_end_.live, 999u);
  EXPECT_GT(at_end_.uncached_frees, 20u);
  EXPECT_EQ(log_.uncached_frees, log_.uncached_allocations);
}

TEST_F(IovaWorkloadsTest, LargeLiveReplacesAtRandom) {
  Play("large_live_2000");
  EXPECT_EQ(Sizes(), (std::set<std::uint64_t>{64, 128, 256}));
  EXPECT_EQ(log_.limits, std::set<std::uint64_t>{kLastPage48});
  EXPECT_EQ(at_end_.live, 2000u);
  EXPECT_EQ(log_.most_live, 2000u);
  // All replaced twice over before the measurement, if time allowed.
  EXPECT_GT(at_start_.frees[0], 100u);
  EXPECT_LE(at_start_.frees[0], 4000u);
  EXPECT_GT(Value("alloc_samples"), 0);
  EXPECT_EQ(Value("alloc_samples"), Value("free_samples"));
  EXPECT_LT(at_end_.free_of_oldest, at_end_.frees[0] / 2);
  EXPECT_GT(at_end_.resized - at_start_.resized,
            (at_end_.frees[0] - at_start_.frees[0]) / 2);
}

TEST_F(IovaWorkloadsTest, Frag32RefuseHasNoRoom) {
  Play("frag32_refuse", &Log::deaf);  // refusals are what it wants
  EXPECT_EQ(log_.limits, std::set<std::uint64_t>{kLastPage32});
  EXPECT_EQ(log_.all_allocations(), 0u);  // all past the caches
  EXPECT_EQ(at_start_.most_live, kLastPage32);
  EXPECT_EQ(at_start_.live, kLastPage32 / 2);  // the even pages
  ASSERT_GT(log_.pairs_given.size(), 2u);
  for (const std::uint64_t page : log_.pairs_given) EXPECT_EQ(page, 0u);
  // Between two refusals something is freed.
  EXPECT_EQ(at_end_.uncached_frees - at_start_.uncached_frees,
            at_end_.pairs_given.size());
}

TEST_F(IovaWorkloadsTest, Frag32LowFindsTheOnlyHole) {
  Play("frag32_low", &Log::exhausted);
  EXPECT_EQ(log_.limits, std::set<std::uint64_t>{kLastPage32});
  // The even pages but those of the two holes, and a pair in one of them.
  EXPECT_EQ(at_end_.live, kLastPage32 / 2 - 2 + 1);
  ASSERT_GT(log_.pairs_given.size(), 3u);
  for (const std::uint64_t page : log_.pairs_given) {
    EXPECT_TRUE(page == 64 || page == kLastPage32 - 1) << page;
  }
  // Of the two asked for in a step, one lies low.
  EXPECT_NEAR(static_cast<double>(std::count(log_.pairs_given.begin(),
                                             log_.pairs_given.end(), 64)),
              static_cast<double>(log_.pairs_given.size()) / 2, 2);
}

TEST_F(IovaWorkloadsTest, AnAllocatorThatFailsIsFoundOut) {
  std::vector<std::string> workloads = IovaWorkloads();
  workloads.push_back("large_live_100");
  for (const std::string& workload : workloads) {
    if (workload == "mix32") continue;           // refusals are its result
    if (workload.find("frag32") == 0) continue;  // see there
    if (workload.find("0000") != std::string::npos) continue;  // below
    log_ = Log();
    auto session = MakeIovaSession<FakeIova>(workload, kQuick);
    ASSERT_TRUE(session.ok()) << workload;
    log_.exhausted = true;
    EXPECT_GT((*session)->Run().failures, 0u) << workload;
    log_.exhausted = false;
  }
}

TEST_F(IovaWorkloadsTest, AnAllocatorThatTakesNothingBackIsFoundOut) {
  for (const char* name :
       {"pair_1t", "ring1024", "burst64", "prodcons", "mixed", "mix32", "fresh",
        "no_cache_10", "large_live_100"}) {
    log_ = Log();
    auto session = MakeIovaSession<FakeIova>(name, kQuick);
    ASSERT_TRUE(session.ok()) << name;
    log_.deaf = true;
    EXPECT_GT((*session)->Run().failures, 0u) << name;
    log_.deaf = false;
  }
}

TEST_F(IovaWorkloadsTest, EveryNameIsKnown) {
  for (const std::string& name : IovaWorkloads()) {
    // A free list runs it, or says why not.
    const auto session = MakeIovaSession<FloorTlsStack>(name, kQuick);
    EXPECT_TRUE(session.ok() || absl::IsUnimplemented(session.status()))
        << name << " " << session.status();
    if (!session.ok()) continue;
    EXPECT_EQ((*session)->Run().failures, 0u) << name;
  }
}

TEST_F(IovaWorkloadsTest, NamesThatAreNone) {
  for (const char* name : {"", "pair", "burst", "burst0", "burstx", "burst-1",
                           "large_live_", "no_cache_x"}) {
    EXPECT_TRUE(
        absl::IsNotFound(MakeIovaSession<FakeIova>(name, kQuick).status()))
        << name;
  }
}

TEST_F(IovaWorkloadsTest, AFreeListHasNoRanges) {
  for (const char* name : {"mixed", "fresh", "frag32_low", "prodcons"}) {
    EXPECT_TRUE(absl::IsUnimplemented(
        MakeIovaSession<FloorTlsStack>(name, kQuick).status()))
        << name;
  }
}

}  // namespace
}  // namespace dmamap::peers
