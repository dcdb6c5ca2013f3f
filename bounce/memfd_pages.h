// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BOUNCE_MEMFD_PAGES_H_
#define DMAMAP_BOUNCE_MEMFD_PAGES_H_

// MemfdPages: a PageSource over one memory file, so that another process (a
// device written in user space, vhost-user) can map what the device may see.
//
//   driver process                          device process
//     page = pages.Allocate(...)              gets pages.fd() over a socket
//     tell the device OffsetOf(*page)   --->  mmap(fd, that offset)
//
// All of it is mapped here once, at a place that does not change; the file is
// as long as the highest page that was ever out, and takes memory where pages
// are out. The other process can neither make it shorter (it is sealed), which
// would end our next access in SIGBUS, nor run us out of memory at an access:
// memory is put behind a page before it goes out, and Allocate says when there
// is none.
//
// The other process can map all of the file and read and write it at any time,
// whatever we do. So: give one file to one device. Free punches a hole, and the
// bytes are gone from the file at once; with MemfdPagesOptions::keep that many
// bytes of freed pages stay, can be read there until they go out again, and are
// overwritten with zeros then, which is several times faster (README.md).
// "Zero when handed out" means: but for what the other process has written.
//
// Thread-safe but for Init. Progress: blocking (CarvedPages). On other systems
// than Linux Init returns kUnsupported.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

#include "bounce/carved_pages.h"
#include "bounce/linux_pages.h"
#include "bounce/page_budget.h"
#include "bounce/page_runs.h"
#include "bounce/page_source.h"
#include "dma/address.h"
#include "dma/assert.h"
#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

struct MemfdPagesOptions {
  // Bytes of address space and of the file at most, rounded up to 2 MiB; at
  // most kMaxPageCapacity.
  std::uint64_t capacity = std::uint64_t{1} << 30;
  std::uint64_t budget = PageBudget::kNoBudget;  // bytes out
  std::uint64_t keep = 0;  // bytes of freed pages; a block a thread more
};

template <class Policy = SystemPagePolicy>
class BasicMemfdPages {
 public:
  using Calls = typename Policy::Calls;

  BasicMemfdPages() = default;
  explicit BasicMemfdPages(Calls calls) : calls_(std::move(calls)) {}
  BasicMemfdPages(const BasicMemfdPages&) = delete;
  BasicMemfdPages& operator=(const BasicMemfdPages&) = delete;
  // The file lives on where another process has it.
  ~BasicMemfdPages() {
    if (base_ == nullptr) return;
    calls_.Unmap(base_, capacity_);
    calls_.CloseFile(fd_);
  }

  // kUnsupported, kInvalidArgument for a bad capacity, kNoMemory (of files,
  // address space or memory); kBusy the second time. Not thread-safe.
  Result<void> Init(const MemfdPagesOptions& options = {}) {
    if (!Calls::kSupported) return Error::kUnsupported;
    if (base_ != nullptr) return Error::kBusy;
    if (options.capacity == 0 || options.capacity > kMaxPageCapacity) {
      return Error::kInvalidArgument;
    }
    constexpr PageSize kHuge = *PageSize::FromShift(kHugePageShift);
    const std::uint64_t bytes = kHuge.PagesFor(options.capacity)
                                << kHugePageShift;
    const std::uint64_t units = bytes >> Unit().shift();
    std::unique_ptr<PageRuns> runs(new (std::nothrow) PageRuns);
    if (runs == nullptr) return Error::kNoMemory;
    if (const auto r = runs->Init(units, UnitContents::kZero); !r.ok()) {
      return r;
    }
    const int fd = calls_.CreateFile();
    if (fd < 0) return Error::kNoMemory;
    std::byte* const base = calls_.MapFile(fd, bytes);
    if (base == nullptr) {
      calls_.CloseFile(fd);
      return Error::kNoMemory;
    }
    fd_ = fd;
    base_ = base;
    capacity_ = bytes;
    keep_ = options.keep;
    carved_.set_budget(options.budget);
    return carved_.Open({{base, Unit(), units}, Unit(), std::move(runs)});
  }

  // As PageSource; kShutDown before Init.
  Result<std::byte*> Allocate(PageSize page, std::uint64_t pages) {
    const Result<internal::PageBlock> block = carved_.Take(page, pages);
    if (!block.ok()) return block.error();
    // Units that are old have memory behind them; the others are holes.
    if (block->old < block->count &&
        !calls_.BackFile(fd_, Offset(*block), block->bytes)) {
      return Undo(*block, page);
    }
    if (block->old != 0) block->Zero();
    return block->data;
  }

  // What is not out as such a block is left alone, and counted (bad_frees).
  void Free(std::byte* memory, PageSize page, std::uint64_t pages) {
    const Result<internal::PageBlock> block =
        carved_.BeginGive(memory, page, pages);
    if (!block.ok()) return;
    const std::uint64_t kept = carved_.kept();
    const bool keep = kept < keep_ && block->bytes <= keep_ - kept;
    const bool gone =
        !keep && calls_.PunchFile(fd_, Offset(*block), block->bytes);
    carved_.EndGive(*block, gone ? UnitContents::kZero : UnitContents::kOld);
  }

  // Gives the memory of all freed pages back to the system. Returns bytes.
  std::uint64_t Trim() {
    std::uint64_t bytes = 0;
    for (std::uint64_t from = 0;;) {
      const Result<internal::PageBlock> row =
          carved_.BeginTrimNext(&from, kUnitsAtOnce);
      if (!row.ok()) return bytes;
      const bool gone = calls_.PunchFile(fd_, Offset(*row), row->bytes);
      carved_.EndGive(*row, gone ? UnitContents::kZero : UnitContents::kOld);
      if (gone) bytes += row->bytes;
    }
  }

  // The file: for another process to map, shared, at offsets that OffsetOf
  // tells. -1 before Init. It stays this object's.
  int fd() const { return fd_; }
  // Where in the file the byte at `memory` is; kForeign outside the mapping.
  Result<std::uint64_t> OffsetOf(const std::byte* memory) const {
    const std::uint64_t offset = PhysAddrOf(memory) - PhysAddrOf(base_);
    if (offset >= capacity_) return Error::kForeign;
    return offset;
  }
  // Where byte `offset` of the file is mapped here; nullptr outside. REQUIRES
  // for an access: it lies in a page that is out.
  std::byte* PageAt(std::uint64_t offset) const {
    return offset < capacity_ ? base_ + offset : nullptr;
  }

  void set_budget(std::uint64_t bytes) { carved_.set_budget(bytes); }
  std::uint64_t in_use() const { return carved_.budget().in_use(); }
  std::uint64_t high_water() const { return carved_.budget().high_water(); }
  PageSourceStats stats() const { return carved_.stats(); }
  std::uint64_t capacity() const { return capacity_; }  // bytes
  Calls& calls() { return calls_; }

  // REQUIRES: nobody else uses the object.
  bool CheckInvariants() const { return carved_.CheckInvariants(); }

 private:
  static constexpr std::uint64_t kUnitsAtOnce = 512;  // 2 MiB
  static constexpr PageSize Unit() { return PageSize(); }
  std::uint64_t Offset(const internal::PageBlock& block) const {
    return block.first << Unit().shift();
  }

  // Takes back a block for which there is no memory. Some of it may have got
  // some, and what was old has it: all of it becomes a hole. Where even that
  // fails, old units cannot be told from holes any more, and an access to a
  // hole may end in SIGBUS: then the block is given up, and stays in use.
  Error Undo(const internal::PageBlock& block, PageSize page) {
    const bool hole = calls_.PunchFile(fd_, Offset(block), block.bytes);
    if (!hole && block.old != 0) return Error::kNoMemory;
    const Result<internal::PageBlock> back =
        carved_.BeginGive(block.data, page, block.pages);
    DMAMAP_ASSERT(back.ok());
    carved_.EndGive(
        *back, UnitContents::kZero,
        internal::CarvedPages<internal::ArenaPlace, Policy>::Why::kNoMemory);
    return Error::kNoMemory;
  }

  Calls calls_;
  int fd_ = -1;
  std::byte* base_ = nullptr;
  std::uint64_t capacity_ = 0;
  std::uint64_t keep_ = 0;
  internal::CarvedPages<internal::ArenaPlace, Policy> carved_;
};
using MemfdPages = BasicMemfdPages<>;
static_assert(PageSource<MemfdPages>);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_BOUNCE_MEMFD_PAGES_H_
