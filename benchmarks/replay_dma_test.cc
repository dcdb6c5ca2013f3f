// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/replay_dma.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "benchmarks/dmamap_domain.h"
#include "benchmarks/rows.h"
#include "benchmarks/test_traces.h"

namespace dmamap::bench {
namespace {

// One mapping of each direction with syncs, a list, a coherent block.
constexpr const char* kRows =
    "0,0,A,,6000,,\n"
    "1,0,M,10040,100,1,40\n"
    "1,0,D,10044,16,1,\n"
    "2,1,U,10040,100,1,\n"
    "3,0,M,20ff0,5000,2,ff0\n"
    "3,0,C,20ff0,64,2,\n"
    "4,1,U,20ff0,5000,2,\n"
    "5,0,M,30880,1538,0,880\n"
    "6,0,C,30880,16,0,\n"
    "6,0,D,30880,16,2,\n"
    "6,0,U,30880,1538,0,\n"
    "7,0,G,,3,2,\n"
    "7,0,G,,2,1,\n"
    "8,0,g,,3,2,\n"
    "9,0,g,,2,1,\n"
    "9,0,F,,6000,,\n"
    "9,0,M,40000,60,1,0\n";

template <class D>
DmaReplay Replay(const std::string& rows = kRows) {
  return ReplayDma<D>(TestTrace<DmaTrace>(rows), kAllEvents);
}

// All that is wrong, of any kind.
std::uint64_t Faults(const DmaReplay& replay) {
  return replay.failures + replay.device_failures + replay.allowed +
         replay.wrong_bytes + replay.foreign_bytes + (replay.sound ? 0 : 1);
}

TEST(ReplayDma, EveryOperationArrivesWhole) {
  const DmaReplay replay = Replay<DmamapDomain>();
  EXPECT_EQ(Faults(replay), 0u) << replay.first_failure;
  const std::uint64_t ops[DmaEvent::kOps] = {4, 3, 2, 2, 2, 2, 1, 1};
  for (std::size_t i = 0; i < DmaEvent::kOps; ++i) {
    EXPECT_EQ(replay.timer.ops(i), ops[i]) << i;
  }
  EXPECT_EQ(replay.live_at_end, 1u);
  EXPECT_GT(replay.checked_bytes, 2 * (100 + 5000 + 1538 + 6 * kTracePage));
}

// What must go through bounce pages, and no byte more. A page is filled when
// the device first touches it.
TEST(ReplayDma, BytesBounced) {
  EXPECT_EQ(Replay<DmamapDomain>("0,0,M,1040,100,1,40\n").copied_bytes, 100u);
  EXPECT_EQ(Replay<DmamapDomain>("0,0,M,1040,100,1,40\n"
                                 "1,0,U,1040,100,1,\n")
                .copied_bytes,
            100u);
  EXPECT_EQ(Replay<DmamapDomain>("0,0,M,1040,100,2,40\n"
                                 "1,0,C,1040,10,2,\n"
                                 "2,0,U,1040,100,2,\n")
                .copied_bytes,
            100u + 10u + 100u);
}

TEST(ReplayDma, ImpliedUnmapIsDoneButNotTimed) {
  const DmaReplay replay = Replay<DmamapDomain>(
      "0,0,M,1040,100,1,40\n"
      "1,0,M,1080,100,2,80\n"
      "2,0,U,1080,100,2,\n");
  EXPECT_EQ(Faults(replay), 0u);
  EXPECT_EQ(replay.live_at_end, 0u);
  EXPECT_EQ(replay.timer.ops(static_cast<std::size_t>(DmaEvent::Op::kUnmap)),
            1u);
}

TEST(ReplayDma, RoomForLargeTraces) {
  // 200 MiB at once: more than the domain has by default.
  const DmaReplay replay = Replay<DmamapDomain>(
      "0,0,M,0,104857600,1,0\n0,0,M,10000000,104857600,2,0\n"
      "1,0,A,,1048576,,\n");
  EXPECT_EQ(Faults(replay), 0u) << replay.first_failure;
}

// --- Negative controls: each fault must be counted.

// Knows the buffer of each mapping.
class Recording : public DmamapDomain {
 public:
  Result<Mapping> Map(PhysAddr buffer, std::uint64_t size,
                      Direction direction) {
    Result<Mapping> mapping = DmamapDomain::Map(buffer, size, direction);
    if (mapping.ok()) buffers_[mapping->iova] = PointerTo(buffer);
    return mapping;
  }
  std::byte* BufferOf(const Mapping& mapping) { return buffers_[mapping.iova]; }

 private:
  std::map<Iova, std::byte*> buffers_;
};

class ChangesAByte : public Recording {
 public:
  Result<void> Unmap(const Mapping& mapping) {
    const Result<void> result = Recording::Unmap(mapping);
    BufferOf(mapping)[mapping.size / 2] ^= std::byte{1};
    return result;
  }
};

TEST(ReplayDmaControl, OneByteChangedInTheBuffer) {
  EXPECT_EQ(Replay<ChangesAByte>().wrong_bytes, 3u);  // one for each unmap
}

class WritesBehind : public Recording {
 public:
  Result<void> Unmap(const Mapping& mapping) {
    const Result<void> result = Recording::Unmap(mapping);
    BufferOf(mapping)[mapping.size] ^= std::byte{1};
    BufferOf(mapping)[-1] ^= std::byte{1};
    return result;
  }
};

TEST(ReplayDmaControl, BytesAroundTheBuffer) {
  EXPECT_EQ(Replay<WritesBehind>().wrong_bytes, 6u);
}

class DeviceSeesAnotherByte : public DmamapDomain {
 public:
  Transfer Read(Iova at, void* to, std::size_t n) {
    const Transfer transfer = DmamapDomain::Read(at, to, n);
    if (transfer.ok() && n == 1538) {
      static_cast<std::byte*>(to)[1537] ^= std::byte{1};
    }
    return transfer;
  }
};

TEST(ReplayDmaControl, DeviceSeesAnotherByte) {
  // Behind the map and behind the sync for the device.
  EXPECT_EQ(Replay<DeviceSeesAnotherByte>().wrong_bytes, 2u);
}

class ForgetsSyncForCpu : public DmamapDomain {
 public:
  Result<void> SyncForCpu(const Mapping&, std::uint64_t, std::uint64_t) {
    return Ok();
  }
};
class ForgetsSyncForDevice : public DmamapDomain {
 public:
  Result<void> SyncForDevice(const Mapping&, std::uint64_t, std::uint64_t) {
    return Ok();
  }
};

TEST(ReplayDmaControl, ForgottenSyncs) {
  EXPECT_GT(Replay<ForgetsSyncForCpu>().wrong_bytes, 0u);
  EXPECT_GT(Replay<ForgetsSyncForDevice>().wrong_bytes, 0u);
}

class SyncsTooMuch : public DmamapDomain {
 public:
  Result<void> SyncForDevice(const Mapping& mapping, std::uint64_t,
                             std::uint64_t) {
    return DmamapDomain::SyncForCpu(mapping, 0, mapping.size);
  }
};

TEST(ReplayDmaControl, SyncInTheWrongDirection) {
  EXPECT_GT(Replay<SyncsTooMuch>().wrong_bytes, 0u);
}

// CVE-2022-0854: what a short frame did not overwrite must be the original.
class StaleBytes : public Recording {
 public:
  Result<Mapping> Map(PhysAddr buffer, std::uint64_t size,
                      Direction direction) {
    Result<Mapping> mapping = Recording::Map(buffer, size, direction);
    if (mapping.ok() && direction == Direction::kFromDevice) {
      const std::vector<std::byte> stale(size, std::byte{0xdb});
      (void)Recording::Write(mapping->iova, stale.data(), stale.size());
    }
    return mapping;
  }
};

TEST(ReplayDmaControl, StaleBytesBehindAShortFrame) {
  // One frame in four is short: four mappings from the device make one.
  std::string rows;
  for (int i = 0; i < 4; ++i) {
    rows += "0,0,M,1000,2000,2,0\n0,0,U,1000,2000,2,\n";
  }
  EXPECT_EQ(Replay<DmamapDomain>(rows).wrong_bytes, 0u);
  EXPECT_GT(Replay<StaleBytes>(rows).wrong_bytes, 1000u);
}

class NeverUnmaps : public DmamapDomain {
 public:
  Result<void> Unmap(const Mapping& mapping) {
    return SyncForCpu(mapping, 0, mapping.size);
  }
};

TEST(ReplayDmaControl, AccessAfterUnmap) {
  const DmaReplay replay = Replay<NeverUnmaps>();
  EXPECT_EQ(replay.allowed, 4u);  // read, write, and both
  EXPECT_FALSE(replay.sound);     // more live mappings than there should be
}

// Maps in both directions whatever it is asked for.
class IgnoresDirection : public DmamapDomain {
 public:
  Result<Mapping> Map(PhysAddr buffer, std::uint64_t size,
                      Direction direction) {
    Result<Mapping> mapping =
        DmamapDomain::Map(buffer, size, Direction::kBidirectional);
    if (mapping.ok()) mapping->direction = direction;
    return mapping;
  }
  Result<void> Unmap(Mapping mapping) {
    mapping.direction = Direction::kBidirectional;
    return DmamapDomain::Unmap(mapping);
  }
};

TEST(ReplayDmaControl, AccessAgainstTheDirection) {
  EXPECT_EQ(Replay<IgnoresDirection>("0,0,M,1040,100,1,40\n"
                                     "1,0,M,2040,100,2,40\n")
                .allowed,
            2u);
}

class ShowsNeighbours : public DmamapDomain {
 public:
  Transfer Read(Iova at, void* to, std::size_t n) {
    const Transfer transfer = DmamapDomain::Read(at, to, n);
    if (transfer.ok() || n != 1 || transfer.error() != Error::kNotMapped) {
      return transfer;
    }
    std::memset(to, 0xdb, n);
    return {n, Ok()};
  }
};

TEST(ReplayDmaControl, BytesBesideTheBufferAreShown) {
  EXPECT_EQ(Replay<ShowsNeighbours>("0,0,M,1040,100,1,40\n").foreign_bytes, 2u);
  // Nothing lies beside a buffer of whole pages.
  EXPECT_EQ(Replay<ShowsNeighbours>("0,0,M,1000,4096,1,0\n").foreign_bytes, 0u);
}

class RefusesLarge : public DmamapDomain {
 public:
  Result<Mapping> Map(PhysAddr buffer, std::uint64_t size,
                      Direction direction) {
    if (size == 5000) return Error::kNoSpace;
    return DmamapDomain::Map(buffer, size, direction);
  }
  Result<void> MapList(std::span<const ScatterEntry> list, Direction direction,
                       std::span<Mapping> mappings) {
    if (list.size() == 3) return Error::kNoSpace;
    return DmamapDomain::MapList(list, direction, mappings);
  }
  Result<CoherentBlock> AllocateCoherent(std::uint64_t) {
    return Error::kNoMemory;
  }
};

TEST(ReplayDmaControl, Refusals) {
  const DmaReplay replay = Replay<RefusesLarge>();
  EXPECT_EQ(replay.failures, 3u);
  EXPECT_EQ(replay.first_failure,
            "first failure: operation 6 of size 6000: kNoMemory");
  // What was not mapped is not unmapped; all else goes on.
  EXPECT_EQ(Faults(replay), 3u);
}

class DirtyCoherent : public DmamapDomain {
 public:
  Result<CoherentBlock> AllocateCoherent(std::uint64_t size) {
    Result<CoherentBlock> block = DmamapDomain::AllocateCoherent(size);
    if (block.ok()) block->cpu[size - 1] = std::byte{1};
    return block;
  }
};

TEST(ReplayDmaControl, CoherentMemoryIsNotZero) {
  EXPECT_EQ(Replay<DirtyCoherent>().wrong_bytes, 1u);
}

// Writes to memory that is not its own any more, or not yet.
class Scribbles : public Recording {
 public:
  Result<Mapping> Map(PhysAddr buffer, std::uint64_t size,
                      Direction direction) {
    if (last_ != nullptr) *last_ ^= std::byte{1};
    last_ = PointerTo(buffer);
    return Recording::Map(buffer, size, direction);
  }
  Result<CoherentBlock> AllocateCoherent(std::uint64_t size) {
    if (block_ != nullptr) block_[size / 2] ^= std::byte{1};
    Result<CoherentBlock> block = Recording::AllocateCoherent(size);
    if (block.ok()) block_ = block->cpu;
    return block;
  }

 private:
  std::byte* last_ = nullptr;
  std::byte* block_ = nullptr;
};

TEST(ReplayDmaControl, WhatIsLiveAtTheEndIsCheckedToo) {
  EXPECT_EQ(
      Replay<Scribbles>("0,0,M,1000,100,1,0\n0,0,M,2000,100,1,0\n").wrong_bytes,
      1u);
  EXPECT_EQ(Replay<Scribbles>("0,0,A,,100,,\n0,0,A,,100,,\n").wrong_bytes, 1u);
  EXPECT_EQ(Replay<Scribbles>("0,0,A,,100,,\n0,0,A,,100,,\n"
                              "1,0,F,,100,,\n1,0,F,,100,,\n")
                .wrong_bytes,
            1u);
}

class DeviceIsRefused : public DmamapDomain {
 public:
  Transfer Write(Iova at, const void* from, std::size_t n) {
    if (n == 16) return {0, Error::kNotMapped};
    return DmamapDomain::Write(at, from, n);
  }
};

TEST(ReplayDmaControl, DeviceIsRefusedWhatItMayDo) {
  EXPECT_EQ(Replay<DeviceIsRefused>().device_failures, 1u);
}

class Broken : public DmamapDomain {
 public:
  bool CheckInvariants() const { return false; }
};

TEST(ReplayDmaControl, BrokenInvariants) {
  EXPECT_FALSE(Replay<Broken>().sound);
}

// --- The recorded traces.

TEST(ReplayDmaRows, RecordedTracesHold) {
  for (DmaTrace& content : RecordedTraces<DmaTrace>()) {
    Report report;
    AddTraceRows(report,
                 std::make_shared<const Trace>(Trace{"x", std::move(content)}),
                 /*events=*/10'000);
    ASSERT_FALSE(report.rows().empty());
    for (const Row& row : report.rows()) report.Record(row.Name(), row.run());
    EXPECT_TRUE(report.Failures().empty()) << report.Failures()[0];
    // Five for each of the seven, but three things that modes give up.
    EXPECT_EQ(report.rows().size(), 7u);
    EXPECT_EQ(report.Verdicts().size(), 5u * 7 - 3);
  }
}

}  // namespace
}  // namespace dmamap::bench
