// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "tools/address_map/recording.h"

namespace dmamap::address_map {
namespace {

// What the driver asked for and is not accounted for yet, by CPU and in order.
class Requests {
 public:
  explicit Requests(const Recording& dma) {
    for (const Step& step : dma.steps) {
      if (step.allocates) waiting_[dma.cpus[step.lane]].push_back(&step);
    }
  }

  // Takes the request that `step` of `cpu` served; null when none can be it.
  const Step* Take(std::uint64_t cpu, const Step& step) {
    if (const Step* found = TakeFirst(waiting_[cpu], step)) return found;
    for (auto& [other, queue] : waiting_) {
      if (const Step* found = TakeFirst(queue, step)) return found;
    }
    return nullptr;
  }

 private:
  using Queue = std::deque<const Step*>;

  static const Step* TakeFirst(Queue& queue, const Step& step) {
    if (queue.empty() || !CouldServe(*queue.front(), step)) return nullptr;
    const Step* const first = queue.front();
    queue.pop_front();
    return first;
  }

  // The number of pages of a list is not recorded (benchmarks/dma_trace.h), and
  // a list has no address.
  static bool CouldServe(const Step& request, const Step& range) {
    return request.page == 0 || request.page == range.page;
  }

  std::map<std::uint64_t, Queue> waiting_;
};

}  // namespace

absl::Status TakeHolders(const Recording& dma, Recording& iova) {
  if (dma.kind != Recording::Kind::kDma ||
      iova.kind != Recording::Kind::kIova) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s and %s: an .iova trace takes its holders from a .dma trace",
        iova.name, dma.name));
  }
  Requests requests(dma);
  std::vector<std::uint8_t> holders(iova.ranges);  // by range
  for (std::size_t i = 0; i < iova.steps.size(); ++i) {
    const Step& step = iova.steps[i];
    if (!step.allocates) continue;
    const Step* const request = requests.Take(iova.cpus[step.lane], step);
    if (request == nullptr) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s: nothing in %s asks for page %x, allocated at step %d: are they "
          "of one run?",
          iova.name, dma.name, step.page, i));
    }
    holders[step.range] = request->holder;
  }
  for (Step& step : iova.steps) step.holder = holders[step.range];
  iova.holders = dma.holders;
  iova.notes.push_back(absl::StrFormat("holders from %s", dma.name));
  return absl::OkStatus();
}

}  // namespace dmamap::address_map
