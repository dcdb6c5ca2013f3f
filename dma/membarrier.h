// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DMA_MEMBARRIER_H_
#define DMAMAP_DMA_MEMBARRIER_H_

// MembarrierFence: an AsymmetricFence by Linux's membarrier(2), private
// expedited (Linux 4.14). Heavy() makes every thread of the process that runs
// now pass a full barrier, wherever it is; so Light() need only keep the
// compiler from reordering. 0.3 us in a process of one thread, a few where
// other CPUs have to be interrupted.
//
// Where the kernel has no such call, or the process may not make it, and
// elsewhere than on Linux, both are sequentially consistent fences.
//
// Not a memory that other processes write: membarrier knows this one alone.

#include <atomic>

#include "dma/asymmetric_fence.h"
#include "dma/version.h"

#if defined(__linux__) && __has_include(<sys/syscall.h>)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(__linux__) && defined(SYS_membarrier)
#define DMAMAP_HAS_MEMBARRIER 1
#else
#define DMAMAP_HAS_MEMBARRIER 0
#endif

namespace dmamap::inline v0 {

class MembarrierFence {
 public:
  // Asks the kernel, unless somebody did.
  static void Prepare() {
    if (is_asymmetric() || !Call(kRegisterPrivateExpedited)) return;
    // relaxed: whoever uses an object has its Init, which called this, behind
    // him.
    ready_.store(true, std::memory_order_relaxed);
  }
  // False: both are plain fences.
  static bool is_asymmetric() { return ready_.load(std::memory_order_relaxed); }

  static void Light() {
    if (is_asymmetric()) [[likely]] {
      std::atomic_signal_fence(std::memory_order_seq_cst);
    } else {
      SymmetricFence<>::Light();
    }
  }
  static void Heavy() {
    SymmetricFence<>::Heavy();
    // It cannot fail once it is registered.
    if (is_asymmetric()) (void)Call(kPrivateExpedited);
  }

 private:
  // MEMBARRIER_CMD_PRIVATE_EXPEDITED and _REGISTER_PRIVATE_EXPEDITED of
  // linux/membarrier.h, which not every system has.
  static constexpr int kPrivateExpedited = 1 << 3;
  static constexpr int kRegisterPrivateExpedited = 1 << 4;

  static bool Call([[maybe_unused]] int command) {
#if DMAMAP_HAS_MEMBARRIER
    return syscall(SYS_membarrier, command, 0, 0) == 0;
#else
    return false;
#endif
  }

  static inline std::atomic<bool> ready_{false};
};
static_assert(AsymmetricFence<MembarrierFence>);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_DMA_MEMBARRIER_H_
