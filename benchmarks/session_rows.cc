// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/session_rows.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace dmamap::bench {
namespace {

using peers::Metric;
using peers::Repetition;
using peers::Session;
using peers::SessionOptions;

SessionOptions OptionsOf(bool quick) {
  SessionOptions options;
  options.latency_limit_ns = 1e8;
  options.ageing_ns = 2e9;
  options.max_discarded = 10;
  if (quick) {
    options.repetition_ns = 3e5;
    options.latency_limit_ns = 2e7;
    options.ageing_ns = 5e7;
    options.max_discarded = 5;
  }
  return options;
}

// The metric, or 0.
double ValueOf(const std::vector<Metric>& metrics, absl::string_view name) {
  const auto found =
      std::find_if(metrics.begin(), metrics.end(),
                   [&](const Metric& m) { return m.name == name; });
  return found == metrics.end() ? 0 : found->value;
}

Outcome BatchOutcome(const Repetition& repetition) {
  Outcome outcome;
  outcome.cpu_ns = ValueOf(repetition.metrics, "ns_per_op");
  for (const Metric& metric : repetition.metrics) {
    if (metric.name == "refused") {
      outcome.Add("refused_percent", metric.value);
    } else if (metric.name == "checker_percent") {
      outcome.Add(metric.name, metric.value);
    } else if (metric.name == "slowest_thread" ||
               metric.name == "bytes_per_mapping") {
      outcome.AddHidden(metric.name, metric.value);
    }
  }
  return outcome;
}

Outcome LatencyOutcome(const Repetition& repetition) {
  const double clock = ValueOf(repetition.metrics, "clock_read");
  const auto net = [&](absl::string_view name) {
    return std::max(0.0, ValueOf(repetition.metrics, name) - clock);
  };
  Outcome outcome;
  outcome.cpu_ns = net("alloc_mean");
  outcome.Add("p50", net("alloc_p50"));
  outcome.Add("p99", net("alloc_p99"));
  outcome.Add("p999", net("alloc_p999"));
  outcome.Add("max", net("alloc_max"));
  outcome.AddHidden("free_mean", net("free_mean"));
  outcome.AddHidden("samples", ValueOf(repetition.metrics, "alloc_samples"));
  outcome.AddHidden("clock_read", clock);
  if (!repetition.clean) outcome.error = "the machine left no quiet moment";
  return outcome;
}

// Makes the session when it is first run, and ends it after the last time.
class RunOfSession {
 public:
  RunOfSession(const SessionRow& row, const SessionOptions& options,
               int repetitions)
      : row_(row), options_(options), left_(repetitions) {}

  Outcome Run() {
    if (session_ == nullptr) {
      absl::StatusOr<std::unique_ptr<Session>> made =
          row_.implementation.make(row_.workload, options_);
      if (!made.ok()) {
        Outcome failed;
        failed.error = std::string(made.status().message());
        return failed;
      }
      session_ = *std::move(made);
    }
    const Repetition repetition = session_->Run();
    Outcome outcome =
        row_.single ? LatencyOutcome(repetition) : BatchOutcome(repetition);
    outcome.AddHidden("failures", repetition.failures);
    outcome.AddHidden("discarded", std::uint64_t{repetition.discarded});
    if (!repetition.clean) outcome.remark = "disturbed";
    if (--left_ == 0) session_.reset();
    return outcome;
  }

 private:
  const SessionRow row_;
  const SessionOptions options_;
  int left_;
  std::unique_ptr<Session> session_;
};

}  // namespace

void AddSessionRow(Report& report, const SessionRow& session,
                   const SessionRowOptions& options) {
  Row row;
  row.part = session.part;
  row.workload = session.workload;
  row.implementation = session.implementation.name;
  row.operation = session.operation;
  row.repetitions = session.repetitions;
  row.group = session.group;
  row.floor = session.floor;
  const int repetitions = row.repetitions == 0
                              ? options.repetitions
                              : std::min(row.repetitions, options.repetitions);
  auto run = std::make_shared<RunOfSession>(session, OptionsOf(options.quick),
                                            repetitions);
  row.run = [run] { return run->Run(); };
  if (!session.note.empty()) row.notes.push_back(session.note);
  if (session.ours) report.Must(Zero(row.Name(), "failures"));
  report.AddRow(std::move(row));
}

}  // namespace dmamap::bench
