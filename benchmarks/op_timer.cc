// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/op_timer.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <vector>

#if defined(__x86_64__)
#include <cpuid.h>
#include <x86intrin.h>
#endif

namespace dmamap::bench {
namespace {

using SteadyClock = std::chrono::steady_clock;

std::uint64_t SteadyNs() {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(
          SteadyClock::now().time_since_epoch())
          .count());
}

#if defined(__x86_64__)
// CPUID 80000007h, EDX bit 8: the counter runs at a constant rate in all power
// states (Intel SDM volume 3, 18.17.1).
bool CounterIsInvariant() {
  static const bool invariant = [] {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid(0x80000007, &a, &b, &c, &d) != 0 && (d >> 8 & 1) != 0;
  }();
  return invariant;
}
#endif

double MeasureNsPerTick() {
  constexpr std::uint64_t kNs = 20'000'000;
  const std::uint64_t ns = SteadyNs();
  const std::uint64_t ticks = TickClock::Start();
  while (SteadyNs() - ns < kNs) {
  }
  const std::uint64_t ticks_end = TickClock::Stop();
  return static_cast<double>(SteadyNs() - ns) /
         static_cast<double>(ticks_end - ticks);
}

std::uint64_t MeasureOverhead() {
  std::vector<std::uint64_t> samples(10'001);
  for (std::uint64_t& sample : samples) {
    const std::uint64_t start = TickClock::Start();
    sample = TickClock::Stop() - start;
  }
  const auto middle =
      samples.begin() + static_cast<std::ptrdiff_t>(samples.size() / 2);
  std::nth_element(samples.begin(), middle, samples.end());
  return *middle;
}

}  // namespace

#if defined(__x86_64__)

// LFENCE waits until all earlier instructions are done and lets no later one
// begin; RDTSCP waits for the earlier ones on its own.
std::uint64_t TickClock::Start() {
  if (!CounterIsInvariant()) return SteadyNs();
  _mm_lfence();
  const std::uint64_t ticks = __rdtsc();
  _mm_lfence();
  return ticks;
}
std::uint64_t TickClock::Stop() {
  if (!CounterIsInvariant()) return SteadyNs();
  unsigned cpu = 0;
  const std::uint64_t ticks = __rdtscp(&cpu);
  _mm_lfence();
  return ticks;
}
const char* TickClock::Name() {
  return CounterIsInvariant() ? "time-stamp counter" : "steady clock";
}

#else

std::uint64_t TickClock::Start() { return SteadyNs(); }
std::uint64_t TickClock::Stop() { return SteadyNs(); }
const char* TickClock::Name() { return "steady clock"; }

#endif

double TickClock::NsPerTick() {
  static const double ns_per_tick = MeasureNsPerTick();
  return ns_per_tick;
}

std::uint64_t TickClock::Overhead() {
  static const std::uint64_t overhead = MeasureOverhead();
  return overhead;
}

std::uint64_t OpTimer::ContextSwitches() {
#if defined(RUSAGE_THREAD)
  rusage usage = {};
  if (getrusage(RUSAGE_THREAD, &usage) != 0) return 0;
  return static_cast<std::uint64_t>(usage.ru_nvcsw) +
         static_cast<std::uint64_t>(usage.ru_nivcsw);
#else
  return 0;
#endif
}

void OpTimer::Sum(bool excluded) {
  PerKind& sums = excluded ? excluded_ : counted_;
  for (std::size_t kind = 0; kind < kMaxKinds; ++kind) {
    sums[kind].ticks += chunk_[kind].ticks;
    sums[kind].ops += chunk_[kind].ops;
  }
}

OpTimer::Sums OpTimer::Reported(std::size_t kind) const {
  return counted_[kind].ops != 0 ? counted_[kind] : excluded_[kind];
}

double OpTimer::NsPerOp(std::size_t kind) const {
  const Sums sums = Reported(kind);
  if (sums.ops == 0) return 0;
  return static_cast<double>(sums.ticks) * TickClock::NsPerTick() /
         static_cast<double>(sums.ops);
}

double OpTimer::NsPerOpOfAll(std::size_t kinds) const {
  double ns = 0;
  double count = 0;
  for (std::size_t kind = 0; kind < kinds; ++kind) {
    const auto n = static_cast<double>(ops(kind));
    ns += NsPerOp(kind) * n;
    count += n;
  }
  return count == 0 ? 0 : ns / count;
}

std::uint64_t OpTimer::OpsOfAll(std::size_t kinds) const {
  std::uint64_t all = 0;
  for (std::size_t kind = 0; kind < kinds; ++kind) all += ops(kind);
  return all;
}

double OpTimer::excluded_share() const {
  std::uint64_t all = 0;
  std::uint64_t out = 0;
  for (std::size_t kind = 0; kind < kMaxKinds; ++kind) {
    out += excluded_[kind].ops;
    all += excluded_[kind].ops + counted_[kind].ops;
  }
  return all == 0 ? 0 : static_cast<double>(out) / static_cast<double>(all);
}

}  // namespace dmamap::bench
