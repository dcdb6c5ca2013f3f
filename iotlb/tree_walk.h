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
// their ids is that of the tree among equal keys).
//
// A step costs O(1) inside a leaf, O(log n) at worst. Writes nothing shared.

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

  // Goes on behind the entry with this key and id, not from the start.
  void Resume(std::uint64_t key, std::uint64_t id) {
    visited_ = true;
    key_ = key;
    id_ = id;
    state_ = State::kLost;
  }

  // The next entry whose mapping is alive; false at the end.
  bool Next(RecordCopy &copy) {
    while (Record *const record = Step(copy)) {
      if ((copy.meta & Record::kDead) == 0) {
        record_ = record;
        return true;
      }
    }
    return false;
  }
  // The next entry, dead or alive; nullptr at the end.
  Record *NextRecord() {
    RecordCopy copy;
    return Step(copy);
  }
  // What the last Next found.
  Record *record() const { return record_; }

  // The writer's: where the last entry is, and that surely none follows it.
  typename Tree::Path &path() { return path_; }
  bool IsSurelyLast() const {
    if (!path_.IsStill()) return false;  // replaced since it was found
    const unsigned next = path_.index(0) + 1;
    return next < path_.leaf()->size() && path_.leaf()->first_at(next) > last_;
  }

 private:
  enum class State : std::uint8_t { kStart, kThere, kLost, kDone };

  Record *Step(RecordCopy &copy) {
    while (Move()) {
      const auto &leaf = *path_.leaf();
      const unsigned i = path_.index(0);
      const std::uint64_t key = leaf.first_at(i);
      auto *const record = static_cast<Record *>(leaf.slot_at(i));
      if (!path_.LeafIsStill()) {
        state_ = State::kLost;
        continue;
      }
      if (key > last_) break;
      if (!record->Read(copy)) copy = DeadCopy(*record);
      // Only a record that is in no leaf gets a new user: if the leaf is still
      // there, the copy is of this entry.
      if (!path_.LeafIsStill()) {
        state_ = State::kLost;
        continue;
      }
      if (visited_ && key == key_ && copy.id <= id_) continue;
      visited_ = true;
      key_ = key;
      id_ = copy.id;
      return record;
    }
    state_ = State::kDone;
    return nullptr;
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

  internal::Reached Again() {
    if (!visited_) return path_.FirstReaching(tree_.root(), first_);
    const internal::Reached reached = path_.Before(tree_.root(), key_);
    return reached == internal::Reached::kSlot ? path_.NextReaching(first_)
                                               : reached;
  }

  const Tree &tree_;
  const std::uint64_t first_, last_;
  typename Tree::Path path_;
  State state_ = State::kStart;
  bool visited_ = false;
  std::uint64_t key_ = 0, id_ = 0;  // of the last entry visited
  Record *record_ = nullptr;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_TREE_WALK_H_
