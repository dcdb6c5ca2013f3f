// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_IOTLB_CORE_H_
#define DMAMAP_IOTLB_IOTLB_CORE_H_

// IotlbCore: the records and what leads to them (tree, front, reverse map), and
// the lookups of readers. An inner header of iotlb.h.
//
// A mapping enters in this order: record filled in, dead; tree; front; alive.
// It leaves so: dead; tree; front; record free. So whatever is alive can be
// found, and of what is found the record says whether it is alive: one word
// decides for the tree and the front alike, and they never differ.
//
// A removed mapping whose place in the tree nobody needs stays there, dead,
// with its record: it is buried. IOVA allocators hand out first what was freed
// last, so that the same range is often mapped again soon; it then takes the
// place over, and neither change touches the tree. At most kGraves are buried
// at a time, one for each value of a hash of their first byte; the next one
// there sends the last one out of the tree.
//
// A lookup asks the front. A slot that names one mapping answers at once: that
// mapping or none. "Ask", a record that died meanwhile and a front that changed
// its shape under the reader lead to the tree, the truth. The answer was right
// at some moment of the call:
//   * by the record, when it was seen alive, covering the byte, overlapped by
//     none;
//   * by the front, when the record was seen alive and the slot led to it;
//   * by the tree, when all nodes of the path were in the tree; where more than
//     one mapping had to be looked at, no mapping came or went meanwhile
//     (`changes`), or the lookup is made again.
// No reader waits: it goes again only when a writer has finished a change.
//
// Synchronisation edges
//   C1 -> C2  `changes` counts before a mapping goes live or dies.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "dma/address.h"
#include "dma/atom.h"
#include "dma/direction.h"
#include "dma/version.h"
#include "iotlb/interval_tree.h"
#include "iotlb/mapping.h"
#include "iotlb/node_pool.h"
#include "iotlb/page_front.h"
#include "iotlb/record.h"
#include "iotlb/reverse_map.h"
#include "iotlb/tree_walk.h"

namespace dmamap::inline v0 {

struct IotlbTestPeer;

namespace internal {

enum class Verdict : std::uint8_t {
  kHit,
  kMiss,
  kFault,
  kAskFurther,  // no answer yet
};

template <class Policies>
class IotlbCore {
 public:
  template <class T>
  using Atom = typename Policies::template Atom<T>;
  using Memory = typename Policies::Memory;
  using Record = MappingRecord<Policies::template Atom>;
  using Tree =
      IntervalTree<Record, Memory, Policies::kKeys, Policies::template Atom>;
  using Walk = TreeWalk<Tree>;
  using Front = PageFront<Record, Memory, Policies::kPageShift,
                          Policies::kFrontBits, Policies::template Atom>;
  using Reverse = ReverseMap<Record, Memory, Policies::kKeys,
                             Policies::template Atom, Policies::kReverse>;

  explicit IotlbCore(const Memory &memory)
      : tree_(memory), records_(memory), front_(memory), reverse_(memory) {}

  // Before the first mapping.
  void SwitchFrontOff() {
    has_front_ = false;
    front_.SwitchOff();
  }

  // --- Readers.

  // The mapping that answers an access to `at`, in `copy`; its record in
  // `record`, on a hit. First FindByFront, if it says so FindFurther.
  //
  // A record that is alive, covers the byte and was overlapped by no other
  // mapping is the only one that covers the byte, whatever led to it: the word
  // of the slot need not be looked at again.
  [[gnu::always_inline]] Verdict FindByFront(std::uint64_t at,
                                             Permission wanted,
                                             RecordCopy &copy,
                                             const Record *&record) const {
    FrontWord word;
    (void)front_.Find(Front::PageOf(at), word);
    if (!IsRecord(word)) [[unlikely]]
      return Verdict::kAskFurther;
    const Record *const found = FrontPointer<const Record>(word);
    const std::uint64_t meta = found->meta();
    copy = found->CopyForLookup(meta);
    constexpr std::uint64_t kNotSimple = Record::kDead | Record::kOverlapped;
    if ((meta & kNotSimple) != 0 || !copy.Covers(at) ||
        !Allows(copy.permission(), wanted) || !found->IsExactly(meta))
        [[unlikely]] {
      return Verdict::kAskFurther;
    }
    record = found;
    return Verdict::kHit;
  }

  // What is no such hit: the front again, with all that can change under the
  // reader, and the tree.
  [[gnu::noinline]] Verdict FindFurther(std::uint64_t at, Permission wanted,
                                        RecordCopy &copy,
                                        const Record *&record) const {
    const Verdict verdict = FindByShape(at, wanted, copy, record);
    return verdict == Verdict::kAskFurther
               ? FindByTree(at, wanted, copy, record)
               : verdict;
  }

  Verdict FindByShape(std::uint64_t at, Permission wanted, RecordCopy &copy,
                      const Record *&record) const {
    const std::uint64_t shape = front_.Shape();
    FrontWord word;
    const auto *const slot = front_.Find(Front::PageOf(at), word);
    if (IsRecord(word)) {
      const Record *const found = FrontPointer<const Record>(word);
      const std::uint64_t meta = found->meta();
      copy = found->CopyForLookup(meta);
      // The slot still leads to this record, which was alive then.
      if (slot->Own() != word || (meta & Record::kDead) != 0 ||
          !found->IsStill(meta) || !front_.IsShape(shape)) {
        return Verdict::kAskFurther;
      }
      if (!copy.Covers(at)) return Verdict::kMiss;
      record = found;
      return Allows(copy.permission(), wanted) ? Verdict::kHit
                                               : Verdict::kFault;
    }
    if (word == kFrontNone && front_.IsShape(shape)) return Verdict::kMiss;
    return Verdict::kAskFurther;
  }

  Verdict FindByTree(std::uint64_t at, Permission wanted, RecordCopy &copy,
                     const Record *&record) const {
    typename Tree::Path path;
    for (;;) {
      const Reached reached = path.FirstReaching(tree_.root(), at);
      if (reached == Reached::kStale) continue;
      if (reached == Reached::kNothing) return Verdict::kMiss;
      const auto &leaf = *path.leaf();
      const std::uint64_t first = leaf.first_at(path.index(0));
      const auto *const found =
          static_cast<const Record *>(leaf.slot_at(path.index(0)));
      if (first > at) {
        if (path.IsStill()) return Verdict::kMiss;
        continue;
      }
      if (!path.LeafIsStill()) continue;  // is it a record?
      const bool alive = found->Read(copy);
      if (!path.IsStill()) continue;
      if (!alive || !Allows(copy.permission(), wanted)) {
        return FindAmong(at, wanted, copy, record);
      }
      record = found;
      return Verdict::kHit;
    }
  }

  const Tree &tree() const { return tree_; }
  const Reverse &reverse() const { return reverse_; }
  const Front &front() const { return front_; }

  // C2, acquire: pairs with C1.
  std::uint64_t Changes() const {
    return changes_.load(std::memory_order_acquire);
  }
  // No mapping came or went since Changes() returned `seen`, or one that did
  // was met before or after by each load in between.
  bool NoChangeSince(std::uint64_t seen) const {
    AtomFence<Atom>(std::memory_order_acquire);  // C2
    return changes_.load(std::memory_order_relaxed) == seen;
  }

  // --- The writer.

  // Makes `count` calls of Prepare certain to succeed; false: no memory.
  [[nodiscard]] bool Reserve(std::size_t count) {
    return tree_.Reserve(count) && reverse_.Reserve(count) &&
           records_.Reserve(count);
  }

  // True when no live mapping overlaps the range.
  bool IsFree(const Range &range) const {
    if (has_front_ && front_.IsEmpty(Front::PageOf(range.first().value()),
                                     Front::PageOf(range.last().value()))) {
      return true;
    }
    Walk walk(tree_, range.first().value(), range.last().value());
    return walk.NextRecord() == nullptr;
  }

  // The one live mapping that overlaps the range, where the front knows that
  // quickly; or nullptr.
  Record *OnlyOverlapping(const Range &range) const {
    FrontWord word;
    (void)front_.Find(Front::PageOf(range.first().value()), word);
    if (!IsRecord(word)) return nullptr;
    Record *const record = FrontPointer<Record>(word);
    // What overlaps a part of a mapping overlaps the mapping.
    const bool only = record->first() <= range.first().value() &&
                      range.last().value() <= record->last() &&
                      !record->overlapped();
    return only ? record : nullptr;
  }

  // A dead record of `entry`, in the tree but not in the front. REQUIRES:
  // reserved.
  Record *Prepare(const IotlbEntry &entry) {
    Record *record = Exhume(entry.range);
    if (record != nullptr) {
      record->Fill(entry, next_id_++);
    } else {
      record = records_.Take();
      record->Fill(entry, next_id_++);
      tree_.Insert(record->first(), record->last(), record);
    }
    reverse_.Insert(record);
    front_.AddWorth(PageFirst(*record), PageLast(*record));
    return record;
  }
  // Enters a prepared record into the front; slots of `old` and `old2` that
  // `beside` does not touch pass to it. False: surely no other mapping shares a
  // page.
  bool EnterFront(Record *record, const Record *old = nullptr,
                  const Record *old2 = nullptr,
                  const Record *beside = nullptr) {
    return !has_front_ || front_.Set(Source{tree_}, record, PageFirst(*record),
                                     PageLast(*record), old, old2, beside);
  }
  void GoLive(Record *record) {
    CountChange();
    record->GoLive();
    ++size_;
  }
  // Tells `record` and all that it overlaps of each other.
  void MarkOverlaps(Record *record) {
    Walk walk(tree_, record->first(), record->last());
    while (Record *const other = walk.NextRecord()) {
      if (other == record) continue;
      other->MarkOverlapped();
      record->MarkOverlapped();
    }
  }

  void Kill(Record *record) {
    CountChange();
    record->Kill();
    --size_;
  }
  // A dead record leaves the tree; the front may still lead to it.
  void LeaveTree(Record *record) {
    tree_.Erase(record->first(), record);
    LeaveReverse(record);
  }
  // A dead record leaves the front, and the tree in time.
  void Bury(Record *record) {
    record->Bury();
    LeaveReverse(record);
    LeaveFront(record);
    Record *&grave = GraveOf(record->first());
    if (grave != nullptr) Drop(grave);
    grave = record;
    ++buried_;
  }
  void LeaveFront(const Record *record) {
    if (has_front_) {
      front_.Clear(Source{tree_}, record, PageFirst(*record),
                   PageLast(*record));
    }
  }
  // REQUIRES: nothing leads to the record.
  void Free(Record *record) { records_.Put(record); }

  // All at once. O(n).
  void Clear() {
    Walk walk(tree_, 0, kNever);
    while (Record *const record = walk.NextRecord()) Kill(record);
    if (has_front_) front_.Reset();
    reverse_.Clear();
    for (Record *&grave : graves_) {
      if (grave != nullptr) grave->Unbury();
      grave = nullptr;
    }
    buried_ = 0;
    tree_.Clear([this](Record &record) { records_.Put(&record); });
  }

  std::size_t size() const { return size_; }
  std::size_t height() const { return tree_.height(); }
  std::size_t memory_bytes() const {
    return tree_.memory_bytes() + records_.memory_bytes() +
           front_.memory_bytes() + reverse_.memory_bytes();
  }

  // REQUIRES: no change is under way. O(n log n).
  bool CheckInvariants() const {
    const std::size_t entries = size_ + buried_;
    const bool tree = tree_.CheckInvariants(
        entries, [](std::uint64_t first, std::uint64_t last, const Record &r) {
          return r.first() == first && r.last() == last &&
                 r.dead() == r.buried();
        });
    return tree && records_.live() == entries && CheckGraves() &&
           reverse_.CheckInvariants(size_) &&
           (!has_front_ || front_.CheckInvariants(Source{tree_}));
  }

 private:
  friend struct ::dmamap::v0::IotlbTestPeer;

  // What the front is made from.
  struct Source {
    const Tree &tree;

    template <class Visit>
    void Touching(std::uint64_t first, std::uint64_t last,
                  Visit &&visit) const {
      constexpr std::uint64_t kOffset =
          (std::uint64_t{1} << Policies::kPageShift) - 1;
      Walk walk(tree, first << Policies::kPageShift,
                (last << Policies::kPageShift) | kOffset);
      while (Record *const record = walk.NextRecord()) {
        if (!visit(*record)) return;
      }
    }
  };

  static std::uint64_t PageFirst(const Record &r) {
    return Front::PageOf(r.first());
  }
  static std::uint64_t PageLast(const Record &r) {
    return Front::PageOf(r.last());
  }

  // --- Graves.

  static constexpr unsigned kGraveBits = 6;
  static constexpr std::size_t kGraves = std::size_t{1} << kGraveBits;

  Record *&GraveOf(std::uint64_t first) {
    // Fibonacci hashing (Knuth, volume 3, section 6.4) of the page.
    const std::uint64_t page = Front::PageOf(first);
    return graves_[(page * 0x9e3779b97f4a7c15u) >> (64 - kGraveBits)];
  }
  // The buried record of this range, which may be filled in again; or nullptr.
  Record *Exhume(const Range &range) {
    const std::uint64_t first = range.first().value();
    Record *&grave = GraveOf(first);
    Record *const record = grave;
    if (record == nullptr || record->first() != first ||
        record->last() != range.last().value()) {
      return nullptr;
    }
    // Among equal first bytes the order is that of Add, which a place in the
    // tree from before may contradict.
    if (!IsUncovered(first)) return nullptr;
    grave = nullptr;
    --buried_;
    record->Unbury();
    return record;
  }
  // A buried record leaves the tree.
  void Drop(Record *record) {
    record->Unbury();
    tree_.Erase(record->first(), record);
    records_.Put(record);
    --buried_;
  }
  // No mapping covers the byte; perhaps also false if none does.
  bool IsUncovered(std::uint64_t at) const {
    if (has_front_) {
      FrontWord word;
      (void)front_.Find(Front::PageOf(at), word);
      if (word == kFrontNone) return true;
      if (IsRecord(word)) {
        return !FrontPointer<Record>(word)->Copy().Covers(at);
      }
    }
    Walk walk(tree_, at, at);
    return walk.NextRecord() == nullptr;
  }
  bool CheckGraves() const {
    std::size_t count = 0;
    for (const Record *grave : graves_) {
      if (grave == nullptr) continue;
      ++count;
      if (!grave->dead() || !grave->buried()) return false;
    }
    return count == buried_;
  }

  void LeaveReverse(Record *record) {
    reverse_.Erase(record);
    front_.SubtractWorth(PageFirst(*record), PageLast(*record));
  }

  void CountChange() {
    // C1, release: pairs with C2; and what is counted next is released, too.
    changes_.store(changes_.load(std::memory_order_relaxed) + 1,
                   std::memory_order_release);
  }

  // Several mappings cover the byte, or one that was found has just died.
  [[gnu::noinline]] Verdict FindAmong(std::uint64_t at, Permission wanted,
                                      RecordCopy &copy,
                                      const Record *&record) const {
    for (;;) {
      const std::uint64_t changes = Changes();
      Verdict verdict = Verdict::kMiss;
      Walk walk(tree_, at, at);
      while (verdict != Verdict::kHit && walk.Next(copy)) {
        verdict =
            Allows(copy.permission(), wanted) ? Verdict::kHit : Verdict::kFault;
      }
      record = walk.record();
      if (NoChangeSince(changes)) return verdict;
    }
  }

  Tree tree_;
  NodePool<Record, Memory> records_;
  Front front_;
  [[no_unique_address]] Reverse reverse_;
  alignas(kCacheLine) Atom<std::uint64_t> changes_{0};
  // The writer's.
  bool has_front_ = true;
  std::size_t size_ = 0;
  std::uint64_t next_id_ = 1;
  std::size_t buried_ = 0;
  std::array<Record *, kGraves> graves_{};
};

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_IOTLB_CORE_H_
