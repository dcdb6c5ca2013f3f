// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Every format with a doorbell over a strict copying mapper: the device never
// reads what was not synced to it, and no sync overwrites what the ring wrote.

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>

#include "nicring/doorbell_bench_for_test.h"
#include "nicring/e1000.h"
#include "nicring/intel_advanced.h"
#include "nicring/virtio.h"
#include "testing/sim_e1000.h"
#include "testing/sim_virtio.h"

namespace dmamap {
namespace {

using testing_bench::CopyWorld;
using testing_bench::DriverOptions;
using testing_bench::HonestBench;

class StrictMapper : public CopyingMapper {
 public:
  StrictMapper() : CopyingMapper(Options()) {}

 private:
  static CopyingMapperOptions Options() {
    CopyingMapperOptions options;
    options.strict = true;
    return options;
  }
};
// Shows the device every third of what the ring changed only.
class ForgetfulMapper : public StrictMapper {
 public:
  Result<void> SyncForDevice(const Mapping& m, std::uint64_t offset,
                             std::uint64_t size) {
    if (++calls_ % 3 != 0) return Ok();
    return StrictMapper::SyncForDevice(m, offset, size);
  }

 private:
  int calls_ = 0;
};

DriverOptions Options(std::uint64_t features) {
  DriverOptions options;
  options.ring.entries = 8;
  options.ring.room = 1024;
  options.ring.max_frame = 2000;
  options.ring.features = features;
  return options;
}

// 200 frames, the device between the driver's calls. What the mapper counted.
template <class M, class Format, class Sim, class SimOptions>
CopyingMapperCounters Receive(const DriverOptions& options,
                              const SimOptions& of_sim) {
  HonestBench<CopyWorld<M>, Format, Sim> bench(options, of_sim);
  EXPECT_TRUE(bench.Start());
  for (std::size_t i = 0; i < 200; ++i) {
    bench.Inject(20 + i * 37 % 1500);
    bench.RunDevice();
    if (i % 3 != 0) bench.Poll(4);
  }
  bench.Settle();
  return bench.world.mapper.counters();
}

template <class Format, class Sim, class SimOptions>
void Check(const DriverOptions& options, const SimOptions& of_sim) {
  const CopyingMapperCounters good =
      Receive<StrictMapper, Format, Sim>(options, of_sim);
  EXPECT_GT(good.maps, 100u);
  EXPECT_EQ(good.stale_reads, 0u);
  EXPECT_EQ(good.lost_writes, 0u);
  EXPECT_EQ(good.refused, 0u);
  EXPECT_EQ(good.device_not_mapped + good.device_permission, 0u);
  // Control.
  const CopyingMapperCounters bad =
      Receive<ForgetfulMapper, Format, Sim>(options, of_sim);
  EXPECT_GT(bad.stale_reads + bad.lost_writes, 0u);
}

using Port = CopyingMapper::Port;

TEST(StrictSync, E1000) {
  Check<E1000Format, SimE1000<Port>>(
      Options(0), SimE1000Options{E1000Layout::kLegacy, 64, 0});
}
TEST(StrictSync, IntelAdvanced) {
  Check<IxgbeFormat, SimE1000<Port>>(
      Options(0), SimE1000Options{E1000Layout::kIxgbe, 64, 0});
}
TEST(StrictSync, VirtioSplit) {
  SimVirtioOptions sim;
  sim.layout = VirtioLayout::kSplit;
  sim.mergeable = true;
  Check<VirtioSplitFormat, SimVirtio<Port>>(
      Options(virtio::kVersion1 | virtio::kMergeableBuffers), sim);
}
TEST(StrictSync, VirtioPacked) {
  SimVirtioOptions sim;
  sim.layout = VirtioLayout::kPacked;
  sim.mergeable = true;
  Check<VirtioPackedFormat, SimVirtio<Port>>(
      Options(virtio::kVersion1 | virtio::kRingPacked |
              virtio::kMergeableBuffers),
      sim);
}

}  // namespace
}  // namespace dmamap
