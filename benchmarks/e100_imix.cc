// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/e100_imix.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "benchmarks/rows.h"
#include "domain/domain.h"
#include "testing/domain_port.h"

namespace dmamap::bench {
namespace {

// Bounce pages and an IOTLB between the device and the buffers.
class DomainEnvironment {
 public:
  using MapperType = Domain<>;
  using PortType = DomainPort<Domain<>>;

  bool Init(PhysRange) { return domain_.Init(DomainOptions()).ok(); }
  MapperType& mapper() { return domain_; }
  PortType& port() { return port_; }
  Iova base() const { return Iova(0); }
  bool IsClean() const {
    return domain_.stats().live == 0 && domain_.CheckInvariants();
  }

 private:
  Domain<> domain_;
  PortType port_{domain_};
};
static_assert(RingEnvironment<DomainEnvironment>);

// The device reaches the buffers themselves: what the ring costs alone.
class IdentityEnvironment {
 public:
  using MapperType = IdentityMapper;
  using PortType = IdentityPort;

  bool Init(PhysRange memory) {
    const Result<Range> window = Range::FromFirstLast(
        Iova(memory.first().value()), Iova(memory.last().value()));
    if (!window.ok()) return false;
    port_.emplace(*window);
    base_ = window->first();
    return true;
  }
  MapperType& mapper() { return mapper_; }
  PortType& port() { return *port_; }  // REQUIRES: Init succeeded
  Iova base() const { return base_; }
  bool IsClean() const { return true; }

 private:
  IdentityMapper mapper_;
  std::optional<IdentityPort> port_;
  Iova base_;
};
static_assert(RingEnvironment<IdentityEnvironment>);

Outcome ToOutcome(const E100Imix& run) {
  Outcome outcome;
  outcome.cpu_ns = run.timer.NsPerOp(0);
  outcome.Add("frames", run.sent);
  outcome.Add("frames_per_s", std::round(static_cast<double>(run.sent) /
                                         std::max(run.seconds, 1e-9)));
  outcome.Add("delivered", run.delivered);
  outcome.Add("device_drops", run.device_drops);
  outcome.Add("interrupts", run.interrupts);
  outcome.Add("polls", run.polls);
  outcome.Add("restarts", run.restarts);
  outcome.Add("bytes", run.bytes);
  outcome.Add("bytes_wrong", run.wrong_bytes);
  outcome.AddHidden("frames_wrong", run.wrong_frames);
  outcome.Add("unaccounted", run.unaccounted);
  outcome.AddHidden("driver_drops", run.driver_drops);
  outcome.AddHidden("device_errors", run.device_errors);
  outcome.AddHidden("excluded_share", run.timer.excluded_share());
  if (!run.sound) outcome.error = "the ring's invariants do not hold";
  return outcome;
}

template <RingEnvironment E>
void AddRow(Report& report, std::uint64_t frames,
            const std::string& implementation) {
  Row row;
  row.part = "nicring";
  row.workload = "e100_imix";
  row.implementation = implementation;
  row.operation = "the driver's part of one frame";
  row.run = [frames] { return ToOutcome(RunE100Imix<E>(frames)); };
  for (const char* figure : {"bytes_wrong", "frames_wrong", "unaccounted",
                             "driver_drops", "device_errors"}) {
    report.Must(Zero(row.Name(), figure));
  }
  report.AddRow(std::move(row));
}

}  // namespace

void AddE100Rows(Report& report, std::uint64_t frames) {
  AddRow<DomainEnvironment>(report, frames, "dmamap");
  AddRow<IdentityEnvironment>(report, frames, "floor-identity");
}

}  // namespace dmamap::bench
