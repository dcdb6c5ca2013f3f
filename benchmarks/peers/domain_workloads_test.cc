// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Every DMA workload on a domain that writes down what is asked of it, and that
// can be told to do it wrong.

#include "benchmarks/peers/domain_workloads.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <vector>

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
  std::size_t touched = 0;  // bytes of mappings that were shown
  bool full = false;        // map nothing any more
  // Faults to be found: nothing is copied to the device, or from it; one byte
  // more is counted than was copied; the device reaches nothing.
  bool lose_in = false;
  bool lose_out = false;
  bool miscount = false;
  bool hide = false;
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
    Live live{bytes, direction, attributes, buffer, {}};
    if (!Has(attributes, MapAttributes::kSkipSync)) {
      live.device.assign(bytes, std::byte{0});
      if (!g_log->lose_in) std::copy_n(buffer, bytes, live.device.begin());
      copied_ += bytes;
    }
    live_.emplace(handle, std::move(live));
    g_log->live = live_.size();
    g_log->most_live = std::max(g_log->most_live, live_.size());
    return true;
  }
  bool Unmap(Handle handle, std::size_t bytes, Direction direction,
             MapAttributes attributes) {
    const std::lock_guard lock(mutex_);
    ++g_log->unmaps;
    const auto at = live_.find(handle);
    if (at == live_.end() || !at->second.IsFor(bytes, direction, attributes)) {
      ++g_log->mismatches;
      return false;
    }
    if (DeviceWrites(direction) && !Has(attributes, MapAttributes::kSkipSync)) {
      const std::vector<std::byte>& device = at->second.device;
      if (!g_log->lose_out) {
        std::copy(device.begin(), device.end(), at->second.buffer);
      }
      copied_ += bytes;
    }
    live_.erase(at);
    g_log->live = live_.size();
    return true;
  }

  // Seven bytes at a time, so that a caller has to ask again.
  std::span<std::byte> DeviceBytes(Handle handle, std::size_t offset,
                                   Direction) {
    const std::lock_guard lock(mutex_);
    if (g_log->hide) return {};
    std::vector<std::byte>& device = live_.at(handle).device;
    device.resize(live_.at(handle).bytes);
    const auto part = std::span(device).subspan(offset);
    const std::size_t length = std::min<std::size_t>(7, part.size());
    g_log->touched += length;
    return part.first(length);
  }
  std::uint64_t bytes_copied() const {
    const std::lock_guard lock(mutex_);
    return copied_ + (g_log->miscount ? 1 : 0);
  }

 private:
  struct Live {
    std::size_t bytes;
    Direction direction;
    MapAttributes attributes;
    std::byte* buffer;
    std::vector<std::byte> device;

    bool IsFor(std::size_t b, Direction d, MapAttributes a) const {
      return bytes == b && direction == d && attributes == a;
    }
  };
  mutable std::mutex mutex_;
  std::map<Handle, Live> live_;
  Handle count_ = 0;
  std::uint64_t copied_ = 0;
};
static_assert(CopyCountingSubject<FakeDomain>);
static_assert(!CopyCountingSubject<FloorMemcpy>);

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

TEST_F(DomainWorkloadsTest, PagesAreTouchedWhereTheNameSaysSo) {
  Play("map_unmap_64B");
  EXPECT_EQ(log_.touched, 0u);
  Play("map_unmap_64B_touched");
  EXPECT_EQ(log_.touched, 128u * 64);  // each of the buffers once
  Play("copy_to_64B");
  EXPECT_EQ(log_.touched, 2u * 128 * 64);  // and once more to compare
}

TEST_F(DomainWorkloadsTest, WrongBytesAreFound) {
  const auto make = [&](const char* workload) {
    return MakeDomainSession<FakeDomain>(workload, kQuick).status();
  };
  log_.lose_in = true;
  EXPECT_TRUE(absl::IsInternal(make("copy_to_1500B")));
  log_ = Log();
  log_.lose_out = true;
  EXPECT_TRUE(absl::IsInternal(make("copy_from_1500B")));
  EXPECT_TRUE(make("copy_to_1500B").ok());
  log_ = Log();
  log_.hide = true;
  EXPECT_TRUE(absl::IsInternal(make("copy_to_1500B")));
  EXPECT_TRUE(absl::IsInternal(make("map_unmap_1500B_touched")));
  EXPECT_TRUE(make("map_unmap_1500B").ok());
}

TEST_F(DomainWorkloadsTest, CopiesThatWereNotMadeAreFailures) {
  for (const char* workload :
       {"copy_to_64B", "copy_from_64B", "map_unmap_64B"}) {
    log_ = Log();
    auto session = MakeDomainSession<FakeDomain>(workload, kQuick);
    ASSERT_TRUE(session.ok());
    EXPECT_EQ((*session)->Run().failures, 0u);
    log_.miscount = true;
    EXPECT_EQ((*session)->Run().failures, 1u) << workload;
  }
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
