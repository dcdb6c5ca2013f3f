// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_REPORT_H_
#define DMAMAP_BENCHMARKS_REPORT_H_

// Rows, what they gave, and what they must give.
//
// A row is one measurement, named <part>/<workload>/<implementation>. It is run
// several times; each run gives an Outcome: CPU time in nanoseconds for one
// operation, and named figures. A Bound says what a row must reach, alone or
// beside a peer's row of the same program run; it becomes a Verdict.
//
//   report.Must(Zero("iova/trace_x/dmamap", "failures"));
//   report.Must(TimesFaster("iova/pair/dmamap", "iova/pair/linux", 5));
//
// Checks of correctness (Zero) look at the worst repetition and decide the
// exit status; bounds on time compare medians and never do.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <iosfwd>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace dmamap::bench {

struct Figure {
  std::string name;  // in the JSON; the table shows spaces for underscores
  double value = 0;
  bool in_table = true;
};

struct Outcome {
  double cpu_ns = 0;            // for one operation
  std::vector<Figure> figures;  // the same names in each repetition
  std::string error;            // not empty: the run could not be done
  std::string remark;           // printed with the progress

  void Add(std::string name, double value) {
    figures.push_back({std::move(name), value, true});
  }
  void Add(std::string name, std::uint64_t value) {
    Add(std::move(name), static_cast<double>(value));
  }
  // In the JSON, but not in the table.
  void AddHidden(std::string name, double value) {
    figures.push_back({std::move(name), value, false});
  }
  void AddHidden(std::string name, std::uint64_t value) {
    AddHidden(std::move(name), static_cast<double>(value));
  }
};

struct Row {
  std::string part;            // "iova"
  std::string workload;        // "trace_e100-rx-strict"
  std::string implementation;  // "dmamap"
  std::string operation;       // what cpu_ns is for: "one lookup"
  std::function<Outcome()> run;
  std::vector<std::string> notes;  // printed below the part's table
  int repetitions = 0;             // at most; 0: as many as all rows
  // A row, perhaps this one, whose time no implementation gets below: the table
  // says how many ns this row is above it, and what share of its speed it has.
  std::string floor = "";
  // Rows of one group take turns; groups follow each other in the order of
  // their first rows, so that what one holds in memory is gone by then.
  std::string group = "";

  std::string Name() const {
    return part + "/" + workload + "/" + implementation;
  }
};

struct Bound {
  enum class Rule {
    kZero,         // the figure is 0 in each repetition: correctness
    kAtMost,       // the median is at most `value`
    kTimesFaster,  // the peer takes at least `value` times as long
    kAtMostTimes,  // takes at most `value` times as long as the peer
    kAtMostOver,   // takes at most `value` ns longer than the peer
    kSpeedShare,   // has at least this share of the peer's speed, 0 to 1
  };
  Rule rule;
  std::string row;
  std::string figure;  // empty: cpu_ns
  std::string peer;    // row; for the rules that name a peer
  double value = 0;
};

Bound Zero(std::string row, std::string figure);
Bound AtMost(std::string row, std::string figure, double value);
Bound TimesFaster(std::string row, std::string peer, double times);
Bound AtMostTimes(std::string row, std::string peer, double times);
Bound AtMostOver(std::string row, std::string peer, double ns);
Bound SpeedShare(std::string row, std::string peer, double share);

struct Verdict {
  std::string name;  // of the row, with ":figure" if it is not the time
  double ours = 0;
  std::optional<double> peer;
  // peer / ours; ours / peer for kAtMostTimes and kAtMostOver.
  std::optional<double> ratio;
  std::string must;  // in words
  bool holds = false;
  bool correctness = false;
};

class Report {
 public:
  // In the order in which they are printed. The name must be new.
  void AddRow(Row row);
  void Must(Bound bound) { bounds_.push_back(std::move(bound)); }
  // Keeps the rows whose name `keep` accepts.
  void Filter(const std::function<bool(const std::string&)>& keep);

  const std::vector<Row>& rows() const { return rows_; }

  // Called once for each run of a row.
  void Record(const std::string& row, Outcome outcome);

  // One for each bound of which all rows were run without an error.
  std::vector<Verdict> Verdicts() const;
  // What makes the program fail: broken checks of correctness, and errors.
  std::vector<std::string> Failures() const;
  // A table for each part with notes, the checks of correctness summed up by
  // part and figure, and the verdicts on time.
  void Print(std::ostream& out) const;

 private:
  using Outcomes = std::vector<Outcome>;

  const Outcomes* Find(const std::string& row) const;
  std::vector<Bound> Unjudged() const;
  std::optional<Verdict> Judge(const Bound& bound) const;
  void JudgeBesidePeer(const Bound& bound, Verdict& v) const;
  std::vector<std::string> Parts() const;
  void PrintPart(std::ostream& out, const std::string& part) const;
  std::vector<std::string> CellsAboveFloor(const Row& row) const;
  void PrintNotes(std::ostream& out, const std::string& part) const;
  void PrintChecks(std::ostream& out) const;
  void PrintVerdicts(std::ostream& out) const;

  std::vector<Row> rows_;
  std::vector<Bound> bounds_;
  std::map<std::string, Outcomes> outcomes_;  // by name of the row
};

// The middle value, or the mean of the two middle ones; 0 for none.
double Median(std::vector<double> values);

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_REPORT_H_
