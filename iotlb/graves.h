// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_GRAVES_H_
#define DMAMAP_IOTLB_GRAVES_H_

// Graves: removed mappings whose places in tree and front nobody needs yet.
//
// They stay where they were, dead, with their records: buried. IOVA allocators
// hand out first what was freed last, so that the same range is often mapped
// again soon; it takes the place over then, and neither change touches tree or
// front. One is the latest; it makes room for the next by moving to the place
// that a hash of its first byte says, where it displaces the one before it. So
// at most kGraves + 1 are buried at a time, and whoever maps again at once what
// was removed finds it on the writer's own line.
//
// The writer's.

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "dma/assert.h"
#include "dma/version.h"

namespace dmamap::inline v0 {
namespace internal {

template <class Record>
class Graves {
 public:
  // `latest` lies where the owner wants it.
  explicit Graves(Record *&latest) : latest_(latest) {}

  // Buries a dead record; returns the one that has to go for it, or nullptr.
  Record *Bury(Record *record) {
    record->Bury();
    Record *const older = std::exchange(latest_, record);
    return older == nullptr ? nullptr
                            : Unbury(std::exchange(Of(*older), older));
  }
  // Whether the latest one is of exactly this range.
  bool HasLatest(std::uint64_t first, std::uint64_t last) const {
    return latest_ != nullptr && latest_->first() == first &&
           latest_->last() == last;
  }
  // The buried record of exactly this range, which is buried no more; or
  // nullptr.
  Record *Exhume(std::uint64_t first, std::uint64_t last) {
    if (HasLatest(first, last)) {
      return Unbury(std::exchange(latest_, nullptr));
    }
    Record *&grave = At(first);
    if (grave == nullptr || grave->first() != first || grave->last() != last) {
      return nullptr;
    }
    return Unbury(std::exchange(grave, nullptr));
  }
  // REQUIRES: `record` is buried here.
  void Remove(Record *record) {
    Record *&grave = latest_ == record ? latest_ : Of(*record);
    DMAMAP_ASSERT(grave == record);
    grave = nullptr;
    record->Unbury();
  }
  void Clear() {
    for (Record *&grave : graves_) (void)Unbury(std::exchange(grave, nullptr));
    (void)Unbury(std::exchange(latest_, nullptr));
  }

  // How many are buried; kNotSound when one of them is not dead, or not where
  // it should be. O(kGraves).
  static constexpr std::size_t kNotSound = ~std::size_t{0};
  std::size_t Count() const {
    std::size_t count = 0;
    for (std::size_t i = 0; i <= kGraves; ++i) {
      const Record *const grave = i == kGraves ? latest_ : graves_[i];
      if (grave == nullptr) continue;
      ++count;
      if (!grave->dead() || !grave->buried()) return kNotSound;
      if (i != kGraves && i != IndexOf(grave->first())) return kNotSound;
    }
    return count;
  }

 private:
  static constexpr unsigned kGraveBits = 6;
  static constexpr std::size_t kGraves = std::size_t{1} << kGraveBits;

  static std::size_t IndexOf(std::uint64_t first) {
    // Fibonacci hashing (Knuth, volume 3, section 6.4) without the offset in a
    // page.
    return static_cast<std::size_t>(((first >> 12) * 0x9e3779b97f4a7c15u) >>
                                    (64 - kGraveBits));
  }
  Record *&At(std::uint64_t first) { return graves_[IndexOf(first)]; }
  Record *&Of(const Record &record) { return At(record.first()); }
  static Record *Unbury(Record *record) {
    if (record != nullptr) record->Unbury();
    return record;
  }

  Record *&latest_;
  std::array<Record *, kGraves> graves_{};
};

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_GRAVES_H_
