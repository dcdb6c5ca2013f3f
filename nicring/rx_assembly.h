// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_RX_ASSEMBLY_H_
#define DMAMAP_NICRING_RX_ASSEMBLY_H_

// RxAssembly: the parts of a frame that began, in private memory, until its end
// is seen, which may be in a later poll. The parts have left the queue: their
// buffers are unmapped.
//
// A device that never ends a frame costs at most max_parts buffers: from the
// first part that does not fit on the frame is only counted, part by part, and
// its buffers go straight back. Not thread-safe; no call loops over more than
// max_parts.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>

#include "dma/result.h"
#include "dma/version.h"
#include "nicring/receiver.h"

namespace dmamap::inline v0 {

// Why a frame in the making will be dropped.
enum class RxDrop : std::uint8_t { kNone, kLength, kOverLength, kMapper };

class RxAssembly {
 public:
  // REQUIRES: no frame has begun. kNoMemory.
  Result<void> Init(std::uint32_t max_parts) {
    parts_.reset(new (std::nothrow) RxPart[max_parts]);
    if (!parts_) return Error::kNoMemory;
    max_parts_ = max_parts;
    return Ok();
  }

  // A frame has begun and not ended.
  bool active() const { return active_; }
  void Begin() { active_ = true; }

  RxDrop drop() const { return drop_; }
  std::uint64_t length() const { return length_; }
  std::span<const RxPart> parts() const { return {parts_.get(), count_}; }
  bool full() const { return count_ == max_parts_; }

  // REQUIRES: active(), !full(), drop() == kNone.
  void Add(const RxPart& part) {
    parts_[count_++] = part;
    length_ += part.length;
  }

  // The frame is lost; the first reason counts. Hands each buffer to
  // give_back(const Buffer&).
  template <class GiveBack>
  void Drop(RxDrop reason, GiveBack&& give_back) {
    if (drop_ == RxDrop::kNone) drop_ = reason;
    for (const RxPart& part : parts()) give_back(part.buffer);
    count_ = 0;
  }

  // The frame has ended, and its buffers are somebody else's.
  void End() {
    count_ = 0;
    length_ = 0;
    drop_ = RxDrop::kNone;
    active_ = false;
  }

  bool CheckInvariants() const {
    if (count_ > max_parts_ || (count_ != 0 && !active_)) return false;
    if (drop_ != RxDrop::kNone) return active_ && count_ == 0;
    std::uint64_t sum = 0;
    for (const RxPart& part : parts()) {
      if (part.length == 0 || part.buffer.data == nullptr) return false;
      sum += part.length;
    }
    return sum == length_;
  }

 private:
  std::unique_ptr<RxPart[]> parts_;
  std::uint32_t max_parts_ = 0;
  std::uint32_t count_ = 0;
  std::uint64_t length_ = 0;  // bytes of the parts
  RxDrop drop_ = RxDrop::kNone;
  bool active_ = false;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_RX_ASSEMBLY_H_
