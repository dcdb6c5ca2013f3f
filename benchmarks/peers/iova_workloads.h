// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_PEERS_IOVA_WORKLOADS_H_
#define DMAMAP_BENCHMARKS_PEERS_IOVA_WORKLOADS_H_

// The IOVA workloads by name, for any allocator that is an IovaSubject:
//
//   absl::StatusOr<std::unique_ptr<Session>> session =
//       MakeIovaSession<LinuxIova>("ring1024", SessionOptions{});
//
//   pair_1t pair_2t                     one page, allocated and freed at once
//   ring1024 ring1024_16p ring1024_2t   1024 ranges in flight, oldest replaced
//   burst64 burst256 burst1024          so many allocated, then freed
//   prodcons                            allocated here, freed there
//   mixed                               1 to 32 pages, 4096 in flight
//   mix32                               1 to 256 pages, 20,000 in flight, in
//                                       32 bits
//   fresh                               first 65,536 of a new allocator
//   no_cache_N                          pair past the caches, N live
//   large_live_N                        64 to 256 pages, N live, single
//                                       operations timed
//   frag32_refuse frag32_low            two pages wanted of a fragmented 32-bit
//                                       space, single operations timed
//
// A workload that an implementation cannot run (a free list has no ranges)
// gives kUnimplemented, an unknown name kNotFound.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "benchmarks/peers/iova_bodies.h"
#include "benchmarks/peers/iova_latency_bodies.h"
#include "benchmarks/peers/iova_subject.h"
#include "benchmarks/peers/session.h"

namespace dmamap::peers {

inline std::vector<std::string> IovaWorkloads() {
  return {"pair_1t",
          "pair_2t",
          "ring1024",
          "ring1024_16p",
          "ring1024_2t",
          "burst64",
          "burst256",
          "burst1024",
          "prodcons",
          "mixed",
          "mix32",
          "fresh",
          "no_cache_1",
          "no_cache_1000",
          "no_cache_65536",
          "no_cache_1000000",
          "large_live_10000",
          "large_live_100000",
          "large_live_1000000",
          "frag32_refuse",
          "frag32_low"};
}

// The number in "prefixNUMBER"; nothing for another name, or for 0.
inline std::optional<std::uint64_t> NumberAfter(absl::string_view prefix,
                                                absl::string_view name) {
  std::uint64_t number = 0;
  if (!absl::ConsumePrefix(&name, prefix) || !absl::SimpleAtoi(name, &number) ||
      number == 0) {
    return std::nullopt;
  }
  return number;
}

// Builds the allocator, and on it a session of Body(allocator, arguments...).
template <template <class> class Body, IovaSubject S, class... Arguments>
absl::StatusOr<std::unique_ptr<Session>> MakeBodySession(
    const IovaSpace& space, const SessionOptions& options,
    Arguments&&... arguments) {
  absl::StatusOr<std::unique_ptr<S>> subject = S::Create(space);
  if (!subject.ok()) return subject.status();
  auto body = std::make_unique<Body<S>>(std::move(*subject),
                                        std::forward<Arguments>(arguments)...);
  if constexpr (LatencyBody<Body<S>>) {
    return LatencySession<Body<S>>::Create(std::move(body), options);
  } else {
    return BatchSession<Body<S>>::Create(std::move(body), options);
  }
}

namespace internal {

// Workloads of single pages, which a plain free list can run as well.
template <IovaSubject S>
absl::StatusOr<std::unique_ptr<Session>> MakePageSession(
    absl::string_view workload, const SessionOptions& options) {
  const IovaSpace one{};
  const IovaSpace two{.threads = 2};
  if (workload == "pair_1t")
    return MakeBodySession<PairBody, S>(one, options, 1u);
  if (workload == "pair_2t")
    return MakeBodySession<PairBody, S>(two, options, 2u);
  if (workload == "ring1024") {
    return MakeBodySession<RingBody, S>(one, options, 1u, 1u);
  }
  if (workload == "ring1024_2t") {
    return MakeBodySession<RingBody, S>(two, options, 2u, 1u);
  }
  if (const auto burst = NumberAfter("burst", workload)) {
    return MakeBodySession<BurstBody, S>(one, options, *burst);
  }
  if (workload == "prodcons") {
    if constexpr (S::kFreeElsewhere) {
      return MakeBodySession<ProducerConsumerBody, S>(two, options);
    }
    return absl::UnimplementedError("frees on the allocating thread only");
  }
  return absl::NotFoundError(absl::StrCat("no IOVA workload ", workload));
}

// Workloads that need ranges or a limit.
template <IovaSubject S>
absl::StatusOr<std::unique_ptr<Session>> MakeRangeSession(
    absl::string_view workload, const SessionOptions& options) {
  const IovaSpace wide{};
  const IovaSpace narrow{.last_page = kLastPage32};
  if (workload == "ring1024_16p") {
    return MakeBodySession<RingBody, S>(wide, options, 1u, 16u);
  }
  if (workload == "mixed") return MakeBodySession<MixedBody, S>(wide, options);
  if (workload == "mix32")
    return MakeBodySession<Mix32Body, S>(narrow, options);
  if (workload == "fresh") return std::make_unique<FreshSession<S>>(options);
  if (const auto live = NumberAfter("large_live_", workload)) {
    return MakeBodySession<LargeLiveBody, S>(wide, options, *live,
                                             options.ageing_ns);
  }
  if (workload == "frag32_refuse") {
    return MakeBodySession<Frag32Body, S>(narrow, options, Frag32::kRefuse);
  }
  if (workload == "frag32_low") {
    return MakeBodySession<Frag32Body, S>(narrow, options, Frag32::kLow);
  }
  if (const auto live = NumberAfter("no_cache_", workload)) {
    if constexpr (UncachedIovaSubject<S>) {
      return MakeBodySession<UncachedPairBody, S>(wide, options, *live);
    }
    return absl::UnimplementedError("cannot bypass its caches");
  }
  return absl::NotFoundError(absl::StrCat("no IOVA workload ", workload));
}

}  // namespace internal

template <IovaSubject S>
absl::StatusOr<std::unique_ptr<Session>> MakeIovaSession(
    absl::string_view workload, const SessionOptions& options) {
  absl::StatusOr<std::unique_ptr<Session>> session =
      internal::MakePageSession<S>(workload, options);
  if (!absl::IsNotFound(session.status())) return session;
  if constexpr (S::kRanges) {
    return internal::MakeRangeSession<S>(workload, options);
  }
  for (const std::string& known : IovaWorkloads()) {
    if (known == workload) return absl::UnimplementedError("has no ranges");
  }
  return session;
}

}  // namespace dmamap::peers

#endif  // DMAMAP_BENCHMARKS_PEERS_IOVA_WORKLOADS_H_
