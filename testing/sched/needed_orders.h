// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_SCHED_NEEDED_ORDERS_H_
#define DMAMAP_TESTING_SCHED_NEEDED_ORDERS_H_

// UnneededOrders: is every memory order in the source needed, and would the
// test notice a weaker one?
//
// The negative control of a whole test at once: each explicit order that the
// body executes is made weaker by one step (seq_cst to acq_rel; acq_rel to
// acquire, and to release; acquire and release to relaxed), one at a time, and
// explored again.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "dma/version.h"
#include "testing/sched/explore.h"
#include "testing/sched/op.h"
#include "testing/sched/options.h"
#include "testing/sched/site.h"

namespace dmamap::inline v0 {
namespace sched {

namespace internal {

inline std::vector<std::memory_order> OneStepWeaker(OpKind kind,
                                                    std::memory_order order) {
  switch (order) {
    case std::memory_order_seq_cst:
      if (kind == OpKind::kLoad) return {std::memory_order_acquire};
      if (kind == OpKind::kStore) return {std::memory_order_release};
      return {std::memory_order_acq_rel};
    case std::memory_order_acq_rel:
      return {std::memory_order_acquire, std::memory_order_release};
    case std::memory_order_relaxed:
      return {};
    default:
      return {std::memory_order_relaxed};
  }
}

inline std::string Describe(const Op& op, std::memory_order from,
                            const Weaken& weaken) {
  return std::string(BaseName(op.site)) + ":" + std::to_string(op.site.line) +
         " " + std::string(FunctionName(op.site.function)) + ": " + op.name +
         " " + OrderName(from) + (weaken.failure ? " on failure" : "") +
         " -> " + OrderName(weaken.to);
}

}  // namespace internal

// The weaker orders that no body notices, as "sync.h:96 unlock: store
// release -> relaxed"; sorted by place. Empty: each order is needed. A failure
// of an unchanged body is the one entry then.
inline std::vector<std::string> UnneededOrders(
    const Options& options, const std::vector<Body>& bodies) {
  std::vector<Op> sites;
  Options observe = options;
  observe.sites = &sites;
  for (const Body& body : bodies) {
    const Report unchanged = Explore(observe, body);
    if (!unchanged.ok)
      return {"the unchanged body fails: " + unchanged.failure};
  }

  std::vector<std::string> unneeded;
  const auto try_weaker = [&](const Op& op, bool failure) {
    const std::memory_order from = failure ? op.failure : op.order;
    const OpKind kind = failure ? OpKind::kLoad : op.kind;
    for (const std::memory_order to : internal::OneStepWeaker(kind, from)) {
      Options weaker = options;
      weaker.weaken = {.function = op.site.function,
                       .access = op.name,
                       .line = op.site.line,
                       .failure = failure,
                       .to = to};
      const auto passes = [&](const Body& b) { return Explore(weaker, b).ok; };
      if (std::all_of(bodies.begin(), bodies.end(), passes)) {
        unneeded.push_back(internal::Describe(op, from, weaker.weaken));
      }
    }
  };
  for (const Op& op : sites) {
    try_weaker(op, false);
    if (IsCompare(op)) try_weaker(op, true);
  }
  std::sort(unneeded.begin(), unneeded.end());
  return unneeded;
}
inline std::vector<std::string> UnneededOrders(const Options& options,
                                               const Body& body) {
  return UnneededOrders(options, std::vector<Body>{body});
}

}  // namespace sched
}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_SCHED_NEEDED_ORDERS_H_
