// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_PEERS_SESSION_H_
#define DMAMAP_BENCHMARKS_PEERS_SESSION_H_

// A session is one workload on one implementation, set up and ready to be
// repeated. Each Run() is one repetition and returns its raw figures, so that a
// reporter can interleave the implementations and take medians:
//
//   for (int r = 0; r < repetitions; ++r)
//     for (auto& session : sessions) Record(session->Run());
//
// A session runs on threads of its own, so that implementations with
// thread-local state do not meet. A repetition in which a thread was preempted,
// or whose threads did not start together, is thrown away and repeated; one
// that never came out clean says so.
//
// Two kinds of workload, each a class (a "body") that a session drives:
//
//   BatchBody    threads(), SetUp(tid), Run(tid, n): n operations,
//                TearDown(tid). Gives ns/op: the mean over the threads, and
//                the slowest one.
//   LatencyBody  SetUp(), Step(recorder): some operations, of which
//                recorder.Time() times single ones; TearDown(). Gives mean and
//                percentiles of each series in ns, clock reads included, and
//                "clock_read", what those add.

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "benchmarks/peers/measure.h"

namespace dmamap::peers {

struct SessionOptions {
  // CPU time that one repetition aims at. Where one operation alone takes
  // longer, the repetition does.
  double repetition_ns = 3e6;
  // Wall time after which a repetition that times single operations ends, if it
  // has any.
  double latency_limit_ns = 300e6;
  // Wall time that a workload may spend at the beginning to reach the state in
  // which an allocator that ages has aged.
  double ageing_ns = 3e9;
  // Repetitions (or chunks of timed operations) thrown away before an unclean
  // one is accepted.
  unsigned max_discarded = 200;
};

struct Metric {
  std::string name;  // "ns_per_op", "alloc_p99", ...
  std::string unit;
  double value;
};

struct Repetition {
  std::vector<Metric> metrics;
  // Operations that failed where the workload expects success, since the
  // session began. Figures with failures are worth nothing.
  std::uint64_t failures = 0;
  bool clean = true;
  unsigned discarded = 0;  // repetitions, or chunks of timed operations
};

class Session {
 public:
  virtual ~Session() = default;
  virtual Repetition Run() = 0;
};

// The body's own additions to a repetition.
template <class Body>
concept HasMetrics = requires(Body& body, std::vector<Metric>& metrics) {
  body.AddMetrics(metrics);
};

// Calls job(t) on one thread of the team after the other.
template <class Job>
void RunInTurn(ThreadTeam& team, Job&& job) {
  for (unsigned turn = 0; turn < team.size(); ++turn) {
    team.Run([&](unsigned t) {
      if (t == turn) job(t);
    });
  }
}

// --- Throughput --------------------------------------------------------------

// One thread's share of a repetition.
struct alignas(128) BatchReading {
  double start = 0;  // wall clock, ns
  double cpu_ns = 0;
  bool preempted = false;
};

// No thread was preempted and all ran side by side: they started within a
// twentieth of the repetition of each other. `readings` is not empty.
inline bool Undisturbed(const std::vector<BatchReading>& readings) {
  return std::all_of(
      readings.begin(), readings.end(), [&](const BatchReading& r) {
        const double skew = std::abs(r.start - readings[0].start);
        return !r.preempted && skew <= 0.05 * r.cpu_ns;
      });
}

template <class Body>
concept BatchBody = requires(Body& body, unsigned tid, std::uint64_t n) {
  { body.threads() } -> std::convertible_to<unsigned>;
  { body.SetUp(tid) } -> std::same_as<absl::Status>;
  body.Run(tid, n);
  body.TearDown(tid);
  // Operations behind one step of Run's n.
  { body.operations_per_step() } -> std::convertible_to<double>;
  // The most steps of one Run; 0 for no limit.
  { body.max_steps() } -> std::convertible_to<std::uint64_t>;
  { body.failures() } -> std::convertible_to<std::uint64_t>;
};

template <BatchBody Body>
class BatchSession final : public Session {
 public:
  static absl::StatusOr<std::unique_ptr<Session>> Create(
      std::unique_ptr<Body> body, const SessionOptions& options) {
    std::unique_ptr<BatchSession> session(
        new BatchSession(std::move(body), options));
    absl::Status status;
    RunInTurn(session->team_,
              [&](unsigned t) { status.Update(session->body_->SetUp(t)); });
    if (!status.ok()) return status;
    session->Calibrate();
    return session;
  }

  ~BatchSession() override {
    RunInTurn(team_, [this](unsigned t) { body_->TearDown(t); });
  }

  Repetition Run() override {
    Repetition repetition;
    double ns = RunOnce(repetition.clean);
    while (!repetition.clean && repetition.discarded < options_.max_discarded) {
      ++repetition.discarded;
      ns = RunOnce(repetition.clean);
    }
    repetition.metrics.push_back(
        {"ns_per_op", "ns",
         ns / static_cast<double>(steps_) / body_->operations_per_step()});
    if constexpr (HasMetrics<Body>) body_->AddMetrics(repetition.metrics);
    repetition.metrics.push_back({"slowest_thread", "ns",
                                  slowest_ / static_cast<double>(steps_) /
                                      body_->operations_per_step()});
    repetition.failures = body_->failures();
    return repetition;
  }

 private:
  BatchSession(std::unique_ptr<Body> body, const SessionOptions& options)
      : options_(options),
        body_(std::move(body)),
        team_(body_->threads()),
        readings_(team_.size()) {}

  // Finds the number of steps that takes repetition_ns, and warms up.
  void Calibrate() {
    for (int i = 0; i < 12; ++i) {
      bool clean;
      const double ns = std::max(1.0, RunOnce(clean));
      const double ratio = options_.repetition_ns / ns;
      if (ratio > 0.7 && ratio < 1.4) return;
      const double steps =
          static_cast<double>(steps_) * std::clamp(ratio, 0.01, 20.0);
      std::uint64_t wanted = static_cast<std::uint64_t>(std::ceil(steps));
      if (body_->max_steps() != 0) {
        wanted = std::min(wanted, std::uint64_t{body_->max_steps()});
      }
      if (wanted == steps_) return;
      steps_ = wanted;
    }
  }

  // One repetition; the mean of the threads' CPU times.
  double RunOnce(bool& clean) {
    team_.Run([this](unsigned t) {
      // Other sessions have had the caches in the meantime.
      body_->Run(t, steps_ / 2 + 1);
      team_.Barrier();
      BatchReading& reading = readings_[t];
      const long preemptions = Preemptions();
      reading.start = static_cast<double>(WallNs());
      const std::uint64_t before = ThreadCpuNs();
      body_->Run(t, steps_);
      reading.cpu_ns = static_cast<double>(ThreadCpuNs() - before);
      reading.preempted = Preemptions() != preemptions;
    });
    double sum = 0;
    slowest_ = 0;
    for (const BatchReading& reading : readings_) {
      sum += reading.cpu_ns;
      slowest_ = std::max(slowest_, reading.cpu_ns);
    }
    clean = Undisturbed(readings_);
    return sum / static_cast<double>(readings_.size());
  }

  const SessionOptions options_;
  const std::unique_ptr<Body> body_;
  ThreadTeam team_;
  std::vector<BatchReading> readings_;
  std::uint64_t steps_ = 64;
  double slowest_ = 0;  // of the threads of the last repetition
};

// --- Single operations -------------------------------------------------------

// The smallest sample that at least this share of all does not exceed. `sorted`
// ascends and is not empty.
inline double PercentileOfSorted(const std::vector<double>& sorted,
                                 double share) {
  const double rank = std::ceil(share * static_cast<double>(sorted.size()));
  return sorted[std::max<std::size_t>(static_cast<std::size_t>(rank), 1) - 1];
}

// Collects the times of single operations, in chunks that are kept or dropped
// as a whole.
class LatencyRecorder {
 public:
  explicit LatencyRecorder(std::size_t series) : kept_(series) {}

  // Times one call of `operation` under the number of its series.
  template <class Operation>
  void Time(std::size_t series, Operation&& operation) {
    const std::uint64_t before = WallNs();
    operation();
    const std::uint64_t after = WallNs();
    pending_.push_back({series, static_cast<double>(after - before)});
  }

  void KeepChunk() {
    for (const Sample& sample : pending_) {
      kept_[sample.series].push_back(sample.ns);
    }
    pending_.clear();
  }
  void DropChunk() { pending_.clear(); }
  // Nothing has been kept yet.
  bool empty() const {
    return std::all_of(kept_.begin(), kept_.end(),
                       [](const auto& samples) { return samples.empty(); });
  }
  // Takes time in which the thread did not run off the longest operation.
  void TakeOffLongest(double ns) {
    const auto longest = std::max_element(
        pending_.begin(), pending_.end(),
        [](const Sample& a, const Sample& b) { return a.ns < b.ns; });
    if (longest != pending_.end())
      longest->ns = std::max(0.0, longest->ns - ns);
  }

  // Mean and percentiles of a series of at least one sample.
  void Report(std::size_t series, const std::string& name,
              std::vector<Metric>& metrics) {
    std::vector<double>& all = kept_[series];
    if (all.empty()) return;
    std::sort(all.begin(), all.end());
    double sum = 0;
    for (const double ns : all) sum += ns;
    const auto count = static_cast<double>(all.size());
    metrics.push_back({name + "_mean", "ns", sum / count});
    metrics.push_back({name + "_p50", "ns", PercentileOfSorted(all, 0.5)});
    metrics.push_back({name + "_p99", "ns", PercentileOfSorted(all, 0.99)});
    metrics.push_back({name + "_p999", "ns", PercentileOfSorted(all, 0.999)});
    metrics.push_back({name + "_max", "ns", all.back()});
    metrics.push_back({name + "_samples", "count", count});
  }

 private:
  struct Sample {
    std::size_t series;
    double ns;
  };
  std::vector<Sample> pending_;
  std::vector<std::vector<double>> kept_;
};

template <class Body>
concept LatencyBody = requires(Body& body, LatencyRecorder& recorder) {
  { body.SetUp() } -> std::same_as<absl::Status>;
  body.Step(recorder);
  body.TearDown();
  { Body::kSeries[0] } -> std::convertible_to<std::string>;  // their names
  // Steps of one repetition, if time allows.
  { body.max_steps() } -> std::convertible_to<std::uint64_t>;
  { body.failures() } -> std::convertible_to<std::uint64_t>;
};

template <LatencyBody Body>
class LatencySession final : public Session {
 public:
  static absl::StatusOr<std::unique_ptr<Session>> Create(
      std::unique_ptr<Body> body, const SessionOptions& options) {
    std::unique_ptr<LatencySession> session(
        new LatencySession(std::move(body), options));
    absl::Status status;
    session->team_.Run([&](unsigned) { status = session->body_->SetUp(); });
    if (!status.ok()) return status;
    return session;
  }

  ~LatencySession() override {
    team_.Run([this](unsigned) { body_->TearDown(); });
  }

  Repetition Run() override {
    Repetition repetition;
    team_.Run([&](unsigned) {
      LatencyRecorder recorder(std::size(Body::kSeries));
      const double clock_read = ClockReadNs();
      const auto deadline =
          WallNs() + static_cast<std::uint64_t>(options_.latency_limit_ns);
      const auto unfinished = [&](std::uint64_t steps) {
        if (steps < body_->max_steps() && WallNs() < deadline) return true;
        return recorder.empty() &&
               repetition.discarded < options_.max_discarded;
      };
      for (std::uint64_t steps = 0; unfinished(steps);) {
        steps += RunChunk(recorder, repetition.discarded);
      }
      for (std::size_t s = 0; s < std::size(Body::kSeries); ++s) {
        recorder.Report(s, Body::kSeries[s], repetition.metrics);
      }
      repetition.metrics.push_back({"clock_read", "ns", clock_read});
    });
    if constexpr (HasMetrics<Body>) body_->AddMetrics(repetition.metrics);
    repetition.failures = body_->failures();
    // Without a sample there is no mean: every chunk was disturbed.
    repetition.clean = repetition.metrics.size() > 1;
    return repetition;
  }

 private:
  LatencySession(std::unique_ptr<Body> body, const SessionOptions& options)
      : options_(options), body_(std::move(body)) {}

  // Steps for 50 us, 64 at most, and keeps their times unless the thread was
  // preempted meanwhile. A step that is longer than that by itself is kept
  // less the time the thread did not run: dropping it would hide slow ones.
  std::uint64_t RunChunk(LatencyRecorder& recorder, unsigned& dropped) {
    const long preemptions = Preemptions();
    const std::uint64_t cpu_before = ThreadCpuNs();
    const std::uint64_t before = WallNs();
    std::uint64_t steps = 0;
    do {
      body_->Step(recorder);
    } while (++steps < 64 && WallNs() - before < 50'000);
    const auto wall = static_cast<double>(WallNs() - before);
    const auto cpu = static_cast<double>(ThreadCpuNs() - cpu_before);
    if (Preemptions() == preemptions) {
      recorder.KeepChunk();
    } else if (steps == 1) {
      recorder.TakeOffLongest(std::max(0.0, wall - cpu));
      recorder.KeepChunk();
    } else {
      recorder.DropChunk();
      ++dropped;
    }
    return steps;
  }

  const SessionOptions options_;
  const std::unique_ptr<Body> body_;
  ThreadTeam team_{1};
};

}  // namespace dmamap::peers

#endif  // DMAMAP_BENCHMARKS_PEERS_SESSION_H_
