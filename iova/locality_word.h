// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_LOCALITY_WORD_H_
#define DMAMAP_IOVA_LOCALITY_WORD_H_

// LocalityWord: 64 pages of a chunk as four bitmaps.
//
//   free     the page is in no range
//   heads    a range begins here             |  a range of 3 pages:
//   ends     a range ends here               |  heads 1 0 0, ends 0 0 1
//   remote   another thread has freed the range that begins here
//
// A free is right if, among the pages that it names, the first alone is a head
// and the last alone an end. That looks at no page of a neighbour, so another
// thread than the owner can check as well: while the range is live its own bits
// do not change.
//
// Who writes what: the owner free, heads, ends; anybody sets a bit of remote,
// the owner clears it. The owner's path has no atomic read-modify-write.
//
// Synchronisation edges
//   R1 -> O1  what a thread did to its pages before it freed them is done
//             before the owner hands them out again.
//   O2 -> R2  the owner takes the range out of heads before it takes the bit
//             out of remote: a second free that comes after the first finds
//             one or the other.

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>

#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

template <template <class> class Atom = std::atomic>
class LocalityWord {
 public:
  static constexpr unsigned kPages = 64;

  static constexpr std::uint64_t Bit(unsigned at) {
    return std::uint64_t{1} << at;
  }
  // REQUIRES: 1 <= pages, at + pages <= 64.
  static constexpr std::uint64_t Mask(unsigned at, unsigned pages) {
    return (~std::uint64_t{0} >> (kPages - pages)) << at;
  }

  // All pages free.
  void Reset() {
    Store(free_, ~std::uint64_t{0});
    Store(heads_, 0);
    Store(ends_, 0);
    Store(remote_, 0);
  }

  std::uint64_t free() const { return Load(free_); }

  // Takes the lowest free page; kPages when there is none.
  unsigned TakeOne() {
    const std::uint64_t free = Load(free_);
    if (free == 0) [[unlikely]]
      return kPages;
    const std::uint64_t bit = free & (~free + 1);
    Store(free_, free ^ bit);
    Store(heads_, Load(heads_) | bit);
    Store(ends_, Load(ends_) | bit);
    return static_cast<unsigned>(std::countr_zero(free));
  }
  // Takes the lowest `pages` free pages that lie side by side; kPages when
  // there are none. REQUIRES: 1 <= pages <= 64.
  unsigned Take(unsigned pages) {
    // After each step, bit i says that `have` pages from i on are free.
    std::uint64_t starts = Load(free_);
    for (unsigned have = 1; have < pages && starts != 0;) {
      const unsigned step = std::min(have, pages - have);
      starts &= starts >> step;
      have += step;
    }
    if (starts == 0) return kPages;
    const auto at = static_cast<unsigned>(std::countr_zero(starts));
    Store(free_, Load(free_) & ~Mask(at, pages));
    Store(heads_, Load(heads_) | Bit(at));
    Store(ends_, Load(ends_) | Bit(at + pages - 1));
    return at;
  }

  // Why the range cannot be freed, or Ok. Any thread.
  Result<void> Check(unsigned at, std::uint64_t pages) const {
    // R2, acquire: pairs with O2. First, see there.
    const std::uint64_t remote = remote_.load(std::memory_order_acquire);
    if (IsRange(at, pages, Load(heads_), Load(ends_), remote)) [[likely]]
      return Ok();
    return WhyNot(at, remote);
  }

  // By the owner: checks and frees, in one look at each bitmap. The errors of
  // Check.
  Result<void> Free(unsigned at, std::uint64_t pages) {
    // relaxed: it is the owner that clears bits of `remote`, after the heads.
    const std::uint64_t remote = Load(remote_);
    const std::uint64_t heads = Load(heads_);
    const std::uint64_t ends = Load(ends_);
    if (!IsRange(at, pages, heads, ends, remote)) [[unlikely]]
      return WhyNot(at, remote);
    End(at, static_cast<unsigned>(pages), heads, ends);
    return Ok();
  }

  // By another thread: false when somebody else was first. REQUIRES: Check
  // says Ok.
  bool FreeRemotely(unsigned at) {
    // R1, release: pairs with O1.
    return (remote_.fetch_or(Bit(at), std::memory_order_release) & Bit(at)) ==
           0;
  }

  // By the owner: frees what other threads have freed. Counts pages that
  // became free, and bits without a range behind them in `late`.
  unsigned Collect(std::uint64_t& late) {
    // O1, acquire: pairs with R1.
    const std::uint64_t remote = remote_.load(std::memory_order_acquire);
    unsigned pages = 0;
    for (std::uint64_t left = remote; left != 0; left &= left - 1) {
      const auto at = static_cast<unsigned>(std::countr_zero(left));
      if ((Load(heads_) & Bit(at)) == 0) {
        ++late;
        continue;
      }
      const auto end =
          static_cast<unsigned>(std::countr_zero(Load(ends_) >> at));
      End(at, end + 1, Load(heads_), Load(ends_));
      pages += end + 1;
    }
    // O2, release: pairs with R2.
    if (remote != 0) remote_.fetch_and(~remote, std::memory_order_release);
    return pages;
  }

  // Heads and ends alternate, and the pages between are the ones not free.
  bool CheckInvariants() const {
    bool inside = false;
    for (unsigned at = 0; at < kPages; ++at) {
      const bool head = (Load(heads_) & Bit(at)) != 0;
      const bool end = (Load(ends_) & Bit(at)) != 0;
      if (head && inside) return false;
      inside = inside || head;
      if (inside == ((Load(free_) & Bit(at)) != 0)) return false;
      if (end && !inside) return false;
      inside = inside && !end;
    }
    return !inside;
  }

 private:
  static bool IsRange(unsigned at, std::uint64_t pages, std::uint64_t heads,
                      std::uint64_t ends, std::uint64_t remote) {
    if (pages > kPages - at) [[unlikely]]
      return false;
    const std::uint64_t mask = Mask(at, static_cast<unsigned>(pages));
    const std::uint64_t end = Bit(at + static_cast<unsigned>(pages) - 1);
    return (heads & mask) == Bit(at) && (ends & mask) == end &&
           (remote & Bit(at)) == 0;
  }
  Result<void> WhyNot(unsigned at, std::uint64_t remote) const {
    if ((remote & Bit(at)) != 0) return Error::kDoubleFree;
    if ((Load(heads_) & Bit(at)) != 0) return Error::kMismatch;
    return (Load(free_) & Bit(at)) != 0 ? Error::kDoubleFree : Error::kForeign;
  }
  // Takes the range out of bitmaps that were read just now.
  void End(unsigned at, unsigned pages, std::uint64_t heads,
           std::uint64_t ends) {
    Store(heads_, heads & ~Bit(at));
    Store(ends_, ends & ~Bit(at + pages - 1));
    Store(free_, Load(free_) | Mask(at, pages));
  }

  // relaxed: only the owner writes these; whoever frees a range learnt of it
  // through an edge of the caller's own.
  static std::uint64_t Load(const Atom<std::uint64_t>& bits) {
    return bits.load(std::memory_order_relaxed);
  }
  static void Store(Atom<std::uint64_t>& bits, std::uint64_t value) {
    bits.store(value, std::memory_order_relaxed);
  }

  Atom<std::uint64_t> free_{0};
  Atom<std::uint64_t> heads_{0};
  Atom<std::uint64_t> ends_{0};
  Atom<std::uint64_t> remote_{0};
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_LOCALITY_WORD_H_
