// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_TREE_WALK_H_
#define DMAMAP_IOTLB_TREE_WALK_H_

// TreeWalk: the entries of an interval tree that overlap a range of keys, in
// order, while a writer may change the tree.
//
// An entry that is in the tree from the construction of the walk to its end is
// visited, once. One that comes or goes meanwhile may be visited or not. When a
// node on the way was replaced, the walk looks for its place again: behind the
// last entry that it visited, by first byte and order of Add (the order of
// their ids is that of the tree among equal keys); or before it, at an entry
// that ends behind all visited ones, and so is not among them.
//
// So no byte is missed that one mapping takes over from another (add.h), if the
// new one is alive before the old one leaves the tree, and the old one leaves
// the tree before it dies, and neither overlaps what is in the tree then. What
// takes over begins no later. While a node is in the tree it stays in the slot
// of the old one: an earlier slot means that all of the old one's slot up to
// there has left the tree, the first entry with it, of which the node tells.
// Where that has happened the node was replaced, and the walk looks again.
//
// A step costs O(1) inside a leaf, O(log n) at worst. Writes nothing shared.

#include <atomic>
#include <cstdint>

#include "dma/version.h"
#include "iotlb/record.h"
#include "iotlb/tree_path.h"

namespace dmamap::inline v0 {

template <class Tree>
class TreeWalk {
 public:
  using Record = typename Tree::Record;

  // Entries that overlap [first, last], in keys of the tree.
  TreeWalk(const Tree &tree, std::uint64_t first, std::uint64_t last)
      : tree_(tree), first_(first), last_(last) {}

  // What begins before the last entry visited is not asked for again: for the
  // writer, and for keys that overlap at will.
  void NeverGoBack() { reach_ = internal::kNever; }
  // The writer's: goes on behind the entry with this key and id.
  void Resume(std::uint64_t key, std::uint64_t id) {
    Note(key, id, internal::kNever);
    state_ = State::kLost;
  }

  // The next entry whose mapping is alive; false at the end.
  bool Next(RecordCopy &copy) {
    while (Record *const record = Step(copy)) {
      if ((copy.meta & Record::kDead) == 0) {
        Note(keys_[at_ - 1], copy.id, copy.last);
        record_ = record;
        return true;
      }
    }
    return false;
  }
  // Calls `bool visit(const RecordCopy&)` for each next entry whose mapping is
  // alive, until it returns false. As Next in a loop, but faster.
  template <class Visit>
  [[gnu::always_inline]] void ForEach(Visit &&visit) {
    while (FindNextLeaf()) {
      if (!VisitLeaf(visit)) state_ = State::kDone;
    }
  }
  // The writer's: the next entry, also one that is not alive yet, but no buried
  // one; nullptr at the end.
  Record *NextRecord() {
    Record *record = NextInTree();
    while (record != nullptr && record->buried()) record = NextInTree();
    return record;
  }
  // The writer's: the next entry, also a buried one; nullptr at the end.
  Record *NextInTree() {
    RecordCopy copy;
    Record *const record = Step(copy);
    if (record != nullptr) Note(keys_[at_ - 1], copy.id, internal::kNever);
    return record;
  }
  // What the last Next found.
  Record *record() const { return record_; }

 private:
  enum class State : std::uint8_t { kStart, kThere, kLost, kDone };

  // An entry is visited, the last one in order unless the walk went back.
  void Note(std::uint64_t key, std::uint64_t id, std::uint64_t last) {
    if (!IsBehind(key, id)) {
      key_ = key;
      id_ = id;
    }
    visited_ = true;
    reach_ = last > reach_ ? last : reach_;
  }
  // Whether a place is at or before the last one visited.
  bool IsBehind(std::uint64_t key, std::uint64_t id) const {
    return visited_ && (key < key_ || (key == key_ && id <= id_));
  }

  Record *Step(RecordCopy &copy) {
    for (;;) {
      while (at_ < count_) {
        const std::uint64_t key = keys_[at_];
        Record *const record = records_[at_++];
        if (!record->Read(copy)) copy = DeadCopy(*record);
        // Only a record that is in no leaf gets another range: if the leaf is
        // still there, the copy is of this entry.
        if (!path_.LeafIsStill()) {
          state_ = State::kLost;
          break;
        }
        if (key <= key_ && IsPassed(key, copy.last, copy.id)) continue;
        return record;
      }
      if (!TakeNextLeaf()) return nullptr;
    }
  }

  // To the next leaf that has entries in the range. False at the end.
  bool FindNextLeaf() {
    if (state_ != State::kDone && (!ended_ || state_ == State::kLost) &&
        Move()) {
      return true;
    }
    state_ = State::kDone;
    return false;
  }

  struct Limits {
    std::uint64_t stop;  // what has no key below it lies behind the range
    bool open;           // but for an entry at kNever: nothing lies behind
    std::uint64_t low;   // no key above it may be passed over
  };
  // What VisitLeaf carries from entry to entry, in registers.
  struct Passed {
    std::uint64_t key, id;  // of the last entry visited; id 0: none
    std::uint64_t reach;    // the largest end of all visited
    bool more;
  };

  // Visits the entries of the leaf from the path's slot on, and moves the path
  // to its end; false when `visit` wants no more.
  template <class Visit>
  [[gnu::always_inline]] bool VisitLeaf(Visit &visit) {
    const auto &leaf = *path_.leaf();
    const std::uint64_t version = path_.leaf_version();
    // A slot of the first group that lies before the path's is passed over: it
    // does not reach first_, or it was visited.
    const unsigned from = path_.index(0) / kInGroup;
    path_.index(0) = kSlots - 1;
    ended_ = false;
    // Copies, which the compiler need not read again behind each fence.
    const bool open = last_ == internal::kNever;
    const Limits limits{open ? last_ : last_ + 1, open,
                        first_ < key_ ? key_ : first_};
    Passed passed{0, 0, reach_, true};
    for (unsigned g = from; g < kGroups; ++g) {
      // Records are asked for two groups before their turn.
      if (g + 2 < kGroups) leaf.PrefetchSlots(g + 2);
      if (!VisitGroup(leaf, version, g, limits, passed, visit)) break;
    }
    if (passed.id != 0) Note(passed.key, passed.id, passed.reach);
    // What the leaf said of the range counts if it is still there.
    if (!leaf.IsStill(version)) state_ = State::kLost;
    return passed.more;
  }
  // False: the last one of this leaf.
  template <class Leaf, class Visit>
  [[gnu::always_inline]] bool VisitGroup(const Leaf &leaf,
                                         std::uint64_t version, unsigned g,
                                         const Limits limits, Passed &passed,
                                         Visit &visit) {
    const auto *const slots = leaf.group[g].slot;
    const auto *const firsts = &leaf.first[g * kInGroup];
    // acquire, both: pairs with S1.
    const void *slot = slots[0].load(std::memory_order_acquire);
    std::uint64_t key = Tree::Node::Get(firsts[0]);
    if (!leaf.IsStill(version)) return false;  // so it is a record, or null
#pragma GCC unroll 4
    for (unsigned n = 0; n < kInGroup; ++n) {
      const auto *const record = static_cast<const Record *>(slot);
      const std::uint64_t first = key;
      // Also behind the last slot, where it is kNever.
      if (first >= limits.stop && (!limits.open || record == nullptr))
          [[unlikely]] {
        ended_ = record != nullptr;
        return false;
      }
      if (n + 1 < kInGroup) {
        slot = slots[n + 1].load(std::memory_order_acquire);
        key = Tree::Node::Get(firsts[n + 1]);
      }
      RecordCopy copy;
      const bool alive = record->Read(copy);
      // So the copy is of this entry, and the next slot is as it was.
      if (!leaf.IsStill(version)) return false;
      if (!alive) [[unlikely]]
        continue;
      if (first <= limits.low) [[unlikely]] {
        const std::uint64_t end = leaf.end_at(g * kInGroup + n);
        if (!leaf.IsStill(version)) return false;
        if (IsPassed(first, end, copy.id)) continue;
      }
      passed.key = first;
      passed.id = copy.id;
      passed.reach = copy.last > passed.reach ? copy.last : passed.reach;
      if (!visit(static_cast<const RecordCopy &>(copy))) {
        passed.more = false;
        return false;
      }
    }
    return true;
  }
  // Whether an entry does not reach the range, or was visited before the walk
  // came to this leaf.
  bool IsPassed(std::uint64_t key, std::uint64_t end, std::uint64_t id) const {
    return end < first_ || (end <= reach_ && IsBehind(key, id));
  }

  // What remains of this leaf, or else the next one that has entries in the
  // range. False at the end.
  bool TakeNextLeaf() {
    for (;;) {
      const bool lost = state_ == State::kLost;
      if (at_ < count_ && !lost) return true;
      if (state_ == State::kDone || (ended_ && !lost) || !Move()) {
        state_ = State::kDone;
        at_ = count_ = 0;
        return false;
      }
      if (!TakeLeaf()) state_ = State::kLost;
    }
  }

  // Notes the entries of the leaf from the path's slot on, and moves the path
  // to its end. False: the leaf has left the tree.
  bool TakeLeaf() {
    const auto &leaf = *path_.leaf();
    at_ = count_ = 0;
    ended_ = false;
    unsigned count = 0;
    for (unsigned i = path_.index(0); leaf.Has(i); ++i) {
      const std::uint64_t key = leaf.first_at(i);
      if (key > last_) {
        ended_ = true;
        break;
      }
      if (leaf.end_at(i) < first_) continue;
      keys_[count] = key;
      records_[count] = static_cast<Record *>(leaf.slot_at(i));
      __builtin_prefetch(records_[count]);
      ++count;
    }
    count_ = count;
    path_.index(0) = kSlots - 1;
    if (path_.LeafIsStill()) return true;  // so these are records
    count_ = 0;
    return false;
  }

  static RecordCopy DeadCopy(const Record &record) {
    RecordCopy copy = record.Copy();
    copy.meta |= Record::kDead;
    return copy;
  }

  // To the next slot that reaches first_; false: there is none.
  bool Move() {
    for (;;) {
      internal::Reached reached = internal::Reached::kSlot;
      switch (state_) {
        case State::kStart:
          reached = path_.FirstReaching(tree_.root(), first_);
          break;
        case State::kThere:
          reached = path_.NextReaching(first_);
          break;
        case State::kLost:
          reached = Again();
          break;
        case State::kDone:
          return false;
      }
      if (reached == internal::Reached::kSlot) {
        state_ = State::kThere;
        return true;
      }
      if (reached == internal::Reached::kNothing) return false;
      state_ = State::kLost;
    }
  }

  [[gnu::noinline]] internal::Reached Again() {
    if (!visited_) return path_.FirstReaching(tree_.root(), first_);
    const internal::Reached reached = path_.Before(tree_.root(), key_);
    if (reached != internal::Reached::kSlot) return reached;
    if (reach_ < last_) {
      // Behind the look from the root above: what takes over from here on makes
      // the one or the other path stale.
      typename Tree::Path back;
      const internal::Reached found =
          back.FirstReaching(tree_.root(), reach_ + 1);
      if (found == internal::Reached::kStale) return found;
      if (found == internal::Reached::kSlot) {
        const bool before = back.leaf()->first_at(back.index(0)) < key_;
        if (!back.LeafIsStill()) return internal::Reached::kStale;
        if (before) {
          path_ = back;
          return found;
        }
      }
    }
    return path_.NextReaching(first_);
  }

  static constexpr unsigned kSlots = Tree::kSlots;
  static constexpr unsigned kInGroup = Tree::Node::kInGroup;
  static constexpr unsigned kGroups = Tree::Node::kGroups;

  const Tree &tree_;
  const std::uint64_t first_, last_;
  typename Tree::Path path_;
  State state_ = State::kStart;
  // Of the leaf at which the path stands: entries [at_, count_) come next.
  unsigned at_ = 0, count_ = 0;
  bool ended_ = false;  // what follows begins behind last_
  std::uint64_t keys_[kSlots];
  Record *records_[kSlots];
  bool visited_ = false;
  std::uint64_t key_ = 0, id_ = 0;  // of the last entry visited
  std::uint64_t reach_ = 0;         // the largest end of all visited
  Record *record_ = nullptr;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_TREE_WALK_H_
