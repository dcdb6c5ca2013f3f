// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_NODE_POOL_H_
#define DMAMAP_IOTLB_NODE_POOL_H_

// NodePool<T>: type-stable objects in chunks, handed out and taken back.
//
// Memory that once was a T stays a T until the pool dies: an object that was
// put back is reused as a T, never as anything else, and no chunk is returned
// before. A pointer that is out of date therefore reads a T (perhaps another
// one), never freed memory.
//
// Reserve is the only call that can fail. A caller reserves what an operation
// may need at most, before it changes anything, and Take succeeds from then on.
//
// Chunks double from about 512 bytes to 2 MiB, so that one mapping costs under
// a page and a million cost no more than one chunk too many. Those of 1 MiB and
// more are whole multiples of 2 MiB: huge pages, where the memory source has
// them.
//
// T offers `static T*& PoolLink(T&)`, a field that is free while the object is.
// Not thread-safe: the writer's.

#include <cstddef>
#include <limits>
#include <new>
#include <type_traits>
#include <utility>

#include "dma/assert.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "iotlb/heap_memory.h"

namespace dmamap::inline v0 {

template <class T, NodeMemory Memory = HeapMemory>
class NodePool {
  static_assert(std::is_default_constructible_v<T>);

 public:
  explicit NodePool(Memory memory = Memory()) : memory_(std::move(memory)) {}
  ~NodePool() {
    while (chunks_ != nullptr) {
      Chunk *const chunk = std::exchange(chunks_, chunks_->next);
      Destroy(*chunk);
      memory_.Free(chunk, chunk->bytes, kAlignment);
    }
  }
  NodePool(const NodePool &) = delete;
  NodePool &operator=(const NodePool &) = delete;

  // True when `count` calls of Take will succeed from now on; false when the
  // memory source has nothing left, and then nothing has changed.
  [[nodiscard]] bool Reserve(std::size_t count) {
    const std::size_t idle = capacity_ - live_;
    return idle >= count || Grow(count - idle);
  }

  // An object in the state its last user left it, or a new T().
  // REQUIRES: reserved.
  T *Take() {
    DMAMAP_ASSERT(live_ < capacity_);
    ++live_;
    if (free_ != nullptr) {
      T *const object = free_;
      free_ = T::PoolLink(*object);
      return object;
    }
    return ::new (static_cast<void *>(fresh_++)) T();
  }

  // REQUIRES: `object` came from Take and was not put back since.
  void Put(T *object) {
    DMAMAP_ASSERT(live_ > 0);
    T::PoolLink(*object) = free_;
    free_ = object;
    --live_;
  }

  std::size_t live() const { return live_; }
  std::size_t memory_bytes() const { return memory_bytes_; }

 private:
  struct Chunk {
    Chunk *next;
    std::size_t bytes;
  };

  static constexpr std::size_t kAlignment = alignof(T) > kCacheLine
                                                ? alignof(T)
                                                : kCacheLine;
  // The objects begin behind the chunk's header, at their own alignment.
  static constexpr std::size_t kHeader = kAlignment;
  static_assert(sizeof(Chunk) <= kHeader);
  static constexpr std::size_t kFirstBytes = 512;
  static constexpr std::size_t kLargestBytes = std::size_t{2} << 20;

  // What never was a T lies at the end of the newest chunk.
  void Destroy(Chunk &chunk) {
    if constexpr (!std::is_trivially_destructible_v<T>) {
      T *object = FirstIn(&chunk);
      T *end = object + (chunk.bytes - kHeader) / sizeof(T);
      if (end == fresh_end_) end = fresh_;
      for (; object != end; ++object) object->~T();
    }
  }
  static T *FirstIn(void *block) {
    return reinterpret_cast<T *>(static_cast<std::byte *>(block) + kHeader);
  }

  static constexpr std::size_t ObjectsIn(std::size_t bytes) {
    return bytes <= kHeader + sizeof(T) ? 1 : (bytes - kHeader) / sizeof(T);
  }

  // Doubles the pool within the bounds above, but adds at least `least`.
  bool Grow(std::size_t least) {
    std::size_t objects = capacity_;
    if (objects < ObjectsIn(kFirstBytes)) objects = ObjectsIn(kFirstBytes);
    if (objects > ObjectsIn(kLargestBytes)) objects = ObjectsIn(kLargestBytes);
    if (objects < least) objects = least;
    constexpr std::size_t kMost =
        (std::numeric_limits<std::size_t>::max() - kHeader - kLargestBytes) /
        sizeof(T);
    if (objects > kMost) return false;
    std::size_t bytes = kHeader + objects * sizeof(T);
    if (bytes > kLargestBytes / 2) {
      const std::size_t rest = bytes % kLargestBytes;
      if (rest != 0) bytes += kLargestBytes - rest;
      objects = (bytes - kHeader) / sizeof(T);
    }
    void *const block = memory_.Allocate(bytes, kAlignment);
    if (block == nullptr) return false;
    // What the last chunk still has goes to the free list.
    while (fresh_ != fresh_end_) {
      T *const rest = ::new (static_cast<void *>(fresh_++)) T();
      T::PoolLink(*rest) = free_;
      free_ = rest;
    }
    chunks_ = ::new (block) Chunk{chunks_, bytes};
    fresh_ = FirstIn(block);
    fresh_end_ = fresh_ + objects;
    capacity_ += objects;
    memory_bytes_ += bytes;
    return true;
  }

  [[no_unique_address]] Memory memory_;
  Chunk *chunks_ = nullptr;
  T *free_ = nullptr;                          // put back, linked by PoolLink
  T *fresh_ = nullptr, *fresh_end_ = nullptr;  // never handed out yet
  std::size_t live_ = 0;                       // handed out
  std::size_t capacity_ = 0;                   // handed out, free and fresh
  std::size_t memory_bytes_ = 0;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_NODE_POOL_H_
