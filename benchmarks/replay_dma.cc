// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/replay_dma.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "benchmarks/dmamap_domain.h"
#include "benchmarks/rows.h"

namespace dmamap::bench {
namespace {

using Op = DmaEvent::Op;

double NsOf(const DmaReplay& replay, Op op) {
  return replay.timer.NsPerOp(static_cast<std::size_t>(op));
}

Outcome ToOutcome(const DmaReplay& replay) {
  Outcome outcome;
  outcome.cpu_ns = replay.timer.NsPerOpOfAll(DmaEvent::kOps);
  outcome.Add("map_ns", NsOf(replay, Op::kMap));
  outcome.Add("unmap_ns", NsOf(replay, Op::kUnmap));
  outcome.Add("sync_cpu_ns", NsOf(replay, Op::kSyncForCpu));
  outcome.Add("sync_device_ns", NsOf(replay, Op::kSyncForDevice));
  outcome.Add("map_list_ns", NsOf(replay, Op::kMapList));
  outcome.Add("unmap_list_ns", NsOf(replay, Op::kUnmapList));
  outcome.AddHidden("allocate_ns", NsOf(replay, Op::kAllocate));
  outcome.AddHidden("free_ns", NsOf(replay, Op::kFree));
  outcome.Add("operations", replay.timer.OpsOfAll(DmaEvent::kOps));
  outcome.Add("bytes_bounced", replay.copied_bytes);
  outcome.Add("bytes_checked", replay.checked_bytes);
  outcome.Add("bytes_wrong", replay.wrong_bytes);
  outcome.AddHidden("bytes_foreign", replay.foreign_bytes);
  outcome.Add("failures", replay.failures);
  outcome.AddHidden("device_failures", replay.device_failures);
  outcome.AddHidden("wrongly_allowed", replay.allowed);
  outcome.Add("live_at_end", replay.live_at_end);
  outcome.AddHidden("excluded_share", replay.timer.excluded_share());
  outcome.remark = replay.first_failure;
  if (!replay.sound) outcome.error = "the domain's invariants do not hold";
  return outcome;
}

// What a mode gives up (docs/modes.md), and is not held to.
struct Promises {
  bool hides_neighbours = true;
  bool ends_access = true;
};

template <ReplayDomain D>
void AddRow(Report& report, const std::shared_ptr<const Trace>& trace,
            std::size_t events, const std::string& implementation,
            int repetitions = 0, const Promises& promises = {}) {
  const DmaTrace& content = std::get<DmaTrace>(trace->content);
  Row row;
  row.part = "domain";
  row.workload = "trace_" + trace->name;
  row.implementation = implementation;
  row.operation = "one call of the driver";
  row.run = [trace, events, &content] {
    return ToOutcome(ReplayDma<D>(content, events));
  };
  row.repetitions = repetitions;
  row.notes = {TraceNote(content.gaps, content.live_at_end)};
  for (const char* figure : {"bytes_wrong", "failures", "device_failures"}) {
    report.Must(Zero(row.Name(), figure));
  }
  if (promises.hides_neighbours) {
    report.Must(Zero(row.Name(), "bytes_foreign"));
  }
  if (promises.ends_access) {
    report.Must(Zero(row.Name(), "wrongly_allowed"));
  }
  report.AddRow(std::move(row));
}

}  // namespace

void AddDmaRows(Report& report, std::shared_ptr<const Trace> trace,
                std::size_t events) {
  AddRow<DmamapDomain>(report, trace, events, "dmamap");
  // The other modes once: what counts is that no byte is wrong.
  using enum DomainMode;
  constexpr auto kLater = FlushMode::kDeferred;
  AddRow<ModeDomain<DomainPolicies, kBounce, kLater>>(report, trace, events,
                                                      "dmamap-deferred", 1);
  AddRow<ModeDomain<TablePolicies, kBounce>>(report, trace, events,
                                             "dmamap-bounce", 1);
  AddRow<ModeDomain<TablePolicies, kDirect, kLater>>(
      report, trace, events, "dmamap-direct", 1, {.hides_neighbours = false});
  AddRow<ModeDomain<TablePolicies, kUnalignedEnds, kLater>>(
      report, trace, events, "dmamap-ends", 1);
  AddRow<ModeDomain<TablePolicies, kPooled>>(
      report, trace, events, "dmamap-pooled", 1, {.ends_access = false});
  AddRow<ModeDomain<TablePolicies, kAutomatic, kLater>>(
      report, trace, events, "dmamap-automatic", 1, {.ends_access = false});
}

}  // namespace dmamap::bench
