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
  std::uint64_t first = 0;   // likewise, the first usable page
  unsigned boundary_order = PageRequest::kNoBoundary;
  std::uint64_t padding = 0;  // pages
  bool bottom_up = false;
  unsigned piece_order = PageRequest::kWhole;  // free in such pieces
  std::uint64_t pick = 0;                      // which live range a free takes
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
  if (s.first != 0) out << ", first " << s.first;
  if (s.boundary_order < 64) out << ", boundary " << s.boundary_order;
  if (s.padding != 0) out << ", padding " << s.padding;
  if (s.piece_order < 64) out << ", pieces " << s.piece_order;
  return out << (s.bottom_up ? ", bottom up}" : "}");
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
  // The documented rule: 2^w free pages at a multiple of 2^w, w = max(align,
  // ceil(log2(count + padding))), of which the first `count` lie from `first`
  // to `last`. For a boundary that admits `count` at all, no more is asked.
  bool Fits(const PageRequest& request) const {
    const std::uint64_t block = BlockOf(request);
    std::uint64_t at = (first_ + block - 1) / block * block;
    for (; at <= this->last(); at += block) {
      if (at + request.count - 1 > request.last) return false;
      if (at >= request.first && IsFree(at, block)) return true;
    }
    return false;
  }
  // A range that the search may leave out, as BuddyStore does with the one
  // freed last.
  struct Apart {
    std::uint64_t first = 0;
    std::uint64_t count = 0;  // pages; 0: there is none

    bool Overlaps(std::uint64_t page, std::uint64_t pages) const {
      return page < first + count && first < page + pages;
    }
  };
  // Whether `got` lies in the worse half of the places that the request's
  // limits leave, although one in the half that its placement names would have
  // done.
  bool OnTheWrongSide(const PageRequest& request, std::uint64_t got,
                      const Apart& apart) const {
    const std::uint64_t block = BlockOf(request);
    const std::uint64_t low =
        (std::max(request.first, first_) + block - 1) / block * block;
    const std::uint64_t high =
        (std::min(request.last, last()) - (request.count - 1)) / block * block;
    const auto good = [&](std::uint64_t at) {
      return request.placement == Placement::kTopDown ? at - low >= high - at
                                                      : at - low <= high - at;
    };
    if (good(got)) return false;
    for (std::uint64_t at = low; at <= high; at += block) {
      if (good(at) && IsFree(at, block) && !apart.Overlaps(at, block)) {
        return true;
      }
    }
    return false;
  }
  // What is wrong with the answer to a request, or "".
  std::string Mistake(const PageRequest& request, std::uint64_t got) const {
    const std::uint64_t last = got + request.count - 1;
    if (!IsFree(got, request.count + request.padding)) return "not free";
    if (last > request.last) return "over the limit";
    if (got < request.first) return "under the first page";
    if (got % (std::uint64_t{1} << request.align_order) != 0) {
      return "misaligned";
    }
    if (request.boundary_order < 64 &&
        got >> request.boundary_order != last >> request.boundary_order) {
      return "across a boundary";
    }
    return "";
  }

 private:
  // 2^w pages, of which the documented rule speaks.
  static std::uint64_t BlockOf(const PageRequest& request) {
    std::uint64_t block = std::uint64_t{1} << request.align_order;
    while (block < request.count + request.padding) block *= 2;
    return block;
  }

  std::uint64_t first_;
  std::vector<bool> free_;
};

// A store beside the model; Run returns what differed first, or "".
template <RangeStore Store>
class StoreRun {
 public:
  explicit StoreRun(const StoreWindow& window)
      : pages_(window.pages),
        model_(window),
        whole_({.first = window.first, .pages = window.pages, .holes = {}}) {}

  std::string Run(const std::vector<StoreStep>& steps) {
    if (!Init()) return "Init failed";
    const std::uint64_t all = model_.free_pages();
    for (std::size_t i = 0; i < steps.size(); ++i) {
      std::string wrong =
          steps[i].allocate ? Allocate(steps[i]) : Free(steps[i].pick);
      if (wrong.empty() && store_.free_pages() != model_.free_pages()) {
        wrong = "lost pages";
      }
      if (wrong.empty() && !store_.CheckInvariants()) wrong = "invariant";
      if (!wrong.empty()) return wrong + " at step " + std::to_string(i);
    }
    while (!live_.empty()) {
      if (!Free(0).empty()) return "last free failed";
    }
    return store_.free_pages() == all && store_.CheckInvariants()
               ? ""
               : "not whole again";
  }

 private:
  struct Live {
    std::uint64_t held;  // pages, with the padding
    unsigned piece_order;
  };

  bool Init() {
    if (!store_.Init(model_.first(), model_.last()).ok()) return false;
    for (std::uint64_t p = model_.first(); p <= model_.last(); ++p) {
      std::uint64_t end = p;
      while (end <= model_.last() && model_.IsFree(end, 1)) ++end;
      if (end == p) continue;
      if (!store_.Insert(p, end - 1).ok()) return false;
      p = end;
    }
    return true;
  }

  PageRequest Request(const StoreStep& step) const {
    PageRequest request{.count = step.count,
                        .align_order = step.align_order,
                        .boundary_order = step.boundary_order,
                        .padding = step.padding,
                        .placement = step.bottom_up ? Placement::kBottomUp
                                                    : Placement::kTopDown,
                        .piece_order = step.piece_order};
    if (step.limited) request.last = model_.first() + step.limit % pages_;
    if (step.first != 0) request.first = model_.first() + step.first % pages_;
    return request;
  }
  std::string Allocate(const StoreStep& step) {
    const PageRequest request = Request(step);
    const Result<std::uint64_t> got = store_.Allocate(request);
    if (request.boundary_order < 64 &&
        request.count > std::uint64_t{1} << request.boundary_order) {
      return !got.ok() && got.error() == Error::kInvalidArgument
                 ? ""
                 : "impossible boundary accepted";
    }
    const bool fits = model_.Fits(request);
    if (got.ok() != fits) return fits ? "refused" : "impossible";
    if (request.count + request.padding <= pages_ && whole_.Fits(request) &&
        !store_.HasPlaceFor(request)) {
      return "knows no place";
    }
    if (!got.ok()) {
      return got.error() == Error::kNoSpace ? "" : "wrong refusal";
    }
    const std::string mistake = model_.Mistake(request, *got);
    if (!mistake.empty()) return mistake;
    if (model_.OnTheWrongSide(request, *got, recent_)) {
      return "on the wrong side";
    }
    const std::uint64_t held = step.count + step.padding;
    model_.Set(*got, held, false);
    live_[*got] = {held, step.piece_order};
    return "";
  }
  std::string Free(std::uint64_t pick) {
    if (live_.empty()) return "";
    auto range = live_.begin();
    std::advance(range, static_cast<long>(pick % live_.size()));
    const auto [first, live] = *range;
    live_.erase(range);
    std::uint64_t piece = live.held;
    if (live.piece_order < 64) {
      const std::uint64_t size = std::uint64_t{1} << live.piece_order;
      if (first % size == 0 && live.held % size == 0) piece = size;
    }
    for (std::uint64_t at = 0; at < live.held; at += piece) {
      store_.Prefetch(first + at);
      if (!store_.Free(first + at, piece).ok()) return "free failed";
      recent_ = {first + at, piece};
      model_.Set(first + at, piece, true);
    }
    const Result<void> again = store_.Free(first, live.held);
    return !again.ok() && again.error() == Error::kDoubleFree
               ? ""
               : "double free not found";
  }

  std::uint64_t pages_;
  Store store_;
  PageMap model_;
  PageMap whole_;  // all pages of the window free
  std::map<std::uint64_t, Live> live_;
  PageMap::Apart recent_;  // freed last
};

// Runs the steps on a fresh Store; "" or what it did wrong first.
template <RangeStore Store>
std::string RunStoreModel(const StoreWindow& window,
                          const std::vector<StoreStep>& steps) {
  StoreRun<Store> run(window);
  return run.Run(steps);
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_STORE_MODEL_FOR_TEST_H_
