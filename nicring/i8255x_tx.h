// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_I8255X_TX_H_
#define DMAMAP_NICRING_I8255X_TX_H_

// The transmit command block (TxCB) of the Intel 8255x family (e100) in
// simplified mode, and TxCommandList, a ring of them.
//
//   byte 0   status  C (15), OK (13), U (12)               the device writes
//        2   command EL (15), S (14), I (13), SF (3, 0 here), CMD (2:0)
//        4   link    offset of the next block from the CU base
//        8   TBD array address: all ones, there is none
//       12   TCB byte count (13:0), EOF (15)
//       14   transmit threshold, in 8 bytes; TBD number 0
//       16   the frame
//
// Source: Intel 8255x 10/100 Mbps Ethernet Controller Family Open Source
// Software Developer Manual, "Transmit (100b)" and the CU commands of the SCB
// command word. All words little-endian. The frame stands in the block, so its
// segments are copied there (TxSegment::data); nothing is mapped for a frame.
//
// The blocks are linked in a circle for good. S of the last one that is shown
// suspends the command unit (CU) there; EL, which would make it idle, is never
// set. Appending writes the new blocks, S on the last of them, and only then
// clears S of the block before. A CU that read S before that suspends all the
// same, and a Resume for one that did not would send it into a block that was
// not posted. Hence: Resume only when the CU was seen suspended, which is a
// state that it does not leave by itself, and *after that* a shown block is not
// complete. A CU that suspends later says so (CNA), and the next poll resumes
// it. Block 0 begins as a NOP with S, for the CU Start of an empty ring. One
// block is kept back: that at which the CU may be suspended.
//
// Not thread-safe; the device may do anything at any time. Loops run over the
// segments of one frame, or over the ring.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>

#include "dma/address.h"
#include "dma/assert.h"
#include "dma/barrier.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"
#include "nicring/format.h"
#include "nicring/little_endian.h"
#include "nicring/receiver.h"
#include "nicring/ring_memory.h"
#include "nicring/tx_queue.h"

namespace dmamap::inline v0 {

namespace i8255x {

inline constexpr std::uint16_t kCbComplete = 1u << 15;   // C
inline constexpr std::uint16_t kCbOk = 1u << 13;         // OK
inline constexpr std::uint16_t kCbSuspend = 1u << 14;    // S
inline constexpr std::uint16_t kCbInterrupt = 1u << 13;  // I
inline constexpr std::uint16_t kCbNop = 0;               // CMD
inline constexpr std::uint16_t kCbTransmit = 4;          // CMD
inline constexpr std::uint32_t kCbHeaderBytes = 16;
inline constexpr std::uint32_t kCbMaxBytes = 0x3fff;  // TCB byte count
inline constexpr std::uint32_t kCbEof = 1u << 15;     // with the byte count
inline constexpr std::uint32_t kCbThreshold = 0xe0;   // the whole frame

}  // namespace i8255x

// The format. Access loads and stores the words that both sides touch.
template <class Accessor>
struct BasicI8255xTxFormat {
  using Access = Accessor;
  static constexpr bool kCommandBlocks = true;
  // All but the command word. REQUIRES: the device cannot reach the block.
  static constexpr void WritePosted(std::byte* block, std::uint32_t link,
                                    std::uint32_t bytes) {
    StoreLe16(block, 0);
    StoreLe32(block + 4, link);
    StoreLe32(block + 8, UINT32_MAX);
    StoreLe32(block + 12, (bytes & i8255x::kCbMaxBytes) | i8255x::kCbEof |
                              i8255x::kCbThreshold << 16);
  }
};
using I8255xTxFormat = BasicI8255xTxFormat<DeviceAccess>;

template <class F>
concept CommandBlockFormat = requires {
  typename F::Access;
  requires F::kCommandBlocks;
};

template <CommandBlockFormat Format, Mapper MapperType>
class TxCommandList {
 public:
  static constexpr bool kResumes = true;

  TxCommandList() = default;
  TxCommandList(const TxCommandList&) = delete;
  TxCommandList& operator=(const TxCommandList&) = delete;

  // kBusy the second time; kInvalidArgument for fewer than two entries, no room
  // or more than the byte count can say; kOverflow when the blocks pass 4 GiB;
  // kNoMemory, the mapper's errors.
  Result<void> Init(MapperType* mapper, const TxQueueOptions& options) {
    if (entries_ != 0) return Error::kBusy;
    if (mapper == nullptr || options.entries < 2 || options.room == 0 ||
        options.room > i8255x::kCbMaxBytes) {
      return Error::kInvalidArgument;
    }
    const std::uint32_t stride =
        (i8255x::kCbHeaderBytes + options.room + kLine - 1) / kLine * kLine;
    const std::uint64_t bytes = std::uint64_t{stride} * options.entries;
    if (bytes > UINT32_MAX) return Error::kOverflow;
    frames_.reset(new (std::nothrow) Posted[options.entries]);
    if (!frames_) return Error::kNoMemory;
    const Result<void> made = memory_.Init(mapper, bytes);
    if (!made.ok()) return made;
    entries_ = options.entries;
    room_ = options.room;
    stride_ = stride;
    return Reset();
  }

  std::uint32_t capacity() const { return entries_ == 0 ? 0 : entries_ - 1; }
  std::uint32_t free() const { return capacity() - posted_; }
  std::uint32_t frames() const { return posted_; }
  // descriptors: the CU base, and the block to start at. room: of a block.
  RingAddresses addresses() const {
    return {memory_.iova(), Iova(), Iova(), entries_, room_};
  }
  std::uint32_t doorbell() const { return 0; }

  // kShutDown before Init; kInvalidArgument for no segment, an empty one, one
  // without data or more bytes than there is room for; kNoSpace; the mapper's
  // errors.
  Result<void> Post(const TxFrame& frame);

  // Publishes; true when a suspended CU has something to do. REQUIRES: the
  // caller knew already whether the CU is suspended.
  bool TakeDoorbell() {
    if (!Publish() || open_ == 0) return false;
    const Result<bool> complete = IsComplete(Wrapped(head_ + open_ - 1));
    return complete.ok() && !*complete;
  }

  TxLook Look() {
    if (open_ == 0) return TxLook::kNothing;
    const Result<bool> complete = IsComplete(head_);
    if (!complete.ok()) return TxLook::kFailed;
    return *complete ? TxLook::kComplete : TxLook::kNothing;
  }
  TxDone Pop() {
    const std::uint16_t status = frames_[head_].status;
    DMAMAP_ASSERT((status & i8255x::kCbComplete) != 0);
    --open_;
    return TakeFrame((status & i8255x::kCbOk) != 0 ? TxFate::kSent
                                                   : TxFate::kError);
  }

  template <class GiveBack>
  void Clear(GiveBack&& give_back) {
    while (posted_ != 0) give_back(TakeFrame(TxFate::kCancelled));
    open_ = 0;
    // Where that fails the device finds old blocks, all complete.
    if (entries_ != 0) (void)Reset();
  }

  bool CheckInvariants() const {
    if (entries_ == 0) return posted_ == 0;
    if (head_ >= entries_ || posted_ > capacity() || open_ > posted_) {
      return false;
    }
    for (std::uint32_t i = open_; i < posted_; ++i) {
      if (frames_[Wrapped(head_ + i)].status != 0) return false;
    }
    return true;
  }

 private:
  static constexpr std::uint32_t kLine = 64;
  using Access = typename Format::Access;
  struct Posted {
    std::uint64_t token = 0;
    std::uint64_t bytes = 0;
    std::uint16_t status = 0;  // the snapshot, once it says complete
  };

  // REQUIRES: index < 2 * entries.
  std::uint32_t Wrapped(std::uint32_t index) const {
    return index < entries_ ? index : index - entries_;
  }
  std::uint32_t At(std::uint32_t index) const { return index * stride_; }
  // Loads the status until it says complete, and never after that.
  Result<bool> IsComplete(std::uint32_t index) {
    std::uint16_t& known = frames_[index].status;
    if (known != 0) return true;
    const Result<void> synced = memory_.SyncForCpu(At(index), 2);
    if (!synced.ok()) return synced.error();
    const std::uint16_t status = Access::Load16(memory_.cpu() + At(index));
    const bool complete = (status & i8255x::kCbComplete) != 0;
    if (complete) known = status;
    return complete;
  }
  bool ShowCommand(std::uint32_t index, std::uint32_t command) {
    Access::Store16(memory_.cpu() + At(index) + 2,
                    static_cast<std::uint16_t>(command & 0xffff));
    return memory_.SyncForDevice(At(index) + 2, 2).ok();
  }
  bool Publish();
  // Block 0 is a NOP that suspends; frames begin behind it. REQUIRES: the
  // device is stopped.
  Result<void> Reset() {
    head_ = 1;
    last_command_ = i8255x::kCbNop;
    std::byte* block = memory_.cpu();
    Format::WritePosted(block, At(1), 0);
    StoreLe16(block + 2, i8255x::kCbNop | i8255x::kCbSuspend);
    return memory_.SyncForDevice(0, i8255x::kCbHeaderBytes);
  }
  TxDone TakeFrame(TxFate fate) {
    const Posted frame = frames_[head_];
    head_ = Wrapped(head_ + 1);
    --posted_;
    return {frame.token, frame.bytes, fate};
  }

  RingMemory<MapperType> memory_;
  std::unique_ptr<Posted[]> frames_;  // of each block
  std::uint32_t entries_ = 0;
  std::uint32_t room_ = 0;
  std::uint32_t stride_ = 0;
  std::uint32_t head_ = 0;          // index of the oldest frame's block
  std::uint32_t posted_ = 0;        // blocks from there on
  std::uint32_t open_ = 0;          // of these, what the device was shown
  std::uint16_t last_command_ = 0;  // of the last block shown, without S
};

template <CommandBlockFormat Format, Mapper MapperType>
struct TxQueueOf<Format, MapperType> {
  using Type = TxCommandList<Format, MapperType>;
};

template <CommandBlockFormat Format, Mapper MapperType>
Result<void> TxCommandList<Format, MapperType>::Post(const TxFrame& frame) {
  if (entries_ == 0) return Error::kShutDown;
  std::uint64_t bytes = 0;
  for (const TxSegment& segment : frame.segments) {
    if (segment.length == 0 || segment.data == nullptr) {
      return Error::kInvalidArgument;
    }
    bytes += segment.length;
  }
  if (bytes == 0 || bytes > room_) return Error::kInvalidArgument;
  if (free() == 0) return Error::kNoSpace;
  const std::uint32_t index = Wrapped(head_ + posted_);
  std::byte* block = memory_.cpu() + At(index);
  Format::WritePosted(block, At(Wrapped(index + 1)),
                      static_cast<std::uint32_t>(bytes));
  StoreLe16(block + 2, i8255x::kCbNop | i8255x::kCbSuspend);
  std::byte* to = block + i8255x::kCbHeaderBytes;
  for (const TxSegment& segment : frame.segments) {
    std::memcpy(to, segment.data, segment.length);
    to += segment.length;
  }
  const Result<void> synced =
      memory_.SyncForDevice(At(index), i8255x::kCbHeaderBytes + bytes);
  if (!synced.ok()) return synced;
  frames_[index] = {frame.token, bytes, 0};
  ++posted_;
  return Ok();
}

// False when the device could not be shown all; the next call goes on.
template <CommandBlockFormat Format, Mapper MapperType>
bool TxCommandList<Format, MapperType>::Publish() {
  if (open_ == posted_) return true;
  for (std::uint32_t i = open_; i < posted_; ++i) {
    const bool last = i + 1 == posted_;
    const std::uint32_t more =
        last ? i8255x::kCbSuspend | i8255x::kCbInterrupt : 0u;
    if (!ShowCommand(Wrapped(head_ + i), i8255x::kCbTransmit | more)) {
      return false;
    }
  }
  DmaWriteBarrier();  // the new blocks before S of the old one is cleared
  // head_ + open_ - 1, of which head_ - 1 may be the NOP.
  const std::uint32_t before = Wrapped(head_ + open_ + entries_ - 1) % entries_;
  if (!ShowCommand(before, last_command_)) return false;
  open_ = posted_;
  last_command_ = i8255x::kCbTransmit | i8255x::kCbInterrupt;
  return true;
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_I8255X_TX_H_
