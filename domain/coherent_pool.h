// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_COHERENT_POOL_H_
#define DMAMAP_DOMAIN_COHERENT_POOL_H_

// CoherentPool: small blocks of one size that CPU and device share without
// syncs, carved out of coherent blocks of a mapper: descriptors, command
// blocks, mailboxes (Linux's dma_pool).
//
//   CoherentPool<Domain<>> pool(domain);
//   pool.Init({.size = 48, .alignment = 16, .boundary = 4096});
//   auto block = pool.Allocate();         // block->iova, block->cpu
//   ...
//   pool.Free(*block);
//
// A chunk is one coherent block of chunk_bytes. Its blocks lie in rows that
// cross no boundary: an I/O address is a multiple of the alignment, and no
// block contains a multiple of the boundary but at its first byte. One bit for
// each block says whether it is out; the bits and the order in which blocks
// come back are the CPU's, so that no device can change what is handed out next
// (in Linux's pool the list of free blocks lies in the blocks).
//
// A block is zero whenever it goes out: a chunk is zero when it comes, and a
// block is overwritten with zeros when it comes back, so that nothing of one
// owner is seen by the next one or by the device. (A device that still writes
// to a block which was freed can dirty it; kZero in options makes Allocate
// clear it again.)
//
// What a caller hands back is checked: kForeign (no block of this pool, or not
// its beginning, or another CPU address), kDoubleFree.
//
// Thread-safe. Progress: blocking, as the lock is; it is not held while memory
// is zeroed or taken. Not for an interrupt that may interrupt a call.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "dma/address.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

struct CoherentPoolOptions {
  std::uint64_t size = 0;       // of a block, bytes; not 0
  std::uint64_t alignment = 1;  // of its I/O address, a power of two <= a page
  // A power of two not below the size that no block crosses; 0: none. One above
  // a page is for blocks of at most a page, or chunks of at most one.
  std::uint64_t boundary = 0;
  // What is asked of the mapper at a time; at least a block. 0: a page, or one
  // block if that is larger.
  std::uint64_t chunk_bytes = 0;
  std::uint64_t max_blocks = 0;  // out at a time; 0: no bound
  // Zero a block again as it goes out, for devices that write late.
  bool zero_again = false;
};

struct CoherentPoolStats {
  std::uint64_t out = 0;         // blocks
  std::uint64_t high_water = 0;  // most at a time
  std::uint64_t chunks = 0;
  std::uint64_t bad_frees = 0;
};

template <CoherentMapper M, Lock LockType = SpinLock>
class CoherentPool {
 public:
  explicit CoherentPool(M& mapper) : mapper_(mapper) {}
  CoherentPool(const CoherentPool&) = delete;
  CoherentPool& operator=(const CoherentPool&) = delete;
  // Gives every chunk back, blocks that are out included: ReportLeaks first.
  // REQUIRES: no call is under way and no device uses a block.
  ~CoherentPool() {
    while (chunks_ != nullptr) FreeChunk(std::exchange(chunks_, chunks_->next));
  }

  // kInvalidArgument: CoherentPoolOptions says what must hold; kBusy the second
  // time. Takes no memory. Not thread-safe.
  Result<void> Init(const CoherentPoolOptions& options);

  // A zeroed block. As the mapper's AllocateCoherent fails; kNoMemory; kLimit
  // (max_blocks); kUnsupported when the mapper's blocks do not begin where the
  // alignment asks for it; kShutDown before Init.
  Result<CoherentBlock> Allocate();
  // kForeign, kDoubleFree: nothing has changed.
  Result<void> Free(const CoherentBlock& block);

  // Gives chunks back of which no block is out; how many. What the mapper says
  // of one is in no way the caller's to mend: it counts as gone.
  std::uint64_t Trim();

  // f(const CoherentBlock&) for each block that is out, without the lock; how
  // many. REQUIRES: no other call is under way.
  template <class F>
  std::uint64_t ReportLeaks(F&& f) const;

  CoherentPoolStats stats() const {
    Guard guard(lock_);
    return stats_;
  }
  // REQUIRES: no other call is under way.
  bool CheckInvariants() const;

 private:
  static constexpr unsigned kBits = 64;

  struct Chunk {
    CoherentBlock memory;
    Chunk* next = nullptr;
    std::uint64_t free = 0;  // blocks
    std::uint64_t hint = 0;  // no word before it has a free block
    // A set bit: the block is free. Cleared ones of the tail never are.
    std::unique_ptr<std::uint64_t[]> bits;
    // A set bit: the block is on its way back, neither out nor free.
    std::unique_ptr<std::uint64_t[]> returning;
  };

  // Offset of block `i` of a chunk.
  std::uint64_t OffsetOf(std::uint64_t i) const {
    return i / per_row_ * row_ + i % per_row_ * stride_;
  }
  std::uint64_t Words() const { return (per_chunk_ + kBits - 1) / kBits; }
  CoherentBlock BlockOf(const Chunk& c, std::uint64_t i) const {
    const std::uint64_t offset = OffsetOf(i);
    return {c.memory.iova + offset, c.memory.cpu + offset, options_.size};
  }
  static bool Bit(const std::unique_ptr<std::uint64_t[]>& bits,
                  std::uint64_t i) {
    return (bits[i / kBits] >> i % kBits & 1) != 0;
  }
  static void Flip(std::unique_ptr<std::uint64_t[]>& bits, std::uint64_t i) {
    bits[i / kBits] ^= std::uint64_t{1} << i % kBits;
  }

  Result<Chunk*> NewChunk();
  void FreeChunk(Chunk* chunk) {
    (void)mapper_.FreeCoherent(chunk->memory).ok();
    delete chunk;
  }
  // REQUIRES (both): the lock.
  bool TakeFrom(Chunk& chunk, CoherentBlock* block);
  Chunk* Find(const CoherentBlock& block, std::uint64_t* index) const;

  M& mapper_;
  CoherentPoolOptions options_;
  std::uint64_t stride_ = 0;     // from one block of a row to the next
  std::uint64_t row_ = 0;        // bytes from one row to the next
  std::uint64_t per_row_ = 0;    // blocks
  std::uint64_t per_chunk_ = 0;  // 0: Init has not been called
  mutable LockType lock_;
  // Guarded by lock_.
  Chunk* chunks_ = nullptr;
  CoherentPoolStats stats_;
};

}  // namespace dmamap::inline v0

#include "domain/coherent_pool_calls.h"  // IWYU pragma: export

#endif  // DMAMAP_DOMAIN_COHERENT_POOL_H_
