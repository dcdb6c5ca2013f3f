// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_RECYCLE_H_
#define DMAMAP_NICRING_RECYCLE_H_

// Recycle: the refill policy with a copybreak. A frame of at most `copybreak`
// bytes is copied into a small buffer that no device was ever shown, and its
// big buffer is armed again without an unmap, a map and the pool: a sync each
// way is all. A larger frame goes up in its own buffer, unmapped, as in
// MapEach, and so does a small one while all small buffers are with the sink.
//
// Dropped frames cost no unmap either. What is mapped stays so until it goes up
// or the ring is shut down: `armed + kept` buffers, at most the ring's entries.
//
// Buffers are mapped as overwritten by the device (kDeviceOverwritesAll), so
// that a sync back to the device copies nothing. A device that claims to have
// written more than it did shows zeros, or bytes of an earlier frame of this
// ring, as any NIC whose buffers are recycled can; never other memory.
//
// Not thread-safe; no loop but in Release.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "dma/direction.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"
#include "nicring/buffer_pool.h"
#include "nicring/refill.h"
#include "nicring/rx_queue.h"
#include "nicring/rx_statistics.h"

namespace dmamap::inline v0 {

template <Mapper MapperType, BufferPool Pool>
class Recycle {
 public:
  // kNoMemory, kOverflow.
  Result<void> Init(MapperType* mapper, Pool* pool,
                    const RxRefillOptions& options) {
    source_.Init(mapper, pool, options);
    Result<void> made = records_.Init(options.entries);
    if (made.ok()) made = kept_.Init(options.entries);
    if (!made.ok() || options.copybreak == 0) return made;
    return copies_.Init(
        {.buffers = options.copies == 0 ? options.entries : options.copies,
         .buffer_bytes = options.copybreak,
         .headroom = pool->headroom()});
  }

  void BeginRefill(std::uint32_t n) {
    source_.BeginRefill(n < kept_.size() ? 0 : n - kept_.size());
  }
  void EndRefill(RxStatistics& s) { source_.EndRefill(s); }
  template <class Prepare>
  Result<RxArmed*> Next(Prepare&& prepare, RxStatistics& s) {
    if (kept_.empty()) [[unlikely]]
      return Fetch(prepare, s);
    RxArmed* const armed = kept_.Pop();
    const std::uint32_t header = source_.options().header_bytes;
    if (header == 0) return armed;
    Result<void> ready = prepare(armed->buffer);
    if (ready.ok()) ready = source_.SyncForDevice(*armed, 0, header);
    if (ready.ok()) return armed;
    ++s.rx_map_failed;
    Retire(armed, s);
    return ready.error();
  }

  [[gnu::always_inline]] RxTaken Take(RxArmed* armed, std::uint32_t at,
                                      std::uint32_t length, RxExtent extent,
                                      RxStatistics& s) {
    if (length > source_.options().copybreak || extent != RxExtent::kWhole ||
        !TakeCopy()) [[unlikely]] {
      return TakeBig(armed, at, length, s);
    }
    if (!source_.SyncForCpu(*armed, at, length).ok()) [[unlikely]] {
      hand_out_ = false;
      Drop(armed, s);
      return {};
    }
    CopyFrame(hand_.data, armed->buffer.data + at, length);
    ++s.rx_copied;
    HandBack(armed, at, length, s);
    return {hand_.data, hand_};
  }

  void Drop(RxArmed* armed, RxStatistics& s) {
    ++s.rx_recycled;
    kept_.Push(armed);
  }

  void Retire(RxArmed* armed, RxStatistics& s) {
    records_.unused().Push(armed);
    if (source_.Unmap(armed->mapping, s)) source_.PutBack(armed->buffer, s);
  }

  void TakeBack(const RxTaken& taken, RxStatistics& s) {
    if (taken.buffer.data == hand_.data) [[likely]] {
      hand_out_ = false;
    } else {
      source_.PutBack(taken.buffer, s);
    }
  }
  Result<void> Return(const Buffer& buffer) {
    if (!copies_.Owns(buffer)) return source_.pool().Put(buffer);
    if (!(buffer == hand_)) return copies_.Put(buffer);
    if (!hand_out_) return Error::kDoubleFree;
    hand_out_ = false;
    return Ok();
  }
  Result<void> ReturnBatch(std::span<const Buffer> batch) {
    return PutEach(batch, [this](const Buffer& b) { return Return(b); });
  }
  std::uint32_t headroom() const { return source_.headroom(); }
  void Release(RxStatistics& s) {
    while (!kept_.empty()) Retire(kept_.Pop(), s);
  }
  std::uint32_t kept() const { return kept_.size(); }
  // Small buffers with the sink or its users.
  std::uint32_t copies_out() const {
    const bool held = hand_.data != nullptr && !hand_out_;
    return copies_.used_buffers() - (held ? 1 : 0);
  }

  bool CheckInvariants() const {
    if (kept_.size() + records_.unused().size() > source_.options().entries) {
      return false;
    }
    for (std::uint32_t i = 0; i < kept_.size(); ++i) {
      if (kept_[i]->mapping.size == 0) return false;
    }
    return copies_.CheckInvariants();
  }

 private:
  template <class Prepare>
  [[gnu::noinline]] Result<RxArmed*> Fetch(Prepare&& prepare, RxStatistics& s) {
    RxArmed* const armed = records_.unused().Pop();
    const Result<void> fetched =
        source_.Fetch(prepare, source_.options().buffer_bytes,
                      source_.attributes(), armed, s);
    if (fetched.ok()) return armed;
    records_.unused().Push(armed);
    return fetched.error();
  }
  [[gnu::noinline]] RxTaken TakeBig(RxArmed* armed, std::uint32_t at,
                                    std::uint32_t length, RxStatistics& s) {
    if (!source_.SyncForCpu(*armed, at, length).ok()) {
      Drop(armed, s);
      return {};
    }
    records_.unused().Push(armed);
    if (!source_.Unmap(armed->mapping, s)) return {};
    return {armed->buffer.data + at, armed->buffer};
  }
  // Has hand_ be a small buffer of the caller's: mostly the one that the sink
  // has just given back.
  [[gnu::always_inline]] bool TakeCopy() {
    if (hand_out_ || hand_.data == nullptr) [[unlikely]] {
      if (!RefillHand()) return false;
    }
    hand_out_ = true;
    return true;
  }
  // The one before is its user's, and comes back as such.
  [[gnu::noinline]] bool RefillHand() {
    const Result<Buffer> fresh = copies_.Get();
    if (fresh.ok()) hand_ = *fresh;
    return fresh.ok();
  }
  // In pieces of 32 bytes, the last one overlapping: a call costs more.
  [[gnu::always_inline]] static void CopyFrame(std::byte* to,
                                               const std::byte* from,
                                               std::uint32_t length) {
    constexpr std::uint32_t kPiece = 32;
    if (length < kPiece) {
      std::memcpy(to, from, length);
      return;
    }
    std::uint32_t at = 0;
    for (; at + kPiece < length; at += kPiece) {
      std::memcpy(to + at, from + at, kPiece);
    }
    std::memcpy(to + length - kPiece, from + length - kPiece, kPiece);
  }
  // The CPU has read these bytes, and is done with them.
  void HandBack(RxArmed* armed, std::uint32_t at, std::uint32_t length,
                RxStatistics& s) {
    if (source_.HandBack(*armed, at, length).ok()) {
      Drop(armed, s);
    } else {
      Retire(armed, s);
    }
  }

  RefillSource<MapperType, Pool> source_;
  RxArmedRecords records_;
  RxArmedStack kept_;
  FixedPool copies_;
  Buffer hand_;  // of copies_, kept at hand
  bool hand_out_ = false;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_RECYCLE_H_
