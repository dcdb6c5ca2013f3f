// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_MODES_FOR_TEST_H_
#define DMAMAP_DOMAIN_MODES_FOR_TEST_H_

// Page tables with a device behind them that remembers all that they ever said
// until it is made to forget, and a PageSource that knows which pages are out.
// For one thread at a time.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <set>

#include "bounce/page_source.h"
#include "dma/address.h"
#include "dma/direction.h"
#include "dma/iommu_map.h"
#include "dma/result.h"
#include "domain/domain.h"
#include "domain/parts_for_test.h"
#include "iotlb/mapping.h"
#include "iova/flush_options.h"

namespace dmamap::testing_parts {

constexpr std::uint64_t kNever = ~std::uint64_t{0};

class TableIommu {
 public:
  struct Entry {
    PhysAddr memory;
    Permission permission = Permission::kNone;
  };
  using Pages = std::map<std::uint64_t, Entry>;  // by number of the page

  // The next but so many calls fails, once.
  std::uint64_t map_fails_in = kNever;
  std::uint64_t sync_fails_in = kNever;
  bool fail_invalidation = false;
  std::uint64_t invalidations = 0;
  std::uint64_t reused = 0;  // pages mapped that the device remembered

  PageSize page() const { return page_; }

  Result<void> Map(Range range, PhysAddr memory, Permission permission) {
    if (!range.IsPageAligned(page_) || !page_.IsAligned(memory.value()) ||
        permission == Permission::kNone) {
      return Error::kInvalidArgument;
    }
    for (std::uint64_t n = First(range); n <= Last(range); ++n) {
      if (tables_.count(n) != 0) return Error::kOverlap;
    }
    if (map_fails_in-- == 0) return Error::kNoMemory;
    for (std::uint64_t n = First(range); n <= Last(range); ++n) {
      reused += remembered_.count(n);
      tables_[n] = {memory, permission};
      remembered_[n] = tables_[n];  // it looks at once
      memory = memory + page_.bytes();
    }
    return Ok();
  }
  Result<void> SyncMap(Range) {
    return sync_fails_in-- == 0 ? Result<void>(Error::kDevice) : Ok();
  }
  Result<void> Unmap(Range range) {
    for (std::uint64_t n = First(range); n <= Last(range); ++n) {
      if (tables_.count(n) == 0) return Error::kNotMapped;
    }
    for (std::uint64_t n = First(range); n <= Last(range); ++n) {
      tables_.erase(n);
    }
    return Ok();
  }
  Result<void> Invalidate(Range range) {
    ++invalidations;
    if (fail_invalidation) return Error::kDevice;
    for (std::uint64_t n = First(range); n <= Last(range); ++n) {
      if (tables_.count(n) == 0) remembered_.erase(n);
    }
    return Ok();
  }
  Result<void> InvalidateAll() {
    ++invalidations;
    if (fail_invalidation) return Error::kDevice;
    remembered_ = tables_;
    return Ok();
  }
  Result<Translation> Lookup(Iova at, Permission wanted) const {
    const auto it = tables_.find(page_.Number(at));
    if (it == tables_.end()) return Error::kNotMapped;
    if (!Allows(it->second.permission, wanted)) return Error::kPermission;
    const std::uint64_t offset = page_.Offset(at.value());
    return Translation{it->second.memory + offset, page_.mask() - offset,
                       it->second.permission, 0};
  }

  // What a device that uses what it remembers reaches; null: nothing.
  std::byte* Reach(Iova at, Permission wanted) const {
    const auto it = remembered_.find(page_.Number(at));
    if (it == remembered_.end() || !Allows(it->second.permission, wanted)) {
      return nullptr;
    }
    return PointerTo(it->second.memory) + page_.Offset(at.value());
  }
  const Pages& tables() const { return tables_; }
  const Pages& remembered() const { return remembered_; }
  bool Remembers(Range range) const {
    const auto it = remembered_.lower_bound(First(range));
    return it != remembered_.end() && it->first <= Last(range);
  }

 private:
  std::uint64_t First(Range range) const { return page_.Number(range.first()); }
  std::uint64_t Last(Range range) const { return page_.Number(range.last()); }

  PageSize page_ = *PageSize::FromShift(8);
  Pages tables_;
  Pages remembered_;
};
static_assert(IommuMap<TableIommu>);

// FailingPages that knows which runs are out.
class KnownPages : public FailingPages {
 public:
  Result<std::byte*> Allocate(PageSize page, std::uint64_t pages) {
    const auto made = FailingPages::Allocate(page, pages);
    if (made.ok()) {
      out_[PhysAddrOf(*made).value()] = pages << page.shift();
    }
    return made;
  }
  void Free(std::byte* memory, PageSize page, std::uint64_t pages) {
    out_.erase(PhysAddrOf(memory).value());
    FailingPages::Free(memory, page, pages);
  }
  bool IsOut(PhysAddr memory) const {
    auto it = out_.upper_bound(memory.value());
    if (it == out_.begin()) return false;
    --it;
    return memory.value() - it->first < it->second;
  }

 private:
  std::map<std::uint64_t, std::uint64_t> out_;  // bytes, by address
};

// A clock of a flush queue that goes on by 0 to 63 at each look, the same way
// each time.
class JumpingClock {
 public:
  std::uint64_t operator()() {
    // Knuth's MMIX generator; its high bits.
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return now_ += state_ >> 58;
  }

 private:
  std::uint64_t state_ = 1;
  std::uint64_t now_ = 0;
};

struct TablePolicies : WatchedPolicies {
  struct Flush : FlushQueuePolicy {
    using Clock = JumpingClock;
  };
  using Pages = KnownPages;
  using Invalidation = TableIommu;
};
using TableDomain = Domain<TablePolicies>;

// Memory that begins on a page of 4 KiB.
class Arena {
 public:
  explicit Arena(std::size_t size)
      : data_(static_cast<std::byte*>(std::aligned_alloc(4096, size))),
        size_(size) {}
  ~Arena() { std::free(data_); }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  std::byte* data() { return data_; }
  std::size_t size() const { return size_; }
  std::byte& operator[](std::size_t i) { return data_[i]; }
  PhysAddr at(std::size_t i) const { return PhysAddrOf(data_ + i); }
  PhysRange range() const { return *PhysRange::FromSize(at(0), size_); }

 private:
  std::byte* data_;
  std::size_t size_;
};

}  // namespace dmamap::testing_parts

#endif  // DMAMAP_DOMAIN_MODES_FOR_TEST_H_
