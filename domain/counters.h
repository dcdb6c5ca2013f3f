// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_COUNTERS_H_
#define DMAMAP_DOMAIN_COUNTERS_H_

// What a domain counts of its streaming mappings: a line of counters for each
// slot of a CpuLocal policy, written by its owner alone, so that counting is
// nobody else's business. One line more, under a lock, for callers without a
// slot. An inner header.
//
// Mappings may be ended by another thread than made them: a line's maps less
// its unmaps mean nothing alone, the sum of all lines is what is live. The most
// of it at a time is therefore sampled: whenever a line has gone up by a
// sixteenth since its last sample.

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>

#include "dma/counter.h"
#include "dma/cpu.h"
#include "dma/direction.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "domain/options.h"

namespace dmamap::inline v0 {
namespace internal {

template <CpuLocal Cpu, Lock LockType,
          template <class> class Atom = std::atomic>
class DomainCounters {
 public:
  struct alignas(kCacheLine) Line {
    std::array<Counter<Atom>, 3> maps;  // by Direction
    Counter<Atom> live;                 // maps less unmaps, modulo 2^64
    Counter<Atom> bytes_to_device;
    Counter<Atom> bytes_from_device;
    Counter<Atom> faults;
    Counter<Atom> refused;
    Counter<Atom> next_sample;  // of the high water, when `live` is above

    std::uint64_t made() const {
      return maps[0].value() + maps[1].value() + maps[2].value();
    }
  };

  DomainCounters() = default;
  DomainCounters(const DomainCounters&) = delete;
  DomainCounters& operator=(const DomainCounters&) = delete;
  ~DomainCounters() { delete[] lines_; }

  // kNoMemory. Again after an error of somebody else: nothing.
  Result<void> Init() {
    if (lines_ != nullptr) return Ok();
    lines_ = new (std::nothrow) Line[cpu_.slots() + 1]();
    return lines_ != nullptr ? Ok() : Result<void>(Error::kNoMemory);
  }

  // f(Line&) on the caller's line. `f` calls nothing but counters.
  template <class F>
  void Count(F&& f) {
    const FastSlot<Cpu> slot(cpu_);
    std::size_t n = slot.guess();
    if (n >= cpu_.slots()) [[unlikely]]
      n = LockLine(slot.guess());
    f(lines_[n]);
    if (n == cpu_.slots()) [[unlikely]]
      lock_.unlock();
  }

  void CountMap(Direction direction, std::uint64_t bytes_to_device) {
    bool sample = false;
    Count([&](Line& line) {
      line.maps[static_cast<std::size_t>(direction)].Add();
      line.bytes_to_device.Add(bytes_to_device);
      line.live.Add();
      const auto now = static_cast<std::int64_t>(line.live.value());
      const auto next = static_cast<std::int64_t>(line.next_sample.value());
      if (now <= next) [[likely]]
        return;
      line.next_sample.Add(static_cast<std::uint64_t>(now + now / 16 - next));
      sample = true;
    });
    if (sample) [[unlikely]]
      NoteHighWater(live());
  }
  void CountUnmap(std::uint64_t bytes_from_device) {
    Count([&](Line& line) {
      line.live.Add(~std::uint64_t{0});
      line.bytes_from_device.Add(bytes_from_device);
    });
  }

  // Mappings made and not ended: exact when nobody makes or ends one.
  std::uint64_t live() const {
    std::uint64_t sum = 0;
    ForEach([&](const Line& line) { sum += line.live.value(); });
    return sum;
  }

  // Adds all lines up. `stats.live` is as live().
  void AddTo(DomainStats& stats) const {
    ForEach([&](const Line& line) {
      for (std::size_t d = 0; d < line.maps.size(); ++d) {
        stats.maps_by_direction[d] += line.maps[d].value();
      }
      stats.maps += line.made();
      stats.live += line.live.value();
      stats.bytes_to_device += line.bytes_to_device.value();
      stats.bytes_from_device += line.bytes_from_device.value();
      stats.faults += line.faults.value();
      stats.refused += line.refused.value();
    });
    stats.unmaps = stats.maps - stats.live;
    // relaxed: a statistic.
    stats.high_water =
        std::max(stats.live, high_water_.load(std::memory_order_relaxed));
  }

 private:
  // The caller's line or, locked, the one of those without a slot.
  [[gnu::noinline]] std::size_t LockLine(std::size_t guess) {
    const std::size_t n = FastSlot<Cpu>::Settle(cpu_, guess);
    if (n < cpu_.slots()) return n;
    lock_.lock();
    return cpu_.slots();
  }

  template <class F>
  void ForEach(F&& f) const {
    if (lines_ == nullptr) return;
    for (std::size_t i = 0; i <= cpu_.slots(); ++i) f(lines_[i]);
  }
  void NoteHighWater(std::uint64_t now) {
    // relaxed throughout: a statistic.
    std::uint64_t high = high_water_.load(std::memory_order_relaxed);
    while (now > high && !high_water_.compare_exchange_weak(
                             high, now, std::memory_order_relaxed,
                             std::memory_order_relaxed)) {
    }
  }

  Cpu cpu_;
  Line* lines_ = nullptr;
  LockType lock_;
  Atom<std::uint64_t> high_water_{0};
};

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_COUNTERS_H_
