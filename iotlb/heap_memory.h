// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOTLB_HEAP_MEMORY_H_
#define DMAMAP_IOTLB_HEAP_MEMORY_H_

// Where nodes, records and tables come from: the NodeMemory seam, and its
// default.
//
// HeapMemory takes small blocks from the C++ heap. Whole multiples of 2 MiB,
// which is what a large pool asks for, it maps by itself on Linux, aligned, and
// asks the kernel for huge pages there: a search in a large IOTLB touches a
// page for each line otherwise, and spends more time on translations of its own
// addresses than on the lines. Where the kernel gives none, these are pages
// like others. Without Linux, or with DMAMAP_NO_HUGE_MEMORY, all is heap.
//
// Thread-safe, as the heap is. Facts: mmap(2), madvise(2).

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <new>

#include "dma/version.h"

#if defined(__linux__) && !defined(DMAMAP_NO_HUGE_MEMORY)
#define DMAMAP_HAS_HUGE_MEMORY 1
#include <sys/mman.h>
#else
#define DMAMAP_HAS_HUGE_MEMORY 0
#endif

namespace dmamap::inline v0 {

// Where nodes come from. A small handle: each pool keeps a copy.
template <class M>
concept NodeMemory = std::copy_constructible<M> &&
    requires(M &m, void *block, std::size_t bytes, std::size_t alignment) {
  // `bytes` bytes at a multiple of `alignment` (a power of two), or nullptr.
  { m.Allocate(bytes, alignment) } -> std::same_as<void *>;
  // REQUIRES: Allocate(bytes, alignment) returned `block`.
  m.Free(block, bytes, alignment);
};

class HeapMemory {
 public:
  // A huge page on x86-64, and on aarch64 with pages of 4 KiB.
  static constexpr std::size_t kHugeBytes = std::size_t{2} << 20;

  void *Allocate(std::size_t bytes, std::size_t alignment) {
    if (IsHuge(bytes, alignment)) return Map(bytes);
    return ::operator new(bytes, std::align_val_t(alignment), std::nothrow);
  }
  void Free(void *block, std::size_t bytes, std::size_t alignment) {
    if (IsHuge(bytes, alignment)) {
      Unmap(block, bytes);
    } else {
      ::operator delete(block, std::align_val_t(alignment));
    }
  }

 private:
  static constexpr bool IsHuge(std::size_t bytes, std::size_t alignment) {
    return DMAMAP_HAS_HUGE_MEMORY != 0 && bytes != 0 &&
           bytes % kHugeBytes == 0 && alignment <= kHugeBytes;
  }

#if DMAMAP_HAS_HUGE_MEMORY
  static void *Map(std::size_t bytes) {
    if (bytes > std::numeric_limits<std::size_t>::max() - kHugeBytes) {
      return nullptr;
    }
    void *const all =
        ::mmap(nullptr, bytes + kHugeBytes, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) return nullptr;
    // What lies before the first multiple of a huge page and behind the block
    // goes back.
    auto *const from = static_cast<std::byte *>(all);
    const std::size_t past = reinterpret_cast<std::uintptr_t>(all) % kHugeBytes;
    const std::size_t before = past == 0 ? 0 : kHugeBytes - past;
    if (before != 0) (void)::munmap(from, before);
    std::byte *const block = from + before;
    if (before != kHugeBytes) {
      (void)::munmap(block + bytes, kHugeBytes - before);
    }
    // A kernel that declines gives pages of the usual size.
    (void)::madvise(block, bytes, MADV_HUGEPAGE);
    return block;
  }
  static void Unmap(void *block, std::size_t bytes) {
    (void)::munmap(block, bytes);
  }
#else
  static void *Map(std::size_t) { return nullptr; }
  static void Unmap(void *, std::size_t) {}
#endif
};
static_assert(NodeMemory<HeapMemory>);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOTLB_HEAP_MEMORY_H_
