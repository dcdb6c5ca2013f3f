// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_PEERS_IOVA_SUBJECT_H_
#define DMAMAP_BENCHMARKS_PEERS_IOVA_SUBJECT_H_

// What an IOVA allocator must offer to be measured (iova_workloads.h). dmamap,
// Linux and the floors each have one small class of this kind, so that all run
// through the same loops, inlined where they can be.
//
// Units: page numbers and counts of 4 KiB pages; limits are the last page that
// may be used, inclusive. A range of n pages is aligned to n rounded up to a
// power of two. Page 0 is never handed out: 0 stands for a failure.

#include <concepts>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace dmamap::peers {

// The last page of a 32-bit and of a 48-bit space.
inline constexpr std::uint64_t kLastPage32 = (std::uint64_t{1} << 20) - 1;
inline constexpr std::uint64_t kLastPage48 = (std::uint64_t{1} << 36) - 1;

struct IovaSpace {
  std::uint64_t first_page = 1;
  std::uint64_t last_page = kLastPage48;
  unsigned threads = 1;  // that will call EnterThread
};

template <class S>
concept IovaSubject = requires(S& s, const IovaSpace& space, unsigned tid,
                               std::uint64_t pages, std::uint64_t page,
                               std::uint64_t last_page) {
  // False: a free list of single blocks; sizes and limits mean nothing to it.
  { S::kRanges } -> std::convertible_to<bool>;
  // False: only the thread that allocated may free.
  { S::kFreeElsewhere } -> std::convertible_to<bool>;
  { S::Create(space) } -> std::same_as<absl::StatusOr<std::unique_ptr<S>>>;
  // Each thread calls this once, with a number of its own below
  // space.threads, before it uses the allocator...
  { s.EnterThread(tid) } -> std::same_as<absl::Status>;
  // ...and this when it has finished; an allocator is destroyed afterwards, by
  // any thread, with or without live ranges.
  s.LeaveThread(tid);
  { s.Allocate(pages, last_page) } -> std::same_as<std::uint64_t>;
  // False: the allocator refused to take the range back.
  { s.Free(page, pages) } -> std::same_as<bool>;
};

// The same past all caches: what the range store alone costs.
template <class S>
concept UncachedIovaSubject = IovaSubject<S> &&
    requires(S& s, std::uint64_t n, std::uint64_t last_page) {
  { s.AllocateUncached(n, last_page) } -> std::same_as<std::uint64_t>;
  { s.FreeUncached(n, n) } -> std::same_as<bool>;
};

// Before an operation that is to be asked of what lies below the caches, of a
// subject that cannot go past them.
template <IovaSubject S>
inline void EmptyCaches(S& s) {
  if constexpr (requires { s.EmptyCaches(); }) s.EmptyCaches();
}

template <IovaSubject S>
inline std::uint64_t AllocateUncached(S& s, std::uint64_t pages,
                                      std::uint64_t last_page) {
  if constexpr (UncachedIovaSubject<S>) {
    return s.AllocateUncached(pages, last_page);
  } else {
    return s.Allocate(pages, last_page);
  }
}
template <IovaSubject S>
inline bool FreeUncached(S& s, std::uint64_t page, std::uint64_t pages) {
  if constexpr (UncachedIovaSubject<S>) {
    return s.FreeUncached(page, pages);
  } else {
    return s.Free(page, pages);
  }
}

}  // namespace dmamap::peers

#endif  // DMAMAP_BENCHMARKS_PEERS_IOVA_SUBJECT_H_
