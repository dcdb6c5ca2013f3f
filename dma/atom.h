// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DMA_ATOM_H_
#define DMAMAP_DMA_ATOM_H_

// What a concurrent template may ask of its atomic policy besides the atomics.
//
// A class with `template <class> class Atom = std::atomic` names the rest of
// its shared world by the same policy, so that a test which swaps the policy
// sees all of it:
//
//   PlainFor<Atom, T>     a shared variable that is not atomic: plain T here;
//                         a T whose races are found in the test.
//   AtomFence<Atom>(o)    std::atomic_thread_fence(o).
//   AtomRelax<Atom>()     CpuRelax(), once in each turn of a loop that waits
//                         for another thread.
//
//   template <template <class> class Atom = std::atomic>
//   class Mailbox {
//     PlainFor<Atom, int> letter_;   // written before full_, read after it
//     Atom<bool> full_{false};
//   };
//
// With std::atomic all three cost nothing: PlainFor<std::atomic, T> is T, and
// the functions are the standard's and CpuRelax(). Code that is to run under
// both policies reads a plain variable by conversion (`T v = x;`) and writes it
// by assignment (`x = v;`); it takes neither its address nor a member of it.
//
// A test policy specialises AtomTraits (see testing/sched/atomic.h).

#include <atomic>

#include "dma/sync.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

template <template <class> class Atom>
struct AtomTraits {
  template <class T>
  using Plain = T;

  // Where a fence stands in the source. A test's traits want to know.
  struct Site {
    static constexpr Site Here() { return {}; }
  };

  static void Fence(std::memory_order order, Site) {
// g++ warns that its thread sanitizer does not follow fences. A data race that
// only a fence prevents is then a false report; the fence itself is kept.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpragmas"
#pragma GCC diagnostic ignored "-Wtsan"
#endif
    std::atomic_thread_fence(order);
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
  }

  static void Relax(Site) { CpuRelax(); }
};

// A shared variable that is not atomic.
template <template <class> class Atom, class T>
using PlainFor = typename AtomTraits<Atom>::template Plain<T>;

template <template <class> class Atom>
inline void AtomFence(
    std::memory_order order,
    typename AtomTraits<Atom>::Site site = AtomTraits<Atom>::Site::Here()) {
  AtomTraits<Atom>::Fence(order, site);
}

template <template <class> class Atom>
inline void AtomRelax(
    typename AtomTraits<Atom>::Site site = AtomTraits<Atom>::Site::Here()) {
  AtomTraits<Atom>::Relax(site);
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_DMA_ATOM_H_
