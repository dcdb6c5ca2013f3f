// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_SCHED_AXIOMS_H_
#define DMAMAP_TESTING_SCHED_AXIOMS_H_

// The oracle of the memory model: small programs judged by the axioms of C++20.
//
// Knows nothing of views or of an order of execution. It takes every assignment
// of a store to each read (rf) and every modification order (mo), and keeps
// those that [intro.races] and [atomics.order] of C++20 (N4861) allow. One
// axiom is ours: sb, rf and S together have no cycle (see memory_model.h).
//
// A program has no branches, and each store writes a value of its own, so that
// a value read tells the store.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <set>
#include <utility>
#include <vector>

#include "dma/version.h"
#include "testing/sched/memory_model.h"

namespace dmamap::inline v0 {
namespace sched {

enum class InstructionKind { kLoad, kStore, kExchange, kCompare, kFence };

struct Instruction {
  InstructionKind kind = InstructionKind::kLoad;
  int location = 0;  // 0 or 1
  std::memory_order order = std::memory_order_relaxed;
  std::memory_order failure = std::memory_order_relaxed;  // of a compare
  int value = 0;     // stored; unique and not 0, which is the initial value
  int expected = 0;  // of a compare
};

using Program = std::vector<std::vector<Instruction>>;  // by thread

// The value that each reading instruction read, thread by thread, then the
// final value of each location.
using Outcome = std::vector<int>;

inline constexpr int kLocations = 2;

class Axioms {
 public:
  static std::set<Outcome> Outcomes(const Program& program) {
    Axioms axioms(program);
    axioms.AssignReads(0);
    return std::move(axioms.outcomes_);
  }

 private:
  struct Event {
    Instruction what;
    int thread = -1;  // -1: initialisation
    std::size_t reads_from = 0;
    bool is_fence = false;
    bool reads = false;
    bool writes = false;
    std::memory_order order = std::memory_order_relaxed;  // as it turned out
  };

  // A relation between events.
  class Relation {
   public:
    explicit Relation(std::size_t n) : n_(n), bits_(n * n, false) {}
    std::size_t size() const { return n_; }
    bool operator()(std::size_t a, std::size_t b) const {
      return bits_[a * n_ + b];
    }
    void Add(std::size_t a, std::size_t b) { bits_[a * n_ + b] = true; }
    void Add(const Relation& other) {
      for (std::size_t i = 0; i < bits_.size(); ++i) {
        bits_[i] = bits_[i] || other.bits_[i];
      }
    }
    void Close() {  // transitively
      for (std::size_t k = 0; k < n_; ++k) {
        for (std::size_t a = 0; a < n_; ++a) {
          if (!(*this)(a, k)) continue;
          for (std::size_t b = 0; b < n_; ++b) {
            if ((*this)(k, b)) Add(a, b);
          }
        }
      }
    }
    bool Reflexive() const {
      for (std::size_t a = 0; a < n_; ++a) {
        if ((*this)(a, a)) return true;
      }
      return false;
    }

   private:
    std::size_t n_;
    std::vector<bool> bits_;
  };

  explicit Axioms(const Program& program) {
    for (int l = 0; l < kLocations; ++l) {
      Event init;
      init.what.kind = InstructionKind::kStore;
      init.what.location = l;
      init.writes = true;
      events_.push_back(init);
    }
    for (std::size_t t = 0; t < program.size(); ++t) {
      for (const Instruction& what : program[t]) {
        Event event;
        event.what = what;
        event.thread = static_cast<int>(t);
        event.is_fence = what.kind == InstructionKind::kFence;
        event.reads = !event.is_fence && what.kind != InstructionKind::kStore;
        event.writes = !event.is_fence && what.kind != InstructionKind::kLoad;
        event.order = what.order;
        events_.push_back(event);
      }
    }
  }

  bool SameLocation(std::size_t a, std::size_t b) const {
    return !events_[a].is_fence && !events_[b].is_fence &&
           events_[a].what.location == events_[b].what.location;
  }

  void AssignReads(std::size_t at) {
    if (at == events_.size()) return AssignOrders(0);
    Event& event = events_[at];
    if (!event.reads) return AssignReads(at + 1);
    for (std::size_t w = 0; w < events_.size(); ++w) {
      if (w == at || events_[w].what.kind == InstructionKind::kLoad ||
          !SameLocation(w, at)) {
        continue;
      }
      event.reads_from = w;
      if (event.what.kind == InstructionKind::kCompare) {
        event.writes = events_[w].what.value == event.what.expected;
        event.order = event.writes ? event.what.order : event.what.failure;
      }
      AssignReads(at + 1);
    }
  }

  // Each modification order, location by location, initialisation first.
  void AssignOrders(int location) {
    if (location == 0) {
      for (const Event& event : events_) {
        if (event.reads && !events_[event.reads_from].writes) return;
      }
      modification_.assign(kLocations, {});
    }
    if (location == kLocations) return Judge();
    std::vector<std::size_t> order;
    for (std::size_t w = kLocations; w < events_.size(); ++w) {
      if (events_[w].writes && events_[w].what.location == location) {
        order.push_back(w);
      }
    }
    do {
      auto& all = modification_[static_cast<std::size_t>(location)];
      all = order;
      all.insert(all.begin(), static_cast<std::size_t>(location));
      AssignOrders(location + 1);
    } while (std::next_permutation(order.begin(), order.end()));
  }

  // A read-modify-write reads the store right before it ([atomics.order] 10).
  bool UpdatesAreAtomic() const {
    for (const auto& order : modification_) {
      for (std::size_t i = 1; i < order.size(); ++i) {
        const Event& event = events_[order[i]];
        if (event.reads && event.reads_from != order[i - 1]) return false;
      }
    }
    return true;
  }

  // Whether `store` is in the release sequence that `head` heads or would head.
  bool InReleaseSequence(std::size_t head, std::size_t store) const {
    while (store != head) {
      if (!events_[store].reads) return false;
      store = events_[store].reads_from;
    }
    return true;
  }

  Relation SequencedBefore() const {
    Relation sb(events_.size());
    for (std::size_t a = 0; a < events_.size(); ++a) {
      for (std::size_t b = a + 1; b < events_.size(); ++b) {
        if (events_[a].thread == events_[b].thread ||
            (events_[a].thread < 0 && events_[b].thread >= 0)) {
          sb.Add(a, b);
        }
      }
    }
    return sb;
  }

  // From each release store or fence to each acquire load or fence that
  // synchronises with it ([atomics.order] 2, [atomics.fences] 2 to 4).
  void AddSynchronisation(const Relation& sb, Relation& hb) const {
    for (std::size_t r = 0; r < events_.size(); ++r) {
      if (!events_[r].reads) continue;
      for (std::size_t w = 0; w < events_.size(); ++w) {
        if (!events_[w].writes || !SameLocation(w, r) ||
            !InReleaseSequence(w, events_[r].reads_from)) {
          continue;
        }
        for (std::size_t from = 0; from < events_.size(); ++from) {
          const bool releases =
              IsRelease(events_[from].order) &&
              (from == w || (events_[from].is_fence && sb(from, w)));
          if (!releases) continue;
          for (std::size_t to = 0; to < events_.size(); ++to) {
            if (IsAcquire(events_[to].order) &&
                (to == r || (events_[to].is_fence && sb(r, to)))) {
              hb.Add(from, to);
            }
          }
        }
      }
    }
  }

  // "Coherence-ordered before" ([atomics.order] 3).
  Relation CoherenceOrder() const {
    Relation cob(events_.size());
    for (const auto& order : modification_) {
      for (std::size_t i = 0; i < order.size(); ++i) {
        for (std::size_t j = i + 1; j < order.size(); ++j) {
          cob.Add(order[i], order[j]);
          for (std::size_t r = 0; r < events_.size(); ++r) {
            if (events_[r].reads && events_[r].reads_from == order[i] &&
                r != order[j]) {
              cob.Add(r, order[j]);
            }
          }
        }
      }
    }
    for (std::size_t r = 0; r < events_.size(); ++r) {
      if (events_[r].reads) cob.Add(events_[r].reads_from, r);
    }
    cob.Close();
    return cob;
  }

  // What S must contain because of `cob` ([atomics.order] 4).
  void AddSeqCst(const Relation& cob, const Relation& hb,
                 Relation& order) const {
    const auto is_fence = [&](std::size_t e) {
      return events_[e].is_fence && IsSeqCst(events_[e].order);
    };
    const std::size_t n = events_.size();
    for (std::size_t a = 0; a < n; ++a) {
      for (std::size_t b = 0; b < n; ++b) {
        if (!cob(a, b)) continue;
        for (std::size_t x = 0; x < n; ++x) {
          const bool before = (x == a && IsSeqCst(events_[a].order)) ||
                              (is_fence(x) && hb(x, a));
          if (!before) continue;
          for (std::size_t y = 0; y < n; ++y) {
            if ((y == b && IsSeqCst(events_[b].order)) ||
                (is_fence(y) && hb(b, y))) {
              order.Add(x, y);
            }
          }
        }
      }
    }
  }

  void Judge() {
    if (!UpdatesAreAtomic()) return;
    const Relation sb = SequencedBefore();
    Relation hb = sb;
    AddSynchronisation(sb, hb);
    hb.Close();
    if (hb.Reflexive()) return;
    const Relation cob = CoherenceOrder();
    if (cob.Reflexive()) return;
    for (std::size_t a = 0; a < events_.size(); ++a) {
      for (std::size_t b = 0; b < events_.size(); ++b) {
        // The four coherence rules in one ([intro.races] 15 to 18).
        if (hb(a, b) && cob(b, a)) return;
      }
    }
    Relation order = sb;
    for (std::size_t r = 0; r < events_.size(); ++r) {
      if (events_[r].reads) order.Add(events_[r].reads_from, r);
    }
    AddSeqCst(cob, hb, order);
    order.Close();
    if (order.Reflexive()) return;

    Outcome outcome;
    for (const Event& event : events_) {
      if (event.reads) {
        outcome.push_back(events_[event.reads_from].what.value);
      }
    }
    for (const auto& all : modification_) {
      outcome.push_back(events_[all.back()].what.value);
    }
    outcomes_.insert(std::move(outcome));
  }

  std::vector<Event> events_;  // the initialisations, then thread by thread
  std::vector<std::vector<std::size_t>> modification_;  // by location
  std::set<Outcome> outcomes_;
};

}  // namespace sched
}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_SCHED_AXIOMS_H_
