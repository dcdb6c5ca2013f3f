// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_BYTE_CHECK_H_
#define DMAMAP_BENCHMARKS_BYTE_CHECK_H_

// Bytes to send through a mapping, memory to send them from, and the count of
// those that arrive changed.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "benchmarks/trace.h"

namespace dmamap::bench {

// Fills memory with bytes that are new each time, at the speed of a copy: each
// call takes another window of one block of random bytes.
class Pattern {
 public:
  Pattern() : block_(2 * kWindow) {
    std::mt19937_64 random(kSeed);
    for (std::byte& b : block_) b = static_cast<std::byte>(random());
  }

  void Fill(std::span<std::byte> to) {
    while (!to.empty()) {
      // An odd step: each window of the block comes up once in kWindow calls.
      at_ = (at_ + kStep) % kWindow;
      const std::size_t n = std::min(to.size(), kWindow);
      std::memcpy(to.data(), block_.data() + at_, n);
      to = to.subspan(n);
    }
  }

 private:
  static constexpr std::size_t kWindow = std::size_t{1} << 16;
  static constexpr std::size_t kStep = 40'503;
  static constexpr std::uint64_t kSeed = 8255;

  std::vector<std::byte> block_;
  std::size_t at_ = 0;
};

// How many bytes differ. REQUIRES: equal sizes.
inline std::uint64_t CountWrong(std::span<const std::byte> got,
                                std::span<const std::byte> expected) {
  if (got.empty() ||
      std::memcmp(got.data(), expected.data(), got.size()) == 0) {
    return 0;
  }
  std::uint64_t wrong = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    wrong += got[i] == expected[i] ? 0 : 1;
  }
  return wrong;
}

// A driver's buffer between two guards that nobody may write to, and beside it
// what the buffer must hold now and what the device must see now.
class CheckedBuffer {
 public:
  static constexpr std::size_t kGuard = 64;  // bytes on each side

  // `size` bytes at `offset` in a page. REQUIRES: offset < kTracePage.
  CheckedBuffer(std::size_t offset, std::size_t size)
      : pages_(PagesFor(offset + size)),
        memory_(static_cast<std::byte*>(::operator new (
            (pages_ + 2) * kTracePage, std::align_val_t{kTracePage}))) {
    Reset(offset, size);
  }

  // Pages that hold `bytes` bytes from a page's start.
  static std::size_t PagesFor(std::size_t bytes) {
    return (bytes + kTracePage - 1) / kTracePage;
  }
  std::size_t pages() const { return pages_; }

  // Another place and size. REQUIRES: it fits pages().
  void Reset(std::size_t offset, std::size_t size) {
    data_ = memory_.get() + kTracePage + offset;
    size_ = size;
    host_.resize(size);
    device_.resize(size);
  }

  std::span<std::byte> data() { return {data_, size_}; }
  std::span<std::byte> data(std::size_t offset, std::size_t size) {
    return data().subspan(offset, size);
  }
  // What the device must see.
  std::span<const std::byte> device() const { return device_; }
  std::span<const std::byte> device(std::size_t offset,
                                    std::size_t size) const {
    return device().subspan(offset, size);
  }

  // The driver writes all of it, before it is mapped.
  void FillAll(Pattern& pattern) {
    pattern.Fill({data_ - kGuard, size_ + 2 * kGuard});
    std::memcpy(guards_, data_ - kGuard, kGuard);
    std::memcpy(guards_ + kGuard, data_ + size_, kGuard);
    std::memcpy(host_.data(), data_, size_);
    std::memcpy(device_.data(), data_, size_);
  }
  // The driver writes a part.
  void Write(std::size_t offset, std::size_t size, Pattern& pattern) {
    pattern.Fill(data(offset, size));
    std::memcpy(host_.data() + offset, data_ + offset, size);
  }
  // The device wrote `bytes` at `offset`.
  void DeviceWrote(std::size_t offset, std::span<const std::byte> bytes) {
    std::memcpy(device_.data() + offset, bytes.data(), bytes.size());
  }
  // A sync, or the end of a mapping, brought a part over.
  void ToHost(std::size_t offset, std::size_t size) {
    std::memcpy(host_.data() + offset, device_.data() + offset, size);
  }
  void ToDevice(std::size_t offset, std::size_t size) {
    std::memcpy(device_.data() + offset, host_.data() + offset, size);
  }

  // Bytes of the buffer and its guards that are not what they must be.
  std::uint64_t CountWrongInHost() const {
    return CountWrong({data_, size_}, host_) +
           CountWrong({data_ - kGuard, kGuard}, {guards_, kGuard}) +
           CountWrong({data_ + size_, kGuard}, {guards_ + kGuard, kGuard});
  }

 private:
  struct Delete {
    void operator()(std::byte* memory) const {
      ::operator delete (memory, std::align_val_t{kTracePage});
    }
  };

  std::size_t pages_;  // between one page in front and one behind
  std::unique_ptr<std::byte, Delete> memory_;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::vector<std::byte> host_;
  std::vector<std::byte> device_;
  std::byte guards_[2 * kGuard] = {};
};

// Buffers to use again: a driver's pool. It keeps a bounded number of pages.
class CheckedBuffers {
 public:
  std::unique_ptr<CheckedBuffer> Take(std::size_t offset, std::size_t size) {
    auto& free = free_[CheckedBuffer::PagesFor(offset + size)];
    if (free.empty()) return std::make_unique<CheckedBuffer>(offset, size);
    std::unique_ptr<CheckedBuffer> buffer = std::move(free.back());
    free.pop_back();
    free_pages_ -= buffer->pages();
    buffer->Reset(offset, size);
    return buffer;
  }
  void Put(std::unique_ptr<CheckedBuffer> buffer) {
    if (free_pages_ + buffer->pages() > kMaxFreePages) return;  // freed
    free_pages_ += buffer->pages();
    free_[buffer->pages()].push_back(std::move(buffer));
  }

 private:
  static constexpr std::size_t kMaxFreePages = std::size_t{1} << 15;  // 128 MiB

  std::size_t free_pages_ = 0;
  // By pages.
  absl::flat_hash_map<std::size_t, std::vector<std::unique_ptr<CheckedBuffer>>>
      free_;
};

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_BYTE_CHECK_H_
