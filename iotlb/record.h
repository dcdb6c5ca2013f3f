// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_RECORD_H_
#define DMAMAP_IOTLB_RECORD_H_

// MappingRecord: one mapping in its one place, which readers copy without a
// lock.
//
// The word `meta` decides, and it alone, whether the mapping is there: the
// tree and the front only lead to records. A record is put into both while it
// is dead, GoLive makes it visible everywhere with one store, and Kill ends it
// everywhere with one store, before anything is taken out.
//
//   bit 0     dead: not there yet, or not any more
//   bit 1     another live mapping overlaps it, or did: no hint may be kept
//   bits 2-3  permission
//   bits 4-   generation: one more each time that the record goes live
//
// Records are type-stable (node_pool.h), so that a late reader reads a record,
// if perhaps another one; the generation tells.
//
// Synchronisation edges
//   R1 -> R2  the fields, and what was put into tree and front, before the
//             record is seen alive.
//   R3 -> R4  who sees a field of the next user of the record also sees that
//             the last one is dead (a sequence lock whose writer never blocks
//             a reader: a dead record is an answer).
//
// One writer. Read is wait-free.

#include <atomic>
#include <cstdint>

#include "dma/address.h"
#include "dma/assert.h"
#include "dma/atom.h"
#include "dma/direction.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "iotlb/mapping.h"

namespace dmamap::inline v0 {

// A copy of a record as a reader found it.
struct RecordCopy {
  std::uint64_t first = 0;  // bytes, inclusive
  std::uint64_t last = 0;
  std::uint64_t address = 0;
  std::uint64_t token = 0;
  std::uint64_t id = 0;    // order of Add
  std::uint64_t meta = 1;  // dead

  Permission permission() const {
    return static_cast<Permission>((meta >> 2) & 3);
  }
  // One comparison: which side `at` lies on is anybody's guess. REQUIRES: first
  // is not above last.
  bool Covers(std::uint64_t at) const { return at - first <= last - first; }
  Range range() const {
    return Range::FromFirstLast(Iova(first), Iova(last)).value_or(Range());
  }
  IotlbEntry entry() const {
    return IotlbEntry{range(), PhysAddr(address), permission(), token};
  }
  // REQUIRES: Covers(at).
  Translation At(std::uint64_t at) const {
    return Translation{PhysAddr(address + (at - first)), last - at,
                       permission(), token};
  }
};

template <template <class> class Atom = std::atomic>
class alignas(kCacheLine) MappingRecord {
 public:
  static constexpr std::uint64_t kDead = 1;
  static constexpr std::uint64_t kOverlapped = 2;
  static constexpr std::uint64_t kGeneration = 16;

  static MappingRecord *&PoolLink(MappingRecord &r) { return r.newer; }

  // --- The writer.

  // Fills a dead record in. REQUIRES: dead(), and what leads here leads to a
  // mapping of this range, or nothing does.
  void Fill(const IotlbEntry &entry, std::uint64_t order) {
    DMAMAP_ASSERT(dead());
    // R3, release: pairs with R4. Who sees a store below sees the Kill before.
    AtomFence<Atom>(std::memory_order_release);
    // relaxed, all: a reader checks meta on both sides.
    first_.store(entry.range.first().value(), std::memory_order_relaxed);
    last_.store(entry.range.last().value(), std::memory_order_relaxed);
    address_.store(entry.address.value(), std::memory_order_relaxed);
    token_.store(entry.token, std::memory_order_relaxed);
    id_.store(order, std::memory_order_relaxed);
    const std::uint64_t generation =
        (OwnMeta() | (kGeneration - 1)) & ~(kGeneration - 1);
    // relaxed: dead as before; R1 publishes the rest.
    meta_.store(generation | kDead | Bits(entry.permission),
                std::memory_order_relaxed);
  }
  void GoLive() {
    DMAMAP_ASSERT(dead());
    // R1, release: pairs with R2.
    meta_.store((OwnMeta() & ~kDead) + kGeneration, std::memory_order_release);
  }
  void Kill() {
    DMAMAP_ASSERT(!dead());
    // release: what the caller counted before, for a walk that is checked.
    meta_.store(OwnMeta() | kDead, std::memory_order_release);
  }
  void MarkOverlapped() {
    // relaxed: the mapping that overlaps goes live behind it (its R1).
    meta_.store(OwnMeta() | kOverlapped, std::memory_order_relaxed);
  }

  bool dead() const { return (OwnMeta() & kDead) != 0; }
  bool overlapped() const { return (OwnMeta() & kOverlapped) != 0; }
  std::uint64_t first() const { return Relaxed(first_); }
  std::uint64_t last() const { return Relaxed(last_); }
  std::uint64_t address() const { return Relaxed(address_); }
  std::uint64_t token() const { return Relaxed(token_); }
  std::uint64_t id() const { return Relaxed(id_); }
  Permission permission() const { return PermissionIn(OwnMeta()); }
  Range range() const { return Copy().range(); }
  IotlbEntry entry() const { return Copy().entry(); }
  // Whatever the record holds, dead or alive.
  RecordCopy Copy() const {
    return {first(), last(), address(), token(), id(), OwnMeta()};
  }

  // --- Readers.

  // What a translation needs; `meta` was returned by meta().
  RecordCopy CopyForLookup(std::uint64_t meta) const {
    return {first(), last(), address(), token(), 0, meta};
  }
  // False: dead, or replaced meanwhile.
  [[gnu::always_inline]] bool Read(RecordCopy &copy) const {
    const std::uint64_t before = meta();
    copy = {first(), last(), address(), token(), id(), before};
    if ((before & kDead) != 0) [[unlikely]]
      return false;
    return IsStill(before);
  }
  // R2, acquire: pairs with R1.
  std::uint64_t meta() const { return meta_.load(std::memory_order_acquire); }
  // The same as IsStill, and no other mapping came to overlap it.
  bool IsExactly(std::uint64_t seen) const {
    // R4, acquire: pairs with R3.
    AtomFence<Atom>(std::memory_order_acquire);
    return Relaxed(meta_) == seen;
  }
  // What was read since `seen` was returned by meta() belongs to it, and the
  // mapping was alive until now.
  bool IsStill(std::uint64_t seen) const {
    // R4, acquire: pairs with R3.
    AtomFence<Atom>(std::memory_order_acquire);
    const std::uint64_t now = Relaxed(meta_);
    if (now == seen) [[likely]]
      return true;
    return ((now ^ seen) & ~kOverlapped) == 0;
  }

  // The mapping is gone, but the tree still leads here (IotlbCore). The
  // writer's alone, like what follows.
  bool buried() const { return older == this; }
  void Bury() { older = this; }
  void Unbury() { older = nullptr; }

  // Order of Add, where that is kept; or the pool's list.
  MappingRecord *older = nullptr;
  MappingRecord *newer = nullptr;

 private:
  friend struct IotlbTestPeer;

  static std::uint64_t Bits(Permission permission) {
    return static_cast<std::uint64_t>(permission) << 2;
  }
  static Permission PermissionIn(std::uint64_t meta) {
    return static_cast<Permission>((meta >> 2) & 3);
  }
  static std::uint64_t Relaxed(const Atom<std::uint64_t> &field) {
    // relaxed: the writer reads its own, a reader checks meta.
    return field.load(std::memory_order_relaxed);
  }
  std::uint64_t OwnMeta() const { return Relaxed(meta_); }

  Atom<std::uint64_t> meta_{kDead};
  Atom<std::uint64_t> first_{0}, last_{0}, address_{0}, token_{0}, id_{0};
};
static_assert(sizeof(MappingRecord<>) == kCacheLine,
              "a hit costs one cache line behind the index");

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_RECORD_H_
