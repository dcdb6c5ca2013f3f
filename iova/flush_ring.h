// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOVA_FLUSH_RING_H_
#define DMAMAP_IOVA_FLUSH_RING_H_

// FlushRing: the freed ranges of one slot that wait for an invalidation.
//
//        head            flushed              tail
//   ------|-----------------|-------------------|------
//         |      clean      |       dirty       |
//           may be released   waits for an invalidation that starts from now on
//
// All three only grow; an index is a position modulo the capacity.
//
// Who writes what
//   producer (the slot's owner): tail_, entries_, cached_head_, since_
//   flusher (one at a time, FlushQueue's lock): flushed_, snapshot_
//   consumer (whoever holds lock_): head_
//
// Synchronisation edges
//   P1 -> F1  what the producer did before it queued an entry (it removed the
//             mapping) happens before the invalidation that the flusher starts
//             after its snapshot. This is why no fence is needed in a free:
//             the flusher asks each ring how far it got; the producer never
//             has to say which invalidation it came before.
//   F2 -> C1  the invalidation has completed before an entry is released, and
//             with P1 -> F1 the entry's contents are there.
//   C2 -> P2  an entry has been read before the producer reuses its place.
//
// Progress: the producer's calls are wait-free.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include "dma/address.h"
#include "dma/assert.h"
#include "dma/atom.h"
#include "dma/sync.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

struct FlushEntry {
  Iova first;
  std::uint64_t pages = 0;
};

template <template <class> class Atom, class LockType>
class FlushRing {
 public:
  // `capacity` entries, a power of two; null when there is no memory.
  static std::unique_ptr<FlushRing> Make(std::uint64_t capacity) {
    std::unique_ptr<FlushRing> ring(new (std::nothrow) FlushRing(capacity));
    if (ring != nullptr && ring->entries_ == nullptr) ring.reset();
    return ring;
  }
  FlushRing(const FlushRing&) = delete;
  FlushRing& operator=(const FlushRing&) = delete;

  // The producer's side.
  bool HasRoom() {
    const std::uint64_t tail = OwnTail();
    if (tail - cached_head_ < capacity_) [[likely]]
      return true;
    LoadHead();
    return tail - cached_head_ < capacity_;
  }
  // REQUIRES: HasRoom().
  void Push(FlushEntry entry) {
    const std::uint64_t tail = OwnTail();
    DMAMAP_ASSERT(tail - cached_head_ < capacity_);
    entries_[tail & (capacity_ - 1)] = entry;
    // P1, release: pairs with F1.
    tail_.store(tail + 1, std::memory_order_release);
  }
  // An invalidation has ended and nobody has released its entries yet, as far
  // as the producer knows.
  bool SeesClean() {
    if (flushed() == cached_head_) [[likely]]
      return false;
    LoadHead();
    return flushed() != cached_head_;
  }
  bool SeesDirty() const { return flushed() != OwnTail(); }
  std::uint64_t OwnTail() const {
    // relaxed: only the producer writes it.
    return tail_.load(std::memory_order_relaxed);
  }
  // When the oldest dirty entry was queued, or earlier. A hint: no order.
  void set_since(std::uint64_t now) {
    since_.store(now, std::memory_order_relaxed);
  }
  std::uint64_t since() const { return since_.load(std::memory_order_relaxed); }

  // The flusher's side: Snapshot, then the invalidation, then Publish if that
  // succeeded. Snapshot returns whether anything is dirty.
  bool Snapshot() {
    // F1, acquire: pairs with P1.
    snapshot_ = tail_.load(std::memory_order_acquire);
    return snapshot_ != flushed();
  }
  void Publish() {
    // F2, release: pairs with C1.
    flushed_.store(snapshot_, std::memory_order_release);
  }

  // The consumer's side: calls fn(entry) for each clean entry, oldest first.
  template <class Fn>
  void TakeClean(Fn&& fn) {
    const Guard<LockType> guard(lock_);
    const std::uint64_t end = LoadFlushed();
    // relaxed: written under lock_ only.
    std::uint64_t head = head_.load(std::memory_order_relaxed);
    for (; head != end; ++head) {
      const FlushEntry entry = entries_[head & (capacity_ - 1)];
      fn(entry);
    }
    StoreHead(head);
  }

  // Anybody's hints: relaxed.
  bool HasClean() const { return flushed() != head(); }
  bool HasDirty() const {
    return flushed() != tail_.load(std::memory_order_relaxed);
  }
  std::uint64_t head() const { return head_.load(std::memory_order_relaxed); }
  std::uint64_t tail() const { return tail_.load(std::memory_order_relaxed); }

  // The slot has no owner that would release its entries; whoever invalidates
  // does it. A new owner takes the mark off when it first finds work to do.
  void set_abandoned(bool abandoned) {
    abandoned_.store(abandoned, std::memory_order_relaxed);
  }
  bool abandoned() const { return abandoned_.load(std::memory_order_relaxed); }

  std::uint64_t bytes() const {
    return sizeof(*this) + capacity_ * sizeof(Entry);
  }
  // REQUIRES: nobody else uses the ring.
  bool CheckInvariants() const {
    return head() <= flushed() && flushed() <= tail() &&
           tail() - head() <= capacity_ && cached_head_ <= head() &&
           snapshot_ <= tail();
  }

 protected:
  explicit FlushRing(std::uint64_t capacity)
      : capacity_(capacity),
        entries_(new (std::nothrow) Entry[static_cast<std::size_t>(capacity)]) {
  }

 private:
  using Entry = PlainFor<Atom, FlushEntry>;

  std::uint64_t flushed() const {
    // relaxed: a hint but for the flusher, who is the only writer.
    return flushed_.load(std::memory_order_relaxed);
  }
  std::uint64_t LoadFlushed() const {
    // C1, acquire: pairs with F2.
    return flushed_.load(std::memory_order_acquire);
  }
  void StoreHead(std::uint64_t head) {
    // C2, release: pairs with P2.
    head_.store(head, std::memory_order_release);
  }
  void LoadHead() {
    // P2, acquire: pairs with C2.
    cached_head_ = head_.load(std::memory_order_acquire);
  }

  const std::uint64_t capacity_;
  const std::unique_ptr<Entry[]> entries_;
  alignas(kCacheLine) Atom<std::uint64_t> tail_{0};
  PlainFor<Atom, std::uint64_t> cached_head_{0};
  Atom<std::uint64_t> since_{0};
  // Written once in an invalidation, read by the producer at each free.
  alignas(kCacheLine) Atom<std::uint64_t> flushed_{0};
  PlainFor<Atom, std::uint64_t> snapshot_{0};
  alignas(kCacheLine) Atom<std::uint64_t> head_{0};
  Atom<bool> abandoned_{false};
  LockType lock_;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOVA_FLUSH_RING_H_
