// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_RX_CHAINS_CONSUME_H_
#define DMAMAP_NICRING_RX_CHAINS_CONSUME_H_

// How a used chain of an RxChains is consumed, buffer by buffer. All that is
// decided by what the device wrote. Included by nicring/rx_chains.h alone.

#include <cstddef>
#include <cstdint>
#include <utility>

#include "dma/assert.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"
#include "nicring/format.h"
#include "nicring/rx_chains.h"
#include "nicring/rx_queue.h"
#include "nicring/virtio_layout.h"

namespace dmamap::inline v0 {

template <class Access, Mapper MapperType, RxChecks kChecks>
inline Result<void> RxChains<Access, MapperType, kChecks>::Take(
    std::uint32_t chain, std::uint32_t bytes) {
  DMAMAP_ASSERT(!taken());
  if (kChecks == RxChecks::kAll &&
      (chain >= chains_ || state_[chain] != State::kLive)) {
    return Error::kDevice;
  }
  state_[chain] = State::kTaken;
  --live_;
  taken_ = chain;
  part_ = 0;
  left_ = bytes;
  // A buffer in the middle of a mergeable frame has no header.
  offset_ = frame_left_ == 0 ? virtio::kNetHeaderBytes : 0;
  synced_ = false;
  return Ok();
}

template <class Access, Mapper MapperType, RxChecks kChecks>
inline RxFound RxChains<Access, MapperType, kChecks>::Look() {
  if (untouched_ != 0) return {RxLook::kSkipped, untouched_};
  // A header that the device did not write whole is not looked at.
  if (!kSyncsNothing<MapperType> && offset_ != 0 && !synced_ &&
      left_ >= virtio::kNetHeaderBytes) {
    const RxArmed& head = *At(taken_, part_);
    const Result<void> synced =
        mapper_->SyncForCpu(head.mapping, head.offset, virtio::kNetHeaderBytes);
    if (!synced.ok()) return {RxLook::kFailed, 0};
  }
  synced_ = true;
  return {RxLook::kComplete, 0};
}

// The first buffer of a frame: what its header says, and no byte of data yet. A
// header that cannot be makes a frame of length 0, which no policy delivers.
template <class Access, Mapper MapperType, RxChecks kChecks>
inline Completion RxChains<Access, MapperType, kChecks>::ReadHeader() {
  const std::byte* header = At(taken_, part_)->buffer.data;
  Completion impossible{true, 0, 0, true};
  if (kChecks == RxChecks::kAll && left_ < virtio::kNetHeaderBytes) {
    left_ = 0;
    return impossible;
  }
  left_ -= virtio::kNetHeaderBytes;
  frame_status_ = Access::Load16(header + virtio::kHeaderFlagsAt);
  frame_left_ = 1;
  if (mergeable()) {
    frame_left_ = Access::Load16(header + virtio::kHeaderBuffersAt);
    if (kChecks == RxChecks::kAll &&
        (frame_left_ == 0 || frame_left_ > chains_)) {
      frame_left_ = left_ = 0;
      return impossible;
    }
  }
  return Completion{true, 0, frame_status_, false};
}

template <class Access, Mapper MapperType, RxChecks kChecks>
[[gnu::always_inline]] inline Completion
RxChains<Access, MapperType, kChecks>::Snapshot() {
  if (simple()) [[likely]] {  // the same as below, with what is known put in
    const std::byte* const header = slots_[taken_]->buffer.data;
    if (kChecks == RxChecks::kAll && left_ < virtio::kNetHeaderBytes) {
      return {true, 0, 0, true};
    }
    return {true, left_ - virtio::kNetHeaderBytes,
            Access::Load16(header + virtio::kHeaderFlagsAt), true};
  }
  Completion completion{true, 0, frame_status_, false};
  if (offset_ != 0) completion = ReadHeader();
  const bool ends = part_ + 1 == options_.chain;
  if (!completion.last) {
    completion.length = ends || left_ < room() ? left_ : room();
    left_ -= completion.length;
    if (ends || left_ == 0) completion.last = --frame_left_ == 0;
  }
  // What the frame did not reach; a chain of one has no such thing.
  if (completion.last) untouched_ = options_.chain - part_ - 1;
  return completion;
}

template <class Access, Mapper MapperType, RxChecks kChecks>
[[gnu::always_inline]] inline RxArmed*
RxChains<Access, MapperType, kChecks>::Pop() {
  DMAMAP_ASSERT(taken());
  RxArmed* const popped = Empty(At(taken_, part_));
  if (simple()) [[likely]] {
    synced_ = false;
    offset_ = 0;
    state_[taken_] = State::kFree;
    free_[free_count_++] = std::exchange(taken_, kNone);
    return popped;
  }
  // The buffers behind the one just seen are untouched from here on.
  if (synced_) {
    synced_ = false;
  } else {
    --untouched_;
  }
  offset_ = 0;
  if (++part_ == options_.chain) {
    state_[taken_] = State::kFree;
    // Below the chain that is being filled.
    free_[free_count_] = filled_ == 0 ? taken_ : free_[free_count_ - 1];
    if (filled_ != 0) free_[free_count_ - 1] = taken_;
    ++free_count_;
    taken_ = kNone;
  }
  return popped;
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_RX_CHAINS_CONSUME_H_
