// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_TRANSLATE_H_
#define DMAMAP_IOTLB_TRANSLATE_H_

// SegmentSweep: a range of I/O addresses as the list of its segments.
//
// Fed with the mappings that overlap a query, in order of first byte (and of
// Add, where these are equal), it emits segments that are in order, disjoint
// and together exactly the query: memory (kMapped), bytes without a mapping
// (kMiss), bytes that are mapped for other accesses only (kFault). Misses and
// faults are as long as they can be; memory is one segment for each mapping.
//
// Of several mappings that grant the access at a byte, the first in order wins.
// It then wins at each later byte of its own, too: a mapping before it in order
// begins no later, so that one that covers a later byte would have covered this
// byte. Therefore a winner is cut at its end alone, and each mapping is looked
// at once.
//
// All ends are inclusive and nothing is computed behind the query's last byte:
// there is no wrap at 2^64-1. A value on the caller's stack; O(1) memory.

#include <cstdint>
#include <utility>

#include "dma/address.h"
#include "dma/assert.h"
#include "dma/direction.h"
#include "dma/version.h"
#include "iotlb/mapping.h"

namespace dmamap::inline v0 {

// `Emit` is called as `bool emit(const Segment&)`; false ends the sweep.
template <class Emit>
class SegmentSweep {
 public:
  SegmentSweep(Range query, Permission wanted, Emit &emit)
      : query_(query), wanted_(wanted), emit_(emit), at_(query.first()) {}

  // The next mapping in order. REQUIRES: it overlaps the query. False when
  // nothing that could follow would be emitted.
  bool Feed(const IotlbEntry &entry) {
    DMAMAP_ASSERT(entry.range.Overlaps(query_));
    if (done_) return false;
    if (entry.range.last() < at_) return true;  // an earlier one won it all
    const Iova from = entry.range.first() < at_ ? at_ : entry.range.first();
    const Iova to =
        entry.range.last() < query_.last() ? entry.range.last() : query_.last();
    if (!Allows(entry.permission, wanted_)) {
      AddFault(from, to);
      return !done_;
    }
    if (from > at_) EmitGap(from - 1);
    if (!done_) Put(MappedSegment(entry, from, to));
    return !done_;
  }

  // No mapping is left: emits what remains.
  void Finish() {
    if (!done_) EmitGap(query_.last());
  }

 private:
  static Range Make(Iova first, Iova last) {
    // The caller has compared them; the fallback is never taken.
    return Range::FromFirstLast(first, last).value_or(Range());
  }
  static Segment MappedSegment(const IotlbEntry &entry, Iova from, Iova to) {
    return Segment{Make(from, to), SegmentKind::kMapped, AddressOf(entry, from),
                   entry.permission, entry.token};
  }

  // Bytes up to `to` are covered by mappings that grant too little. They are
  // emitted later: a mapping that grants more may still begin among them.
  void AddFault(Iova from, Iova to) {
    if (!faulting_) {
      fault_first_ = from;
      fault_last_ = to;
      faulting_ = true;
    } else if (from <= fault_last_ || from == fault_last_ + 1) {
      if (to > fault_last_) fault_last_ = to;
    } else {
      // Nothing covers the bytes between: the old run is complete.
      EmitGap(from - 1);
      if (done_) return;
      fault_first_ = from;
      fault_last_ = to;
      faulting_ = true;
    }
  }

  // Emits [at_, to] as misses around the run of faults, if there is one. What
  // of that run lies behind `to` stays. REQUIRES: at_ <= to, no winner there.
  void EmitGap(Iova to) {
    if (!faulting_ || fault_first_ > to) {
      PutPlain(to, SegmentKind::kMiss);
      return;
    }
    if (fault_first_ > at_ && !PutPlain(fault_first_ - 1, SegmentKind::kMiss)) {
      return;
    }
    const Iova fault_to = fault_last_ < to ? fault_last_ : to;
    if (!PutPlain(fault_to, SegmentKind::kFault) || fault_to == to) return;
    PutPlain(to, SegmentKind::kMiss);
  }

  bool PutPlain(Iova to, SegmentKind kind) {
    return Put(Segment{Make(at_, to), kind, PhysAddr(), Permission::kNone, 0});
  }

  // Emits and goes on behind it. False when that was the last one.
  bool Put(const Segment &segment) {
    done_ = !emit_(segment) || segment.range.last() == query_.last();
    if (done_) return false;
    at_ = segment.range.last() + 1;
    if (faulting_ && fault_last_ < at_) faulting_ = false;
    return true;
  }

  Range query_;
  Permission wanted_;
  Emit &emit_;
  Iova at_;  // the first byte that is not emitted
  // One run of faults that ends at or behind at_; what of it lies before at_
  // is done with.
  bool faulting_ = false;
  Iova fault_first_, fault_last_;
  bool done_ = false;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_TRANSLATE_H_
