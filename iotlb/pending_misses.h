// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_PENDING_MISSES_H_
#define DMAMAP_IOTLB_PENDING_MISSES_H_

// PendingMisses: which misses somebody has been asked about and has not
// answered, as a device IOTLB needs (vhost's IOTLB messages, ATS page
// requests): a miss is reported once, however many readers run into it, until
// it is answered.
//
// A miss is one page and one kind of access. At most `capacity` wait at a time;
// what comes on top is kFull, and may be reported later.
//
// Thread-safe under a lock of its own: a miss is the slow path, and lookups do
// not come here. Blocking, for O(capacity) steps.

#include <cstddef>
#include <cstdint>

#include "dma/address.h"
#include "dma/direction.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "iotlb/node_pool.h"

namespace dmamap::inline v0 {

// What became of a reported miss.
enum class MissReport : std::uint8_t {
  kNew = 0,       // the first report: the caller asks for the mapping
  kPending = 1,   // somebody asked already
  kAnswered = 2,  // there is a mapping by now: look it up again
  kFull = 3,      // as many wait as can; nothing is noted
  kInvalid = 4,   // `wanted` is no Permission; nothing is noted
};

// One access that found no mapping, or none that grants it.
struct PendingMiss {
  Iova page;  // its first byte
  Permission permission = Permission::kNone;

  friend constexpr bool operator==(const PendingMiss &,
                                   const PendingMiss &) = default;
};

template <NodeMemory Memory, Lock LockType>
class PendingMisses {
 public:
  explicit PendingMisses(const Memory &memory) : memory_(memory) {}
  ~PendingMisses() { Release(); }
  PendingMisses(const PendingMisses &) = delete;
  PendingMisses &operator=(const PendingMisses &) = delete;

  // Once. False: no memory.
  [[nodiscard]] bool Init(std::size_t capacity) {
    constexpr std::size_t kMost = ~std::size_t{0} / sizeof(PendingMiss);
    if (capacity == 0) return true;
    if (capacity > kMost) return false;
    void *const block =
        memory_.Allocate(capacity * sizeof(PendingMiss), alignof(PendingMiss));
    if (block == nullptr) return false;
    misses_ = static_cast<PendingMiss *>(block);
    for (std::size_t i = 0; i < capacity; ++i) {
      ::new (static_cast<void *>(misses_ + i)) PendingMiss();
    }
    capacity_ = capacity;
    return true;
  }

  // Before anything was reported: as before Init.
  void Release() {
    if (misses_ == nullptr) return;
    memory_.Free(misses_, capacity_ * sizeof(PendingMiss),
                 alignof(PendingMiss));
    misses_ = nullptr;
    capacity_ = 0;
  }

  // `is_answered()` is asked, under the lock, whether a mapping has come since
  // the caller looked; then nothing is noted. A mapping that comes later finds
  // the note: its Answer waits for the lock. (Who enters the mapping calls
  // Answer before it may be removed again.)
  template <class IsAnswered>
  MissReport Report(const PendingMiss &miss, IsAnswered &&is_answered) {
    Guard guard(lock_);
    if (is_answered()) return MissReport::kAnswered;
    for (std::size_t i = 0; i < count_; ++i) {
      if (misses_[i] == miss) return MissReport::kPending;
    }
    if (count_ == capacity_) return MissReport::kFull;
    misses_[count_++] = miss;
    return MissReport::kNew;
  }

  // Forgets the misses on pages of `range` that `granted` answers, whatever
  // the answer was; returns how many.
  std::size_t Answer(const Range &range, PageSize page, Permission granted) {
    if (capacity_ == 0) return 0;
    Guard guard(lock_);
    std::size_t kept = 0;
    for (std::size_t i = 0; i < count_; ++i) {
      const Range pages = Range::Byte(misses_[i].page).RoundOutToPages(page);
      if (!pages.Overlaps(range) || !Allows(granted, misses_[i].permission)) {
        misses_[kept++] = misses_[i];
      }
    }
    const std::size_t answered = count_ - kept;
    count_ = kept;
    return answered;
  }

  // `visit(const PendingMiss&)` for each, oldest first, under the lock.
  template <class Visit>
  void ForEach(Visit &&visit) const {
    Guard guard(lock_);
    for (std::size_t i = 0; i < count_; ++i) {
      visit(static_cast<const PendingMiss &>(misses_[i]));
    }
  }

  std::size_t memory_bytes() const { return capacity_ * sizeof(PendingMiss); }

 private:
  [[no_unique_address]] Memory memory_;
  mutable LockType lock_;
  PendingMiss *misses_ = nullptr;
  std::size_t capacity_ = 0;
  std::size_t count_ = 0;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_PENDING_MISSES_H_
