// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Replays recorded DMA traffic through the parts of dmamap and reports.
// Progress goes to stderr, the tables to stdout. See README.md and --help.

#include <algorithm>
#include <cstddef>
#include <fstream>
#include <iostream>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "benchmarks/bounce_rows.h"
#include "benchmarks/domain_rows.h"
#include "benchmarks/engine.h"
#include "benchmarks/iommu_rows.h"
#include "benchmarks/iotlb_rows.h"
#include "benchmarks/iova_rows.h"
#include "benchmarks/load_rows.h"
#include "benchmarks/machine.h"
#include "benchmarks/mode_rows.h"
#include "benchmarks/op_timer.h"
#include "benchmarks/options.h"
#include "benchmarks/report.h"
#include "benchmarks/ring_rows.h"
#include "benchmarks/row_filter.h"
#include "benchmarks/rows.h"
#include "benchmarks/trace_reader.h"

namespace dmamap::bench {
namespace {

absl::StatusOr<std::vector<std::string>> TraceFiles(
    const Options& options, const std::string& program) {
  if (!options.trace.empty()) return std::vector{options.trace};
  if (!options.traces.empty()) return FindTraces(options.traces);
  const absl::StatusOr<std::string> folder = FindTraceFolder(program);
  if (!folder.ok()) return folder.status();
  return FindTraces(*folder);
}

absl::Status AddRows(const Options& options, const std::string& program,
                     Report& report) {
  const auto files = TraceFiles(options, program);
  if (!files.ok()) return files.status();
  const std::size_t events = options.events != 0
                                 ? options.events
                                 : std::numeric_limits<std::size_t>::max();
  std::vector<std::shared_ptr<const Trace>> traces;
  for (const std::string& file : *files) {
    std::cerr << "reading " << file << std::endl;
    absl::StatusOr<Trace> trace = ReadTrace(file);
    if (!trace.ok()) return trace.status();
    traces.push_back(std::make_shared<const Trace>(*std::move(trace)));
  }
  // All of one kind together, in the order of the files.
  std::stable_sort(traces.begin(), traces.end(),
                   [](const auto& a, const auto& b) {
                     return a->content.index() < b->content.index();
                   });
  for (const auto& trace : traces) AddTraceRows(report, trace, events);
  if (options.trace.empty()) {
    AddIovaWorkloadRows(report, {.repetitions = options.repetitions,
                                 .quick = options.quick,
                                 .ageing_ops = options.ageing_ops});
    AddIotlbWorkloadRows(
        report, {.repetitions = options.repetitions, .quick = options.quick});
    AddDomainWorkloadRows(
        report, {.repetitions = options.repetitions, .quick = options.quick});
    AddModeRows(report,
                {.repetitions = options.repetitions, .quick = options.quick},
                options.invalidation_ns);
    AddBounceRows(report, {.quick = options.quick});
    AddIommuRows(report, {.quick = options.quick});
    AddE100Rows(report, options.frames);
    AddRingRows(report, {.quick = options.quick});
    AddLoadRows(report, options.load);
  }
  return absl::OkStatus();
}

void PrintHeading(const Options& options) {
  std::cout << "dmamap benchmarks: " << MachineName() << "; " << CompilerName()
            << "; commit " << CommitName() << "\n"
            << "CPU time in ns by the " << TickClock::Name() << "; medians of "
            << options.repetitions << " repetitions"
            << (options.quick ? "; --quick: a smoke run, not a measurement"
                              : "")
            << "\n";
}

// Opened before the run: a wrong name is told at once.
absl::Status OpenJson(const std::string& path, std::ofstream& file) {
  if (path.empty()) return absl::OkStatus();
  file.open(path, std::ios::binary);
  if (file.is_open()) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(path, ": cannot open to write"));
}

absl::Status WriteJson(const std::string& path, const std::string& text,
                       std::ofstream& file) {
  if (path.empty()) return absl::OkStatus();
  file << text;
  file.close();
  if (file.good()) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(path, ": cannot write"));
}

absl::Status Run(const Options& options, const std::string& program) {
  const absl::StatusOr<RowFilter> filter = RowFilter::Parse(options.filter);
  if (!filter.ok()) return filter.status();
  Report report;
  if (absl::Status s = AddRows(options, program, report); !s.ok()) return s;
  report.Filter([&](const std::string& name) { return filter->Matches(name); });
  if (report.rows().empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("no row matches --filter=", options.filter));
  }
  std::ofstream json_file;
  if (absl::Status s = OpenJson(options.json, json_file); !s.ok()) return s;
  const std::string json = RunAll(
      report, {.repetitions = options.repetitions, .quick = options.quick},
      std::cerr);
  PrintHeading(options);
  report.Print(std::cout);
  std::cout.flush();
  if (absl::Status s = WriteJson(options.json, json, json_file); !s.ok()) {
    return s;
  }
  const std::vector<std::string> failures = report.Failures();
  if (failures.empty()) return absl::OkStatus();
  std::string text = "checks that do not hold:";
  for (const std::string& failure : failures) {
    absl::StrAppend(&text, "\n  ", failure);
  }
  return absl::InternalError(text);
}

int Main(int argc, char** argv) {
  const absl::StatusOr<Options> options = ParseOptions(argc, argv);
  absl::Status status = options.status();
  if (options.ok() && options->help) {
    std::cout << HelpText();
  } else if (options.ok()) {
    status = Run(*options, argv[0]);
  }
  if (status.ok()) return 0;
  std::cerr << "benchmarks: " << status.message() << std::endl;
  return 1;
}

}  // namespace
}  // namespace dmamap::bench

int main(int argc, char** argv) { return dmamap::bench::Main(argc, argv); }
