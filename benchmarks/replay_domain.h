// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_REPLAY_DOMAIN_H_
#define DMAMAP_BENCHMARKS_REPLAY_DOMAIN_H_

// What the replay of a .dma trace needs, and what it gives.

#include <concepts>
#include <cstdint>
#include <span>
#include <string>

#include "benchmarks/op_timer.h"
#include "dma/address.h"
#include "dma/direction.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "domain/options.h"
#include "testing/device_port.h"

namespace dmamap::bench {

// What the replay asks of a domain; a peer joins by meeting this. The device's
// half are Read and Write (DevicePort).
template <class D>
concept ReplayDomain = std::default_initializable<D> && DevicePort<D> &&
    requires(D& d, PhysAddr buffer, std::uint64_t n, Direction direction,
             const Mapping& mapping, std::span<const ScatterEntry> entries,
             std::span<Mapping> out, std::span<const Mapping> mappings,
             const CoherentBlock& block) {
  // Room for mappings and blocks of this many bytes at once, in whole pages.
  { d.Init(/*stream_bytes=*/n, /*coherent_bytes=*/n) } -> std::same_as<bool>;
  { d.Map(buffer, n, direction) } -> std::same_as<Result<Mapping>>;
  { d.Unmap(mapping) } -> std::same_as<Result<void>>;
  { d.SyncForCpu(mapping, n, n) } -> std::same_as<Result<void>>;
  { d.SyncForDevice(mapping, n, n) } -> std::same_as<Result<void>>;
  // One mapping for each entry, or none at all.
  { d.MapList(entries, direction, out) } -> std::same_as<Result<void>>;
  { d.UnmapList(mappings) } -> std::same_as<Result<void>>;
  { d.AllocateCoherent(n) } -> std::same_as<Result<CoherentBlock>>;
  { d.FreeCoherent(block) } -> std::same_as<Result<void>>;
  // Bytes copied between buffers and what the device sees, so far.
  { d.BytesCopied() } -> std::same_as<std::uint64_t>;
  // Mappings and entries of lists that are live now.
  { d.LiveMappings() } -> std::same_as<std::uint64_t>;
  { d.CheckInvariants() } -> std::same_as<bool>;
};

// What went wrong between driver and device, and how much was looked at.
struct TransferCounts {
  std::uint64_t device_failures = 0;  // accesses refused that are allowed
  std::uint64_t allowed = 0;          // accesses allowed that must be refused
  std::uint64_t wrong_bytes = 0;      // on either side
  std::uint64_t foreign_bytes = 0;    // shown to the device beside a buffer
  std::uint64_t checked_bytes = 0;
};

struct DmaReplay : TransferCounts {
  OpTimer timer;               // kinds: DmaEvent::Op
  std::uint64_t failures = 0;  // calls of the driver that were refused
  std::uint64_t copied_bytes = 0;
  std::uint64_t live_at_end = 0;  // mappings and entries of lists
  std::string first_failure;
  bool sound = true;  // Init, CheckInvariants and the count of live mappings
};

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_REPLAY_DOMAIN_H_
