// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_COHERENT_POOL_CALLS_H_
#define DMAMAP_DOMAIN_COHERENT_POOL_CALLS_H_

// The calls of CoherentPool. Included by domain/coherent_pool.h alone.

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <utility>

#include "domain/coherent_pool.h"

namespace dmamap::inline v0 {

template <CoherentMapper M, Lock L>
Result<void> CoherentPool<M, L>::Init(const CoherentPoolOptions& o) {
  if (per_chunk_ != 0) return Error::kBusy;
  constexpr std::uint64_t kMost = std::uint64_t{1} << 40;
  const std::uint64_t page = PageSize().bytes();
  if (o.size == 0 || o.size > kMost || !std::has_single_bit(o.alignment) ||
      o.alignment > page || o.chunk_bytes > kMost ||
      (o.boundary != 0 &&
       (!std::has_single_bit(o.boundary) || o.boundary < o.size))) {
    return Error::kInvalidArgument;
  }
  const std::uint64_t stride = (o.size + o.alignment - 1) & ~(o.alignment - 1);
  const std::uint64_t chunk =
      o.chunk_bytes != 0 ? o.chunk_bytes : std::max(page, o.size);
  // Chunks begin on a page, and a boundary above that may fall anywhere in one
  // that is longer than a page: then blocks keep to pages.
  std::uint64_t row = o.boundary == 0 ? chunk : o.boundary;
  if (o.boundary > page && chunk > page) {
    if (o.size > page) return Error::kInvalidArgument;
    row = page;
  }
  row = std::max(std::min(row, chunk), o.alignment);
  if (o.size > row) return Error::kInvalidArgument;
  options_ = o;
  options_.chunk_bytes = chunk;
  stride_ = stride;
  row_ = row;
  per_row_ = (row - o.size) / stride + 1;
  // The last row may be short.
  const std::uint64_t rest = chunk % row;
  per_chunk_ = chunk / row * per_row_ +
               (rest < o.size ? 0 : (rest - o.size) / stride + 1);
  return Ok();
}

template <CoherentMapper M, Lock L>
auto CoherentPool<M, L>::NewChunk() -> Result<Chunk*> {
  std::unique_ptr<Chunk> chunk(new (std::nothrow) Chunk);
  if (chunk == nullptr) return Error::kNoMemory;
  const auto words = static_cast<std::size_t>(Words());
  chunk->bits.reset(new (std::nothrow) std::uint64_t[words]());
  chunk->returning.reset(new (std::nothrow) std::uint64_t[words]());
  if (chunk->bits == nullptr || chunk->returning == nullptr) {
    return Error::kNoMemory;
  }
  for (std::uint64_t i = 0; i < per_chunk_; ++i) Flip(chunk->bits, i);
  chunk->free = per_chunk_;
  const Result<CoherentBlock> memory =
      mapper_.AllocateCoherent(options_.chunk_bytes);
  if (!memory.ok()) return memory.error();
  // Mappers whose pages are smaller than ours may begin a block in between.
  const std::uint64_t boundary = std::min(
      std::max<std::uint64_t>(options_.boundary, 1), PageSize().bytes());
  const std::uint64_t begins = std::max(options_.alignment, boundary);
  if (memory->iova.value() % begins != 0) {
    (void)mapper_.FreeCoherent(*memory).ok();
    return Error::kUnsupported;
  }
  chunk->memory = *memory;
  return chunk.release();
}

template <CoherentMapper M, Lock L>
bool CoherentPool<M, L>::TakeFrom(Chunk& chunk, CoherentBlock* block) {
  if (chunk.free == 0) return false;
  while (chunk.bits[chunk.hint] == 0) ++chunk.hint;
  const std::uint64_t i =
      chunk.hint * kBits +
      static_cast<unsigned>(std::countr_zero(chunk.bits[chunk.hint]));
  Flip(chunk.bits, i);
  --chunk.free;
  *block = BlockOf(chunk, i);
  ++stats_.out;
  stats_.high_water = std::max(stats_.high_water, stats_.out);
  return true;
}

template <CoherentMapper M, Lock L>
Result<CoherentBlock> CoherentPool<M, L>::Allocate() {
  if (per_chunk_ == 0) return Error::kShutDown;
  CoherentBlock block;
  bool found = false;
  Chunk* fresh = nullptr;
  while (!found) {
    {
      Guard guard(lock_);
      if (options_.max_blocks != 0 && stats_.out >= options_.max_blocks) {
        if (fresh == nullptr) return Error::kLimit;
      } else {
        if (fresh != nullptr) {
          fresh->next = std::exchange(chunks_, fresh);
          ++stats_.chunks;
          fresh = nullptr;
        }
        // A chunk with a free block comes to the front.
        Chunk** link = &chunks_;
        while (*link != nullptr && (*link)->free == 0) link = &(*link)->next;
        if (Chunk* const c = *link; c != nullptr) {
          *link = c->next;
          c->next = std::exchange(chunks_, c);
          found = TakeFrom(*c, &block);
        }
      }
    }
    if (fresh != nullptr) {  // others have used up the bound meanwhile
      FreeChunk(fresh);
      return Error::kLimit;
    }
    if (found) break;
    const Result<Chunk*> made = NewChunk();
    if (!made.ok()) return made.error();
    fresh = *made;
  }
  if (options_.zero_again) {
    std::memset(block.cpu, 0, static_cast<std::size_t>(block.size));
  }
  return block;
}

template <CoherentMapper M, Lock L>
auto CoherentPool<M, L>::Find(const CoherentBlock& block,
                              std::uint64_t* index) const -> Chunk* {
  for (Chunk* c = chunks_; c != nullptr; c = c->next) {
    if (block.iova < c->memory.iova) continue;
    const std::uint64_t offset = block.iova - c->memory.iova;
    if (offset >= options_.chunk_bytes) continue;
    const std::uint64_t in_row = offset % row_;
    *index = offset / row_ * per_row_ + in_row / stride_;
    const bool good = in_row % stride_ == 0 && in_row / stride_ < per_row_ &&
                      *index < per_chunk_ &&
                      block.cpu == c->memory.cpu + offset &&
                      block.size == options_.size;
    return good ? c : nullptr;
  }
  return nullptr;
}

template <CoherentMapper M, Lock L>
Result<void> CoherentPool<M, L>::Free(const CoherentBlock& block) {
  std::uint64_t i = 0;
  Chunk* chunk = nullptr;
  {
    Guard guard(lock_);
    chunk = Find(block, &i);
    const bool twice =
        chunk != nullptr && (Bit(chunk->bits, i) || Bit(chunk->returning, i));
    if (chunk == nullptr || twice) {
      ++stats_.bad_frees;
      return twice ? Error::kDoubleFree : Error::kForeign;
    }
    Flip(chunk->returning, i);  // this thread's; the chunk stays
  }
  std::memset(block.cpu, 0, static_cast<std::size_t>(block.size));
  Guard guard(lock_);
  Flip(chunk->returning, i);
  Flip(chunk->bits, i);
  ++chunk->free;
  chunk->hint = std::min(chunk->hint, i / kBits);
  --stats_.out;
  return Ok();
}

template <CoherentMapper M, Lock L>
std::uint64_t CoherentPool<M, L>::Trim() {
  Chunk* idle = nullptr;
  {
    Guard guard(lock_);
    for (Chunk** link = &chunks_; *link != nullptr;) {
      Chunk* const c = *link;
      if (c->free != per_chunk_) {
        link = &c->next;
        continue;
      }
      *link = c->next;
      c->next = std::exchange(idle, c);
      --stats_.chunks;
    }
  }
  std::uint64_t count = 0;
  for (; idle != nullptr; ++count) FreeChunk(std::exchange(idle, idle->next));
  return count;
}

template <CoherentMapper M, Lock L>
template <class F>
std::uint64_t CoherentPool<M, L>::ReportLeaks(F&& f) const {
  std::uint64_t count = 0;
  for (const Chunk* c = chunks_; c != nullptr; c = c->next) {
    for (std::uint64_t i = 0; i < per_chunk_; ++i) {
      if (Bit(c->bits, i)) continue;
      ++count;
      f(BlockOf(*c, i));
    }
  }
  return count;
}

template <CoherentMapper M, Lock L>
bool CoherentPool<M, L>::CheckInvariants() const {
  Guard guard(lock_);
  std::uint64_t out = 0;
  std::uint64_t chunks = 0;
  bool good = true;
  for (const Chunk* c = chunks_; c != nullptr; c = c->next, ++chunks) {
    std::uint64_t free = 0;
    for (std::uint64_t w = 0; w < Words(); ++w) {
      free += static_cast<unsigned>(std::popcount(c->bits[w]));
      good = good && c->returning[w] == 0 && (w >= c->hint || c->bits[w] == 0);
    }
    good = good && free == c->free && free <= per_chunk_;
    out += per_chunk_ - free;
  }
  return good && out == stats_.out && chunks == stats_.chunks &&
         stats_.out <= stats_.high_water;
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_COHERENT_POOL_CALLS_H_
