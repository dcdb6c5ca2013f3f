// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_NO_TAGS_H_
#define DMAMAP_IOVA_NO_TAGS_H_

// NoTags: LiveTags for FreeCheck::kOff. Keeps nothing, believes everything.

#include <atomic>
#include <cstdint>

#include "dma/result.h"
#include "dma/version.h"
#include "iova/tag.h"

namespace dmamap::inline v0 {

// See LiveTags for what each call is to say.
template <template <class> class Atom = std::atomic>
class NoTags {
 public:
  // One cell stands for all pages.
  class Cell {
   public:
    bool Is(Tag) const { return true; }
    void Store(Tag) {}
    bool Exchange(Tag, Tag) { return true; }
  };

  Result<void> Init(unsigned, unsigned) { return Ok(); }
  Cell* Find(std::uint64_t, unsigned) const { return &cell_; }
  struct Hint {};
  Cell* Find(std::uint64_t, unsigned, unsigned, Hint&) const { return &cell_; }
  Result<void> Ensure(std::uint64_t, std::uint64_t) { return Ok(); }
  Result<void> EnsureRange(std::uint64_t, std::uint64_t) { return Ok(); }
  void MarkLive(std::uint64_t, std::uint64_t) {}
  void Prefetch(std::uint64_t, std::uint64_t) const {}
  Result<void> Check(std::uint64_t, std::uint64_t) const { return Ok(); }
  Result<void> CheckRetired(std::uint64_t, std::uint64_t) const { return Ok(); }
  Result<void> Retire(std::uint64_t, std::uint64_t, Tag) { return Ok(); }
  Result<void> EndRetired(std::uint64_t, std::uint64_t, Tag) { return Ok(); }
  static constexpr Tag LiveTag(std::uint64_t) { return Tag(); }
  template <class Fn>
  void ForEachLive(Fn&&) const {}
  template <class Fn>
  void ForEachHeld(Fn&&) const {}
  static constexpr std::uint64_t kPageBytes = 0;
  std::uint64_t bytes() const { return 0; }

 private:
  mutable Cell cell_;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_NO_TAGS_H_
