// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_SCHED_ACCESS_H_
#define DMAMAP_TESTING_SCHED_ACCESS_H_

// Access: the alternatives that one atomic access has, within the bounds.
//
// The first alternative is always the one on the newest store, which is what a
// sequentially consistent machine would do.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "dma/version.h"
#include "testing/sched/memory_model.h"
#include "testing/sched/op.h"
#include "testing/sched/options.h"
#include "testing/sched/progress.h"

namespace dmamap::inline v0 {
namespace sched {

// What an execution has left of the bounds, and which of them cut a choice off.
struct Budget {
  std::uint32_t preemptions = 0;
  std::uint32_t stale = 0;
  std::uint32_t spurious = 0;
  bool cut_preemptions = false;
  bool cut_stale = false;
  bool cut_spurious = false;
  bool cut_history = false;

  // kUnlimited stays what it is.
  static void Spend(std::uint32_t& left) {
    if (left != kUnlimited) --left;
  }
  void Refill(const Options& options) {
    preemptions = options.preemptions;
    stale = options.stale;
    spurious = options.spurious;
  }
};

enum class Effect : std::uint8_t {
  kRead,      // of store `index`
  kUpdate,    // reads store `index` and stands behind it
  kWrite,     // behind store `index`
  kSpurious,  // a weak compare fails on store `index` for no reason
};

struct Alternative {
  std::size_t index;
  Effect effect;
};

class Access {
 public:
  Access(Memory& memory, const Options& options, Budget& budget)
      : memory_(memory), options_(options), budget_(budget) {}

  // The alternatives of `op`, which is no fence, at location `l`; at least one.
  // Valid until the next call.
  const std::vector<Alternative>& Collect(const Op& op, LocationId l,
                                          const ThreadView& view,
                                          const Progress& progress) {
    alternatives_.clear();
    const std::size_t count = memory_.stores(l);
    const std::size_t oldest = OldestAllowed(op, l, view);
    const std::size_t history = std::max<std::size_t>(options_.history, 1);
    for (std::size_t i = count; i-- > oldest;) {
      if (!Allowed(op, l, view, i)) continue;
      const bool newest = i + 1 == count;
      if (!newest) {
        if (op.kind != OpKind::kStore &&
            progress.OnlyDelays(l, memory_.store(l, i).value)) {
          continue;
        }
        if (count - i > history) {
          budget_.cut_history = true;
          break;
        }
        if (budget_.stale == 0) {
          budget_.cut_stale = true;
          break;
        }
      }
      alternatives_.push_back({i, EffectOn(op, memory_.store(l, i).value)});
    }
    if (op.kind == OpKind::kCompareWeak) AddSpurious(op, l);
    return alternatives_;
  }

  // Carries out one of them.
  OpResult Apply(const Op& op, LocationId l, Alternative chosen,
                 ThreadView& view) {
    const std::size_t i = chosen.index;
    if (i + 1 != memory_.stores(l)) Budget::Spend(budget_.stale);
    const Value old = memory_.store(l, i).value;
    switch (chosen.effect) {
      case Effect::kWrite:
        memory_.Write(view, l, i, op.operand, op.order);
        return {old, true};
      case Effect::kUpdate:
        memory_.Update(view, l, i, ValueAfter(op, old), op.order);
        return {old, true};
      case Effect::kSpurious:
        Budget::Spend(budget_.spurious);
        [[fallthrough]];
      case Effect::kRead:
        memory_.Read(view, l, i, IsCompare(op) ? op.failure : op.order);
        return {old, !IsCompare(op)};
    }
    return {old, false};
  }

  // Whether all that the access can do now is to find once more what the thread
  // knows, and to change nothing.
  bool OnlySpins(const Op& op, LocationId l, const ThreadView& view,
                 const Progress& progress) const {
    if (op.kind == OpKind::kStore) return false;
    const Value newest = memory_.newest(l).value;
    if (!progress.Exhausted(l, newest)) return false;
    for (std::size_t i = OldestAllowed(op, l, view); i < memory_.stores(l);
         ++i) {
      const Value value = memory_.store(l, i).value;
      if (!Allowed(op, l, view, i)) continue;
      if (value != newest || ValueAfter(op, value) != value) return false;
    }
    return true;
  }

 private:
  static Effect EffectOn(const Op& op, const Value& value) {
    switch (op.kind) {
      case OpKind::kStore:
        return Effect::kWrite;
      case OpKind::kUpdate:
        return Effect::kUpdate;
      case OpKind::kCompareWeak:
      case OpKind::kCompareStrong:
        return value == op.expected ? Effect::kUpdate : Effect::kRead;
      default:
        return Effect::kRead;
    }
  }

  std::size_t OldestAllowed(const Op& op, LocationId l,
                            const ThreadView& view) const {
    const std::size_t oldest = memory_.OldestAllowed(view, l, op.order);
    if (!IsCompare(op)) return oldest;
    return std::min(oldest, memory_.OldestAllowed(view, l, op.failure));
  }

  // Whether store `i`, not older than OldestAllowed, is one for this access.
  bool Allowed(const Op& op, LocationId l, const ThreadView& view,
               std::size_t i) const {
    const Effect effect = EffectOn(op, memory_.store(l, i).value);
    if (effect != Effect::kRead && i + 1 != memory_.stores(l) &&
        (options_.store_order == StoreOrder::kExecution ||
         !memory_.CanFollow(l, i))) {
      return false;
    }
    if (!IsCompare(op) || IsSeqCst(op.order) == IsSeqCst(op.failure)) {
      return true;
    }
    // The two orders have different bounds.
    return i >= memory_.OldestAllowed(
                    view, l, effect == Effect::kRead ? op.failure : op.order);
  }

  void AddSpurious(const Op& op, LocationId l) {
    const std::size_t newest = memory_.stores(l) - 1;
    if (memory_.store(l, newest).value != op.expected) return;
    if (budget_.spurious == 0) {
      budget_.cut_spurious = true;
    } else {
      alternatives_.push_back({newest, Effect::kSpurious});
    }
  }

  Memory& memory_;
  const Options& options_;
  Budget& budget_;
  std::vector<Alternative> alternatives_;
};

}  // namespace sched
}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_SCHED_ACCESS_H_
