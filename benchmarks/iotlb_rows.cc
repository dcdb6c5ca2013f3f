// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/iotlb_rows.h"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "benchmarks/dmamap_iotlb.h"
#include "benchmarks/peers/iotlb_workloads.h"
#include "benchmarks/peers/peers.h"

namespace dmamap::bench {
namespace {

using Fronted = DmamapIotlb<FrontPolicy::kOn>;
using Full = DmamapIotlb<FrontPolicy::kOn, true>;
using TreeAlone = DmamapIotlb<FrontPolicy::kOff>;

constexpr std::uint64_t kSizes[] = {64, 1024, 65'536, 262'144, 1'048'576};
constexpr std::uint64_t kOfDpdk = 2048;  // what its list holds
// To build the larger ones takes longer than a smoke run may.
constexpr std::uint64_t kMostWhenQuick = 65'536;

bool IsLeftOut(std::uint64_t n, const SessionRowOptions& options) {
  return options.quick && n > kMostWhenQuick;
}

std::vector<peers::Implementation> Contestants() {
  std::vector<peers::Implementation> all = {
      {"dmamap", peers::MakeIotlbSession<Fronted>},
      {"dmamap-full", peers::MakeIotlbSession<Full>},
      {"dmamap-tree", peers::MakeIotlbSession<TreeAlone>},
  };
  const std::vector<peers::Implementation> others = peers::IotlbPeers();
  all.insert(all.end(), others.begin(), others.end());
  return all;
}

bool IsOurs(absl::string_view name) { return absl::StartsWith(name, "dmamap"); }

// Of the limits that peers/iotlb_workloads.h would tell when it is too late.
bool Can(absl::string_view name, absl::string_view kind, std::uint64_t n) {
  const bool floor = absl::StartsWith(name, "floor");
  if (name == "dpdk-list" && n > kOfDpdk) return false;
  if (name == "dmamap-full") return kind == "lookup";
  if (kind == "walk") return !floor && name != "dpdk-list";
  return kind != "scattered" || !floor;
}

void AddWorkload(Report& report, const std::string& workload,
                 absl::string_view kind, std::uint64_t n, const char* operation,
                 const SessionRowOptions& options) {
  if (IsLeftOut(n, options)) return;
  for (const peers::Implementation& who : Contestants()) {
    if (!Can(who.name, kind, n)) continue;
    AddSessionRow(report,
                  {.part = "iotlb",
                   .workload = workload,
                   .implementation = who,
                   .operation = operation,
                   .ours = IsOurs(who.name),
                   .group = absl::StrCat("iotlb/", workload)},
                  options);
  }
}

// --- Memory ------------------------------------------------------------------

// The IOTLB's own count: that of the process says little after other rows.
constexpr std::uint64_t kScattered = 1'000'000;
template <class Subject>
Outcome RunMemory() {
  Outcome outcome;
  absl::StatusOr<std::unique_ptr<Subject>> whole = Subject::Create(1);
  absl::StatusOr<std::unique_ptr<Subject>> scattered =
      Subject::Create(kScattered);
  if (!whole.ok() || !scattered.ok()) {
    outcome.error = "the IOTLB did not start";
    return outcome;
  }
  std::uint64_t refused = 0;
  refused += !(*whole)->Add(0, ~std::uint64_t{0}, 0, 3);
  outcome.Add("identity_bytes", (*whole)->bytes());
  const std::vector<peers::WorkloadMapping> mappings =
      peers::ScatteredMappings(kScattered);
  const std::uint64_t before = peers::ThreadCpuNs();
  for (const peers::WorkloadMapping& m : mappings) {
    refused += !(*scattered)->Add(m.first, m.last, m.address, 3);
  }
  outcome.cpu_ns =
      static_cast<double>(peers::ThreadCpuNs() - before) / kScattered;
  outcome.Add("bytes_per_mapping",
              static_cast<double>((*scattered)->bytes()) / kScattered);
  outcome.AddHidden("failures", refused);
  return outcome;
}

template <class Subject>
void AddMemoryRow(Report& report, const std::string& name) {
  Row row;
  row.part = "iotlb";
  row.workload = "memory";
  row.implementation = name;
  row.operation = "one of 1,000,000 scattered adds";
  row.repetitions = 1;
  row.group = "iotlb/memory";
  row.run = RunMemory<Subject>;
  report.Must(Zero(row.Name(), "failures"));
  report.Must(AtMost(row.Name(), "identity_bytes", 4095));
  report.Must(AtMost(row.Name(), "bytes_per_mapping", 256));
  report.AddRow(std::move(row));
}

// --- What must be reached ----------------------------------------------------

std::string Name(absl::string_view kind, std::uint64_t n,
                 absl::string_view who = "dmamap") {
  return absl::StrCat("iotlb/", kind, "_", n, "/", who);
}

class Bounds {
 public:
  explicit Bounds(Report& report) : report_(report) {}

  void FasterThanLinux(absl::string_view kind, std::uint64_t n, double times,
                       absl::string_view ours = "dmamap") {
    report_.Must(
        TimesFaster(Name(kind, n, ours), Name(kind, n, "linux-6.12"), times));
  }
  void Add() {
    FasterThanLinux("lookup", 64, 5);
    FasterThanLinux("lookup", 1024, 10);
    FasterThanLinux("lookup", 65'536, 20);
    FasterThanLinux("lookup", 1'048'576, 20);
    for (const std::uint64_t n : kSizes) {
      report_.Must(AtMostTimes(Name("lookup", n),
                               Name("lookup", n, "floor-radix"), 2.5));
      Bound each = AtMostTimes(Name("lookup_2t", n), Name("lookup", n), 1.15);
      each.figure = "slowest_thread";
      report_.Must(each);
      FasterThanLinux("mix95_2t", n, 10);
      FasterThanLinux("update", n, n == 64 ? 1 : 2);
      FasterThanLinux("walk", n, 2);
    }
    FasterThanLinux("lookup_2t", 65'536, 30);
    FasterThanLinux("lookup", 65'536, 2, "dmamap-tree");
    FasterThanLinux("lookup", 1'048'576, 3, "dmamap-tree");
    report_.Must(AtMost("iotlb/hint/dmamap", "", 2));
    report_.Must(
        TimesFaster("iotlb/scattered/dmamap", "iotlb/scattered/linux-6.12", 3));
    report_.Must(TimesFaster(Name("lookup", kOfDpdk),
                             Name("lookup", kOfDpdk, "dpdk-list"), 10));
    report_.Must(TimesFaster(Name("update", kOfDpdk),
                             Name("update", kOfDpdk, "dpdk-list"), 10));
  }

 private:
  Report& report_;
};

}  // namespace

void AddIotlbWorkloadRows(Report& report, const SessionRowOptions& options) {
  struct Kind {
    const char* name;
    const char* operation;
  };
  for (const auto& [kind, operation] :
       {Kind{"lookup", "one lookup"}, Kind{"lookup_2t", "one lookup"},
        Kind{"update", "one delete + add"}, Kind{"mix95_2t", "one operation"},
        Kind{"walk", "one mapping passed"}}) {
    for (const std::uint64_t n : kSizes) {
      AddWorkload(report, absl::StrCat(kind, "_", n), kind, n, operation,
                  options);
    }
  }
  for (const char* kind : {"lookup", "update"}) {
    AddWorkload(
        report, absl::StrCat(kind, "_", kOfDpdk), kind, kOfDpdk,
        kind == absl::string_view("lookup") ? "one lookup" : "one delete + add",
        options);
  }
  AddWorkload(report, "hint", "hint", 65'536, "one lookup", options);
  AddWorkload(report, "scattered", "scattered", kScattered, "one lookup",
              options);
  if (!IsLeftOut(kScattered, options)) {
    AddMemoryRow<Fronted>(report, "dmamap");
    AddMemoryRow<TreeAlone>(report, "dmamap-tree");
  }
  Bounds(report).Add();
}

}  // namespace dmamap::bench
