// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_RX_CHAINS_H_
#define DMAMAP_NICRING_RX_CHAINS_H_

// RxChains: the buffers of a virtqueue, in private memory: what the device was
// offered under which number, and what of a used chain is still to be consumed.
// Split and packed queue have it in common; they add how the device is told.
//
//   free -> filling -> ready -> live -> taken -> free
//     Push fills one chain at a time with `chain` buffers; Publish makes the
//     ready ones live; the device names a live one (Take); Pop empties it.
//
// A number that the device names is checked here before it is an index: it must
// be in range and live, or the queue is broken. Chains are of one fixed length,
// so no link is ever followed that the device could have written.
//
// The head of a frame holds a virtio_net_hdr; with mergeable buffers it says
// how many used buffers the frame takes, and those that follow hold data only.
// The part of a chain that a frame did not reach is handed back as skipped.
//
// Not thread-safe. No loop but over `chain` or all buffers.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

#include "dma/address.h"
#include "dma/assert.h"
#include "dma/direction.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"
#include "nicring/buffer_pool.h"
#include "nicring/format.h"
#include "nicring/rx_queue.h"
#include "nicring/virtio_layout.h"

namespace dmamap::inline v0 {

template <class Access, Mapper MapperType>
class RxChains {
 public:
  // Where the next buffer goes.
  struct Place {
    std::uint32_t chain = 0;  // its number
    std::uint32_t part = 0;   // from 0
    std::uint32_t bytes = 0;
    Iova iova;
    bool ends = false;  // the last of its chain
  };

  // kInvalidArgument, kUnsupported, kNoMemory. Nothing happened then.
  Result<void> Init(MapperType* mapper, const RxQueueOptions& options);

  const RxQueueOptions& options() const { return options_; }
  bool made() const { return slots_ != nullptr; }
  std::uint32_t chains() const { return chains_; }
  std::uint32_t armed() const { return armed_; }  // buffers
  std::uint32_t live() const { return live_; }    // chains
  std::uint32_t ready() const { return ready_; }  // chains
  // No chain can take a buffer now.
  bool full() const { return free_count_ == 0; }

  // True when the device needs no doorbell yet for the `owed` chains that were
  // published since the last one: a batch is not full, and what it was told of
  // before will do. Mergeable buffers are taken for as long as a frame needs
  // more and used only then, so there the largest frame must find room; else
  // device and driver would wait for each other.
  bool MayOwe(std::uint32_t owed) const {
    const std::uint32_t batch = options_.doorbell_batch;
    const std::uint32_t frame =
        mergeable() ? virtio::kLargestFrame / BufferBytes() + 1 : 0;
    const std::uint32_t needed = batch < frame ? frame : batch;
    return owed < batch && live_ >= owed && live_ - owed >= needed;
  }

  // Maps a buffer for the next place; then one of Commit and Undo. kShutDown,
  // kLimit, kInvalidArgument, the mapper's errors.
  Result<Place> Begin(const Buffer& buffer);
  void Commit(const Place& place, const Buffer& buffer);
  Result<void> Undo(const Place& place);

  // The i-th ready chain, in the order they were filled. REQUIRES: i < ready().
  std::uint32_t ReadyChain(std::uint32_t i) const {
    return order_[Wrapped(first_ready_ + i)];
  }
  // The device knows of the first ready chain; of all of them.
  void PublishOne();
  void Publish() {
    while (ready_ != 0) PublishOne();
  }

  // The device has used `bytes` of a chain. kDevice: it has no such chain.
  // REQUIRES: !taken().
  Result<void> Take(std::uint32_t chain, std::uint32_t bytes);
  bool taken() const { return taken_ != kNone; }
  // What a look says while a chain is taken. REQUIRES: taken().
  RxFound Look();
  Completion Snapshot();
  std::uint32_t data_offset() const { return offset_; }
  std::uint32_t room() const { return BufferBytes() - offset_; }
  RxPopped Pop(std::uint32_t length);

  template <class GiveBack>
  void Clear(GiveBack&& give_back);
  bool CheckInvariants() const;

 private:
  static constexpr std::uint32_t kNone = UINT32_MAX;
  enum class State : std::uint8_t { kFree, kFilling, kReady, kLive, kTaken };
  struct Slot {
    Buffer buffer;
    Mapping mapping;
  };

  std::uint32_t BufferBytes() const {
    return options_.room + virtio::kNetHeaderBytes;
  }
  std::uint32_t Wrapped(std::uint32_t i) const {
    return i < chains_ ? i : i - chains_;
  }
  Slot& At(std::uint32_t chain, std::uint32_t part) {
    return slots_[std::size_t{chain} * options_.chain + part];
  }
  bool mergeable() const {
    return (options_.features & virtio::kMergeableBuffers) != 0;
  }
  RxPopped Empty(Slot& slot, std::uint32_t offset, std::uint32_t length);
  Completion ReadHeader();
  void Reset();

  MapperType* mapper_ = nullptr;
  RxQueueOptions options_;
  std::uint32_t chains_ = 0;
  std::unique_ptr<Slot[]> slots_;           // chains_ * options_.chain
  std::unique_ptr<State[]> state_;          // of each chain
  std::unique_ptr<std::uint32_t[]> free_;   // [0, free_count_): free chains
  std::unique_ptr<std::uint32_t[]> order_;  // ready chains, from first_ready_
  std::uint32_t free_count_ = 0;
  std::uint32_t first_ready_ = 0;
  std::uint32_t ready_ = 0;
  std::uint32_t live_ = 0;
  std::uint32_t armed_ = 0;
  std::uint32_t filled_ = 0;  // buffers in the chain that is being filled

  std::uint32_t taken_ = kNone;     // the chain being consumed
  std::uint32_t part_ = 0;          // its buffer that is next
  std::uint32_t left_ = 0;          // bytes of it, as the device says
  std::uint32_t untouched_ = 0;     // buffers of it that hold nothing
  std::uint32_t offset_ = 0;        // of the data in this buffer
  bool synced_ = false;             // its header is here
  std::uint32_t frame_left_ = 0;    // mergeable: used buffers still to come
  std::uint32_t frame_status_ = 0;  // flags and gso_type of the frame
};

template <class Access, Mapper MapperType>
inline Result<void> RxChains<Access, MapperType>::Init(
    MapperType* mapper, const RxQueueOptions& options) {
  if (mapper == nullptr || options.chain == 0 || options.room == 0 ||
      options.chain > options.entries ||
      options.room > UINT32_MAX / 2 / options.chain) {
    return Error::kInvalidArgument;
  }
  const std::uint64_t features = options.features;
  if ((features & ~virtio::kKnownFeatures) != 0 ||
      (features & virtio::kVersion1) == 0 ||
      ((features & virtio::kMergeableBuffers) != 0 && options.chain != 1)) {
    return Error::kUnsupported;
  }
  const std::uint32_t chains = options.entries / options.chain;
  std::unique_ptr<Slot[]> slots(new (std::nothrow)
                                    Slot[std::size_t{chains} * options.chain]);
  std::unique_ptr<State[]> state(new (std::nothrow) State[chains]());
  std::unique_ptr<std::uint32_t[]> unused(new (std::nothrow)
                                              std::uint32_t[chains]);
  std::unique_ptr<std::uint32_t[]> order(new (std::nothrow)
                                             std::uint32_t[chains]);
  if (!slots || !state || !unused || !order) return Error::kNoMemory;
  mapper_ = mapper;
  options_ = options;
  chains_ = chains;
  slots_ = std::move(slots);
  state_ = std::move(state);
  free_ = std::move(unused);
  order_ = std::move(order);
  Reset();
  return Ok();
}

// Everything is free.
template <class Access, Mapper MapperType>
inline void RxChains<Access, MapperType>::Reset() {
  for (std::uint32_t i = 0; i < chains_; ++i) {
    state_[i] = State::kFree;
    free_[i] = chains_ - 1 - i;  // number 0 is used first
  }
  free_count_ = chains_;
  first_ready_ = ready_ = live_ = armed_ = filled_ = 0;
  taken_ = kNone;
  part_ = left_ = untouched_ = offset_ = 0;
  synced_ = false;
  frame_left_ = frame_status_ = 0;
}

template <class Access, Mapper MapperType>
inline Result<typename RxChains<Access, MapperType>::Place>
RxChains<Access, MapperType>::Begin(const Buffer& buffer) {
  if (!made()) return Error::kShutDown;
  if (full()) return Error::kLimit;
  if (buffer.data == nullptr || buffer.size < BufferBytes() ||
      PhysAddrOf(buffer.data).value() % 2 != 0) {  // the header has words
    return Error::kInvalidArgument;
  }
  const Result<Mapping> mapping =
      mapper_->Map(buffer.address, BufferBytes(), Direction::kFromDevice,
                   MapAttributes::kNone);
  if (!mapping.ok()) return mapping.error();
  // The chain that is being filled is the top of the free ones.
  const std::uint32_t chain = free_[free_count_ - 1];
  // Word by word: a wide copy of what was just stored in words would stall.
  Mapping& kept = At(chain, filled_).mapping;
  kept.iova = mapping->iova;
  kept.size = mapping->size;
  kept.direction = mapping->direction;
  kept.tag = mapping->tag;
  return Place{chain, filled_, BufferBytes(), mapping->iova,
               filled_ + 1 == options_.chain};
}

template <class Access, Mapper MapperType>
inline Result<void> RxChains<Access, MapperType>::Undo(const Place& place) {
  Mapping& mapping = At(place.chain, place.part).mapping;
  return mapper_->Unmap(std::exchange(mapping, Mapping{}),
                        MapAttributes::kSkipSync);
}

template <class Access, Mapper MapperType>
inline void RxChains<Access, MapperType>::Commit(const Place& place,
                                                 const Buffer& buffer) {
  At(place.chain, place.part).buffer = buffer;
  state_[place.chain] = State::kFilling;
  ++armed_;
  ++filled_;
  if (!place.ends) return;
  filled_ = 0;
  --free_count_;
  state_[place.chain] = State::kReady;
  order_[Wrapped(first_ready_ + ready_)] = place.chain;
  ++ready_;
}

template <class Access, Mapper MapperType>
inline void RxChains<Access, MapperType>::PublishOne() {
  state_[order_[first_ready_]] = State::kLive;
  first_ready_ = Wrapped(first_ready_ + 1);
  --ready_;
  ++live_;
}

template <class Access, Mapper MapperType>
template <class GiveBack>
void RxChains<Access, MapperType>::Clear(GiveBack&& give_back) {
  for (std::uint32_t i = 0; i < chains_ * options_.chain; ++i) {
    if (slots_[i].buffer.data != nullptr) give_back(Empty(slots_[i], 0, 0));
  }
  Reset();
}

template <class Access, Mapper MapperType>
inline bool RxChains<Access, MapperType>::CheckInvariants() const {
  std::uint32_t count[5] = {};
  std::uint32_t buffers = 0;
  for (std::uint32_t i = 0; i < chains_; ++i) {
    const State state = state_[i];
    ++count[static_cast<std::size_t>(state)];
    for (std::uint32_t part = 0; part < options_.chain; ++part) {
      const Slot& slot = slots_[std::size_t{i} * options_.chain + part];
      const bool holds = slot.buffer.data != nullptr;
      bool should = state == State::kReady || state == State::kLive;
      if (state == State::kFilling) should = part < filled_;
      if (state == State::kTaken) should = part >= part_;
      if (holds != should || holds != (slot.mapping.size != 0)) return false;
      buffers += holds ? 1 : 0;
    }
  }
  return buffers == armed_ && count[1] == (filled_ == 0 ? 0u : 1u) &&
         count[0] + count[1] == free_count_ && count[2] == ready_ &&
         count[3] == live_ && count[4] == (taken() ? 1u : 0u);
}

}  // namespace dmamap::inline v0

#include "nicring/rx_chains_consume.h"  // IWYU pragma: export

#endif  // DMAMAP_NICRING_RX_CHAINS_H_
