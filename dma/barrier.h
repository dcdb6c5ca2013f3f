// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DMA_BARRIER_H_
#define DMAMAP_DMA_BARRIER_H_

// Order of a CPU's accesses to coherent memory as a *device* sees them.
//
// C++ fences order one CPU against another. A device is an observer in the
// outer shareable domain: on aarch64 that takes a `dmb osh*`, on RISC-V a fence
// (both kinds of access are to main memory, so r/w and not i/o), on x86 (TSO,
// write-back memory) the compiler alone must be held. Each function is also at
// least the C++ fence that its comment names, so that a device simulated by a
// thread is ordered too.

#include <atomic>

#include "dma/version.h"

// g++ says that its thread sanitizer does not see fences. The accesses that
// they stand beside are atomic themselves.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wtsan"
#endif

namespace dmamap::inline v0 {

// Writes before it are visible to the device before writes after it.
// At least std::memory_order_release.
inline void DmaWriteBarrier() {
#if defined(__aarch64__)
  asm volatile("dmb oshst" ::: "memory");
#endif
  std::atomic_thread_fence(std::memory_order_release);
}

// Reads before it are done before reads after it.
// At least std::memory_order_acquire.
inline void DmaReadBarrier() {
#if defined(__aarch64__)
  asm volatile("dmb oshld" ::: "memory");
#endif
  std::atomic_thread_fence(std::memory_order_acquire);
}

// All accesses before it are ordered before all after it (store to load too).
// At least std::memory_order_seq_cst.
inline void DmaFullBarrier() {
#if defined(__aarch64__)
  asm volatile("dmb osh" ::: "memory");
#endif
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

}  // namespace dmamap::inline v0

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#endif  // DMAMAP_DMA_BARRIER_H_
