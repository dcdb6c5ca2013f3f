// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/replay_iotlb.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>

#include "benchmarks/rows.h"
#include "iotlb/iotlb.h"

namespace dmamap::bench {
namespace {

class DmamapIotlb {
 public:
  bool Init() {
    return iotlb_.Init({.overlap_policy = OverlapPolicy::kRefuse}).ok() &&
           reader_.Init(iotlb_).ok();
  }
  bool Fill(Iova page, PhysAddr address, Permission permission) {
    const Result<Range> range = Range::FromSize(page, kTracePage);
    return range.ok() && iotlb_.Add({*range, address, permission, 0}).ok();
  }
  ReplayLookup Lookup(Iova at, Permission permission) {
    const Result<Translation> found = reader_.Lookup(at, permission);
    return {found.ok(), found.ok() ? found->address : PhysAddr()};
  }
  void Invalidate(Range range) { (void)iotlb_.Remove(range).ok(); }
  void InvalidateAll() { iotlb_.Clear(); }
  std::size_t size() const { return iotlb_.size(); }
  bool CheckInvariants() const { return iotlb_.CheckInvariants(); }
  std::uint64_t hint_hits() const { return reader_.stats().hint_hits; }

 private:
  Iotlb iotlb_;
  Iotlb::Reader reader_;  // as a device model has one for each queue
};
static_assert(ReplayIotlbTable<DmamapIotlb>);

Outcome ToOutcome(const IotlbReplay& replay) {
  Outcome outcome;
  outcome.cpu_ns = replay.timer.NsPerOp(IotlbReplay::kLookup);
  outcome.Add("fill_ns", replay.timer.NsPerOp(IotlbReplay::kFill));
  outcome.Add("invalidate_ns", replay.timer.NsPerOp(IotlbReplay::kInvalidate));
  outcome.Add("clear_ns", replay.timer.NsPerOp(IotlbReplay::kInvalidateAll));
  outcome.Add("lookups", replay.timer.ops(IotlbReplay::kLookup));
  outcome.Add("hits", replay.hits);
  outcome.Add("hint_percent", 100 * static_cast<double>(replay.hint_hits) /
                                  static_cast<double>(std::max<std::uint64_t>(
                                      1, replay.hits + replay.misses)));
  outcome.Add("misses", replay.misses);
  outcome.Add("invalidations", replay.timer.ops(IotlbReplay::kInvalidate));
  outcome.Add("clears", replay.timer.ops(IotlbReplay::kInvalidateAll));
  outcome.Add("peak_entries", replay.peak_entries);
  outcome.Add("lost", replay.lost);
  outcome.Add("stale", replay.stale);
  outcome.Add("wrong_address", replay.wrong_address);
  outcome.AddHidden("refused_fills", replay.refused_fills);
  outcome.AddHidden("excluded_share", replay.timer.excluded_share());
  if (!replay.sound) outcome.error = "the IOTLB's invariants do not hold";
  return outcome;
}

template <ReplayIotlbTable T>
void AddRow(Report& report, const std::shared_ptr<const Trace>& trace,
            std::size_t events, const std::string& implementation) {
  const IotlbTrace& content = std::get<IotlbTrace>(trace->content);
  Row row;
  row.part = "iotlb";
  row.workload = "trace_" + trace->name;
  row.implementation = implementation;
  row.operation = "one lookup";
  row.run = [trace, events, &content] {
    return ToOutcome(ReplayIotlb<T>(content, events));
  };
  row.notes = {TraceNote(content.gaps, 0)};
  for (const char* figure :
       {"lost", "stale", "wrong_address", "refused_fills"}) {
    report.Must(Zero(row.Name(), figure));
  }
  report.AddRow(std::move(row));
}

}  // namespace

void AddIotlbRows(Report& report, std::shared_ptr<const Trace> trace,
                  std::size_t events) {
  AddRow<DmamapIotlb>(report, trace, events, "dmamap");
}

}  // namespace dmamap::bench
