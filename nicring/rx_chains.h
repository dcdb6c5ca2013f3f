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
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"
#include "nicring/buffer_pool.h"
#include "nicring/format.h"
#include "nicring/rx_queue.h"
#include "nicring/virtio_layout.h"

namespace dmamap::inline v0 {

template <class Access, Mapper MapperType, RxChecks kChecks>
class RxChains {
 public:
  // Where the next buffer goes.
  struct Place {
    std::uint32_t chain = 0;  // its number
    std::uint32_t part = 0;   // from 0
    bool ends = false;        // the last of its chain
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
  // Buffers that the chains can take.
  std::uint32_t vacant() const {
    return free_count_ * options_.chain - filled_;
  }

  // True when the device needs no doorbell yet for the `owed` chains that were
  // published since the last one: a batch is not full, and what it was told of
  // before will do. Mergeable buffers are taken for as long as a frame needs
  // more and used only then, so there the largest frame must find room; else
  // device and driver would wait for each other.
  bool MayOwe(std::uint32_t owed) const {
    const std::uint32_t batch = options_.doorbell_batch;
    const std::uint32_t frame =
        mergeable() ? virtio::kLargestFrame / buffer_bytes() + 1 : 0;
    const std::uint32_t needed = batch < frame ? frame : batch;
    return owed < batch && live_ >= owed && live_ - owed >= needed;
  }

  // Bytes of each buffer, its header included.
  std::uint32_t buffer_bytes() const {
    return options_.room + virtio::kNetHeaderBytes;
  }
  // kShutDown, kInvalidArgument.
  Result<void> Check(const Buffer& buffer) const {
    if (!made()) return Error::kShutDown;
    if (buffer.data == nullptr || buffer.size < buffer_bytes() ||
        PhysAddrOf(buffer.data).value() % 2 != 0) {  // the header has words
      return Error::kInvalidArgument;
    }
    return Ok();
  }
  // Where the next buffer goes, if Commit follows. REQUIRES: !full().
  Place Next() const {
    // The chain that is being filled is the top of the free ones.
    return {free_[free_count_ - 1], filled_, filled_ + 1 == options_.chain};
  }
  void Commit(const Place& place, RxArmed* armed);

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
  std::uint32_t room() const { return buffer_bytes() - offset_; }
  RxArmed* Pop();
  // The frame of the chain that the device will name next if it uses them as
  // they lie. Its word is not looked at early: it is read once.
  void Prefetch() const {
    if (taken_ == kNone) return;
    const std::size_t next = Wrapped(taken_ + 1);
    const RxArmed* const first = slots_[next * options_.chain];
    if (first != nullptr) __builtin_prefetch(first->buffer.data);
  }

  template <class GiveBack>
  void Clear(GiveBack&& give_back);
  bool CheckInvariants() const;

 private:
  static constexpr std::uint32_t kNone = UINT32_MAX;
  enum class State : std::uint8_t { kFree, kFilling, kReady, kLive, kTaken };
  std::uint32_t Wrapped(std::uint32_t i) const {
    return i < chains_ ? i : i - chains_;
  }
  RxArmed*& At(std::uint32_t chain, std::uint32_t part) {
    if (simple()) return slots_[chain];
    return slots_[std::size_t{chain} * options_.chain + part];
  }
  // A frame is a buffer, and begins with its header: neither longer chains nor
  // mergeable buffers.
  bool simple() const { return simple_; }
  bool mergeable() const {
    return (options_.features & virtio::kMergeableBuffers) != 0;
  }
  RxArmed* Empty(RxArmed*& slot) {
    --armed_;
    return std::exchange(slot, nullptr);
  }
  Completion ReadHeader();
  void Reset();

  MapperType* mapper_ = nullptr;
  RxQueueOptions options_;
  bool simple_ = false;
  std::uint32_t chains_ = 0;
  std::unique_ptr<RxArmed*[]> slots_;       // chains_ * options_.chain
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

template <class Access, Mapper MapperType, RxChecks kChecks>
inline Result<void> RxChains<Access, MapperType, kChecks>::Init(
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
  std::unique_ptr<RxArmed*[]> slots(
      new (std::nothrow) RxArmed*[std::size_t{chains} * options.chain]());
  std::unique_ptr<State[]> state(new (std::nothrow) State[chains]());
  std::unique_ptr<std::uint32_t[]> unused(new (std::nothrow)
                                              std::uint32_t[chains]);
  std::unique_ptr<std::uint32_t[]> order(new (std::nothrow)
                                             std::uint32_t[chains]);
  if (!slots || !state || !unused || !order) return Error::kNoMemory;
  mapper_ = mapper;
  options_ = options;
  simple_ = options.chain == 1 && !mergeable();
  chains_ = chains;
  slots_ = std::move(slots);
  state_ = std::move(state);
  free_ = std::move(unused);
  order_ = std::move(order);
  Reset();
  return Ok();
}

// Everything is free.
template <class Access, Mapper MapperType, RxChecks kChecks>
inline void RxChains<Access, MapperType, kChecks>::Reset() {
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

template <class Access, Mapper MapperType, RxChecks kChecks>
inline void RxChains<Access, MapperType, kChecks>::Commit(const Place& place,
                                                          RxArmed* armed) {
  At(place.chain, place.part) = armed;
  ++armed_;
  if (!place.ends) {
    state_[place.chain] = State::kFilling;
    ++filled_;
    return;
  }
  filled_ = 0;
  --free_count_;
  state_[place.chain] = State::kReady;
  order_[Wrapped(first_ready_ + ready_)] = place.chain;
  ++ready_;
}

template <class Access, Mapper MapperType, RxChecks kChecks>
inline void RxChains<Access, MapperType, kChecks>::PublishOne() {
  state_[order_[first_ready_]] = State::kLive;
  first_ready_ = Wrapped(first_ready_ + 1);
  --ready_;
  ++live_;
}

template <class Access, Mapper MapperType, RxChecks kChecks>
template <class GiveBack>
void RxChains<Access, MapperType, kChecks>::Clear(GiveBack&& give_back) {
  for (std::uint32_t i = 0; i < chains_ * options_.chain; ++i) {
    if (slots_[i] != nullptr) give_back(Empty(slots_[i]));
  }
  Reset();
}

template <class Access, Mapper MapperType, RxChecks kChecks>
inline bool RxChains<Access, MapperType, kChecks>::CheckInvariants() const {
  std::uint32_t count[5] = {};
  std::uint32_t buffers = 0;
  for (std::uint32_t i = 0; i < chains_; ++i) {
    const State state = state_[i];
    ++count[static_cast<std::size_t>(state)];
    for (std::uint32_t part = 0; part < options_.chain; ++part) {
      const RxArmed* slot = slots_[std::size_t{i} * options_.chain + part];
      const bool holds = slot != nullptr;
      bool should = state == State::kReady || state == State::kLive;
      if (state == State::kFilling) should = part < filled_;
      if (state == State::kTaken) should = part >= part_;
      if (holds != should || (holds && slot->mapping.size == 0)) return false;
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
