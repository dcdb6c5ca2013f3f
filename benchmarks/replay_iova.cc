// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/replay_iova.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "benchmarks/rows.h"
#include "iova/standard.h"

#ifdef DMAMAP_PEER_LINUX
#include "benchmarks/peers/linux_iova.h"
#include "dma/cpu.h"
#endif

namespace dmamap::bench {
namespace {

class DmamapIova {
 public:
  bool Init(std::uint64_t last_pfn) {
    const Result<Range> window =
        Range::FromFirstLast(Iova(kTracePage), LastByte(last_pfn));
    if (!window.ok()) return false;
    AllocatorOptions options;
    options.window = *window;
    return allocator_.Init(options).ok();
  }
  std::uint64_t Allocate(std::uint64_t pages, std::uint64_t limit_pfn) {
    const Result<Iova> first =
        allocator_.Allocate(pages, {.limit = LastByte(limit_pfn)});
    return first.ok() ? first->value() >> kTracePageShift : 0;
  }
  bool Free(std::uint64_t pfn, std::uint64_t pages) {
    return allocator_.Free(Iova(pfn << kTracePageShift), pages).ok();
  }
  std::uint64_t CachedRanges() { return allocator_.stats().cached; }
  bool CheckInvariants() { return allocator_.CheckInvariants(); }

 private:
  static Iova LastByte(std::uint64_t pfn) {
    return Iova((pfn << kTracePageShift) | (kTracePage - 1));
  }

  StandardAllocator allocator_;
};
static_assert(ReplayIovaAllocator<DmamapIova>);

#ifdef DMAMAP_PEER_LINUX
// Each lane is a CPU of its own to the kernel's code. What lies in magazines it
// does not count.
class LinuxReplayIova {
 public:
  bool Init(std::uint64_t) {
    auto made = peers::LinuxIova::Create({.first_page = 1, .threads = kCpus});
    if (!made.ok()) return false;
    iova_ = *std::move(made);
    return true;
  }
  std::uint64_t Allocate(std::uint64_t pages, std::uint64_t limit_pfn) {
    EnterCpu();
    return iova_->Allocate(pages, limit_pfn);
  }
  bool Free(std::uint64_t pfn, std::uint64_t pages) {
    EnterCpu();
    return iova_->Free(pfn, pages);
  }
  std::uint64_t CachedRanges() { return 0; }
  bool CheckInvariants() { return true; }

 private:
  static constexpr unsigned kCpus = 15;

  // A number for as long as the thread lives.
  struct Cpu {
    Cpu() : number(numbers.Take()) {
      dmamap_linux_enter_cpu(static_cast<unsigned>(number % kCpus));
    }
    ~Cpu() { numbers.Return(number); }
    std::size_t number;
    static inline SlotNumbers<> numbers;
  };
  static void EnterCpu() { static thread_local const Cpu cpu; }

  std::unique_ptr<peers::LinuxIova> iova_;
};
static_assert(ReplayIovaAllocator<LinuxReplayIova>);
#endif

Outcome ToOutcome(const IovaReplay& replay, const IovaTrace& trace) {
  Outcome outcome;
  outcome.cpu_ns = replay.timer.NsPerOpOfAll(IovaReplay::kKinds);
  outcome.Add("alloc_ns", replay.timer.NsPerOp(IovaReplay::kAllocate));
  outcome.Add("free_ns", replay.timer.NsPerOp(IovaReplay::kFree));
  outcome.Add("allocs", replay.timer.ops(IovaReplay::kAllocate));
  outcome.Add("peak_live", replay.peak_live);
  outcome.Add("regions_2mib", replay.regions);
  outcome.Add("recorded_regions", trace.recorded_regions);
  outcome.Add("cached", replay.cached);
  outcome.Add("failures", replay.failures);
  outcome.Add("handed_out_twice", replay.double_handouts);
  outcome.AddHidden("outside_limit", replay.outside);
  outcome.AddHidden("refused_frees", replay.refused_frees);
  outcome.AddHidden("excluded_share", replay.timer.excluded_share());
  if (!replay.sound) outcome.error = "the allocator's invariants do not hold";
  return outcome;
}

template <ReplayIovaAllocator A>
void AddRow(Report& report, const std::shared_ptr<const Trace>& trace,
            std::size_t events, const std::string& implementation) {
  const IovaTrace& content = std::get<IovaTrace>(trace->content);
  Row row;
  row.part = "iova";
  row.workload = "trace_" + trace->name;
  row.implementation = implementation;
  row.operation = "one alloc or free";
  row.run = [trace, events, &content] {
    return ToOutcome(ReplayIova<A>(content, events), content);
  };
  row.notes = {TraceNote(content.gaps, content.live_at_end)};
  if (implementation == "dmamap") {
    for (const char* figure :
         {"failures", "handed_out_twice", "outside_limit", "refused_frees"}) {
      report.Must(Zero(row.Name(), figure));
    }
  } else {
    row.notes.push_back(implementation + " does not count what it caches");
  }
  report.AddRow(std::move(row));
}

}  // namespace

void AddIovaRows(Report& report, std::shared_ptr<const Trace> trace,
                 std::size_t events) {
  AddRow<DmamapIova>(report, trace, events, "dmamap");
#ifdef DMAMAP_PEER_LINUX
  AddRow<LinuxReplayIova>(report, trace, events, "linux-6.12");
#endif
}

}  // namespace dmamap::bench
