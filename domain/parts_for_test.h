// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_PARTS_FOR_TEST_H_
#define DMAMAP_DOMAIN_PARTS_FOR_TEST_H_

// Policies of a Domain that tests can watch and make fail.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "bounce/memory_access.h"
#include "bounce/page_source.h"
#include "dma/address.h"
#include "dma/invalidate.h"
#include "dma/result.h"
#include "domain/domain.h"

namespace dmamap::testing_parts {

// Memory in windows of at most 64 bytes, one range of which has a hole.
class HoleyMemory {
 public:
  std::optional<PhysRange> hole;

  MemoryWindow Open(PhysAddr at, std::size_t length) {
    if (hole.has_value() && hole->Contains(at)) return {};
    if (hole.has_value() && at < hole->first() && hole->first() - at < length) {
      length = static_cast<std::size_t>(hole->first() - at);
    }
    return inner_.Open(at, length);
  }
  void Close(const MemoryWindow& w) { inner_.Close(w); }
  std::int64_t open_windows() const { return inner_.open_windows(); }

 private:
  PagewiseMemory<> inner_{*PageSize::FromShift(6)};
};

// HeapPages of which the next but `fail_in` allocation fails.
class FailingPages {
 public:
  std::uint64_t fail_in = ~std::uint64_t{0};

  Result<std::byte*> Allocate(PageSize page, std::uint64_t pages) {
    if (fail_in-- == 0) return Error::kNoMemory;
    return inner.Allocate(page, pages);
  }
  void Free(std::byte* memory, PageSize page, std::uint64_t pages) {
    inner.Free(memory, page, pages);
  }
  HeapPages inner;
};

// Writes down what it is asked, and runs a hook meanwhile.
class WatchedInvalidation {
 public:
  std::vector<Range> log;
  std::uint64_t all = 0;
  bool fail = false;
  std::function<void(Range)> hook;

  Result<void> Invalidate(Range range) {
    log.push_back(range);
    if (hook) hook(range);
    return fail ? Result<void>(Error::kDevice) : Ok();
  }
  Result<void> InvalidateAll() {
    ++all;
    return fail ? Result<void>(Error::kDevice) : Ok();
  }
};

struct WatchedPolicies : DomainPolicies {
  using Memory = HoleyMemory;
  using Pages = FailingPages;
  using Invalidation = WatchedInvalidation;
};
using WatchedDomain = Domain<WatchedPolicies>;

using Bytes = std::vector<std::byte>;

inline Bytes Pattern(std::size_t n, unsigned seed) {
  Bytes b(n);
  for (std::size_t i = 0; i < n; ++i) {
    // Never zero, so that a zero is nobody's byte.
    b[i] = static_cast<std::byte>(1 + (i * 31 + seed * 97) % 255);
  }
  return b;
}

}  // namespace dmamap::testing_parts

#endif  // DMAMAP_DOMAIN_PARTS_FOR_TEST_H_
