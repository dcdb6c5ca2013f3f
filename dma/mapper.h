// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_DMA_MAPPER_H_
#define DMAMAP_DMA_MAPPER_H_

// Mapper: what a ring asks of whatever makes memory visible to a device.
//
// A Domain is a Mapper; so are an identity mapper (device and CPU see the same
// addresses) and a test's copying fake. A streaming mapping belongs to the
// device from Map (or SyncForDevice) until SyncForCpu (or Unmap), and to the
// CPU otherwise: as in Linux's DMA API, and with the same duties.

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "dma/address.h"
#include "dma/direction.h"
#include "dma/result.h"
#include "dma/version.h"

namespace dmamap::inline v0 {

// Named exceptions from the default treatment of a mapping; combine with |.
enum class MapAttributes : std::uint32_t {
  kNone = 0,
  // Map and Unmap copy nothing: the caller syncs by hand.
  kSkipSync = 1u << 0,
  // kFromDevice only: the device is known to overwrite every byte, so the
  // original need not be copied in first. If that is not true, the driver reads
  // stale bytes of a bounce buffer (CVE-2022-0854).
  kDeviceOverwritesAll = 1u << 1,
};
constexpr MapAttributes operator|(MapAttributes a, MapAttributes b) {
  return static_cast<MapAttributes>(static_cast<std::uint32_t>(a) |
                                    static_cast<std::uint32_t>(b));
}
constexpr bool Has(MapAttributes set, MapAttributes attribute) {
  return (static_cast<std::uint32_t>(set) &
          static_cast<std::uint32_t>(attribute)) != 0;
}

// One live streaming mapping, as Map returned it. A value: keep it beside the
// buffer and give it back unchanged.
struct Mapping {
  Iova iova = {};          // what the device is told
  std::uint64_t size = 0;  // bytes
  Direction direction = Direction::kBidirectional;
  std::uint32_t tag = 0;  // opaque: the mapper's own check value

  friend constexpr bool operator==(const Mapping&, const Mapping&) = default;
};

// Memory that CPU and device share without syncs.
struct CoherentBlock {
  Iova iova = {};
  std::byte* cpu = nullptr;
  std::uint64_t size = 0;  // bytes, as asked for
};

template <class M>
concept Mapper = requires(M& m, PhysAddr buffer, std::uint64_t size,
                          Direction direction, MapAttributes attributes,
                          const Mapping& mapping, std::uint64_t offset) {
  // Makes `size` bytes (not 0) from `buffer` visible to the device.
  {
    m.Map(buffer, size, direction, attributes)
    } -> std::convertible_to<Result<Mapping>>;
  // Ends the mapping; what the device wrote is in the buffer afterwards.
  { m.Unmap(mapping, attributes) } -> std::same_as<Result<void>>;
  // Makes what the device wrote to [offset, offset+size) visible to the CPU.
  { m.SyncForCpu(mapping, offset, size) } -> std::same_as<Result<void>>;
  // Makes what the CPU wrote there visible to the device.
  { m.SyncForDevice(mapping, offset, size) } -> std::same_as<Result<void>>;
};

template <class M>
concept CoherentMapper = Mapper<M> &&
    requires(M& m, std::uint64_t size, const CoherentBlock& b) {
  // `size` zeroed bytes, at least page-aligned in I/O address and memory.
  { m.AllocateCoherent(size) } -> std::same_as<Result<CoherentBlock>>;
  { m.FreeCoherent(b) } -> std::same_as<Result<void>>;
};

// A mapper says `static constexpr bool kSyncsNothing = true` when device and
// CPU see one coherent memory, so that a sync is a check of its arguments and
// no more: a caller that is sure of them may leave it out.
template <class M>
inline constexpr bool kSyncsNothing = false;
template <Mapper M>
requires requires { M::kSyncsNothing; }
inline constexpr bool kSyncsNothing<M> = M::kSyncsNothing;

// Likewise `kOverwrittenSyncsNothing`: SyncForDevice of a mapping made with
// kDeviceOverwritesAll is a check of its arguments and no more.
template <class M>
inline constexpr bool kOverwrittenSyncsNothing = kSyncsNothing<M>;
template <Mapper M>
requires requires { M::kOverwrittenSyncsNothing; }
inline constexpr bool kOverwrittenSyncsNothing<M> = M::kOverwrittenSyncsNothing;

// Device and CPU see the same addresses: no IOMMU, or one in pass-through mode,
// on a machine whose DMA is cache-coherent. Keeps no record, so it cannot find
// a double unmap; it checks what it can. Thread-safe, wait-free.
class IdentityMapper {
 public:
  static constexpr bool kSyncsNothing = true;

  // kInvalidArgument for size 0 or an invalid direction, kOverflow on wrap.
  Result<Mapping> Map(PhysAddr buffer, std::uint64_t size, Direction direction,
                      MapAttributes = MapAttributes::kNone) {
    if (!IsValid(direction)) return Error::kInvalidArgument;
    const Result<PhysRange> range = PhysRange::FromSize(buffer, size);
    if (!range.ok()) return range.error();
    return Mapping{Iova(buffer.value()), size, direction, 0};
  }
  Result<void> Unmap(const Mapping& mapping,
                     MapAttributes = MapAttributes::kNone) {
    return Check(mapping, 0, mapping.size);
  }
  // kOutOfRange when [offset, offset+size) leaves the mapping.
  Result<void> SyncForCpu(const Mapping& mapping, std::uint64_t offset,
                          std::uint64_t size) {
    return Check(mapping, offset, size);
  }
  Result<void> SyncForDevice(const Mapping& mapping, std::uint64_t offset,
                             std::uint64_t size) {
    return Check(mapping, offset, size);
  }

 private:
  static Result<void> Check(const Mapping& mapping, std::uint64_t offset,
                            std::uint64_t size) {
    if (mapping.size == 0 || size == 0) return Error::kInvalidArgument;
    if (offset >= mapping.size || size > mapping.size - offset) {
      return Error::kOutOfRange;
    }
    return Ok();
  }
};
static_assert(Mapper<IdentityMapper>);

}  // namespace dmamap::inline v0

#endif  // DMAMAP_DMA_MAPPER_H_
