// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/bounce_rows.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "benchmarks/peers/measure.h"
#include "bounce/huge_pages.h"
#include "bounce/memfd_pages.h"
#include "bounce/page_source.h"
#include "bounce/user_pages.h"
#include "dma/address.h"

namespace dmamap::bench {
namespace {

constexpr std::size_t kColdBytes = std::size_t{64} << 20;

void AddRow(Report& report, const std::string& workload,
            const std::string& implementation, const std::string& operation,
            const std::string& floor, std::function<Outcome()> run) {
  Row row;
  row.part = "bounce";
  row.workload = workload;
  row.implementation = implementation;
  row.operation = operation;
  row.run = std::move(run);
  row.floor = absl::StrCat("bounce/", workload, "/", floor);
  row.group = absl::StrCat("bounce/", workload);
  report.AddRow(std::move(row));
}

std::unique_ptr<std::byte, decltype(&std::free)> Aligned(std::size_t bytes) {
  auto* const memory =
      static_cast<std::byte*>(std::aligned_alloc(std::size_t{2} << 20, bytes));
  return {memory, &std::free};
}
// Nothing that was stored is left out.
void Use(const void* memory) { asm volatile("" : : "r"(memory) : "memory"); }

// --- Pages ---

struct PageWorkload {
  const char* name;
  PageSize page;
  std::size_t pages;  // taken, written, freed, in a round
};

// The memory itself: what writing a page costs.
class NoSource {
 public:
  Result<std::byte*> Allocate(PageSize page, std::uint64_t) {
    if (!memory_) memory_ = Aligned(kColdBytes);
    std::byte* const at = memory_.get() + next_;
    next_ = (next_ + page.bytes()) % kColdBytes;
    return at;
  }
  void Free(std::byte*, PageSize, std::uint64_t) { next_ = 0; }

 private:
  std::unique_ptr<std::byte, decltype(&std::free)> memory_{nullptr, &std::free};
  std::size_t next_ = 0;
};

template <class Source>
Outcome TakeWriteFree(Source& source, const PageWorkload& w) {
  Outcome outcome;
  std::uint64_t failures = 0;
  std::vector<std::byte*> taken(w.pages);
  std::vector<double> rounds;
  for (int round = 0; round < 12; ++round) {
    const std::uint64_t before = peers::ThreadCpuNs();
    for (std::byte*& memory : taken) {
      const Result<std::byte*> made = source.Allocate(w.page, 1);
      memory = made.value_or(nullptr);
      if (memory == nullptr) continue;
      std::memset(memory, round + 1, w.page.bytes());
      Use(memory);
    }
    for (std::byte* memory : taken) {
      if (memory == nullptr) {
        ++failures;
      } else {
        source.Free(memory, w.page, 1);
      }
    }
    rounds.push_back(static_cast<double>(peers::ThreadCpuNs() - before) /
                     static_cast<double>(w.pages));
  }
  outcome.cpu_ns = Median(std::move(rounds));
  outcome.AddHidden("failures", failures);
  return outcome;
}

template <class Source, class... Options>
Outcome RunPages(const PageWorkload& w, const Options&... options) {
  Source source;
  if constexpr (sizeof...(options) != 0) {
    if (!source.Init(options...).ok()) {
      Outcome outcome;
      outcome.error = "the pages are not to be had here";
      return outcome;
    }
  }
  return TakeWriteFree(source, w);
}

Outcome RunUserPages(const PageWorkload& w) {
  const auto memory = Aligned(kColdBytes);
  const std::array regions = {UserRegion{memory.get(), kColdBytes}};
  UserPages source;
  if (!source.Register({.regions = regions, .page = w.page}).ok()) {
    Outcome outcome;
    outcome.error = "the pages were not registered";
    return outcome;
  }
  return TakeWriteFree(source, w);
}

void AddPages(Report& report, const PageWorkload& w) {
  const auto add = [&](const char* who, std::function<Outcome()> run) {
    AddRow(report, w.name, who, "one page taken, written and freed",
           "floor-write", std::move(run));
    report.Must(Zero(absl::StrCat("bounce/", w.name, "/", who), "failures"));
  };
  add("floor-write", [w] { return RunPages<NoSource>(w); });
  add("heap", [w] { return RunPages<HeapPages>(w); });
  add("huge", [w] { return RunPages<HugePages>(w, HugePagesOptions()); });
  add("huge-keep0",
      [w] { return RunPages<HugePages>(w, HugePagesOptions{.keep = 0}); });
  add("memfd", [w] { return RunPages<MemfdPages>(w, MemfdPagesOptions()); });
  add("memfd-keep", [w] {
    return RunPages<MemfdPages>(w, MemfdPagesOptions{.keep = kColdBytes});
  });
  add("user", [w] { return RunUserPages(w); });
}

// --- Copies ---

struct CopyWorkload {
  std::size_t bytes;
  bool cold_source;
  bool cold_target;
  bool read;  // a CPU reads the target afterwards, as a device process does
  std::size_t copies;
};

void Memcpy(std::byte* to, const std::byte* from, std::size_t bytes) {
  std::memcpy(to, from, bytes);
}
#ifdef __SSE2__
// REQUIRES: `to` on 16 bytes, whole lines of 64.
void Streamed(std::byte* to, const std::byte* from, std::size_t bytes) {
  for (std::size_t at = 0; at < bytes; at += 64) {
    for (std::size_t i = 0; i < 64; i += 16) {
      _mm_stream_si128(
          reinterpret_cast<__m128i*>(to + at + i),
          _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + at + i)));
    }
  }
  _mm_sfence();
}
#endif

template <class Copy>
Outcome RunCopies(const CopyWorkload& w, Copy copy) {
  const auto from = Aligned(kColdBytes);
  const auto to = Aligned(kColdBytes);
  std::memset(from.get(), 1, kColdBytes);
  std::memset(to.get(), 2, kColdBytes);
  // Every cold copy goes to lines that nobody has touched for 64 MiB.
  const std::size_t step = w.bytes + 4096;
  const std::size_t places = kColdBytes / step;
  std::vector<double> rounds;
  std::uint64_t failures = 0;
  std::size_t place = 0;
  std::uint64_t sum = 0;
  for (int round = 0; round < 5; ++round) {
    const std::uint64_t before = peers::ThreadCpuNs();
    for (std::size_t i = 0; i < w.copies; ++i) {
      place = place + 1 < places ? place + 1 : 0;
      std::byte* const target = to.get() + (w.cold_target ? place * step : 0);
      copy(target, from.get() + (w.cold_source ? place * step : 0), w.bytes);
      Use(target);
      for (std::size_t at = 0; w.read && at < w.bytes; at += 64) {
        sum += static_cast<std::uint64_t>(target[at]);
      }
    }
    rounds.push_back(static_cast<double>(peers::ThreadCpuNs() - before) /
                     static_cast<double>(w.copies));
    const std::size_t last = w.cold_target ? place * step : 0;
    failures += to.get()[last + w.bytes - 1] == std::byte{1} ? 0 : 1;
  }
  Use(&sum);
  Outcome outcome;
  outcome.cpu_ns = Median(std::move(rounds));
  outcome.AddHidden("failures", failures);
  return outcome;
}

void AddCopies(Report& report, const char* where, const CopyWorkload& w) {
  const std::string name = absl::StrCat("copy_", where, "_", w.bytes, "B");
  const auto add = [&](const char* who, std::function<Outcome()> run) {
    AddRow(report, name, who, "one copy", "memcpy", std::move(run));
    report.Must(Zero(absl::StrCat("bounce/", name, "/", who), "failures"));
  };
  add("memcpy", [w] { return RunCopies(w, Memcpy); });
#ifdef __SSE2__
  add("streaming", [w] { return RunCopies(w, Streamed); });
#endif
}

}  // namespace

void AddBounceRows(Report& report, const BounceRowOptions& options) {
  const std::size_t share = options.quick ? 16 : 1;
  AddPages(report, {"pages_4KiB", *PageSize::FromShift(12), 1024 / share});
  AddPages(report, {"pages_64KiB", *PageSize::FromShift(16), 64 / share});
  AddPages(report, {"pages_2MiB", *PageSize::FromShift(21), 4});
  // Whole lines: 1,536 bytes for a frame's 1,500.
  for (const std::size_t bytes : {1536u, 4096u, 16384u, 65536u, 1u << 20}) {
    const std::size_t copies = (std::size_t{32} << 20) / share / bytes;
    AddCopies(report, "cached", {bytes, false, false, false, copies});
    AddCopies(report, "cold_source", {bytes, true, false, false, copies});
    AddCopies(report, "cold", {bytes, true, true, false, copies});
    AddCopies(report, "cold_read", {bytes, true, true, true, copies});
  }
}

}  // namespace dmamap::bench
