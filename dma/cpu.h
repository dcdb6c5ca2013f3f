// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DMA_CPU_H_
#define DMAMAP_DMA_CPU_H_

// CpuLocal: who am I, and which slot may I touch without a lock?
//
// A per-CPU cache keeps one slot of plain memory for each "CPU". A policy
// answers which slot the caller owns right now. Three answers live here:
//
//   ThreadSlots  each thread owns a slot from its first call until it exits.
//                Portable, and the fastest: nothing but a thread-local read.
//   CallerCpu    a number handed in by an embedder who has preemption off (a
//                kernel) or who pins one thread to each CPU (DPDK's lcores).
//   FakeCpu      a number that a test sets.
//
// Between Acquire() and Release() nobody else is given the same slot. A policy
// that has no slot for the caller returns kNoSlot, and the caller takes the
// shared path: more threads than slots is slower, never wrong.
//
// When the owner of a slot goes away for good (a thread exits, a CPU is taken
// offline), each SlotListener is told, on the leaving thread, before the slot
// can be given to anybody else: a cache gives its contents back there.

#include <atomic>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "dma/assert.h"
#include "dma/sync.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

inline constexpr std::size_t kNoSlot = static_cast<std::size_t>(-1);

// Told when a slot loses its owner. Embed one in the object that owns the
// slots; it must stay where it is while it is subscribed.
class SlotListener {
 public:
  using Callback = void (*)(void* context, std::size_t slot);
  constexpr SlotListener(Callback callback, void* context)
      : callback_(callback), context_(context) {}
  SlotListener(const SlotListener&) = delete;
  SlotListener& operator=(const SlotListener&) = delete;

 private:
  friend class SlotListeners;
  Callback callback_;
  void* context_;
  SlotListener* next_ = nullptr;
};

// A list of listeners under one spin lock: the lock is held while they are
// called, so that Remove() returns only when no call is under way. A listener
// must not add or remove listeners.
class SlotListeners {
 public:
  void Add(SlotListener& listener) {
    Guard guard(lock_);
    listener.next_ = head_;
    head_ = &listener;
  }
  void Remove(SlotListener& listener) {
    Guard guard(lock_);
    for (SlotListener** at = &head_; *at != nullptr; at = &(*at)->next_) {
      if (*at != &listener) continue;
      *at = listener.next_;
      return;
    }
  }
  void Notify(std::size_t slot) {
    Guard guard(lock_);
    for (SlotListener* l = head_; l != nullptr; l = l->next_) {
      l->callback_(l->context_, slot);
    }
  }

 private:
  SpinLock lock_;
  SlotListener* head_ = nullptr;
};

template <class C>
concept CpuLocal = requires(C& cpu, std::size_t slot, SlotListener& listener) {
  // Number of slots; constant for the life of the policy object, at least 1.
  { cpu.slots() } -> std::same_as<std::size_t>;
  // A slot below slots() that is the caller's until Release, or kNoSlot.
  { cpu.Acquire() } -> std::same_as<std::size_t>;
  // REQUIRES: `slot` came from this thread's last Acquire and is not kNoSlot.
  cpu.Release(slot);
  // The listener is told of each slot that loses its owner from now on / no
  // more, and no call is under way once Unsubscribe has returned.
  cpu.Subscribe(listener);
  cpu.Unsubscribe(listener);
};

// Holds the caller's slot for a scope.
template <CpuLocal C>
class [[nodiscard]] SlotGuard {
 public:
  explicit SlotGuard(C& cpu) : cpu_(cpu), slot_(cpu.Acquire()) {}
  ~SlotGuard() {
    if (slot_ != kNoSlot) cpu_.Release(slot_);
  }
  SlotGuard(const SlotGuard&) = delete;
  SlotGuard& operator=(const SlotGuard&) = delete;
  std::size_t slot() const { return slot_; }

 private:
  C& cpu_;
  std::size_t slot_;
};

// A policy whose Release does nothing may say so with kReleasesNothing and have
// Current() besides: what Acquire would return, or, where Acquire has work to
// do first, kNoSlot or kNoSlot - 1. A fast path looks there and leaves the rest
// to its slow path. Slots are below kMostSlots for every object; Current() may
// return one that is not below this object's slots(), for which Acquire has
// kNoSlot.
template <class C>
concept PeekedCpuLocal = CpuLocal<C> && requires(C& cpu) {
  requires C::kReleasesNothing;
  requires C::kMostSlots >
  0;
  { cpu.Current() } -> std::same_as<std::size_t>;
};

// The caller's slot for a scope that is mostly a fast path.
template <CpuLocal C>
class [[nodiscard]] FastSlot {
 public:
  explicit FastSlot(C& cpu) : cpu_(cpu), slot_(First(cpu)) {}
  ~FastSlot() {
    if constexpr (!PeekedCpuLocal<C>) {
      if (slot_ != kNoSlot) cpu_.Release(slot_);
    }
  }
  FastSlot(const FastSlot&) = delete;
  FastSlot& operator=(const FastSlot&) = delete;
  // The slot, if it is below slots(); else nothing is known yet.
  std::size_t guess() const { return slot_; }
  // The slot, or kNoSlot. REQUIRES: within the scope of the object that made
  // the guess, on the same thread.
  static std::size_t Settle(C& cpu, std::size_t guess) {
    if constexpr (PeekedCpuLocal<C>) {
      return cpu.Acquire();
    } else {
      return guess;
    }
  }

 private:
  static std::size_t First(C& cpu) {
    if constexpr (PeekedCpuLocal<C>) {
      return cpu.Current();
    } else {
      return cpu.Acquire();
    }
  }
  C& cpu_;
  const std::size_t slot_;
};

// Hands out the numbers 0 .. kCapacity-1, the lowest free one first, so that
// the number in use follows the number of threads alive and not of all threads
// that ever were. Lock-free.
//
// Synchronisation edge
//   R1 -> T1  what the old owner wrote to its slot is seen by the next owner.
template <template <class> class Atom = std::atomic>
class SlotNumbers {
 public:
  static constexpr std::size_t kCapacity = 1024;

  // kNoSlot when all are taken.
  std::size_t Take() {
    for (std::size_t w = 0; w < kWords; ++w) {
      // relaxed: a guess; the exchange below decides.
      std::uint64_t used = taken_[w].load(std::memory_order_relaxed);
      while (used != ~std::uint64_t{0}) {
        const auto bit = static_cast<unsigned>(std::countr_one(used));
        // T1, acquire: pairs with R1. relaxed on failure: only a new guess.
        if (taken_[w].compare_exchange_weak(
                used, used | (std::uint64_t{1} << bit),
                std::memory_order_acquire, std::memory_order_relaxed)) {
          return w * 64 + bit;
        }
      }
    }
    return kNoSlot;
  }

  // REQUIRES: `slot` came from Take and was not returned since.
  void Return(std::size_t slot) {
    DMAMAP_ASSERT(slot < kCapacity);
    // R1, release: pairs with T1.
    taken_[slot / 64].fetch_and(~(std::uint64_t{1} << (slot % 64)),
                                std::memory_order_release);
  }

 private:
  static constexpr std::size_t kWords = kCapacity / 64;
  Atom<std::uint64_t> taken_[kWords] = {};
};

// Each thread owns one slot for its life. All ThreadSlots objects share the
// numbering: thread 5 has slot 5 everywhere. A thread whose number is not below
// slots(), and a thread that is past its thread-local destructors, gets
// kNoSlot. Acquire is wait-free after a thread's first call.
// Never call it from a signal handler that may interrupt an Acquire..Release.
class ThreadSlots {
 public:
  static constexpr std::size_t kDefaultSlots = 256;

  explicit ThreadSlots(std::size_t slots = kDefaultSlots)
      : slots_(slots == 0                         ? 1
               : slots > SlotNumbers<>::kCapacity ? SlotNumbers<>::kCapacity
                                                  : slots) {}

  std::size_t slots() const { return slots_; }
  static constexpr bool kReleasesNothing = true;
  static constexpr std::size_t kMostSlots = SlotNumbers<>::kCapacity;
  std::size_t Current() { return current_; }
  std::size_t Acquire() {
    std::size_t number = current_;
    if (number >= slots_) [[unlikely]] {
      if (number != kUnassigned) return kNoSlot;
      number = AssignNumber();
      if (number >= slots_) return kNoSlot;
    }
    return number;
  }
  void Release(std::size_t) {}
  void Subscribe(SlotListener& listener) { listeners_.Add(listener); }
  void Unsubscribe(SlotListener& listener) { listeners_.Remove(listener); }

 private:
  static constexpr std::size_t kUnassigned = kNoSlot - 1;

  // Returns the thread's number when the thread exits.
  struct Owner {
    std::size_t number = kNoSlot;
    ~Owner() {
      // Later thread-local destructors of this thread get kNoSlot.
      current_ = kNoSlot;
      if (number == kNoSlot) return;
      listeners_.Notify(number);
      numbers_.Return(number);
    }
  };

  // Out of the fast path, so that Acquire never runs a thread-local guard.
  static std::size_t AssignNumber() {
    thread_local Owner owner;
    owner.number = numbers_.Take();
    current_ = owner.number;
    return owner.number;
  }

  // constinit and trivially destructible: read without a guard.
  static inline constinit thread_local std::size_t current_ = kUnassigned;
  static inline SlotNumbers<> numbers_;
  static inline SlotListeners listeners_;

  std::size_t slots_;
};
static_assert(PeekedCpuLocal<ThreadSlots>);

// `current()` returns the caller's number. The embedder promises what Acquire
// promises: until Release no other caller (an interrupt on the same CPU
// included) sees the same number. A number that is not below `slots` is taken
// as kNoSlot. Retire(slot) tells the listeners; REQUIRES: nobody uses the slot.
template <class Current>
requires std::convertible_to<std::invoke_result_t<Current&>, std::size_t>
class CallerCpu {
 public:
  CallerCpu(std::size_t slots, Current current)
      : slots_(slots == 0 ? 1 : slots), current_(std::move(current)) {}

  std::size_t slots() const { return slots_; }
  std::size_t Acquire() {
    const std::size_t slot = current_();
    return slot < slots_ ? slot : kNoSlot;
  }
  void Release(std::size_t) {}
  void Subscribe(SlotListener& listener) { listeners_.Add(listener); }
  void Unsubscribe(SlotListener& listener) { listeners_.Remove(listener); }
  void Retire(std::size_t slot) { listeners_.Notify(slot); }

 private:
  std::size_t slots_;
  Current current_;
  SlotListeners listeners_;
};

// The number that a test sets last; kNoSlot plays a thread without a slot.
// Single-threaded. held() tells whether an Acquire waits for its Release.
class FakeCpu {
 public:
  explicit FakeCpu(std::size_t slots = 4) : slots_(slots == 0 ? 1 : slots) {}

  void set_current(std::size_t slot) { current_ = slot; }
  bool held() const { return held_ != 0; }
  void Retire(std::size_t slot) { listeners_.Notify(slot); }

  std::size_t slots() const { return slots_; }
  std::size_t Acquire() {
    if (current_ >= slots_) return kNoSlot;
    ++held_;
    return current_;
  }
  void Release(std::size_t slot) {
    DMAMAP_ASSERT(slot == current_ && held_ > 0);
    (void)slot;
    --held_;
  }
  void Subscribe(SlotListener& listener) { listeners_.Add(listener); }
  void Unsubscribe(SlotListener& listener) { listeners_.Remove(listener); }

 private:
  std::size_t slots_;
  std::size_t current_ = 0;
  std::size_t held_ = 0;
  SlotListeners listeners_;
};
static_assert(CpuLocal<FakeCpu>);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_DMA_CPU_H_
