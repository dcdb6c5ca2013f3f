// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_BUFFER_SLAB_H_
#define DMAMAP_NICRING_BUFFER_SLAB_H_

// BufferSlab: one allocation of whole pages, cut into equal buffers, for the
// pools. No page is shared with anything else, no cache line by two buffers:
//
//   | headroom | skew | buffer_bytes | unused | headroom | skew | ...
//   ^ line                                    ^ line
//
// The token of a buffer is its index. The slab does not know which buffers are
// in use. After Init it does not change: any thread may call.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <utility>

#include "dma/address.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

// One buffer: `size` bytes at `data`, which the mapper knows as `address`.
struct Buffer {
  std::byte* data = nullptr;
  PhysAddr address;
  std::uint32_t size = 0;   // bytes
  std::uint32_t token = 0;  // opaque: the pool's own

  friend constexpr bool operator==(const Buffer&, const Buffer&) = default;
};

struct BufferSlabOptions {
  std::uint32_t buffers = 0;       // how many
  std::uint32_t buffer_bytes = 0;  // of each
  // Bytes from a buffer's cache-line boundary to its first byte: 2 puts the IP
  // header of a frame behind a 16-byte descriptor on a word boundary.
  std::uint32_t skew = 0;
  // Bytes in front of each buffer's first that are the buffer's too, for what a
  // stack puts before a frame; rounded up to the cache line. No ring maps them.
  std::uint32_t headroom = 0;
};

class BufferSlab {
 public:
  BufferSlab() = default;
  BufferSlab(const BufferSlab&) = delete;
  BufferSlab& operator=(const BufferSlab&) = delete;
  ~BufferSlab() { Free(); }

  // kBusy the second time; kInvalidArgument for no buffer, an empty one or a
  // skew of a line or more; kOverflow when the sum passes 2^32; kNoMemory.
  Result<void> Init(const BufferSlabOptions& options) {
    if (memory_ != nullptr) return Error::kBusy;
    if (options.buffers == 0 || options.buffer_bytes == 0 ||
        options.skew >= kCacheLine) {
      return Error::kInvalidArgument;
    }
    const std::uint64_t headroom = Lines(options.headroom);
    const std::uint64_t stride =
        headroom + Lines(std::uint64_t{options.buffer_bytes} + options.skew);
    if (stride > UINT32_MAX || stride * options.buffers > UINT32_MAX) {
      return Error::kOverflow;
    }
    const std::size_t bytes =
        (static_cast<std::size_t>(stride) * options.buffers + kPage - 1) /
        kPage * kPage;
    memory_ = static_cast<std::byte*>(
        ::operator new (bytes, std::align_val_t{kPage}, std::nothrow));
    if (memory_ == nullptr) return Error::kNoMemory;
    // A device never sees what the heap held before.
    std::memset(memory_, 0, bytes);
    buffers_ = options.buffers;
    buffer_bytes_ = options.buffer_bytes;
    headroom_ = static_cast<std::uint32_t>(headroom);
    first_ = headroom_ + options.skew;
    stride_ = static_cast<std::uint32_t>(stride);
    return Ok();
  }
  // As before Init. REQUIRES: no buffer is in use.
  void Free() {
    ::operator delete (std::exchange(memory_, nullptr),
                       std::align_val_t{kPage});
    buffers_ = 0;
  }

  std::uint32_t buffers() const { return buffers_; }
  // Bytes in front of each buffer's first.
  std::uint32_t headroom() const { return headroom_; }

  // REQUIRES: index < buffers().
  Buffer At(std::uint32_t index) const {
    std::byte* data = memory_ + std::size_t{stride_} * index + first_;
    return Buffer{data, PhysAddrOf(data), buffer_bytes_, index};
  }
  // True for a buffer that At returns.
  bool IsOne(const Buffer& buffer) const {
    return buffer.token < buffers_ && buffer == At(buffer.token);
  }
  // True for a buffer whose first byte is one of the slab's.
  bool Owns(const Buffer& buffer) const {
    const std::uint64_t offset =
        PhysAddrOf(buffer.data).value() - PhysAddrOf(memory_).value();
    return offset < std::uint64_t{stride_} * buffers_;
  }

  // All bytes that buffers and headrooms lie in. kShutDown before Init.
  Result<PhysRange> memory() const {
    if (memory_ == nullptr) return Error::kShutDown;
    return PhysRange::FromSize(PhysAddrOf(memory_),
                               std::uint64_t{stride_} * buffers_);
  }

 private:
  static constexpr std::size_t kPage = 4096;
  static constexpr std::uint64_t Lines(std::uint64_t bytes) {
    return (bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
  }

  std::byte* memory_ = nullptr;
  std::uint32_t buffers_ = 0;
  std::uint32_t buffer_bytes_ = 0;
  std::uint32_t headroom_ = 0;
  std::uint32_t first_ = 0;   // bytes from a stride's start to its buffer
  std::uint32_t stride_ = 0;  // bytes from one buffer to the next
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_BUFFER_SLAB_H_
