// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_QEMU_GUEST_POOL_H_
#define DMAMAP_TESTING_QEMU_GUEST_POOL_H_

// GuestPool: a BufferPool whose buffers lie in a machine's memory, each on
// pages of its own, for modes in which a device reaches a buffer itself. Not
// thread-safe; constant time.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "bounce/user_pages.h"
#include "dma/address.h"
#include "dma/result.h"
#include "dma/version.h"
#include "nicring/buffer_pool.h"

namespace dmamap::inline v0 {

struct GuestPoolOptions {
  std::uint32_t buffers = 0;
  std::uint32_t buffer_bytes = 0;
  std::uint32_t offset = 0;  // of a buffer in its first page
};

class GuestPool {
 public:
  GuestPool() = default;
  GuestPool(const GuestPool&) = delete;
  GuestPool& operator=(const GuestPool&) = delete;
  ~GuestPool() {
    if (memory_ != nullptr) pages_->Free(memory_, PageSize(), all_pages());
  }

  // As the pages fail. `pages` must outlive the pool.
  Result<void> Init(UserPages* pages, const GuestPoolOptions& options) {
    if (memory_ != nullptr) return Error::kBusy;
    pages_ = pages;
    options_ = options;
    stride_ = PageSize().PagesFor(options.offset + options.buffer_bytes);
    const auto made = pages->Allocate(PageSize(), all_pages());
    if (!made.ok()) return made.error();
    memory_ = *made;
    used_.assign(options.buffers, false);
    for (std::uint32_t i = options.buffers; i-- > 0;) free_.push_back(i);
    return Ok();
  }

  Result<Buffer> Get() {
    if (free_.empty()) return Error::kPoolEmpty;
    const std::uint32_t index = free_.back();
    free_.pop_back();
    used_[index] = true;
    return At(index);
  }
  Result<void> Put(const Buffer& buffer) {
    if (buffer.token >= used_.size() || !(buffer == At(buffer.token))) {
      return Error::kForeign;
    }
    if (!used_[buffer.token]) return Error::kDoubleFree;
    used_[buffer.token] = false;
    free_.push_back(buffer.token);
    return Ok();
  }
  std::size_t GetBatch(std::span<Buffer> out) { return GetEach(*this, out); }
  Result<void> PutBatch(std::span<const Buffer> in) {
    return PutEach(in, [this](const Buffer& buffer) { return Put(buffer); });
  }
  std::uint32_t headroom() const { return 0; }
  std::size_t free_buffers() const { return free_.size(); }
  // Number `index`, whoever has it.
  Buffer At(std::uint32_t index) const {
    std::byte* const data =
        memory_ + index * stride_ * PageSize().bytes() + options_.offset;
    return {data, PhysAddrOf(data), options_.buffer_bytes, index};
  }

 private:
  std::uint64_t all_pages() const { return stride_ * options_.buffers; }

  UserPages* pages_ = nullptr;
  GuestPoolOptions options_;
  std::uint64_t stride_ = 0;  // pages from one buffer to the next
  std::byte* memory_ = nullptr;
  std::vector<std::uint32_t> free_;
  std::vector<bool> used_;
};
static_assert(BufferPool<GuestPool>);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_QEMU_GUEST_POOL_H_
