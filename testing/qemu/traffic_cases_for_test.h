// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_QEMU_TRAFFIC_CASES_FOR_TEST_H_
#define DMAMAP_TESTING_QEMU_TRAFFIC_CASES_FOR_TEST_H_

// What every NIC has to go through, by its kit (traffic_for_test.h).

#include <gtest/gtest.h>

#include <cstdint>
#include <initializer_list>
#include <vector>

#include "domain/mode.h"
#include "iova/flush_options.h"
#include "testing/qemu/traffic_for_test.h"

namespace dmamap::testing_qemu {

// Each way, strict, and as many deferred: 20,000 in each mode.
inline constexpr std::uint32_t kFramesOfOneFlush = 10'000;

// Each of these modes (bounce, direct, unaligned ends), strict and deferred.
inline std::vector<TrafficOptions> StrictAndDeferred(
    std::initializer_list<TrafficOptions> modes) {
  std::vector<TrafficOptions> all;
  for (TrafficOptions o : modes) {
    for (const FlushMode flush : {FlushMode::kStrict, FlushMode::kDeferred}) {
      o.flush = flush;
      all.push_back(o);
    }
  }
  return all;
}

// `frames` in, then out, by interrupts; nothing lost, wrong or leaked.
template <class Kit>
void FramesBothWays(const TrafficOptions& options, std::uint32_t frames) {
  Traffic<Kit> t(options);
  DMAMAP_START_OR_SKIP(t.started, t.machine);
  const typename Kit::Scope scope(t.machine);
  Kit::Unmask(t);
  const std::uint64_t requests = t.domain.invalidation().requests();
  t.Receive(frames);
  t.Transmit(frames);
  ASSERT_FALSE(::testing::Test::HasFailure());
  EXPECT_EQ(t.delivered, frames);
  EXPECT_EQ(t.tx_seen, frames);
  EXPECT_EQ(t.tx.statistics().tx_packets, frames);
  EXPECT_GT(t.interrupts, 10u);
  if (options.room < 1514) {
    EXPECT_GT(t.scattered, frames / 3);
  }
  // Strict: one for each frame that was unmapped, at least. Deferred: one for
  // many.
  const std::uint64_t unmaps =
      std::uint64_t{Kit::kMapsWhatItSends ? 2 : 1} * frames;
  const std::uint64_t asked = t.domain.invalidation().requests() - requests;
  if (options.flush == FlushMode::kStrict) {
    EXPECT_GE(asked, unmaps);
  } else {
    EXPECT_LT(asked * 64, unmaps);
  }
  Kit::ExpectCounted(t);
  t.ExpectSound();
  t.PrintRow();
}

// Interrupts stay masked: the driver polls, with a budget that is often too
// small and often too large.
template <class Kit>
void PollOnly(const TrafficOptions& options, std::uint32_t frames) {
  Traffic<Kit> t(options);
  DMAMAP_START_OR_SKIP(t.started, t.machine);
  const typename Kit::Scope scope(t.machine);
  Kit::Mask(t);
  t.machine.qtest().Look();
  const std::uint64_t before = t.machine.qtest().raised();
  for (const std::size_t budget : {1u, 3u, 64u}) {
    t.ReceivePolling(frames / 3, budget);
  }
  t.Transmit(frames);
  ASSERT_FALSE(::testing::Test::HasFailure());
  EXPECT_EQ(t.delivered, frames / 3 * 3);
  EXPECT_EQ(t.tx_seen, frames);
  EXPECT_GT(t.idle_polls, 0u);
  EXPECT_GT(t.short_polls, 0u);
  EXPECT_GT(t.full_polls, 0u);
  t.machine.qtest().Look();
  EXPECT_EQ(t.machine.qtest().raised(), before);
  Kit::ExpectCounted(t);
  t.ExpectSound();
}

}  // namespace dmamap::testing_qemu

#endif  // DMAMAP_TESTING_QEMU_TRAFFIC_CASES_FOR_TEST_H_
