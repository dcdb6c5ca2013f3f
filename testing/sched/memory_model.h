// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_SCHED_MEMORY_MODEL_H_
#define DMAMAP_TESTING_SCHED_MEMORY_MODEL_H_

// The C++20 memory model as a machine: which stores may this load return?
//
// Each location keeps its modification order. Each store carries what an
// acquire load of it learns. Each thread has three views: what it knows, what
// its relaxed loads would let it know after an acquire fence, and what its
// relaxed stores publish since its last release fence.
//
//   * A load returns a store that is not older than the newest that the thread
//     knows of (coherence, [intro.races]).
//   * A store goes anywhere in the modification order behind what the thread
//     knows of, but never between a read-modify-write and the store it read. So
//     a store may be overtaken by one that was executed later, as on Power and
//     Arm (litmus tests S, R and 2+2W).
//   * A read-modify-write reads any such store that no other has read, and
//     stands directly behind it; it hands on the release sequence.
//   * seq_cst: S of [atomics.order] is the order of execution. A seq_cst access
//     is not before the last seq_cst access of its location, nor before what a
//     seq_cst fence knew; a seq_cst fence learns of all of them.
//
// What it produces are the executions of the standard in which
// sequenced-before, reads-from and S together have no cycle
// (memory_model_test.cc compares it with the axioms). So two things that the
// standard allows never show: load buffering (r1 = x; y = 1 || r2 = y; x = 1
// with r1 = r2 = 1, possible on Arm with relaxed accesses), and seq_cst
// accesses in an order against happens-before, which P0668 allowed for Power. A
// value out of thin air never shows either. memory_order_consume is taken as
// acquire, as compilers do.
//
// Single-threaded; owned by the Engine, which makes each choice.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "dma/version.h"
#include "testing/sched/view.h"

namespace dmamap::inline v0 {
namespace sched {

constexpr bool IsAcquire(std::memory_order o) {
  return o == std::memory_order_acquire || o == std::memory_order_consume ||
         o == std::memory_order_acq_rel || o == std::memory_order_seq_cst;
}
constexpr bool IsRelease(std::memory_order o) {
  return o == std::memory_order_release || o == std::memory_order_acq_rel ||
         o == std::memory_order_seq_cst;
}
constexpr bool IsSeqCst(std::memory_order o) {
  return o == std::memory_order_seq_cst;
}

struct ThreadView {
  View now;         // what happens before the thread's next access
  View at_acquire;  // joins `now` at the next acquire fence
  View at_release;  // `now` at the last release fence

  void Clear() {
    now.Clear();
    at_acquire.Clear();
    at_release.Clear();
  }
};

class Memory {
 public:
  struct Store {
    Value value = {};
    Timestamp time = 0;
    bool read_by_update = false;  // a read-modify-write stands right behind it
    View message;                 // what an acquire load of it learns
  };

  // Forgets all locations; keeps their memory for the next execution.
  void Clear() {
    used_ = 0;
    seq_cst_fences_.Clear();
    seq_cst_accesses_.Clear();
  }

  std::size_t locations() const { return used_; }

  // A new location whose initialisation, at `created`, stored `initial`.
  LocationId AddLocation(const Value& initial, Epoch created) {
    if (used_ == locations_.size()) locations_.emplace_back();
    Location& location = locations_[used_];
    location.count = 0;
    location.created = created;
    location.accesses = Clock{};
    Store& store = NewStore(location, 0);
    store.value = initial;
    store.time = kGap;
    return static_cast<LocationId>(used_++);
  }

  // The stores of `l`, oldest first in modification order; never empty.
  std::size_t stores(LocationId l) const { return locations_[l].count; }
  const Store& store(LocationId l, std::size_t i) const {
    return locations_[l].stores[i];
  }
  const Store& newest(LocationId l) const { return store(l, stores(l) - 1); }

  // The oldest store that an access of this order may return, and behind which
  // a store of this order may go.
  std::size_t OldestAllowed(const ThreadView& thread, LocationId l,
                            std::memory_order order) const {
    Timestamp bound = thread.now.seen(l);
    if (IsSeqCst(order)) {
      bound = std::max(bound, seq_cst_fences_.seen(l));
      bound = std::max(bound, seq_cst_accesses_.seen(l));
    }
    const Location& location = locations_[l];
    std::size_t i = location.count - 1;
    while (i > 0 && location.stores[i - 1].time >= bound) --i;
    return i;
  }

  // Whether a store may stand directly behind store `i`.
  bool CanFollow(LocationId l, std::size_t i) const {
    if (i + 1 == stores(l)) return true;
    return !store(l, i).read_by_update &&
           store(l, i + 1).time - store(l, i).time > 1;
  }

  // The thread's load returns store `i`.
  void Read(ThreadView& thread, LocationId l, std::size_t i,
            std::memory_order order) {
    const Store& read = locations_[l].stores[i];
    thread.now.See(l, read.time);
    if (IsAcquire(order)) {
      thread.now.Join(read.message);
    } else {
      thread.at_acquire.Join(read.message);
    }
    if (IsSeqCst(order)) seq_cst_accesses_.See(l, read.time);
  }

  // The thread's store goes directly behind store `i`.
  void Write(ThreadView& thread, LocationId l, std::size_t i,
             const Value& value, std::memory_order order) {
    Publish(thread, l, Insert(l, i, value), order);
  }

  // The thread's read-modify-write reads store `i`.
  void Update(ThreadView& thread, LocationId l, std::size_t i,
              const Value& value, std::memory_order order) {
    Read(thread, l, i, order);
    locations_[l].stores[i].read_by_update = true;
    const std::size_t at = Insert(l, i, value);
    Publish(thread, l, at, order);
    // The release sequence goes on ([intro.races], 6.9.2.2 paragraph 5).
    std::vector<Store>& all = locations_[l].stores;
    all[at].message.Join(all[i].message);
  }

  void Fence(ThreadView& thread, std::memory_order order) {
    if (IsAcquire(order)) thread.now.Join(thread.at_acquire);
    if (IsSeqCst(order)) {
      thread.now.JoinSeen(seq_cst_fences_);
      thread.now.JoinSeen(seq_cst_accesses_);
      seq_cst_fences_.JoinSeen(thread.now);
    }
    if (IsRelease(order)) thread.at_release = thread.now;
  }

  // Life of a location. A thread must know of its initialisation before it
  // accesses it, and of all accesses before it ends it: else the two race.
  Epoch created(LocationId l) const { return locations_[l].created; }
  const Clock& accesses(LocationId l) const { return locations_[l].accesses; }
  void NoteAccess(LocationId l, Epoch at) {
    locations_[l].accesses.at[at.thread] = at.time;
  }

 private:
  // Room between two neighbours, so that 32 stores can each halve it.
  static constexpr Timestamp kGap = Timestamp{1} << 32;

  struct Location {
    std::vector<Store> stores;  // [0, count) in modification order; the rest
    std::size_t count = 0;      // waits to be used again
    Epoch created;
    Clock accesses;  // the last access of each thread
  };

  // Makes room at `i`; the store there has no message and no reader yet.
  static Store& NewStore(Location& location, std::size_t i) {
    std::vector<Store>& stores = location.stores;
    if (location.count == stores.size()) stores.emplace_back();
    for (std::size_t at = location.count; at > i; --at) {
      std::swap(stores[at], stores[at - 1]);
    }
    ++location.count;
    stores[i].read_by_update = false;
    stores[i].message.Clear();
    return stores[i];
  }

  std::size_t Insert(LocationId l, std::size_t i, const Value& value) {
    Location& location = locations_[l];
    const Timestamp before = location.stores[i].time;
    const Timestamp time =
        i + 1 == location.count
            ? before + kGap
            : before + (location.stores[i + 1].time - before) / 2;
    Store& store = NewStore(location, i + 1);
    store.value = value;
    store.time = time;
    return i + 1;
  }

  void Publish(ThreadView& thread, LocationId l, std::size_t at,
               std::memory_order order) {
    Store& store = locations_[l].stores[at];
    thread.now.See(l, store.time);
    store.message.Join(IsRelease(order) ? thread.now : thread.at_release);
    if (IsSeqCst(order)) seq_cst_accesses_.See(l, store.time);
  }

  std::vector<Location> locations_;  // [0, used_) exist
  std::size_t used_ = 0;
  View seq_cst_fences_;    // what any seq_cst fence knew (clock unused)
  View seq_cst_accesses_;  // the newest store of any seq_cst access
};

}  // namespace sched
}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_SCHED_MEMORY_MODEL_H_
