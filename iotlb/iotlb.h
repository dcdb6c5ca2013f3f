// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_IOTLB_H_
#define DMAMAP_IOTLB_IOTLB_H_

// Iotlb: which I/O address means which memory, with which permission.
//
//   Iotlb iotlb;
//   Result<void> done = iotlb.Init({.limit = 2048});
//   done = iotlb.Add({range, PhysAddrOf(buffer), Permission::kRead, token});
//   Result<Translation> t = iotlb.Lookup(iova, Permission::kRead);
//
// Mappings are byte-granular and inclusive, up to [0, 2^64-1], and may overlap
// if the policy allows it. Order: by first byte, and among equal first bytes by
// the order of Add. Where several mappings cover a byte, the first in order
// that grants the access answers; kPermission means that some cover it and none
// grants it, kNotMapped that none covers it.
//
// Stages: mappings live in records that never move (node_pool.h), an augmented
// interval tree orders them (interval_tree.h), translate.h cuts a range into
// segments, and a list in order of Add exists where the limit retires.
//
// Threads: compatible. Any number of callers of const members at the same time,
// or one caller of another member: the embedder's lock. Const members write
// nothing, take no lock and do not allocate; they are safe in an interrupt
// under the same rule. Lookup costs O(log n), and O(k) more where k mappings
// cover the byte and refuse the access.
//
// Errors: each call says which; a call that fails has changed nothing, except
// that memory taken from the memory source may be kept for the next one.
// Keeps guarantees 8 (inclusive ranges), 11 (bounded loops), 12 (error values).

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "dma/address.h"
#include "dma/assert.h"
#include "dma/direction.h"
#include "dma/result.h"
#include "dma/version.h"
#include "iotlb/interval_tree.h"
#include "iotlb/mapping.h"
#include "iotlb/node_pool.h"
#include "iotlb/translate.h"

namespace dmamap::inline v0 {

// Memory: where nodes come from. kKeys: slots of a tree node (a multiple of 4,
// at least 8).
template <NodeMemory Memory = HeapMemory, unsigned kKeys = 16>
class BasicIotlb {
 public:
  explicit BasicIotlb(Memory memory = Memory())
      : tree_(memory), records_(std::move(memory)) {}
  BasicIotlb(const BasicIotlb&) = delete;
  BasicIotlb& operator=(const BasicIotlb&) = delete;

  // Once, before anything else: until then calls that return a Result end in
  // kShutDown and the others find nothing. kBusy the second time,
  // kInvalidArgument for a policy that is no enumerator. Allocates nothing.
  Result<void> Init(const IotlbOptions& options = {}) {
    if (ready_) return Error::kBusy;
    if (options.limit_policy > LimitPolicy::kRetireOldest ||
        options.overlap_policy > OverlapPolicy::kRefuse) {
      return Error::kInvalidArgument;
    }
    options_ = options;
    ready_ = true;
    return Ok();
  }

  // kInvalidArgument, kOverflow: see Validate. kOverlap: OverlapPolicy::kRefuse
  // (decided first: nothing is retired for a mapping that is refused). kLimit:
  // LimitPolicy::kRefuse. kNoMemory. Two equal mappings are two mappings.
  Result<void> Add(const IotlbEntry& entry) {
    if (!ready_) return Error::kShutDown;
    const Result<void> valid = Validate(entry);
    if (!valid.ok()) return valid;
    if (options_.overlap_policy == OverlapPolicy::kRefuse &&
        tree_.First(entry.range)) {
      ++stats_.refused_overlap;
      return Error::kOverlap;
    }
    const bool at_limit = options_.limit != 0 && size_ >= options_.limit;
    if (at_limit && !retires()) {
      ++stats_.refused_limit;
      return Error::kLimit;
    }
    if (!tree_.Reserve() || !records_.Reserve(1)) return Error::kNoMemory;
    if (at_limit) {
      Drop(*oldest_);
      ++stats_.retired;
    }
    Enter(entry);
    return Ok();
  }

  // Removes every mapping that overlaps `range`, whole; returns how many.
  std::size_t Remove(Range range) {
    std::size_t count = 0;
    Cursor at = tree_.First(range);
    while (at) {
      Record& record = *at.record();
      // Records do not move: the next one is found again after the change.
      const Cursor next = tree_.Next(at, range);
      const Record* const behind = next ? next.record() : nullptr;
      Drop(record);
      ++count;
      at = behind == nullptr ? Cursor() : Tree::Locate(*behind);
    }
    stats_.removed += count;
    return count;
  }

  // Removes the one mapping with exactly this range and token, the one added
  // first if there are several, and returns it. kNotMapped: there is none.
  // O(log n), and O(k) more for k mappings with the same first byte.
  Result<IotlbEntry> RemoveExact(Range range, std::uint64_t token) {
    if (!ready_) return Error::kShutDown;
    for (Cursor at = tree_.LowerBound(range.first()); at;
         at = tree_.Next(at, Range::Whole())) {
      const Record& record = *at.record();
      if (record.range.first() != range.first()) break;
      if (record.range == range && record.token == token) {
        return RemoveEntry(&record);
      }
    }
    return Error::kNotMapped;
  }

  // Removes the mapping that First, Next or oldest returned, and returns its
  // value. REQUIRES: `entry` is valid, see First.
  IotlbEntry RemoveEntry(const IotlbEntry* entry) {
    const IotlbEntry value = *entry;
    // Each entry that leaves this class is the base of one of our records.
    Drop(*const_cast<Record*>(static_cast<const Record*>(entry)));
    ++stats_.removed;
    return value;
  }

  // The first mapping in order that overlaps `range`, or nullptr. What First,
  // Next and oldest return is valid until the next call that is not const.
  const IotlbEntry* First(Range range) const {
    return EntryAt(tree_.First(range));
  }

  // The mapping behind `entry` in order that overlaps `range`, or nullptr.
  // REQUIRES: `entry` is valid.
  const IotlbEntry* Next(const IotlbEntry* entry, Range range) const {
    const auto* const record = static_cast<const Record*>(entry);
    return EntryAt(tree_.Next(Tree::Locate(*record), range));
  }

  // What the device reaches at `at`. kNotMapped, kPermission: see above.
  // kInvalidArgument: `wanted` is no Permission. Permission::kNone asks only
  // whether anything is mapped.
  Result<Translation> Lookup(Iova at, Permission wanted) const {
    const Record* const record = tree_.FirstReaching(at.value());
    if (record != nullptr && record->range.first() <= at &&
        Allows(record->permission, wanted)) [[likely]] {
      return TranslationOf(*record, at);
    }
    return LookupFurther(at, wanted);
  }

  // The segments of `range` for this access, in order, without a gap, misses
  // and faults included (translate.h). Writes at most out.size() and returns
  // how many. The list is complete when the last one written ends at
  // range.last(); if not, go on from the byte behind it. 0: `out` is empty,
  // `wanted` is no Permission, or Init was not called.
  std::size_t Translate(Range range, Permission wanted,
                        std::span<Segment> out) const {
    std::size_t count = 0;
    if (out.empty()) return 0;
    (void)ForEachSegment(range, wanted, [&](const Segment& segment) {
      out[count++] = segment;
      return count < out.size();
    });
    return count;
  }

  // The same, to `bool emit(const Segment&)`, which returns false to stop. It
  // must not change the IOTLB. kInvalidArgument: `wanted` is no Permission.
  template <class Emit>
  Result<void> ForEachSegment(Range range, Permission wanted,
                              Emit&& emit) const {
    if (!ready_) return Error::kShutDown;
    if (!IsValid(wanted)) return Error::kInvalidArgument;
    SegmentSweep sweep(range, wanted, emit);
    for (Cursor at = tree_.First(range); at; at = tree_.Next(at, range)) {
      if (!sweep.Feed(*at.record())) return Ok();
    }
    sweep.Finish();
    return Ok();
  }

  // Calls `visit(const IotlbEntry&)` for each mapping that overlaps `range`, in
  // order. It must not change the IOTLB.
  template <class Visit>
  void ForEach(Range range, Visit&& visit) const {
    for (Cursor at = tree_.First(range); at; at = tree_.Next(at, range)) {
      visit(std::as_const(static_cast<IotlbEntry&>(*at.record())));
    }
  }
  template <class Visit>
  void ForEach(Visit&& visit) const {
    ForEach(Range::Whole(), visit);
  }

  // Removes all mappings; the memory is kept for new ones. O(n).
  void Clear() {
    stats_.removed += size_;
    tree_.Clear([this](Record& record) { records_.Put(&record); });
    oldest_ = newest_ = nullptr;
    size_ = 0;
  }

  // The mapping that the limit would retire next. nullptr when there is none,
  // or when the limit does not retire: then no order of Add is kept.
  const IotlbEntry* oldest() const { return oldest_; }

  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  const IotlbOptions& options() const { return options_; }

  IotlbStats stats() const {
    IotlbStats stats = stats_;
    stats.entries = size_;
    stats.height = tree_.height();
    stats.memory_bytes = tree_.memory_bytes() + records_.memory_bytes();
    return stats;
  }

  // All that this header and those below it promise of the structure. O(n).
  bool CheckInvariants() const {
    if (!ready_ && size_ != 0) return false;
    if (!tree_.CheckInvariants(size_) || records_.live() != size_) return false;
    if (options_.limit != 0 && size_ > options_.limit) return false;
    return CheckAgeOrder() && CheckOverlapPolicy();
  }

 private:
  friend struct IotlbTestPeer;

  using Tree = IntervalTree<Memory, kKeys>;
  using Record = typename Tree::Record;
  using Cursor = typename Tree::Cursor;

  static const IotlbEntry* EntryAt(Cursor at) {
    return at ? at.record() : nullptr;
  }

  bool retires() const {
    return options_.limit != 0 &&
           options_.limit_policy == LimitPolicy::kRetireOldest;
  }

  // Out of line: the common Lookup stays small.
  [[gnu::noinline]] Result<Translation> LookupFurther(Iova at,
                                                      Permission wanted) const {
    if (!ready_) return Error::kShutDown;
    if (!IsValid(wanted)) return Error::kInvalidArgument;
    const Range byte = Range::Byte(at);
    Cursor cursor = tree_.First(byte);
    if (!cursor) return Error::kNotMapped;
    for (; cursor; cursor = tree_.Next(cursor, byte)) {
      const Record& record = *cursor.record();
      if (Allows(record.permission, wanted)) return TranslationOf(record, at);
    }
    return Error::kPermission;
  }

  // REQUIRES: both pools have what it takes.
  void Enter(const IotlbEntry& entry) {
    Record& record = *records_.Take();
    static_cast<IotlbEntry&>(record) = entry;
    tree_.Insert(record);
    if (retires()) LinkNewest(record);
    ++size_;
    ++stats_.added;
    if (size_ > stats_.peak_entries) stats_.peak_entries = size_;
  }

  void Drop(Record& record) {
    tree_.Erase(record);
    if (retires()) Unlink(record);
    records_.Put(&record);
    --size_;
  }

  void LinkNewest(Record& record) {
    record.older = newest_;
    record.newer = nullptr;
    (newest_ == nullptr ? oldest_ : newest_->newer) = &record;
    newest_ = &record;
  }
  void Unlink(Record& record) {
    (record.older == nullptr ? oldest_ : record.older->newer) = record.newer;
    (record.newer == nullptr ? newest_ : record.newer->older) = record.older;
  }

  bool CheckAgeOrder() const {
    std::size_t count = 0;
    const Record* older = nullptr;
    for (const Record* r = oldest_; r != nullptr; r = r->newer) {
      // The count ends the loop if the list has a ring.
      if (r->leaf == nullptr || r->older != older || ++count > size_) {
        return false;
      }
      older = r;
    }
    return older == newest_ && count == (retires() ? size_ : 0);
  }

  bool CheckOverlapPolicy() const {
    if (options_.overlap_policy == OverlapPolicy::kAllow) return true;
    const IotlbEntry* before = nullptr;
    bool disjoint = true;
    ForEach([&](const IotlbEntry& entry) {
      if (before != nullptr && before->range.last() >= entry.range.first()) {
        disjoint = false;
      }
      before = &entry;
    });
    return disjoint;
  }

  Tree tree_;
  NodePool<Record, Memory> records_;
  Record* oldest_ = nullptr;  // ends of the list in order of Add;
  Record* newest_ = nullptr;  // both null unless retires()
  std::size_t size_ = 0;
  IotlbOptions options_;
  IotlbStats stats_;
  bool ready_ = false;
};

// The IOTLB with nodes from the C++ heap.
using Iotlb = BasicIotlb<>;

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_IOTLB_H_
