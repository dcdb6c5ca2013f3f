// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_PEERS_MIMALLOC_PAGES_H_
#define DMAMAP_BENCHMARKS_PEERS_MIMALLOC_PAGES_H_

// mimalloc, the fastest general allocator at hand, as a free list of blocks
// whose addresses stand for pages. Two sizes:
//
//   4096  real pages, aligned: what one would do instead of an IOVA allocator;
//   64    what mimalloc does best, since only the address matters here.
//
// Threads: any number, no registration.

#include <mimalloc.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "benchmarks/peers/iova_subject.h"

namespace dmamap::peers {

template <std::size_t kBytes>
class MimallocPages {
 public:
  static constexpr bool kRanges = false;
  static constexpr bool kFreeElsewhere = true;

  static absl::StatusOr<std::unique_ptr<MimallocPages>> Create(
      const IovaSpace&) {
    return std::make_unique<MimallocPages>();
  }
  absl::Status EnterThread(unsigned) { return absl::OkStatus(); }
  void LeaveThread(unsigned) {}

  std::uint64_t Allocate(std::uint64_t, std::uint64_t) {
    void* block =
        kBytes >= 4096 ? mi_malloc_aligned(kBytes, kBytes) : mi_malloc(kBytes);
    return reinterpret_cast<std::uintptr_t>(block);
  }
  bool Free(std::uint64_t page, std::uint64_t) {
    mi_free(reinterpret_cast<void*>(static_cast<std::uintptr_t>(page)));
    return true;
  }
};

static_assert(IovaSubject<MimallocPages<4096>>);

}  // namespace dmamap::peers

#endif  // DMAMAP_BENCHMARKS_PEERS_MIMALLOC_PAGES_H_
