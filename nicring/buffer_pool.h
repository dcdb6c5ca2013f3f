// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_BUFFER_POOL_H_
#define DMAMAP_NICRING_BUFFER_POOL_H_

// BufferPool: where a ring's buffers come from; and FixedPool, a simple one for
// one thread. CpuPool (cpu_pool.h) is the one that CPUs share.
//
// An empty pool is a value (kPoolEmpty), never an abort: the ring lives on with
// the buffers it has and asks again at the next refill.
//
// FixedPool keeps a stack of the free buffers, the last one returned on top
// (its lines are the warmest). Not thread-safe; Get and Put take constant time.
// Its bookkeeping lies in an allocation of its own, away from what a device is
// shown.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>

#include "dma/address.h"
#include "dma/result.h"
#include "dma/version.h"
#include "nicring/buffer_slab.h"

namespace dmamap::inline v0 {

template <class P>
concept BufferPool = requires(P& p, const P& c, const Buffer& buffer,
                              std::span<Buffer> out,
                              std::span<const Buffer> in) {
  // A buffer that nobody else uses; kPoolEmpty when there is none now.
  { p.Get() } -> std::same_as<Result<Buffer>>;
  // Takes back a buffer that Get returned.
  { p.Put(buffer) } -> std::same_as<Result<void>>;
  // How many it put to the front of `out`: fewer than asked when it ran empty.
  { p.GetBatch(out) } -> std::same_as<std::size_t>;
  // Takes back each as Put does. The error of the first that was refused; those
  // behind it are taken back all the same.
  { p.PutBatch(in) } -> std::same_as<Result<void>>;
  // Bytes in front of each buffer's first that its user may write.
  { c.headroom() } -> std::same_as<std::uint32_t>;
};

// GetBatch and PutBatch for a pool that has nothing better.
template <class P>
std::size_t GetEach(P& pool, std::span<Buffer> out) {
  std::size_t n = 0;
  for (; n < out.size(); ++n) {
    const Result<Buffer> buffer = pool.Get();
    if (!buffer.ok()) break;
    out[n] = *buffer;
  }
  return n;
}
// put: Result<void>(const Buffer&)
template <class Put>
Result<void> PutEach(std::span<const Buffer> in, Put&& put) {
  Result<void> all;
  for (const Buffer& buffer : in) {
    const Result<void> done = put(buffer);
    if (all.ok() && !done.ok()) all = done;
  }
  return all;
}

using FixedPoolOptions = BufferSlabOptions;

class FixedPool {
 public:
  // As BufferSlab::Init.
  Result<void> Init(const FixedPoolOptions& options) {
    const Result<void> made = slab_.Init(options);
    if (!made.ok()) return made;
    free_.reset(new (std::nothrow) std::uint32_t[options.buffers]);
    used_.reset(new (std::nothrow) bool[options.buffers]());
    if (!free_ || !used_) {
      slab_.Free();
      return Error::kNoMemory;
    }
    for (std::uint32_t i = 0; i < options.buffers; ++i) {
      free_[i] = options.buffers - 1 - i;
    }
    free_count_ = options.buffers;
    return Ok();
  }

  // kPoolEmpty; also before Init.
  Result<Buffer> Get() {
    if (free_count_ == 0) return Error::kPoolEmpty;
    const std::uint32_t index = free_[--free_count_];
    used_[index] = true;
    return slab_.At(index);
  }
  // kForeign for a buffer that is not of this pool, kDoubleFree for one that is
  // in it already. Nothing changes then.
  Result<void> Put(const Buffer& buffer) {
    if (!slab_.IsOne(buffer)) return Error::kForeign;
    if (!used_[buffer.token]) return Error::kDoubleFree;
    used_[buffer.token] = false;
    free_[free_count_++] = buffer.token;
    return Ok();
  }
  std::size_t GetBatch(std::span<Buffer> out) {
    const std::size_t n = out.size() < free_count_ ? out.size() : free_count_;
    for (Buffer& buffer : out.first(n)) {
      const std::uint32_t index = free_[--free_count_];
      used_[index] = true;
      buffer = slab_.At(index);
    }
    return n;
  }
  Result<void> PutBatch(std::span<const Buffer> in) {
    return PutEach(in, [this](const Buffer& buffer) { return Put(buffer); });
  }

  std::uint32_t headroom() const { return slab_.headroom(); }
  std::uint32_t free_buffers() const { return free_count_; }
  std::uint32_t used_buffers() const { return slab_.buffers() - free_count_; }
  // True for a buffer whose bytes are this pool's.
  bool Owns(const Buffer& buffer) const { return slab_.Owns(buffer); }
  // All bytes that buffers lie in. kShutDown before Init.
  Result<PhysRange> memory() const { return slab_.memory(); }

  bool CheckInvariants() const {
    std::uint32_t used = 0;
    for (std::uint32_t i = 0; i < slab_.buffers(); ++i) used += used_[i];
    for (std::uint32_t i = 0; i < free_count_; ++i) {
      if (free_[i] >= slab_.buffers() || used_[free_[i]]) return false;
    }
    return used + free_count_ == slab_.buffers();
  }

 private:
  BufferSlab slab_;
  std::unique_ptr<std::uint32_t[]> free_;  // [0, free_count_): free indices
  std::unique_ptr<bool[]> used_;
  std::uint32_t free_count_ = 0;
};
static_assert(BufferPool<FixedPool>);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_BUFFER_POOL_H_
