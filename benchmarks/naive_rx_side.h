// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_NAIVE_RX_SIDE_H_
#define DMAMAP_BENCHMARKS_NAIVE_RX_SIDE_H_

// The receive loop that drivers begin with, and Linux's e100 had for years: for
// each frame the buffer is unmapped and freed, another is allocated and mapped,
// its descriptor is written, and the device is told, before the next frame is
// looked at. Lengths are taken as the device says. On the same simulated device
// and mapper as dmamap's ring, for two families:
//
//   an array with head and tail registers (e1000)
//   a split virtqueue, an available entry and a notification for each buffer
//
// Buffers come from the general allocator, as an sk_buff does.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <vector>

#include "benchmarks/ring_rx_side.h"
#include "dma/address.h"
#include "dma/barrier.h"
#include "dma/mapper.h"
#include "nicring/format.h"
#include "nicring/little_endian.h"
#include "nicring/receiver.h"
#include "nicring/ring_memory.h"

namespace dmamap::bench {

// What the two loops have in common: an allocated and mapped buffer a slot.
class NaiveBuffers {
 public:
  ~NaiveBuffers() {
    for (Slot& slot : slots_) Free(slot);
  }
  void Init(IdentityMapper* mapper, std::size_t slots, std::size_t bytes) {
    mapper_ = mapper;
    slots_.resize(slots);
    bytes_ = bytes;
  }
  Iova Allocate(std::size_t index) {
    Slot& slot = slots_[index];
    slot.data = static_cast<std::byte*>(
        ::operator new (bytes_, std::align_val_t{64}, std::nothrow));
    if (slot.data == nullptr) return Iova(0);
    const Result<Mapping> mapping =
        mapper_->Map(PhysAddrOf(slot.data), bytes_, Direction::kFromDevice);
    if (!mapping.ok()) return Iova(0);
    slot.mapping = *mapping;
    return mapping->iova;
  }
  const std::byte* data(std::size_t index) const { return slots_[index].data; }
  void Unmap(std::size_t index) {
    (void)mapper_->Unmap(slots_[index].mapping).ok();
  }
  void Free(std::size_t index) { Free(slots_[index]); }

 private:
  struct Slot {
    std::byte* data = nullptr;
    Mapping mapping;
  };
  static void Free(Slot& slot) {
    ::operator delete (slot.data, std::align_val_t{64});
    slot.data = nullptr;
  }

  IdentityMapper* mapper_ = nullptr;
  std::vector<Slot> slots_;
  std::size_t bytes_ = 0;
};

class NaiveE1000Side final : public peers::RingSide {
 public:
  static std::unique_ptr<peers::RingSide> Make(std::size_t bytes) {
    auto side = std::unique_ptr<NaiveE1000Side>(new NaiveE1000Side(bytes));
    return side->Start() ? std::move(side) : nullptr;
  }
  bool Device(std::size_t n) override {
    for (std::size_t i = 0; i < n; ++i) {
      if (!device_.Inject(sink_.frame())) return false;
    }
    device_.RunAll();
    return true;
  }
  std::size_t Driver(std::size_t n) override {
    std::size_t done = 0;
    while (done < n && Receive()) ++done;
    return done;
  }
  std::uint64_t failures() override { return sink_.wrong(); }

 private:
  explicit NaiveE1000Side(std::size_t bytes) : sink_(bytes) {}

  bool Start() {
    if (!memory_.Init(&mapper_, kRingEntries * 16).ok()) return false;
    buffers_.Init(&mapper_, kRingEntries, kRingRoom);
    const RingAddresses ring{memory_.iova(), Iova(), Iova(), kRingEntries,
                             kRingRoom};
    if (!device_.Start(ring).ok()) return false;
    for (std::uint32_t i = 0; i + 1 < kRingEntries; ++i) Arm(i);
    device_.Doorbell(kRingEntries - 1);
    return true;
  }
  void Arm(std::uint32_t index) {
    std::byte* const descriptor = memory_.cpu() + 16 * index;
    StoreLe64(descriptor, buffers_.Allocate(index).value());
    StoreLe64(descriptor + 8, 0);
  }
  bool Receive() {
    std::byte* const descriptor = memory_.cpu() + 16 * head_;
    const std::uint32_t status = DeviceAccess::Load32(descriptor + 12);
    if ((status & 1) == 0) return false;
    DmaReadBarrier();
    const std::uint32_t length = LoadLe16(descriptor + 8);
    buffers_.Unmap(head_);
    (void)sink_.Deliver({buffers_.data(head_), length, status, {}});
    buffers_.Free(head_);
    // One is kept back: the entry before the head is armed.
    const std::uint32_t tail = head_ == 0 ? kRingEntries - 1 : head_ - 1;
    Arm(tail);
    DmaWriteBarrier();
    device_.Doorbell(head_);
    head_ = head_ + 1 == kRingEntries ? 0 : head_ + 1;
    return true;
  }

  IdentityMapper mapper_;
  IdentityPort port_{Range::Whole()};
  SimE1000<IdentityPort> device_{&port_, {}};
  RingMemory<IdentityMapper> memory_;
  NaiveBuffers buffers_;
  NullSink sink_;
  std::uint32_t head_ = 0;
};

class NaiveSplitSide final : public peers::RingSide {
 public:
  static std::unique_ptr<peers::RingSide> Make(std::size_t bytes) {
    auto side = std::unique_ptr<NaiveSplitSide>(new NaiveSplitSide(bytes));
    return side->Start() ? std::move(side) : nullptr;
  }
  bool Device(std::size_t n) override {
    for (std::size_t i = 0; i < n; ++i) {
      if (!device_.Inject(sink_.frame())) return false;
    }
    device_.RunAll();
    return true;
  }
  std::size_t Driver(std::size_t n) override {
    std::size_t done = 0;
    while (done < n && Receive()) ++done;
    return done;
  }
  std::uint64_t failures() override { return sink_.wrong(); }

 private:
  static constexpr std::uint32_t kAvailableAt = 16 * kRingEntries;
  static constexpr std::uint32_t kUsedAt = kAvailableAt + 4096;

  explicit NaiveSplitSide(std::size_t bytes) : sink_(bytes) {}

  bool Start() {
    if (!memory_.Init(&mapper_, kUsedAt + 4096).ok()) return false;
    buffers_.Init(&mapper_, kRingEntries, kRingRoom);
    const Iova base = memory_.iova();
    const RingAddresses ring{base, base + kAvailableAt, base + kUsedAt,
                             kRingEntries, kRingRoom};
    if (!device_.Start(ring).ok()) return false;
    for (std::uint32_t i = 0; i < kRingEntries; ++i) Arm(i);
    return true;
  }
  void Arm(std::uint32_t id) {
    std::byte* const descriptor = memory_.cpu() + 16 * id;
    StoreLe64(descriptor, buffers_.Allocate(id).value());
    StoreLe32(descriptor + 8, kRingRoom);
    StoreLe16(descriptor + 12, 2);  // the device writes
    std::byte* const available = memory_.cpu() + kAvailableAt;
    StoreLe16(available + 4 + 2 * (published_ % kRingEntries),
              static_cast<std::uint16_t>(id));
    DmaWriteBarrier();
    DeviceAccess::Store16(available + 2, ++published_);
    DmaFullBarrier();
    if ((DeviceAccess::Load16(memory_.cpu() + kUsedAt) & 1) == 0) {
      device_.Doorbell(published_);
    }
  }
  bool Receive() {
    const std::byte* const used = memory_.cpu() + kUsedAt;
    if (DeviceAccess::Load16(used + 2) == used_) return false;
    DmaReadBarrier();
    const std::byte* const element = used + 4 + 8 * (used_ % kRingEntries);
    const std::uint32_t id = LoadLe32(element) % kRingEntries;
    const std::uint32_t length = LoadLe32(element + 4);
    ++used_;
    buffers_.Unmap(id);
    (void)sink_.Deliver({buffers_.data(id) + 12, length - 12, 0, {}});
    buffers_.Free(id);
    Arm(id);
    return true;
  }

  IdentityMapper mapper_;
  IdentityPort port_{Range::Whole()};
  SimVirtio<IdentityPort> device_{&port_, {}};
  RingMemory<IdentityMapper> memory_;
  NaiveBuffers buffers_;
  NullSink sink_;
  std::uint16_t published_ = 0;
  std::uint16_t used_ = 0;
};

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_NAIVE_RX_SIDE_H_
