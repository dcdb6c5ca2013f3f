// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DOMAIN_DRIVER_SIDE_H_
#define DMAMAP_DOMAIN_DRIVER_SIDE_H_

// What a driver asks of a domain beside single mappings: scatter lists, and the
// two-step form, where the device has tables; and what a domain counts. Part of
// domain.h, which says what they promise.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "dma/address.h"
#include "dma/direction.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/sync.h"
#include "dma/version.h"
#include "domain/domain.h"
#include "domain/mode.h"
#include "domain/options.h"
#include "domain/owner.h"
#include "domain/segments.h"

namespace dmamap::inline v0 {
namespace internal {

// What a Map of a list that fails says: `error`, or why the device may keep
// what was mapped of it. It was told none of the addresses: nothing to copy
// back.
template <class DomainType>
Error UndoScatter(DomainType& domain, std::span<const Mapping> made,
                  Error error) {
  const Result<void> undone =
      domain.UnmapScatter(made, MapAttributes::kSkipSync);
  return undone.ok() ? error : undone.error();
}

}  // namespace internal

template <class Policies>
Result<void> Domain<Policies>::MapScatter(std::span<const ScatterEntry> list,
                                          Direction direction,
                                          std::span<Mapping> mappings,
                                          MapAttributes attributes,
                                          BufferOwner owner) {
  if (!core_.IsOpen()) return Error::kShutDown;
  if (list.empty() || mappings.size() < list.size()) {
    return Error::kInvalidArgument;
  }
  for (std::size_t i = 0; i < list.size(); ++i) {
    const Result<Mapping> m =
        Map(list[i].buffer, list[i].size, direction, attributes, owner);
    if (m.ok()) {
      mappings[i] = *m;
      continue;
    }
    if (i == 0) return m.error();
    return internal::UndoScatter(*this, mappings.first(i), m.error());
  }
  return Ok();
}

template <class Policies>
Result<std::size_t> Domain<Policies>::MapScatter(
    std::span<const ScatterEntry> list, Direction direction,
    std::span<Mapping> mappings, std::span<DeviceSegment> segments,
    MapAttributes attributes, BufferOwner owner) {
  const auto mapped = MapScatter(list, direction, mappings, attributes, owner);
  if (!mapped.ok()) return mapped.error();
  const auto made = mappings.first(list.size());
  const auto count = ToSegments(made, options_.segments, segments);
  if (!count.ok()) return internal::UndoScatter(*this, made, count.error());
  return count;
}

template <class Policies>
Result<Reservation> Domain<Policies>::Reserve(std::uint64_t size,
                                              PhysAddr like) {
  if (!core_.IsOpen()) return Error::kShutDown;
  if constexpr (kHasTables) {
    if (HasTables()) return spaces_->stream.tables().Reserve(size, like);
  }
  return Error::kUnsupported;
}

template <class Policies>
Result<Mapping> Domain<Policies>::Link(const Reservation& reservation,
                                       std::uint64_t offset, PhysAddr buffer,
                                       std::uint64_t size, Direction direction,
                                       MapAttributes attributes) {
  if (!core_.IsOpen()) return Error::kShutDown;
  if constexpr (kHasTables) {
    if (HasTables()) {
      return spaces_->stream.tables().Link(reservation, offset, buffer, size,
                                           direction, attributes);
    }
  }
  return Error::kUnsupported;
}

template <class Policies>
Result<void> Domain<Policies>::SyncLinks(const Reservation& reservation) {
  if (!core_.IsOpen()) return Error::kShutDown;
  if constexpr (kHasTables) {
    if (HasTables()) return spaces_->stream.tables().SyncLinks(reservation);
  }
  return Error::kUnsupported;
}

template <class Policies>
Result<void> Domain<Policies>::Unlink(std::span<const Mapping> links,
                                      MapAttributes attributes) {
  if (!core_.IsOpen()) return Error::kShutDown;
  if (links.empty()) return Error::kInvalidArgument;
  if constexpr (kHasTables) {
    if (HasTables()) return spaces_->stream.tables().Unlink(links, attributes);
  }
  return Error::kUnsupported;
}

template <class Policies>
Result<void> Domain<Policies>::Release(const Reservation& reservation) {
  if (!core_.IsOpen()) return Error::kShutDown;
  if constexpr (kHasTables) {
    if (HasTables()) return spaces_->stream.tables().Release(reservation);
  }
  return Error::kUnsupported;
}

template <class Policies>
DomainStats Domain<Policies>::stats() const {
  DomainStats stats;
  Guard guard(core_.lock);
  stats.coherent = core_.coherent;
  stats.refused = core_.refused;
  // relaxed: a statistic.
  stats.quarantined = core_.quarantined.load(std::memory_order_relaxed);
  core_.counters.AddTo(stats);
  if (open()) {
    stats.waiting = spaces_->stream.waiting();
    spaces_->stream.AddTo(stats.refused_calls);
    if constexpr (kHasTables) {
      stats.copy_limit = spaces_->stream.cost().limit();
    }
  }
  return stats;
}

}  // namespace dmamap::inline v0

#endif  // DMAMAP_DOMAIN_DRIVER_SIDE_H_
