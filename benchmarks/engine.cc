// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/engine.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <ostream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "benchmarks/machine.h"
#include "benchmarks/op_timer.h"
#include "nlohmann/json.hpp"

namespace dmamap::bench {
namespace {

// Google Benchmark's JSON, with the bare names of the rows (it would append
// "/iterations:1/manual_time") and our CPU time in place of the time that it
// measured around the whole replay.
class Reporter : public benchmark::JSONReporter {
 public:
  void ReportRuns(const std::vector<Run>& runs) override {
    std::vector<Run> clean = runs;
    for (Run& run : clean) Clean(run);
    benchmark::JSONReporter::ReportRuns(clean);
  }

 private:
  static void Clean(Run& run) {
    benchmark::BenchmarkName name;
    name.function_name = run.run_name.function_name;
    run.run_name = name;
    run.cpu_accumulated_time = run.real_accumulated_time;
    // A coefficient of variation of zeros is no number, and JSON has none.
    for (auto at = run.counters.begin(); at != run.counters.end();) {
      at = std::isfinite(at->second.value) ? std::next(at)
                                           : run.counters.erase(at);
    }
  }
};

class Progress {
 public:
  Progress(std::ostream& out, std::size_t total) : out_(out), total_(total) {}

  void Done(const std::string& row, const Outcome& outcome) {
    out_ << absl::StreamFormat("[%d/%d] %s: ", ++done_, total_, row);
    if (outcome.error.empty()) {
      out_ << absl::StreamFormat("%.1f ns", outcome.cpu_ns);
      if (!outcome.remark.empty()) out_ << "; " << outcome.remark;
    } else {
      out_ << outcome.error;
    }
    out_ << std::endl;  // flushed: somebody waits for it
  }

 private:
  std::ostream& out_;
  std::size_t total_;
  std::size_t done_ = 0;
};

void RunRow(benchmark::State& state, const Row& row, Report& report,
            Progress& progress) {
  for (auto _ : state) {
    Outcome outcome = row.run();
    progress.Done(row.Name(), outcome);
    if (outcome.error.empty()) {
      state.SetIterationTime(outcome.cpu_ns * 1e-9);
      for (const Figure& f : outcome.figures) state.counters[f.name] = f.value;
    } else {
      state.SkipWithError(outcome.error.c_str());
    }
    report.Record(row.Name(), std::move(outcome));
  }
}

int RepetitionsOf(const Row& row, const EngineOptions& options) {
  return row.repetitions == 0 ? options.repetitions
                              : std::min(row.repetitions, options.repetitions);
}

void InitializeLibrary(const EngineOptions& options) {
  // Static: the library keeps a pointer to the program's name.
  static std::vector<std::string> arguments = {
      "benchmarks", "--benchmark_enable_random_interleaving=true",
      absl::StrCat("--benchmark_repetitions=", options.repetitions)};
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  int argc = static_cast<int>(arguments.size());
  benchmark::Initialize(&argc, argv.data());
  benchmark::AddCustomContext("machine", MachineName());
  benchmark::AddCustomContext("compiler", CompilerName());
  benchmark::AddCustomContext("commit", CommitName());
  benchmark::AddCustomContext("clock", TickClock::Name());
  benchmark::AddCustomContext("quick", options.quick ? "true" : "false");
}

nlohmann::ordered_json ToJson(const Verdict& v) {
  nlohmann::ordered_json json;
  json["name"] = v.name;
  json["ours"] = v.ours;
  json["peer"] = nullptr;
  if (v.peer) json["peer"] = *v.peer;
  json["ratio"] = nullptr;
  if (v.ratio) json["ratio"] = *v.ratio;
  json["must"] = v.must;
  json["holds"] = v.holds;
  return json;
}

std::vector<std::string> GroupsOf(const Report& report) {
  std::vector<std::string> groups;
  for (const Row& row : report.rows()) {
    if (std::find(groups.begin(), groups.end(), row.group) == groups.end()) {
      groups.push_back(row.group);
    }
  }
  return groups;
}

// Google Benchmark's JSON of the rows of one group.
nlohmann::ordered_json RunGroup(const std::string& group, Report& report,
                                const EngineOptions& options, Progress& line,
                                std::ostream& errors) {
  benchmark::ClearRegisteredBenchmarks();
  for (const Row& row : report.rows()) {
    if (row.group != group) continue;
    benchmark::RegisterBenchmark(
        row.Name().c_str(),
        [&](benchmark::State& state) { RunRow(state, row, report, line); })
        ->UseManualTime()
        ->Iterations(1)
        ->Repetitions(RepetitionsOf(row, options));
  }
  std::ostringstream text;
  Reporter reporter;
  reporter.SetOutputStream(&text);
  reporter.SetErrorStream(&errors);
  benchmark::RunSpecifiedBenchmarks(&reporter);
  return nlohmann::ordered_json::parse(text.str());
}

}  // namespace

std::string RunAll(Report& report, const EngineOptions& options,
                   std::ostream& progress) {
  InitializeLibrary(options);
  std::size_t runs = 0;
  for (const Row& row : report.rows()) {
    runs += static_cast<std::size_t>(RepetitionsOf(row, options));
  }
  Progress line(progress, runs);
  nlohmann::ordered_json json;
  for (const std::string& group : GroupsOf(report)) {
    nlohmann::ordered_json part =
        RunGroup(group, report, options, line, progress);
    if (json.is_null()) {
      json = std::move(part);
    } else {
      for (auto& run : part["benchmarks"]) {
        json["benchmarks"].push_back(std::move(run));
      }
    }
  }
  benchmark::Shutdown();
  // Nothing was asked for: still a report.
  if (json.is_null()) json["benchmarks"] = nlohmann::ordered_json::array();
  json["verdicts"] = nlohmann::ordered_json::array();
  for (const Verdict& v : report.Verdicts()) {
    json["verdicts"].push_back(ToJson(v));
  }
  return json.dump(2) + "\n";
}

}  // namespace dmamap::bench
