// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "nicring/rx_statistics.h"

#include <gtest/gtest.h>

#include <cstdint>

#include "testing/rx_bench.h"

namespace dmamap {
namespace {

using testing_bench::Bench;
using testing_bench::BenchOptions;
using testing_bench::IdentityWorld;

// Ten frames for a ring of three open descriptors; the rest is lost.
struct Overrun {
  Overrun() : bench(Options()) {
    bench.Start();
    for (int i = 0; i < 10; ++i) bench.Inject(60);
    bench.RunDevice();
  }
  static BenchOptions Options() {
    BenchOptions options;
    options.entries = 5;
    return options;
  }
  bool Conserves(std::uint64_t stored) {
    return bench.ring.statistics().Conserves(stored, bench.ring.armed());
  }
  Bench<IdentityWorld> bench;
};

TEST(RxStatistics, ConservesWhateverWasPolled) {
  Overrun run;
  const std::uint64_t stored = run.bench.sim->counters().rx_good;
  ASSERT_EQ(stored, 3u);
  EXPECT_TRUE(run.Conserves(stored));  // all of it in the ring still
  run.bench.Poll(2);
  EXPECT_EQ(run.bench.ring.statistics().rx_completions, 2u);
  EXPECT_TRUE(run.Conserves(stored));
  // The device says less than was consumed, or more than the ring can hold.
  EXPECT_FALSE(run.Conserves(1));
  EXPECT_TRUE(run.Conserves(2));
  EXPECT_TRUE(run.Conserves(2 + run.bench.ring.armed()));
  EXPECT_FALSE(run.Conserves(2 + run.bench.ring.armed() + 1));
}

TEST(RxStatistics, EachCountHasToBeAccountedFor) {
  RxStatistics good;
  good.rx_completions = 9;
  good.rx_packets = 4;
  good.rx_dropped = 5;
  for (std::uint64_t RxStatistics::*reason :
       {&RxStatistics::rx_errors, &RxStatistics::rx_over_length_errors,
        &RxStatistics::rx_length_rejected, &RxStatistics::rx_mapper_dropped,
        &RxStatistics::rx_scatter_dropped}) {
    good.*reason = 1;
  }
  EXPECT_TRUE(good.Conserves(9, 0));
  for (std::uint64_t RxStatistics::*field :
       {&RxStatistics::rx_completions, &RxStatistics::rx_packets,
        &RxStatistics::rx_dropped, &RxStatistics::rx_errors,
        &RxStatistics::rx_over_length_errors, &RxStatistics::rx_length_rejected,
        &RxStatistics::rx_mapper_dropped, &RxStatistics::rx_scatter_dropped}) {
    for (const std::uint64_t change : {std::uint64_t{1}, ~std::uint64_t{0}}) {
      RxStatistics bad = good;
      bad.*field += change;
      EXPECT_FALSE(bad.ConservationHolds());
      EXPECT_FALSE(bad.Conserves(9, 8));
    }
  }
}

// What the device lost is no completion: it adds up, and changes nothing else.
TEST(RxStatistics, DeviceLossesAddUpAside) {
  Overrun run;
  run.bench.Poll(64);
  const std::uint64_t stored = run.bench.sim->counters().rx_good;
  const RxStatistics before = run.bench.ring.statistics();
  EXPECT_EQ(before.rx_resource_errors, 0u);
  const std::uint64_t lost = run.bench.sim->counters().rx_resource_errors;
  ASSERT_EQ(lost, 7u);
  run.bench.ring.NoteDeviceLosses(lost, 0);
  run.bench.ring.NoteDeviceLosses(1, 2);
  const RxStatistics& after = run.bench.ring.statistics();
  EXPECT_EQ(after.rx_resource_errors, 8u);
  EXPECT_EQ(after.rx_missed_errors, 2u);
  EXPECT_EQ(after.rx_completions, before.rx_completions);
  EXPECT_EQ(after.rx_dropped, before.rx_dropped);
  EXPECT_TRUE(run.Conserves(stored));
  EXPECT_TRUE(run.bench.ring.CheckInvariants());
}

}  // namespace
}  // namespace dmamap
