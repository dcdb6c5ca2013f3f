// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Every IOTLB workload on an IOTLB that writes down what is asked of it.

#include "benchmarks/peers/iotlb_workloads.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "benchmarks/peers/domain_workloads.h"
#include "benchmarks/peers/floor_iotlb.h"
#include "benchmarks/peers/map_iotlb.h"

namespace dmamap::peers {
namespace {

struct Log {
  std::uint64_t expected = 0;  // Create's argument
  std::uint64_t adds = 0;
  std::uint64_t removes = 0;
  std::uint64_t shared_adds = 0;
  std::uint64_t shared_removes = 0;
  std::uint64_t empty_removes = 0;
  std::uint64_t lookups = 0;
  std::uint64_t shared_lookups = 0;
  std::uint64_t misses = 0;
  std::uint64_t walks = 0;
  std::uint64_t walked = 0;
  std::uint64_t size = 0;
  std::uint64_t overlaps = 0;
  std::set<std::uint64_t> found;  // first bytes of mappings that were looked up
  std::uint64_t changes = 0;      // lookups of another mapping than the last
  std::uint64_t last_found = 0;
  std::set<std::thread::id> lookers;
  std::map<std::thread::id, std::set<std::uint64_t>> updated;
  bool refuse = false;  // add nothing any more
  bool lie = false;     // translate wrongly
  bool blind = false;   // find nothing
};

Log* g_log = nullptr;

class FakeIotlb {
 public:
  static constexpr std::uint64_t kMaxMappings = 100'000;
  static constexpr bool kSparse = false;

  static absl::StatusOr<std::unique_ptr<FakeIotlb>> Create(std::uint64_t n) {
    g_log->expected = n;
    return std::make_unique<FakeIotlb>();
  }
  PlainReader<FakeIotlb> NewReader() { return PlainReader<FakeIotlb>(*this); }

  bool Add(std::uint64_t first, std::uint64_t last, std::uint64_t address,
           unsigned permission) {
    const std::lock_guard lock(mutex_);
    ++g_log->adds;
    return DoAdd(first, last, address, permission);
  }
  bool AddShared(std::uint64_t first, std::uint64_t last, std::uint64_t address,
                 unsigned permission) {
    const std::lock_guard lock(mutex_);
    ++g_log->shared_adds;
    return DoAdd(first, last, address, permission);
  }
  void Remove(std::uint64_t first, std::uint64_t last) {
    const std::lock_guard lock(mutex_);
    ++g_log->removes;
    DoRemove(first, last);
  }
  void RemoveShared(std::uint64_t first, std::uint64_t last) {
    const std::lock_guard lock(mutex_);
    ++g_log->shared_removes;
    DoRemove(first, last);
  }
  std::uint64_t Lookup(std::uint64_t iova) {
    const std::lock_guard lock(mutex_);
    ++g_log->lookups;
    return DoLookup(iova);
  }
  std::uint64_t LookupShared(std::uint64_t iova) {
    const std::lock_guard lock(mutex_);
    ++g_log->shared_lookups;
    return DoLookup(iova);
  }
  WalkResult Walk(std::uint64_t first, std::uint64_t last) {
    const std::lock_guard lock(mutex_);
    WalkResult result;
    for (auto at = map_.lower_bound(first);
         at != map_.end() && at->second.first <= last; ++at) {
      ++result.count;
    }
    ++g_log->walks;
    g_log->walked += result.count;
    if (g_log->blind) result.count = 0;
    return result;
  }

 private:
  bool DoAdd(std::uint64_t first, std::uint64_t last, std::uint64_t address,
             unsigned permission) {
    EXPECT_EQ(permission, 3u);
    EXPECT_LE(first, last);
    EXPECT_EQ(first % 4096, 0u);
    EXPECT_EQ(last % 4096, 4095u);
    if (g_log->refuse) return false;
    const auto at = map_.lower_bound(first);
    if (at != map_.end() && at->second.first <= last) ++g_log->overlaps;
    map_[last] = {first, address, permission};
    g_log->size = map_.size();
    return true;
  }
  void DoRemove(std::uint64_t first, std::uint64_t last) {
    if (map_.erase(last) == 0) ++g_log->empty_removes;
    g_log->updated[std::this_thread::get_id()].insert(first);
  }
  std::uint64_t DoLookup(std::uint64_t iova) {
    g_log->lookers.insert(std::this_thread::get_id());
    const auto at = map_.lower_bound(iova);
    if (at == map_.end() || at->second.first > iova || g_log->blind) {
      ++g_log->misses;
      return 0;
    }
    g_log->found.insert(at->second.first);
    if (at->second.first != g_log->last_found) ++g_log->changes;
    g_log->last_found = at->second.first;
    return at->second.address + (iova - at->second.first) +
           (g_log->lie ? 1 : 0);
  }

  std::mutex mutex_;
  std::map<std::uint64_t, MapIotlbEntry> map_;  // by last byte
};
static_assert(WalkableIotlb<FakeIotlb>);

// The same, for scattered mappings, each of which takes 128 bytes that no
// allocator has seen before.
class SparseFakeIotlb : public FakeIotlb {
 public:
  static constexpr std::uint64_t kMaxMappings = 0;
  static constexpr bool kSparse = true;
  static absl::StatusOr<std::unique_ptr<SparseFakeIotlb>> Create(
      std::uint64_t n) {
    g_log->expected = n;
    auto iotlb = std::make_unique<SparseFakeIotlb>();
    iotlb->memory_ = std::make_unique<LazyBuffer>(n * kBytes);
    return iotlb;
  }
  bool Add(std::uint64_t first, std::uint64_t last, std::uint64_t address,
           unsigned permission) {
    memory_->data()[kBytes * added_++] = std::byte{1};
    return FakeIotlb::Add(first, last, address, permission);
  }

 private:
  static constexpr std::size_t kBytes = 128;
  std::unique_ptr<LazyBuffer> memory_;
  std::size_t added_ = 0;
};

class IotlbWorkloadsTest : public testing::Test {
 protected:
  IotlbWorkloadsTest() { g_log = &log_; }
  ~IotlbWorkloadsTest() override { g_log = nullptr; }

  template <class S = FakeIotlb>
  void Play(const std::string& workload, std::uint64_t mappings) {
    auto session = MakeIotlbSession<S>(workload, kQuick);
    ASSERT_TRUE(session.ok()) << session.status();
    // Calibration has run; only what comes now is counted.
    before_ = log_;
    log_.found.clear();
    log_.updated.clear();
    log_.lookers.clear();
    repetition_ = (*session)->Run();
    EXPECT_EQ(repetition_.failures, 0u);
    EXPECT_EQ(log_.expected, mappings);
    EXPECT_EQ(log_.size, mappings);
    EXPECT_EQ(log_.overlaps, 0u);
    EXPECT_EQ(log_.empty_removes, 0u);
    EXPECT_GT(repetition_.metrics.at(0).value, 0);
  }

  static constexpr SessionOptions kQuick{.repetition_ns = 1e6,
                                         .max_discarded = 1};
  Log log_;
  Log before_;
  Repetition repetition_;
};

TEST_F(IotlbWorkloadsTest, MappingsAreAsSaid) {
  const std::vector<WorkloadMapping> mappings = DenseMappings(10'000);
  std::set<std::uint64_t> sizes;
  std::set<std::uint64_t> gaps;
  for (std::size_t i = 0; i < mappings.size(); ++i) {
    sizes.insert(mappings[i].size() / 4096);
    if (i == 0) continue;
    ASSERT_GT(mappings[i].first, mappings[i - 1].last);
    gaps.insert((mappings[i].first - mappings[i - 1].last - 1) / 4096);
  }
  EXPECT_EQ(sizes.size(), 16u);
  EXPECT_EQ(*sizes.rbegin(), 16u);
  EXPECT_EQ(gaps, (std::set<std::uint64_t>{0, 1, 2, 3}));
}

TEST_F(IotlbWorkloadsTest, ScatteredPagesAreDistinctAndFarApart) {
  std::set<std::uint64_t> pages;
  std::set<std::uint64_t> regions;  // of 2^36 bytes, 4096 in the space
  for (const WorkloadMapping& m : ScatteredMappings(50'000)) {
    EXPECT_EQ(m.size(), 4096u);
    EXPECT_LT(m.last, std::uint64_t{1} << 48);
    pages.insert(m.first);
    regions.insert(m.first >> 36);
  }
  EXPECT_EQ(pages.size(), 50'000u);
  EXPECT_GT(regions.size(), 4000u);
}

TEST_F(IotlbWorkloadsTest, LookupFindsRandomMappings) {
  Play("lookup_1024", 1024);
  EXPECT_GT(log_.lookups, before_.lookups + 100);
  EXPECT_EQ(log_.shared_lookups, before_.shared_lookups);
  EXPECT_EQ(log_.misses, before_.misses);
  EXPECT_EQ(log_.lookers.size(), 1u);
  EXPECT_GT(log_.found.size(), 64u);
  EXPECT_EQ(log_.adds, 1024u);
  EXPECT_EQ(log_.removes + log_.shared_removes, 0u);
}

TEST_F(IotlbWorkloadsTest, LookupOnTwoThreadsIsShared) {
  Play("lookup_2t_1024", 1024);
  EXPECT_EQ(log_.lookups, before_.lookups);
  EXPECT_GT(log_.shared_lookups, before_.shared_lookups + 100);
  EXPECT_EQ(log_.misses, before_.misses);
  EXPECT_EQ(log_.lookers.size(), 2u);
}

TEST_F(IotlbWorkloadsTest, UpdateRemovesAndAddsAgain) {
  Play("update_1024", 1024);
  EXPECT_GT(log_.removes, before_.removes + 50);
  EXPECT_EQ(log_.adds, 1024 + log_.removes);
  EXPECT_EQ(log_.lookups, before_.lookups);
  EXPECT_GT(log_.updated.begin()->second.size(), 30u);
}

TEST_F(IotlbWorkloadsTest, MixUpdatesOneInTwenty) {
  Play("mix95_2t_1024", 1024);
  const auto updates =
      static_cast<double>(log_.shared_removes - before_.shared_removes);
  const auto lookups =
      static_cast<double>(log_.shared_lookups - before_.shared_lookups);
  EXPECT_GT(lookups, 100);
  EXPECT_GT(updates / (updates + lookups), 0.03);
  EXPECT_LT(updates / (updates + lookups), 0.07);
  EXPECT_EQ(log_.lookups, before_.lookups);
  EXPECT_EQ(log_.shared_adds, log_.shared_removes);
  // Each thread has mappings of its own.
  ASSERT_EQ(log_.updated.size(), 2u);
  const auto& a = log_.updated.begin()->second;
  const auto& b = log_.updated.rbegin()->second;
  std::vector<std::uint64_t> both;
  std::set_intersection(a.begin(), a.end(), b.begin(), b.end(),
                        std::back_inserter(both));
  EXPECT_TRUE(both.empty());
}

TEST_F(IotlbWorkloadsTest, WalkVisits32) {
  Play("walk_1024", 1024);
  EXPECT_GT(log_.walks, before_.walks);
  EXPECT_EQ(log_.walked, 32 * log_.walks);
}

TEST_F(IotlbWorkloadsTest, WalkOfFewerVisitsAll) {
  Play("walk_8", 8);
  EXPECT_EQ(log_.walked, 8 * log_.walks);
}

TEST_F(IotlbWorkloadsTest, HintStaysWithOneMapping) {
  Play("hint", 65536);
  const std::uint64_t lookups = log_.lookups - before_.lookups;
  const std::uint64_t changes = log_.changes - before_.changes;
  EXPECT_GT(lookups, 1000u);
  EXPECT_GE(changes, 1u);
  // The warm-up and each batch begin with a mapping of their own.
  EXPECT_LE(changes, lookups / 1024 + 4 * (repetition_.discarded + 1));
}

TEST_F(IotlbWorkloadsTest, Scattered) {
  Play<SparseFakeIotlb>("scattered_50000", 50'000);
  EXPECT_EQ(repetition_.metrics.at(1).name, "bytes_per_mapping");
  EXPECT_GT(repetition_.metrics.at(1).value, 127);
  EXPECT_LT(repetition_.metrics.at(1).value, 4096);
  EXPECT_EQ(internal::ParseIotlbWorkload("scattered")->mappings, 1'000'000u);
}

TEST_F(IotlbWorkloadsTest, AWrongTranslationIsFoundOut) {
  log_.lie = true;
  EXPECT_TRUE(absl::IsInternal(
      MakeIotlbSession<FakeIotlb>("lookup_64", kQuick).status()));
}

TEST_F(IotlbWorkloadsTest, FailuresAreCounted) {
  for (const char* name : {"lookup_64", "lookup_2t_64", "walk_64", "hint"}) {
    log_ = Log();
    auto session = MakeIotlbSession<FakeIotlb>(name, kQuick);
    ASSERT_TRUE(session.ok()) << session.status();
    log_.blind = true;
    EXPECT_GT((*session)->Run().failures, 0u) << name;
  }
  for (const char* name : {"update_64", "mix95_2t_64"}) {
    log_ = Log();
    auto session = MakeIotlbSession<FakeIotlb>(name, kQuick);
    ASSERT_TRUE(session.ok()) << session.status();
    log_.refuse = true;
    EXPECT_GT((*session)->Run().failures, 0u) << name;
  }
  log_ = Log();
  log_.refuse = true;
  EXPECT_TRUE(absl::IsInternal(
      MakeIotlbSession<FakeIotlb>("lookup_64", kQuick).status()));
}

TEST_F(IotlbWorkloadsTest, WhatCannotRunSaysSo) {
  const auto status = [](const char* name) {
    return MakeIotlbSession<FakeIotlb>(name, kQuick).status();
  };
  EXPECT_TRUE(absl::IsUnimplemented(status("lookup_262144")));
  EXPECT_TRUE(absl::IsUnimplemented(status("scattered")));
  EXPECT_TRUE(absl::IsUnimplemented(
      MakeIotlbSession<FloorFlat>("walk_64", kQuick).status()));
  for (const char* name : {"", "lookup", "lookup_", "lookup_x", "lookup_1",
                           "walk_-5", "hint_64"}) {
    EXPECT_TRUE(absl::IsNotFound(status(name))) << name;
  }
}

TEST_F(IotlbWorkloadsTest, EveryNameIsKnown) {
  for (const std::string& name : IotlbWorkloads()) {
    if (name == "scattered" || name.find("1048576") != std::string::npos ||
        name.find("262144") != std::string::npos) {
      EXPECT_TRUE(internal::ParseIotlbWorkload(name).has_value()) << name;
      continue;
    }
    auto session = MakeIotlbSession<AbslBtreeIotlb>(name, kQuick);
    ASSERT_TRUE(session.ok()) << name << " " << session.status();
    EXPECT_EQ((*session)->Run().failures, 0u) << name;
  }
}

}  // namespace
}  // namespace dmamap::peers
