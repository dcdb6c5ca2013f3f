// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/iommu_rows.h"

#include <time.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "bounce/page_source.h"
#include "dma/address.h"
#include "dma/direction.h"
#include "domain/domain.h"
#include "iommu/bus_memory.h"
#include "iommu/second_level.h"
#include "iommu/vtd.h"
#include "testing/sim_vtd.h"

namespace dmamap::bench {
namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kLarge = std::uint64_t{2} << 20;

double ThreadNs() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e9 +
         static_cast<double>(now.tv_nsec);
}

// What no table that counts nothing, locks nothing and frees nothing gets
// below: four levels of 512 entries, a store at the end.
class PlainRadix {
 public:
  using Entry = std::uint64_t;

  bool Map(std::uint64_t at, std::uint64_t bytes, std::uint64_t bus,
           unsigned level) {
    for (std::uint64_t done = 0; done < bytes; done += Size(level)) {
      Entry* const slot = Walk(at + done, level);
      if (slot == nullptr || *slot != 0) return false;
      *slot = (bus + done) | 3;
    }
    return true;
  }
  bool Unmap(std::uint64_t at, std::uint64_t bytes, unsigned level) {
    for (std::uint64_t done = 0; done < bytes; done += Size(level)) {
      Entry* const slot = Walk(at + done, level);
      if (slot == nullptr || *slot == 0) return false;
      *slot = 0;
    }
    return true;
  }

 private:
  struct Table {
    std::array<Entry, 512> entries{};
    std::array<std::unique_ptr<Table>, 512> below;  // untouched at level 1
  };
  static constexpr std::uint64_t Size(unsigned level) {
    return kPage << 9 * (level - 1);
  }
  Entry* Walk(std::uint64_t at, unsigned level) {
    Table* table = &root_;
    for (unsigned l = 4; l > level; --l) {
      auto& below = table->below[at >> (12 + 9 * (l - 1)) & 511];
      if (below == nullptr) below = std::make_unique<Table>();
      table = below.get();
    }
    return &table->entries[at >> (12 + 9 * (level - 1)) & 511];
  }
  Table root_;
};

template <bool kMerges>
class DmamapTables {
 public:
  using Tables = SecondLevel<LinearMemory<HeapPages>>;
  DmamapTables() {
    ready_ = tables_.Init(&memory_, {.levels = 4, .merges = kMerges}).ok();
  }
  bool Map(std::uint64_t at, std::uint64_t bytes, std::uint64_t bus, unsigned) {
    std::uint64_t mapped = 0;
    return ready_ && tables_
                         .Map(*Range::FromSize(Iova(at), bytes), PhysAddr(bus),
                              Permission::kReadWrite, &mapped)
                         .ok();
  }
  bool Unmap(std::uint64_t at, std::uint64_t bytes, unsigned) {
    return tables_.Unmap(*Range::FromSize(Iova(at), bytes)).ok();
  }

 private:
  LinearMemory<HeapPages> memory_;
  Tables tables_;
  bool ready_ = false;
};

struct Workload {
  const char* name;
  unsigned level;       // of the leaves
  std::uint64_t bytes;  // of each call
  std::uint64_t calls;
  bool unmap;           // what is timed
  bool merges = false;  // the default of VtdSpace is true
};

// Every table exists before the clock runs, and stays: one page at the end of
// each region (of the level above) is mapped throughout.
template <class Subject>
Outcome Run(const Workload& w) {
  Outcome outcome;
  auto subject = std::make_unique<Subject>();
  const std::uint64_t leaf = w.level == 1 ? kPage : kLarge;
  const std::uint64_t region = leaf * 512;
  const std::uint64_t a_region = region / w.bytes - 1;  // calls in each
  const auto place = [&](std::uint64_t i) {
    return i / a_region * region + i % a_region * w.bytes;
  };
  std::uint64_t failures = 0;
  for (std::uint64_t r = 0; r <= place(w.calls - 1) / region; ++r) {
    const std::uint64_t last = (r + 1) * region - leaf;
    failures += subject->Map(last, leaf, last, w.level) ? 0 : 1;
  }
  double best = 0;
  for (int round = 0; round < 5; ++round) {
    const double begin = ThreadNs();
    for (std::uint64_t i = 0; i < w.calls; ++i) {
      const std::uint64_t at = place(i);
      failures += subject->Map(at, w.bytes, at, w.level) ? 0 : 1;
    }
    const double between = ThreadNs();
    for (std::uint64_t i = 0; i < w.calls; ++i) {
      failures += subject->Unmap(place(i), w.bytes, w.level) ? 0 : 1;
    }
    const double end = ThreadNs();
    const double ns = w.unmap ? end - between : between - begin;
    if (round == 0 || ns < best) best = ns;
  }
  outcome.cpu_ns = best / static_cast<double>(w.calls * (w.bytes / leaf));
  outcome.Add("failures", failures);
  return outcome;
}

void AddWorkload(Report& report, const Workload& w) {
  const auto add = [&](const std::string& who, std::function<Outcome()> run) {
    Row row;
    row.part = "iommu";
    row.workload = w.name;
    row.implementation = who;
    row.operation = w.level == 1 ? "one page of 4 KiB" : "one leaf of 2 MiB";
    row.run = std::move(run);
    row.floor = absl::StrCat("iommu/", w.name, "/floor-radix");
    row.group = absl::StrCat("iommu/", w.name);
    report.AddRow(std::move(row));
    report.Must(Zero(absl::StrCat("iommu/", w.name, "/", who), "failures"));
  };
  add("dmamap", [w] {
    return w.merges ? Run<DmamapTables<true>>(w) : Run<DmamapTables<false>>(w);
  });
  add("floor-radix", [w] { return Run<PlainRadix>(w); });
  report.Must(AtMostTimes(absl::StrCat("iommu/", w.name, "/dmamap"),
                          absl::StrCat("iommu/", w.name, "/floor-radix"), 2));
}

// --- Invalidations for each unmap, through a Domain, by a simulated unit ---

using SimUnit = VtdUnit<SimVtd<>, SimTableMemory>;
struct OverVtd : DomainPolicies {
  using Invalidation = VtdSpace<SimUnit>;
};

// Maps and unmaps `pages` in one call, beside nothing that stays. The time is
// mostly the simulator's.
Outcome CountInvalidations(FlushMode mode, std::uint64_t pages,
                           std::uint64_t calls) {
  Outcome outcome;
  SimTableMemory memory;
  SimVtd<> sim(&memory, {});
  SimUnit unit;
  Domain<OverVtd> domain;
  FlushQueueOptions flush;
  flush.mode = mode;
  flush.max_age = 0;
  HeapPages heap;
  const auto buffer = heap.Allocate(PageSize(), pages);
  if (!buffer.ok() || !unit.Init(&sim, &memory).ok() ||
      !domain.invalidation().Init(&unit).ok() ||
      !domain.Init({.mode = DomainMode::kDirect, .flush = flush}).ok()) {
    outcome.error = "setup";
    return outcome;
  }
  std::uint64_t failures = 0;
  const std::uint64_t before = domain.invalidation().requests();
  const double begin = ThreadNs();
  for (std::uint64_t i = 0; i < calls; ++i) {
    const auto m =
        domain.Map(PhysAddrOf(*buffer), pages * kPage, Direction::kToDevice);
    failures += m.ok() && domain.Unmap(*m).ok() ? 0 : 1;
  }
  const double ns = ThreadNs() - begin;
  const std::uint64_t requests = domain.invalidation().requests() - before;
  failures += domain.Shutdown([](const Leak&) {}).ok() ? 0 : 1;
  heap.Free(*buffer, PageSize(), pages);
  outcome.cpu_ns = ns / static_cast<double>(calls);
  outcome.Add("requests_an_unmap",
              static_cast<double>(requests) / static_cast<double>(calls));
  outcome.Add("failures", failures);
  return outcome;
}

void AddInvalidations(Report& report, const char* workload, FlushMode mode,
                      std::uint64_t pages, std::uint64_t calls, double most) {
  Row row;
  row.part = "iommu";
  row.workload = workload;
  row.implementation = "dmamap";
  row.operation = "one map and unmap, the unit simulated";
  row.run = [=] { return CountInvalidations(mode, pages, calls); };
  row.group = absl::StrCat("iommu/", workload);
  report.AddRow(std::move(row));
  const std::string name = absl::StrCat("iommu/", workload, "/dmamap");
  report.Must(Zero(name, "failures"));
  report.Must(AtMost(name, "requests_an_unmap", most));
}

}  // namespace

void AddIommuRows(Report& report, const IommuRowOptions& options) {
  const std::uint64_t n = options.quick ? 1024 : 16384;
  AddWorkload(report, {"map_4k", 1, kPage, n, false});
  AddWorkload(report, {"map_4k_merge", 1, kPage, n, false, true});
  AddWorkload(report, {"map_4k_chunk64", 1, 64 * kPage, n / 64, false});
  AddWorkload(report, {"map_2m", 2, kLarge, n / 16, false});
  AddWorkload(report, {"unmap_4k", 1, kPage, n, true});
  AddWorkload(report, {"unmap_4k_chunk64", 1, 64 * kPage, n / 64, true});
  AddInvalidations(report, "invalidations_strict", FlushMode::kStrict, 1, 4096,
                   1);
  AddInvalidations(report, "invalidations_deferred", FlushMode::kDeferred, 1,
                   4096, 1.0 / 64);
  AddInvalidations(report, "invalidations_chunk64", FlushMode::kStrict, 64, 256,
                   1);
}

}  // namespace dmamap::bench
