// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_MAP_COST_H_
#define DMAMAP_DOMAIN_MAP_COST_H_

// MapCost: up to which size it is cheaper to copy a buffer than to map it, by
// what both cost of late. An inner header; AutomaticOptions says what it is
// told.
//
// Four averages, each a sixteenth of what came last: of the calls that make and
// end a mapping in the tables, with the invalidations that they had to wait
// for; and of those that copy, for 1 KiB, of sizes near the limit and above,
// where it matters. The limit is where the two lines meet:
//
//   limit = (map + unmap) / (copy of a byte at map + at unmap)
//
// It moves when it is off by more than the hysteresis, so that sizes near it do
// not change their mode with each sample. A sample counts for 64 times its
// average at most: a thread may have lost its CPU within.
//
// Any thread, wait-free. Samples that two threads take at the same instant may
// cost one of them its effect.

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "dma/version.h"
#include "domain/mode.h"

namespace dmamap::inline v0 {
namespace internal {

template <template <class> class Atom = std::atomic>
class MapCost {
 public:
  enum Step : std::size_t { kMap, kUnmap, kCopyAtMap, kCopyAtUnmap };

  void Init(const AutomaticOptions& options) {
    options_ = options;
    const std::uint64_t map = std::min(options.map_ns, kMostNs) * kUnit;
    const std::uint64_t copy =
        std::min(options.copy_ns_per_kib, kMostNs) * kUnit;
    Set(kMap, map / 2);
    Set(kUnmap, map / 2);
    Set(kCopyAtMap, copy / 2);
    Set(kCopyAtUnmap, copy / 2);
    limit_.store(Meet(), std::memory_order_relaxed);  // nobody else is there
  }

  // Whether a mapping of `size` bytes, its thread's `turn`th, is to be copied.
  bool Copies(std::uint64_t size, std::uint64_t turn) const {
    if (size <= options_.always_copy) return true;
    if (size > options_.never_copy) return false;
    const std::uint64_t limit = this->limit();
    const bool copies = size <= limit;
    const bool near = size / 4 <= limit && size >= limit / 4;
    const std::uint64_t probe = options_.probe_interval;
    return copies != (near && probe != 0 && turn % probe == 0);
  }
  // Two turns, so that a mapping that is ended at once, in the next turn, is
  // measured on both sides; and the probes are, if their interval allows.
  bool Samples(std::uint64_t turn) const {
    return options_.clock != nullptr && turn % kSampled < 2;
  }
  std::uint64_t Now() const { return options_.clock(options_.clock_context); }

  // `ns` of a call for `size` bytes.
  void AddMapped(Step step, std::uint64_t ns) {
    Fold(step, ns * kUnit);
    Settle();
  }
  void AddCopied(Step step, std::uint64_t size, std::uint64_t ns) {
    if (size < std::max<std::uint64_t>(limit() / 4, kLeast)) return;
    Fold(step, ns * kUnit * 1024 / size);
    Settle();
  }

  // Bytes; what is as long is copied.
  std::uint64_t limit() const {
    return limit_.load(std::memory_order_relaxed);  // an estimate
  }
  std::uint64_t moves() const { return moves_.load(std::memory_order_relaxed); }

 private:
  static constexpr std::uint64_t kUnit = 16;     // of a ns
  static constexpr std::uint64_t kSampled = 32;  // two in so many
  static constexpr std::uint64_t kLeast = 256;   // bytes
  // What is believed to take longer takes as long: Meet must not wrap.
  static constexpr std::uint64_t kMostNs = std::uint64_t{1} << 40;

  // relaxed throughout: estimates, which order nothing.
  std::uint64_t Get(Step step) const {
    return cost_[step].load(std::memory_order_relaxed);
  }
  void Set(Step step, std::uint64_t value) {
    cost_[step].store(value, std::memory_order_relaxed);
  }
  void Fold(Step step, std::uint64_t sample) {
    const std::uint64_t old = Get(step);
    const std::uint64_t most = std::max<std::uint64_t>(64 * old, 64 * kUnit);
    sample = std::min(sample, most);
    Set(step, old - old / 16 + sample / 16);
  }
  std::uint64_t Meet() const {
    const std::uint64_t copy =
        std::max<std::uint64_t>(Get(kCopyAtMap) + Get(kCopyAtUnmap), 1);
    const std::uint64_t meet = (Get(kMap) + Get(kUnmap)) * 1024 / copy;
    return std::min(meet, options_.never_copy);
  }
  void Settle() {
    const std::uint64_t now = Meet();
    const std::uint64_t was = limit();
    const std::uint64_t off = now > was ? now - was : was - now;
    if (off * 100 <= was * options_.hysteresis_percent) return;
    limit_.store(now, std::memory_order_relaxed);
    moves_.fetch_add(1, std::memory_order_relaxed);
  }

  AutomaticOptions options_;
  std::array<Atom<std::uint64_t>, 4> cost_ = {};
  Atom<std::uint64_t> limit_{0};
  Atom<std::uint64_t> moves_{0};
};

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_MAP_COST_H_
