// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Every DMA workload on a domain that writes down what is asked of it.

#include "benchmarks/peers/domain_workloads.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "benchmarks/peers/floor_memcpy.h"
#include "dma/direction.h"
#include "dma/mapper.h"

namespace dmamap::peers {
namespace {

struct Log {
  DomainSpace space;
  std::uint64_t maps = 0;
  std::uint64_t unmaps = 0;
  std::uint64_t mismatches =
      0;  // unmapped otherwise than mapped, or not mapped
  std::set<std::size_t> sizes;
  std::set<Direction> directions;
  std::set<MapAttributes> attributes;
  std::map<std::thread::id, std::set<std::byte*>> buffers;
  std::size_t live = 0;
  std::size_t most_live = 0;
  std::size_t live_at_destruction = 0;
  unsigned entered = 0;
  unsigned left = 0;
  bool full = false;  // map nothing any more
};

Log* g_log = nullptr;

class FakeDomain {
 public:
  static constexpr bool kMaps = true;
  using Handle = std::uint64_t;

  static absl::StatusOr<std::unique_ptr<FakeDomain>> Create(
      const DomainSpace& space) {
    g_log->space = space;
    return std::make_unique<FakeDomain>();
  }
  ~FakeDomain() { g_log->live_at_destruction = live_.size(); }

  absl::Status EnterThread(unsigned) {
    ++g_log->entered;
    return absl::OkStatus();
  }
  void LeaveThread(unsigned) { ++g_log->left; }

  bool Map(std::byte* buffer, std::size_t bytes, Direction direction,
           MapAttributes attributes, Handle& handle) {
    const std::lock_guard lock(mutex_);
    if (g_log->full) return false;
    ++g_log->maps;
    g_log->sizes.insert(bytes);
    g_log->directions.insert(direction);
    g_log->attributes.insert(attributes);
    g_log->buffers[std::this_thread::get_id()].insert(buffer);
    handle = ++count_;
    live_.emplace(handle, Live{bytes, direction, attributes});
    g_log->live = live_.size();
    g_log->most_live = std::max(g_log->most_live, live_.size());
    return true;
  }
  bool Unmap(Handle handle, std::size_t bytes, Direction direction,
             MapAttributes attributes) {
    const std::lock_guard lock(mutex_);
    ++g_log->unmaps;
    const auto at = live_.find(handle);
    if (at == live_.end() ||
        !(at->second == Live{bytes, direction, attributes})) {
      ++g_log->mismatches;
      return false;
    }
    live_.erase(at);
    g_log->live = live_.size();
    return true;
  }

 private:
  struct Live {
    std::size_t bytes;
    Direction direction;
    MapAttributes attributes;
    friend bool operator==(const Live&, const Live&) = default;
  };
  std::mutex mutex_;
  std::map<Handle, Live> live_;
  Handle count_ = 0;
};
static_assert(DomainSubject<FakeDomain>);

class DomainWorkloadsTest : public testing::Test {
 protected:
  DomainWorkloadsTest() { g_log = &log_; }
  ~DomainWorkloadsTest() override { g_log = nullptr; }

  void Play(const std::string& workload) {
    log_ = Log();
    auto session = MakeDomainSession<FakeDomain>(workload, kQuick);
    ASSERT_TRUE(session.ok()) << session.status();
    const std::uint64_t before = log_.maps;
    const Repetition repetition = (*session)->Run();
    EXPECT_GT(log_.maps, before + 20);
    EXPECT_EQ(repetition.failures, 0u);
    EXPECT_GT(repetition.metrics.at(0).value, 0);
    live_ = log_.live;
    session->reset();
    EXPECT_EQ(log_.maps, log_.unmaps);
    EXPECT_EQ(log_.mismatches, 0u);
    EXPECT_EQ(log_.live_at_destruction, 0u);
    EXPECT_EQ(log_.entered, log_.space.threads);
    EXPECT_EQ(log_.left, log_.space.threads);
  }

  static constexpr SessionOptions kQuick{.repetition_ns = 1e6,
                                         .max_discarded = 1};
  Log log_;
  std::size_t live_ = 0;  // when the repetitions were over
};

TEST_F(DomainWorkloadsTest, MapUnmapCopiesNothing) {
  Play("map_unmap_1500B");
  EXPECT_EQ(log_.sizes, std::set<std::size_t>{1500});
  EXPECT_EQ(log_.attributes, std::set{MapAttributes::kSkipSync});
  EXPECT_EQ(log_.most_live, 1u);
  EXPECT_EQ(log_.space.threads, 1u);
}

TEST_F(DomainWorkloadsTest, BuffersTakeTurnsOnPagesOfTheirOwn) {
  Play("map_unmap_4096B");
  ASSERT_EQ(log_.buffers.size(), 1u);
  const std::set<std::byte*>& buffers = log_.buffers.begin()->second;
  EXPECT_EQ(buffers.size(), 128u);
  for (const std::byte* buffer : buffers) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer) % 4096, 0u);
  }
}

TEST_F(DomainWorkloadsTest, OthersAreLive) {
  Play("map_unmap_64B_live1024");
  EXPECT_EQ(log_.sizes, std::set<std::size_t>{64});
  EXPECT_EQ(log_.most_live, 1025u);
  EXPECT_EQ(live_, 1024u);
  EXPECT_GE(log_.space.bounce_bytes, 1025u * 4096);
}

TEST_F(DomainWorkloadsTest, TwoThreadsHaveBuffersOfTheirOwn) {
  Play("map_unmap_64B_2t");
  EXPECT_EQ(log_.space.threads, 2u);
  ASSERT_EQ(log_.buffers.size(), 2u);
  for (std::byte* buffer : log_.buffers.begin()->second) {
    EXPECT_EQ(log_.buffers.rbegin()->second.count(buffer), 0u);
  }
}

TEST_F(DomainWorkloadsTest, LiveAndTwoThreads) {
  Play("map_unmap_4096B_live100_2t");
  EXPECT_EQ(live_, 100u);
  EXPECT_EQ(log_.space.threads, 2u);
}

TEST_F(DomainWorkloadsTest, CopiesGoTheirWay) {
  Play("copy_to_65536B");
  EXPECT_EQ(log_.directions, std::set{Direction::kToDevice});
  EXPECT_EQ(log_.attributes, std::set{MapAttributes::kNone});
  EXPECT_EQ(log_.sizes, std::set<std::size_t>{65536});
  Play("copy_from_64B");
  EXPECT_EQ(log_.directions, std::set{Direction::kFromDevice});
  EXPECT_EQ(log_.attributes, std::set{MapAttributes::kNone});
}

TEST_F(DomainWorkloadsTest, FailuresAreCounted) {
  auto session = MakeDomainSession<FakeDomain>("map_unmap_64B_live10", kQuick);
  ASSERT_TRUE(session.ok());
  log_.full = true;
  EXPECT_GT((*session)->Run().failures, 0u);
  EXPECT_TRUE(absl::IsInternal(
      MakeDomainSession<FakeDomain>("map_unmap_64B_live10", kQuick).status()));
}

TEST_F(DomainWorkloadsTest, EveryNameIsKnown) {
  for (const std::string& name : DomainWorkloads()) {
    Play(name);
    const auto floor = MakeDomainSession<FloorMemcpy>(name, kQuick);
    EXPECT_EQ(floor.ok(), name.find("copy_") == 0) << name;
    if (!floor.ok()) {
      EXPECT_TRUE(absl::IsUnimplemented(floor.status())) << name;
      continue;
    }
    EXPECT_EQ((*floor)->Run().failures, 0u) << name;
  }
}

TEST_F(DomainWorkloadsTest, NamesThatAreNone) {
  for (const char* name :
       {"", "map_unmap", "map_unmap_64", "map_unmap_B", "map_unmap_0B",
        "map_unmap_64B_live", "copy_to_64B_2t", "copy_64B", "copy_to_xB"}) {
    EXPECT_TRUE(
        absl::IsNotFound(MakeDomainSession<FakeDomain>(name, kQuick).status()))
        << name;
  }
}

}  // namespace
}  // namespace dmamap::peers
