// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_NAIVE_RX_SIDE_H_
#define DMAMAP_BENCHMARKS_NAIVE_RX_SIDE_H_

// The receive loop that drivers begin with, and Linux's e100 had for years: for
// each frame the buffer is unmapped and freed, another is allocated and mapped,
// its descriptor is written, and the device is told, before the next frame is
// looked at. Lengths are taken as the device says. On the same simulated device
// and mapper as dmamap's ring, for every format:
//
//   a list with an end bit (i8255x): one more RFD, and a look whether the
//   receiver has stopped, for each frame
//   an array with head and tail registers (e1000, advanced)
//   a split or packed virtqueue, a notification for each buffer
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
#include "nicring/i8255x.h"
#include "nicring/little_endian.h"
#include "nicring/receiver.h"
#include "nicring/ring_memory.h"
#include "testing/device_port.h"
#include "testing/sim_e1000.h"
#include "testing/sim_i8255x.h"
#include "testing/sim_virtio.h"

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
  std::byte* data(std::size_t index) const { return slots_[index].data; }
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

// A loop with its device, its buffers and a sink. Receive consumes one frame.
template <class Loop>
class NaiveRxSide final : public peers::RingSide {
 public:
  // Null when it did not start.
  static std::unique_ptr<peers::RingSide> Make(std::size_t bytes) {
    auto side = std::unique_ptr<NaiveRxSide>(new NaiveRxSide(bytes));
    if (!side->loop_.Start()) return nullptr;
    for (int i = 0; i < 16; ++i) {
      if (!side->Device(kRingBurst) || side->Driver(kRingBurst) != kRingBurst) {
        return nullptr;
      }
    }
    side->sink_.set_compare(false);
    return side;
  }
  bool Device(std::size_t n) override {
    for (std::size_t i = 0; i < n; ++i) {
      if (!loop_.device().Inject(sink_.frame())) return false;
    }
    loop_.device().RunAll();
    return true;
  }
  std::size_t Driver(std::size_t n) override {
    std::size_t done = 0;
    while (done < n && loop_.Receive(sink_)) ++done;
    return done;
  }
  std::uint64_t failures() override { return sink_.wrong(); }

 private:
  explicit NaiveRxSide(std::size_t bytes) : sink_(bytes) {}
  NullSink sink_;
  Loop loop_;
};

template <E1000Layout kLayout>
class NaiveArrayLoop {
 public:
  SimE1000<IdentityPort>& device() { return device_; }
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
  bool Receive(NullSink& sink) {
    std::byte* const descriptor = memory_.cpu() + 16 * head_;
    const std::uint32_t status = DeviceAccess::Load32(descriptor + kStatusAt);
    if ((status & 1) == 0) return false;
    DmaReadBarrier();
    const std::uint32_t length = LoadLe16(descriptor + kLengthAt);
    buffers_.Unmap(head_);
    (void)sink.Deliver({buffers_.data(head_), length, status, {}});
    buffers_.Free(head_);
    // One is kept back: the entry before the head is armed.
    Arm(head_ == 0 ? kRingEntries - 1 : head_ - 1);
    DmaWriteBarrier();
    device_.Doorbell(head_);
    head_ = head_ + 1 == kRingEntries ? 0 : head_ + 1;
    return true;
  }

 private:
  static constexpr bool kLegacy = kLayout == E1000Layout::kLegacy;
  static constexpr std::size_t kStatusAt = kLegacy ? 12 : 8;
  static constexpr std::size_t kLengthAt = kLegacy ? 8 : 12;

  void Arm(std::uint32_t index) {
    std::byte* const descriptor = memory_.cpu() + 16 * index;
    StoreLe64(descriptor, buffers_.Allocate(index).value());
    StoreLe64(descriptor + 8, 0);
  }

  IdentityMapper mapper_;
  IdentityPort port_{Range::Whole()};
  SimE1000<IdentityPort> device_{&port_, {.layout = kLayout}};
  RingMemory<IdentityMapper> memory_;
  NaiveBuffers buffers_;
  std::uint32_t head_ = 0;
};

// Descriptors in front of the data. Links are offsets from a base below the
// first buffer, and the general allocator's buffers lie near each other.
class NaiveListLoop {
 public:
  SimI8255x<IdentityPort>& device() { return *device_; }
  bool Start() {
    buffers_.Init(&mapper_, kRingEntries, 16 + kRingRoom);
    const std::uint64_t first = buffers_.Allocate(0).value();
    constexpr std::uint64_t kBelow = std::uint64_t{1} << 31;
    base_ = first > kBelow ? first - kBelow : 0;
    device_.emplace(&port_, SimI8255xOptions{.ru_base = Iova(base_)});
    WriteRfd(0);
    for (std::uint32_t i = 1; i < kRingEntries; ++i) {
      if (!Arm(i)) return false;
    }
    return device_->Start(Iova(first)).ok();
  }
  bool Receive(NullSink& sink) {
    const std::byte* const rfd = buffers_.data(head_);
    const std::uint16_t status = DeviceAccess::Load16(rfd);
    if ((status & 0x8000) == 0) return false;
    DmaReadBarrier();
    const std::uint32_t length = LoadLe16(rfd + 12) & 0x3fffu;
    buffers_.Unmap(head_);
    (void)sink.Deliver({rfd + 16, length, status, {}});
    buffers_.Free(head_);
    (void)buffers_.Allocate(head_);
    const bool armed = Arm(head_);
    head_ = head_ + 1 == kRingEntries ? 0 : head_ + 1;
    if (!device_->Stopped()) return armed;
    return armed && device_->Start(At(head_)).ok();
  }

 private:
  Iova At(std::uint32_t index) const {
    return Iova(PhysAddrOf(buffers_.data(index)).value());
  }
  // The last of the list.
  void WriteRfd(std::uint32_t index) {
    std::byte* const rfd = buffers_.data(index);
    I8255xFormat::WriteBlank(rfd, kRingRoom);
    I8255xFormat::WriteEnd(rfd, ListEnd::kYes);
  }
  // Behind the one before, which is not the last any more.
  bool Arm(std::uint32_t index) {
    if (buffers_.data(index) == nullptr) (void)buffers_.Allocate(index);
    if (buffers_.data(index) == nullptr) return false;
    WriteRfd(index);
    const std::uint64_t offset = At(index).value() - base_;
    if (offset > UINT32_MAX) return false;
    std::byte* const last =
        buffers_.data(index == 0 ? kRingEntries - 1 : index - 1);
    I8255xFormat::WriteLink(last, static_cast<std::uint32_t>(offset));
    DmaWriteBarrier();
    I8255xFormat::WriteEnd(last, ListEnd::kNo);
    return true;
  }

  IdentityMapper mapper_;
  IdentityPort port_{Range::Whole()};
  std::optional<SimI8255x<IdentityPort>> device_;
  NaiveBuffers buffers_;
  std::uint64_t base_ = 0;
  std::uint32_t head_ = 0;
};

// What the loops of the two virtqueues have in common.
class NaiveVirtioLoop {
 public:
  explicit NaiveVirtioLoop(VirtioLayout layout)
      : device_(&port_, {.layout = layout}) {}
  SimVirtio<IdentityPort>& device() { return device_; }

 protected:
  // Memory for the three areas; their offsets.
  bool Begin(std::uint32_t driver_at, std::uint32_t device_at) {
    if (!memory_.Init(&mapper_, device_at + 4096).ok()) return false;
    buffers_.Init(&mapper_, kRingEntries, kRingRoom);
    const Iova base = memory_.iova();
    return device_
        .Start(
            {base, base + driver_at, base + device_at, kRingEntries, kRingRoom})
        .ok();
  }
  void Deliver(NullSink& sink, std::uint32_t id, std::uint32_t length) {
    buffers_.Unmap(id);
    (void)sink.Deliver({buffers_.data(id) + 12, length - 12, 0, {}});
    buffers_.Free(id);
  }

  IdentityMapper mapper_;
  IdentityPort port_{Range::Whole()};
  SimVirtio<IdentityPort> device_;
  RingMemory<IdentityMapper> memory_;
  NaiveBuffers buffers_;
};

class NaiveSplitLoop : public NaiveVirtioLoop {
 public:
  NaiveSplitLoop() : NaiveVirtioLoop(VirtioLayout::kSplit) {}
  bool Start() {
    if (!Begin(kAvailableAt, kUsedAt)) return false;
    for (std::uint32_t i = 0; i < kRingEntries; ++i) Arm(i);
    return true;
  }
  bool Receive(NullSink& sink) {
    const std::byte* const used = memory_.cpu() + kUsedAt;
    if (DeviceAccess::Load16(used + 2) == used_) return false;
    DmaReadBarrier();
    const std::byte* const element = used + 4 + 8 * (used_ % kRingEntries);
    const std::uint32_t id = LoadLe32(element) % kRingEntries;
    ++used_;
    Deliver(sink, id, LoadLe32(element + 4));
    Arm(id);
    return true;
  }

 private:
  static constexpr std::uint32_t kAvailableAt = 16 * kRingEntries;
  static constexpr std::uint32_t kUsedAt = kAvailableAt + 4096;

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

  std::uint16_t published_ = 0;
  std::uint16_t used_ = 0;
};

// The ring is always full: the next used place is the next available one.
class NaivePackedLoop : public NaiveVirtioLoop {
 public:
  NaivePackedLoop() : NaiveVirtioLoop(VirtioLayout::kPacked) {}
  bool Start() {
    if (!Begin(kDriverAt, kDeviceAt)) return false;
    for (std::uint32_t i = 0; i < kRingEntries; ++i) Arm(i, i);
    next_ = 0;
    wrap_ = true;
    return true;
  }
  bool Receive(NullSink& sink) {
    const std::byte* const descriptor = memory_.cpu() + 16 * next_;
    const std::uint16_t flags = DeviceAccess::Load16(descriptor + 14);
    if (((flags & kAvail) != 0) != wrap_ || ((flags & kUsed) != 0) != wrap_) {
      return false;
    }
    DmaReadBarrier();
    const std::uint32_t id = LoadLe16(descriptor + 12) % kRingEntries;
    Deliver(sink, id, LoadLe32(descriptor + 8));
    wrap_ = !wrap_;  // of what is available there next
    Arm(next_, id);
    wrap_ = !wrap_;
    if (++next_ == kRingEntries) {
      next_ = 0;
      wrap_ = !wrap_;
    }
    return true;
  }

 private:
  static constexpr std::uint32_t kDriverAt = 16 * kRingEntries;
  static constexpr std::uint32_t kDeviceAt = kDriverAt + 64;
  static constexpr unsigned kAvail = 1u << 7;
  static constexpr unsigned kUsed = 1u << 15;

  void Arm(std::uint32_t place, std::uint32_t id) {
    std::byte* const descriptor = memory_.cpu() + 16 * place;
    StoreLe64(descriptor, buffers_.Allocate(id).value());
    StoreLe32(descriptor + 8, kRingRoom);
    StoreLe16(descriptor + 12, static_cast<std::uint16_t>(id));
    DmaWriteBarrier();
    const unsigned mark = wrap_ ? kAvail : kUsed;
    DeviceAccess::Store16(descriptor + 14,
                          static_cast<std::uint16_t>(2 | mark));
    DmaFullBarrier();
    // No event index: 1 says that no notification is wanted.
    if ((DeviceAccess::Load16(memory_.cpu() + kDeviceAt + 2) & 3) != 1) {
      device_.Doorbell(place);
    }
  }

  std::uint32_t next_ = 0;
  bool wrap_ = true;
};

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_NAIVE_RX_SIDE_H_
