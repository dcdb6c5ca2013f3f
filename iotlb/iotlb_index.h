// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_IOTLB_INDEX_H_
#define DMAMAP_IOTLB_IOTLB_INDEX_H_

// IotlbIndex: the records and what leads to them (tree, front, reverse map), as
// the lookups of readers see them. iotlb_core.h adds what the writer does.
//
// A lookup asks the front. A slot that names one mapping answers at once: that
// mapping or none. "Ask", a record that died meanwhile and a front that changed
// its shape under the reader lead to the tree, the truth. The answer was right
// at some moment of the call:
//   * by the record, when it was seen alive, covering the byte, overlapped by
//     none;
//   * by the front, when the record was seen alive and the slot led to it;
//   * by a brief word, when it was read;
//   * by the tree, when all nodes of the path were in the tree; where more than
//     one mapping had to be looked at, no mapping came or went meanwhile
//     (`changes`), or the lookup is made again.
// No reader waits: it goes again only when a writer has finished a change.
//
// Synchronisation edges
//   C1 -> C2  `changes` counts before a mapping goes live or dies.
//   J1 -> J2  a mapping that takes over from others, before these leave a tree.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "dma/atom.h"
#include "dma/direction.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "iotlb/interval_tree.h"
#include "iotlb/mapping.h"
#include "iotlb/node_pool.h"
#include "iotlb/page_front.h"
#include "iotlb/record.h"
#include "iotlb/reverse_map.h"
#include "iotlb/tree_walk.h"

namespace dmamap::inline v0 {
namespace internal {

enum class Verdict : std::uint8_t {
  kHit,
  kMiss,
  kFault,
  kAskFurther,  // no answer yet
};

template <class Policies>
class IotlbIndex {
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
  using Lock = typename Policies::WriterLock;

  explicit IotlbIndex(const Memory &memory)
      : tree_(memory), records_(memory), front_(memory), reverse_(memory) {}

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

  // The memory behind `at` by a brief word. Otherwise kAskTree: FindByTree
  // answers; kAskSlot: FindByFront comes next.
  using Brief = typename Front::Brief;
  [[gnu::always_inline]] Brief FindMemory(std::uint64_t at, Permission wanted,
                                          PageTranslation &found) const {
    return front_.FindMemory(at, wanted, found);
  }

  // The record to which the slot of `at` leads, or nullptr; it may be any.
  const Record *RecordAt(std::uint64_t at) const {
    FrontWord word;
    (void)front_.Find(Front::PageOf(at), word);
    return IsRecord(word) ? FrontPointer<const Record>(word) : nullptr;
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

  // Calls `visit(const RecordCopy&)` for what maps [first, last] in memory, in
  // order of address; once more with what came, if a mapping took over from
  // others meanwhile: these are told apart by their ids.
  template <class Visit>
  void ForEachMappingOf(std::uint64_t first, std::uint64_t last,
                        Visit &&visit) const {
    std::uint64_t known = 0, joined = Joined();
    for (;;) {
      Walk walk(reverse_.tree(), first, last);
      walk.NeverGoBack();  // memory overlaps at will
      walk.ForEach([&](const RecordCopy &copy) {
        if (copy.id > known) visit(copy);
        return true;
      });
      AtomFence<Atom>(std::memory_order_acquire);  // J2
      known = std::exchange(joined, Joined());
      if (known == joined) return;
    }
  }

  Verdict FindByTree(std::uint64_t at, Permission wanted, RecordCopy &copy,
                     const Record *&record) const {
    typename Tree::Path path;
    for (;;) {
      const Reached reached = path.FirstReaching(tree_.root(), at);
      if (reached == Reached::kStale) continue;
      if (reached == Reached::kNothing) return Verdict::kMiss;
      const auto *const found =
          static_cast<const Record *>(path.leaf()->slot_at(path.index(0)));
      if (!path.LeafIsStill()) continue;  // is it a record?
      const bool alive = found->Read(copy);
      if (!path.IsStill()) continue;
      // What is in the tree keeps its range, also when it is not alive.
      if (copy.first > at) return Verdict::kMiss;
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
    return own_.changes.load(std::memory_order_acquire);
  }
  // J2, acquire: pairs with J1.
  std::uint64_t Joined() const {
    return joined_.load(std::memory_order_acquire);
  }
  // No mapping came or went since Changes() returned `seen`, or one that did
  // was met before or after by each load in between.
  bool NoChangeSince(std::uint64_t seen) const {
    AtomFence<Atom>(std::memory_order_acquire);  // C2
    return own_.changes.load(std::memory_order_relaxed) == seen;
  }

 protected:
  // All that a removal and an Add of the same range write, but for the record
  // and what leads to it: two writers in turn pass one line to each other.
  struct alignas(kCacheLine) Own {
    Atom<std::uint64_t> changes{0};
    std::size_t size = 0;
    std::size_t buried = 0;
    std::uint64_t next_id = 1;
    Record *latest_grave = nullptr;
    std::uint64_t added = 0, removed = 0;
    [[no_unique_address]] mutable Lock lock;
  };

  Tree tree_;
  NodePool<Record, Memory> records_;
  Front front_;
  [[no_unique_address]] Reverse reverse_;
  bool has_front_ = true;
  Atom<std::uint64_t> joined_{0};  // id of the last one that took over
  Own own_;

 private:
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
};

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_IOTLB_INDEX_H_
