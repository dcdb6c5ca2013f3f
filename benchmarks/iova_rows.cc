// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/iova_rows.h"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "benchmarks/dmamap_iova.h"
#include "benchmarks/iova_ageing.h"
#include "benchmarks/iova_locality.h"
#include "benchmarks/peers/iova_workloads.h"
#include "benchmarks/peers/measure.h"
#include "benchmarks/peers/peers.h"
#include "benchmarks/session_rows.h"

namespace dmamap::bench {
namespace {

using peers::MakeIovaSession;

// --- Who is measured, and with what ------------------------------------------

// What an implementation must be able to do.
enum class Needs {
  kPages,      // single pages
  kElsewhere,  // and a free on another thread
  kRanges,     // sizes and limits
  kBoth,       // the same, with caches and without
  kNoCache,    // the range store alone
};

struct Contestant {
  std::string name;
  peers::Implementation implementation;
  bool ranges = false;
  bool elsewhere = true;
  bool caches = true;
  bool bypass = false;   // can go past its caches, or has none
  bool batches = false;  // not asked for single operations
  bool ours = false;
  std::string note = "";

  bool Can(Needs needs) const {
    switch (needs) {
      case Needs::kPages:
        return caches;
      case Needs::kElsewhere:
        return caches && elsewhere;
      case Needs::kRanges:
        return caches && ranges;
      case Needs::kBoth:
        return ranges;
      case Needs::kNoCache:
        return bypass;
    }
    return false;
  }
};

std::string RseqNote() {
  switch (RseqSlots().kind()) {
    case SlotKind::kConcurrencyId:
      return "dmamap-rseq has a slot for each concurrency id of the kernel";
    case SlotKind::kCpuId:
      return "dmamap-rseq has a slot for each CPU";
    case SlotKind::kThread:
      break;
  }
  return "this kernel has no restartable sequences: dmamap-rseq fell back to "
         "slots of threads";
}

std::vector<Contestant> Contestants() {
  std::vector<Contestant> all;
  all.push_back(
      {.name = "dmamap",
       .implementation = {"dmamap",
                          MakeIovaSession<DmamapIova<StandardAllocator>>},
       .ranges = true,
       .ours = true});
  all.push_back({.name = "dmamap-rseq",
                 .implementation = {"dmamap-rseq",
                                    MakeIovaSession<DmamapIova<RseqAllocator>>},
                 .ranges = true,
                 .ours = true,
                 .note = RseqNote()});
  all.push_back(
      {.name = "dmamap-store",
       .implementation = {"dmamap-store", MakeIovaSession<DmamapStore>},
       .ranges = true,
       .caches = false,
       .bypass = true,
       .ours = true,
       .note = "dmamap-store is the range store under its lock, past caches "
               "and free check, as linux-6.12 here is its tree"});
  all.push_back(
      {.name = "dmamap-unchecked",
       .implementation = {"dmamap-unchecked",
                          MakeIovaSession<DmamapIova<UncheckedAllocator>>},
       .ranges = true,
       .batches = true,
       .ours = true,
       .note = "dmamap-unchecked is dmamap with FreeCheck::kOff"});
  for (const peers::Implementation& peer : peers::IovaPeers()) {
    const absl::string_view name = peer.name;
    if (name == "mimalloc-64") continue;  // mimalloc, of other blocks
    const bool linux_iova = absl::StartsWith(name, "linux");
    all.push_back({.name = peer.name,
                   .implementation = peer,
                   .ranges = linux_iova,
                   .elsewhere = name != "floor-tls-stack",
                   .bypass = linux_iova});
  }
  return all;
}

struct Workload {
  const char* name;
  Needs needs;
  const char* operation;
  bool single = false;  // single operations are timed
};

constexpr const char* kPair = "one alloc + free";
constexpr const char* kSingle = "one alloc, less the clock";

constexpr Workload kWorkloads[] = {
    {"pair_1t", Needs::kPages, kPair},
    {"pair_2t", Needs::kPages, kPair},
    {"ring1024", Needs::kPages, kPair},
    {"burst256", Needs::kPages, kPair},
    {"prodcons", Needs::kElsewhere, kPair},
    {"mixed", Needs::kRanges, kPair},
    {"no_cache_1", Needs::kNoCache, kPair},
    {"no_cache_1000", Needs::kNoCache, kPair},
    {"no_cache_65536", Needs::kNoCache, kPair},
    {"no_cache_1000000", Needs::kNoCache, kPair},
    {"fresh", Needs::kRanges, "one alloc"},
    {"mix32", Needs::kRanges, kPair},
    {"large_live_10000", Needs::kRanges, kSingle, true},
    {"large_live_100000", Needs::kRanges, kSingle, true},
    {"large_live_1000000", Needs::kRanges, kSingle, true},
    {"frag32_refuse", Needs::kBoth, kSingle, true},
    {"frag32_low", Needs::kBoth, kSingle, true},
};

// A peer whose single operations take milliseconds is not asked eleven times.
constexpr int kSlowRepetitions = 3;

// --- Memory and age ----------------------------------------------------------

template <class Allocator>
Outcome RunMemory() {
  constexpr std::uint64_t kPages = 1'000'000;
  const auto bytes = [](const auto& s) {
    return s.store_bytes + s.tag_bytes + s.cache_bytes;
  };
  Outcome outcome;
  Allocator iova;
  if (!StartAllocator(iova, 1, peers::kLastPage48).ok()) {
    outcome.error = "the allocator did not start";
    return outcome;
  }
  // No thread has a magazine yet.
  outcome.Add("empty_bytes", sizeof(iova) + bytes(iova.stats()));
  std::uint64_t refused = 0;
  const std::uint64_t before = peers::ThreadCpuNs();
  std::vector<Iova> live;
  live.reserve(kPages);
  const auto take = [&] {
    const Result<Iova> page = iova.Allocate(1);
    if (!page.ok()) ++refused;
    return page.value_or(Iova(0));
  };
  for (std::uint64_t i = 0; i < kPages; ++i) live.push_back(take());
  outcome.cpu_ns = static_cast<double>(peers::ThreadCpuNs() - before) / kPages;
  const auto per_page = [&] {
    const auto now = iova.stats();
    return static_cast<double>(bytes(now)) /
           static_cast<double>(now.live + now.cached);
  };
  outcome.Add("bytes_per_page", per_page());
  // Each page replaced four times over, in bursts of random ones.
  constexpr std::size_t kBurst = 65'536;
  peers::Random random(5);
  for (std::uint64_t replaced = 0; replaced < 4 * kPages; replaced += kBurst) {
    for (std::size_t i = 0; i < kBurst; ++i) {
      std::swap(live[i], live[i + random.Below(kPages - i)]);
      if (!iova.Free(live[i], 1).ok()) ++refused;
    }
    for (std::size_t i = 0; i < kBurst; ++i) live[i] = take();
  }
  outcome.Add("aged_bytes_per_page", per_page());
  outcome.AddHidden("failures", refused);
  return outcome;
}

Outcome RunAgeing(std::uint64_t operations) {
  constexpr std::size_t kTenth = 100;
  constexpr std::size_t kSegments = 10 * kTenth;
  const std::uint64_t rounds = std::max<std::uint64_t>(
      1, operations / (kSegments * IovaAgeing::kOpsOfRound));
  Outcome outcome;
  const auto ageing = std::make_unique<IovaAgeing>();
  if (!ageing->Start()) {
    outcome.error = "the allocator did not start";
    return outcome;
  }
  std::vector<double> ns;
  std::uint64_t cached = 0;
  for (std::size_t i = 0; i < kSegments; ++i) {
    const IovaAgeing::Segment segment = ageing->Run(rounds);
    ns.push_back(segment.ns_per_op);
    cached = std::max(cached, segment.cached);
  }
  // Medians: a segment that the machine disturbed says nothing about age.
  const auto tenth = [&](std::ptrdiff_t n) {
    const auto first = ns.begin() + n * std::ptrdiff_t{kTenth};
    return Median({first, first + kTenth});
  };
  outcome.cpu_ns = Median(ns);
  outcome.Add("second_tenth", tenth(1));
  outcome.Add("last_tenth", tenth(9));
  outcome.Add("last_over_second", tenth(9) / tenth(1));
  outcome.Add("cached_at_most", cached);
  outcome.Add("bound", IovaAgeing::kCachedBound);
  outcome.Add("operations", kSegments * rounds * IovaAgeing::kOpsOfRound);
  outcome.AddHidden("over_bound",
                    cached - std::min(cached, IovaAgeing::kCachedBound));
  outcome.AddHidden("failures", ageing->Finish());
  return outcome;
}

void AddMemoryRow(Report& report, std::string implementation,
                  std::function<Outcome()> run) {
  Row row;
  row.part = "iova";
  row.workload = "memory";
  row.implementation = std::move(implementation);
  row.operation = "one of 1,000,000 allocs";
  row.repetitions = 1;
  row.run = std::move(run);
  report.Must(Zero(row.Name(), "failures"));
  report.Must(AtMost(row.Name(), "bytes_per_page", 16));
  report.Must(AtMost(row.Name(), "aged_bytes_per_page", 16));
  report.Must(AtMost(row.Name(), "empty_bytes", 65'536));
  report.AddRow(std::move(row));
}

void AddAgeingRow(Report& report, std::uint64_t operations) {
  Row row;
  row.part = "iova";
  row.workload = "ageing";
  row.implementation = "dmamap";
  row.operation = "one alloc or deferred free";
  row.repetitions = 1;
  row.run = [operations] { return RunAgeing(operations); };
  report.Must(Zero(row.Name(), "failures"));
  report.Must(Zero(row.Name(), "over_bound"));
  report.Must(AtMost(row.Name(), "last_over_second", 1.05));
  report.AddRow(std::move(row));
}

void AddLocalityRows(Report& report) {
  const auto add = [&](const char* implementation,
                       std::function<Outcome()> run) {
    Row row;
    row.part = "iova";
    row.workload = "locality";
    row.implementation = implementation;
    row.operation = "one alloc + free of an old ring";
    row.run = std::move(run);
    report.Must(Zero(row.Name(), "failures"));
    report.AddRow(std::move(row));
  };
  add("dmamap-pool", IovaLocality::RunPool);
  add("dmamap", IovaLocality::RunPlain);
  report.Must(AtMost("iova/locality/dmamap-pool", "at_most", 2));
  report.Must(
      AtMostTimes("iova/locality/dmamap-pool", "iova/locality/dmamap", 1));
}

// --- What must be reached ----------------------------------------------------

std::string Name(absl::string_view workload, absl::string_view who = "dmamap") {
  return absl::StrCat("iova/", workload, "/", who);
}

void AddBounds(Report& report) {
  const auto faster_than_linux = [&](absl::string_view workload, double times) {
    report.Must(
        TimesFaster(Name(workload), Name(workload, "linux-6.12"), times));
  };
  faster_than_linux("pair_1t", 5);
  report.Must(
      AtMostTimes(Name("pair_1t"), Name("pair_1t", "floor-tls-stack"), 2.5));
  Bound each = AtMostTimes(Name("pair_2t"), Name("pair_1t"), 1.15);
  each.figure = "slowest_thread";
  report.Must(each);
  faster_than_linux("ring1024", 4);
  faster_than_linux("burst256", 4);
  faster_than_linux("prodcons", 1.7);
  report.Must(
      AtMostTimes(Name("prodcons"), Name("prodcons", "dpdk-mempool"), 1));
  faster_than_linux("mixed", 3);
  faster_than_linux("fresh", 2);
  report.Must(Zero(Name("mix32"), "refused_percent"));
  report.Must(Zero(Name("mix32", "dmamap-rseq"), "refused_percent"));
  for (const char* live : {"10000", "100000", "1000000"}) {
    const std::string row = Name(absl::StrCat("large_live_", live));
    report.Must(AtMost(row, "", 100));
    report.Must(AtMost(row, "p999", 1000));
  }
  report.Must(
      AtMostTimes(Name("large_live_1000000"), Name("large_live_10000"), 2));
  for (const char* workload : {"frag32_refuse", "frag32_low"}) {
    report.Must(AtMost(Name(workload), "", 1000));
    report.Must(AtMost(Name(workload, "dmamap-store"), "", 1000));
  }
}

}  // namespace

void AddIovaWorkloadRows(Report& report, const IovaRowOptions& options) {
  const std::vector<Contestant> contestants = Contestants();
  for (const Workload& workload : kWorkloads) {
    for (const Contestant& contestant : contestants) {
      if (!contestant.Can(workload.needs)) continue;
      if (contestant.batches && workload.single) continue;
      AddSessionRow(
          report,
          {.part = "iova",
           .workload = workload.name,
           .implementation = contestant.implementation,
           .operation = workload.operation,
           .single = workload.single,
           .ours = contestant.ours,
           .note = contestant.note,
           .repetitions =
               workload.single && !contestant.ours ? kSlowRepetitions : 0},
          {.repetitions = options.repetitions, .quick = options.quick});
    }
  }
  AddBounds(report);
  AddMemoryRow(report, "dmamap", RunMemory<StandardAllocator>);
  AddMemoryRow(report, "dmamap-rseq", RunMemory<RseqAllocator>);
  AddLocalityRows(report);
  AddAgeingRow(report, options.ageing_ops);
}

}  // namespace dmamap::bench
