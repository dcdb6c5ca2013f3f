// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_REFILL_H_
#define DMAMAP_NICRING_REFILL_H_

// Refill policies: where a receive ring's mapped buffers come from, and what
// becomes of one when its frame has arrived.
//
// * MapEach (here): each frame's buffer is unmapped and goes up; another is
//   taken from the pool and mapped. The device can never reach what the sink
//   sees.
// * Recycle (recycle.h): a small frame is copied into a small buffer, and the
//   big one is armed again, mapped as it was; a larger frame as in MapEach.
// * PageFlip (page_flip.h): two halves of a buffer take turns, mapped once, for
//   as long as the user gives them back in time.
//
// A policy is named in the ring's policies (rx_ring.h). It owns the records of
// mapped buffers (RxArmed), which the queue only points to, and no buffer but
// those that it keeps mapped; what it counts it counts in the ring's
// statistics. Not thread-safe: a ring's calls order it.

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>

#include "dma/direction.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"
#include "nicring/buffer_pool.h"
#include "nicring/rx_queue.h"
#include "nicring/rx_statistics.h"

namespace dmamap::inline v0 {

struct RxRefillOptions {
  std::uint32_t entries = 0;       // most buffers that the ring arms
  std::uint32_t buffer_bytes = 0;  // of each, from its first on
  std::uint32_t header_bytes = 0;  // of these, what the driver writes
  Direction direction = Direction::kFromDevice;
  // Recycle: frames of at most so many bytes are copied, and how many of those
  // copies may be with the sink at a time; 0: as many as entries.
  std::uint32_t copybreak = 256;
  std::uint32_t copies = 0;
  // PageFlip: buffers that it may know of, those with the user included; 0:
  // four times the entries.
  std::uint32_t pages = 0;
};

// How much of its frame a buffer holds.
enum class RxExtent : std::uint8_t { kWhole, kPart };

// What goes up to the sink.
struct RxTaken {
  const std::byte* data =
      nullptr;    // null: it could not be had, nothing goes up
  Buffer buffer;  // to be returned
};

template <class R>
concept RxRefill = requires(R& r, const R& c, RxArmed* armed,
                            const RxTaken& taken, const Buffer& buffer,
                            std::span<const Buffer> batch, std::uint32_t n,
                            RxStatistics& s,
                            Result<void> (*prepare)(const Buffer&)) {
  // Around a refill: at most `n` calls of Next follow, if nothing fails; no
  // more do, and what was taken from the pool in vain goes back.
  r.BeginRefill(n);
  r.EndRefill(s);
  // The next buffer to arm: prepared, and mapped; valid until the next call.
  // kPoolEmpty, the mapper's errors, those of `prepare`; counted.
  { r.Next(prepare, s) } -> std::same_as<Result<RxArmed*>>;
  // Bytes [at, at+n) of an entry that left the queue go up.
  { r.Take(armed, n, n, RxExtent::kWhole, s) } -> std::same_as<RxTaken>;
  // Nothing of it goes up. It may be armed again.
  r.Drop(armed, s);
  // The same, unmapped and back in the pool: the ring is shut down.
  r.Retire(armed, s);
  // The sink has done with what went up, before anything else happened.
  r.TakeBack(taken, s);
  // The user gives back what went up. kForeign, kDoubleFree.
  { r.Return(buffer) } -> std::same_as<Result<void>>;
  { r.ReturnBatch(batch) } -> std::same_as<Result<void>>;
  // Bytes in front of a buffer that went up that its user may write.
  { c.headroom() } -> std::same_as<std::uint32_t>;
  // Unmaps what it keeps; what is not with the user is in the pool again.
  r.Release(s);
  // Buffers that it keeps, neither armed nor with the user.
  { c.kept() } -> std::same_as<std::uint32_t>;
  { c.CheckInvariants() } -> std::same_as<bool>;
};

// What the policies have in common: from the pool to the device, and back; and
// a stack of records.
template <Mapper MapperType, BufferPool Pool>
class RefillSource {
 public:
  void Init(MapperType* mapper, Pool* pool, const RxRefillOptions& options) {
    mapper_ = mapper;
    pool_ = pool;
    options_ = options;
  }
  MapperType& mapper() { return *mapper_; }
  Pool& pool() { return *pool_; }
  const RxRefillOptions& options() const { return options_; }
  std::uint32_t headroom() const {
    return pool_ != nullptr ? pool_->headroom() : 0;
  }

  // Buffers come from the pool a batch at a time, as many as are wanted.
  void BeginRefill(std::uint32_t wanted) { wanted_ = wanted; }
  void EndRefill(RxStatistics& s) {
    if (stock_.begin != stock_.end) PutSurplus(s);
  }

  // Puts a buffer of the pool, with `bytes` of it mapped, into `armed`.
  template <class Prepare>
  Result<void> Fetch(Prepare&& prepare, std::uint32_t bytes,
                     MapAttributes attributes, RxArmed* armed,
                     RxStatistics& s) {
    if (stock_.begin == stock_.end && !GetStock()) {
      ++s.rx_alloc_failed;
      return Error::kPoolEmpty;
    }
    const Buffer& buffer = stock_.buffers[stock_.begin++];
    Result<void> ready = prepare(buffer);
    if (ready.ok()) {
      const Result<Mapping> mapping =
          mapper_->Map(buffer.address, bytes, options_.direction, attributes);
      if (mapping.ok()) {
        armed->buffer = buffer;
        armed->mapping = *mapping;
        armed->offset = 0;
        return Ok();
      }
      ready = mapping.error();
    }
    ++s.rx_map_failed;
    PutBack(buffer, s);
    return ready;
  }
  // A buffer that cannot be unmapped stays out of the pool: the device may
  // reach it. False then.
  bool Unmap(const Mapping& mapping, RxStatistics& s) {
    // The bytes that count are here already.
    if (mapper_->Unmap(mapping, MapAttributes::kSkipSync).ok()) return true;
    ++s.rx_quarantined;
    return false;
  }
  void PutBack(const Buffer& buffer, RxStatistics& s) {
    if (!pool_->Put(buffer).ok()) ++s.rx_put_failed;
  }
  Result<void> SyncForCpu(const RxArmed& armed, std::uint32_t at,
                          std::uint32_t length) {
    if constexpr (kSyncsNothing<MapperType>) {
      return Ok();
    } else {
      return mapper_->SyncForCpu(armed.mapping,
                                 std::uint64_t{armed.offset} + at, length);
    }
  }
  Result<void> SyncForDevice(const RxArmed& armed, std::uint32_t at,
                             std::uint32_t length) {
    if constexpr (kSyncsNothing<MapperType>) {
      return Ok();
    } else {
      return mapper_->SyncForDevice(armed.mapping,
                                    std::uint64_t{armed.offset} + at, length);
    }
  }

  // For a policy that keeps buffers mapped. Their bytes are the device's to
  // write, where it writes them all: then it needs not see what is there.
  MapAttributes attributes() const {
    return overwritten() ? MapAttributes::kDeviceOverwritesAll
                         : MapAttributes::kNone;
  }
  // The CPU is done with these bytes of a buffer so mapped.
  Result<void> HandBack(const RxArmed& armed, std::uint32_t at,
                        std::uint32_t length) {
    if (kOverwrittenSyncsNothing<MapperType> && overwritten()) return Ok();
    return SyncForDevice(armed, at, length);
  }

 private:
  // What a refill has taken from the pool ahead: [begin, end) of `buffers`.
  struct Stock {
    std::array<Buffer, 16> buffers;
    std::size_t begin = 0;
    std::size_t end = 0;
  };

  bool overwritten() const {
    return options_.direction == Direction::kFromDevice;
  }
  // False: the pool is empty. Fewer than asked for are no error.
  bool GetStock() {
    std::size_t most = stock_.buffers.size();
    if (wanted_ < most) most = wanted_ == 0 ? 1 : wanted_;
    stock_.begin = 0;
    stock_.end = pool_->GetBatch(std::span(stock_.buffers).first(most));
    wanted_ -=
        wanted_ < stock_.end ? wanted_ : static_cast<std::uint32_t>(stock_.end);
    return stock_.end != 0;
  }
  [[gnu::noinline]] void PutSurplus(RxStatistics& s) {
    const std::span<const Buffer> all(stock_.buffers);
    const auto rest = all.subspan(stock_.begin, stock_.end - stock_.begin);
    stock_.begin = stock_.end = 0;
    if (!pool_->PutBatch(rest).ok()) ++s.rx_put_failed;
  }

  MapperType* mapper_ = nullptr;
  Pool* pool_ = nullptr;
  RxRefillOptions options_;
  std::uint32_t wanted_ = 0;  // buffers, those in stock not counted
  Stock stock_;
};

// Records that wait, the last one in first out: its lines are the warmest.
class RxArmedStack {
 public:
  // kNoMemory.
  Result<void> Init(std::uint32_t capacity) {
    items_.reset(new (std::nothrow) RxArmed*[capacity]);
    if (!items_) return Error::kNoMemory;
    return Ok();
  }
  bool empty() const { return count_ == 0; }
  std::uint32_t size() const { return count_; }
  RxArmed* operator[](std::uint32_t i) const { return items_[i]; }
  // REQUIRES: fewer than the capacity.
  void Push(RxArmed* armed) { items_[count_++] = armed; }
  // REQUIRES: !empty().
  RxArmed* Pop() { return items_[--count_]; }
  void Clear() { count_ = 0; }

 private:
  std::unique_ptr<RxArmed*[]> items_;
  std::uint32_t count_ = 0;
};

// The records of a policy that maps each buffer whole, and those without one.
class RxArmedRecords {
 public:
  Result<void> Init(std::uint32_t entries) {
    records_.reset(new (std::nothrow) RxArmed[entries]);
    if (!records_) return Error::kNoMemory;
    const Result<void> made = unused_.Init(entries);
    if (!made.ok()) return made;
    for (std::uint32_t i = entries; i-- != 0;) unused_.Push(&records_[i]);
    return Ok();
  }
  RxArmedStack& unused() { return unused_; }
  const RxArmedStack& unused() const { return unused_; }

 private:
  std::unique_ptr<RxArmed[]> records_;
  RxArmedStack unused_;
};

template <Mapper MapperType, BufferPool Pool>
class MapEach {
 public:
  // kNoMemory.
  Result<void> Init(MapperType* mapper, Pool* pool,
                    const RxRefillOptions& options) {
    source_.Init(mapper, pool, options);
    return records_.Init(options.entries);
  }

  void BeginRefill(std::uint32_t n) { source_.BeginRefill(n); }
  void EndRefill(RxStatistics& s) { source_.EndRefill(s); }
  // REQUIRES: fewer than `entries` are armed. So below.
  template <class Prepare>
  Result<RxArmed*> Next(Prepare&& prepare, RxStatistics& s) {
    RxArmed* const armed = records_.unused().Pop();
    const Result<void> fetched =
        source_.Fetch(prepare, source_.options().buffer_bytes,
                      MapAttributes::kNone, armed, s);
    if (fetched.ok()) return armed;
    records_.unused().Push(armed);
    return fetched.error();
  }
  RxTaken Take(RxArmed* armed, std::uint32_t at, std::uint32_t length, RxExtent,
               RxStatistics& s) {
    const bool synced = source_.SyncForCpu(*armed, at, length).ok();
    records_.unused().Push(armed);
    if (!source_.Unmap(armed->mapping, s)) return {};
    if (synced) return {armed->buffer.data + at, armed->buffer};
    source_.PutBack(armed->buffer, s);
    return {};
  }
  void Drop(RxArmed* armed, RxStatistics& s) {
    records_.unused().Push(armed);
    if (source_.Unmap(armed->mapping, s)) source_.PutBack(armed->buffer, s);
  }
  void Retire(RxArmed* armed, RxStatistics& s) { Drop(armed, s); }
  void TakeBack(const RxTaken& taken, RxStatistics& s) {
    source_.PutBack(taken.buffer, s);
  }
  Result<void> Return(const Buffer& buffer) {
    return source_.pool().Put(buffer);
  }
  Result<void> ReturnBatch(std::span<const Buffer> batch) {
    return source_.pool().PutBatch(batch);
  }
  std::uint32_t headroom() const { return source_.headroom(); }
  void Release(RxStatistics&) {}
  std::uint32_t kept() const { return 0; }
  bool CheckInvariants() const {
    return records_.unused().size() <= source_.options().entries;
  }

 private:
  RefillSource<MapperType, Pool> source_;
  RxArmedRecords records_;
};

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_REFILL_H_
