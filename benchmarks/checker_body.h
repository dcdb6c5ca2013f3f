// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_CHECKER_BODY_H_
#define DMAMAP_BENCHMARKS_CHECKER_BODY_H_

// What a check costs, beside the same calls without it: two bodies take turns
// of some microseconds on one thread, and each turn of the one is compared with
// its neighbour of the other. Whatever slows the machine down for longer slows
// both; the median of the ratios is what is left. (Two rows, each measured for
// milliseconds, differed by up to 20 % from run to run; this, by one.)

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "benchmarks/peers/domain_subject.h"
#include "benchmarks/peers/domain_workloads.h"
#include "benchmarks/peers/measure.h"
#include "benchmarks/peers/session.h"
#include "benchmarks/report.h"

namespace dmamap::bench {

// A BatchBody; an operation is one of either. Adds "checker_percent": how much
// longer one of `Checked` takes.
template <peers::BatchBody Checked, peers::BatchBody Unchecked>
class PairedBody {
 public:
  PairedBody(std::unique_ptr<Checked> checked,
             std::unique_ptr<Unchecked> unchecked)
      : checked_(std::move(checked)), unchecked_(std::move(unchecked)) {}

  unsigned threads() const { return 1; }
  double operations_per_step() const { return 2; }
  std::uint64_t max_steps() const { return 0; }
  std::uint64_t failures() const {
    return checked_->failures() + unchecked_->failures();
  }
  absl::Status SetUp(unsigned tid) {
    absl::Status status = checked_->SetUp(tid);
    status.Update(unchecked_->SetUp(tid));
    return status;
  }
  void TearDown(unsigned tid) {
    unchecked_->TearDown(tid);
    checked_->TearDown(tid);
  }

  void Run(unsigned tid, std::uint64_t n) {
    for (bool swap = false; n != 0; swap = !swap) {
      const std::uint64_t turn = std::min(n, kTurn);
      // Who comes first changes with each pair.
      double unchecked = swap ? TimeOf(*unchecked_, tid, turn) : 0;
      const double checked = TimeOf(*checked_, tid, turn);
      if (!swap) unchecked = TimeOf(*unchecked_, tid, turn);
      ratios_.push_back(checked / unchecked);
      n -= turn;
    }
  }

  // Of all turns since the last call.
  void AddMetrics(std::vector<peers::Metric>& metrics) {
    if (ratios_.empty()) return;
    metrics.push_back(
        {"checker_percent", "percent", 100 * (Median(std::move(ratios_)) - 1)});
    ratios_.clear();
  }

 private:
  static constexpr std::uint64_t kTurn = 256;  // operations

  template <class Body>
  static double TimeOf(Body& body, unsigned tid, std::uint64_t turn) {
    const std::uint64_t before = peers::WallNs();
    body.Run(tid, turn);
    return static_cast<double>(peers::WallNs() - before);
  }

  const std::unique_ptr<Checked> checked_;
  const std::unique_ptr<Unchecked> unchecked_;
  std::vector<double> ratios_;
};

// A session of `workload` (peers/domain_workloads.h) on both.
template <peers::DomainSubject Checked, peers::DomainSubject Unchecked>
absl::StatusOr<std::unique_ptr<peers::Session>> MakePairedSession(
    absl::string_view workload, const peers::SessionOptions& options) {
  const auto parsed = peers::ParseDomainWorkload(workload);
  if (!parsed.has_value()) return absl::NotFoundError("no DMA workload");
  auto checked = Checked::Create({});
  if (!checked.ok()) return checked.status();
  auto unchecked = Unchecked::Create({});
  if (!unchecked.ok()) return unchecked.status();
  using A = peers::DomainBody<Checked>;
  using B = peers::DomainBody<Unchecked>;
  return peers::BatchSession<PairedBody<A, B>>::Create(
      std::make_unique<PairedBody<A, B>>(
          std::make_unique<A>(*std::move(checked), *parsed),
          std::make_unique<B>(*std::move(unchecked), *parsed)),
      options);
}

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_CHECKER_BODY_H_
