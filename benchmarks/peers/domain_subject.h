// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_PEERS_DOMAIN_SUBJECT_H_
#define DMAMAP_BENCHMARKS_PEERS_DOMAIN_SUBJECT_H_

// What a DMA domain must offer to be measured (domain_workloads.h). Sizes are
// in bytes. A Handle is what Map gives and Unmap needs: an address, or more.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "dma/direction.h"
#include "dma/mapper.h"

namespace dmamap::peers {

struct DomainSpace {
  std::uint64_t bounce_bytes = 64 << 20;  // the most that is mapped at a time
  unsigned threads = 1;                   // that will call EnterThread
};

template <class S>
concept DomainSubject = requires(S& s, const DomainSpace& space, unsigned tid,
                                 std::byte* buffer, std::size_t bytes,
                                 Direction direction, MapAttributes attributes,
                                 std::size_t offset,
                                 typename S::Handle& handle) {
  // False: a floor that only copies, and remembers no mapping.
  { S::kMaps } -> std::convertible_to<bool>;
  { S::Create(space) } -> std::same_as<absl::StatusOr<std::unique_ptr<S>>>;
  // Once on each thread, with numbers below space.threads, before its first
  // call; and after its last.
  { s.EnterThread(tid) } -> std::same_as<absl::Status>;
  s.LeaveThread(tid);
  // Both false for a failure. With kSkipSync nothing is copied.
  { s.Map(buffer, bytes, direction, attributes, handle) } -> std::same_as<bool>;
  { s.Unmap(handle, bytes, direction, attributes) } -> std::same_as<bool>;
  // What the device reaches of a live mapping from `offset` on: at least one
  // byte, and no more than lie together; none for a failure. From then on the
  // page is there, also for later mappings.
  {
    s.DeviceBytes(handle, offset, direction)
    } -> std::same_as<std::span<std::byte>>;
};

// It knows how many bytes it has copied, in both directions together.
template <class S>
concept CopyCountingSubject = DomainSubject<S> && requires(const S& s) {
  { s.bytes_copied() } -> std::same_as<std::uint64_t>;
};

}  // namespace dmamap::peers

#endif  // DMAMAP_BENCHMARKS_PEERS_DOMAIN_SUBJECT_H_
