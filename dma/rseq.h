// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DMA_RSEQ_H_
#define DMAMAP_DMA_RSEQ_H_

// RseqSlots: a CpuLocal policy whose slots belong to CPUs, not to threads.
//
// Caches are then bounded by the number of CPUs, whatever the number of
// threads, and a thread that exits leaves nothing behind. ThreadSlots is
// faster; take this one where threads are many or short-lived.
//
// Each slot has an owner word. Acquire makes the word of the CPU it runs on 1
// by a restartable sequence (dma/rseq_section.h): no atomic read-modify-write,
// no lock. Release makes it 0 from wherever the thread has got to by then.
//
// Nobody waits for a thread that was preempted while it held a slot: each CPU
// has a spare slot (RseqOptions::slots_per_cpu), and when that is held too,
// Acquire returns kNoSlot and the caller takes its shared path.
//
// Where Linux has no restartable sequences, on other systems, and when there is
// no memory for the owner words, the object is a ThreadSlots; kind() tells. The
// choice is made when it is constructed.
//
// SlotListener: a CPU's slot never loses its owner, so listeners hear nothing,
// and what is cached in the slot of a CPU that no thread comes back to stays;
// as a ThreadSlots, they hear of each thread that exits.
//
// Progress: Acquire and Release are wait-free; a sequence that is interrupted
// kMaxTurns times in a row gives kNoSlot. A signal handler may call Acquire,
// also over a thread that is inside or holds a slot: it gets the spare slot or
// kNoSlot. (Not as a ThreadSlots, and not as the first call of its thread where
// the libc does not register threads.) After fork() the child finds the slots
// that other threads of its parent held taken for good. One process only: the
// kernel's numbers mean nothing to another one, even in shared memory.
//
// Synchronisation edge
//   R1 -> T1  what the last holder wrote to the slot is seen by the next one.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include "dma/assert.h"
#include "dma/cpu.h"
#include "dma/rseq_registration.h"
#include "dma/rseq_section.h"
#include "dma/sync.h"
#include "dma/version.h"

// T1 is an instruction in an asm statement, which a thread sanitizer does not
// see: it is told. R1 is a std::atomic store, which it sees.
#if defined(__SANITIZE_THREAD__)
#define DMAMAP_RSEQ_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define DMAMAP_RSEQ_TSAN 1
#endif
#endif
#if defined(DMAMAP_RSEQ_TSAN)
extern "C" void __tsan_acquire(void* address);
#define DMAMAP_RSEQ_SAW_RELEASE(word) __tsan_acquire(word)
#else
#define DMAMAP_RSEQ_SAW_RELEASE(word) ((void)0)
#endif

namespace dmamap::inline v0 {

enum class RseqMode : std::uint8_t {
  kAuto,   // the kernel's concurrency id, else the CPU number, else threads
  kCpuId,  // the CPU number, else threads
  kNever,  // threads
};

// What the slots belong to.
enum class SlotKind : std::uint8_t { kThread, kCpuId, kConcurrencyId };

struct RseqOptions {
  RseqMode mode = RseqMode::kAuto;
  // How many holders each CPU may have before Acquire gives kNoSlot: one that
  // runs, the others preempted.
  std::size_t slots_per_cpu = 2;
  // CPU numbers from here up get kNoSlot. 0: as many as the machine can have.
  std::size_t cpus = 0;
};

class RseqSlots {
 public:
  // slots() is at most this, as for ThreadSlots; spare slots go first, then
  // the CPUs with the highest numbers.
  static constexpr std::size_t kMaxSlots = SlotNumbers<>::kCapacity;
  static constexpr unsigned kMaxTurns = 16;

  explicit RseqSlots(const RseqOptions& options = {}) { Start(options); }
  explicit RseqSlots(RseqMode mode) : RseqSlots(RseqOptions{.mode = mode}) {}
  RseqSlots(const RseqSlots&) = delete;
  RseqSlots& operator=(const RseqSlots&) = delete;

  SlotKind kind() const { return kind_; }
  std::size_t slots() const {
    return owners_ != nullptr ? cpus_ * slots_per_cpu_ : threads_.slots();
  }

  std::size_t Acquire() {
    if (owners_ == nullptr) [[unlikely]]
      return threads_.Acquire();
    const std::uint64_t cpu = Take(0);
    if (cpu < cpus_) [[likely]]
      return Mine(cpu);
    return AcquireSlow(cpu);
  }
  void Release(std::size_t slot) {
    if (owners_ == nullptr) [[unlikely]]
      return;
    DMAMAP_ASSERT(slot < slots() && IsHeld(slot));
    // R1, release: pairs with T1. Publishes what was written to the slot.
    owners_[slot].held.store(0, std::memory_order_release);
  }

  // Not passed on over CPUs' slots: all ThreadSlots share one list, whose calls
  // are about the slots of threads.
  void Subscribe(SlotListener& listener) {
    if (owners_ == nullptr) threads_.Subscribe(listener);
  }
  void Unsubscribe(SlotListener& listener) {
    if (owners_ == nullptr) threads_.Unsubscribe(listener);
  }

  // What kept Acquire from its fast path, since the start. Statistics.
  struct Counters {
    std::uint64_t interrupted = 0;  // sequences that the kernel aborted
    std::uint64_t spare = 0;        // calls that got a spare slot
    std::uint64_t refused = 0;      // calls that got kNoSlot
  };
  Counters counters() const {
    // relaxed: statistics.
    return {interrupted_.load(std::memory_order_relaxed),
            spare_.load(std::memory_order_relaxed),
            refused_.load(std::memory_order_relaxed)};
  }

  // No slot is held. REQUIRES: nobody else uses the object.
  bool CheckInvariants() const {
    if ((owners_ == nullptr) != (kind_ == SlotKind::kThread)) return false;
    if (slots() == 0 || slots() > kMaxSlots) return false;
    for (std::size_t s = 0; owners_ != nullptr && s < slots(); ++s) {
      if (IsHeld(s)) return false;
    }
    return true;
  }

 private:
  // A line of its own: each is written by the CPU it belongs to.
  struct alignas(kCacheLine) Owner {
    std::atomic<std::uint32_t> held{0};  // 0, or 1 between Acquire and Release
  };

  bool IsHeld(std::size_t slot) const {
    // relaxed: asked by the holder, or when nobody else is there.
    return owners_[slot].held.load(std::memory_order_relaxed) != 0;
  }
  std::size_t Mine(std::size_t slot) {
    DMAMAP_RSEQ_SAW_RELEASE(&owners_[slot]);
    return slot;
  }

#if DMAMAP_HAS_RSEQ
  // The section works on these as bare words.
  static_assert(sizeof(Owner) == rseq::kStride);
  static_assert(std::atomic<std::uint32_t>::is_always_lock_free &&
                sizeof(std::atomic<std::uint32_t>) == 4);

  void Start(const RseqOptions& options) {
    if (options.mode == RseqMode::kNever) return;
    source_ = rseq::FindSource();
    if (source_ == rseq::Source::kNone) return;
    if (source_ == rseq::Source::kLibc) libc_area_ = rseq::LibcAreaOffset();
    const bool dense =
        options.mode == RseqMode::kAuto && rseq::HasConcurrencyId();
    id_ = dense ? rseq::Id::kConcurrency : rseq::Id::kCpu;
    cpus_ = options.cpus != 0 ? options.cpus : rseq::PossibleCpus();
    if (cpus_ > kMaxSlots) cpus_ = kMaxSlots;
    slots_per_cpu_ = options.slots_per_cpu == 0 ? 1 : options.slots_per_cpu;
    if (slots_per_cpu_ > kMaxSlots / cpus_) slots_per_cpu_ = kMaxSlots / cpus_;
    owners_.reset(new (std::nothrow) Owner[cpus_ * slots_per_cpu_]);
    if (owners_ == nullptr) return;
    kind_ = dense ? SlotKind::kConcurrencyId : SlotKind::kCpuId;
  }

  // T1, acquire: pairs with R1. Tries slot spare * cpus_ + (the CPU's number).
  std::uint64_t Take(std::size_t spare) {
    const std::ptrdiff_t area =
        source_ == rseq::Source::kLibc ? libc_area_ : rseq::OwnThread::Offset();
    return rseq::TakeOwnerWord(area, id_, &owners_[spare * cpus_], cpus_);
  }

  // `result` is what Take(0) returned.
  [[gnu::noinline]] std::size_t AcquireSlow(std::uint64_t result) {
    std::size_t spare = 0;
    for (unsigned turn = 0; turn < kMaxTurns; ++turn) {
      if (result < cpus_) {
        if (spare != 0) Count(spare_);
        return Mine(spare * cpus_ + result);
      }
      if (result == rseq::kInterrupted) {
        Count(interrupted_);
        spare = 0;  // perhaps on another CPU by now
      } else if (result == rseq::kTaken) {
        if (++spare == slots_per_cpu_) break;
      } else if (result <= kMaxNumber || source_ != rseq::Source::kOwn ||
                 !rseq::OwnThread::Join()) {
        break;
      }
      result = Take(spare);
    }
    Count(refused_);
    return kNoSlot;
  }

  rseq::Source source_ = rseq::Source::kNone;
  rseq::Id id_ = rseq::Id::kCpu;
  std::ptrdiff_t libc_area_ = 0;
#else
  void Start(const RseqOptions&) {}
  std::uint64_t Take(std::size_t) { return kNoSlot; }
  std::size_t AcquireSlow(std::uint64_t) { return kNoSlot; }
#endif

  // Larger "numbers" are the kernel's marks for a thread without one.
  static constexpr std::uint64_t kMaxNumber = 0x7fffffff;

  static void Count(std::atomic<std::uint64_t>& counter) {
    counter.fetch_add(1, std::memory_order_relaxed);  // a statistic
  }

  // Written by the constructor, read by every call.
  std::size_t cpus_ = 0;
  std::unique_ptr<Owner[]> owners_;  // null: a ThreadSlots
  std::size_t slots_per_cpu_ = 1;
  SlotKind kind_ = SlotKind::kThread;
  ThreadSlots threads_;

  // Written off the fast path only.
  alignas(kCacheLine) std::atomic<std::uint64_t> interrupted_{0};
  std::atomic<std::uint64_t> spare_{0};
  std::atomic<std::uint64_t> refused_{0};
};
static_assert(CpuLocal<RseqSlots>);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_DMA_RSEQ_H_
