// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_IOTLB_CORE_H_
#define DMAMAP_IOTLB_IOTLB_CORE_H_

// IotlbCore: what the writer does to the records and to what leads to them. An
// inner header of iotlb.h.
//
// A mapping enters in this order: record filled in, dead; tree; front; alive.
// It leaves so: dead; tree; front; record free (where another took its bytes
// over: tree; dead; front; free; that one is in the tree). So whatever is alive
// can be found, and of what is found the record says whether it is alive: one
// word decides for the tree and the front alike, and they never differ. What
// brief words of the front tell (front_table.h) is told while the mapping is
// alive, and no longer.
//
// A removed mapping stays where it was at first, dead (graves.h). One that
// overlaps another does not, nor does one on whose pages another comes: so what
// takes its place over overlaps nothing.

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "dma/address.h"
#include "dma/version.h"
#include "iotlb/graves.h"
#include "iotlb/iotlb_index.h"
#include "iotlb/mapping.h"
#include "iotlb/record.h"

namespace dmamap::inline v0 {

struct IotlbTestPeer;

namespace internal {

template <class Policies>
class IotlbCore : public IotlbIndex<Policies> {
  using Index = IotlbIndex<Policies>;
  using Index::front_;
  using Index::has_front_;
  using Index::joined_;
  using Index::own_;
  using Index::records_;
  using Index::reverse_;
  using Index::tree_;

 public:
  using Front = typename Index::Front;
  using Lock = typename Index::Lock;
  using Memory = typename Index::Memory;
  using Record = typename Index::Record;
  using Tree = typename Index::Tree;
  using Walk = typename Index::Walk;

  explicit IotlbCore(const Memory &memory)
      : Index(memory), graves_(own_.latest_grave) {}

  // Before the first mapping.
  void SwitchFrontOff() {
    has_front_ = false;
    front_.SwitchOff();
  }

  // --- The writer.

  Lock &lock() const { return own_.lock; }
  // Counts that an ordinary change writes.
  std::uint64_t &added() { return own_.added; }
  std::uint64_t &removed() { return own_.removed; }
  std::uint64_t added() const { return own_.added; }
  std::uint64_t removed() const { return own_.removed; }

  // Makes `count` calls of Prepare certain to succeed; false: no memory.
  [[nodiscard]] bool Reserve(std::size_t count) {
    return tree_.Reserve(count) && reverse_.Reserve(count) &&
           records_.Reserve(count);
  }

  // The same for one call, of this range, with no removal before it.
  [[nodiscard]] bool ReserveFor(const Range &range) {
    if (!Policies::kReverse &&
        graves_.HasLatest(range.first().value(), range.last().value())) {
      return true;
    }
    return Reserve(1);
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
    const FrontWord word =
        front_.FindForChange(Front::PageOf(range.first().value()));
    if (!IsRecord(word)) return nullptr;
    Record *const record = FrontPointer<Record>(word);
    // What overlaps a part of a mapping overlaps the mapping.
    const bool only = record->first() <= range.first().value() &&
                      range.last().value() <= record->last() &&
                      !record->overlapped() && !record->dead();
    return only ? record : nullptr;
  }

  // A dead record of `entry`, in the tree. `in_place`: it also is in the front,
  // and overlaps no mapping; else EnterFront comes next. REQUIRES: reserved.
  Record *Prepare(const IotlbEntry &entry, bool &in_place) {
    Record *record =
        graves_.Exhume(entry.range.first().value(), entry.range.last().value());
    in_place = record != nullptr;
    if (in_place) {
      --own_.buried;
      record->Fill(entry, own_.next_id++);
    } else {
      if (own_.buried != 0) Unearth(entry.range);
      record = records_.Take();
      record->Fill(entry, own_.next_id++);
      tree_.Insert(record->first(), record->last(), record);
      front_.AddWorth(PageFirst(*record), PageLast(*record));
    }
    reverse_.Insert(record);
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
    if (has_front_) front_.Tell(*record);
    ++own_.size;
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
    if (has_front_) front_.Hush(*record);
    EndLife(record);
  }
  // A record leaves the tree; the front may still lead to it.
  void LeaveTree(Record *record) {
    reverse_.Erase(record);
    EraseFromTree(record);
  }
  // `record` has taken over from mappings that Replace is called for next.
  void CountJoin(const Record &record) {
    // J1, release: pairs with J2.
    joined_.store(record.id(), std::memory_order_release);
  }
  // A live record leaves tree and front, and ends. REQUIRES: CountJoin(), and
  // neither mapping overlaps another.
  void Replace(Record *record) {
    // Before it leaves the tree, as everything else counts before it is gone.
    CountChange();
    LeaveTree(record);
    Kill(record);
    LeaveFront(record);
    Free(record);
  }
  // A dead record leaves tree and front, at once or in time.
  void Bury(Record *record) {
    reverse_.Erase(record);
    if (record->overlapped()) {
      Drop(record);
      return;
    }
    ++own_.buried;
    if (Record *const displaced = graves_.Bury(record)) {
      --own_.buried;
      Drop(displaced);
    }
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
    if (has_front_) front_.HushAll();
    Walk walk(tree_, 0, kNever);
    while (Record *const record = walk.NextRecord()) EndLife(record);
    if (has_front_) front_.Reset();
    reverse_.Clear();
    graves_.Clear();
    own_.buried = 0;
    tree_.Clear([this](Record &record) { records_.Put(&record); });
  }

  std::size_t size() const { return own_.size; }
  std::size_t height() const { return tree_.height(); }
  std::size_t memory_bytes() const {
    return tree_.memory_bytes() + records_.memory_bytes() +
           front_.memory_bytes() + reverse_.memory_bytes();
  }

  // REQUIRES: no change is under way. O(n log n).
  bool CheckInvariants() const {
    const std::size_t entries = own_.size + own_.buried;
    const bool tree = tree_.CheckInvariants(
        entries, [](std::uint64_t first, std::uint64_t last, const Record &r) {
          return r.first() == first && r.last() == last &&
                 r.dead() == r.buried();
        });
    return tree && records_.live() == entries &&
           graves_.Count() == own_.buried &&
           reverse_.CheckInvariants(own_.size) &&
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
      while (Record *const record = walk.NextInTree()) {
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

  // What is buried on the pages of the range leaves tree and front.
  void Unearth(const Range &range) {
    constexpr std::uint64_t kOffset =
        (std::uint64_t{1} << Policies::kPageShift) - 1;
    Walk walk(tree_, range.first().value() & ~kOffset,
              range.last().value() | kOffset);
    Record *record = walk.NextInTree();
    while (record != nullptr) {
      // The walk finds its place again after the change.
      Record *const next = walk.NextInTree();
      if (record->buried()) {
        graves_.Remove(record);
        --own_.buried;
        Drop(record);
      }
      record = next;
    }
  }
  // A dead record leaves tree and front.
  void Drop(Record *record) {
    EraseFromTree(record);
    LeaveFront(record);
    records_.Put(record);
  }
  void EraseFromTree(Record *record) {
    tree_.Erase(record->first(), record);
    front_.SubtractWorth(PageFirst(*record), PageLast(*record));
  }

  void EndLife(Record *record) {
    CountChange();
    record->Kill();
    --own_.size;
  }
  void CountChange() {
    // C1, release: pairs with C2; and what is counted next is released, too.
    own_.changes.store(own_.changes.load(std::memory_order_relaxed) + 1,
                       std::memory_order_release);
  }

  Graves<Record> graves_;
};

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_IOTLB_CORE_H_
