// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_BENCHMARKS_DMAMAP_DOMAIN_H_
#define DMAMAP_BENCHMARKS_DMAMAP_DOMAIN_H_

// The library's Domain as the replay of a .dma trace drives it; the device's
// half goes through the IOTLB, page by page (testing/domain_port.h).

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "benchmarks/replay_dma.h"
#include "dma/iommu_map.h"
#include "domain/domain.h"
#include "domain/mode.h"
#include "iotlb/software_iommu.h"
#include "testing/domain_port.h"

namespace dmamap::bench {

// In any mode; of policies whose Invalidation is an IommuMap where that needs
// one.
template <class Policies = DomainPolicies,
          DomainMode kMode = DomainMode::kBounce,
          FlushMode kFlush = FlushMode::kStrict>
class ModeDomain {
 public:
  // A 32-bit device; buffers keep their offset in the page, as they have it
  // behind Linux's IOMMU layer and in the recording.
  bool Init(std::uint64_t stream_bytes, std::uint64_t coherent_bytes) {
    DomainOptions options;
    options.min_align_mask = kTracePage - 1;
    // Eight times the peak: room for what the allocator rounds up and caches.
    options.bounce_size =
        std::bit_ceil(std::max(options.bounce_size, 8 * stream_bytes));
    const std::uint64_t coherent =
        std::bit_ceil(std::max(kCoherentBytes, 8 * coherent_bytes));
    options.limit = Iova(
        std::max(options.limit.value(), options.bounce_size + coherent - 1));
    options.mode = kMode;
    options.flush.mode = kFlush;
    if constexpr (IommuMap<typename Policies::Invalidation>) {
      if (!domain_.invalidation().Init().ok()) return false;
    }
    return domain_.Init(options).ok();
  }

  Result<Mapping> Map(PhysAddr buffer, std::uint64_t size,
                      Direction direction) {
    return domain_.Map(buffer, size, direction);
  }
  Result<void> Unmap(const Mapping& mapping) { return domain_.Unmap(mapping); }
  Result<void> SyncForCpu(const Mapping& mapping, std::uint64_t offset,
                          std::uint64_t size) {
    return domain_.SyncForCpu(mapping, offset, size);
  }
  Result<void> SyncForDevice(const Mapping& mapping, std::uint64_t offset,
                             std::uint64_t size) {
    return domain_.SyncForDevice(mapping, offset, size);
  }
  Result<void> MapList(std::span<const ScatterEntry> list, Direction direction,
                       std::span<Mapping> mappings) {
    return domain_.MapScatter(list, direction, mappings);
  }
  Result<void> UnmapList(std::span<const Mapping> mappings) {
    return domain_.UnmapScatter(mappings);
  }
  Result<CoherentBlock> AllocateCoherent(std::uint64_t size) {
    return domain_.AllocateCoherent(size);
  }
  Result<void> FreeCoherent(const CoherentBlock& block) {
    return domain_.FreeCoherent(block);
  }

  Transfer Read(Iova at, void* to, std::size_t n) {
    return port_.Read(at, to, n);
  }
  Transfer Write(Iova at, const void* from, std::size_t n) {
    return port_.Write(at, from, n);
  }

  std::uint64_t BytesCopied() const {
    const DomainStats stats = domain_.stats();
    return stats.bytes_to_device + stats.bytes_from_device;
  }
  std::uint64_t LiveMappings() const { return domain_.stats().live; }
  bool CheckInvariants() const { return domain_.CheckInvariants(); }

 private:
  static constexpr std::uint64_t kCoherentBytes = std::uint64_t{64} << 20;

  Domain<Policies> domain_;
  DomainPort<Domain<Policies>> port_{domain_};
};
using DmamapDomain = ModeDomain<>;
static_assert(ReplayDomain<DmamapDomain>);

struct TablePolicies : DomainPolicies {
  using Invalidation = SoftwareIommu;
};

}  // namespace dmamap::bench

#endif  // DMAMAP_BENCHMARKS_DMAMAP_DOMAIN_H_
