// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/mode_rows.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "benchmarks/mode_subject.h"
#include "benchmarks/peers/domain_workloads.h"
#include "benchmarks/peers/peers.h"
#include "domain/mode.h"

namespace dmamap::bench {
namespace {

using peers::MakeDomainSession;

std::vector<peers::Implementation> Contestants() {
  return {
      {"dmamap", MakeDomainSession<ModeSubject<DomainMode::kPooled>>},
      {"dmamap-direct", MakeDomainSession<ModeSubject<DomainMode::kDirect>>},
      {"dmamap-ends",
       MakeDomainSession<ModeSubject<DomainMode::kUnalignedEnds>>},
      {"dmamap-automatic",
       MakeDomainSession<ModeSubject<DomainMode::kAutomatic>>},
  };
}

void AddWorkload(Report& report, const std::string& workload,
                 const SessionRowOptions& options, std::uint64_t ns) {
  for (const peers::Implementation& who : Contestants()) {
    AddSessionRow(report,
                  {.part = "domain",
                   .workload = workload,
                   .implementation = who,
                   .operation = "one map + unmap to the device",
                   .ours = true,
                   .note = absl::StrCat("an invalidation takes ", ns,
                                        " ns; dmamap: pooled"),
                   .group = absl::StrCat("domain/", workload)},
                  options);
  }
}

}  // namespace

void AddModeRows(Report& report, const SessionRowOptions& options,
                 std::uint64_t invalidation_ns) {
  SlowIommu::invalidation_ns = invalidation_ns;
  AddWorkload(report, "pooled_1500B", options, invalidation_ns);
  report.Must(TimesFaster("domain/pooled_1500B/dmamap",
                          "domain/pooled_1500B/dmamap-direct", 2));
  for (const int size : {64, 1024, 4096, 8192, 16384, 32768, 65536, 262144}) {
    AddWorkload(report, absl::StrCat("copy_or_map_", size, "B"), options,
                invalidation_ns);
  }
}

}  // namespace dmamap::bench
