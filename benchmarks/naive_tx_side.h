// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_NAIVE_TX_SIDE_H_
#define DMAMAP_BENCHMARKS_NAIVE_TX_SIDE_H_

// The transmit loop that drivers begin with: for each frame one that is done is
// unmapped, another is mapped, its descriptor is written, and the device is
// told, before the next. What the device reports is believed. On the same
// simulated devices and mapper as dmamap's ring, for every format; a list of
// command blocks (i8255x) has the frame copied into the block.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "benchmarks/ring_tx_side.h"
#include "dma/address.h"
#include "dma/barrier.h"
#include "dma/mapper.h"
#include "nicring/e1000_tx.h"
#include "nicring/format.h"
#include "nicring/i8255x_tx.h"
#include "nicring/little_endian.h"
#include "nicring/receiver.h"
#include "nicring/ring_memory.h"

namespace dmamap::bench {

// A loop with its device. A loop has Start(), device(), Post(slot, frame, size)
// (`frame`: with kTxHeader zeros in front) and Reclaim(slot): false when the
// device is not done with that one.
inline constexpr std::size_t kTxHeader = 12;

template <class Loop>
class NaiveTxSide final : public peers::RingSide {
 public:
  // Null when it did not start.
  static std::unique_ptr<peers::RingSide> Make(std::size_t bytes) {
    auto side = std::unique_ptr<NaiveTxSide>(new NaiveTxSide(bytes));
    if (!side->loop_.Start()) return nullptr;
    (void)side->Driver(kRingBurst);  // the first has none before it
    return side;
  }
  bool Device(std::size_t) override {
    loop_.device().RunAll();
    for (const auto& sent : loop_.device().TakeSent()) {
      ++sent_;
      wrong_ += sent != frame_;
    }
    return true;
  }
  std::size_t Driver(std::size_t n) override {
    std::size_t done = 0;
    for (std::size_t i = 0; i < n; ++i) {
      if (posted_ != reclaimed_ && loop_.Reclaim(Slot(reclaimed_))) {
        ++reclaimed_;
        ++done;
      }
      const std::uint32_t slot = Slot(posted_++);
      loop_.Post(slot, &memory_[slot * kStride + kTxHeader], frame_.size());
    }
    return done;
  }
  std::uint64_t failures() override {
    const bool sound = loop_.device().CheckInvariants() && reclaimed_ <= sent_;
    return wrong_ + (sound ? 0 : 1);
  }

 private:
  static constexpr std::size_t kStride = 2048;
  static std::uint32_t Slot(std::uint64_t n) {
    return static_cast<std::uint32_t>(n % kRingEntries);
  }
  explicit NaiveTxSide(std::size_t bytes)
      : frame_(RingFrame(bytes)), memory_(kRingEntries * kStride) {
    for (std::size_t i = 0; i < kRingEntries; ++i) {
      std::copy(frame_.begin(), frame_.end(),
                &memory_[i * kStride + kTxHeader]);
    }
  }

  const std::vector<std::byte> frame_;
  std::vector<std::byte> memory_;
  Loop loop_;
  std::uint64_t posted_ = 0;
  std::uint64_t reclaimed_ = 0;
  std::uint64_t sent_ = 0;
  std::uint64_t wrong_ = 0;
};

// What the loops have in common: memory for the ring, a mapping a slot.
template <class DeviceType>
class NaiveTxLoop {
 public:
  DeviceType& device() { return device_; }

 protected:
  Iova Map(std::uint32_t slot, const std::byte* data, std::size_t bytes) {
    const Result<Mapping> mapping =
        mapper_.Map(PhysAddrOf(data), bytes, Direction::kToDevice);
    if (!mapping.ok()) return Iova(0);
    mappings_[slot] = *mapping;
    return mapping->iova;
  }
  void Unmap(std::uint32_t slot) { (void)mapper_.Unmap(mappings_[slot]).ok(); }
  bool Begin(std::uint32_t bytes, std::uint32_t driver_at,
             std::uint32_t device_at) {
    if (!memory_.Init(&mapper_, bytes).ok()) return false;
    const Iova base = memory_.iova();
    return device_
        .Start({base, base + driver_at, base + device_at, kRingEntries, 1536})
        .ok();
  }
  std::byte* At(std::uint32_t offset) { return memory_.cpu() + offset; }

  IdentityMapper mapper_;
  IdentityPort port_{Range::Whole()};
  DeviceType device_{&port_};
  RingMemory<IdentityMapper> memory_;
  std::vector<Mapping> mappings_ = std::vector<Mapping>(kRingEntries);
};

class NaiveTxArray : public NaiveTxLoop<TxE1000::Device> {
 public:
  bool Start() { return Begin(16 * kRingEntries, 0, 0); }
  void Post(std::uint32_t slot, const std::byte* frame, std::size_t bytes) {
    E1000TxFormat::WritePosted(At(16 * slot), Map(slot, frame, bytes),
                               static_cast<std::uint32_t>(bytes),
                               TxPlace::kLast);
    DmaWriteBarrier();
    device_.Doorbell((slot + 1) % kRingEntries);
  }
  bool Reclaim(std::uint32_t slot) {
    if ((DeviceAccess::Load32(At(16 * slot + 12)) & 1) == 0) return false;
    Unmap(slot);
    return true;
  }
};

class NaiveTxList : public NaiveTxLoop<TxI8255x::Device> {
 public:
  bool Start() {
    if (!memory_.Init(&mapper_, kBlock * kRingEntries).ok()) return false;
    // The CU starts at the first block, which leads to slot 0, the second.
    I8255xTxFormat::WritePosted(At(0), kBlock, 0);
    StoreLe16(At(2), i8255x::kCbSuspend | i8255x::kCbNop);
    return device_.Start({memory_.iova(), Iova(), Iova(), kRingEntries, 0})
        .ok();
  }
  void Post(std::uint32_t slot, const std::byte* frame, std::size_t bytes) {
    std::byte* const block = At(Block(slot));
    I8255xTxFormat::WritePosted(block, Block(slot + 1),
                                static_cast<std::uint32_t>(bytes));
    std::memcpy(block + i8255x::kCbHeaderBytes, frame, bytes);
    StoreLe16(block + 2, i8255x::kCbTransmit | i8255x::kCbSuspend);
    DmaWriteBarrier();
    DeviceAccess::Store16(At(last_ + 2), last_command_);
    DmaFullBarrier();
    if (device_.Suspended()) device_.Resume();
    last_ = Block(slot);
    last_command_ = i8255x::kCbTransmit;
  }
  bool Reclaim(std::uint32_t slot) {
    return (DeviceAccess::Load16(At(Block(slot))) & i8255x::kCbComplete) != 0;
  }

 private:
  static constexpr std::uint32_t kBlock = 2048;
  static std::uint32_t Block(std::uint32_t slot) {
    return kBlock * ((slot + 1) % kRingEntries);
  }
  std::uint32_t last_ = 0;  // offset of the block posted last
  std::uint16_t last_command_ = i8255x::kCbNop;
};

// With the header in front of the frame, one descriptor each.
class NaiveTxSplit : public NaiveTxLoop<TxSplit::Device> {
 public:
  bool Start() { return Begin(kUsedAt + 4096, kAvailableAt, kUsedAt); }
  void Post(std::uint32_t slot, const std::byte* frame, std::size_t bytes) {
    const std::size_t all = bytes + kTxHeader;
    StoreLe64(At(16 * slot), Map(slot, frame - kTxHeader, all).value());
    StoreLe32(At(16 * slot + 8), static_cast<std::uint32_t>(all));
    StoreLe32(At(16 * slot + 12), 0);
    StoreLe16(At(kAvailableAt + 4 + 2 * (published_ % kRingEntries)),
              static_cast<std::uint16_t>(slot));
    DmaWriteBarrier();
    DeviceAccess::Store16(At(kAvailableAt + 2), ++published_);
    device_.Doorbell(published_);
  }
  bool Reclaim(std::uint32_t) {
    if (DeviceAccess::Load16(At(kUsedAt + 2)) == used_) return false;
    DmaReadBarrier();
    const std::uint32_t at = kUsedAt + 4 + 8 * (used_++ % kRingEntries);
    Unmap(LoadLe32(At(at)) % kRingEntries);
    return true;
  }

 private:
  static constexpr std::uint32_t kAvailableAt = 16 * kRingEntries;
  static constexpr std::uint32_t kUsedAt = kAvailableAt + 4096;
  std::uint16_t published_ = 0;
  std::uint16_t used_ = 0;
};

class NaiveTxPacked : public NaiveTxLoop<TxPacked::Device> {
 public:
  bool Start() { return Begin(kDriverAt + 4096, kDriverAt, kDriverAt + 64); }
  void Post(std::uint32_t slot, const std::byte* frame, std::size_t bytes) {
    const std::size_t all = bytes + kTxHeader;
    std::byte* const descriptor = At(16 * slot);
    StoreLe64(descriptor, Map(slot, frame - kTxHeader, all).value());
    StoreLe32(descriptor + 8, static_cast<std::uint32_t>(all));
    StoreLe16(descriptor + 12, static_cast<std::uint16_t>(slot));
    DmaWriteBarrier();
    DeviceAccess::Store16(
        descriptor + 14,
        virtio::AvailableFlags(posts_++ / kRingEntries % 2 == 0));
    device_.Doorbell(slot);
  }
  bool Reclaim(std::uint32_t slot) {
    std::byte* const descriptor = At(16 * slot);
    const bool wrap = reclaims_ / kRingEntries % 2 == 0;
    if (!virtio::IsUsed(DeviceAccess::Load16(descriptor + 14), wrap)) {
      return false;
    }
    DmaReadBarrier();
    ++reclaims_;
    Unmap(LoadLe16(descriptor + 12) % kRingEntries);
    return true;
  }

 private:
  static constexpr std::uint32_t kDriverAt = 16 * kRingEntries;
  std::uint64_t posts_ = 0;
  std::uint64_t reclaims_ = 0;
};

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_NAIVE_TX_SIDE_H_
