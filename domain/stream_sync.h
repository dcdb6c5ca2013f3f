// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_STREAM_SYNC_H_
#define DMAMAP_DOMAIN_STREAM_SYNC_H_

// How bytes move while a mapping is live. A part of stream.h. The word is
// pinned while they do, so that nobody ends the mapping meanwhile.

#include <cstdint>

#include "bounce/bounce.h"
#include "bounce/slot.h"
#include "dma/address.h"
#include "dma/direction.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"
#include "domain/stream.h"

namespace dmamap::inline v0 {
namespace internal {

template <class Policies>
Result<void> StreamSpace<Policies>::SyncForCpu(const Mapping& mapping,
                                               std::uint64_t offset,
                                               std::uint64_t size) {
  const Result<Slot*> pinned = checker_.Pin(mapping, offset, size);
  if (!pinned.ok()) return Refuse(pinned.error());
  std::uint64_t bytes = 0;
  Result<void> result;
  if (DeviceWrites(mapping.direction)) {
    result = bounce_.CopyOut(Part(mapping, offset, size),
                             BufferOf(**pinned) + offset, &bytes);
  }
  core_.counters.Count([&](auto& line) { line.bytes_from_device.Add(bytes); });
  checker_.Unpin(**pinned);
  return result;
}

template <class Policies>
Result<void> StreamSpace<Policies>::SyncForDevice(const Mapping& mapping,
                                                  std::uint64_t offset,
                                                  std::uint64_t size) {
  const Result<Slot*> pinned = checker_.Pin(mapping, offset, size);
  if (!pinned.ok()) return Refuse(pinned.error());
  const SlotShape shape = ShapeOf(**pinned);
  std::uint64_t bytes = 0;
  Result<void> result;
  if (!shape.overwritten()) {
    const Range part = Part(mapping, offset, size);
    // A page that comes later is filled from the buffer, unless this mapping is
    // never filled but by hand: then this is the time to have the page.
    if (shape.fill() == BounceFill::kZero) result = MakePages(part);
    if (result.ok()) {
      result = bounce_.CopyIn(part, BufferOf(**pinned) + offset, &bytes);
    }
  }
  core_.counters.Count([&](auto& line) { line.bytes_to_device.Add(bytes); });
  checker_.Unpin(**pinned);
  return result;
}

template <class Policies>
Result<void> StreamSpace<Policies>::MakePages(Range part) {
  bounce_.SettleAll(part);  // none is moved from here on
  const std::uint64_t step = bounce_.page().bytes();
  const std::uint64_t last = part.last().value();
  for (Iova at = bounce_.PageRange(part.first()).first(); at.value() <= last;
       at = at + step) {
    const auto r = Touch(at, [] { return Ok(); });
    if (!r.ok()) return r.error();
  }
  return Ok();
}

}  // namespace internal
}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_STREAM_SYNC_H_
