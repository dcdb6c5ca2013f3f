// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/e100_imix.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>

#include "benchmarks/rows.h"
#include "testing/copying_mapper.h"

namespace dmamap::bench {
namespace {

constexpr std::uint64_t kFrames = 20'000;

// The mapper that gives the device a copy of its own, and a port through which
// the controls disturb the device.
template <class Port>
class CopyingEnvironment {
 public:
  using MapperType = CopyingMapper;
  using PortType = Port;

  bool Init(PhysRange) { return true; }
  MapperType& mapper() { return mapper_; }
  PortType& port() { return port_; }
  Iova base() const { return Iova(0); }
  bool IsClean() { return mapper_.live() == 0 && mapper_.CheckInvariants(); }

 private:
  CopyingMapper mapper_;
  Port port_{&mapper_};
};
using GoodEnvironment = CopyingEnvironment<CopyingMapper::Port>;

TEST(Imix, SizesAreSevenFourOne) {
  Imix imix;
  std::map<std::size_t, int> counts;
  for (std::uint64_t i = 0; i < 12 * 256; ++i) ++counts[imix.Build(i).size()];
  EXPECT_EQ(counts, (std::map<std::size_t, int>{
                        {60, 7 * 256}, {590, 4 * 256}, {1514, 256}}));
}

TEST(E100Imix, EveryFrameIsAccountedFor) {
  const E100Imix run = RunE100Imix<GoodEnvironment>(kFrames);
  EXPECT_TRUE(run.sound);
  EXPECT_EQ(run.sent, kFrames);
  EXPECT_EQ(run.delivered + run.device_drops, kFrames);
  EXPECT_EQ(run.driver_drops + run.unaccounted + run.wrong_bytes +
                run.wrong_frames + run.device_errors,
            0u);
  EXPECT_EQ(run.timer.ops(0), run.delivered);
  // A burst of 300 runs the ring of 256 dry each time.
  EXPECT_GT(run.restarts, 2u);
  EXPECT_GT(run.device_drops, 2 * (300 - 256));
  EXPECT_GE(run.polls, run.interrupts);
  EXPECT_GT(run.bytes, run.delivered * 60);
}

// --- Negative controls: each fault must be counted.

// Changes the last byte of each frame of the largest size.
class ChangingPort : public CopyingMapper::Port {
 public:
  using CopyingMapper::Port::Port;
  Transfer Write(Iova at, const void* from, std::size_t n) {
    const Transfer transfer = CopyingMapper::Port::Write(at, from, n);
    if (n != Imix::kMaxFrame) return transfer;
    const std::byte wrong =
        static_cast<const std::byte*>(from)[n - 1] ^ std::byte{1};
    return CopyingMapper::Port::Write(at + (n - 1), &wrong, 1);
  }
};

TEST(E100ImixControl, OneByteChanged) {
  const E100Imix run = RunE100Imix<CopyingEnvironment<ChangingPort>>(kFrames);
  EXPECT_GT(run.wrong_bytes, kFrames / 24);
  EXPECT_LT(run.wrong_bytes, kFrames / 6);
}

// Stores the number of the frame before in one frame of 100.
class RepeatingPort : public CopyingMapper::Port {
 public:
  using CopyingMapper::Port::Port;
  Transfer Write(Iova at, const void* from, std::size_t n) {
    const Transfer transfer = CopyingMapper::Port::Write(at, from, n);
    if (n < 60) return transfer;
    std::uint64_t number = 0;
    std::memcpy(&number, from, sizeof number);
    if (number % 100 != 99) return transfer;
    --number;
    return CopyingMapper::Port::Write(at, &number, sizeof number);
  }
};

TEST(E100ImixControl, FrameComesTwice) {
  const E100Imix run = RunE100Imix<CopyingEnvironment<RepeatingPort>>(kFrames);
  EXPECT_GT(run.wrong_frames, kFrames / 200);
}

// Loses the status of one frame in the middle: the bus fails once.
class FailingPort : public CopyingMapper::Port {
 public:
  using CopyingMapper::Port::Port;
  Transfer Write(Iova at, const void* from, std::size_t n) {
    if (++writes_ == 1000) return {0, Error::kNotMapped};
    return CopyingMapper::Port::Write(at, from, n);
  }

 private:
  int writes_ = 0;
};

TEST(E100ImixControl, DeviceIsRefused) {
  const E100Imix run = RunE100Imix<CopyingEnvironment<FailingPort>>(kFrames);
  EXPECT_EQ(run.device_errors, 1u);
  EXPECT_EQ(run.unaccounted, 1u);
}

class UncleanEnvironment : public GoodEnvironment {
 public:
  bool IsClean() { return false; }
};

TEST(E100ImixControl, SomethingStaysMapped) {
  EXPECT_FALSE(RunE100Imix<UncleanEnvironment>(1000).sound);
}

// --- The rows of the report.

TEST(E100Rows, Hold) {
  Report report;
  AddE100Rows(report, kFrames);
  ASSERT_FALSE(report.rows().empty());
  for (const Row& row : report.rows()) report.Record(row.Name(), row.run());
  EXPECT_TRUE(report.Failures().empty()) << report.Failures()[0];
  EXPECT_EQ(report.Verdicts().size(), 5 * report.rows().size());
}

}  // namespace
}  // namespace dmamap::bench
