// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/report.h"

#include <gtest/gtest.h>

#include <cmath>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace dmamap::bench {
namespace {

Row MakeRow(const std::string& implementation) {
  Row row;
  row.part = "iova";
  row.workload = "pair";
  row.implementation = implementation;
  row.operation = "one pair";
  row.notes = {"a note"};
  return row;
}

Outcome MakeOutcome(double ns, std::uint64_t failures = 0) {
  Outcome outcome;
  outcome.cpu_ns = ns;
  outcome.Add("failures", failures);
  return outcome;
}

// "dmamap" takes 2, 3, 100 ns, "linux" 12, 12, 13.
Report TwoRows() {
  Report report;
  report.AddRow(MakeRow("dmamap"));
  report.AddRow(MakeRow("linux"));
  for (const double ns : {100.0, 2.0, 3.0}) {
    report.Record("iova/pair/dmamap", MakeOutcome(ns));
  }
  for (const double ns : {12.0, 13.0, 12.0}) {
    report.Record("iova/pair/linux", MakeOutcome(ns));
  }
  return report;
}

TEST(Median, OddEvenNone) {
  EXPECT_EQ(Median({3, 1, 2}), 2);
  EXPECT_EQ(Median({4, 1, 2, 3}), 2.5);
  EXPECT_EQ(Median({}), 0);
}

TEST(Report, TimesFasterComparesMedians) {
  Report report = TwoRows();
  report.Must(TimesFaster("iova/pair/dmamap", "iova/pair/linux", 4));
  report.Must(TimesFaster("iova/pair/dmamap", "iova/pair/linux", 4.5));
  const std::vector<Verdict> v = report.Verdicts();
  ASSERT_EQ(v.size(), 2u);
  EXPECT_EQ(v[0].name, "iova/pair/dmamap");
  EXPECT_EQ(v[0].ours, 3);
  EXPECT_EQ(v[0].peer, 12);
  EXPECT_EQ(v[0].ratio, 4);
  EXPECT_EQ(v[0].must, "at least 4 times faster than linux");
  EXPECT_TRUE(v[0].holds);
  EXPECT_FALSE(v[0].correctness);
  EXPECT_FALSE(v[1].holds);
  EXPECT_TRUE(report.Failures().empty());  // time never fails the program
}

TEST(Report, AtMostTimesAndAtMost) {
  Report report = TwoRows();
  report.Must(AtMostTimes("iova/pair/linux", "iova/pair/dmamap", 4));
  report.Must(AtMostTimes("iova/pair/linux", "iova/pair/dmamap", 3.9));
  report.Must(AtMost("iova/pair/dmamap", "", 3));
  report.Must(AtMost("iova/pair/dmamap", "", 2.99));
  const std::vector<Verdict> v = report.Verdicts();
  ASSERT_EQ(v.size(), 4u);
  EXPECT_TRUE(v[0].holds);
  EXPECT_EQ(v[0].ratio, 4);
  EXPECT_EQ(v[0].must, "at most 4 times dmamap");
  EXPECT_FALSE(v[1].holds);
  EXPECT_TRUE(v[2].holds);
  EXPECT_EQ(v[2].peer, std::nullopt);
  EXPECT_FALSE(v[3].holds);
  EXPECT_TRUE(report.Failures().empty());
}

TEST(Report, AtMostOverAndSpeedShare) {
  Report report = TwoRows();  // medians 3 and 12 ns
  report.Must(AtMostOver("iova/pair/linux", "iova/pair/dmamap", 9));
  report.Must(AtMostOver("iova/pair/linux", "iova/pair/dmamap", 8.9));
  report.Must(SpeedShare("iova/pair/linux", "iova/pair/dmamap", 0.25));
  report.Must(SpeedShare("iova/pair/linux", "iova/pair/dmamap", 0.26));
  const std::vector<Verdict> v = report.Verdicts();
  ASSERT_EQ(v.size(), 4u);
  EXPECT_TRUE(v[0].holds);
  EXPECT_EQ(v[0].peer, 3);
  EXPECT_EQ(v[0].ratio, 4);
  EXPECT_EQ(v[0].must, "at most 9 ns more than dmamap");
  EXPECT_FALSE(v[1].holds);
  EXPECT_TRUE(v[2].holds);
  EXPECT_EQ(v[2].ratio, 0.25);
  EXPECT_EQ(v[2].must, "at least 25 % of the speed of dmamap");
  EXPECT_FALSE(v[3].holds);
  EXPECT_TRUE(report.Failures().empty());
}

TEST(Report, RowsStandBesideTheirFloor) {
  Report report;
  for (const char* who : {"floor", "mine", "lost"}) {
    Row row = MakeRow(who);
    row.floor =
        who == std::string("lost") ? "iova/pair/gone" : "iova/pair/floor";
    report.AddRow(row);
  }
  report.Record("iova/pair/floor", MakeOutcome(20));
  report.Record("iova/pair/mine", MakeOutcome(25.5));
  report.Record("iova/pair/lost", MakeOutcome(30));
  std::ostringstream out;
  report.Print(out);
  const std::string text = out.str();
  EXPECT_NE(text.find("ns over floor  % of its speed"), text.npos) << text;
  EXPECT_NE(text.find("20.0         0            0.0           100.0"),
            text.npos)
      << text;
  EXPECT_NE(text.find("25.5         0            5.5            78.4"),
            text.npos)
      << text;
  EXPECT_NE(text.find("30.0         0              -               -"),
            text.npos)
      << text;
}

TEST(Report, ZeroLooksAtTheWorstRepetition) {
  Report report = TwoRows();
  report.Must(Zero("iova/pair/dmamap", "failures"));
  EXPECT_TRUE(report.Verdicts()[0].holds);
  EXPECT_TRUE(report.Failures().empty());
  report.Record("iova/pair/dmamap", MakeOutcome(3, /*failures=*/2));
  const Verdict v = report.Verdicts()[0];
  EXPECT_FALSE(v.holds);
  EXPECT_TRUE(v.correctness);
  EXPECT_EQ(v.name, "iova/pair/dmamap:failures");
  EXPECT_EQ(v.ours, 2);
  EXPECT_EQ(v.must, "0");
  EXPECT_EQ(
      report.Failures(),
      std::vector<std::string>{"iova/pair/dmamap:failures is 2, must be 0"});
}

TEST(Report, AFigureThatIsMissingHoldsNothing) {
  Report report = TwoRows();
  report.Must(Zero("iova/pair/dmamap", "no such figure"));
  report.Must(AtMost("iova/pair/dmamap", "no such figure", 1e9));
  for (const Verdict& v : report.Verdicts()) EXPECT_FALSE(v.holds);
  EXPECT_EQ(report.Failures().size(), 1u);
}

TEST(Report, RowsThatDidNotRunHaveNoVerdict) {
  Report report = TwoRows();
  report.Must(TimesFaster("iova/pair/dmamap", "iova/pair/dpdk", 1));
  report.Must(Zero("iova/ring/dmamap", "failures"));
  EXPECT_TRUE(report.Verdicts().empty());
  // The table says of a row that ran what it was to stand beside.
  std::ostringstream out;
  report.Print(out);
  EXPECT_NE(out.str().find("(beside iova/pair/dpdk)  not measured"),
            std::string::npos)
      << out.str();
  EXPECT_EQ(out.str().find("iova/ring"), std::string::npos);
}

TEST(Report, AnErrorFailsTheProgram) {
  Report report = TwoRows();
  report.Must(Zero("iova/pair/linux", "failures"));
  Outcome broken;
  broken.error = "cannot start";
  report.Record("iova/pair/linux", broken);
  EXPECT_TRUE(report.Verdicts().empty());
  EXPECT_EQ(report.Failures(),
            std::vector<std::string>{"iova/pair/linux: cannot start"});
}

TEST(Report, Filter) {
  Report report = TwoRows();
  report.Filter([](const std::string& name) {
    return name.find("linux") != std::string::npos;
  });
  ASSERT_EQ(report.rows().size(), 1u);
  EXPECT_EQ(report.rows()[0].Name(), "iova/pair/linux");
}

TEST(Report, Print) {
  Report report = TwoRows();
  report.Must(Zero("iova/pair/dmamap", "failures"));
  report.Must(Zero("iova/pair/linux", "failures"));
  report.Must(TimesFaster("iova/pair/dmamap", "iova/pair/linux", 5));
  std::ostringstream out;
  report.Print(out);
  EXPECT_EQ(out.str(), R"(
iova (ns for one pair)    ns  failures
pair/dmamap              3.0         0
pair/linux              12.0         0
  pair: a note

checks          rows  sum  must be  holds
iova: failures     2    0        0    yes

verdicts          ours  peer  ratio                          must reach  holds
iova/pair/dmamap     3    12      4  at least 5 times faster than linux     NO
)");
}

}  // namespace
}  // namespace dmamap::bench
