// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_PAGE_FLIP_H_
#define DMAMAP_NICRING_PAGE_FLIP_H_

// PageFlip: the refill policy in which the two halves of a pool's buffer (its
// "page") take turns. A page is mapped once; while one half is with the user,
// the other is armed. No frame is copied, and none unmapped, as long as the
// user has given a half back when its turn comes. When he has not, the page is
// retired: unmapped, and back in the pool when its last half comes back.
//
//   armed: A | with the user: -      frame in A:  A goes up, B is armed
//   armed: B | with the user: A      frame in B:  A came back? arm A
//                                                 else: retire the page
//
// The pool's buffers must hold two halves: of the ring's bytes each, rounded up
// to the cache line. The page stays mapped while the user has a half of it: on
// an IOMMU, which protects whole pages, a hostile device can still write there,
// as it can below every driver that flips pages. Over a Domain it cannot: what
// it writes is not in the buffer before a sync of that half.
//
// Return is ordered with the ring's calls, like all else here. A page is known
// by its slot; the token of a half is slot * 2 + half. No loop but in Release.
// A half that comes back and cannot be synced to the device is not armed again:
// its page is retired when its other half goes up.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <utility>

#include "dma/direction.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "nicring/buffer_pool.h"
#include "nicring/refill.h"
#include "nicring/rx_queue.h"
#include "nicring/rx_statistics.h"

namespace dmamap::inline v0 {

template <Mapper MapperType, BufferPool Pool>
class PageFlip {
 public:
  // kOverflow, kNoMemory.
  Result<void> Init(MapperType* mapper, Pool* pool,
                    const RxRefillOptions& options) {
    constexpr std::uint32_t kLine = kCacheLine;
    if (options.buffer_bytes > UINT32_MAX / 4 ||
        options.entries > UINT32_MAX / 8 || options.pages > UINT32_MAX / 2) {
      return Error::kOverflow;
    }
    half_bytes_ = (options.buffer_bytes + kLine - 1) / kLine * kLine;
    pages_ = options.pages == 0 ? 4 * options.entries : options.pages;
    source_.Init(mapper, pool, options);
    slots_.reset(new (std::nothrow) Slot[pages_]);
    free_.reset(new (std::nothrow) std::uint32_t[pages_]);
    if (!slots_ || !free_) return Error::kNoMemory;
    const Result<void> made = kept_.Init(options.entries);
    if (!made.ok()) return made;
    for (std::uint32_t i = 0; i < pages_; ++i) free_[i] = pages_ - 1 - i;
    free_count_ = pages_;
    return Ok();
  }

  void BeginRefill(std::uint32_t n) {
    source_.BeginRefill(n < kept_.size() ? 0 : n - kept_.size());
  }
  void EndRefill(RxStatistics& s) { source_.EndRefill(s); }
  template <class Prepare>
  Result<RxArmed*> Next(Prepare&& prepare, RxStatistics& s) {
    if (kept_.empty()) return Fetch(prepare, s);
    RxArmed* const armed = kept_.Pop();
    const std::uint32_t header = source_.options().header_bytes;
    if (header == 0) return armed;
    Result<void> ready = prepare(armed->buffer);
    if (ready.ok()) ready = source_.SyncForDevice(*armed, 0, header);
    if (ready.ok()) return armed;
    ++s.rx_map_failed;
    Retire(SlotOf(*armed), s);
    return ready.error();
  }

  RxTaken Take(RxArmed* armed, std::uint32_t at, std::uint32_t length, RxExtent,
               RxStatistics& s) {
    if (!source_.SyncForCpu(*armed, at, length).ok()) {
      Drop(armed, s);
      return {};
    }
    const std::uint32_t half = armed->buffer.token;
    Slot& slot = SlotOf(*armed);
    const bool other_may_be_armed = slot.out == 0 && !slot.unsynced;
    slot.out |= Bit(half);
    if (other_may_be_armed) {
      Drop(&slot.half[(half & 1u) ^ 1u], s);
    } else {
      Retire(slot, s);
    }
    return {armed->buffer.data + at, armed->buffer};
  }

  void Drop(RxArmed* armed, RxStatistics& s) {
    ++s.rx_recycled;
    kept_.Push(armed);
  }

  void Retire(RxArmed* armed, RxStatistics& s) { Retire(SlotOf(*armed), s); }

  void TakeBack(const RxTaken& taken, RxStatistics& s) {
    if (!Return(taken.buffer).ok()) ++s.rx_put_failed;
  }
  Result<void> Return(const Buffer& buffer) {
    const std::uint32_t half = buffer.token;
    if (half / 2 >= pages_) return Error::kForeign;
    Slot& slot = slots_[half / 2];
    const RxArmed& armed = slot.half[half & 1u];
    if (slot.state == State::kFree || !(buffer == armed.buffer)) {
      return Error::kForeign;
    }
    if ((slot.out & Bit(half)) == 0) return Error::kDoubleFree;
    if (slot.state == State::kMapped &&  // it may be armed next
        !source_.HandBack(armed, 0, source_.options().buffer_bytes).ok()) {
      slot.unsynced = true;
    }
    slot.out &= static_cast<std::uint8_t>(~Bit(half));
    return slot.out == 0 && slot.state == State::kRetired ? Free(slot) : Ok();
  }

  Result<void> ReturnBatch(std::span<const Buffer> batch) {
    return PutEach(batch, [this](const Buffer& b) { return Return(b); });
  }
  // The other half may be the device's.
  std::uint32_t headroom() const { return 0; }

  // Whatever the user has comes back through Return.
  void Release(RxStatistics& s) {
    kept_.Clear();
    for (std::uint32_t i = 0; i < pages_; ++i) {
      if (slots_[i].state == State::kMapped) Retire(slots_[i], s);
    }
  }
  // Pages, since a page's other half is never somewhere else.
  std::uint32_t kept() const { return kept_.size(); }
  // Pages of which the user has a half, and that are neither armed nor kept.
  std::uint32_t retired() const {
    std::uint32_t count = 0;
    for (std::uint32_t i = 0; i < pages_; ++i) {
      count += slots_[i].state == State::kRetired ? 1 : 0;
    }
    return count;
  }

  bool CheckInvariants() const {
    std::uint32_t used = 0;
    for (std::uint32_t i = 0; i < pages_; ++i) {
      const Slot& slot = slots_[i];
      const bool known = slot.state != State::kFree;
      if (known != (slot.page.data != nullptr)) return false;
      if (slot.state == State::kRetired && slot.out == 0) return false;
      if (slot.state == State::kMapped && slot.out == 3) return false;
      used += known ? 1 : 0;
    }
    return used + free_count_ == pages_ &&
           kept_.size() <= source_.options().entries;
  }

 private:
  enum class State : std::uint8_t { kFree, kMapped, kRetired, kQuarantined };
  struct Slot {
    RxArmed half[2];  // where they are, armed or not
    Buffer page;
    std::uint8_t out = 0;   // bit 0, bit 1: that half is with the user
    bool unsynced = false;  // the one that is neither out nor armed may not be
    State state = State::kFree;
  };

  static constexpr std::uint8_t Bit(std::uint32_t half) {
    return static_cast<std::uint8_t>(1u << (half & 1u));
  }
  Slot& SlotOf(const RxArmed& armed) { return slots_[armed.buffer.token / 2]; }

  // A page from the pool, mapped; its first half.
  template <class Prepare>
  Result<RxArmed*> Fetch(Prepare&& prepare, RxStatistics& s) {
    if (free_count_ == 0) {
      ++s.rx_alloc_failed;
      return Error::kPoolEmpty;
    }
    RxArmed page;
    const auto checked = [&](const Buffer& buffer) -> Result<void> {
      if (buffer.size < 2 * half_bytes_) return Error::kInvalidArgument;
      return prepare(buffer);
    };
    const Result<void> fetched =
        source_.Fetch(checked, 2 * half_bytes_, source_.attributes(), &page, s);
    if (!fetched.ok()) return fetched.error();
    const std::uint32_t index = free_[--free_count_];
    Slot& slot = slots_[index];
    slot.page = page.buffer;
    slot.out = 0;
    slot.unsynced = false;
    slot.state = State::kMapped;
    for (std::uint32_t i = 0; i < 2; ++i) {
      const std::uint32_t at = i * half_bytes_;
      slot.half[i].buffer = {page.buffer.data + at, page.buffer.address + at,
                             half_bytes_, 2 * index + i};
      slot.half[i].mapping = page.mapping;
      slot.half[i].offset = at;
    }
    return &slot.half[0];
  }

  // REQUIRES: the page is mapped, and no half of it armed or kept.
  void Retire(Slot& slot, RxStatistics& s) {
    if (!source_.Unmap(slot.half[0].mapping, s)) {
      slot.state = State::kQuarantined;
      return;
    }
    slot.state = State::kRetired;
    if (slot.out == 0 && !Free(slot).ok()) ++s.rx_put_failed;
  }
  Result<void> Free(Slot& slot) {
    const Buffer page = std::exchange(slot.page, Buffer{});
    slot.state = State::kFree;
    free_[free_count_++] = static_cast<std::uint32_t>(&slot - slots_.get());
    return source_.pool().Put(page);
  }

  RefillSource<MapperType, Pool> source_;
  std::uint32_t half_bytes_ = 0;
  std::uint32_t pages_ = 0;
  std::unique_ptr<Slot[]> slots_;
  std::unique_ptr<std::uint32_t[]> free_;  // [0, free_count_): free slots
  std::uint32_t free_count_ = 0;
  RxArmedStack kept_;  // halves
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_PAGE_FLIP_H_
