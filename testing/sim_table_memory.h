// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_SIM_TABLE_MEMORY_H_
#define DMAMAP_TESTING_SIM_TABLE_MEMORY_H_

// SimTableMemory: memory for tables and queues of a simulated IOMMU, and what
// the hardware sees of it. For one thread at a time.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <utility>
#include <vector>

#include "bounce/page_source.h"
#include "dma/address.h"
#include "dma/result.h"
#include "dma/version.h"
#include "iommu/bus_memory.h"

namespace dmamap::inline v0 {

// Pages whose bus addresses are the CPU's, and what hardware sees of them: for
// a page that was handed out, rubbish, until it is written back.
class SimTableMemory {
 public:
  explicit SimTableMemory(bool snoops = false) : snoops_(snoops) {}

  std::uint64_t fail_in = ~std::uint64_t{0};  // the next but so many, and on
  std::uint64_t reads_of_freed = 0;           // by hardware

  Result<std::byte*> Allocate(PageSize page, std::uint64_t pages) {
    if (fail_in == 0) return Error::kNoMemory;
    --fail_in;
    const Result<std::byte*> made = heap_.Allocate(page, pages);
    if (!made.ok()) return made;
    // Of every level a leaf, and aligned for it.
    std::vector<std::byte> rubbish(
        static_cast<std::size_t>(pages << page.shift()));
    const std::uint64_t leaf = 0x4000'0083;
    for (std::size_t i = 0; i < rubbish.size(); i += sizeof leaf) {
      std::memcpy(rubbish.data() + i, &leaf, sizeof leaf);
    }
    seen_[PhysAddrOf(*made).value()] = std::move(rubbish);
    return made;
  }
  void Free(std::byte* memory, PageSize page, std::uint64_t pages) {
    seen_.erase(PhysAddrOf(memory).value());
    heap_.Free(memory, page, pages);
  }
  Result<PhysAddr> ToBus(PhysRange memory) const { return memory.first(); }
  std::byte* FromBus(PhysAddr bus) const { return PointerTo(bus); }
  void WriteBack(const std::byte* at, std::size_t bytes) {
    const auto page = Find(PhysAddrOf(at).value());
    if (page == seen_.end()) return;
    std::memcpy(page->second.data() + (PhysAddrOf(at).value() - page->first),
                at, bytes);
  }

  // Hardware reads eight bytes; all ones where no page is.
  std::uint64_t Load(std::uint64_t bus) {
    const auto page = Find(bus);
    if (page == seen_.end()) {
      ++reads_of_freed;
      return UINT64_MAX;
    }
    const std::byte* const from =
        snoops_ ? PointerTo(PhysAddr(bus))
                : page->second.data() + (bus - page->first);
    std::uint64_t word;
    std::memcpy(&word, from, sizeof word);
    return word;
  }
  // Hardware writes four bytes, and the CPU sees them.
  void Store(std::uint64_t bus, std::uint32_t value) {
    const auto page = Find(bus);
    if (page == seen_.end()) return;
    std::memcpy(page->second.data() + (bus - page->first), &value, 4);
    std::memcpy(PointerTo(PhysAddr(bus)), &value, 4);
  }
  std::size_t pages_out() const { return seen_.size(); }

 private:
  using Seen = std::map<std::uint64_t, std::vector<std::byte>>;
  Seen::iterator Find(std::uint64_t bus) {
    auto at = seen_.upper_bound(bus);
    if (at == seen_.begin()) return seen_.end();
    --at;
    return bus - at->first < at->second.size() ? at : seen_.end();
  }

  bool snoops_;
  HeapPages heap_;
  Seen seen_;
};
static_assert(BusMemory<SimTableMemory> && WritesBack<SimTableMemory>);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_SIM_TABLE_MEMORY_H_
