// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/ring_rows.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "benchmarks/dmamap_domain_subject.h"
#include "benchmarks/naive_rx_side.h"
#include "benchmarks/naive_tx_side.h"
#include "benchmarks/op_timer.h"
#include "benchmarks/peers/peers.h"
#include "benchmarks/peers/ring_side.h"
#include "benchmarks/ring_rx_side.h"
#include "benchmarks/ring_tx_side.h"
#include "domain/domain.h"
#include "testing/domain_port.h"

namespace dmamap::bench {
namespace {

using SidePtr = std::unique_ptr<peers::RingSide>;
using Maker = std::function<absl::StatusOr<SidePtr>()>;

// Bounce pages and an IOTLB between device and memory.
struct DomainWorld {
  using MapperType = Domain<MeasuredPolicies>;
  using Port = DomainPort<MapperType>;
  bool Init() {
    return mapper.pages().Init({}).ok() && mapper.Init(DomainOptions()).ok();
  }
  Iova base(Iova) const { return Iova(0); }

  MapperType mapper;
  Port port{mapper};
};

// The copy that a bounce domain cannot do without: out of as many device pages
// as a ring has, into as many buffers.
class MemcpySide final : public peers::RingSide {
 public:
  explicit MemcpySide(std::size_t bytes)
      : frame_(RingFrame(bytes)), from_(kBytes), to_(kBytes) {}

  bool Device(std::size_t n) override {
    for (std::size_t i = 0; i < n; ++i) {
      std::memcpy(&from_[At(next_ + i)], frame_.data(), frame_.size());
    }
    return true;
  }
  std::size_t Driver(std::size_t n) override {
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t at = At(next_ + i);
      std::memcpy(&to_[at], &from_[at], frame_.size());
    }
    next_ += n;
    return n;
  }

 private:
  static constexpr std::size_t kPage = 4096;
  static constexpr std::size_t kBytes = kRingEntries * kPage;
  static std::size_t At(std::size_t i) { return i % kRingEntries * kPage; }

  const std::vector<std::byte> frame_;
  std::vector<std::byte> from_;
  std::vector<std::byte> to_;
  std::size_t next_ = 0;
};

// --- One row -----------------------------------------------------------------

// Makes its side at the first run, and keeps it: the next runs find it warm.
class RunOfSide {
 public:
  RunOfSide(Maker make, bool quick)
      : make_(std::move(make)), bursts_(quick ? 32 : 1024) {}

  Outcome Run() {
    Outcome outcome;
    if (side_ == nullptr) {
      absl::StatusOr<SidePtr> made = make_();
      if (made.ok() && *made == nullptr) {
        made = absl::InternalError("the ring did not start");
      }
      if (!made.ok()) {
        outcome.error = std::string(made.status().message());
        return outcome;
      }
      side_ = *std::move(made);
    }
    Bursts(bursts_ / 8);  // others have had the caches in the meantime
    const OpTimer timer = Bursts(bursts_);
    outcome.cpu_ns = timer.NsPerOp(0);
    outcome.AddHidden("failures", side_->failures() + missing_);
    outcome.AddHidden("excluded_share", timer.excluded_share());
    return outcome;
  }

 private:
  OpTimer Bursts(std::size_t count) {
    constexpr std::size_t kChunk = 16;
    OpTimer timer;
    for (std::size_t i = 0; i < count; ++i) {
      if (i % kChunk == 0) timer.BeginChunk();
      if (!side_->Device(kRingBurst)) ++missing_;
      timer.Start();
      const std::size_t done = side_->Driver(kRingBurst);
      timer.Stop(0, done);
      missing_ += kRingBurst - done;
      if (i % kChunk == kChunk - 1) timer.EndChunk();
    }
    return timer;
  }

  const Maker make_;
  const std::size_t bursts_;
  SidePtr side_;
  std::uint64_t missing_ = 0;
};

std::string Name(absl::string_view workload, absl::string_view who = "dmamap") {
  return absl::StrCat("nicring/", workload, "/", who);
}

void AddRow(Report& report, const RingRowOptions& options,
            const std::string& workload, const std::string& who, Maker make) {
  Row row;
  row.part = "nicring";
  row.workload = workload;
  row.implementation = who;
  row.operation = absl::StartsWith(workload, "tx")
                      ? "the driver's part of one frame sent"
                      : "the driver's part of one frame received";
  row.group = Name(workload, "");
  auto run = std::make_shared<RunOfSide>(std::move(make), options.quick);
  row.run = [run] { return run->Run(); };
  // A row that loses frames is no contestant.
  report.Must(Zero(row.Name(), "failures"));
  report.AddRow(std::move(row));
}

void AddPeers(Report& report, const RingRowOptions& options,
              const std::string& workload) {
  for (const peers::RingImplementation& peer : peers::RingPeers()) {
    if (!absl::StartsWith(workload, peer.prefix)) continue;
    AddRow(report, options, workload, peer.name,
           [peer, workload] { return peer.make(workload); });
  }
}

// --- Workloads ---------------------------------------------------------------

template <class One>
Maker SideOf(std::size_t bytes) {
  return [bytes] { return One::Make(bytes); };
}
template <class World, class Kind, class Policies, class SinkType = NullSink>
Maker Side(std::size_t bytes) {
  return SideOf<DmamapRxSide<World, Kind, Policies, SinkType>>(bytes);
}

// The other policies, and a sink that takes batches.
template <class Kind>
void AddContrast(Report& report, const RingRowOptions& options,
                 std::size_t bytes, absl::string_view format) {
  const std::string workload = absl::StrCat("rx", bytes, "_", format);
  AddRow(report, options, workload, "dmamap-map-each",
         Side<IdentityWorld, Kind, RxPolicies>(bytes));
  AddRow(report, options, workload, "dmamap-page-flip",
         Side<IdentityWorld, Kind, FlipPolicies>(bytes));
  AddRow(report, options, workload, "dmamap-batch",
         Side<IdentityWorld, Kind, RecyclePolicies, NullBatchSink>(bytes));
}

enum class Contrast { kNo, kOtherPolicies };

template <class Kind, class Naive>
void AddReceive(Report& report, const RingRowOptions& options,
                absl::string_view format, Contrast contrast = Contrast::kNo) {
  for (const std::size_t bytes : {64, 1500}) {
    const std::string workload = absl::StrCat("rx", bytes, "_", format);
    AddRow(report, options, workload, "dmamap",
           Side<IdentityWorld, Kind, RecyclePolicies>(bytes));
    AddRow(report, options, workload, "dmamap-trusting",
           Side<IdentityWorld, Kind, TrustingPolicies>(bytes));
    if (contrast == Contrast::kOtherPolicies) {
      AddContrast<Kind>(report, options, bytes, format);
    }
    AddRow(report, options, workload, "naive",
           SideOf<NaiveRxSide<Naive>>(bytes));
    AddPeers(report, options, workload);
    report.Must(
        AtMostTimes(Name(workload), Name(workload, "dmamap-trusting"), 1.1));
    if (bytes == 64) report.Must(AtMost(Name(workload), "", 12));
    report.Must(TimesFaster(Name(workload), Name(workload, "naive"), 3));
    for (const peers::RingImplementation& peer : peers::RingPeers()) {
      if (absl::StartsWith(workload, peer.prefix)) {
        report.Must(TimesFaster(Name(workload), Name(workload, peer.name), 1));
      }
    }
  }
}

template <class Kind, class Naive>
void AddTransmit(Report& report, const RingRowOptions& options,
                 absl::string_view format) {
  const std::string workload = absl::StrCat("tx64_", format);
  AddRow(report, options, workload, "dmamap", SideOf<DmamapTxSide<Kind>>(64));
  AddRow(report, options, workload, "dmamap-each",
         SideOf<DmamapTxSide<Kind, TxPace::kEach>>(64));
  AddRow(report, options, workload, "naive", SideOf<NaiveTxSide<Naive>>(64));
  report.Must(TimesFaster(Name(workload), Name(workload, "dmamap-each"), 1));
  report.Must(TimesFaster(Name(workload), Name(workload, "naive"), 1));
}

void AddDomain(Report& report, const RingRowOptions& options) {
  for (const std::size_t bytes : {64, 1500}) {
    const std::string workload = absl::StrCat("rx", bytes, "_domain");
    // A frame that is not copied for its smallness goes up in half a page.
    AddRow(report, options, workload, "dmamap",
           bytes == 64 ? Side<DomainWorld, RxE1000, RecyclePolicies>(bytes)
                       : Side<DomainWorld, RxE1000, FlipPolicies>(bytes));
    AddRow(report, options, workload, "dmamap-map-each",
           Side<DomainWorld, RxE1000, RxPolicies>(bytes));
    AddRow(report, options, workload, "floor-memcpy",
           [bytes] { return std::make_unique<MemcpySide>(bytes); });
    report.Must(AtMostOver(Name(workload), Name(workload, "floor-memcpy"), 25));
  }
}

}  // namespace

void AddRingRows(Report& report, const RingRowOptions& options) {
  constexpr Contrast kBoth = Contrast::kOtherPolicies;
  AddReceive<RxI8255x, NaiveListLoop>(report, options, "i8255x");
  AddReceive<RxE1000, NaiveArrayLoop<E1000Layout::kLegacy>>(report, options,
                                                            "e1000", kBoth);
  AddReceive<RxAdvanced, NaiveArrayLoop<E1000Layout::kIxgbe>>(report, options,
                                                              "advanced");
  AddReceive<RxSplit, NaiveSplitLoop>(report, options, "split", kBoth);
  AddReceive<RxPacked, NaivePackedLoop>(report, options, "packed");
  AddDomain(report, options);
  AddTransmit<TxI8255x, NaiveTxList>(report, options, "i8255x");
  AddTransmit<TxE1000, NaiveTxArray>(report, options, "e1000");
  AddTransmit<TxSplit, NaiveTxSplit>(report, options, "split");
  AddTransmit<TxPacked, NaiveTxPacked>(report, options, "packed");
}

}  // namespace dmamap::bench
