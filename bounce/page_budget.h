// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BOUNCE_PAGE_BUDGET_H_
#define DMAMAP_BOUNCE_PAGE_BUDGET_H_

// PageBudget: how many bytes of a PageSource may be out at a time, and what it
// has been asked for. Every PageSource of this folder has one.
//
// A refusal for the budget is kOverBudget and is counted apart from one for
// want of memory, so that whoever sees the error can tell which bound to raise.
//
// Thread-safe. Progress: lock-free.

#include <atomic>
#include <cstdint>
#include <limits>

#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

// What every PageSource answers when its budget is spent.
inline constexpr Error kOverBudget = Error::kBudget;

struct PageSourceStats {
  std::uint64_t budget = 0;      // bytes that may be out
  std::uint64_t in_use = 0;      // bytes out now
  std::uint64_t high_water = 0;  // most bytes that were out at a time
  std::uint64_t pages_out = 0;   // pages out now, of whatever sizes
  // Freed bytes that the source keeps, to be zeroed when they go out again.
  std::uint64_t kept = 0;
  std::uint64_t refused_by_budget = 0;  // calls
  std::uint64_t refused_by_memory = 0;  // calls: the system or pool had none
  std::uint64_t bad_frees = 0;  // calls: not out, foreign, or another size
};

template <template <class> class Atom = std::atomic>
class BasicPageBudget {
 public:
  static constexpr std::uint64_t kNoBudget =
      std::numeric_limits<std::uint64_t>::max();

  explicit BasicPageBudget(std::uint64_t bytes = kNoBudget) : budget_(bytes) {}
  BasicPageBudget(const BasicPageBudget&) = delete;
  BasicPageBudget& operator=(const BasicPageBudget&) = delete;

  // relaxed throughout: these are counters; what they count is handed from
  // thread to thread by the source, and nothing is read because of them.

  // A budget below what is out already refuses everything until enough has
  // come back.
  void set(std::uint64_t bytes) {
    budget_.store(bytes, std::memory_order_relaxed);
  }

  // `bytes` more are out, in `pages` pages; kOverBudget, and nothing is taken.
  // Then Commit, or Refuse when there turns out to be no memory for them.
  Result<void> Take(std::uint64_t bytes, std::uint64_t pages) {
    const std::uint64_t budget = budget_.load(std::memory_order_relaxed);
    std::uint64_t now = in_use();
    do {
      if (now > budget || bytes > budget - now) {
        refused_by_budget_.fetch_add(1, std::memory_order_relaxed);
        return kOverBudget;
      }
    } while (!in_use_.compare_exchange_weak(now, now + bytes,
                                            std::memory_order_relaxed));
    pages_out_.fetch_add(pages, std::memory_order_relaxed);
    return Ok();
  }
  void Commit() {
    const std::uint64_t now = in_use();
    std::uint64_t high = high_water();
    while (now > high && !high_water_.compare_exchange_weak(
                             high, now, std::memory_order_relaxed)) {
    }
  }

  // REQUIRES: Take(bytes, pages) succeeded, once for each Give.
  void Give(std::uint64_t bytes, std::uint64_t pages) {
    in_use_.fetch_sub(bytes, std::memory_order_relaxed);
    pages_out_.fetch_sub(pages, std::memory_order_relaxed);
  }
  // The same, for what was taken and could not be had.
  void Refuse(std::uint64_t bytes, std::uint64_t pages) {
    Give(bytes, pages);
    refused_by_memory_.fetch_add(1, std::memory_order_relaxed);
  }
  void NoteBadFree() { bad_frees_.fetch_add(1, std::memory_order_relaxed); }

  std::uint64_t in_use() const {
    return in_use_.load(std::memory_order_relaxed);
  }
  std::uint64_t high_water() const {
    return high_water_.load(std::memory_order_relaxed);
  }
  // `kept` is the source's to fill in. Each number is right by itself; while
  // others allocate they need not fit together.
  PageSourceStats stats() const {
    PageSourceStats s;
    s.budget = budget_.load(std::memory_order_relaxed);
    s.in_use = in_use();
    s.high_water = high_water();
    s.pages_out = pages_out_.load(std::memory_order_relaxed);
    s.refused_by_budget = refused_by_budget_.load(std::memory_order_relaxed);
    s.refused_by_memory = refused_by_memory_.load(std::memory_order_relaxed);
    s.bad_frees = bad_frees_.load(std::memory_order_relaxed);
    return s;
  }

  // REQUIRES: nobody else uses the object.
  bool CheckInvariants() const {
    const PageSourceStats s = stats();
    return s.in_use <= s.high_water && s.pages_out <= s.in_use &&
           (s.pages_out != 0) == (s.in_use != 0);
  }

 private:
  Atom<std::uint64_t> budget_;
  Atom<std::uint64_t> in_use_{0};
  Atom<std::uint64_t> high_water_{0};
  Atom<std::uint64_t> pages_out_{0};
  Atom<std::uint64_t> refused_by_budget_{0};
  Atom<std::uint64_t> refused_by_memory_{0};
  Atom<std::uint64_t> bad_frees_{0};
};
using PageBudget = BasicPageBudget<>;

}  // namespace dmamap::inline v0

#endif  // DMAMAP_BOUNCE_PAGE_BUDGET_H_
