// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_OWNER_ADDRESSES_H_
#define DMAMAP_DOMAIN_OWNER_ADDRESSES_H_

// OwnerAddresses: an allocator of I/O addresses for each owner of a domain,
// over parts of one window that share no bounce page. An inner header.
//
//   window   |0|   owner 0   |   owner 1   |  ...  | the last |
//                            ^ whole bounce pages  ^
//
// An address says which part it is of, so that only Allocate is told an owner.
// Thread-safe as the allocator is; with one owner it is that allocator, and one
// comparison.

#include <cstddef>
#include <cstdint>
#include <new>

#include "dma/address.h"
#include "dma/result.h"
#include "dma/version.h"
#include "domain/owner.h"
#include "iova/flush_options.h"

namespace dmamap::inline v0 {
namespace internal {

template <class Allocator>
class OwnerAddresses {
 public:
  OwnerAddresses() = default;
  OwnerAddresses(const OwnerAddresses&) = delete;
  OwnerAddresses& operator=(const OwnerAddresses&) = delete;
  ~OwnerAddresses() { delete[] others_; }

  // Parts of `part` bytes for `owners` (not 0); the last has the rest too. As
  // the allocator's Init fails; kNoMemory. REQUIRES: they fit in `window`, and
  // the first and the last begin in it.
  Result<void> Init(Range window, PageSize page, std::uint32_t owners,
                    std::uint64_t part) {
    if (owners == 1) return first_.Init({.window = window, .page = page});
    others_ = new (std::nothrow) Allocator[owners - 1];
    if (others_ == nullptr) return Error::kNoMemory;
    owners_ = owners;
    part_ = part;
    for (std::uint32_t i = 0; i < owners; ++i) {
      const Iova begin = i == 0 ? window.first() : Iova(i * part);
      const Iova end =
          i + 1 == owners ? window.last() : Iova((i + 1) * part - 1);
      if (i == 0) last_of_first_ = end;
      const auto range = Range::FromFirstLast(begin, end);
      if (!range.ok()) return range.error();
      Allocator& to = i == 0 ? first_ : others_[i - 1];
      const auto made = to.Init({.window = *range, .page = page});
      if (!made.ok()) return made;
    }
    return Ok();
  }

  bool Knows(BufferOwner owner) const {
    return static_cast<std::uint32_t>(owner) < owners_;
  }
  // REQUIRES: Knows(owner).
  [[gnu::always_inline]] Result<Iova> Allocate(BufferOwner owner,
                                               std::uint64_t pages) {
    if (owner == BufferOwner{}) [[likely]]
      return first_.Allocate(pages);
    return others_[static_cast<std::uint32_t>(owner) - 1].Allocate(pages);
  }
  [[gnu::always_inline]] Result<void> Free(Iova first, std::uint64_t pages) {
    return Of(first).Free(first, pages);
  }

  // What a Quarantine needs, if the allocator has it.
  Result<void> Retire(Iova first, std::uint64_t pages) requires
      RetiringAllocator<Allocator> {
    return Of(first).Retire(first, pages);
  }
  Result<void> Restore(Iova first, std::uint64_t pages) requires
      RetiringAllocator<Allocator> {
    return Of(first).Restore(first, pages);
  }
  Result<void> Release(Iova first, std::uint64_t pages) requires
      RetiringAllocator<Allocator> {
    return Of(first).Release(first, pages);
  }
  PageSize page_size() const { return first_.page_size(); }
  auto& cpu() requires RetiringAllocator<Allocator> { return first_.cpu(); }

 private:
  Allocator& Of(Iova at) {
    if (at <= last_of_first_) [[likely]]
      return first_;
    const std::uint64_t n = at.value() / part_;
    return others_[(n < owners_ ? n : owners_ - 1) - 1];
  }

  Iova last_of_first_ = Iova::Max();
  Allocator* others_ = nullptr;
  std::uint32_t owners_ = 1;
  std::uint64_t part_ = 0;  // bytes
  Allocator first_;
};

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_OWNER_ADDRESSES_H_
