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
// the order of Add (what a split or a merge makes counts as added then). Where
// several mappings cover a byte, the first in order that grants the access
// answers; kPermission means that some cover it and none grants it, kNotMapped
// that none covers it.
//
// Threads. Any number of threads may look up (Lookup, LookupPage, Translate,
// ForEachSegment, ForEach, ForEachMappingOf, Region, and Readers) at any time:
// they take no lock, never wait for a writer and write no shared memory. Each
// answer was right at some moment of the call; a range that changes meanwhile
// may be told partly as before and partly as after. IsOver is any thread's too;
// so are ReportMiss, AnswerMisses and ForEachPendingMiss, which lock the list.
// All else is the writer's, one call at a time: by Policies::WriterLock, which
// each such call takes by itself, or by the embedder's lock. No lock reaches
// from one call to the next: with First, Next, oldest and RemoveEntry the
// embedder keeps all writers out for as long as the EntryRef is used.
//
// Removal. When Remove, RemoveExact, RemoveEntry or Clear returns, no lookup
// that begins finds the mapping, and every Reader::Section in which it could be
// found has ended. RemoveMode::kDeferred does not wait for the sections; ask
// Retire() for a ticket then, and IsOver(ticket). A thread that is in a section
// must not wait. A mapping that a limit retires is not waited for. Neither mode
// waits for a lookup outside of a section, nor for the use of its answer: who
// frees the memory next may do so only if it is accessed within sections alone,
// or once the embedder has stopped, by itself, all that looked up without.
//
// Errors: each call says which; a call that fails has changed nothing, except
// that memory taken from the memory source may be kept for the next one.
// Keeps guarantees 8 (inclusive ranges), 11 (bounded loops), 12 (error values).

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>

#include "dma/address.h"
#include "dma/assert.h"
#include "dma/direction.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "iotlb/dirty.h"
#include "iotlb/entry_ref.h"
#include "iotlb/iotlb_core.h"
#include "iotlb/mapping.h"
#include "iotlb/pending_misses.h"
#include "iotlb/policies.h"
#include "iotlb/reclaim.h"
#include "iotlb/translate.h"

namespace dmamap::inline v0 {

// Whether a removal waits for the sections that may know the mapping.
enum class RemoveMode : std::uint8_t { kSynchronous = 0, kDeferred = 1 };

template <class Policies>
class Reader;

template <class Policies = IotlbPolicies>
class BasicIotlb {
  using Core = internal::IotlbCore<Policies>;
  using Record = typename Core::Record;
  using Walk = typename Core::Walk;

 public:
  using Memory = typename Policies::Memory;
  using EntryRef = BasicEntryRef<Record>;
  using Reader = ::dmamap::Reader<Policies>;
  using Registry = ReaderRegistry<Memory, Policies::template Atom>;
  using DirtyStage =
      std::conditional_t<Policies::kDirty,
                         DirtyMap<Memory, Policies::template Atom>, NoDirtyMap>;

  explicit BasicIotlb(const Memory &memory = Memory())
      : core_(memory), registry_(memory), misses_(memory), dirty_(memory) {}
  BasicIotlb(const BasicIotlb &) = delete;
  BasicIotlb &operator=(const BasicIotlb &) = delete;

  // Once, before anything else: until then calls that return a Result end in
  // kShutDown and the others find nothing. kBusy the second time, or when the
  // dirty bitmap was started by itself; kInvalidArgument for a policy that is
  // no enumerator, kNoMemory and kLimit for the list of misses or the dirty
  // bitmap: then nothing is kept, and other options may be tried.
  Result<void> Init(const IotlbOptions &options = {});

  // kInvalidArgument, kOverflow: see Validate. kOverlap: OverlapPolicy::kRefuse
  // (decided first: nothing is retired for a mapping that is refused). kLimit:
  // LimitPolicy::kRefuse. kNoMemory. Two equal mappings are two mappings.
  // MergePolicy::kMerge joins it to what it continues, unless one of them
  // overlaps, or did, another mapping: that would change who answers.
  Result<void> Add(const IotlbEntry &entry);

  // Removes what overlaps `range`, by RemovePolicy; returns how many mappings
  // that were. kWhole: cannot fail. kSplit: kNoMemory; kLimit when the pieces
  // would pass LimitPolicy::kRefuse (kRetireOldest retires the oldest for
  // them).
  Result<std::size_t> Remove(Range range,
                             RemoveMode mode = RemoveMode::kSynchronous);

  // Removes the one mapping with exactly this range and token, the one added
  // first if there are several, and returns it. kNotMapped: there is none.
  // O(log n), and O(k) more for k mappings with the same first byte.
  Result<IotlbEntry> RemoveExact(Range range, std::uint64_t token,
                                 RemoveMode mode = RemoveMode::kSynchronous);

  // Removes the mapping that First, Next or oldest returned, and returns its
  // value. REQUIRES: `entry` is valid, see above.
  IotlbEntry RemoveEntry(const EntryRef &entry,
                         RemoveMode mode = RemoveMode::kSynchronous);

  // Removes all mappings; the memory is kept for new ones. O(n).
  void Clear(RemoveMode mode = RemoveMode::kSynchronous);

  // --- After deferred removals. Any thread; see reclaim.h.

  // The writer's: stands for all that was removed until now.
  GraceTicket Retire() {
    Guard guard(core_.lock());
    return registry_.Retire();
  }
  // True when no section is left that may know it. Never blocks.
  bool IsOver(GraceTicket ticket) const { return registry_.IsOver(ticket); }
  // Waits for that. REQUIRES: the caller is in no section.
  void Synchronize() { registry_.WaitFor(Retire()); }

  // --- The writer's walk; readers have ForEach.

  // The first mapping in order that overlaps `range`, or a null EntryRef.
  EntryRef First(Range range) const {
    Walk walk(core_.tree(), range.first().value(), range.last().value());
    return EntryRef(walk.NextRecord());
  }
  // The mapping behind `entry` in order that overlaps `range`, or a null
  // EntryRef. REQUIRES: `entry` is valid. O(log n): ForEach is faster.
  EntryRef Next(const EntryRef &entry, Range range) const {
    Walk walk(core_.tree(), range.first().value(), range.last().value());
    walk.Resume(entry.record()->first(), entry.record()->id());
    return EntryRef(walk.NextRecord());
  }
  // The mapping that the limit would retire next. Null when there is none, or
  // when the limit does not retire: then no order of Add is kept.
  EntryRef oldest() const { return EntryRef(oldest_); }

  // --- Readers.

  // What the device reaches at `at`. kNotMapped, kPermission: see above.
  // kInvalidArgument: `wanted` is no Permission. Permission::kNone asks only
  // whether anything is mapped. A Reader's Lookup is the same with a hint.
  Result<Translation> Lookup(Iova at, Permission wanted) const;

  // The same as far as a page table tells (mapping.h): the address, and how far
  // that is sure. In a mapping whose memory begins at a page this touches one
  // line behind those of the tables, as a page table does. kNotMapped,
  // kPermission, kInvalidArgument: as Lookup.
  Result<PageTranslation> LookupPage(Iova at, Permission wanted) const;

  // The segments of `range` for this access, in order, without a gap, all
  // misses and all faults included (translate.h). Writes at most out.size() and
  // returns how many. The list is complete when the last one written ends at
  // range.last(); if not, go on from the byte behind it. 0: `out` is empty,
  // `wanted` is no Permission, or Init was not called.
  std::size_t Translate(Range range, Permission wanted,
                        std::span<Segment> out) const;

  // The same, to `bool emit(const Segment&)`, which returns false to stop. It
  // must not change the IOTLB. kInvalidArgument: `wanted` is no Permission.
  template <class Emit>
  Result<void> ForEachSegment(Range range, Permission wanted,
                              Emit &&emit) const;

  // Calls `visit(const IotlbEntry&)` for each mapping that overlaps `range`, in
  // order. It must not change the IOTLB. While Remove splits or Add merges,
  // both the old mapping and the new one may be visited. What comes meanwhile
  // and ends behind all visited ones may be visited although it begins before
  // the last of them. A byte whose mapping is merged with others is not missed;
  // one that is handed from one mapping to another by two calls, an Add that
  // overlaps and a removal, may be.
  template <class Visit>
  [[gnu::always_inline]] void ForEach(Range range, Visit &&visit) const;
  template <class Visit>
  void ForEach(Visit &&visit) const {
    ForEach(Range::Whole(), visit);
  }

  // The mapping that covers `at`, joined with all that continues it on either
  // side (what MergePolicy::kMerge would have made of them): what
  // VDUSE_IOTLB_GET_FD returns. Where several continue it, the first in order
  // is taken. kNotMapped. O(k log n) for k mappings joined.
  Result<IotlbEntry> Region(Iova at) const;

  // kReverse: calls `visit(const IotlbEntry&)` for each mapping of memory in
  // `memory`, in order of memory address; aliases are visited each. It must not
  // change the IOTLB. What comes by an Add that merges, as this walks, may be
  // visited behind the others, or twice. O(log n).
  template <class Visit>
  void ForEachMappingOf(PhysRange memory, Visit &&visit) const
      requires(Policies::kReverse);

  // --- Misses that wait for an answer (pending_misses.h).

  // A lookup of `at` found nothing, or too little. kFull also without
  // IotlbOptions::pending_misses. kNew once, until Add or AnswerMisses answers.
  MissReport ReportMiss(Iova at, Permission wanted);
  // Add answers by itself, before another change can take its mapping away.
  // This is for "there is no mapping". How many.
  std::size_t AnswerMisses(Range range, Permission granted) {
    return misses_.Answer(range, kPage, granted);
  }
  // `visit` must not call the IOTLB: the list is locked.
  template <class Visit>
  void ForEachPendingMiss(Visit &&visit) const {
    misses_.ForEach(visit);
  }

  // --- The dirty bitmap, with kDirty (dirty.h).
  DirtyStage &dirty() requires(Policies::kDirty) { return dirty_; }

  std::size_t size() const {
    Guard guard(core_.lock());
    return core_.size();
  }
  bool empty() const { return size() == 0; }
  const IotlbOptions &options() const { return options_; }
  IotlbStats stats() const;

  // Calls `emit(std::string_view line)` for each line about this IOTLB, for a
  // human (dump.h, which the caller includes). Any thread; what changes
  // meanwhile may be told partly as before. `emit` must not call the IOTLB.
  template <class Emit>
  void Dump(Emit &&emit) const;

  // All that this header and those below it promise of the structure. The
  // writer's. O(n log n).
  bool CheckInvariants() const;

 private:
  friend struct IotlbTestPeer;
  friend class ::dmamap::Reader<Policies>;

  static constexpr unsigned kPageShift = Policies::kPageShift;
  static constexpr PageSize kPage = *PageSize::FromShift(kPageShift);

  // The two mappings that a new one continues, or is continued by.
  struct Neighbours {
    Record *before = nullptr;
    Record *behind = nullptr;
    std::size_t count() const {
      return (before != nullptr ? 1u : 0u) + (behind != nullptr ? 1u : 0u);
    }
  };

  bool retires() const {
    return options_.limit != 0 &&
           options_.limit_policy == LimitPolicy::kRetireOldest;
  }
  bool merges() const { return options_.merge_policy == MergePolicy::kMerge; }

  // add.h, remove.h
  Result<void> AddLocked(const IotlbEntry &entry);
  Result<std::size_t> RemoveLocked(Range range);
  std::size_t RemoveWhole(Range range);
  [[gnu::noinline]] std::size_t RemoveEach(Range range);
  Result<std::size_t> RemoveCutting(Range range);
  Record *FindExact(Range range, std::uint64_t token) const;
  Neighbours NeighboursOf(const IotlbEntry &entry, bool free) const;
  Record *Continuing(const IotlbEntry &entry, bool before) const;
  void Enter(const IotlbEntry &entry);
  void Join(const IotlbEntry &entry, const Neighbours &joined);
  void Cut(Record *record, Range range);
  Record *Piece(const Record &record, Iova first, Iova last);
  void Withdraw(Record *record);
  void LinkNewest(Record *record);
  void Unlink(Record *record);
  void Settled(std::size_t removed, RemoveMode mode);
  bool CheckAgeOrder() const;
  bool CheckOverlapPolicy() const;

  // lookup.h
  [[gnu::noinline]] Result<Translation> LookupFurther(Iova at,
                                                      Permission wanted) const;
  Error Answer(internal::Verdict verdict, Permission wanted) const;

  Core core_;
  Registry registry_;
  PendingMisses<Memory, BasicSpinLock<Policies::template Atom>> misses_;
  [[no_unique_address]] DirtyStage dirty_;
  Record *oldest_ = nullptr;  // ends of the list in order of Add;
  Record *newest_ = nullptr;  // both null unless retires()
  IotlbOptions options_;
  IotlbStats stats_;
  bool ready_ = false;
};

// The IOTLB with nodes from the C++ heap, under the embedder's lock.
using Iotlb = BasicIotlb<>;
using IotlbReader = Reader<IotlbPolicies>;

}  // namespace dmamap::inline v0

#include "iotlb/add.h"
#include "iotlb/lookup.h"
#include "iotlb/reader.h"
#include "iotlb/remove.h"

#endif  // DMAMAP_IOTLB_IOTLB_H_
