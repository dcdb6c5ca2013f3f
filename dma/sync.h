// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DMA_SYNC_H_
#define DMAMAP_DMA_SYNC_H_

// The seams for concurrency: cache line, locks, and the atomic policy.
//
// Atomic policy. Each concurrent class takes `template <class> class Atom =
// std::atomic`, so that a test can run the shipped source on a deterministic
// atomic that chooses every interleaving itself.
//
// Lock. An embedder brings a type with lock(), try_lock() and unlock() (the
// standard's Lockable names, so std::mutex is one): a kernel its own spin lock
// with interrupts off, a single-threaded program NullLock. SpinLock is the
// default where the critical section is a few dozen instructions.

#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>

#include "dma/version.h"

namespace dmamap::inline v0 {

// Bytes between two things that two CPUs write. Our own constant, because
// std::hardware_destructive_interference_size is absent in clang 14 and an ABI
// warning in g++ 12.
inline constexpr std::size_t kCacheLine = 64;

// Tells the CPU that this is a spin loop.
inline void CpuRelax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
  asm volatile("yield" ::: "memory");
#elif defined(__riscv)
  asm volatile(".insn i 0x0F, 0, x0, x0, 0x010" ::: "memory");  // pause
#endif
}

template <class L>
concept Lock = requires(L& l) {
  l.lock();                                // blocks until the lock is held
  { l.try_lock() } -> std::same_as<bool>;  // false: somebody else holds it
  l.unlock();                              // REQUIRES: held by the caller
};

// Holds a Lock for a scope.
template <Lock L>
class [[nodiscard]] Guard {
 public:
  explicit Guard(L& lock) : lock_(lock) { lock_.lock(); }
  ~Guard() { lock_.unlock(); }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

 private:
  L& lock_;
};

// No lock at all, for an owner that is single-threaded or holds its own lock.
class NullLock {
 public:
  void lock() {}
  bool try_lock() { return true; }
  void unlock() {}
};
static_assert(Lock<NullLock>);

// A test-and-test-and-set lock: one byte-sized flag, no fairness, blocking.
// Not recursive; not safe against an interrupt on the same CPU that takes it.
//
// Synchronisation edge
//   U1 -> L1  everything written under the lock is seen by the next holder.
template <template <class> class Atom = std::atomic>
class BasicSpinLock {
 public:
  void lock() {
    while (!try_lock()) {
      // relaxed: only waits for the flag to look free; L1 orders the entry.
      while (locked_.load(std::memory_order_relaxed) != 0) CpuRelax();
    }
  }
  bool try_lock() {
    // L1, acquire: pairs with U1.
    return locked_.exchange(1, std::memory_order_acquire) == 0;
  }
  void unlock() {
    // U1, release: pairs with L1. Publishes what was written under the lock.
    locked_.store(0, std::memory_order_release);
  }

 private:
  Atom<std::uint32_t> locked_{0};
};
using SpinLock = BasicSpinLock<>;
static_assert(Lock<SpinLock>);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_DMA_SYNC_H_
