// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BOUNCE_SCHED_PARTS_FOR_TEST_H_
#define DMAMAP_BOUNCE_SCHED_PARTS_FOR_TEST_H_

// The memory of sched_world_for_test.h: pages and buffers whose use the
// deterministic scheduler sees.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "bounce/memory_access.h"
#include "bounce/page_source.h"
#include "bounce/swappable_pages.h"
#include "dma/address.h"
#include "dma/result.h"
#include "dma/version.h"
#include "testing/sched/explore.h"

namespace dmamap::inline v0 {

inline constexpr std::uint64_t kSchedSlot = 64;  // bytes

class SchedPages {
 public:
  // All pages of an execution.
  static constexpr std::size_t kPages = 8;
  static constexpr std::size_t kBytes = 4 * kSchedSlot;  // of each, at most

  Result<std::byte*> Allocate(PageSize page, std::uint64_t pages) {
    sched::Check(next_ < kPages && pages == 1 && page.bytes() <= kBytes,
                 "more pages than the world has");
    const std::size_t n = next_++ % kPages;
    use_[n] = 1;
    fresh_[Caller()] = &use_[n];
    memory_[n].fill(std::byte{0});
    return memory_[n].data();
  }
  // The caller copies from a buffer: to the page that it is making, if it is.
  void Fill() {
    if (fresh_[Caller()] != nullptr) *fresh_[Caller()] = 1;
  }
  // And now it is made, or another one is there.
  void EndFill() { fresh_[Caller()] = nullptr; }

  void Free(std::byte* memory, PageSize, std::uint64_t) {
    const std::size_t n = NumberOf(memory);
    sched::Check(use_[n].Get() == 1, "a page is freed twice");
    use_[n] = 2;
    ++freed_;
    freed_old_ += n < swapped_ ? 1 : 0;
  }

  // As a SwappableSource: pages of before BeginSwap are one's own.
  Result<void> BeginSwap(PageSize, PageHome) {
    swapped_ = next_;
    return Ok();
  }
  std::byte* TakeReserved() {
    const std::size_t n = next_++ % kPages;
    use_[n] = 1;
    return memory_[n].data();
  }
  void EndSwap(PageSize) {}
  PageHome HomeOf(const std::byte* memory) const {
    return NumberOf(memory) < swapped_ ? PageHome::kOwn : PageHome::kLent;
  }
  std::uint64_t out(PageHome home) const {
    const std::size_t old = swapped_ - freed_old_;
    return home == PageHome::kOwn ? old : in_use() - old;
  }

  // The caller reads or writes the page's bytes.
  void Use(const std::byte* memory) const {
    sched::Check(use_[NumberOf(memory)].Get() == 1, "uses a page that is gone");
  }
  std::size_t in_use() const { return next_ - freed_; }

  // The calling thread, or who runs the threads.
  static std::size_t Caller() {
    const std::size_t thread = sched::ThreadIndex();
    return thread == sched::kNoThread ? sched::kMaxThreads : thread;
  }

 private:
  std::size_t NumberOf(const std::byte* memory) const {
    const auto n =
        static_cast<std::size_t>(memory - memory_[0].data()) / kBytes;
    sched::Check(n < next_, "not a page");
    return n % kPages;
  }
  std::size_t next_ = 0;
  std::size_t freed_ = 0;
  std::size_t swapped_ = 0;
  std::size_t freed_old_ = 0;
  std::array<sched::Plain<int>, kPages> use_;
  std::array<sched::Plain<int>*, sched::kMaxThreads + 1> fresh_ = {};
  alignas(kBytes) std::array<std::array<std::byte, kBytes>, kPages> memory_;
};
static_assert(SwappableSource<SchedPages>);

// Buffer n holds bytes of the value n + 1.
class SchedMemory {
 public:
  static constexpr std::size_t kBuffers = 3;
  static constexpr std::size_t kBytes = 4 * kSchedSlot;

  explicit SchedMemory(SchedPages& pages) : pages_(pages) {
    for (std::size_t n = 0; n < kBuffers; ++n) bytes_[n].fill(ByteOf(n));
  }
  static std::byte ByteOf(std::size_t n) {
    return static_cast<std::byte>(n + 1);
  }
  PhysAddr At(std::size_t n) const { return PhysAddrOf(bytes_[n].data()); }
  std::size_t NumberOf(PhysAddr at) const {
    return static_cast<std::size_t>(at - At(0)) / kBytes;
  }
  // The driver uses its buffer, which no fault may read any more.
  void Overwrite(std::size_t n) {
    used_[n] = 1;
    bytes_[n].fill(std::byte{0xee});
  }
  // Whether the calling thread's copies go to buffers from now on.
  void set_copies_back(bool back) { copies_back_[SchedPages::Caller()] = back; }

  // Whether others may run between finding a page and copying to or from it.
  void set_interrupted(bool interrupted) { interrupted_ = interrupted; }

  MemoryWindow Open(PhysAddr at, std::size_t length) {
    if (interrupted_) (void)step_.load(std::memory_order_relaxed);
    sched::Plain<int>& used = used_[NumberOf(at)];
    if (copies_back_[SchedPages::Caller()]) {
      used = 1;
    } else {
      (void)used.Get();
      pages_.Fill();
    }
    return {PointerTo(at), length};
  }
  void Close(const MemoryWindow&) {}

 private:
  SchedPages& pages_;
  bool interrupted_ = false;
  sched::Atomic<int> step_{0};
  std::array<sched::Plain<int>, kBuffers> used_;
  std::array<bool, sched::kMaxThreads + 1> copies_back_ = {};
  std::array<std::array<std::byte, kBytes>, kBuffers> bytes_;
};
static_assert(MemoryAccess<SchedMemory>);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_BOUNCE_SCHED_PARTS_FOR_TEST_H_
