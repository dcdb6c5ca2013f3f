// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DMA_ASYMMETRIC_FENCE_H_
#define DMAMAP_DMA_ASYMMETRIC_FENCE_H_

// AsymmetricFence: a store before a load on both of two sides, of which one
// comes often and the other rarely.
//
//   often:  write x;  Light();  look at y
//   rarely: write y;  Heavy();  look at x      one of them sees the other
//
// SymmetricFence is what the C++ memory model offers: a sequentially consistent
// fence on each side. dma/membarrier.h has one for Linux whose Light() costs
// nothing. (Goldblatt, "Asymmetric Fences", WG21 P1202.)

#include <atomic>
#include <concepts>

#include "dma/atom.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

template <class F>
concept AsymmetricFence = requires {
  // Before the first Light() or Heavy() of an object's users; again: nothing.
  // Thread-safe.
  F::Prepare();
  F::Light();
  // May take microseconds. Both are sequentially consistent fences among
  // themselves.
  F::Heavy();
};

template <template <class> class Atom = std::atomic>
struct SymmetricFence {
  static void Prepare() {}
  static void Light() { AtomFence<Atom>(std::memory_order_seq_cst); }
  static void Heavy() { AtomFence<Atom>(std::memory_order_seq_cst); }
};
static_assert(AsymmetricFence<SymmetricFence<>>);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_DMA_ASYMMETRIC_FENCE_H_
