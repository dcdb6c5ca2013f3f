// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/report.h"

#include <algorithm>
#include <cmath>
#include <ostream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "benchmarks/text_table.h"

namespace dmamap::bench {
namespace {

double ValueOf(const Outcome& outcome, const std::string& figure) {
  if (figure.empty()) return outcome.cpu_ns;
  for (const Figure& f : outcome.figures) {
    if (f.name == figure) return f.value;
  }
  return std::nan("");  // fails every bound
}

std::vector<double> ValuesOf(const std::vector<Outcome>& outcomes,
                             const std::string& figure) {
  std::vector<double> values;
  for (const Outcome& o : outcomes) values.push_back(ValueOf(o, figure));
  return values;
}

double MedianOf(const std::vector<Outcome>& outcomes,
                const std::string& figure) {
  return Median(ValuesOf(outcomes, figure));
}

// NaN, if any value is.
double WorstOf(const std::vector<Outcome>& outcomes,
               const std::string& figure) {
  double worst = 0;
  for (const double value : ValuesOf(outcomes, figure)) {
    if (std::isnan(value)) return value;
    worst = std::max(worst, value);
  }
  return worst;
}

std::string NumberText(double value) {
  if (value == std::floor(value) && std::abs(value) < 1e15) {
    return absl::StrFormat("%.0f", value);
  }
  return std::abs(value) < 10 ? absl::StrFormat("%.2f", value)
                              : absl::StrFormat("%.1f", value);
}

std::string OptionalText(const std::optional<double>& value) {
  return value ? NumberText(*value) : "-";
}

std::string HeadingOf(const std::string& figure) {
  return absl::StrReplaceAll(figure, {{"_", " "}});
}

// "iova: failures" of "iova/trace_x/dmamap:failures".
std::string CheckNameOf(const std::string& verdict) {
  return absl::StrCat(verdict.substr(0, verdict.find('/')), ": ",
                      HeadingOf(verdict.substr(verdict.find(':') + 1)));
}

std::string ImplementationOf(const std::string& row) {
  return row.substr(row.rfind('/') + 1);
}

}  // namespace

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  if (values.size() % 2 == 1) return values[half];
  return (values[half - 1] + values[half]) / 2;
}

Bound Zero(std::string row, std::string figure) {
  return {Bound::Rule::kZero, std::move(row), std::move(figure), "", 0};
}
Bound AtMost(std::string row, std::string figure, double value) {
  return {Bound::Rule::kAtMost, std::move(row), std::move(figure), "", value};
}
Bound TimesFaster(std::string row, std::string peer, double times) {
  return {Bound::Rule::kTimesFaster, std::move(row), "", std::move(peer),
          times};
}
Bound AtMostTimes(std::string row, std::string peer, double times) {
  return {Bound::Rule::kAtMostTimes, std::move(row), "", std::move(peer),
          times};
}
Bound AtMostOver(std::string row, std::string peer, double ns) {
  return {Bound::Rule::kAtMostOver, std::move(row), "", std::move(peer), ns};
}
Bound SpeedShare(std::string row, std::string peer, double share) {
  return {Bound::Rule::kSpeedShare, std::move(row), "", std::move(peer), share};
}

void Report::AddRow(Row row) { rows_.push_back(std::move(row)); }

void Report::Filter(const std::function<bool(const std::string&)>& keep) {
  std::erase_if(rows_, [&](const Row& row) { return !keep(row.Name()); });
}

void Report::Record(const std::string& row, Outcome outcome) {
  outcomes_[row].push_back(std::move(outcome));
}

// Null unless each run of the row went well.
const Report::Outcomes* Report::Find(const std::string& row) const {
  const auto found = outcomes_.find(row);
  if (found == outcomes_.end()) return nullptr;
  for (const Outcome& outcome : found->second) {
    if (!outcome.error.empty()) return nullptr;
  }
  return &found->second;
}

std::vector<Verdict> Report::Verdicts() const {
  std::vector<Verdict> verdicts;
  for (const Bound& bound : bounds_) {
    if (std::optional<Verdict> verdict = Judge(bound)) {
      verdicts.push_back(*std::move(verdict));
    }
  }
  return verdicts;
}

std::optional<Verdict> Report::Judge(const Bound& bound) const {
  const Outcomes* const ours = Find(bound.row);
  if (ours == nullptr) return std::nullopt;
  Verdict v;
  v.name = bound.figure.empty() ? bound.row
                                : absl::StrCat(bound.row, ":", bound.figure);
  const std::string value = NumberText(bound.value);
  if (bound.rule == Bound::Rule::kZero) {
    v.correctness = true;
    v.ours = WorstOf(*ours, bound.figure);
    v.must = value;
    v.holds = v.ours == 0;
    return v;
  }
  v.ours = MedianOf(*ours, bound.figure);
  if (bound.rule == Bound::Rule::kAtMost) {
    v.must = absl::StrCat("at most ", value);
    v.holds = v.ours <= bound.value;
    return v;
  }
  const Outcomes* const peer = Find(bound.peer);
  if (peer == nullptr) return std::nullopt;
  v.peer = MedianOf(*peer, bound.figure);
  JudgeBesidePeer(bound, v);
  return v;
}

// REQUIRES: v.ours and v.peer are there.
void Report::JudgeBesidePeer(const Bound& bound, Verdict& v) const {
  const std::string value = NumberText(bound.value);
  // Two workloads of one implementation are told apart by their names.
  const bool same = ImplementationOf(bound.peer) == ImplementationOf(bound.row);
  const std::string who = same ? bound.peer : ImplementationOf(bound.peer);
  const double faster = *v.peer / v.ours;
  const double slower = v.ours / *v.peer;
  switch (bound.rule) {
    case Bound::Rule::kTimesFaster:
      v.ratio = faster;
      v.must = absl::StrCat("at least ", value, " times faster than ", who);
      v.holds = faster >= bound.value;
      break;
    case Bound::Rule::kSpeedShare:
      v.ratio = faster;
      v.must = absl::StrCat("at least ", NumberText(100 * bound.value),
                            " % of the speed of ", who);
      v.holds = faster >= bound.value;
      break;
    case Bound::Rule::kAtMostOver:
      v.ratio = slower;
      v.must = absl::StrCat("at most ", value, " ns more than ", who);
      v.holds = v.ours - *v.peer <= bound.value;
      break;
    default:
      v.ratio = slower;
      v.must = absl::StrCat("at most ", value, " times ", who);
      v.holds = slower <= bound.value;
  }
}

std::vector<std::string> Report::Failures() const {
  std::vector<std::string> failures;
  for (const auto& [row, outcomes] : outcomes_) {
    for (const Outcome& outcome : outcomes) {
      if (outcome.error.empty()) continue;
      failures.push_back(absl::StrCat(row, ": ", outcome.error));
      break;
    }
  }
  for (const Verdict& v : Verdicts()) {
    if (!v.correctness || v.holds) continue;
    failures.push_back(
        absl::StrCat(v.name, " is ", NumberText(v.ours), ", must be 0"));
  }
  return failures;
}

void Report::Print(std::ostream& out) const {
  for (const std::string& part : Parts()) PrintPart(out, part);
  PrintChecks(out);
  PrintVerdicts(out);
}

std::vector<std::string> Report::Parts() const {
  std::vector<std::string> parts;
  for (const Row& row : rows_) {
    if (std::find(parts.begin(), parts.end(), row.part) == parts.end()) {
      parts.push_back(row.part);
    }
  }
  return parts;
}

// One table for each group of rows with the same figures, so that a part may
// hold workloads of several kinds.
void Report::PrintPart(std::ostream& out, const std::string& part) const {
  std::vector<std::string> heading;  // of the table under way
  TextTable table;
  const auto flush = [&] {
    if (!heading.empty()) out << "\n" << table.ToString();
  };
  for (const Row& row : rows_) {
    if (row.part != part) continue;
    const Outcomes* const outcomes = Find(row.Name());
    if (outcomes == nullptr || outcomes->empty()) continue;
    std::vector<std::string> columns = {
        absl::StrCat(part, " (ns for ", row.operation, ")"), "ns"};
    std::vector<std::string> cells = {
        absl::StrCat(row.workload, "/", row.implementation),
        absl::StrFormat("%.1f", MedianOf(*outcomes, ""))};
    for (const Figure& figure : outcomes->front().figures) {
      if (!figure.in_table) continue;
      columns.push_back(HeadingOf(figure.name));
      cells.push_back(NumberText(MedianOf(*outcomes, figure.name)));
    }
    if (!row.floor.empty()) {
      columns.insert(columns.end(), {"ns over floor", "% of its speed"});
      for (std::string& cell : CellsAboveFloor(row)) {
        cells.push_back(std::move(cell));
      }
    }
    if (columns != heading) {
      flush();
      table = TextTable(columns);
      heading = columns;
    }
    table.AddRow(std::move(cells));
  }
  flush();
  PrintNotes(out, part);
}

// REQUIRES: the row was run.
std::vector<std::string> Report::CellsAboveFloor(const Row& row) const {
  const Outcomes* const floor = Find(row.floor);
  if (floor == nullptr || floor->empty()) return {"-", "-"};
  const double ours = MedianOf(*Find(row.Name()), "");
  const double least = MedianOf(*floor, "");
  return {absl::StrFormat("%.1f", ours - least),
          absl::StrFormat("%.1f", 100 * least / ours)};
}

// Each note once, behind the workloads that it is about.
void Report::PrintNotes(std::ostream& out, const std::string& part) const {
  std::vector<std::pair<std::string, std::vector<std::string>>> notes;
  for (const Row& row : rows_) {
    if (row.part != part || Find(row.Name()) == nullptr) continue;
    for (const std::string& note : row.notes) {
      auto found = std::find_if(notes.begin(), notes.end(),
                                [&](const auto& n) { return n.first == note; });
      if (found == notes.end()) {
        notes.push_back({note, {}});
        found = notes.end() - 1;
      }
      std::vector<std::string>& workloads = found->second;
      if (workloads.empty() || workloads.back() != row.workload) {
        workloads.push_back(row.workload);
      }
    }
  }
  for (const auto& [note, workloads] : notes) {
    out << "  " << absl::StrJoin(workloads, ", ") << ": " << note << "\n";
  }
}

// "iova: failures" over all rows of iova.
void Report::PrintChecks(std::ostream& out) const {
  struct Sum {
    std::string name;
    int rows = 0;
    double total = 0;
    bool holds = true;
  };
  std::vector<Sum> sums;
  for (const Verdict& v : Verdicts()) {
    if (!v.correctness) continue;
    const std::string name = CheckNameOf(v.name);
    auto sum = std::find_if(sums.begin(), sums.end(),
                            [&](const Sum& s) { return s.name == name; });
    if (sum == sums.end()) {
      sums.push_back({name});
      sum = sums.end() - 1;
    }
    ++sum->rows;
    sum->total += v.ours;
    sum->holds = sum->holds && v.holds;
  }
  if (sums.empty()) return;
  TextTable table({"checks", "rows", "sum", "must be", "holds"});
  for (const Sum& sum : sums) {
    table.AddRow({sum.name, absl::StrCat(sum.rows), NumberText(sum.total), "0",
                  sum.holds ? "yes" : "NO"});
  }
  out << "\n" << table.ToString();
}

// Bounds of rows that ran beside peers that did not.
std::vector<Bound> Report::Unjudged() const {
  std::vector<Bound> unjudged;
  for (const Bound& bound : bounds_) {
    if (Find(bound.row) == nullptr || bound.peer.empty()) continue;
    if (Find(bound.peer) == nullptr) unjudged.push_back(bound);
  }
  return unjudged;
}

void Report::PrintVerdicts(std::ostream& out) const {
  TextTable table({"verdicts", "ours", "peer", "ratio", "must reach", "holds"});
  bool any = false;
  for (const Bound& bound : Unjudged()) {
    any = true;
    table.AddRow({bound.row, NumberText(MedianOf(*Find(bound.row), "")), "-",
                  "-", absl::StrCat("(beside ", bound.peer, ")"),
                  "not measured"});
  }
  for (const Verdict& v : Verdicts()) {
    if (v.correctness) continue;
    any = true;
    table.AddRow({v.name, NumberText(v.ours), OptionalText(v.peer),
                  OptionalText(v.ratio), v.must, v.holds ? "yes" : "NO"});
  }
  if (any) out << "\n" << table.ToString();
}

}  // namespace dmamap::bench
