// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_PARKED_RUNS_H_
#define DMAMAP_DOMAIN_PARKED_RUNS_H_

// ParkedRuns: what ParkedSlots are (parked_slots.h), for mappings of several
// slots. An inner header.
//
// A run is kept by its length, and the next mapping of that length has it: the
// slots behind the first go on naming it, since nobody else can have begun a
// mapping there. Lengths are kept apart, so that a mapping waits for an index
// and not for a search. All runs together have no more slots than the caller
// allows; when lengths that are not asked for any more fill that, they are all
// to be given up.
//
// Each belongs to the owner of a line of DomainCounters, alone.

#include <array>
#include <cstddef>
#include <cstdint>
#include <new>

#include "dma/assert.h"
#include "dma/version.h"
#include "domain/parked_slots.h"

namespace dmamap::inline v0 {
namespace internal {

template <template <class> class Atom>
class ParkedRuns {
 public:
  using Entry = typename ParkedSlots<Atom>::Entry;
  static constexpr std::uint64_t kShortest = 2;
  // 64 KiB of 4 KiB, wherever they begin.
  static constexpr std::uint64_t kLongest = 17;
  static constexpr std::uint32_t kMost = 16;  // of a length

  ParkedRuns() = default;
  ParkedRuns(const ParkedRuns&) = delete;
  ParkedRuns& operator=(const ParkedRuns&) = delete;
  ~ParkedRuns() { delete bins_; }

  static bool IsKept(std::uint64_t slots) {
    return slots - kShortest <= kLongest - kShortest;
  }
  // Makes room; until then there is none. Fails for want of memory, and the
  // second time.
  bool Reserve() {
    if (bins_ != nullptr) return false;
    bins_ = new (std::nothrow) Bins();
    return bins_ != nullptr;
  }

  // Whether one of `slots` slots fits, if all together have `most` at most.
  bool HasRoom(std::uint64_t slots, std::uint64_t most) const {
    return bins_ != nullptr && IsKept(slots) && bins_->slots + slots <= most &&
           bins_->bin[slots - kShortest].count != kMost;
  }
  // Whether one does not, though of its length there are few.
  bool IsCrowded(std::uint64_t slots, std::uint64_t most) const {
    return bins_ != nullptr && IsKept(slots) && bins_->slots + slots > most;
  }
  // REQUIRES: HasRoom for it.
  void Put(const Entry& entry, std::uint64_t slots) {
    Bin& bin = bins_->bin[slots - kShortest];
    DMAMAP_ASSERT(bin.count != kMost);
    bin.entry[bin.count++] = entry;
    bins_->slots += slots;
  }
  // The one of that length that was put last, or none.
  Entry Take(std::uint64_t slots) {
    if (bins_ == nullptr || !IsKept(slots)) return {};
    Bin& bin = bins_->bin[slots - kShortest];
    if (bin.count == 0) return {};
    bins_->slots -= slots;
    return bin.entry[--bin.count];
  }
  // Of any length, which becomes *slots.
  Entry TakeAny(std::uint64_t* slots) {
    for (*slots = kShortest; *slots <= kLongest; ++*slots) {
      const Entry taken = Take(*slots);
      if (taken.slot != nullptr) return taken;
    }
    return {};
  }

  // f(const Entry&, its slots) for each. REQUIRES: nobody else uses it.
  template <class F>
  void ForEach(F&& f) const {
    if (bins_ == nullptr) return;
    for (std::uint64_t slots = kShortest; slots <= kLongest; ++slots) {
      const Bin& bin = bins_->bin[slots - kShortest];
      for (std::uint32_t i = 0; i < bin.count; ++i) f(bin.entry[i], slots);
    }
  }
  // All that it holds. REQUIRES: likewise.
  std::uint64_t slots() const { return bins_ == nullptr ? 0 : bins_->slots; }

 private:
  struct Bin {
    std::uint32_t count = 0;
    std::array<Entry, kMost> entry;
  };
  struct Bins {
    std::uint64_t slots = 0;  // of all
    std::array<Bin, kLongest - kShortest + 1> bin;
  };
  Bins* bins_ = nullptr;
};

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_PARKED_RUNS_H_
