// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_LEDGER_BOOK_H_
#define DMAMAP_DOMAIN_LEDGER_BOOK_H_

// The calls of Ledger. Included by domain/ledger.h alone.

#include "domain/ledger.h"

namespace dmamap::inline v0 {

template <class L>
Result<void> Ledger<L>::Init(const LedgerOptions& o) {
  if (is_open()) return Error::kBusy;
  if (o.entries == 0 || o.entries >= kNone || !std::has_single_bit(o.granule)) {
    return Error::kInvalidArgument;
  }
  const std::size_t buckets = std::bit_ceil(std::max(o.entries, kStripes));
  std::unique_ptr<Filed[]> entries(new (std::nothrow) Filed[o.entries]);
  by_iova_.reset(new (std::nothrow) Index[buckets]);
  by_buffer_.reset(new (std::nothrow) Index[buckets]);
  if (entries == nullptr || by_iova_ == nullptr || by_buffer_ == nullptr) {
    return Error::kNoMemory;
  }
  std::fill_n(by_iova_.get(), buckets, kNone);
  std::fill_n(by_buffer_.get(), buckets, kNone);
  for (std::size_t i = 0; i < o.entries; ++i) {
    entries[i].next_iova = static_cast<Index>(i + 1);
  }
  entries[o.entries - 1].next_iova = kNone;
  free_ = 0;
  mask_ = buckets - 1;
  capacity_ = o.entries;
  granule_ = o.granule;
  overlaps_ = o.overlaps;
  entries_ = std::move(entries);
  return Ok();
}

template <class L>
auto Ledger<L>::TakeFree() -> Index {
  Guard guard(free_lock_);
  const Index taken = free_;
  if (taken != kNone) free_ = entries_[taken].next_iova;
  return taken;
}

template <class L>
template <class F>
bool Ledger<L>::Add(LedgerEntry entry, F&& overlap) {
  const Index at = TakeFree();
  if (at == kNone) {
    dropped_.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  entry.serial = recorded_.fetch_add(1, std::memory_order_relaxed) + 1;
  const std::uint64_t now = live_.fetch_add(1, std::memory_order_relaxed) + 1;
  std::uint64_t high = high_water_.load(std::memory_order_relaxed);
  while (now > high &&
         !high_water_.compare_exchange_weak(
             high, now, std::memory_order_relaxed, std::memory_order_relaxed)) {
  }
  Filed& filed = entries_[at];
  filed.entry = entry;
  at_level_[LevelOf(entry.mapping.size)].fetch_add(1,
                                                   std::memory_order_seq_cst);
  const std::size_t buffer = BufferBucket(entry);
  {
    Guard guard(buffer_stripes_[buffer % kStripes].lock);
    filed.next_buffer = by_buffer_[buffer];
    by_buffer_[buffer] = at;
  }
  const std::size_t iova = IovaBucket(entry.mapping.iova);
  {
    Guard guard(iova_stripes_[iova % kStripes].lock);
    filed.next_iova = by_iova_[iova];
    by_iova_[iova] = at;
  }
  if (overlaps_ != LedgerOverlaps::kNone) {
    ForEachAt(BytesOf(entry), [&](const LedgerEntry& other) {
      if (other.serial != entry.serial && Conflict(entry, other)) {
        overlap(other);
      }
    });
  }
  return true;
}

template <class L>
void Ledger<L>::Unlink(Index* head, Index Filed::*next, Index entry) {
  while (*head != entry) head = &(entries_[*head].*next);
  *head = entries_[entry].*next;
}

template <class L>
bool Ledger<L>::Remove(const Mapping& mapping, CallSite where,
                       LedgerEntry* entry) {
  const std::size_t iova = IovaBucket(mapping.iova);
  Stripe& stripe = iova_stripes_[iova % kStripes];
  Index at = kNone;
  {
    Guard guard(stripe.lock);
    for (Index i = by_iova_[iova]; i != kNone; i = entries_[i].next_iova) {
      const Mapping& m = entries_[i].entry.mapping;
      const bool same = m == mapping;
      if (same || (m.iova == mapping.iova && m.tag == mapping.tag)) at = i;
      if (same) break;
    }
    if (at == kNone) return false;
    Unlink(&by_iova_[iova], &Filed::next_iova, at);
    *entry = entries_[at].entry;
    entry->ended = where;
    stripe.ended[stripe.count++ % kRemembered] = *entry;
  }
  // Nobody else finds it by its I/O address any more: it is this thread's.
  const std::size_t buffer = BufferBucket(*entry);
  {
    Guard guard(buffer_stripes_[buffer % kStripes].lock);
    Unlink(&by_buffer_[buffer], &Filed::next_buffer, at);
  }
  at_level_[LevelOf(entry->mapping.size)].fetch_sub(1,
                                                    std::memory_order_relaxed);
  live_.fetch_sub(1, std::memory_order_relaxed);
  Guard guard(free_lock_);
  entries_[at].next_iova = free_;
  free_ = at;
  return true;
}

template <class L>
template <class F>
bool Ledger<L>::FindIf(Iova iova, LedgerEntry* entry, F&& f) const {
  const std::size_t bucket = IovaBucket(iova);
  Guard guard(iova_stripes_[bucket % kStripes].lock);
  for (Index i = by_iova_[bucket]; i != kNone; i = entries_[i].next_iova) {
    const LedgerEntry& e = entries_[i].entry;
    if (e.mapping.iova != iova || !f(e)) continue;
    *entry = e;
    return true;
  }
  return false;
}

template <class L>
bool Ledger<L>::FindEnded(const Mapping& mapping, LedgerEntry* entry) const {
  const Stripe& stripe = iova_stripes_[IovaBucket(mapping.iova) % kStripes];
  Guard guard(stripe.lock);
  const std::uint64_t kept = std::min<std::uint64_t>(stripe.count, kRemembered);
  for (std::uint64_t i = 1; i <= kept; ++i) {
    const LedgerEntry& e = stripe.ended[(stripe.count - i) % kRemembered];
    if (e.mapping.iova != mapping.iova || e.mapping.tag != mapping.tag)
      continue;
    *entry = e;
    return true;
  }
  return false;
}

template <class L>
template <class F>
void Ledger<L>::LookInBucket(std::size_t bucket, unsigned level,
                             std::uint64_t block, PhysRange bytes,
                             F&& f) const {
  // A few at a time are copied, so that f is called without the lock; each
  // pass goes on behind the serial where the last one ended.
  constexpr std::size_t kBatch = 8;
  std::uint64_t below = ~std::uint64_t{0};
  for (bool more = true; more;) {
    std::array<LedgerEntry, kBatch> found;
    std::size_t n = 0;
    {
      Guard guard(buffer_stripes_[bucket % kStripes].lock);
      // The kBatch largest serials below `below`, in descending order.
      for (Index i = by_buffer_[bucket]; i != kNone;
           i = entries_[i].next_buffer) {
        const LedgerEntry& e = entries_[i].entry;
        const unsigned l = LevelOf(e.mapping.size);
        if (level != kLevels &&
            (l != level || BlockOf(e.buffer.value(), l) != block)) {
          continue;
        }
        if (e.serial >= below || !BytesOf(e).Overlaps(bytes)) continue;
        std::size_t at = n;
        while (at > 0 && found[at - 1].serial < e.serial) --at;
        if (at == kBatch) continue;
        n = std::min(n + 1, kBatch);
        std::move_backward(found.begin() + static_cast<std::ptrdiff_t>(at),
                           found.begin() + static_cast<std::ptrdiff_t>(n - 1),
                           found.begin() + static_cast<std::ptrdiff_t>(n));
        found[at] = e;
      }
    }
    for (std::size_t i = 0; i < n; ++i) f(found[i]);
    more = n == kBatch;
    if (more) below = found[n - 1].serial;
  }
}

template <class L>
template <class F>
void Ledger<L>::ForEachAt(PhysRange bytes, F&& f) const {
  const PhysRange whole = Rounded(bytes.first(), bytes.size());
  const std::uint64_t a = whole.first().value();
  const std::uint64_t b = whole.last().value();
  std::uint64_t blocks = 0;
  for (unsigned level = 0; level < kLevels; ++level) {
    if (at_level_[level].load(std::memory_order_seq_cst) == 0) continue;
    const std::uint64_t more = BlockOf(b, level) - BlockOf(a, level);
    blocks = more > mask_ ? more : blocks + more + 2;
    if (blocks > mask_) break;
  }
  if (blocks > mask_) {
    for (std::size_t i = 0; i <= mask_; ++i)
      LookInBucket(i, kLevels, 0, whole, f);
    return;
  }
  for (unsigned level = 0; level < kLevels; ++level) {
    if (at_level_[level].load(std::memory_order_seq_cst) == 0) continue;
    const std::uint64_t first = BlockOf(a, level);
    const std::uint64_t last = BlockOf(b, level);
    for (std::uint64_t i = first - (first == 0 ? 0 : 1);; ++i) {
      LookInBucket(BlockBucket(level, i), level, i, whole, f);
      if (i == last) break;
    }
  }
}

template <class L>
template <class F>
void Ledger<L>::ForEach(F&& f) const {
  if (!is_open()) return;
  const PhysRange all =
      *PhysRange::FromFirstLast(PhysAddr(0), PhysAddr(~std::uint64_t{0}));
  for (std::size_t i = 0; i <= mask_; ++i) LookInBucket(i, kLevels, 0, all, f);
}

template <class L>
LedgerStats Ledger<L>::stats() const {
  return {recorded_.load(std::memory_order_relaxed),
          live_.load(std::memory_order_relaxed),
          high_water_.load(std::memory_order_relaxed),
          dropped_.load(std::memory_order_relaxed)};
}

template <class L>
bool Ledger<L>::CheckInvariants() const {
  if (!is_open()) return true;
  std::size_t by_iova = 0;
  std::size_t by_buffer = 0;
  std::size_t free = 0;
  bool good = true;
  for (std::size_t b = 0; b <= mask_; ++b) {
    for (Index i = by_iova_[b]; i != kNone; i = entries_[i].next_iova) {
      good = good && IovaBucket(entries_[i].entry.mapping.iova) == b &&
             ++by_iova <= capacity_;
    }
    for (Index i = by_buffer_[b]; i != kNone; i = entries_[i].next_buffer) {
      good = good && BufferBucket(entries_[i].entry) == b &&
             ++by_buffer <= capacity_;
    }
  }
  for (Index i = free_; i != kNone && free <= capacity_; ++free) {
    i = entries_[i].next_iova;
  }
  return good && by_iova == by_buffer && by_iova + free == capacity_ &&
         by_iova == stats().live;
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_LEDGER_BOOK_H_
