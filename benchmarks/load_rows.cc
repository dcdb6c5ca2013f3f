// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/load_rows.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace dmamap::bench {
namespace {

constexpr int kShares[] = {5, 10, 25, 50, 75, 90, 100, 150};
constexpr std::pair<LoadMode, const char*> kModes[] = {
    {LoadMode::kInterrupt, "interrupt"},
    {LoadMode::kNapi, "napi"},
    {LoadMode::kAdaptive, "adaptive"},
    {LoadMode::kBusy, "busy"},
};

LoadResult RunMode(LoadOptions options, LoadMode mode) {
  options.mode = mode;
  return RunLoad(options);
}

double PerThousand(std::uint64_t n, std::uint64_t of) {
  return std::round(1e3 * static_cast<double>(n) /
                    static_cast<double>(std::max<std::uint64_t>(of, 1)));
}

Outcome ToOutcome(const LoadOptions& options) {
  const LoadResult r = RunLoad(options);
  Outcome outcome;
  outcome.cpu_ns = r.CpuNsPerFrame();
  const double elapsed =
      static_cast<double>(std::max<std::uint64_t>(r.elapsed, 1));
  outcome.Add("offered_per_ms",
              std::round(1e6 * static_cast<double>(r.offered) / elapsed));
  outcome.Add("delivered_per_ms",
              std::round(1e6 * static_cast<double>(r.delivered) / elapsed));
  outcome.Add("CPU_percent",
              std::round(1e3 * static_cast<double>(r.busy) / elapsed) / 10);
  outcome.Add("latency_us", std::round(r.mean_latency / 10) / 100);
  outcome.Add("p99_us",
              std::round(static_cast<double>(r.p99_latency) / 10) / 100);
  outcome.Add("interrupts_per_1000", PerThousand(r.interrupts, r.offered));
  outcome.Add("lost_per_1000",
              PerThousand(r.lost_device + r.lost_queue, r.offered));
  const LoadResult interrupt = RunMode(options, LoadMode::kInterrupt);
  const LoadResult busy = RunMode(options, LoadMode::kBusy);
  outcome.Add("percent_behind_better",
              std::round(100 * PercentBehind(r, interrupt, busy)) / 100);
  outcome.AddHidden("unsound", std::uint64_t{r.sound ? 0u : 1u});
  return outcome;
}

}  // namespace

double PercentBehind(const LoadResult& ours, const LoadResult& one,
                     const LoadResult& other) {
  const double cpu = ours.CpuNsPerFrame() /
                     std::min(one.CpuNsPerFrame(), other.CpuNsPerFrame());
  const double time =
      ours.NsPerFrame() / std::min(one.NsPerFrame(), other.NsPerFrame());
  return 100 * std::max({cpu - 1, time - 1, 0.0});
}

void AddLoadRows(Report& report, const LoadOptions& options) {
  for (const int share : kShares) {
    for (const auto& [mode, name] : kModes) {
      LoadOptions mine = options;
      mine.mode = mode;
      mine.share = share / 100.0;
      Row row;
      row.part = "nicring";
      row.workload = absl::StrCat("load_", name, "_", share);
      row.implementation = "dmamap";
      row.operation = "a delivered frame, simulated";
      row.repetitions = 1;  // the same each time
      row.run = [mine] { return ToOutcome(mine); };
      report.Must(Zero(row.Name(), "unsound"));
      if (mode == LoadMode::kNapi) {
        report.Must(AtMost(row.Name(), "percent_behind_better", 5));
      }
      report.AddRow(std::move(row));
    }
  }
}

}  // namespace dmamap::bench
