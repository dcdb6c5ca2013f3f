// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

// State model of FlushQueue over the shipped allocator and a device that holds
// on to old translations (flush_device_for_test.h). Invalidations fail at
// random, the clock jumps both ways, slots lose their owners.

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "dma/cpu.h"
#include "iova/allocator.h"
#include "iova/buddy_store.h"
#include "iova/flush_device_for_test.h"
#include "iova/flush_queue.h"

namespace dmamap {
namespace {

constexpr std::size_t kSlots = 3;
constexpr std::uint64_t kPages = 512;

struct SmallPolicy : AllocatorPolicy {
  static constexpr std::size_t kMagazineEntries = 4;
  static constexpr std::uint32_t kTrimPeriod = 2;
};
using Allocator = IovaAllocator<BuddyStore, FakeCpu, SmallPolicy>;

std::uint64_t now = 0;
struct HandPolicy : FlushQueuePolicy {
  using FlushLock = SpinLock;  // see FreeMidway
  struct Clock {
    std::uint64_t operator()() const { return now; }
  };
};

// Negative control: marks clean what is queued at the end of an invalidation,
// not what was queued before it.
template <template <class> class Atom, class LockType>
class LateRing : public FlushRing<Atom, LockType> {
  using Base = FlushRing<Atom, LockType>;

 public:
  static std::unique_ptr<LateRing> Make(std::uint64_t capacity) {
    return std::unique_ptr<LateRing>(new LateRing(capacity));
  }
  void Publish() {
    Base::Snapshot();
    Base::Publish();
  }

 private:
  using Base::Base;
};
struct LatePolicy : HandPolicy {
  template <template <class> class Atom, class LockType>
  using Ring = LateRing<Atom, LockType>;
};

// Negative control: does not wait.
template <template <class> class Atom, class LockType>
class EagerRing : public FlushRing<Atom, LockType> {
  using Base = FlushRing<Atom, LockType>;

 public:
  static std::unique_ptr<EagerRing> Make(std::uint64_t capacity) {
    return std::unique_ptr<EagerRing>(new EagerRing(capacity));
  }
  void Push(FlushEntry entry) {
    Base::Push(entry);
    Base::Snapshot();
    Base::Publish();
  }

 private:
  using Base::Base;
};
struct EagerPolicy : HandPolicy {
  template <template <class> class Atom, class LockType>
  using Ring = EagerRing<Atom, LockType>;
};

enum class Do : std::uint8_t {
  kAllocate,
  kFree,
  kFreeAgain,
  kFreeWrongSize,
  kFreeAnywhere,
  kDrain,
  kPoll,
  kTime,
  kHealth,      // of the invalidator
  kFreeMidway,  // at the next invalidation's end another slot frees
  kSwitchSlot,
  kRetire,
  kTrim,
};
struct Step {
  Do what = Do::kAllocate;
  std::uint64_t number = 0;
};
std::ostream& operator<<(std::ostream& out, const Step& s) {
  return out << "{what " << static_cast<int>(s.what) << ", number " << s.number
             << "}";
}

template <class Policy>
class Model {
 public:
  explicit Model(const FlushQueueOptions& options) {
    now = 1'000'000;
    good_ =
        iova_.Init({.window = *Range::FromSize(Iova(0), kPages << 12)}).ok() &&
        queue_.Init(options).ok();
    strict_ = options.mode == FlushMode::kStrict;
    device_.works = [this] { return healthy_; };
    device_.at_end = [this] { FreeMidway(); };
  }

  // What is wrong, or "".
  std::string Run(const std::vector<Step>& steps) {
    if (!good_) return "Init";
    for (std::size_t i = 0; i < steps.size(); ++i) {
      std::string wrong = Take(steps[i]);
      if (wrong.empty()) wrong = wrong_;
      if (wrong.empty()) wrong = Check();
      if (!wrong.empty()) return wrong + " at step " + std::to_string(i);
    }
    return Close();
  }

 private:
  std::string Take(const Step& s) {
    switch (s.what) {
      case Do::kAllocate:
        return Allocate(s.number);
      case Do::kFree:
        return live_.empty() ? "" : Free(s.number);
      case Do::kFreeAgain:
      case Do::kFreeWrongSize:
      case Do::kFreeAnywhere:
        return FreeBadly(s);
      case Do::kDrain:
        return Drain();
      case Do::kPoll:
        (void)queue_.Poll(now);
        return "";
      case Do::kTime:
        now = s.number % 8 == 0 ? s.number % 4'000'000 : now + s.number % 200;
        return "";
      case Do::kHealth:
        healthy_ = s.number % 2 == 0;
        return "";
      case Do::kFreeMidway:
        midway_ = true;
        return "";
      case Do::kSwitchSlot:
        slot_ = s.number % (kSlots + 1) == kSlots ? kNoSlot
                                                  : s.number % (kSlots + 1);
        iova_.cpu().set_current(slot_);
        return "";
      case Do::kRetire:
        iova_.cpu().Retire(s.number % kSlots);
        return "";
      case Do::kTrim:
        iova_.Trim();
        return "";
    }
    return "";
  }

  std::string Allocate(std::uint64_t number) {
    const std::uint64_t pages =
        number % 16 == 0 ? 33 + number % 50 : 1 + number % 8;
    const Result<Iova> a = iova_.Allocate(pages);
    if (!a.ok()) return a.error() == Error::kNoSpace ? "" : "allocate";
    const std::uint64_t first = a->value() >> 12;
    for (std::uint64_t page = first; page < first + pages; ++page) {
      if (device_.Stale(page)) return "handed out before the invalidation";
      device_.Map(page);
    }
    if (!live_.emplace(first, pages).second) return "handed out twice";
    return "";
  }

  void Unmap(std::uint64_t first, std::uint64_t pages) {
    for (std::uint64_t p = first; p < first + pages; ++p) device_.Unmap(p);
  }

  std::string Free(std::uint64_t number) {
    const auto at = std::next(
        live_.begin(), static_cast<std::ptrdiff_t>(number % live_.size()));
    const auto [first, pages] = *at;
    // The driver unmaps first; if the free is refused, it maps it again.
    Unmap(first, pages);
    live_.erase(at);
    const Result<void> freed = queue_.Free(Iova(first << 12), pages);
    if (freed.ok()) {
      freed_[first] = pages;
      return "";
    }
    if (freed.error() != Error::kDevice) return "a good free is refused";
    if (healthy_) return "kDevice from a device in good health";
    live_.emplace(first, pages);
    for (std::uint64_t p = first; p < first + pages; ++p) device_.Map(p);
    return "";
  }

  std::string FreeBadly(const Step& s) {
    std::uint64_t first = s.number % kPages;
    std::uint64_t pages = 1 + s.number % 40;
    if (s.what == Do::kFreeAgain && !freed_.empty()) {
      const auto at =
          std::next(freed_.begin(),
                    static_cast<std::ptrdiff_t>(s.number % freed_.size()));
      first = at->first;
      pages = at->second;
    }
    if (s.what == Do::kFreeWrongSize && !live_.empty()) {
      first = live_.begin()->first;
    }
    const auto at = live_.find(first);
    if (at != live_.end() && at->second == pages) return "";  // a good one
    const Result<void> freed = queue_.Free(Iova(first << 12), pages);
    if (freed.ok()) return "a bad free is taken";
    if (freed.error() == Error::kDevice) return "";  // full
    if (at != live_.end()) {
      return freed.error() == Error::kMismatch ? "" : "not kMismatch";
    }
    if (s.what == Do::kFreeAgain && freed_.contains(first) &&
        freed.error() != Error::kDoubleFree) {
      return "not kDoubleFree";
    }
    return "";
  }

  std::string Drain() {
    freed_midway_ = false;
    const bool done = queue_.Drain().ok();
    if (freed_midway_) return "";  // it may be queued still
    if (done != healthy_ && queue_.stats().queued != 0) return "drain";
    return done && queue_.stats().queued != 0 ? "queued after a drain" : "";
  }

  // Inside of an invalidation, which is past all pages: another slot unmaps and
  // frees. (The queue's own calls come from the Invalidator only here, where
  // they stand for another thread: the ring has room.)
  void FreeMidway() {
    if (!midway_ || live_.empty() || inside_) return;
    if (queue_.stats().queued >= 3 && !strict_) return;
    midway_ = false;
    inside_ = true;
    freed_midway_ = true;
    iova_.cpu().set_current((slot_ + 1) % kSlots);
    if (wrong_.empty()) wrong_ = Free(0);
    iova_.cpu().set_current(slot_);
    inside_ = false;
  }

  std::string Check() {
    if (!queue_.CheckInvariants()) return "queue invariants";
    if (!iova_.CheckInvariants()) return "allocator invariants";
    std::size_t live = 0;
    bool known = true;
    iova_.ForEachLive([&](Range r) {
      ++live;
      const auto at = live_.find(r.first().value() >> 12);
      known = known && at != live_.end() && at->second << 12 == r.size();
    });
    if (!known || live != live_.size()) return "live ranges differ";
    if (iova_.stats().live != live_.size() + queue_.stats().queued) {
      return "a range is lost";
    }
    return "";
  }

  std::string Close() {
    healthy_ = true;
    midway_ = false;
    if (!queue_.Drain().ok()) return "the last drain";
    if (queue_.stats().queued != 0) return "queued after the last drain";
    while (!live_.empty()) {
      const std::string wrong = Free(0);
      if (!wrong.empty()) return wrong;
    }
    if (!queue_.Drain().ok()) return "the very last drain";
    for (std::size_t s = 0; s < kSlots; ++s) iova_.cpu().Retire(s);
    iova_.Trim();
    return iova_.stats().free_pages == kPages ? "" : "pages are lost";
  }

  Allocator iova_{kSlots};
  StaleDevice<> device_{kPages};
  FlushQueue<Allocator, StaleDevice<>, Policy> queue_{iova_, device_};
  std::map<std::uint64_t, std::uint64_t> live_;   // first page, pages
  std::map<std::uint64_t, std::uint64_t> freed_;  // at some time
  std::string wrong_;
  std::size_t slot_ = 0;
  bool good_ = false;
  bool healthy_ = true;
  bool strict_ = false;
  bool midway_ = false;
  bool freed_midway_ = false;
  bool inside_ = false;
};

rc::Gen<Step> AnyStep() {
  return rc::gen::build<Step>(
      rc::gen::set(&Step::what,
                   rc::gen::weightedElement<Do>({{12, Do::kAllocate},
                                                 {10, Do::kFree},
                                                 {1, Do::kFreeAgain},
                                                 {1, Do::kFreeWrongSize},
                                                 {1, Do::kFreeAnywhere},
                                                 {1, Do::kDrain},
                                                 {1, Do::kPoll},
                                                 {2, Do::kTime},
                                                 {1, Do::kHealth},
                                                 {1, Do::kFreeMidway},
                                                 {2, Do::kSwitchSlot},
                                                 {1, Do::kRetire},
                                                 {1, Do::kTrim}})),
      rc::gen::set(&Step::number, rc::gen::inRange<std::uint64_t>(0, 1 << 20)));
}

FlushQueueOptions OptionsOf(std::uint64_t n) {
  return {.mode = n % 8 == 0 ? FlushMode::kStrict : FlushMode::kDeferred,
          .entries = 4u << (n % 3),
          .max_age = n % 4 == 0 ? 0u : 150u,
          .clock_interval = n % 5 == 0 ? 2u : 1u};
}

RC_GTEST_PROP(FlushQueueProperty, NothingIsReusedEarly, ()) {
  const auto number = *rc::gen::inRange<std::uint64_t>(0, 1000);
  const auto steps = *rc::gen::container<std::vector<Step>>(AnyStep());
  Model<HandPolicy> model(OptionsOf(number));
  const std::string wrong = model.Run(steps);
  if (!wrong.empty()) RC_FAIL(wrong);
}

std::vector<Step> Draw(std::mt19937_64& random, std::size_t count) {
  std::vector<Step> steps;
  const Do mix[] = {Do::kAllocate,   Do::kAllocate,   Do::kAllocate,
                    Do::kFree,       Do::kFree,       Do::kFreeAgain,
                    Do::kFreeMidway, Do::kTime,       Do::kDrain,
                    Do::kHealth,     Do::kSwitchSlot, Do::kRetire};
  for (std::size_t i = 0; i < count; ++i) {
    steps.push_back({mix[random() % std::size(mix)], random() >> 40});
  }
  return steps;
}

// Runs with random steps until something is wrong.
template <class Policy>
std::string FirstWrong() {
  std::mt19937_64 random(1);
  for (int run = 0; run < 60; ++run) {
    Model<Policy> model(OptionsOf(1 + static_cast<std::uint64_t>(run) % 7));
    const std::string wrong = model.Run(Draw(random, 400));
    if (!wrong.empty()) return wrong;
  }
  return "";
}

TEST(FlushQueueProperty, LongRuns) { EXPECT_EQ(FirstWrong<HandPolicy>(), ""); }

TEST(FlushQueueProperty, AQueueThatDoesNotWaitIsFound) {
  EXPECT_NE(FirstWrong<EagerPolicy>().find("before the invalidation"),
            std::string::npos);
}

TEST(FlushQueueProperty, AQueueThatLooksTooLateIsFound) {
  EXPECT_NE(FirstWrong<LatePolicy>().find("before the invalidation"),
            std::string::npos);
}

}  // namespace
}  // namespace dmamap
