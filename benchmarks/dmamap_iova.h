// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_DMAMAP_IOVA_H_
#define DMAMAP_BENCHMARKS_DMAMAP_IOVA_H_

// dmamap's allocators as an IovaSubject (peers/iova_subject.h). Units as there:
// 4 KiB pages, inclusive limits, 0 for a failure.
//
//   DmamapIova<StandardAllocator>  magazines, free check on, slots of threads
//   DmamapIova<RseqAllocator>      the same with slots of CPUs
//   DmamapIova<UncheckedAllocator> the first without its free check
//   DmamapStore                    the range store alone under its lock: what
//                                  is left when nothing is cached or checked

#include <bit>
#include <cstdint>
#include <memory>
#include <mutex>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "benchmarks/peers/iova_subject.h"
#include "dma/address.h"
#include "dma/result.h"
#include "dma/rseq.h"
#include "dma/sync.h"
#include "iova/allocator.h"
#include "iova/buddy_store.h"
#include "iova/constraints.h"
#include "iova/standard.h"

namespace dmamap::bench {

using RseqAllocator = IovaAllocator<BuddyStore, RseqSlots>;

struct UncheckedPolicy : AllocatorPolicy {
  static constexpr FreeCheck kFreeCheck = FreeCheck::kOff;
};
using UncheckedAllocator =
    IovaAllocator<BuddyStore, ThreadSlots, UncheckedPolicy>;

inline constexpr unsigned kIovaPageShift = 12;

inline Iova FirstByteOf(std::uint64_t page) {
  return Iova(page << kIovaPageShift);
}
inline Iova LastByteOf(std::uint64_t page) {
  return Iova(((page + 1) << kIovaPageShift) - 1);
}

// A started allocator over the pages [first, last].
template <class Allocator>
Result<void> StartAllocator(Allocator& allocator, std::uint64_t first,
                            std::uint64_t last) {
  const Result<Range> window =
      Range::FromFirstLast(FirstByteOf(first), LastByteOf(last));
  if (!window.ok()) return window.error();
  AllocatorOptions options;
  options.window = *window;
  return allocator.Init(options);
}

// Threads: any number.
template <class Allocator>
class DmamapIova {
 public:
  static constexpr bool kRanges = true;
  static constexpr bool kFreeElsewhere = true;

  static absl::StatusOr<std::unique_ptr<DmamapIova>> Create(
      const peers::IovaSpace& space) {
    auto made = std::make_unique<DmamapIova>();
    if (!StartAllocator(made->allocator_, space.first_page, space.last_page)
             .ok()) {
      return absl::InternalError("the allocator did not start");
    }
    made->last_page_ = space.last_page;
    return made;
  }

  absl::Status EnterThread(unsigned) { return absl::OkStatus(); }
  void LeaveThread(unsigned) {}

  // What the window and the size class imply is not asked for again: ranges
  // that are cached are aligned to their size.
  std::uint64_t Allocate(std::uint64_t pages, std::uint64_t last_page) {
    if (last_page >= last_page_ && pages <= kCachedPages) [[likely]] {
      return PageOf(allocator_.Allocate(pages));
    }
    return AllocateConstrained(pages, last_page);
  }
  bool Free(std::uint64_t page, std::uint64_t pages) {
    return allocator_.Free(FirstByteOf(page), pages).ok();
  }
  // So that what was freed last is not what is handed out next.
  void EmptyCaches() { allocator_.Trim(); }

 private:
  static constexpr std::uint64_t kCachedPages = std::uint64_t{1}
                                                << (Allocator::kClasses - 1);

  static std::uint64_t PageOf(const Result<Iova>& first) {
    return first.ok() ? first->value() >> kIovaPageShift : 0;
  }
  [[gnu::noinline]] std::uint64_t AllocateConstrained(std::uint64_t pages,
                                                      std::uint64_t last_page) {
    return PageOf(allocator_.Allocate(
        pages, {.limit = LastByteOf(last_page), .align_to = AlignTo::kSize}));
  }

  Allocator allocator_;
  std::uint64_t last_page_ = 0;
};
static_assert(peers::IovaSubject<DmamapIova<StandardAllocator>>);
static_assert(peers::IovaSubject<DmamapIova<RseqAllocator>>);

// Threads: any number; one at a time is in the store.
class DmamapStore {
 public:
  static constexpr bool kRanges = true;
  static constexpr bool kFreeElsewhere = true;

  static absl::StatusOr<std::unique_ptr<DmamapStore>> Create(
      const peers::IovaSpace& space) {
    auto made = std::make_unique<DmamapStore>();
    if (!made->store_.Init(space.first_page, space.last_page).ok() ||
        !made->store_.Insert(space.first_page, space.last_page).ok()) {
      return absl::InternalError("the store did not start");
    }
    return made;
  }

  absl::Status EnterThread(unsigned) { return absl::OkStatus(); }
  void LeaveThread(unsigned) {}

  std::uint64_t Allocate(std::uint64_t pages, std::uint64_t last_page) {
    PageRequest request;
    request.count = pages;
    request.align_order = static_cast<unsigned>(std::bit_width(pages - 1));
    request.last = last_page;
    const std::lock_guard lock(lock_);
    const Result<std::uint64_t> first = store_.Allocate(request);
    return first.ok() ? *first : 0;
  }
  bool Free(std::uint64_t page, std::uint64_t pages) {
    const std::lock_guard lock(lock_);
    return store_.Free(page, pages).ok();
  }
  std::uint64_t AllocateUncached(std::uint64_t pages, std::uint64_t last_page) {
    return Allocate(pages, last_page);
  }
  bool FreeUncached(std::uint64_t page, std::uint64_t pages) {
    return Free(page, pages);
  }

 private:
  SpinLock lock_;
  BuddyStore store_;
};
static_assert(peers::UncachedIovaSubject<DmamapStore>);

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_DMAMAP_IOVA_H_
