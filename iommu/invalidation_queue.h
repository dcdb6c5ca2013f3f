// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_IOMMU_INVALIDATION_QUEUE_H_
#define DMAMAP_IOMMU_INVALIDATION_QUEUE_H_

// InvalidationQueue: the queue through which a VT-d unit is told to forget
// translations, 255 descriptors deep.
//
//   Submit   under the lock: descriptors, a wait descriptor behind them, tail
//            outside:        until the unit has written the wait's status word
//
// The unit takes descriptors in order, so a wait that is over means that all
// descriptors before it are. Each wait has a number, and a status word of its
// slot, which holds an earlier number until the unit writes it: numbers only
// grow, so a word that was written again for a later wait still says that this
// one is over.
//
// Every wait is bounded by a number of looks. After one that was not answered,
// or an error that the unit reports (FSTS: IQE, ICE, ITE), the queue is broken:
// all calls return kDevice, until Start makes it anew, also those that it finds
// waiting.
//
// Source: VT-d Architecture Specification, revision 5.10: 6.5.2, "Queued
// Invalidation Interface", descriptors 6.5.2.1 (contexts), 6.5.2.3 (IOTLB),
// both read there, and 6.5.2.9 (wait; bits as QEMU 7.2 checks them),
// errors 6.5.2.11.
//
// Thread-safe but for Init, Free and Stop. Waiting threads spin: for the unit
// outside the lock, for room in the queue (85 callers or more at a time) under
// it, which ends with the first who finds the queue broken.

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "dma/address.h"
#include "dma/barrier.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "iommu/bus_memory.h"
#include "iommu/vtd_registers.h"

namespace dmamap::inline v0 {

struct InvalidationDescriptor {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
};

// Whether entries above leaves may have changed: the IH bit.
enum class TableCaches : std::uint8_t { kForget, kKeep };

namespace vtd {

inline constexpr std::uint64_t kDrains = 3u << 6;  // DR and DW

constexpr InvalidationDescriptor ForgetContexts() {  // global
  return {1 | 1u << 4, 0};
}
constexpr InvalidationDescriptor ForgetContext(std::uint16_t domain,
                                               std::uint16_t source) {
  return {
      1 | 3u << 4 | std::uint64_t{domain} << 16 | std::uint64_t{source} << 32,
      0};
}
constexpr InvalidationDescriptor ForgetAll() {  // global
  return {2 | 1u << 4 | kDrains, 0};
}
constexpr InvalidationDescriptor ForgetDomain(std::uint16_t domain) {
  return {2 | 2u << 4 | kDrains | std::uint64_t{domain} << 16, 0};
}
// 2^mask pages from `first`, which is aligned so.
constexpr InvalidationDescriptor ForgetPages(std::uint16_t domain, Iova first,
                                             unsigned mask,
                                             TableCaches caches) {
  return {2 | 3u << 4 | kDrains | std::uint64_t{domain} << 16,
          first.value() | (caches == TableCaches::kKeep ? 1u << 6 : 0) | mask};
}
constexpr InvalidationDescriptor Wait(PhysAddr status, std::uint32_t value) {
  return {5 | 1u << 5 | std::uint64_t{value} << 32, status.value()};
}

}  // namespace vtd

// Since the unit's beginning; each of some moment.
struct InvalidationCounts {
  std::uint64_t contexts = 0;    // context-cache, any kind
  std::uint64_t global = 0;      // IOTLB, all domains
  std::uint64_t domain = 0;      // IOTLB, one domain
  std::uint64_t pages = 0;       // IOTLB, 2^n pages and their tables
  std::uint64_t pages_only = 0;  // the same, caches of tables kept
  std::uint64_t waits = 0;       // calls that waited
  std::uint64_t failures = 0;    // of these, without success

  std::uint64_t iotlb() const { return global + domain + pages + pages_only; }
};

template <RegisterFile Registers, BusMemory Memory, class Policies>
class InvalidationQueue {
  using LockType = typename Policies::LockType;
  template <class T>
  using Atom = typename Policies::template Atom<T>;
  using WordRef = typename Policies::template AtomRef<std::uint32_t>;

 public:
  static constexpr std::uint32_t kSlots = Policies::kQueueSlots;  // of one page
  static constexpr std::size_t kMostWork =
      std::min<std::size_t>(8, kSlots - 2);  // descriptors in one call

  InvalidationQueue() = default;
  InvalidationQueue(const InvalidationQueue&) = delete;
  InvalidationQueue& operator=(const InvalidationQueue&) = delete;

  // As the memory fails; kOutOfRange: it is beyond `bus_bits`. `polls`: looks
  // for each wait.
  Result<void> Init(Registers* registers, Memory* memory, bool snoops,
                    std::uint32_t polls, unsigned bus_bits = 52) {
    const Result<std::byte*> made = memory->Allocate(PageSize(), 2);
    if (!made.ok()) return made.error();
    const Result<PhysAddr> bus = memory->ToBus(
        *PhysRange::FromSize(PhysAddrOf(*made), 2 * PageSize().bytes()));
    if (!bus.ok() ||
        (bus->value() + 2 * PageSize().bytes() - 1) >> bus_bits != 0) {
      memory->Free(*made, PageSize(), 2);
      return bus.ok() ? Error::kOutOfRange : bus.error();
    }
    registers_ = registers;
    memory_ = memory;
    snoops_ = snoops;
    polls_ = polls;
    pages_ = *made;
    bus_ = *bus;
    return Ok();
  }
  // REQUIRES: stopped.
  void Free() {
    if (pages_ != nullptr) memory_->Free(pages_, PageSize(), 2);
    pages_ = nullptr;
  }

  // Begins anew, with nothing in the queue. kDevice. REQUIRES: no other command
  // to the unit is under way.
  Result<void> Start() {
    broken_.store(true, std::memory_order_relaxed);  // who waits for room ends
    const Guard<LockType> guard(lock_);
    if (const auto stopped = Stop(); !stopped.ok()) return stopped;
    // relaxed: before the words below, and the lock orders it for Place.
    epoch_.fetch_add(1, std::memory_order_relaxed);
    std::memset(pages_, 0, static_cast<std::size_t>(PageSize().bytes()));
    // release: who still waits and sees its word cleared, or written again
    // after that, sees the epoch.
    for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
      Word(slot).store(0, std::memory_order_release);
    }
    WriteBack(pages_, 2 * PageSize().bytes());
    head_ = tail_ = 0;
    registers_->Write32(vtd::kFaultStatus, vtd::kQueueErrors);
    registers_->Write64(vtd::kQueueTail, 0);
    registers_->Write64(vtd::kQueueAddress, bus_.value());  // QS 0: one page
    const auto on =
        vtd::Command(*registers_, vtd::kQueuedInvalidation, true, polls_);
    // relaxed: the lock orders it for those to come.
    broken_.store(!on.ok(), std::memory_order_relaxed);
    return on;
  }
  Result<void> Stop() {
    broken_.store(true, std::memory_order_relaxed);  // as above
    return vtd::Command(*registers_, vtd::kQueuedInvalidation, false, polls_);
  }

  // Returns when the unit has done all of `work`, at most kMostWork. kDevice:
  // nothing may be assumed.
  Result<void> Submit(std::span<const InvalidationDescriptor> work) {
    Ticket ticket;
    Result<void> done = Place(work, &ticket);
    if (done.ok()) done = Await(ticket);
    // relaxed, both: statistics.
    waits_.fetch_add(1, std::memory_order_relaxed);
    if (!done.ok()) failures_.fetch_add(1, std::memory_order_relaxed);
    return done;
  }

  // As if so many had been waited for. REQUIRES: no call is under way.
  void SkipNumbersForTest(std::uint32_t n) { number_ += n; }

  bool broken() const { return broken_.load(std::memory_order_relaxed); }
  InvalidationCounts counts() const {
    const auto of = [this](Kind kind) {
      return kinds_[kind].load(std::memory_order_relaxed);  // a statistic
    };
    return {of(kContexts),
            of(kGlobal),
            of(kDomain),
            of(kPages),
            of(kPagesOnly),
            waits_.load(std::memory_order_relaxed),
            failures_.load(std::memory_order_relaxed)};
  }
  // REQUIRES: no call is under way.
  bool CheckInvariants() const { return tail_ - head_ < kSlots; }

 private:
  static constexpr std::uint32_t kBetweenErrors = 1024;
  enum Kind { kContexts, kGlobal, kDomain, kPages, kPagesOnly, kKinds };
  struct Ticket {
    std::uint32_t slot = 0;
    std::uint32_t number = 0;
    std::uint64_t epoch = 0;
  };
  struct Batch {
    std::uint32_t slots = 0;   // of it, the wait included
    std::uint32_t number = 0;  // of its wait
  };

  static Kind KindOf(const InvalidationDescriptor& d) {
    if ((d.low & 15) == 1) return kContexts;
    switch (d.low >> 4 & 3) {
      case 1:
        return kGlobal;
      case 2:
        return kDomain;
      default:
        return (d.high >> 6 & 1) != 0 ? kPagesOnly : kPages;
    }
  }
  std::byte* Status(std::uint32_t slot) const {
    return pages_ + PageSize().bytes() + std::size_t{slot} * 4;
  }
  WordRef Word(std::uint32_t slot) const {
    return WordRef(*reinterpret_cast<std::uint32_t*>(Status(slot)));
  }
  // Whether the wait of this number, or a later one of its slot, is over.
  // "Later": within 2^31, and one that somebody waits for.
  bool IsOver(std::uint32_t slot, std::uint32_t number) const {
    // acquire: what the unit did before it wrote the word; or Place.
    const std::uint32_t word = Word(slot).load(std::memory_order_acquire);
    const std::uint32_t later = word - number;
    if (later == 0) return true;
    if (word == 0 || later >= std::uint32_t{1} << 31) return false;
    // relaxed: behind the acquire, and stored before the unit was asked.
    return later <= number_.load(std::memory_order_relaxed) - number;
  }
  void WriteBack(const std::byte* at, std::uint64_t bytes) {
    if constexpr (WritesBack<Memory>) {
      if (!snoops_) memory_->WriteBack(at, static_cast<std::size_t>(bytes));
    }
  }

  Result<void> Place(std::span<const InvalidationDescriptor> work,
                     Ticket* ticket) {
    if (work.empty() || work.size() > kMostWork) return Error::kInvalidArgument;
    const auto need = static_cast<std::uint32_t>(work.size()) + 1;
    const Guard<LockType> guard(lock_);
    if (broken()) return Error::kDevice;
    for (std::uint32_t i = 0; kSlots - 1 - (tail_ - head_) < need; ++i) {
      const Batch oldest = batches_[head_ % kSlots];
      if (IsOver((head_ + oldest.slots - 1) % kSlots, oldest.number)) {
        head_ += oldest.slots;
      } else if (broken()) {
        return Error::kDevice;
      } else if (i >= polls_ || (i % kBetweenErrors == 1 && HasError())) {
        return Break();
      } else {
        CpuRelax();
      }
    }
    // relaxed, both: written under the lock. 0 is no number.
    std::uint32_t number = number_.load(std::memory_order_relaxed) + 1;
    if (number == 0) ++number;
    number_.store(number, std::memory_order_relaxed);
    batches_[tail_ % kSlots] = {need, number};
    for (const InvalidationDescriptor& d : work) {
      Write(d);
      // relaxed: a statistic.
      kinds_[KindOf(d)].fetch_add(1, std::memory_order_relaxed);
    }
    const std::uint32_t slot = tail_ % kSlots;
    // relaxed: as the lock orders what Start did.
    *ticket = {slot, number, epoch_.load(std::memory_order_relaxed)};
    // Over what was there long ago. release: who still waits for an earlier one
    // of this slot takes this for its answer, and sees what the unit did
    // (IsOver above) and the epoch.
    Word(slot).store(number == 1 ? UINT32_MAX : number - 1,
                     std::memory_order_release);
    WriteBack(Status(slot), sizeof(std::uint32_t));
    Write(
        vtd::Wait(bus_ + PageSize().bytes() + std::uint64_t{slot} * 4, number));
    DmaWriteBarrier();  // the tables and the descriptors before the tail
    registers_->Write64(vtd::kQueueTail, std::uint64_t{tail_ % kSlots} << 4);
    return Ok();
  }
  void Write(const InvalidationDescriptor& d) {
    std::byte* const at = pages_ + std::size_t{tail_ % kSlots} * sizeof d;
    std::memcpy(at, &d, sizeof d);
    WriteBack(at, sizeof d);
    ++tail_;
  }
  Result<void> Await(const Ticket& t) {
    for (std::uint32_t i = 1;; ++i) {
      const bool over = IsOver(t.slot, t.number);
      // relaxed: behind the acquire of IsOver. A word of another epoch is not
      // this wait's.
      if (epoch_.load(std::memory_order_relaxed) != t.epoch) {
        return Error::kDevice;
      }
      if (over) return Ok();
      if (broken()) return Error::kDevice;
      if (i >= polls_ || (i % kBetweenErrors == 0 && HasError())) break;
      CpuRelax();
    }
    // The last look, with the same two checks.
    const bool over = IsOver(t.slot, t.number);
    if (over && epoch_.load(std::memory_order_relaxed) == t.epoch) return Ok();
    // Under the lock: a queue that was made anew meanwhile is another one,
    // which this wait does not break.
    const Guard<LockType> guard(lock_);
    if (epoch_.load(std::memory_order_relaxed) != t.epoch) {
      return Error::kDevice;
    }
    return Break();
  }
  bool HasError() {
    return (registers_->Read32(vtd::kFaultStatus) & vtd::kQueueErrors) != 0;
  }
  Result<void> Break() {
    // relaxed: whoever reads it late waits for its own bound.
    broken_.store(true, std::memory_order_relaxed);
    return Error::kDevice;
  }

  Registers* registers_ = nullptr;
  Memory* memory_ = nullptr;
  bool snoops_ = true;
  std::uint32_t polls_ = 0;
  std::byte* pages_ = nullptr;  // descriptors, and status words
  PhysAddr bus_;
  Atom<bool> broken_{true};
  Atom<std::uint64_t> epoch_{0};  // calls of Start
  LockType lock_;                 // guards what follows
  // Positions count on and on; slots are modulo kSlots, a power of two.
  std::uint32_t head_ = 0;
  std::uint32_t tail_ = 0;
  Atom<std::uint32_t> number_{0};        // the last; waiters look at it too
  std::array<Batch, kSlots> batches_{};  // by their first slots
  std::array<Atom<std::uint64_t>, kKinds> kinds_{};
  Atom<std::uint64_t> waits_{0};
  Atom<std::uint64_t> failures_{0};
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_IOMMU_INVALIDATION_QUEUE_H_
