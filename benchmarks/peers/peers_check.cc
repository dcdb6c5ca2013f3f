// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// Runs every peer of this build through every workload and prints CSV:
//
//   peers_check [REPETITIONS [FILTER]]
//   part/workload/implementation,metric,unit,median,min,max,clean,discarded
//
// FILTER is a part of the first column. The implementations of one workload are
// interleaved, repetition by repetition. Exit status 1 when a session could not
// be made, or an operation of one failed.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "benchmarks/peers/domain_workloads.h"
#include "benchmarks/peers/iotlb_workloads.h"
#include "benchmarks/peers/iova_workloads.h"
#include "benchmarks/peers/peers.h"

namespace dmamap::peers {
namespace {

struct Contestant {
  std::string name;
  std::unique_ptr<Session> session;
  // By metric: its unit, and one value from each repetition.
  std::map<std::string, std::pair<std::string, std::vector<double>>> values;
  int clean = 0;
  unsigned discarded = 0;
  bool failed = false;
};

class Check {
 public:
  Check(int repetitions, absl::string_view filter)
      : repetitions_(repetitions), filter_(filter) {}

  void Run(absl::string_view part, absl::string_view workload,
           const std::vector<Implementation>& implementations) {
    std::vector<Contestant> contestants;
    for (const Implementation& implementation : implementations) {
      Contestant contestant;
      contestant.name =
          absl::StrCat(part, "/", workload, "/", implementation.name);
      if (!absl::StrContains(contestant.name, filter_)) continue;
      auto session = implementation.make(workload, SessionOptions{});
      if (session.ok()) {
        contestant.session = *std::move(session);
        contestants.push_back(std::move(contestant));
      } else if (!absl::IsUnimplemented(session.status())) {
        std::fprintf(stderr, "%s: %s\n", contestant.name.c_str(),
                     session.status().ToString().c_str());
        good_ = false;
      }
    }
    for (int i = 0; i < repetitions_; ++i) {
      for (Contestant& contestant : contestants) Repeat(contestant);
    }
    for (const Contestant& contestant : contestants) Print(contestant);
  }

  bool good() const { return good_; }

 private:
  void Repeat(Contestant& contestant) {
    const Repetition repetition = contestant.session->Run();
    for (const Metric& metric : repetition.metrics) {
      auto& [unit, values] = contestant.values[metric.name];
      unit = metric.unit;
      values.push_back(metric.value);
    }
    if (repetition.clean) ++contestant.clean;
    contestant.discarded += repetition.discarded;
    contestant.failed = repetition.failures != 0;
  }

  void Print(const Contestant& contestant) {
    for (const auto& [metric, unit_values] : contestant.values) {
      std::vector<double> values = unit_values.second;
      std::sort(values.begin(), values.end());
      std::printf("%s,%s,%s,%.2f,%.2f,%.2f,%d,%u\n", contestant.name.c_str(),
                  metric.c_str(), unit_values.first.c_str(),
                  values[values.size() / 2], values.front(), values.back(),
                  contestant.clean, contestant.discarded);
    }
    std::fflush(stdout);
    if (contestant.failed) {
      std::fprintf(stderr, "%s: operations failed\n", contestant.name.c_str());
      good_ = false;
    }
  }

  const int repetitions_;
  const absl::string_view filter_;
  bool good_ = true;
};

int Main(int argc, char** argv) {
  const int repetitions = argc > 1 ? std::atoi(argv[1]) : 3;
  Check check(std::max(repetitions, 1), argc > 2 ? argv[2] : "");
  for (const auto& workload : IovaWorkloads()) {
    check.Run("iova", workload, IovaPeers());
  }
  for (const auto& workload : IotlbWorkloads()) {
    check.Run("iotlb", workload, IotlbPeers());
  }
  for (const auto& workload : DomainWorkloads()) {
    check.Run("domain", workload, DomainPeers());
  }
  return check.good() ? 0 : 1;
}

}  // namespace
}  // namespace dmamap::peers

int main(int argc, char** argv) { return dmamap::peers::Main(argc, argv); }
