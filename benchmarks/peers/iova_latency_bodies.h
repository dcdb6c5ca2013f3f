// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_PEERS_IOVA_LATENCY_BODIES_H_
#define DMAMAP_BENCHMARKS_PEERS_IOVA_LATENCY_BODIES_H_

// The IOVA workloads that time single operations, and `fresh`, which needs a
// new allocator for each repetition; iova_workloads.h names them.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "benchmarks/peers/iova_subject.h"
#include "benchmarks/peers/session.h"

namespace dmamap::peers {

// large_live_N: N live ranges of 64, 128 or 256 pages, above what Linux caches,
// in a 48-bit space. A step frees one chosen at random and allocates another;
// both are timed. Before that, all are replaced twice over, if time allows:
// Linux's search grows longer with every replacement.
template <IovaSubject S>
class LargeLiveBody {
 public:
  static constexpr std::array<const char*, 2> kSeries = {"alloc", "free"};

  LargeLiveBody(std::unique_ptr<S> subject, std::uint64_t live,
                double ageing_ns)
      : subject_(std::move(subject)), ageing_ns_(ageing_ns), live_(live) {}

  std::uint64_t max_steps() const { return 20'000; }
  std::uint64_t failures() const { return failures_; }

  absl::Status SetUp() {
    if (absl::Status s = subject_->EnterThread(0); !s.ok()) return s;
    for (Live& live : live_) Allocate(live);
    const auto deadline = WallNs() + static_cast<std::uint64_t>(ageing_ns_);
    for (std::size_t i = 0; i < 2 * live_.size() && WallNs() < deadline; ++i) {
      Live& live = Victim();
      Free(live);
      Allocate(live);
    }
    return absl::OkStatus();
  }
  void Step(LatencyRecorder& recorder) {
    Live& live = Victim();
    recorder.Time(1, [&] { Free(live); });
    // Outside of the timed call, as is everything else but the allocator.
    live.pages = Size();
    recorder.Time(
        0, [&] { live.page = subject_->Allocate(live.pages, kLastPage48); });
    if (live.page == 0) ++failures_;
  }
  void TearDown() {
    for (Live& live : live_) Free(live);
    subject_->LeaveThread(0);
  }

 private:
  struct Live {
    std::uint64_t page = 0;
    std::uint64_t pages = 0;
  };
  std::uint64_t Size() { return std::uint64_t{64} << random_.Below(3); }
  Live& Victim() { return live_[random_.Below(live_.size())]; }
  void Allocate(Live& live) {
    live.pages = Size();
    live.page = subject_->Allocate(live.pages, kLastPage48);
    if (live.page == 0) ++failures_;
  }
  // What could not be had is not freed.
  void Free(const Live& live) {
    if (live.page == 0) [[unlikely]]
      return;
    if (!subject_->Free(live.page, live.pages)) [[unlikely]]
      ++failures_;
  }

  const std::unique_ptr<S> subject_;
  const double ageing_ns_;
  Random random_{11};
  std::vector<Live> live_;
  std::uint64_t failures_ = 0;
};

enum class Frag32 { kRefuse, kLow };

// frag32_refuse, frag32_low: a 32-bit space, full of single pages, of which
// every other one is freed; then a step asks for two pages.
//
//   kRefuse  There is no room. Before each request a page is allocated and
//            freed, because an allocator may remember that it failed until
//            something is freed.
//   kLow     There is one hole that fits, near the bottom of the space. Another
//            one, at the top, is occupied before each request, freshly, because
//            an allocator may remember where it searched last.
//
// All of it past the caches, or else with caches that are empty before the
// request of kLow: that is no pop of what was freed last. A request that is
// refused finds in them what was freed meanwhile, and has to look there.
template <IovaSubject S>
class Frag32Body {
 public:
  static constexpr std::array<const char*, 1> kSeries = {"alloc"};

  Frag32Body(std::unique_ptr<S> subject, Frag32 kind)
      : subject_(std::move(subject)), kind_(kind) {}

  std::uint64_t max_steps() const { return 2'000; }
  std::uint64_t failures() const { return failures_; }

  absl::Status SetUp() {
    if (absl::Status s = subject_->EnterThread(0); !s.ok()) return s;
    std::vector<std::uint64_t> odd;
    while (const std::uint64_t page = Take(1)) {
      if (page > kLastPage32) {
        return absl::InternalError("a page above the limit");
      }
      (page % 2 == 1 ? odd : even_).push_back(page);
    }
    // All but page 0, which is nobody's: [1, 2^20 - 1].
    if (odd.size() != kPages / 2 || even_.size() != kPages / 2 - 1) {
      return absl::InternalError("the space could not be filled");
    }
    for (const std::uint64_t page : odd) Give(page, 1);
    if (kind_ == Frag32::kLow) {
      OpenHole(kPages - 2);
      top_ = Take(2);
      if (top_ != kPages - 2) return absl::InternalError("no hole at the top");
      OpenHole(kLowHole);
    }
    return absl::OkStatus();
  }

  void Step(LatencyRecorder& recorder) {
    if (kind_ == Frag32::kRefuse) {
      Give(Take(1), 1);
    } else {
      Give(top_, 2);
      top_ = Take(2);
      EmptyCaches(*subject_);
    }
    std::uint64_t page = 0;
    recorder.Time(0, [&] { page = Take(2); });
    if ((page != 0) != (kind_ == Frag32::kLow)) ++failures_;
    Give(page, 2);
  }

  void TearDown() {
    Give(top_, 2);
    for (const std::uint64_t page : even_) Give(page, 1);
    subject_->LeaveThread(0);
  }

 private:
  static constexpr std::uint64_t kPages = kLastPage32 + 1;
  static constexpr std::uint64_t kLowHole = 64;

  std::uint64_t Take(std::uint64_t pages) {
    return AllocateUncached(*subject_, pages, kLastPage32);
  }
  // What could not be had is not freed.
  void Give(std::uint64_t page, std::uint64_t pages) {
    if (page == 0) return;
    if (!FreeUncached(*subject_, page, pages)) ++failures_;
  }
  // Frees an even page: the pages around it are free already.
  void OpenHole(std::uint64_t page) {
    std::erase(even_, page);
    Give(page, 1);
  }

  const std::unique_ptr<S> subject_;
  const Frag32 kind_;
  std::vector<std::uint64_t> even_;  // live single pages
  std::uint64_t top_ = 0;            // live, two pages
  std::uint64_t failures_ = 0;
};

// fresh: the first 65,536 allocations of a new allocator, as of a driver that
// fills its rings. Nothing else is timed.
template <IovaSubject S>
class FreshSession final : public Session {
 public:
  explicit FreshSession(const SessionOptions& options) : options_(options) {}

  Repetition Run() override {
    Repetition repetition;
    double ns = 0;
    for (;;) {
      team_.Run([&](unsigned) { ns = RunOnce(repetition); });
      if (repetition.clean) break;
      if (repetition.discarded == options_.max_discarded) break;
      ++repetition.discarded;
    }
    repetition.metrics.push_back({"ns_per_op", "ns", ns});
    repetition.failures = failures_;
    return repetition;
  }

 private:
  double RunOnce(Repetition& repetition) {
    absl::StatusOr<std::unique_ptr<S>> subject = S::Create(IovaSpace{});
    if (!subject.ok() || !(*subject)->EnterThread(0).ok()) {
      failures_ += pages_.size();
      return 0;
    }
    S& s = **subject;
    const long preemptions = Preemptions();
    const std::uint64_t before = ThreadCpuNs();
    for (std::uint64_t& page : pages_) page = s.Allocate(1, kLastPage48);
    const std::uint64_t after = ThreadCpuNs();
    repetition.clean = Preemptions() == preemptions;
    for (const std::uint64_t page : pages_) {
      if (page == 0 || !s.Free(page, 1)) ++failures_;
    }
    s.LeaveThread(0);
    return static_cast<double>(after - before) /
           static_cast<double>(pages_.size());
  }

  const SessionOptions options_;
  std::vector<std::uint64_t> pages_ = std::vector<std::uint64_t>(65'536);
  std::uint64_t failures_ = 0;
  ThreadTeam team_{1};
};

}  // namespace dmamap::peers

#endif  // DMAMAP_BENCHMARKS_PEERS_IOVA_LATENCY_BODIES_H_
