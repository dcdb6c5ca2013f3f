// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_CPU_POOL_H_
#define DMAMAP_NICRING_CPU_POOL_H_

// CpuPool: a BufferPool that CPUs share. Each slot of the CpuLocal policy
// caches up to `cache` free buffers, which its owner takes and puts without a
// lock or an atomic read-modify-write; half a cache at a time goes to the store
// or comes from it, under a spin lock. So one CPU that only gets and one that
// only puts meet once for each cache/2 buffers. Slots that the policy cannot
// give (kNoSlot) use the store alone: slower, never wrong.
//
// Every buffer is in the store, in one slot's cache, or in use. Nobody takes
// from another's cache: kPoolEmpty says that the store and the caller's own are
// empty, while up to `cache` buffers a slot may lie elsewhere. So a pool has
// that many more buffers than are to be in use at a time, or a smaller `cache`.
// What an exiting thread cached goes back to the store.
//
// Who writes what: a slot is its owner's alone (others read its count, as a
// statistic), the store is the lock holder's. Whether a buffer is in use is a
// byte that Get and Put write: PutCheck.
//
// Synchronisation edges: the store's lock (dma/sync.h, U1 -> L1), and what the
// CpuLocal policy promises of a slot that changes its owner. What a user wrote
// into a buffer is seen by the next one.
//
// Progress: wait-free within the cache; else at most cache/2 steps under the
// store's lock. Not from an interrupt handler over another call of its CPU.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <type_traits>
#include <utility>

#include "dma/address.h"
#include "dma/assert.h"
#include "dma/atom.h"
#include "dma/counter.h"
#include "dma/cpu.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "nicring/buffer_pool.h"
#include "nicring/buffer_slab.h"

namespace dmamap::inline v0 {

// Which wrong Put is found, and refused. A foreign or changed buffer always is,
// but with kOff. None finds a put by somebody who has no right to a buffer that
// is in use again.
enum class PutCheck : std::uint8_t {
  kOff,      // REQUIRES: each buffer is this pool's, and in use
  kOrdered,  // of a second put that is ordered behind the first
  kRacing,   // also of two at the same time: an atomic exchange each
};

struct CpuPoolOptions {
  BufferSlabOptions slab{};
  std::uint32_t cache = 64;  // free buffers that a slot keeps, at most
};

struct CpuPoolStats {
  std::uint64_t empty = 0;         // buffers that Get or GetBatch had not
  std::uint64_t refused = 0;       // wrong puts
  std::uint64_t store_visits = 0;  // under the lock
};

template <CpuLocal Cpu = ThreadSlots, PutCheck kCheck = PutCheck::kOrdered,
          template <class> class Atom = std::atomic>
class CpuPool {
 public:
  static constexpr std::uint32_t kMaxCache = 64;

  // The arguments make the CpuLocal policy.
  template <class... Args>
  explicit CpuPool(Args&&... cpu)
      : cpu_(std::forward<Args>(cpu)...), listener_(&OnRetired, this) {}
  CpuPool(const CpuPool&) = delete;
  CpuPool& operator=(const CpuPool&) = delete;
  // REQUIRES: nobody else uses the pool. So for Init and CheckInvariants.
  ~CpuPool() {
    if (slots_) cpu_.Unsubscribe(listener_);
  }

  // As BufferSlab::Init; kLimit for a cache above kMaxCache.
  Result<void> Init(const CpuPoolOptions& options);

  // kPoolEmpty; also before Init.
  Result<Buffer> Get() {
    const SlotGuard<Cpu> guard(cpu_);
    std::uint32_t token = 0;
    if (!Take(SlotOf(guard.slot()), token)) [[unlikely]] {
      CountEmpty(1);
      return Error::kPoolEmpty;
    }
    return slab_.At(token);
  }
  // kForeign for a buffer that is not of this pool, kDoubleFree for one that is
  // in it already. Nothing changes then.
  Result<void> Put(const Buffer& buffer) { return PutBatch({&buffer, 1}); }
  std::size_t GetBatch(std::span<Buffer> out) {
    const SlotGuard<Cpu> guard(cpu_);
    Slot* const slot = SlotOf(guard.slot());
    std::uint32_t token = 0;
    std::size_t n = 0;
    for (; n < out.size() && Take(slot, token); ++n) out[n] = slab_.At(token);
    if (n < out.size()) CountEmpty(out.size() - n);
    return n;
  }
  Result<void> PutBatch(std::span<const Buffer> in) {
    const SlotGuard<Cpu> guard(cpu_);
    Slot* const slot = SlotOf(guard.slot());
    return PutEach(in, [&](const Buffer& buffer) {
      const Result<void> good = Claim(buffer);
      if (good.ok()) Give(slot, buffer.token);
      return good;
    });
  }

  // What the caller's slot caches goes to the store.
  void Flush() {
    const SlotGuard<Cpu> guard(cpu_);
    if (Slot* const slot = SlotOf(guard.slot())) Spill(*slot, Count(*slot));
  }

  Cpu& cpu() { return cpu_; }
  std::uint32_t buffers() const { return slab_.buffers(); }
  std::uint32_t headroom() const { return slab_.headroom(); }
  // In the store and all caches. Exact while nobody gets or puts.
  std::uint32_t free_buffers() const {
    // relaxed: a statistic.
    std::uint32_t n = stored_.load(std::memory_order_relaxed);
    for (std::size_t i = 0; i < slot_count_; ++i) n += Count(slots_[i]);
    return n;
  }
  CpuPoolStats stats() const {
    // relaxed: statistics.
    return {empty_.load(std::memory_order_relaxed),
            refused_.load(std::memory_order_relaxed), visits_.value()};
  }
  // All bytes that buffers lie in. kShutDown before Init.
  Result<PhysRange> memory() const { return slab_.memory(); }

  bool CheckInvariants() const;

 private:
  using Token = PlainFor<Atom, std::uint32_t>;
  struct alignas(kCacheLine) Slot {
    Atom<std::uint32_t> count{0};
    std::array<Token, kMaxCache> token;  // [0, count), the warmest last
  };

  // Null for the store alone.
  Slot* SlotOf(std::size_t slot) {
    return slot < slot_count_ ? &slots_[slot] : nullptr;
  }
  // relaxed, here and below: one writer; others only read a statistic.
  static std::uint32_t Count(const Slot& slot) {
    return slot.count.load(std::memory_order_relaxed);
  }
  static void SetCount(Slot& slot, std::uint32_t n) {
    slot.count.store(n, std::memory_order_relaxed);
  }

  // A free buffer, in use from now on.
  bool Take(Slot* slot, std::uint32_t& token) {
    std::uint32_t n = 1;
    if (slot == nullptr) [[unlikely]] {
      if (Fetch(1, [&](std::uint32_t t) { token = t; }) == 0) return false;
    } else {
      n = Count(*slot);
      if (n == 0) [[unlikely]] {
        n = Refill(*slot);
        if (n == 0) return false;
      }
      token = slot->token[n - 1];
      SetCount(*slot, n - 1);
    }
    // relaxed: who puts it back was given it by its user, in that order.
    if (kCheck != PutCheck::kOff) {
      used_[token].store(1, std::memory_order_relaxed);
    }
    return true;
  }
  // REQUIRES: claimed.
  void Give(Slot* slot, std::uint32_t token) {
    if (slot == nullptr) [[unlikely]] {
      const Guard guard(lock_);
      Store(token);
      return;
    }
    std::uint32_t n = Count(*slot);
    if (n == cache_) [[unlikely]]
      n = Spill(*slot, half_);
    slot->token[n] = token;
    SetCount(*slot, n + 1);
  }

  // The right to put a buffer back, which nobody has after this.
  Result<void> Claim(const Buffer& buffer) {
    if constexpr (kCheck == PutCheck::kOff) {
      DMAMAP_ASSERT(slab_.IsOne(buffer));
      return Ok();
    } else {
      if (!slab_.IsOne(buffer)) [[unlikely]]
        return Refuse(Error::kForeign);
      Atom<std::uint8_t>& used = used_[buffer.token];
      // relaxed: one location decides of several puts; the buffer's bytes are
      // handed over by the lock, or stay with the slot's owner.
      if constexpr (kCheck == PutCheck::kRacing) {
        if (used.exchange(0, std::memory_order_relaxed) != 0) return Ok();
      } else if (used.load(std::memory_order_relaxed) != 0) [[likely]] {
        used.store(0, std::memory_order_relaxed);
        return Ok();
      }
      return Refuse(Error::kDoubleFree);
    }
  }

  // Up to n from the store, to(token) each, the last one put first.
  template <class To>
  std::uint32_t Fetch(std::uint32_t n, To&& to) {
    const Guard guard(lock_);
    visits_.Add();
    const std::uint32_t stored = stored_.load(std::memory_order_relaxed);
    if (n > stored) n = stored;
    for (std::uint32_t i = 0; i < n; ++i) to(store_[stored - 1 - i]);
    stored_.store(stored - n, std::memory_order_relaxed);
    return n;
  }
  // REQUIRES: the lock is held.
  void Store(std::uint32_t token) {
    const std::uint32_t stored = stored_.load(std::memory_order_relaxed);
    store_[stored] = token;
    stored_.store(stored + 1, std::memory_order_relaxed);
  }
  // Half a cache into an empty one; how many it has then.
  [[gnu::noinline]] std::uint32_t Refill(Slot& slot) {
    std::uint32_t n = 0;
    Fetch(half_, [&](std::uint32_t token) { slot.token[n++] = token; });
    return n;
  }
  // The n that were put first go to the store; how many are left.
  [[gnu::noinline]] std::uint32_t Spill(Slot& slot, std::uint32_t n) {
    const std::uint32_t count = Count(slot);
    {
      const Guard guard(lock_);
      visits_.Add();
      for (std::uint32_t i = 0; i < n; ++i) Store(slot.token[i]);
    }
    for (std::uint32_t i = n; i < count; ++i) {
      slot.token[i - n] = std::uint32_t{slot.token[i]};
    }
    SetCount(slot, count - n);
    return count - n;
  }

  // relaxed: statistics.
  [[gnu::noinline]] void CountEmpty(std::size_t n) {
    empty_.fetch_add(n, std::memory_order_relaxed);
  }
  [[gnu::noinline]] Error Refuse(Error error) {
    refused_.fetch_add(1, std::memory_order_relaxed);
    return error;
  }
  static void OnRetired(void* pool, std::size_t slot) {
    CpuPool& self = *static_cast<CpuPool*>(pool);
    if (Slot* const s = self.SlotOf(slot)) self.Spill(*s, Count(*s));
  }

  Cpu cpu_;
  BufferSlab slab_;
  std::uint32_t cache_ = 0;
  std::uint32_t half_ = 0;
  std::size_t slot_count_ = 0;
  std::unique_ptr<Slot[]> slots_;
  std::unique_ptr<Atom<std::uint8_t>[]> used_;  // 1: in use
  std::unique_ptr<Token[]> store_;              // [0, stored_)
  SlotListener listener_;
  alignas(kCacheLine) BasicSpinLock<Atom> lock_;
  Atom<std::uint32_t> stored_{0};  // written under the lock
  Counter<Atom> visits_;
  Atom<std::uint64_t> empty_{0};
  Atom<std::uint64_t> refused_{0};
};

template <CpuLocal Cpu, PutCheck kCheck, template <class> class Atom>
Result<void> CpuPool<Cpu, kCheck, Atom>::Init(const CpuPoolOptions& options) {
  if (options.cache > kMaxCache) return Error::kLimit;
  const Result<void> made = slab_.Init(options.slab);
  if (!made.ok()) return made;
  const std::uint32_t n = options.slab.buffers;
  const std::size_t slots = options.cache == 0 ? 1 : cpu_.slots();
  store_.reset(new (std::nothrow) Token[n]);
  used_.reset(new (std::nothrow) Atom<std::uint8_t>[n]());
  slots_.reset(new (std::nothrow) Slot[slots]);
  if (!store_ || !used_ || !slots_) {
    slots_.reset();
    slab_.Free();
    return Error::kNoMemory;
  }
  for (std::uint32_t i = 0; i < n; ++i) store_[i] = n - 1 - i;
  stored_.store(n, std::memory_order_relaxed);  // relaxed: nobody else yet
  cache_ = options.cache;
  half_ = (options.cache + 1) / 2;
  slot_count_ = options.cache == 0 ? 0 : slots;
  cpu_.Subscribe(listener_);
  return Ok();
}

template <CpuLocal Cpu, PutCheck kCheck, template <class> class Atom>
bool CpuPool<Cpu, kCheck, Atom>::CheckInvariants() const {
  const std::uint32_t n = slab_.buffers();
  std::unique_ptr<bool[]> seen(new (std::nothrow) bool[n + 1]());
  const std::uint32_t free = free_buffers();
  if (!seen || free > n) return false;
  std::uint32_t found = 0;
  // relaxed: nobody else uses the pool.
  const auto once = [&](std::uint32_t token) {
    if (token >= n || std::exchange(seen[token], true)) return false;
    ++found;
    return kCheck == PutCheck::kOff ||
           used_[token].load(std::memory_order_relaxed) == 0;
  };
  for (std::uint32_t i = 0; i < stored_.load(std::memory_order_relaxed); ++i) {
    if (!once(store_[i])) return false;
  }
  std::uint32_t used = 0;
  for (std::size_t s = 0; s < slot_count_; ++s) {
    if (Count(slots_[s]) > cache_) return false;
    for (std::uint32_t i = 0; i < Count(slots_[s]); ++i) {
      if (!once(slots_[s].token[i])) return false;
    }
  }
  for (std::uint32_t i = 0; i < n; ++i) {
    used += used_[i].load(std::memory_order_relaxed);
  }
  return found == free && (kCheck == PutCheck::kOff || found + used == n);
}
static_assert(BufferPool<CpuPool<>>);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_CPU_POOL_H_
