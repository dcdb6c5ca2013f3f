// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_COUNTERS_H_
#define DMAMAP_DOMAIN_COUNTERS_H_

// What a domain counts of its streaming mappings: a line of counters for each
// slot of a CpuLocal policy, written by its owner alone, so that counting is
// nobody else's business. One line more, under a lock, for callers without a
// slot. What a slot's owner keeps for his next mappings lies there too
// (parked_slots.h, parked_runs.h), so that he looks once for both. An inner
// header.
//
// Mappings may be ended by another thread than made them: a line's maps less
// its unmaps mean nothing alone, the sum of all lines is what is live. The most
// of it at a time is therefore sampled: whenever a line has gone up by a
// sixteenth since its last sample. A line's `room` is how far it may still go.

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
#include "domain/parked_runs.h"
#include "domain/parked_slots.h"

namespace dmamap::inline v0 {
namespace internal {

template <CpuLocal Cpu, Lock LockType,
          template <class> class Atom = std::atomic>
class DomainCounters {
 public:
  using Parked = ParkedSlots<Atom>;
  using Runs = ParkedRuns<Atom>;
  struct alignas(kCacheLine) Line {
    std::array<Counter<Atom>, 3> maps;  // by Direction
    Counter<Atom> room;  // `sampled` less live(): negative is a sample due
    Parked parked;       // its owner's alone
    Runs runs;           // likewise
    Counter<Atom> bytes_to_device;
    Counter<Atom> bytes_from_device;
    Counter<Atom> sampled;  // the high water was noted up to here
    Counter<Atom> faults;
    Counter<Atom> refused;

    std::uint64_t made() const {
      return maps[0].value() + maps[1].value() + maps[2].value();
    }
    // Maps less unmaps, modulo 2^64.
    std::uint64_t live() const { return sampled.value() - room.value(); }

    // Whether CountMap will say so.
    bool IsSampleDue() const {
      return static_cast<std::int64_t>(room.value()) <= 0;
    }
    // One more; whether it is time to note the high water.
    bool CountMap(Direction direction) {
      maps[static_cast<std::size_t>(direction)].Add();
      return static_cast<std::int64_t>(room.Add(~std::uint64_t{0})) < 0;
    }
    void CountUnmap(std::uint64_t bytes) {
      room.Add();
      if (bytes != 0) bytes_from_device.Add(bytes);
    }
    // REQUIRES: a sample is due.
    void Sample() {
      const std::uint64_t up = live() / 16 + (std::uint64_t{0} - room.value());
      sampled.Add(up);
      room.Add(up);
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

  // Holds the caller's line for a scope, in which nothing else is called.
  class Held {
   public:
    [[gnu::always_inline]] explicit Held(DomainCounters& of)
        : of_(of), slot_(of.cpu_), n_(slot_.guess()) {
      if (n_ >= of.cpu_.slots()) [[unlikely]]
        n_ = of.LockLine(n_);
    }
    [[gnu::always_inline]] ~Held() {
      if (n_ == of_.cpu_.slots()) [[unlikely]]
        of_.lock_.unlock();
    }
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;

    Line* operator->() const { return &of_.lines_[n_]; }
    // Whether it is the caller's own, and not that of all without a slot.
    bool own() const { return n_ != of_.cpu_.slots(); }

   private:
    DomainCounters& of_;
    const FastSlot<Cpu> slot_;
    std::size_t n_;
  };
  // The caller's own line, where that is known without a call and his for as
  // long as his call lasts. Else has_own is false, and Held finds one; always
  // without AllowOwnLines.
  struct Own {
    bool has_own;
    Line* line;
  };
  [[gnu::always_inline]] Own OwnLine() {
    if constexpr (PeekedCpuLocal<Cpu>) {
      const std::size_t n = cpu_.Current();
      return {n < own_lines_, lines_ + n};
    }
    return {false, nullptr};
  }
  // REQUIRES: Init; nobody else uses it yet.
  void AllowOwnLines() { own_lines_ = cpu_.slots(); }
  // f(Line&) on the caller's line. `f` calls nothing but counters.
  template <class F>
  void Count(F&& f) {
    const Held line(*this);
    f(*line.operator->());
  }

  void CountMap(Direction direction, std::uint64_t bytes_to_device) {
    bool due = false;
    {
      const Held line(*this);
      due = line->CountMap(direction);
      line->bytes_to_device.Add(bytes_to_device);
    }
    if (due) [[unlikely]]
      Sample();
  }
  void CountUnmap(std::uint64_t bytes_from_device) {
    Held(*this)->CountUnmap(bytes_from_device);
  }
  // A mapping that was counted and did not come to be.
  void UncountMap(Direction direction) {
    const Held line(*this);
    line->maps[static_cast<std::size_t>(direction)].Add(~std::uint64_t{0});
    line->room.Add();
  }
  // What is due when Line::CountMap says so, once the mapping is made.
  [[gnu::noinline, gnu::cold]] void Sample() {
    {
      const Held line(*this);
      // Not negative: the caller has moved to another line.
      if (static_cast<std::int64_t>(line->room.value()) < 0) line->Sample();
    }
    NoteHighWater(live());
  }

  // Makes room for what the caller parks, slots or runs. False: there is some,
  // or no memory; or he has no slot, and so nothing of his own.
  bool ReserveParked(bool runs) {
    const Held line(*this);
    if (!line.own()) return false;
    return runs ? line->runs.Reserve() : line->parked.Reserve();
  }
  // The line of slot n. REQUIRES: Init; n < slots(); nobody else uses it.
  Line& LineOf(std::size_t n) { return lines_[n]; }
  Cpu& cpu() { return cpu_; }
  // f(Line&) for each, those of others too.
  template <class F>
  void ForEachLine(F&& f) const {
    ForEach(f);
  }

  // Mappings made and not ended: exact when nobody makes or ends one.
  std::uint64_t live() const {
    std::uint64_t sum = 0;
    ForEach([&](const Line& line) { sum += line.live(); });
    return sum;
  }

  // Adds all lines up. `stats.live` is as live().
  void AddTo(DomainStats& stats) const {
    ForEach([&](const Line& line) {
      for (std::size_t d = 0; d < line.maps.size(); ++d) {
        stats.maps_by_direction[d] += line.maps[d].value();
      }
      stats.maps += line.made();
      stats.live += line.live();
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
  std::size_t own_lines_ = 0;  // how many OwnLine may find
  LockType lock_;
  Atom<std::uint64_t> high_water_{0};
};

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_COUNTERS_H_
