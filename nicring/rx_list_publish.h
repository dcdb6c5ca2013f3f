// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_NICRING_RX_LIST_PUBLISH_H_
#define DMAMAP_NICRING_RX_LIST_PUBLISH_H_

// How an RxList grows: descriptors are armed behind its tail, linked, and the
// stop moves. All that the driver writes and the device reads. Included by
// nicring/rx_list.h alone.

#include <cstdint>

#include "dma/address.h"
#include "dma/assert.h"
#include "dma/barrier.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"
#include "nicring/buffer_pool.h"
#include "nicring/format.h"
#include "nicring/rx_list.h"

namespace dmamap::inline v0 {

template <ListFormat Format, Mapper MapperType>
Result<void> RxList<Format, MapperType>::Prepare(const Buffer& buffer) const {
  if (!entries_) return Error::kShutDown;
  if (buffer.data == nullptr || buffer.size < buffer_bytes() ||
      buffer.address.value() % Format::kAlignment != 0 ||
      PhysAddrOf(buffer.data).value() % Format::kAlignment != 0) {
    return Error::kInvalidArgument;
  }
  Format::WriteBlank(buffer.data, options_.room);
  return Ok();
}

template <ListFormat Format, Mapper MapperType>
Result<void> RxList<Format, MapperType>::Push(RxArmed* armed) {
  DMAMAP_ASSERT(!full());
  const Iova iova = armed->iova();
  const std::uint64_t offset = iova - options_.base;
  if (iova < options_.base || offset > UINT32_MAX - buffer_bytes() ||
      offset % Format::kAlignment != 0) {
    return Error::kOutOfRange;
  }
  At(tail_++).armed = armed;
  return Ok();
}

template <ListFormat Format, Mapper MapperType>
Result<void> RxList<Format, MapperType>::Publish() {
  if (!entries_) return Error::kShutDown;
  if (armed() < kMinEntries) return Error::kNoSpace;
  // Twice at most: a move that failed half-way has closed its new stop, and is
  // completed as it began before one to the tail of today.
  while (published_ != tail_) {
    if (target_ == 0) target_ = tail_;
    for (const ListStep step : Format::kPublishOrder) {
      const Result<void> done = RunStep(step);
      if (!done.ok()) return done;
      DmaWriteBarrier();  // the device sees the steps in this order
    }
    published_ = target_;
    target_ = 0;
  }
  // A later look at the head must not be older than kRestore: what it says
  // about skipped entries rests on that (see Look).
  DmaFullBarrier();
  return Ok();
}

template <ListFormat Format, Mapper MapperType>
Result<void> RxList<Format, MapperType>::RunStep(ListStep step) {
  const bool first = published_ == 0;  // there is no old stop
  switch (step) {
    case ListStep::kLink:
      return Link();
    case ListStep::kClose: {
      const Result<void> size = SetSize(target_ - 2, 0);
      return size.ok() ? SetEnd(target_ - 2, ListEnd::kYes) : size;
    }
    case ListStep::kReopen:
      if (first) return Ok();
      At(stop()).was_stop = true;
      return SetEnd(stop(), ListEnd::kNo);
    case ListStep::kRestore:
      return first ? Ok() : SetSize(stop(), options_.room);
  }
  return Error::kInvalidArgument;
}

// The old last entry names the first new one, and so on.
template <ListFormat Format, Mapper MapperType>
Result<void> RxList<Format, MapperType>::Link() {
  for (Position p = published_ == 0 ? 1 : published_; p < target_; ++p) {
    Entry& before = At(p - 1);
    const std::uint64_t offset = At(p).armed->iova() - options_.base;
    Format::WriteLink(before.armed->buffer.data,
                      static_cast<std::uint32_t>(offset));
    const Result<void> synced = SyncToDevice(before, Format::kLink);
    if (!synced.ok()) return synced;
  }
  return Ok();
}

template <ListFormat Format, Mapper MapperType>
Result<void> RxList<Format, MapperType>::SetEnd(Position p, ListEnd end) {
  Format::WriteEnd(At(p).armed->buffer.data, end);
  return SyncToDevice(At(p), Format::kCommand);
}

template <ListFormat Format, Mapper MapperType>
Result<void> RxList<Format, MapperType>::SetSize(Position p,
                                                 std::uint32_t size) {
  Format::WriteSize(At(p).armed->buffer.data, size);
  return SyncToDevice(At(p), Format::kSize);
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_NICRING_RX_LIST_PUBLISH_H_
