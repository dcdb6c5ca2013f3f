// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_TX_CHAINS_H_
#define DMAMAP_NICRING_TX_CHAINS_H_

// TxChains: what the driver of a virtqueue that transmits knows of its frames,
// in private memory: which descriptors each has, how they are mapped, whether
// the device was shown it. Split and packed queue have it in common; they add
// where the descriptors lie.
//
//   Post -> waiting -> ShowOne -> out -> Take -> taken -> Pop
//
// A frame is a chain: a descriptor for its virtio_net_hdr, then one for each
// segment. It is named by its head. Frames wait in the order of their posts and
// may be done in any. What the device says is compared with this, and never
// the other way round.
//
// Not thread-safe. Loops run over the descriptors of one frame.

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
#include "nicring/tx_queue.h"
#include "nicring/virtio_layout.h"

namespace dmamap::inline v0 {

template <Mapper MapperType>
class TxChains {
 public:
  // No descriptor.
  static constexpr std::uint32_t kNone = UINT32_MAX;

  // kNoMemory. REQUIRES: the first time, entries > 0.
  Result<void> Init(MapperType* mapper, std::uint32_t entries) {
    slots_.reset(new (std::nothrow) Slot[entries]);
    free_.reset(new (std::nothrow) std::uint32_t[entries]);
    order_.reset(new (std::nothrow) std::uint32_t[entries]);
    if (!slots_ || !free_ || !order_) return Error::kNoMemory;
    for (std::uint32_t i = 0; i < entries; ++i) free_[i] = entries - 1 - i;
    size_ = free_count_ = entries;
    mapper_ = mapper;
    return Ok();
  }

  // Segments that a frame may have: its header takes a descriptor.
  std::uint32_t capacity() const { return size_ == 0 ? 0 : size_ - 1; }
  std::uint32_t free() const { return free_count_ == 0 ? 0 : free_count_ - 1; }
  std::uint32_t frames() const { return frame_count_; }
  std::uint32_t waiting() const { return waiting_; }  // frames
  std::uint32_t out() const { return out_; }          // frames
  std::uint32_t descriptors(std::uint32_t head) const {
    return slots_[head].descriptors;
  }

  // Calls write(number, index, next, iova, bytes) for each descriptor of the
  // chain: the header, then the segments; `next` is kNone for the last. Returns
  // the head. kInvalidArgument for no segment or an empty one; kNoSpace; the
  // mapper's errors and those of write; kBusy if a segment stayed mapped.
  template <class Write>
  Result<std::uint32_t> Post(const TxFrame& frame, Iova header, Write&& write);

  // The head of the `i`th frame that waits. REQUIRES: i < waiting().
  std::uint32_t Waiting(std::uint32_t i) const {
    return order_[Wrapped(order_head_ + i)];
  }
  // The device was shown the first frame that waits. REQUIRES: waiting() > 0.
  void ShowOne() {
    slots_[order_[order_head_]].state = State::kOut;
    order_head_ = Wrapped(order_head_ + 1);
    --waiting_;
    ++out_;
  }

  // The device says that it is done with the frame `id`. False when it cannot
  // be. REQUIRES: !taken().
  bool Take(std::uint32_t id) {
    if (id >= size_ || slots_[id].state != State::kOut) return false;
    slots_[id].state = State::kDone;
    --out_;
    taken_ = id;
    return true;
  }
  bool taken() const { return taken_ != kNone; }
  // Unmapped. REQUIRES: taken().
  TxDone Pop() {
    DMAMAP_ASSERT(taken());
    return TakeFrame(std::exchange(taken_, kNone), TxFate::kSent);
  }

  template <class GiveBack>
  void Clear(GiveBack&& give_back) {
    for (std::uint32_t i = 0; i < size_; ++i) {
      if (slots_[i].descriptors != 0) {
        give_back(TakeFrame(i, TxFate::kCancelled));
      }
    }
    taken_ = kNone;
    order_head_ = waiting_ = out_ = 0;
  }

  bool CheckInvariants() const {
    std::uint32_t descriptors = 0;
    std::uint32_t frames = 0;
    std::uint32_t states[4] = {};
    for (std::uint32_t i = 0; i < size_; ++i) {
      const Slot& slot = slots_[i];
      if ((slot.descriptors != 0) != (slot.state != State::kFree)) return false;
      descriptors += slot.descriptors;
      frames += slot.descriptors != 0 ? 1 : 0;
      ++states[static_cast<std::size_t>(slot.state)];
    }
    return descriptors + free_count_ == size_ && frames == frame_count_ &&
           states[1] == waiting_ && states[2] == out_ &&
           states[3] == (taken() ? 1u : 0u);
  }

 private:
  enum class State : std::uint8_t { kFree, kPosted, kOut, kDone };
  // Of a head; of another descriptor only `mapping` and `next` count.
  struct Slot {
    Mapping mapping;  // size 0: none
    std::uint32_t next = kNone;
    std::uint64_t token = 0;
    std::uint64_t bytes = 0;
    std::uint32_t descriptors = 0;  // of the frame; 0: no head
    State state = State::kFree;
  };

  // REQUIRES: index < 2 * size.
  std::uint32_t Wrapped(std::uint32_t index) const {
    return index < size_ ? index : index - size_;
  }
  // Links a header and `count` segments, so that Release undoes whatever is
  // mapped of them. Returns the head.
  std::uint32_t Link(std::uint32_t count) {
    const std::uint32_t head = free_[--free_count_];
    std::uint32_t last = head;
    for (std::uint32_t i = 0; i < count; ++i) {
      const std::uint32_t index = free_[--free_count_];
      slots_[last].next = index;
      last = index;
    }
    slots_[head].descriptors = count + 1;
    return head;
  }
  // Unmaps the chain and frees its descriptors. False if one stays mapped.
  bool Release(std::uint32_t head) {
    bool all = true;
    std::uint32_t index = head;
    for (std::uint32_t n = slots_[head].descriptors; n != 0; --n) {
      const Slot slot = std::exchange(slots_[index], Slot{});
      if (slot.mapping.size != 0) all &= mapper_->Unmap(slot.mapping).ok();
      free_[free_count_++] = index;
      index = slot.next;
    }
    return all;
  }
  TxDone TakeFrame(std::uint32_t head, TxFate fate) {
    const Slot slot = slots_[head];
    if (!Release(head)) fate = TxFate::kQuarantined;
    --frame_count_;
    return {slot.token, slot.bytes, fate};
  }

  MapperType* mapper_ = nullptr;
  std::unique_ptr<Slot[]> slots_;           // of each descriptor
  std::unique_ptr<std::uint32_t[]> free_;   // [0, free_count_)
  std::unique_ptr<std::uint32_t[]> order_;  // heads that wait, as posted
  std::uint32_t size_ = 0;
  std::uint32_t free_count_ = 0;
  std::uint32_t frame_count_ = 0;
  std::uint32_t order_head_ = 0;
  std::uint32_t waiting_ = 0;
  std::uint32_t out_ = 0;
  std::uint32_t taken_ = kNone;  // a head that is done, and not popped
};

template <Mapper MapperType>
template <class Write>
Result<std::uint32_t> TxChains<MapperType>::Post(const TxFrame& frame,
                                                 Iova header, Write&& write) {
  std::uint64_t bytes = 0;
  for (const TxSegment& segment : frame.segments) {
    if (segment.length == 0) return Error::kInvalidArgument;
    bytes += segment.length;
  }
  if (frame.segments.empty()) return Error::kInvalidArgument;
  if (frame.segments.size() > free()) return Error::kNoSpace;
  const std::uint32_t head =
      Link(static_cast<std::uint32_t>(frame.segments.size()));
  std::uint32_t number = 0;
  std::uint32_t index = slots_[head].next;
  Result<void> written =
      write(number, head, index, header, virtio::kNetHeaderBytes);
  for (const TxSegment& segment : frame.segments) {
    if (!written.ok()) break;
    const Result<Mapping> mapping =
        mapper_->Map(segment.address, segment.length, Direction::kToDevice,
                     MapAttributes::kNone);
    if (!mapping.ok()) {
      written = mapping.error();
      break;
    }
    Slot& slot = slots_[index];
    slot.mapping = *mapping;
    written = write(++number, index, slot.next, mapping->iova, segment.length);
    index = slot.next;
  }
  if (!written.ok()) {
    const Error error = written.error();
    return Release(head) ? error : Error::kBusy;
  }
  slots_[head].token = frame.token;
  slots_[head].bytes = bytes;
  slots_[head].state = State::kPosted;
  order_[Wrapped(order_head_ + waiting_++)] = head;
  ++frame_count_;
  return head;
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_TX_CHAINS_H_
