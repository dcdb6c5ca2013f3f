// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_FAULTY_DOMAIN_H_
#define DMAMAP_TESTING_FAULTY_DOMAIN_H_

// FaultyDomain: a small domain that can be given the faults of other
// implementations' security record, one at a time: negative controls for tests
// of a domain, a mapper or a driver. domain/guarantees_test.cc has a check for
// each; without a fault all of them pass. Single-threaded; pages of 4 KiB.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "dma/address.h"
#include "dma/direction.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"
#include "domain/options.h"

namespace dmamap::inline v0::faulty {

enum DomainFault : unsigned {
  kNoFault = 0,
  kDirtyPages = 1,       // VDUSE 2021-2026: pages not zeroed
  kPaddingStays = 2,     // VDUSE, swiotlb: the tail of a page keeps old bytes
  kNoCopyIn = 4,         // CVE-2022-0854: kFromDevice not copied in
  kWholePageBack = 8,    // copies whole pages back
  kTrustsCaller = 16,    // sync and unmap go by the size that the caller says
  kExclusiveEnd = 32,    // e2ae38cf3d91, 9059c62f1197: end is first + size
  kNoFreeCheck = 64,     // smartpqi: a bad free enters the allocator
  kFreesEarly = 128,     // the address is free before it is invalidated
  kFreesAnyway = 256,    // and also if the invalidation failed
  kForgetsOffset = 512,  // CVE-2024-35814: too few slots for offset + size
  kNoUndo = 1024,        // VDUSE: earlier pages of a failed map stay mapped
  kDirect = 2048,        // Thunderclap: maps the buffer's own page
  kSharesPage = 4096,    // swiotlb: slots of 2 KiB, two buffers on a page
  kRemovesAlias = 8192,  // 05063f55: of two mappings of a buffer, the other one
};

class FaultyDomain {
 public:
  static constexpr std::uint64_t kPage = 4096;
  static constexpr std::uint64_t kPages = 32;  // number 0 is never handed out

  explicit FaultyDomain(unsigned faults, std::uint64_t min_align_mask = 0)
      : faults_(faults), min_align_mask_(min_align_mask), free_(kPages, 1) {
    free_[0] = 0;
  }

  std::function<Result<void>(Range)> invalidate;
  bool fail_next_page = false;  // the second page of the next Map fails

  Result<Mapping> Map(PhysAddr buffer, std::uint64_t size, Direction direction,
                      MapAttributes attributes = MapAttributes::kNone) {
    if (const auto r = CheckRange(buffer, size); !r.ok()) return r.error();
    const std::uint64_t head = buffer.value() & min_align_mask_;
    const std::uint64_t span = Has(kForgetsOffset) ? size : head + size;
    const bool half = Has(kSharesPage) && span <= kPage / 2;
    if (half && half_ != 0) {
      const Iova at(std::exchange(half_, 0) + head);
      live_.push_back({{at, size, direction, ++tags_}, buffer, attributes});
      return live_.back().mapping;
    }
    const Result<std::uint64_t> page = Take(PageSize().PagesFor(span));
    if (!page.ok()) return page.error();
    if (half) half_ = *page * kPage + kPage / 2;
    Live l{{Iova(*page * kPage + head), size, direction, ++tags_},
           buffer,
           attributes};
    if (fail_next_page) {
      fail_next_page = false;
      Give(*page, PageSize().PagesFor(span));
      if (Has(kNoUndo)) {
        l.mapping.size = kPage;
        live_.push_back(l);
      }
      return Error::kNoMemory;
    }
    for (auto& [number, bytes] : pages_) FillPage(number, bytes, l);
    live_.push_back(l);
    return l.mapping;
  }

  Result<void> Unmap(const Mapping& m,
                     MapAttributes attributes = MapAttributes::kNone) {
    const auto it = Find(m);
    if (it == live_.end()) {
      if (Has(kNoFreeCheck)) Give(m.iova.value() / kPage, 1);
      return Error::kNotMapped;
    }
    if (!Has(kTrustsCaller) && it->mapping != m) return Error::kMismatch;
    Live l = *it;
    l.mapping.size = m.size;
    live_.erase(Has(kRemovesAlias) ? FirstOf(l.buffer) : it);
    const std::uint64_t head = l.mapping.iova.value() % kPage;
    const std::uint64_t pages = PageSize().PagesFor(head + m.size);
    const std::uint64_t first = l.mapping.iova.value() / kPage;
    if (Has(kFreesEarly)) Give(first, pages);
    const Result<void> gone =
        invalidate
            ? invalidate(*Range::FromSize(Iova(first * kPage), pages * kPage))
            : Ok();
    if (DeviceWrites(m.direction) &&
        !dmamap::Has(attributes, MapAttributes::kSkipSync)) {
      CopyOut(l, 0, l.mapping.size);
    }
    if (!Has(kFreesEarly) && (gone.ok() || Has(kFreesAnyway))) {
      Give(first, pages);
    }
    return gone;
  }

  Result<void> SyncForCpu(const Mapping& m, std::uint64_t offset,
                          std::uint64_t size) {
    const auto it = Find(m);
    if (it == live_.end()) return Error::kNotMapped;
    if (!Has(kTrustsCaller)) {
      if (it->mapping != m) return Error::kMismatch;
      if (size > m.size || offset > m.size - size) return Error::kOutOfRange;
    }
    if (DeviceWrites(m.direction)) CopyOut(*it, offset, size);
    return Ok();
  }

  Result<FaultPage> Fault(Iova at) {
    const std::uint64_t number = at.value() / kPage;
    const Live* on = nullptr;
    for (const Live& l : live_) {
      if (l.First() <= number && number <= l.Last()) on = &l;
    }
    if (on == nullptr) return Error::kNotMapped;
    const Range range = Range::Byte(at).RoundOutToPages(PageSize());
    if (Has(kDirect)) {
      return FaultPage{
          PointerTo(PhysAddr(PageSize().RoundDown(on->buffer.value()))), range,
          PermissionFor(on->mapping.direction)};
    }
    if (pages_.count(number) == 0) {
      auto& bytes = pages_[number];
      bytes.assign(kPage, Has(kDirtyPages) ? std::byte{0xAA} : std::byte{0});
      for (const Live& l : live_) FillPage(number, bytes, l);
    }
    return FaultPage{pages_[number].data(), range,
                     PermissionFor(on->mapping.direction)};
  }

 private:
  struct Live {
    Mapping mapping;
    PhysAddr buffer;
    MapAttributes attributes;
    std::uint64_t First() const { return mapping.iova.value() / kPage; }
    std::uint64_t Last() const {
      return (mapping.iova.value() + mapping.size - 1) / kPage;
    }
  };

  bool Has(DomainFault fault) const { return (faults_ & fault) != 0; }

  Result<void> CheckRange(PhysAddr buffer, std::uint64_t size) const {
    if (Has(kExclusiveEnd)) {
      const std::uint64_t end = buffer.value() + size;  // 0 at the very top
      return end < buffer.value() ? Result<void>(Error::kOverflow) : Ok();
    }
    const auto range = PhysRange::FromSize(buffer, size);
    return range.ok() ? Ok() : Result<void>(range.error());
  }

  Result<std::uint64_t> Take(std::uint64_t pages) {
    for (std::uint64_t at = 1; at + pages <= kPages; ++at) {
      std::uint64_t n = 0;
      while (n < pages && free_[at + n] > 0) ++n;
      if (n < pages) continue;
      for (n = 0; n < pages; ++n) --free_[at + n];
      return at;
    }
    return Error::kNoSpace;
  }
  void Give(std::uint64_t first, std::uint64_t pages) {
    for (std::uint64_t n = 0; n < pages; ++n) {
      const auto on = [&](const Live& l) {
        return l.First() <= first + n && first + n <= l.Last();
      };
      if (Has(kSharesPage) && std::any_of(live_.begin(), live_.end(), on)) {
        continue;
      }
      if (half_ / kPage == first + n) half_ = 0;
      ++free_[first + n];
    }
  }

  std::vector<Live>::iterator Find(const Mapping& m) {
    auto it = live_.begin();
    while (it != live_.end() && it->mapping.iova != m.iova) ++it;
    return it;
  }

  std::vector<Live>::iterator FirstOf(PhysAddr buffer) {
    auto it = live_.begin();
    while (it->buffer != buffer) ++it;
    return it;
  }

  // Writes what belongs to `l` on this page.
  void FillPage(std::uint64_t number, std::vector<std::byte>& bytes,
                const Live& l) {
    const bool copies =
        !dmamap::Has(l.attributes, MapAttributes::kSkipSync) &&
        !(Has(kNoCopyIn) && l.mapping.direction == Direction::kFromDevice);
    if (number < l.First() || number > l.Last()) return;
    for (std::uint64_t i = 0; i < kPage; ++i) {
      const std::uint64_t at = number * kPage + i;
      const std::uint64_t offset = at - l.mapping.iova.value();
      if (at >= l.mapping.iova.value() && offset < l.mapping.size) {
        if (copies) bytes[i] = *PointerTo(l.buffer + offset);
      } else if (!Has(kPaddingStays) && !Has(kDirtyPages) &&
                 !Has(kSharesPage)) {
        bytes[i] = std::byte{0};
      }
    }
  }

  void CopyOut(const Live& l, std::uint64_t offset, std::uint64_t size) {
    std::uint64_t end = offset + size;
    if (Has(kWholePageBack)) end = (end + kPage - 1) / kPage * kPage;
    for (; offset < end; ++offset) {
      const std::uint64_t at = l.mapping.iova.value() + offset;
      const auto it = pages_.find(at / kPage);
      if (it == pages_.end()) continue;
      *PointerTo(l.buffer + offset) = it->second[at % kPage];
    }
  }

  unsigned faults_;
  std::uint64_t min_align_mask_;
  std::vector<int> free_;  // how many times each page is free
  std::map<std::uint64_t, std::vector<std::byte>> pages_;
  std::vector<Live> live_;
  std::uint64_t half_ = 0;  // kSharesPage: a free half page's address, or 0
  std::uint32_t tags_ = 0;
};

}  // namespace dmamap::inline v0::faulty

#endif  // DMAMAP_TESTING_FAULTY_DOMAIN_H_
