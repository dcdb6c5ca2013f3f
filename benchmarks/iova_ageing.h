// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_IOVA_AGEING_H_
#define DMAMAP_BENCHMARKS_IOVA_AGEING_H_

// What age does to an allocator: thread A allocates, thread B frees through a
// flush queue, in random order, for as long as one likes; 65,536 pages are live
// all the time. (Linux's allocator slowed down to a third over such a day and
// doubled the addresses in its caches.)
//
//   IovaAgeing ageing;
//   if (!ageing.Start()) ...
//   for (...) IovaAgeing::Segment s = ageing.Run(rounds);
//   std::uint64_t odd = ageing.Finish();
//
// A round: A allocates a batch of pages while B takes the batch of the round
// before, exchanges each page for a random one of the pool, and frees those.
// Only the calls are timed, in CPU time of both threads.

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "benchmarks/dmamap_iova.h"
#include "benchmarks/peers/measure.h"
#include "dma/invalidate.h"
#include "iova/flush_queue.h"
#include "iova/standard.h"

namespace dmamap::bench {

class IovaAgeing {
 public:
  static constexpr std::size_t kBatch = 4096;
  static constexpr std::size_t kPool = 65'536;
  static constexpr std::uint64_t kOpsOfRound = 2 * kBatch;
  // Addresses that may be cached: two magazines of each of two threads, and
  // what the depot may hold, of the one size that is in use.
  static constexpr std::uint64_t kCachedBound =
      (2 * 2 + std::uint64_t{AllocatorOptions().depot_limit}) *
      AllocatorPolicy::kMagazineEntries;

  struct Segment {
    double ns_per_op = 0;      // one allocation or free
    std::uint64_t cached = 0;  // addresses, at its end
  };

  IovaAgeing() : team_(2), pool_(kPool) {
    for (auto& batch : batch_) batch.resize(kBatch);
  }

  // Fills the pool. False when something was refused.
  bool Start() {
    if (!StartAllocator(iova_, 1, peers::kLastPage48).ok()) return false;
    if (!queue_.Init({.clock_interval = 16}).ok()) return false;
    team_.Run([this](unsigned t) {
      if (t != 0) return;
      for (Iova& page : pool_) page = Take();
      for (Iova& page : batch_[1]) page = Take();
    });
    return failures_[0] == 0;
  }

  Segment Run(std::uint64_t rounds) {
    std::array<std::uint64_t, 2> ns{};
    team_.Run([&](unsigned t) {
      for (std::uint64_t r = 0; r < rounds; ++r) {
        const std::size_t now = (round_ + r) % 2;
        ns[t] += t == 0 ? AllocateAll(batch_[now]) : FreeAll(batch_[1 - now]);
        team_.Barrier();
      }
    });
    round_ += rounds;
    return {static_cast<double>(ns[0] + ns[1]) /
                static_cast<double>(rounds * kOpsOfRound),
            iova_.stats().cached};
  }

  // Frees everything. How much went wrong since Start: refused calls, pages
  // that are live still, invariants that do not hold.
  std::uint64_t Finish() {
    team_.Run([this](unsigned t) {
      if (t != 1) return;
      for (const Iova page : pool_) Give(page);
      for (const Iova page : batch_[(round_ + 1) % 2]) Give(page);
      if (!queue_.Drain().ok()) ++failures_[1];
    });
    const bool sound = queue_.CheckInvariants() && iova_.CheckInvariants();
    return failures_[0] + failures_[1] + iova_.stats().live +
           queue_.stats().disowned + (sound ? 0 : 1);
  }

 private:
  Iova Take() {
    const Result<Iova> page = iova_.Allocate(1);
    if (page.ok()) return *page;
    ++failures_[0];
    return Iova(0);
  }
  void Give(Iova page) {
    if (!queue_.Free(page, 1).ok()) ++failures_[1];
  }

  // CPU time of the calls, ns.
  std::uint64_t AllocateAll(std::vector<Iova>& batch) {
    const std::uint64_t before = peers::ThreadCpuNs();
    for (Iova& page : batch) page = Take();
    return peers::ThreadCpuNs() - before;
  }
  std::uint64_t FreeAll(std::vector<Iova>& batch) {
    for (Iova& page : batch) std::swap(page, pool_[random_.Below(kPool)]);
    const std::uint64_t before = peers::ThreadCpuNs();
    for (const Iova page : batch) Give(page);
    return peers::ThreadCpuNs() - before;
  }

  // Destroyed last: the threads that exit with the team tell both.
  StandardAllocator iova_;
  NoInvalidation invalidation_;
  FlushQueue<StandardAllocator, NoInvalidation> queue_{iova_, invalidation_};
  peers::ThreadTeam team_;

  std::vector<Iova> pool_;                   // B's
  std::array<std::vector<Iova>, 2> batch_;   // A's and B's, in turn
  std::array<std::uint64_t, 2> failures_{};  // by thread
  std::uint64_t round_ = 0;
  peers::Random random_{3};
};

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_IOVA_AGEING_H_
