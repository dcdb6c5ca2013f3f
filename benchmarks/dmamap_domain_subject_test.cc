// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// The domain behind the subject is the real one: what the workloads check in it
// is there to be checked.

#include "benchmarks/dmamap_domain_subject.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "benchmarks/peers/domain_workloads.h"
#include "dma/direction.h"
#include "dma/mapper.h"

namespace dmamap::bench {
namespace {

class DmamapDomainSubjectTest : public testing::Test {
 protected:
  using Subject = DmamapDomainSubject<>;

  bool Map(Direction direction, MapAttributes attributes) {
    return subject_->Map(buffer_.data(), buffer_.size(), direction, attributes,
                         mapping_);
  }
  bool Unmap(Direction direction, MapAttributes attributes) {
    return subject_->Unmap(mapping_, buffer_.size(), direction, attributes);
  }
  std::span<std::byte> Device(std::size_t offset, Direction direction) {
    return subject_->DeviceBytes(mapping_, offset, direction);
  }

  const std::unique_ptr<Subject> subject_ = *Subject::Create({});
  std::vector<std::byte> buffer_ = std::vector(6000, std::byte{7});
  Mapping mapping_;
};

TEST_F(DmamapDomainSubjectTest, CountsACopyOnceThePagesAreThere) {
  constexpr Direction kIn = Direction::kToDevice;
  ASSERT_TRUE(Map(kIn, MapAttributes::kNone));
  EXPECT_EQ(subject_->bytes_copied(), 0u);  // no device has looked
  EXPECT_EQ(Device(0, kIn).size(), 4096u);
  EXPECT_EQ(Device(4096, kIn).size(), 6000u - 4096);
  EXPECT_EQ(Device(4096, kIn)[0], std::byte{7});
  EXPECT_TRUE(Device(6000, kIn).empty());
  EXPECT_TRUE(Device(0, Direction::kFromDevice).empty());  // may not write
  ASSERT_TRUE(Unmap(kIn, MapAttributes::kNone));
  EXPECT_TRUE(Device(0, kIn).empty());
  const std::uint64_t before = subject_->bytes_copied();
  EXPECT_EQ(before, 6000u);
  ASSERT_TRUE(Map(kIn, MapAttributes::kNone));
  ASSERT_TRUE(Unmap(kIn, MapAttributes::kNone));
  EXPECT_EQ(subject_->bytes_copied(), before + 6000);
}

TEST_F(DmamapDomainSubjectTest, CountsBothCopiesFromTheDevice) {
  constexpr Direction kBack = Direction::kFromDevice;
  ASSERT_TRUE(Map(kBack, MapAttributes::kNone));
  std::fill_n(Device(0, kBack).data(), 100, std::byte{9});  // a short write
  ASSERT_TRUE(Unmap(kBack, MapAttributes::kNone));
  EXPECT_EQ(std::count(buffer_.begin(), buffer_.end(), std::byte{9}), 100);
  EXPECT_EQ(std::count(buffer_.begin(), buffer_.end(), std::byte{7}), 5900);
  EXPECT_EQ(subject_->bytes_copied(), 2u * 4096);  // the page that it touched
}

TEST_F(DmamapDomainSubjectTest, CopiesNothingWhenToldSo) {
  constexpr Direction kIn = Direction::kToDevice;
  ASSERT_TRUE(Map(kIn, MapAttributes::kSkipSync));
  EXPECT_EQ(Device(0, kIn)[0], std::byte{0});
  ASSERT_TRUE(Unmap(kIn, MapAttributes::kSkipSync));
  EXPECT_EQ(subject_->bytes_copied(), 0u);
}

TEST_F(DmamapDomainSubjectTest, RefusesWhatIsNotMapped) {
  ASSERT_TRUE(Map(Direction::kToDevice, MapAttributes::kNone));
  Mapping other = mapping_;
  ++other.tag;
  EXPECT_FALSE(
      subject_->Unmap(other, 6000, Direction::kToDevice, MapAttributes::kNone));
  ASSERT_TRUE(Unmap(Direction::kToDevice, MapAttributes::kNone));
  EXPECT_FALSE(Unmap(Direction::kToDevice, MapAttributes::kNone));
}

TEST(DmamapDomainWorkloads, NothingFails) {
  for (const char* workload :
       {"map_unmap_1500B", "map_unmap_64B_live1024", "map_unmap_4096B_2t",
        "map_unmap_64B_touched", "copy_to_1500B", "copy_from_65536B"}) {
    auto session = peers::MakeDomainSession<DmamapDomainSubject<>>(
        workload, {.repetition_ns = 1e6, .max_discarded = 1});
    ASSERT_TRUE(session.ok()) << workload << ": " << session.status();
    EXPECT_EQ((*session)->Run().failures, 0u) << workload;
  }
  for (const char* workload : {"map_unmap_1500B_2t", "copy_from_1500B"}) {
    auto session = peers::MakeDomainSession<TwoDomainsSubject<>>(
        workload, {.repetition_ns = 1e6, .max_discarded = 1});
    ASSERT_TRUE(session.ok()) << workload << ": " << session.status();
    EXPECT_EQ((*session)->Run().failures, 0u) << workload;
  }
}

}  // namespace
}  // namespace dmamap::bench
