// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_STREAM_UNMAP_H_
#define DMAMAP_DOMAIN_STREAM_UNMAP_H_

// The second half of stream.h: how mappings end, and what must hold between
// calls. stream.h says why in this order.

#include <cstddef>
#include <cstdint>
#include <span>

#include "bounce/bounce.h"
#include "dma/address.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "domain/checker.h"
#include "domain/stream.h"
#include "iotlb/iotlb.h"

namespace dmamap::inline v0 {
namespace internal {

// Checks all, then takes all out of the device's reach; or changes nothing.
template <class Policies>
Result<void> StreamSpace<Policies>::BeginUnmap(
    std::span<const Mapping> mappings, MapAttributes attributes) {
  if ((static_cast<std::uint32_t>(attributes) & ~kKnownAttributes) != 0) {
    return Error::kInvalidArgument;
  }
  Guard guard(core_.lock);
  if (core_.closed) return Error::kShutDown;
  for (std::size_t i = 0; i < mappings.size(); ++i) {
    const Result<StreamRecord*> record = records_.Check(mappings[i]);
    if (record.ok() && (*record)->pins == 0) {
      (*record)->state = RecordState::kEnding;
      continue;
    }
    for (const Mapping& before : mappings.first(i)) {
      records_.Of(before.iova)->state = RecordState::kLive;
    }
    return record.ok() ? Error::kBusy : core_.Refuse(record.error());
  }
  for (const Mapping& mapping : mappings) {
    StreamRecord& record = *records_.Of(mapping.iova);
    (void)core_.iotlb.RemoveExact(record.body(), record.mapping.tag).ok();
    PlanDrain(record, attributes);
    --core_.stats.live;
    ++core_.stats.unmaps;
  }
  core_.BeginEnding(mappings.size());
  return Ok();
}

// Decides what will be copied back. REQUIRES: the lock.
template <class Policies>
void StreamSpace<Policies>::PlanDrain(StreamRecord& record,
                                      MapAttributes attributes) {
  record.drains = DrainsFor(record.mapping.direction, attributes);
  record.drain = record.body();
  if (!record.drains || !bounce_.shares_pages()) return;
  const Range slots = SlotsOf(record);
  const Edges there = EdgesOf(slots);
  if (!there.last) TrimTo(record, slots.last(), Side::kBefore);
  if (!there.first) TrimTo(record, slots.first(), Side::kBehind);
}

// Cuts the page of `at` off what is copied back.
template <class Policies>
void StreamSpace<Policies>::TrimTo(StreamRecord& record, Iova at, Side keep) {
  const Range cut = bounce_.PageRange(at);
  if (!record.drains || !record.drain.Overlaps(cut)) return;
  const auto halves = keep == Side::kBefore
                          ? record.drain.SplitAt(cut.first())
                          : record.drain.SplitAt(cut.last() + 1);
  record.drains = halves.ok();
  if (!halves.ok()) return;
  record.drain = keep == Side::kBefore ? halves->first : halves->second;
}

// REQUIRES: BeginUnmap took the record to kEnding, in this thread.
template <class Policies>
Result<void> StreamSpace<Policies>::FinishUnmap(StreamRecord& record) {
  const Range slots = SlotsOf(record);
  const Result<void> gone = core_.invalidation.Invalidate(slots);
  std::uint64_t bytes = 0;
  Result<void> copied;
  if (record.drains) {
    const std::uint64_t skipped = record.drain.first() - record.mapping.iova;
    copied = bounce_.CopyOut(record.drain, record.buffer + skipped, &bytes);
  }
  // A shared page goes on being seen through its other mappings.
  if (bounce_.shares_pages()) bounce_.Scrub(slots);
  {
    Guard guard(core_.lock);
    record.state = gone.ok() ? RecordState::kFree : RecordState::kQuarantined;
    core_.stats.bytes_from_device += bytes;
    if (!gone.ok()) ++core_.stats.quarantined;
  }
  if (!gone.ok()) return gone;
  bounce_.Release(slots);
  const auto freed = iova_.Free(slots.first(), page_.PagesFor(slots.size()));
  return copied.ok() ? freed : copied;
}

template <class Policies>
bool StreamSpace<Policies>::CheckInvariants() const {
  bool good = bounce_.CheckInvariants();
  std::uint64_t live = 0;
  std::uint64_t quarantined = 0;
  std::uint64_t claims = 0;
  records_.ForEach([&](const StreamRecord& record) {
    live += record.state == RecordState::kLive ? 1 : 0;
    quarantined += record.state == RecordState::kQuarantined ? 1 : 0;
    claims += SlotsOf(record).PagesTouchedMinusOne(bounce_.page()) + 1;
    auto e = core_.iotlb.First(record.body());
    // Slots are disjoint: the first entry in them is the mapping's, or none is.
    const bool mapped = e != nullptr && e->range == record.body() &&
                        e->token == record.mapping.tag &&
                        e->address == record.buffer;
    good = good && record.pins == 0 &&
           (record.state == RecordState::kLive ? mapped : e == nullptr);
  });
  bounce_.ForEach([&](Range, std::byte*, std::uint64_t n) { claims -= n; });
  return good && claims == 0 && live == core_.stats.live &&
         quarantined <= core_.stats.quarantined;
}

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_STREAM_UNMAP_H_
