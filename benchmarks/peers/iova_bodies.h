// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_PEERS_IOVA_BODIES_H_
#define DMAMAP_BENCHMARKS_PEERS_IOVA_BODIES_H_

// The IOVA workloads that are measured in batches; iova_workloads.h names them.
// One step is one allocation and one free unless a body says otherwise. Every
// allocation must succeed, except in mix32, and every free be accepted; what
// fails is counted.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "benchmarks/peers/iova_subject.h"
#include "benchmarks/peers/session.h"

namespace dmamap::peers {

// What the bodies share: the allocator, its threads, the count of failures.
template <IovaSubject S>
class IovaBody {
 public:
  static constexpr std::size_t kMaxThreads = 2;

  IovaBody(std::unique_ptr<S> subject, unsigned threads)
      : subject_(std::move(subject)), threads_(threads) {}

  unsigned threads() const { return threads_; }
  double operations_per_step() const { return 1; }
  std::uint64_t max_steps() const { return 0; }
  std::uint64_t failures() const {
    std::uint64_t sum = 0;
    for (const Failures& f : failures_) sum += f.count;
    return sum;
  }

 protected:
  absl::Status Enter(unsigned tid) { return subject_->EnterThread(tid); }
  void Leave(unsigned tid) { subject_->LeaveThread(tid); }

  // One thread's calls during a Run. A local variable: the loops keep the
  // allocator's address and the count of failures in registers, whichever
  // allocator it is.
  class Caller {
   public:
    Caller(IovaBody& body, unsigned tid)
        : subject_(*body.subject_), failures_(body.failures_[tid].count) {}
    Caller(const Caller&) = delete;
    Caller& operator=(const Caller&) = delete;
    ~Caller() { failures_ += failed_; }

    std::uint64_t Allocate(std::uint64_t pages) {
      const std::uint64_t page = subject_.Allocate(pages, kLastPage48);
      if (page == 0) [[unlikely]]
        ++failed_;
      return page;
    }
    // A range that could not be had is not freed.
    void Free(std::uint64_t page, std::uint64_t pages) {
      if (page == 0) [[unlikely]]
        return;
      if (!subject_.Free(page, pages)) [[unlikely]]
        ++failed_;
    }

   private:
    S& subject_;
    std::uint64_t& failures_;
    std::uint64_t failed_ = 0;
  };

  std::uint64_t Allocate(unsigned tid, std::uint64_t pages) {
    return Caller(*this, tid).Allocate(pages);
  }
  void Free(unsigned tid, std::uint64_t page, std::uint64_t pages) {
    Caller(*this, tid).Free(page, pages);
  }
  void Failed(unsigned tid) { ++failures_[tid].count; }
  S& subject() { return *subject_; }

 private:
  struct alignas(128) Failures {
    std::uint64_t count = 0;
  };
  const std::unique_ptr<S> subject_;
  const unsigned threads_;
  std::array<Failures, kMaxThreads> failures_{};
};

// pair_1t, pair_2t: allocates a page and frees it at once.
template <IovaSubject S>
class PairBody : public IovaBody<S> {
 public:
  using IovaBody<S>::IovaBody;
  absl::Status SetUp(unsigned tid) { return this->Enter(tid); }
  void Run(unsigned tid, std::uint64_t n) {
    typename IovaBody<S>::Caller caller(*this, tid);
    for (std::uint64_t i = 0; i < n; ++i) {
      const std::uint64_t page = caller.Allocate(1);
      Keep(page);
      caller.Free(page, 1);
    }
  }
  void TearDown(unsigned tid) { this->Leave(tid); }
};

// no_cache_N: the same past the caches, with N - 1 other pages live.
template <UncachedIovaSubject S>
class UncachedPairBody : public IovaBody<S> {
 public:
  UncachedPairBody(std::unique_ptr<S> subject, std::uint64_t live)
      : IovaBody<S>(std::move(subject), 1), others_(live - 1) {}

  absl::Status SetUp(unsigned tid) {
    if (absl::Status s = this->Enter(tid); !s.ok()) return s;
    for (std::uint64_t& page : others_) page = Take();
    return absl::OkStatus();
  }
  void Run(unsigned, std::uint64_t n) {
    for (std::uint64_t i = 0; i < n; ++i) {
      const std::uint64_t page = Take();
      Keep(page);
      Give(page);
    }
  }
  void TearDown(unsigned tid) {
    for (const std::uint64_t page : others_) Give(page);
    this->Leave(tid);
  }

 private:
  std::uint64_t Take() {
    const std::uint64_t page = this->subject().AllocateUncached(1, kLastPage48);
    if (page == 0) [[unlikely]]
      this->Failed(0);
    return page;
  }
  void Give(std::uint64_t page) {
    if (page == 0) [[unlikely]]
      return;
    if (!this->subject().FreeUncached(page, 1)) [[unlikely]]
      this->Failed(0);
  }
  std::vector<std::uint64_t> others_;
};

// ring1024, ring1024_16p, ring1024_2t: a ring of 1024 ranges in flight on each
// thread, as a NIC's. A step frees the oldest and allocates a new one.
template <IovaSubject S>
class RingBody : public IovaBody<S> {
 public:
  RingBody(std::unique_ptr<S> subject, unsigned threads, std::uint64_t pages)
      : IovaBody<S>(std::move(subject), threads), pages_(pages) {}

  absl::Status SetUp(unsigned tid) {
    if (absl::Status s = this->Enter(tid); !s.ok()) return s;
    for (std::uint64_t& slot : rings_[tid].slots) {
      slot = this->Allocate(tid, pages_);
    }
    return absl::OkStatus();
  }
  void Run(unsigned tid, std::uint64_t n) {
    typename IovaBody<S>::Caller caller(*this, tid);
    const std::uint64_t pages = pages_;
    Ring& ring = rings_[tid];
    std::size_t at = ring.oldest;
    for (std::uint64_t i = 0; i < n; ++i) {
      caller.Free(ring.slots[at], pages);
      ring.slots[at] = caller.Allocate(pages);
      at = (at + 1) % ring.slots.size();
    }
    ring.oldest = at;
  }
  void TearDown(unsigned tid) {
    for (const std::uint64_t page : rings_[tid].slots) {
      this->Free(tid, page, pages_);
    }
    this->Leave(tid);
  }

 private:
  struct alignas(128) Ring {
    std::array<std::uint64_t, 1024> slots{};
    std::size_t oldest = 0;
  };
  const std::uint64_t pages_;
  std::array<Ring, IovaBody<S>::kMaxThreads> rings_;
};

// burst64, burst256, burst1024: a step allocates that many pages, then frees
// them in the same order, as a polling driver does with a budget of packets.
template <IovaSubject S>
class BurstBody : public IovaBody<S> {
 public:
  BurstBody(std::unique_ptr<S> subject, std::size_t burst)
      : IovaBody<S>(std::move(subject), 1), pages_(burst) {}

  double operations_per_step() const {
    return static_cast<double>(pages_.size());
  }
  absl::Status SetUp(unsigned tid) { return this->Enter(tid); }
  void Run(unsigned tid, std::uint64_t n) {
    typename IovaBody<S>::Caller caller(*this, tid);
    for (std::uint64_t i = 0; i < n; ++i) {
      for (std::uint64_t& page : pages_) page = caller.Allocate(1);
      for (const std::uint64_t page : pages_) caller.Free(page, 1);
    }
  }
  void TearDown(unsigned tid) { this->Leave(tid); }

 private:
  std::vector<std::uint64_t> pages_;
};

// prodcons: thread 0 allocates a page in each step, thread 1 frees it.
template <IovaSubject S>
class ProducerConsumerBody : public IovaBody<S> {
 public:
  explicit ProducerConsumerBody(std::unique_ptr<S> subject)
      : IovaBody<S>(std::move(subject), 2) {}

  absl::Status SetUp(unsigned tid) { return this->Enter(tid); }
  void Run(unsigned tid, std::uint64_t n) {
    typename IovaBody<S>::Caller caller(*this, tid);
    if (tid == 0) {
      for (std::uint64_t i = 0; i < n; ++i) queue_.Push(caller.Allocate(1));
      queue_.Flush();
    } else {
      for (std::uint64_t i = 0; i < n; ++i) caller.Free(queue_.Pop(), 1);
    }
  }
  void TearDown(unsigned tid) { this->Leave(tid); }

 private:
  PageQueue queue_;
};

// mixed: 4096 ranges in flight of 1, 2, 4 ... 32 pages, each size as likely; a
// step replaces one chosen at random.
template <IovaSubject S>
class MixedBody : public IovaBody<S> {
 public:
  explicit MixedBody(std::unique_ptr<S> subject)
      : IovaBody<S>(std::move(subject), 1) {}

  absl::Status SetUp(unsigned tid) {
    if (absl::Status s = this->Enter(tid); !s.ok()) return s;
    for (Live& live : live_) {
      live.pages = std::uint64_t{1} << random_.Below(kSizes);
      live.page = this->Allocate(tid, live.pages);
    }
    return absl::OkStatus();
  }
  void Run(unsigned tid, std::uint64_t n) {
    typename IovaBody<S>::Caller caller(*this, tid);
    Random random = random_;
    for (std::uint64_t i = 0; i < n; ++i) {
      const std::uint64_t r = random();
      Live& live = live_[r % live_.size()];  // the low bits choose the slot
      caller.Free(live.page, live.pages);
      live.pages = std::uint64_t{1} << (((r >> 32) * kSizes) >> 32);
      live.page = caller.Allocate(live.pages);
    }
    random_ = random;
  }
  void TearDown(unsigned tid) {
    for (const Live& live : live_) this->Free(tid, live.page, live.pages);
    this->Leave(tid);
  }

 private:
  static constexpr std::uint64_t kSizes = 6;
  struct Live {
    std::uint64_t page = 0;
    std::uint64_t pages = 0;
  };
  Random random_{7};
  std::array<Live, 4096> live_{};
};

// mix32: 20,000 ranges in flight in a 32-bit space, of which they fill about
// seven tenths: 72 % of the requests are for 1, 2, 4, 8 or 16 pages, 28 % for
// 32, 64, 128 or 256, each size as likely as the others of its kind. A step
// replaces one chosen at random; what the allocator refuses is left out and
// counted: "refused", in percent of the requests since the first 60,000 steps,
// which come before the measurement.
template <IovaSubject S>
class Mix32Body : public IovaBody<S> {
 public:
  explicit Mix32Body(std::unique_ptr<S> subject)
      : IovaBody<S>(std::move(subject), 1), live_(20'000) {}

  absl::Status SetUp(unsigned tid) {
    if (absl::Status s = this->Enter(tid); !s.ok()) return s;
    for (Live& live : live_) Fill(live);
    Run(tid, 3 * live_.size());
    requested_ = refused_ = 0;
    return absl::OkStatus();
  }
  void Run(unsigned tid, std::uint64_t n) {
    typename IovaBody<S>::Caller caller(*this, tid);
    for (std::uint64_t i = 0; i < n; ++i) {
      Live& live = live_[random_.Below(live_.size())];
      caller.Free(live.page, live.pages);
      Fill(live);
    }
  }
  void TearDown(unsigned tid) {
    for (const Live& live : live_) this->Free(tid, live.page, live.pages);
    this->Leave(tid);
  }
  void AddMetrics(std::vector<Metric>& metrics) const {
    metrics.push_back({"refused", "%",
                       100 * static_cast<double>(refused_) /
                           static_cast<double>(requested_)});
  }

 private:
  struct Live {
    std::uint64_t page = 0;
    std::uint64_t pages = 0;
  };
  void Fill(Live& live) {
    live.pages = random_.Below(100) < 72
                     ? std::uint64_t{1} << random_.Below(5)
                     : std::uint64_t{32} << random_.Below(4);
    live.page = this->subject().Allocate(live.pages, kLastPage32);
    ++requested_;
    if (live.page == 0) ++refused_;
  }
  Random random_{32};
  std::vector<Live> live_;
  std::uint64_t requested_ = 0;
  std::uint64_t refused_ = 0;
};

}  // namespace dmamap::peers

#endif  // DMAMAP_BENCHMARKS_PEERS_IOVA_BODIES_H_
