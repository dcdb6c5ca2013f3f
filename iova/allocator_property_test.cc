// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <ostream>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "iova/allocator.h"
#include "iova/buddy_store.h"
#include "iova/store_model_for_test.h"

namespace dmamap {
namespace {

constexpr unsigned kShift = 12;
constexpr std::size_t kSlots = 3;

// Small magazines, so that a short sequence reaches depot and store.
struct SmallPolicy : AllocatorPolicy {
  static constexpr std::size_t kMagazineEntries = 4;
  static constexpr std::uint32_t kTrimPeriod = 2;
};
struct ExactPolicy : SmallPolicy {
  static constexpr FreeCheck kFreeCheck = FreeCheck::kExact;
};
template <class Policy>
using TestAllocator = IovaAllocator<BuddyStore, FakeCpu, Policy>;

enum class Do : std::uint8_t {
  kAllocate,
  kFree,
  kFreeAgain,      // a range that was freed
  kFreeWrongSize,  // a live range, another size
  kFreeAnywhere,   // any address
  kSwitchSlot,
  kRetire,  // a slot
  kTrim,
  kTrimStep,
  kRetireRange,   // the first step of a free in two
  kReleaseRange,  // the second
  kRestoreRange,  // or none
};
struct Step {
  Do what = Do::kAllocate;
  std::uint64_t pages = 1;
  unsigned align_order = 0;
  bool align_to_size = false;
  bool limited = false;
  std::uint64_t first = 0;      // bytes from the window's first
  unsigned boundary_order = 0;  // of bytes; 0: none
  bool bottom_up = false;
  bool settle = false;          // empties all caches first
  std::uint64_t preferred = 0;  // bytes from the window's first; 0: none
  std::uint64_t number = 0;     // limit, pick, address or slot, as needed
};

std::ostream& operator<<(std::ostream& out, const Step& s) {
  return out << "{what " << static_cast<int>(s.what) << ", pages " << s.pages
             << ", align " << s.align_order << (s.align_to_size ? ", size" : "")
             << (s.limited ? ", limited" : "") << ", first " << s.first
             << ", boundary " << s.boundary_order
             << (s.bottom_up ? ", bottom up" : "")
             << (s.settle ? ", settle" : "") << ", preferred " << s.preferred
             << ", number " << s.number << "}";
}

// Drives an allocator beside the model; Run returns what differed, or "".
template <class Allocator>
class Model {
 public:
  Model(const StoreWindow& window, std::uint64_t guard)
      : allocator_(kSlots), pages_(window), guard_(guard) {}

  std::string Run(const StoreWindow& window, const std::vector<Step>& steps) {
    std::vector<Range> reserved;
    for (std::uint64_t hole : window.holes) {
      const Iova at((window.first + hole % window.pages) << kShift);
      reserved.push_back(Range::Byte(at + hole % 4096));
    }
    const AllocatorOptions options{
        .window = *Range::FromFirstLast(Iova(pages_.first() << kShift),
                                        Iova(pages_.last() << kShift | 0xfff)),
        .reserved = reserved,
        .depot_limit = 2,
        .guard_pages = guard_};
    const bool any = pages_.free_pages() != 0;
    if (allocator_.Init(options).ok() != any) return "Init";
    if (!any) return "";
    for (std::size_t i = 0; i < steps.size(); ++i) {
      std::string wrong = Take(steps[i]);
      if (wrong.empty()) wrong = Check();
      if (!wrong.empty()) return wrong + " at step " + std::to_string(i);
    }
    return Close();
  }

 private:
  std::string Take(const Step& step) {
    switch (step.what) {
      case Do::kAllocate:
        return Allocate(step);
      case Do::kFree:
        return Free(step);
      case Do::kFreeAgain:
      case Do::kFreeAnywhere:
        return FreeBadly(step);
      case Do::kFreeWrongSize:
        return FreeWrongSize(step);
      case Do::kSwitchSlot:
        allocator_.cpu().set_current(step.number % (kSlots + 1) == kSlots
                                         ? kNoSlot
                                         : step.number % (kSlots + 1));
        return "";
      case Do::kRetire:
        allocator_.cpu().Retire(step.number % kSlots);
        return "";
      case Do::kTrim:
        allocator_.Trim();
        return "";
      case Do::kTrimStep:
        allocator_.TrimStep();
        return "";
      case Do::kRetireRange:
        return Retire(step);
      case Do::kReleaseRange:
      case Do::kRestoreRange:
        return EndRetired(step);
    }
    return "";
  }

  // Pages that a range keeps, with the guard behind it.
  std::uint64_t Held(std::uint64_t pages) const {
    if (pages > 32) return pages + guard_;
    std::uint64_t used = 1;
    while (used < pages) used *= 2;
    std::uint64_t held = 1;
    while (held < used + guard_) held *= 2;
    return held;
  }

  Constraints ConstraintsOf(const Step& step) const {
    const Iova window(pages_.first() << kShift);
    Constraints c;
    c.alignment = step.align_order == 0 ? 0 : 4096ull << step.align_order;
    c.align_to = step.align_to_size ? AlignTo::kSize : AlignTo::kPage;
    // Any byte of the window, and a little around it.
    if (step.limited) c.limit = window + step.number;
    if (step.first != 0) c.first = window + step.first;
    if (step.boundary_order != 0) {
      c.boundary = std::uint64_t{1} << step.boundary_order;
    }
    if (step.bottom_up) c.placement = Placement::kBottomUp;
    if (step.preferred != 0) c.preferred_limit = window + step.preferred;
    return c;
  }
  // The same in pages, for the naive model; false when no page is left.
  bool ToPages(const Step& step, const Constraints& c, PageRequest& r) const {
    r.count = step.pages;
    r.padding = Held(step.pages) - step.pages;
    r.align_order = step.align_order;
    while (step.align_to_size && (1ull << r.align_order) < step.pages) {
      ++r.align_order;
    }
    if (c.limit != Iova::Max()) {
      if (c.limit.value() < 0xfff) return false;
      r.last = ((c.limit.value() + 1) >> kShift) - 1;
    }
    r.first = c.first.value() >> kShift;
    if ((c.first.value() & 0xfff) != 0) ++r.first;
    if (c.boundary != 0) r.boundary_order = step.boundary_order - kShift;
    return true;
  }

  // All caches into the store, whose last free is then `apart_`; false when
  // there is no room for the range that makes it so.
  bool Settle() {
    for (std::size_t s = 0; s < kSlots; ++s) allocator_.cpu().Retire(s);
    allocator_.Trim();
    constexpr std::uint64_t kUncached = 33;
    const Result<Iova> last = allocator_.Allocate(kUncached, {});
    if (!last.ok()) return false;
    apart_ = {last->value() >> kShift, Held(kUncached)};
    return allocator_.Free(*last, kUncached).ok();
  }
  // While no cache holds anything a preferred limit is kept if anything up to
  // it will do, and the placement as the store keeps it. (One from the top down
  // of a cached size may be that of a whole refill.)
  std::string Misplaced(const Constraints& c, PageRequest request,
                        std::uint64_t page) const {
    if (c.preferred_limit < c.limit && c.preferred_limit.value() >= 0xfff) {
      PageRequest preferred = request;
      preferred.last = ((c.preferred_limit.value() + 1) >> kShift) - 1;
      if (pages_.Fits(preferred)) {
        if (page + request.count - 1 > preferred.last) return "not preferred";
        request = preferred;
      }
    }
    request.placement = c.placement;
    return (c.placement == Placement::kBottomUp || request.count > 32) &&
                   pages_.OnTheWrongSide(request, page, apart_)
               ? "on the wrong side"
               : "";
  }

  std::string Allocate(const Step& step) {
    const Constraints c = ConstraintsOf(step);
    const bool settled = step.settle && Settle();
    Result<Iova> got = allocator_.Allocate(step.pages, c);
    if (c.boundary != 0 && c.boundary >> kShift < step.pages) {
      return !got.ok() && got.error() == Error::kInvalidArgument
                 ? ""
                 : "impossible boundary accepted";
    }
    PageRequest request;
    const bool any = ToPages(step, c, request);
    if (!got.ok() && got.error() != Error::kNoSpace) return "wrong refusal";
    if (!got.ok()) {
      // What other slots cache may be refused; nothing else.
      for (std::size_t s = 0; s < kSlots; ++s) allocator_.cpu().Retire(s);
      got = allocator_.Allocate(step.pages, c);
      const bool fits = any && pages_.Fits(request);
      if (got.ok() != fits) return fits ? "refused what fits" : "impossible";
      if (!got.ok()) return "";
    }
    const std::uint64_t page = got->value() >> kShift;
    if ((got->value() & 0xfff) != 0) return "not a page";
    std::string mistake = pages_.Mistake(request, page);
    if (mistake.empty() && settled) mistake = Misplaced(c, request, page);
    if (!mistake.empty()) return mistake;
    pages_.Set(page, Held(step.pages), false);
    live_[page] = step.pages;
    ever_.insert(page);
    return "";
  }

  std::string Free(const Step& step) {
    if (live_.empty()) return "";
    auto at = live_.begin();
    std::advance(at, static_cast<long>(step.number % live_.size()));
    const auto [page, pages] = *at;
    if (!allocator_.Free(Iova(page << kShift), pages).ok()) return "free";
    pages_.Set(page, Held(pages), true);
    live_.erase(at);
    return "";
  }
  // Neither live nor free until it is released or restored.
  std::string Retire(const Step& step) {
    if (live_.empty()) return "";
    auto at = live_.begin();
    std::advance(at, static_cast<long>(step.number % live_.size()));
    const auto [page, pages] = *at;
    const Iova first(page << kShift);
    for (const bool release : {true, false}) {
      const Result<void> early = release ? allocator_.Release(first, pages)
                                         : allocator_.Restore(first, pages);
      if (early.ok() || early.error() != Error::kBusy) return "not retired yet";
    }
    if (!allocator_.Retire(first, pages).ok()) return "retire";
    if (allocator_.Retire(first, pages).ok()) return "retired twice";
    if (allocator_.Free(first, pages).ok()) return "a retired one freed";
    retired_.insert(*at);
    live_.erase(at);
    return "";
  }
  std::string EndRetired(const Step& step) {
    if (retired_.empty()) return "";
    auto at = retired_.begin();
    std::advance(at, static_cast<long>(step.number % retired_.size()));
    const auto [page, pages] = *at;
    const Iova first(page << kShift);
    const bool release = step.what == Do::kReleaseRange;
    if (step.pages != pages && allocator_.Release(first, step.pages).ok()) {
      return "released in a wrong size";
    }
    const Result<void> ended = release ? allocator_.Release(first, pages)
                                       : allocator_.Restore(first, pages);
    if (!ended.ok()) return "end";
    if (release) {
      pages_.Set(page, Held(pages), true);
    } else {
      live_.insert(*at);
    }
    retired_.erase(at);
    return "";
  }
  std::string FreeBadly(const Step& step) {
    std::uint64_t address = (pages_.first() << kShift) + step.number;
    if (step.what == Do::kFreeAgain) {
      if (ever_.empty()) return "";
      auto at = ever_.begin();
      std::advance(at, static_cast<long>(step.number % ever_.size()));
      address = *at << kShift;
    }
    const std::uint64_t page = address >> kShift;
    if ((address & 0xfff) == 0 && live_.count(page) != 0) return "";
    const Result<void> r = allocator_.Free(Iova(address), step.pages);
    if (r.ok()) return "bad free accepted";
    const bool was = (address & 0xfff) == 0 && ever_.count(page) != 0;
    if (was && r.error() != Error::kDoubleFree) return "not a double free?";
    if (!was && r.error() != Error::kForeign &&
        r.error() != Error::kDoubleFree) {  // a prefetched one counts as free
      return "not foreign?";
    }
    return "";
  }
  std::string FreeWrongSize(const Step& step) {
    if (live_.empty()) return "";
    auto at = live_.begin();
    std::advance(at, static_cast<long>(step.number % live_.size()));
    if (step.pages == at->second) return "";
    const Result<void> r =
        allocator_.Free(Iova(at->first << kShift), step.pages);
    return !r.ok() && r.error() == Error::kMismatch ? "" : "wrong size";
  }

  std::string Check() {
    if (!allocator_.CheckInvariants()) return "invariant";
    std::map<std::uint64_t, std::uint64_t> seen;
    allocator_.ForEachLive([&](Range r) {
      seen[r.first().value() >> kShift] = r.size() >> kShift;
    });
    if (seen != live_) return "ForEachLive";
    const std::size_t held = live_.size() + retired_.size();
    if (allocator_.stats().live != held) return "stats";
    return "";
  }
  std::string Close() {
    for (const auto& [page, pages] : live_) {
      if (!allocator_.Free(Iova(page << kShift), pages).ok()) return "close";
      pages_.Set(page, Held(pages), true);
    }
    live_.clear();
    for (const auto& [page, pages] : retired_) {
      if (!allocator_.Release(Iova(page << kShift), pages).ok()) return "close";
      pages_.Set(page, Held(pages), true);
    }
    retired_.clear();
    for (std::size_t s = 0; s < kSlots; ++s) allocator_.cpu().Retire(s);
    allocator_.Trim();
    if (allocator_.stats().cached != 0) return "cached after all";
    if (allocator_.stats().free_pages != pages_.free_pages()) return "lost";
    return Check();
  }

  Allocator allocator_;
  PageMap pages_;
  std::uint64_t guard_;                             // pages
  std::map<std::uint64_t, std::uint64_t> live_;     // pages by first page
  std::map<std::uint64_t, std::uint64_t> retired_;  // likewise
  std::set<std::uint64_t> ever_;  // pages that a range began at
  PageMap::Apart apart_;          // see Settle
};

template <class Allocator>
std::string RunModel(const StoreWindow& window, const std::vector<Step>& steps,
                     std::uint64_t guard = 0) {
  Model<Allocator> model(window, guard);
  return model.Run(window, steps);
}

rc::Gen<Step> AnyStep() {
  return rc::gen::build<Step>(
      rc::gen::set(&Step::what,
                   rc::gen::weightedElement<Do>({{10, Do::kAllocate},
                                                 {7, Do::kFree},
                                                 {1, Do::kFreeAgain},
                                                 {1, Do::kFreeWrongSize},
                                                 {1, Do::kFreeAnywhere},
                                                 {2, Do::kSwitchSlot},
                                                 {1, Do::kRetire},
                                                 {1, Do::kTrim},
                                                 {1, Do::kTrimStep},
                                                 {2, Do::kRetireRange},
                                                 {2, Do::kReleaseRange},
                                                 {1, Do::kRestoreRange}})),
      rc::gen::set(&Step::pages,
                   rc::gen::weightedOneOf<std::uint64_t>(
                       {{6, rc::gen::just<std::uint64_t>(1)},
                        {3, rc::gen::inRange<std::uint64_t>(1, 34)},
                        {1, rc::gen::inRange<std::uint64_t>(1, 300)}})),
      rc::gen::set(&Step::align_order, rc::gen::weightedOneOf<unsigned>(
                                           {{4, rc::gen::just(0u)},
                                            {1, rc::gen::inRange(0u, 9u)}})),
      rc::gen::set(&Step::align_to_size, rc::gen::arbitrary<bool>()),
      rc::gen::set(&Step::limited, rc::gen::arbitrary<bool>()),
      rc::gen::set(&Step::first,
                   rc::gen::weightedOneOf<std::uint64_t>(
                       {{4, rc::gen::just<std::uint64_t>(0)},
                        {1, rc::gen::inRange<std::uint64_t>(1, 1u << 21)}})),
      rc::gen::set(
          &Step::boundary_order,
          rc::gen::weightedOneOf<unsigned>(
              {{3, rc::gen::just(0u)}, {1, rc::gen::inRange(12u, 22u)}})),
      rc::gen::set(&Step::bottom_up, rc::gen::arbitrary<bool>()),
      rc::gen::set(&Step::settle,
                   rc::gen::weightedElement<bool>({{4, false}, {1, true}})),
      rc::gen::set(&Step::preferred,
                   rc::gen::weightedOneOf<std::uint64_t>(
                       {{4, rc::gen::just<std::uint64_t>(0)},
                        {1, rc::gen::inRange<std::uint64_t>(1, 1u << 21)}})),
      rc::gen::set(&Step::number,
                   rc::gen::inRange<std::uint64_t>(0, 1u << 21)));
}
rc::Gen<StoreWindow> AnyWindow() {
  constexpr std::uint64_t kTop = std::uint64_t{1} << kMaxPageBits;
  return rc::gen::map(
      rc::gen::tuple(rc::gen::inRange<std::uint64_t>(1, 700),
                     rc::gen::element<std::uint64_t>(0, 1, 1000, 0xfff00, kTop),
                     rc::gen::container<std::vector<std::uint64_t>>(
                         rc::gen::inRange<std::uint64_t>(0, 700))),
      [](const auto& t) {
        StoreWindow window;
        window.pages = std::get<0>(t);
        window.first =
            std::get<1>(t) == kTop ? kTop - window.pages : std::get<1>(t);
        window.holes = std::get<2>(t);
        return window;
      });
}

template <class Allocator>
void Agrees() {
  for (int sequence = 0; sequence < 2; ++sequence) {
    const StoreWindow window = *AnyWindow();
    const auto steps = *rc::gen::container<std::vector<Step>>(AnyStep());
    const std::uint64_t guard = *rc::gen::weightedOneOf<std::uint64_t>(
        {{2, rc::gen::just<std::uint64_t>(0)},
         {1, rc::gen::inRange<std::uint64_t>(1, 70)}});
    RC_ASSERT(RunModel<Allocator>(window, steps, guard) == std::string());
  }
}
RC_GTEST_PROP(AllocatorProperty, AgreesWithThePageMap, ()) {
  Agrees<TestAllocator<SmallPolicy>>();
}
RC_GTEST_PROP(AllocatorProperty, AgreesWithThePageMapWhenExact, ()) {
  Agrees<TestAllocator<ExactPolicy>>();
}

// Negative controls: an allocator with one rule broken must be found out.
template <class Change>
class Broken {
 public:
  explicit Broken(std::size_t slots) : real_(slots) {}
  Result<void> Init(const AllocatorOptions& o) {
    return real_.Init(change_.Options(o));
  }
  Result<Iova> Allocate(std::uint64_t pages, const Constraints& c) {
    return change_.Allocate(real_, pages, c);
  }
  Result<void> Free(Iova first, std::uint64_t pages) {
    return change_.Free(real_, first, pages);
  }
  Result<void> Retire(Iova first, std::uint64_t pages) {
    return change_.Retire(real_, first, pages);
  }
  Result<void> Release(Iova first, std::uint64_t pages) {
    return change_.Release(real_, first, pages);
  }
  Result<void> Restore(Iova first, std::uint64_t pages) {
    return change_.Restore(real_, first, pages);
  }
  void Trim() { real_.Trim(); }
  void TrimStep() { real_.TrimStep(); }
  template <class Fn>
  void ForEachLive(Fn&& fn) const {
    real_.ForEachLive(fn);
  }
  auto stats() const { return real_.stats(); }
  bool CheckInvariants() const { return real_.CheckInvariants(); }
  FakeCpu& cpu() { return real_.cpu(); }

 private:
  TestAllocator<SmallPolicy> real_;
  Change change_;
};
using Real = TestAllocator<SmallPolicy>;
struct Faithful {
  AllocatorOptions Options(const AllocatorOptions& o) { return o; }
  Result<Iova> Allocate(Real& a, std::uint64_t pages, const Constraints& c) {
    return a.Allocate(pages, c);
  }
  Result<void> Free(Real& a, Iova first, std::uint64_t pages) {
    return a.Free(first, pages);
  }
  Result<void> Retire(Real& a, Iova first, std::uint64_t pages) {
    return a.Retire(first, pages);
  }
  Result<void> Release(Real& a, Iova first, std::uint64_t pages) {
    return a.Release(first, pages);
  }
  Result<void> Restore(Real& a, Iova first, std::uint64_t pages) {
    return a.Restore(first, pages);
  }
};
// Believes the caller, as Linux did: whatever is freed enters a cache of the
// size that was named, and comes out of it again.
struct BelievesTheSize : Faithful {
  Result<Iova> Allocate(Real& a, std::uint64_t pages, const Constraints& c) {
    std::vector<Iova>& cache = cached[pages];
    if (cache.empty()) return a.Allocate(pages, c);
    const Iova first = cache.back();
    cache.pop_back();
    return first;
  }
  Result<void> Free(Real& a, Iova first, std::uint64_t pages) {
    (void)Believe(a.Free(first, pages), first, pages);
    return Ok();
  }
  Result<void> Believe(Result<void> r, Iova first, std::uint64_t pages) {
    if (!r.ok()) cached[pages].push_back(first);
    return r;
  }
  std::map<std::uint64_t, std::vector<Iova>> cached;  // by pages
};
// Looks too late: the caller is told, but the address is in the cache.
struct LooksTooLate : BelievesTheSize {
  Result<void> Free(Real& a, Iova first, std::uint64_t pages) {
    return Believe(a.Free(first, pages), first, pages);
  }
};
struct SwallowsDoubleFree : Faithful {
  Result<void> Free(Real& a, Iova first, std::uint64_t pages) {
    const Result<void> r = a.Free(first, pages);
    return !r.ok() && r.error() == Error::kDoubleFree ? Ok() : r;
  }
};
struct IgnoresTheLimit : Faithful {
  Result<Iova> Allocate(Real& a, std::uint64_t pages, Constraints c) {
    c.limit = Iova::Max();
    return a.Allocate(pages, c);
  }
};
struct IgnoresAlignment : Faithful {
  Result<Iova> Allocate(Real& a, std::uint64_t pages, Constraints c) {
    c.alignment = 0;
    return a.Allocate(pages, c);
  }
};
struct IgnoresTheLowerBound : Faithful {
  Result<Iova> Allocate(Real& a, std::uint64_t pages, Constraints c) {
    c.first = Iova::Min();
    return a.Allocate(pages, c);
  }
};
// Takes the preference for a limit.
struct InsistsOnThePreference : Faithful {
  Result<Iova> Allocate(Real& a, std::uint64_t pages, Constraints c) {
    c.limit = std::min(c.limit, c.preferred_limit);
    return a.Allocate(pages, c);
  }
};
struct IgnoresThePreference : Faithful {
  Result<Iova> Allocate(Real& a, std::uint64_t pages, Constraints c) {
    c.preferred_limit = Iova::Max();
    return a.Allocate(pages, c);
  }
};
struct IgnoresThePlacement : Faithful {
  Result<Iova> Allocate(Real& a, std::uint64_t pages, Constraints c) {
    c.placement = Placement::kTopDown;
    return a.Allocate(pages, c);
  }
};
// The store aligns each range to its size anyhow: one page too far.
struct IgnoresTheSizesAlignment : Faithful {
  Result<Iova> Allocate(Real& a, std::uint64_t pages, const Constraints& c) {
    if (c.align_to != AlignTo::kSize || pages < 2) return a.Allocate(pages, c);
    const Result<Iova> r = a.Allocate(pages + 1, c);
    return r.ok() ? Result<Iova>(*r + 4096) : r;
  }
};
struct LeavesNoGuards : Faithful {
  AllocatorOptions Options(AllocatorOptions o) {
    o.guard_pages = 0;
    return o;
  }
};
struct ForgetsWhatIsReserved : Faithful {
  AllocatorOptions Options(AllocatorOptions o) {
    o.reserved = {};
    return o;
  }
};
struct IgnoresTheBoundary : Faithful {
  Result<Iova> Allocate(Real& a, std::uint64_t pages, Constraints c) {
    c.boundary = 0;
    return a.Allocate(pages, c);
  }
};
struct HandsOutTwice : Faithful {
  Result<Iova> Allocate(Real& a, std::uint64_t pages, const Constraints& c) {
    if (last_pages == pages && ++calls % 8 == 0) return last;
    const Result<Iova> r = a.Allocate(pages, c);
    if (r.ok()) {
      last = *r;
      last_pages = pages;
    }
    return r;
  }
  Iova last;
  std::uint64_t last_pages = 0;
  int calls = 0;
};
struct LosesAFree : Faithful {
  Result<void> Free(Real& a, Iova first, std::uint64_t pages) {
    if (++calls % 16 == 0) return Ok();
    return a.Free(first, pages);
  }
  int calls = 0;
};
// Frees in the first step: what a device still knows is handed out again.
struct ReleasesTooEarly : Faithful {
  Result<void> Retire(Real& a, Iova first, std::uint64_t pages) {
    const Result<void> r = a.Retire(first, pages);
    if (r.ok()) (void)a.Release(first, pages);
    if (r.ok()) retired[first] = pages;
    return r;
  }
  Result<void> Release(Real& a, Iova first, std::uint64_t pages) {
    const auto at = retired.find(first);
    if (at == retired.end() || at->second != pages) {
      return a.Release(first, pages);
    }
    retired.erase(at);
    return Ok();
  }
  std::map<Iova, std::uint64_t> retired;
};
struct LosesARelease : Faithful {
  Result<void> Release(Real& a, Iova first, std::uint64_t pages) {
    const Result<void> r = a.Release(first, pages);
    if (r.ok() && ++calls % 4 == 0) (void)a.Allocate(pages);
    return r;
  }
  int calls = 0;
};
struct RestoresNothing : Faithful {
  Result<void> Restore(Real& a, Iova first, std::uint64_t pages) {
    return a.Release(first, pages);
  }
};

template <class Allocator>
std::string FirstDifference() {
  std::mt19937_64 generator(20260102);
  // One call a statement, so that every compiler draws the same numbers.
  const auto below = [&](std::uint64_t n) { return generator() % n; };
  for (int run = 0; run < 60; ++run) {
    StoreWindow window;
    window.first = below(5000);
    window.pages = 1 + below(300);
    window.holes = {generator()};
    const std::uint64_t bytes = window.pages << kShift;
    std::vector<Step> steps(80);
    for (Step& s : steps) {
      constexpr Do kAll[] = {
          Do::kAllocate,      Do::kAllocate,    Do::kAllocate,
          Do::kFree,          Do::kFree,        Do::kFreeAgain,
          Do::kFreeWrongSize, Do::kSwitchSlot,  Do::kRetireRange,
          Do::kReleaseRange,  Do::kRestoreRange};
      s.what = kAll[below(std::size(kAll))];
      const std::uint64_t most = below(4) == 0 ? 40 : 3;
      s.pages = 1 + below(most);
      if (below(4) == 0) s.align_order = static_cast<unsigned>(below(6));
      s.limited = below(2) == 0;
      if (below(4) == 0) s.first = below(bytes);
      if (below(4) == 0) {
        s.boundary_order = 12 + static_cast<unsigned>(below(7));
      }
      s.bottom_up = below(2) == 0;
      s.align_to_size = below(4) == 0;
      s.settle = below(4) == 0;
      if (below(4) == 0) s.preferred = 1 + below(bytes);
      s.number = below(bytes);
    }
    const std::uint64_t guard = run % 3 == 0 ? 1 + below(8) : 0;
    const std::string what = RunModel<Allocator>(window, steps, guard);
    if (!what.empty()) return what;
  }
  return "";
}

TEST(AllocatorModel, FaithfulWrapperPasses) {
  EXPECT_EQ(FirstDifference<Broken<Faithful>>(), "");
}
using Controls =
    testing::Types<Broken<BelievesTheSize>, Broken<LooksTooLate>,
                   Broken<SwallowsDoubleFree>, Broken<IgnoresTheLimit>,
                   Broken<IgnoresAlignment>, Broken<IgnoresTheSizesAlignment>,
                   Broken<IgnoresTheLowerBound>, Broken<InsistsOnThePreference>,
                   Broken<IgnoresThePreference>, Broken<IgnoresThePlacement>,
                   Broken<IgnoresTheBoundary>, Broken<LeavesNoGuards>,
                   Broken<ForgetsWhatIsReserved>, Broken<HandsOutTwice>,
                   Broken<LosesAFree>, Broken<ReleasesTooEarly>,
                   Broken<LosesARelease>, Broken<RestoresNothing>>;
template <class Allocator>
class NegativeControl : public testing::Test {};
TYPED_TEST_SUITE(NegativeControl, Controls);
TYPED_TEST(NegativeControl, IsFound) {
  const std::string what = FirstDifference<TypeParam>();
  EXPECT_NE(what, "");
  this->RecordProperty("found", what);
}

}  // namespace
}  // namespace dmamap
