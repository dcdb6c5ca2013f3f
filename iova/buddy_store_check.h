// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_BUDDY_STORE_CHECK_H_
#define DMAMAP_IOVA_BUDDY_STORE_CHECK_H_

// CheckInvariants() of BuddyStore. Included by iova/buddy_store.h alone.

#include <cstdint>

#include "iova/buddy_store.h"

namespace dmamap::inline v0 {

inline bool BuddyStore::CheckInvariants() const {
  if (!initialised_) return true;
  if (!trie_.CheckInvariants()) return false;
  std::uint64_t pages = recent_.count;
  bool good = true;
  trie_.ForEach([&](unsigned order, std::uint64_t page) {
    const std::uint64_t count = std::uint64_t{1} << order;
    pages += count;
    if (page < first_ || page + count - 1 > last_) good = false;
    if (recent_.Overlaps(page, count)) good = false;
    if (order == trie_.max_order()) return;
    const BlockTrie::Path path = trie_.Walk(page);
    if (!trie_.Has(path, order) || trie_.Test(path, order, page ^ count)) {
      good = false;
    }
  });
  return good && pages == free_pages_;
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_BUDDY_STORE_CHECK_H_
