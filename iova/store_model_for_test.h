// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_STORE_MODEL_FOR_TEST_H_
#define DMAMAP_IOVA_STORE_MODEL_FOR_TEST_H_

// The naive model of a RangeStore: one flag a page, and the exact rule of when
// a buddy store may refuse. Drives any RangeStore and says where it differs.

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "iova/range_store.h"

namespace dmamap::inline v0 {

struct StoreStep {
  bool allocate = true;
  std::uint64_t count = 1;   // pages
  unsigned align_order = 0;  //
  bool limited = false;      //
  std::uint64_t limit = 0;   // pages above the window's first
  std::uint64_t pick = 0;    // which live range a free takes
};

struct StoreWindow {
  std::uint64_t first = 0;
  std::uint64_t pages = 1;
  // Pages from the first that are never free, as reserved ones are.
  std::vector<std::uint64_t> holes;
};

// For RapidCheck's counterexamples.
inline std::ostream& operator<<(std::ostream& out, const StoreStep& s) {
  if (!s.allocate) return out << "{free, pick " << s.pick << "}";
  out << "{allocate " << s.count << ", align " << s.align_order;
  if (s.limited) out << ", limit " << s.limit;
  return out << "}";
}
inline std::ostream& operator<<(std::ostream& out, const StoreWindow& w) {
  out << "{first " << w.first << ", pages " << w.pages << ", holes";
  for (std::uint64_t hole : w.holes) out << " " << hole;
  return out << "}";
}

// The free pages of a window, one flag each.
class PageMap {
 public:
  explicit PageMap(const StoreWindow& window)
      : first_(window.first), free_(window.pages, true) {
    for (std::uint64_t hole : window.holes) free_[hole % window.pages] = false;
  }
  std::uint64_t first() const { return first_; }
  std::uint64_t last() const { return first_ + free_.size() - 1; }
  bool IsFree(std::uint64_t first, std::uint64_t count) const {
    if (first < first_ || first - first_ > free_.size() ||
        count > free_.size() - (first - first_)) {
      return false;
    }
    const auto from = free_.begin() + static_cast<long>(first - first_);
    return std::all_of(from, from + static_cast<long>(count),
                       [](bool b) { return b; });
  }
  void Set(std::uint64_t first, std::uint64_t count, bool free) {
    for (std::uint64_t i = 0; i < count; ++i) free_[first - first_ + i] = free;
  }
  std::uint64_t free_pages() const {
    return static_cast<std::uint64_t>(
        std::count(free_.begin(), free_.end(), true));
  }
  // The documented rule: an aligned free block of 2^max(align, ceil(log2
  // count)) pages, the first `count` of which are at most `last`.
  bool Fits(const PageRequest& request) const {
    std::uint64_t block = std::uint64_t{1} << request.align_order;
    while (block < request.count) block *= 2;
    std::uint64_t at = (first_ + block - 1) / block * block;
    for (; at <= this->last(); at += block) {
      if (at + request.count - 1 > request.last) return false;
      if (IsFree(at, block)) return true;
    }
    return false;
  }

 private:
  std::uint64_t first_;
  std::vector<bool> free_;
};

// Runs the steps on a fresh Store; "" or what it did wrong first.
template <RangeStore Store>
std::string RunStoreModel(const StoreWindow& window,
                          const std::vector<StoreStep>& steps) {
  Store store;
  PageMap model(window);
  if (!store.Init(model.first(), model.last()).ok()) return "Init failed";
  for (std::uint64_t p = model.first(); p <= model.last(); ++p) {
    std::uint64_t end = p;
    while (end <= model.last() && model.IsFree(end, 1)) ++end;
    if (end == p) continue;
    if (!store.Insert(p, end - 1).ok()) return "Insert failed";
    p = end;
  }
  std::map<std::uint64_t, std::uint64_t> live;
  const std::uint64_t all = model.free_pages();
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const StoreStep& step = steps[i];
    const std::string at = " at step " + std::to_string(i);
    if (step.allocate) {
      PageRequest request{.count = step.count, .align_order = step.align_order};
      if (step.limited) {
        request.last = model.first() + step.limit % window.pages;
      }
      const bool fits = model.Fits(request);
      const Result<std::uint64_t> got = store.Allocate(request);
      if (got.ok() != fits) return fits ? "refused" + at : "impossible" + at;
      if (!got.ok()) {
        if (got.error() != Error::kNoSpace) return "wrong refusal" + at;
        continue;
      }
      if (!model.IsFree(*got, step.count)) return "not free" + at;
      if (*got + step.count - 1 > request.last) return "over the limit" + at;
      if ((*got & ((std::uint64_t{1} << step.align_order) - 1)) != 0) {
        return "misaligned" + at;
      }
      model.Set(*got, step.count, false);
      live[*got] = step.count;
    } else if (!live.empty()) {
      auto range = live.begin();
      std::advance(range, static_cast<long>(step.pick % live.size()));
      const auto [first, count] = *range;
      if (!store.Free(first, count).ok()) return "free failed" + at;
      model.Set(first, count, true);
      live.erase(range);
      const Result<void> again = store.Free(first, count);
      if (again.ok() || again.error() != Error::kDoubleFree) {
        return "double free not found" + at;
      }
    }
    if (store.free_pages() != model.free_pages()) return "lost pages" + at;
    if (!store.CheckInvariants()) return "invariant broken" + at;
  }
  for (const auto& [first, count] : live) {
    if (!store.Free(first, count).ok()) return "last free failed";
  }
  if (store.free_pages() != all || !store.CheckInvariants()) {
    return "not whole again";
  }
  return "";
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_STORE_MODEL_FOR_TEST_H_
