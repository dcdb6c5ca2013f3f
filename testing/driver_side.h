// Copyright 2026 The dmamap Authors
// SPDX-License-Identifier: Apache-2.0

#ifndef DMAMAP_TESTING_DRIVER_SIDE_H_
#define DMAMAP_TESTING_DRIVER_SIDE_H_

// DriverSide: pool, mapper and receive ring of any format and refill policy,
// for a test that adds the device; and the worlds that it may live in:
//   SharedWorld    device and CPU see one memory; a device runs (SetHook) in
//                  the middle of the driver's calls if the format's Access is
//                  hooked (hooked_access.h)
//   CoherentWorld  the same, with the descriptors in coherent memory
//   CopyWorld      the device has a copy of its own, and may run (SetHook) in
//                  the middle of the driver's calls
// Each has a mapper for the driver and a port for the device. For one thread.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <new>
#include <type_traits>
#include <utility>

#include "dma/address.h"
#include "dma/mapper.h"
#include "dma/result.h"
#include "dma/version.h"
#include "nicring/buffer_pool.h"
#include "nicring/page_flip.h"
#include "nicring/recycle.h"
#include "nicring/rx_ring.h"
#include "testing/copying_mapper.h"
#include "testing/device_port.h"
#include "testing/hooked_access.h"

namespace dmamap::inline v0 {
namespace testing_bench {

// Device and CPU see one memory, as without an IOMMU: what was ever mapped the
// device reaches for ever, and nothing else.
class OpenPort {
 public:
  Transfer Read(Iova at, void* to, std::size_t n) {
    if (!Reaches(at, n)) return {0, Error::kNotMapped};
    return IdentityPort(Range::Whole()).Read(at, to, n);
  }
  Transfer Write(Iova at, const void* from, std::size_t n) {
    if (!Reaches(at, n)) return {0, Error::kNotMapped};
    return IdentityPort(Range::Whole()).Write(at, from, n);
  }
  void Add(Iova first, std::uint64_t size) {
    std::uint64_t& known = ranges_[first];
    if (known < size) known = size;
  }

 private:
  bool Reaches(Iova at, std::size_t n) const {
    auto it = ranges_.upper_bound(at);
    if (it == ranges_.begin()) return false;
    --it;
    const std::uint64_t offset = at - it->first;
    return offset < it->second && n <= it->second - offset;
  }
  std::map<Iova, std::uint64_t> ranges_;  // first byte, bytes
};
static_assert(DevicePort<OpenPort>);

class OpenMapper : public IdentityMapper {
 public:
  explicit OpenMapper(OpenPort* port) : port_(port) {}
  Result<Mapping> Map(PhysAddr buffer, std::uint64_t size, Direction direction,
                      MapAttributes attributes = MapAttributes::kNone) {
    port_->Add(Iova(buffer.value()), size);
    return IdentityMapper::Map(buffer, size, direction, attributes);
  }

 protected:
  OpenPort* port_;
};
struct SharedWorld {
  using MapperType = OpenMapper;
  using Port = OpenPort;
  Port port;
  MapperType mapper{&port};
  // Where the links of a list count from: its buffers lie less than 4 GiB
  // behind, and none at 0.
  static Iova Base(PhysRange memory) {
    return Iova(memory.first().value() - 4096);
  }
  void SetHook(std::function<void()> hook) { g_hook = std::move(hook); }
};

// The same, with the ring in coherent memory.
class CoherentOpenMapper : public OpenMapper {
 public:
  using OpenMapper::OpenMapper;
  Result<CoherentBlock> AllocateCoherent(std::uint64_t size) {
    auto* cpu = static_cast<std::byte*>(
        ::operator new (size, std::align_val_t{4096}, std::nothrow));
    if (cpu == nullptr) return Error::kNoMemory;
    for (std::uint64_t i = 0; i < size; ++i) cpu[i] = std::byte{0};
    const Iova iova(PhysAddrOf(cpu).value());
    port_->Add(iova, size);
    return CoherentBlock{iova, cpu, size};
  }
  Result<void> FreeCoherent(const CoherentBlock& block) {
    ::operator delete (block.cpu, std::align_val_t{4096});
    return Ok();
  }
};
static_assert(CoherentMapper<CoherentOpenMapper>);
struct CoherentWorld {
  using MapperType = CoherentOpenMapper;
  using Port = OpenPort;
  Port port;
  MapperType mapper{&port};
  // Where the links of a list count from: its buffers lie less than 4 GiB
  // behind, and none at 0.
  static Iova Base(PhysRange memory) {
    return Iova(memory.first().value() - 4096);
  }
  void SetHook(std::function<void()> hook) { g_hook = std::move(hook); }
};

// The device has a copy of its own, and runs in the driver's calls too.
template <class M = CopyingMapper>
struct CopyWorld {
  using MapperType = M;
  using Port = CopyingMapper::Port;
  MapperType mapper;
  Port port = mapper.port();
  static Iova Base(PhysRange) { return Iova(0); }
  void SetHook(std::function<void()> hook) { mapper.set_hook(std::move(hook)); }
};

// Refuses to map and to sync when `faults` says so.
class FaultyMapper : public CopyingMapper {
 public:
  Result<Mapping> Map(PhysAddr buffer, std::uint64_t size, Direction direction,
                      MapAttributes attributes = MapAttributes::kNone) {
    if (faults && faults()) return Error::kNoSpace;
    return CopyingMapper::Map(buffer, size, direction, attributes);
  }
  Result<void> SyncForDevice(const Mapping& m, std::uint64_t offset,
                             std::uint64_t size) {
    if (faults && faults()) return Error::kBusy;
    return CopyingMapper::SyncForDevice(m, offset, size);
  }
  Result<void> SyncForCpu(const Mapping& m, std::uint64_t offset,
                          std::uint64_t size) {
    if (faults && faults()) return Error::kBusy;
    return CopyingMapper::SyncForCpu(m, offset, size);
  }
  std::function<bool()> faults;
};

struct DriverOptions {
  std::uint32_t buffers = 32;
  std::uint32_t buffer_bytes = 2048;
  RxRingOptions ring{};
};

// The refill policies other than the default.
struct RecyclePolicies : RxPolicies {
  template <Mapper MapperType, BufferPool Pool>
  using Refill = Recycle<MapperType, Pool>;
};
struct FlipPolicies : RxPolicies {
  template <Mapper MapperType, BufferPool Pool>
  using Refill = PageFlip<MapperType, Pool>;
};

// Members are destroyed in the right order: ring first. With FlipPolicies the
// pool's buffers are made large enough for two halves.
template <class World, class Format, class Policies = RxPolicies>
struct DriverSide {
  using Ring = RxRing<Format, typename World::MapperType, FixedPool, Policies>;
  static constexpr bool kFlips = std::is_same_v<Policies, FlipPolicies>;

  explicit DriverSide(const DriverOptions& options) : total(options.buffers) {
    const std::uint32_t half = (options.buffer_bytes + 63) / 64 * 64;
    made = pool.Init(
        {options.buffers, kFlips ? 2 * half : options.buffer_bytes, 0});
    if (!made.ok()) return;
    RxRingOptions of_ring = options.ring;
    if (Ring::Queue::kStops) of_ring.base = base = World::Base(*pool.memory());
    made = ring.Init(&world.mapper, &pool, of_ring);
  }
  // Every buffer is in the pool, armed, kept by the refill policy, up with the
  // ring's users or away with somebody else; and every frame is accounted for.
  template <class SinkType>
  bool Conserved(const SinkType& sink, std::size_t away = 0) const {
    const RxStatistics& s = ring.statistics();
    return made.ok() && ring.CheckInvariants() && pool.CheckInvariants() &&
           pool.free_buffers() + ring.armed() + ring.refill().kept() +
                   Up(sink.kept.size()) + away + s.rx_quarantined ==
               total &&
           s.rx_put_failed == 0 && s.rx_packets == sink.frames.size();
  }
  // Of the pool's buffers: held for a frame in the making, or by the sink.
  std::size_t Up(std::size_t kept) const {
    if constexpr (kFlips) {
      return ring.refill().retired();  // of any other page a half is armed
    } else if constexpr (std::is_same_v<Policies, RecyclePolicies>) {
      return ring.held() + kept - ring.refill().copies_out();
    } else {
      return ring.held() + kept;
    }
  }

  World world;
  FixedPool pool;
  std::uint32_t total;
  Iova base;  // lists: links are offsets from here
  Ring ring;
  Result<void> made;
};

}  // namespace testing_bench
}  // namespace dmamap::inline v0

#endif  // DMAMAP_TESTING_DRIVER_SIDE_H_
