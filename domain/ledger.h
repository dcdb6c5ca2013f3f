// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_LEDGER_H_
#define DMAMAP_DOMAIN_LEDGER_H_

// Ledger: who mapped what, where in the program, and what is wrong with it. The
// book that LedgerMapper (ledger_mapper.h) keeps; what Linux has as dma-debug.
//
// Memory is bounded: Init takes it for so many entries, and what does not fit
// is counted (`dropped`) and not followed, the rest goes on being followed.
//
// An entry is filed twice, in hash tables whose buckets are locked in stripes:
//
//   by (iova, tag)  what a driver hands back;
//   by buffer       for overlaps: an entry of 2^(L-1) < size <= 2^L bytes lies
//                   at level L under the number of its first byte's block of
//                   2^L. What overlaps [a, b] then lies in blocks a>>L - 1 to
//                   b>>L of the levels in use; a range of more blocks than
//                   there are buckets looks through all of these instead.
//
// An entry is filed before it is compared, so that of two overlapping mappings
// made at one time at least one sees the other (both may, and say so twice).
// The last few mappings that ended are remembered, to say where.
//
// Thread-safe; blocking, for the length of a bucket's chain. Locks are taken
// one at a time.

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

#include "dma/address.h"
#include "dma/direction.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "domain/call_site.h"

namespace dmamap::inline v0 {

// One mapping or coherent block, as it was made.
struct LedgerEntry {
  Mapping mapping;  // of a coherent block: tag 0
  PhysAddr buffer;
  bool coherent = false;
  CallSite made;
  CallSite ended;            // of one that is over
  const char* owner = "";    // whoever LedgerMapper::For named
  std::uint64_t serial = 0;  // the how many-th of the ledger
};

enum class LedgerOverlaps : std::uint8_t {
  kNone,     // not looked for
  kWritten,  // where a device may write through one of the two
  kAll,
};

struct LedgerOptions {
  std::size_t entries = 65'536;  // that can be followed at a time, not 0
  // Ranges are compared in whole blocks of so many bytes, a power of two: the
  // cache line, for drivers that shall also run where DMA is not coherent.
  std::uint64_t granule = 1;
  LedgerOverlaps overlaps = LedgerOverlaps::kWritten;
};

struct LedgerStats {
  std::uint64_t recorded = 0;    // ever
  std::uint64_t live = 0;        // now
  std::uint64_t high_water = 0;  // most at a time
  std::uint64_t dropped = 0;     // not followed: the ledger was full
};

template <class LockType = SpinLock>
class Ledger {
 public:
  Ledger() = default;
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;

  // kInvalidArgument, kNoMemory; kBusy the second time. Not thread-safe.
  Result<void> Init(const LedgerOptions& options);
  bool is_open() const { return entries_ != nullptr; }

  // Files an entry. overlap(const LedgerEntry& other) for each live one whose
  // bytes it shares and that the options ask for. False: there was no room.
  template <class F>
  bool Add(LedgerEntry entry, F&& overlap);
  // Takes the entry of `mapping` out, or else one of its address and tag; false
  // when there is none. `*entry` becomes it.
  bool Remove(const Mapping& mapping, CallSite where, LedgerEntry* entry);

  // The live entry that equals `mapping`.
  bool FindSame(const Mapping& mapping, LedgerEntry* entry) const {
    return FindIf(mapping.iova, entry,
                  [&](const LedgerEntry& e) { return e.mapping == mapping; });
  }
  // A live entry at `iova`, whatever its tag.
  bool Find(Iova iova, LedgerEntry* entry) const {
    return FindIf(iova, entry, [](const LedgerEntry&) { return true; });
  }
  // The one of (iova, tag) that ended last, if it is remembered.
  bool FindEnded(const Mapping& mapping, LedgerEntry* entry) const;
  // f(const LedgerEntry&) for each live entry that shares a byte with `bytes`.
  template <class F>
  void ForEachAt(PhysRange bytes, F&& f) const;
  // f(const LedgerEntry&) for each live entry, in no order. What is made or
  // ended meanwhile may be among them or not.
  template <class F>
  void ForEach(F&& f) const;

  LedgerStats stats() const;
  // REQUIRES: nobody else uses the ledger. Each entry is filed in both tables.
  bool CheckInvariants() const;

 private:
  using Index = std::uint32_t;
  static constexpr Index kNone = ~Index{0};
  static constexpr std::size_t kStripes = 32;
  static constexpr std::size_t kRemembered = 8;  // by each stripe
  static constexpr unsigned kLevels = 65;

  struct Filed {
    LedgerEntry entry;
    Index next_iova = kNone;  // or next free
    Index next_buffer = kNone;
  };
  struct alignas(kCacheLine) Stripe {
    mutable LockType lock;
    // By I/O address: those that ended here. Guarded by the lock.
    std::array<LedgerEntry, kRemembered> ended;
    std::uint64_t count = 0;
  };

  static std::uint64_t Mix(std::uint64_t x) {
    x *= 0x9E3779B97F4A7C15u;  // 2^64 / golden ratio
    return x ^ x >> 32;
  }
  std::size_t IovaBucket(Iova iova) const {
    return static_cast<std::size_t>(Mix(iova.value())) & mask_;
  }
  std::size_t BlockBucket(unsigned level, std::uint64_t block) const {
    return static_cast<std::size_t>(Mix(block * kLevels + level)) & mask_;
  }
  static unsigned LevelOf(std::uint64_t size) {
    return size <= 1 ? 0u
                     : 64u - static_cast<unsigned>(std::countl_zero(size - 1));
  }
  static std::uint64_t BlockOf(std::uint64_t at, unsigned level) {
    return level >= 64 ? 0 : at >> level;
  }
  std::size_t BufferBucket(const LedgerEntry& e) const {
    const unsigned level = LevelOf(e.mapping.size);
    return BlockBucket(level, BlockOf(e.buffer.value(), level));
  }
  // In whole granules; REQUIRES a range that does not wrap.
  PhysRange Rounded(PhysAddr at, std::uint64_t size) const {
    const std::uint64_t low = granule_ - 1;
    return *PhysRange::FromFirstLast(PhysAddr(at.value() & ~low),
                                     PhysAddr((at.value() + (size - 1)) | low));
  }
  PhysRange BytesOf(const LedgerEntry& e) const {
    return Rounded(e.buffer, e.mapping.size);
  }
  bool Conflict(const LedgerEntry& a, const LedgerEntry& b) const {
    return overlaps_ == LedgerOverlaps::kAll ||
           (overlaps_ == LedgerOverlaps::kWritten &&
            (DeviceWrites(a.mapping.direction) ||
             DeviceWrites(b.mapping.direction)));
  }

  Index TakeFree();
  template <class F>
  bool FindIf(Iova iova, LedgerEntry* entry, F&& f) const;
  // f(const LedgerEntry&) for those of one bucket of buffers whose bytes
  // overlap; of (level, block) alone unless level is kLevels.
  template <class F>
  void LookInBucket(std::size_t bucket, unsigned level, std::uint64_t block,
                    PhysRange bytes, F&& f) const;
  void Unlink(Index* head, Index Filed::*next, Index entry);

  std::size_t mask_ = 0;  // buckets - 1
  std::size_t capacity_ = 0;
  std::uint64_t granule_ = 1;
  LedgerOverlaps overlaps_ = LedgerOverlaps::kWritten;
  std::unique_ptr<Filed[]> entries_;
  std::unique_ptr<Index[]> by_iova_;    // heads; bucket b: stripe b % kStripes
  std::unique_ptr<Index[]> by_buffer_;  // likewise, of the other stripes
  std::array<Stripe, kStripes> iova_stripes_;
  std::array<Stripe, kStripes> buffer_stripes_;
  LockType free_lock_;
  Index free_ = kNone;  // guarded by free_lock_
  // seq_cst: counted before an entry of the level is filed, looked at when it
  // is: of two who do so at one time one sees the other's count. The locks then
  // order the entries. relaxed where an entry has gone.
  std::array<std::atomic<std::uint64_t>, kLevels> at_level_ = {};
  // relaxed: statistics.
  std::atomic<std::uint64_t> recorded_{0};
  std::atomic<std::uint64_t> live_{0};
  std::atomic<std::uint64_t> high_water_{0};
  std::atomic<std::uint64_t> dropped_{0};
};

}  // namespace dmamap::inline v0

#include "domain/ledger_book.h"  // IWYU pragma: export

#endif  // DMAMAP_DOMAIN_LEDGER_H_
